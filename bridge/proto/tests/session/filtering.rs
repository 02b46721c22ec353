//! Filters of the caller's sound: heard by everybody in its place, by position, within a budget, and never in anybody's way.

use ringback_proto::media::filter::Bypass;

use super::*;

/// What a filter makes of a frame here.
fn filtered(samples: &[i16]) -> Vec<i16> {
    samples.iter().map(|sample| sample / 2 + 1).collect()
}

fn filter(name: &str) -> PortConfig {
    PortConfig { kind: Kind::Filter, ..PortConfig::listening(name) }
}

/// Hears and answers at the same rate.
fn answers(frame_ms: u32) -> Ready {
    let input = AcceptIn { frame_ms, ..AcceptIn::pcm(8_000) };
    let output = Some(AcceptOut::pcm(8_000));
    Ready { accept: Accept { input: Some(input), output, ..Accept::default() }, ..Ready::default() }
}

/// A call with a filter and a module that hears what comes out of it; both are ready.
fn rig() -> Rig {
    let mut rig = Rig::new("twilio", vec![filter("denoise"), port("ears", false)]);
    rig.ready(0, &answers(20));
    rig.ready(1, &listens(8_000));
    rig
}

fn answer(rig: &mut Rig, port: usize, at: Option<u64>, samples: &[i16]) {
    rig.session.filter_audio(rig.at(), PortId(port), at, samples);
    rig.exchange();
}

/// Answers all that a filter was given.
fn work(rig: &mut Rig, port: usize) -> usize {
    let frames = rig.frames(port);
    for (_, samples) in &frames {
        answer(rig, port, None, &filtered(samples));
    }
    frames.len()
}

/// The sound that was said in frames `from..to`, as it was.
fn said(from: usize, to: usize) -> Vec<i16> {
    let frames = (from..to).flat_map(ramp);
    frames.map(ringback_codecs::g711::mu_to_linear).collect()
}

/// All that a module hears, which has no holes.
fn heard(rig: &mut Rig, port: usize) -> Vec<i16> {
    let mut all = Vec::new();
    for (pts, samples) in rig.frames(port) {
        assert!(all.is_empty() || pts.is_multiple_of(160));
        all.extend(samples);
    }
    all
}

fn hang_up(mut rig: Rig) -> Summary {
    rig.command(Command::Hangup);
    rig.finish()
}

fn lost(summary: &Summary, hop: &str) -> Vec<(Reason, u64)> {
    summary.ledger.hop(hop).expect("accounted").dropped.clone()
}

#[test]
fn a_filter_is_offered_the_callers_sound_both_ways_at_the_tracks_own_rate() {
    let rig = Rig::new("twilio", vec![filter("denoise")]);
    let start = &rig.started[&0];
    assert_eq!(start.kind, Kind::Filter);
    let rates = |formats: &[ringback_module::message::AudioFormat]| -> Vec<u32> {
        formats.iter().map(|format| format.rate).collect()
    };
    assert_eq!(rates(&start.offer.input), [8_000, 8_000], "linear and companded");
    assert_eq!(start.offer.input, start.offer.output);
    assert_eq!(start.offer.tracks.len(), 1);
    assert!(!start.offer.features.iter().any(|feature| feature == "clear"));
}

#[test]
fn what_is_answered_at_once_is_heard_by_everybody_at_once() {
    let mut rig = rig();
    for frame in 0..50 {
        rig.speak(&ramp(frame));
        assert_eq!(work(&mut rig, 0), 1);
        assert_eq!(heard(&mut rig, 1), filtered(&said(frame, frame + 1)));
        rig.run(20);
    }
    let summary = hang_up(rig);
    assert_eq!(lost(&summary, "filter.denoise"), []);
    assert_eq!(summary.ledger.hop("filter.denoise").expect("accounted").left, 8_000);
    assert_eq!(summary.modules[0].bypassed, []);
}

