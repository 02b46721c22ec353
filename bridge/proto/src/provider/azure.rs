//! Azure Communication Services, media streaming of Call Automation: JSON with base64 linear PCM in text messages. Both ends of the
//! wire; tokens are checked elsewhere.
//!
//! Names of members are written in different cases by its own pages and libraries, so case does not count. The call's name is not on
//! the wire but in a header of the request. There is no stop and no hang-up: closing ends the stream, the call goes on until the REST
//! interface ends it.
//!
//! A stream is mixed (one voice, of everybody) or unmixed: up to four participants take turns on one socket. A call has one caller
//! here, and nothing is mixed by a wire, so of an unmixed stream one participant is heard: whom the query parameter `participant`
//! names, or else who speaks first. Each other one is reported once. For conferences, ask for `audioChannelType=mixed`.

use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};

use super::behaviour::{self, Behaviour};
use super::dialect::MediaPaths;
use super::end::{End, Turn, Wire};
use super::json::{self, Node, Quoted, Reader, Stamp};
use super::media_message::{self, MediaMessage};
use super::participants::Participants;
use super::upgrade::with_query;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, FrameLaw, Info, Notice, Options,
    Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection, Start,
    Status, Track, Upgrade, linear_at,
};
use crate::Instant;

/// Both ends of Azure's wire.
pub(super) struct Azure;

const EXPECTED: &str = "Azure JSON";
const CALL_HEADER: &str = "x-ms-call-connection-id";
const PARTICIPANT_PARAMETER: &str = "participant";

static INFO: Info = Info {
    name: "azure",
    title: "Azure Communication Services",
    reference: "https://learn.microsoft.com/en-us/azure/communication-services/how-tos/call-automation/audio-streaming-quickstart",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[linear_at(SampleRate::HZ_16000), linear_at(SampleRate::HZ_24000)],
};

const TWO_WAY: Capabilities = Capabilities {
    // How much is held is not told; all samples send in real time.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(10) },
    // What all samples send; whether anything else is taken is not told.
    frame: FrameLaw::MultipleOf(Duration::from_millis(20)),
    clear: ClearLaw::DropsMarks,
    ..ONE_WAY
};

const ONE_WAY: Capabilities = Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY };

/// Sound as they usually write it; the track is who speaks.
const THEIR_SOUND: MediaPaths = MediaPaths {
    kind: "AudioData",
    track: "audioData.participantRawID",
    payload: "audioData.data",
    ..MediaPaths::UNTOLD
};

/// Sound as we write it.
const OUR_SOUND: MediaPaths =
    MediaPaths { kind: "AudioData", track: "", payload: "AudioData.Data", ..THEIR_SOUND };

/// A sound message as it is usually written; `name` names messages. `null` could be base64 and is none.
fn usual<'a>(text: &'a str, name: &str, paths: &MediaPaths) -> Option<MediaMessage<'a>> {
    MediaMessage::scan(text, name, paths, "").filter(|message| message.payload != "null")
}

impl Provider for Azure {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        behaviour::JSON.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge {
            call: upgrade.header(CALL_HEADER).map(str::to_owned),
            parameters: upgrade.parameters(options),
            options: options.clone(),
            participants: Participants::new(upgrade.query(PARTICIPANT_PARAMETER)),
            state: State::AwaitingStart,
        };
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let parameters = call.described();
        let upgrade = OutgoingUpgrade {
            target: with_query(&call.target, &parameters),
            headers: vec![
                (CALL_HEADER.into(), call.call.clone()),
                ("x-ms-call-correlation-id".into(), call.call.clone()),
            ],
            subprotocols: Vec::new(),
        };
        let format = call.format.unwrap_or(INFO.formats[0]);
        let phone = Phone { call: call.clone(), parameters, format, closed: false };
        (upgrade, End::boxed(phone))
    }
}

/// The bridge's end.
struct Bridge {
    call: Option<String>,
    parameters: Vec<(String, String)>,
    options: Options,
    participants: Participants,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingStart,
    Streaming,
    Stopped,
}

impl Bridge {
    fn media(
        &mut self,
        index: u64,
        message: &MediaMessage<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match self.state {
            State::AwaitingStart => {
                return Ok(Some(Event::Notice(Notice::EarlyMedia { octets: message.octets() })));
            }
            State::Stopped => return Ok(Some(Event::Notice(Notice::late("AudioData")))),
            State::Streaming => {}
        }
        if let Some(who) = message.track
            && !self.participants.hears(who)
        {
            return Ok(self.participants.report(who));
        }
        // The time they tell is that of a computer's clock; the order of messages says more.
        let place = ("AudioData", "audioData.data");
        media_message::sound(index, place, message.payload, Track::Inbound, out).map(Some)
    }

    fn read(
        &mut self,
        index: u64,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?.in_lower_case();
        let told = node.text("kind").unwrap_or("(no kind)");
        let reader = |kind| Reader { index, kind, node: &node };
        Ok(Some(match (told.to_ascii_lowercase().as_str(), self.state) {
            ("audiodata", _) => {
                let sound = node.text("audiodata.data");
                if sound.is_none() && node.text("audiodata.silent") == Some("true") {
                    return Ok(None);
                }
                let payload = reader("AudioData").text("audiodata.data")?;
                let track = node.text("audiodata.participantrawid");
                let message = MediaMessage { track, payload, ..MediaMessage::default() };
                return self.media(index, &message, out);
            }
            // Of real-time transcription, which may use the same socket.
            ("transcriptionmetadata" | "transcriptiondata", _) => return Ok(None),
            (_, State::Stopped) => Event::Notice(Notice::late(told)),
            ("audiometadata", State::AwaitingStart) => self.start(&reader("AudioMetadata"))?,
            ("audiometadata", State::Streaming) => {
                return Err(ProtocolError::out_of_turn(index, "AudioMetadata", "twice"));
            }
            ("dtmfdata", State::AwaitingStart) => {
                return Err(ProtocolError::out_of_turn(index, "DtmfData", "before AudioMetadata"));
            }
            ("dtmfdata", State::Streaming) => {
                reader("DtmfData").press("dtmfdata.data", out)?;
                return Ok(None);
            }
            _ => Event::Notice(Notice::unknown(told)),
        }))
    }

