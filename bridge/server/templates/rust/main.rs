//! NAME: a Ringback compute module. It tells how loud the caller is, and hangs up on `#`.

use std::process::ExitCode;

use ringback_module::message::{
    Accept, AcceptIn, Hangup, Ready, Reject, Start, StopReason, ToModule,
};
use ringback_module::{Input, Module, ModuleError, Outputs};
use serde::Deserialize;
use serde_json::json;

/// The module's own configuration, as in the route.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    limit: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { limit: 20_000 }
    }
}

/// One call: there is one value for each.
#[derive(Debug, Default)]
struct CLASS {
    config: Config,
}

impl Module for CLASS {
    /// A call begins: say what you want to hear. The bridge converts whatever the call sounds like.
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        self.config = start.parse_config()?;
        if start.offer.input.is_empty() {
            return Err(Reject::unsupported_format("it hears sound, and this call carries words"));
        }
        // `output: Some(AcceptOut::pcm(16_000))` to answer with sound: `out.play(samples)`.
        let accept = Accept { input: Some(AcceptIn::pcm(16_000)), ..Accept::default() };
        Ok(Ready { accept, want: vec!["dtmf".into()], ..Ready::default() })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            // The next 20 ms of mono samples; `at_ms` is where they begin on the call's clock.
            Input::Audio(frame) => {
                let peak = frame.samples.iter().map(|sample| sample.unsigned_abs()).max();
                if let Some(peak) = peak.filter(|&peak| peak > self.config.limit) {
                    out.event("too.loud", json!({ "peak": peak, "at_ms": frame.at_ms() }));
                }
            }
            Input::Message(ToModule::Dtmf(key)) if key.digit == '#' => {
                let reason = "the caller pressed #".into();
                out.hangup(Hangup { reason, ..Hangup::default() });
            }
            _ => {}
        }
        Ok(())
    }

    /// The call is over: last words.
    fn stop(&mut self, _reason: StopReason, _out: &mut Outputs) {}
}

fn main() -> ExitCode {
    ringback_module::stdio::run("NAME", || Box::new(CLASS::default()))
}

#[cfg(test)]
mod tests {
    use ringback_module::message::FromModule;
    use ringback_module::{AudioFrame, FrameFlags, Output};

    use super::*;

    /// What the module says to 20 ms of this sample.
    fn said(sample: i16) -> Vec<FromModule> {
        let mut out = Outputs::new();
        let frame = AudioFrame {
            track: 0,
            rate: 16_000,
            pts: 0,
            flags: FrameFlags::default(),
            samples: &[sample; 320],
        };
        CLASS::default().process(Input::Audio(frame), &mut out).expect("it takes sound");
        let messages = out.iter().filter_map(|output| match output {
            Output::Message(message) => Some(message.clone()),
            Output::Audio(_) => None,
        });
        messages.collect()
    }

    #[test]
    fn loud_sound_is_told_and_quiet_sound_is_not() {
        assert!(matches!(&said(-25_000)[..], [FromModule::Event(event)] if event.name == "too.loud"));
        assert_eq!(said(100), []);
    }

    #[test]
    fn a_key_hangs_up() {
        let mut out = Outputs::new();
        let key = serde_json::from_value(json!({ "digit": "#" })).expect("a key");
        let key = ToModule::Dtmf(key);
        CLASS::default().process(Input::Message(&key), &mut out).expect("it takes keys");
        assert!(matches!(out.iter().next(), Some(Output::Message(FromModule::Hangup(_)))));
    }
}
