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
//! a second later than the other channel's follows as soon as it can (`late_ms` says by how much at most); none is lost. The file is
//! a valid WAV at every moment: data is written out every second, then the sizes in the header, so a killed process loses
//! a second at most. (The system's cache is not forced to disk: a power cut may lose what it had not written back.)
//!
//! Files are written on the calling thread: run it on a thread of its own or as a process, never where the call's sound flows.
//! A disk that fails costs the recording, with a [`ModuleError`], not the call.

mod file;
mod timeline;

use std::path::PathBuf;

use file::Recording;
use ringback_module::message::{
    Accept, AcceptIn, Framing, FromModule, RATES, Ready, Reject, Role, Start, StopReason,
};
use ringback_module::{AudioFrame, Input, Module, ModuleError, Outputs};
use serde::Deserialize;
use serde_json::json;
use timeline::Timeline;

/// Longest session id that may become a file name.
const MAX_NAME: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    path: Option<PathBuf>,
    dir: Option<PathBuf>,
    rate: Option<u32>,
    overwrite: bool,
}

/// Records one session to one file.
#[derive(Debug, Default)]
pub struct Recorder {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Recording,
    timeline: Timeline,
    /// Track of each channel, if it is recorded.
    tracks: [Option<u16>; 2],
    rate: u32,
    announced: bool,
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
            let in_ms = frames * 1_000 / u64::from(self.rate);
            out.push(FromModule::Ack { in_ms, lag_ms: None });
        }
        Ok(())
    }

    /// Tells how it ended; called once.
    fn finish(mut self, failed: Option<&ModuleError>, out: &mut Outputs) {
        self.announce(out);
        let drained = match failed {
            None => self.timeline.drain(&mut self.file).and_then(|()| self.file.save()),
            Some(_) => Ok(()),
        };
        let error = failed.or(drained.as_ref().err()).map(ToString::to_string);
        let ms = |samples: u64| samples * 1_000 / u64::from(self.rate);
        let mut data = json!({
            "path": self.file.path().display().to_string(),
            "ms": ms(self.file.saved()),
            "late_ms": ms(self.timeline.late()),
        });
        if let Some(error) = error {
            data["error"] = json!(error);
        }
        out.event("recorder.finished", data);
    }
}

impl Module for Recorder {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let config: Config = start.parse_config()?;
        let rate = config.rate.unwrap_or_else(|| start.native_rate());
        if !RATES.contains(&rate) {
            return Err(Reject::bad_config(format!("rate {rate} is not within {RATES:?}")));
        }
        let track = |role| start.offer.tracks.iter().find(|t| t.role == role).map(|t| t.id);
        let tracks = [track(Role::Caller), track(Role::Agent)];
        if tracks == [None, None] {
            return Err(Reject::unsupported_format("no track of caller or agent is offered"));
        }
        let path = choose_path(&config, &start.session)?;
        let resumed = start.resume.is_some();
        let file = if resumed && path.exists() {
            Recording::append(path, rate)
        } else {
            Recording::create(path, rate, config.overwrite)
        };
        let file = file.map_err(|error| Reject::bad_config(error.message))?;
        let timeline =
            Timeline::new(file.frames(), rate, [tracks[0].is_some(), tracks[1].is_some()]);
        self.open = Some(Open { file, timeline, tracks, rate, announced: resumed });
        Ok(Ready {
            session: start.session.clone(),
            accept: Accept {
                input: Some(AcceptIn::pcm(rate)),
                output: None,
                tracks: tracks.into_iter().flatten().collect(),
                framing: Framing::Hdr16,
            },
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.announce(out);
        let taken = match input {
            Input::Audio(frame) => open.take(&frame, out),
            _ => Ok(()),
        };
        if let Err(error) = &taken
            && let Some(open) = self.open.take()
        {
            open.finish(Some(error), out);
        }
        taken
    }

    fn stop(&mut self, _reason: StopReason, out: &mut Outputs) {
        if let Some(open) = self.open.take() {
            open.finish(None, out);
        }
    }
}

/// Where to record. A session's id becomes a file name only if nothing in it can mean anything to a file system.
fn choose_path(config: &Config, session: &str) -> Result<PathBuf, Reject> {
    let dir = match (&config.path, &config.dir) {
        (Some(path), None) => return Ok(path.clone()),
        (None, Some(dir)) => dir,
        _ => {
            return Err(Reject::bad_config("exactly one of `path` (a file) and `dir` is needed"));
        }
    };
    let harmless = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if session.is_empty() || session.len() > MAX_NAME || !session.bytes().all(harmless) {
        return Err(Reject::bad_config(format!(
            "session id {session:?} cannot name a file: 1 to {MAX_NAME} of A-Z, a-z, 0-9, - and _ can"
        )));
    }
    std::fs::create_dir_all(dir)
        .map_err(|e| Reject::bad_config(format!("directory {}: {e}", dir.display())))?;
    Ok(dir.join(format!("{session}.wav")))
}

#[cfg(test)]
mod tests;
