//! Where a module is attached to a call: what it agreed to, what it has been given, whether it may speak. Runs no module.

use std::time::Duration;

use ringback_codecs::{Resampler, SampleRate};
use ringback_module::message::{
    AcceptIn, AcceptOut, Dtmf, Framing, Kind, Overflow, Pace, Ready, Transcript,
};

use crate::ledger::Drop;
use crate::media::tap::{Tap, TapAccounts};

use super::missed::Missed;

/// Tracks as modules number them.
pub(super) const CALLER: u16 = 0;
pub(super) const AGENT: u16 = 1;

/// What happens to the call when a module fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFail {
    /// The call goes on without it.
    #[default]
    Continue,
    /// The call ends.
    Hangup,
    /// Another module, which stands by, is started in its place.
    Fallback(PortId),
}

/// A module as the route wants it on a call.
#[derive(Debug, Clone, PartialEq)]
pub struct PortConfig {
    /// Name, as in the configuration.
    pub name: String,
    /// What it is used as.
    pub kind: Kind,
    /// Handed to the module as it is.
    pub config: serde_json::Value,
    /// Whether it may play sound or have words spoken, clear, press keys and hang up. The last three are open to the kind `text` even
    /// without.
    pub speaks: bool,
    /// What its failure means for the call.
    pub on_fail: OnFail,
    /// It must agree to its session within.
    pub ready_timeout: Duration,
    /// Whether it runs in step with the session, so that nothing it says can be out of date.
    pub in_step: bool,
    /// A filter's answer to a frame is waited for so long.
    pub budget: Duration,
    /// Whether it is started only when another that is to be followed by it ([`OnFail::Fallback`]) has failed.
    pub standby: bool,
    /// Whether it is given what is said and pressed in private parts of the call. Others are given silence, and nothing.
    pub hears_private: bool,
    /// The shell's number for what runs it, told back in [`Action::StartModule`](super::Action::StartModule).
    pub source: usize,
    /// The module of the route in whose place it is, where it is a canary.
    pub replaces: Option<String>,
}

impl PortConfig {
    /// Whether it may play sound.
    pub(super) fn plays(&self) -> bool {
        self.speaks && self.kind != Kind::Text
    }

    /// Whether it plays sound from the beginning.
    pub(super) fn is_voice(&self) -> bool {
        self.plays() && !self.standby
    }

    /// Whether it stands between the caller's sound and everybody else from the beginning.
    pub(super) fn is_filter(&self) -> bool {
        self.kind == Kind::Filter && !self.standby
    }

    /// A module that listens, with nothing configured.
    #[must_use]
    pub fn listening(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Tap,
            config: serde_json::Value::Null,
            speaks: false,
            on_fail: OnFail::default(),
            ready_timeout: Duration::from_secs(10),
            in_step: false,
            budget: Duration::from_millis(20),
            standby: false,
            hears_private: false,
            source: 0,
            replaces: None,
        }
    }
}

/// Names a module's place on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortPhase {
    /// Not started: the call has not.
    Idle,
    /// `start` was sent.
    Starting,
    /// It agreed and gets sound.
    Live,
    /// It went away and may come back; sound is kept.
    Down,
    /// `stop` was sent.
    Stopping,
    /// It is no more.
    Gone,
}

/// A port that may still have something to say.
pub(super) const BUSY: [PortPhase; 4] =
    [PortPhase::Starting, PortPhase::Live, PortPhase::Down, PortPhase::Stopping];

pub(super) struct Port {
    pub(super) config: PortConfig,
    /// As what it plays, if it may.
    pub(super) voice: Option<usize>,
    /// As what it filters the caller's sound, if it does.
    pub(super) filter: Option<usize>,
    pub(super) phase: PortPhase,
    pub(super) agreed: Option<Agreed>,
    /// What it was given of each track before it went away.
    pub(super) heard_before: Box<[(u16, TapAccounts)]>,
    /// Everything up to here need not be replayed, in ms of the call.
    pub(super) acked_ms: u64,
    pub(super) resume_token: Option<String>,
    /// Where its sound begins, in ms of the call.
    pub(super) from_ms: u64,
    /// Playback generation it knows of.
    pub(super) told_epoch: u32,
    pub(super) results: u64,
    pub(super) overran: u64,
    pub(super) starts: u32,
    pub(super) spoken: Spoken,
    /// The same of words, in messages.
    pub(super) said: Spoken,
    /// What the caller said, where the provider tells it in words.
    pub(super) heard: Missed<Transcript, 16>,
    /// Keys that were pressed.
    pub(super) keys: Missed<Dtmf, 32>,
    /// Messages it was told, and those that it did not read.
    pub(super) told: u64,
    pub(super) unread: u64,
    pub(super) last_error: Option<String>,
    /// Its session goes on from another one's, or from before a crash.
    pub(super) resumed: bool,
    /// Another took its place.
    pub(super) replaced: bool,
}

