//! What modules say: sound to play, results to pass on, verbs to carry out. Checks who may, and which epoch it was meant for.

use std::time::Duration;

use ringback_module::message::{
    Cleared, ErrorReport, Event as NamedEvent, Hangup, HangupAfter, Kind, MarkReport, MarkStatus,
    Pace, Transcript, Vad,
};
use ringback_module::{FromModule, ToModule};

use crate::Instant;
use crate::ledger::Drop;
use crate::media::playout::Told;
use crate::provider::{Command, Digit};
use crate::scratch::Pcm;

use super::port::{Port, PortId, PortPhase, Speaker};
use super::private::PrivateBy;
use super::state::Phase;
use super::telling::Audience;
use super::{Action, EndReason, Report, Session};

/// What is said to a module that holds playback without any of its own.
const NO_VOICE: &str = "it plays nothing on this call, so there is nothing of it to hold";
/// Hanging up after playback waits no longer than this.
const FINISH_TIMEOUT: Duration = Duration::from_secs(120);

/// Which playback generation a module's sound was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// The present one: the module runs in step with the call.
    Current,
    /// Bare sound from afar: good unless a clear came in between that the module has not answered with `audio.begin`.
    Unnumbered,
    /// The sound says so itself.
    Numbered(u32),
}

impl Session {
    /// A module sent sound to be played, at the rate it agreed to.
    pub fn module_audio(&mut self, now: Instant, id: PortId, epoch: Epoch, samples: &[i16]) {
        self.now = now;
        let current = self.epoch(id);
        let live = self.phase.is_live();
        let Some(port) = self.ports.get_mut(id.0) else { return };
        let count = samples.len() as u64;
        port.spoken.entered += count;
        let speaker = port.agreed.as_mut().and_then(|a| a.output.as_mut());
        let Some(speaker) = speaker.filter(|_| port.config.speaks) else {
            port.spoken.not_speaker += count;
            return self.report(Report::Dropped { reason: Drop::NotSpeaker, count });
        };
        if !live {
            port.spoken.after_end += count;
            return;
        }
        let good = match epoch {
            Epoch::Current => true,
            Epoch::Unnumbered => speaker.armed,
            Epoch::Numbered(epoch) => epoch == current,
        };
        if !good {
            port.spoken.stale += count;
            return self.report(Report::Dropped { reason: Drop::Stale, count });
        }
        speaker.armed = true;
        port.spoken.left += count;
        port.heard.taken();
        port.keys.taken();
        let mut pcm = Pcm::lend();
        speaker.resampler.process(samples, &mut pcm);
        let (pace, voice) = (speaker.pace, port.voice.unwrap_or_default());
        self.play(now, voice, &pcm, pace);
        self.settle(now);
    }

    /// The host of a module let `samples` samples of its sound go, which never come here: [`Drop::Overflow`] if it sends more than it
    /// has credit for, and why else they wait no more where they waited.
    pub fn module_dropped(&mut self, now: Instant, id: PortId, reason: Drop, samples: u64) {
        self.now = now;
        if let Some(port) = self.ports.get_mut(id.0) {
            port.spoken.entered += samples;
            port.spoken.drop(reason, samples);
            self.filter_lost(id, samples);
            self.report(Report::Dropped { reason, count: samples });
        }
    }

    /// A module in the call's own task took longer for a frame than it may.
    pub fn module_overran(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(id.0) {
            port.overran += 1;
        }
    }

    fn play(&mut self, now: Instant, voice: usize, pcm: &[i16], pace: Pace) {
        let Some(voices) = self.voices() else { return };
        let (refused, trimmed) = voices.push(now, voice, pcm, pace);
        for (reason, count) in [(Drop::Overflow, refused), (Drop::Trimmed, trimmed)] {
            if count > 0 {
                self.report(Report::Dropped { reason, count });
            }
        }
    }

