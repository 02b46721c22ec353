//! One caller's end of a stream: placed with deadlines, then read and written without waiting. Knows no schedule.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::provider::{Command, Dial, Event, Message, Outbox, Protocol, Send, Transport};

use super::stamp::Hearing;
use super::voice::Voice;
use super::{Answers, Plan};
use crate::client::refused;
use crate::clock::Clock;
use crate::destination::Destination;
use crate::socket::wire::{Kind, Reader, Role, Writer};
use crate::socket::{Asking, DialError, SocketOptions, close_code};

/// Whoever takes longer to be connected to, to answer or to start is taken for dead.
const DEADLINE: Duration = Duration::from_secs(5);

/// A stream that has started.
pub(super) struct Caller {
    pub(super) stream: mio::net::TcpStream,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) hearing: Hearing,
    /// What speaks and hears in the place of a stamp, in formats that carry none.
    pub(super) voice: Option<Box<Voice>>,
    /// Frames that came back from whoever sends back octets: the next is this one.
    pub(super) in_order: u32,
    reader: Reader,
    /// What the system would not take yet.
    backlog: Vec<u8>,
}

/// What all callers write with: one buffer for all.
pub(super) struct Pen {
    pub(super) out: Outbox,
    writer: Writer,
}

impl Pen {
    pub(super) fn new(transport: Transport) -> Self {
        let role = match transport {
            Transport::WebSocket | Transport::Webhook { .. } => Role::Client,
            Transport::Records => Role::Records,
        };
        Self { out: Outbox::new(), writer: Writer::new(role) }
    }

    /// Puts what is to be sent into frames.
    fn write_down(&mut self) {
        for send in self.out.sends() {
            match send {
                Send::Text(span) => self.writer.push(Kind::Text, self.out.octets(span)),
                Send::Binary(span) => self.writer.push(Kind::Binary, self.out.octets(span)),
                Send::Close(code) => self.writer.push_close(*code, ""),
                // Only of providers that place no calls here.
                Send::Dial(..) | Send::TextOn(..) | Send::Drop(_) => {}
            }
        }
        self.out.reset();
    }
}

impl Caller {
    /// Places call number `index` and waits until its stream has started; also says which format it speaks.
    pub(super) fn place(
        clock: Clock,
        plan: &Plan,
        to: &Destination,
        index: usize,
        pen: &mut Pen,
    ) -> Result<(Self, MediaFormat), String> {
        if let Transport::Webhook { .. } = plan.provider.transport() {
            let name = plan.provider.name();
            return Err(format!(
                "{name} is dialled by the bridge, which this generator is not made for"
            ));
        }
        let dial = Dial {
            target: to.url.target.clone(),
            call: format!("bench-{index}"),
            format: plan.format,
            ..Dial::default()
        };
        let (mut request, protocol) = plan.provider.dial(&dial);
        let mut stream = connect(&to.url.authority)?;
        let role = match (plan.answers, plan.provider.transport()) {
            (_, Transport::Records) => Role::Records,
            (Answers::Octets, _) => Role::Server,
            _ => Role::Client,
        };
        let mut reader = Reader::new(role, SocketOptions::default().max_message);
        if role == Role::Client {
            to.sign(&mut request)?;
            let asked = Asking::new(to.url.host(), &request)
                .and_then(|mut asking| ask(&mut stream, &mut asking));
            reader.push(&asked.map_err(|error| refused(to, error).to_string())?);
        }
        let mut starting = Starting { clock, stream, reader, protocol, format: None };
        starting.open(plan.answers, pen)?;
        let Starting { stream, reader, protocol, format, .. } = starting;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let caller = Self {
            stream: mio::net::TcpStream::from_std(stream),
            protocol,
            hearing: Hearing::default(),
            voice: None,
            in_order: 0,
            reader,
            backlog: Vec::new(),
        };
        Ok((caller, format.ok_or("the stream has not said what it carries")?))
    }

    /// Reads once and says whether there may be more.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        let space = self.reader.space();
        let room = space.len();
        match self.stream.read(space) {
            Ok(0) => Err("the bridge cut the line".into()),
            Ok(octets) => {
                self.reader.filled(octets);
                Ok(octets == room)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(format!("the line broke: {error}")),
        }
    }

