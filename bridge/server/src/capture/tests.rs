//! Tests of what happens where there is no room: in the queue, in a file, in the folder.

use std::sync::mpsc::Receiver;

use ringback_proto::provider::{Message, Outbox, find};
use ringback_proto::transcript::{Transcript, Wire};
use serde_json::json;

use super::*;
use crate::telemetry::METRICS;

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringback-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn options(&self) -> CaptureOptions {
        let mib = 1024 * 1024;
        CaptureOptions {
            dir: self.0.clone(),
            sound: Sound::Silence,
            max_file: mib,
            max_total: mib,
            max_files: 3,
        }
    }

    fn transcript(&self, call: &str) -> Transcript {
        let path = self.0.join("raw").join(format!("{call}.jsonl"));
        Transcript::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Writes all that is queued.
    fn write(&self, options: &CaptureOptions, capture: Capture, items: &Receiver<Item>) {
        let octets = Arc::clone(&capture.inner.octets);
        drop(capture);
        writer::run(options, file::Held::count(&self.0).unwrap(), items, &octets);
        assert!(octets.take(QUEUE_OCTETS), "what was taken is no longer counted");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A capture of which nobody takes anything from the queue.
fn capture(queue: usize) -> (Capture, Receiver<Item>) {
    let (queue, items) = sync_channel(queue);
    let inner = Inner {
        queue,
        octets: Arc::new(Budget::new(QUEUE_OCTETS)),
        tapes: AtomicU64::new(0),
        overload: OnceLock::new(),
    };
    (Capture { inner: Arc::new(inner) }, items)
}

fn tape(capture: &Capture, call: &str) -> Tape {
    let provider = find("raw").unwrap();
    let upgrade = Upgrade { target: "/raw", public_url: None, headers: &[] };
    let opening = Opening::new(provider, "raw", "/raw", &Options::default(), &upgrade, None);
    capture.tape(Instant::ZERO, call, opening)
}

fn closes(transcript: &Transcript) -> Vec<u16> {
    let code = |wire: &Wire| if let Wire::Close(code) = wire { *code } else { 0 };
    transcript.lines.iter().map(|line| code(&line.wire)).collect()
}

#[test]
fn with_too_much_to_do_messages_are_left_out_and_counted_and_calls_are_not() {
    let (capture, items) = capture(100);
    let overload = Overload::default();
    let capture = capture.yielding_to(overload.clone());
    let tape = tape(&capture, "a");
    let upgrade = Upgrade { target: "/raw", public_url: None, headers: &[] };
    let accepted = find("raw").unwrap().accept(&upgrade, &Options::default()).unwrap();
    let mut captured = Captured::boxed(accepted.protocol, tape);
    let mut hear = |now| {
        let mut out = Outbox::default();
        let now = Instant::from_millis(now);
        captured.handle_message(now, Message::Binary(&[0; 320]), &mut out).unwrap();
        out.events().len()
    };
    let heard = hear(20);
    overload.pretend(true);
    let before = METRICS.capture_messages_dropped.get();
    assert!(heard > 0 && hear(40) > 0 && hear(60) > 0, "the call hears all of it");
    assert!(METRICS.capture_messages_dropped.get() >= before + 2);
    overload.pretend(false);
    assert!(hear(80) > 0);
    let said: Vec<_> = items.try_iter().collect();
    let missing: Vec<_> =
        said.iter().map(|item| (item.at.since_epoch().as_millis(), item.missing)).collect();
    assert!(missing.contains(&(80, 2)), "{missing:?}");
    assert!(!missing.iter().any(|(at, _)| [40, 60].contains(at)), "{missing:?}");
}

#[test]
fn what_does_not_fit_the_queue_is_counted_where_it_is_missing() {
    let folder = Folder::new("capture-queue");
    let (capture, items) = capture(3);
    let said = tape(&capture, "a");
    let now = Instant::from_millis(20);
    for code in [1, 2, 3, 4] {
        said.closed(now, Direction::In, code);
    }
    // Two fitted behind the beginning. There is room again, and then no more for the end.
    let mut taken: Vec<_> = items.try_iter().collect();
    said.closed(now, Direction::In, 5);
    taken.extend(items.try_iter());
    let (behind, rest) = sync_channel(16);
    taken.into_iter().for_each(|item| behind.try_send(item).unwrap());
    drop((said, behind));
    folder.write(&folder.options(), capture, &rest);
    let transcript = folder.transcript("a");
    assert_eq!(closes(&transcript), [1, 2, 5]);
    let [(line, words)] = transcript.notes.as_slice() else { panic!("{:?}", transcript.notes) };
    assert_eq!(*line, 4, "before the fifth, behind the second");
    assert!(words.starts_with("2 messages are missing here"), "{words}");
}

#[test]
fn a_call_whose_end_did_not_fit_is_not_ended_before_all_that_did() {
    const BUSY: usize = 64 * 1024;
    let folder = Folder::new("capture-busy");
    let (capture, items) = capture(BUSY + 3);
    let (said, other) = (tape(&capture, "a"), tape(&capture, "b"));
    for _ in 0..BUSY {
        other.closed(Instant::ZERO, Direction::In, 1);
    }
    said.closed(Instant::ZERO, Direction::In, 2);
    drop((said, other));
    let options = CaptureOptions { max_file: 1_200, ..folder.options() };
    folder.write(&options, capture, &items);
    assert_eq!(closes(&folder.transcript("a")), [2], "the last that was said");
}

#[test]
fn messages_wait_by_their_octets_as_well() {
    let (capture, items) = capture(1_000);
    let big = |octets: usize| Item {
        state: Arc::default(),
        at: Instant::ZERO,
        missing: 0,
        what: What::Said {
            direction: Direction::In,
            kind: Kind::Binary,
            octets: vec![0; octets],
            facts: Facts::default(),
        },
    };
    assert!(capture.inner.send(big(QUEUE_OCTETS)));
    assert!(!capture.inner.send(big(1)), "there is no room for another octet");
    drop(items);
    assert!(!capture.inner.send(big(0)), "nobody writes any more");
}

#[test]
fn a_full_file_ends_with_a_note_and_no_more_is_copied_for_it() {
    let folder = Folder::new("capture-file");
    let options = CaptureOptions { max_file: 1_200, ..folder.options() };
    let (capture, items) = capture(1_000);
    let (long, short) = (tape(&capture, "long"), tape(&capture, "short"));
    for _ in 0..100 {
        long.closed(Instant::ZERO, Direction::Out, 1000);
    }
    short.closed(Instant::ZERO, Direction::Out, 1000);
    drop((long, short));
    folder.write(&options, capture, &items);
    let (full, whole) = (folder.transcript("long"), folder.transcript("short"));
    assert!(full.lines.len() < 100 && full.notes[0].1.contains("limit"), "{:?}", full.notes);
    assert_eq!((whole.lines.len(), whole.notes.len()), (1, 0), "the other is not concerned");
    let length = std::fs::metadata(folder.0.join("raw/long.jsonl")).unwrap().len();
    assert!(length <= options.max_file, "{length} octets");
}

#[test]
fn a_full_folder_ends_the_file_that_is_written_with_a_note() {
    let folder = Folder::new("capture-full-folder");
    let options = CaptureOptions { max_total: 1_200, ..folder.options() };
    let (capture, items) = capture(1_000);
    let long = tape(&capture, "long");
    for _ in 0..100 {
        long.closed(Instant::ZERO, Direction::Out, 1000);
    }
    drop(long);
    folder.write(&options, capture, &items);
    let full = folder.transcript("long");
    assert!(full.lines.len() < 100 && full.notes[0].1.contains("the folder's limit"), "{full:?}");
    let length = std::fs::metadata(folder.0.join("raw/long.jsonl")).unwrap().len();
    assert!(length <= options.max_total, "{length} octets");
}

#[test]
fn limits_of_the_folder_count_what_is_there_already() {
    let folder = Folder::new("capture-folder");
    std::fs::create_dir_all(folder.0.join("twilio")).unwrap();
    for name in ["twilio/old.jsonl", "old.jsonl", "twilio/note.txt"] {
        std::fs::write(folder.0.join(name), "12345").unwrap();
    }
    let held = file::Held::count(&folder.0).unwrap();
    assert_eq!((held.files, held.octets), (2, 10));
    let (capture, items) = capture(1_000);
    let tapes = (tape(&capture, "third"), tape(&capture, "fourth"));
    drop(tapes);
    folder.write(&folder.options(), capture, &items);
    assert!(folder.0.join("raw/third.jsonl").exists());
    assert!(!folder.0.join("raw/fourth.jsonl").exists(), "three files are allowed");
}

#[test]
fn captures_of_a_call_go_whatever_they_are_called_and_nothing_else() {
    let folder = Folder::new("capture-erase");
    let line = |call: &str| {
        let about = json!({"call": call, "provider": "raw"});
        let head = json!({"dir": "in", "type": "upgrade", "data": "/raw", "capture": about});
        format!("{head}\n{{\"dir\":\"in\",\"type\":\"text\",\"data\":\"x\"}}\n")
    };
    let write = |name: &str, text: &str| {
        let path = folder.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("raw/c1.jsonl", &line("c1"));
    write("raw/shown-to-support.jsonl", &line("c1"));
    write("twilio/c2.jsonl", "{\"dir\":\"in\",\"ty");
    write("twilio/c3.jsonl", &line("c3"));
    // What tells of itself is believed.
    write("raw/c2.jsonl", &line("c4"));
    write("c1.txt", "a note");
    // Words of a provider are none of ours.
    let words = json!({"dir": "in", "type": "text", "data": format!("{GOES_ON_WITH}c1")});
    write("twilio/c5.jsonl", &format!("{}{words}\n", line("c5")));
    write("raw/deeper/c1.jsonl", &line("c1"));
    let calls = ["c1", "c2", "c9"].map(String::from).into();
    assert_eq!(erase(&folder.0, &calls), (3, vec![]));
    let left =
        ["c1.txt", "raw/c2.jsonl", "raw/deeper/c1.jsonl", "twilio/c3.jsonl", "twilio/c5.jsonl"];
    let is_there = |name: &&str| folder.0.join(name).exists();
    assert!(left.iter().all(is_there));
    assert!(
        !["raw/c1.jsonl", "raw/shown-to-support.jsonl", "twilio/c2.jsonl"].iter().any(is_there)
    );
    // One that cannot be looked into may be theirs, and is told.
    std::fs::create_dir(folder.0.join("raw/x.jsonl")).unwrap();
    let (gone, failed) = erase(&folder.0, &calls);
    assert_eq!((gone, failed.len()), (0, 1), "{failed:?}");
    assert_eq!(erase(&folder.0.join("not/there"), &calls), (0, vec![]));
}

#[test]
fn what_was_captured_of_a_stream_that_came_back_to_a_call_goes_with_that() {
    let folder = Folder::new("capture-came-back");
    // Two, one of which has no room in the queue for a word behind its beginning.
    let (capture, items) = capture(4);
    let (second, third) = (tape(&capture, "second"), tape(&capture, "third"));
    drop(tape(&capture, "other"));
    second.closed(Instant::from_millis(5), Direction::In, 1000);
    second.goes_on_with("first");
    third.goes_on_with("first");
    drop((second, third));
    folder.write(&folder.options(), capture, &items);
    let wanted = format!("{GOES_ON_WITH}first");
    for call in ["second", "third"] {
        let notes: Vec<_> =
            folder.transcript(call).notes.into_iter().map(|(_, note)| note).collect();
        assert!(notes.contains(&wanted), "{call}: {notes:?}");
    }
    assert_eq!(erase(&folder.0, &["first".to_owned()].into()), (2, vec![]));
    assert!(folder.0.join("raw/other.jsonl").exists());
}
