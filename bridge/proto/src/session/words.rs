//! Calls that carry words: what the provider heard becomes transcripts, what a module says goes to the provider to be spoken. Knows no
//! sound.

use std::time::Duration;

use ringback_module::ToModule;
use ringback_module::message::{Cleared, Languages, Play, Say, Spoken, Transcript};

use crate::Instant;
use crate::ledger::Drop;
use crate::provider::Command;

use super::port::{CALLER, PortId};
use super::telling::Audience;
use super::{EndReason, Report, Session};

/// Speech takes about so long for each character; nobody tells when it is over, and a hang-up that waits for it must guess.
const PER_CHARACTER: Duration = Duration::from_millis(75);
/// Speech begins so long after it was asked for.
const SYNTHESIS: Duration = Duration::from_secs(1);

/// Words of a call, both ways.
#[derive(Debug)]
pub(super) struct Words {
    epoch: u32,
    /// Utterances of the caller that are complete.
    utterances: u64,
    /// When the provider first told of the utterance that is not, in ms of the call.
    since: Option<u64>,
    /// An utterance of ours is not complete.
    open: bool,
    /// When all that was said will have been spoken, as far as one can guess.
    spoken_at: Instant,
    /// Messages from the provider and to it.
    pub(super) arrived: u64,
    pub(super) sent: u64,
}

impl Words {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: 0,
            utterances: 0,
            since: None,
            open: false,
            spoken_at: now,
            arrived: 0,
            sent: 0,
        }
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// When everything will have been spoken, if that is still to come.
    pub(super) fn speaking_until(&self, now: Instant) -> Option<Instant> {
        (self.spoken_at > now).then_some(self.spoken_at)
    }

    fn begin_epoch(&mut self, now: Instant) -> u32 {
        let ended = self.epoch;
        self.epoch = ended.saturating_add(1);
        self.open = false;
        self.spoken_at = now;
        ended
    }

    fn said(&mut self, now: Instant, say: &Say) {
        let characters = u32::try_from(say.text.chars().count()).unwrap_or(u32::MAX);
        let begins = self.spoken_at.max(now + SYNTHESIS);
        self.spoken_at = begins + PER_CHARACTER.saturating_mul(characters);
        self.open = !say.last;
        self.sent += 1;
    }
}

impl Session {
    /// The provider heard words of the caller.
    pub(super) fn handle_words(
        &mut self,
        now: Instant,
        text: &str,
        language: Option<&str>,
        last: bool,
    ) {
        let at_ms = self.elapsed_ms(now);
        let Some(words) = self.words.as_mut().filter(|_| self.phase.is_live()) else { return };
        words.arrived += 1;
        if text.is_empty() && words.since.is_none() {
            return;
        }
        let transcript = Transcript {
            id: format!("p{}", words.utterances + 1),
            track: CALLER,
            text: text.to_owned(),
            is_final: last,
            start_ms: *words.since.get_or_insert(at_ms),
            end_ms: at_ms,
            language: language.map(str::to_owned),
            ..Transcript::default()
        };
        if last {
            words.utterances += 1;
            words.since = None;
        }
        // A provider that tells whole utterances only tells of them when they are over, and not when they began.
        if self.was_private(transcript.start_ms, transcript.end_ms) || self.is_settling() {
            self.count_private_result();
            return self.tell_words(None, &transcript, Audience::Private);
        }
        self.tell_words(None, &transcript, Audience::All);
        self.report(Report::Transcript(None, transcript));
    }

    /// The caller cut in, and the provider has dropped what it had to speak: a clear that has happened already.
    pub(super) fn handle_interrupted(
        &mut self,
        now: Instant,
        heard: Option<&str>,
        after: Option<Duration>,
    ) {
        let Some(words) = self.words.as_mut().filter(|_| self.phase.is_live()) else { return };
        let cleared = Cleared {
            epoch: words.begin_epoch(now),
            played_ms: after.map_or(0, |after| after.as_millis() as u64),
            discarded_ms: 0,
            heard: heard.map(str::to_owned),
        };
        self.tell_cleared(&cleared, None, None);
    }

