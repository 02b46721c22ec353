//! Every behaviour of every provider whose calls carry words against the bridge's end of its wire, in virtual time: what is said is
//! heard, in its order and as often as it was told, nothing is an error, and an end is an end.

use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::behaviour::{self, Act, Aside, Behaviour};
use ringback_proto::provider::{
    Command, Dial, Event, Message, Notice, Options, Outbox, PROVIDERS, Protocol, Provider, Send,
};
use ringback_proto::simulator::{PhoneEvent, Simulator};

const SEEDS: std::ops::Range<u64> = 0..3;
/// What the caller says, each so long after the last that the answer is over.
const SAID: [&str; 6] =
    ["Hello?", "A table for two", "15550100", "by the window", "no, wait", "goodbye"];
const APART: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(40);

/// What the bridge's end made of a call, in which it says back what it hears.
#[derive(Default)]
struct Call {
    started: Vec<Instant>,
    partial: Vec<String>,
    heard: Vec<String>,
    keys: usize,
    spoken: Vec<String>,
    interrupted: Vec<Option<String>>,
    notices: Vec<Notice>,
    stopped: usize,
    /// What came over the wire, with its time.
    wire: Vec<String>,
    closed: Option<u16>,
    at_phone: Vec<PhoneEvent>,
    over: bool,
    vanished: bool,
}

impl Call {
    /// Takes events in, and answers what was heard.
    fn note(
        &mut self,
        now: Instant,
        events: &[Event],
        bridge: &mut dyn Protocol,
        out: &mut Outbox,
    ) {
        for event in events {
            match event {
                Event::Started(_) => self.started.push(now),
                Event::Heard { text, last: false, .. } => self.partial.push(text.clone()),
                Event::Heard { text, language, .. } => {
                    self.heard.push(text.clone());
                    let say = Command::Say { text, language: language.as_deref(), last: true };
                    bridge.handle_command(now, say, out).expect("says");
                }
                Event::Dtmf { .. } => self.keys += 1,
                Event::Spoken(words) => self.spoken.push(words.clone()),
                Event::Interrupted { heard, .. } => self.interrupted.push(heard.clone()),
                Event::Notice(notice) => self.notices.push(notice.clone()),
                Event::Stopped(_) => self.stopped += 1,
                event => panic!("{event:?}"),
            }
        }
    }

    fn said_at_phone(&self) -> Vec<&str> {
        let said = self.at_phone.iter().filter_map(|event| match event {
            PhoneEvent::Said(words) => Some(words.as_str()),
            _ => None,
        });
        said.collect()
    }
}

/// Carries messages both ways until there are none.
fn carry(
    now: Instant,
    bridge: &mut dyn Protocol,
    phone: &mut Simulator,
    to_bridge: &mut Outbox,
    call: &mut Call,
) {
    while !to_bridge.sends().is_empty() {
        let mut answers = Outbox::new();
        for send in to_bridge.sends().to_vec() {
            assert!(call.closed.is_none(), "said after the close: {send:?}");
            let text = match &send {
                Send::Text(span) => to_bridge.text_of(span),
                Send::Close(code) => {
                    call.closed = Some(*code);
                    continue;
                }
                other => panic!("{other:?}"),
            };
            call.wire.push(format!("{:?} {text}", now - Instant::ZERO));
            let mut out = Outbox::new();
            bridge.handle_message(now, Message::Text(text), &mut out).expect("is understood");
            call.note(now, out.events(), bridge, &mut answers);
        }
        to_bridge.reset();
        for send in answers.sends() {
            if let (Send::Text(span), None, false) = (send, call.closed, phone.is_vanished()) {
                let text = Message::Text(answers.text_of(span));
                phone.handle_message(now, text, to_bridge).expect("understands");
            }
        }
    }
}

