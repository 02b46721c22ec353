//! Acts behaviours out: takes the messages of the provider's end before they go onto the wire, and says what goes when. Pure: the same
//! seed does the same.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::json::Node;
use super::super::{Dial, Line as Dialled, Outbox, Send};
use super::{Act, Aside};
use crate::Instant;
use crate::transcript::CUT;

/// Sound that comes before the announcement, where it does.
const EARLY: u32 = 3;
/// So many messages of words.
const EARLY_WORDS: u32 = 1;
/// So many messages of sound from one aside to the next.
const ASIDES: u64 = 10;
/// Messages of sound from one order to send nothing to the next; the first comes after half of it.
const FULLS: u64 = 50;
/// A text waits so long for another to share its message with.
const COMPANY: Duration = Duration::from_millis(20);
/// What we send is read for so long between two times that it is not.
const READING: Duration = Duration::from_millis(500);
/// Of so many messages of sound one is treated specially.
const ONE_IN: u64 = 12;
/// Of so many messages one begins a stall.
const STALL_IN: u64 = 30;
/// Of so many messages of words.
const STALL_IN_WORDS: u64 = 3;

/// Which part of a call a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Announces the stream; whether it has started with that, or waits for an answer.
    Opening { started: bool },
    /// Anything but what the caller says.
    Words,
    /// The caller's voice.
    Sound,
    /// The caller's voice, in words.
    Utterance,
    /// The end.
    Goodbye,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    /// Over a line that the bridge dialled.
    On(Dialled, String),
    Drop(Dialled),
    Close(u16),
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// The line between a provider's end and the wire.
#[derive(Debug)]
pub(crate) struct Line {
    acts: Vec<Act>,
    random: Random,
    /// In order, with the time at which each may go.
    queue: VecDeque<(Instant, Said)>,
    /// Nothing goes before this.
    open_at: Instant,
    /// Sound that goes behind so many others.
    displaced: Option<(u32, Said)>,
    /// The announcement, while sound goes before it.
    held: Option<(u32, Vec<Said>)>,
    /// A text that may get company, until then.
    alone: Option<(Instant, String)>,
    sounds: u64,
    /// The wire carries words.
    is_words: bool,
    /// A line that was just dropped, and whose provider's end does not know.
    dropped: Option<Dialled>,
    /// We told the bridge to send nothing until then.
    full_until: Option<Instant>,
    opened: Instant,
    over: bool,
}

impl Line {
    /// A line for this call, if it behaves in any way.
    pub(crate) fn new(call: &Dial, is_words: bool) -> Option<Self> {
        let acts: Vec<_> = call.behaviours.iter().map(|behaviour| behaviour.act).collect();
        (!acts.is_empty()).then(|| Self {
            acts,
            random: Random(call.seed),
            queue: VecDeque::new(),
            open_at: Instant::ZERO,
            displaced: None,
            held: None,
            alone: None,
            sounds: 0,
            is_words,
            dropped: None,
            full_until: None,
            opened: Instant::ZERO,
            over: false,
        })
    }

    pub(crate) fn has(&self, act: Act) -> bool {
        self.acts.contains(&act)
    }

    /// What `detail` takes from the first act that has any.
    fn find<T>(&self, detail: impl Fn(Act) -> Option<T>) -> Option<T> {
        self.acts.iter().copied().find_map(detail)
    }

    /// How long messages of the caller's voice are, if not as usual.
    pub(crate) fn packets(&self) -> Option<Duration> {
        self.find(|act| match act {
            Act::Packets(time) => Some(time),
            _ => None,
        })
    }

    /// How long after the provider began to speak the caller cuts in, if so.
    pub(crate) fn cut_in(&self) -> Option<Duration> {
        self.find(|act| match act {
            Act::CutIn(after) => Some(after),
            _ => None,
        })
    }

