//! The lines of an audit log and the chain of hashes that holds them together. Opens no file.
//!
//! A line is a JSON object whose `prev` is the SHA-256 of the line before it, octet for octet, without its end; the first one's is 64
//! zeros. What was changed, removed or put in breaks the chain at the line after it. Nothing comes after the last line: that the end
//! was cut off shows only to who remembers a hash from before.

use std::io::BufRead;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The longest line, its end left out.
pub(super) const MAX_LINE: usize = 4 * 1024;
/// The longest name of anything in a line.
const MAX_TEXT: usize = 256;

/// Something that somebody did or wanted to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the token; `-` of somebody who has none.
    pub who: String,
    /// From where, if that is an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// What.
    pub act: String,
    /// On what.
    pub on: String,
    /// What came of it, in a word or as an HTTP status.
    pub outcome: String,
}

/// An entry where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
    /// Hash of the line before.
    pub prev: String,
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Number of the last line; 0 if there is none.
    pub seq: u64,
    /// Hash of the last line.
    pub hash: String,
}

impl Head {
    /// Before the first line.
    #[must_use]
    pub fn none() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }

    /// The next line, and where the log ends with it.
    pub(super) fn next(&self, at: String, entry: Entry) -> (String, Self) {
        let Entry { who, from, act, on, outcome } = entry;
        let cut = |text: String| crate::socket::cut(&text, MAX_TEXT).to_owned();
        let entry =
            Entry { who: cut(who), from, act: cut(act), on: cut(on), outcome: cut(outcome) };
        let line = Line { seq: self.seq + 1, at, entry, prev: self.hash.clone() };
        // Texts and numbers: nothing in it can fail to be written.
        let text = serde_json::to_string(&line).unwrap_or_default();
        let head = Self { seq: line.seq, hash: hash(text.as_bytes()) };
        (text, head)
    }

    /// After a line that was read.
    pub(super) fn after(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self { seq: line.seq, hash: hash(text.as_bytes()) })
    }
}

fn hash(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Line of the file, from 1.
    pub line: u64,
    /// How it shows, and what may have been done.
    pub what: String,
}

