//! Ozonetel (KooKoo) `<stream>`: sound as JSON lists of whole numbers, both ways. Both ends of the wire.
//!
//! The start message calls the sound PCMU, but the numbers are linear samples already. What we send has a name, `seqid`, that is
//! acknowledged when it has been played: sound is numbered and nobody waits for it, a mark is one silent sample with the mark's
//! name. Dropping the queue needs the SIP extension that the stream was started with, which the wire does not tell: pass it as
//! `extension` in `x-uui` or in the query of the URL, else there is no clear. The first message has been seen at another rate
//! than the call's; such sound is left out. Experimental: the wire is known from integrations and from what others noted of the
//! vendor's reference, not from the reference, and when exactly a name is acknowledged is not told.

mod samples;

use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};

use self::samples::{Samples, print_samples};
use super::behaviour::{self, Act, Behaviour};
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Quoted, Reader};
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, HangupLaw, Info, Notice, Options,
    Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection, Start,
    Status, StopCause, Track, Upgrade, linear_at,
};
use crate::Instant;

/// Both ends of Ozonetel's wire.
pub(super) struct Ozonetel;

/// What errors call it.
const EXPECTED: &str = "Ozonetel JSON";
/// Custom parameter that carries the SIP extension.
const EXTENSION: &str = "extension";
/// What the names of sound begin with.
const SOUND: &str = "sound:";
/// Put before the names of marks that could be taken for names of sound or for this.
const MARK: &str = "mark:";
/// It queues so much and drops the rest.
const QUEUE: Duration = Duration::from_secs(60);

static INFO: Info = Info {
    name: "ozonetel",
    title: "Ozonetel KooKoo stream",
    reference: "https://docs.ozonetel.com/",
    status: Status::Experimental,
    capabilities: CLEARED,
    formats: &[
        linear_at(SampleRate::HZ_8000),
        linear_at(SampleRate::HZ_16000),
        linear_at(SampleRate::HZ_24000),
        linear_at(SampleRate::HZ_48000),
    ],
};

const CLEARED: Capabilities = Capabilities {
    playout: PlayoutPolicy::Ahead { limit: QUEUE },
    // A clear is acknowledged, but not by which name; late ones do no harm.
    clear: ClearLaw::DropsMarks,
    ..TWO_WAY
};

const TWO_WAY: Capabilities = Capabilities {
    // What is queued cannot be taken back.
    playout: PlayoutPolicy::Paced { limit: QUEUE },
    marks: true,
    ..ONE_WAY
};

const ONE_WAY: Capabilities =
    Capabilities { dtmf_in: true, hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

fn capabilities(two_way: bool, extension: Option<&str>) -> Capabilities {
    match extension {
        _ if !two_way => ONE_WAY,
        Some(_) => CLEARED,
        None => TWO_WAY,
    }
}

fn extension_in(parameters: &[(String, String)]) -> Option<String> {
    json::parameter(parameters, &[EXTENSION])
}

impl Provider for Ozonetel {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        // Samples are numbers, there is no doubt about that.
        behaviour::JSON.iter().filter(|behaviour| behaviour.act != Act::Requoted).collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let parameters = upgrade.parameters(options);
        let bridge = Bridge { options: options.clone(), parameters, state: State::AwaitingStart };
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let upgrade = OutgoingUpgrade { target: call.target.clone(), ..OutgoingUpgrade::default() };
        let format = call.format.unwrap_or(INFO.formats[0]);
        (upgrade, End::boxed(Phone { call: call.clone(), format, stopped: false }))
    }
}

/// The bridge's end.
struct Bridge {
    options: Options,
    /// From the query.
    parameters: Vec<(String, String)>,
    state: State,
}

enum State {
    AwaitingStart,
    Streaming(Stream),
    Stopped,
}

struct Stream {
    call: String,
    extension: Option<String>,
    inbound: SampleRate,
    outbound: Option<SampleRate>,
    /// Messages of sound sent.
    sent: u64,
}

