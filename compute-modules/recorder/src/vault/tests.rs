//! Sealed recordings as they are attacked and interrupted: changed octet by octet, cut, mixed, with keys replaced and destroyed.
#![cfg(feature = "encryption")]

use std::fs::File;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use super::cipher::random;
use super::format::{HEADER, SLOT, SLOTS_AT};
use super::*;
use crate::about::About;
use crate::tests::Dir;

fn keys(named: &[(&str, u8)]) -> Keys {
    let references: Vec<_> = named.iter().map(|(id, _)| (*id, format!("env:{id}"))).collect();
    let digits = |id: &str| {
        let (_, octet) = named.iter().find(|(known, _)| *known == id)?;
        Some(format!("{octet:02x}").repeat(32) + "\n")
    };
    Keys::read(references.iter().map(|(id, key)| (*id, key.as_str())), &digits).unwrap()
}

fn a() -> Keys {
    keys(&[("a", 1)])
}

fn about() -> About {
    let json = serde_json::json!({
        "v": 1, "call": "c", "provider": "test", "from": "+4930123456", "began": "", "rate": 8000,
        "ms": 2, "state": "finished",
    });
    serde_json::from_value(json).unwrap()
}

/// Sound, silence, sound and what is known, sealed.
fn seal(path: &Path, keys: &Keys, sounds: [&[u8]; 2], end: bool) -> Vec<u8> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let mut sealer = Sealer::begin(&mut file, 8_000, keys).unwrap();
    sealer.sound(&mut file, sounds[0]).unwrap();
    sealer.silence(&mut file, 3).unwrap();
    sealer.sound(&mut file, sounds[1]).unwrap();
    let json = serde_json::to_vec(&about()).unwrap();
    sealer.about(&mut file, &json, end).unwrap();
    std::fs::read(path).unwrap()
}

/// All that comes out of it.
fn unseal(octets: &[u8], keys: &Keys) -> Result<(Vec<u8>, Contents), Damage> {
    let mut out = Cursor::new(Vec::new());
    let contents = write_wav(Reader::open(octets, keys)?, &mut out)?;
    Ok((out.into_inner(), contents))
}

const SOUND: [&[u8]; 2] = [&[1, 2, 3, 4, 5, 6, 7, 8], &[9, 10, 11, 12]];

/// Where each chunk begins, and where the last one ends.
fn borders(octets: &[u8]) -> Vec<usize> {
    let mut borders = vec![HEADER];
    while let Some(head) = octets.get(borders[borders.len() - 1]..).filter(|rest| rest.len() > 4) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        borders.push(borders[borders.len() - 1] + format::HEAD + length);
    }
    borders
}

#[test]
fn what_was_sealed_comes_out_as_it_would_have_been_and_is_nowhere_in_the_file() {
    let dir = Dir::new("seal");
    let canary = b"the words of a caller, sixteen bits a sample, in the file ..";
    let octets = seal(&dir.0.join("x"), &a(), [canary, SOUND[1]], true);
    for secret in [&canary[..8], b"+4930123456", b"provider", &[1; 16]] {
        assert!(!octets.windows(secret.len()).any(|found| found == secret), "{secret:?}");
    }
    let (wav, contents) = unseal(&octets, &a()).unwrap();
    assert_eq!(wav[44..], [&canary[..], &[0; 12], SOUND[1]].concat());
    assert_eq!(wav[..44], crate::wav::header(8_000, 15 + 3 + 1));
    let whole = Contents {
        rate: 8_000,
        frames: 19,
        ended: true,
        about: Some(about()),
        between_keys: false,
    };
    assert_eq!(contents, whole);
    let again = seal(&dir.0.join("y"), &a(), [canary, SOUND[1]], true);
    let same = octets[HEADER..].iter().zip(&again[HEADER..]).filter(|(a, b)| a == b).count();
    assert!(same * 4 < octets.len(), "{same} octets are alike in two recordings of the same");
}

#[test]
fn every_octet_that_is_changed_is_found_out() {
    let dir = Dir::new("flip");
    let octets = seal(&dir.0.join("x"), &a(), SOUND, true);
    let good = unseal(&octets, &a()).unwrap();
    for at in 0..octets.len() {
        for bit in [at % 8, (at + 3) % 8] {
            let mut changed = octets.clone();
            changed[at] ^= 1 << bit;
            let found = unseal(&changed, &a());
            let unnoticed = found.as_ref().is_ok_and(|found| *found == good);
            assert!(!unnoticed, "bit {bit} of octet {at}");
            if let Ok((wav, contents)) = found {
                assert!(contents.between_keys && wav == good.0, "bit {bit} of octet {at}");
            }
        }
    }
    eprintln!("{} octets changed, each found out", octets.len());
}

