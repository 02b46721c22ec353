//! The module: cuts each track's sound into windows and reports what the segmenter makes of them. No I/O, no arithmetic on sound.

use ringback_dtmf::{Detector, Press};
use ringback_module::message::{
    self, Accept, AcceptIn, ErrorReport, Framing, Ready, Reject, Start, StopReason, ToModule,
};
use ringback_module::{AudioFrame, FrameFlags, FromModule, Input, Module, ModuleError, Outputs};
use serde_json::json;

use crate::config::Config;
use crate::segmenter::{Change, Segmenter, milliseconds};
use crate::silero::{RATE, Silero, WINDOW};

/// Voice activity detection as a compute module, configured by [`Config`].
///
/// Listens at 16 kHz to one or more tracks and sends `vad` whenever speech or silence has lasted long enough, dated back to where
/// it began. A speech still open at `stop` is closed. Holes in the sound count as silence, and so do keys: dialled fast after a
/// pause, the network takes them for syllables.
#[derive(Debug, Default)]
pub struct Vad {
    config: Config,
    tracks: Vec<Track>,
}

impl Vad {
    /// A module that waits for `start`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn hear(&mut self, frame: &AudioFrame<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        if frame.rate != RATE {
            let message = format!("got {} Hz, accepted {RATE} Hz; resample first", frame.rate);
            return Err(ModuleError::new("wrong_rate", message));
        }
        let Some(track) = self.tracks.iter_mut().find(|track| track.id == frame.track) else {
            let message = format!("got track {}, which was not accepted", frame.track);
            return Err(ModuleError::new("unknown_track", message));
        };
        track.hear(&self.config, frame, out);
        Ok(())
    }

    /// A mistake in an update must not end a session that runs well: the old configuration stays.
    fn update(&mut self, config: &serde_json::Value, out: &mut Outputs) {
        let config = Config::read(config).and_then(|config| {
            if config.tracks == self.config.tracks {
                Ok(config)
            } else {
                Err("vad config: tracks cannot change in a running session".into())
            }
        });
        match config {
            Ok(config) => self.config = config,
            Err(message) => out.push(FromModule::Error(ErrorReport {
                code: "bad_config".into(),
                message,
                ..ErrorReport::default()
            })),
        }
    }
}

impl Module for Vad {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let config = Config::read(&start.config).map_err(Reject::bad_config)?;
        let offered = start.offer.tracks.iter();
        let tracks: Vec<u16> = offered
            .filter(|track| config.tracks.contains(&track.role))
            .map(|track| track.id)
            .collect();
        if tracks.is_empty() {
            let message = format!("vad: none of the tracks {:?} is offered", config.tracks);
            return Err(Reject::unsupported_format(message));
        }
        // With a header, holes are told apart from silence.
        let header = tracks.len() > 1 || start.offer.framing.contains(&Framing::Hdr16);
        self.config = config;
        self.tracks = tracks.iter().copied().map(Track::new).collect();
        Ok(Ready {
            session: start.session.clone(),
            accept: Accept {
                input: Some(AcceptIn::pcm(RATE)),
                tracks,
                framing: if header { Framing::Hdr16 } else { Framing::Raw },
                ..Accept::default()
            },
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            Input::Audio(frame) => self.hear(&frame, out)?,
            Input::Message(ToModule::Update { config }) => self.update(config, out),
            Input::Message(ToModule::Finalize { id }) => {
                // Nothing is ever held back that more sound could not still change.
                out.push(FromModule::Finalized { id: id.clone() });
            }
            _ => {}
        }
        Ok(())
    }

    fn stop(&mut self, _: StopReason, out: &mut Outputs) {
        for track in &mut self.tracks {
            track.finish(out);
        }
    }
}

/// One voice.
#[derive(Debug)]
struct Track {
    id: u16,
    network: Silero,
    keys: Keys,
    segmenter: Segmenter,
    /// Sound that does not fill a window yet: the first `filled` samples.
    window: [i16; WINDOW],
    filled: usize,
    /// Where the next sample belongs; `None` before the first.
    next: Option<u64>,
}

impl Track {
    const fn new(id: u16) -> Self {
        Self {
            id,
            network: Silero::new(),
            keys: Keys::new(),
            segmenter: Segmenter::new(),
            window: [0; WINDOW],
            filled: 0,
            next: None,
        }
    }

    fn hear(&mut self, config: &Config, frame: &AudioFrame<'_>, out: &mut Outputs) {
        let mut next = self.next.unwrap_or(frame.pts);
        if next != frame.pts || frame.flags.contains(FrameFlags::DISCONTINUITY) {
            self.skip(config, next, frame.pts, out);
            next = frame.pts;
        }
        for sample in frame.samples {
            self.window[self.filled] = *sample;
            self.filled += 1;
            next = next.saturating_add(1);
            if self.filled == WINDOW {
                self.filled = 0;
                self.judge(config, next, out);
            }
        }
        self.next = Some(next);
    }

    /// The sound goes on at `to` instead of `next`: windows start anew there.
    fn skip(&mut self, config: &Config, next: u64, to: u64, out: &mut Outputs) {
        let heard = next.saturating_sub(self.filled as u64).min(to);
        self.filled = 0;
        self.network.forget_context();
        self.keys = Keys::new();
        let change = self.segmenter.hole(config, heard, to);
        self.report(change, None, out);
    }

    /// A window that ends at `end` is full.
    fn judge(&mut self, config: &Config, end: u64, out: &mut Outputs) {
        let start = end.saturating_sub(WINDOW as u64);
        let window = self.window.map(|sample| f32::from(sample) / 32_768.0);
        let probability = f64::from(self.network.process(&window));
        if config.probability_events {
            let at_ms = milliseconds(start);
            let data = json!({ "track": self.id, "at_ms": at_ms, "probability": probability });
            out.event("vad.probability", data);
        }
        let speech = if self.keys.pressed(&self.window) { 0.0 } else { probability };
        let change = self.segmenter.window(config, start, end, speech);
        self.report(change, Some(speech), out);
    }

    fn finish(&mut self, out: &mut Outputs) {
        let change = self.segmenter.finish(self.next.unwrap_or_default());
        self.report(change, None, out);
    }

    /// `probability` is that of the window that decided, if it was one.
    fn report(&self, change: Option<Change>, probability: Option<f64>, out: &mut Outputs) {
        if let Some(Change { state, at }) = change {
            let at_ms = milliseconds(at);
            out.vad(message::Vad { track: self.id, state, at_ms, probability });
        }
    }
}

/// Hears key tones.
#[derive(Debug)]
struct Keys {
    detector: Detector,
    /// Presses that ended in the latest window; kept for its memory.
    presses: Vec<Press>,
}

impl Keys {
    const fn new() -> Self {
        Self { detector: Detector::new(0), presses: Vec::new() }
    }

    /// Whether a key was down during the next window.
    fn pressed(&mut self, window: &[i16; WINDOW]) -> bool {
        let before = self.detector.held();
        // Every second sample is 8 kHz; unfiltered, as what folds over only makes tones less pure.
        let narrow: [i16; WINDOW / 2] = std::array::from_fn(|n| window[2 * n]);
        self.presses.clear();
        self.detector.process(&narrow, &mut self.presses);
        before.or(self.detector.held()).is_some() || !self.presses.is_empty()
    }
}
