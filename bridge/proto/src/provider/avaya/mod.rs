//! Avaya Infinity's Real-time Contextual Media Streaming (RCMS): a session that offers media, a virtual agent ("bot") in it, sound in
//! binary messages with a header of its own or as base64. Both ends of the wire. Tokens of the request are checked elsewhere.
//!
//! Several JSON objects may share a text message. There are no marks; a clear is an empty frame that says it is the last. What is not
//! spoken: `bot.feature` (transcripts, handing over to people), the transport `avaya-wss-rtp`, the old header of 52 octets.

mod bridge;
mod phone;
mod sound;

use std::fmt;
use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::behaviour::{self, Behaviour};
use super::end::End;
use super::json::{self, Node, Quoted};
use super::{
    Accepted, Capabilities, ClearLaw, Dial, FrameLaw, HangupLaw, Info, Options, Outbox,
    OutgoingUpgrade, PlayoutPolicy, Protocol, Provider, Rejection, Span, Status, Upgrade,
};
use bridge::Bridge;
use phone::Phone;

/// Both ends of Avaya's wire.
pub(super) struct Avaya;

/// What we ask for and keep to.
const PTIME: Duration = Duration::from_millis(20);
/// In the order in which we would have them: of PCMU's octets there is only one order.
static FORMATS: [MediaFormat; 5] = [
    MediaFormat::PCMU_8000,
    MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
    MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000),
    MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_16000),
    MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000),
];

static INFO: Info = Info {
    name: "avaya",
    title: "Avaya Infinity RCMS",
    reference: "https://developers.avayacloud.com/",
    // Built from a guide and two servers of other people's, which disagree here and there; the specification is not public.
    status: Status::Experimental,
    capabilities: Capabilities {
        // What is sent ahead cannot be cleared in time; how much would be taken is not told.
        playout: PlayoutPolicy::Paced { limit: Duration::from_secs(10) },
        // Whether it refuses longer ones is not told.
        frame: FrameLaw::MultipleOf(PTIME),
        clear: ClearLaw::DropsMarks,
        ..LISTEN_ONLY
    },
    formats: &FORMATS,
};

/// What is left where nothing may be sent.
const LISTEN_ONLY: Capabilities =
    Capabilities { dtmf_in: true, hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

const fn capabilities(plays: bool) -> Capabilities {
    if plays { INFO.capabilities } else { LISTEN_ONLY }
}

/// What `format` is called in an offer.
fn name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::Pcma => "PCMA",
        Encoding::L16(_) => "L16",
        Encoding::G722 => "G722",
        _ => "PCMU",
    }
}

/// The format that `["audio","PCMU",8000,1]` means.
fn format(codec: &Node<'_>) -> Option<MediaFormat> {
    let Node::List(items) = codec else { return None };
    let text = |at: usize| match items.get(at)? {
        Node::Text(text) => Some(text.as_ref()),
        Node::Bare(text) => Some(text.as_str()),
        _ => None,
    };
    let (codec, hz) = (text(1)?, text(2).and_then(json::whole)?);
    let mono = text(3).and_then(json::whole).is_none_or(|channels| channels == 1);
    let matches = |format: &&MediaFormat| {
        // RTP calls the rate of G.722 8000, and is wrong on purpose (RFC 3551, 4.5.2).
        let rate = if hz == 8_000 && codec == "G722" { 16_000 } else { hz };
        name(**format).eq_ignore_ascii_case(codec) && u64::from(format.rate.hz()) == rate
    };
    FORMATS.iter().find(matches).copied().filter(|_| mono && text(0) == Some("audio"))
}

/// What every message but media has around it, as one end writes it.
#[derive(Debug)]
struct Envelope {
    session: String,
    sent: u64,
}

impl Envelope {
    /// A message of this end, not queued yet; `payload` is the inside of an object.
    fn message(&mut self, kind: &str, time: &str, payload: Option<fmt::Arguments<'_>>) -> String {
        self.sent += 1;
        let (session, count) = (Quoted(&self.session), self.sent);
        let time = Quoted(time);
        let payload = payload.map(|payload| format!(r#","payload":{{{payload}}}"#));
        let payload = payload.unwrap_or_default();
        format!(
            r#"{{"version":"1.0.0","type":"{kind}","sessionId":{session},"sequenceNum":{count},"timestamp":{time}{payload}}}"#
        )
    }

    fn send(
        &mut self,
        out: &mut Outbox,
        kind: &str,
        time: &str,
        payload: Option<fmt::Arguments<'_>>,
    ) {
        let message = self.message(kind, time, payload);
        json::send(out, format_args!("{message}"));
    }
}

static TOGETHER: &[Behaviour] =
    &[Behaviour::together("Avaya does so with the start of the session and that of the bot")];

impl Provider for Avaya {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn sound_in(&self, message: &[u8]) -> Span {
        sound::sound_in(message)
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        TOGETHER.iter().chain(behaviour::JSON).collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge::new(upgrade.parameters(options), options);
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let upgrade = OutgoingUpgrade { target: call.target.clone(), ..Default::default() };
        (upgrade, End::boxed(Phone::new(call)))
    }
}
