//! Calls that lose their stream, and go on with another.

use ringback_module::message::Gap;
use ringback_proto::provider::Start;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn may_return(ports: Vec<PortConfig>) -> impl FnOnce(&mut SessionConfig) {
    |config| {
        config.routes = Route::to(ports).into();
        config.reattach = Some(WINDOW);
    }
}

fn rig(provider: &str, ports: Vec<PortConfig>) -> Rig {
    Rig::with(provider, may_return(ports))
}

impl Rig {
    fn lose(&mut self) {
        self.session.handle_lost(self.at(), "cut".into());
        self.exchange();
    }

    /// The provider opens another stream for the call, which the call goes on with.
    fn return_by(&mut self, provider: &str) -> Start {
        let mut next = Self::connected(provider, Dial::default(), may_return(Vec::new()));
        (next.now, next.holds_claims) = (self.now, true);
        next.open();
        let start = next.session.claiming().expect("it has started").clone();
        let stream = next.session.hand_over().expect("it is asked about");
        assert!(next.session.is_ended() && next.session.poll_action().is_none());
        assert!(self.session.reattach(self.at(), *stream));
        self.far = next.far;
        self.exchange();
        start
    }

    /// A second of speech; the payloads count on from `from`.
    fn speak_frames(&mut self, frames: std::ops::Range<usize>) {
        for frame in frames {
            self.run(20);
            self.speak(&ramp(frame));
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        let gap = |told: &(usize, ToModule)| match &told.1 {
            ToModule::Gap(gap) => Some(gap.clone()),
            _ => None,
        };
        self.told.iter().filter_map(gap).collect()
    }
}

fn sound(frames: std::ops::Range<usize>) -> Vec<i16> {
    let decode = |code: u8| ringback_codecs::g711::mu_to_linear(code);
    frames.flat_map(ramp).map(decode).collect()
}

#[test]
fn a_call_goes_on_with_another_stream_and_its_modules_are_told_of_the_outage() {
    let mut rig = rig("twilio", vec![port("ears", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak_frames(0..50);
    let before = rig.frames(0);
    rig.lose();
    assert!(rig.session.is_detached() && rig.summary.is_none() && rig.stopped.is_empty());
    rig.run(2_980);
    rig.return_by("twilio");
    rig.speak_frames(50..100);
    let after = rig.frames(0);
    let gap = Gap { track: 0, from_ms: 1_000, to_ms: 3_980, reason: GapReason::Provider };
    assert_eq!(rig.gaps(), [gap], "the sound of 1 s, nothing, and 20 ms that ended at 4 s");
    let samples = |frames: &[(u64, Vec<i16>)]| -> Vec<i16> {
        frames.iter().flat_map(|(_, samples)| samples.clone()).collect()
    };
    assert_eq!(samples(&before), sound(0..50));
    assert_eq!((samples(&after), after[0].0), (sound(50..100), 3_980 * 8));
    assert_eq!(rig.started.len(), 1, "no module was started anew");
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!((summary.reason, summary.reattached), (EndReason::Remote, 1));
    assert_eq!((summary.frames_in, summary.duration), (100, Duration::from_millis(4_980)));
    let news = rig.reports.iter().filter_map(|report| match report {
        Report::Detached { reason, window } => Some((reason.clone(), *window)),
        Report::Reattached { away, replaced } => Some((format!("{replaced}"), *away)),
        _ => None,
    });
    let news: Vec<_> = news.collect();
    assert_eq!(news, [("cut".into(), WINDOW), ("false".into(), Duration::from_millis(2_980))]);
}

#[test]
fn what_the_caller_did_not_hear_is_played_on_the_next_stream() {
    let mut rig = rig("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    let words: Vec<i16> = sound(0..100);
    rig.play(0, &words);
    rig.say(0, &FromModule::Mark { name: "end".into() });
    rig.run(500);
    rig.lose();
    let heard = 500 * 8;
    assert!(rig.played.len() >= heard, "some of it is under way");
    rig.played.clear();
    rig.marks.clear();
    rig.run(3_000);
    assert!(
        rig.played.is_empty()
            && !rig.told.iter().any(|(_, told)| matches!(told, ToModule::Mark(_)))
    );
    rig.line_busy_until = rig.now;
    rig.return_by("twilio");
    rig.run(2_000);
    let played: Vec<i16> =
        rig.played.iter().map(|&code| ringback_codecs::g711::mu_to_linear(code)).collect();
    assert_eq!(played, words[heard..]);
    let played = |told: &(usize, ToModule)| matches!(&told.1, ToModule::Mark(mark) if mark.status == MarkStatus::Played);
    assert_eq!(rig.told.iter().filter(|told| played(told)).count(), 1);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(summary.underruns, 0);
    assert_eq!(summary.played, Duration::from_secs(2) + Duration::from_millis(200), "200 ms twice");
}

#[test]
fn several_who_speak_go_on_where_the_caller_stopped_hearing_them() {
    let mut rig = rig("twilio", vec![port("bot", true), port("music", true)]);
    for voice in 0..2 {
        rig.ready(voice, &speaks(Pace::Clip));
    }
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 8_000]);
    rig.play(1, &[2_000; 8_000]);
    rig.run(500);
    rig.lose();
    rig.played.clear();
    rig.run(1_000);
    assert!(rig.played.is_empty());
    rig.return_by("twilio");
    rig.run(1_000);
    assert_eq!(rig.played.len(), 5_600, "the music began 200 ms behind, when those were under way");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_call_that_nobody_returns_to_ends_when_its_window_does() {
    let mut rig = rig("twilio", vec![port("ears", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak_frames(0..50);
    rig.lose();
    rig.run(9_999);
    assert!(rig.stopped.is_empty());
    rig.run(1);
    assert_eq!(rig.stopped, [0]);
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Socket { reason: "cut".into() });
    assert_eq!((summary.reattached, summary.duration), (0, Duration::from_secs(1)));
}

#[test]
fn the_newest_stream_of_a_call_has_it_and_no_sound_is_missing() {
    let mut rig = rig("twilio", vec![port("ears", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak_frames(0..50);
    rig.return_by("twilio");
    rig.speak_frames(50..60);
    assert_eq!(rig.frames(0).len(), 60);
    assert!(rig.gaps().is_empty());
    assert!(rig.reports.contains(&Report::Reattached { away: Duration::ZERO, replaced: true }));
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().reattached, 1);
}

#[test]
fn a_call_may_lose_its_stream_again_and_again() {
    let mut rig = rig("twilio", vec![port("ears", false), port("agent", true)]);
    rig.ready(0, &listens(16_000));
    rig.ready(1, &speaks(Pace::Live));
    for turn in 0..20 {
        rig.speak_frames(turn * 5..turn * 5 + 5);
        rig.play(1, &[500; 800]);
        rig.lose();
        rig.run(180);
        rig.play(1, &[500; 800]);
        rig.return_by("twilio");
        rig.frames(0);
    }
    assert_eq!(rig.gaps().len(), 19, "nothing was heard of the last");
    assert!(rig.gaps().iter().all(|gap| gap.to_ms - gap.from_ms == 180), "{:?}", rig.gaps());
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().reattached, 20);
}

/// What modules may do to a call that has no stream.
#[test]
fn modules_go_on_while_there_is_no_stream() {
    let mut rig = rig("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 8_000]);
    rig.lose();
    rig.say(0, &FromModule::Clear { epoch: None });
    assert!(rig.told.iter().any(|(_, told)| matches!(told, ToModule::Cleared(_))));
    rig.say(0, &FromModule::AudioBegin { epoch: 1 });
    rig.play(0, &[2_000; 800]);
    rig.say(0, &FromModule::Pause);
    rig.say(0, &FromModule::Resume);
    rig.say(0, &transcript("still there"));
    rig.played.clear();
    rig.return_by("twilio");
    rig.run(300);
    assert_eq!(rig.played.len(), 800, "the new words, and none of the old");
    rig.lose();
    let hangup = Hangup { after: HangupAfter::Playback, reason: "bye".into(), data: None };
    rig.say(0, &FromModule::Hangup(hangup));
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Hangup { module: "agent".into(), reason: "bye".into() });
}

#[test]
fn a_filter_passes_an_outage_on_as_one() {
    let filter = PortConfig { kind: Kind::Filter, speaks: false, ..port("filter", false) };
    let mut rig = rig("twilio", vec![filter, port("ears", false)]);
    let filters = Ready {
        accept: Accept { output: Some(AcceptOut::pcm(8_000)), ..listens(8_000).accept },
        ..Ready::default()
    };
    rig.ready(0, &filters);
    rig.ready(1, &listens(8_000));
    let answer = |rig: &mut Rig| {
        for (pts, samples) in rig.frames(0) {
            rig.session.filter_audio(rig.at(), PortId(0), Some(pts), &samples);
        }
    };
    for frame in 0..50 {
        rig.run(20);
        rig.speak(&ramp(frame));
        answer(&mut rig);
    }
    rig.lose();
    rig.run(980);
    rig.return_by("twilio");
    for frame in 50..100 {
        rig.run(20);
        rig.speak(&ramp(frame));
        answer(&mut rig);
    }
    assert_eq!(rig.frames(1).len(), 100);
    let both = [(0, 1_000, 1_980), (1, 1_000, 1_980)];
    let gap = |told: &(usize, ToModule)| match &told.1 {
        ToModule::Gap(gap) => Some((told.0, gap.from_ms, gap.to_ms)),
        _ => None,
    };
    assert_eq!(rig.told.iter().filter_map(gap).collect::<Vec<_>>(), both);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert!(summary.modules[0].bypassed.is_empty(), "{:?}", summary.modules[0].bypassed);
}

#[test]
fn a_module_with_a_frame_half_full_gets_it_before_the_outage() {
    let mut rig = rig("twilio", vec![port("ears", false)]);
    let input = AcceptIn { frame_ms: 30, ..AcceptIn::pcm(8_000) };
    rig.ready(
        0,
        &Ready { accept: Accept { input: Some(input), ..Accept::default() }, ..Ready::default() },
    );
    rig.speak_frames(0..5);
    rig.lose();
    rig.run(20_000 / 4);
    rig.return_by("twilio");
    rig.speak_frames(5..8);
    let frames = rig.frames(0);
    let positions: Vec<_> = frames.iter().map(|(pts, _)| pts / 8).collect();
    assert_eq!(positions, [0, 30, 60, 90, 5_100, 5_130]);
    assert_eq!(frames[3].1[80..], [0; 160], "of which there was no sound");
    let gap = Gap { track: 0, from_ms: 120, to_ms: 5_100, reason: GapReason::Provider };
    assert_eq!(rig.gaps(), [gap]);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn every_provider_whose_streams_name_their_call_may_return() {
    let mut returned = Vec::new();
    for provider in provider::PROVIDERS {
        if !provider.has_sound()
            || matches!(provider.transport(), provider::Transport::Webhook { .. })
        {
            continue;
        }
        let mut next =
            Rig::connected(provider.name(), Dial::default(), may_return(vec![port("ears", false)]));
        next.holds_claims = true;
        next.open();
        next.run(100);
        let Some(claiming) = next.session.claiming().cloned() else { continue };
        assert!(claiming.call.is_some());
        next.session.begin_call(next.at());
        next.holds_claims = false;
        next.exchange();
        next.lose();
        assert!(next.session.is_detached(), "{}", provider.name());
        next.run(500);
        let again = next.return_by(provider.name());
        assert_eq!(
            (again.call, again.inbound, again.outbound, again.tracks, again.capabilities),
            (
                claiming.call,
                claiming.inbound,
                claiming.outbound,
                claiming.tracks,
                claiming.capabilities
            ),
            "{}",
            provider.name()
        );
        next.run(100);
        returned.push(provider.name());
        next.session.shut_down(next.at(), Duration::from_secs(1));
        next.exchange();
        next.finish();
    }
    assert!(returned.len() >= 25, "{returned:?}");
}

#[test]
fn what_is_said_before_anybody_answers_is_a_call_of_its_own() {
    let mut rig = Rig::connected("twilio", Dial::default(), may_return(vec![port("ears", false)]));
    rig.holds_claims = true;
    rig.open();
    assert!(rig.session.claiming().is_some() && rig.started.is_empty());
    rig.speak(&ramp(0));
    assert_eq!(rig.started.len(), 1);
    rig.ready(0, &listens(8_000));
    assert_eq!(rig.frames(0).len(), 1);
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().frames_in, 1);
}

#[test]
fn a_stop_is_the_end_and_so_is_a_call_of_words() {
    let mut rig = rig("twilio", vec![port("ears", false)]);
    rig.ready(0, &listens(8_000));
    rig.command(Command::Hangup);
    rig.lose();
    assert_eq!(rig.finish().reason, EndReason::Remote);
    let mut rig = self::rig("conversation-relay", vec![port("ears", false)]);
    rig.lose();
    let lost = EndReason::Socket { reason: "cut".into() };
    assert_eq!(rig.finish().reason, lost);
    let mut rig = Rig::new("twilio", vec![port("ears", false)]);
    rig.lose();
    assert_eq!(rig.finish().reason, lost, "nobody said that it may");
}