#[test]
fn what_is_not_answered_in_time_passes_as_it_was_and_a_late_answer_is_dropped() {
    let mut rig = rig();
    rig.speak(&ramp(0));
    let late = rig.frames(0);
    rig.run(19);
    assert!(heard(&mut rig, 1).is_empty(), "it still waits");
    rig.run(1);
    assert_eq!(heard(&mut rig, 1), said(0, 1));
    answer(&mut rig, 0, None, &filtered(&late[0].1));
    assert!(heard(&mut rig, 1).is_empty());
    rig.speak(&ramp(1));
    rig.run(10);
    work(&mut rig, 0);
    assert_eq!(heard(&mut rig, 1), filtered(&said(1, 2)));
    let told = Report::Bypassed { port: PortId(0), why: Bypass::Late, count: 160 };
    assert!(rig.reports.contains(&told), "told once it is filtered again");
    assert!(rig.reports.contains(&Report::Dropped { reason: Reason::Late, count: 160 }));
    let summary = hang_up(rig);
    assert_eq!(lost(&summary, "filter.denoise"), [(Reason::BypassedLate, 160)]);
    assert_eq!(lost(&summary, "filter.denoise.answers"), [(Reason::Late, 160)]);
    assert_eq!(summary.modules[0].bypassed, [(Bypass::Late, 20)]);
}

#[test]
fn answers_are_placed_by_their_position_and_not_by_when_they_come() {
    let mut rig = rig();
    rig.speak(&ramp(0));
    rig.speak(&ramp(1));
    rig.speak(&ramp(2));
    let frames = rig.frames(0);
    for place in [2, 1] {
        answer(&mut rig, 0, Some(frames[place].0), &filtered(&frames[place].1));
        assert!(heard(&mut rig, 1).is_empty(), "the first is missing");
    }
    answer(&mut rig, 0, Some(0), &filtered(&frames[0].1));
    assert_eq!(heard(&mut rig, 1), filtered(&said(0, 3)));
    // An answer is taken once, and none for what was not said.
    rig.speak(&ramp(3));
    rig.speak(&ramp(4));
    answer(&mut rig, 0, Some(640), &[7; 160]);
    answer(&mut rig, 0, Some(640), &[8; 160]);
    answer(&mut rig, 0, Some(800), &[9; 160]);
    rig.run(20);
    assert_eq!(heard(&mut rig, 1), [said(3, 4), vec![7; 160]].concat());
    let summary = hang_up(rig);
    let dropped = [(Reason::Early, 160), (Reason::Duplicate, 160)];
    assert_eq!(lost(&summary, "filter.denoise.answers"), dropped);
}

#[test]
fn several_filter_one_after_the_other() {
    let ports = vec![filter("first"), port("ears", false), filter("second")];
    let mut rig = Rig::new("twilio", ports);
    for (place, ready) in [answers(20), listens(8_000), answers(20)].iter().enumerate() {
        rig.ready(place, ready);
    }
    rig.speak(&ramp(0));
    assert!(rig.frames(2).is_empty(), "the second hears what the first made");
    work(&mut rig, 0);
    work(&mut rig, 2);
    assert_eq!(heard(&mut rig, 1), filtered(&filtered(&said(0, 1))));
    rig.run(20);
    // Each has a budget of its own.
    rig.speak(&ramp(1));
    rig.run(15);
    work(&mut rig, 0);
    rig.run(15);
    work(&mut rig, 2);
    assert_eq!(heard(&mut rig, 1), filtered(&filtered(&said(1, 2))));
    // One that is gone is in nobody's way.
    rig.session.module_gone(rig.at(), PortId(0), Some("broken".into()));
    rig.speak(&ramp(2));
    work(&mut rig, 2);
    assert_eq!(heard(&mut rig, 1), filtered(&said(2, 3)));
    let summary = hang_up(rig);
    assert_eq!(lost(&summary, "filter.first"), [(Reason::BypassedDown, 160)]);
    assert_eq!(lost(&summary, "filter.second"), []);
}

#[test]
fn a_filter_that_breaks_is_bypassed_at_once_until_it_is_back() {
    let mut rig = rig();
    for frame in 0..5 {
        rig.speak(&ramp(frame));
        work(&mut rig, 0);
        rig.run(20);
    }
    rig.speak(&ramp(5));
    assert_eq!(rig.frames(0).len(), 1);
    rig.session.module_down(rig.at(), PortId(0), "killed");
    assert_eq!(heard(&mut rig, 1)[5 * 160..], said(5, 6), "what it had passes when it breaks");
    for frame in 6..60 {
        rig.run(20);
        rig.speak(&ramp(frame));
        assert_eq!(heard(&mut rig, 1), said(frame, frame + 1), "and the rest when it comes");
    }
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    let resume = rig.started[&0].resume.clone().expect("told where it goes on");
    assert_eq!(resume.from_ms, 1_200, "where the call is, for an answer to more would be late");
    rig.ready(0, &answers(20));
    rig.speak(&ramp(60));
    assert_eq!(work(&mut rig, 0), 1);
    assert_eq!(heard(&mut rig, 1), filtered(&said(60, 61)));
    let seconds = |why: Bypass| -> Vec<u64> {
        let bypassed = rig.reports.iter().filter_map(|report| match report {
            Report::Bypassed { why: w, count, .. } if *w == why => Some(*count),
            _ => None,
        });
        bypassed.collect()
    };
    assert_eq!(seconds(Bypass::Failed), [160]);
    assert_eq!(seconds(Bypass::Down).iter().sum::<u64>(), 54 * 160);
    assert_eq!(seconds(Bypass::Down).len(), 2, "told of each second, not of each frame");
    let summary = hang_up(rig);
    let bypassed = [(Bypass::Failed, 20), (Bypass::Down, 54 * 20)];
    assert_eq!(summary.modules[0].bypassed, bypassed);
}

