//! Zoom Realtime Media Streams: meetings, webinars, Video SDK sessions and Contact Center voice, which are listened to. Zoom posts that
//! a stream is there, and we dial its signaling server and the media server that one names. Both ends of the wire but for HTTP.
//!
//! One signature opens both servers, made of the stream's names and the application's secret. Both ask for life every ten seconds.
//! What is lost is dialled again for as long as Zoom waits; a stream that Zoom itself gave up is not begun anew, which would take its
//! REST API. Asked for is one mix of all voices at 16 kHz. Not taken: video, shared screens, chat, Zoom's transcripts, and voices of
//! their own: where Zoom sends those, the first one that speaks is heard.

mod bridge;
mod phone;

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::auth::hmac_sha256_hex;
use super::behaviour::{Act, Aside, Behaviour};
use super::end::End;
use super::json::{self, Node, Quoted};
use super::upgrade::with_query;
use super::{
    Accepted, App, Capabilities, Dial, HangupLaw, Info, Line, Options, Outbox, OutgoingUpgrade,
    Posted, Protocol, Provider, Rejection, Secret, Status, Transport, Upgrade, linear,
};
use bridge::Bridge;
use phone::Phone;

/// Both ends of Zoom's wire.
pub(super) struct ZoomRtms;

const EXPECTED: &str = "Zoom RTMS JSON";

static INFO: Info = Info {
    name: "zoom-rtms",
    title: "Zoom Realtime Media Streams",
    reference: "https://developers.zoom.us/docs/rtms/event-reference/",
    status: Status::Documentation,
    capabilities: CAPABILITIES,
    formats: &[linear(16_000), linear(8_000), linear(32_000), linear(48_000)],
};

