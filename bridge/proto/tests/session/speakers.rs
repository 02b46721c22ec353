//! Several modules that speak on one call: mixed or in turns, each with its own queue, marks, clears and account.

use ringback_module::message::{Playback, PlaybackState};
use ringback_proto::media::mixer::WhenBoth;

use super::*;

/// Two speakers on a provider, both ready.
fn two(provider: &str, when_both: WhenBoth) -> Rig {
    let mut rig = Rig::with(provider, |config| {
        let ports = vec![port("agent", true), port("music", true)];
        config.routes = Route { when_both, ..Route::to(ports) }.into();
    });
    let want = vec!["playback".to_owned()];
    for port in 0..2 {
        rig.ready(port, &Ready { want: want.clone(), ..speaks(Pace::Clip) });
    }
    rig
}

/// What the provider was sent, decoded.
fn heard(rig: &Rig) -> Vec<i16> {
    rig.played.iter().map(|&code| ringback_codecs::g711::mu_to_linear(code)).collect()
}

/// A sample as it comes back from mu-law.
fn coded(sample: i16) -> i16 {
    let mut codes = Vec::new();
    ringback_codecs::g711::Law::Mu.encode(&[sample], &mut codes);
    ringback_codecs::g711::mu_to_linear(codes[0])
}

/// Runs of equal samples, and how long each is.
fn runs(samples: &[i16]) -> Vec<(i16, usize)> {
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for &sample in samples {
        match runs.last_mut() {
            Some((last, count)) if *last == sample => *count += 1,
            _ => runs.push((sample, 1)),
        }
    }
    runs
}

fn end(rig: &mut Rig, port: usize) {
    rig.say(port, &FromModule::AudioEnd { epoch: None });
}

fn mark(rig: &mut Rig, port: usize, name: &str) {
    rig.say(port, &FromModule::Mark { name: name.into() });
}

/// Marks told to a module: name, fate, ms heard.
fn marks(rig: &Rig, port: usize) -> Vec<(&str, MarkStatus, u64)> {
    let told = rig.told.iter().filter(|(to, _)| *to == port);
    let marks = told.filter_map(|(_, message)| match message {
        ToModule::Mark(mark) => Some((mark.name.as_str(), mark.status, mark.played_ms)),
        _ => None,
    });
    marks.collect()
}

fn cleared(rig: &Rig, port: usize) -> Vec<(u32, u64, u64)> {
    let told = rig.told.iter().filter(|(to, _)| *to == port);
    let cleared = told.filter_map(|(_, message)| match message {
        ToModule::Cleared(c) => Some((c.epoch, c.played_ms, c.discarded_ms)),
        _ => None,
    });
    cleared.collect()
}

fn states(rig: &Rig, port: usize) -> Vec<(PlaybackState, u64)> {
    let told = rig.told.iter().filter(|(to, _)| *to == port);
    let states = told.filter_map(|(_, message)| match message {
        ToModule::Playback(Playback { state, played_ms, .. }) => Some((*state, *played_ms)),
        _ => None,
    });
    states.collect()
}

fn hang_up(mut rig: Rig) -> Summary {
    rig.command(Command::Hangup);
    rig.finish()
}

#[test]
fn two_are_heard_at_the_same_time_as_loud_as_samples_can_be() {
    let mut rig = two("twilio", WhenBoth::Mix);
    rig.play(0, &[1_000; 3_200]);
    end(&mut rig, 0);
    rig.play(1, &[2_000; 800]);
    end(&mut rig, 1);
    rig.run(1_000);
    // What was sent ahead when the second began was the first alone.
    let lead = 1_600;
    let quiet = coded(1_000);
    assert_eq!(runs(&heard(&rig)), [(quiet, lead), (coded(3_000), 800), (quiet, 800)]);
    let from = heard(&rig).len();
    rig.play(0, &[-32_000; 3_200]);
    rig.play(1, &[-32_000; 1_600]);
    end(&mut rig, 1);
    rig.run(1_000);
    assert!(heard(&rig)[from..].iter().all(|&sample| sample <= coded(-32_000)));
    let total = heard(&rig).len() as u64;
    let summary = hang_up(rig);
    let account = |name: &str| summary.ledger.hop(name).expect("accounted").left;
    assert_eq!((account("voice.agent"), account("voice.music")), (6_400, 2_400));
    assert_eq!(account("playout"), total);
}

