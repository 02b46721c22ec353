//! Rules about the repository itself: its shape, sizes, words and which crate may use which. Tests no behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot look at the repository has failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

/// Most lines of a function, signature and braces included.
const MAX_FUNCTION: usize = 80;
/// Most lines of a file, tests left out.
const MAX_FILE: usize = 800;
/// All that is visible at the top.
const TOP_LEVEL: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "bridge",
    "codecs",
    "compute-modules",
    "examples",
    "test-audio",
];
/// Made by builds and runs, and ignored by git.
const GENERATED: [&str; 5] = ["target", ".git", ".venv", "recordings", "__pycache__"];

#[test]
fn the_top_level_shows_the_architecture_and_nothing_else() {
    let found: BTreeSet<_> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !GENERATED.contains(&name.as_str()))
        .collect();
    let wanted: BTreeSet<_> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    let extra: Vec<_> = found.difference(&wanted).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "the visible top level is fixed (tools go into files with a dot): missing {missing:?}, too many {extra:?}"
    );
}

#[test]
fn every_source_file_opens_with_its_role() {
    let silent: Vec<_> = files()
        .into_iter()
        .filter(|path| is_rust(path))
        .filter(|path| !read(path).is_some_and(|text| text.starts_with("//! ")))
        .map(|path| relative(&path))
        .collect();
    complain("open these files with one `//!` sentence: its role and what it does not do", &silent);
}

#[test]
fn functions_and_files_stay_small() {
    let allowed = Allowed::read();
    let mut long = Vec::new();
    let (mut functions_used, mut files_used) = (BTreeSet::new(), BTreeSet::new());
    for path in files().into_iter().filter(|path| is_rust(path) && !is_test(path)) {
        let file = relative(&path);
        let source = Source::new(&read(&path).unwrap_or_default());
        let lines = source.lines();
        if lines > MAX_FILE {
            files_used.insert(file.clone());
            if !allowed.file.iter().any(|entry| entry.path == file) {
                long.push(format!("{file}: {lines} lines without tests, at most {MAX_FILE}"));
            }
        }
        for function in source.functions().into_iter().filter(|f| f.lines > MAX_FUNCTION) {
            let Function { name, line, lines } = function;
            functions_used.insert((file.clone(), name.clone()));
            if !allowed.function.iter().any(|entry| entry.path == file && entry.name == name) {
                long.push(format!(
                    "{file}:{line}: fn {name} has {lines} lines, at most {MAX_FUNCTION}"
                ));
            }
        }
    }
    for entry in &allowed.file {
        if entry.reason.is_empty() || !files_used.contains(&entry.path) {
            long.push(format!(
                "{ALLOW_LIST}: {} needs no exception any more, or has no reason",
                entry.path
            ));
        }
    }
    for entry in &allowed.function {
        if entry.reason.is_empty()
            || !functions_used.contains(&(entry.path.clone(), entry.name.clone()))
        {
            let Entry { path, name, .. } = entry;
            long.push(format!(
                "{ALLOW_LIST}: {name} in {path} needs no exception any more, or has no reason"
            ));
        }
    }
    complain(&format!("split where the idea splits, or say in {ALLOW_LIST} why not"), &long);
}

#[test]
fn no_file_names_a_machine_a_registry_or_work_left_undone() {
    // In pieces, so that this file does not name them either.
    let words = [
        ["/wor", "k/"],
        ["/tm", "p/w"],
        ["/roo", "t/"],
        ["index.cra", "tes.io"],
        ["static.cra", "tes.io"],
        ["pythonho", "sted.org"],
        ["pypi", ".org"],
        ["tod", "o!"],
        ["unimple", "mented!"],
        ["FIX", "ME"],
    ]
    .map(|pieces| pieces.concat());
    let mut found = Vec::new();
    for path in files().into_iter().filter(|path| !path.ends_with("Cargo.lock")) {
        let Some(text) = read(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word:?}", relative(&path), index + 1));
            }
        }
    }
    complain("the project speaks of itself alone, and of work that is done", &found);
}