    /// A module said something.
    pub fn module_message(&mut self, now: Instant, id: PortId, message: &FromModule) {
        self.now = now;
        if self.ports.get(id.0).is_none_or(|p| p.phase == PortPhase::Gone) {
            return;
        }
        // A line in the log is written before the work as well as after it.
        if !matches!(message, FromModule::Log(_) | FromModule::Metric(_)) {
            let port = &mut self.ports[id.0];
            port.heard.taken();
            port.keys.taken();
        }
        if !self.handle_result(now, id, message) {
            self.handle_verb(now, id, message);
        }
        self.settle(now);
    }

    /// Results and reports; says whether `message` was one.
    fn handle_result(&mut self, now: Instant, id: PortId, message: &FromModule) -> bool {
        if self.is_of_private(id, message) {
            return self.handle_private_result(now, id, message);
        }
        match message {
            FromModule::Transcript(transcript) => self.handle_transcript(now, id, transcript),
            FromModule::Turn(turn) => {
                self.pass_on(now, id, message);
                self.report(Report::Turn(id, turn.clone()));
            }
            FromModule::Vad(vad) => self.handle_vad(now, id, vad),
            FromModule::Dtmf(dtmf) => {
                self.tell_key(Some(id), dtmf, Audience::All);
                self.pass_on(now, id, message);
                self.report(Report::Dtmf(Some(id), dtmf.clone()));
            }
            FromModule::Event(event) => {
                self.pass_on(now, id, message);
                self.report(Report::Event(id, event.clone()));
            }
            FromModule::Log(log) => self.report(Report::Log(id, log.clone())),
            FromModule::Metric(metric) => self.report(Report::Metric(id, metric.clone())),
            FromModule::Error(error) => {
                self.report(Report::Error(id, error.clone()));
                if error.fatal {
                    self.actions.push_back(Action::DropModule { port: id });
                    self.module_failed(now, id, &format!("{}: {}", error.code, error.message));
                }
            }
            _ => return false,
        }
        true
    }

    fn handle_transcript(&mut self, now: Instant, id: PortId, transcript: &Transcript) {
        self.tell_words(Some(id), transcript, Audience::All);
        self.pass_on(now, id, &FromModule::Transcript(transcript.clone()));
        self.report(Report::Transcript(Some(id), transcript.clone()));
    }

    fn handle_vad(&mut self, now: Instant, id: PortId, vad: &Vad) {
        self.tell_wanting("vad", Some(id), &ToModule::Vad(vad.clone()));
        self.pass_on(now, id, &FromModule::Vad(vad.clone()));
        self.barge_in_by(now, vad);
        self.report(Report::Vad(id, vad.clone()));
    }

    pub(super) fn barge_in_by(&mut self, now: Instant, vad: &Vad) {
        if vad.track == super::port::CALLER {
            let elapsed = self.media.as_ref().map_or(Duration::ZERO, |m| m.elapsed(now));
            let lasted = elapsed.saturating_sub(Duration::from_millis(vad.at_ms));
            self.barge_in.handle_vad(now, vad, lasted);
        }
    }

    /// Streams a result to clients that take results in-band.
    fn pass_on(&mut self, now: Instant, id: PortId, message: &FromModule) {
        self.ports[id.0].results += 1;
        let wanted = self.start.as_ref().is_some_and(|s| s.capabilities.results);
        if !wanted || !self.phase.is_live() {
            return;
        }
        if let Ok(json) = serde_json::to_string(message) {
            self.command_quietly(now, Command::Result(&json));
        }
    }

