//! JSON wires told as tables. Most providers' protocols are alike: somebody announces a stream, sound follows in base64 or binary
//! messages, and a handful of JSON messages about marks, keys and ends. A [`Dialect`] says how one of them writes these; both ends
//! are made of it here. Knows no provider.

mod bridge;
mod phone;
mod read;
mod template;

use std::time::Duration;

use ringback_codecs::{Endian, MediaFormat};

use self::bridge::Bridge;
use self::phone::Phone;
use super::behaviour;
use super::end::End;
use super::json::{Node, Reader};
use super::media_message::{MediaMessage, TRACK_NAMES};
use super::upgrade::with_query;
use super::{
    Accepted, Behaviour, Capabilities, Dial, Info, Options, OutgoingUpgrade, Protocol,
    ProtocolError, Provider, Rejection, Track, Upgrade,
};

pub(super) use self::read::{listed_tracks, members_of, only_inbound, usual_format};
pub(super) use self::template::{Template, Values};

/// Paths of which the first that leads to something counts.
pub(super) type Paths = &'static [&'static str];

/// How a provider writes what all of them say.
pub(super) struct Dialect {
    pub(super) info: &'static Info,
    /// What messages are called where they are not JSON.
    pub(super) expected: &'static str,
    /// What the provider says.
    pub(super) theirs: Theirs,
    /// What it is told.
    pub(super) ours: Ours,
    /// How sound is carried.
    pub(super) carriage: Carriage,
    /// The order of octets in linear PCM, where the wire does not tell.
    pub(super) endian: Endian,
    /// What becomes of the query of the URL that the provider was given.
    pub(super) query: Query,
    /// What can be done on a stream of this format, if it is two-way.
    pub(super) two_way: fn(MediaFormat) -> Capabilities,
    /// What is left on one that is not.
    pub(super) one_way: Capabilities,
    /// What an encoding is called on this wire.
    pub(super) encoding_name: fn(MediaFormat) -> &'static str,
    /// What it is called in our messages, where that is something else.
    pub(super) content_type: Option<fn(MediaFormat) -> &'static str>,
    /// The format that this wire calls so, with what it says of the rate; linear PCM in [`Dialect::endian`].
    pub(super) format: fn(&Self, name: &str, hz: Option<u64>) -> Option<MediaFormat>,
    /// The format to answer in where that one comes in.
    pub(super) outbound: fn(MediaFormat) -> MediaFormat,
    /// The tracks that every stream has, where the provider leaves no choice; else empty.
    pub(super) fixed_tracks: &'static [Track],
    /// Whether a start message says that the stream is only listened to, though nothing else in it does.
    pub(super) only_listens: fn(&Node<'_>) -> bool,
    /// The tracks a start message tells of.
    pub(super) tracks: fn(&Reader<'_>) -> Result<Vec<Track>, ProtocolError>,
    /// What tracks are called together, where the wire has a word for it.
    pub(super) tracks_name: fn(&[Track]) -> &'static str,
    /// The custom parameters in a start message.
    pub(super) parameters: fn(&Node<'_>) -> Vec<(String, String)>,
    /// A quicker way to read the usual media message.
    pub(super) usual_media: Option<fn(&str) -> Option<MediaMessage<'_>>>,
    /// Subprotocols of which the provider offers one and wants it back; the usual one first.
    pub(super) subprotocols: &'static [&'static str],
    /// What we do while there is nothing to say.
    pub(super) idle: Idle,
    /// What this provider does beside what it promises, and those like it do not.
    pub(super) behaviours: &'static [Behaviour],
}

/// What we do while there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    Quiet,
    /// A frame of silence for every binary message that comes: the provider hangs up on who is quiet. Linear PCM only.
    Silence,
    /// One frame of silence when the stream has started: the provider hangs up on who never spoke. Linear PCM only.
    Once,
}

/// How sound is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carriage {
    /// In base64, within messages of the names [`Theirs::kinds`] and [`Ours::kinds`] give, at these paths.
    Base64(MediaPaths),
    /// As binary messages.
    Binary,
    /// Either way, as the provider was asked to; it is answered the way its last sound came, in base64 until some has.
    Either(MediaPaths),
}

impl Carriage {
    /// Where the sound is in text messages, if it may be there.
    const fn paths(&self) -> Option<&MediaPaths> {
        match self {
            Self::Base64(paths) | Self::Either(paths) => Some(paths),
            Self::Binary => None,
        }
    }
}