    /// Takes the messages of `out` from number `from` on, and puts those there that may go now.
    pub(crate) fn pass(&mut self, now: Instant, part: Part, from: usize, out: &mut Outbox) {
        let sends = out.take_sends(from);
        if let Part::Opening { started } = part {
            self.opened = now;
            let early = if self.is_words { EARLY_WORDS } else { EARLY };
            self.held = (started && self.has(Act::EarlySound)).then(|| (early, Vec::new()));
            let late = self.find(|act| match act {
                Act::LateOpening(time) => Some(time),
                _ => None,
            });
            self.open_at = now + late.unwrap_or_default();
        }
        if part == Part::Goodbye {
            self.release_displaced(now);
            self.release(now);
        }
        for send in sends {
            let said = match send {
                Send::Text(span) => Said::Text(out.text_of(&span).to_owned()),
                Send::Binary(span) => Said::Binary(out.octets(&span).to_vec()),
                Send::Close(code) => Said::Close(code),
                Send::TextOn(line, span) => Said::On(line, out.text_of(&span).to_owned()),
                Send::Drop(line) => Said::Drop(line),
                // The bridge's part.
                Send::Dial(..) => continue,
            };
            let opens = matches!(part, Part::Opening { .. }) && self.has(Act::OpeningTwice);
            let again = opens.then(|| said.clone());
            self.take(now, part, said);
            if let Some(again) = again {
                self.take(now, part, again);
            }
        }
        match part {
            Part::Opening { .. } if self.has(Act::EarlyClose) => {
                self.send(now, Said::Close(1000));
                self.over = true;
            }
            Part::Goodbye => self.part(now),
            _ => {}
        }
        self.flush(now, out);
    }

    fn take(&mut self, now: Instant, part: Part, said: Said) {
        let silent = [Act::NoGoodbye, Act::Cut, Act::Vanish].iter().any(|act| self.has(*act));
        if self.over || (part == Part::Goodbye && silent) {
            return;
        }
        let said = match said {
            Said::Text(text) if self.has(Act::Requoted) => Said::Text(requoted(text)),
            Said::On(line, text) if self.has(Act::Requoted) => Said::On(line, requoted(text)),
            said => said,
        };
        let said = match said {
            Said::Text(text) if self.has(Act::MoreFields) => Said::Text(with_more_fields(text)),
            Said::On(line, text) if self.has(Act::MoreFields) => {
                Said::On(line, with_more_fields(text))
            }
            said => said,
        };
        match (part, &mut self.held) {
            (Part::Sound | Part::Utterance, _) => self.voice(now, said),
            (_, Some((_, held))) if part != Part::Goodbye => held.push(said),
            _ => {
                self.release(now);
                self.send(now, said);
            }
        }
    }

    /// Something the caller says, in sound or in words.
    fn voice(&mut self, now: Instant, said: Said) {
        self.sounds += 1;
        let displace = self.find(|act| match act {
            Act::Displace(by) => Some(by),
            _ => None,
        });
        if let (Some(by), None) = (displace, &self.displaced)
            && self.random.below(ONE_IN) == 0
        {
            self.displaced = Some((by, said));
            return;
        }
        let twice = self.has(Act::Duplicate) && (self.is_words || self.random.below(ONE_IN) == 0);
        let again = twice.then(|| said.clone());
        self.send(now, said);
        if let Some(again) = again {
            self.send(now, again);
        }
        match &mut self.displaced {
            Some((left @ 2.., _)) => *left -= 1,
            Some(_) => self.release_displaced(now),
            None => {}
        }
        if let Some((left, _)) = &mut self.held {
            *left -= 1;
            if *left == 0 {
                self.release(now);
            }
        }
        if self.is_words || self.sounds.is_multiple_of(ASIDES) {
            self.say_aside(now);
        }
        if self.sounds == FULLS / 2 {
            self.lose(now);
        }
    }

