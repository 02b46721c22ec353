//! What a module may say and when: looks at each frame of a session and writes down what is wrong with it. Sends nothing.

use ringback_module::VERSION;
use ringback_module::message::{Accept, Framing, FromModule, Kind, RATES, Ready};
use ringback_module::wire::AudioHeader;
use serde_json::Value;

use super::Broken;
use super::peer::Arrived;
use crate::cli::screen::{self, Style};

/// What a module may want to be told.
const WANTS: [&str; 7] = ["dtmf", "vad", "text", "spoken", "playback", "private", "consent"];

/// One session, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Where the session is.
    slot: u16,
    /// Another session in the same process.
    beside: Option<Box<Self>>,
    /// Sessions at a time that it registers for.
    pub(super) takes: u32,
    /// There was a session at all.
    pub(super) began: bool,
    /// End of the sound it was sent.
    pub(super) sent_ms: u64,
    /// What it can be used as.
    pub(super) kinds: Vec<Kind>,
    /// It is to answer each frame with one.
    pub(super) filters: bool,
    /// So many samples it answered.
    pub(super) answered: u64,
    from_ms: u64,
    of_words: bool,
    /// It has registered, or need not.
    pub(super) registered: bool,
    accept: Option<Accept>,
    done: bool,
    /// The epoch that is current, and the one its bare sound is for.
    epoch: u64,
    announced: u64,
    /// Where it was last asked whether it is there.
    pub(super) pinged: u16,
    acked_ms: u64,
    found: Vec<(bool, String)>,
}

impl Rules {
    /// What `start` says, the first in its process.
    pub(super) fn begin(&mut self, from_ms: Option<u64>, epoch: Option<u64>, of_words: bool) {
        self.slot = 1;
        self.from_ms = from_ms.unwrap_or_default();
        self.sent_ms = self.from_ms;
        self.acked_ms = self.from_ms;
        self.epoch = epoch.unwrap_or_default();
        self.announced = self.epoch;
        self.of_words = of_words;
    }

    /// One more session in the same process; what follows is about that one.
    pub(super) fn begin_another(&mut self) {
        let another =
            Self { slot: self.slot + 1, takes: self.takes, registered: true, ..Self::default() };
        self.beside = Some(Box::new(another));
        self.switch();
    }

    /// What follows is about the other session.
    pub(super) fn switch(&mut self) {
        if let Some(mut other) = self.beside.take() {
            std::mem::swap(self, &mut other);
            self.beside = Some(other);
        }
    }

    /// First millisecond that is sent.
    pub(super) const fn resumed_from(&self) -> u64 {
        self.from_ms
    }

    /// What the module was told.
    pub(super) fn told(&mut self, message: &Value) {
        if message["type"] == "cleared" {
            self.epoch = message["epoch"].as_u64().unwrap_or_default() + 1;
        }
    }

