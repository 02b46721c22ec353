//! Both ends of every provider's wire against each other in virtual time, over a link that delays and stalls but, being TCP, keeps
//! order: nothing is lost, doubled or altered, and marks, clears, keys and hang-ups do what the capabilities say.

mod control;
mod sound;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_proto::Instant;
use ringback_proto::provider::{
    ClearLaw, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Line, LineEvent, Message, Notice,
    Options, Outbox, PROVIDERS, PlayoutPolicy, Protocol, Provider, Send, Start, Track,
};
use ringback_proto::simulator::{PhoneEvent, Simulator};

const FRAME: Duration = Duration::from_millis(20);

/// A message may be this much later than the one before it.
const LONGEST_STALL: Duration = Duration::from_secs(2);

const SEEDS: std::ops::Range<u64> = 0..4;

/// SplitMix64 (Steele, Lea, Flood 2014), so that a seed is a test case for good.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn octets(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

#[derive(Debug, Clone)]
enum Wire {
    Text(String),
    Binary(Vec<u8>),
    Close,
    /// Over a line that the bridge dialled.
    On(Line, String),
    Dial(Line),
    Opened(Line),
}

/// One direction of a connection.
struct Link {
    random: Random,
    latency: Duration,
    under_way: VecDeque<(Instant, Wire)>,
    last: Instant,
    calm: bool,
}

impl Link {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let latency = Duration::from_millis(random.below(120));
        Self { random, latency, under_way: VecDeque::new(), last: Instant::ZERO, calm: false }
    }

    /// Jitter of up to 80 ms and now and then a stall, if it is not calm.
    fn send(&mut self, now: Instant, out: &mut Outbox) {
        for send in out.sends() {
            let wire = match send {
                Send::Text(span) => Wire::Text(out.text_of(span).to_owned()),
                Send::Binary(span) => Wire::Binary(out.octets(span).to_vec()),
                Send::Close(_) => Wire::Close,
                Send::Dial(line, _) => Wire::Dial(*line),
                Send::TextOn(line, span) => Wire::On(*line, out.text_of(span).to_owned()),
                Send::Drop(line) => panic!("{line:?} is dropped by nobody who behaves"),
            };
            self.put(now, wire);
        }
        out.reset();
    }

    fn put(&mut self, now: Instant, wire: Wire) {
        let mut delay = self.latency;
        if !self.calm {
            delay += Duration::from_micros(self.random.below(80_000));
            if self.random.below(60) == 0 {
                let longest = LONGEST_STALL.as_millis() as u64;
                delay += Duration::from_millis(self.random.below(longest));
            }
        }
        self.last = self.last.max(now + delay);
        self.under_way.push_back((self.last, wire));
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }

    fn receive(&mut self, now: Instant) -> Option<Wire> {
        if self.next()? > now {
            return None;
        }
        self.under_way.pop_front().map(|(_, wire)| wire)
    }
}