#[test]
fn a_clear_by_one_drops_its_own_and_the_other_is_heard_to_the_end() {
    let mut rig = two("twilio", WhenBoth::Mix);
    rig.play(1, &[2_000; 8_000]);
    end(&mut rig, 1);
    mark(&mut rig, 1, "song");
    rig.run(400);
    rig.play(0, &[1_000; 8_000]);
    rig.run(300);
    let before = heard(&rig).len();
    rig.say(0, &FromModule::Clear { epoch: Some(0) });
    assert!(rig.far_events.contains(&Event::ClearRequested));
    let (epoch, played, discarded) = cleared(&rig, 0)[0];
    assert_eq!((epoch, played + discarded), (0, 1_000), "{played} were heard");
    // It began behind the 200 ms that were under way.
    assert!((80..=120).contains(&played), "{played}");
    assert!(cleared(&rig, 1).is_empty());
    rig.run(1_000);
    // What was sent and not heard was sent again, without the first.
    let again = runs(&heard(&rig)[before..]);
    assert_eq!(again, [(coded(2_000), 8 * 300)]);
    assert_eq!(marks(&rig, 1), [("song", MarkStatus::Played, 1_000)]);
    assert_eq!(states(&rig, 1), [(PlaybackState::Started, 0), (PlaybackState::Idle, 1_000)]);
    // The first goes on in its next epoch, the other in the one that it was in.
    let now = rig.at();
    rig.session.module_audio(now, PortId(0), Epoch::Numbered(0), &[3; 160]);
    rig.session.module_audio(now, PortId(0), Epoch::Numbered(1), &[3; 160]);
    rig.session.module_audio(now, PortId(1), Epoch::Numbered(0), &[3; 160]);
    rig.exchange();
    rig.run(100);
    let summary = hang_up(rig);
    let stale = &summary.ledger.hop("module.agent.out").expect("accounted").dropped;
    assert_eq!(*stale, [(Reason::Stale, 160)]);
    let hop = summary.ledger.hop("voice.agent").expect("accounted");
    assert_eq!(hop.dropped, [(Reason::Cleared, 8 * discarded)]);
    assert_eq!(summary.ledger.hop("voice.music").expect("accounted").lost(), 0);
}

#[test]
fn speech_of_the_caller_clears_them_all() {
    let mut rig = Rig::with("twilio", |config| {
        let barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
        let mut ports = vec![port("agent", true), port("music", true), port("vad", false)];
        ports.push(PortConfig { kind: Kind::Text, ..PortConfig::listening("words") });
        config.routes = Route { barge_in, ..Route::to(ports) }.into();
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &speaks(Pace::Clip));
    rig.ready(2, &listens(8_000));
    rig.ready(3, &Ready::default());
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 8_000]);
    rig.play(1, &[2_000; 16_000]);
    mark(&mut rig, 1, "never");
    rig.run(500);
    let vad = Vad { track: 0, state: VadState::Speech, at_ms: 520, probability: None };
    rig.say(2, &FromModule::Vad(vad));
    rig.run(150);
    let clears = rig.far_events.iter().filter(|event| **event == Event::ClearRequested).count();
    assert_eq!(clears, 1);
    let (first, second) = (cleared(&rig, 0), cleared(&rig, 1));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].1, second[0].1 + 200, "the second began behind what was under way");
    assert_eq!((first[0].1 + first[0].2, second[0].1 + second[0].2), (1_000, 2_000));
    assert_eq!(marks(&rig, 1), [("never", MarkStatus::Cleared, second[0].1)]);
    // Whoever may clear them all knows how often that was done.
    assert_eq!(cleared(&rig, 3).iter().map(|c| c.0).collect::<Vec<_>>(), [0]);
    rig.play(0, &[1_000; 800]);
    rig.run(50);
    rig.say(3, &FromModule::Clear { epoch: Some(1) });
    assert_eq!((cleared(&rig, 0).len(), cleared(&rig, 1).len()), (2, 2));
    hang_up(rig);
}