    /// Verbs; what a module may not do is reported, not done.
    fn handle_verb(&mut self, now: Instant, id: PortId, message: &FromModule) {
        match message {
            FromModule::Ack { in_ms, .. } => {
                let given = self.given_ms(id);
                let port = &mut self.ports[id.0];
                port.acked_ms = port.acked_ms.max((*in_ms).min(given));
            }
            FromModule::Credit { in_ms } => {
                if let Some(credit) =
                    self.ports[id.0].agreed.as_mut().and_then(|a| a.credit.as_mut())
                {
                    credit.granted_ms = credit.granted_ms.saturating_add(*in_ms);
                }
            }
            FromModule::AudioBegin { epoch } => self.arm(id, *epoch),
            FromModule::Done { stats } => {
                if !stats.is_empty() && !self.keeps_to_itself(id) {
                    let data = serde_json::Value::Object(stats.clone());
                    self.report(Report::Event(
                        id,
                        NamedEvent { name: "module.stats".into(), data },
                    ));
                }
                self.module_gone(now, id, None);
            }
            FromModule::GoingAway { resume_token, .. } => {
                let port = &mut self.ports[id.0];
                port.resume_token = resume_token.clone().or(port.resume_token.take());
            }
            FromModule::Transfer { .. } => {
                self.refuse(id, "transfer", "no provider here can transfer a call");
            }
            FromModule::Say(say) => self.handle_say(now, id, say),
            FromModule::Play(play) => self.handle_play(now, id, play),
            FromModule::Clear { .. }
            | FromModule::AudioEnd { .. }
            | FromModule::Mark { .. }
            | FromModule::Language(_)
            | FromModule::Pause
            | FromModule::Resume
            | FromModule::PrivateBegin { .. }
            | FromModule::PrivateEnd
            | FromModule::Consent(_)
            | FromModule::DtmfSend(_)
            | FromModule::Hangup(_) => {
                let live = self.phase.is_live();
                if live && self.may(id, message) {
                    self.handle_speaker_verb(now, id, message);
                } else if live {
                    self.report(Report::Dropped { reason: Drop::NotSpeaker, count: 1 });
                }
            }
            _ => {}
        }
    }

    /// Whether a module is in the position to ask for that.
    fn may(&self, id: PortId, message: &FromModule) -> bool {
        let port = &self.ports[id.0];
        match message {
            FromModule::Clear { .. }
            | FromModule::PrivateBegin { .. }
            | FromModule::PrivateEnd
            | FromModule::Consent(_)
            | FromModule::DtmfSend(_)
            | FromModule::Hangup(_) => port.controls(),
            _ => port.config.speaks,
        }
    }

    /// Sound a module was given so far, in ms of the call: it cannot acknowledge more.
    fn given_ms(&self, id: PortId) -> u64 {
        let taps = self.ports[id.0].agreed.iter().flat_map(|agreed| &agreed.taps);
        let given = taps.filter_map(|(track, tap)| {
            let rate = self.media.as_ref()?.rate(*track)?;
            Some(rate.millis_of(tap.cursor()))
        });
        given.max().unwrap_or(0)
    }

    fn arm(&mut self, id: PortId, epoch: u32) {
        let current = self.epoch(id);
        if let Some(speaker) = self.speaker(id) {
            speaker.armed = epoch == current;
        }
    }

    fn handle_speaker_verb(&mut self, now: Instant, id: PortId, message: &FromModule) {
        let voice = self.ports[id.0].voice;
        match message {
            FromModule::Clear { epoch } => {
                let current = self.epoch(id);
                if epoch.is_none_or(|epoch| epoch == current) {
                    self.clear(now, Some(id));
                    self.clear_words(now, Some(id));
                }
            }
            FromModule::AudioEnd { epoch } => {
                let current = self.playout().is_some().then(|| self.epoch(id));
                if epoch.is_some() && *epoch != current {
                    return;
                }
                if voice.is_none() {
                    return;
                }
                self.flush_speaker(now, id);
                self.with_voices(now, |voices, _| voices.end_utterance(voice));
            }
            FromModule::Mark { name } => self.set_mark(now, id, name),
            FromModule::Language(languages) => self.handle_languages(now, id, languages),
            FromModule::Pause | FromModule::Resume if self.words.is_some() => {
                self.refuse(id, "pause", "the provider speaks by itself and cannot be held");
            }
            FromModule::Pause => {
                let Some(voice) = voice else { return self.refuse(id, "pause", NO_VOICE) };
                self.with_voices(now, |voices, emit| voices.pause(now, voice, emit));
            }
            FromModule::Resume => {
                let Some(voice) = voice else { return self.refuse(id, "resume", NO_VOICE) };
                self.with_voices(now, |voices, emit| voices.resume(now, voice, emit));
            }
            FromModule::PrivateBegin { max_ms } => {
                self.begin_private(now, PrivateBy::Module(id), max_ms.map(Duration::from_millis));
            }
            FromModule::PrivateEnd => self.end_private(now, PrivateBy::Module(id)),
            FromModule::Consent(consent) => self.consent(now, Some(id), consent),
            FromModule::DtmfSend(send) => self.press(now, id, &send.digits),
            FromModule::Hangup(hangup) => self.hang_up(now, id, hangup),
            _ => {}
        }
    }