/// An end of a connection, ours or a phone.
trait End {
    fn open(&mut self, now: Instant, out: &mut Outbox);
    fn message(&mut self, now: Instant, message: Message<'_>, out: &mut Outbox);
    fn line(&mut self, now: Instant, line: Line, event: LineEvent<'_>, out: &mut Outbox);
    fn timeout(&mut self, now: Instant, out: &mut Outbox);
    fn close(&mut self, now: Instant, out: &mut Outbox);
    fn next(&self) -> Option<Instant>;
}

/// A protocol's end that remembers what it was told.
struct Bare {
    protocol: Box<dyn Protocol>,
    start: Option<Start>,
    media: Vec<(Track, Vec<u8>)>,
    events: Vec<(Instant, Event)>,
    closed: bool,
}

impl Bare {
    fn new(protocol: Box<dyn Protocol>) -> Self {
        Self { protocol, start: None, media: Vec::new(), events: Vec::new(), closed: false }
    }

    fn note(&mut self, now: Instant, out: &Outbox) {
        for event in out.events() {
            match event {
                Event::Started(start) => {
                    assert!(self.start.replace((**start).clone()).is_none(), "started twice");
                }
                Event::Media(media) => {
                    self.media.push((media.track, out.octets(&media.payload).to_vec()));
                }
                // What was under way when we hung up.
                Event::Notice(Notice::Late { .. }) => {}
                Event::Notice(notice) => panic!("{notice:?}"),
                event => self.events.push((now, event.clone())),
            }
        }
    }
}

impl End for Bare {
    fn open(&mut self, now: Instant, out: &mut Outbox) {
        self.protocol.handle_open(now, out).expect("opens");
        self.note(now, out);
    }

    fn message(&mut self, now: Instant, message: Message<'_>, out: &mut Outbox) {
        self.protocol.handle_message(now, message, out).expect("speaks the protocol");
        self.note(now, out);
    }

    fn line(&mut self, now: Instant, line: Line, event: LineEvent<'_>, out: &mut Outbox) {
        self.protocol.handle_line(now, line, event, out).expect("speaks the protocol");
        self.note(now, out);
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.protocol.handle_timeout(now, out).expect("time may pass");
        self.note(now, out);
    }

    fn close(&mut self, _: Instant, _: &mut Outbox) {
        self.closed = true;
    }

    fn next(&self) -> Option<Instant> {
        self.protocol.poll_timeout()
    }
}

impl End for Simulator {
    fn open(&mut self, now: Instant, out: &mut Outbox) {
        self.handle_open(now, out).expect("opens");
    }

    fn message(&mut self, now: Instant, message: Message<'_>, out: &mut Outbox) {
        self.handle_message(now, message, out).expect("the bridge speaks the protocol");
    }

    fn line(&mut self, now: Instant, line: Line, event: LineEvent<'_>, out: &mut Outbox) {
        self.handle_line(now, line, event, out).expect("the bridge speaks the protocol");
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.handle_timeout(now, out).expect("time may pass");
    }

    fn close(&mut self, now: Instant, out: &mut Outbox) {
        self.handle_close(now, out).expect("may be closed");
    }

    fn next(&self) -> Option<Instant> {
        self.poll_timeout()
    }
}

/// A bridge's end and a phone, connected.
struct World<P> {
    now: Instant,
    bridge: Bare,
    phone: P,
    to_bridge: Link,
    to_phone: Link,
    out: Outbox,
}

impl<P: End> World<P> {
    fn connect(provider: &dyn Provider, call: &Dial, seed: u64, phone: P) -> Self {
        let (request, _) = provider.dial(call);
        let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
        let accepted = accepted.expect("accepts");
        assert_eq!(accepted.subprotocol.as_ref(), request.subprotocols.first());
        let mut world = Self {
            now: Instant::from_millis(1),
            bridge: Bare::new(accepted.protocol),
            phone,
            to_bridge: Link::new(seed * 2),
            to_phone: Link::new(seed * 2 + 1),
            out: Outbox::new(),
        };
        // Who queues less than comes at once after a stall loses some of it: that is the link's doing, not the wire's.
        world.to_phone.calm = depth(provider) <= LONGEST_STALL;
        world.phone.open(world.now, &mut world.out);
        world.to_bridge.send(world.now, &mut world.out);
        world.bridge.open(world.now, &mut world.out);
        world.to_phone.send(world.now, &mut world.out);
        world
    }

    /// Lets time pass, event by event.
    fn run_until(&mut self, end: Instant) {
        loop {
            let ends = [self.bridge.next(), self.phone.next()];
            let links = [self.to_bridge.next(), self.to_phone.next()];
            let next = ends.into_iter().chain(links).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = self.now.max(end);
    }

    fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(wire) = self.to_bridge.receive(now) {
            deliver(&mut self.bridge, now, &wire, &mut self.out);
            self.to_phone.send(now, &mut self.out);
        }
        while let Some(wire) = self.to_phone.receive(now) {
            deliver(&mut self.phone, now, &wire, &mut self.out);
            if let Wire::Dial(line) = wire {
                self.to_bridge.put(now, Wire::Opened(line));
            }
            self.to_bridge.send(now, &mut self.out);
        }
        if self.phone.next().is_some_and(|at| at <= now) {
            self.phone.timeout(now, &mut self.out);
            self.to_bridge.send(now, &mut self.out);
        }
        if self.bridge.next().is_some_and(|at| at <= now) {
            self.bridge.timeout(now, &mut self.out);
            self.to_phone.send(now, &mut self.out);
        }
    }

    fn command(&mut self, command: Command<'_>) {
        self.bridge.protocol.handle_command(self.now, command, &mut self.out).expect("obeys");
        self.to_phone.send(self.now, &mut self.out);
    }

    fn play(&mut self, payload: &[u8]) {
        self.command(Command::Media { track: Track::Outbound, payload });
    }
}

fn deliver(end: &mut impl End, now: Instant, wire: &Wire, out: &mut Outbox) {
    match wire {
        Wire::Text(text) => end.message(now, Message::Text(text), out),
        Wire::Binary(octets) => end.message(now, Message::Binary(octets), out),
        Wire::Close => end.close(now, out),
        Wire::On(line, text) => {
            end.line(now, *line, LineEvent::Message(Message::Text(text)), out);
        }
        Wire::Dial(line) | Wire::Opened(line) => end.line(now, *line, LineEvent::Opened, out),
    }
}

fn call(provider: &dyn Provider, format: impl Into<Option<MediaFormat>>) -> Dial {
    let parameters =
        vec![("tenant".to_owned(), "t 1&=?\"\\é".to_owned()), ("empty".to_owned(), String::new())];
    Dial {
        target: format!("/{}", provider.name()),
        call: "CA-17.4".into(),
        parameters,
        format: format.into(),
        ..Dial::default()
    }
}

/// Octets of a frame as they may be; an Opus packet may have any length.
fn payload(format: MediaFormat, random: &mut Random) -> Vec<u8> {
    payload_of(FRAME, format, random)
}

fn payload_of(time: Duration, format: MediaFormat, random: &mut Random) -> Vec<u8> {
    let samples = format.rate.samples_in(time) as usize;
    let len = format.octets_for(samples).unwrap_or_else(|| 1 + random.below(200) as usize);
    random.octets(len)
}

/// How much the provider queues.
fn depth(provider: &dyn Provider) -> Duration {
    match provider.capabilities().playout {
        PlayoutPolicy::Ahead { limit } | PlayoutPolicy::Paced { limit } => limit,
        PlayoutPolicy::None => Duration::MAX,
    }
}

/// So many frames, or the same share of what the provider queues if that is less than three seconds.
fn fitting(frames: usize, provider: &dyn Provider) -> usize {
    let room = (depth(provider).as_nanos() / FRAME.as_nanos()).min(150) as usize;
    frames * room / 150
}

/// How long a message must be that the provider takes.
fn shortest(start: &Start) -> Duration {
    match start.capabilities.frame {
        FrameLaw::AtLeast { least, .. } => least.max(FRAME),
        _ => FRAME,
    }
}

/// Formats a provider speaks; nothing once, where it speaks none.
fn formats(provider: &dyn Provider) -> Vec<Option<MediaFormat>> {
    let formats: Vec<_> = provider.formats().iter().copied().map(Some).collect();
    if formats.is_empty() { vec![None] } else { formats }
}

/// Every provider with every format it speaks; the usual one with every seed.
fn every_stream(mut test: impl FnMut(&'static dyn Provider, Option<MediaFormat>, u64)) {
    for provider in PROVIDERS {
        for (index, format) in formats(*provider).into_iter().enumerate() {
            let seeds = if index == 0 { SEEDS } else { SEEDS.start..SEEDS.start + 1 };
            for seed in seeds {
                eprintln!("{} {format:?} seed {seed}", provider.name());
                test(*provider, format, seed);
            }
        }
    }
}

/// [`every_stream`] that carries sound.
fn every_call(mut test: impl FnMut(&'static dyn Provider, MediaFormat, u64)) {
    every_stream(|provider, format, seed| {
        if let Some(format) = format {
            test(provider, format, seed);
        }
    });
}

/// A phone that is simulated, on a stream that has started.
fn phone(
    provider: &'static dyn Provider,
    format: impl Into<Option<MediaFormat>>,
    seed: u64,
) -> Option<World<Simulator>> {
    let format = format.into();
    // Which codecs there are is up to the build.
    format.map_or(Ok(()), |format| format.decoder().map(drop)).ok()?;
    let dial = call(provider, format);
    let (_, simulator) = Simulator::new(provider, &dial, true);
    let mut world = World::connect(provider, &dial, seed, simulator);
    world.run(Duration::from_secs(5));
    assert!(world.bridge.start.is_some());
    Some(world)
}

/// A phone that hears what is played, on a stream that has started.
fn listener(
    provider: &'static dyn Provider,
    format: MediaFormat,
    seed: u64,
) -> Option<World<Simulator>> {
    let plays = provider.capabilities().playout != PlayoutPolicy::None;
    phone(provider, format, seed).filter(|_| plays)
}

/// What the phone is to be sent.
fn outbound(world: &World<Simulator>) -> MediaFormat {
    world.bridge.start.as_ref().and_then(|start| start.outbound).expect("two-way")
}

fn played(world: &World<Simulator>) -> Vec<&str> {
    let events = world.bridge.events.iter();
    events
        .filter_map(|(_, event)| match event {
            Event::Played(name) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Queues `frames` frames of random sound, as samples of the codec's own making and as many in a message as the provider wants at
/// least; gives what is to be heard.
fn play_sound(
    world: &mut World<Simulator>,
    format: MediaFormat,
    frames: usize,
    seed: u64,
) -> Vec<i16> {
    let mut random = Random(seed);
    let samples = format.rate.samples_in(FRAME) as usize;
    let mut encoder = format.encoder().expect("a codec");
    let mut decoder = format.decoder().expect("a codec");
    let shortest = shortest(world.bridge.start.as_ref().expect("started"));
    let together = shortest.as_nanos().div_ceil(FRAME.as_nanos()) as usize;
    let (mut pcm, mut message) = (Vec::new(), Vec::new());
    for left in (0..frames).rev() {
        // Never zero, so that sound is not silence.
        let frame: Vec<i16> = (0..samples).map(|_| 1_000 + random.below(20_000) as i16).collect();
        let mut payload = Vec::new();
        encoder.encode(&frame, &mut payload).expect("encodes");
        decoder.decode(&payload, &mut pcm).expect("decodes");
        message.extend(payload);
        let more_can_follow = left >= together && (frames - left).is_multiple_of(together);
        if left == 0 || more_can_follow {
            world.play(&message);
            message.clear();
        }
    }
    pcm
}

fn voiced(heard: &[i16]) -> Vec<i16> {
    heard.iter().copied().filter(|sample| *sample != 0).collect()
}
