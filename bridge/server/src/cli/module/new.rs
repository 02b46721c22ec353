//! `ringback module new`: writes a module that runs, with its test and how to run both. Installs and starts nothing.

use std::path::{Path, PathBuf};

use crate::cli::screen;
use crate::exit::Exit;

/// Options of `ringback module new`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name, and that of the folder it is written to: small letters, digits and hyphens.
    #[arg(value_parser = name)]
    name: String,
    /// Which language.
    #[arg(long, value_enum)]
    lang: Language,
    /// Where the source of Ringback is, which has the SDKs; else it is looked for here and in the folders above.
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
}

/// The languages there is an SDK for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Python,
    Typescript,
    Rust,
}

/// A path in the new folder and what is in the file; [`PLACEHOLDERS`] stand for the module's own in both.
type File = (&'static str, &'static str);

/// Its name, the same for where a hyphen cannot be, that of its class, and where the source of Ringback is.
const PLACEHOLDERS: [&str; 4] = ["NAME", "SNAKE", "CLASS", "SOURCE"];

/// A longer name is none that anybody wants to read.
const LONGEST_NAME: usize = 64;

/// Modules that Python brings, which a file of that name beside the program would hide from everybody.
const PYTHONS_OWN: &str = include_str!("../../../templates/python/modules.txt");

impl Language {
    const fn files(self) -> &'static [File] {
        match self {
            Self::Python => &[
                ("SNAKE.py", include_str!("../../../templates/python/module.py")),
                ("test_SNAKE.py", include_str!("../../../templates/python/test_module.py")),
                ("README.md", include_str!("../../../templates/python/README.md")),
                (".gitignore", include_str!("../../../templates/python/gitignore")),
            ],
            Self::Typescript => &[
                ("src/NAME.ts", include_str!("../../../templates/typescript/module.ts")),
                ("src/NAME.test.ts", include_str!("../../../templates/typescript/module.test.ts")),
                ("package.json", include_str!("../../../templates/typescript/package.json")),
                ("tsconfig.json", include_str!("../../../templates/typescript/tsconfig.json")),
                ("README.md", include_str!("../../../templates/typescript/README.md")),
                (".gitignore", include_str!("../../../templates/typescript/gitignore")),
            ],
            Self::Rust => &[
                ("src/main.rs", include_str!("../../../templates/rust/main.rs")),
                ("Cargo.toml", include_str!("../../../templates/rust/Cargo.toml.txt")),
                ("README.md", include_str!("../../../templates/rust/README.md")),
                (".gitignore", include_str!("../../../templates/rust/gitignore")),
            ],
        }
    }

    /// Why a module in this language cannot have this name, if it cannot.
    fn refuses(self, name: &str) -> Option<&'static str> {
        let is_one_of = |words: &str| words.split_whitespace().any(|word| word == name);
        let class = class(name);
        // The class stands beside what the module uses; comments and strings are not code.
        let code = |text: &'static str| {
            let lines = text.lines().map(|line| line.split(['#', '/']).next().unwrap_or_default());
            lines.flat_map(|line| line.split('"').step_by(2))
        };
        let words = |text| {
            code(text).flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
        };
        let is_used = self
            .files()
            .iter()
            .filter(|(_, text)| text.contains("CLASS"))
            .any(|(_, text)| words(text).any(|word| word == class));
        match self {
            _ if is_used && !PLACEHOLDERS.contains(&class.as_str()) => {
                Some("its class would be called like something that the module uses")
            }
            Self::Python if matches!(name, "none" | "true" | "false") => {
                Some("its class would be called like a value of Python")
            }
            Self::Python if name == "ringback" || is_one_of(PYTHONS_OWN) => {
                Some("its file would hide a module of Python or the SDK that has this name")
            }
            Self::Typescript if is_one_of("ringback typescript") => {
                Some("npm installs no package into one of the same name")
            }
            Self::Rust if is_one_of("ringback-module serde serde-json") => {
                Some("Cargo takes no package that depends on one of the same name")
            }
            Self::Rust if is_one_of("self none some ok err option result vec string") => {
                Some("its class would be called like a word of Rust")
            }
            Self::Rust if is_one_of(RUSTS_OWN) => {
                Some("Cargo takes no package of this name: Rust or Cargo needs it")
            }
            _ => None,
        }
    }

    /// What the SDK's folder is called in the source.
    const fn sdk(self) -> &'static str {
        match self {
            Self::Python => "compute-modules/python",
            Self::Typescript => "compute-modules/typescript",
            Self::Rust => "compute-modules/api",
        }
    }
}

/// Words of Rust, crates that come with it, folders that Cargo builds in, and files that are devices elsewhere.
const RUSTS_OWN: &str = "abstract alloc as async await become box break build con const continue core crate deps do dyn else enum \
    examples extern false final fn for gen if impl in incremental let loop macro match mod move mut nul override priv prn proc-macro \
    pub ref return self static std struct super test trait true try type typeof unsafe unsized use virtual where while yield";

