//! What modules are given to hear: from when on, at which rate, and what becomes of sound that they missed.

use super::*;

use ringback_proto::ledger::Hop;

/// A route to these modules, for which so much sound is kept.
fn keeping(keep: Duration, ports: Vec<PortConfig>) -> Arc<RouteTable> {
    Route { keep, ..Route::to(ports) }.into()
}

#[test]
fn every_frame_is_heard_and_echoed_bit_exact() {
    let mut rig = Rig::new("twilio", vec![port("echo", true)]);
    rig.ready(0, &speaks(Pace::Live));
    let mut sent: Vec<u8> = Vec::new();
    for frame in 0..200 {
        let payload = ramp(frame);
        sent.extend(&payload);
        rig.speak(&payload);
        for (_, samples) in rig.frames(0) {
            rig.play(0, &samples);
        }
        rig.run(20);
    }
    assert_eq!(rig.played, sent);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Remote);
    assert_eq!((summary.frames_in, summary.frames_out), (200, 200));
}

#[test]
fn a_module_that_is_late_hears_the_call_from_its_first_sample() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    for frame in 0..150 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    assert!(rig.frames(0).is_empty(), "nothing before ready");
    rig.ready(0, &listens(8_000));
    let frames = rig.frames(0);
    assert_eq!(frames.len(), 150);
    assert_eq!((frames[0].0, frames[149].0), (0, 149 * 160));
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().ledger.hop("module.stt.in.0").expect("accounted").lost(), 0);
}

#[test]
fn a_module_that_comes_back_is_replayed_what_it_had_not_acknowledged() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    assert_eq!(rig.frames(0).len(), 100);
    rig.say(0, &FromModule::Ack { in_ms: 1_200, lag_ms: None });
    let now = rig.at();
    rig.session.module_down(now, PortId(0), "killed");
    for frame in 100..120 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    let resume = rig.started[&0].resume.clone().expect("told where it goes on");
    assert_eq!(resume.from_ms, 1_200);
    rig.ready(0, &listens(8_000));
    let frames = rig.frames(0);
    assert_eq!(frames.first().map(|f| f.0), Some(60 * 160));
    assert_eq!(frames.len(), 60);
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().modules[0].starts, 2);
}

#[test]
fn what_the_ring_no_longer_holds_is_told_as_a_gap_with_its_bounds() {
    let mut rig = Rig::with("twilio", |config| {
        config.routes =
            keeping(Duration::from_secs(1), vec![port("slow", false), port("quick", false)]);
    });
    rig.ready(0, &listens(8_000));
    rig.ready(1, &listens(8_000));
    let mut quick = 0;
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        quick += rig.frames(1).len();
        rig.run(20);
    }
    assert_eq!(quick, 100, "a slow module costs the other nothing");
    let slow = rig.frames(0);
    rig.exchange();
    let gap = rig.told.iter().find_map(|(p, m)| match m {
        ToModule::Gap(gap) if *p == 0 => Some(gap.clone()),
        _ => None,
    });
    let gap = gap.expect("the gap is told");
    assert_eq!((gap.from_ms, gap.to_ms), (0, 1_100));
    assert_eq!(slow.len(), 45);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.slow.in.0").expect("accounted").clone();
    assert_eq!(hop.dropped, [(Reason::Overwritten, 1_100 * 8)]);
}