#[test]
fn what_is_cut_off_put_elsewhere_or_taken_from_another_is_found_out() {
    let dir = Dir::new("cut");
    let octets = seal(&dir.0.join("x"), &a(), SOUND, true);
    let borders = borders(&octets);
    assert_eq!((borders.len(), borders[4]), (5, octets.len()));
    for length in 0..octets.len() {
        match unseal(&octets[..length], &a()) {
            Ok((_, contents)) => {
                assert!(borders.contains(&length) && !contents.ended, "cut at {length}");
            }
            Err(_) => assert!(!borders.contains(&length), "cut at {length}"),
        }
    }
    let chunk = |of: &[u8], n: usize| of[borders[n]..borders[n + 1]].to_vec();
    let other = seal(&dir.0.join("y"), &a(), SOUND, true);
    let head = octets[..HEADER].to_vec();
    let order = |order: &[usize]| {
        let chunks = order.iter().map(|n| chunk(&octets, *n));
        chunks.fold(head.clone(), |all, chunk| [all, chunk].concat())
    };
    assert_eq!(order(&[0, 1, 2, 3]), octets);
    for wrong in [&[1, 0, 2, 3][..], &[0, 2, 3], &[0, 0, 1, 2, 3], &[0, 1, 2, 3, 3], &[3]] {
        assert!(matches!(unseal(&order(wrong), &a()), Err(Damage::Changed { .. })), "{wrong:?}");
    }
    for n in 0..4 {
        let mut spliced = octets.clone();
        spliced[borders[n]..borders[n + 1]].copy_from_slice(&chunk(&other, n));
        assert!(
            matches!(unseal(&spliced, &a()), Err(Damage::Changed { chunk, .. }) if chunk == n as u64)
        );
    }
    let foreign = [&other[..HEADER], &octets[HEADER..]].concat();
    assert!(matches!(unseal(&foreign, &a()), Err(Damage::Changed { chunk: 0, .. })));
    assert!(matches!(unseal(&octets[..HEADER - 1], &a()), Err(Damage::Foreign)));
}

#[test]
fn what_came_before_the_damage_is_a_whole_file() {
    let dir = Dir::new("before");
    let mut octets = seal(&dir.0.join("x"), &a(), SOUND, true);
    let last = borders(&octets)[2];
    octets[last + 30] ^= 1;
    let mut out = Cursor::new(Vec::new());
    let read = write_wav(Reader::open(octets.as_slice(), &a()).unwrap(), &mut out);
    let Err(damage @ Damage::Changed { chunk: 2, frames: 5, .. }) = read else {
        panic!("{read:?}")
    };
    let says = format!("chunk 2, at octet {last}, is not what was written there");
    assert_eq!(damage.to_string(), says);
    let wav = hound::WavReader::new(Cursor::new(out.into_inner())).unwrap();
    assert_eq!(wav.duration(), 5);
}

