//! Replays wire transcripts: what comes in must mean what the snapshot beside it says, what goes out must be what we print, and where
//! a transcript is marked `backwards`, our own provider's end must say the same things in the same shape.
//!
//! How a transcript is written is told by [`ringback_proto::transcript`], which reads them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{
    App, Command, Dial, Digit, Event, Options, Outbox, PROVIDERS, Protocol, Provider, Send, Start,
    Track, Upgrade,
};
use ringback_proto::redaction::{Facts, Redactor, Sound};
use ringback_proto::transcript::{Direction, Line, Transcript, Wire};
use serde_json::Value;

/// Equal, text that is JSON as JSON.
fn means(a: &Wire, b: &Wire) -> bool {
    match (a, b) {
        (Wire::Text(a), Wire::Text(b)) => {
            let json = |text| serde_json::from_str::<Value>(text).ok();
            a == b || json(a).is_some_and(|value| Some(value) == json(b))
        }
        (Wire::On(a, text), Wire::On(b, other)) => {
            a == b && means(&Wire::Text(text.clone()), &Wire::Text(other.clone()))
        }
        _ => a == b,
    }
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
    Say(String, Option<String>, bool),
    Language(Option<String>, Option<String>),
    Handoff(String),
    Heard(String, Option<String>, bool),
    Interrupted(String, Duration),
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
            Event::SayRequested { text, language, last } => {
                Self::Say(text.clone(), language.clone(), *last)
            }
            Event::LanguageRequested { speech, recognition } => {
                Self::Language(speech.clone(), recognition.clone())
            }
            Event::HandoffRequested(data) => Self::Handoff(data.clone()),
            Event::Heard { text, language, last } => {
                Self::Heard(text.clone(), language.clone(), *last)
            }
            Event::Interrupted { heard, after } => {
                Self::Interrupted(heard.clone().unwrap_or_default(), after.unwrap_or_default())
            }
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
            Self::Say(text, language, last) => {
                Command::Say { text, language: language.as_deref(), last: *last }
            }
            Self::Language(speech, recognition) => {
                Command::Language { speech: speech.as_deref(), recognition: recognition.as_deref() }
            }
            Self::Handoff(data) => Command::Handoff(data),
            Self::Heard(text, language, last) => {
                Command::Heard { text, language: language.as_deref(), last: *last }
            }
            Self::Interrupted(heard, after) => Command::Interrupted { heard, after: *after },
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
    let _ = match start.inbound {
        Some(format) => {
            writeln!(text, "        tracks: {:?} of {format}, to it {sent}", start.tracks)
        }
        None => writeln!(text, "        tracks: {:?}, to it {sent}", start.tracks),
    };
    let _ = match start.capabilities {
        best if best == provider.capabilities() => {
            write!(text, "        can do all that the provider can")
        }
        // What only few wires have is told of those.
        less => {
            let less = format!("{less:?}");
            write!(
                text,
                "        {}",
                less.replace(", text: false, files: false, handoff: false", "")
            )
        }
    };
    text
}

