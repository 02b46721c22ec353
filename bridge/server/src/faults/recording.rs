//! Recordings that a bridge under test made, held against what the callers said: each frame says its number in the file as well. Makes
//! and repairs none.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;

use ringback_codecs::{Encoding, Endian, MediaFormat, wav};
use serde_json::Value;

use super::bridge::ECHO;
use super::row::Row;
use crate::bench::{Heard, Hearing, Stamp};

/// Where [`recorded`] puts them, in a bridge's folder.
const FOLDER: &str = "recordings";

/// A bridge that echoes; calls at `/recorded` are recorded in its folder as well.
pub(super) fn recorded() -> String {
    recorded_in(Path::new(FOLDER))
}

/// The same with another folder.
pub(super) fn recorded_in(folder: &Path) -> String {
    let folder = Value::from(folder.to_string_lossy());
    format!(
        "{ECHO}[[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {folder} }}\n\
         [[route]]\nname = \"plain\"\nmodules = [\"echo\"]\n\
         [[route]]\nname = \"recorded\"\nmodules = [\"echo\", \"recorder\"]\nspeaker = \"echo\"\n\
         [[listener]]\nname = \"twilio\"\npath = \"/twilio\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"plain\"\n\
         [[listener]]\nname = \"recorded\"\npath = \"/recorded\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"recorded\"\n"
    )
}

/// There are `count` recordings and nothing half made, each says of itself that it is `state`, if one is wanted, and holds at least the
/// first `least` frames that its caller said: all of them, each once, in order.
pub(super) fn check(row: &mut Row, folder: &Path, count: usize, least: u64, state: Option<&str>) {
    let (mut files, mut parts) = (Vec::new(), 0);
    for entry in fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten() {
        match entry.path().extension().and_then(|ending| ending.to_str()) {
            Some("wav") => files.push(entry.path()),
            Some("part") => parts += 1,
            _ => {}
        }
    }
    row.must(files.len() == count, || format!("{} recordings of {count} calls", files.len()));
    row.must(parts == 0, || format!("{parts} recordings are half made"));
    let (mut shortest, mut states) = (None, BTreeMap::<_, u32>::new());
    for file in &files {
        match frames_in(file) {
            Ok(frames) => shortest = Some(shortest.map_or(frames, |least: u64| least.min(frames))),
            Err(error) => row.wrong.push(format!("{}: {error}", file.display())),
        }
        *states.entry(state_of(file)).or_default() += 1;
    }
    row.must(state.is_none_or(|state| states.keys().all(|found| found == state)), || {
        format!("recordings say of themselves that they are {states:?}")
    });
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let shortest = shortest.unwrap_or_default();
    row.notes.push(format!(
        "{} recordings ({}); each holds its caller's first {shortest} frames and more, at least {least} must be",
        files.len(),
        states.join(", ")
    ));
    row.must(least > 0, || "no frame must be in the recordings: the calls were too short".into());
    row.must(shortest >= least, || {
        format!("a recording holds its caller's first {shortest} frames, and must hold {least}")
    });
}

/// How many frames of the caller a file holds until one is missing, comes twice or in another order.
fn frames_in(file: &Path) -> Result<u64, String> {
    let reader = fs::File::open(file).map_err(|error| error.to_string())?;
    let wav = wav::read(BufReader::new(reader)).map_err(|error| error.to_string())?;
    let format = MediaFormat::mono(Encoding::L16(Endian::Little), wav.rate);
    let stamp = Stamp::new(format).ok_or_else(|| format!("{format} carries no numbers"))?;
    let caller = wav.samples.iter().step_by(usize::from(wav.channels.max(1)));
    let octets: Vec<u8> = caller.flat_map(|sample| sample.to_le_bytes()).collect();
    let (mut next, mut whole) = (0, true);
    Hearing::default().hear(&stamp, 0, &octets, |heard| {
        whole &= heard == Heard::Frame(next);
        next += u32::from(whole);
    });
    Ok(u64::from(next))
}

/// What the file beside a recording says that it is.
fn state_of(file: &Path) -> String {
    let about = fs::read(file.with_extension("json")).unwrap_or_default();
    let about: Value = serde_json::from_slice(&about).unwrap_or_default();
    about["state"].as_str().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ringback_codecs::SampleRate;

    use super::*;

    /// A folder with one recording of these frames of the caller.
    fn folder(name: &str, numbers: &[u32]) -> PathBuf {
        let format = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000);
        let stamp = Stamp::new(format).expect("this format can");
        let (mut frame, mut samples) = (Vec::new(), Vec::new());
        for &number in numbers {
            stamp.write(number, 0, &mut frame);
            let pairs = frame.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            samples.extend(pairs.flat_map(|sample| [sample, 0]));
        }
        let folder =
            std::env::temp_dir().join(format!("ringback-recording-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join(FOLDER)).expect("a folder");
        let file = fs::File::create(folder.join(FOLDER).join("call.wav")).expect("a file");
        let mut writer = wav::Writer::new(file, SampleRate::HZ_8000, 2).expect("a header");
        writer.write(&samples).expect("room");
        writer.finish().expect("room");
        folder
    }

    #[test]
    fn a_recording_must_hold_the_frames_and_not_only_be_long() {
        for (name, numbers, least, fails) in [
            ("whole", &[0, 1, 2, 3][..], 3, false),
            ("short", &[0, 1], 3, true),
            ("hole", &[0, 2, 3, 4], 3, true),
            ("twice", &[0, 1, 1, 2], 3, true),
            ("nothing", &[], 0, true),
        ] {
            let folder = folder(name, numbers);
            let mut row = Row::default();
            check(&mut row, &folder, 1, least, None);
            assert_eq!(!row.wrong.is_empty(), fails, "{name}: {row:?}");
            fs::remove_dir_all(&folder).expect("it is there");
        }
    }
}