#[test]
fn in_turns_an_utterance_waits_until_the_one_before_it_was_played() {
    let mut rig = two("twilio", WhenBoth::Queue);
    rig.play(0, &[1_000; 800]);
    rig.play(1, &[2_000; 1_234]);
    end(&mut rig, 1);
    mark(&mut rig, 1, "second");
    rig.run(50);
    // The first goes on with what it had begun, and has something else to say then.
    rig.play(0, &[1_000; 800]);
    end(&mut rig, 0);
    mark(&mut rig, 0, "first");
    rig.play(0, &[3_000; 400]);
    end(&mut rig, 0);
    rig.run(1_000);
    let expected = [(coded(1_000), 1_600), (coded(2_000), 1_234), (coded(3_000), 400)];
    assert_eq!(runs(&heard(&rig)), expected);
    assert_eq!(marks(&rig, 0), [("first", MarkStatus::Played, 200)]);
    assert_eq!(marks(&rig, 1), [("second", MarkStatus::Played, 154)]);
    hang_up(rig);
}

#[test]
fn whose_turn_it_is_loses_it_who_says_nothing_for_half_a_second() {
    let mut rig = two("twilio", WhenBoth::Queue);
    rig.play(0, &[1_000; 160]);
    rig.run(100);
    rig.play(1, &[2_000; 160]);
    rig.run(350);
    assert_eq!(runs(&heard(&rig)), [(coded(1_000), 160)]);
    rig.run(60);
    assert_eq!(runs(&heard(&rig)), [(coded(1_000), 160), (coded(2_000), 160)]);
    hang_up(rig);
}

