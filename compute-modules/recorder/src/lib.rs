//! The `recorder` compute module: a two-channel WAV of the call, left the caller, right what the caller hears. Does not encode,
//! upload or delete.
//!
//! ```toml
//! config = { dir = "recordings" }                       # one file a session: recordings/<session>.wav
//! config = { path = "call.wav", overwrite = true }      # one file, for one call at a time
//! config = { dir = "recordings", rate = 16000 }         # default: the rate of the caller's own sound
//! ```
//!
//! Both channels are placed by their positions on the call's clock, so they stay together and gaps are silence. Sound that comes over
//! a second later than the other channel's follows as soon as it can (`late_ms` says by how much at most); none is lost.
//!
//! Until it is finished a recording is called `<name>.wav.part`. Sound is given to the system every tenth of a second, and every second
//! it is forced to disk and then told of by the header (`sync = false` leaves when to the system), so that a killed process, or a power
//! cut, costs a second at most; where the disk takes longer than that, it is forced less often, up to every 20 seconds. [`repair`] makes
//! good what a killed process left. What is known of a recording in a `dir` stands beside it, as [`About`].
//!
//! Where there is no room, what was said so far is closed in room that was kept for it (`recorder.stopped`); when there is room again the
//! recording goes on behind silence as long as what was missed (`recorder.resumed`). With `when_full = "fail"` the recorder has failed
//! instead. A disk that fails otherwise costs the recording, with a [`ModuleError`], not the call. A slow one is forced less often. Whatever
//! the recorder was told and could not keep is told: `gaps`, `missing_ms`, and a `state` that is not `finished`.
//!
//! With `encrypt = { key = "file:/path", key_id = "2026" }` a recording is sealed: encrypted where it is written, with a key of its own
//! that the named one wraps, and called `<name>.wav.sealed`. What is known of it is inside. [`vault`] has what reads it.
//!
//! With `record = "on_consent"` nothing is written before somebody says that the caller agrees (`consent`): the recording begins there,
//! behind silence that keeps its times, and ends when consent is withdrawn.
//!
//! Files are written on the calling thread: run it on a thread of its own or as a process, never where the call's sound flows.

mod about;
mod body;
mod config;
mod disk;
mod file;
mod keep;
mod look;
mod repair;
mod timeline;
pub mod vault;
mod wav;

use std::path::PathBuf;

use about::part_of;
use config::{Config, Record};
use file::{Change, Options, Recording};
use ringback_module::message::{
    self, Accept, AcceptIn, ConsentGiven, Framing, FromModule, GapReason, PrivatePart,
    PrivateState, Ready, Reject, Role, Start, StopReason,
};
use ringback_module::{AudioFrame, Input, Module, ModuleError, Outputs, ToModule};
use serde_json::json;
use timeline::Timeline;

pub use about::{About, Gap, State};
pub use config::{Place, Settings, check};
pub use disk::try_to_write;
pub use keep::{LookedAfter, Removed, hold, is_busy, is_held, look_after, remove};
pub use look::{Look, Seal, Stage, look, name_of};
pub use repair::{Outcome, repair, repair_file};

/// Longest session id that may become a file name.
const MAX_NAME: usize = 64;

/// Records one session to one file.
#[derive(Debug, Default)]
pub struct Recorder {
    open: Option<Open>,
    /// Nothing is recorded before the caller agrees.
    plan: Option<Plan>,
    /// It ends when the caller does not agree any longer.
    by_consent: bool,
}

/// A recording that has not begun.
#[derive(Debug)]
struct Plan {
    path: PathBuf,
    rate: u32,
    options: Options,
    about: Option<About>,
    tracks: [Option<u16>; 2],
    /// The call is private since this millisecond.
    private: Option<u64>,
}

impl Plan {
    /// Begins it at this frame of the call, or goes on with one that was interrupted.
    fn open(self, from: u64, resumed: bool) -> Result<Open, ModuleError> {
        let Self { path, rate, options, about, tracks, private } = self;
        let file = if resumed {
            Recording::resume(path, rate, options, about, from)
        } else {
            Recording::create_at(path, rate, options, about, from)
        };
        let file = file?;
        let live = [tracks[0].is_some(), tracks[1].is_some()];
        let timeline = Timeline::new(file.frames(), rate, live);
        // What was private before the recording begins is not in it.
        let private = private.map(|since| since.max(from * 1_000 / u64::from(rate)));
        Ok(Open { file, timeline, tracks, rate, announced: resumed, private })
    }
}

