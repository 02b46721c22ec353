//! The recorder as a process, spoken to as a bridge does. Asserts nothing about recordings.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ringback_module::FrameFlags;
use ringback_module::message::{FromModule, SampleEncoding};
use ringback_module::wire::{AudioHeader, FrameKind, FrameReader, write_audio, write_json};
use serde_json::{Value, json};

/// Nothing is waited for longer; long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Samples of a piece of sound: 20 ms.
pub(crate) const PIECE: u64 = 160;

/// A process that makes recordings.
pub(crate) struct Recorders {
    pub(crate) child: Child,
    to: Option<ChildStdin>,
    from: Receiver<(u16, FromModule)>,
    /// Milliseconds that each recording was said to have on disk.
    pub(crate) acked: HashMap<u16, u64>,
    /// Pieces that each recording was given.
    pub(crate) given: HashMap<u16, u64>,
    /// Events that came.
    pub(crate) events: Vec<(u16, String, Value)>,
    done: Vec<u16>,
}

impl Recorders {
    /// As `command` runs it: its last words are the program.
    pub(crate) fn run(command: &[&str]) -> Self {
        let (program, args) = command.split_first().unwrap();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self::of(child)
    }

    fn of(mut child: Child) -> Self {
        let (to, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let (mut frames, mut octets) = (FrameReader::new(), vec![0; 64 * 1024]);
            while let Ok(count @ 1..) = stdout.read(&mut octets) {
                frames.push(&octets[..count]);
                while let Some(frame) = frames.next_frame().unwrap() {
                    assert_eq!(frame.kind, FrameKind::Json);
                    let message = serde_json::from_slice(frame.body).unwrap();
                    if sender.send((frame.slot, message)).is_err() {
                        return;
                    }
                }
            }
        });
        let (acked, given) = (HashMap::new(), HashMap::new());
        Self { child, to, from, acked, given, events: Vec::new(), done: Vec::new() }
    }

    fn say(&mut self, octets: &[u8]) {
        // A process that was killed hears nothing more.
        let _ = self.to.as_mut().unwrap().write_all(octets);
    }

    fn tell(&mut self, slot: u16, message: &Value) {
        let mut frame = Vec::new();
        write_json(slot, message, &mut frame).unwrap();
        self.say(&frame);
    }

    pub(crate) fn start(&mut self, slot: u16, session: &str, config: &Value) {
        self.tell(
            slot,
            &json!({
                "type": "start", "v": 1, "session": session, "config": config,
                "call": {"id": session, "provider": "test"},
                "offer": {"tracks": [{"id": 0, "role": "caller"}, {"id": 1, "role": "agent"}],
                    "in": [{"encoding": "pcmu", "rate": 8000}]},
            }),
        );
    }

    /// Gives both tracks the next piece, whose samples are its number.
    pub(crate) fn give(&mut self, slot: u16) {
        let number = self.given.entry(slot).or_default();
        let (pts, samples) = (*number * PIECE, [*number as i16; PIECE as usize]);
        *number += 1;
        let mut frames = Vec::new();
        for track in [0, 1] {
            let header = AudioHeader { flags: FrameFlags::default(), track, epoch: 0, pts };
            write_audio(slot, Some(&header), SampleEncoding::PcmS16le, &samples, &mut frames)
                .unwrap();
        }
        self.say(&frames);
    }

    pub(crate) fn stop(&mut self, slot: u16) {
        self.tell(slot, &json!({"type": "stop", "reason": "hangup", "deadline_ms": 10_000}));
    }

    /// Takes what was said since, waiting for one message if there is none.
    pub(crate) fn listen(&mut self) {
        let first = self.from.recv_timeout(PATIENCE).expect("it says something");
        self.take(first);
        while let Ok(message) = self.from.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, (slot, message): (u16, FromModule)) {
        match message {
            FromModule::Ack { in_ms, .. } => drop(self.acked.insert(slot, in_ms)),
            // It comes with the first sound, and says nothing of what became of that.
            FromModule::Event(event) if event.name == "recorder.started" => {}
            FromModule::Event(event) => self.events.push((slot, event.name, event.data)),
            FromModule::Done { .. } => self.done.push(slot),
            FromModule::Reject(reject) => panic!("{}", reject.message),
            FromModule::Error(error) => {
                self.events.push((slot, "error".into(), json!(error.message)));
            }
            _ => {}
        }
    }

    /// Waits for an event of that name and gives what it tells.
    pub(crate) fn until(&mut self, slot: u16, name: &str) -> Value {
        loop {
            let found = self.events.iter().position(|(s, n, _)| *s == slot && n == name);
            if let Some(found) = found {
                return self.events.remove(found).2;
            }
            self.listen();
        }
    }

    /// Gives sound until an event of that name comes. No more than a second of it is on its way.
    pub(crate) fn give_until(&mut self, slot: u16, name: &str) -> Value {
        for _ in 0..20 {
            if let Some(found) = self.events.iter().position(|(s, n, _)| *s == slot && n == name) {
                return self.events.remove(found).2;
            }
            self.give_a_second(slot);
        }
        panic!("no {name} in 20 s of sound: {:?}", self.events);
    }

    /// Gives a second of sound and waits until it is acknowledged, or something else is said of it.
    pub(crate) fn give_a_second(&mut self, slot: u16) {
        let before = self.acked.get(&slot).copied().unwrap_or_default();
        let events = self.events.len();
        for _ in 0..50 {
            self.give(slot);
        }
        while self.acked.get(&slot).copied().unwrap_or_default() == before
            && self.events.len() == events
        {
            self.listen();
        }
    }

    /// Milliseconds given and not acknowledged.
    pub(crate) fn open(&self, slot: u16) -> u64 {
        let given = self.given.get(&slot).copied().unwrap_or_default() * 20;
        given - self.acked.get(&slot).copied().unwrap_or_default().min(given)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a bridge does.
    pub(crate) fn end(mut self) {
        self.to = None;
        self.child.wait().unwrap();
    }
}

impl Drop for Recorders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