#[test]
fn what_waits_has_a_bound_and_what_is_over_it_is_counted() {
    let mut rig = Rig::with("twilio", |config| {
        let when_both = WhenBoth::Queue;
        config.playout.max_queue = Duration::from_secs(1);
        let ports = vec![port("agent", true), port("music", true)];
        config.routes = Route { when_both, ..Route::to(ports) }.into();
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &speaks(Pace::Clip));
    rig.play(0, &[1_000; 4_000]);
    rig.play(1, &[2_000; 9_000]);
    rig.run(100);
    let overflow = Report::Dropped { reason: Reason::Overflow, count: 1_000 };
    assert!(rig.reports.contains(&overflow));
    let summary = hang_up(rig);
    let hop = summary.ledger.hop("voice.music").expect("accounted");
    assert_eq!(hop.dropped, [(Reason::Overflow, 1_000), (Reason::CallEnded, 8_000)]);
}

#[test]
fn one_that_is_held_waits_where_it_was_and_the_other_goes_on() {
    let mut rig = two("twilio", WhenBoth::Mix);
    rig.play(0, &[1_000; 4_000]);
    end(&mut rig, 0);
    rig.play(1, &[2_000; 8_000]);
    end(&mut rig, 1);
    rig.run(260);
    let sent = heard(&rig).len();
    rig.say(0, &FromModule::Pause);
    rig.run(300);
    let held = runs(&heard(&rig)[sent..]);
    assert_eq!(held[0].0, coded(2_000), "{held:?}");
    assert_eq!(held.len(), 1, "{held:?}");
    rig.say(0, &FromModule::Resume);
    mark(&mut rig, 0, "all");
    rig.run(1_500);
    assert_eq!(marks(&rig, 0), [("all", MarkStatus::Played, 500)]);
    let at = states(&rig, 0);
    assert!(matches!(at[1], (PlaybackState::Paused, 255..=265)), "{at:?}");
    let summary = hang_up(rig);
    assert_eq!(summary.ledger.hop("voice.agent").expect("accounted").lost(), 0);
}

#[test]
fn on_a_stream_that_can_drop_nothing_a_clear_drops_what_was_not_mixed_yet() {
    let can = provider::find("infobip").expect("one of the table").capabilities();
    assert_eq!(can.clear, provider::ClearLaw::Unsupported);
    let mut rig = two("infobip", WhenBoth::Mix);
    rig.play(0, &[1_000; 8_000]);
    rig.play(1, &[2_000; 8_000]);
    mark(&mut rig, 1, "song");
    rig.run(300);
    rig.say(0, &FromModule::Clear { epoch: None });
    let (_, played, discarded) = cleared(&rig, 0)[0];
    assert_eq!(played + discarded, 1_000);
    rig.run(2_000);
    assert_eq!(marks(&rig, 1), [("song", MarkStatus::Played, 1_000)]);
    hang_up(rig);
}

#[test]
fn a_follower_speaks_in_the_voice_of_whom_it_follows() {
    let mut rig = Rig::with("twilio", |config| {
        let first = PortConfig { on_fail: OnFail::Fallback(PortId(2)), ..port("agent", true) };
        let second = PortConfig { standby: true, ..port("second", true) };
        config.routes = Route::to(vec![first, port("music", true), second]).into();
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &speaks(Pace::Clip));
    rig.play(0, &[1_000; 800]);
    rig.say(0, &FromModule::Clear { epoch: None });
    rig.session.module_gone(rig.at(), PortId(0), Some("broken".into()));
    rig.exchange();
    assert_eq!(rig.started[&2].resume.as_ref().map(|resume| resume.epoch), Some(1));
    rig.ready(2, &speaks(Pace::Clip));
    rig.play(2, &[3_000; 800]);
    end(&mut rig, 2);
    rig.run(500);
    assert!(heard(&rig).contains(&coded(3_000)));
    let summary = hang_up(rig);
    let hop = summary.ledger.hop("voice.agent").expect("accounted");
    assert_eq!((hop.entered, hop.left, hop.lost()), (1_600, 800, 800));
}

/// A number that follows from the one before it, for runs that can be had again.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn whatever_two_speakers_do_each_mark_has_one_fate_and_all_sound_adds_up() {
    for seed in 1..=24 {
        let when_both = if seed % 2 == 0 { WhenBoth::Mix } else { WhenBoth::Queue };
        let provider = ["twilio", "asterisk", "infobip"][seed as usize % 3];
        let mut rig = two(provider, when_both);
        let (mut state, mut set) = (seed, [0, 0]);
        for _ in 0..60 {
            let port = next(&mut state, 2) as usize;
            match next(&mut state, 12) {
                0 => rig.say(port, &FromModule::Clear { epoch: None }),
                1 => rig.say(port, &FromModule::Pause),
                2 | 3 => rig.say(port, &FromModule::Resume),
                4 | 5 => end(&mut rig, port),
                6 | 7 => {
                    mark(&mut rig, port, &set[port].to_string());
                    set[port] += 1;
                }
                _ => rig.play(port, &vec![500; next(&mut state, 3_000) as usize]),
            }
            rig.run(next(&mut state, 60));
        }
        for port in 0..2 {
            rig.say(port, &FromModule::Resume);
            end(&mut rig, port);
        }
        rig.run(30_000);
        for (port, set) in set.into_iter().enumerate() {
            let told: Vec<_> = marks(&rig, port).into_iter().map(|mark| mark.0).collect();
            let all: Vec<_> = (0..set).map(|name: u32| name.to_string()).collect();
            assert_eq!(told, all, "seed {seed}, module {port}");
        }
        let summary = hang_up(rig);
        let queued = summary.ledger.hops.iter().flat_map(|hop| &hop.dropped);
        let left: Vec<_> = queued.filter(|(reason, _)| *reason == Reason::CallEnded).collect();
        assert!(left.is_empty(), "seed {seed}: all of it was to be played: {left:?}");
    }
}
