//! The demo's files: modules and sound put in place before the call, recording and picture after it.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::show::Heard;
use crate::cli::screen::{self, Style};
use crate::picture::{self, CallPicture};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../compute-modules/python/src/ringback");
const TRANSCRIBE: &[u8] = include_bytes!("../../../../../compute-modules/transcribe/transcribe.py");
const REPLY: &[u8] = include_bytes!("../../../../../test-audio/reply-welcome.wav");
/// More words wrong than this and the demo has failed.
const MAX_WORD_ERRORS: f64 = 0.2;

pub(super) struct Stage {
    out: PathBuf,
    modules: PathBuf,
}

impl Stage {
    /// Puts modules and sound into `out`.
    pub(super) fn set(out: &Path) -> Result<Self, String> {
        let modules = out.join("modules");
        let sdk = modules.join("ringback");
        let failed = |path: &Path, error: std::io::Error| {
            format!("cannot write {}: {error}", path.display())
        };
        std::fs::create_dir_all(&sdk).map_err(|e| failed(&sdk, e))?;
        for file in SDK.files() {
            let path = sdk.join(file.path());
            std::fs::write(&path, file.contents()).map_err(|e| failed(&path, e))?;
        }
        for (name, octets) in [("transcribe.py", TRANSCRIBE), ("reply.wav", REPLY)] {
            let path = modules.join(name);
            std::fs::write(&path, octets).map_err(|e| failed(&path, e))?;
        }
        let out = out.canonicalize().map_err(|e| failed(out, e))?;
        let modules = out.join("modules");
        Ok(Self { out, modules })
    }

    fn recording(&self) -> PathBuf {
        self.out.join("recording.wav")
    }

    /// The configuration of the demo's bridge.
    pub(super) fn config(&self, python: &Path, provider: &str) -> String {
        let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        format!(
            r#"
[server]
bind = "127.0.0.1:0"

[[listener]]
name = "{provider}"
path = "/{provider}"
provider = "{provider}"

[[module]]
name = "transcribe"
kind = "child"
command = [{python}, {script}]
ready_timeout = "30s"
on_fail = "hangup"

[[module]]
name = "reply"
builtin = "player"
config = {{ path = {reply}, on = "transcript" }}

[[module]]
name = "vad"
builtin = "vad"

[[module]]
name = "recorder"
builtin = "recorder"
config = {{ path = {recording}, overwrite = true }}

[[route]]
name = "default"
modules = ["transcribe", "reply", "vad", "recorder"]
speaker = "reply"
barge_in = {{ on_speech = true, min_speech = "200ms" }}
"#,
            python = quote(python),
            script = quote(&self.modules.join("transcribe.py")),
            reply = quote(&self.modules.join("reply.wav")),
            recording = quote(&self.recording()),
        )
    }

    /// Draws the picture, says where everything is and whether the words are right.
    pub(super) fn finish(&self, heard: &Heard, words: &str) -> Result<(), String> {
        let style = Style::of_stdout();
        if heard.captions.is_empty() {
            return Err("no final transcript came; run with --log debug to see why".into());
        }
        let text = heard.captions.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" ");
        let errors = word_errors(words, &text);
        let said = words.split_whitespace().count();
        let rate = errors as f64 / said as f64;
        let line = |name: &str, text: &str| {
            screen::painted(&format!("{}  {}\n", style.bold(name), screen::harmless(text)));
        };
        screen::line("");
        line("transcript", &text);
        line("words     ", &format!("{errors} of {said} wrong ({:.0} %)", rate * 100.0));
        line("latency   ", &heard.latency().to_string());
        line("sound     ", &heard.account.to_string());
        let picture = self.draw(heard)?;
        line("recording ", &self.recording().display().to_string());
        line("picture   ", &picture.display().to_string());
        if rate > MAX_WORD_ERRORS {
            return Err(format!(
                "{:.0} % of the words are wrong, more than {:.0} %",
                rate * 100.0,
                MAX_WORD_ERRORS * 100.0
            ));
        }
        if !heard.replied {
            return Err("the reply was not heard by the caller".into());
        }
        Ok(())
    }

    fn draw(&self, heard: &Heard) -> Result<PathBuf, String> {
        let path = self.recording();
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let file = std::fs::File::open(&path).map_err(|e| failed(&e))?;
        let wav =
            ringback_codecs::wav::read(std::io::BufReader::new(file)).map_err(|e| failed(&e))?;
        let side =
            |n: usize| -> Vec<i16> { wav.samples.iter().skip(n).step_by(2).copied().collect() };
        let svg = picture::svg(&CallPicture {
            title: "a call through Ringback",
            rate: wav.rate.hz(),
            caller: &side(0),
            agent: &side(1),
            captions: &heard.captions,
        })
        .map_err(|e| e.to_string())?;
        let path = self.out.join("call.svg");
        std::fs::write(&path, svg).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path)
    }
}

/// Words to insert, delete or replace to get from one text to the other (Levenshtein).
fn word_errors(said: &str, understood: &str) -> usize {
    let said: Vec<&str> = said.split_whitespace().collect();
    let understood: Vec<&str> = understood.split_whitespace().collect();
    let mut row: Vec<usize> = (0..=understood.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in understood.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[understood.len()]
}

#[cfg(test)]
mod tests {
    use super::word_errors;

    #[test]
    fn word_errors_are_edits() {
        assert_eq!(word_errors("a b c", "a b c"), 0);
        assert_eq!(word_errors("a b c", "a c"), 1);
        assert_eq!(word_errors("a b c", "a x b c d"), 2);
        assert_eq!(word_errors("", "a"), 1);
        assert_eq!(word_errors("a b", ""), 2);
    }
}
