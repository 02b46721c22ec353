//! All that is kept of a call, or of the calls of a number: found, and deleted. Deletes nothing of a call that is on, or held.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use ringback_recorder::vault::Keys;
use ringback_recorder::{About, Removed, Stage, is_busy, is_held, remove};
use sha2::Sha256;

use super::library;
use crate::sink::private;

/// Whose calls are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This call, by the bridge's name for it.
    Call(String),
    /// All that somebody took part in who has this number.
    Subject(String),
}

impl Wanted {
    fn is_of(&self, call: &str, numbers: [Option<&str>; 2]) -> bool {
        match self {
            Self::Call(wanted) => wanted == call,
            Self::Subject(wanted) => {
                numbers.into_iter().flatten().any(|number| same_number(wanted, number))
            }
        }
    }

    fn takes(&self, about: &About) -> bool {
        self.is_of(&about.call, [about.from.as_deref(), about.to.as_deref()])
    }
}

/// Whether two texts are one number: their digits are the same, `+` and `00` in front left out. What has fewer than five digits is
/// the same only as it stands.
#[must_use]
pub fn same_number(a: &str, b: &str) -> bool {
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "+ -()./".contains(c));
    let digits = |text: &str| {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.strip_prefix("00").map_or(digits.clone(), str::to_owned)
    };
    let (ours, theirs) = (digits(a), digits(b));
    a == b || (is_number(a) && is_number(b) && ours.len() >= 5 && ours == theirs)
}

/// What there is of them.
#[derive(Debug, Default)]
pub struct Found {
    /// Their calls, by the bridge's names.
    pub calls: BTreeSet<String>,
    /// Finished recordings that may go.
    pub recordings: Vec<PathBuf>,
    /// What is known of recordings that are gone already.
    pub orphans: Vec<PathBuf>,
    /// Recordings that are held: nothing of their calls is deleted.
    pub held: Vec<PathBuf>,
    /// Recordings that are being made or looked after, or are to be repaired first: nothing of their calls is deleted.
    pub unfinished: Vec<PathBuf>,
    /// Recordings that cannot be looked into, which may be theirs, and why.
    pub unknown: Vec<(PathBuf, String)>,
}

/// Finds what is wanted in these folders. One that is not there has nothing in it.
///
/// # Errors
/// A folder cannot be read.
pub fn find(dirs: &[PathBuf], wanted: &Wanted, keys: &Keys) -> io::Result<Found> {
    let mut found = Found::default();
    let mut kept = BTreeSet::new();
    let (mut free, mut gone) = (Vec::new(), Vec::new());
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        for look in library::list(dir, keys)? {
            let named = named_after(wanted, &look.path);
            let call = match &look.about {
                Some(about) if wanted.takes(about) => about.call.clone(),
                Some(_) => continue,
                None => match (named, wanted) {
                    (Some(call), _) => call,
                    (None, Wanted::Call(_)) => continue,
                    (None, Wanted::Subject(_)) => {
                        let why = look.problem.unwrap_or_else(|| "nothing is known of it".into());
                        found.unknown.push((look.path, why));
                        continue;
                    }
                },
            };
            if is_held(&look.path) {
                found.held.push(look.path);
                kept.insert(call);
            } else if look.stage != Stage::Finished || is_busy(&look.path).unwrap_or(true) {
                found.unfinished.push(look.path);
                kept.insert(call);
            } else {
                free.push((look.path, call));
            }
        }
        for (path, call) in orphans(dir, wanted)? {
            if is_held(&path) {
                found.held.push(path);
                kept.insert(call);
            } else {
                gone.push((path, call));
            }
        }
    }
    if let Wanted::Call(call) = wanted {
        found.calls.insert(call.clone());
    }
    found.calls.extend(free.iter().chain(&gone).map(|(_, call)| call.clone()));
    found.calls.retain(|call| !kept.contains(call));
    let may_go = |of: Vec<(PathBuf, String)>| {
        of.into_iter().filter(|(_, call)| !kept.contains(call)).map(|(path, _)| path).collect()
    };
    (found.recordings, found.orphans) = (may_go(free), may_go(gone));
    Ok(found)
}

/// The call that a recording is named after, if that is wanted: a session is called `<call>-<number>`.
fn named_after(wanted: &Wanted, path: &Path) -> Option<String> {
    let Wanted::Call(call) = wanted else { return None };
    let name = path.file_name()?.to_str()?;
    let number = name.split('.').next()?.strip_prefix(call.as_str())?.strip_prefix('-')?;
    number.bytes().all(|c| c.is_ascii_digit()).then(|| call.clone())
}

