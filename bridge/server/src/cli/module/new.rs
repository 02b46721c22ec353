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
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Language {
    Python,
    Typescript,
    Rust,
}

/// A path in the new folder and what is in the file; `NAME`, `SNAKE`, `CLASS` and `SOURCE` stand for the module's own in both.
type File = (&'static str, &'static str);

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

    /// What the SDK's folder is called in the source.
    const fn sdk(self) -> &'static str {
        match self {
            Self::Python => "compute-modules/python",
            Self::Typescript => "compute-modules/typescript",
            Self::Rust => "compute-modules/api",
        }
    }
}

/// A name that packages, files and classes can be called.
fn name(text: &str) -> Result<String, String> {
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

fn fill(text: &str, args: &Args, source: &Path) -> String {
    let source = source.display().to_string();
    text.replace("SNAKE", &args.name.replace('-', "_"))
        .replace("CLASS", &class(&args.name))
        .replace("NAME", &args.name)
        .replace("SOURCE", &source)
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

    #[test]
    fn names_become_what_each_language_calls_things() {
        assert_eq!(class("my-first-module2"), "MyFirstModule2");
        for wrong in ["", "-a", "a-", "a--b", "Loud", "2a", "a_b", "../a", "a/b", "ä"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
