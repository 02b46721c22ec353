//! A protocol's end that is watched: every promise the trait makes is asserted at every call. Adds nothing to what the end does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringback_proto::Instant;
use ringback_proto::provider::behaviour::Behaviour;
use ringback_proto::provider::{
    Accepted, Command, Dial, Event, Info, Line, LineEvent, Message, Notice, Options, Outbox,
    OutgoingUpgrade, Posted, Protocol, ProtocolError, Provider, Rejection, Secret, Send, Span,
    Transport, Upgrade,
};

/// Octets that an end may write for nothing, at every call: greetings, answers, pings, 20 ms of silence at up to 192 kHz.
const FREE: u64 = 8 * 1024;
/// Octets that it may write for each that it was given; most for sound in base64 in JSON, escaped.
const FACTOR: u64 = 8;

/// Media messages that an end has told of, early and late ones included; shared with whoever counts them otherwise.
pub type Heard = Arc<AtomicU64>;

/// An end that is watched.
pub struct Lawful {
    inner: Box<dyn Protocol>,
    /// Of the provider, not of the bridge.
    is_far: bool,
    is_started: bool,
    is_stopped: bool,
    /// Octets given to it, and those that it may have written for them by now.
    taken: u64,
    allowed: u64,
    written: u64,
    heard: Heard,
}

impl Lawful {
    /// Watches `inner`, which has done nothing yet.
    #[must_use]
    pub fn new(inner: Box<dyn Protocol>, heard: Heard) -> Self {
        Self {
            inner,
            is_far: false,
            is_started: false,
            is_stopped: false,
            taken: 0,
            allowed: 0,
            written: 0,
            heard,
        }
    }

    /// Watches the provider's end of a wire.
    #[must_use]
    pub fn far(inner: Box<dyn Protocol>) -> Self {
        Self { is_far: true, ..Self::new(inner, Heard::default()) }
    }

    /// Lets the end act on `given` octets and looks at what came of it.
    fn watch(
        &mut self,
        given: usize,
        out: &mut Outbox,
        act: impl FnOnce(&mut dyn Protocol, &mut Outbox) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let (events, sends) = (out.events().len(), out.sends().len());
        self.taken += given as u64;
        self.allowed += FREE + FACTOR * given as u64;
        let acted = act(&mut *self.inner, out);
        if let Err(error) = &acted {
            assert!(matches!(error.close_code(), 1002 | 1003 | 1007), "{error}");
            let said = error.to_string();
            assert!(said.len() < 600, "an error of {} octets: {said}", said.len());
            assert!(!said.contains(['\n', '\r', '\u{1b}']), "an error that breaks lines: {said}");
        }
        for event in &out.events()[events..] {
            self.look_at(event, out);
        }
        for send in &out.sends()[sends..] {
            self.look_at_send(send, out);
        }
        assert!(
            self.written <= self.allowed,
            "{} octets were written for {} that came",
            self.written,
            self.taken
        );
        acted
    }

    fn look_at(&mut self, event: &Event, out: &Outbox) {
        match event {
            Event::Started(start) => {
                assert!(!self.is_started, "the stream starts twice");
                self.is_started = true;
                assert!(start.tracks.is_empty() || start.inbound.is_some(), "tracks of nothing");
                for format in [start.inbound, start.outbound].into_iter().flatten() {
                    let known = format.decoder().is_ok() && format.encoder().is_ok();
                    assert!(known, "a stream starts in {format}, which nobody can decode");
                }
            }
            Event::Media(media) => {
                self.written += out.octets(&media.payload).len() as u64;
                self.heard.fetch_add(1, Relaxed);
                // The bridge's end keeps or drops what comes too early; the provider's leaves that to the phone.
                assert!(self.is_started || self.is_far, "sound before the start");
            }
            Event::Stopped(_) => {
                assert!(!self.is_stopped, "the stream stops twice");
                self.is_stopped = true;
                return;
            }
            Event::Notice(notice) => {
                use Notice::{Early, EarlyMedia, Late};
                if matches!(notice, EarlyMedia { .. } | Early { .. } | Late { .. }) {
                    self.heard.fetch_add(1, Relaxed);
                }
                let told = format!("{notice:?}");
                assert!(told.len() < 600, "a notice of {} octets: {told}", told.len());
                return;
            }
            _ => {}
        }
        assert!(!self.is_stopped, "after the stream has stopped comes {event:?}");
    }

    fn look_at_send(&mut self, send: &Send, out: &Outbox) {
        let span = match send {
            Send::Text(span) | Send::TextOn(_, span) | Send::Dial(_, span) => {
                assert_eq!(out.text_of(span).as_bytes(), out.octets(span), "text is UTF-8");
                span
            }
            Send::Binary(span) => span,
            Send::Close(code) => {
                assert!((1000..5000).contains(code), "closed with {code}");
                return;
            }
            Send::Drop(_) => return,
        };
        self.written += out.octets(span).len() as u64;
    }
}

/// Octets of a command.
fn weight(command: &Command<'_>) -> usize {
    match command {
        Command::Media { payload, .. } => payload.len(),
        Command::Mark(text)
        | Command::Handoff(text)
        | Command::Result(text)
        | Command::Spoken(text)
        | Command::Played(text)
        | Command::Say { text, .. }
        | Command::Heard { text, .. }
        | Command::Interrupted { heard: text, .. }
        | Command::PlayFile { url: text, .. } => text.len(),
        _ => 0,
    }
}

fn weight_of(message: Message<'_>) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(octets) => octets.len(),
    }
}

impl Protocol for Lawful {
    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        self.watch(weight_of(message), out, |end, out| end.handle_message(now, message, out))
    }

    fn handle_command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        self.watch(weight(&command), out, |end, out| end.handle_command(now, command, out))
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let due = self.inner.poll_timeout();
        let told = self.watch(0, out, |end, out| end.handle_timeout(now, out));
        let next = self.inner.poll_timeout();
        // Once told of the time, it wants nothing that is over: or whoever runs it never rests.
        let rests =
            told.is_err() || due.is_none_or(|at| at > now) || next.is_none_or(|at| at > now);
        assert!(rests, "told that it is {now:?}, it asks to be told at {next:?}");
        told
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn handle_line(
        &mut self,
        now: Instant,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let given = match event {
            LineEvent::Message(message) => weight_of(message),
            LineEvent::Lost { reason } => reason.len(),
            LineEvent::Opened => 0,
        };
        self.watch(given, out, |end, out| end.handle_line(now, line, event, out))
    }

    fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.watch(0, out, |end, out| end.handle_open(now, out))
    }

    fn is_parting(&self) -> bool {
        self.inner.is_parting()
    }
}

/// A provider both of whose ends are watched.
pub struct Watched(pub &'static dyn Provider);

impl Provider for Watched {
    fn info(&self) -> &'static Info {
        self.0.info()
    }

    fn transport(&self) -> Transport {
        self.0.transport()
    }

    fn sound_in(&self, message: &[u8]) -> Span {
        self.0.sound_in(message)
    }

    fn posted(&self, body: &str, key: Option<&Secret>) -> Result<Posted, Rejection> {
        self.0.posted(body, key)
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        self.0.behaviours()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let accepted = self.0.accept(upgrade, options)?;
        let protocol = Box::new(Lawful::new(accepted.protocol, Heard::default()));
        Ok(Accepted { protocol, ..accepted })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let (request, protocol) = self.0.dial(call);
        (request, Box::new(Lawful::far(protocol)))
    }
}