/// What tells how far two texts are alike by how long it takes.
const HASTY: [&str; 8] =
    [" == ", " != ", ".eq(", ".ne(", ".cmp(", ".starts_with(", ".ends_with(", ".contains("];

/// Secrets are compared by their type, whose comparison takes the same time for all, and signatures by `ct_eq`.
#[test]
fn secrets_and_signatures_are_compared_in_constant_time() {
    let (mut hasty, mut exposed, mut signed) = (Vec::new(), 0, 0);
    for path in files().into_iter().filter(|path| is_rust(path) && !is_test(path)) {
        let source = Source::new(&read(&path).unwrap_or_default());
        let code = String::from_utf8_lossy(&source.code).into_owned();
        // A statement may go over several lines.
        for statement in code.split([';', '{', '}']) {
            let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            let shows = statement.contains(".expose()");
            let signs = ["hmac_sha1(", "hmac_sha256(", "hmac_sha256_hex("];
            let signs = signs.iter().any(|sign| statement.contains(sign));
            exposed += usize::from(shows);
            signed += usize::from(signs);
            if (shows || signs) && HASTY.iter().any(|hasty| statement.contains(hasty)) {
                hasty.push(format!("{}: {statement}", relative(&path)));
            }
        }
        if code.contains("impl PartialEq for Secret") {
            let (_, body) = code.split_once("impl PartialEq for Secret").unwrap();
            let body = body.split("impl ").next().unwrap_or_default();
            assert!(body.contains("ct_eq") && !body.contains(" == "), "{body}");
        }
        if code.contains("struct Secret(") && code.contains("derive(") {
            let (before, _) = code.split_once("struct Secret(").unwrap();
            let derived = before.rsplit("derive(").next().unwrap_or_default();
            assert!(!derived.contains("PartialEq"), "its own comparison, in constant time");
        }
    }
    assert!(exposed > 30 && signed > 15, "{exposed} {signed}: it sees none of them");
    complain("compare with `Secret`'s own `==`, or with `ct_eq`", &hasty);
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let members = members();
    let mut wrong = Vec::new();
    for member in &members {
        let place = Place::of(&member.folder);
        for (name, folder) in &member.uses {
            if let Some(folder) = folder {
                let below = Place::of(folder);
                if !place.may_use(&below) {
                    wrong.push(format!("{} may not use {}", member.folder, folder));
                }
            } else if name.starts_with("tokio") && !place.may_have_a_runtime() {
                wrong.push(format!(
                    "{} may not use {name}: only bridge/server has a runtime",
                    member.folder
                ));
            }
        }
        if place == Place::Unknown {
            wrong.push(format!("{} is no place for a crate", member.folder));
        }
    }
    assert!(members.len() >= 5, "cargo metadata lists {} members", members.len());
    complain("codecs <- compute-modules/api <- bridge/proto <- bridge/server", &wrong);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let lax: Vec<_> = members()
        .into_iter()
        .map(|member| format!("{}/Cargo.toml", member.folder))
        .filter(|manifest| {
            let text = std::fs::read_to_string(root().join(manifest)).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
            lints.and_then(toml::Value::as_bool) != Some(true)
        })
        .collect();
    complain("these manifests need `[lints]` with `workspace = true`", &lax);
}

fn complain(rule: &str, found: &[String]) {
    let mut text = String::new();
    for line in found {
        let _ = write!(text, "\n  {line}");
    }
    assert!(found.is_empty(), "{rule}:{text}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// All files that are not generated, in order.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let generated = GENERATED.contains(&name.as_str()) || name.ends_with(".egg-info");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !generated {
                walk(&entry.path(), files);
            } else if kind.is_file() && !generated {
                files.push(entry.path());
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files.sort();
    files
}

/// The text of a file, or `None` if it is not text.
fn read(path: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(path).unwrap()).ok()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn is_test(path: &Path) -> bool {
    let in_tests = path.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "benches" || part == "fuzz"
    });
    in_tests || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Exceptions from the sizes, each with its reason.
