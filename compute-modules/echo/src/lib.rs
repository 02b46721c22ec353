//! The `echo` compute module: speaks back what the caller says. Keeps no sound but its delay, and judges nothing.
//!
//! ```toml
//! config = { delay_ms = 500, rate = 16000 }   # both optional
//! ```
//!
//! On a call that carries words it has the provider speak what was heard, at once.

use std::collections::VecDeque;

use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Framing, FromModule, Pace, RATES, Ready, Reject, SampleEncoding,
    Start, Transcript,
};
use ringback_module::{AudioFrame, Input, Module, ModuleError, Outputs, ToModule};
use serde::Deserialize;

/// Longest delay, in milliseconds.
const MAX_DELAY_MS: u64 = 60_000;
/// What was spoken back is acknowledged this often: after a crash an echo of long ago helps nobody.
const ACK_MS: u64 = 500;
const CALLER: u16 = 0;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    rate: Option<u32>,
    delay_ms: u64,
}

/// Hears the caller at the track's own rate (or at `rate`) and plays each frame back, `delay_ms` later.
#[derive(Debug, Default)]
pub struct Echo {
    /// Sound on its way; as long as the delay.
    line: VecDeque<i16>,
    delay: usize,
    piece: Vec<i16>,
    acked_ms: u64,
}

impl Echo {
    /// An echo for one session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn repeat(&mut self, frame: &AudioFrame<'_>, out: &mut Outputs) {
        if self.delay == 0 {
            out.play(frame.samples);
        } else {
            self.line.extend(frame.samples);
            let due = self.line.len().saturating_sub(self.delay);
            self.piece.clear();
            self.piece.extend(self.line.drain(..due));
            out.play(&self.piece);
        }
        let ms = frame.at_ms() + frame.samples.len() as u64 * 1_000 / u64::from(frame.rate.max(1));
        if ms >= self.acked_ms + ACK_MS {
            self.acked_ms = ms;
            out.push(FromModule::Ack { in_ms: ms, lag_ms: None });
        }
    }
}

/// Says the words back once they are final.
fn repeat_words(heard: &Transcript, out: &mut Outputs) {
    if heard.is_final && heard.track == CALLER && !heard.text.is_empty() {
        out.say(heard.text.as_str());
    }
}