impl Bridge {
    fn start(&mut self, message: &Reader<'_>) -> Result<Event, ProtocolError> {
        let node = message.node;
        let hz = node.number("media.sampleRate").unwrap_or(8_000);
        let announced = u32::try_from(hz).ok().and_then(SampleRate::new);
        let given = self.options.inbound_format.map(|format| format.rate);
        let inbound = given.or(announced).ok_or_else(|| {
            let what = format!("sound at {hz} Hz");
            ProtocolError::Unsupported { index: message.index, what }
        })?;
        let outbound = self.options.outbound_format.map_or(inbound, |format| format.rate);
        let outbound = (!self.options.one_way).then_some(outbound);
        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend(headers(node));
        let extension = extension_in(&parameters);
        let call = node.text("ucid").map(str::to_owned);
        let can = capabilities(outbound.is_some(), extension.as_deref());
        self.state = State::Streaming(Stream {
            call: call.clone().unwrap_or_default(),
            extension,
            inbound,
            outbound,
            sent: 0,
        });
        Ok(Event::Started(Box::new(Start {
            stream: None,
            call,
            from: node.text("call_id").map(str::to_owned),
            to: node.text("did").map(str::to_owned),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: Some(linear_at(inbound)),
            outbound: outbound.map(linear_at),
            capabilities: can,
        })))
    }

    fn media(&self, sound: &Samples<'_>, out: &Outbox) -> Event {
        match &self.state {
            State::AwaitingStart => {
                Event::Notice(Notice::EarlyMedia { octets: out.octets(&sound.payload).len() })
            }
            State::Streaming(stream)
                if sound.rate.is_some_and(|hz| hz != u64::from(stream.inbound.hz())) =>
            {
                Event::Notice(Notice::unknown("media at another rate"))
            }
            State::Streaming(_) => sound.event(Track::Inbound),
            State::Stopped => Event::Notice(Notice::late("media")),
        }
    }

    fn control(&mut self, index: u64, text: &str) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?;
        let told = node.text("event").unwrap_or("(no name)");
        if matches!(self.state, State::Stopped) {
            return Ok(Some(Event::Notice(Notice::late(told))));
        }
        let reader = |kind| Reader { index, kind, node: &node };
        let streaming = matches!(self.state, State::Streaming(_));
        Ok(Some(match (told, node.text("type")) {
            ("start", _) if streaming => {
                return Err(ProtocolError::out_of_turn(index, "start", "twice"));
            }
            ("start", _) => self.start(&reader("start"))?,
            ("media", Some("dtmf")) if streaming => {
                Event::Dtmf { digit: reader("dtmf").digit("signal")?, duration: None }
            }
            ("mark", _) if streaming => match node.text("seqid") {
                Some(name) if name.starts_with(SOUND) => return Ok(None),
                Some(name) => Event::Played(name.strip_prefix(MARK).unwrap_or(name).to_owned()),
                None => Event::Notice(Notice::unknown("mark without a name")),
            },
            ("media", Some("dtmf")) => {
                return Err(ProtocolError::out_of_turn(index, "dtmf", "before start"));
            }
            ("mark", _) => return Err(ProtocolError::out_of_turn(index, "mark", "before start")),
            ("media", None | Some("media")) => {
                return Err(
                    reader("media").error("data.samples", "is missing or no list of numbers")
                );
            }
            ("stop", _) => {
                self.state = State::Stopped;
                Event::Stopped(StopCause::Remote)
            }
            (told, _) => Event::Notice(Notice::unknown(told)),
        }))
    }
}

/// What users passed on as `x-uui`, JSON in a string.
fn headers(start: &Node<'_>) -> Vec<(String, String)> {
    let Some(given) = start.get("x_headers") else { return Vec::new() };
    let Some(text) = start.text("x_headers") else { return given.pairs(&[]) };
    match Node::parse(0, EXPECTED, text) {
        Ok(object @ Node::Object(_)) => object.pairs(&[]),
        _ if text.is_empty() => Vec::new(),
        _ => vec![("x_headers".to_owned(), text.to_owned())],
    }
}