    /// A mark behind sound that was cleared, or one too many, is told as cleared: it will never be reached.
    fn set_mark(&mut self, now: Instant, id: PortId, name: &str) {
        if self.playout().is_none() && self.words.is_none() {
            return;
        }
        let epoch = self.epoch(id);
        let armed = self.speaker(id).is_some_and(|speaker| speaker.armed);
        let voice = self.ports[id.0].voice.unwrap_or_default();
        let mut taken = false;
        if armed {
            let name = name.to_owned();
            self.with_voices(now, |voices, _| taken = voices.mark(now, voice, id.0, name));
        }
        if !taken {
            let current = armed || self.words.is_some();
            let epoch = if current { epoch } else { epoch.saturating_sub(1) };
            let report = MarkReport {
                name: name.to_owned(),
                epoch,
                status: MarkStatus::Cleared,
                played_ms: 0,
            };
            self.tell(id, ToModule::Mark(report));
        }
    }

    fn speaker(&mut self, id: PortId) -> Option<&mut Speaker> {
        self.ports.get_mut(id.0)?.agreed.as_mut()?.output.as_mut()
    }

    /// Plays what the resampler still holds of an utterance.
    fn flush_speaker(&mut self, now: Instant, id: PortId) {
        let Some(speaker) = self.ports[id.0].agreed.as_mut().and_then(|a| a.output.as_mut()) else {
            return;
        };
        let mut tail = Pcm::lend();
        speaker.resampler.finish(&mut tail);
        let pace = speaker.pace;
        let voice = self.ports[id.0].voice.unwrap_or_default();
        self.play(now, voice, &tail, pace);
    }

    fn press(&mut self, now: Instant, id: PortId, digits: &str) {
        if let Some(key) = digits.chars().find(|&key| Digit::new(key).is_none()) {
            return self.refuse(
                id,
                "dtmf.send",
                &format!("{key:?} is not a key; 0-9, *, # and A-D are"),
            );
        }
        if let Phase::Detached { .. } = self.phase {
            return self.refuse(id, "dtmf.send", "the stream was lost, and no other came yet");
        }
        for digit in digits.chars().filter_map(Digit::new) {
            if let Err(error) =
                self.protocol.handle_command(now, Command::Dtmf(digit), &mut self.outbox)
            {
                return self.end(now, EndReason::Protocol(error));
            }
        }
    }

    /// Says that a module asked for what cannot be had.
    pub(super) fn refuse(&mut self, id: PortId, verb: &str, why: &str) {
        let message = format!("`{verb}` was not done: {why}");
        self.report(Report::Error(
            id,
            ErrorReport { code: "unsupported".into(), message, ..ErrorReport::default() },
        ));
    }

    /// An operator wants the call to end, now.
    pub fn operator_hangs_up(&mut self, now: Instant, by: &str) {
        self.now = now;
        self.end(now, EndReason::Operator { name: by.to_owned() });
        self.settle(now);
    }

    fn hang_up(&mut self, now: Instant, id: PortId, hangup: &Hangup) {
        let module = self.ports[id.0].config.name.clone();
        let reason = self.reason_for_all(id, &hangup.reason).to_owned();
        let reason = EndReason::Hangup { module, reason };
        if let Some(data) = &hangup.data {
            self.hand_off(id, data);
        }
        match (hangup.after, &self.phase) {
            // Nobody hears what is still to be played.
            (HangupAfter::Now, _) | (HangupAfter::Playback, Phase::Detached { .. }) => {
                self.end(now, reason);
            }
            (HangupAfter::Playback, Phase::Streaming { since, .. }) => {
                let since = *since;
                self.with_voices(now, |voices, _| voices.end_utterance(None));
                self.phase = Phase::Finishing { since, deadline: now + FINISH_TIMEOUT, reason };
            }
            _ => {}
        }
    }

