//! What of a wire may be shown to others: sound becomes silence, and whatever is not known to be the protocol's own word becomes a
//! stand-in of the same shape. Reads no wire for its meaning; what a message meant is told with it.
//!
//! Kept are words that protocols are made of (kinds of messages, formats, counts, times); everything else is replaced, known or
//! not. A field nobody has heard of can thus hide something useful, but cannot give anybody away.

mod json;
mod silence;
mod stand_in;
mod words;

use std::collections::BTreeSet;

use ringback_codecs::MediaFormat;
use serde_json::Value;

use crate::provider::{
    Command, Digit, Event, Message, Options, Provider, Span, Transport, Upgrade,
};
use crate::transcript::{Direction, Wire};

use stand_in::StandIns;

/// What is known of a message beside its octets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Whether our end takes something in it for sound. Only then is any kept.
    has_sound: bool,
    /// Keys pressed by it.
    keys: Vec<Digit>,
    /// Names of marks in it: they are ours or a module's, and nobody's secret.
    marks: Vec<String>,
    /// Names of the custom parameters in it.
    parameters: Vec<String>,
    /// What sounds from here on: what comes in, and what goes out.
    formats: Option<(MediaFormat, Option<MediaFormat>)>,
}

impl Facts {
    /// What a message that came meant.
    #[must_use]
    pub fn of_events(events: &[Event]) -> Self {
        let mut facts = Self::default();
        for event in events {
            match event {
                Event::Media(_) => facts.has_sound = true,
                Event::Dtmf { digit, .. } => facts.keys.push(*digit),
                Event::Played(mark) => facts.marks.push(mark.clone()),
                Event::Started(start) => {
                    let names = start.parameters.iter().map(|(name, _)| name.clone());
                    facts.parameters.extend(names);
                    facts.formats = start.inbound.map(|inbound| (inbound, start.outbound));
                }
                _ => {}
            }
        }
        facts
    }

    /// What may be shown of a message in a private part of a call: silence for its sound. `None` if there is none in it: then there is
    /// nothing to show.
    #[must_use]
    pub fn in_private(self) -> Option<Self> {
        self.has_sound.then(Self::default)
    }

    /// What a command asks for that is sent as messages.
    #[must_use]
    pub fn of_command(command: &Command<'_>) -> Self {
        let mut facts = Self::default();
        match command {
            Command::Media { .. } => facts.has_sound = true,
            Command::Dtmf(digit) => facts.keys.push(*digit),
            Command::Mark(mark) => facts.marks.push((*mark).to_owned()),
            _ => {}
        }
        facts
    }
}

/// What becomes of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sound {
    /// Silence of the same length.
    #[default]
    Silence,
    /// Kept as it is.
    Keep,
}

/// Redacts one stream, message by message and both ways: what is the same stays the same.
pub struct Redactor {
    provider: &'static dyn Provider,
    sound: Sound,
    stand_ins: StandIns,
    /// Custom parameters seen, as keys are compared.
    parameters: BTreeSet<String>,
    inbound: MediaFormat,
    outbound: MediaFormat,
}

/// A request that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownUpgrade {
    /// Path and query.
    pub target: String,
    /// Header fields that matter.
    pub headers: Vec<(String, String)>,
    /// What is not here, by name.
    pub left_out: Vec<String>,
}

impl Redactor {
    /// For a stream of `provider`. Stand-ins are made with `seed`, which must not be foreseeable and is to be forgotten with the
    /// redactor: who knows it can find out which number became which.
    #[must_use]
    pub fn new(provider: &'static dyn Provider, sound: Sound, seed: [u8; 32]) -> Self {
        let usual = provider.formats().first().copied().unwrap_or(MediaFormat::PCMU_8000);
        Self {
            provider,
            sound,
            stand_ins: StandIns::new(seed),
            parameters: BTreeSet::new(),
            inbound: usual,
            outbound: usual,
        }
    }

    /// What is replaced, in words, for whoever opens the file.
    #[must_use]
    pub fn replaced(&self) -> Vec<String> {
        let words =
            ["names, numbers and identifiers", "custom parameters", "keys pressed", "texts"];
        let sound = (self.sound == Sound::Silence).then_some("sound");
        words.into_iter().chain(sound).map(str::to_owned).collect()
    }

