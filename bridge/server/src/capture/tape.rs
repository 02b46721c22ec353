//! The call's side of a capture: copies what is said into the queue, and never waits. Redacts and writes nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Line, LineEvent, Message, Outbox, Protocol, ProtocolError, Send,
};
use ringback_proto::redaction::Facts;
use ringback_proto::transcript::{Direction, Wire};

use super::{Inner, Item, Opening, State, What};
use crate::overload::Overload;
use crate::socket::wire::Kind;
use crate::telemetry::METRICS;

/// What one call is captured on; it ends with its last copy.
#[derive(Clone)]
pub struct Tape(Arc<Reel>);

struct Reel {
    capture: Arc<Inner>,
    state: Arc<State>,
    began: Instant,
    /// The call is private: of what is said nothing is captured but how long it sounded.
    private: AtomicBool,
}

impl Tape {
    pub(super) fn new(
        capture: Arc<Inner>,
        state: Arc<State>,
        now: Instant,
        opening: Opening,
    ) -> Self {
        let private = AtomicBool::new(false);
        let tape = Self(Arc::new(Reel { capture, state, began: now, private }));
        if !tape.0.put(now, What::Begun(Box::new(opening))) {
            // Without its beginning a capture is none.
            tape.0.state.off.store(true, Release);
            METRICS.captures_skipped.increment();
        }
        tape
    }

    fn is_off(&self) -> bool {
        self.0.state.off.load(Acquire)
    }

    /// Whether nothing of `messages` is to be copied: no more is wanted, or there is no time now, which is told in the file.
    fn skips(&self, messages: usize) -> bool {
        let overload = self.0.capture.overload.get();
        if self.is_off() {
            return true;
        }
        if messages == 0 || !overload.is_some_and(Overload::sheds) {
            return false;
        }
        self.0.state.missing.fetch_add(messages as u64, AcqRel);
        METRICS.capture_messages_dropped.add(messages as u64);
        true
    }

    fn said(&self, now: Instant, direction: Direction, kind: Kind, octets: Vec<u8>, facts: Facts) {
        if let Some(facts) = self.showable(facts) {
            self.0.put(now, What::Said { direction, kind, octets, facts });
        }
    }

    /// What may be shown of a message; nothing of most, where the call is private.
    fn showable(&self, facts: Facts) -> Option<Facts> {
        if !self.0.private.load(Relaxed) {
            return Some(facts);
        }
        let shown = facts.in_private();
        if shown.is_none() {
            self.0.state.missing.fetch_add(1, AcqRel);
        }
        shown
    }

    fn happened(&self, now: Instant, direction: Direction, wire: Wire, facts: Facts) {
        let is_said = matches!(wire, Wire::On(..));
        let facts = if is_said { self.showable(facts) } else { Some(facts) };
        if let Some(facts) = facts {
            self.0.put(now, What::Happened { direction, wire, facts });
        }
    }

    /// The stream goes on with a call of this name. What is captured of it says so, whatever room its queue has, and is found by that.
    pub(crate) fn goes_on_with(&self, call: &str) {
        // A stream goes on with one call.
        let _ = self.0.state.goes_on_with.set(call.to_owned());
    }

    /// The stream was closed, or the connection ended, by this side.
    pub fn closed(&self, now: Instant, direction: Direction, code: u16) {
        if !self.is_off() {
            self.happened(now, direction, Wire::Close(code), Facts::default());
        }
    }
}

impl Reel {
    fn put(&self, now: Instant, what: What) -> bool {
        let state = Arc::clone(&self.state);
        let missing = state.missing.swap(0, AcqRel);
        let at = Instant::from_epoch(now.saturating_since(self.began));
        let sent = self.capture.send(Item { state, at, missing, what });
        if !sent {
            self.state.missing.fetch_add(missing + 1, AcqRel);
            METRICS.capture_messages_dropped.increment();
        }
        sent
    }
}

