//! The module: leads each track's sound to a detector and its presses to the bridge. No I/O, no arithmetic on sound.

use ringback_module::message::{
    self, Accept, AcceptIn, DtmfSource, ErrorReport, Framing, Ready, Reject, Start, StopReason,
    ToModule,
};
use ringback_module::{AudioFrame, FrameFlags, FromModule, Input, Module, ModuleError, Outputs};

use crate::config::Config;
use crate::detector::{Detector, Press, RATE};

/// Samples of a millisecond.
const PER_MS: u64 = RATE as u64 / 1_000;

/// In-band DTMF detection as a compute module, configured by [`Config`].
///
/// Listens at 8 kHz to one or more tracks and sends `dtmf` once for each press, when its tone has ended; `at_ms` is when it began. A
/// key still down at `stop` is sent then. Sound made up to conceal loss is not listened to.
#[derive(Debug, Default)]
pub struct Dtmf {
    config: Config,
    tracks: Vec<Track>,
    /// Presses of one frame; kept for its memory.
    presses: Vec<Press>,
}

/// One voice.
#[derive(Debug)]
struct Track {
    id: u16,
    /// `None` before the first sample.
    detector: Option<Detector>,
}

impl Dtmf {
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
        track.hear(frame, &mut self.presses);
        report(frame.track, &mut self.presses, out);
        Ok(())
    }

    /// Nothing can change in a running session, but a mistake must not end one that runs well.
    fn update(&self, config: &serde_json::Value, out: &mut Outputs) {
        let message = match Config::read(config) {
            Ok(config) if config == self.config => return,
            Ok(_) => "dtmf config: tracks cannot change in a running session".into(),
            Err(message) => message,
        };
        let code = "bad_config".into();
        out.push(FromModule::Error(ErrorReport { code, message, ..ErrorReport::default() }));
    }
}

impl Module for Dtmf {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let config = Config::read(&start.config).map_err(Reject::bad_config)?;
        let offered = start.offer.tracks.iter();
        let tracks: Vec<u16> = offered
            .filter(|track| config.tracks.contains(&track.role))
            .map(|track| track.id)
            .collect();
        if tracks.is_empty() {
            let message = format!("dtmf: none of the tracks {:?} is offered", config.tracks);
            return Err(Reject::unsupported_format(message));
        }
        // With a header, holes are told apart from silence.
        let header = tracks.len() > 1 || start.offer.framing.contains(&Framing::Hdr16);
        self.config = config;
        self.tracks = tracks.iter().map(|id| Track { id: *id, detector: None }).collect();
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
                out.push(FromModule::Finalized { id: id.clone() });
            }
            _ => {}
        }
        Ok(())
    }

    fn stop(&mut self, _: StopReason, out: &mut Outputs) {
        for track in &mut self.tracks {
            if let Some(detector) = &mut track.detector {
                detector.finish(&mut self.presses);
            }
            report(track.id, &mut self.presses, out);
        }
    }
}

impl Track {
    fn hear(&mut self, frame: &AudioFrame<'_>, presses: &mut Vec<Press>) {
        let detector = self.detector.get_or_insert(Detector::new(frame.pts));
        if frame.pts < detector.position() {
            // The clock jumped back: nothing that was heard joins on.
            detector.finish(presses);
            *detector = Detector::new(frame.pts);
        } else if frame.pts > detector.position() || frame.flags.contains(FrameFlags::DISCONTINUITY)
        {
            detector.skip(frame.pts - detector.position(), presses);
        }
        if frame.flags.contains(FrameFlags::SYNTHESIZED) {
            detector.skip(frame.samples.len() as u64, presses);
        } else {
            detector.process(frame.samples, presses);
        }
    }
}

fn report(track: u16, presses: &mut Vec<Press>, out: &mut Outputs) {
    for press in presses.drain(..) {
        out.push(FromModule::Dtmf(message::Dtmf {
            track,
            digit: press.key,
            duration_ms: Some(press.samples / PER_MS),
            source: DtmfSource::Inband,
            at_ms: press.start / PER_MS,
        }));
    }
}