#[test]
fn a_module_that_cannot_bear_gaps_is_let_go() {
    let mut rig = Rig::with("twilio", |config| {
        config.routes = keeping(Duration::from_millis(200), vec![port("strict", false)]);
    });
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    for frame in 0..50 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.frames(0);
    rig.exchange();
    assert_eq!(rig.dropped_modules, [0]);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn credit_bounds_what_a_module_is_given() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &Ready { credit: Some(ReadyCredit { in_ms: 500 }), ..listens(8_000) });
    for frame in 0..100 {
        rig.speak(&ramp(frame));
    }
    assert_eq!(rig.frames(0).len(), 25);
    rig.say(0, &FromModule::Ack { in_ms: 300, lag_ms: None });
    assert_eq!(rig.frames(0).len(), 15);
    rig.say(0, &FromModule::Credit { in_ms: 100 });
    assert_eq!(rig.frames(0).len(), 5);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn wide_band_modules_get_the_same_time_at_their_own_rate() {
    let mut rig = Rig::new("twilio", vec![port("a", false), port("b", false)]);
    rig.ready(0, &listens(16_000));
    let odd = AcceptIn { rate: 44_100, frame_ms: 60, ..AcceptIn::pcm(8_000) };
    rig.ready(
        1,
        &Ready { accept: Accept { input: Some(odd), ..Accept::default() }, ..Ready::default() },
    );
    for frame in 0..300 {
        rig.speak(&ramp(frame));
    }
    let wide = rig.frames(0);
    assert!(wide.len() >= 299 && wide.iter().all(|f| f.1.len() == 320));
    assert!(wide.windows(2).all(|w| w[1].0 == w[0].0 + 320));
    let odd = rig.frames(1);
    assert!(odd.len() >= 98 && odd.iter().all(|f| f.1.len() == 2_646), "{}", odd.len());
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn the_agents_side_is_what_the_caller_heard_in_its_place() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), port("recorder", false)]);
    rig.ready(0, &speaks(Pace::Clip));
    let accept = Accept {
        input: Some(AcceptIn::pcm(8_000)),
        tracks: vec![0, 1],
        framing: Framing::Hdr16,
        ..Accept::default()
    };
    rig.ready(1, &Ready { accept, ..Ready::default() });
    let mut agent: Vec<i16> = Vec::new();
    let mut buffer = FrameBuf::default();
    for frame in 0..200 {
        rig.speak(&ramp(frame));
        if frame == 50 {
            rig.play(0, &vec![4_000; 8_000]);
            rig.say(0, &FromModule::AudioEnd { epoch: None });
        }
        rig.run(20);
        while let Some(Given::Sound(heard)) = rig.session.next_frame(PortId(1), &mut buffer) {
            if heard.track == 1 {
                assert_eq!(heard.pts as usize, agent.len(), "no hole in the positions");
                agent.extend(heard.samples);
            }
        }
    }
    let first = agent.iter().position(|s| s.abs() > 3_000).expect("heard") / 8;
    let last = agent.iter().rposition(|s| s.abs() > 3_000).expect("heard") / 8;
    assert!(first.abs_diff(1_020) <= 25, "begins at {first} ms");
    assert!((last - first).abs_diff(1_000) <= 5, "lasts {} ms", last - first);
    assert!((agent.len() / 8).abs_diff(4_000) <= 60, "{} ms in all", agent.len() / 8);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_first_message_of_any_length_begins_at_zero() {
    let mut rig = Rig::new("raw", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    rig.run(500);
    let rate = match &rig.reports[..] {
        [Report::Started(start), ..] => start.inbound.expect("of sound").rate.hz() as usize,
        other => panic!("started first, not {other:?}"),
    };
    let octets = match &rig.reports[0] {
        Report::Started(start) => {
            start.inbound.expect("of sound").octets_for(rate).expect("a plain encoding")
        }
        _ => 0,
    };
    rig.speak(&vec![0x55; octets]);
    let frames = rig.frames(0);
    assert_eq!((frames.len(), frames[0].0), (50, 0), "one second, and not a sample more");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_that_never_acknowledged_resumes_where_the_ring_begins() {
    let mut rig = Rig::with("twilio", |config| {
        config.routes = keeping(Duration::from_secs(1), vec![port("stt", false)]);
    });
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    for frame in 0..500 {
        rig.speak(&ramp(frame));
        rig.frames(0);
        rig.run(20);
    }
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    assert_eq!(rig.started[&0].resume.clone().expect("resumes").from_ms, 9_000);
    for frame in 500..510 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    rig.told.clear();
    let frames = rig.frames(0);
    assert!(
        matches!(&rig.told[..], [(0, ToModule::Gap(gap))] if gap.reason == GapReason::Resume),
        "{:?}",
        rig.told
    );
    assert!(frames.len() >= 44, "{} frames", frames.len());
    assert!(rig.dropped_modules.is_empty(), "what it missed while away is not held against it");
    rig.command(Command::Hangup);
    rig.finish();
}

/// Plays so many frames to a call, all of which its only module takes.
fn speak_and_hear(rig: &mut Rig, frames: std::ops::Range<usize>) {
    for frame in frames {
        rig.speak(&ramp(frame));
        rig.frames(0);
        rig.run(20);
    }
}

/// A call that has lasted two seconds, all of which its only module has taken; so much is kept for it.
fn heard_two_seconds(keep: Duration) -> Rig {
    let mut rig = Rig::with("twilio", |config| {
        config.routes = keeping(keep, vec![port("stt", false)]);
    });
    rig.ready(0, &listens(8_000));
    speak_and_hear(&mut rig, 0..100);
    rig
}

/// Ends such a call; what its module was given.
fn hung_up(mut rig: Rig) -> Hop {
    rig.command(Command::Hangup);
    rig.finish().ledger.hop("module.stt.in.0").expect("accounted").clone()
}

fn gaps(rig: &mut Rig) -> Vec<(u64, u64, GapReason)> {
    let told = std::mem::take(&mut rig.told);
    let gaps = told.into_iter().filter_map(|(_, message)| match message {
        ToModule::Gap(gap) => Some((gap.from_ms, gap.to_ms, gap.reason)),
        _ => None,
    });
    gaps.collect()
}

#[test]
fn what_was_said_during_an_outage_longer_than_the_ring_is_told_as_a_gap_and_counted_once() {
    for acks in [true, false] {
        let mut rig = heard_two_seconds(Duration::from_secs(1));
        if acks {
            rig.say(0, &FromModule::Ack { in_ms: 1_900, lag_ms: None });
        }
        rig.session.module_down(rig.at(), PortId(0), "killed");
        for frame in 100..300 {
            rig.speak(&ramp(frame));
            rig.run(20);
        }
        rig.session.restart_module(rig.at(), PortId(0));
        rig.exchange();
        assert_eq!(rig.started[&0].resume.clone().expect("resumes").from_ms, 5_000);
        rig.told.clear();
        rig.ready(0, &listens(8_000));
        let frames = rig.frames(0);
        assert_eq!((frames.len(), frames[0].0), (50, 40_000), "acks: {acks}");
        // One that says what it has is owed what came after that; of another it is only known what it was never given.
        let from = if acks { 1_900 } else { 2_000 };
        assert_eq!(gaps(&mut rig), [(from, 5_000, GapReason::Resume)]);
        let hop = hung_up(rig);
        assert_eq!((hop.entered, hop.left, hop.lost()), (48_000, 24_000, 24_000), "acks: {acks}");
    }
}

#[test]
fn a_gap_that_a_module_went_away_before_is_told_the_next_time() {
    let mut rig = heard_two_seconds(Duration::from_secs(1));
    for _ in 0..2 {
        // It takes nothing the first time.
        rig.session.module_down(rig.at(), PortId(0), "killed");
        for frame in 100..200 {
            rig.speak(&ramp(frame));
            rig.run(20);
        }
        rig.session.restart_module(rig.at(), PortId(0));
        rig.exchange();
        rig.told.clear();
        rig.ready(0, &listens(8_000));
    }
    rig.frames(0);
    assert_eq!(gaps(&mut rig), [(2_000, 5_000, GapReason::Resume)]);
    let hop = hung_up(rig);
    assert_eq!((hop.entered, hop.left, hop.lost()), (48_000, 24_000, 24_000));
}

#[test]
fn what_is_replayed_after_a_short_outage_counts_once() {
    let mut rig = heard_two_seconds(Duration::from_secs(5));
    rig.say(0, &FromModule::Ack { in_ms: 1_000, lag_ms: None });
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    rig.told.clear();
    rig.ready(0, &listens(8_000));
    assert_eq!(rig.frames(0).len(), 50);
    assert_eq!(gaps(&mut rig), []);
    let hop = hung_up(rig);
    assert_eq!((hop.entered, hop.left, hop.lost()), (16_000, 16_000, 0));
}

#[test]
fn a_module_that_never_comes_back_is_counted_what_the_ring_lost_meanwhile() {
    let mut rig = heard_two_seconds(Duration::from_secs(1));
    rig.session.module_down(rig.at(), PortId(0), "killed");
    for frame in 100..300 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    let hop = hung_up(rig);
    assert_eq!((hop.entered, hop.left, hop.lost(), hop.queued), (48_000, 16_000, 24_000, 8_000));
}

#[test]
fn a_gap_does_not_eat_the_credit_of_a_module_that_waits() {
    let mut rig = Rig::with("twilio", |config| {
        config.routes = keeping(Duration::from_secs(1), vec![port("slow", false)]);
    });
    rig.ready(0, &Ready { credit: Some(ReadyCredit { in_ms: 100 }), ..listens(8_000) });
    for frame in 0..200 {
        rig.speak(&ramp(frame));
    }
    let first = rig.frames(0).len();
    assert_eq!(first, 5);
    for _ in 0..20 {
        rig.say(0, &FromModule::Credit { in_ms: 20 });
        assert_eq!(rig.frames(0).len(), 1, "a grant of 20 ms brings 20 ms");
    }
    rig.command(Command::Hangup);
    rig.finish();
}

/// What all but a wedged module got of a call.
#[derive(PartialEq)]
struct Got {
    heard: Vec<(u64, Vec<i16>)>,
    played: Vec<u8>,
    told: Vec<(usize, ToModule)>,
}

/// A call that one module hears and another plays into, with a third or without, which never reads.
fn beside(wedged: bool) -> Got {
    let mut ports = vec![port("stt", false), port("agent", true)];
    ports.extend(wedged.then(|| port("wedged", false)));
    let mut rig = Rig::with("twilio", |config| {
        let barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
        let keep = Duration::from_secs(1);
        config.routes = Route { keep, barge_in, ..Route::to(ports) }.into();
    });
    rig.ready(0, &Ready { want: vec!["dtmf".into(), "vad".into()], ..listens(16_000) });
    rig.ready(1, &Ready { want: vec!["playback".into()], ..speaks(Pace::Clip) });
    if wedged {
        rig.ready(
            2,
            &Ready { want: vec!["dtmf".into(), "vad".into(), "text".into()], ..listens(48_000) },
        );
    }
    let (mut heard, mut refused) = (Vec::new(), 0);
    for frame in 0..300 {
        rig.speak(&ramp(frame));
        heard.extend(rig.frames(0));
        if frame % 50 == 7 {
            rig.play(1, &vec![1_000; 8_000]);
            rig.command(Command::Dtmf(provider::Digit::new('7').expect("a key")));
        }
        if frame % 50 == 20 {
            let at_ms = 20 * frame as u64;
            let vad = Vad { track: 0, state: VadState::Speech, at_ms, probability: None };
            rig.say(0, &FromModule::Vad(vad));
            rig.say(0, &transcript("words"));
        }
        for (_, message) in rig.told.extract_if(.., |(port, _)| *port == 2).collect::<Vec<_>>() {
            rig.session.message_refused(rig.at(), PortId(2), &message);
            refused += 1;
        }
        rig.run(20);
    }
    assert_eq!(refused > 0, wedged);
    let told = std::mem::take(&mut rig.told);
    let played = std::mem::take(&mut rig.played);
    rig.command(Command::Hangup);
    rig.finish();
    Got { heard, played, told }
}

#[test]
fn beside_a_module_that_never_reads_the_others_hear_and_say_the_very_same() {
    let (alone, beside) = (beside(false), beside(true));
    assert_eq!(alone.heard.len(), 300, "each frame is heard");
    assert!(!alone.played.is_empty() && alone.told.len() > 12, "there is something to compare");
    assert!(alone == beside, "what a wedged module does not read is felt by others");
}

/// What a module accepts is its own word, and none that the call believes.
#[test]
fn a_module_that_accepts_what_cannot_be_is_let_go() {
    let input = |frame_ms| Accept {
        input: Some(AcceptIn { frame_ms, ..AcceptIn::pcm(8_000) }),
        framing: Framing::Hdr16,
        ..Accept::default()
    };
    let of = |tracks: &[u16]| Accept { tracks: tracks.to_vec(), ..input(20) };
    for (accept, why) in [
        (input(4), "frame_ms is 4"),
        (input(1_001), "frame_ms is 1001"),
        (Accept { input: Some(AcceptIn::pcm(1)), ..input(20) }, "accept.in.rate is 1 Hz"),
        (of(&[7]), "names track 7"),
        (of(&[0, 0]), "names a track twice"),
        (Accept { framing: Framing::Raw, ..of(&[0, 1]) }, "raw framing carries one track"),
    ] {
        let mut rig = Rig::new("twilio", vec![port("tap", false)]);
        rig.ready(0, &Ready { accept, ..Ready::default() });
        assert_eq!(rig.dropped_modules, [0], "{why}");
        let told = rig.reports.iter().any(
            |report| matches!(report, Report::ModuleFailed { reason, .. } if reason.contains(why)),
        );
        assert!(told, "{why}: {:?}", rig.reports);
        rig.command(Command::Hangup);
        rig.finish();
    }
}

#[test]
fn a_module_that_acknowledges_what_it_was_not_given_resumes_behind_what_it_was() {
    let mut rig = Rig::new("twilio", vec![port("tap", false)]);
    rig.ready(0, &listens(8_000));
    for frame in 0..50 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    let heard = rig.frames(0).len() as u64 * 20;
    rig.say(0, &FromModule::Ack { in_ms: 3_600_000, lag_ms: None });
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    let from_ms = rig.started[&0].resume.clone().expect("resumes").from_ms;
    assert!(from_ms <= heard, "from {from_ms} ms, and was given {heard}");
    rig.command(Command::Hangup);
    rig.finish();
}

/// A provider's clock may be wrong: the silence in front of a track is no longer than ours makes likely.
#[test]
fn a_track_whose_stamps_run_far_ahead_begins_ten_seconds_ahead_of_our_clock_at_most() {
    let dial = Dial { tracks: vec![Track::Inbound, Track::Outbound], ..Dial::default() };
    let mut rig = Rig::dialled("twilio", dial, |config| {
        config.routes = keeping(Duration::from_secs(60), vec![port("recorder", false)]);
    });
    let accept =
        Accept { tracks: vec![1], framing: Framing::Hdr16, ..listens(8_000).accept.clone() };
    rig.ready(0, &Ready { accept, ..Ready::default() });
    let media = |track: &str, ms: u64| {
        let payload = "/".repeat(213) + "w==";
        format!(
            r#"{{"event":"media","sequenceNumber":"3","streamSid":"MZ17","media":{{"track":"{track}","chunk":"1","timestamp":"{ms}","payload":"{payload}"}}}}"#
        )
    };
    rig.run(100);
    rig.session.handle_message(rig.at(), Message::Text(&media("inbound", 0)));
    rig.run(500);
    rig.session.handle_message(rig.at(), Message::Text(&media("outbound", 3_600_000)));
    rig.exchange();
    let end = rig.frames(0).last().map(|(pts, samples)| pts + samples.len() as u64);
    assert_eq!(end, Some(10_520 * 8), "half a second after the other track, ten ahead, and 20 ms");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_is_ready_once_and_what_it_says_of_it_later_changes_nothing() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    for frame in 0..10 {
        rig.speak(&ramp(frame));
    }
    assert_eq!(rig.frames(0).len(), 10);
    rig.ready(0, &listens(16_000));
    rig.speak(&ramp(10));
    let frames = rig.frames(0);
    let place: Vec<_> = frames.iter().map(|(pts, samples)| (*pts, samples.len())).collect();
    assert_eq!(place, [(10 * 160, 160)], "at the rate it agreed to, and where it was");
    let ready = |report: &&Report| **report == Report::ModuleReady(PortId(0));
    assert_eq!(rig.reports.iter().filter(ready).count(), 1);
    rig.command(Command::Hangup);
    rig.finish();
}
