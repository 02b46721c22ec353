//! Stand-ins: what differs from what it stands for in every character that tells something, and in nothing else. Decides not what
//! needs one.
//!
//! A word becomes a word of as many letters, a number one of as many digits, the same one each time; what stands between them
//! stays. No real number comes out: of seven digits or more, the first are 1000, which no telephone number begins with.

use std::collections::{HashMap, HashSet};

use crate::provider::auth::HmacSha256;

/// Stand-ins remembered so that no two are the same; beyond that they still are stable, and hardly ever the same.
const MOST: usize = 16 * 1024;
/// Words longer than this are not remembered: two of them that become the same would be a wonder.
const LONGEST: usize = 64;
/// So many digits may be a telephone number.
const TELLING_DIGITS: usize = 7;
/// What made-up numbers begin with. No country has +1000...
const NOBODY: &str = "1000";
/// Words that are in other words and are nobody's.
const PLAIN: [&str; 8] = ["alaw", "json", "sip", "sips", "slin", "slin16", "tel", "ulaw"];
/// Tries to find one that is not taken; single letters run out.
const TRIES: u32 = 64;

/// Makes stand-ins for one stream.
#[derive(Debug)]
pub(super) struct StandIns {
    seed: HmacSha256,
    known: HashMap<String, String>,
    taken: HashSet<String>,
}

impl StandIns {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed: HmacSha256::new(&seed), known: HashMap::new(), taken: HashSet::new() }
    }

    /// A text: of sentences nothing but their shape, of single words a stand-in for each.
    pub(super) fn text(&mut self, text: &str) -> String {
        if text.contains(char::is_whitespace) {
            return text.chars().map(shape).collect();
        }
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= TELLING_DIGITS && !text.contains(|c: char| c.is_alphabetic()) {
            // A number however it is written: +1-555-010-0001.
            let stand_in = self.run(&digits);
            let mut stand_in = stand_in.chars();
            let place =
                |c: char| if c.is_ascii_digit() { stand_in.next().unwrap_or('0') } else { c };
            return text.chars().map(place).collect();
        }
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first.is_ascii_alphanumeric() {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                let (run, behind) = rest.split_at(end);
                if is_name(run, behind) {
                    shown.push_str(run);
                } else {
                    shown.push_str(&self.run(run));
                }
                rest = behind;
            } else {
                shown.push(shape(first));
                rest = &rest[first.len_utf8()..];
            }
        }
        shown
    }

    /// The name of a field: itself, unless it looks like a number somebody can be called at.
    pub(super) fn name(&mut self, name: &str) -> String {
        if is_telling(name) { self.text(name) } else { name.to_owned() }
    }

    /// A whole number as JSON has it; one of few digits may be anybody's.
    pub(super) fn number(&mut self, number: &str) -> String {
        let (sign, digits) = match number.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", number),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return number.chars().map(|c| if c.is_ascii_digit() { '1' } else { c }).collect();
        }
        let stand_in = self.run(digits);
        // No number of JSON begins with 0 but 0 itself.
        let stand_in = match stand_in.strip_prefix('0') {
            Some(rest) if !rest.is_empty() => format!("1{rest}"),
            _ => stand_in,
        };
        format!("{sign}{stand_in}")
    }

    /// Octets that name something.
    pub(super) fn octets(&mut self, octets: &mut [u8]) {
        for (block, piece) in octets.chunks_mut(32).enumerate() {
            let made = self.noise(u32::try_from(block).unwrap_or(u32::MAX), 1, piece);
            piece.copy_from_slice(&made[..piece.len()]);
        }
    }

    /// Letters and digits, nothing between them.
    fn run(&mut self, run: &str) -> String {
        if run.bytes().all(|b| b == b'0') || PLAIN.contains(&run) {
            return run.to_owned();
        }
        if let Some(known) = self.known.get(run) {
            return known.clone();
        }
        let mut made = String::new();
        for attempt in 0..TRIES {
            made = self.make(run, attempt);
            if !self.taken.contains(&made) && made != run {
                break;
            }
        }
        if self.known.len() < MOST && run.len() <= LONGEST {
            self.known.insert(run.to_owned(), made.clone());
            self.taken.insert(made.clone());
        }
        made
    }

    fn make(&self, run: &str, attempt: u32) -> String {
        let hex = run.len() >= 4 && run.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            || run.len() >= 4 && run.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        let letters = if hex { 6 } else { 26 };
        let number = run.len() >= TELLING_DIGITS && run.bytes().all(|b| b.is_ascii_digit());
        let noise =
            (0..).flat_map(|block| self.noise(block, attempt.wrapping_add(2), run.as_bytes()));
        let letter = |from: u8, noise: u8| char::from(from + noise % letters);
        let made = run.bytes().zip(noise).enumerate().map(|(at, (b, noise))| match b {
            b'0'..=b'9' if number && at < NOBODY.len() => char::from(NOBODY.as_bytes()[at]),
            b'0'..=b'9' => char::from(b'0' + noise % 10),
            b'A'..=b'Z' => letter(b'A', noise),
            _ => letter(b'a', noise),
        });
        made.collect()
    }

    /// 32 octets that nobody foresees who does not know the seed.
    fn noise(&self, block: u32, purpose: u32, text: &[u8]) -> [u8; 32] {
        self.seed.of(&[&block.to_be_bytes(), &purpose.to_be_bytes(), text])
    }
}

