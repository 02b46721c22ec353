//! Any provider in, any bot out: a phone behind every provider, a session, and a bot that is our own end of every provider's wire, in
//! virtual time. What is said, played, marked, cleared, pressed and hung up at one end is what it is at the other.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod pairs;
mod world;

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_module::message::{Hangup, Start as ModuleStart, StopReason};
use ringback_module::{AudioFrame, FromModule};
use ringback_proto::Instant;
use ringback_proto::provider::{
    ClearLaw, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Message, Options, Outbox,
    PROVIDERS, PlayoutPolicy, Protocol, Provider, Send, Start, Track, Transport, find,
};
use ringback_proto::session::{
    Action, EndReason, Epoch, FrameBuf, Given, PortConfig, PortId, Route, Session, SessionConfig,
    Summary,
};
use ringback_proto::simulator::{PhoneEvent, Simulator};
use ringback_proto::translation::{Bot, Said, Translator, can_speak};
use world::World;

const FRAME: Duration = Duration::from_millis(20);
const PORT: PortId = PortId(0);

/// All but silence.
fn voiced(samples: &[i16]) -> Vec<i16> {
    samples.iter().copied().filter(|sample| *sample != 0).collect()
}

/// A tone that rises from 300 to 2,000 Hz within 200 ms: no two pieces of it are alike, and every telephone carries it.
fn chirp(format: MediaFormat, length: Duration) -> Vec<i16> {
    let hz = f64::from(format.rate.hz());
    let samples = format.rate.samples_in(length);
    let sample = |n: u64| {
        let t = n as f64 / hz;
        let turns = 300.0 * t + 8_500.0 * t * t / 2.0;
        let value = (8_000.0 * (turns * std::f64::consts::TAU).sin()) as i16;
        if value == 0 { 1 } else { value }
    };
    (0..samples).map(sample).collect()
}

fn decoded(format: MediaFormat, payloads: &[Vec<u8>]) -> Vec<i16> {
    let (mut decoder, mut samples) = (format.decoder().expect("a codec"), Vec::new());
    for payload in payloads {
        decoder.decode(payload, &mut samples).expect("can be decoded");
    }
    samples
}

/// What is left of samples that go through this format once.
fn through(format: MediaFormat, samples: &[i16]) -> Vec<i16> {
    let mut payload = Vec::new();
    format.encoder().expect("a codec").encode(samples, &mut payload).expect("whole frames");
    decoded(format, &[payload])
}

fn dial(caller: &dyn Provider, format: Option<MediaFormat>) -> Dial {
    Dial {
        target: format!("/{}", caller.name()),
        call: "CA-17.4".into(),
        from: "+15550100011".into(),
        to: "+15550100022".into(),
        parameters: vec![("tenant".into(), "t 1&=?\"é".into()), ("both".into(), "call".into())],
        format,
        ..Dial::default()
    }
}

fn bot(provider: &'static dyn Provider, format: Option<MediaFormat>) -> Bot {
    let parameters = vec![("both".into(), "bot".into()), ("prompt".into(), "Be brief.".into())];
    Bot { provider, target: "/media".into(), parameters, format }
}

/// Whether samples are as they were after a codec.
fn is_exact(format: &MediaFormat) -> bool {
    matches!(format.encoding, Encoding::Pcmu | Encoding::Pcma | Encoding::L16(_))
}

/// A format that both have, in which nothing has to be forgiven.
fn common(caller: &dyn Provider, bot: &dyn Provider) -> Option<MediaFormat> {
    let shared = caller.formats().iter().filter(|format| bot.formats().contains(format));
    shared.copied().find(is_exact)
}

fn provider(name: &str) -> &'static dyn Provider {
    find(name).expect("in the table")
}