    /// A module drops what it said. The provider cannot be told to; an utterance that was begun is ended, so that the next is one of
    /// its own.
    pub(super) fn clear_words(&mut self, now: Instant, by: Option<PortId>) {
        let Some(words) = &mut self.words else { return };
        let open = std::mem::take(&mut words.open);
        let spoken_at = words.spoken_at;
        let cleared = Cleared { epoch: words.begin_epoch(now), ..Cleared::default() };
        // It goes on being spoken.
        words.spoken_at = spoken_at;
        if open {
            self.order(now, Command::Say { text: "", language: None, last: true });
        }
        self.tell_cleared(&cleared, by, None);
    }

    /// The provider has spoken words of ours.
    pub(super) fn handle_spoken(&mut self, text: &str) {
        let Some(words) = self.words.as_ref().filter(|_| self.phase.is_live()) else { return };
        let spoken = Spoken { epoch: words.epoch(), text: text.to_owned() };
        let audience = if self.is_private() { Audience::Private } else { Audience::All };
        self.tell_audience("spoken", None, &ToModule::Spoken(spoken), audience);
    }

    /// A module has words for the provider to speak.
    pub(super) fn handle_say(&mut self, now: Instant, id: PortId, say: &Say) {
        if self.words.is_none() {
            return self.refuse(id, "say", "this call carries sound; send sound to be played");
        }
        if self.may_say(id, say.epoch) {
            if let Some(words) = &mut self.words {
                words.said(now, say);
            }
            let (text, language) = (say.text.as_str(), say.language.as_deref());
            self.order(now, Command::Say { text, language, last: say.last });
            if self.keeps_to_itself(id) {
                self.count_private_result();
            } else {
                self.report(Report::Said(id, say.clone()));
            }
        }
    }

    /// A module has a file for the provider to play.
    pub(super) fn handle_play(&mut self, now: Instant, id: PortId, play: &Play) {
        if self.words.is_none() {
            return self.refuse(id, "play", "this call carries sound; send the sound to be played");
        }
        if !self.start.as_ref().is_some_and(|start| start.capabilities.files) {
            return self.refuse(id, "play", "this provider fetches no files");
        }
        // Paths and the like would be read by nobody that the module knows.
        if !["https://", "http://"].iter().any(|scheme| play.url.starts_with(scheme)) {
            return self.refuse(
                id,
                "play",
                "`url` is no http:// or https:// URL, where the provider could fetch it",
            );
        }
        if self.may_say(id, play.epoch) {
            if let Some(words) = &mut self.words {
                words.sent += 1;
            }
            let Play { url, times, preemptible, interruptible, .. } = play;
            let (times, preemptible, interruptible) = (*times, *preemptible, *interruptible);
            self.order(now, Command::PlayFile { url, times, preemptible, interruptible });
        }
    }

    /// Whether a message of a module's words goes to the provider; counts it, and says why not.
    fn may_say(&mut self, id: PortId, epoch: Option<u32>) -> bool {
        let stale = epoch.is_some_and(|epoch| epoch != self.epoch(id));
        let live = self.phase.is_live();
        let port = &mut self.ports[id.0];
        port.said.entered += 1;
        let (counter, reason) = match () {
            () if !live => (&mut port.said.after_end, Drop::AfterEnd),
            () if !port.config.speaks || port.agreed.is_none() => {
                (&mut port.said.not_speaker, Drop::NotSpeaker)
            }
            () if stale => (&mut port.said.stale, Drop::Stale),
            () => {
                port.said.left += 1;
                return true;
            }
        };
        *counter += 1;
        self.report(Report::Dropped { reason, count: 1 });
        false
    }

    /// A module wants other languages.
    pub(super) fn handle_languages(&mut self, now: Instant, id: PortId, languages: &Languages) {
        if self.words.is_none() {
            return self.refuse(id, "language", "this call carries sound, and no words");
        }
        let (speech, recognition) = (languages.speech.as_deref(), languages.recognition.as_deref());
        if speech.is_none() && recognition.is_none() {
            return self.refuse(id, "language", "it names neither `speech` nor `recognition`");
        }
        self.order(now, Command::Language { speech, recognition });
    }

    /// Tells the wire; a failure ends the call.
    fn order(&mut self, now: Instant, command: Command<'_>) {
        if let Err(error) = self.protocol.handle_command(now, command, &mut self.outbox) {
            self.end(now, EndReason::Protocol(error));
        }
    }
}