    /// Says what comes between messages of the caller's.
    fn say_aside(&mut self, now: Instant) {
        for act in self.acts.clone() {
            let said = match act {
                Act::Aside(Aside::Text(text)) => Said::Text(text.into()),
                Act::Aside(Aside::Binary(octets)) => Said::Binary(octets.into()),
                Act::Aside(Aside::On(line, text)) => Said::On(line, text.into()),
                Act::Tell(line, texts) => {
                    let turn = (self.sounds / ASIDES) as usize % texts.len();
                    Said::On(line, texts[turn].into())
                }
                _ => continue,
            };
            self.send(now, said);
        }
    }

    /// Loses what is lost in mid-call.
    fn lose(&mut self, now: Instant) {
        if self.has(Act::Redial) {
            self.send(now, Said::Close(CUT));
            self.over = true;
        }
        let line = self.find(|act| match act {
            Act::DropLine(line) => Some(line),
            _ => None,
        });
        if let Some(line) = line {
            self.send(now, Said::Drop(line));
            self.dropped = Some(line);
        }
    }

    /// A line that was dropped since this was last asked; the provider's end is to be told.
    pub(crate) fn take_dropped(&mut self) -> Option<Dialled> {
        self.dropped.take()
    }

    fn release_displaced(&mut self, now: Instant) {
        if let Some((_, said)) = self.displaced.take() {
            self.send(now, said);
        }
    }

    /// Nothing is held back any more but by the line itself.
    fn release(&mut self, now: Instant) {
        if let Some((_, held)) = self.held.take() {
            held.into_iter().for_each(|said| self.send(now, said));
        }
    }

    /// Gives a message to the line itself.
    fn send(&mut self, now: Instant, said: Said) {
        let said = match said {
            Said::Text(text) if self.has(Act::Together) => {
                if let Some((_, first)) = &mut self.alone {
                    // Both are seen.
                    let between = if self.random.below(2) == 0 { "" } else { "\n" };
                    first.push_str(between);
                    first.push_str(&text);
                    return self.send_alone(now);
                }
                self.alone = Some((now + COMPANY, text));
                return;
            }
            said => said,
        };
        self.send_alone(now);
        self.queue_up(now, said);
    }

    fn send_alone(&mut self, now: Instant) {
        if let Some((_, text)) = self.alone.take() {
            self.queue_up(now, Said::Text(text));
        }
    }

    fn queue_up(&mut self, now: Instant, said: Said) {
        let stall = self.find(|act| match act {
            Act::Stall(most) => Some(most),
            _ => None,
        });
        let stall_in = if self.is_words { STALL_IN_WORDS } else { STALL_IN };
        self.open_at = self.open_at.max(now);
        if let Some(most) = stall
            && self.open_at == now
            && self.random.below(stall_in) == 0
        {
            self.open_at = now + Duration::from_millis(self.random.below(most.as_millis() as u64));
        }
        self.queue.push_back((self.open_at, said));
    }

    /// The last that is heard of the call.
    fn part(&mut self, now: Instant) {
        self.send_alone(now);
        let code = match () {
            () if self.over || self.has(Act::Vanish) => None,
            () if self.has(Act::Cut) => Some(CUT),
            () if self.has(Act::NoGoodbye) => Some(1000),
            () => None,
        };
        for (at, _) in &mut self.queue {
            *at = now;
        }
        self.queue.extend(code.map(|code| (now, Said::Close(code))));
        // Else some have more to say when they are answered.
        self.over |= code.is_some() || self.has(Act::Vanish);
    }