/// A name that packages, files and classes can be called; which ones a language refuses beside is for [`Language::refuses`] to say.
fn name(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_NAME {
        return Err(format!("longer than {LONGEST_NAME} letters"));
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && text.chars().all(fits) && !text.ends_with('-') && !text.contains("--") {
        Ok(text.to_owned())
    } else {
        Err("small letters, digits and single hyphens between them, beginning with a letter".into())
    }
}

/// The parts of a name as one word, each with a capital.
fn class(name: &str) -> String {
    let part = |part: &str| {
        let (first, rest) = part.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    name.split('-').map(part).collect()
}

pub(super) fn run(args: &Args) -> Exit {
    if let Some(reason) = args.lang.refuses(&args.name) {
        let name = &args.name;
        let said = format!(
            "a module in this language cannot be called {name}: {reason}; how about my-{name}?"
        );
        return screen::failed(Exit::Usage, said);
    }
    let source = match source(args) {
        Ok(source) => source,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let folder = Path::new(&args.name);
    if let Err(error) = write(args, folder, &source) {
        return screen::failed(Exit::Failure, error);
    }
    let text: String = args
        .lang
        .files()
        .iter()
        .map(|(path, _)| format!("  {}\n", fill(path, args, &source)))
        .collect();
    screen::print(&format!(
        "{name}/\n{text}\nHow to test and run it is in {name}/README.md.\n",
        name = args.name
    ))
}

/// The source of Ringback, as an absolute path.
fn source(args: &Args) -> Result<PathBuf, String> {
    let has_sdk = |folder: &Path| folder.join(args.lang.sdk()).is_dir();
    let found = match &args.source {
        Some(folder) => Some(folder.clone()).filter(|folder| has_sdk(folder)),
        None => {
            let here =
                std::env::current_dir().map_err(|error| format!("no folder here: {error}"))?;
            here.ancestors().find(|folder| has_sdk(folder)).map(Path::to_owned)
        }
    };
    let found = found.and_then(|folder| folder.canonicalize().ok());
    found.ok_or_else(|| {
        let sdk = args.lang.sdk();
        match &args.source {
            Some(folder) => format!("--source: there is no {sdk} in {}", folder.display()),
            None => format!(
                "there is no {sdk} here or above; say with --source where the source of Ringback is, or call this in it"
            ),
        }
    })
}

/// The text with what the placeholders stand for. What was put in is not looked at again: the class of `n-a-m-e` is `NAME`.
fn fill(text: &str, args: &Args, source: &Path) -> String {
    let own = [
        args.name.clone(),
        args.name.replace('-', "_"),
        class(&args.name),
        source.display().to_string(),
    ];
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    let next = |rest: &str| {
        let found = PLACEHOLDERS.iter().zip(&own);
        found.filter_map(|(word, own)| Some((rest.find(word)?, word.len(), own))).min()
    };
    while let Some((at, len, own)) = next(rest) {
        filled += &rest[..at];
        filled += own;
        rest = &rest[at + len..];
    }
    filled + rest
}

/// Into a folder that was not there: nothing is ever written over.
fn write(args: &Args, folder: &Path, source: &Path) -> Result<(), String> {
    let failed = |path: &Path, error| format!("cannot write {}: {error}", path.display());
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(format!("{} is there already; nothing was written", folder.display()));
        }
        made => made.map_err(|error| failed(folder, error))?,
    }
    for (path, text) in args.lang.files() {
        let path = folder.join(fill(path, args, source));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        std::fs::write(&path, fill(text, args, source)).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Language; 3] = [Language::Python, Language::Typescript, Language::Rust];

    #[test]
    fn names_become_what_each_language_calls_things() {
        for (name, class_name) in [
            ("my-first-module2", "MyFirstModule2"),
            ("n-a-m-e", "NAME"),
            ("c-l-a-s-s", "CLASS"),
            ("s-o-u-r-c-e", "SOURCE"),
            ("s-n-a-k-e", "SNAKE"),
            ("my-2nd", "My2nd"),
            ("a", "A"),
        ] {
            assert_eq!(super::name(name), Ok(name.to_owned()));
            assert_eq!(class(name), class_name);
            for lang in ALL {
                assert_eq!(lang.refuses(name), None, "{name} in {lang:?}");
                let args = Args { name: name.into(), lang, source: None };
                let text = "NAME SNAKE CLASS SOURCE/NAME.CLASS";
                let snake = name.replace('-', "_");
                let filled = format!("{name} {snake} {class_name} /a/NAME/{name}.{class_name}");
                assert_eq!(fill(text, &args, Path::new("/a/NAME")), filled);
            }
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for wrong in ["", "-a", "a-", "a--b", "Loud", "2a", "a_b", "../a", "a/b", "\u{e4}", &long] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_that_would_mean_something_else_are_refused_in_words() {
        let refused = |name: &str| ALL.map(|lang| lang.refuses(name).is_some());
        for (name, python, typescript, rust) in [
            ("loudness", false, false, false),
            ("ringback", true, true, false),
            ("typescript", false, true, false),
            ("json", true, false, false),
            ("email", true, false, false),
            ("none", true, false, true),
            ("true", true, false, true),
            ("class", false, false, false),
            ("module", true, false, true),
            ("module-error", false, false, true),
            ("config", false, false, true),
            ("self", false, false, true),
            ("match", false, false, true),
            ("proc-macro", false, false, true),
            ("test", false, false, true),
            ("vec", false, false, true),
            ("serde-json", false, false, true),
        ] {
            assert_eq!(refused(name), [python, typescript, rust], "{name}");
        }
    }
}
