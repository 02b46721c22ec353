//! What a killed process may leave, and what becomes of it.

use std::fs::File;

use super::*;
use crate::tests::{Dir, names};
use crate::wav::header;

fn outcomes(dir: &Dir) -> Vec<Outcome> {
    repair(&dir.0, &Keys::default())
        .unwrap()
        .into_iter()
        .map(|(_, outcome)| outcome.unwrap())
        .collect()
}

/// A recording that nobody makes any more: so much sound, and so many octets behind it.
fn left(dir: &Dir, name: &str, frames: u64, more: usize) {
    let mut octets = header(8_000, frames / 2).to_vec();
    octets.resize(octets.len() + frames as usize * 4 + more, 7);
    fs::write(dir.0.join(name), octets).unwrap();
}

fn about(state: State, ms: u64) -> About {
    let json = serde_json::json!({
        "v": 1, "call": "c", "provider": "test", "began": "", "rate": 8000, "ms": ms, "state": state,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_recording_that_was_left_is_good_again_and_repaired_once() {
    let dir = Dir::new("repair");
    left(&dir, "a.wav.part", 8_000, 3);
    about(State::Recording, 0).write(&dir.0.join("a.wav")).unwrap();
    left(&dir, "b.wav.part", 400, 0);
    about(State::Finished, 50).write(&dir.0.join("b.wav")).unwrap();
    let long_ago =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options()
        .write(true)
        .open(dir.0.join("a.wav.part"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    fs::write(dir.0.join("b.json.part"), "{").unwrap();
    fs::write(dir.0.join("b.wav.reserve"), "").unwrap();
    let (a, b) = (dir.0.join("a.wav"), dir.0.join("b.wav"));
    let recovered = |path: &PathBuf, ms| Outcome::Recovered { path: path.clone(), ms };
    assert_eq!(outcomes(&dir), [recovered(&a, 1_000), recovered(&b, 50)]);
    assert_eq!(names(&dir.0), ["a.json", "a.wav", "b.json", "b.wav"]);
    let wav = hound::WavReader::open(&a).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.duration()), (8_000, 8_000));
    assert_eq!(fs::metadata(&a).unwrap().len(), 44 + 32_000);
    assert_eq!(fs::metadata(&a).unwrap().modified().unwrap(), long_ago);
    assert_eq!(About::read(&a).unwrap(), Some(about(State::Recovered, 1_000)));
    assert_eq!(About::read(&b).unwrap(), Some(about(State::Finished, 50)), "nothing was lost");
    assert_eq!(outcomes(&dir), [], "there is nothing left to do");
    assert_eq!(names(&dir.0), ["a.json", "a.wav", "b.json", "b.wav"]);
}

#[test]
fn what_a_recording_is_said_to_lack_stays_said() {
    let dir = Dir::new("said");
    let gaps = vec![crate::Gap { from_ms: 10, to_ms: 20 }];
    for (name, state) in [("a", State::Cut), ("b", State::Failed)] {
        let path = dir.0.join(name).with_extension("wav");
        // Killed between the last word and the new name; of what failed more may be there than is known to be.
        left(&dir, &format!("{name}.wav.part"), 8_800, 0);
        let said = About { missing_ms: 700, gaps: gaps.clone(), ..about(state, 1_000) };
        said.write(&path).unwrap();
        assert_eq!(outcomes(&dir), [Outcome::Recovered { path: path.clone(), ms: 1_100 }]);
        assert_eq!(About::read(&path).unwrap(), Some(About { ms: 1_100, ..said }));
    }
}

#[test]
fn nothing_is_lost_to_a_name_that_is_taken() {
    let dir = Dir::new("taken");
    fs::write(dir.0.join("a.wav"), "of another call").unwrap();
    for n in ["a.recovered.wav", "a.recovered-2.wav"] {
        left(&dir, "a.wav.part", 80, 0);
        assert_eq!(outcomes(&dir), [Outcome::Recovered { path: dir.0.join(n), ms: 10 }]);
    }
    assert_eq!(fs::read(dir.0.join("a.wav")).unwrap(), b"of another call");
}

#[test]
fn what_is_no_recording_is_left_alone_and_one_that_never_began_is_gone() {
    let dir = Dir::new("foreign");
    fs::write(dir.0.join("film.wav.part"), vec![9; 1_000]).unwrap();
    fs::write(dir.0.join("note.wav.part"), "short").unwrap();
    fs::write(dir.0.join("other.part"), vec![9; 1_000]).unwrap();
    fs::write(dir.0.join("nothing.wav.part"), "").unwrap();
    fs::write(dir.0.join("torn.wav.part"), "RIFF....WA").unwrap();
    about(State::Recording, 0).write(&dir.0.join("torn.wav")).unwrap();
    let wanted = [Outcome::Unknown, Outcome::Unknown, Outcome::Empty, Outcome::Empty];
    let mut found = outcomes(&dir);
    found.sort_by_key(|outcome| *outcome == Outcome::Empty);
    assert_eq!(found, wanted);
    assert_eq!(names(&dir.0), ["film.wav.part", "note.wav.part", "other.part"]);
    assert!(repair(&dir.0.join("nowhere"), &Keys::default()).unwrap().is_empty());
    assert!(repair(&dir.0.join("other.part"), &Keys::default()).is_err(), "no folder");
}

#[cfg(unix)]
#[test]
fn one_that_somebody_makes_is_theirs() {
    let dir = Dir::new("busy");
    left(&dir, "a.wav.part", 80, 1);
    let theirs = File::open(dir.0.join("a.wav.part")).unwrap();
    assert!(disk::own(&theirs, false).unwrap());
    assert_eq!(outcomes(&dir), [Outcome::Busy]);
    assert_eq!(fs::metadata(dir.0.join("a.wav.part")).unwrap().len(), 44 + 321, "as it was");
    drop(theirs);
    assert_eq!(outcomes(&dir), [Outcome::Recovered { path: dir.0.join("a.wav"), ms: 10 }]);
}

#[cfg(feature = "encryption")]
mod sealed {
    use serde_json::json;

    use super::*;
    use crate::tests::{give, key_in, left_by_a_kill, start, unseal};
    use crate::vault::Contents;

    /// A folder with a recording that was cut short behind three seconds, and its key.
    fn cut_short(name: &str) -> (Dir, Keys, Contents) {
        let dir = Dir::new(name);
        let encrypt = key_in(&dir.0);
        let config = json!({"dir": dir.0.join("r"), "encrypt": encrypt});
        let mut recorder = start("s", &config).unwrap();
        for n in 0..150 {
            give(&mut recorder, 0, n * 160, &[7; 160]).1.unwrap();
            give(&mut recorder, 1, n * 160, &[8; 160]).1.unwrap();
        }
        left_by_a_kill(recorder);
        let part = dir.0.join("r/s.wav.sealed.part");
        let octets = fs::read(&part).unwrap();
        // And the beginning of a chunk.
        fs::write(&part, [&octets[..], &octets[300..340]].concat()).unwrap();
        let keys = crate::check(&config, &|_| None).unwrap().keys.unwrap();
        let before = unseal(&octets, &keys).1;
        (dir, keys, before)
    }

    #[test]
    fn one_is_good_again_without_its_key_but_has_no_end() {
        let (dir, keys, before) = cut_short("sealed-keyless");
        let path = dir.0.join("r/s.wav.sealed");
        let found = repair(&dir.0.join("r"), &Keys::default()).unwrap();
        let recovered = Outcome::Recovered { path: path.clone(), ms: 3_000 };
        assert_eq!(found.into_iter().map(|(_, o)| o.unwrap()).collect::<Vec<_>>(), [recovered]);
        assert_eq!(names(&dir.0.join("r")), ["s.wav.sealed"]);
        let (wav, contents) = unseal(&fs::read(&path).unwrap(), &keys);
        assert_eq!((contents.clone(), contents.ended, contents.ms()), (before, false, 3_000));
        assert!(wav[44..].chunks(4).all(|frame| frame == [7, 0, 8, 0]));
    }

    #[test]
    fn one_is_whole_again_with_its_key() {
        let (dir, keys, _) = cut_short("sealed-key");
        let part = dir.0.join("r/s.wav.sealed.part");
        // A chunk that is whole but not what was written, as a power cut leaves it.
        let octets = fs::read(&part).unwrap();
        let last = octets.len() - 40 - 10;
        let mut octets = octets[..octets.len() - 40].to_vec();
        octets[last..].fill(0);
        fs::write(&part, &octets).unwrap();
        repair(&dir.0.join("r"), &keys).unwrap()[0].1.as_ref().unwrap();
        let (_, contents) = unseal(&fs::read(dir.0.join("r/s.wav.sealed")).unwrap(), &keys);
        let about = contents.about.clone().unwrap();
        assert_eq!((contents.ended, contents.ms()), (true, 2_900));
        assert_eq!((about.state, about.ms), (State::Recovered, 2_900));
    }

    #[test]
    fn what_stands_behind_a_damage_is_not_cut_off() {
        // In the sound of a chunk, and in what says how long one is; with its key, and without.
        for (name, damaged, with_key) in
            [("sound", 600, true), ("head", 0, true), ("keyless-head", 0, false)]
        {
            let (dir, keys, _) = cut_short(&format!("sealed-middle-{name}"));
            let part = dir.0.join("r/s.wav.sealed.part");
            let mut octets = fs::read(&part).unwrap();
            let mut at = vault::SHORTEST as usize;
            for _ in 0..5 {
                at += 21 + u32::from_le_bytes(octets[at..at + 4].try_into().unwrap()) as usize;
            }
            octets[at + damaged..at + damaged + 4].fill(0xFF);
            fs::write(&part, &octets).unwrap();
            let keys = if with_key { keys } else { Keys::default() };
            let found = repair(&dir.0.join("r"), &keys).unwrap();
            let path = dir.0.join("r/s.wav.sealed");
            let wanted = Outcome::Damaged { path: path.clone(), at: at as u64 };
            assert_eq!(*found[0].1.as_ref().unwrap(), wanted, "{name}");
            assert!(fs::read(&path).unwrap() == octets, "{name}: as it was");
        }
    }

    #[test]
    fn one_of_which_there_is_half_a_header_never_began() {
        let (dir, _, _) = cut_short("sealed-half");
        let part = dir.0.join("r/s.wav.sealed.part");
        let octets = fs::read(&part).unwrap();
        fs::write(&part, &octets[..200]).unwrap();
        assert_eq!(
            *repair(&dir.0.join("r"), &Keys::default()).unwrap()[0].1.as_ref().unwrap(),
            Outcome::Empty
        );
        assert_eq!(names(&dir.0.join("r")), [""; 0]);
    }
}
