//! Keys that wrap the keys of recordings: where they come from, what they are called. Encrypts no sound.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Deserialize;

use super::cipher::{Cipher, KEY, NONCE, Octets, TAG, random};
use super::format::{Header, ID, SLOT, Slot, is_free};

/// What a key is called: it stands in each recording, for everybody to read. At most 55 of A-Z, a-z, 0-9, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    fn new(text: &str) -> Result<Self, String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if text.is_empty() || text.len() >= ID || !text.bytes().all(plain) {
            let most = ID - 1;
            return Err(format!(
                "key id {text:?}: 1 to {most} of A-Z, a-z, 0-9, -, _ and . name a key"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn to_octets(&self) -> [u8; ID] {
        let mut octets = [0; ID];
        // Fits: `new` and `of` saw to it.
        octets[0] = self.0.len() as u8;
        octets[1..=self.0.len()].copy_from_slice(self.0.as_bytes());
        octets
    }

    /// That of a slot; `None` if it has no key, or none of ours.
    pub(super) fn of(slot: &Slot) -> Option<Self> {
        let (length, rest) = slot[..ID].split_first()?;
        let (text, padding) = rest.split_at_checked(usize::from(*length))?;
        let id = Self::new(std::str::from_utf8(text).ok()?).ok()?;
        padding.iter().all(|octet| *octet == 0).then_some(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a recorder is told to encrypt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encrypt {
    /// Where its key is.
    key: String,
    /// What that is called.
    key_id: String,
    /// Where earlier keys are, by what they are called.
    #[serde(default)]
    old: BTreeMap<String, String>,
}

impl Encrypt {
    /// Reads the keys it names.
    pub(crate) fn keys(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Keys, String> {
        let current = (self.key_id.as_str(), self.key.as_str());
        let old = self.old.iter().map(|(id, key)| (id.as_str(), key.as_str()));
        Keys::read(std::iter::once(current).chain(old), variable)
    }
}

/// Keys by their ids. The first wraps; any unwraps.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(KeyId, Octets)>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Keys {
    /// Reads keys that are named by id and by where they are: `env:NAME` or `file:/path`, 64 hexadecimal digits there.
    ///
    /// # Errors
    /// Which is missing or is no key, without a word of what was found.
    pub fn read<'a>(
        named: impl IntoIterator<Item = (&'a str, &'a str)>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut keys = Self::default();
        for (id, reference) in named {
            let id = KeyId::new(id)?;
            let key = find(reference, variable)?;
            if keys.0.iter().any(|(known, other)| *known == id && *other != key) {
                return Err(format!("two keys are called {id}: give each an id of its own"));
            }
            keys.0.push((id, key));
        }
        // A build that cannot use them says so before the first call does.
        keys.0
            .first()
            .map_or(Ok(()), |(_, key)| Cipher::new(key).map(drop))
            .map_err(|e| e.to_string())?;
        Ok(keys)
    }

    /// Those of another list behind these.
    pub fn extend(&mut self, others: &Self) {
        for (id, key) in &others.0 {
            if !self.0.iter().any(|(known, same)| known == id && same == key) {
                self.0.push((id.clone(), key.clone()));
            }
        }
    }

    /// What they are called, the one that wraps first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wraps the key of a recording of that rate with the first of these.
    pub(super) fn wrap(&self, rate: u32, data: &Octets) -> io::Result<Slot> {
        let none = || io::Error::other("there is no key to encrypt with");
        let (id, key) = self.0.first().ok_or_else(none)?;
        let (id, nonce) = (id.to_octets(), random::<NONCE>()?);
        let mut octets = [&id[..], &nonce].concat();
        octets.extend_from_slice(data.as_slice());
        Cipher::new(key)?.seal(nonce, &Header::wrap_aad(rate, &id), &mut octets, ID + NONCE)?;
        let mut slot = [0; SLOT];
        slot.copy_from_slice(&octets);
        Ok(slot)
    }

    /// The key of the recording with that header.
    pub(super) fn unwrap(&self, header: &Header) -> Result<Octets, String> {
        let used = || header.slots.iter().filter(|slot| !is_free(slot));
        for slot in used() {
            let Some(id) = KeyId::of(slot) else { continue };
            for (_, key) in self.0.iter().filter(|(known, _)| *known == id) {
                if let Some(found) = open(key, header.rate, slot) {
                    return Ok(found);
                }
            }
        }
        let ids: Vec<_> = used().map(KeyId::of).collect();
        Err(match &ids[..] {
            [] => "it has no key any more: it was destroyed, and what it held with it".into(),
            [Some(id), ..] if !self.ids().any(|known| known == id) => {
                format!("it needs key {id}, which is not given")
            }
            [Some(id), ..] => {
                format!("key {id} does not open it: it is another key, or the file was changed")
            }
            [None, ..] => "the name of its key was changed".into(),
        })
    }
}

fn open(key: &Octets, rate: u32, slot: &Slot) -> Option<Octets> {
    let (id, rest) = slot.split_at(ID);
    let (nonce, wrapped) = rest.split_at(NONCE);
    let mut wrapped: [u8; KEY + TAG] = wrapped.try_into().ok()?;
    let cipher = Cipher::new(key).ok()?;
    let opened = cipher.open(nonce.try_into().ok()?, &Header::wrap_aad(rate, id), &mut wrapped)?;
    let mut found = Octets::default();
    found.copy_from_slice(opened);
    opened.fill(0);
    Some(found)
}

/// Reads the key that `reference` names. What is wrong is said without what was found: it may be the key itself.
fn find(reference: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Octets, String> {
    let text = if let Some(name) = reference.strip_prefix("env:") {
        variable(name).ok_or_else(|| format!("environment variable {name} is not set"))?
    } else if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?
    } else {
        return Err("a key is not written here: use \"env:NAME\" or \"file:/path\"".into());
    };
    let digits = text.trim().as_bytes();
    let mut key = Octets::default();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    for (octet, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let value = pair.first().copied().and_then(digit).zip(pair.get(1).copied().and_then(digit));
        *octet = match value {
            Some((high, low)) if digits.len() == 2 * KEY => (high * 16 + low) as u8,
            _ => {
                return Err(format!(
                    "{reference} is no key of 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
                ));
            }
        };
    }
    if digits.is_empty() {
        return Err(format!("{reference} is empty"));
    }
    Ok(key)
}
