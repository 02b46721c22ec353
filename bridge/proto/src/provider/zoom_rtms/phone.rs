//! Zoom's end of its wire: posts what happens to the stream, and is both of its servers. Checks signatures as Zoom does, and keeps the
//! sound for whoever dials again. Opens no door itself.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::behaviour::Act;
use super::super::end::{Turn, Wire};
use super::super::json::{self, Node, Quoted, Reader};
use super::super::media_message::Counter;
use super::super::{
    Command, Dial, Event, Line, LineEvent, Message, Notice, Outbox, ProtocolError, Track, base64,
};
use super::{
    CAPABILITIES, EXPECTED, GRACE, INFO, KEEP_ALIVE, StreamName, event, keep_alive, kind,
    media_params,
};
use crate::Instant;

/// Zoom interrupts a connection over so many requests for life that were not answered.
const MOST_UNANSWERED: u32 = 3;
/// Zoom posts that its signaling server lost sight of somebody who has not dialled again by then.
const NOTICES_AFTER: Duration = Duration::from_millis(500);
/// What Zoom's clock says at our epoch, in milliseconds; there is no calendar here.
const CLOCK: u64 = 1_732_700_000_000;

pub(super) struct Phone {
    call: Dial,
    name: StreamName,
    format: MediaFormat,
    state: State,
    /// Connections over which hands were shaken.
    up: [bool; 2],
    keeps: [Option<Keep>; 2],
    /// The signaling connection is gone, which is posted then.
    interrupted: Option<Instant>,
    /// Sound with its time, for when there is a way for it again.
    kept: VecDeque<(u64, Vec<u8>)>,
    /// Numbers sound from when the stream is ready, on Zoom's clock.
    counter: Counter,
    ready_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// The bridge is ready for sound.
    Streaming,
    Over,
}

/// How a connection is kept alive.
#[derive(Clone, Copy)]
struct Keep {
    next: Instant,
    unanswered: u32,
}

fn clock(now: Instant) -> u64 {
    CLOCK + now.since_epoch().as_millis() as u64
}

impl Phone {
    pub(super) fn new(call: &Dial) -> Self {
        let format = call.format.unwrap_or(INFO.formats[0]);
        let stream = format!("rtms-{}", call.call);
        Self {
            call: call.clone(),
            name: StreamName { stream, member: "meeting_uuid", of: call.call.clone() },
            format,
            state: State::Waiting,
            up: [false; 2],
            keeps: [None; 2],
            interrupted: None,
            kept: VecDeque::new(),
            counter: Counter::new(format),
            ready_at: 0,
        }
    }

    fn url(&self, line: Line) -> String {
        let given = self.call.servers.get(line.index()).cloned();
        given.unwrap_or_else(|| format!("wss://rtms.zoom.us/{}", line.name()))
    }

    /// Posts that something happened to the stream; `more` are further members.
    fn post(&self, now: Instant, what: &str, more: std::fmt::Arguments<'_>, out: &mut Outbox) {
        let StreamName { stream, member, of } = &self.name;
        json::send(
            out,
            format_args!(
                r#"{{"event":"meeting.rtms_{what}","event_ts":{},"payload":{{"{member}":{},"rtms_stream_id":{},{more}}}}}"#,
                clock(now),
                Quoted(of),
                Quoted(stream)
            ),
        );
    }

    /// Whether a handshake is ours and signed, and if not, why not.
    fn verdict(&self, node: &Node<'_>) -> (u64, &'static str) {
        if !self.name.is_of(node) {
            return (2, "invalid rtms_stream_id");
        }
        if node.text("signature") != Some(&self.name.signature(&self.call.app)) {
            return (3, "invalid signature");
        }
        (0, "")
    }