/// Sound a module sent, in samples at its own rate, or words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken {
    pub(super) entered: u64,
    pub(super) left: u64,
    pub(super) not_speaker: u64,
    pub(super) stale: u64,
    pub(super) after_end: u64,
    /// Let go by its host before they came here.
    pub(super) flooded: u64,
    pub(super) cleared: u64,
    pub(super) call_ended: u64,
    pub(super) module_gone: u64,
}

impl Spoken {
    /// Its host let so much go.
    pub(super) fn drop(&mut self, reason: Drop, count: u64) {
        let dropped = match reason {
            Drop::Cleared => &mut self.cleared,
            Drop::CallEnded => &mut self.call_ended,
            Drop::ModuleGone => &mut self.module_gone,
            _ => &mut self.flooded,
        };
        *dropped += count;
    }
}

/// What a module agreed to in `ready`.
pub(super) struct Agreed {
    pub(super) input: Option<AcceptIn>,
    pub(super) output: Option<Speaker>,
    pub(super) taps: Vec<(u16, Tap)>,
    pub(super) want: Vec<String>,
    /// Sound may be sent up to this many ms of the call, if the module limits it.
    pub(super) credit: Option<Credit>,
    pub(super) fail_on_gap: bool,
    /// Its session goes on from before: what is missing at its beginning was lost while the module was away.
    pub(super) resuming: bool,
    pub(super) turn: usize,
    /// See [`Port::filter`].
    pub(super) filter: Option<usize>,
}

pub(super) struct Credit {
    pub(super) window_ms: u64,
    pub(super) granted_ms: u64,
    /// Sound given so far.
    pub(super) given_ms: u64,
}

pub(super) struct Speaker {
    pub(super) pace: Pace,
    pub(super) resampler: Resampler,
    /// Whether its bare sound belongs to the present epoch; a clear disarms it until `audio.begin`.
    pub(super) armed: bool,
}

impl Port {
    pub(super) fn new(config: PortConfig) -> Self {
        Self {
            config,
            voice: None,
            filter: None,
            phase: PortPhase::Idle,
            agreed: None,
            heard_before: Box::default(),
            acked_ms: 0,
            resume_token: None,
            from_ms: 0,
            told_epoch: 0,
            results: 0,
            overran: 0,
            starts: 0,
            spoken: Spoken::default(),
            said: Spoken::default(),
            heard: Missed::default(),
            keys: Missed::default(),
            told: 0,
            unread: 0,
            last_error: None,
            resumed: false,
            replaced: false,
        }
    }

    /// What was given to it of each track.
    pub(super) fn hearings(&self) -> impl Iterator<Item = (u16, TapAccounts)> {
        let now = self.agreed.iter().flat_map(|agreed| &agreed.taps);
        let now = now.map(|(track, tap)| (*track, tap.accounts()));
        let hears = |track: u16| {
            self.agreed.iter().flat_map(|agreed| &agreed.taps).any(|(other, _)| *other == track)
        };
        now.chain(self.heard_before.iter().copied().filter(move |(track, _)| !hears(*track)))
    }

    /// It is not there any more: what it had of each track is kept for when it comes back.
    pub(super) fn went_away(&mut self) {
        self.heard_before = self.hearings().collect();
        self.agreed = None;
    }

    /// Whether it had anything to do with the call; one that stood by and was not needed had not.
    pub(super) fn took_part(&self) -> bool {
        !self.config.standby || self.starts > 0
    }

    /// Whether it may clear, press keys and hang up.
    pub(super) fn controls(&self) -> bool {
        self.config.speaks || self.config.kind == Kind::Text
    }

