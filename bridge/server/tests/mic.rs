//! `ringback mic` from microphone to speaker without hardware: the test is the sound card.
//!
//! ALSA's `null` device is of no use as it is: it is always ready, so it gives and takes sound hundreds of times faster than real
//! time, and so do `file`, `plug` and `rate` on top of it (`ringback mic` refuses such a device, which is tested here too). Kernel
//! modules that make a paced card (`snd-aloop`, `snd-dummy`) need rights that a test does not have. But `file` reads its `infile`
//! and writes its `file` with plain blocking calls. With FIFOs for files, whoever holds their other ends sets the pace. This test
//! does, 20 ms of sound at a time, and so is the card's crystal.
//!
//! - One piece is one callback of the program: of a read that comes short, `file` makes a whole one with silence at its end.
//!   Linux writes a piece in one go while there is room, so that a reader never sees a part of it.
//! - The speaker's FIFO and ALSA's own buffer fill before they block: 64 KiB are 170 ms of two 32-bit channels at 48 kHz.
//! - Both FIFOs are open for reading and writing here, so that ALSA, which opens a device several times, never waits for a second
//!   end and never sees the end of the file.
#![cfg(all(feature = "mic", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use ringback_codecs::{Resampler, SampleRate, wav};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

const RINGBACK: &str = env!("CARGO_BIN_EXE_ringback");
/// Octets of a sample group: two channels of `f32`.
const FRAME: usize = 8;
/// What is moved at a time, which is also what `ringback mic` asks devices for.
const PERIOD: Duration = Duration::from_millis(20);
/// Its octets.
const PIECE: usize = 960 * FRAME;

#[tokio::test]
async fn the_microphone_is_recorded_by_the_bridge_and_its_echo_played_by_the_speaker() {
    let card = Card::new("echo");
    let recordings = card.dir.join("recordings");
    let mut bridge = command(&card)
        .args(["serve", "--no-config", "--bind", "127.0.0.1:0", "--record"])
        .arg(&recordings)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let url = format!("ws://{}/twilio", listening(&mut bridge).await);
    let saved = card.dir.join("heard.wav");
    let mic = command(&card)
        .args(["mic", "--input", "rb_in", "--output", "rb_out", "--seconds", "6", "--json"])
        .args(["--provider", "twilio", "--url", &url, "--save"])
        .arg(&saved)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sentence = sentence();
    let (output, played) = card.run(mic, &sentence).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{problems}");
    for device in ["rb_in: 48000 Hz, 2 channels, f32", "rb_out: 48000 Hz, 2 channels, f32"] {
        assert!(text.contains(device), "the card is of another kind than this test: {text}");
    }
    terminate(bridge).await;

    let recording = read_only_file(&recordings);
    assert_eq!((recording.rate, recording.channels), (SampleRate::HZ_8000, 2));
    let channel = |n: usize| recording.samples.iter().skip(n).step_by(2).copied().collect();
    let caller: Vec<i16> = channel(0);
    let heard = wav::read(std::fs::File::open(&saved).unwrap()).unwrap();
    let from_speaker = resampled(&played, SampleRate::HZ_48000, SampleRate::HZ_8000);
    for (place, sound) in [
        ("caller's channel of the recording", &caller),
        ("file of what was heard", &heard.samples),
        ("speaker", &from_speaker),
    ] {
        let found = quarters(voice(&sentence), sound);
        let good = found.iter().filter(|found| found.correlation > 0.8).count();
        assert!(good >= 3, "{place}: {found:?}\n{text}");
    }
}