    /// Puts into `out` what may go now.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut Outbox) {
        if self.alone.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.send_alone(now);
        }
        while self.queue.front().is_some_and(|(at, _)| *at <= now) {
            match self.queue.pop_front() {
                Some((_, Said::Text(text))) => out.text(|to| to.extend_from_slice(text.as_bytes())),
                Some((_, Said::Binary(octets))) => out.binary(|to| to.extend_from_slice(&octets)),
                Some((_, Said::On(line, text))) => {
                    out.text_on(line, |to| to.extend_from_slice(text.as_bytes()));
                }
                Some((_, Said::Drop(line))) => out.drop_line(line),
                Some((_, Said::Close(code))) => out.close(code),
                None => {}
            }
        }
    }

    /// Whether the bridge is to be told now to send nothing, or to go on.
    pub(crate) fn flow(&mut self, now: Instant) -> Option<bool> {
        let time = self.find(|act| match act {
            Act::Full(time) => Some(time),
            _ => None,
        })?;
        match self.full_until {
            Some(until) if until <= now => {
                self.full_until = None;
                Some(false)
            }
            None if self.sounds % FULLS == FULLS / 2 => {
                self.full_until = Some(now + time);
                Some(true)
            }
            _ => None,
        }
    }

    /// When something will happen by itself.
    pub(crate) fn next(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|(at, _)| *at);
        let alone = self.alone.as_ref().map(|(until, _)| *until);
        [queued, alone, self.full_until.filter(|_| !self.over)].into_iter().flatten().min()
    }

    /// Until when what the bridge sends is not read.
    pub(crate) fn unread_until(&self, now: Instant) -> Option<Instant> {
        let time = self.find(|act| match act {
            Act::Unread(time) => Some(time),
            _ => None,
        })?;
        let cycle = READING + time;
        let into = (now - self.opened).as_nanos() % cycle.as_nanos();
        let rest = cycle.as_nanos() - into;
        (into >= READING.as_nanos()).then(|| now + Duration::from_nanos(rest as u64))
    }

    /// Whether all is over and the connection stays.
    pub(crate) fn is_vanished(&self) -> bool {
        self.over && self.has(Act::Vanish)
    }

    /// Whether this ended the call before either side did.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }
}

/// The same object of JSON with a member that nobody knows; what is no object stays.
fn with_more_fields(mut text: String) -> String {
    if text.starts_with('{') && text.trim_end().ends_with('}') {
        text.truncate(text.trim_end().len() - 1);
        let comma = if text.trim_end().ends_with('{') { "" } else { "," };
        text = format!(r#"{text}{comma}"neverHeardOf":{{"a":[1,null]}}}}"#);
    }
    text
}

/// The same JSON with numbers as text and text that is a number as a number; what is no JSON stays.
fn requoted(text: String) -> String {
    match Node::parse(0, "JSON", &text) {
        Ok(node) => requote(node).to_string(),
        Err(_) => text,
    }
}

fn requote(node: Node<'_>) -> Node<'_> {
    // Not what reads otherwise as a number: names of many digits, numbers with a plus or zeros before them.
    let whole = |text: &str| {
        let plain = text == "0" || !text.starts_with('0');
        plain && (1..=12).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit())
    };
    match node {
        Node::Text(text) if whole(&text) => Node::Bare(text.into_owned()),
        Node::Bare(text) if whole(&text) => Node::Text(text.into()),
        Node::List(items) => Node::List(items.into_iter().map(requote).collect()),
        Node::Object(members) => {
            Node::Object(members.into_iter().map(|(name, value)| (name, requote(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_added_to_objects_and_to_nothing_else() {
        let more = |text: &str| with_more_fields(text.to_owned());
        assert_eq!(more(r#"{"a":1} "#), r#"{"a":1,"neverHeardOf":{"a":[1,null]}}"#);
        assert_eq!(more("{}"), r#"{"neverHeardOf":{"a":[1,null]}}"#);
        assert_eq!(more("[1]"), "[1]");
        assert_eq!(more("DTMF_END digit:1"), "DTMF_END digit:1");
    }

    #[test]
    fn whole_numbers_change_their_clothes_and_nothing_else_does() {
        let before = r#"{"a":"17","b":4,"c":"+15550100001","d":"007","e":true,"f":[1,"2"],"g":{"h":0},"i":1.5}"#;
        let after = r#"{"a":17,"b":"4","c":"+15550100001","d":"007","e":true,"f":["1",2],"g":{"h":"0"},"i":1.5}"#;
        assert_eq!(requoted(before.to_owned()), after);
        assert_eq!(requoted(after.to_owned()), before);
        assert_eq!(requoted("DTMF_END digit:1".to_owned()), "DTMF_END digit:1");
    }
}