const ALLOW_LIST: &str = ".tidy-allow.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    #[serde(default)]
    function: Vec<Entry>,
    #[serde(default)]
    file: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    #[serde(default)]
    name: String,
    reason: String,
}

impl Allowed {
    fn read() -> Self {
        match std::fs::read_to_string(root().join(ALLOW_LIST)) {
            Ok(text) => {
                toml::from_str(&text).unwrap_or_else(|error| panic!("{ALLOW_LIST}: {error}"))
            }
            Err(_) => Self::default(),
        }
    }
}

/// Where a crate lies, which decides what it may use.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Codecs,
    Api,
    Module,
    Proto,
    Server,
    Fuzz,
    Example,
    Unknown,
}

impl Place {
    fn of(folder: &str) -> Self {
        match folder {
            "codecs" => Self::Codecs,
            "compute-modules/api" => Self::Api,
            "bridge/proto" => Self::Proto,
            "bridge/server" => Self::Server,
            "bridge/fuzz" => Self::Fuzz,
            other if other.starts_with("compute-modules/") => Self::Module,
            other if other.starts_with("examples/") => Self::Example,
            _ => Self::Unknown,
        }
    }

    fn may_use(&self, below: &Self) -> bool {
        match self {
            Self::Codecs | Self::Unknown => false,
            Self::Api => *below == Self::Codecs,
            Self::Proto => matches!(below, Self::Codecs | Self::Api),
            // A detector may stand on another one: speech is not a key tone.
            Self::Module => matches!(below, Self::Codecs | Self::Api | Self::Module),
            Self::Server => {
                !matches!(below, Self::Server | Self::Fuzz | Self::Example | Self::Unknown)
            }
            Self::Fuzz | Self::Example => true,
        }
    }

    fn may_have_a_runtime(&self) -> bool {
        matches!(self, Self::Server | Self::Example)
    }
}

/// A crate of the workspace: its folder, and the names of what it uses with the folders of those that are ours.
struct Member {
    folder: String,
    uses: Vec<(String, Option<String>)>,
}

fn members() -> Vec<Member> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--offline", "--no-deps"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let member = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let uses = package["dependencies"].as_array().unwrap();
        let used = |dependency: &Value| {
            let folder = dependency["path"].as_str().map(|path| relative(Path::new(path)));
            (dependency["name"].as_str().unwrap().to_owned(), folder)
        };
        Member {
            folder: relative(manifest.parent().unwrap()),
            uses: uses.iter().map(used).collect(),
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(member).collect()
}

/// A source file in which everything but code is blank: comments, strings, characters, and modules of tests.
struct Source {
    code: Vec<u8>,
    test_lines: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

impl Source {
    fn new(text: &str) -> Self {
        let mut source = Self { code: blank(text), test_lines: 0 };
        source.blank_tests();
        source
    }

    fn lines(&self) -> usize {
        self.line_at(self.code.len()) - 1 - self.test_lines
    }

    fn line_at(&self, offset: usize) -> usize {
        1 + self.code[..offset].iter().filter(|&&octet| octet == b'\n').count()
    }

    fn blank_tests(&mut self) {
        const MARK: &[u8] = b"#[cfg(test)]";
        let mut from = 0;
        while let Some(start) = find(&self.code, MARK, from) {
            from = start + MARK.len();
            let Some(end) = self.body_end(from) else { continue };
            self.test_lines += self.line_at(end) - self.line_at(start);
            self.code[start..end].iter_mut().filter(|c| **c != b'\n').for_each(|c| *c = b' ');
        }
    }

