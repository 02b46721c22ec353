//! The vocabulary all providers share and the table of them. Each provider's wire lives in its own file, both ends of it.
//!
//! A [`Protocol`] is one end of one stream. The *bridge's* end ([`Provider::accept`]) turns the provider's messages into
//! [`Event`]s and [`Command`]s into messages. The *provider's* end ([`Provider::dial`]) does the same from the other side of the
//! wire, so that the simulator, the load generator and the pair tests speak to us exactly as the provider does.

pub mod answer;
mod asterisk;
mod audiocodes;
mod audiosocket;
pub mod auth;
mod avaya;
mod azure;
mod bandwidth;
pub(crate) mod base64;
pub mod behaviour;
mod capability;
mod channels;
mod cloudonix;
mod conversation_relay;
mod dialect;
mod early;
mod end;
mod error;
mod event;
mod exotel;
mod format_name;
mod freeswitch;
mod freeswitch_fork;
mod freeswitch_stream;
mod genesys;
mod infobip;
mod jambonz;
mod json;
mod kazoo;
mod media_message;
mod nice;
mod outbox;
mod ozonetel;
mod participants;
mod plivo;
pub mod raw;
mod ringcx;
mod scan;
mod short_marks;
mod signalwire;
mod sinch;
mod siphon_ai;
mod smartflo;
mod talkdesk;
mod telnyx;
mod twilio;
mod upgrade;
mod utterance;
mod vobiz;
mod vonage;
mod vonage_video;
mod voximplant;
mod wavix;
mod webex;
mod zoom_rtms;

use std::fmt;
use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

pub use answer::{Answer, Credential, Webhook};
pub use auth::{Auth, Grant, Proof, Replays, Secret, Used, WebhookAuth};
pub use behaviour::Behaviour;
pub use capability::{Capabilities, ClearLaw, FlowControl, FrameLaw, HangupLaw, PlayoutPolicy};
pub use error::ProtocolError;
pub use event::{
    Command, Digit, Event, Line, LineEvent, Media, Message, Notice, Start, StopCause, Track,
};
pub use format_name::{format_name, format_named};
pub use outbox::{Outbox, Send, Span};
pub use upgrade::{Accepted, OutgoingUpgrade, Posted, Rejection, Upgrade, with_query};

use self::dialect::Spoken;
use self::freeswitch::FreeSwitch;
use crate::Instant;

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

    /// Something happened on a line that this end asked for ([`Send::Dial`]), or, at the provider's end, that it was dialled on. Only
    /// on [`Transport::Webhook`].
    fn handle_line(
        &mut self,
        now: Instant,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let _ = (now, line, event, out);
        Ok(())
    }

    /// The socket is open; ends that speak first do so here.
    fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let _ = (now, out);
        Ok(())
    }

    /// What is said from now on is private, or is for everybody again. Means nothing to a wire; who looks on at one is told by it.
    fn set_private(&mut self, private: bool) {
        let _ = private;
    }

    /// Whether the stream is over but for its good-byes: the end has been said, and it is the other side's to answer or to close the
    /// socket. Until this says no, messages and time go on being told; it closes the socket by itself when that takes too long.
    fn is_parting(&self) -> bool {
        false
    }
}

/// Settings of a provider that its wire does not tell, per listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Believed instead of the format the stream announces.
    pub inbound_format: Option<MediaFormat>,
    /// Sent instead of what the stream announces, on wires where the two may differ and only one is told.
    pub outbound_format: Option<MediaFormat>,
    /// The stream only listens, though its wire looks as if sound could be sent. Twilio's `<Start><Stream>` of the inbound track
    /// announces itself just like `<Connect><Stream>`, and reports an error for every message it is sent.
    pub one_way: bool,
    /// What happens to sound that comes before the stream has started.
    pub early_media: EarlyMedia,
    /// Name of the query parameter that carries the listener's credential; it is not taken for a custom parameter.
    pub credential_query: Option<String>,
    /// What the provider knows us by, where we are to dial it.
    pub app: App,
}

/// An application as a provider knows it that we dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name there.
    pub client_id: String,
    /// What it signs with.
    pub client_secret: Secret,
}

