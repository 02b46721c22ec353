//! What is said between a protocol end and its owner: messages, events and commands; no wire form of any of them.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::{Capabilities, Span};

/// A WebSocket message (or, for byte-stream providers, one frame of theirs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// A WebSocket of ours beside what the provider called us by, where we are to dial it ([`super::Transport::Webhook`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// Where the stream is agreed on and its state is told.
    Control,
    /// Where its sound comes from.
    Media,
}

impl Line {
    /// Every line a call may have.
    pub const ALL: [Self; 2] = [Self::Control, Self::Media];

    /// Its place in [`Line::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Media => 1,
        }
    }

    /// What it is called in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Media => "media",
        }
    }
}

/// What happens on a [`Line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEvent<'a> {
    /// It was dialled and is open.
    Opened,
    /// A message came.
    Message(Message<'a>),
    /// It could not be dialled, was closed by the other end, or broke.
    Lost {
        /// What was seen, for the log.
        reason: &'a str,
    },
}

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
    /// `*`.
    pub const STAR: Self = Self('*');

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
    /// The provider's name for the stream, where it tells one.
    pub stream: Option<String>,
    /// The provider's name for the call, where it tells one.
    pub call: Option<String>,
    /// Calling number or name.
    pub from: Option<String>,
    /// Called number or name.
    pub to: Option<String>,
    /// Custom parameters, in the provider's order.
    pub parameters: Vec<(String, String)>,
    /// Tracks that will be heard; none where the provider sends words instead of sound.
    pub tracks: Vec<Track>,
    /// What arrives on them, or `None` if there are none.
    pub inbound: Option<MediaFormat>,
    /// What we may send, or `None` where no sound can be played.
    pub outbound: Option<MediaFormat>,
    /// What can be done on this stream.
    pub capabilities: Capabilities,
}

/// Why a stream ended, as its protocol saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// The person at the other end, or the provider, ended the call.
    Remote,
    /// The stream was stopped, the call may go on elsewhere.
    StreamStopped,
    /// A line was lost and could not be dialled again in time.
    Lost,
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
    /// To the bridge: words of the caller, as the provider recognised them.
    Heard {
        /// The words so far of what is being said.
        text: String,
        /// Their language (BCP 47), if told.
        language: Option<String>,
        /// Whether they will not change any more.
        last: bool,
    },
    /// To the bridge: the caller cut in, and the provider has dropped what it had still to speak.
    Interrupted {
        /// Words that were spoken until then, if told.
        heard: Option<String>,
        /// How long they were spoken for, if told.
        after: Option<Duration>,
    },
    /// To the bridge: the provider has spoken these words, which follow those told before.
    Spoken(String),
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
    /// To the provider: speak this; several make an utterance.
    SayRequested {
        /// The words.
        text: String,
        /// Their language (BCP 47), if it is not the usual one.
        language: Option<String>,
        /// Whether the utterance ends with them.
        last: bool,
    },
    /// To the provider: fetch this file and play it.
    FileRequested {
        /// Where it is.
        url: String,
        /// How often it is played; 0 for as often as the provider will.
        times: u32,
    },
    /// To the provider: speak and recognise other languages from now on; what is `None` stays.
    LanguageRequested {
        /// What is spoken to the caller (BCP 47).
        speech: Option<String>,
        /// What the caller speaks (BCP 47).
        recognition: Option<String>,
    },
    /// To the provider: what whoever goes on with the call is to get; the hang-up follows.
    HandoffRequested(String),
    /// To the provider: what a module found, a JSON object.
    Result(String),
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
    /// A message came before the stream had started; it was dropped.
    Early {
        /// What it calls itself, cut.
        kind: String,
    },
    /// What comes once in a stream came again and said nothing new; it was dropped.
    Repeated {
        /// What it calls itself, cut.
        kind: String,
    },
    /// A message came after the stream had stopped; it was dropped.
    Late {
        /// What it calls itself, cut.
        kind: String,
    },
    /// A line was lost; it will be dialled again for as long as the provider waits.
    LineLost {
        /// Which.
        line: Line,
        /// What was seen, cut.
        reason: String,
    },
    /// The provider only tries whether the bridge answers: it was answered, and this stream never becomes a call.
    Probe,
}

impl Notice {
    /// A message of a kind that is not known; `kind` is cut and masked.
    #[must_use]
    pub fn unknown(kind: &str) -> Self {
        Self::UnknownMessage { kind: super::json::kind(kind) }
    }

    /// A message that came before the stream had started; `kind` is cut and masked.
    #[must_use]
    pub fn early(kind: &str) -> Self {
        Self::Early { kind: super::json::kind(kind) }
    }

    /// A message that came again; `kind` is cut and masked.
    #[must_use]
    pub fn repeated(kind: &str) -> Self {
        Self::Repeated { kind: super::json::kind(kind) }
    }

    /// A message that came after the stream had stopped; `kind` is cut and masked.
    #[must_use]
    pub fn late(kind: &str) -> Self {
        Self::Late { kind: super::json::kind(kind) }
    }
}

/// What an end of a stream is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Send sound, encoded as the stream's format says.
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
    /// Speak this; for [`Capabilities::text`]. Several make an utterance.
    Say {
        /// The words.
        text: &'a str,
        /// Their language (BCP 47), if it is not the usual one.
        language: Option<&'a str>,
        /// Whether the utterance ends with them.
        last: bool,
    },
    /// Fetch a file and play it; for [`Capabilities::files`].
    PlayFile {
        /// Where it is.
        url: &'a str,
        /// How often it is played; 0 for as often as the provider will.
        times: u32,
        /// Whether what is said or played next takes its place.
        preemptible: bool,
        /// Whether the caller can cut it off; `None` leaves it to the provider.
        interruptible: Option<bool>,
    },
    /// Speak and recognise other languages from now on; for [`Capabilities::text`]. What is `None` stays.
    Language {
        /// What is spoken to the caller (BCP 47).
        speech: Option<&'a str>,
        /// What the caller speaks (BCP 47).
        recognition: Option<&'a str>,
    },
    /// End the call.
    Hangup,
    /// End the call and give this to whoever goes on with it; for [`Capabilities::handoff`].
    Handoff(&'a str),
    /// Tell what a module found, a JSON object in one line; for [`Capabilities::results`].
    Result(&'a str),
    /// From the provider: words of the caller.
    Heard {
        /// The words so far of what is being said.
        text: &'a str,
        /// Their language (BCP 47), if known.
        language: Option<&'a str>,
        /// Whether they will not change any more.
        last: bool,
    },
    /// From the provider: the caller cut in, and the rest of what was to be spoken is dropped.
    Interrupted {
        /// Words that were spoken until then.
        heard: &'a str,
        /// How long they were spoken for.
        after: Duration,
    },
    /// From the provider: these words were spoken; for [`Capabilities::text`].
    Spoken(&'a str),
    /// From the provider: playback reached this mark.
    Played(&'a str),
    /// From the provider: the queue was dropped.
    Cleared,
    /// From the provider: its queue is full.
    Full,
    /// From the provider: it takes sound again.
    Writable,
}