#[test]
fn a_filter_that_is_ready_late_delays_nothing_and_begins_where_the_call_is() {
    for (placed, credit) in [(true, None), (false, None), (false, Some(ReadyCredit { in_ms: 200 }))]
    {
        begins_where_the_call_is(placed, credit);
    }
}

fn begins_where_the_call_is(placed: bool, credit: Option<ReadyCredit>) {
    let mut rig = Rig::new("twilio", vec![filter("slow"), port("ears", false)]);
    rig.ready(1, &listens(8_000));
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        assert_eq!(heard(&mut rig, 1), said(frame, frame + 1));
        rig.run(20);
    }
    rig.ready(0, &Ready { credit, ..answers(20) });
    assert_eq!(rig.frames(0), [], "an answer to any of it would be late");
    for frame in 100..105 {
        rig.speak(&ramp(frame));
        let frames = rig.frames(0);
        answer(&mut rig, 0, placed.then_some(frames[0].0), &filtered(&frames[0].1));
        assert_eq!(heard(&mut rig, 1), filtered(&said(frame, frame + 1)));
        rig.run(20);
    }
    let summary = hang_up(rig);
    assert_eq!(lost(&summary, "filter.slow"), [(Reason::BypassedDown, 16_000)]);
    assert_eq!(lost(&summary, "filter.slow.answers"), []);
}

#[test]
fn a_long_frame_waits_for_its_end_and_then_for_its_answer() {
    let mut rig = Rig::new("twilio", vec![filter("slow"), port("ears", false)]);
    rig.ready(0, &answers(60));
    rig.ready(1, &listens(8_000));
    for frame in 0..3 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.speak(&ramp(3));
    assert_eq!(heard(&mut rig, 1), said(0, 3), "not answered 20 ms after its end");
    for frame in 4..6 {
        rig.run(20);
        rig.speak(&ramp(frame));
    }
    let frames = rig.frames(0);
    assert_eq!(frames.len(), 2);
    answer(&mut rig, 0, Some(480), &filtered(&frames[1].1));
    assert_eq!(heard(&mut rig, 1), filtered(&said(3, 6)));
    // The caller's stream stands still in the middle of a frame.
    rig.speak(&ramp(6));
    rig.run(79);
    assert!(heard(&mut rig, 1).is_empty());
    rig.run(1);
    assert_eq!(heard(&mut rig, 1), said(6, 7));
    hang_up(rig);
}

#[test]
fn a_filter_that_takes_another_rate_or_answers_nothing_is_told_so_and_let_go() {
    for ready in [listens(8_000), speaks(Pace::Clip), listens(16_000)] {
        let mut rig = Rig::new("twilio", vec![filter("odd")]);
        let output = ready.accept.output.map(|_| AcceptOut::pcm(16_000));
        let accept = Accept { output, ..ready.accept };
        rig.ready(0, &Ready { accept, ..ready });
        assert_eq!(rig.dropped_modules, [0]);
        let why = "a filter answers each frame with a frame: accept `in` and `out` at 8000 Hz";
        assert!(rig.reports.iter().any(|report| matches!(
            report,
            Report::ModuleFailed { reason, .. } if reason.starts_with(why)
        )));
        hang_up(rig);
    }
}

#[test]
fn a_filter_that_is_given_up_is_followed_by_another() {
    let first = PortConfig { on_fail: OnFail::Fallback(PortId(2)), ..filter("first") };
    let second = PortConfig { standby: true, ..filter("second") };
    let mut rig = Rig::new("twilio", vec![first, port("ears", false), second]);
    rig.ready(0, &answers(20));
    rig.ready(1, &listens(8_000));
    rig.speak(&ramp(0));
    work(&mut rig, 0);
    rig.session.module_gone(rig.at(), PortId(0), Some("broken".into()));
    rig.exchange();
    rig.speak(&ramp(1));
    rig.ready(2, &answers(20));
    rig.speak(&ramp(2));
    assert_eq!(work(&mut rig, 2), 2);
    let expected = [filtered(&said(0, 1)), said(1, 2), filtered(&said(2, 3))];
    assert_eq!(heard(&mut rig, 1), expected.concat());
    let summary = hang_up(rig);
    assert_eq!(lost(&summary, "filter.first"), [(Reason::BypassedDown, 160)]);
}

