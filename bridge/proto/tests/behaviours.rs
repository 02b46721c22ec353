//! Every behaviour of every provider of sound against the bridge's end of its wire, in virtual time: what is said in order is heard,
//! what is not is told, nothing is an error and nothing goes on for ever. Those of words are in `behaviours_of_words`.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::Instant;
use ringback_proto::provider::behaviour::{self, Act, Aside, Behaviour};
use ringback_proto::provider::{
    Command, Dial, Event, FrameLaw, LineEvent, Message, Notice, Options, Outbox, PROVIDERS,
    Protocol, Provider, Send, Start, Track,
};
use ringback_proto::simulator::Simulator;
use ringback_proto::transcript::Wire;

const SEEDS: std::ops::Range<u64> = 0..2;
/// What the caller says takes so long: long enough for everything that happens now and then.
const SPOKEN: Duration = Duration::from_millis(1_600);
/// A call goes on for so long at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bridge's end and what it made of the call.
struct Bridge {
    protocol: Box<dyn Protocol>,
    start: Option<Box<Start>>,
    heard: Vec<Heard>,
    early: usize,
    unknown: usize,
    lost: usize,
    events: Vec<Event>,
}

/// A message of sound.
#[derive(Clone)]
struct Heard {
    track: Track,
    time: Option<Duration>,
    number: Option<u64>,
    octets: Vec<u8>,
}

impl Bridge {
    fn note(&mut self, out: &Outbox) {
        for event in out.events() {
            match event {
                Event::Started(start) => {
                    assert!(self.start.replace(start.clone()).is_none(), "started twice");
                }
                Event::Media(media) => {
                    let octets = out.octets(&media.payload).to_vec();
                    let (track, time, number) = (media.track, media.timestamp, media.sequence);
                    self.heard.push(Heard { track, time, number, octets });
                }
                Event::Notice(Notice::EarlyMedia { octets }) => self.early += octets,
                Event::Notice(Notice::UnknownMessage { .. }) => self.unknown += 1,
                Event::Notice(Notice::LineLost { .. }) => self.lost += 1,
                // An end may be told over a line and by a request.
                Event::Notice(Notice::Late { .. }) => {}
                Event::Notice(notice) => panic!("{notice:?}"),
                event => self.events.push(event.clone()),
            }
        }
    }
}

/// A call that is over.
struct Call {
    bridge: Bridge,
    /// What the provider's end said, in order.
    wire: Vec<String>,
    closed: Option<u16>,
    phone: Simulator,
}

