//! What all ends of all wires do alike: messages are counted, and what one meant is handed on. Knows no wire.

use super::{Command, Event, Line, LineEvent, Message, Notice, Outbox, Protocol, ProtocolError};
use crate::Instant;

/// The time of a message and its number on the stream, from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) now: Instant,
    pub(super) index: u64,
}

/// What one end of a wire does its own way; [`End`] makes a [`Protocol`] of it.
pub(super) trait Wire: std::marker::Send {
    /// The socket is open.
    fn open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let _ = (now, out);
        Ok(())
    }

    /// A text message came. What it meant goes into the outbox, its last event may be returned.
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError>;

    /// A binary message came.
    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let _ = (turn, octets, out);
        Ok(Some(Event::Notice(Notice::unknown("binary message"))))
    }

    /// See [`Protocol::handle_line`]. The last event of what happened may be returned.
    fn line(
        &mut self,
        turn: Turn,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let _ = (turn, line, event, out);
        Ok(None)
    }

    /// See [`Protocol::handle_command`].
    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError>;

    /// See [`Protocol::handle_timeout`].
    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let _ = (now, out);
        Ok(())
    }

    /// See [`Protocol::poll_timeout`].
    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// See [`Protocol::is_parting`].
    fn is_parting(&self) -> bool {
        false
    }
}

/// One end of a wire and how many messages it has taken.
pub(super) struct End<W> {
    taken: u64,
    wire: W,
}

impl<W: Wire + 'static> End<W> {
    /// An end that has taken no message yet.
    pub(super) fn boxed(wire: W) -> Box<dyn Protocol> {
        Box::new(Self { taken: 0, wire })
    }
}

impl<W: Wire> Protocol for End<W> {
    fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.wire.open(now, out)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let turn = Turn { now, index: self.taken };
        self.taken += 1;
        let event = match message {
            Message::Text(text) => self.wire.text(turn, text, out)?,
            Message::Binary(octets) => self.wire.binary(turn, octets, out)?,
        };
        if let Some(event) = event {
            out.event(event);
        }
        Ok(())
    }

    fn handle_line(
        &mut self,
        now: Instant,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let turn = Turn { now, index: self.taken };
        self.taken += u64::from(matches!(event, LineEvent::Message(_)));
        if let Some(event) = self.wire.line(turn, line, event, out)? {
            out.event(event);
        }
        Ok(())
    }

    fn handle_command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        self.wire.command(now, command, out)
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.wire.timeout(now, out)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.wire.next_timeout()
    }

    fn is_parting(&self) -> bool {
        self.wire.is_parting()
    }
}