    /// What goes to whoever goes on with the call, once it is hung up.
    fn hand_off(&mut self, id: PortId, data: &serde_json::Value) {
        if self.start.as_ref().is_some_and(|start| start.capabilities.handoff) {
            let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            self.handoff = Some(text.into());
        } else {
            self.refuse(id, "hangup.data", "the provider hands nothing on");
        }
    }

    pub(super) fn run_barge_in(&mut self, now: Instant) {
        if self.barge_in.take_due(now) && self.voices().is_some_and(|v| v.is_active(now)) {
            self.clear(now, None);
        }
    }

    /// Drops the playback of a module that plays, or else all there is; late sound of the old epoch is dropped too.
    fn clear(&mut self, now: Instant, by: Option<PortId>) {
        let voice = by.and_then(|id| self.ports[id.0].voice);
        let mut cleared = Vec::new();
        self.with_voices(now, |voices, emit| cleared = voices.clear(now, voice, emit));
        self.tell_playback();
        let several = self.several_speak();
        for (voice, cleared) in cleared {
            self.tell_cleared(&cleared, by, several.then_some(voice));
        }
        if several && voice.is_none() {
            self.tell_controllers();
        }
    }

    /// Whether each who speaks has playback of its own.
    fn several_speak(&self) -> bool {
        self.ports.iter().filter(|port| port.config.is_voice()).nth(1).is_some()
    }

    /// Modules that play nothing and may clear all of it are told that this happened; their epoch counts just that.
    fn tell_controllers(&mut self) {
        for index in 0..self.ports.len() {
            let id = PortId(index);
            let current = self.epoch(id);
            let port = &mut self.ports[index];
            if port.config.kind == Kind::Text && port.agreed.is_some() {
                port.told_epoch = current;
                let epoch = current.saturating_sub(1);
                let message = ToModule::Cleared(Cleared { epoch, ..Cleared::default() });
                self.tell(id, message);
            }
        }
    }

    /// Tells everybody who speaks that an epoch is over, or the one whose epoch it was.
    pub(super) fn tell_cleared(
        &mut self,
        cleared: &Cleared,
        by: Option<PortId>,
        whose: Option<usize>,
    ) {
        let (words, settling) = (self.words.is_some(), self.is_settling());
        for index in 0..self.ports.len() {
            let port = &mut self.ports[index];
            let Some(agreed) = port.agreed.as_mut() else { continue };
            if whose.is_some() && port.voice != whose {
                continue;
            }
            match agreed.output.as_mut() {
                Some(speaker) => {
                    speaker.armed = port.config.in_step;
                    speaker.resampler.reset();
                }
                None if words && port.config.speaks => {}
                None if port.config.kind == Kind::Text => {}
                None => continue,
            }
            port.told_epoch = cleared.epoch + 1;
            // What was said to the caller in a private part is for those who may hear it.
            let whole = self.ports[index].config.hears_private || !settling;
            let heard = cleared.heard.clone().filter(|_| whole);
            self.tell(PortId(index), ToModule::Cleared(Cleared { heard, ..cleared.clone() }));
        }
        let heard = cleared.heard.clone().filter(|_| !settling);
        self.report(Report::Cleared { cleared: Cleared { heard, ..cleared.clone() }, by });
    }

    /// Passes on what playback has to tell: marks to who set them, progress to who wants it.
    pub(super) fn tell_playback(&mut self) {
        let Some(voices) = self.voices() else { return };
        if !voices.has_told() {
            return;
        }
        for told in voices.take_told() {
            match told {
                Told::Mark { owner, report } => {
                    self.tell(PortId(owner), ToModule::Mark(report));
                }
                Told::Playback(playback) => {
                    self.tell_wanting("playback", None, &ToModule::Playback(playback));
                }
                Told::PlaybackOf { voice, playback } => {
                    let whose = |port: &Port| port.voice == Some(voice) && port.wants("playback");
                    let message = ToModule::Playback(playback);
                    if let Some(index) = self.ports.iter().position(whose) {
                        self.tell(PortId(index), message);
                    }
                }
            }
        }
    }
}