    /// The next message, handed to `take` with the protocol; `false` once all that was read is told.
    pub(super) fn next_message(
        &mut self,
        pen: &mut Pen,
        take: impl FnOnce(&mut dyn Protocol, Message<'_>, &mut Outbox) -> Result<(), String>,
    ) -> Result<bool, String> {
        let Some(arrival) = self.reader.next_message().map_err(|error| error.to_string())? else {
            return Ok(false);
        };
        let octets = self.reader.octets(&arrival);
        match arrival.kind {
            Kind::Text => {
                let text = self.reader.text(&arrival);
                take(self.protocol.as_mut(), Message::Text(text), &mut pen.out)?;
            }
            Kind::Binary => take(self.protocol.as_mut(), Message::Binary(octets), &mut pen.out)?,
            Kind::Ping => pen.writer.push(Kind::Pong, octets),
            Kind::Pong => {}
            Kind::Close => return Err(closed(octets)),
        }
        pen.write_down();
        Ok(true)
    }

    /// Sends what the pen holds; what the system does not take goes out once it does.
    pub(super) fn flush(&mut self, pen: &mut Pen) -> Result<(), String> {
        pen.write_down();
        let pending = pen.writer.pending();
        if pending.is_empty() {
            return Ok(());
        }
        if !self.backlog.is_empty() {
            self.backlog.extend_from_slice(pending);
            let written = pending.len();
            pen.writer.wrote(written);
            return self.flush_backlog();
        }
        let taken = write(&mut self.stream, pending)?;
        self.backlog.extend_from_slice(&pending[taken..]);
        let written = pending.len();
        pen.writer.wrote(written);
        Ok(())
    }

    /// The system takes octets again.
    pub(super) fn flush_backlog(&mut self) -> Result<(), String> {
        if !self.backlog.is_empty() {
            let taken = write(&mut self.stream, &self.backlog)?;
            self.backlog.drain(..taken);
        }
        Ok(())
    }

    /// Hangs up, without waiting for anything: the run is over, and nobody is left to be told of a line that broke.
    pub(super) fn hang_up(mut self, clock: Clock, pen: &mut Pen) {
        if self.protocol.handle_command(clock.now(), Command::Hangup, &mut pen.out).is_ok() {
            let closes = pen.out.sends().iter().any(|send| matches!(send, Send::Close(_)));
            if !closes {
                pen.out.close(close_code::NORMAL);
            }
        }
        let _ = self.flush(pen);
    }
}

/// Writes until the system takes no more; says how much it took.
fn write(stream: &mut mio::net::TcpStream, octets: &[u8]) -> Result<usize, String> {
    let mut taken = 0;
    while taken < octets.len() {
        match stream.write(&octets[taken..]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("the line broke: {error}")),
        }
    }
    Ok(taken)
}

fn closed(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => format!(
            "the bridge closed the stream with {} {:?}",
            u16::from_be_bytes(*code),
            String::from_utf8_lossy(reason)
        ),
        None => "the bridge closed the stream".into(),
    }
}

fn connect(authority: &str) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("cannot connect to {authority}: {error}");
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in authority.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(failed)?;
                stream.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
                stream.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Asks for the stream; gives what came behind the answer.
fn ask(stream: &mut TcpStream, asking: &mut Asking) -> Result<Vec<u8>, DialError> {
    let failed = |error: &io::Error| DialError::Handshake(unanswered(error));
    stream.write_all(asking.request()).map_err(|error| failed(&error))?;
    let mut octets = [0; 1024];
    loop {
        let count = match stream.read(&mut octets) {
            Ok(count) => count,
            // A refusal of which the body never ends is one all the same.
            Err(error) => return Err(asking.give_up(failed(&error))),
        };
        if let Some(agreed) = asking.take(&octets[..count])? {
            return Ok(agreed.read_ahead);
        }
    }
}

fn unanswered(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {DEADLINE:?}")
        }
        _ => format!("the connection failed: {error}"),
    }
}

/// A stream between its upgrade and its start.
struct Starting {
    clock: Clock,
    stream: TcpStream,
    reader: Reader,
    protocol: Box<dyn Protocol>,
    format: Option<MediaFormat>,
}

impl Starting {
    fn open(&mut self, answers: Answers, pen: &mut Pen) -> Result<(), String> {
        let now = self.clock.now();
        self.protocol.handle_open(now, &mut pen.out).map_err(|error| error.to_string())?;
        self.look_for_start(&pen.out)?;
        if answers != Answers::Calls {
            // Whoever sends everything back knows no calls: their beginning is not sent to it.
            pen.out.reset();
            return Ok(());
        }
        self.send(pen)?;
        let deadline = now + DEADLINE;
        while self.format.is_none() {
            if self.clock.now() > deadline {
                return Err(format!("the stream has not started within {DEADLINE:?}"));
            }
            let octets =
                self.stream.read(self.reader.space()).map_err(|error| unanswered(&error))?;
            if octets == 0 {
                return Err("the bridge cut the line".into());
            }
            self.reader.filled(octets);
            self.take_messages(pen)?;
            self.send(pen)?;
        }
        Ok(())
    }

    fn take_messages(&mut self, pen: &mut Pen) -> Result<(), String> {
        while let Some(arrival) = self.reader.next_message().map_err(|error| error.to_string())? {
            let message = match arrival.kind {
                Kind::Text => Message::Text(self.reader.text(&arrival)),
                Kind::Binary => Message::Binary(self.reader.octets(&arrival)),
                Kind::Close => return Err(closed(self.reader.octets(&arrival))),
                Kind::Ping | Kind::Pong => continue,
            };
            let now = self.clock.now();
            self.protocol
                .handle_message(now, message, &mut pen.out)
                .map_err(|error| error.to_string())?;
            self.look_for_start(&pen.out)?;
        }
        Ok(())
    }

    fn look_for_start(&mut self, out: &Outbox) -> Result<(), String> {
        for event in out.events() {
            let Event::Started(start) = event else { continue };
            match (start.inbound, start.outbound) {
                (Some(said), Some(heard)) if said != heard => {
                    return Err(format!(
                        "it is answered in {heard}, and said in {said}: choose that"
                    ));
                }
                _ => self.format = start.inbound,
            }
        }
        Ok(())
    }

    fn send(&mut self, pen: &mut Pen) -> Result<(), String> {
        pen.write_down();
        self.stream.write_all(pen.writer.pending()).map_err(|error| unanswered(&error))?;
        let written = pen.writer.pending().len();
        pen.writer.wrote(written);
        Ok(())
    }
}
