//! Playback in virtual time: pace, marks, clear, pause and stalls, by what the caller would hear.

use std::time::Duration;

use ringback_codecs::SampleRate;
use ringback_module::message::{MarkStatus, Pace, PlaybackState};
use ringback_proto::Instant;
use ringback_proto::media::playout::{Emit, Playout, PlayoutLimits, Told};
use ringback_proto::provider::{Capabilities, ClearLaw, FrameLaw, HangupLaw, PlayoutPolicy};

const RATE: SampleRate = SampleRate::HZ_8000;
const MS: u64 = 8;

fn queueing() -> Capabilities {
    Capabilities {
        playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
        frame: FrameLaw::Any,
        clear: ClearLaw::ReturnsMarks,
        marks: true,
        pause: false,
        results: false,
        text: false,
        files: false,
        handoff: false,
        flow: None,
        dtmf_in: true,
        dtmf_out: false,
        hangup: HangupLaw::Close,
    }
}

fn paced() -> Capabilities {
    Capabilities {
        playout: PlayoutPolicy::Paced { limit: Duration::from_secs(18) },
        frame: FrameLaw::Exact(Duration::from_millis(20)),
        clear: ClearLaw::DropsMarks,
        pause: true,
        ..queueing()
    }
}

/// A provider as simple as can be: plays what it gets in real time, tells marks at once.
struct Line {
    playout: Playout,
    now: u64,
    /// What is queued at the provider: sample and when it will be heard.
    queue: std::collections::VecDeque<i16>,
    marks: Vec<(usize, String)>,
    heard: Vec<i16>,
    sent: usize,
    messages: usize,
    answers_marks: bool,
    held: bool,
    told: Vec<Told>,
    most_queued: usize,
}

impl Line {
    fn new(can: Capabilities) -> Self {
        Self {
            playout: Playout::new(RATE, can, PlayoutLimits::default()),
            now: 0,
            queue: std::collections::VecDeque::new(),
            marks: Vec::new(),
            heard: Vec::new(),
            sent: 0,
            messages: 0,
            answers_marks: true,
            held: false,
            told: Vec::new(),
            most_queued: 0,
        }
    }

    fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn act(&mut self, act: impl FnOnce(&mut Playout, &mut dyn FnMut(Emit<'_>))) {
        let Self { playout, queue, marks, sent, messages, held, .. } = self;
        act(playout, &mut |emit| match emit {
            Emit::Samples(samples) => {
                *sent += samples.len();
                *messages += 1;
                queue.extend(samples);
            }
            Emit::Mark(name) => marks.push((queue.len(), name.to_owned())),
            Emit::Clear => {
                queue.clear();
                marks.clear();
            }
            Emit::Pause => *held = true,
            Emit::Resume => *held = false,
        });
        self.most_queued = self.most_queued.max(self.queue.len());
    }

    /// One millisecond of the provider's life and, unless we are stalled, of ours.
    fn step(&mut self, stalled: bool) {
        if !stalled {
            let now = self.at();
            if self.playout.poll_timeout().is_some_and(|at| at <= now) {
                self.act(|playout, emit| playout.poll(now, emit));
            }
            self.told.extend(self.playout.drain_told());
        }
        self.now += 1;
        if !self.held {
            for _ in 0..MS {
                self.heard.push(self.queue.pop_front().unwrap_or(0));
                for mark in &mut self.marks {
                    mark.0 = mark.0.saturating_sub(1);
                }
            }
        } else {
            self.heard.extend([0; MS as usize]);
        }
        if self.answers_marks && !stalled {
            let now = self.at();
            for (_, name) in self.marks.extract_if(.., |m| m.0 == 0) {
                self.playout.handle_played(now, &name);
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step(false);
        }
    }

    fn push(&mut self, samples: &[i16], pace: Pace) {
        let now = self.at();
        self.playout.push(now, samples, pace);
        self.act(|playout, emit| playout.poll(now, emit));
    }

    fn balance(&self) {
        let c = self.playout.counts();
        assert_eq!(
            c.entered,
            c.left - c.resent + c.queued + c.cleared + c.trimmed + c.overflow,
            "{c:?}"
        );
    }

    fn sound(&self) -> Vec<i16> {
        self.heard.iter().copied().filter(|&s| s != 0).collect()
    }
}

fn ramp(ms: u64) -> Vec<i16> {
    (0..ms * MS).map(|i| (i % 30_000) as i16 + 1).collect()
}

#[test]
fn where_messages_are_counted_few_are_sent_and_nothing_is_filled_up() {
    let mut can = queueing();
    can.frame = FrameLaw::UpTo(Duration::from_millis(200));
    let mut line = Line::new(can);
    let clip = ramp(3_050);
    line.push(&clip, Pace::Clip);
    line.playout.end_utterance();
    line.run(3_300);
    assert_eq!((line.sound(), line.sent, line.messages), (clip.clone(), clip.len(), 16));
    let first = line.heard.iter().position(|&s| s != 0).expect("something was heard");
    assert_eq!(&line.heard[first..first + clip.len()], clip, "no hole");
    // A live voice comes in small pieces; what can be gathered is.
    let mut line = Line::new(can);
    for piece in ramp(10_000).chunks(20 * MS as usize) {
        line.push(piece, Pace::Live);
        line.run(20);
    }
    line.run(400);
    assert_eq!(line.sound(), ramp(10_000));
    assert!((50..=55).contains(&line.messages), "{} messages in ten seconds", line.messages);
    line.balance();
}

#[test]
fn an_utterance_is_heard_whole_without_a_hole_and_never_far_ahead() {
    for can in [queueing(), paced()] {
        let mut line = Line::new(can);
        let clip = ramp(3_000);
        line.push(&clip, Pace::Clip);
        line.playout.end_utterance();
        line.run(3_200);
        assert_eq!(line.sound(), clip);
        let first = line.heard.iter().position(|&s| s != 0).expect("something was heard");
        assert_eq!(&line.heard[first..first + clip.len()], clip, "no hole");
        let lead = if can.pause { 60 } else { 200 };
        assert!(line.most_queued as u64 <= lead * MS, "{} samples ahead", line.most_queued);
        line.balance();
    }
}

#[test]
fn a_short_last_frame_goes_out_whole_or_filled_up() {
    let mut any = Line::new(queueing());
    any.push(&ramp(25), Pace::Clip);
    any.playout.end_utterance();
    any.run(100);
    assert_eq!(any.sent as u64, 25 * MS);
    let mut exact = Line::new(paced());
    exact.push(&ramp(25), Pace::Clip);
    exact.playout.end_utterance();
    exact.run(100);
    assert_eq!((exact.sent as u64, exact.sound().len() as u64), (40 * MS, 25 * MS));
    assert_eq!(exact.playout.counts().padding, 15 * MS);
}

#[test]
fn a_provider_of_long_messages_is_sent_no_shorter_ones_and_hears_no_hole() {
    let least = Duration::from_millis(200);
    let frame = FrameLaw::AtLeast { least, step: Duration::from_millis(20) };
    let mut line = Line::new(Capabilities { frame, ..paced() });
    // A voice that is made as it is heard, and a little late once.
    let voice = ramp(3_010);
    for (i, piece) in voice.chunks(20 * MS as usize).enumerate() {
        line.push(piece, Pace::Live);
        assert_eq!(line.sent as u64 % (200 * MS), 0, "piece {i}");
        line.run(if i == 7 { 60 } else { 20 });
    }
    line.playout.end_utterance();
    line.run(700);
    assert_eq!(line.sound(), voice);
    assert_eq!(line.playout.counts().padding, 190 * MS);
    assert!(line.most_queued as u64 <= 400 * MS);
    line.balance();
}

#[test]
fn marks_are_told_when_the_caller_heard_what_was_before_them() {
    for (can, answers) in
        [(queueing(), true), (Capabilities { marks: false, ..queueing() }, false), (paced(), true)]
    {
        let mut line = Line::new(can);
        line.answers_marks = answers;
        line.push(&ramp(500), Pace::Clip);
        assert!(line.playout.mark(7, "half".into()));
        line.push(&ramp(500), Pace::Clip);
        assert!(line.playout.mark(7, "end".into()));
        line.run(499);
        assert!(!line.told.iter().any(|t| matches!(t, Told::Mark { .. })), "too early");
        line.run(10);
        let marks = |line: &Line| -> Vec<(String, u64)> {
            let told = line.told.iter();
            told.filter_map(|t| match t {
                Told::Mark { owner: 7, report } => Some((report.name.clone(), report.played_ms)),
                _ => None,
            })
            .collect()
        };
        assert_eq!(marks(&line), [("half".to_owned(), 500)]);
        line.run(510);
        assert_eq!(marks(&line).len(), 2);
    }
}

#[test]
fn a_clear_silences_at_once_and_knows_what_was_heard() {
    for can in [queueing(), paced()] {
        let mut line = Line::new(can);
        line.push(&ramp(2_000), Pace::Clip);
        assert!(line.playout.mark(1, "end".into()));
        line.run(700);
        let now = line.at();
        let mut report = None;
        line.act(|playout, emit| report = Some(playout.clear(now, emit)));
        let report = report.expect("clear reports");
        assert_eq!((report.epoch, report.played_ms, report.discarded_ms), (0, 700, 1_300));
        line.run(300);
        assert_eq!(line.sound().len() as u64, 700 * MS, "not one sample more");
        let status = line.told.iter().filter_map(|t| match t {
            Told::Mark { report, .. } => Some(report.status),
            Told::Playback(_) | Told::PlaybackOf { .. } => None,
        });
        assert_eq!(status.collect::<Vec<_>>(), [MarkStatus::Cleared]);
        line.balance();
        line.push(&ramp(100), Pace::Clip);
        line.playout.end_utterance();
        line.run(200);
        assert_eq!(line.sound().len() as u64, 800 * MS);
        assert_eq!(line.playout.epoch(), 1);
    }
}

#[test]
fn a_stale_mark_of_a_cleared_epoch_changes_nothing() {
    let mut line = Line::new(queueing());
    line.answers_marks = false;
    line.push(&ramp(500), Pace::Clip);
    assert!(line.playout.mark(1, "old".into()));
    line.run(400);
    let stale: Vec<String> = line.marks.iter().map(|m| m.1.clone()).collect();
    assert!(!stale.is_empty());
    let now = line.at();
    line.act(|playout, emit| {
        playout.clear(now, emit);
    });
    line.push(&ramp(500), Pace::Clip);
    let before = line.playout.heard(line.at());
    for name in stale {
        line.playout.handle_played(now, &name);
    }
    assert_eq!(line.playout.heard(line.at()), before);
}

#[test]
fn pause_holds_at_the_sample_and_resume_goes_on_with_the_next() {
    for can in [queueing(), paced()] {
        let mut line = Line::new(can);
        let clip = ramp(1_000);
        line.push(&clip, Pace::Clip);
        line.playout.end_utterance();
        line.run(333);
        let now = line.at();
        line.act(|playout, emit| playout.pause(now, emit));
        line.run(1_000);
        assert_eq!(line.sound().len() as u64, 333 * MS);
        let now = line.at();
        line.act(|playout, emit| playout.resume(now, emit));
        line.act(|playout, emit| playout.poll(now, emit));
        line.run(800);
        assert_eq!(line.sound(), clip, "every sample once");
        line.balance();
    }
}

#[test]
fn a_live_stream_passes_untouched_while_nothing_stalls() {
    let mut line = Line::new(queueing());
    let stream = ramp(3_000);
    for frame in stream.chunks(160) {
        line.push(frame, Pace::Live);
        line.run(20);
    }
    line.run(40);
    assert_eq!(line.sound(), stream);
    assert_eq!(line.playout.counts().trimmed, 0);
}

#[test]
fn a_stall_of_a_live_stream_is_trimmed_back_and_not_kept_as_latency() {
    let mut line = Line::new(queueing());
    let stream = ramp(6_000);
    let frames: Vec<&[i16]> = stream.chunks(160).collect();
    let mut due = 0;
    while line.now < 6_000 {
        let stalled = (2_000..3_000).contains(&line.now);
        while !stalled && due < frames.len() && due as u64 * 20 <= line.now {
            line.push(frames[due], Pace::Live);
            due += 1;
        }
        line.step(stalled);
        line.told.clear();
    }
    let latency = line.playout.backlog(line.at());
    assert!(latency <= Duration::from_millis(80), "{latency:?} of latency kept");
    let trimmed = line.playout.counts().trimmed;
    assert!(trimmed > 0 && trimmed < 1_000 * MS, "{trimmed} samples trimmed");
    line.balance();
}

#[test]
fn a_short_stall_of_a_live_stream_costs_no_sound() {
    let mut line = Line::new(queueing());
    let stream = ramp(4_000);
    let frames: Vec<&[i16]> = stream.chunks(160).collect();
    let mut due = 0;
    while line.now < 4_300 {
        let stalled = (2_000..2_080).contains(&line.now);
        while !stalled && due < frames.len() && due as u64 * 20 <= line.now {
            line.push(frames[due], Pace::Live);
            due += 1;
        }
        line.step(stalled);
    }
    assert_eq!(line.playout.counts().trimmed, 0);
    assert_eq!(line.sound(), stream);
}

#[test]
fn jitter_of_a_live_stream_is_not_taken_for_latency() {
    let mut line = Line::new(queueing());
    let stream = ramp(4_000);
    let frames: Vec<&[i16]> = stream.chunks(160).collect();
    let mut due = 0;
    while line.now < 4_200 {
        let burst = line.now.is_multiple_of(120);
        while burst && due < frames.len() && due as u64 * 20 <= line.now {
            line.push(frames[due], Pace::Live);
            due += 1;
        }
        line.step(false);
    }
    assert_eq!(line.playout.counts().trimmed, 0);
    assert_eq!(line.sound(), stream);
}

#[test]
fn a_full_provider_is_sent_nothing_until_it_is_writable() {
    let mut line = Line::new(paced());
    line.playout.handle_full(true);
    line.push(&ramp(100), Pace::Clip);
    line.run(50);
    assert_eq!(line.sent, 0);
    line.playout.handle_full(false);
    line.playout.end_utterance();
    line.run(200);
    assert_eq!(line.sound().len() as u64, 100 * MS);
}

#[test]
fn more_than_the_queue_holds_is_refused_and_counted() {
    let mut line = Line::new(queueing());
    let refused = line.playout.push(line.at(), &ramp(61_000), Pace::Clip);
    assert_eq!(refused, 1_000 * MS);
    line.balance();
}

#[test]
fn marks_are_as_many_as_may_wait_and_no_more() {
    let mut line = Line::new(queueing());
    line.push(&ramp(20), Pace::Clip);
    let taken = (0..300).filter(|mark| line.playout.mark(0, mark.to_string())).count();
    assert_eq!(taken, 256);
}

#[test]
fn progress_is_told_from_started_to_idle() {
    let mut line = Line::new(queueing());
    line.push(&ramp(200), Pace::Clip);
    line.playout.end_utterance();
    line.run(300);
    let states = line.told.iter().filter_map(|t| match t {
        Told::Playback(p) => Some((p.state, p.played_ms)),
        Told::Mark { .. } | Told::PlaybackOf { .. } => None,
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [(PlaybackState::Started, 0), (PlaybackState::Idle, 200)]
    );
}

#[test]
fn a_hole_in_mid_utterance_is_an_underrun() {
    let mut line = Line::new(queueing());
    line.push(&ramp(100), Pace::Clip);
    line.run(300);
    line.push(&ramp(100), Pace::Clip);
    line.playout.end_utterance();
    line.run(300);
    assert_eq!(line.playout.counts().underruns, 1);
}