fn place(provider: &dyn Provider, behaviours: &[&'static Behaviour], seed: u64) -> Call {
    let target = format!("/{}", provider.name());
    let dial = Dial { target, behaviours: behaviours.to_vec(), seed, ..Dial::default() };
    let (request, mut phone) = Simulator::new(provider, &dial, false);
    let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
    let mut bridge = accepted.expect("accepts").protocol;
    let (mut call, mut out) = (Call::default(), Outbox::new());
    let mut now = Instant::from_millis(1);
    // Before the stream is there, as people do.
    let mut left = SAID.iter();
    let mut says_at = now;
    phone.handle_open(now, &mut out).expect("opens");
    let end = now + PATIENCE;
    while now < end {
        carry(now, bridge.as_mut(), &mut phone, &mut out, &mut call);
        call.at_phone.extend(std::iter::from_fn(|| phone.poll_event()));
        if call.closed.is_some() || phone.is_vanished() {
            break;
        }
        if says_at <= now && !phone.is_over() {
            says_at = now + APART;
            match left.next() {
                Some(words) => phone.say(now, words, &mut out).expect("says"),
                None => phone.hang_up(now, &mut out).expect("hangs up"),
            }
            continue;
        }
        let next = [phone.poll_timeout(), (!phone.is_over()).then_some(says_at)];
        let Some(next) = next.into_iter().flatten().min() else { break };
        now = now.max(next);
        phone.handle_timeout(now, &mut out).expect("time may pass");
    }
    assert!(now < end, "goes on for ever");
    (call.over, call.vanished) = (phone.is_over(), phone.is_vanished());
    call
}

fn of_words() -> impl Iterator<Item = &'static dyn Provider> {
    PROVIDERS.iter().copied().filter(|provider| !provider.has_sound())
}

fn every_behaviour(test: impl Fn(&'static dyn Provider, &'static Behaviour, u64)) {
    for provider in of_words() {
        for behaviour in behaviour::all(provider) {
            for seed in SEEDS {
                eprintln!("{} {} seed {seed}", provider.name(), behaviour.name);
                test(provider, behaviour, seed);
            }
        }
    }
}

fn check_heard(act: Act, call: &Call) {
    let told = SAID.iter().map(|words| (*words).to_owned());
    let expected: Vec<_> = match act {
        Act::Duplicate => told.flat_map(|words| [words.clone(), words]).collect(),
        Act::EarlySound => told.skip(1).collect(),
        Act::EarlyClose => Vec::new(),
        _ => told.collect(),
    };
    assert_eq!(call.heard, expected);
    assert_eq!(call.started.len(), 1);
    if matches!(act, Act::Partials) {
        assert_eq!(call.partial, ["A", "A table", "A table for", "by", "by the", "no,"]);
    } else {
        assert_eq!(call.partial, [""; 0]);
    }
    assert_eq!(call.keys, if act == Act::Keys { SAID.len() } else { 0 });
    if let Act::LateOpening(time) = act {
        assert_eq!(call.started[0], Instant::from_millis(1) + time);
    }
}

fn check_answers(act: Act, plain: &Call, call: &Call) {
    // The last of it is said when nobody listens any more.
    let cut_off = matches!(act, Act::EarlyClose | Act::Stall(_) | Act::LateOpening(_));
    if !cut_off {
        assert_eq!(call.said_at_phone(), call.heard);
    }
    // The last words are over long before the caller leaves.
    let spoken: &[String] = if act == Act::TellSpoken { &call.heard } else { &[] };
    assert_eq!(call.spoken, spoken);
    let told = call.interrupted.len();
    match act {
        Act::CutIn(after) => {
            assert_eq!(told, SAID.len());
            for (heard, words) in call.interrupted.iter().zip(SAID) {
                let heard = heard.as_deref().expect("told");
                assert!(words.starts_with(heard) && (after > Duration::ZERO || heard.is_empty()));
            }
        }
        Act::Aside(_) => assert!([0, SAID.len()].contains(&told), "{told}"),
        Act::Stall(_) | Act::LateOpening(_) | Act::Duplicate => {}
        _ => assert_eq!((told, plain.interrupted.len()), (0, 0)),
    }
}