    fn handshake(&mut self, now: Instant, line: Line, node: &Node<'_>, out: &mut Outbox) {
        let (status, reason) = self.verdict(node);
        let verdict = format!(r#""status_code":{status},"reason":"{reason}""#);
        match line {
            Line::Control => {
                let url = self.url(Line::Media);
                let urls = format!(r#"{{"audio":{0},"all":{0}}}"#, Quoted(&url));
                let server = match status {
                    0 => format!(r#","media_server":{{"server_urls":{urls}}}"#),
                    _ => String::new(),
                };
                let kind = kind::CONTROL_RESPONSE;
                json::send_on(
                    out,
                    line,
                    format_args!(
                        r#"{{"msg_type":{kind},"protocol_version":1,"sequence":0,{verdict}{server}}}"#
                    ),
                );
            }
            Line::Media => {
                let (kind, params) = (kind::MEDIA_RESPONSE, media_params(self.format));
                json::send_on(
                    out,
                    line,
                    format_args!(
                        r#"{{"msg_type":{kind},"protocol_version":1,{verdict},"sequence":0,"payload_encrypted":false,"media_params":{params}}}"#
                    ),
                );
            }
        }
        if status == 0 {
            self.up[line.index()] = true;
            let silent = self.call.behaviours.iter().any(|b| b.act == Act::NoKeepAlive);
            let keep = Keep { next: now + KEEP_ALIVE, unanswered: 0 };
            self.keeps[line.index()] = (!silent).then_some(keep);
        }
        if line == Line::Control {
            self.interrupted = None;
        }
    }

    /// A connection is gone: whoever listens is told so over the other one, or by a request.
    fn lost(&mut self, now: Instant, line: Line, out: &mut Outbox) {
        self.up[line.index()] = false;
        self.keeps[line.index()] = None;
        match line {
            _ if self.state != State::Streaming => {}
            Line::Control => self.interrupted = Some(now + NOTICES_AFTER),
            Line::Media if self.up[Line::Control.index()] => {
                let (kind, event) = (kind::EVENT, event::MEDIA_INTERRUPTED);
                json::send_on(
                    out,
                    Line::Control,
                    format_args!(
                        r#"{{"msg_type":{kind},"event":{{"event_type":{event},"timestamp":{}}}}}"#,
                        clock(now)
                    ),
                );
            }
            Line::Media => {}
        }
    }

    /// Says a piece of sound, or keeps it for as long as Zoom does.
    fn say(&mut self, payload: &[u8], out: &mut Outbox) {
        let (_, timestamp) = self.counter.next(payload.len());
        let timestamp = self.ready_at + timestamp;
        if self.up[Line::Media.index()] && self.kept.is_empty() {
            return sound(timestamp, payload, out);
        }
        self.kept.push_back((timestamp, payload.to_vec()));
        let oldest = timestamp.saturating_sub(GRACE.as_millis() as u64);
        while self.kept.front().is_some_and(|(time, _)| *time < oldest) {
            self.kept.pop_front();
        }
    }

    /// The bridge has shaken hands with both servers.
    fn ready(&mut self, now: Instant, out: &mut Outbox) -> Option<Event> {
        for (timestamp, payload) in self.kept.drain(..) {
            sound(timestamp, &payload, out);
        }
        if self.state != State::Waiting {
            return None;
        }
        self.state = State::Streaming;
        self.ready_at = clock(now);
        let stream = Some(self.name.stream.clone());
        let parameters = self.call.parameters.clone();
        let start = self.call.started(stream, parameters, self.format, CAPABILITIES);
        // The wire tells no numbers, and there is one mix of all voices.
        Some(Event::Started(Box::new(super::super::Start {
            from: None,
            to: None,
            tracks: vec![Track::Inbound],
            ..start
        })))
    }

    fn stop(&mut self) {
        self.state = State::Over;
        self.keeps = [None; 2];
        self.interrupted = None;
        self.kept.clear();
    }
}

/// A message of sound.
fn sound(timestamp: u64, payload: &[u8], out: &mut Outbox) {
    out.text_on(Line::Media, |text| {
        text.extend_from_slice(br#"{"msg_type":14,"content":{"user_id":0,"user_name":"","data":""#);
        base64::encode(payload, text);
        text.extend_from_slice(br#"","timestamp":"#);
        json::digits(timestamp, text);
        text.extend_from_slice(b"}}");
    });
}

impl Wire for Phone {
    fn open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let url = self.url(Line::Control);
        self.post(now, "started", format_args!(r#""server_urls":{}"#, Quoted(&url)), out);
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        _: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Err(ProtocolError::out_of_turn(turn.index, "text message", "the way that requests go"))
    }

    fn line(
        &mut self,
        turn: Turn,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let text = match event {
            LineEvent::Opened => {
                // Whatever was connected before is not any more.
                self.up[line.index()] = false;
                self.keeps[line.index()] = None;
                return Ok(None);
            }
            LineEvent::Lost { reason } => {
                self.lost(turn.now, line, out);
                let reason = json::excerpt(reason);
                let over = self.state == State::Over;
                return Ok((!over).then_some(Event::Notice(Notice::LineLost { line, reason })));
            }
            LineEvent::Message(Message::Text(text)) => text,
            LineEvent::Message(Message::Binary(_)) => {
                return Err(ProtocolError::out_of_turn(turn.index, "binary message", "at all"));
            }
        };
        let node = Node::parse(turn.index, EXPECTED, text)?;
        let message = Reader { index: turn.index, kind: line.name(), node: &node };
        let kind = node.number("msg_type").ok_or(message.error("msg_type", "is missing"))?;
        match (kind, line) {
            (kind::CONTROL_REQUEST, Line::Control) | (kind::MEDIA_REQUEST, Line::Media) => {
                self.handshake(turn.now, line, &node, out);
                Ok(None)
            }
            (kind::KEEP_ALIVE_RESPONSE, line) => {
                if let Some(keep) = &mut self.keeps[line.index()] {
                    keep.unanswered = 0;
                }
                Ok(None)
            }
            (kind::READY, Line::Control) => Ok(self.ready(turn.now, out)),
            (kind::CLOSE_REQUEST, Line::Control) => {
                let (kind, stream) = (kind::CLOSE_RESPONSE, Quoted(&self.name.stream));
                json::send_on(
                    out,
                    line,
                    format_args!(
                        r#"{{"msg_type":{kind},"rtms_stream_id":{stream},"status_code":0,"reason":"OK","timestamp":{}}}"#,
                        clock(turn.now)
                    ),
                );
                Ok(Some(Event::HangupRequested))
            }
            _ => Err(ProtocolError::out_of_turn(turn.index, "message", "over this line")),
        }
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.state == State::Over => {}
            Command::Media { track: Track::Inbound, payload } if self.state == State::Streaming => {
                self.say(payload, out);
            }
            Command::Hangup => {
                if self.state == State::Streaming {
                    let (kind, state) = (kind::STREAM_STATE, super::stream::TERMINATED);
                    json::send_on(
                        out,
                        Line::Control,
                        format_args!(
                            r#"{{"msg_type":{kind},"state":{state},"reason":{},"timestamp":{}}}"#,
                            super::why::MEETING_ENDED,
                            clock(now)
                        ),
                    );
                }
                let reason = super::why::MEETING_ENDED;
                self.post(now, "stopped", format_args!(r#""stop_reason":{reason}"#), out);
                out.close(1000);
                self.stop();
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if self.interrupted.is_some_and(|at| at <= now) {
            self.interrupted = None;
            let url = self.url(Line::Control);
            self.post(now, "interrupted", format_args!(r#""server_urls":{}"#, Quoted(&url)), out);
        }
        for line in Line::ALL {
            let Some(keep) = &mut self.keeps[line.index()] else { continue };
            if keep.next > now {
                continue;
            }
            if keep.unanswered == MOST_UNANSWERED {
                let what = match line {
                    Line::Control => "the signaling server's requests for life",
                    Line::Media => "the media server's requests for life",
                };
                return Err(ProtocolError::Unanswered { what });
            }
            keep.unanswered += 1;
            keep.next = now + KEEP_ALIVE;
            keep_alive(kind::KEEP_ALIVE_REQUEST, line, &clock(now).to_string(), out);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.keeps.iter().flatten().map(|keep| keep.next).chain(self.interrupted).min()
    }
}