impl Drop for Reel {
    fn drop(&mut self) {
        let state = Arc::clone(&self.state);
        let missing = state.missing.load(Relaxed);
        let item = Item { state, at: Instant::ZERO, missing, what: What::Ended };
        if !self.capture.send(item) {
            self.state.ended.store(true, Release);
        }
    }
}

/// A protocol of which everything is captured that it hears and says.
pub struct Captured {
    inner: Box<dyn Protocol>,
    tape: Tape,
}

impl Captured {
    /// `inner`, captured on `tape`.
    #[must_use]
    pub fn boxed(inner: Box<dyn Protocol>, tape: Tape) -> Box<dyn Protocol> {
        Box::new(Self { inner, tape })
    }

    /// Captures what was put into `out` behind the first `before` messages.
    fn said(&self, now: Instant, out: &Outbox, before: usize, facts: &Facts) {
        let sends = out.sends().get(before..).unwrap_or_default();
        if self.tape.skips(sends.len()) {
            return;
        }
        for send in sends {
            let (kind, span) = match send {
                Send::Text(span) => (Kind::Text, span),
                Send::Binary(span) => (Kind::Binary, span),
                // Told when the socket is closed: the session closes as well.
                Send::Close(_) | Send::Drop(_) => continue,
                Send::Dial(line, span) => {
                    let wire = Wire::Dial(*line, out.text_of(span).to_owned());
                    self.tape.happened(now, Direction::Out, wire, facts.clone());
                    continue;
                }
                Send::TextOn(line, span) => {
                    let wire = Wire::On(*line, out.text_of(span).to_owned());
                    self.tape.happened(now, Direction::Out, wire, facts.clone());
                    continue;
                }
            };
            let octets = out.octets(span).to_vec();
            self.tape.said(now, Direction::Out, kind, octets, facts.clone());
        }
    }
}

impl Protocol for Captured {
    fn handle_line(
        &mut self,
        now: Instant,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let (events, sends) = (out.events().len(), out.sends().len());
        let handled = self.inner.handle_line(now, line, event, out);
        if !self.tape.skips(1) {
            let facts = Facts::of_events(out.events().get(events..).unwrap_or_default());
            let wire = match event {
                LineEvent::Opened => Wire::Opened(line),
                LineEvent::Lost { reason } => Wire::Lost(line, reason.to_owned()),
                LineEvent::Message(Message::Text(text)) => Wire::On(line, text.to_owned()),
                // Of no meaning on any wire of several lines, and without a place in a transcript: noticed, and left out.
                LineEvent::Message(Message::Binary(_)) => {
                    self.said(now, out, sends, &Facts::default());
                    return handled;
                }
            };
            self.tape.happened(now, Direction::In, wire, facts);
        }
        self.said(now, out, sends, &Facts::default());
        handled
    }

    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let (events, sends) = (out.events().len(), out.sends().len());
        let handled = self.inner.handle_message(now, message, out);
        if !self.tape.skips(1) {
            let facts = Facts::of_events(out.events().get(events..).unwrap_or_default());
            let (kind, octets) = match message {
                Message::Text(text) => (Kind::Text, text.as_bytes()),
                Message::Binary(octets) => (Kind::Binary, octets),
            };
            self.tape.said(now, Direction::In, kind, octets.to_vec(), facts);
        }
        self.said(now, out, sends, &Facts::default());
        handled
    }

    fn handle_command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let sends = out.sends().len();
        let handled = self.inner.handle_command(now, command, out);
        self.said(now, out, sends, &Facts::of_command(&command));
        handled
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let sends = out.sends().len();
        let handled = self.inner.handle_timeout(now, out);
        self.said(now, out, sends, &Facts::default());
        handled
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let sends = out.sends().len();
        let handled = self.inner.handle_open(now, out);
        self.said(now, out, sends, &Facts::default());
        handled
    }

    fn set_private(&mut self, private: bool) {
        self.tape.0.private.store(private, Relaxed);
    }

    fn is_parting(&self) -> bool {
        self.inner.is_parting()
    }
}
