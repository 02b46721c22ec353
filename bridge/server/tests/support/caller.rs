//! A caller that speaks a frame, waits for its echo and for 20 ms to pass, and only then speaks the next. Plays nothing.
//!
//! Callers of the real world send on time whatever comes back; what a busy machine holds up then arrives in a heap, and the
//! bridge trims heaps of live sound on purpose. In step with its echo, no caller ever makes a heap, so that every octet can be
//! asked for even where the machine stands still for a while.

use std::time::Duration;

use ringback::clock::Clock;
use ringback::net::Io;
use ringback::socket::{self, DialError, Incoming, Outgoing, Socket, SocketOptions};
use ringback_codecs::{Encoder, MediaFormat};
use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Dial, Digit, Event, Outbox, OutgoingUpgrade, Protocol, Provider, Send, Start, Track,
    Transport,
};

use super::soon;

pub const FRAME: Duration = Duration::from_millis(20);

/// How the bridge closed the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// 1005 if there was none in the frame, 1006 if there was no frame.
    pub code: u16,
    pub reason: String,
}

pub struct Caller {
    clock: Clock,
    socket: Option<Socket>,
    protocol: Box<dyn Protocol>,
    out: Outbox,
    start: Option<Box<Start>>,
    encoder: Option<Box<dyn Encoder>>,
    /// The next frame may be spoken then.
    next: Instant,
    /// Whether every frame is waited for to come back.
    pub in_step: bool,
    /// Samples that need not have come back yet, where the bridge gathers longer messages.
    pub slack: u64,
    /// Payloads sent, and the samples in all of them.
    pub sent: Vec<Vec<u8>>,
    pub samples_sent: u64,
    /// Payloads that came back, and the samples in all of them.
    pub heard: Vec<Vec<u8>>,
    pub samples_heard: u64,
    /// Results that came in-band.
    pub results: Vec<String>,
    pub clears: usize,
    /// Set once the bridge has closed the stream.
    pub goodbye: Option<Goodbye>,
}

impl Caller {
    /// Opens a stream as `provider` would, with header fields beside those of the provider.
    pub async fn dial(
        clock: Clock,
        io: impl Io,
        provider: &dyn Provider,
        dial: &Dial,
        headers: &[(&str, &str)],
    ) -> Result<Self, DialError> {
        let extra = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self::dial_as(clock, io, provider, dial, |request| request.headers.extend(extra)).await
    }

    /// The same with a request that is changed before it is sent, signed say.
    pub async fn dial_as(
        clock: Clock,
        io: impl Io,
        provider: &dyn Provider,
        dial: &Dial,
        change: impl FnOnce(&mut OutgoingUpgrade),
    ) -> Result<Self, DialError> {
        let (mut request, protocol) = provider.dial(dial);
        change(&mut request);
        let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
        let socket = match provider.transport() {
            Transport::Records => Socket::records(Box::new(io), &[], options),
            Transport::Webhook { .. } => panic!("not over one socket"),
            Transport::WebSocket => socket::dial(io, "localhost", &request, options).await?,
        };
        let mut caller = Self {
            clock,
            socket: Some(socket),
            protocol,
            out: Outbox::new(),
            start: None,
            encoder: None,
            next: clock.now(),
            in_step: true,
            slack: 0,
            sent: Vec::new(),
            samples_sent: 0,
            heard: Vec::new(),
            samples_heard: 0,
            results: Vec::new(),
            clears: 0,
            goodbye: None,
        };
        caller.protocol.handle_open(clock.now(), &mut caller.out).expect("ends open");
        caller.react().await;
        Ok(caller)
    }

    /// The format both ways, once the stream has started.
    pub async fn format(&mut self) -> MediaFormat {
        soon("the start of the stream", async {
            while self.start.is_none() {
                self.turn(None).await;
            }
        })
        .await;
        let format = self.start.as_ref().and_then(|start| start.inbound).expect("a call of sound");
        if self.encoder.is_none() {
            self.encoder = Some(format.encoder().expect("the caller's own format has a codec"));
        }
        format
    }

    /// What the wire calls the call, on a stream that has started.
    pub fn call(&self) -> Option<&str> {
        self.start.as_ref().and_then(|start| start.call.as_deref())
    }

    /// What comes back, on a stream that has started.
    pub fn outbound(&self) -> Option<MediaFormat> {
        self.start.as_ref().and_then(|start| start.outbound)
    }

    /// Says this, the last frame filled up with silence.
    pub async fn speak(&mut self, samples: &[i16]) {
        let format = self.format().await;
        let length = format.rate.samples_in(FRAME) as usize;
        for piece in samples.chunks(length) {
            let mut frame = piece.to_vec();
            frame.resize(length, 0);
            self.speak_frame(format, &frame).await;
        }
    }

    /// Says nothing for so many frames; silence is sent all the same.
    pub async fn pause(&mut self, frames: usize) {
        let format = self.format().await;
        let silence = vec![0; format.rate.samples_in(FRAME) as usize * frames];
        self.speak(&silence).await;
    }