impl Default for App {
    /// Of no name and no secret: it signs nothing, which opens nothing but what asks for no signature.
    fn default() -> Self {
        Self { client_id: String::new(), client_secret: Secret::from("") }
    }
}

/// What happens to sound that comes before the stream has started, on wires where that is known to happen (Vonage's media thread
/// and its control thread race).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyMedia {
    /// Keep it this long and use it if the stream starts by then; what is too old is dropped with [`Notice::EarlyMedia`].
    Hold(Duration),
    /// Drop it with [`Notice::EarlyMedia`].
    Drop,
}

impl Default for EarlyMedia {
    fn default() -> Self {
        Self::Hold(Duration::from_secs(1))
    }
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
    /// What to do beside what the provider promises; the [`crate::simulator::Simulator`] does it.
    pub behaviours: Vec<&'static Behaviour>,
    /// Decides what of it happens when.
    pub seed: u64,
    /// As whom the bridge must sign, where it dials the provider; without a secret, that it signs nothing.
    pub app: App,
    /// URLs of the provider's own servers, one for each of [`Line::ALL`], where the bridge dials them. Without any they are made up.
    pub servers: Vec<String>,
}

impl Dial {
    /// What the provider's end announces: the same format both ways, playback if `capabilities` have any; without a format, no sound.
    fn started(
        &self,
        stream: Option<String>,
        parameters: Vec<(String, String)>,
        format: impl Into<Option<MediaFormat>>,
        capabilities: Capabilities,
    ) -> Start {
        let format = format.into();
        Start {
            stream,
            call: Some(self.call.clone()),
            from: Some(self.from.clone()),
            to: Some(self.to.clone()),
            parameters,
            tracks: format.map(|_| self.tracks.clone()).unwrap_or_default(),
            inbound: format,
            outbound: format.filter(|_| capabilities.playout != PlayoutPolicy::None),
            capabilities,
        }
    }

    /// Custom parameters but `own`, with `caller` and `callee` before them, as wires have them that tell all of it in one place.
    fn with_parties(&self, own: &[&str]) -> Vec<(String, String)> {
        let parties = [("caller".into(), self.from.clone()), ("callee".into(), self.to.clone())];
        let known = |name: &str| own.contains(&name) || ["caller", "callee"].contains(&name);
        let custom = self.parameters.iter().filter(|(name, _)| !known(name));
        parties.into_iter().chain(custom.cloned()).collect()
    }

    /// Custom parameters with `from` and `to` before them, as users of providers that do not tell the numbers pass them on.
    #[must_use]
    pub fn described(&self) -> Vec<(String, String)> {
        let parties = [("from", &self.from), ("to", &self.to)];
        let told = parties.into_iter().filter(|(_, value)| !value.is_empty());
        let told = told.map(|(name, value)| (name.to_owned(), value.clone()));
        told.chain(self.parameters.iter().cloned()).collect()
    }
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
            behaviours: Vec::new(),
            seed: 0,
            app: App::default(),
            servers: Vec::new(),
        }
    }
}

/// A provider's row in the table: what is known of it without any stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Name in paths, configuration and commands: lower case, digits, hyphens.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// The page that describes the wire.
    pub reference: &'static str,
    /// How sure the implementation is.
    pub status: Status,
    /// What its streams can do at best; a stream's own [`Start::capabilities`] may be less.
    pub capabilities: Capabilities,
    /// Formats it speaks, the usual one first; none if it carries words instead of sound.
    pub formats: &'static [MediaFormat],
}

/// A provider: its row in the table and both ends of its wire.
pub trait Provider: Sync {
    /// Its row.
    fn info(&self) -> &'static Info;