fn dial(provider: &dyn Provider, behaviours: &[&'static Behaviour], seed: u64) -> Dial {
    Dial {
        target: format!("/{}", provider.name()),
        call: "CA-17.4".into(),
        format: Some(provider.formats()[0]),
        behaviours: behaviours.to_vec(),
        seed,
        ..Dial::default()
    }
}

fn said(format: MediaFormat) -> Vec<i16> {
    // Never silence, and nothing twice in a row.
    (0..format.rate.samples_in(SPOKEN)).map(|n| 1_000 + (n * 37 % 20_011) as i16).collect()
}

/// A call in progress over a line without delay, with what is under way on it.
struct World {
    now: Instant,
    bridge: Bridge,
    phone: Simulator,
    to_bridge: VecDeque<Wire>,
    to_phone: VecDeque<Wire>,
    wire: Vec<String>,
    closed: Option<u16>,
}

fn wires(out: &Outbox) -> impl Iterator<Item = Wire> {
    out.sends().iter().map(|send| match send {
        Send::Text(span) => Wire::Text(out.text_of(span).to_owned()),
        Send::Binary(span) => Wire::Binary(out.octets(span).to_vec()),
        Send::Close(code) => Wire::Close(*code),
        Send::Dial(line, url) => Wire::Dial(*line, out.text_of(url).to_owned()),
        Send::TextOn(line, span) => Wire::On(*line, out.text_of(span).to_owned()),
        Send::Drop(line) => Wire::Lost(*line, "dropped".into()),
    })
}

impl World {
    fn connect(provider: &dyn Provider, behaviours: &[&'static Behaviour], seed: u64) -> Self {
        let (request, phone) = Simulator::new(provider, &dial(provider, behaviours, seed), false);
        let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
        let bridge = Bridge {
            protocol: accepted.expect("accepts").protocol,
            start: None,
            heard: Vec::new(),
            early: 0,
            unknown: 0,
            lost: 0,
            events: Vec::new(),
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            bridge,
            phone,
            to_bridge: VecDeque::new(),
            to_phone: VecDeque::new(),
            wire: Vec::new(),
            closed: None,
        };
        world.phone(|phone, now, out| phone.handle_open(now, out).expect("opens"));
        world.bridge(|bridge, now, out| bridge.handle_open(now, out).expect("opens"));
        world
    }

    fn phone(&mut self, act: impl FnOnce(&mut Simulator, Instant, &mut Outbox)) {
        let mut out = Outbox::new();
        act(&mut self.phone, self.now, &mut out);
        self.to_bridge.extend(wires(&out));
    }

    fn bridge(&mut self, act: impl FnOnce(&mut dyn Protocol, Instant, &mut Outbox)) {
        let mut out = Outbox::new();
        act(&mut *self.bridge.protocol, self.now, &mut out);
        self.bridge.note(&out);
        self.to_phone.extend(wires(&out));
    }

    /// Whether nothing more can come of it.
    fn is_over(&self) -> bool {
        self.closed.is_some() || self.phone.is_vanished()
    }

    /// Carries messages both ways until there are none.
    fn carry(&mut self) {
        loop {
            if let Some(wire) = self.to_bridge.pop_front() {
                self.carry_to_bridge(&wire);
            } else if let Some(wire) = self.to_phone.pop_front() {
                if !self.is_over() {
                    self.carry_to_phone(&wire);
                }
            } else {
                return;
            }
        }
    }

    fn carry_to_bridge(&mut self, wire: &Wire) {
        assert!(self.closed.is_none(), "said after the close: {wire:?}");
        if let Wire::Close(code) = wire {
            self.closed = Some(*code);
        }
        self.wire.push(format!("{:?} {wire:?}", self.now - Instant::ZERO));
        self.bridge(|bridge, now, out| wire.tell(now, bridge, out).expect("is understood"));
    }

    /// Lines that are dialled are open at once.
    fn carry_to_phone(&mut self, wire: &Wire) {
        if let Wire::Dial(line, _) = *wire {
            self.phone(|phone, now, out| {
                phone.handle_line(now, line, LineEvent::Opened, out).expect("is dialled");
            });
            return self.bridge(|bridge, now, out| {
                bridge.handle_line(now, line, LineEvent::Opened, out).expect("has dialled");
            });
        }
        self.phone(|phone, now, out| {
            let heard = match wire {
                Wire::On(line, text) => {
                    phone.handle_line(now, *line, LineEvent::Message(Message::Text(text)), out)
                }
                wire => wire.message().map_or(Ok(()), |said| phone.handle_message(now, said, out)),
            };
            heard.expect("understands");
        });
    }

    /// Plays something, with a mark behind it.
    fn play(&mut self) {
        let Some(start) = self.bridge.start.as_ref() else { return };
        let Some(format) = start.outbound else { return };
        let frame = match start.capabilities.frame {
            FrameLaw::AtLeast { least, .. } => least,
            _ => Duration::from_millis(20),
        };
        let pcm: Vec<i16> = vec![4_000; format.rate.samples_in(frame) as usize];
        let mut payload = Vec::new();
        format.encoder().expect("a codec").encode(&pcm, &mut payload).expect("whole frames");
        let media = Command::Media { track: Track::Outbound, payload: &payload };
        for command in [media, Command::Mark("rb0")] {
            self.bridge(|bridge, now, out| {
                bridge.handle_command(now, command, out).expect("obeys");
            });
        }
    }

    /// Lets time pass to whatever happens next; says whether anything does.
    fn wait(&mut self) -> bool {
        let ends = [self.bridge.protocol.poll_timeout(), self.phone.poll_timeout()];
        let Some(next) = ends.into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        self.phone(|phone, now, out| phone.handle_timeout(now, out).expect("time may pass"));
        if self.bridge.protocol.poll_timeout().is_some_and(|at| at <= self.now) {
            self.bridge(|bridge, now, out| bridge.handle_timeout(now, out).expect("time may pass"));
        }
        true
    }
}

/// Places a call in which the caller speaks, hears something now and then and hangs up.
fn place(provider: &'static dyn Provider, behaviours: &[&'static Behaviour], seed: u64) -> Call {
    let mut world = World::connect(provider, behaviours, seed);
    let end = world.now + PATIENCE;
    let (mut spoke, mut answers) = (false, 0);
    while world.now < end {
        world.carry();
        if world.is_over() {
            break;
        }
        if let (false, Some(start)) = (spoke, world.phone.start()) {
            let samples = said(start.inbound.expect("a call of sound"));
            world.phone.speak(Track::Inbound, &samples);
            spoke = true;
        }
        if world.bridge.heard.len() / 10 > answers {
            answers += 1;
            world.play();
        } else if spoke && world.phone.unspoken(Track::Inbound) == 0 && !world.phone.is_over() {
            world.phone(|phone, now, out| phone.hang_up(now, out).expect("hangs up"));
        } else if !world.wait() {
            break;
        }
    }
    assert!(world.now < end, "goes on for ever");
    let World { bridge, wire, closed, phone, .. } = world;
    Call { bridge, wire, closed, phone }
}

/// Whether anything is acted out here beside what is promised: not where there are words instead of sound.
fn behaves(provider: &dyn Provider) -> bool {
    provider.has_sound()
}

/// Every behaviour of every provider, and what is acted out without any.
fn every_behaviour(test: impl Fn(&'static dyn Provider, &'static Behaviour, u64)) {
    for provider in PROVIDERS.iter().filter(|provider| behaves(**provider)) {
        for behaviour in behaviour::all(*provider) {
            for seed in SEEDS {
                eprintln!("{} {} seed {seed}", provider.name(), behaviour.name);
                test(*provider, behaviour, seed);
            }
        }
    }
}

/// What was heard in its own order, without what came twice.
fn in_order(heard: &[Heard]) -> Vec<u8> {
    let mut heard: Vec<&Heard> = heard.iter().collect();
    heard.sort_by_key(|heard| (heard.track, heard.time, heard.number));
    heard.dedup_by_key(|heard| (heard.track, heard.time, heard.number));
    heard.iter().flat_map(|heard| heard.octets.clone()).collect()
}

/// What was heard of each voice as it came.
fn as_it_came(heard: &[Heard]) -> [Vec<u8>; 2] {
    [Track::Inbound, Track::Outbound].map(|track| {
        let of = heard.iter().filter(|heard| heard.track == track);
        of.flat_map(|heard| heard.octets.clone()).collect()
    })
}

fn check_sound(act: Act, plain: &Call, call: &Call) {
    let [whole, heard] = [plain, call].map(|call| as_it_came(&call.bridge.heard));
    let [all, some] = [&whole, &heard].map(|voices| voices.concat().len());
    assert!(all > 10_000, "{all} octets are no call");
    assert_eq!((plain.bridge.early, plain.bridge.unknown), (0, 0));
    let unknown = call.bridge.unknown;
    let strange = matches!(act, Act::Aside(_) | Act::OpeningTwice);
    assert_eq!(unknown > 0, strange, "{unknown} unknown");
    let drops = matches!(act, Act::DropLine(_));
    assert_eq!((plain.bridge.lost, call.bridge.lost > 0), (0, drops), "lines lost");
    let voices = || whole.iter().zip(&heard);
    match act {
        Act::Displace(_) | Act::Duplicate => {
            let [whole, heard] = [plain, call].map(|call| in_order(&call.bridge.heard));
            assert!(heard == whole, "not all was heard");
        }
        Act::EarlySound => {
            let early = call.bridge.early;
            assert_eq!(early + some, all, "{early} octets of early sound");
            assert!(voices().all(|(whole, heard)| whole.ends_with(heard)), "not what came next");
        }
        Act::EarlyClose => assert_eq!(some, 0),
        Act::Redial => {
            assert!(some < all && voices().all(|(whole, heard)| whole.starts_with(heard)));
        }
        // What does not fill a message is not said.
        Act::Packets(time) => {
            let end = whole[0].len() - whole[0].len() * time.as_millis() as usize / 1_600;
            assert!(voices().all(|(all, some)| some.starts_with(&all[..end.min(all.len())])));
        }
        // The end comes when it comes: what the line held until then is heard before it.
        _ => assert!(heard == whole, "{some} of {all} octets"),
    }
}

fn check_end(act: Act, plain: &Call, call: &Call) {
    let stops = |call: &Call| {
        call.bridge.events.iter().filter(|event| matches!(event, Event::Stopped(_))).count()
    };
    let end = (call.closed, stops(call));
    match act {
        Act::Vanish => assert_eq!(end, (None, 0)),
        Act::NoGoodbye | Act::EarlyClose => assert_eq!(end, (Some(1000), 0)),
        Act::Cut | Act::Redial => assert_eq!(end, (Some(1006), 0)),
        _ => assert_eq!(end, (plain.closed, stops(plain))),
    }
    assert!(end.1 <= 1, "stopped twice");
    assert_eq!(call.phone.redials(), act == Act::Redial);
    assert!(call.phone.is_over());
}

fn check_playback(provider: &dyn Provider, act: Act, call: &Call) {
    let count = |is: fn(&Event) -> bool| call.bridge.events.iter().filter(|e| is(e)).count();
    let played = count(|event| matches!(event, Event::Played(_)));
    let can = provider.capabilities();
    match act {
        Act::LoseMarks => assert_eq!(played, 0),
        Act::EarlyClose => {}
        _ => assert_eq!(played > 0, can.marks, "{played} marks"),
    }
    let full = count(|event| matches!(event, Event::Full));
    let writable = count(|event| matches!(event, Event::Writable));
    let waits = matches!(act, Act::Full(_));
    assert!(full.abs_diff(writable) <= 1 && (full > 1) == waits, "{full} and {writable}");
}

#[test]
fn what_is_said_is_heard_and_an_end_is_an_end_whatever_the_provider_does() {
    every_behaviour(|provider, behaviour, seed| {
        let (plain, call) = (place(provider, &[], seed), place(provider, &[behaviour], seed));
        check_sound(behaviour.act, &plain, &call);
        check_end(behaviour.act, &plain, &call);
        check_playback(provider, behaviour.act, &call);
    });
}

#[test]
fn the_same_seed_is_the_same_call_and_chance_has_a_say() {
    let chancy = |b: &Behaviour| {
        matches!(b.act, Act::Stall(_) | Act::Displace(_) | Act::Duplicate | Act::Together)
    };
    every_behaviour(|provider, behaviour, seed| {
        if chancy(behaviour) && seed == SEEDS.start {
            let call = |seed| place(provider, &[behaviour], seed).wire;
            assert_eq!(call(seed), call(seed));
            let others: Vec<_> = (1..6).map(call).collect();
            let together = behaviour.act == Act::Together;
            assert!(together || others.windows(2).any(|two| two[0] != two[1]), "chance is silent");
        }
    });
}

#[test]
fn behaviours_go_together() {
    for provider in PROVIDERS.iter().filter(|provider| behaves(**provider)) {
        let lasting = |b: &&'static Behaviour| {
            !matches!(b.act, Act::EarlyClose | Act::Redial | Act::Vanish | Act::Cut)
        };
        let all: Vec<_> = behaviour::all(*provider).into_iter().filter(lasting).collect();
        for seed in SEEDS {
            eprintln!("{} seed {seed}", provider.name());
            let call = place(*provider, &all, seed);
            assert_eq!(call.closed, Some(1000));
            assert!(call.bridge.heard.len() > 10);
        }
    }
}

#[test]
fn the_table_of_behaviours_is_sound() {
    for provider in PROVIDERS.iter().filter(|provider| behaves(**provider)) {
        let mut names = std::collections::HashSet::new();
        for Behaviour { name, summary, source, act } in behaviour::all(*provider) {
            assert!(names.insert(*name), "{}: {name} twice", provider.name());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(plain) && *name != "help", "{name}");
            assert!(!summary.is_empty() && !summary.ends_with('.') && !source.is_empty());
            let found = behaviour::find(*provider, name).expect("finds itself");
            assert_eq!(found.act, *act);
            if let Act::Aside(Aside::Text(text)) = act {
                assert!(!text.is_empty());
            }
        }
        assert!(names.len() >= 7, "{}", provider.name());
        assert!(behaviour::find(*provider, "no-such-behaviour").is_none());
    }
}