#[derive(Debug)]
struct Open {
    file: Recording,
    timeline: Timeline,
    /// Track of each channel, if it is recorded.
    tracks: [Option<u16>; 2],
    rate: u32,
    announced: bool,
    /// The call is private since this millisecond.
    private: Option<u64>,
}

/// How a recording ends.
enum End<'a> {
    /// The call is over, or the consent.
    Over,
    /// Nobody said so.
    Cut,
    /// It cannot go on.
    Failed(&'a ModuleError),
}

impl Recorder {
    /// A recorder for one session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Open {
    fn announce(&mut self, out: &mut Outputs) {
        if !self.announced {
            self.announced = true;
            let path = self.file.path().display().to_string();
            out.event("recorder.started", json!({"path": path, "rate": self.rate}));
        }
    }

    fn take(&mut self, frame: &AudioFrame<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        let Some(channel) = self.tracks.iter().position(|&track| track == Some(frame.track)) else {
            return Ok(());
        };
        if frame.rate != self.rate {
            let (got, rate) = (frame.rate, self.rate);
            let message = format!("sound at {got} Hz came for a file of {rate} Hz");
            return Err(ModuleError::new("format", message));
        }
        self.timeline.place(channel, frame.pts, frame.samples, &mut self.file)?;
        if let Some(frames) = self.file.save_if_due()? {
            out.push(FromModule::Ack { in_ms: self.millis(frames), lag_ms: None });
        }
        Ok(())
    }

    fn millis(&self, samples: u64) -> u64 {
        samples * 1_000 / u64::from(self.rate)
    }

    /// Sound of a private part comes as silence; here it is noted where.
    fn note_private(&mut self, part: &PrivatePart) {
        match part.state {
            // Told again, it began when it did.
            PrivateState::Began => self.private = self.private.or(Some(part.at_ms)),
            PrivateState::Ended => {
                if let Some(from_ms) = self.private.take() {
                    self.file.note_pause(Gap { from_ms, to_ms: part.at_ms });
                }
            }
        }
    }

    /// Tells what happened to the file.
    fn tell_changes(&mut self, out: &mut Outputs) {
        for change in self.file.take_changes() {
            let path = self.file.path().display().to_string();
            match change {
                Change::Damaged(aside, at) => {
                    let data = json!({"path": path, "damaged": aside, "octet": at});
                    out.event("recorder.damaged", data);
                }
                Change::Full(at) => {
                    let data = json!({"path": path, "ms": self.millis(at), "reason": "no_space"});
                    out.event("recorder.stopped", data);
                }
                Change::Room(from, to) => {
                    let (from_ms, to_ms) = (self.millis(from), self.millis(to));
                    let gap = json!({"from_ms": from_ms, "to_ms": to_ms});
                    out.event("recorder.resumed", json!({"path": path, "gap": gap}));
                }
            }
        }
    }

    /// Sound that will not come: silence stands in its place. What the provider never sent is no loss of ours.
    fn note_gap(&mut self, gap: &message::Gap) {
        let ours = self.tracks.contains(&Some(gap.track));
        if ours && matches!(gap.reason, GapReason::Backpressure | GapReason::Resume) {
            let from_ms = match gap.reason {
                // What was written and not acknowledged yet is there.
                GapReason::Resume => gap.from_ms.max(self.millis(self.file.frames())),
                _ => gap.from_ms,
            };
            if from_ms < gap.to_ms {
                self.file.note_lost(Gap { from_ms, to_ms: gap.to_ms });
            }
        }
    }

    /// Tells how it ended, and what of it is missing; called once.
    fn finish(mut self, end: &End<'_>, out: &mut Outputs) {
        self.announce(out);
        let at_ms = self.millis(self.file.frames());
        self.note_private(&PrivatePart { state: PrivateState::Ended, at_ms });
        let (failed, state) = match end {
            End::Over => (None, State::Finished),
            End::Cut => (None, State::Cut),
            End::Failed(error) => (Some(*error), State::Failed),
        };
        let drained = match failed {
            None => self.timeline.drain(&mut self.file),
            Some(_) => Ok(()),
        };
        let state = if drained.is_err() { State::Failed } else { state };
        let (state, missing, finished) = self.file.finish(state, self.timeline.waiting());
        self.tell_changes(out);
        let error = failed.or(drained.as_ref().err()).or(finished.as_ref().err());
        let mut data = json!({
            "path": self.file.path().display().to_string(),
            "state": state,
            "ms": self.millis(self.file.saved()),
            "late_ms": self.millis(self.timeline.late()),
        });
        if missing > 0 {
            data["missing_ms"] = json!(self.millis(missing));
        }
        if let Some(error) = error {
            data["error"] = json!(error.to_string());
        }
        out.event("recorder.finished", data);
    }
}

