//! Names that others give to calls, numbers and parameters, and paths that they ask for: whatever they are made of, no file is made
//! but where files are to be, and none is read.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its bridge has failed")]
#![allow(clippy::print_stdout, reason = "how much was tried is what one looks for in the output")]

mod support;

use std::path::{Path, PathBuf};

use ringback_proto::provider::{Dial, find};
use support::{Caller, Folder, Host, quoted, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What leads elsewhere, or means something to a system, a shell or a reader.
const NAMES: [&str; 50] = [
    "..",
    ".",
    "../x",
    "../../x",
    "../../../../../../../../x",
    "/x",
    "//x",
    "/etc/passwd",
    "x/../../y",
    "x/./y",
    "x/",
    "..\\x",
    "..\\..\\x",
    "C:\\x",
    "\\\\host\\share\\x",
    "....//x",
    ".../x",
    "..;/x",
    "%2e%2e%2fx",
    "%2e%2e/x",
    "..%2fx",
    "..%252fx",
    "..%c0%afx",
    "..%5cx",
    "..\u{2215}x",
    "..\u{2044}x",
    "\u{ff0e}\u{ff0e}\u{ff0f}x",
    "file:///x",
    "x\0y",
    "../x\0.wav",
    "x\ny",
    "x\r\ny",
    "\tx",
    " ",
    "\u{202e}vaw.x",
    "\u{200b}",
    "CON",
    "NUL",
    "aux.wav",
    "x:stream",
    ".hidden",
    "-rf",
    "~root",
    "$(x)",
    "`x`",
    "x|y;z&",
    "*?[x]",
    "{date}/{call}",
    "%s%n",
    "x.json",
];

fn names() -> Vec<String> {
    let long = ["x".repeat(300), "\u{e9}".repeat(200), "../".repeat(100) + "x"];
    NAMES.map(str::to_owned).into_iter().chain(long).collect()
}

/// Everything below a folder.
fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn names_of_others_make_no_file_but_where_files_are_to_be() {
    let folder = Folder::new("traversal");
    // Deep enough that whatever climbs out is seen.
    let inner = "a/b/c/d/e/f/g/h/i/j";
    let place = |name: &str| quoted(folder.path(inner).join(name).display());
    let mut toml = format!(
        "[capture]\ndir = {}\n[[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {}, sync = false }}\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[route]]\nname = \"default\"\nmodules = [\"recorder\", \"echo\"]\n\
         [[sink]]\nname = \"lines\"\nkind = \"jsonl\"\nall = true\npath = {}\n",
        place("captures"),
        place("recordings"),
        place("lines/{call}/{listener}-{route}.jsonl"),
    );
    let providers = ["raw", "twilio", "telnyx"];
    for name in providers {
        toml += &format!(
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\n"
        );
    }
    let host = Host::on_loopback(&toml);
    let (mut taken, mut tried) = (0, 0);
    for provider in providers {
        for name in names() {
            tried += 1;
            let dial = Dial {
                target: format!("/{provider}"),
                call: name.clone(),
                from: name.clone(),
                to: name.clone(),
                parameters: vec![(name.clone(), name.clone())],
                ..Dial::default()
            };
            let provider = find(provider).unwrap();
            let dialled =
                Caller::dial(host.clock, host.connect().await, provider, &dial, &[]).await;
            // What our own phone cannot write it does not send.
            let Ok(mut caller) = dialled else { continue };
            caller.format().await;
            caller.hang_up().await;
            taken += 1;
        }
    }
    host.stop().await;
    let mut files = Vec::new();
    below(&folder.path(""), &mut files);
    let root = folder.path(inner);
    let is_plain = |part: &str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
            && !part.starts_with('.')
    };
    for file in &files {
        let inside = file.strip_prefix(&root);
        let inside = inside.unwrap_or_else(|_| panic!("{} is elsewhere", file.display()));
        let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        assert!(["captures", "recordings", "lines"].contains(&parts[0]), "{parts:?}");
        assert!(parts.iter().all(|part| is_plain(part) && part.len() < 200), "{parts:?}");
    }
    let of = |dir: &str| files.iter().filter(|file| file.starts_with(root.join(dir))).count();
    let (captures, recordings, lines) = (of("captures"), of("recordings"), of("lines"));
    assert!(
        taken >= 100 && recordings >= 2 * taken && lines >= taken,
        "{taken} {recordings} {lines}"
    );
    println!(
        "{tried} names tried in 4 places each, {taken} calls taken: {captures} captures, {recordings} files of recordings, {lines} of lines, 0 elsewhere"
    );
}

/// Paths of requests, as they would be for who serves files.
const PATHS: [&str; 24] = [
    "/../../../../etc/passwd",
    "/..%2f..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/%252e%252e/etc/passwd",
    "/..\\..\\etc\\passwd",
    "/..%5c..%5cetc%5cpasswd",
    "/....//....//etc/passwd",
    "/..;/..;/etc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
    "//etc/passwd",
    "/./etc/passwd",
    "/etc/passwd%00.html",
    "/raw/../metrics/../../x",
    "/raw/..",
    "/raw/%2e%2e/events",
    "/captures",
    "/recordings/x.wav",
    "/healthz/../events",
    "/healthz%2f..%2fevents",
    "/HEALTHZ",
    "/file:///etc/passwd",
    "http://bridge/../etc/passwd",
    "/raw?file=../../etc/passwd",
    "/?../../etc/passwd",
];

#[tokio::test]
async fn paths_that_lead_elsewhere_lead_nowhere() {
    let host = Host::on_loopback(
        "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n[operator]\nbind = \"127.0.0.1:0\"\n",
    );
    let operator = host.operator.unwrap();
    let mut refused = 0;
    for path in PATHS {
        for address in [host.address, operator] {
            let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            io.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = soon("an answer", io.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "403", "404", "405", "426"].contains(&status), "{path}: {answer}");
            assert!(!answer.contains("root:"), "{path}: {answer}");
            refused += 1;
        }
    }
    println!("{} paths at two ports: refused {refused} of {refused}", PATHS.len());
    host.stop().await;
}
