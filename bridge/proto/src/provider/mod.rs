//! The vocabulary all providers share and the table of them. Each provider's wire lives in its own file, both ends of it.
//!
//! A [`Protocol`] is one end of one stream. The *bridge's* end ([`Provider::accept`]) turns the provider's messages into
//! [`Event`]s and [`Command`]s into messages. The *provider's* end ([`Provider::dial`]) does the same from the other side of the
//! wire, so that the simulator, the load generator and the pair tests speak to us exactly as the provider does.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use ringback_codecs::MediaFormat;

use crate::Instant;

/// A WebSocket message (or, for byte-stream providers, one frame of theirs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// A range of octets in an [`Outbox`]'s arena.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Span(pub Range<usize>);

/// Whose voice a wire track carries, from the call's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Track {
    /// The person on the phone, what we want to hear.
    Inbound,
    /// What the person on the phone hears.
    Outbound,
}

/// A piece of sound as it came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Whose voice.
    pub track: Track,
    /// The octets, in the outbox' arena.
    pub payload: Span,
    /// Counts the pieces of this track, where the provider counts them.
    pub sequence: Option<u64>,
    /// Presentation time since the stream's start, where the provider tells it.
    pub timestamp: Option<Duration>,
}

/// A key on a telephone: `0`-`9`, `*`, `#`, `A`-`D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digit(char);

impl Digit {
    /// The digit, or `None` if no telephone has that key. Lower-case letters are taken for upper-case.
    #[must_use]
    pub const fn new(key: char) -> Option<Self> {
        match key.to_ascii_uppercase() {
            c @ ('0'..='9' | '*' | '#' | 'A'..='D') => Some(Self(c)),
            _ => None,
        }
    }

    /// The key as printed.
    #[must_use]
    pub const fn as_char(self) -> char {
        self.0
    }
}

/// All that is known when a stream has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The provider's name for the stream.
    pub stream: String,
    /// The provider's name for the call, where it tells one.
    pub call: Option<String>,
    /// Calling number or name.
    pub from: Option<String>,
    /// Called number or name.
    pub to: Option<String>,
    /// Custom parameters, in the provider's order.
    pub parameters: Vec<(String, String)>,
    /// Tracks that will be heard.
    pub tracks: Vec<Track>,
    /// What arrives on them.
    pub inbound: MediaFormat,
    /// What we may send, or `None` on a one-way stream.
    pub outbound: Option<MediaFormat>,
    /// What can be done on this stream.
    pub capabilities: Capabilities,
}

/// What the wire can do; decides how playback is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Who queues playback.
    pub playout: PlayoutPolicy,
    /// Sizes of the media messages we send.
    pub frame: FrameLaw,
    /// What the provider does when told to drop its queue.
    pub clear: ClearLaw,
    /// Whether it tells when playback reached a mark.
    pub marks: bool,
    /// Whether playback can be held at the provider.
    pub pause: bool,
    /// Whether key presses are reported.
    pub dtmf_in: bool,
    /// Whether we can press keys.
    pub dtmf_out: bool,
    /// What a hang-up does on the wire.
    pub hangup: HangupLaw,
}

/// Who queues playback, and how far ahead of real time it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayoutPolicy {
    /// The provider queues: it may be sent ahead, up to its `limit`.
    Ahead {
        /// More than this is discarded by the provider.
        limit: Duration,
    },
    /// What is queued there is latency, or it does not queue: send in real time.
    Paced {
        /// More than this is discarded by the provider.
        limit: Duration,
    },
    /// Nothing can be played on this stream.
    None,
}

/// Sizes of media messages a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameLaw {
    /// Any number of samples.
    Any,
    /// Exactly this long, every one.
    Exact(Duration),
    /// Any multiple of this.
    MultipleOf(Duration),
}

/// What the provider does on clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearLaw {
    /// There is no such command.
    Unsupported,
    /// Drops its queue and returns all pending marks as if played.
    ReturnsMarks,
    /// Drops its queue and the pending marks with it.
    DropsMarks,
}

/// What hanging up does on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangupLaw {
    /// There is a message for it.
    Message,
    /// Closing the stream is all there is; what the provider does next is its configuration.
    Close,
}

/// Why a stream ended, as its protocol saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// The person at the other end, or the provider, ended the call.
    Remote,
    /// The stream was stopped, the call may go on elsewhere.
    StreamStopped,
}

/// What a message meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The stream has started. At most once.
    Started(Box<Start>),
    /// Sound.
    Media(Media),
    /// A key was pressed.
    Dtmf {
        /// Which.
        digit: Digit,
        /// How long, if told.
        duration: Option<Duration>,
    },
    /// To the bridge: playback reached a mark (or a clear released it).
    Played(String),
    /// To the bridge: the provider confirms a clear.
    Cleared,
    /// To the bridge: the provider's queue is full; send nothing until [`Event::Writable`].
    Full,
    /// To the bridge: the provider takes sound again.
    Writable,
    /// To the provider: report when playback reaches this mark.
    MarkRequested(String),
    /// To the provider: drop what is queued.
    ClearRequested,
    /// To the provider: hold playback.
    PauseRequested,
    /// To the provider: go on.
    ResumeRequested,
    /// To the provider: hang up.
    HangupRequested,
    /// The stream is over; nothing of meaning follows.
    Stopped(StopCause),
    /// Something worth a line in the log and a counter, and nothing else.
    Notice(Notice),
}