    /// [`Info::name`].
    fn name(&self) -> &'static str {
        self.info().name
    }

    /// [`Info::title`].
    fn title(&self) -> &'static str {
        self.info().title
    }

    /// [`Info::reference`].
    fn reference(&self) -> &'static str {
        self.info().reference
    }

    /// [`Info::status`].
    fn status(&self) -> Status {
        self.info().status
    }

    /// [`Info::capabilities`].
    fn capabilities(&self) -> Capabilities {
        self.info().capabilities
    }

    /// [`Info::formats`].
    fn formats(&self) -> &'static [MediaFormat] {
        self.info().formats
    }

    /// Whether its streams carry sound; others carry words ([`Capabilities::text`]).
    fn has_sound(&self) -> bool {
        !self.formats().is_empty()
    }

    /// What carries its messages.
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    /// Where the sound is in a binary message; what stands before it says how it is sent, and nothing of what is said.
    fn sound_in(&self, message: &[u8]) -> Span {
        Span(0..message.len())
    }

    /// What a posted request means; asked on [`Transport::Webhook`] once its credential was checked. `key` is the secret it was
    /// signed with.
    fn posted(&self, body: &str, key: Option<&Secret>) -> Result<Posted, Rejection> {
        let _ = (body, key);
        Err(Rejection::BadRequest { reason: "nothing is posted by this provider".into() })
    }

    /// What its end does beside what is promised, on top of what any may do; see [`behaviour::all`].
    fn behaviours(&self) -> Vec<&'static Behaviour> {
        Vec::new()
    }

    /// Our end.
    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection>;

    /// The provider's end. The format of what it sends and plays is announced by [`Event::Started`] on the first open or message.
    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>);
}

/// What carries a provider's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket (RFC 6455), asked for by an HTTP request.
    WebSocket,
    /// A TCP connection without handshake, cut into records: an octet of kind, two of length (big-endian), the payload. Each is one
    /// binary message, head included. Nothing but the first record tells who calls.
    Records,
    /// The provider calls by posting an HTTP request, and we dial what that names: the [`Line`]s of the call. The body of each request
    /// about a call is a text message of its stream, beginning with the one that began it; nothing is sent back that way.
    Webhook {
        /// Names under which the provider's servers are.
        hosts: &'static [&'static str],
    },
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

/// Linear PCM of one channel in little-endian order, as most binary wires have it. For tables: a rate there is none of does not
/// compile.
const fn linear(hz: u32) -> MediaFormat {
    linear_at(SampleRate::new(hz).expect("a rate that sound may have"))
}

/// [`linear`] of a rate that is one.
const fn linear_at(rate: SampleRate) -> MediaFormat {
    MediaFormat::mono(Encoding::L16(Endian::Little), rate)
}

/// All providers; routes, command-line values and test matrices derive from it.
pub static PROVIDERS: &[&dyn Provider] = &[
    &Spoken(&twilio::DIALECT),
    &conversation_relay::ConversationRelay,
    &Spoken(&signalwire::DIALECT),
    &Spoken(&telnyx::DIALECT),
    &Spoken(&plivo::DIALECT),
    &Spoken(&vobiz::DIALECT),
    &Spoken(&vonage::DIALECT),
    &Spoken(&vonage_video::DIALECT),
    &Spoken(&exotel::DIALECT),
    &Spoken(&bandwidth::DIALECT),
    &Spoken(&infobip::DIALECT),
    &Spoken(&sinch::DIALECT),
    &Spoken(&voximplant::DIALECT),
    &Spoken(&cloudonix::DIALECT),
    &Spoken(&kazoo::DIALECT),
    &Spoken(&smartflo::DIALECT),
    &ozonetel::Ozonetel,
    &Spoken(&wavix::DIALECT),
    &genesys::Monitor,
    &genesys::Connector,
    &azure::Azure,
    &asterisk::Asterisk,
    &audiosocket::AudioSocket,
    &FreeSwitch(&freeswitch_fork::MODULE),
    &FreeSwitch(&freeswitch_stream::MODULE),
    &Spoken(&jambonz::DIALECT),
    &avaya::Avaya,
    &webex::Webex,
    &audiocodes::AudioCodes,
    &Spoken(&siphon_ai::DIALECT),
    &Spoken(&talkdesk::DIALECT),
    &Spoken(&nice::DIALECT),
    &Spoken(&ringcx::DIALECT),
    &zoom_rtms::ZoomRtms,
    &raw::Raw,
];

/// The provider of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}