const CAPABILITIES: Capabilities =
    Capabilities { hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

/// Rates by their numbers in `sample_rate`.
const RATES: [u32; 4] = [8_000, 16_000, 32_000, 48_000];
/// Zoom keeps a stream, and its sound, so long for whoever is to dial it, at first and again.
const GRACE: Duration = Duration::from_secs(60);
/// Both servers ask for life this often while they have nothing else to say.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Numbers in `msg_type`; of each pair, the second answers the first.
mod kind {
    pub(super) const CONTROL_REQUEST: u64 = 1;
    pub(super) const CONTROL_RESPONSE: u64 = 2;
    pub(super) const MEDIA_REQUEST: u64 = 3;
    pub(super) const MEDIA_RESPONSE: u64 = 4;
    pub(super) const EVENT: u64 = 6;
    pub(super) const READY: u64 = 7;
    pub(super) const STREAM_STATE: u64 = 8;
    pub(super) const SESSION_STATE: u64 = 9;
    pub(super) const KEEP_ALIVE_REQUEST: u64 = 12;
    pub(super) const KEEP_ALIVE_RESPONSE: u64 = 13;
    pub(super) const AUDIO: u64 = 14;
    pub(super) const CLOSE_REQUEST: u64 = 21;
    pub(super) const CLOSE_RESPONSE: u64 = 22;
}

/// Numbers in `state` of a stream.
mod stream {
    pub(super) const INTERRUPTED: u64 = 2;
    pub(super) const TERMINATED: u64 = 4;
}

/// Numbers in `event_type`.
mod event {
    pub(super) const MEDIA_INTERRUPTED: u64 = 7;
}

/// Numbers in `reason` and `stop_reason`.
mod why {
    pub(super) const MEETING_ENDED: u64 = 6;
    pub(super) const MEDIA_INTERRUPTED: u64 = 14;
    pub(super) const CUSTOMER_LEFT: u64 = 21;
    pub(super) const AGENT_LEFT: u64 = 22;
}

static BEHAVIOURS: [Behaviour; 7] = [
    Behaviour {
        name: "media-dropped",
        summary: "in mid-call the media connection is gone; once it is dialled again, all that was said meanwhile comes at once",
        source: "Zoom's page on failover: MEDIA_CONNECTION_INTERRUPTED; it keeps a minute of sound",
        act: Act::DropLine(Line::Media),
    },
    Behaviour {
        name: "signaling-dropped",
        summary: "in mid-call the signaling connection is gone, and rtms_interrupted is posted",
        source: "Zoom's page on failover; both servers are dialled anew",
        act: Act::DropLine(Line::Control),
    },
    Behaviour {
        name: "no-keep-alive",
        summary: "neither server asks whether the bridge is alive; the bridge takes a server for dead that is silent for 65 s",
        source: "Zoom's advice to dial again after that time",
        act: Act::NoKeepAlive,
    },
    Behaviour {
        name: "posted-twice",
        summary: "the request that begins the call is posted twice",
        source: "Zoom posts again what it takes for unanswered",
        act: Act::OpeningTwice,
    },
    Behaviour {
        name: "stream-states",
        summary: "states of the stream and of its sessions are told between the sound",
        source: "Zoom's event reference: message types 8 and 9",
        act: Act::Tell(
            Line::Control,
            &[
                r#"{"msg_type":8,"state":1,"reason":0,"timestamp":1732700000100}"#,
                r#"{"msg_type":9,"session_id":"s-1","state":3,"stop_reason":0,"timestamp":1732700000200}"#,
                r#"{"msg_type":9,"session_id":"s-1","state":4,"stop_reason":0,"timestamp":1732700000300}"#,
            ],
        ),
    },
    Behaviour::unknown(Aside::On(Line::Media, r#"{"msg_type":97,"content":{"x":[1,null]}}"#)),
    Behaviour::NUMBERS_AS_TEXT,
];

impl Provider for ZoomRtms {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn transport(&self) -> Transport {
        Transport::Webhook { hosts: &["zoom.us"] }
    }

    fn posted(&self, body: &str, key: Option<&Secret>) -> Result<Posted, Rejection> {
        let bad = |reason: &str| Rejection::BadRequest { reason: reason.into() };
        let node = Node::parse(0, EXPECTED, body).map_err(|_| bad("the body is not JSON"))?;
        let event = node.text("event").ok_or_else(|| bad("the body has no `event`"))?;
        if event == "endpoint.url_validation" {
            let plain = node.text("payload.plainToken").ok_or_else(|| bad("no `plainToken`"))?;
            // An answer by any other key would be refused there, and nobody here would know why.
            let key = key.ok_or_else(|| bad("Zoom asks for proof of its secret token, and this listener's `auth` has none: it must be zoom-signature"))?;
            return Ok(Posted::Answer(validation(plain, key)));
        }
        let Some(event) = rtms(event) else { return Ok(Posted::Other(json::kind(event))) };
        let stream = StreamName::stream(&node).ok_or_else(|| bad("no `rtms_stream_id`"))?;
        Ok(match event {
            "started" => Posted::Begins(stream.to_owned()),
            _ => Posted::About(stream.to_owned()),
        })
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge::new(upgrade.parameters(options), options);
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let target = with_query(&call.target, &call.parameters);
        let request = OutgoingUpgrade { target, ..OutgoingUpgrade::default() };
        (request, End::boxed(Phone::new(call)))
    }
}

/// What happened to a stream: the end of `meeting.rtms_started` and of its like for the other products.
fn rtms(event: &str) -> Option<&str> {
    event.rsplit_once("rtms_").map(|(_, what)| what)
}

/// The answer to Zoom's question whether this URL is ours.
fn validation(plain: &str, key: &Secret) -> String {
    let encrypted = hmac_sha256_hex(key, plain.as_bytes());
    format!(r#"{{"plainToken":{},"encryptedToken":"{encrypted}"}}"#, Quoted(plain))
}

/// What a stream is called, and by which name what it is a stream of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamName {
    stream: String,
    /// `meeting_uuid`, `session_id` or `engagement_id`.
    member: &'static str,
    of: String,
}

impl StreamName {
    const MEMBERS: [(&'static str, [&'static str; 2]); 3] = [
        ("meeting_uuid", ["payload.meeting_uuid", "payload.object.meeting_uuid"]),
        ("session_id", ["payload.session_id", "payload.object.session_id"]),
        ("engagement_id", ["payload.engagement_id", "payload.object.engagement_id"]),
    ];

    fn stream<'n>(posted: &'n Node<'_>) -> Option<&'n str> {
        posted.first(&["payload.rtms_stream_id", "payload.object.rtms_stream_id"])
    }

    /// As a posted request tells it.
    fn read(posted: &Node<'_>) -> Option<Self> {
        let stream = Self::stream(posted)?.to_owned();
        Self::MEMBERS.iter().find_map(|(member, paths)| {
            let of = posted.first(paths)?.to_owned();
            Some(Self { stream: stream.clone(), member, of })
        })
    }

    /// As a message with `Self`'s members tells it.
    fn is_of(&self, message: &Node<'_>) -> bool {
        message.text("rtms_stream_id") == Some(&self.stream)
            && message.text(self.member) == Some(&self.of)
    }

    /// What opens the stream's servers; nothing, if the application has no secret.
    fn signature(&self, app: &App) -> String {
        let text = format!("{},{},{}", app.client_id, self.of, self.stream);
        hmac_sha256_hex(&app.client_secret, text.as_bytes())
    }
}

/// Asks for life, or answers; `time` is a number as it was written.
fn keep_alive(kind: u64, line: Line, time: &str, out: &mut Outbox) {
    json::send_on(out, line, format_args!(r#"{{"msg_type":{kind},"timestamp":{time}}}"#));
}

/// What is asked of the media server and confirmed by it: raw sound (2), linear (1), mixed (1), in messages of 20 ms.
fn media_params(format: MediaFormat) -> String {
    let rate = RATES.iter().position(|hz| *hz == format.rate.hz()).unwrap_or(1);
    let audio = format_args!(
        r#""content_type":2,"sample_rate":{rate},"channel":1,"codec":1,"data_opt":1,"send_rate":20"#
    );
    format!(r#"{{"audio":{{{audio}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Python's hmac.
    #[test]
    fn a_url_is_validated_with_the_secret_that_signed_the_question() {
        let asked = r#"{"event":"endpoint.url_validation","event_ts":1654503849680,"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
        let answer = ZoomRtms.posted(asked, Some(&Secret::from("zoom-secret-token")));
        let expected = r#"{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"d9e0d764a78494688ba3f2d5c0ed4ca311394b4834d959759213424d2df961e3"}"#;
        assert_eq!(answer, Ok(Posted::Answer(expected.into())));
        let without = ZoomRtms.posted(asked, None).unwrap_err();
        assert!(without.to_string().contains("zoom-signature"), "{without}");
    }

    #[test]
    fn requests_are_sorted_by_what_they_concern() {
        let posted = |body: &str| ZoomRtms.posted(body, None);
        let about = |event: &str| {
            posted(&format!(r#"{{"event":"{event}","payload":{{"rtms_stream_id":"st-1"}}}}"#))
        };
        let stream = || "st-1".to_owned();
        for product in ["meeting.", "webinar.", "session.", "contact_center.voice_"] {
            assert_eq!(about(&format!("{product}rtms_started")), Ok(Posted::Begins(stream())));
            assert_eq!(about(&format!("{product}rtms_stopped")), Ok(Posted::About(stream())));
            assert_eq!(about(&format!("{product}rtms_interrupted")), Ok(Posted::About(stream())));
        }
        let wrapped =
            r#"{"event":"meeting.rtms_started","payload":{"object":{"rtms_stream_id":"st-1"}}}"#;
        assert_eq!(posted(wrapped), Ok(Posted::Begins(stream())));
        assert_eq!(about("meeting.ended"), Ok(Posted::Other("meeting.ended".into())));
        for wrong in ["", "{", "[]", r#"{"event":"meeting.rtms_started"}"#] {
            assert_eq!(posted(wrong).unwrap_err().status(), 400, "{wrong}");
        }
    }

    /// By Python's hmac.
    #[test]
    fn servers_are_opened_by_a_signature_over_the_names() {
        let name = StreamName {
            stream: "st-1".into(),
            member: "meeting_uuid",
            of: "4444AAAiAAAAAiAiAiiAii==".into(),
        };
        let app =
            App { client_id: "client-id".into(), client_secret: Secret::from("client-secret") };
        let expected = "6565cf976e85340c7ba708592b93a72a5fd279cba1b5f98fe4773797e009a666";
        assert_eq!(name.signature(&app), expected);
        assert_eq!(name.signature(&App::default()), "", "without a secret nothing is signed");
    }

    /// [`Phone`] checks as Zoom does, so this is what a wrong `client_secret` looks like.
    #[test]
    fn the_wrong_secret_is_refused_by_the_signaling_server() {
        use super::super::{Event, LineEvent, Message, ProtocolError, Send};
        use crate::Instant;

        let (_, mut phone) = ZoomRtms.dial(&Dial::default());
        let app = App { client_secret: Secret::from("wrong"), ..App::default() };
        let options = Options { app, ..Options::default() };
        let upgrade = Upgrade { target: "/", public_url: None, headers: &[] };
        let mut bridge = ZoomRtms.accept(&upgrade, &options).unwrap().protocol;
        let (now, line) = (Instant::ZERO, Line::Control);
        let (mut said, mut told) = (Outbox::new(), Outbox::new());
        phone.handle_open(now, &mut said).unwrap();
        let Send::Text(body) = &said.sends()[0] else { panic!("{:?}", said.sends()) };
        bridge.handle_message(now, Message::Text(said.text_of(body)), &mut told).unwrap();
        bridge.handle_line(now, line, LineEvent::Opened, &mut told).unwrap();
        let [Send::Dial(Line::Control, _), Send::TextOn(_, request)] = told.sends() else {
            panic!("{:?}", told.sends())
        };
        let mut answer = Outbox::new();
        let message = LineEvent::Message(Message::Text(told.text_of(request)));
        phone.handle_line(now, line, message, &mut answer).unwrap();
        let Send::TextOn(_, refusal) = &answer.sends()[0] else { panic!("no answer") };
        let message = LineEvent::Message(Message::Text(answer.text_of(refusal)));
        let refused = bridge.handle_line(now, line, message, &mut Outbox::new());
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ProtocolError::Refused { status: 3, .. }), "{refused}");
        assert!(!answer.events().iter().any(|event| matches!(event, Event::Started(_))));
    }
}