/// Reads a whole log. Gives where it ends, or where it breaks first. With `remembered`, a hash from before, that must be in it.
///
/// # Errors
/// If it cannot be read, or breaks.
pub fn verify(mut log: impl BufRead, remembered: Option<&str>) -> Result<Head, Break> {
    let mut head = Head::none();
    let mut found = remembered.is_none_or(|hash| hash == head.hash);
    let mut number = 0;
    let mut octets = Vec::new();
    loop {
        number += 1;
        let broken = |what: String| Break { line: number, what };
        octets.clear();
        let mut limited = std::io::Read::take(&mut log, MAX_LINE as u64 + 1);
        let read = limited.read_until(b'\n', &mut octets);
        if read.map_err(|error| broken(format!("it cannot be read: {error}")))? == 0 {
            break;
        }
        if octets.pop_if(|last| *last == b'\n').is_none() {
            return Err(broken("it does not end: it was cut, or never finished".into()));
        }
        let text = std::str::from_utf8(&octets).map_err(|_| broken("it is no text".into()))?;
        let line: Line = serde_json::from_str(text)
            .map_err(|error| broken(format!("it is no entry: {error}")))?;
        if line.seq != head.seq + 1 {
            let (is, should) = (line.seq, head.seq + 1);
            let done =
                if is > should { "lines before it were removed" } else { "lines were put in" };
            return Err(broken(format!("its number is {is} and not {should}: {done}")));
        }
        if line.prev != head.hash {
            let what =
                "it does not follow from the line before, which was changed or put in its place";
            return Err(broken(what.into()));
        }
        head = Head { seq: line.seq, hash: hash(text.as_bytes()) };
        found |= remembered == Some(head.hash.as_str());
    }
    if found {
        return Ok(head);
    }
    let what = "the hash that was remembered is of none of its lines: the end was cut off, or all was made anew";
    Err(Break { line: number, what: what.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(act: &str) -> Entry {
        Entry {
            who: "alice".into(),
            from: Some("192.0.2.1".parse().unwrap()),
            act: act.into(),
            on: "call \"1\"".into(),
            outcome: "202".into(),
        }
    }

    /// Lines, and where the log ends after each.
    fn log(count: usize) -> (Vec<String>, Vec<Head>) {
        let (mut lines, mut heads) = (Vec::new(), vec![Head::none()]);
        for number in 0..count {
            let at = format!("2026-11-21T00:00:{number:02}.000Z");
            let (line, head) = heads[number].next(at, entry(&format!("act{number}")));
            lines.push(line + "\n");
            heads.push(head);
        }
        (lines, heads)
    }

    fn checked(lines: &[String], remembered: Option<&str>) -> Result<Head, Break> {
        verify(lines.concat().as_bytes(), remembered)
    }

    #[test]
    fn a_whole_log_ends_where_it_was_written_to() {
        let (lines, heads) = log(9);
        assert_eq!(checked(&lines, None).as_ref(), Ok(&heads[9]));
        assert_eq!(checked(&[], None), Ok(Head::none()));
        for head in &heads {
            assert_eq!(checked(&lines, Some(&head.hash)).as_ref(), Ok(&heads[9]));
        }
        assert_eq!(Head::after(lines[8].trim_end()).as_ref(), Ok(&heads[9]));
    }

    #[test]
    fn what_was_done_to_it_shows_at_the_line_after() {
        let (lines, heads) = log(9);
        // Every octet of every line but the last, which nothing follows.
        for line in 0..8 {
            for octet in 0..lines[line].len() - 1 {
                let mut changed = lines.clone();
                let mut octets = changed[line].clone().into_bytes();
                octets[octet] ^= 1;
                let Ok(text) = String::from_utf8(octets) else { continue };
                changed[line] = text;
                let broken = checked(&changed, None).expect_err("it was changed");
                assert!((line as u64 + 1..=line as u64 + 2).contains(&broken.line), "{broken:?}");
            }
            let mut removed = lines.clone();
            removed.remove(line);
            let broken = checked(&removed, None).unwrap_err();
            assert_eq!(
                (broken.line, broken.what.contains("were removed")),
                (line as u64 + 1, true)
            );
            let mut doubled = lines.clone();
            doubled.insert(line, lines[line].clone());
            assert_eq!(checked(&doubled, None).unwrap_err().line, line as u64 + 2);
            let mut swapped = lines.clone();
            swapped.swap(line, line + 1);
            assert_eq!(checked(&swapped, None).unwrap_err().line, line as u64 + 1);
        }
        // One that is made anew, with the right number and hash, does not fit what follows.
        let mut forged = lines.clone();
        let (line, _) = heads[3].next("2026-11-21T00:00:03.000Z".into(), entry("nothing"));
        forged[3] = line + "\n";
        assert_eq!(checked(&forged, None).unwrap_err().line, 5);
    }

    #[test]
    fn that_the_end_was_cut_off_shows_to_who_remembers_it() {
        let (lines, heads) = log(9);
        for left in 0..9 {
            assert_eq!(checked(&lines[..left], None).as_ref(), Ok(&heads[left]));
            let cut = checked(&lines[..left], Some(&heads[9].hash)).unwrap_err();
            assert!(cut.what.contains("cut off"), "{cut:?}");
        }
        let torn = lines.concat();
        let broken = verify(&torn.as_bytes()[..torn.len() - 1], None).unwrap_err();
        assert_eq!((broken.line, broken.what.contains("never finished")), (9, true));
    }

    #[test]
    fn a_line_has_a_bound_whatever_is_in_it() {
        let long = "\u{1}ü\"".repeat(10_000);
        let entry = Entry {
            who: long.clone(),
            from: None,
            act: long.clone(),
            on: long.clone(),
            outcome: long,
        };
        let (line, head) = Head::none().next("2026-11-21T00:00:00.000Z".into(), entry);
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert_eq!(verify((line + "\n").as_bytes(), None), Ok(head));
    }
}