#[tokio::test]
async fn ctrl_c_hangs_up() {
    let card = Card::new("hang-up");
    let mut bridge = command(&card)
        .args(["serve", "--no-config", "--bind", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let url = format!("ws://{}/asterisk", listening(&mut bridge).await);
    let args = ["mic", "--input", "rb_in", "--output", "rb_out", "--provider", "asterisk"];
    let mut mic = command(&card)
        .args(args)
        .args(["--url", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = mic.id().unwrap().to_string();
    let mut lines = BufReader::new(mic.stdout.take().unwrap()).lines();
    let said = tokio::spawn(async move {
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("playback-began") {
                signal("INT", &id).await;
            }
            said.push(line);
        }
        said
    });
    let (output, _) = card.run(mic, &[]).await;
    let said = said.await.unwrap();
    assert!(output.status.success(), "{said:?} {}", String::from_utf8_lossy(&output.stderr));
    let last = said.iter().rev().take(3).rev().map(|line| line.split_whitespace().next().unwrap());
    assert_eq!(last.collect::<Vec<_>>(), ["sent", "microphone:", "speaker:"], "{said:?}");
    terminate(bridge).await;
}

#[tokio::test]
async fn a_device_without_a_pace_is_refused() {
    let card = Card::new("unpaced");
    let mut bridge = command(&card)
        .args(["serve", "--no-config", "--bind", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let url = format!("ws://{}/raw", listening(&mut bridge).await);
    for (input, output, fault) in
        [("nothing", "rb_out", "microphone"), ("rb_in", "nothing", "speaker")]
    {
        let args =
            ["mic", "--input", input, "--output", output, "--provider", "raw", "--url", &url];
        let mic = command(&card)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The other device is a good one.
        let (output, _) = card.run(mic, &[]).await;
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(69), "{problem}");
        let wanted = format!("the {fault} \"nothing\" runs faster than real time");
        assert!(problem.contains(&wanted), "{problem}");
    }
    terminate(bridge).await;
}

#[tokio::test]
async fn devices_are_listed_and_a_missing_one_says_what_to_do() {
    let card = Card::new("missing");
    let listed = command(&card).args(["mic", "--list"]).output().await.unwrap();
    let list = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success(), "{list}");
    for line in ["* default", "  rb_in    the test's microphone", "  rb_out   the test's speaker"] {
        assert!(list.lines().any(|found| found.starts_with(line)), "{line:?} is not in\n{list}");
    }
    // The card has no default, and no device of that name; nobody is called.
    for (args, advice) in [
        (&["mic"][..], "choose another of `ringback mic --list` with --input"),
        (&["mic", "--input", "usb"], "choose one of these with --input: default, rb_in, rb_out"),
        (&["mic", "--input", "rb_in", "--output", "usb"], "with --output: default, rb_in, rb_out"),
        (&["mic", "--input", "rb_"], "give one of these names in full"),
    ] {
        let missing = command(&card).args(args).output().await.unwrap();
        let problem = String::from_utf8_lossy(&missing.stderr).into_owned();
        assert_eq!(missing.status.code(), Some(69), "{args:?}: {problem}");
        assert!(problem.contains(advice), "{args:?}: {problem}");
    }
}

/// A sound card: a folder with its ALSA configuration, and the far ends of the FIFOs that are its jacks.
struct Card {
    dir: PathBuf,
    microphone: pipe::Sender,
    speaker: pipe::Receiver,
}

impl Card {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mic-{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let [input, output] = ["in", "out"].map(|name| dir.join(name));
        let made = std::process::Command::new("mkfifo").args([&input, &output]).status().unwrap();
        assert!(made.success(), "mkfifo");
        let file = |name: &str, what: &str, to: &str, from: &str| {
            format!(
                "pcm.{name} {{ type file format raw slave.pcm {{ type null }} file \"{to}\" {from} \
                 hint {{ show on description \"the test's {what}\" }} }}\n"
            )
        };
        let config = [
            file("rb_in", "microphone", "/dev/null", &format!("infile \"{}\"", input.display())),
            file("rb_out", "speaker", &output.display().to_string(), ""),
            "pcm.nothing { type null hint { show on description \"no hardware\" } }\n".to_owned(),
        ]
        .concat();
        std::fs::write(dir.join("asound.conf"), config).unwrap();
        let mut both = pipe::OpenOptions::new();
        both.read_write(true);
        let microphone = both.open_sender(&input).unwrap();
        let speaker = both.open_receiver(&output).unwrap();
        Self { dir, microphone, speaker }
    }

    /// Speaks `voice` into the microphone from when the speaker is first used, and gives how `program` ended and what the
    /// speaker played, at 48 kHz.
    async fn run(&self, program: Child, voice: &[i16]) -> (Output, Vec<i16>) {
        let mut wave = Vec::new();
        for &sample in &resampled(voice, SampleRate::HZ_8000, SampleRate::HZ_48000) {
            let sample = (f32::from(sample) / 32_768.0).to_ne_bytes();
            wave.extend_from_slice(&[sample, sample].concat());
        }
        let mut played = Vec::new();
        let ended = {
            let crystal = self.crystal(&wave, &mut played);
            tokio::select! {
                ended = program.wait_with_output() => ended.unwrap(),
                () = crystal => unreachable!("it runs for ever"),
            }
        };
        let sample = |frame: &[u8]| f32::from_ne_bytes(frame[..4].try_into().unwrap());
        let played = played.chunks_exact(FRAME).map(|frame| (sample(frame) * 32_768.0) as i16);
        (ended, played.collect())
    }

    /// Moves a period each way every period.
    async fn crystal(&self, wave: &[u8], played: &mut Vec<u8>) {
        self.speaker.readable().await.unwrap();
        let mut ticks = tokio::time::interval(PERIOD);
        let mut pieces = wave.chunks_exact(PIECE);
        let mut rest: &[u8] = &[];
        let mut buffer = [0; PIECE];
        loop {
            ticks.tick().await;
            if rest.is_empty() {
                rest = pieces.next().unwrap_or(&[0; PIECE]);
            }
            // A microphone that nobody reads keeps what it has.
            rest = &rest[self.microphone.try_write(rest).unwrap_or(0)..];
            if let Ok(read) = self.speaker.try_read(&mut buffer) {
                played.extend_from_slice(&buffer[..read]);
            }
        }
    }
}

fn command(card: &Card) -> Command {
    let mut command = Command::new(RINGBACK);
    command.env("ALSA_CONFIG_PATH", card.dir.join("asound.conf")).kill_on_drop(true);
    command
}

/// Where a bridge says it listens.
async fn listening(bridge: &mut Child) -> String {
    let mut lines = BufReader::new(bridge.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("listening on http://") {
            let address = address.to_owned();
            // Nobody reads the rest, but it must be able to write.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address;
        }
    }
    panic!("the bridge ended before it listened");
}

/// Ends a bridge as a supervisor does, so that its recordings are whole.
async fn terminate(mut bridge: Child) {
    let id = bridge.id().unwrap().to_string();
    signal("TERM", &id).await;
    assert!(bridge.wait().await.unwrap().success());
}

async fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args(["-s", name, process]).status().await.unwrap().success());
}

fn sentence() -> Vec<i16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-audio/sentence.wav");
    let sound = wav::read(std::fs::File::open(path).unwrap()).unwrap();
    assert_eq!((sound.rate, sound.channels), (SampleRate::HZ_8000, 1));
    sound.samples
}

