//! Replays wire transcripts: what comes in must mean what the snapshot beside it says, what goes out must be what we print, and where
//! a transcript is marked `backwards`, our own provider's end must say the same things in the same shape.
//!
//! A transcript is one JSON object a line: `{"dir":"in"|"out","type":"text"|"binary"|"close","data":..}`, binary as hex, after one of
//! `"type":"upgrade"` with the request's target, `headers` and `options`. Lines are 20 ms apart unless they say `"at"`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};
use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Dial, Digit, EarlyMedia, Event, Message, Options, Outbox, PROVIDERS, Protocol,
    Provider, Send, Start, Track, Upgrade,
};
use serde_json::Value;

/// A message with its octets.
#[derive(Debug, Clone, PartialEq)]
enum Wire {
    Text(String),
    Binary(Vec<u8>),
    Close(u16),
}

impl Wire {
    fn new(line: &Value) -> Self {
        let data = line["data"].as_str().expect("data is text");
        match line["type"].as_str() {
            Some("text") => Self::Text(data.to_owned()),
            Some("binary") => Self::Binary(unhex(data)),
            Some("close") => Self::Close(data.parse().expect("a close code")),
            other => panic!("line of type {other:?}"),
        }
    }

    fn message(&self) -> Option<Message<'_>> {
        match self {
            Self::Text(text) => Some(Message::Text(text)),
            Self::Binary(octets) => Some(Message::Binary(octets)),
            Self::Close(_) => None,
        }
    }

    /// What stays the same from call to call: kinds of values and names of members, words of a line, lengths.
    fn shape(&self) -> String {
        match self {
            Self::Binary(octets) => format!("binary of {}", octets.len()),
            Self::Close(code) => format!("close {code}"),
            // There may be several values in it.
            Self::Text(text) => match serde_json::Deserializer::from_str(text)
                .into_iter()
                .map(|value| value.map(|value| json_shape(&value)))
                .collect::<Result<Vec<_>, _>>()
            {
                Ok(shapes) if !shapes.is_empty() => shapes.join(" "),
                _ => line_shape(text),
            },
        }
    }

    /// Equal, text that is JSON as JSON.
    fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => {
                let json = |text| serde_json::from_str::<Value>(text).ok();
                a == b || json(a).is_some_and(|value| Some(value) == json(b))
            }
            _ => self == other,
        }
    }
}

fn json_shape(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key}:{}", json_shape(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.first().map(json_shape).unwrap_or_default()),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "truth".into(),
        Value::Null => "null".into(),
    }
}

fn line_shape(line: &str) -> String {
    let mut words = line.split(' ');
    let event = words.next().unwrap_or_default();
    let fields = words.map(|word| word.split_once(':').map_or("word", |(name, _)| name));
    format!("{event} {}", fields.collect::<Vec<_>>().join(" "))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// CRC-32 (ISO 3309), to tell payloads apart in few characters.
fn crc(octets: &[u8]) -> u32 {
    !octets.iter().fold(!0, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc: u32, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (!(crc & 1)).wrapping_add(1))
        })
    })
}

/// What an event asks of the other end.
#[derive(Debug, Clone)]
enum Order {
    Media(Track, Vec<u8>),
    Mark(String),
    Played(String),
    Result(String),
    Dtmf(Digit),
    Plain(Command<'static>),
}

impl Order {
    fn of(event: &Event, out: &Outbox) -> Option<Self> {
        Some(match event {
            Event::Media(media) => Self::Media(media.track, out.octets(&media.payload).to_vec()),
            Event::Dtmf { digit, .. } => Self::Dtmf(*digit),
            Event::Played(name) => Self::Played(name.clone()),
            Event::MarkRequested(name) => Self::Mark(name.clone()),
            Event::Result(result) => Self::Result(result.clone()),
            Event::Cleared => Self::Plain(Command::Cleared),
            Event::Full => Self::Plain(Command::Full),
            Event::Writable => Self::Plain(Command::Writable),
            Event::ClearRequested => Self::Plain(Command::Clear),
            Event::PauseRequested => Self::Plain(Command::Pause),
            Event::ResumeRequested => Self::Plain(Command::Resume),
            Event::HangupRequested | Event::Stopped(_) => Self::Plain(Command::Hangup),
            _ => return None,
        })
    }

    fn command(&self) -> Command<'_> {
        match self {
            Self::Media(track, payload) => Command::Media { track: *track, payload },
            Self::Mark(name) => Command::Mark(name),
            Self::Played(name) => Command::Played(name),
            Self::Result(result) => Command::Result(result),
            Self::Dtmf(digit) => Command::Dtmf(*digit),
            Self::Plain(command) => *command,
        }
    }
}