/// Where the provider's media message has what. Paths of one or two names; an empty one is never found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MediaPaths {
    /// Name of the message; an empty one is that of messages that have none.
    pub(super) kind: &'static str,
    pub(super) track: &'static str,
    pub(super) chunk: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) payload: &'static str,
    /// What tracks are called; of several names of one track the first is said, all are understood.
    pub(super) names: &'static [(&'static str, Track)],
}

impl MediaPaths {
    /// Nothing; whatever a message has is said beside it.
    pub(super) const UNTOLD: Self =
        Self { kind: "", track: "", chunk: "", timestamp: "", payload: "", names: TRACK_NAMES };

    /// As Twilio has them, and whoever copied it.
    pub(super) const USUAL: Self = Self {
        kind: "media",
        track: "media.track",
        chunk: "media.chunk",
        timestamp: "media.timestamp",
        payload: "media.payload",
        names: TRACK_NAMES,
    };
}

/// What becomes of the query of the URL that the provider was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// It is gone before the provider dials.
    Dropped,
    /// It comes, and is about the listener only.
    Kept,
    /// It comes, and is all there is to describe the call.
    Parameters,
}

/// What a message of the provider means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that matters.
    Nothing,
    Start,
    Media,
    Dtmf,
    /// Playback reached a mark.
    Played,
    Cleared,
    /// Nothing is to be sent until it is writable again.
    Full,
    Writable,
    Stop,
    /// Something we did was wrong.
    Error,
}

/// The provider's messages. Patterns are for our playing its part; paths for reading them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theirs {
    /// Member that names a message.
    pub(super) key: &'static str,
    /// Members that name the messages which `key` does not.
    pub(super) other_keys: Paths,
    /// Messages by name.
    pub(super) kinds: &'static [(&'static str, Kind)],
    /// Whether the first text is the start, whatever it is called.
    pub(super) first_starts: bool,
    /// Words: `stream`, `call`, `from`, `to`, `parameters`, `members`, `pairs` (parameters as one text, `a=1;b=2`), `tracks`,
    /// `heard`, `encoding`, `rate` and those of all patterns.
    pub(super) open: &'static [&'static str],
    /// One of the `tracks`.
    pub(super) track: &'static str,
    pub(super) media: &'static str,
    pub(super) dtmf: &'static str,
    pub(super) played: &'static str,
    /// Said of marks that a clear released, where that is something else than `played`.
    pub(super) released: &'static str,
    pub(super) cleared: &'static str,
    pub(super) full: &'static str,
    pub(super) writable: &'static str,
    pub(super) stop: &'static str,
    /// What the names of streams begin with, where we play the provider.
    pub(super) stream_prefix: &'static str,
    /// Custom parameter in which users tell the call's name, where the wire does not.
    pub(super) call_parameter: Option<&'static str>,
    /// Whether the wire tells who calls whom, so that users need not pass it on.
    pub(super) tells_parties: bool,
    pub(super) stream: Paths,
    pub(super) call: Paths,
    pub(super) from: Paths,
    pub(super) to: Paths,
    pub(super) encoding: Paths,
    pub(super) rate: Paths,
    pub(super) channels: Paths,
    pub(super) digit: Paths,
    pub(super) duration: Paths,
    /// What the number there stands for.
    pub(super) duration_of: fn(u64) -> Duration,
    pub(super) mark: Paths,
    pub(super) error: Paths,
    /// Further words of the patterns, as JSON, that the call to be acted out decides.
    pub(super) words: fn(&Dial) -> Vec<(&'static str, String)>,
}

impl Theirs {
    /// As Twilio names things where it has them; the patterns are missing.
    pub(super) const USUAL: Self = Self {
        key: "event",
        other_keys: &[],
        first_starts: false,
        kinds: &[
            ("connected", Kind::Nothing),
            ("start", Kind::Start),
            ("media", Kind::Media),
            ("dtmf", Kind::Dtmf),
            ("mark", Kind::Played),
            ("stop", Kind::Stop),
        ],
        open: &[],
        track: r#""$track""#,
        media: "",
        dtmf: "",
        played: "",
        released: "",
        cleared: "",
        full: "",
        writable: "",
        stop: "",
        stream_prefix: "",
        call_parameter: None,
        tells_parties: false,
        stream: &["streamSid", "start.streamSid"],
        call: &["start.callSid", "callSid"],
        from: &["start.from", "from"],
        to: &["start.to", "to"],
        encoding: &["start.mediaFormat.encoding"],
        rate: &["start.mediaFormat.sampleRate"],
        channels: &["start.mediaFormat.channels"],
        digit: &["dtmf.digit"],
        duration: &["dtmf.duration"],
        duration_of: Duration::from_millis,
        mark: &["mark.name"],
        error: &[],
        words: |_| Vec::new(),
    };
}

