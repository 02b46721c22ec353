//! What people see: the one place that writes to standard output, with colours only on a terminal. Whatever came from a file or a wire
//! stays text here: no control character of it reaches the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use crate::exit::Exit;

/// Writes lines to standard output; a reader that went away (`| head`) is no failure.
pub(super) fn print(text: &str) -> Exit {
    painted(&cleaned(text, &['\n', '\t']))
}

/// Writes to standard output as it stands: what a [`Style`] made, and otherwise only what is ours or was made [`harmless`].
pub(super) fn painted(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(_) => Exit::Failure,
    }
}

/// Writes a line to standard output.
pub(super) fn line(text: impl std::fmt::Display) {
    painted(&(harmless(text) + "\n"));
}

/// Writes a line to standard error.
pub(super) fn problem(text: impl std::fmt::Display) {
    let text = cleaned(&text.to_string(), &['\n', '\t']);
    let _ = writeln!(io::stderr().lock(), "ringback: {text}");
}

/// Says what went wrong, and gives back how the process is to end for it.
pub(super) fn failed(exit: Exit, text: impl std::fmt::Display) -> Exit {
    problem(text);
    exit
}

/// The text in one line, with what would do something to a terminal written as `\u001b`, which JSON reads as what it was.
pub(super) fn harmless(text: impl std::fmt::Display) -> String {
    cleaned(&text.to_string(), &[])
}

fn cleaned(text: &str, kept: &[char]) -> String {
    // Marks that turn the direction of what follows hide as well as escapes do.
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || turns(c)) && !kept.contains(&c) {
            // Writing to a string cannot fail.
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    clean
}

/// How to write with and without colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colours: bool,
}

impl Style {
    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub(super) fn of_stdout() -> Self {
        Self { colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Whether a line may be written over.
    pub(super) fn is_terminal(self) -> bool {
        self.colours
    }

    pub(super) fn dim(self, text: impl std::fmt::Display) -> String {
        self.paint("2", text)
    }

    pub(super) fn bold(self, text: impl std::fmt::Display) -> String {
        self.paint("1", text)
    }

    pub(super) fn good(self, text: impl std::fmt::Display) -> String {
        self.paint("32", text)
    }

    fn paint(self, code: &str, text: impl std::fmt::Display) -> String {
        let text = harmless(text);
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_nothing_to_a_terminal() {
        let said = "a\x1b]0;title\x07b\u{9b}2Jc\rd\ne\u{202e}f\tg";
        let clean = "a\\u001b]0;title\\u0007b\\u009b2Jc\\u000dd\\u000ae\\u202ef\\u0009g";
        assert_eq!(harmless(said), clean);
        assert_eq!(cleaned("a\n\tb\x1bc", &['\n', '\t']), "a\n\tb\\u001bc");
        assert_eq!(harmless("Grüße, 世界"), "Grüße, 世界");
        let style = Style { colours: true };
        assert_eq!(style.dim("a\x1bb"), "\x1b[2ma\\u001bb\x1b[0m");
    }

    #[test]
    fn json_that_was_made_harmless_means_the_same() {
        let value = serde_json::json!({ "text": "a\u{9b}b\u{7f}\x1b\u{202e}" });
        let printed = harmless(&value);
        assert!(printed.is_ascii(), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).expect("JSON"), value);
    }
}