fn print(provider: &dyn Provider, event: &Event, out: &Outbox) -> String {
    match event {
        Event::Started(start) => format!("Started\n{}", print_start(provider, start)),
        Event::Media(media) => {
            let octets = out.octets(&media.payload);
            let mut text =
                format!("Media {:?} {} octets {:08x}", media.track, octets.len(), crc(octets));
            if let Some(sequence) = media.sequence {
                let _ = write!(text, " #{sequence}");
            }
            if let Some(timestamp) = media.timestamp {
                let _ = write!(text, " at {timestamp:?}");
            }
            text
        }
        other => format!("{other:?}"),
    }
}

fn print_start(provider: &dyn Provider, start: &Start) -> String {
    let mut text = String::new();
    let names = [
        ("stream", &start.stream),
        ("call", &start.call),
        ("from", &start.from),
        ("to", &start.to),
    ];
    for (name, value) in names {
        let _ = writeln!(text, "        {name}: {}", value.as_deref().unwrap_or("-"));
    }
    for (name, value) in &start.parameters {
        let _ = writeln!(text, "        parameter {name} = {value}");
    }
    let sent = start.outbound.map_or_else(|| "nothing".to_owned(), |format| format.to_string());
    let _ = writeln!(text, "        tracks: {:?} of {}, to it {sent}", start.tracks, start.inbound);
    let _ = match start.capabilities {
        best if best == provider.capabilities() => {
            write!(text, "        can do all that the provider can")
        }
        less => write!(text, "        {less:?}"),
    };
    text
}

struct Transcript {
    target: String,
    headers: Vec<(String, String)>,
    options: Options,
    backwards: bool,
    /// When, whether it comes in, what.
    lines: Vec<(Instant, bool, Wire)>,
}

impl Transcript {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a readable transcript");
        let mut lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON lines"));
        let first: Value = lines.next().expect("a first line");
        assert_eq!(first["type"], "upgrade", "{}", path.display());
        let headers = first["headers"].as_object().into_iter().flatten();
        let header = |(name, value): (&String, &Value)| {
            (name.clone(), value.as_str().expect("text").to_owned())
        };
        let mut now = Instant::ZERO;
        let lines = lines.map(|line: Value| {
            now += Duration::from_millis(20);
            if let Some(at) = line["at"].as_u64() {
                now = Instant::from_millis(at);
            }
            (now, line["dir"] == "in", Wire::new(&line))
        });
        Self {
            target: first["data"].as_str().expect("a target").to_owned(),
            headers: headers.map(header).collect(),
            options: options(&first["options"]),
            backwards: first["backwards"] == true,
            lines: lines.collect(),
        }
    }
}

fn options(given: &Value) -> Options {
    let format = |name| match name {
        "pcmu" => MediaFormat::PCMU_8000,
        "pcma" => MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
        "l16-8000" => MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000),
        "l16-16000" => MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_16000),
        "l16-24000" => MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_24000),
        "l16be-16000" => MediaFormat::mono(Encoding::L16(Endian::Big), SampleRate::HZ_16000),
        other => panic!("format {other}"),
    };
    Options {
        inbound_format: given["inbound_format"].as_str().map(format),
        outbound_format: given["outbound_format"].as_str().map(format),
        one_way: given["one_way"] == true,
        early_media: match given["early_media"].as_str() {
            Some("drop") => EarlyMedia::Drop,
            _ => EarlyMedia::default(),
        },
        credential_query: given["credential_query"].as_str().map(str::to_owned),
    }
}

fn sends(out: &Outbox) -> impl Iterator<Item = Wire> {
    out.sends().iter().map(|send| match send {
        Send::Text(span) => Wire::Text(out.text_of(span).to_owned()),
        Send::Binary(span) => Wire::Binary(out.octets(span).to_vec()),
        Send::Close(code) => Wire::Close(*code),
    })
}

/// One end with what it has sent and not been compared yet.
struct End {
    protocol: Box<dyn Protocol>,
    out: Outbox,
    sent: VecDeque<Wire>,
}

impl End {
    fn open(protocol: Box<dyn Protocol>) -> Self {
        let mut end = Self { protocol, out: Outbox::new(), sent: VecDeque::new() };
        end.protocol.handle_open(Instant::ZERO, &mut end.out).expect("opens");
        end.sent.extend(sends(&end.out));
        end
    }

