//! Keys, flow control, pauses, results and hang-ups.

use super::*;

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