#[test]
fn a_bot_hears_who_calls_and_its_own_parameters_win() {
    let caller = provider("asterisk");
    let mut world =
        World::connect(provider("jambonz"), &dial(caller, None), bot(provider("twilio"), None));
    world.run(FRAME * 5);
    let start = world.start.clone().expect("started");
    let value = |name: &str| {
        let found = start.parameters.iter().filter(|(key, _)| key == name);
        let found: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        assert!(found.len() <= 1, "{name} is told twice: {found:?}");
        found.first().copied()
    };
    assert_eq!(start.call.as_deref(), Some("our-call"));
    assert_eq!(value("tenant"), Some("t 1&=?\"é"));
    assert_eq!(value("both"), Some("bot"));
    assert_eq!(value("prompt"), Some("Be brief."));
    assert_eq!(value("from"), Some("+15550100011"));
    assert_eq!(value("to"), Some("+15550100022"));
}

#[test]
fn words_and_sound_do_not_meet_and_say_so() {
    for (caller, to, expected) in [
        ("twilio", "conversation-relay", "speaks and hears words, and this call carries sound"),
        ("conversation-relay", "twilio", "speaks and hears sound, and this call carries words"),
        ("twilio", "zoom-rtms", "dialled by its bots"),
    ] {
        let (caller, to) = (provider(caller), provider(to));
        let mut world = World::connect(caller, &dial(caller, None), bot(to, None));
        world.run(FRAME * 5);
        let rejected = world.rejected.expect("rejected");
        assert!(rejected.starts_with("unsupported_format: "), "{rejected}");
        assert!(rejected.contains(expected), "{rejected}");
    }
}