    pub(super) fn well(&mut self, what: impl Into<String>) {
        self.note(true, what.into());
    }

    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        self.note(false, what.into());
    }

    fn note(&mut self, well: bool, what: String) {
        let same = |(was, text): &(bool, String)| *was == well && cause(text) == cause(&what);
        // Once is enough: what is wrong with one frame is wrong with the next.
        if !self.found.iter().any(same) {
            self.found.push((well, what));
        }
    }

    /// Prints it all; how much was wrong.
    pub(super) fn print(&self) -> usize {
        let style = Style::of_stdout();
        for (well, what) in &self.found {
            let verdict = if *well { style.good("  ok    ") } else { style.bold("  WRONG ") };
            screen::painted(&format!("{verdict}{}\n", screen::harmless(what)));
        }
        let wrong = self.found.iter().filter(|(well, _)| !well).count();
        wrong + self.beside.as_ref().map_or(0, |beside| beside.print())
    }

    /// Looks at a frame; the message in it, if it is one that can be understood.
    pub(super) fn look(&mut self, arrived: Arrived) -> Result<Option<FromModule>, Broken> {
        if let (
            Some(beside),
            Arrived::Json { slot, .. } | Arrived::Sound { slot, .. } | Arrived::Ended { slot, .. },
        ) = (&mut self.beside, &arrived)
            && *slot == beside.slot
        {
            return beside.look(arrived).map(|_| None);
        }
        match arrived {
            Arrived::Broken(error) => {
                self.wrong(format!("standard output is no stream of frames: {error}"));
                Err(Broken)
            }
            // After its last word that is how it should be.
            Arrived::Ended { .. } if self.done => Ok(None),
            Arrived::Ended { reason, .. } => {
                self.wrong(format!("the connection ended in the middle of the session: {reason}"));
                Err(Broken)
            }
            Arrived::Sound { slot, body } => {
                self.sound(slot, &body);
                Ok(None)
            }
            Arrived::Json { slot, body } => {
                let Some(message) = self.parse(&body) else { return Ok(None) };
                self.message(slot, &message);
                Ok(Some(message))
            }
        }
    }

    fn parse(&mut self, body: &[u8]) -> Option<FromModule> {
        let shown: String = String::from_utf8_lossy(body).chars().take(160).collect();
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => {
                self.wrong(format!("a message is no JSON: {error} in {shown}"));
                return None;
            }
        };
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        match serde_json::from_value(value) {
            Ok(FromModule::Unknown) => {
                self.wrong(format!(
                    "`{kind}` is no word of the contract; nobody hears it: {shown}"
                ));
                None
            }
            Ok(message) => Some(message),
            Err(error) => {
                self.wrong(format!("`{kind}` cannot be understood: {error} in {shown}"));
                None
            }
        }
    }

    fn message(&mut self, slot: u16, message: &FromModule) {
        match message {
            FromModule::Register(register) => {
                if slot != 0 {
                    self.wrong(format!(
                        "`register` comes in slot {slot}; it is the process's, slot 0"
                    ));
                }
                if std::mem::replace(&mut self.registered, true) {
                    self.wrong("`register` comes twice");
                }
                if !register.v.is_empty() && !register.v.contains(&VERSION) {
                    self.wrong(format!(
                        "`register` says versions {:?}; this is version {VERSION}",
                        register.v
                    ));
                }
                self.kinds.clone_from(&register.kinds);
                self.takes = register.max_sessions.max(1);
                self.well(format!("registers as {:?}", register.module));
                return;
            }
            FromModule::Pong { .. } | FromModule::Log(_) | FromModule::Metric(_) if slot == 0 => {
                return;
            }
            _ => {}
        }
        if !self.registered {
            self.registered = true;
            self.wrong("says something before `register`, which comes first in a process");
        }
        let own = self.slot;
        if slot != own {
            self.wrong(format!("says something in slot {slot}, which has no session; the answers belong into the slot of `start`, {own}"));
        }
        if self.done {
            self.wrong("says something after `done`, which is the last word of a session");
        }
        self.in_session(message);
    }

    fn in_session(&mut self, message: &FromModule) {
        match message {
            FromModule::Ready(ready) => self.ready(ready),
            FromModule::Reject(reject) if reject.code.is_empty() => {
                self.wrong("`reject` has no code");
            }
            FromModule::Reject(_) => {}
            FromModule::Log(_) | FromModule::Metric(_) | FromModule::Error(_)
                if self.accept.is_none() => {}
            _ if self.accept.is_none() => {
                self.wrong("says something else before `ready`; nothing may come before it");
            }
            FromModule::Done { .. } => self.done = true,
            FromModule::Error(error) => {
                self.wrong(format!("reports an error: {} {}", error.code, error.message));
            }
            FromModule::Ack { in_ms, .. } => {
                if *in_ms > self.sent_ms {
                    self.wrong(format!("`ack` takes sound up to {in_ms} ms, and only {} ms were sent; times count from the caller's first sample", self.sent_ms));
                }
                if *in_ms < self.acked_ms {
                    self.wrong(format!(
                        "`ack` goes back, to {in_ms} ms from {} ms{}",
                        self.acked_ms,
                        self.hint()
                    ));
                }
                self.acked_ms = self.acked_ms.max(*in_ms);
            }
            FromModule::Transcript(transcript) => {
                let (start, end) = (transcript.start_ms, transcript.end_ms);
                if start > end {
                    self.wrong(format!("`transcript` ends before it begins: {start} to {end} ms"));
                }
                if !self.of_words && end > self.sent_ms {
                    self.wrong(format!("`transcript` ends at {end} ms, and only {} ms were sent; times count samples, not the wall clock", self.sent_ms));
                }
                if !self.of_words && start < self.from_ms {
                    self.wrong(format!("`transcript` begins at {start} ms{}", self.hint()));
                }
            }
            FromModule::AudioBegin { epoch } => self.announced = u64::from(*epoch),
            FromModule::Clear { epoch } => {
                self.epoch =
                    epoch.map_or(self.epoch + 1, |epoch| self.epoch.max(u64::from(epoch) + 1));
            }
            _ => {}
        }
    }

    /// What is usually behind times that are too early.
    fn hint(&self) -> &'static str {
        if self.from_ms > 0 {
            "; a session that is resumed goes on at `resume.from_ms`"
        } else {
            ""
        }
    }

    fn ready(&mut self, ready: &Ready) {
        if self.accept.is_some() {
            self.wrong("`ready` comes twice");
        }
        let named = session(self.slot);
        if !["", named.as_str()].contains(&ready.session.as_str()) {
            self.wrong(format!(
                "`ready` names session {:?}; `start` named {named:?}",
                ready.session
            ));
        }
        let accept = &ready.accept;
        let rates = accept.input.map(|input| ("in", input.rate)).into_iter();
        for (way, rate) in rates.chain(accept.output.map(|output| ("out", output.rate))) {
            if !RATES.contains(&rate) {
                self.wrong(format!(
                    "`accept.{way}` has {rate} Hz; from {} to {} can be had",
                    RATES.start(),
                    RATES.end()
                ));
            }
        }
        if let Some(input) = accept.input.filter(|input| !(1..=1_000).contains(&input.frame_ms)) {
            self.wrong(format!("`accept.in.frame_ms` is {}", input.frame_ms));
        }
        let both = |rate: u32| (Some(rate), Some(rate));
        let rates = (accept.input.map(|input| input.rate), accept.output.map(|output| output.rate));
        if self.filters && rates != both(8_000) {
            self.wrong("does not accept `in` and `out` at the one rate that was offered; a filter answers at the rate of what it gets");
        }
        if accept.tracks.len() > 1 && accept.framing != Framing::Hdr16 {
            self.wrong(
                "takes several tracks in `raw` framing, which cannot tell them apart; take `hdr16`",
            );
        }
        if let Some(track) = accept.tracks.iter().find(|track| **track > 1 || self.of_words) {
            self.wrong(format!("takes track {track}, which was not offered"));
        }
        if self.of_words && (accept.input.is_some() || accept.output.is_some()) {
            self.wrong("accepts sound on a call that offers none: take `null` for what is not in the offer, or `reject` with `unsupported_format`");
        }
        if let Some(want) = ready.want.iter().find(|want| !WANTS.contains(&want.as_str())) {
            self.wrong(format!("wants {want:?}, which is no word of the contract"));
        }
        self.accept = Some(accept.clone());
    }

    fn sound(&mut self, slot: u16, body: &[u8]) {
        let Some(accept) = self.accept.clone().filter(|_| slot == self.slot) else {
            self.wrong(format!("plays into slot {slot}, which has no session that is ready"));
            return;
        };
        let Some(output) = accept.output else {
            self.wrong("plays, and its `ready` has no `accept.out`");
            return;
        };
        let (epoch, pts, octets) = match accept.framing {
            Framing::Raw => (self.announced, None, body.len()),
            Framing::Hdr16 => match AudioHeader::decode(body) {
                Ok((header, octets)) => (u64::from(header.epoch), Some(header.pts), octets.len()),
                Err(error) => {
                    self.wrong(format!("plays without a header in framing `hdr16`: {error}"));
                    return;
                }
            },
        };
        if !octets.is_multiple_of(output.encoding.octets()) {
            self.wrong(format!(
                "plays {octets} octets, which are no whole samples of {}",
                output.encoding.octets()
            ));
        }
        if self.filters {
            let samples = (octets / output.encoding.octets()) as u64;
            let sent = self.sent_ms * u64::from(output.rate) / 1_000;
            self.answered += samples;
            let end = pts.map_or(self.answered, |pts| pts.saturating_add(samples));
            if end > sent {
                self.wrong(format!("answers sound up to sample {end}, and {sent} were sent; the `pts` of an answer is that of its frame"));
            }
        } else if epoch > self.epoch {
            self.wrong(format!("plays for epoch {epoch}, and {} is current", self.epoch));
        }
        if self.done {
            self.wrong("plays after `done`");
        }
    }
}

/// Name of the session in that slot.
pub(super) fn session(slot: u16) -> String {
    format!("check-{slot}")
}

/// What a finding says up to its details: the same in each that has the same cause.
fn cause(text: &str) -> &str {
    let end = text.find(|c: char| c.is_ascii_digit() || c == '{').unwrap_or(text.len());
    &text[..end]
}