impl Stream {
    fn say(&mut self, command: Command<'_>, out: &mut Outbox) {
        match (command, self.outbound) {
            (Command::Media { track: Track::Outbound, payload }, Some(rate)) => {
                self.sent += 1;
                out.text(|text| {
                    text.extend_from_slice(br#"{"seqid":""#);
                    text.extend_from_slice(SOUND.as_bytes());
                    json::digits(self.sent, text);
                    text.extend_from_slice(br#"","data":{"samples":"#);
                    print_samples(payload, text);
                    text.extend_from_slice(br#","sampleRate":"#);
                    json::digits(u64::from(rate.hz()), text);
                    text.extend_from_slice(b"}}");
                });
            }
            (Command::Mark(name), Some(rate)) => {
                let odd = [SOUND, MARK].iter().any(|prefix| name.starts_with(prefix));
                let name = format!("{}{name}", if odd { MARK } else { "" });
                let (name, hz) = (Quoted(&name), rate.hz());
                let data = format_args!(r#"{{"samples":[0],"sampleRate":{hz}}}"#);
                json::send(out, format_args!(r#"{{"seqid":{name},"data":{data}}}"#));
            }
            (Command::Clear, Some(_)) => {
                let Some(extension) = &self.extension else { return };
                let (extension, call) = (Quoted(extension), Quoted(&self.call));
                let to = format_args!(r#""extension":{extension},"sessionId":{call}"#);
                json::send(out, format_args!(r#"{{"command":"clearBuffer",{to}}}"#));
            }
            (Command::Hangup, _) => {
                json::send(out, format_args!(r#"{{"command":"callDisconnect","causeCode":200}}"#));
            }
            _ => {}
        }
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match Samples::read(text, out) {
            Some(sound) if sound.kind == Some("media") => Ok(Some(self.media(&sound, out))),
            _ => self.control(turn.index, text),
        }
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match &mut self.state {
            State::Streaming(stream) => stream.say(command, out),
            State::AwaitingStart => {}
            State::Stopped => return Ok(()),
        }
        if command == Command::Hangup {
            self.state = State::Stopped;
            out.close(1000);
        }
        Ok(())
    }
}

/// The provider's end.
struct Phone {
    call: Dial,
    format: MediaFormat,
    stopped: bool,
}

impl Phone {
    /// Sound or a mark.
    fn heard(&self, index: u64, sound: &Samples<'_>, out: &Outbox) -> Result<Event, ProtocolError> {
        let wrong = |field, problem| ProtocolError::Field { index, kind: "data", field, problem };
        let name = sound.name.as_deref().ok_or_else(|| wrong("seqid", "is missing or no text"))?;
        // It resamples; who plays its part here does not.
        if sound.rate.is_some_and(|hz| hz != u64::from(self.format.rate.hz())) {
            return Err(wrong("data.sampleRate", "is not that of the stream"));
        }
        // It acknowledges all it has played. Nobody waits for sound, so this is left out here.
        Ok(match out.octets(&sound.payload).len() {
            0..=2 => Event::MarkRequested(name.to_owned()),
            _ => sound.event(Track::Outbound),
        })
    }

    fn request(&self, index: u64, text: &str) -> Result<Event, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?;
        let reader = |kind| Reader { index, kind, node: &node };
        Ok(match node.text("command") {
            Some("clearBuffer") => {
                let reader = reader("clearBuffer");
                let extension = extension_in(&self.call.parameters);
                if Some(reader.text("extension")?) != extension.as_deref() {
                    return Err(reader.error("extension", "is not that of the stream"));
                }
                if reader.text("sessionId")? != self.call.call {
                    return Err(reader.error("sessionId", "does not name this call"));
                }
                Event::ClearRequested
            }
            Some("callDisconnect") => Event::HangupRequested,
            Some(other) => Event::Notice(Notice::unknown(other)),
            None => return Err(reader("message").error("command", "is missing or no text")),
        })
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let Dial { call: name, from, to, parameters, two_way, .. } = &self.call;
        let hz = self.format.rate.hz();
        let sound = format_args!(
            r#"{{"encoding":"PCMU","sampleRate":{hz},"channels":1,"bitsPerSample":16,"payloadType":0}}"#
        );
        let headers = Members(parameters).to_string();
        let (call, from, to) = (Quoted(name), Quoted(from), Quoted(to));
        let names = format_args!(r#""ucid":{call},"did":{to},"call_id":{from}"#);
        let users = format_args!(r#""x_account":"example","x_headers":{}"#, Quoted(&headers));
        json::send(
            out,
            format_args!(r#"{{"event":"start","type":"text",{names},{users},"media":{sound}}}"#),
        );
        let can = capabilities(*two_way, extension_in(parameters).as_deref());
        let mut start = self.call.started(None, parameters.clone(), self.format, can);
        start.tracks = vec![Track::Inbound];
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let event = match Samples::read(text, out) {
            Some(_) if !self.call.two_way => {
                Err(ProtocolError::out_of_turn(turn.index, "data", "on a one-way stream"))
            }
            Some(sound) => self.heard(turn.index, &sound, out),
            None => self.request(turn.index, text),
        };
        event.map(Some)
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let call = Quoted(&self.call.call);
        match command {
            _ if self.stopped => {}
            Command::Media { track: Track::Inbound, payload } => out.text(|text| {
                text.extend_from_slice(br#"{"event":"media","type":"media","ucid":"#);
                json::quote(&self.call.call, text);
                text.extend_from_slice(br#","data":{"samples":"#);
                print_samples(payload, text);
                text.extend_from_slice(br#","bitsPerSample":16,"sampleRate":"#);
                json::digits(u64::from(self.format.rate.hz()), text);
                text.extend_from_slice(br#","channelCount":1,"numberOfFrames":"#);
                json::digits(payload.len() as u64 / 2, text);
                text.extend_from_slice(br#","type":"data"}}"#);
            }),
            Command::Played(name) => {
                let (head, name) = (r#""event":"mark","type":"ack""#, Quoted(name));
                json::send(out, format_args!(r#"{{{head},"ucid":{call},"seqid":{name}}}"#));
            }
            Command::Dtmf(digit) => {
                let (head, digit) = (r#""event":"media","type":"dtmf""#, digit.as_char());
                json::send(out, format_args!(r#"{{{head},"ucid":{call},"signal":"{digit}"}}"#));
            }
            Command::Hangup => {
                self.stopped = true;
                let head = r#""event":"stop","type":"text""#;
                json::send(out, format_args!(r#"{{{head},"ucid":{call},"cause":200}}"#));
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Message, Send};

    fn dial(extension: &str) -> Dial {
        let parameters = vec![(EXTENSION.to_owned(), extension.to_owned())];
        Dial { parameters, ..Dial::default() }
    }

    /// What the provider's end makes of a text.
    fn refusal(text: &str) -> Option<String> {
        let (_, mut phone) = Ozonetel.dial(&dial("1001"));
        let mut out = Outbox::new();
        phone
            .handle_message(Instant::ZERO, Message::Text(text), &mut out)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn the_provider_refuses_what_it_cannot_place() {
        let clear = r#"{"command":"clearBuffer","extension":"1001","sessionId":"call-1"}"#;
        assert_eq!(refusal(clear), None);
        for (text, field) in [
            (clear.replace("1001", "1002"), "`extension`"),
            (clear.replace("call-1", "call-2"), "`sessionId`"),
            (r#"{"data":{"samples":[1,2],"sampleRate":8000}}"#.into(), "`seqid`"),
            (
                r#"{"seqid":"a","data":{"samples":[1,2],"sampleRate":16000}}"#.into(),
                "`data.sampleRate`",
            ),
            ("{}".into(), "`command`"),
        ] {
            assert!(refusal(&text).is_some_and(|error| error.contains(field)), "{text}");
        }
    }

    #[test]
    fn marks_that_look_like_sound_come_back_by_their_own_name() {
        let (request, mut phone) = Ozonetel.dial(&dial("1001"));
        let upgrade = Upgrade { target: &request.target, public_url: None, headers: &[] };
        let mut bridge = Ozonetel.accept(&upgrade, &Options::default()).unwrap().protocol;
        let (mut said, mut heard) = (Outbox::new(), Outbox::new());
        let pass = |from: &Outbox, to: &mut dyn Protocol, out: &mut Outbox| {
            for send in from.sends() {
                let Send::Text(span) = send else { continue };
                to.handle_message(Instant::ZERO, Message::Text(from.text_of(span)), out).unwrap();
            }
        };
        phone.handle_open(Instant::ZERO, &mut said).unwrap();
        pass(&said, &mut *bridge, &mut heard);
        for name in ["sound:1", "mark:sound:1", "mark:", "plain", ""] {
            said.reset();
            heard.reset();
            bridge.handle_command(Instant::ZERO, Command::Mark(name), &mut said).unwrap();
            pass(&said, &mut *phone, &mut heard);
            let [Event::MarkRequested(wire)] = heard.events() else { panic!("{name}") };
            let wire = wire.clone();
            said.reset();
            heard.reset();
            phone.handle_command(Instant::ZERO, Command::Played(&wire), &mut said).unwrap();
            pass(&said, &mut *bridge, &mut heard);
            assert_eq!(heard.events(), [Event::Played(name.to_owned())]);
        }
    }
}