    pub(super) fn is_live(&self) -> bool {
        self.phase == PortPhase::Live
    }

    pub(super) fn wants(&self, what: &str) -> bool {
        self.is_live() && self.agreed.as_ref().is_some_and(|a| a.want.iter().any(|w| w == what))
    }

    /// Sound of the port's tracks may be given up to the module's credit.
    pub(super) fn has_credit(&self) -> bool {
        match self.agreed.as_ref().and_then(|a| a.credit.as_ref()) {
            Some(c) => {
                let until = self.acked_ms.saturating_add(c.window_ms).saturating_add(c.granted_ms);
                c.given_ms < until
            }
            None => true,
        }
    }
}

/// Why there is no sound for any module.
pub(super) const NO_SOUND: &str =
    "this call has no sound: the provider recognises speech and speaks by itself";
/// Why there is none for this one.
pub(super) const NO_SOUND_FOR_TEXT: &str = "a module of the kind `text` gets words and no sound";

/// Checks an answer to `start` where there is no sound, for the reason given.
pub(super) fn check_soundless(ready: &Ready, without: &str) -> Result<(), String> {
    // Tracks mean nothing to who hears none.
    if ready.accept.input.is_some() {
        return Err(format!("{without}; accept no `in` and want \"text\" instead"));
    }
    if ready.accept.output.is_some() {
        return Err(format!("{without}; accept no `out` and answer with `say`"));
    }
    Ok(())
}

/// Checks an answer to `start` against what can be had; the error is for the module's author.
pub(super) fn check(ready: &Ready, tracks: &[u16]) -> Result<(), String> {
    let accept = &ready.accept;
    if let Some(input) = accept.input {
        check_rate("accept.in.rate", input.rate)?;
        if !(5..=1_000).contains(&input.frame_ms) {
            return Err(format!("accept.in.frame_ms is {}, must be 5 to 1000", input.frame_ms));
        }
    }
    if let Some(output) = accept.output {
        check_rate("accept.out.rate", output.rate)?;
    }
    if let Some(unknown) = accept.tracks.iter().find(|t| !tracks.contains(t)) {
        return Err(format!("accept.tracks names track {unknown}; offered were {tracks:?}"));
    }
    if accept.tracks.iter().enumerate().any(|(i, t)| accept.tracks[..i].contains(t)) {
        return Err("accept.tracks names a track twice".into());
    }
    if ready.overflow == Overflow::DropNewest {
        return Err(
            "overflow \"drop_newest\" is not to be had here; the ring drops the oldest".into()
        );
    }
    if accept.framing == Framing::Raw && accept.tracks.len() > 1 {
        return Err("raw framing carries one track; accept framing \"hdr16\" for more".into());
    }
    Ok(())
}

/// Checks the answer of a filter of a track at `rate`, which was found good otherwise.
pub(super) fn check_filter(ready: &Ready, rate: Option<SampleRate>) -> Result<(), String> {
    let rate = rate.map(SampleRate::hz);
    let input = ready.accept.input.map(|input| input.rate);
    let output = ready.accept.output.map(|output| output.rate);
    match rate {
        Some(hz) if (input, output) != (rate, rate) => Err(format!(
            "a filter answers each frame with a frame: accept `in` and `out` at {hz} Hz, the track's own rate"
        )),
        None if input.or(output).is_some() => {
            Err("there is no sound of the caller to filter; accept neither `in` nor `out`".into())
        }
        _ => Ok(()),
    }
}

fn check_rate(field: &str, hz: u32) -> Result<(), String> {
    match SampleRate::new(hz) {
        Some(_) => Ok(()),
        None => {
            Err(format!("{field} is {hz} Hz, must be {} to {}", SampleRate::MIN, SampleRate::MAX))
        }
    }
}

impl Speaker {
    /// `None` if the stream cannot play or the rate is absurd (checked before).
    pub(super) fn new(accept: AcceptOut, wire: SampleRate) -> Option<Self> {
        let rate = SampleRate::new(accept.rate)?;
        Some(Self { pace: accept.pace, resampler: Resampler::new(rate, wire), armed: true })
    }
}

/// What a module may see of a call's time before it was there.
pub(super) fn position_of(ms: u64, rate: SampleRate) -> u64 {
    rate.samples_in(Duration::from_millis(ms))
}
