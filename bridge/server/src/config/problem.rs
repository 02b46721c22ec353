//! What is wrong with a configuration, where it stands, and what was probably meant. Finds no problems itself.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::exit::Exit;

/// A configuration that cannot be used: everything wrong with it, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
}

impl ConfigError {
    /// All that is wrong, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The process should end with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// One thing that is wrong: `ringback.toml:12:8: listener[0].auth.kind: found ..., expected ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was found and what works.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A place in the file.
    File {
        /// Name of the file.
        file: String,
        /// Line and column, from 1.
        position: Option<(usize, usize)>,
        /// Path of the key, `listener[0].auth.kind`; empty where a problem has none.
        key: String,
    },
    /// A variable of the environment.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
    /// A default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, position, key } => {
                f.write_str(file)?;
                if let Some((line, column)) = position {
                    write!(f, ":{line}:{column}")?;
                }
                if key.is_empty() { Ok(()) } else { write!(f, ": {key}") }
            }
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("defaults"),
        }
    }
}

/// A file and its text, to turn offsets into places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    pub(super) fn place(&self, span: Option<Range<usize>>) -> Place {
        let file = self.name.to_owned();
        let Some(start) = span.map(|span| span.start.min(self.text.len())) else {
            return Place::File { file, position: None, key: String::new() };
        };
        let before = &self.text.as_bytes()[..start];
        let line = before.iter().filter(|&&octet| octet == b'\n').count() + 1;
        let line_start = before.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let (document, _) = DeTable::parse_recoverable(self.text);
        let key = key_at(document.get_ref(), start).unwrap_or_default();
        Place::File { file, position: Some((line, column)), key }
    }

    pub(super) fn problem(&self, error: &toml::de::Error) -> Problem {
        let message = error.message().trim().replace('\n', ", ");
        let hint = hint_of(&message).unwrap_or_default();
        Problem { place: self.place(error.span()), message: message + &hint }
    }
}

/// Path of the innermost key or value that stands at `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let here = value.span().contains(&offset) || key.span().contains(&offset);
        let path = below(value.get_ref(), offset).or_else(|| here.then(String::new))?;
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        Some(format!("{}{dot}{path}", key.get_ref()))
    })
}

fn below(value: &DeValue<'_>, offset: usize) -> Option<String> {
    match value {
        DeValue::Table(table) => key_at(table, offset),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let here = item.span().contains(&offset);
            let path = below(item.get_ref(), offset).or_else(|| here.then(String::new))?;
            let dot = if path.is_empty() { "" } else { "." };
            Some(format!("[{index}]{dot}{path}"))
        }),
        _ => None,
    }
}

/// For serde's "unknown field `x`, expected one of `a`, `b`": which of them was probably meant.
fn hint_of(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    did_you_mean(found, quoted)
}

/// `; did you mean "echo"?` for the nearest of `known`, if any is near.
pub(super) fn did_you_mean<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let near = 1 + found.chars().count() / 4;
    known
        .into_iter()
        .map(|name| (distance(&found.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, name)| format!("; did you mean {name:?}?"))
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [
            ("", "echo", 4),
            ("echo", "echo", 0),
            ("ehco", "echo", 1),
            ("twillio", "twilio", 1),
            ("vad", "dtmf", 4),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["echo", "recorder", "vad"];
        assert_eq!(did_you_mean("recoder", known).unwrap(), "; did you mean \"recorder\"?");
        assert_eq!(did_you_mean("Echo", known).unwrap(), "; did you mean \"echo\"?");
        assert_eq!(did_you_mean("transcriber", known), None);
    }

    #[test]
    fn places_are_lines_columns_and_keys() {
        let text = "[server]\nbind = 1\n\n[[listener]]\nname = \"ä\"\nauth = { kind = \"x\" }\n[[listener]]\norigins = [\"a\", \"b\"]\n";
        let source = Source { name: "f.toml", text };
        let at = |needle: &str| {
            let start = text.find(needle).unwrap();
            source.place(Some(start..start)).to_string()
        };
        assert_eq!(at("1\n"), "f.toml:2:8: server.bind");
        assert_eq!(at("\"ä\""), "f.toml:5:8: listener[0].name");
        assert_eq!(at("\"x\""), "f.toml:6:17: listener[0].auth.kind");
        assert_eq!(at("\"b\""), "f.toml:8:17: listener[1].origins[1]");
        assert_eq!(source.place(None).to_string(), "f.toml");
    }
}