/// Whether a word names what stands behind it: `tier=gold`. The signs that base64 ends with have nothing behind them.
fn is_name(run: &str, behind: &str) -> bool {
    const LONGEST_NAME: usize = 24;
    let value = behind.strip_prefix('=').and_then(|value| value.chars().next());
    run.len() <= LONGEST_NAME && !is_telling(run) && value.is_some_and(|c| c != '=' && c != '"')
}

/// What is left of a character of a sentence.
fn shape(c: char) -> char {
    match c {
        '0'..='9' => '0',
        'a'..='z' => 'x',
        'A'..='Z' => 'X',
        c if c.is_ascii() || c.is_whitespace() => c,
        c => match c.len_utf8() {
            2 => 'é',
            3 => '…',
            _ => '😀',
        },
    }
}

/// Whether there are so many digits that it may be a number of somebody's.
pub(super) fn is_telling(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() >= TELLING_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand_ins() -> StandIns {
        StandIns::new([7; 32])
    }

    #[test]
    fn a_number_is_the_same_one_however_it_is_written_and_nobodys() {
        let mut stand_ins = stand_ins();
        let plus = stand_ins.text("+15557348291");
        let bare = stand_ins.text("15557348291");
        assert_eq!(plus, format!("+{bare}"));
        assert!(bare.starts_with(NOBODY) && bare.len() == 11, "{bare}");
        let dashed = stand_ins.text("1-555-734-8291");
        assert_eq!(dashed.replace('-', ""), bare);
        assert_eq!(stand_ins.number("15557348291"), bare);
        let address = stand_ins.text("sip:+15557348291@pbx.example");
        assert!(address.contains(&bare) && !address.contains("pbx"), "{address}");
        assert_ne!(stand_ins.text("+15557348292"), plus);
    }

    #[test]
    fn words_keep_their_shape_and_identifiers_their_kind() {
        let mut stand_ins = stand_ins();
        let id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let made = stand_ins.text(id);
        assert_ne!(made, id);
        let shape = |text: &str| -> String {
            let kind = |c: char| {
                if c.is_ascii_digit() {
                    '9'
                } else if c.is_ascii_lowercase() {
                    'a'
                } else {
                    c
                }
            };
            text.chars().map(kind).collect()
        };
        assert_eq!(shape(&made), shape(id));
        assert!(made.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{made}");
        assert_eq!(stand_ins.text(id), made, "the same one each time");
        let none = "00000000-0000-0000-0000-000000000000";
        assert_eq!(stand_ins.text(none), none, "what stands for nothing needs none");
        assert_eq!(stand_ins.text("Jane Doe, 42 é"), "Xxxx Xxx, 00 é");
    }

    #[test]
    fn two_of_a_kind_never_become_one() {
        let mut stand_ins = stand_ins();
        let made: HashSet<_> = (0..10).map(|n| stand_ins.text(&format!("p{n}"))).collect();
        assert_eq!(made.len(), 10);
        let made: HashSet<_> = (0..500).map(|n| stand_ins.text(&format!("{n:03}x"))).collect();
        assert_eq!(made.len(), 500);
    }

    #[test]
    fn lists_of_values_keep_their_names() {
        let mut stand_ins = stand_ins();
        let made = stand_ins.text("from=+15557348291;tier=gold");
        assert!(made.starts_with("from=+1000") && made.contains(";tier="), "{made}");
        assert!(!made.contains("gold"), "{made}");
        for secret in ["c2VjcmV0=", "c2VjcmV0==", "15557348291=x"] {
            let made = stand_ins.text(secret);
            assert!(!made.contains("c2Vj") && !made.contains("5557"), "{made}");
        }
    }

    #[test]
    fn another_seed_makes_others() {
        assert_ne!(stand_ins().text("+15557348291"), StandIns::new([8; 32]).text("+15557348291"));
    }

    #[test]
    fn numbers_stay_numbers() {
        let mut stand_ins = stand_ins();
        for number in ["0", "-12345", "1700000000123", "12.5e3", "900100200"] {
            let made = stand_ins.number(number);
            assert!(made.parse::<f64>().is_ok() && made.len() == number.len(), "{number}: {made}");
            assert!(serde_json::from_str::<serde_json::Value>(&made).is_ok(), "{made}");
        }
    }
}