#[test]
fn a_bot_of_words_answers_a_call_of_words() {
    let relay = provider("conversation-relay");
    let mut world = World::connect(relay, &dial(relay, None), bot(relay, None));
    world.run(FRAME * 5);
    assert!(world.start.is_some());
    let mut out = Outbox::new();
    world.phone.say(world.now, "A table for two.", &mut out).expect("says");
    world.tell_session(&mut out);
    world.exchange();
    let heard = |world: &World| {
        let heard = world.events.iter().filter_map(|(_, event)| match event {
            Event::Heard { text, last: true, .. } => Some(text.clone()),
            _ => None,
        });
        heard.collect::<Vec<_>>()
    };
    assert_eq!(heard(&world), ["A table for two."]);
    let words = "It is booked for eight in the evening, and we look forward to seeing you.";
    world.command(Command::Say { text: words, language: None, last: true });
    world.command(Command::Language { speech: Some("sv-SE"), recognition: None });
    world.press('7');
    assert_eq!(world.keys_at_bot(), "7");
    world.run(Duration::from_millis(900));
    world.phone.say(world.now, "Wait!", &mut out).expect("says");
    world.tell_session(&mut out);
    world.exchange();
    let interrupted = world.events.iter().find_map(|(_, event)| match event {
        Event::Interrupted { heard: Some(heard), .. } => Some(heard.clone()),
        _ => None,
    });
    let interrupted = interrupted.expect("the bot is told what was heard");
    assert!(words.starts_with(&interrupted) && !interrupted.is_empty(), "{interrupted:?}");
    assert_eq!(heard(&world), ["A table for two.", "Wait!"]);
    world.command(Command::Handoff(r#"{"queue":"billing"}"#));
    world.run(Duration::from_secs(1));
    let at_phone = world.at_phone();
    let handed = PhoneEvent::HandedOn(r#"{"queue":"billing"}"#.into());
    let language = PhoneEvent::Language { speech: Some("sv-SE".into()), recognition: None };
    for expected in [PhoneEvent::Said(words.into()), language, handed, PhoneEvent::HungUp] {
        assert!(at_phone.contains(&expected), "{expected:?} is not in {at_phone:?}");
    }
    assert!(world.summary.is_some());
}

/// Twilio's bots send a whole reply at once. It waits in front of the call and comes out whole, with its marks where they were.
#[test]
fn a_minute_of_sound_at_once_is_played_whole_and_more_than_two_are_not_kept() {
    let twilio = provider("twilio");
    let mut world = World::connect(twilio, &dial(twilio, None), bot(twilio, None));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    let second = chirp(format, Duration::from_secs(1));
    let began = world.now;
    for n in 0..70 {
        world.play(&second);
        world.command(Command::Mark(&format!("{n}")));
    }
    world.run(Duration::from_secs(75));
    let names: Vec<_> = (0..70).map(|n| n.to_string()).collect();
    assert_eq!(world.played(), names);
    for (n, (at, _)) in world.events.iter().enumerate() {
        let played = *at - began;
        let due = Duration::from_secs(n as u64 + 1);
        assert!(played >= due && played < due + FRAME * 20, "{n}: {played:?}");
    }
    let expected = through(format, &second).repeat(70);
    assert!(voiced(world.phone.heard()) == voiced(&expected));
    for _ in 0..140 {
        world.play(&second);
    }
    let dropped = format.rate.duration_of(world.dropped);
    assert!((15..25).contains(&dropped.as_secs()), "{dropped:?} of 140 s");
}

#[test]
fn a_bot_that_closes_after_its_last_words_is_heard_to_the_end() {
    let (asterisk, twilio) = (provider("asterisk"), provider("twilio"));
    let format = common(asterisk, twilio);
    let mut world = World::connect(asterisk, &dial(asterisk, format), bot(twilio, format));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    let goodbye = chirp(format, Duration::from_secs(8));
    world.play(&goodbye);
    let now = world.now;
    world.translator.as_mut().unwrap().handle_closed(now);
    world.exchange();
    world.run(Duration::from_secs(7));
    assert!(!world.phone_closed, "it is still being heard");
    world.run(Duration::from_secs(2));
    assert!(world.phone_closed);
    assert!(voiced(world.phone.heard()) == voiced(&through(format, &goodbye)));
    let hangup = world.hung_up.as_ref().expect("hung up");
    assert_eq!(hangup.reason, "the bot closed its stream");
}

#[test]
fn a_barge_in_of_the_bridge_empties_the_bots_queue_and_gives_its_marks_back() {
    let twilio = provider("twilio");
    let mut world = World::connect(twilio, &dial(twilio, None), bot(twilio, None));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    world.play(&chirp(format, Duration::from_secs(20)));
    world.command(Command::Mark("far"));
    world.run(Duration::from_secs(1));
    // As another module of the call would.
    world.session.module_message(world.now, PORT, &FromModule::Clear { epoch: None });
    world.exchange();
    assert_eq!(world.played(), ["far"]);
    let before = voiced(world.phone.heard()).len();
    let second = chirp(format, Duration::from_secs(1));
    world.play(&second);
    world.command(Command::Mark("new"));
    world.run(Duration::from_secs(2));
    assert_eq!(world.played(), ["far", "new"]);
    let heard = voiced(world.phone.heard()).split_off(before);
    assert!(heard == voiced(&through(format, &second)), "{} samples", heard.len());
}

#[test]
fn what_waits_when_a_bot_clears_or_the_caller_hangs_up_is_counted() {
    let twilio = provider("twilio");
    let mut world = World::connect(twilio, &dial(twilio, None), bot(twilio, None));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    for _ in 0..2 {
        world.play(&chirp(format, Duration::from_secs(20)));
        world.command(Command::Clear);
    }
    world.play(&chirp(format, Duration::from_secs(30)));
    let mut out = Outbox::new();
    world.phone.hang_up(world.now, &mut out).expect("may hang up");
    world.tell_session(&mut out);
    world.session.handle_closed(world.now, Ok(()));
    world.exchange();
    world.run(Duration::from_secs(1));
    let summary = world.summary.as_ref().expect("over");
    assert!(summary.ledger.is_balanced(), "{:?}", summary.ledger);
    let said = summary.ledger.hop("module.bot.out").expect("it spoke");
    let seconds = |samples| format.rate.duration_of(samples).as_secs();
    assert_eq!(seconds(said.entered), 70, "all that it said");
    let dropped: Vec<_> =
        said.dropped.iter().map(|(why, samples)| (why.name(), seconds(*samples))).collect();
    // Of each the call had taken five seconds and a frame already.
    assert_eq!(dropped, [("cleared", 29), ("call_ended", 24)]);
}