/// Oddities that do not end a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A message of a kind this version does not know; `kind` is cut to a few characters.
    UnknownMessage {
        /// What it calls itself.
        kind: String,
    },
    /// The provider reports an error of ours or its own.
    ProviderError {
        /// What it said, cut.
        text: String,
    },
    /// Sound came before the stream started.
    EarlyMedia {
        /// Octets of it, dropped.
        octets: usize,
    },
}

/// What an end of a stream is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Send sound, encoded as the stream's format says. `timestamp` is used by ends that count media time.
    Media {
        /// Whose voice: [`Track::Outbound`] from the bridge, [`Track::Inbound`] (or both) from a provider.
        track: Track,
        /// The octets.
        payload: &'a [u8],
    },
    /// Drop what the provider has queued.
    Clear,
    /// Ask to be told when playback gets here.
    Mark(&'a str),
    /// Hold playback at the provider.
    Pause,
    /// Go on.
    Resume,
    /// Press a key.
    Dtmf(Digit),
    /// End the call.
    Hangup,
    /// From the provider: playback reached this mark.
    Played(&'a str),
    /// From the provider: the queue was dropped.
    Cleared,
    /// From the provider: its queue is full.
    Full,
    /// From the provider: it takes sound again.
    Writable,
}

/// A message of a stream broke the protocol; the stream ends with [`ProtocolError::close_code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Text that is not the JSON (or line) the protocol demands.
    #[error("message {index} is not valid {expected}: {reason}; it begins {excerpt:?}")]
    Malformed {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What was expected.
        expected: &'static str,
        /// What the parser said, without the text.
        reason: String,
        /// First characters, cut and redacted.
        excerpt: String,
    },
    /// A field that must be there is missing or of the wrong kind.
    #[error("message {index} ({kind}): field `{field}` {problem}")]
    Field {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What the message calls itself.
        kind: &'static str,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A format the bridge cannot decode.
    #[error("message {index}: {what} is not supported")]
    Unsupported {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What was asked for.
        what: String,
    },
    /// A message that may not come now.
    #[error("message {index} ({kind}) may not come {when}")]
    OutOfTurn {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What the message calls itself.
        kind: &'static str,
        /// In which state.
        when: &'static str,
    },
}

impl ProtocolError {
    /// WebSocket close code (RFC 6455, 7.4.1) that tells the other end.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 1007,
            Self::Field { .. } | Self::OutOfTurn { .. } => 1002,
            Self::Unsupported { .. } => 1003,
        }
    }
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// A text message.
    Text(Span),
    /// A binary message.
    Binary(Span),
    /// Close the stream with this code.
    Close(u16),
}

/// What handling a message or command brought about: events for us, messages for the wire, octets for both. The caller owns it,
/// reads it, and calls [`Outbox::reset`] before the next use; no memory is given back in between.
#[derive(Debug, Default)]
pub struct Outbox {
    arena: Vec<u8>,
    events: Vec<Event>,
    sends: Vec<Send>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happened, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What to send, in order.
    #[must_use]
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The octets of a span.
    #[must_use]
    pub fn octets(&self, span: &Span) -> &[u8] {
        &self.arena[span.0.clone()]
    }

    /// The text of a span; everything written by [`Outbox::text`] is UTF-8.
    #[must_use]
    pub fn text_of(&self, span: &Span) -> &str {
        std::str::from_utf8(self.octets(span)).unwrap_or_default()
    }

    /// Notes an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes octets into the arena and gives their span.
    pub fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.arena.len();
        write(&mut self.arena);
        Span(start..self.arena.len())
    }

    /// Like [`Outbox::store`], but writing may fail, which leaves nothing behind.
    pub fn try_store<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Span, E> {
        let start = self.arena.len();
        match write(&mut self.arena) {
            Ok(()) => Ok(Span(start..self.arena.len())),
            Err(error) => {
                self.arena.truncate(start);
                Err(error)
            }
        }
    }

    /// Queues a text message.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        debug_assert!(std::str::from_utf8(self.octets(&span)).is_ok());
        self.sends.push(Send::Text(span));
    }

    /// Queues a binary message.
    pub fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        self.sends.push(Send::Binary(span));
    }

    /// Queues a close.
    pub fn close(&mut self, code: u16) {
        self.sends.push(Send::Close(code));
    }

    /// Forgets everything and keeps the memory.
    pub fn reset(&mut self) {
        self.arena.clear();
        self.events.clear();
        self.sends.clear();
    }
}