/// What a file's key is, and the file as it was.
fn locked(octets: &[u8], keys: &Keys) -> String {
    match unseal(octets, keys) {
        Err(Damage::Locked(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_replaced_without_touching_the_sound() {
    let dir = Dir::new("rewrap");
    let path = dir.0.join("x");
    let before = seal(&path, &a(), SOUND, true);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let (b, both) = (keys(&[("b", 2)]), keys(&[("b", 2), ("a", 1)]));
    let refused = rewrap(&path, &b).unwrap_err().to_string();
    assert_eq!(refused, "it needs key a, which is not given");
    let from_a = rewrap(&path, &both).unwrap();
    assert_eq!(from_a, Rewrapped::From(both.ids().nth(1).unwrap().clone()));
    assert_eq!(rewrap(&path, &both).unwrap(), Rewrapped::Same);
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after[HEADER..], before[HEADER..]);
    assert_eq!(unseal(&after, &b).unwrap(), unseal(&before, &a()).unwrap());
    assert_eq!(locked(&after, &a()), "it needs key b, which is not given");
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), old);
    // Back again, into the other slot.
    assert!(matches!(rewrap(&path, &keys(&[("a", 1), ("b", 2)])).unwrap(), Rewrapped::From(_)));
    assert!(unseal(&std::fs::read(&path).unwrap(), &a()).is_ok());

    // Interrupted between both keys, either opens it, and that is told.
    let now = std::fs::read(&path).unwrap();
    let mut between = now.clone();
    between[SLOTS_AT + SLOT..HEADER].copy_from_slice(&after[SLOTS_AT + SLOT..HEADER]);
    std::fs::write(&path, &between).unwrap();
    for keys in [a(), b.clone()] {
        assert!(unseal(&between, &keys).unwrap().1.between_keys);
    }
    assert!(matches!(rewrap(&path, &both).unwrap(), Rewrapped::From(_)));
    let ended = std::fs::read(&path).unwrap();
    assert!(!unseal(&ended, &b).unwrap().1.between_keys);
    assert_eq!(locked(&ended, &a()), "it needs key b, which is not given");
    // A torn new slot is as good as none.
    between[SLOTS_AT + SLOT + 60..HEADER].fill(7);
    std::fs::write(&path, &between).unwrap();
    assert!(unseal(&between, &both).is_ok());
    assert!(matches!(rewrap(&path, &both).unwrap(), Rewrapped::From(_)));
    assert!(!unseal(&std::fs::read(&path).unwrap(), &b).unwrap().1.between_keys);

    let held = File::open(&path).unwrap();
    if cfg!(unix) {
        assert!(crate::disk::own(&held, false).unwrap());
        assert_eq!(rewrap(&path, &both).unwrap(), Rewrapped::Busy);
    }
}

#[test]
fn a_key_that_was_destroyed_opens_nothing() {
    let dir = Dir::new("shred");
    let path = dir.0.join("x");
    seal(&path, &a(), SOUND, true);
    let mut file = File::options().write(true).open(&path).unwrap();
    shred(&mut file).unwrap();
    let octets = std::fs::read(&path).unwrap();
    assert!(octets[SLOTS_AT..HEADER].iter().all(|octet| *octet == 0));
    assert!(locked(&octets, &a()).contains("destroyed"), "{}", locked(&octets, &a()));
}

#[test]
fn keys_are_read_by_reference_and_never_told() {
    let secret = "ab".repeat(32);
    let variable = |name: &str| match name {
        "KEY" => Some(secret.clone()),
        "OTHER" => Some("cd".repeat(32)),
        "SHORT" => Some("abcd".into()),
        "ODD" => Some(format!("{}g", &secret[1..])),
        "EMPTY" => Some("\n".into()),
        _ => None,
    };
    let read = |named: &[(&str, &str)]| Keys::read(named.iter().copied(), &variable);
    let keys = read(&[("2026-11", "env:KEY"), ("2025", "env:OTHER")]).unwrap();
    assert_eq!(format!("{keys:?}"), r#"[KeyId("2026-11"), KeyId("2025")]"#);
    for (id, reference, word) in [
        ("a", secret.as_str(), "not written here"),
        ("a", "env:SHORT", "openssl rand -hex 32"),
        ("a", "env:ODD", "64 hexadecimal digits"),
        ("a", "env:EMPTY", "is empty"),
        ("a", "env:NONE", "NONE is not set"),
        ("a", "file:/does/not/exist", "cannot read /does/not/exist"),
        ("", "env:KEY", "key id"),
        ("a b", "env:KEY", "key id"),
        (&"x".repeat(56), "env:KEY", "key id"),
    ] {
        let error = read(&[(id, reference)]).unwrap_err();
        assert!(error.contains(word) && !error.contains("abab"), "{error}");
    }
    let twice = read(&[("a", "env:KEY"), ("a", "env:OTHER")]).unwrap_err();
    assert!(twice.contains("two keys are called a"), "{twice}");
}

#[test]
fn nothing_can_follow_an_end_and_who_goes_on_takes_it_back() {
    let dir = Dir::new("end");
    let path = dir.0.join("x");
    let octets = seal(&path, &a(), SOUND, true);
    let resume = || Reader::open(octets.as_slice(), &a()).unwrap().resume().unwrap();
    let (mut sealer, contents, _) = resume();
    assert!(contents.ended);
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    sealer.cut(&mut file).unwrap();
    sealer.sound(&mut file, SOUND[0]).unwrap();
    let (wav, contents) = unseal(&std::fs::read(&path).unwrap(), &a()).unwrap();
    assert!(!contents.ended && wav.ends_with(SOUND[0]));
    // By whom has its key, even.
    sealer.about(&mut file, b"", true).unwrap();
    sealer.sound(&mut file, SOUND[0]).unwrap();
    let more = unseal(&std::fs::read(&path).unwrap(), &a());
    assert!(matches!(more, Err(Damage::Changed { chunk: 5, .. })), "{more:?}");
}

#[test]
fn a_recording_goes_on_where_it_was_cut_and_uses_no_nonce_twice() {
    let dir = Dir::new("go-on");
    let path: PathBuf = dir.0.join("x");
    let octets = seal(&path, &a(), SOUND, false);
    for more in [0, 1, 30, 60] {
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        file.set_len(octets.len() as u64).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(&random::<60>().unwrap()[..more]).unwrap();
        let reader = Reader::open(octets.as_slice(), &a()).unwrap();
        let (mut sealer, contents, _) = reader.resume().unwrap();
        assert_eq!((contents.frames, contents.ended), (6, false));
        sealer.cut(&mut file).unwrap();
        sealer.sound(&mut file, SOUND[0]).unwrap();
        // Told anew after a failure: the same place, another nonce.
        let first = std::fs::read(&path).unwrap();
        sealer.take_back(&mut file).unwrap();
        sealer.sound(&mut file, SOUND[0]).unwrap();
        let second = std::fs::read(&path).unwrap();
        assert_eq!(first.len(), second.len());
        let nonce = octets.len() + 9..octets.len() + format::HEAD;
        assert_ne!(first[nonce.clone()], second[nonce]);
        sealer.about(&mut file, b"", true).unwrap();
        let (wav, contents) = unseal(&std::fs::read(&path).unwrap(), &a()).unwrap();
        assert!(contents.ended && wav.ends_with(SOUND[0]), "{more} octets behind it");
        assert_eq!(contents.about, Some(about()), "the last that tells anything");
    }
}
