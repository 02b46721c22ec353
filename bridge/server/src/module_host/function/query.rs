//! What functions are told: each thing that happens on a call as one JSON object that stands for itself. Pure; sends nothing.
//!
//! Replicas share nothing, so every query carries the call and what was said so far. Every key is always there, since typed clients
//! refuse what lacks one.

use std::collections::VecDeque;

use base64_simd::STANDARD;
use ringback_module::message::{Call, Dtmf, StopReason, Transcript};
use serde_json::{Map, Value, json};

use super::utterance::Utterance;

/// Turns that are told.
const MAX_TURNS: usize = 40;
/// Octets of them in all.
const MAX_OCTETS: usize = 16 * 1024;

/// What is known of a call.
#[derive(Debug)]
pub(super) struct Story {
    call: Call,
    config: Value,
    /// What the caller said or pressed so far, counted.
    turn: u64,
    /// Who said what, the newest last.
    history: VecDeque<(&'static str, String)>,
    octets: usize,
}

impl Story {
    pub(super) fn new(call: Call, config: Value) -> Self {
        Self { call, config, turn: 0, history: VecDeque::new(), octets: 0 }
    }

    /// New settings for what is told from now on.
    pub(super) fn update(&mut self, config: Value) {
        self.config = config;
    }

    /// The caller has something to say.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// Keeps words; pieces of one utterance (`is_more`) are put together.
    pub(super) fn said(&mut self, speaker: &'static str, text: &str, is_more: bool) {
        match self.history.back_mut() {
            Some((last, words)) if is_more && *last == speaker => words.push_str(text),
            _ => self.history.push_back((speaker, text.to_owned())),
        }
        self.octets += text.len();
        while self.history.len() > MAX_TURNS || self.octets > MAX_OCTETS {
            let Some((_, words)) = self.history.pop_front() else { break };
            self.octets -= words.len();
        }
    }

    pub(super) fn start(&self) -> Value {
        self.query(json!({}))
    }

    pub(super) fn transcript(&self, transcript: &Transcript) -> Value {
        let Transcript {
            id, text, is_final, start_ms, end_ms, confidence, language, speaker, ..
        } = transcript;
        self.query(json!({
            "id": id, "text": text, "final": is_final, "start_ms": start_ms, "end_ms": end_ms,
            "confidence": confidence, "language": language, "track": transcript.track,
            "speaker": speaker.as_deref().unwrap_or(who(transcript.track)),
        }))
    }

    pub(super) fn utterance(&self, utterance: &Utterance) -> Value {
        let octets: Vec<u8> =
            utterance.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.query(json!({
            "sample_rate": ringback_vad::RATE, "encoding": "pcm_s16le",
            "audio_b64": STANDARD.encode_to_string(octets), "final": utterance.is_last,
            "start_ms": utterance.start_ms, "end_ms": utterance.end_ms,
        }))
    }

    pub(super) fn dtmf(&self, dtmf: &Dtmf) -> Value {
        let Dtmf { digit, duration_ms, at_ms, .. } = dtmf;
        self.query(json!({"digit": digit, "duration_ms": duration_ms, "at_ms": at_ms}))
    }

    pub(super) fn end(&self, reason: StopReason) -> Value {
        self.query(json!({"reason": reason}))
    }

    fn query(&self, own: Value) -> Value {
        let Call { id, from, to, direction, provider, meta, .. } = &self.call;
        let history =
            self.history.iter().map(|(speaker, text)| json!({"speaker": speaker, "text": text}));
        let common = json!({
            "call_id": id, "turn": self.turn, "history": history.collect::<Vec<_>>(), "config": self.config,
            "call": {"id": id, "from": from, "to": to, "direction": direction, "provider": provider, "meta": meta},
        });
        let all = [common, own].into_iter().filter_map(|part| match part {
            Value::Object(object) => Some(object),
            _ => None,
        });
        Value::Object(all.flatten().collect::<Map<_, _>>())
    }
}

/// Whose words are heard on a track.
pub(super) const fn who(track: u16) -> &'static str {
    if track == 0 { "caller" } else { "agent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let call = Call { id: "c1".into(), provider: "raw".into(), ..Call::default() };
        Story::new(call, json!({"tone": "warm"}))
    }

    #[test]
    fn a_query_stands_for_itself() {
        let mut story = story();
        story.said("agent", "Hello", false);
        story.said("agent", " there.", true);
        story.next_turn();
        let heard = Transcript {
            id: "u1".into(),
            text: "hi".into(),
            is_final: true,
            end_ms: 9,
            ..Transcript::default()
        };
        assert_eq!(
            story.transcript(&heard),
            json!({
                "call_id": "c1", "turn": 1, "config": {"tone": "warm"},
                "history": [{"speaker": "agent", "text": "Hello there."}],
                "call": {"id": "c1", "from": null, "to": null, "direction": null, "provider": "raw", "meta": {}},
                "id": "u1", "text": "hi", "final": true, "start_ms": 0, "end_ms": 9, "confidence": null,
                "language": null, "track": 0, "speaker": "caller",
            })
        );
        assert_eq!(story.end(StopReason::Hangup)["reason"], "hangup");
    }

    #[test]
    fn sound_is_base64_of_little_endian_samples() {
        let utterance = Utterance { start_ms: 40, end_ms: 90, samples: vec![1, -2], is_last: true };
        let query = story().utterance(&utterance);
        assert_eq!(
            (&query["audio_b64"], &query["sample_rate"]),
            (&json!("AQD+/w=="), &json!(16_000))
        );
        assert_eq!((&query["start_ms"], &query["end_ms"]), (&json!(40), &json!(90)));
    }

    #[test]
    fn what_was_said_is_kept_within_bounds() {
        let mut story = story();
        for n in 0..100 {
            story.said(if n % 2 == 0 { "caller" } else { "agent" }, "words", false);
        }
        assert_eq!(story.history.len(), MAX_TURNS);
        story.said("caller", &"x".repeat(MAX_OCTETS), false);
        assert_eq!(story.history.len(), 1);
        story.said("caller", "y", true);
        assert_eq!((story.history.len(), story.octets), (0, 0), "one too long is not told");
    }
}