/// The part of the sentence that is speech, as its manifest says: 490 to 2,670 ms.
fn voice(sentence: &[i16]) -> &[i16] {
    &sentence[490 * 8..2_670 * 8]
}

fn resampled(samples: &[i16], from: SampleRate, to: SampleRate) -> Vec<i16> {
    let mut out = Vec::new();
    let mut resampler = Resampler::new(from, to);
    resampler.process(samples, &mut out);
    resampler.finish(&mut out);
    out
}

fn read_only_file(dir: &Path) -> wav::Wav {
    let files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> =
        files.iter().filter(|path| path.extension().is_some_and(|e| e == "wav")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    wav::read(std::fs::File::open(files[0]).unwrap()).unwrap()
}

/// Where a sound was found, in samples, and how much of it (1 is all).
#[derive(Debug, Clone, Copy)]
struct Found {
    at: usize,
    correlation: f64,
}

/// Finds the quarters of `wanted` in `sound`, each within a third of a second of where it belongs by the place of the whole: if this
/// machine stalls, there is a gap where it did, and one quarter may be torn.
fn quarters(wanted: &[i16], sound: &[i16]) -> [Found; 4] {
    let last = sound.len().checked_sub(wanted.len()).expect("as long as what is wanted");
    let whole = best(wanted, sound, 0..=last, 64).at;
    let length = wanted.len() / 4;
    std::array::from_fn(|n| {
        let place = whole + n * length;
        let near = place.saturating_sub(2_667)..=(place + 2_667).min(sound.len() - length);
        let wanted = &wanted[n * length..(n + 1) * length];
        let rough = best(wanted, sound, near, 16).at;
        best(wanted, sound, rough.saturating_sub(4)..=(rough + 4).min(sound.len() - length), 1)
    })
}

/// The best of these places for `wanted`, by every `step`-th sample.
fn best(wanted: &[i16], sound: &[i16], places: RangeInclusive<usize>, step: usize) -> Found {
    let found = places.map(|at| Found { at, correlation: correlation(wanted, &sound[at..], step) });
    found.max_by(|a, b| a.correlation.total_cmp(&b.correlation)).expect("a place")
}

/// Normalised correlation of `wanted` with as much of the beginning of `sound`, of every `step`-th sample.
fn correlation(wanted: &[i16], sound: &[i16], step: usize) -> f64 {
    let (mut product, mut power) = (0i64, [0i64; 2]);
    for (&a, &b) in wanted.iter().step_by(step).zip(sound.iter().step_by(step)) {
        let (a, b) = (i64::from(a), i64::from(b));
        product += a * b;
        power[0] += a * a;
        power[1] += b * b;
    }
    product as f64 / ((power[0] as f64) * (power[1] as f64)).sqrt().max(1.0)
}