impl Module for Recorder {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let config: Config = start.parse_config()?;
        config.check().map_err(Reject::bad_config)?;
        let rate = config.rate.unwrap_or_else(|| start.native_rate());
        let track = |role| start.offer.tracks.iter().find(|t| t.role == role).map(|t| t.id);
        let tracks = [track(Role::Caller), track(Role::Agent)];
        if tracks == [None, None] {
            return Err(Reject::unsupported_format("no track of caller or agent is offered"));
        }
        let path = choose_path(&config, &start.session)?;
        let about = config.dir.is_some().then(|| About::new(start, rate));
        let options = config.options().map_err(Reject::bad_config)?;
        let plan = Plan { path, rate, options, about, tracks, private: None };
        self.by_consent = config.record == Record::OnConsent;
        let resumed = start.resume.is_some();
        if self.by_consent && !(resumed && part_of(&plan.path).exists()) {
            self.plan = Some(plan);
        } else {
            let from_ms = start.resume.as_ref().map_or(0, |resume| resume.from_ms);
            let open = plan.open(from_ms * u64::from(rate) / 1_000, resumed);
            self.open = Some(open.map_err(|error| Reject::bad_config(error.message))?);
        }
        Ok(Ready {
            session: start.session.clone(),
            accept: Accept {
                input: Some(AcceptIn::pcm(rate)),
                output: None,
                tracks: tracks.into_iter().flatten().collect(),
                framing: Framing::Hdr16,
            },
            want: vec!["private".into(), "consent".into()],
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        if let Input::Message(ToModule::Consent(consent)) = input
            && self.by_consent
        {
            return self.consent(consent, out);
        }
        let Some(open) = &mut self.open else {
            if let (Some(plan), Input::Message(ToModule::Private(part))) = (&mut self.plan, input) {
                plan.private = (part.state == PrivateState::Began).then_some(part.at_ms);
            }
            return Ok(());
        };
        open.announce(out);
        let taken = match input {
            Input::Audio(frame) => open.take(&frame, out),
            Input::Message(ToModule::Private(part)) => {
                open.note_private(part);
                Ok(())
            }
            Input::Message(ToModule::Gap(gap)) => {
                open.note_gap(gap);
                Ok(())
            }
            _ => Ok(()),
        };
        open.tell_changes(out);
        if let Err(error) = &taken
            && let Some(open) = self.open.take()
        {
            open.finish(&End::Failed(error), out);
        }
        taken
    }

    fn stop(&mut self, reason: StopReason, out: &mut Outputs) {
        if let Some(open) = self.open.take() {
            open.finish(if reason == StopReason::Gone { &End::Cut } else { &End::Over }, out);
        }
        if self.plan.take().is_some() {
            out.event("recorder.skipped", json!({"reason": "no_consent"}));
        }
    }
}

impl Recorder {
    /// The caller agreed, or no longer does.
    fn consent(&mut self, consent: &ConsentGiven, out: &mut Outputs) -> Result<(), ModuleError> {
        if !consent.given {
            if let Some(open) = self.open.take() {
                open.finish(&End::Over, out);
            }
            return Ok(());
        }
        let Some(mut plan) = self.plan.take() else { return Ok(()) };
        if let Some(about) = &mut plan.about {
            about.consent = Some(consent.clone());
        }
        let from = consent.at_ms * u64::from(plan.rate) / 1_000;
        self.open.insert(plan.open(from, false)?).announce(out);
        Ok(())
    }
}

/// Where to record. A session's id becomes a file name only if nothing in it can mean anything to a file system.
fn choose_path(config: &Config, session: &str) -> Result<PathBuf, Reject> {
    let (Some(dir), None) = (&config.dir, &config.path) else {
        return Ok(config.path.clone().unwrap_or_default());
    };
    let harmless = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if session.is_empty() || session.len() > MAX_NAME || !session.bytes().all(harmless) {
        return Err(Reject::bad_config(format!(
            "session id {session:?} cannot name a file: 1 to {MAX_NAME} of A-Z, a-z, 0-9, - and _ can"
        )));
    }
    disk::make_dir(dir)
        .map_err(|e| Reject::bad_config(format!("directory {}: {e}", dir.display())))?;
    let sealed = if config.is_sealed() { vault::SEALED } else { "" };
    Ok(dir.join(format!("{session}.wav{sealed}")))
}

#[cfg(test)]
mod tests;
