//! Both ends of every provider's wire against each other in virtual time, over a link that delays and stalls but, being TCP, keeps
//! order: nothing is lost, doubled or altered, and marks, clears, keys and hang-ups do what the capabilities say.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_proto::Instant;
use ringback_proto::provider::{
    ClearLaw, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Line, LineEvent, Message, Notice,
    Options, Outbox, PROVIDERS, PlayoutPolicy, Protocol, Provider, Send, Start, Track, Upgrade,
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
        let offered = request.subprotocols.join(", ");
        let own = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = [("sec-websocket-protocol", offered.as_str())]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .chain(own)
            .collect();
        let upgrade = Upgrade { target: &request.target, public_url: None, headers: &headers };
        let accepted = provider.accept(&upgrade, &Options::default()).expect("accepts");
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

#[test]
fn every_frame_arrives_once_in_order_and_unaltered() {
    every_call(|provider, format, seed| {
        let dial = call(provider, format);
        let mut world = World::connect(provider, &dial, seed, Bare::new(provider.dial(&dial).1));
        // Some speak only when they have been answered.
        while world.phone.start.is_none() {
            world.run(FRAME);
        }
        let mut random = Random(seed);
        let (mut said, mut played) = (Vec::new(), Vec::new());
        // Providers that ask before they start wait for our answer.
        while world.phone.start.is_none() {
            world.run(FRAME);
        }
        for _ in 0..80 {
            let frame = payload(format, &mut random);
            let command = Command::Media { track: Track::Inbound, payload: &frame };
            let phone = &mut world.phone.protocol;
            phone.handle_command(world.now, command, &mut world.out).expect("obeys");
            world.to_bridge.send(world.now, &mut world.out);
            said.push((Track::Inbound, frame));
            // Playback comes in bursts.
            let start = world.bridge.start.clone().filter(|start| start.outbound.is_some());
            for _ in 0..start.as_ref().map_or(0, |_| random.below(4)) {
                let start = start.as_ref().expect("started");
                let format = start.outbound.expect("two-way");
                let frame = payload_of(shortest(start), format, &mut random);
                world.play(&frame);
                played.push((Track::Outbound, frame));
            }
            world.run(FRAME);
        }
        world.run(Duration::from_secs(300));
        assert_eq!(world.bridge.start.as_ref(), world.phone.start.as_ref());
        assert!(world.bridge.media == said, "the bridge did not hear what was said");
        let speaks = provider.capabilities().playout != PlayoutPolicy::None;
        assert_eq!(played.len() > 20, speaks);
        // Some ends send silence of their own accord while there is nothing to play.
        let sounds = |(_, octets): &(Track, Vec<u8>)| octets.iter().any(|octet| *octet != 0);
        world.phone.media.retain(sounds);
        played.retain(sounds);
        assert!(world.phone.media == played, "the phone did not get it all");
    });
}

#[test]
fn two_tracks_arrive_on_their_own() {
    let both = vec![Track::Inbound, Track::Outbound];
    for name in [
        "twilio",
        "signalwire",
        "wavix",
        "talkdesk",
        "ringcx",
        "raw",
        "genesys-audiohook",
        "avaya",
        "freeswitch-fork",
        "freeswitch-stream",
        "jambonz",
    ] {
        let provider = ringback_proto::provider::find(name).expect("in the table");
        let format = provider.formats()[0];
        let dial = Dial { tracks: both.clone(), ..call(provider, format) };
        let mut world = World::connect(provider, &dial, 1, Bare::new(provider.dial(&dial).1));
        let mut random = Random(1);
        let mut said: [Vec<u8>; 2] = Default::default();
        while world.phone.start.is_none() {
            world.run(FRAME);
        }
        for _ in 0..50 {
            for (track, said) in both.iter().zip(&mut said) {
                let frame = payload(format, &mut random);
                let command = Command::Media { track: *track, payload: &frame };
                let phone = &mut world.phone.protocol;
                phone.handle_command(world.now, command, &mut world.out).expect("obeys");
                world.to_bridge.send(world.now, &mut world.out);
                said.extend(frame);
            }
            world.run(FRAME);
        }
        world.run(Duration::from_secs(60));
        let start = world.bridge.start.take().expect("started");
        assert_eq!((start.tracks, start.outbound), (both.clone(), None));
        for (track, said) in both.iter().zip(said) {
            let heard = world.bridge.media.iter().filter(|(of, _)| of == track);
            let heard: Vec<u8> = heard.flat_map(|(_, payload)| payload.clone()).collect();
            assert!(heard == said, "{name} {track:?}");
        }
        // Nothing may be sent on such a stream: Twilio counts every message as an error.
        for command in [
            Command::Media { track: Track::Outbound, payload: &[0; 160] },
            Command::Mark("m"),
            Command::Clear,
            Command::Pause,
        ] {
            world
                .bridge
                .protocol
                .handle_command(world.now, command, &mut world.out)
                .expect("obeys");
        }
        assert!(world.out.sends().is_empty(), "{name}: {:?}", world.out.sends());
    }
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

/// Whether samples can be told from silence one by one after coding.
const fn exact(format: MediaFormat) -> bool {
    matches!(format.encoding, Encoding::Pcmu | Encoding::Pcma | Encoding::L16(_))
}

#[test]
fn what_is_played_is_heard_and_marks_come_when_it_was() {
    every_call(|provider, format, seed| {
        let Some(mut world) = listener(provider, format, seed) else { return };
        let (began, format) = (world.now, outbound(&world));
        let [first, second] = [50, 25].map(|frames| fitting(frames, provider));
        let all = u32::try_from(first + second).expect("a few");
        let in_first = u32::try_from(first).expect("a few");
        let first = play_sound(&mut world, format, first, seed);
        world.command(Command::Mark("first: 50 frames"));
        let second = play_sound(&mut world, format, second, seed + 100);
        world.command(Command::Mark(
            "second, a name that is much longer than any wire likes to have it, \"quoted\"",
        ));
        world.command(Command::Mark("at once"));
        world.run(Duration::from_secs(12));
        if exact(format) {
            let sound = [first, second].concat();
            assert!(voiced(world.phone.heard()) == sound, "heard something else");
        }
        let due = world.phone.counters().marks_played;
        if !world.bridge.start.as_ref().expect("started").capabilities.marks {
            assert_eq!(due, 0);
            return;
        }
        let names = played(&world);
        assert_eq!((due, names.len()), (3, 3));
        assert_eq!((names[0], names[2]), ("first: 50 frames", "at once"));
        assert!(names[1].starts_with("second, a name"));
        let times: Vec<_> = world.bridge.events.iter().map(|(at, _)| *at - began).collect();
        assert!(times[0] >= FRAME * in_first && times[1] >= FRAME * all, "too early: {times:?}");
        assert!(times[1] < Duration::from_secs(8), "too late: {times:?}");
    });
}

#[test]
fn sound_that_is_cut_otherwise_is_refused_by_the_provider() {
    for provider in PROVIDERS {
        let Some(format) = provider.formats().first() else { continue };
        let Some(mut world) = listener(*provider, *format, 1) else { continue };
        let played = outbound(&world);
        let (wrong, right) = match provider.capabilities().frame {
            // Who takes whole frames may still put others together.
            FrameLaw::Any | FrameLaw::UpTo(_) | FrameLaw::MultipleOf(_) => continue,
            FrameLaw::Exact(time) => (time * 2, time),
            FrameLaw::AtLeast { least, step } => (least / 2, least + step),
        };
        for (time, is_right) in [(right, true), (wrong, false)] {
            let octets = payload_of(time, played, &mut Random(1));
            let command = Command::Media { track: Track::Outbound, payload: &octets };
            let (mut sent, mut out) = (Outbox::new(), Outbox::new());
            let bridge = &mut world.bridge.protocol;
            bridge.handle_command(world.now, command, &mut sent).expect("obeys");
            let message = match &sent.sends()[0] {
                Send::Text(span) => Message::Text(sent.text_of(span)),
                Send::Binary(span) => Message::Binary(sent.octets(span)),
                other => panic!("sent {other:?}"),
            };
            let heard = world.phone.handle_message(world.now, message, &mut out);
            assert_eq!(heard.is_ok(), is_right, "{} {time:?}: {heard:?}", provider.name());
        }
    }
}

#[test]
fn clear_silences_at_once_and_treats_marks_by_its_law() {
    every_call(|provider, format, seed| {
        let Some(mut world) = listener(provider, format, seed) else { return };
        let can = world.bridge.start.as_ref().expect("started").capabilities;
        let (law, asked, format) = (can.clear, usize::from(can.marks), outbound(&world));
        let frames = fitting(150, provider);
        let total = format.rate.samples_in(FRAME * frames as u32) as usize;
        // Some ends have said something of their own accord.
        let before = world.phone.counters().samples_received;
        play_sound(&mut world, format, frames, seed);
        world.command(Command::Mark("pending"));
        // Three seconds are queued, or all that is on a calm link: whatever it does, some are left after this.
        while world.phone.counters().samples_received < before + total as u64 {
            world.run(FRAME);
        }
        let queued = world.phone.queued();
        assert!(queued > 0, "stalls ate the whole queue");
        world.command(Command::Clear);
        world.run(Duration::from_secs(12));
        let cleared = world.phone.counters().clears;
        if law == ClearLaw::Unsupported {
            assert_eq!(cleared, 0);
            return;
        }
        assert_eq!(cleared, 1);
        let cleared = std::iter::from_fn(|| world.phone.poll_event())
            .find_map(|event| match event {
                PhoneEvent::Cleared { samples, marks } => Some((samples, marks)),
                _ => None,
            })
            .expect("a clear");
        let confirmed = world.bridge.events.iter().filter(|(_, e)| *e == Event::Cleared).count();
        assert!(confirmed <= 1);
        match law {
            _ if !can.marks => assert_eq!((played(&world), cleared.1), (vec![], 0)),
            ClearLaw::ReturnsMarks => assert_eq!((played(&world), cleared.1), (vec!["pending"], 0)),
            // Unless the clear came too late.
            _ if cleared.0 == 0 => {}
            _ => assert_eq!((played(&world), cleared.1), (vec![], asked)),
        }
        if exact(format) {
            assert_eq!(voiced(world.phone.heard()).len() + cleared.0, total);
        }
        // The stream works as before.
        let more = play_sound(&mut world, format, fitting(20, provider), seed).len();
        world.run(Duration::from_secs(10));
        assert_eq!(world.phone.counters().samples_received, before + (total + more) as u64);
        assert_eq!(world.phone.queued(), 0);
    });
}

#[test]
fn keys_arrive_in_order() {
    every_stream(|provider, format, seed| {
        let Some(mut world) = phone(provider, format, seed) else { return };
        for key in "0123456789*#ABCD".chars() {
            let digit = Digit::new(key).expect("a key");
            world.phone.press(world.now, digit, &mut world.out).expect("presses");
            world.to_bridge.send(world.now, &mut world.out);
            world.run(FRAME);
        }
        world.run(Duration::from_secs(12));
        let digits = world.bridge.events.iter().map(|(_, event)| match event {
            Event::Dtmf { digit, .. } => digit.as_char(),
            other => panic!("{other:?}"),
        });
        let reported = if provider.capabilities().dtmf_in { "0123456789*#ABCD" } else { "" };
        assert_eq!(digits.collect::<String>(), reported);
    });
}

#[test]
fn flow_control_stops_and_starts() {
    for provider in PROVIDERS.iter().filter(|provider| provider.capabilities().flow.is_some()) {
        let format = provider.formats()[0];
        let mut world = phone(*provider, format, 3).expect("the usual format has a codec");
        let flow = provider.capabilities().flow.expect("filtered");
        let frames = flow.full.as_millis() / 20 + 50;
        // Else the link decides how much of it is queued at any time.
        world.command(Command::Pause);
        play_sound(&mut world, format, frames as usize, 3);
        world.run(Duration::from_secs(5));
        world.command(Command::Resume);
        world.run(Duration::from_secs(60));
        let told: Vec<_> = world.bridge.events.iter().map(|(_, event)| event.clone()).collect();
        assert_eq!(told, [Event::Full, Event::Writable], "{}", provider.name());
        assert_eq!(world.phone.counters().discarded, 0);
        // Who does not listen loses what comes over the limit.
        let PlayoutPolicy::Paced { limit } = provider.capabilities().playout else {
            panic!("{} queues far ahead and yet says when it is full", provider.name());
        };
        let room = limit.as_millis() / 20;
        world.command(Command::Pause);
        play_sound(&mut world, format, room as usize + 70, 3);
        world.run(Duration::from_secs(5));
        assert_eq!(world.phone.counters().discarded, 70);
    }
}

#[test]
fn pause_holds_playback_and_loses_nothing() {
    for provider in PROVIDERS.iter().filter(|provider| provider.capabilities().pause) {
        let format = provider.formats()[0];
        let mut world = phone(*provider, format, 4).expect("the usual format has a codec");
        world.command(Command::Pause);
        let sound = play_sound(&mut world, format, 50, 4);
        world.run(Duration::from_secs(10));
        assert_eq!((world.phone.queued(), voiced(world.phone.heard()).len()), (sound.len(), 0));
        world.command(Command::Resume);
        world.run(Duration::from_secs(10));
        assert!(voiced(world.phone.heard()) == sound);
    }
}

#[test]
fn what_the_caller_says_is_heard_even_before_the_start() {
    every_call(|provider, format, seed| {
        if !exact(format) {
            return;
        }
        let dial = call(provider, format);
        let (_, mut simulator) = Simulator::new(provider, &dial, false);
        let said: Vec<i16> = (1..=4_000).collect();
        simulator.speak(Track::Inbound, &said);
        let mut world = World::connect(provider, &dial, seed, simulator);
        // Some speak only when they have been answered.
        while world.phone.start().is_none() {
            world.run(FRAME);
        }
        let before = world.phone.counters().frames_sent;
        world.run(Duration::from_secs(4));
        let tracks = world.phone.start().expect("started").tracks.len() as u64;
        let frames = (world.phone.counters().frames_sent - before) / tracks;
        assert!((199..=201).contains(&frames), "open loop: {frames} frames in four seconds");
        world.run(Duration::from_secs(4));
        assert_eq!(world.phone.unspoken(Track::Inbound), 0);
        let mut coded = Vec::new();
        format.encoder().expect("a codec").encode(&said, &mut coded).expect("encodes");
        let heard = world.bridge.media.iter().filter(|(track, _)| *track == Track::Inbound);
        let heard: Vec<u8> = heard.flat_map(|(_, payload)| payload.clone()).collect();
        assert!(heard.starts_with(&coded));
        assert!(world.phone.heard().is_empty(), "nothing is recorded");
    });
}

#[test]
fn either_side_may_hang_up() {
    every_stream(|provider, format, seed| {
        let Some(mut world) = phone(provider, format, seed) else { return };
        world.command(Command::Hangup);
        world.run(Duration::from_secs(10));
        assert!(world.phone.is_over());
        let asked = std::iter::from_fn(|| world.phone.poll_event())
            .any(|event| event == PhoneEvent::HungUp);
        assert_eq!(asked, provider.capabilities().hangup == HangupLaw::Message);
        let sent = world.phone.counters().frames_sent;
        world.run(Duration::from_secs(10));
        assert_eq!(world.phone.counters().frames_sent, sent, "speaks on");

        let mut world = phone(provider, format, seed).expect("as above");
        world.phone.hang_up(world.now, &mut world.out).expect("hangs up");
        world.to_bridge.send(world.now, &mut world.out);
        world.run(Duration::from_secs(10));
        assert!(world.bridge.closed);
        let stops =
            world.bridge.events.iter().filter(|(_, event)| matches!(event, Event::Stopped(_)));
        assert!(stops.count() <= 1);
        assert!(world.phone.is_over() && world.phone.poll_timeout().is_none());
    });
}

#[test]
fn asterisk_says_the_same_in_either_control_format() {
    let provider = ringback_proto::provider::find("asterisk").expect("in the table");
    let format = provider.formats()[0];
    let told = |query: &str, seed| {
        let target = format!("/asterisk{query}");
        let dial = Dial { target, ..call(provider, format) };
        let (_, simulator) = Simulator::new(provider, &dial, true);
        let mut world = World::connect(provider, &dial, seed, simulator);
        world.run(Duration::from_secs(5));
        let mut start = world.bridge.start.clone().expect("started");
        start.parameters.retain(|(name, _)| name != "control_message_format");
        start.parameters.sort();
        for name in ["one", "\"\\ two", "three, which is longer than a command may be altogether"] {
            play_sound(&mut world, format, 25, seed);
            world.command(Command::Mark(name));
        }
        world.run(Duration::from_secs(10));
        world.command(Command::Pause);
        play_sound(&mut world, format, 950, seed);
        world.command(Command::Mark("dropped"));
        world.run(Duration::from_secs(10));
        world.command(Command::Clear);
        world.command(Command::Resume);
        world.phone.press(world.now, Digit::new('#').expect("a key"), &mut world.out).expect("can");
        world.to_bridge.send(world.now, &mut world.out);
        world.run(Duration::from_secs(10));
        world.command(Command::Hangup);
        world.run(Duration::from_secs(10));
        assert!(world.phone.is_over());
        let events: Vec<_> = world.bridge.events.iter().map(|(_, event)| event.clone()).collect();
        (start, events, world.phone.counters())
    };
    for seed in SEEDS {
        let plain = told("", seed);
        assert_eq!(plain.1.len(), 6, "{:?}", plain.1);
        assert_eq!(told("?control_message_format=json", seed), plain);
    }
}

#[test]
fn results_reach_clients_that_take_them() {
    for provider in PROVIDERS {
        let mut world = phone(*provider, formats(*provider)[0], 5).expect("has a codec");
        let result = r#"{"type":"transcript","text":"ä \"b\"","final":true}"#;
        world.command(Command::Result(result));
        world.run(Duration::from_secs(10));
        let results: Vec<_> = std::iter::from_fn(|| world.phone.poll_event())
            .filter(|event| matches!(event, PhoneEvent::Result(_)))
            .collect();
        let expected = provider.capabilities().results.then(|| PhoneEvent::Result(result.into()));
        assert_eq!(results, Vec::from_iter(expected), "{}", provider.name());
    }
}

#[test]
fn the_table_is_sound() {
    let mut names = std::collections::HashSet::new();
    for provider in PROVIDERS {
        let info = provider.info();
        assert!(names.insert(info.name), "{} twice", info.name);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(info.name.chars().all(plain), "{}", info.name);
        assert!(!info.title.is_empty() && !info.reference.is_empty());
        let can = info.capabilities;
        let plays = can.playout != PlayoutPolicy::None;
        assert!(if can.text {
            !plays && info.formats.is_empty()
        } else {
            !info.formats.is_empty()
        });
        assert!(plays || (can.clear == ClearLaw::Unsupported && !can.marks && !can.pause));
        assert!(std::ptr::eq(
            ringback_proto::provider::find(info.name).expect("finds itself").info(),
            info
        ));
    }
    assert!(ringback_proto::provider::find("no-such-provider").is_none());
}

/// Every provider that carries words, with every seed.
fn every_talk(mut test: impl FnMut(&'static dyn Provider, World<Simulator>)) {
    let talk = PROVIDERS.iter().filter(|provider| provider.capabilities().text);
    for provider in talk {
        for seed in SEEDS {
            eprintln!("{} seed {seed}", provider.name());
            test(*provider, phone(*provider, None, seed).expect("needs no codec"));
        }
    }
}

fn said(world: &mut World<Simulator>) -> Vec<PhoneEvent> {
    let events = std::iter::from_fn(|| world.phone.poll_event());
    events.filter(|event| !matches!(event, PhoneEvent::Started(_))).collect()
}

const AWKWARD: [&str; 3] = ["Yes.", "\"Quoted\\\" and\nbroken", "Grüße, 你好 \u{1F600}"];

#[test]
fn words_arrive_whole_and_in_order() {
    every_talk(|_, mut world| {
        for text in AWKWARD {
            world.phone.say(world.now, text, &mut world.out).expect("says");
            world.to_bridge.send(world.now, &mut world.out);
            let (first, rest) = text.split_at(1);
            world.command(Command::Say { text: first, language: None, last: false });
            world.command(Command::Say { text: rest, language: Some("de-DE"), last: true });
        }
        world.run(Duration::from_secs(20));
        let heard: Vec<_> = world.bridge.events.iter().map(|(_, event)| event.clone()).collect();
        let expected = AWKWARD.map(|text| Event::Heard {
            text: text.into(),
            language: Some("en-US".into()),
            last: true,
        });
        assert_eq!(heard, expected);
        assert_eq!(said(&mut world), AWKWARD.map(|text| PhoneEvent::Said(text.into())));
        let counters = world.phone.counters();
        assert_eq!((counters.texts_sent, counters.texts_received), (3, 6));
    });
}

#[test]
fn who_cuts_in_has_heard_the_beginning_and_the_bridge_is_told_which() {
    every_talk(|_, mut world| {
        let words = "This takes the provider a good while to speak to the caller.";
        world.command(Command::Say { text: words, language: None, last: true });
        while world.phone.counters().texts_received == 0 {
            world.run(FRAME);
        }
        world.run(Duration::from_millis(1_000));
        world.phone.say(world.now, "Stop!", &mut world.out).expect("says");
        world.to_bridge.send(world.now, &mut world.out);
        world.run(Duration::from_secs(10));
        let events = std::mem::take(&mut world.bridge.events);
        let [(_, Event::Interrupted { heard: Some(heard), after: Some(after) }), (_, last)] =
            events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert!(matches!(last, Event::Heard { text, last: true, .. } if text == "Stop!"));
        assert!(words.starts_with(heard.as_str()) && heard.split(' ').count() > 1, "{heard:?}");
        assert!(heard.len() < words.len() && *after >= Duration::from_millis(1_000));
        let at_phone = said(&mut world);
        assert_eq!(at_phone[1..], [PhoneEvent::Interrupted(heard.clone())]);
    });
}

#[test]
fn languages_and_what_is_handed_on_reach_the_provider() {
    every_talk(|provider, mut world| {
        world.command(Command::Language { speech: Some("sv-SE"), recognition: None });
        let data = r#"{"queue":"\"billing\""}"#;
        world.command(Command::Handoff(data));
        world.command(Command::Say { text: "too late", language: None, last: true });
        world.run(Duration::from_secs(10));
        let language = PhoneEvent::Language { speech: Some("sv-SE".into()), recognition: None };
        let handed = provider.capabilities().handoff.then(|| PhoneEvent::HandedOn(data.into()));
        let expected = [Some(language), handed, Some(PhoneEvent::HungUp)];
        assert_eq!(said(&mut world), expected.into_iter().flatten().collect::<Vec<_>>());
    });
}