#[test]
fn what_still_waits_at_the_end_passes_and_answers_after_it_are_dropped() {
    let mut rig = rig();
    rig.speak(&ramp(0));
    rig.command(Command::Hangup);
    assert_eq!(heard(&mut rig, 1), said(0, 1));
    let frames = rig.frames(0);
    answer(&mut rig, 0, None, &filtered(&frames[0].1));
    let summary = rig.finish();
    assert_eq!(lost(&summary, "filter.denoise"), [(Reason::CallEnded, 160)]);
    assert_eq!(lost(&summary, "module.denoise.out"), [(Reason::AfterEnd, 160)]);
}

#[test]
fn whatever_a_filter_answers_everybody_hears_each_sample_once_as_it_was_or_filtered() {
    for seed in 1..=30_u64 {
        let mut state = seed;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut rig = Rig::with("twilio", |config| {
            let budget = Duration::from_millis(1 + seed % 60);
            let filter = PortConfig { budget, ..filter("odd") };
            config.routes = Route::to(vec![filter, port("ears", false)]).into();
        });
        rig.ready(0, &answers([10, 20, 40][seed as usize % 3]));
        rig.ready(1, &listens(8_000));
        let (mut waiting, mut all) = (Vec::new(), Vec::new());
        for frame in 0..100 {
            rig.speak(&ramp(frame));
            waiting.extend(rig.frames(0));
            while !waiting.is_empty() && next(3) > 0 {
                let (pts, samples) = waiting.remove(next(waiting.len() as u64) as usize);
                match next(8) {
                    0 => {}
                    1 => answer(&mut rig, 0, Some(pts + 40), &filtered(&samples[40..])),
                    2 => {
                        answer(
                            &mut rig,
                            0,
                            Some(pts + next(100_000)),
                            &vec![12_345; samples.len()],
                        );
                    }
                    _ => answer(&mut rig, 0, Some(pts), &filtered(&samples)),
                }
            }
            rig.run(next(40));
            all.extend(heard(&mut rig, 1));
        }
        rig.run(200);
        all.extend(heard(&mut rig, 1));
        let was = said(0, 100);
        assert_eq!(all.len(), was.len(), "seed {seed}");
        for (at, ((heard, said), made)) in all.iter().zip(&was).zip(filtered(&was)).enumerate() {
            assert!([*said, made, 12_345].contains(heard), "seed {seed}: {heard} at {at}");
        }
        let summary = hang_up(rig);
        let hop = summary.ledger.hop("filter.odd").expect("accounted");
        assert_eq!(hop.entered, 100 * 160);
    }
}

#[test]
fn a_position_beyond_all_counting_is_an_answer_to_nothing() {
    let mut rig = rig();
    rig.speak(&ramp(0));
    answer(&mut rig, 0, Some(u64::MAX - 1), &[7; 160]);
    answer(&mut rig, 0, None, &[8; 160]);
    answer(&mut rig, 0, Some(0), &filtered(&said(0, 1)));
    assert_eq!(heard(&mut rig, 1), filtered(&said(0, 1)));
    assert_eq!(lost(&hang_up(rig), "filter.denoise.answers"), [(Reason::Early, 320)]);
}

#[test]
fn a_filter_that_follows_another_has_its_own_time_to_answer() {
    let first = PortConfig { on_fail: OnFail::Fallback(PortId(2)), ..filter("first") };
    let budget = Duration::from_millis(100);
    let second = PortConfig { standby: true, budget, ..filter("second") };
    let mut rig = Rig::new("twilio", vec![first, port("ears", false), second]);
    rig.ready(0, &answers(20));
    rig.ready(1, &listens(8_000));
    rig.session.module_gone(rig.at(), PortId(0), Some("crashed too often".into()));
    rig.exchange();
    rig.ready(2, &answers(20));
    rig.speak(&ramp(0));
    rig.run(90);
    assert!(heard(&mut rig, 1).is_empty(), "it is still waited for");
    work(&mut rig, 2);
    assert_eq!(heard(&mut rig, 1), filtered(&said(0, 1)));
    hang_up(rig);
}
