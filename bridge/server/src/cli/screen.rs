//! What people see: the one place that writes to standard output, with colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use crate::exit::Exit;

/// Writes to standard output; a reader that went away (`| head`) is no failure.
pub(super) fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(_) => Exit::Failure,
    }
}

/// Writes a line to standard output.
pub(super) fn line(text: impl std::fmt::Display) {
    print(&format!("{text}\n"));
}

/// Writes a line to standard error.
pub(super) fn problem(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "ringback: {text}");
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
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