    fn obey(&mut self, now: Instant, orders: &[Order]) {
        self.out.reset();
        for order in orders {
            self.protocol.handle_command(now, order.command(), &mut self.out).expect("obeys");
        }
        self.sent.extend(sends(&self.out));
    }

    /// Lets time pass up to `now`.
    fn wait(&mut self, now: Instant) {
        if self.protocol.poll_timeout().is_some_and(|at| at <= now) {
            self.out.reset();
            self.protocol.handle_timeout(now, &mut self.out).expect("time may pass");
            self.sent.extend(sends(&self.out));
        }
    }

    /// What a message asks of the other end, which must take it.
    fn told(&mut self, now: Instant, wire: &Wire) -> Vec<Order> {
        self.understood(now, wire).unwrap_or_else(|why| panic!("{wire:?} is not understood: {why}"))
    }

    /// What a message asks of the other end, if that takes it.
    fn understood(&mut self, now: Instant, wire: &Wire) -> Result<Vec<Order>, String> {
        let Some(message) = wire.message() else { return Ok(vec![Order::Plain(Command::Hangup)]) };
        self.out.reset();
        let handled = self.protocol.handle_message(now, message, &mut self.out);
        handled.map_err(|error| error.to_string())?;
        self.sent.extend(sends(&self.out));
        let mut events = self.out.events().iter();
        match events.find(|event| matches!(event, Event::Notice(_))) {
            Some(strange) => Err(format!("{strange:?}")),
            None => Ok(self.out.events().iter().filter_map(|e| Order::of(e, &self.out)).collect()),
        }
    }
}

/// The call a stream turned out to be, to act it out ourselves.
fn dial_of(start: Option<&Start>, target: &str) -> Dial {
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let Some(start) = start else { return Dial { target: path, ..Dial::default() } };
    let mut parameters = start.parameters.clone();
    parameters.retain(|(name, _)| !["from", "to", "uuid", "call"].contains(&name.as_str()));
    let own = start.stream.as_ref().map(|stream| stream.trim_start_matches("MZ").to_owned());
    Dial {
        target: path,
        call: start.call.clone().or(own).unwrap_or_default(),
        from: start.from.clone().unwrap_or_default(),
        to: start.to.clone().unwrap_or_default(),
        parameters,
        format: Some(start.inbound),
        tracks: start.tracks.clone(),
        two_way: start.outbound.is_some(),
    }
}

/// Replays a transcript at the bridge's end; gives what it all meant, and per line that came in what it asks of the other end.
fn forwards(
    provider: &dyn Provider,
    transcript: &Transcript,
) -> (String, Option<Start>, Vec<Vec<Order>>) {
    let headers: Vec<_> =
        transcript.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upgrade = Upgrade { target: &transcript.target, public_url: None, headers: &headers };
    let accepted = match provider.accept(&upgrade, &transcript.options) {
        Ok(accepted) => accepted,
        Err(rejection) => {
            let (status, public) = (rejection.status(), rejection.public());
            return (format!("refused with {status}: {public}\n"), None, Vec::new());
        }
    };
    let mut report = format!("accepted, subprotocol {:?}\n", accepted.subprotocol);
    let mut bridge = End::open(accepted.protocol);
    let mut start = None;
    let mut orders = Vec::new();
    // Acts the provider out, to tell what asks for what we sent; with how many lines it has been told.
    let mut phone: Option<(End, usize)> = None;
    note(provider, &bridge.out, &mut start, &mut report);
    let mut failed = false;
    for (at, (now, comes_in, wire)) in transcript.lines.iter().enumerate() {
        // What was said to that is all that follows.
        if failed && (*comes_in || bridge.sent.is_empty()) {
            break;
        }
        bridge.out.reset();
        bridge.wait(*now);
        note(provider, &bridge.out, &mut start, &mut report);
        if !comes_in {
            if bridge.sent.is_empty() {
                let dial = dial_of(start.as_ref(), &transcript.target);
                let open = || End::open(provider.dial(&dial).1);
                let mut order = open().understood(*now, wire).unwrap_or_default();
                if order.is_empty() {
                    let (phone, told) = phone.get_or_insert_with(|| (open(), 0));
                    order = order_behind(phone, told, at, &transcript.lines);
                }
                bridge.obey(*now, &order);
            }
            let sent = bridge.sent.pop_front();
            assert!(sent.as_ref().is_some_and(|sent| sent.means(wire)), "{sent:?} is not {wire:?}");
            let _ = writeln!(report, "out {}", wire.shape());
            continue;
        }
        let _ = writeln!(report, "in  {}", wire.shape().chars().take(60).collect::<String>());
        let Some(message) = wire.message() else { continue };
        bridge.out.reset();
        let handled = bridge.protocol.handle_message(*now, message, &mut bridge.out);
        bridge.sent.extend(sends(&bridge.out));
        note(provider, &bridge.out, &mut start, &mut report);
        orders.push(bridge.out.events().iter().filter_map(|e| Order::of(e, &bridge.out)).collect());
        if let Err(error) = handled {
            let _ = writeln!(report, "    closed with {}: {error}", error.close_code());
            failed = true;
        }
    }
    assert!(bridge.sent.is_empty(), "sent beside the transcript: {:?}", bridge.sent);
    (report, start, orders)
}