    fn start(&mut self, message: &Reader<'_>) -> Result<Event, ProtocolError> {
        let node = message.node;
        let encoding = node.text("audiometadata.encoding").unwrap_or("PCM");
        let hz = node.number("audiometadata.samplerate").unwrap_or(16_000);
        let channels = node.number("audiometadata.channels").unwrap_or(1);
        let rate = u32::try_from(hz).ok().and_then(SampleRate::new);
        let known = encoding.eq_ignore_ascii_case("pcm") && channels == 1;
        let announced = rate.filter(|_| known).map(linear_at).or(self.options.inbound_format);
        let announced = announced.ok_or_else(|| {
            let name = json::kind(encoding);
            let what = format!("{name} at {hz} Hz with {channels} channels");
            ProtocolError::Unsupported { index: message.index, what }
        })?;
        self.state = State::Streaming;
        let parameters = std::mem::take(&mut self.parameters);
        let two_way = !self.options.one_way;
        let outbound = self.options.outbound_format.unwrap_or(announced);
        let call = self.call.take();
        Ok(Event::Started(Box::new(Start {
            stream: node.text("audiometadata.subscriptionid").map(str::to_owned),
            call: call.or_else(|| json::parameter(&parameters, &["call", "callConnectionId"])),
            from: json::parameter(&parameters, &["from", "caller"]),
            to: json::parameter(&parameters, &["to", "callee"]),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: Some(self.options.inbound_format.unwrap_or(announced)),
            outbound: two_way.then_some(outbound),
            capabilities: if two_way { TWO_WAY } else { ONE_WAY },
        })))
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match usual(text, "kind", &THEIR_SOUND) {
            Some(message) => self.media(turn.index, &message, out),
            None => self.read(turn.index, text, out),
        }
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let two_way = self.state == State::Streaming && !self.options.one_way;
        match command {
            _ if self.state == State::Stopped => {}
            Command::Media { track: Track::Outbound, payload } if two_way => {
                let before = format_args!(r#"{{"Kind":"AudioData","AudioData":{{"Data":""#);
                media_message::send(out, before, payload, r#""},"StopAudio":null}"#);
            }
            Command::Clear if two_way => {
                let stop = r#"{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}"#;
                json::send(out, format_args!("{stop}"));
            }
            Command::Hangup => {
                self.state = State::Stopped;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Azure's end; of a mixed stream.
struct Phone {
    call: Dial,
    parameters: Vec<(String, String)>,
    format: MediaFormat,
    closed: bool,
}

/// What is to be played.
fn heard(index: u64, text: &str, out: &mut Outbox) -> Result<Event, ProtocolError> {
    media_message::sound(index, ("AudioData", "AudioData.Data"), text, Track::Outbound, out)
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let (name, hz) = (Quoted(&self.call.call), self.format.rate.hz());
        let octets =
            self.format.octets_for(self.format.rate.samples_in(Duration::from_millis(20)) as usize);
        let length = octets.unwrap_or(0);
        let what = format_args!(
            r#""subscriptionId":{name},"encoding":"PCM","sampleRate":{hz},"channels":1,"length":{length}"#
        );
        json::send(out, format_args!(r#"{{"kind":"AudioMetadata","audioMetadata":{{{what}}}}}"#));
        let can = if self.call.two_way { TWO_WAY } else { ONE_WAY };
        let parameters = std::mem::take(&mut self.parameters);
        let stream = Some(self.call.call.clone());
        let mut start = self.call.started(stream, parameters, self.format, can);
        start.tracks = vec![Track::Inbound];
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    /// What is said to a stream that was not made bidirectional is ignored without a word.
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if !self.call.two_way {
            return Ok(None);
        }
        if let Some(message) = usual(text, "Kind", &OUR_SOUND) {
            return heard(turn.index, message.payload, out).map(Some);
        }
        let node = Node::parse(turn.index, EXPECTED, text)?.in_lower_case();
        let told = node.text("kind").unwrap_or("(no kind)");
        Ok(Some(match told.to_ascii_lowercase().as_str() {
            "audiodata" => {
                let reader = Reader { index: turn.index, kind: "AudioData", node: &node };
                heard(turn.index, reader.text("audiodata.data")?, out)?
            }
            "stopaudio" => Event::ClearRequested,
            _ => Event::Notice(Notice::unknown(told)),
        }))
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.closed => {}
            Command::Media { track: Track::Inbound, payload } => {
                let now = Stamp(now);
                let before = format_args!(
                    r#"{{"kind":"AudioData","audioData":{{"timestamp":"{now}","data":""#
                );
                media_message::send(out, before, payload, r#"","silent":false}}"#);
            }
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                let data = format_args!(r#"{{"data":"{key}"}}"#);
                json::send(out, format_args!(r#"{{"kind":"DtmfData","dtmfData":{data}}}"#));
            }
            Command::Hangup => {
                self.closed = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