impl Module for Echo {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let config: Config = start.parse_config()?;
        let rate = config.rate.unwrap_or_else(|| start.native_rate());
        if !RATES.contains(&rate) {
            return Err(Reject::bad_config(format!("rate {rate} is not within {RATES:?}")));
        }
        if config.delay_ms > MAX_DELAY_MS {
            let message = format!("delay_ms {} is over {MAX_DELAY_MS}", config.delay_ms);
            return Err(Reject::bad_config(message));
        }
        if start.carries_text() {
            let (session, want) = (start.session.clone(), vec!["text".into()]);
            return Ok(Ready { session, want, ..Ready::default() });
        }
        if start.offer.output.is_empty() {
            return Err(Reject::unsupported_format("an echo must speak, but `out` is not offered"));
        }
        // At most 60 s at 48 kHz: fits any usize.
        self.delay = (config.delay_ms * u64::from(rate) / 1_000) as usize;
        self.line = VecDeque::from(vec![0; self.delay]);
        let output = AcceptOut { encoding: SampleEncoding::PcmS16le, rate, pace: Pace::Live };
        Ok(Ready {
            session: start.session.clone(),
            accept: Accept {
                input: Some(AcceptIn::pcm(rate)),
                output: Some(output),
                tracks: vec![CALLER],
                framing: Framing::Raw,
            },
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            Input::Audio(frame) if frame.track == CALLER => self.repeat(&frame, out),
            Input::Message(ToModule::Text(heard)) => repeat_words(heard, out),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringback_module::message::Say;
    use ringback_module::{FrameFlags, Output};
    use serde_json::{Value, json};

    use super::*;

    fn start(config: &Value) -> Result<(Echo, Ready), Reject> {
        let start = serde_json::from_value(json!({
            "v": 1, "session": "s", "call": {"id": "c", "provider": "test"}, "config": config,
            "offer": {"tracks": [{"id": 0, "role": "caller"}],
                "in": [{"encoding": "pcmu", "rate": 16000}, {"encoding": "pcmu", "rate": 8000}],
                "out": [{"encoding": "pcm_s16le", "rate": 8000}]},
        }));
        let mut echo = Echo::new();
        let ready = echo.start(&start.unwrap())?;
        Ok((echo, ready))
    }

    /// Speech the echo answers to frames of `len` samples counting up from 1, and its acks.
    fn answers(echo: &mut Echo, frames: u64, len: u64) -> (Vec<i16>, Vec<u64>) {
        let mut out = Outputs::new();
        for n in 0..frames {
            let samples: Vec<i16> = (n * len..(n + 1) * len).map(|s| s as i16 + 1).collect();
            let frame = AudioFrame {
                track: CALLER,
                rate: 16_000,
                pts: n * len,
                flags: FrameFlags::default(),
                samples: &samples,
            };
            echo.process(Input::Audio(frame), &mut out).unwrap();
            let other = AudioFrame { track: 1, ..frame };
            echo.process(Input::Audio(other), &mut out).unwrap();
        }
        let (mut played, mut acks) = (Vec::new(), Vec::new());
        for answer in out.iter() {
            match answer {
                Output::Audio(samples) => played.extend_from_slice(samples),
                Output::Message(FromModule::Ack { in_ms, .. }) => acks.push(*in_ms),
                Output::Message(other) => panic!("unexpected {other:?}"),
            }
        }
        (played, acks)
    }

    #[test]
    fn speaks_back_at_the_native_rate() {
        let (mut echo, ready) = start(&Value::Null).unwrap();
        assert_eq!(ready.accept.input, Some(AcceptIn::pcm(16_000)));
        let output = ready.accept.output.unwrap();
        assert_eq!((output.rate, output.pace), (16_000, Pace::Live));
        let (played, acks) = answers(&mut echo, 60, 320);
        assert_eq!(played, (1..=60 * 320).collect::<Vec<i16>>());
        assert_eq!(acks, [500, 1_000]);
    }

    #[test]
    fn speaks_back_late() {
        let (mut echo, ready) = start(&json!({"rate": 8000, "delay_ms": 30})).unwrap();
        assert_eq!(ready.accept.input, Some(AcceptIn::pcm(8_000)));
        let (played, _) = answers(&mut echo, 3, 160);
        let mut expected = vec![0; 240];
        expected.extend(1..=240);
        assert_eq!(played, expected);
    }

    #[test]
    fn has_words_spoken_back_on_a_call_that_carries_them() {
        let start = serde_json::from_value(json!({
            "v": 1, "session": "s", "call": {"id": "c", "provider": "test"},
            "offer": {"tracks": [], "in": [], "features": ["text", "say"]},
        }));
        let mut echo = Echo::new();
        let ready = echo.start(&start.unwrap()).unwrap();
        assert_eq!((ready.accept, ready.want), (Accept::default(), vec!["text".to_owned()]));
        let mut out = Outputs::new();
        let mut hear = |text: &str, is_final, track| {
            let heard = Transcript { text: text.into(), is_final, track, ..Transcript::default() };
            echo.process(Input::Message(&ToModule::Text(heard)), &mut out).unwrap();
        };
        hear("Hel", false, CALLER);
        hear("Hello.", true, CALLER);
        hear("", true, CALLER);
        hear("I said that myself.", true, 1);
        let said = out.iter().map(|said| match said {
            Output::Message(message) => message.clone(),
            Output::Audio(samples) => panic!("{} samples", samples.len()),
        });
        assert_eq!(said.collect::<Vec<_>>(), [FromModule::Say(Say::new("Hello."))]);
    }

    #[test]
    fn bad_configuration_is_refused() {
        for (config, word) in [
            (json!({"rate": 4000}), "rate 4000"),
            (json!({"delay_ms": 60001}), "delay_ms 60001"),
            (json!({"dealy_ms": 1}), "dealy_ms"),
            (json!({"rate": "8k"}), "8k"),
        ] {
            let reject = start(&config).unwrap_err();
            assert_eq!(reject.code, "bad_config");
            assert!(reject.message.contains(word), "{}", reject.message);
        }
    }
}