/// What line `at` and, where it asks for nothing by itself, those after it ask of us: some commands take several messages. The
/// provider's end has been `told` so many lines, and is told what we said since.
fn order_behind(
    phone: &mut End,
    told: &mut usize,
    at: usize,
    lines: &[(Instant, bool, Wire)],
) -> Vec<Order> {
    while let Some((now, comes_in, wire)) = lines.get(*told) {
        let (here, ours) = (*told >= at, !comes_in);
        if here && !ours {
            break;
        }
        *told += 1;
        let order = if ours { phone.told(*now, wire) } else { Vec::new() };
        if here && !order.is_empty() {
            return order;
        }
    }
    Vec::new()
}

fn note(provider: &dyn Provider, out: &Outbox, start: &mut Option<Start>, report: &mut String) {
    for event in out.events() {
        if let Event::Started(started) = event {
            *start = Some((**started).clone());
        }
        let _ = writeln!(report, "    {}", print(provider, event, out));
    }
}

/// Replays a transcript at the provider's end: it understands all we sent, and says what the provider said in the same shape.
fn backwards(
    provider: &dyn Provider,
    transcript: &Transcript,
    start: &Start,
    orders: Vec<Vec<Order>>,
) {
    let dial = dial_of(Some(start), &transcript.target);
    let (upgrade, phone) = provider.dial(&dial);
    let keys = |target: &str| {
        let query = target.split_once('?').map_or("", |(_, query)| query).to_owned();
        let names = query.split('&').map(|pair| pair.split('=').next().map(str::to_owned));
        let mut names: Vec<_> = names.collect();
        names.sort();
        (target.split('?').next().map(str::to_owned), names)
    };
    assert_eq!(keys(&upgrade.target), keys(&transcript.target));
    let offered = transcript.headers.iter().find(|(name, _)| name == "sec-websocket-protocol");
    assert_eq!(
        upgrade.subprotocols.join(", "),
        offered.map(|(_, v)| v.clone()).unwrap_or_default()
    );
    let mut phone = End::open(phone);
    let mut orders = orders.into_iter();
    for (now, comes_in, wire) in &transcript.lines {
        phone.wait(*now);
        if !comes_in {
            phone.told(*now, wire);
            continue;
        }
        if wire.message().is_none() && phone.sent.is_empty() {
            phone.obey(*now, &[Order::Plain(Command::Hangup)]);
        } else if wire.message().is_some() {
            phone.obey(*now, &orders.next().unwrap_or_default());
        }
        let said = phone.sent.pop_front().map(|said| said.shape());
        assert_eq!(said, Some(wire.shape()), "instead of {wire:?}");
    }
    assert!(phone.sent.is_empty(), "said beside the transcript: {:?}", phone.sent);
}

fn transcripts(provider: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(provider);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder entry").path());
    let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    paths.sort();
    paths
}

#[test]
fn every_transcript_means_what_its_snapshot_says() {
    for provider in PROVIDERS {
        for path in transcripts(provider.name()) {
            let situation = path.file_stem().expect("a name").to_string_lossy().into_owned();
            eprintln!("{}/{situation}", provider.name());
            let transcript = Transcript::read(&path);
            let (report, start, orders) = forwards(*provider, &transcript);
            if transcript.backwards {
                let start = start.expect("a stream that is acted out starts");
                backwards(*provider, &transcript, &start, orders);
            }
            insta::with_settings!({
                snapshot_path => path.parent().expect("a folder"),
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!(situation, report);
            });
        }
    }
}

#[test]
fn every_provider_has_a_call_that_is_acted_out_backwards() {
    for provider in PROVIDERS {
        let calls = transcripts(provider.name());
        let call = calls.iter().find(|path| path.ends_with("call.jsonl"));
        let call = call.unwrap_or_else(|| panic!("{} has no call.jsonl", provider.name()));
        assert!(Transcript::read(call).backwards, "{}", call.display());
    }
}