fn check_notices(act: Act, call: &Call) {
    match (act, call.notices.as_slice()) {
        (Act::EarlySound, [Notice::Early { .. }])
        | (Act::OpeningTwice, [Notice::Repeated { .. }]) => {}
        (Act::EarlySound | Act::OpeningTwice, other) => panic!("{other:?}"),
        // Some are known and mean something, or nothing.
        (Act::Aside(_), notices) => {
            assert!([0, SAID.len()].contains(&notices.len()), "{notices:?}");
        }
        (_, notices) => assert_eq!(notices, []),
    }
}

fn check_end(act: Act, plain: &Call, call: &Call) {
    let end = (call.closed, call.stopped);
    match act {
        Act::Vanish => assert_eq!(end, (None, 0)),
        Act::NoGoodbye | Act::EarlyClose => assert_eq!(end, (Some(1000), 0)),
        Act::Cut => assert_eq!(end, (Some(1006), 0)),
        _ => assert_eq!(end, (plain.closed, plain.stopped)),
    }
    assert!(call.over);
    assert_eq!(call.vanished, act == Act::Vanish);
}

#[test]
fn what_is_said_in_words_is_heard_and_answered_whatever_the_provider_does() {
    every_behaviour(|provider, behaviour, seed| {
        let (plain, call) = (place(provider, &[], seed), place(provider, &[behaviour], seed));
        assert_eq!((&plain.heard[..], &plain.notices[..]), (&SAID.map(str::to_owned)[..], &[][..]));
        assert_eq!(plain.said_at_phone(), SAID);
        check_heard(behaviour.act, &call);
        check_answers(behaviour.act, &plain, &call);
        check_notices(behaviour.act, &call);
        check_end(behaviour.act, &plain, &call);
    });
}

#[test]
fn every_behaviour_of_words_can_be_seen_on_the_wire() {
    every_behaviour(|provider, behaviour, seed| {
        // Reading slowly is seen by the socket alone, and a socket that is closed is all the good-bye there is.
        if seed == SEEDS.start && !matches!(behaviour.act, Act::Unread(_) | Act::NoGoodbye) {
            let seeds = [1, 2, 3, 4, 5];
            let seen = seeds.iter().any(|seed| {
                let (plain, call) =
                    (place(provider, &[], *seed), place(provider, &[behaviour], *seed));
                (plain.wire, plain.closed) != (call.wire, call.closed)
            });
            assert!(seen, "{} changes nothing", behaviour.name);
            let again = || place(provider, &[behaviour], seed).wire;
            assert_eq!(again(), again(), "the same seed is the same call");
        }
    });
}

#[test]
fn behaviours_of_words_go_together() {
    for provider in of_words() {
        let lasting =
            |b: &&'static Behaviour| !matches!(b.act, Act::EarlyClose | Act::Vanish | Act::Cut);
        let all: Vec<_> = behaviour::all(provider).into_iter().filter(lasting).collect();
        for seed in SEEDS {
            let call = place(provider, &all, seed);
            assert_eq!(call.closed, Some(1000));
            assert!(call.heard.len() >= SAID.len(), "{:?}", call.heard);
        }
    }
}

#[test]
fn the_table_of_behaviours_of_words_is_sound() {
    for provider in of_words() {
        let mut names = std::collections::HashSet::new();
        for Behaviour { name, summary, source, act } in behaviour::all(provider) {
            assert!(names.insert(*name), "{}: {name} twice", provider.name());
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(name.chars().all(plain) && *name != "help", "{name}");
            assert!(!summary.is_empty() && !summary.ends_with('.') && !source.is_empty());
            let found = behaviour::find(provider, name).expect("finds itself");
            assert_eq!(found.act, *act);
            let of_sound = matches!(act, Act::Packets(_) | Act::Displace(_) | Act::LoseMarks);
            assert!(!of_sound, "{}: {name} is of sound", provider.name());
            if let Act::Aside(Aside::Text(text)) = act {
                serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            }
        }
        assert!(names.len() >= 15, "{}: {}", provider.name(), names.len());
    }
}
