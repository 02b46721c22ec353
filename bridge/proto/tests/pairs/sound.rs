//! Sound both ways: every frame once, in order and unaltered, and cleared when it is to be.

use super::*;

#[test]
fn every_frame_arrives_once_in_order_and_unaltered() {
    every_call(|provider, format, seed| {
        let dial = call(provider, format);
        let mut world = World::connect(provider, &dial, seed, Bare::new(provider.dial(&dial).1));
        let mut random = Random(seed);
        let (mut said, mut played) = (Vec::new(), Vec::new());
        // Some speak only when they have been answered.
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
