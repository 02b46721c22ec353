//! What a program that the bridge runs finds in its environment: little. Starts none.
//!
//! The bridge's own environment holds whatever its operator keeps there, credentials of clouds and models first of all; a module gets of
//! it what says where programs, homes and languages are, and what it is given by name.

use tokio::process::Command;

/// What every program gets, if it is there: where programs and their libraries are found, whose home it is, where files for a while go,
/// which language and hour it is, and which processors of graphics there are.
const USUAL: [&str; 45] = [
    "CARGO_HOME",
    "CONDA_PREFIX",
    "CUDA_*",
    "HIP_VISIBLE_DEVICES",
    "HOME",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "NODE_EXTRA_CA_CERTS",
    "NODE_PATH",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "NO_PROXY",
    "OMP_NUM_THREADS",
    "PATH",
    "PYENV_*",
    "PYTHON*",
    "REQUESTS_CA_BUNDLE",
    "ROCR_VISIBLE_DEVICES",
    "RUSTUP_HOME",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_*",
    // Without these no program runs on Windows, where case tells nothing.
    "APPDATA",
    "COMSPEC",
    "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
    "PATHEXT",
    "PROGRAMDATA",
    "PROGRAMFILES*",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "USERPROFILE",
    "WINDIR",
];

/// What of the bridge's environment a program gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Names of variables beside the usual ones; one with a `*` at its end stands for all that begin so.
    pub inherited: Vec<String>,
    /// Those in which secrets of the configuration are kept: a program gets one only where its whole name is among the inherited.
    pub withheld: Vec<String>,
}

impl Surroundings {
    /// All of it, for programs that somebody starts at a terminal.
    #[must_use]
    pub fn whole() -> Self {
        Self { inherited: vec!["*".into()], ..Self::default() }
    }

    /// Leaves `command` nothing else of the bridge's environment.
    pub(super) fn enclose(&self, command: &mut Command) {
        command.env_clear();
        for (name, value) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| self.has(name)) {
                command.env(name, value);
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        if self.inherited.iter().any(|inherited| is_same(inherited, name)) {
            return true;
        }
        let mut patterns = USUAL.into_iter().chain(self.inherited.iter().map(String::as_str));
        patterns.any(|pattern| fits(pattern, name))
            && !self.withheld.iter().any(|of| is_same(of, name))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.get(..beginning.len()).is_some_and(|of| is_same(of, beginning)),
        None => is_same(name, pattern),
    }
}

/// Whether two names are one.
fn is_same(one: &str, other: &str) -> bool {
    if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_or_given_by_name_is_there_and_nothing_else() {
        let of = |inherited: &[&str]| Surroundings {
            inherited: inherited.iter().map(|name| (*name).to_owned()).collect(),
            withheld: vec!["TOKEN".into(), "HF_TOKEN".into(), "LANG".into()],
        };
        let names =
            ["PATH", "LC_ALL", "AWS_SECRET_ACCESS_KEY", "HF_HOME", "HF_TOKEN", "TOKEN", "LANG"];
        let had = |inherited: &[&str]| -> Vec<_> {
            let surroundings = of(inherited);
            names.into_iter().filter(|name| surroundings.has(name)).collect()
        };
        assert_eq!(had(&[]), ["PATH", "LC_ALL"]);
        assert_eq!(had(&["HF_*"]), ["PATH", "LC_ALL", "HF_HOME"]);
        assert_eq!(had(&["HF_*", "HF_TOKEN"]), ["PATH", "LC_ALL", "HF_HOME", "HF_TOKEN"]);
        assert_eq!(had(&["*"]), ["PATH", "LC_ALL", "AWS_SECRET_ACCESS_KEY", "HF_HOME"]);
        assert_eq!(had(&["HF"]), ["PATH", "LC_ALL"]);
    }
}