/// What we ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Nothing,
    Media,
    Mark,
    Clear,
    Dtmf,
    Hangup,
}

/// Our messages: patterns to print them, paths and names to read them where we play the provider. An empty pattern is something
/// that cannot be said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ours {
    /// Member that names a message.
    pub(super) key: &'static str,
    /// Messages by name.
    pub(super) kinds: &'static [(&'static str, Request)],
    /// Said once the stream has started.
    pub(super) answer: &'static str,
    pub(super) media: &'static str,
    pub(super) mark: &'static str,
    pub(super) clear: &'static str,
    pub(super) dtmf: &'static str,
    /// Without one, closing the stream is all there is.
    pub(super) hangup: &'static str,
    /// Where the sound is.
    pub(super) payload: &'static str,
    pub(super) name: &'static str,
    pub(super) digit: &'static str,
    /// Member that must name the stream, or nothing.
    pub(super) stream: &'static str,
    /// Words of the patterns beside `stream`, `call`, `encoding` and `rate`, and where a start message has what they stand for.
    pub(super) words: &'static [(&'static str, Paths)],
}

impl Ours {
    /// As Twilio takes them.
    pub(super) const USUAL: Self = Self {
        key: "event",
        kinds: &[("media", Request::Media), ("mark", Request::Mark), ("clear", Request::Clear)],
        answer: "",
        media: r#"{"event":"media","streamSid":$stream,"media":{"payload":"$payload"}}"#,
        mark: r#"{"event":"mark","streamSid":$stream,"mark":{"name":$name}}"#,
        clear: r#"{"event":"clear","streamSid":$stream}"#,
        dtmf: "",
        hangup: "",
        payload: "media.payload",
        name: "mark.name",
        digit: "dtmf.digit",
        stream: "streamSid",
        words: &[],
    };
}

impl Dialect {
    /// What most have in common with Twilio; the table of one wire says what it has not.
    pub(super) const fn like_twilio(info: &'static Info, expected: &'static str) -> Self {
        Self {
            info,
            expected,
            theirs: Theirs::USUAL,
            ours: Ours::USUAL,
            carriage: Carriage::Base64(MediaPaths::USUAL),
            endian: Endian::Little,
            query: Query::Kept,
            two_way: |_| Capabilities::LISTEN_ONLY,
            one_way: Capabilities::LISTEN_ONLY,
            encoding_name: |_| "audio/x-mulaw",
            content_type: None,
            format: usual_format,
            outbound: |inbound| inbound,
            fixed_tracks: &[],
            only_listens: |_| false,
            tracks: |message| listed_tracks(message, "start.tracks"),
            tracks_name: |_| "",
            parameters: |message| members_of(message, "start.customParameters"),
            usual_media: None,
            subprotocols: &[],
            idle: Idle::Quiet,
            behaviours: &[],
        }
    }

    /// What a track is called.
    fn track_name(&self, track: Track) -> &'static str {
        let names = self.carriage.paths().map_or(TRACK_NAMES, |paths| paths.names);
        names.iter().find(|(_, named)| *named == track).map_or("", |(name, _)| *name)
    }

    /// What can be done on a stream.
    fn capabilities(&self, two_way: bool, format: MediaFormat) -> Capabilities {
        if two_way { (self.two_way)(format) } else { self.one_way }
    }
}

/// A provider that is told as a table.
pub(super) struct Spoken(pub(super) &'static Dialect);

impl Provider for Spoken {
    fn info(&self) -> &'static Info {
        self.0.info
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        let numbered = template::counts(self.0.theirs.media).then_some(behaviour::NUMBERED);
        let own = self.0.behaviours.iter();
        own.chain(behaviour::JSON).chain(numbered.into_iter().flatten()).collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let wanted = self.0.subprotocols;
        let subprotocol = upgrade.subprotocols().find(|offered| wanted.contains(offered));
        let subprotocol = subprotocol.map(str::to_owned);
        Ok(Accepted { protocol: End::boxed(Bridge::new(self.0, upgrade, options)), subprotocol })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let target = match self.0.query {
            Query::Dropped => call.target.split('?').next().unwrap_or("/").to_owned(),
            Query::Kept => call.target.clone(),
            Query::Parameters => with_query(&call.target, &phone::described(self.0, call)),
        };
        let subprotocols = self.0.subprotocols.iter().take(1).map(|name| (*name).to_owned());
        let request =
            OutgoingUpgrade { target, headers: Vec::new(), subprotocols: subprotocols.collect() };
        (request, End::boxed(Phone::new(self.0, call)))
    }
}
