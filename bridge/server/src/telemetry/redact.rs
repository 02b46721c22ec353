//! Types that can be printed into a log where the bare value must not be: phone numbers, secrets, a peer's own words.

use std::fmt;

use crate::socket::cut;

/// A phone number or SIP address; prints as `+1555***02`, enough to tell two callers apart and too little to call one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Phone<'a>(pub &'a str);

/// A number shorter than this is hidden whole: what is left would be most of it.
const SHORT: usize = 8;

impl fmt::Display for Phone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of an address, everything after the `@` is the provider's domain and helps nobody to find the caller.
        let (number, domain) = match self.0.split_once('@') {
            Some((user, domain)) => (user, Some(domain)),
            None => (self.0, None),
        };
        let number = number.trim_start_matches("sip:").trim_start_matches("sips:");
        let length = number.chars().count();
        if length < SHORT {
            f.write_str("***")?;
        } else {
            let head = number.chars().take(5).filter(|c| !c.is_control());
            let tail = number.chars().skip(length - 2).filter(|c| !c.is_control());
            write!(f, "{}***{}", head.collect::<String>(), tail.collect::<String>())?;
        }
        match domain {
            Some(domain) => write!(f, "@{}", PeerText(domain)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Phone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that is never printed: a token, a password, a signature. Prints as `[redacted]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Words of somebody else (a close reason, a provider's error): cut to 160 octets, control characters escaped so that they
/// cannot forge log lines, and every run of seven or more digits hidden, since it may be a phone or card number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerText<'a>(pub &'a str);

const LONGEST: usize = 160;
const TELLING_DIGITS: usize = 7;

impl fmt::Display for PeerText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = cut(self.0, LONGEST);
        hide_numbers(f, text)?;
        f.write_str(if text.len() < self.0.len() { "..." } else { "" })
    }
}

fn hide_numbers(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits >= TELLING_DIGITS {
            f.write_str("***")?;
        } else {
            f.write_str(&rest[..digits])?;
        }
        let words = &rest[digits..];
        let end = words.find(|c: char| c.is_ascii_digit()).unwrap_or(words.len());
        for c in words[..end].chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        rest = &words[end..];
    }
    Ok(())
}

/// A line that a module printed: its author needs all of it, so only numbers and control characters are hidden. Who prints it
/// has bounded its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModuleLine<'a>(pub(crate) &'a str);

impl fmt::Display for ModuleLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hide_numbers(f, self.0)
    }
}

impl fmt::Debug for PeerText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_keep_their_ends_only() {
        let cases = [
            ("+15550100002", "+1555***02"),
            ("4915112345678", "49151***78"),
            ("911", "***"),
            ("5550100", "***"),
            ("", "***"),
            ("sip:alice.smith@pbx.example", "alice***th@pbx.example"),
            ("anonymous", "anony***us"),
            ("sip:+15550100002@10.0.0.1", "+1555***02@10.0.0.1"),
        ];
        for (number, printed) in cases {
            assert_eq!(Phone(number).to_string(), printed);
            assert_eq!(format!("{:?}", Phone(number)), printed, "debug hides as well");
        }
    }

    #[test]
    fn secrets_print_as_nothing_of_themselves() {
        assert_eq!(format!("{0} {0:?}", Redacted("hunter2")), "[redacted] [redacted]");
    }

    #[test]
    fn a_peers_words_cannot_forge_lines_or_carry_numbers() {
        let cases = [
            ("bye", "bye"),
            ("line\n2026 INFO forged\x1b[31m", "line\\n2026 INFO forged\\u{1b}[31m"),
            ("call 15550100002 failed: 31920", "call *** failed: 31920"),
            ("15550100002", "***"),
            ("größe 123456", "größe 123456"),
        ];
        for (text, printed) in cases {
            assert_eq!(PeerText(text).to_string(), printed);
        }
        assert_eq!(PeerText(&"ab".repeat(500)).to_string().len(), LONGEST + 3);
    }
}