    async fn speak_frame(&mut self, format: MediaFormat, frame: &[i16]) {
        let mut payload = Vec::new();
        let encoder = self.encoder.as_mut().expect("made with the format");
        encoder.encode(frame, &mut payload).expect("a frame can be encoded");
        self.send_payload(format, payload).await;
        let due = self.next;
        soon("the echo of a frame", async {
            while self.clock.now() < due
                || (self.in_step
                    && self.samples_heard + self.slack < self.samples_sent
                    && !self.is_over())
            {
                let timer = (self.clock.now() < due).then_some(due);
                self.turn(timer).await;
            }
        })
        .await;
    }

    async fn send_payload(&mut self, format: MediaFormat, payload: Vec<u8>) {
        let now = self.clock.now();
        let media = Command::Media { track: Track::Inbound, payload: &payload };
        self.protocol.handle_command(now, media, &mut self.out).expect("sound may be sent");
        self.samples_sent += format.samples_of(&payload) as u64;
        self.sent.push(payload);
        self.next = now + FRAME;
        self.flush().await;
    }

    /// Presses a key.
    pub async fn press(&mut self, digit: Digit) {
        let pressed =
            self.protocol.handle_command(self.clock.now(), Command::Dtmf(digit), &mut self.out);
        pressed.expect("a caller may press keys");
        self.flush().await;
    }

    /// Listens until something holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        soon(what, async {
            while !holds(self) {
                assert!(!self.is_over(), "the bridge closed ({:?}) before {what}", self.goodbye);
                self.turn(None).await;
            }
        })
        .await;
    }

    pub fn is_over(&self) -> bool {
        self.goodbye.is_some()
    }

    /// Hangs up as the provider does, and waits for the bridge to close where it is the bridge's part to.
    pub async fn hang_up(mut self) -> Self {
        let hung_up =
            self.protocol.handle_command(self.clock.now(), Command::Hangup, &mut self.out);
        hung_up.expect("a caller may hang up");
        self.flush().await;
        self.closed().await;
        self
    }

    /// Waits for the bridge to close the stream.
    pub async fn closed(&mut self) -> Goodbye {
        soon("the bridge's close", async {
            while self.socket.is_some() {
                self.turn(None).await;
            }
        })
        .await;
        self.goodbye.clone().unwrap_or(Goodbye { code: 1005, reason: String::new() })
    }

    /// One message, or the timer.
    async fn turn(&mut self, timer: Option<Instant>) {
        let Some(socket) = &mut self.socket else { return };
        let incoming = tokio::select! {
            biased;
            incoming = socket.recv() => incoming,
            () = self.clock.sleep_until(timer) => return,
        };
        let (code, reason) = match incoming {
            Some(Ok(Incoming::Close(closed))) => {
                closed.map_or((1005, String::new()), |closed| (closed.code, closed.reason))
            }
            Some(Ok(incoming)) => {
                if let Some(message) = socket.message(&incoming) {
                    let now = self.clock.now();
                    let handled = self.protocol.handle_message(now, message, &mut self.out);
                    handled
                        .unwrap_or_else(|error| panic!("the bridge broke the protocol: {error}"));
                    self.react().await;
                }
                return;
            }
            Some(Err(error)) => (1006, error.to_string()),
            None => (1006, "cut".into()),
        };
        self.goodbye = Some(Goodbye { code, reason });
        if let Some(socket) = self.socket.take() {
            socket.close(1000, "").await;
        }
    }

    async fn react(&mut self) {
        let out = std::mem::take(&mut self.out);
        for event in out.events() {
            match event {
                Event::Started(start) => self.start = Some(start.clone()),
                Event::Media(media) => {
                    let payload = out.octets(&media.payload).to_vec();
                    let start = self.start.as_ref().expect("sound follows the start");
                    let format =
                        start.outbound.expect("a stream that hears sound can be sent some");
                    self.samples_heard += format.samples_of(&payload) as u64;
                    self.heard.push(payload);
                }
                Event::ClearRequested => self.clears += 1,
                Event::Result(result) => self.results.push(result.clone()),
                _ => {}
            }
        }
        self.out = out;
        self.flush().await;
    }

    async fn flush(&mut self) {
        let mut close = None;
        if let Some(socket) = &mut self.socket {
            for send in self.out.sends() {
                let fed = match send {
                    Send::Text(span) => socket.feed(Outgoing::Text(self.out.text_of(span))),
                    Send::Binary(span) => socket.feed(Outgoing::Binary(self.out.octets(span))),
                    Send::Close(code) => {
                        close = Some(*code);
                        Ok(())
                    }
                    Send::Dial(..) | Send::TextOn(..) | Send::Drop(_) => Ok(()),
                };
                fed.expect("the bridge reads");
            }
            socket.flush().await.expect("the bridge reads");
        }
        if let (Some(code), Some(socket)) = (close, close.and_then(|_| self.socket.take())) {
            socket.close(code, "").await;
        }
        self.out.reset();
    }
}