fn read(path: &Path) -> Transcript {
    let text = std::fs::read_to_string(path).expect("a readable transcript");
    Transcript::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sends(out: &Outbox) -> impl Iterator<Item = Wire> {
    out.sends().iter().map(|send| match send {
        Send::Text(span) => Wire::Text(out.text_of(span).to_owned()),
        Send::Binary(span) => Wire::Binary(out.octets(span).to_vec()),
        Send::Close(code) => Wire::Close(*code),
        Send::Dial(line, url) => Wire::Dial(*line, out.text_of(url).to_owned()),
        Send::TextOn(line, span) => Wire::On(*line, out.text_of(span).to_owned()),
        Send::Drop(line) => Wire::Lost(*line, String::new()),
    })
}

/// One end with what it has sent and not been compared yet.
struct End {
    protocol: Box<dyn Protocol>,
    out: Outbox,
    sent: VecDeque<Wire>,
    /// What the other end calls by another name than this one.
    renamed: Vec<(String, String)>,
}

impl End {
    fn open(protocol: Box<dyn Protocol>) -> Self {
        let mut end = Self { protocol, out: Outbox::new(), sent: VecDeque::new(), renamed: vec![] };
        end.protocol.handle_open(Instant::ZERO, &mut end.out).expect("opens");
        end.sent.extend(sends(&end.out));
        end
    }

    /// An end that acts somebody out whose stream and call have other names than it gives them.
    fn acting(protocol: Box<dyn Protocol>, theirs: Option<&Start>) -> Self {
        let mut end = Self::open(protocol);
        let own = end.out.events().iter().find_map(|event| match event {
            Event::Started(start) => Some(start.clone()),
            _ => None,
        });
        let (Some(theirs), Some(own)) = (theirs, own) else { return end };
        let names = [(&theirs.stream, own.stream), (&theirs.call, own.call)];
        let names = names.into_iter().filter_map(|(theirs, own)| Some((theirs.clone()?, own?)));
        end.renamed.extend(names.filter(|(theirs, own)| theirs != own && !theirs.is_empty()));
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
        let mut wire = wire.clone();
        if let Wire::Text(text) = &mut wire {
            for (theirs, own) in &self.renamed {
                *text = text.replace(theirs, own);
            }
        }
        if matches!(wire, Wire::Close(_)) {
            return Ok(vec![Order::Plain(Command::Hangup)]);
        }
        self.out.reset();
        let handled = wire.tell(now, &mut *self.protocol, &mut self.out);
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
fn dial_of(start: Option<&Start>, transcript: &Transcript) -> Dial {
    let path = transcript.target.split('?').next().unwrap_or_default().to_owned();
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
        format: start.inbound,
        tracks: start.tracks.clone(),
        two_way: start.outbound.is_some(),
        app: transcript.options.app.clone(),
        ..Dial::default()
    }
}

/// What a transcript meant.
#[derive(Default)]
struct Replayed {
    report: String,
    start: Option<Start>,
    /// Per line that came in, what it asks of the other end.
    orders: Vec<Vec<Order>>,
    /// What is known of lines, by their place.
    facts: BTreeMap<usize, Facts>,
}

/// Replays a transcript at the bridge's end; gives what it all meant, and per line that came in what it asks of the other end.
fn forwards(provider: &dyn Provider, transcript: &Transcript) -> Replayed {
    let headers: Vec<_> =
        transcript.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upgrade = Upgrade { target: &transcript.target, public_url: None, headers: &headers };
    let accepted = match provider.accept(&upgrade, &transcript.options) {
        Ok(accepted) => accepted,
        Err(rejection) => {
            let (status, public) = (rejection.status(), rejection.public());
            let report = format!("refused with {status}: {public}\n");
            return Replayed { report, ..Replayed::default() };
        }
    };
    let mut report = format!("accepted, subprotocol {:?}\n", accepted.subprotocol);
    let mut bridge = End::open(accepted.protocol);
    let mut start = None;
    let mut orders = Vec::new();
    let mut facts = BTreeMap::new();
    // Acts the provider out, to tell what asks for what we sent; with how many lines it has been told.
    let mut phone: Option<(End, usize)> = None;
    note(provider, &bridge.out, &mut start, &mut report);
    let mut failed = false;
    for (at, line) in transcript.lines.iter().enumerate() {
        let Line { at: now, direction, wire, .. } = line;
        let comes_in = *direction == Direction::In;
        // What was said to that is all that follows.
        if failed && (comes_in || bridge.sent.is_empty()) {
            break;
        }
        bridge.out.reset();
        bridge.wait(*now);
        note(provider, &bridge.out, &mut start, &mut report);
        if !comes_in {
            if bridge.sent.is_empty() {
                let dial = dial_of(start.as_ref(), transcript);
                let open = || End::acting(provider.dial(&dial).1, start.as_ref());
                let mut order = open().understood(*now, wire).unwrap_or_default();
                if order.is_empty() {
                    let (phone, told) = phone.get_or_insert_with(|| (open(), 0));
                    order = order_behind(phone, told, at, &transcript.lines);
                }
                bridge.obey(*now, &order);
                let known = order.first().map(|order| Facts::of_command(&order.command()));
                facts.insert(at, known.unwrap_or_default());
            }
            let sent = bridge.sent.pop_front();
            if let (Wire::Close(code), None) = (wire, &sent) {
                let _ = writeln!(report, "out close {code} by the session");
                continue;
            }
            assert!(
                sent.as_ref().is_some_and(|sent| means(sent, wire)),
                "{sent:?} is not {wire:?}"
            );
            let _ = writeln!(report, "out {}", wire.shape());
            continue;
        }
        let _ = writeln!(report, "in  {}", wire.shape().chars().take(60).collect::<String>());
        bridge.out.reset();
        let handled = wire.tell(*now, &mut *bridge.protocol, &mut bridge.out);
        bridge.sent.extend(sends(&bridge.out));
        note(provider, &bridge.out, &mut start, &mut report);
        if wire.is_said() {
            facts.insert(at, Facts::of_events(bridge.out.events()));
            let asked = bridge.out.events().iter().filter_map(|e| Order::of(e, &bridge.out));
            orders.push(asked.collect());
        }
        if let Err(error) = handled {
            let _ = writeln!(report, "    closed with {}: {error}", error.close_code());
            failed = true;
        }
    }
    assert!(bridge.sent.is_empty(), "sent beside the transcript: {:?}", bridge.sent);
    Replayed { report, start, orders, facts }
}

/// What line `at` and, where it asks for nothing by itself, those after it ask of us: some commands take several messages. The
/// provider's end has been `told` so many lines, and is told what we said since.
fn order_behind(phone: &mut End, told: &mut usize, at: usize, lines: &[Line]) -> Vec<Order> {
    while let Some(Line { at: now, direction, wire, .. }) = lines.get(*told) {
        let (here, ours) = (*told >= at, *direction == Direction::Out);
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
    let dial = dial_of(Some(start), transcript);
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
    for Line { at: now, direction, wire, .. } in &transcript.lines {
        phone.wait(*now);
        if *direction == Direction::Out {
            phone.told(*now, wire);
            continue;
        }
        if wire.is_said() {
            phone.obey(*now, &orders.next().unwrap_or_default());
        } else if !matches!(wire, Wire::Close(_)) {
            phone.told(*now, wire);
            continue;
        } else if phone.sent.is_empty() {
            phone.obey(*now, &[Order::Plain(Command::Hangup)]);
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
            let transcript = read(&path);
            let Replayed { report, start, orders, .. } = forwards(*provider, &transcript);
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
        assert!(read(call).backwards, "{}", call.display());
    }
}

/// The transcript as a capture would have it.
fn redacted(
    provider: &'static dyn Provider,
    transcript: &Transcript,
    facts: &BTreeMap<usize, Facts>,
) -> Transcript {
    let mut redactor = Redactor::new(provider, Sound::Silence, [42; 32]);
    let headers: Vec<_> =
        transcript.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upgrade = Upgrade { target: &transcript.target, public_url: None, headers: &headers };
    let accepted = provider.accept(&upgrade, &transcript.options);
    let accepted = accepted.ok().and_then(|accepted| accepted.subprotocol);
    let shown =
        redactor.upgrade(&upgrade, upgrade.path(), &transcript.options, accepted.as_deref());
    let unknown = Facts::default();
    let lines = transcript.lines.iter().enumerate().map(|(at, line)| {
        let facts = facts.get(&at).unwrap_or(&unknown);
        Line { wire: redactor.wire(line.direction, &line.wire, facts), ..line.clone() }
    });
    let lines = lines.collect();
    // What is signed is left out, and so is what it is signed with.
    let options = Options { app: App::default(), ..transcript.options.clone() };
    let (target, headers) = (shown.target, shown.headers);
    Transcript { target, headers, lines, options, ..transcript.clone() }
}

/// A line of a report without what redaction may change: whose call it is, what was pressed, how it sounded.
fn anonymous(line: &str) -> String {
    let shape = |text: &str| -> String {
        text.chars().map(|c| if c.is_alphanumeric() || c == '…' { 'x' } else { c }).collect()
    };
    let (name, value) = match line.trim_start().split_once([' ', ':']) {
        Some((name @ ("stream" | "call" | "from" | "to"), value)) => (name, shape(value)),
        Some(("parameter", rest)) => ("parameter", shape(rest)),
        Some(("Media", rest)) => {
            let words = rest.split(' ').enumerate().filter(|(at, _)| *at != 3);
            ("Media", words.map(|(_, word)| word).collect::<Vec<_>>().join(" "))
        }
        Some((name @ ("Heard" | "Interrupted"), rest)) => (name, shape(rest)),
        Some(("Dtmf", rest)) => ("Dtmf", shape(&rest.replace(['*', '#'], "5"))),
        // Somebody's own words, or JSON that is none: what is quoted in it is not only names of members.
        Some((way @ ("in" | "out"), rest)) if rest.contains('"') || !is_known(rest) => {
            (way, shape(rest))
        }
        Some((name, rest)) if name.starts_with("Notice(") => (name, shape(rest)),
        Some((name @ ("closed" | "refused"), rest)) => (name, shape(rest)),
        // A mark whose name is more than a word is somebody's own words.
        _ if line.contains("Played(") && line.contains('\\') => ("Played", shape(line)),
        _ if line.trim_start().starts_with("Spoken(") => ("Spoken", shape(line)),
        _ => return line.to_owned(),
    };
    format!("{name} {value}")
}

/// Values that are words of protocols, which everybody may know.
const PLAIN: [&str; 4] = ["true", "false", "json", "INBOUND"];

/// Whether this is the shape of JSON, of octets, of a close, or begins with a command in capitals.
fn is_known(shape: &str) -> bool {
    let shape = shape.trim_start();
    let command = |word: &str| word.len() > 2 && !word.contains(|c: char| c.is_ascii_lowercase());
    ["{", "[", "binary of", "close "].iter().any(|start| shape.starts_with(start))
        || shape.split(' ').next().is_some_and(command)
}

#[test]
fn redacted_a_transcript_means_the_same_and_names_nobody() {
    for provider in PROVIDERS {
        for path in transcripts(provider.name()) {
            let transcript = read(&path);
            let live = forwards(*provider, &transcript);
            let shown = redacted(*provider, &transcript, &live.facts);
            let again = forwards(*provider, &shown);
            let anonymous = |report: &str| report.lines().map(anonymous).collect::<Vec<_>>();
            let (again, wanted) = (anonymous(&again.report), anonymous(&live.report));
            let lines = again.iter().zip(&wanted);
            let first = lines.enumerate().find(|(_, (a, b))| a != b);
            assert_eq!(first, None, "{}", path.display());
            assert_eq!(again.len(), wanted.len(), "{}", path.display());
            let Some(start) = live.start else { continue };
            let text = format!("{} {:?}", shown.target, shown.lines);
            let parties = [start.from, start.to].into_iter().flatten();
            let private = parties.chain(start.parameters.into_iter().map(|(_, value)| value));
            for value in private.filter(|value| value.len() > 3 && !PLAIN.contains(&value.as_str()))
            {
                assert!(!text.contains(&value), "{value:?} is in {}", path.display());
            }
        }
    }
}
