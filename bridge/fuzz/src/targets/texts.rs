//! Texts that people and programs hand over: captures of wires, what may be shown of them, rules of routes.

use ringback_proto::provider::{Message, Outbox, Provider};
use ringback_proto::redaction::{Facts, Redactor, Sound};
use ringback_proto::rule::{self, Key, Pattern, Rule};
use ringback_proto::transcript::{Direction, Transcript, Wire, note_line};
use ringback_proto::{Instant, provider};

use crate::script::{Draft, Script};
use crate::seeds;

/// A capture is read; written line by line it is read as the same.
pub(super) fn capture(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let read = match Transcript::parse(&text) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.line <= text.lines().count().max(1), "{error}");
            return;
        }
    };
    // The first line has a writer of its own, and readers that forgive more than it writes.
    let mut written = text.lines().next().unwrap_or_default().to_owned();
    for line in &read.lines {
        written += "\n";
        written += &line.wire.to_line(line.direction, line.at);
    }
    for (_, note) in &read.notes {
        written += "\n";
        written += &note_line(Instant::ZERO, note);
    }
    written += "\n";
    let again = Transcript::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    let said = |transcript: &Transcript| {
        let lines = transcript.lines.iter();
        lines.map(|line| (line.direction, line.at, line.wire.clone())).collect::<Vec<_>>()
    };
    assert_eq!(said(&again), said(&read));
    assert_eq!(again.notes.len(), read.notes.len());
    for line in &read.lines {
        assert!(line.wire.shape().len() <= 64 + 8 * written.len());
    }
}

pub(super) fn capture_seeds() -> Vec<Vec<u8>> {
    let texts =
        provider::PROVIDERS.iter().flat_map(|of| seeds::transcript_texts(*of).into_iter().take(2));
    let short =
        texts.map(|text| text.lines().take(6).map(|line| format!("{line}\n")).collect::<String>());
    short.filter(|text| text.len() < 8_000).map(String::into_bytes).collect()
}

/// Stands in a script where a secret is to stand.
const PLACE: char = '\u{1}';
/// A number that somebody can be called at, and letters that make it no time and no count.
const CANARY: &str = "15557349261qz";

/// A stream is redacted message by message: what stood in the place of a secret stands nowhere afterwards, and what is text stays text
/// of the same shape.
pub(super) fn redaction(provider: &'static dyn Provider, octets: &[u8]) {
    let mut script = Script::new(octets);
    let mut redactor = Redactor::new(provider, Sound::Silence, [script.octet(); 32]);
    let (request, mut phone) = provider.dial(&provider::Dial::default());
    let accepted =
        request.arrives(|upgrade| provider.accept(upgrade, &provider::Options::default()));
    let Ok(accepted) = accepted else { return };
    let mut bridge = accepted.protocol;
    let (mut ours, mut theirs) = (Outbox::new(), Outbox::new());
    let opened = bridge.handle_open(Instant::ZERO, &mut ours).is_ok()
        && phone.handle_open(Instant::ZERO, &mut theirs).is_ok();
    assert!(opened, "nothing was said yet");
    for _ in 0..100 {
        if script.is_over() {
            break;
        }
        let text = script.text().replace(PLACE, CANARY);
        ours.reset();
        // Once it is broken, it is redacted like any other.
        let _ = bridge.handle_message(Instant::ZERO, Message::Text(&text), &mut ours);
        let facts = Facts::of_events(ours.events());
        // A mark's name is ours or a module's own, and is kept.
        if format!("{facts:?}").contains(&format!("marks: [\"{CANARY}")) {
            continue;
        }
        let wire = Wire::Text(text.clone());
        let shown = redactor.wire(Direction::In, &wire, &facts);
        let Wire::Text(shown) = shown else { panic!("a text became something else") };
        assert!(!shown.contains(CANARY), "{text} is shown as {shown}");
        assert!(shown.len() <= 64 + 8 * text.len(), "{} octets became {}", text.len(), shown.len());
        let whole = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        let is_json = text.trim_start().starts_with(['{', '[']) && whole(&text);
        assert!(!is_json || whole(&shown), "{text} is JSON, and {shown} is not");
    }
}

