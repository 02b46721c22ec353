//! What a route may say about this module. Checks it; applies nothing.

use ringback_module::message::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest time that can be asked for: a state nobody left for a minute is not a pause.
const LONGEST_MS: u64 = 60_000;

/// When sound counts as speech. Everything may be left out.
///
/// Times are counted in windows of 32 ms and rounded up to whole ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whose voices to listen to: `caller`, `agent` or both. Default `["caller"]`.
    pub tracks: Vec<Role>,
    /// A window at least this likely to be speech is speech, 0 to 1. Default 0.5; 0.7 in noisy places.
    pub threshold: f64,
    /// A window less likely than this is silence; between the two nothing changes. At most `threshold`. Default 0.35.
    pub stop_threshold: f64,
    /// Speech is reported once it has lasted so long, then with the time it began. Default 160: the begin of a ringback or busy tone
    /// after silence can look like speech for up to 128; with 96, tones are taken for speech now and then; above 200, short words
    /// are lost.
    pub min_speech_ms: u64,
    /// Silence is reported once it has lasted so long, then with the time it began. Default 500.
    pub min_silence_ms: u64,
    /// Also sends an event `vad.probability` with `track`, `at_ms` and `probability` for every window, 31 a second. Default off.
    pub probability_events: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tracks: vec![Role::Caller],
            threshold: 0.5,
            stop_threshold: 0.35,
            min_speech_ms: 160,
            min_silence_ms: 500,
            probability_events: false,
        }
    }
}

impl Config {
    /// Reads a module's `config`, where `null` is all defaults.
    ///
    /// # Errors
    /// Says which key is unknown or has a value that cannot be used.
    pub fn read(value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let config = Self::deserialize(value).map_err(|error| format!("vad config: {error}"))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.tracks.is_empty() {
            return Err("vad config: tracks is empty; name caller, agent or both".into());
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(format!("vad config: threshold {} is not between 0 and 1", self.threshold));
        }
        if !(0.0..=self.threshold).contains(&self.stop_threshold) {
            return Err(format!(
                "vad config: stop_threshold {} is not between 0 and threshold {}",
                self.stop_threshold, self.threshold
            ));
        }
        let times =
            [("min_speech_ms", self.min_speech_ms), ("min_silence_ms", self.min_silence_ms)];
        match times.into_iter().find(|(_, time)| *time > LONGEST_MS) {
            Some((key, time)) => Err(format!("vad config: {key} {time} is above {LONGEST_MS}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_said_is_all_defaults() {
        assert_eq!(Config::read(&Value::Null), Ok(Config::default()));
        assert_eq!(Config::read(&json!({})), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_read() {
        let all = json!({
            "tracks": ["agent", "caller"], "threshold": 0.7, "stop_threshold": 0.4,
            "min_speech_ms": 200, "min_silence_ms": 800, "probability_events": true
        });
        let config = Config::read(&all).unwrap();
        assert_eq!(serde_json::to_value(config).unwrap(), all);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (config, complaint) in [
            (json!({"treshold": 0.5}), "unknown field `treshold`"),
            (json!({"tracks": []}), "tracks is empty"),
            (json!({"threshold": 1.5}), "threshold 1.5"),
            (json!({"threshold": 0.3}), "stop_threshold 0.35 is not between 0 and threshold 0.3"),
            (json!({"min_speech_ms": 60_001}), "min_speech_ms 60001"),
            (json!({"min_silence_ms": -1}), "-1"),
            (json!("loud"), "loud"),
        ] {
            let error = Config::read(&config).unwrap_err();
            assert!(error.starts_with("vad config: ") && error.contains(complaint), "{error}");
        }
    }
}