    /// Offset behind the `}` of the next body, or `None` if a `;` comes first.
    fn body_end(&self, from: usize) -> Option<usize> {
        let mut brackets = 0_i32;
        let mut braces = 0_i32;
        for (offset, octet) in self.code.iter().enumerate().skip(from) {
            match octet {
                b'(' | b'[' => brackets += 1,
                b')' | b']' => brackets -= 1,
                b';' if brackets == 0 && braces == 0 => return None,
                b'{' => braces += 1,
                b'}' => {
                    braces -= 1;
                    if braces == 0 {
                        return Some(offset + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn functions(&self) -> Vec<Function> {
        let is_word = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
        let mut functions = Vec::new();
        let mut from = 0;
        while let Some(start) = find(&self.code, b"fn ", from) {
            from = start + 3;
            let begins_a_word = start == 0 || !is_word(&self.code[start - 1]);
            let name: Vec<u8> =
                self.code[from..].iter().copied().take_while(|octet| is_word(octet)).collect();
            if !begins_a_word || name.is_empty() {
                continue;
            }
            if let Some(end) = self.body_end(from) {
                let line = self.line_at(start);
                let lines = self.line_at(end) - line + 1;
                functions.push(Function { name: String::from_utf8(name).unwrap(), line, lines });
            }
        }
        functions
    }
}

fn find(haystack: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = haystack.get(from..)?;
    rest.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
}

/// The text with everything that is not code replaced by spaces; line breaks stay where they are.
fn blank(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut code = Vec::with_capacity(text.len());
    while code.len() < text.len() {
        let at = code.len();
        let length = match &text[at..] {
            [b'/', b'/', ..] => find(text, b"\n", at).unwrap_or(text.len()) - at,
            [b'/', b'*', ..] => block_comment(&text[at..]),
            [b'"', ..] => string(&text[at..]),
            [b'r', b'"' | b'#', ..] if !continues_a_word(text, at) => raw_string(&text[at..]),
            [b'\'', ..] => character(&text[at..]),
            _ => 0,
        };
        if length == 0 {
            code.push(text[at]);
        }
        let blanks = text[at..at + length].iter().map(|c| if *c == b'\n' { b'\n' } else { b' ' });
        code.extend(blanks);
    }
    code
}

fn continues_a_word(text: &[u8], at: usize) -> bool {
    // `br"..."` is a raw string as well.
    let before = |back: usize| at.checked_sub(back).map(|at| text[at]);
    let is_word = |octet: Option<u8>| octet.is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_');
    if before(1) == Some(b'b') { is_word(before(2)) } else { is_word(before(1)) }
}

fn block_comment(text: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn raw_string(text: &[u8]) -> usize {
    let hashes = text[1..].iter().take_while(|&&octet| octet == b'#').count();
    if text.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [b"\"".as_slice(), &text[1..1 + hashes]].concat();
    find(text, &end, 2 + hashes).map_or(text.len(), |at| at + end.len())
}

/// Length of a character, or 0 for a lifetime.
fn character(text: &[u8]) -> usize {
    match text {
        [_, b'\\', ..] => find(text, b"'", 3).map_or(text.len(), |at| at + 1),
        [_, first, ..] => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            if text.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let text = "//! fn a() {\nfn real<'a>(x: [u8; 2], c: &'a str) {\n    let s = \"fn b() { \\\" {\";\n    \
                let r = r#\"fn c() { \"{\"#; /* fn d() { /* { */ */\n    let c = ['{', '\\'', '\\u{7b}', 'ö'];\n}\n\
                trait T { fn declared(&self); }\nlet pointer: fn (u8);\nfn ring() {}\n\
                #[cfg(test)]\nmod tests {\n    fn tested() {\n    }\n}\n";
    let source = Source::new(text);
    let names: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(names, [("real".to_owned(), 2, 5), ("ring".to_owned(), 9, 1)]);
    assert_eq!(source.lines(), text.lines().count() - 4);
    assert_eq!(blank(text).len(), text.len());
}