pub(super) fn redaction_seeds(provider: &'static dyn Provider) -> Vec<Vec<u8>> {
    let transcripts = seeds::transcripts(provider);
    let each = transcripts.iter().map(|transcript| {
        let texts = transcript.lines.iter().filter_map(|line| match &line.wire {
            Wire::Text(text) if line.direction == Direction::In => Some(text),
            _ => None,
        });
        let draft = Draft::new().octet(7);
        texts.take(6).fold(draft, |draft, text| {
            let hidden = text.replace("+15550100001", "\u{1}").replace("Jane", "\u{1}");
            draft.piece(hidden.as_bytes())
        })
    });
    let any = Draft::new()
        .octet(7)
        .piece(b"{\"from\":\"\x01\",\"n\":[1,\"\x01\"]}")
        .piece(b"SAY to:\x01")
        .done();
    each.map(Draft::done).filter(|seed| seed.len() > 8).chain([any]).collect()
}

/// Patterns against a matcher that tries everything, and rules that cover others against calls.
pub(super) fn rules(octets: &[u8]) {
    let mut script = Script::new(octets);
    let (pattern, text) = (script.text(), script.text());
    // What the plain matcher takes exponential time for is cut.
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let (short, against) = (cut(&pattern, 12), cut(&text, 20));
    assert_eq!(
        Pattern::new(&short).fits(&against),
        fits(&short.chars().collect::<Vec<_>>(), &against.chars().collect::<Vec<_>>()),
        "{short:?} {against:?}"
    );
    let (from, to, name, value) = (script.text(), script.text(), script.text(), script.text());
    let parameters = [(name.clone(), value.clone())];
    let facts =
        rule::Facts { from: Some(&from), to: Some(&to), parameters: &parameters, headers: &[] };
    let keys = [Key::From, Key::To, Key::Parameter(name)];
    let mut rules = [Rule::default(), Rule::default()];
    while !script.is_over() {
        let choice = script.octet();
        let (one, other) = (script.text(), script.text());
        let key = keys[usize::from(choice >> 1) % keys.len()].clone();
        let which = usize::from(choice & 1);
        rules[which] = rules[which].clone().and(key, [one.as_str(), other.as_str()]);
    }
    let [first, second] = rules;
    let takes = second.takes(&facts);
    assert!(
        !first.covers(&second) || !takes || first.takes(&facts),
        "{first:?} {second:?} {facts:?}"
    );
    assert!(
        Pattern::new(&pattern).fits(&pattern),
        "a pattern fits itself: `*` stands for anything"
    );
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some(('*', rest)), None) => fits(rest, text),
        (Some(('*', rest)), Some((_, behind))) => fits(rest, text) || fits(pattern, behind),
        (Some((one, rest)), Some((other, behind))) => one == other && fits(rest, behind),
        (Some(_), None) => false,
    }
}

pub(super) fn rule_seeds() -> Vec<Vec<u8>> {
    let seed = |pattern: &str, text: &str, number: &str| {
        let draft = Draft::new().piece(pattern.as_bytes()).piece(text.as_bytes());
        let facts = [number, "+49 30 123", "lang", "de-AT"];
        let draft = facts.iter().fold(draft, |draft, text| draft.piece(text.as_bytes()));
        let both =
            draft.octet(0).piece(b"+49*").piece(b"+43*").octet(1).piece(b"+4930*").piece(b"+43");
        both.octet(4).piece(b"de").piece(b"de-*").octet(5).piece(b"de-A*").piece(b"*").done()
    };
    vec![
        seed("+49*", "+4930123", "+49 (30) 123"),
        seed("*a*b*", "xaybz", "sip:bob@pbx.example"),
        seed("", "", "anonymous"),
        seed("a**b", "ab", "+4930123;phone-context=x"),
    ]
}
