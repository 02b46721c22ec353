//! The process that is asked: started where its environment was made, questioned line by line. Understands no answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use base64_simd::STANDARD;
use serde_json::Value;

/// The longest an answer may take; the first waits for a second of imports, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Opinions {
    process: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Opinions {
    /// `None`, said loudly, where there is no environment for it; fails where it must be there.
    pub(crate) fn ask_for() -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target");
        let python = target.join("second-opinions/bin/python");
        if python.exists() {
            return Some(Self::start(&python));
        }
        let why = "no Python environment with the packages to ask";
        assert_eq!(std::env::var_os("CI"), None, "this test must run, but there is {why}");
        println!("SKIPPED, NOTHING WAS TESTED: {why}; `bash .ci/test` makes one, with network");
        None
    }

    fn start(python: &Path) -> Self {
        let script =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/second_opinions/opinions.py");
        let mut process = Command::new(python)
            .arg(script)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONPATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, answers) = sync_channel(1);
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| told.send(line))
        });
        let questions = process.stdin.take().unwrap();
        Self { process, questions, answers }
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").unwrap();
        let answer = self.answers.recv_timeout(PATIENCE);
        let answer = answer.unwrap_or_else(|error| panic!("{error}: no answer to {question}"));
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(
            answer.get("failed").is_none(),
            "{question}\n{}",
            answer["failed"].as_str().unwrap()
        );
        answer["answer"].take()
    }
}

impl Drop for Opinions {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A list of texts.
pub(crate) fn list(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn base64(octets: &[u8]) -> String {
    STANDARD.encode_to_string(octets)
}

pub(crate) fn octets(text: &Value) -> Vec<u8> {
    STANDARD.decode_to_vec(text.as_str().unwrap()).unwrap()
}
