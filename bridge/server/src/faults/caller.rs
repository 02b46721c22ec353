//! The far end of a call that a fault is done to: says numbered frames, hears which come back, and counts. Knows nothing of the bridge
//! but what a telephone would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::Instant;
use ringback_proto::provider::{
    self, Command, Dial, Event, Outbox, Protocol, Provider, Send, Track,
};
use tokio::net::{TcpSocket, TcpStream};

use crate::bench::{FRAME, Heard, Hearing, Missing, Stamp};
use crate::client::WsUrl;
use crate::clock::Clock;
use crate::net;
use crate::socket::{
    self, DialError, Incoming, Outgoing, Socket, SocketError, SocketOptions, close_code,
};

/// A bridge that does not answer within this is given up.
const CONNECT: Duration = Duration::from_secs(8);

/// Whoever waits to be left waits no longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a caller listens after its last word.
const LINGER: Duration = Duration::from_secs(1);
/// Octets that the system keeps for a caller that does not read.
const NARROW: u32 = 4 * 1024;

/// What becomes of the messages of the provider's end: of the message of a frame, or of one that opens the stream ([`OPENING`]), what is
/// sent in its place.
pub(super) type Mangle = Box<dyn FnMut(u32, String) -> Vec<String> + std::marker::Send + Sync>;

/// The number of no frame.
pub(super) const OPENING: u32 = u32::MAX;

/// How a caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As the provider says goodbye.
    HangUp,
    /// Not: waits to be left, and gives up a minute after its last word.
    Never,
}

/// A call to be placed.
pub(super) struct Call {
    pub(super) provider: &'static dyn Provider,
    pub(super) to: WsUrl,
    pub(super) name: String,
    /// What is spoken, which the provider must speak without being asked or be able to choose.
    pub(super) format: MediaFormat,
    /// Frames to say.
    pub(super) frames: u32,
    /// Frames a second, as many times as they should be.
    pub(super) speed: u32,
    /// How long it listens after the last.
    pub(super) linger: Duration,
    pub(super) leave: Leave,
    pub(super) mangle: Option<Mangle>,
    /// Reads nothing from then until then.
    pub(super) deaf: Option<(Duration, Duration)>,
    /// Once this is set it says no more.
    pub(super) enough: Option<Arc<AtomicBool>>,
}

impl Call {
    /// One of Twilio's that says numbered frames for so long, listens for another second and hangs up.
    pub(super) fn new(to: WsUrl, name: &str, lasts: Duration) -> Self {
        Self {
            provider: provider::find("twilio").expect("there is Twilio"),
            to,
            name: name.to_owned(),
            format: MediaFormat::PCMU_8000,
            frames: u32::try_from(lasts.as_nanos() / FRAME.as_nanos()).unwrap_or(u32::MAX),
            speed: 1,
            linger: LINGER,
            leave: Leave::HangUp,
            mangle: None,
            deaf: None,
            enough: None,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The caller left.
    Left,
    /// The bridge closed, with this code.
    Closed(u16),
    /// The line broke.
    Broken(String),
    /// The bridge would not have it: with this status, if it said one.
    Refused(Option<u16>),
}

/// What a caller counted.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) name: String,
    /// Messages of sound handed to the line.
    pub(super) messages: u64,
    /// Messages that were not handed to it as the protocol wrote them: left out, changed, or with others.
    pub(super) mangled: u64,
    /// Frames said.
    pub(super) sent: u64,
    /// Messages of sound that came.
    pub(super) media: u64,
    pub(super) twice: u64,
    pub(super) disordered: u64,
    pub(super) strangers: u64,
    /// When each frame was said and, if it was, when it was heard.
    pub(super) frames: Vec<(Instant, Option<Instant>)>,
    pub(super) end: End,
    /// When the call was asked for, was there, and was over.
    pub(super) times: [Instant; 3],
}

impl Counted {
    /// Frames heard, each once.
    pub(super) fn back(&self) -> u64 {
        self.frames.iter().filter(|(_, heard)| heard.is_some()).count() as u64
    }

    /// Frames said and not heard.
    pub(super) fn missing(&self) -> Missing {
        Missing::of(self.frames.iter().map(|(_, heard)| heard.is_some()))
    }