    /// The request for the stream at a listener of `path`. Credentials are left out, and so is whatever stands in the path behind
    /// that of the listener.
    pub fn upgrade(
        &mut self,
        upgrade: &Upgrade<'_>,
        path: &str,
        options: &Options,
        accepted: Option<&str>,
    ) -> ShownUpgrade {
        let mut shown = ShownUpgrade { target: path.to_owned(), ..ShownUpgrade::default() };
        if upgrade.path() != path {
            shown.left_out.push("end of the path".into());
        }
        if let Transport::Webhook { .. } = self.provider.transport() {
            shown.left_out.push("what the bridge signs with where it dials".into());
        }
        let mut pairs = Vec::new();
        for (name, value) in upgrade.query_pairs() {
            if options.credential_query.as_ref() == Some(&name) {
                shown.left_out.push(format!("query parameter {name}"));
            } else if words::is_setting(&name, &value) {
                pairs.push((name, value));
            } else {
                pairs.push((self.stand_ins.name(&name), self.stand_ins.text(&value)));
            }
        }
        shown.target = crate::provider::with_query(path, &pairs);
        let known = self.provider.dial(&crate::provider::Dial::default()).0.subprotocols;
        for (name, value) in upgrade.headers {
            match words::field(name) {
                words::Field::Handshake => {}
                words::Field::Subprotocols => {
                    let offered = value.split(',').map(str::trim);
                    let (kept, hidden): (Vec<_>, Vec<_>) = offered.partition(|offer| {
                        accepted == Some(offer) || known.iter().any(|known| known == offer)
                    });
                    if !kept.is_empty() {
                        shown.headers.push(((*name).to_owned(), kept.join(", ")));
                    }
                    let hidden = hidden.iter().map(|_| "a subprotocol offered".to_owned());
                    shown.left_out.extend(hidden);
                }
                words::Field::Program if words::is_program(value) => {
                    shown.headers.push(((*name).to_owned(), (*value).to_owned()));
                }
                words::Field::Identifier => {
                    shown.headers.push(((*name).to_owned(), self.stand_ins.text(value)));
                }
                _ => shown.left_out.push(format!("header field {name}")),
            }
        }
        shown
    }

    /// A message as it may be shown, and what is known of it.
    pub fn message(&mut self, direction: Direction, message: Message<'_>, facts: &Facts) -> Wire {
        self.learn(facts);
        let sound = if facts.has_sound { self.sound } else { Sound::Silence };
        match message {
            Message::Text(text) => Wire::Text(self.text(direction, text, sound, facts)),
            Message::Binary(octets) => Wire::Binary(self.binary(direction, octets, sound)),
        }
    }

    /// Whatever happened on the wire as it may be shown: a message like any other over whichever line, of a line that was dialled or is
    /// gone where and why only in shape.
    pub fn wire(&mut self, direction: Direction, wire: &Wire, facts: &Facts) -> Wire {
        match wire {
            Wire::Text(text) => self.message(direction, Message::Text(text), facts),
            Wire::Binary(octets) => self.message(direction, Message::Binary(octets), facts),
            Wire::On(line, text) => match self.message(direction, Message::Text(text), facts) {
                Wire::Text(text) => Wire::On(*line, text),
                other => other,
            },
            // By the stand-in that it has in the message that told it.
            Wire::Dial(line, url) => Wire::Dial(*line, self.stand_ins.text(url)),
            Wire::Lost(line, reason) => Wire::Lost(*line, self.stand_ins.text(reason)),
            Wire::Opened(_) | Wire::Close(_) => wire.clone(),
        }
    }

    fn learn(&mut self, facts: &Facts) {
        self.parameters.extend(facts.parameters.iter().map(|name| words::key(name)));
        if let Some((inbound, outbound)) = facts.formats {
            self.inbound = inbound;
            self.outbound = outbound.unwrap_or(inbound);
        }
    }

    fn format(&self, direction: Direction) -> MediaFormat {
        match direction {
            Direction::In => self.inbound,
            Direction::Out => self.outbound,
        }
    }

    fn text(&mut self, direction: Direction, text: &str, sound: Sound, facts: &Facts) -> String {
        let format = self.format(direction);
        let mut context = json::Context {
            stand_ins: &mut self.stand_ins,
            parameters: &self.parameters,
            facts,
            format,
            sound,
        };
        if text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[']) {
            json::redact(text, false, &mut context)
        } else {
            words::redact_line(text, &mut context)
        }
    }

    fn binary(&mut self, direction: Direction, octets: &[u8], sound: Sound) -> Vec<u8> {
        let format = self.format(direction);
        if self.provider.transport() == Transport::Records {
            return self.record(format, octets, sound);
        }
        let Span(place) = self.provider.sound_in(octets);
        let mut shown = octets.to_vec();
        if sound == Sound::Silence {
            shown[place.clone()].copy_from_slice(&silence::of(format, &octets[place]));
        }
        shown
    }

    /// A record: its kind and length, and what may be in one.
    fn record(&mut self, format: MediaFormat, octets: &[u8], sound: Sound) -> Vec<u8> {
        const HEAD: usize = 3;
        let mut shown = octets.to_vec();
        let Some((head, payload)) = octets.split_at_checked(HEAD) else { return shown };
        match (head[0], sound) {
            (0x10..=0x18, Sound::Keep) => {}
            (0x10..=0x18, Sound::Silence) => {
                shown[HEAD..].copy_from_slice(&silence::of(format, payload));
            }
            // The cause of a failure, or nothing.
            (0x00 | 0xff, _) if payload.len() <= 1 => {}
            (0x03, _) if payload.len() <= 1 => words::hide_keys(&mut shown[HEAD..]),
            _ => self.stand_ins.octets(&mut shown[HEAD..]),
        }
        shown
    }
}

/// Whether there is sound in a message, as far as its form tells.
#[must_use]
pub fn is_sound(provider: &dyn Provider, message: Message<'_>) -> bool {
    match message {
        Message::Binary(octets) if provider.transport() == Transport::Records => {
            matches!(octets, [0x10..=0x18, ..])
        }
        Message::Binary(_) => true,
        Message::Text(text) => {
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            values.any(|value| value.is_ok_and(|value| json::holds_sound(&value)))
        }
    }
}

#[cfg(test)]
mod tests;
