//! What a child process prints: lines for the log, cut to a bounded length. Interprets nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::telemetry::ModuleLine;

/// Octets of a line that are kept.
const MAX_LINE: usize = 4_096;
/// Characters of the last line that go into the reason of a failure.
const MAX_QUOTE: usize = 200;

/// The last line a process printed, for the reason why it ended.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLine(Arc<Mutex<String>>);

impl LastLine {
    /// The line, shortened, or nothing.
    pub(super) fn quote(&self) -> Option<String> {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let quote: String = line.trim().chars().take(MAX_QUOTE).collect();
        (!quote.is_empty()).then_some(quote)
    }

    pub(super) fn set(&self, line: &str) {
        if !line.trim().is_empty() {
            line.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Logs every line until the process closes its stderr.
pub(super) async fn log_lines(module: String, mut stderr: impl AsyncRead + Unpin, last: LastLine) {
    let mut lines = Lines::default();
    let mut piece = vec![0; MAX_LINE];
    let log = |line: &str| {
        last.set(line);
        tracing::info!(module = %module, "{}", ModuleLine(line));
    };
    while let Ok(len @ 1..) = stderr.read(&mut piece).await {
        lines.push(&piece[..len], log);
    }
    lines.finish(log);
}

/// Cuts octets into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// The line is over [`MAX_LINE`]; the rest of it is left out.
    cut: bool,
}

impl Lines {
    pub(super) fn push(&mut self, octets: &[u8], mut log: impl FnMut(&str)) {
        for part in octets.split_inclusive(|&octet| octet == b'\n') {
            let (text, whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = MAX_LINE - self.line.len();
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if whole {
                self.end(&mut log);
            }
        }
    }

    pub(super) fn finish(&mut self, mut log: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.end(&mut log);
        }
    }

    /// Control characters could forge log lines or terminal commands.
    fn end(&mut self, log: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
        let mut text = text.replace(|c: char| c.is_control() && c != '\t', "\u{FFFD}");
        if self.cut {
            text.push_str(" [cut]");
        }
        log(&text);
        self.line.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut found, mut lines) = (Vec::new(), Lines::default());
        for piece in pieces {
            lines.push(piece, |line| found.push(line.to_owned()));
        }
        lines.finish(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn lines_however_they_are_cut() {
        assert_eq!(lines(&[b"a\nb", b"c\r\n", b"", b"\nd"]), ["a", "bc", "", "d"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; 3 * MAX_LINE];
        let found = lines(&[&long, &long, b"\nshort\n"]);
        assert_eq!(found[0].len(), MAX_LINE + " [cut]".len());
        assert_eq!(found[1..], ["short"]);
        let exact = vec![b'x'; MAX_LINE];
        assert_eq!(lines(&[&exact, b"\n"])[0].len(), MAX_LINE);
    }

    #[test]
    fn control_characters_do_not_reach_the_log() {
        assert_eq!(lines(&[b"\x1b[2Jx\xff\ty\n"]), ["\u{FFFD}[2Jx\u{FFFD}\ty"]);
    }

    #[tokio::test]
    async fn the_last_line_is_kept_for_the_reason() {
        let last = LastLine::default();
        assert_eq!(last.quote(), None);
        log_lines("m".into(), &b"first\nlast words\n\n"[..], last.clone()).await;
        assert_eq!(last.quote().as_deref(), Some("last words"));
    }
}