    /// The longest time in which nothing was heard, between the first frame that was heard and the last.
    pub(super) fn longest_silence(&self) -> Duration {
        let mut heard: Vec<_> = self.frames.iter().filter_map(|(_, heard)| *heard).collect();
        heard.sort_unstable();
        heard.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// When the last frame was said that took longer than `most`, or never came.
    pub(super) fn last_late(&self, most: Duration) -> Option<Instant> {
        let late = |(said, heard): &&(Instant, Option<Instant>)| {
            heard.is_none_or(|heard| heard - *said > most)
        };
        self.frames.iter().rev().find(late).map(|(said, _)| *said)
    }
}

/// Places a call and tells what it came to.
pub(super) async fn place(clock: Clock, mut call: Call) -> Counted {
    let asked = clock.now();
    let mut counted = Counted {
        name: call.name.clone(),
        messages: 0,
        mangled: 0,
        sent: 0,
        media: 0,
        twice: 0,
        disordered: 0,
        strangers: 0,
        frames: Vec::new(),
        end: End::Left,
        times: [asked; 3],
    };
    let opened = tokio::time::timeout(CONNECT, open(&call)).await;
    match opened.unwrap_or(Err(End::Refused(None))) {
        Ok((socket, protocol)) => {
            counted.times[1] = clock.now();
            let Some(stamp) = Stamp::new(call.format) else { return counted };
            let mut line = Line { clock, socket, protocol, out: Outbox::new(), counted, stamp };
            let end = line.talk(&mut call).await;
            counted = line.counted;
            counted.end = end;
            if counted.end == End::Left {
                line.socket.close(close_code::NORMAL, "").await;
            }
        }
        Err(end) => counted.end = end,
    }
    counted.times[2] = clock.now();
    counted
}

async fn open(call: &Call) -> Result<(Socket, Box<dyn Protocol>), End> {
    // What is spoken by all is not asked for.
    let format = Some(call.format).filter(|format| *format != MediaFormat::PCMU_8000);
    let (target, name) = (call.to.target.clone(), call.name.clone());
    let dial = Dial { target, call: name, format, ..Dial::default() };
    let (request, protocol) = call.provider.dial(&dial);
    let broken = |error: std::io::Error| End::Broken(error.to_string());
    let stream = match call.deaf {
        None => net::connect(&call.to.authority).await,
        Some(_) => connect_narrow(&call.to.authority).await,
    };
    let stream: TcpStream = stream.map_err(broken)?;
    // Its deadlines are not what is tried out here.
    let options = SocketOptions {
        keepalive: None,
        write_deadline: Duration::from_secs(120),
        ..SocketOptions::default()
    };
    match socket::dial(stream, call.to.host(), &request, options).await {
        Ok(socket) => Ok((socket, protocol)),
        Err(DialError::Refused { status, .. }) => Err(End::Refused(Some(status))),
        Err(error) => Err(End::Broken(error.to_string())),
    }
}

/// A connection on which the system keeps little that nobody reads, or a deaf caller would look well for half a minute.
async fn connect_narrow(authority: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(NARROW)?;
    let address = authority.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A stream that is there.
struct Line {
    clock: Clock,
    socket: Socket,
    protocol: Box<dyn Protocol>,
    out: Outbox,
    counted: Counted,
    stamp: Stamp,
}

impl Line {
    async fn talk(&mut self, call: &mut Call) -> End {
        let (begin, mut hearing) = (self.clock.now(), Hearing::default());
        if self.protocol.handle_open(begin, &mut self.out).is_err()
            || self.feed(OPENING, &mut call.mangle).is_err()
        {
            return End::Broken("the stream could not be announced".into());
        }
        let pace = FRAME / call.speed.max(1);
        let mut next = 0;
        loop {
            let now = self.clock.now();
            if call.enough.as_ref().is_some_and(|enough| enough.load(Ordering::Relaxed)) {
                call.frames = call.frames.min(next);
            }
            let ends = begin + pace * call.frames + call.linger;
            let leaves = match call.leave {
                Leave::HangUp => ends,
                Leave::Never => ends + PATIENCE,
            };
            while next < call.frames && begin + pace * (next + 1) <= now {
                if let Err(error) = self.say(now, next, &mut call.mangle) {
                    return End::Broken(error);
                }
                next += 1;
            }
            if now >= leaves {
                return self.leave(now);
            }
            let since = now - begin;
            let deaf = call.deaf.filter(|(from, until)| since >= *from && since < *until);
            let wake = if next < call.frames { begin + pace * (next + 1) } else { leaves };
            let wake = deaf.map(|(_, until)| begin + until).into_iter().chain([wake]).min();
            let socket = &mut self.socket;
            let message = async move {
                if deaf.is_none() {
                    return socket.recv().await;
                }
                match socket.flush().await {
                    Ok(()) => std::future::pending().await,
                    Err(error) => Some(Err(error)),
                }
            };
            tokio::select! {
                biased;
                message = message => {
                    if let Some(end) = self.hear(message, &mut hearing) {
                        return end;
                    }
                }
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn say(
        &mut self,
        now: Instant,
        number: u32,
        mangle: &mut Option<Mangle>,
    ) -> Result<(), String> {
        let mut payload = Vec::new();
        self.stamp.write(number, 0, &mut payload);
        let media = Command::Media { track: Track::Inbound, payload: &payload };
        self.protocol.handle_command(now, media, &mut self.out).map_err(|e| e.to_string())?;
        self.counted.sent += 1;
        self.counted.frames.push((now, None));
        self.feed(number, mangle)
    }

    /// Hands the outbox to the socket; what the socket cannot write now goes out while it is read.
    fn feed(&mut self, number: u32, mangle: &mut Option<Mangle>) -> Result<(), String> {
        for send in self.out.sends() {
            let fed = match (send, mangle.as_mut()) {
                (Send::Text(span), Some(mangle)) => {
                    let text = self.out.text_of(span);
                    let texts = mangle(number, text.to_owned());
                    self.counted.mangled += u64::from(!matches!(&texts[..], [one] if one == text));
                    let media = texts.iter().filter(|text| text.contains("\"media\""));
                    self.counted.messages += media.count() as u64;
                    texts.iter().try_for_each(|text| self.socket.feed(Outgoing::Text(text)))
                }
                (Send::Text(span), None) => {
                    let text = self.out.text_of(span);
                    self.counted.messages += u64::from(text.contains("\"media\""));
                    self.socket.feed(Outgoing::Text(text))
                }
                (Send::Binary(span), _) => {
                    self.counted.messages += 1;
                    self.socket.feed(Outgoing::Binary(self.out.octets(span)))
                }
                _ => Ok(()),
            };
            fed.map_err(|error| error.to_string())?;
        }
        self.out.reset();
        Ok(())
    }

    fn hear(
        &mut self,
        message: Option<Result<Incoming, SocketError>>,
        hearing: &mut Hearing,
    ) -> Option<End> {
        let now = self.clock.now();
        match message {
            None => return Some(End::Broken("cut".into())),
            Some(Err(error)) => return Some(End::Broken(error.to_string())),
            Some(Ok(Incoming::Close(closed))) => {
                return Some(End::Closed(closed.map_or(1005, |closed| closed.code)));
            }
            Some(Ok(incoming)) => {
                let message = self.socket.message(&incoming)?;
                if let Err(error) = self.protocol.handle_message(now, message, &mut self.out) {
                    return Some(End::Broken(error.to_string()));
                }
            }
        }
        for event in self.out.events() {
            let Event::Media(media) = event else { continue };
            self.counted.media += 1;
            let (counted, octets) = (&mut self.counted, self.out.octets(&media.payload));
            hearing.hear(&self.stamp, 0, octets, |heard| note(counted, now, heard));
        }
        self.feed(OPENING, &mut None).err().map(End::Broken)
    }

    fn leave(&mut self, now: Instant) -> End {
        let said = self.protocol.handle_command(now, Command::Hangup, &mut self.out);
        // Nobody is left to be told of a line that broke.
        if said.is_ok() {
            let _ = self.feed(OPENING, &mut None);
        }
        End::Left
    }
}

fn note(counted: &mut Counted, now: Instant, heard: Heard) {
    let Heard::Frame(number) = heard else {
        counted.strangers += 1;
        return;
    };
    let later = counted.frames.get(number as usize + 1..).unwrap_or_default();
    let overtaken = later.iter().any(|(_, heard)| heard.is_some());
    match counted.frames.get_mut(number as usize) {
        None => counted.strangers += 1,
        Some((_, Some(_))) => counted.twice += 1,
        Some((_, heard @ None)) => {
            *heard = Some(now);
            counted.disordered += u64::from(overtaken);
        }
    }
}