/// One end of one stream. Pure: told messages, commands and the time.
pub trait Protocol: std::marker::Send {
    /// A message came.
    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError>;

    /// Do something. What this stream cannot do is ignored: [`Capabilities`] said so before.
    fn handle_command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError>;

    /// Time passed; called at or after [`Protocol::poll_timeout`].
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let _ = (now, out);
        Ok(())
    }

    /// When to call [`Protocol::handle_timeout`], if nothing else happens.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The socket is open; ends that speak first do so here.
    fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let _ = (now, out);
        Ok(())
    }
}

/// The HTTP request that asks for the stream, as far as protocols look at it.
#[derive(Clone, Copy)]
pub struct Upgrade<'a> {
    /// Path and query as received.
    pub target: &'a str,
    /// The URL the provider was told to dial, as configured; signatures are computed over it.
    pub public_url: Option<&'a str>,
    /// Header fields, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Upgrade<'_> {
    /// First value of a header field; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// First value of a query parameter, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            (key == name).then(|| {
                percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned()
            })
        })
    }

    /// Subprotocols offered.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(|(name, _)| *name == "sec-websocket-protocol")
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
    }
}

/// A stream accepted: the bridge's end of it.
pub struct Accepted {
    /// Speaks the wire.
    pub protocol: Box<dyn Protocol>,
    /// Subprotocol to answer the upgrade with.
    pub subprotocol: Option<String>,
}

/// Why an upgrade is refused. What the other end is told is the status and [`Rejection::public`]; the log gets all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No credential, or a wrong one.
    #[error("authentication failed: {reason}")]
    Unauthorized {
        /// For the operator's log; never the credential.
        reason: &'static str,
    },
    /// The request asks for something that cannot be.
    #[error("bad request: {reason}")]
    BadRequest {
        /// What, and what to do about it.
        reason: String,
    },
}

impl Rejection {
    /// HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unauthorized { .. } => 401,
            Self::BadRequest { .. } => 400,
        }
    }

    /// What the other end is told.
    #[must_use]
    pub fn public(&self) -> &str {
        match self {
            Self::Unauthorized { .. } => "authentication failed",
            Self::BadRequest { reason } => reason,
        }
    }
}

/// Settings of a provider that its wire does not tell, per listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Believed instead of the format the stream announces.
    pub inbound_format: Option<MediaFormat>,
}

/// What to act out when playing the provider's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Path and query at the bridge, `/twilio` say.
    pub target: String,
    /// Names the call.
    pub call: String,
    /// Calling number.
    pub from: String,
    /// Called number.
    pub to: String,
    /// Custom parameters.
    pub parameters: Vec<(String, String)>,
    /// Format to speak, where the provider has a choice.
    pub format: Option<MediaFormat>,
    /// Tracks to send; two make a one-way stream on providers that fork.
    pub tracks: Vec<Track>,
    /// Whether the bridge may play sound.
    pub two_way: bool,
}

impl Default for Dial {
    fn default() -> Self {
        Self {
            target: "/".into(),
            call: "call-1".into(),
            from: "+15550100001".into(),
            to: "+15550100002".into(),
            parameters: Vec::new(),
            format: None,
            tracks: vec![Track::Inbound],
            two_way: true,
        }
    }
}

/// The request with which the provider's end opens a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutgoingUpgrade {
    /// Path and query.
    pub target: String,
    /// Header fields beside those of every WebSocket handshake.
    pub headers: Vec<(String, String)>,
    /// Subprotocols offered.
    pub subprotocols: Vec<String>,
}

/// A provider: its row in the table and both ends of its wire.
pub trait Provider: Sync {
    /// Name in paths, configuration and commands: lower case, digits, hyphens.
    fn name(&self) -> &'static str;

    /// What people call it.
    fn title(&self) -> &'static str;

    /// The page that describes the wire.
    fn reference(&self) -> &'static str;

    /// How sure the implementation is.
    fn status(&self) -> Status;

    /// What its streams can do at best; a stream's own [`Start::capabilities`] may be less.
    fn capabilities(&self) -> Capabilities;

    /// Formats it speaks, the usual one first.
    fn formats(&self) -> &'static [MediaFormat];

    /// Our end.
    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection>;

    /// The provider's end. The format of what it sends and plays is announced by [`Event::Started`] on the first open or message.
    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>);
}

/// How an implementation is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Tried with a client of the provider's own making.
    RealClient,
    /// Tried with the vendor's SDK types.
    VendorSdk,
    /// Built from its documentation.
    Documentation,
    /// Facts are thin.
    Experimental,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RealClient => "verified against a real client",
            Self::VendorSdk => "verified against vendor SDK",
            Self::Documentation => "from documentation",
            Self::Experimental => "experimental",
        })
    }
}

/// All providers; routes, command-line values and test matrices derive from it.
pub static PROVIDERS: &[&dyn Provider] = &[];

/// The provider of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}