/// What is known of recordings that are gone, and their calls: whoever deleted them was killed before that was.
fn orphans(dir: &Path, wanted: &Wanted) -> io::Result<Vec<(PathBuf, String)>> {
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let recording = path.with_extension("wav");
        let part = path.with_extension("wav.part");
        if path.extension().is_none_or(|end| end != "json") || recording.exists() || part.exists() {
            continue;
        }
        let about = About::read(&recording).ok().flatten();
        if let Some(about) = about.filter(|about| wanted.takes(about)) {
            orphans.push((recording, about.call));
        }
    }
    Ok(orphans)
}

/// Deletes what may go, and says how many recordings that were and what could not be deleted.
pub fn delete(found: &Found) -> (u64, Vec<(PathBuf, String)>) {
    let (mut gone, mut failed) = (0, Vec::new());
    for path in found.recordings.iter().chain(&found.orphans) {
        match remove(path) {
            Ok(Removed::Gone) => gone += 1,
            Ok(Removed::Held) => failed.push((path.clone(), "it is held".into())),
            Ok(Removed::Busy) => {
                failed.push((path.clone(), "somebody else looks after it".into()));
            }
            Ok(Removed::Foreign) => {
                let why = "it is damaged or no recording of ours, and was left: delete it by hand";
                failed.push((path.clone(), why.into()));
            }
            Err(error) => failed.push((path.clone(), error.to_string())),
        }
    }
    (gone, failed)
}

/// What stands in the place of what was asked for: nobody can read it back, and who has the key that stands in `key` can show that this
/// was asked for. The key is made where there is none.
///
/// # Errors
/// The key can be neither read nor made.
pub fn digest(key: &Path, wanted: &Wanted) -> io::Result<String> {
    let octets = match std::fs::read(key) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut octets = [0_u8; 32];
            getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
            let mut file = private().write(true).create_new(true).open(key)?;
            io::Write::write_all(&mut file, &octets)?;
            file.sync_all()?;
            octets.to_vec()
        }
        octets => octets?,
    };
    if octets.len() != 32 {
        return Err(io::Error::other("it is no key of 32 octets"));
    }
    let (what, text) = match wanted {
        Wanted::Call(call) => ("call", call),
        Wanted::Subject(number) => ("subject", number),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&octets).expect("HMAC takes keys of any length");
    mac.update(what.as_bytes());
    mac.update(b"\0");
    mac.update(text.as_bytes());
    let digits = mac.finalize().into_bytes();
    let digits: String = digits.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("{what}:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::Folder;

    #[test]
    fn a_number_is_known_however_it_is_written() {
        for same in ["+4930123456", "004930123456", "+49 30 123-456", "49 (30) 123456"] {
            assert!(same_number("+4930123456", same), "{same}");
        }
        for other in ["+4930123457", "30123456", "", "sip:4930123456@example.com"] {
            assert!(!same_number("+4930123456", other), "{other}");
        }
        assert!(same_number("anonymous", "anonymous") && same_number("110", "110"));
        assert!(!same_number("110", "0110") && !same_number("12-34", "1234"));
    }

    #[test]
    fn what_is_known_of_one_that_is_gone_leads_to_its_call_unless_that_is_held() {
        let folder = Folder::new("orphans");
        let about = |name: &str, call: &str| {
            let json = serde_json::json!({
                "v": 1, "call": call, "provider": "p", "from": "+4930123456", "began": "",
                "rate": 8000, "ms": 0, "state": "finished",
            });
            std::fs::write(folder.0.join(name), json.to_string()).unwrap();
        };
        about("a-1.json", "a");
        about("b-1.json", "b");
        about("b-2.json", "b");
        std::fs::write(folder.0.join("b-2.wav.hold"), "").unwrap();
        let wanted = Wanted::Subject("+4930123456".into());
        let found = find(std::slice::from_ref(&folder.0), &wanted, &Keys::default()).unwrap();
        assert_eq!(found.calls, BTreeSet::from(["a".to_owned()]));
        assert_eq!(found.orphans, [folder.0.join("a-1.wav")]);
        assert_eq!(found.held, [folder.0.join("b-2.wav")]);
    }

    #[test]
    fn a_digest_tells_nothing_and_is_the_same_again() {
        let folder = Folder::new("digest");
        let (key, other) = (folder.0.join("key"), folder.0.join("other"));
        let wanted = Wanted::Subject("+4930123456".into());
        let first = digest(&key, &wanted).unwrap();
        assert_eq!(first, digest(&key, &wanted).unwrap());
        assert!(first.starts_with("subject:") && first.len() == 72 && !first.contains("30123456"));
        assert_ne!(first, digest(&other, &wanted).unwrap(), "each has a key of its own");
        assert_ne!(first[8..], digest(&key, &Wanted::Call("+4930123456".into())).unwrap()[5..]);
        std::fs::write(&key, "short").unwrap();
        assert!(digest(&key, &wanted).is_err());
    }
}
