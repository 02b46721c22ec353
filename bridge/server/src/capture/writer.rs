//! The thread that redacts and writes captures, one item of the queue after the other. Knows no call but by its number.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::Message;
use ringback_proto::redaction::{Redactor, Sound};
use ringback_proto::transcript::{About, Head, note_line};

use super::budget::Budget;
use super::file::{File, Full, Held};
use super::{CaptureOptions, GOES_ON_WITH, Item, Opening, State, What};
use crate::socket::wire::Kind;
use crate::telemetry::{METRICS, Report, report};

/// With nothing to write, it looks this often for captures whose end was not told.
const SWEEP: Duration = Duration::from_secs(1);
/// And always after so many items, which are more than a queue has.
const BUSY_SWEEP: usize = 64 * 1024;

/// A capture that is being written.
struct Open {
    state: Arc<State>,
    redactor: Redactor,
    file: File,
    /// When the last line was.
    at: Instant,
    /// It was over already when it was last looked for.
    seen_over: bool,
    /// The file says which call the stream goes on with.
    says_whose: bool,
}

impl Open {
    /// Says which call the stream goes on with, if it does, whatever the limits: it is that call's capture, too.
    fn say_whose(&mut self, held: &mut Held) {
        let Some(call) = self.state.goes_on_with.get().filter(|_| !self.says_whose) else { return };
        let line = note_line(self.at, &format!("{GOES_ON_WITH}{call}"));
        self.says_whose = self.file.last_line(&line, held).is_ok();
    }
}

struct Writer<'a> {
    options: &'a CaptureOptions,
    held: Held,
    open: HashMap<u64, Open>,
}

/// Writes until nobody captures any more.
pub(super) fn run(options: &CaptureOptions, held: Held, items: &Receiver<Item>, octets: &Budget) {
    let mut writer = Writer { options, held, open: HashMap::new() };
    let mut written = 0_usize;
    loop {
        match items.recv_timeout(SWEEP) {
            Ok(item) => {
                octets.give_back(item.octets());
                writer.take(item);
                written = written.wrapping_add(1);
                if written.is_multiple_of(BUSY_SWEEP) {
                    writer.sweep(true);
                }
            }
            Err(RecvTimeoutError::Timeout) => writer.sweep(false),
            Err(RecvTimeoutError::Disconnected) => return writer.sweep(false),
        }
    }
}

impl Writer<'_> {
    fn take(&mut self, item: Item) {
        let Item { state, at, missing, what } = item;
        let id = state.id;
        if let What::Begun(opening) = what {
            if let Err(error) = self.begin(Arc::clone(&state), &opening) {
                state.off.store(true, Release);
                METRICS.captures_skipped.increment();
                report(&Report::CaptureFailed { dir: &self.options.dir, error: &error });
            }
            return;
        }
        // One that was cut off may still be spoken of.
        let Some(open) = self.open.get_mut(&id) else { return };
        open.at = open.at.max(at);
        open.say_whose(&mut self.held);
        let (at, ended) = (open.at, matches!(what, What::Ended));
        let mut lines = Vec::new();
        if missing > 0 {
            lines.push(note_line(at, &missing_words(missing)));
        }
        match what {
            What::Said { direction, kind, octets, facts } => {
                let text = String::from_utf8_lossy(&octets);
                let message = if kind == Kind::Text {
                    Message::Text(&text)
                } else {
                    Message::Binary(&octets)
                };
                lines
                    .push(open.redactor.message(direction, message, &facts).to_line(direction, at));
            }
            What::Happened { direction, wire, facts } => {
                lines.push(open.redactor.wire(direction, &wire, &facts).to_line(direction, at));
            }
            What::Begun(_) | What::Ended => {}
        }
        self.write(id, &lines);
        if ended {
            self.open.remove(&id);
        }
    }

    fn begin(&mut self, state: Arc<State>, opening: &Opening) -> io::Result<()> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let redactor = Redactor::new(opening.provider, self.options.sound, seed);
        let name = format!("{}.jsonl", opening.call);
        let dir = self.options.dir.join(opening.provider.name());
        let file = File::begin(&dir, &name, self.options, &mut self.held)?;
        let mut open =
            Open { state, redactor, file, at: Instant::ZERO, seen_over: false, says_whose: false };
        let head = head(&mut open.redactor, self.options.sound, opening);
        let id = open.state.id;
        self.open.insert(id, open);
        METRICS.captures.increment();
        self.write(id, &[head]);
        Ok(())
    }

    /// Writes lines; a file that takes no more is closed.
    fn write(&mut self, id: u64, lines: &[String]) {
        let Some(open) = self.open.get_mut(&id) else { return };
        for line in lines {
            match open.file.line(line, self.options, &mut self.held) {
                Ok(Ok(())) => continue,
                Ok(Err(full)) => {
                    let words = full_words(full, self.options);
                    // The limit leaves room for it, the disk may not.
                    let _ = open.file.last_line(&note_line(open.at, &words), &mut self.held);
                }
                Err(error) => {
                    report(&Report::CaptureFailed { dir: &self.options.dir, error: &error });
                }
            }
            METRICS.captures_cut.increment();
            open.state.off.store(true, Release);
            self.open.remove(&id);
            return;
        }
    }

    /// Ends captures whose end did not fit the queue. While it is `busy`, what they said last may still be in it: then those of which
    /// that was known a sweep ago, for a queue is shorter than that.
    fn sweep(&mut self, busy: bool) {
        let mut over = Vec::new();
        for (id, open) in &mut self.open {
            let is_over = open.state.ended.load(Acquire);
            if is_over && (open.seen_over || !busy) {
                over.push(*id);
            }
            open.seen_over = is_over;
        }
        for id in over {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.say_whose(&mut self.held);
            let missing = open.state.missing.swap(0, AcqRel);
            if missing > 0 {
                let line = note_line(open.at, &missing_words(missing));
                self.write(id, &[line]);
            }
            self.open.remove(&id);
        }
    }
}

fn missing_words(missing: u64) -> String {
    format!("{missing} messages are missing here: they came faster than they could be written")
}

fn full_words(full: Full, options: &CaptureOptions) -> String {
    let mib = |octets: u64| octets / (1024 * 1024);
    let limit = match full {
        Full::File => format!("this file's limit of {} MiB", mib(options.max_file)),
        Full::Total => format!("the folder's limit of {} MiB", mib(options.max_total)),
    };
    format!("{limit} is reached: what follows is not here")
}

/// The first line of a file.
fn head(redactor: &mut Redactor, sound: Sound, opening: &Opening) -> String {
    let fields: Vec<_> =
        opening.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upgrade = ringback_proto::provider::Upgrade {
        target: &opening.target,
        public_url: None,
        headers: &fields,
    };
    let Opening { path, options, subprotocol, .. } = opening;
    let shown = redactor.upgrade(&upgrade, path, options, subprotocol.as_deref());
    let sound = match sound {
        Sound::Silence => "silence of the same length",
        Sound::Keep => "as it was",
    };
    let about = About {
        provider: opening.provider.name().to_owned(),
        listener: opening.listener.clone(),
        call: opening.call.clone(),
        bridge: env!("CARGO_PKG_VERSION").to_owned(),
        began: opening.began.clone(),
        sound: sound.to_owned(),
        redacted: redactor.replaced(),
        left_out: shown.left_out,
    };
    Head { target: &shown.target, headers: &shown.headers, options, about: &about }.to_line()
}
