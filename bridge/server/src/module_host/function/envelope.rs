//! What a function's results mean to a call. Pure; plays and sends nothing.

use base64_simd::STANDARD;
use ringback_module::FromModule;
use ringback_module::message::{DtmfSend, Event, Say};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::TextResult;

/// Rate of `audio` that does not say its own: that of the utterances a function is given.
const USUAL_RATE: u32 = 16_000;

/// Something to be done on the call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Words to be spoken; `last` unless they are a piece of a stream of bare texts.
    Say(Say),
    /// Sound to be played.
    Sound {
        /// Mono.
        samples: Vec<i16>,
        /// Samples per second.
        rate: u32,
    },
    /// Drop what is being played; what follows is for the new epoch.
    Clear,
    /// Anything else, as the contract has it.
    Message(FromModule),
}

/// Whose result is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// The function.
    pub(super) function: &'a str,
    /// Of this very result.
    pub(super) name: &'a str,
    /// What a bare text is.
    pub(super) text: TextResult,
    /// It is one of a stream.
    pub(super) is_streamed: bool,
}

/// What an object is that says of itself that the function failed, as the clients write it.
pub(super) fn failure(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let text = |key: &str| object.get(key).map(plain);
    match object.len() {
        1 => text("exception").or_else(|| text("error")),
        2 => text("error").zip(text("reason")).map(|(error, reason)| format!("{error}: {reason}")),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Appends what a value means. A list means what each of its values does, in order; `null` means nothing.
pub(super) fn read(value: Value, source: &Source<'_>, out: &mut Vec<Effect>) {
    match value {
        Value::Null => {}
        Value::Array(values) => values.into_iter().for_each(|value| read(value, source, out)),
        Value::String(text) => out.push(bare(text, source)),
        value => out.push(match told(&value, source) {
            Some(Ok(effect)) => effect,
            Some(Err(problem)) => {
                let data = json!({"function": source.function, "problem": problem, "value": value});
                Effect::Message(FromModule::Event(Event {
                    name: "function.bad_result".into(),
                    data,
                }))
            }
            None => result(&value, source),
        }),
    }
}

fn bare(text: String, source: &Source<'_>) -> Effect {
    match source.text {
        TextResult::Say => Effect::Say(Say { last: !source.is_streamed, ..Say::new(text) }),
        TextResult::Transcript => {
            let transcript =
                json!({"type": "transcript", "id": source.name, "text": text, "final": true});
            contract(&transcript).unwrap_or_else(|_| result(&text.into(), source))
        }
        TextResult::Event => result(&text.into(), source),
    }
}

fn result(value: &Value, source: &Source<'_>) -> Effect {
    let data = json!({"function": source.function, "value": value});
    Effect::Message(FromModule::Event(Event { name: "function.result".into(), data }))
}

/// `None` for what has no `type` that is known.
fn told(value: &Value, source: &Source<'_>) -> Option<Result<Effect, String>> {
    let kind = value.get("type")?.as_str()?;
    Some(match kind {
        "say" => Say::deserialize(value)
            .map(|say| Effect::Say(Say { epoch: None, ..say }))
            .map_err(|error| error.to_string()),
        "audio" => sound(value),
        "clear" => Ok(Effect::Clear),
        // In the contract this type is a key heard; a function has no ears.
        "dtmf" | "dtmf.send" => DtmfSend::deserialize(value)
            .map(|send| Effect::Message(FromModule::DtmfSend(send)))
            .map_err(|error| error.to_string()),
        "transcript" => {
            let mut transcript = value.clone();
            if let Some(object) = transcript.as_object_mut() {
                object.entry("id").or_insert_with(|| source.name.into());
            }
            contract(&transcript)
        }
        "hangup" | "event" | "play" | "language" | "pause" | "resume" | "turn" | "transfer"
        | "log" | "metric" => contract(value),
        _ => return None,
    })
}

fn contract(value: &Value) -> Result<Effect, String> {
    FromModule::deserialize(value).map(Effect::Message).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Sound {
    pcm16: String,
    #[serde(default = "usual_rate")]
    rate: u32,
}

const fn usual_rate() -> u32 {
    USUAL_RATE
}

fn sound(value: &Value) -> Result<Effect, String> {
    let Sound { pcm16, rate } = Sound::deserialize(value).map_err(|error| error.to_string())?;
    if !ringback_module::message::RATES.contains(&rate) {
        return Err(format!("`rate` {rate} is not between 8000 and 48000"));
    }
    let octets = STANDARD.decode_to_vec(&pcm16).map_err(|_| "`pcm16` is not base64".to_owned())?;
    if octets.len() % 2 != 0 {
        return Err(format!("`pcm16` is {} octets, which are no whole samples", octets.len()));
    }
    let samples = octets.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    Ok(Effect::Sound { samples: samples.collect(), rate })
}

#[cfg(test)]
mod tests {
    use ringback_module::message::{Hangup, HangupAfter};

    use super::*;

    fn effects(value: Value, text: TextResult, is_streamed: bool) -> Vec<Effect> {
        let source = Source { function: "f", name: "c-0-1.1", text, is_streamed };
        let mut out = Vec::new();
        read(value, &source, &mut out);
        out
    }

    fn event(name: &str, data: Value) -> Effect {
        Effect::Message(FromModule::Event(Event { name: name.into(), data }))
    }

    #[test]
    fn objects_with_a_type_are_verbs() {
        let list = json!([{"type": "clear"}, {"type": "say", "text": "Hi.", "epoch": 9}, null,
            {"type": "audio", "pcm16": "AQD+/w=="}, {"type": "dtmf", "digits": "1#"},
            {"type": "hangup", "after": "playback"}]);
        let hangup = Hangup { after: HangupAfter::Playback, ..Hangup::default() };
        let dtmf = DtmfSend { digits: "1#".into(), ..DtmfSend::default() };
        assert_eq!(
            effects(list, TextResult::Say, true),
            [
                Effect::Clear,
                Effect::Say(Say::new("Hi.")),
                Effect::Sound { samples: vec![1, -2], rate: 16_000 },
                Effect::Message(FromModule::DtmfSend(dtmf)),
                Effect::Message(FromModule::Hangup(hangup)),
            ]
        );
    }

    #[test]
    fn a_bare_text_is_what_the_configuration_says() {
        let say = |last| vec![Effect::Say(Say { last, ..Say::new("hi") })];
        assert_eq!(effects(json!("hi"), TextResult::Say, false), say(true));
        assert_eq!(effects(json!("hi"), TextResult::Say, true), say(false));
        let told = effects(json!("hi"), TextResult::Event, false);
        assert_eq!(told, [event("function.result", json!({"function": "f", "value": "hi"}))]);
        let told = effects(json!("hi"), TextResult::Transcript, false);
        let [Effect::Message(FromModule::Transcript(transcript))] = &told[..] else { panic!() };
        assert_eq!((transcript.id.as_str(), transcript.is_final), ("c-0-1.1", true));
    }

    #[test]
    fn anything_else_is_an_event() {
        for value in [json!(7), json!(true), json!({"intent": "book"}), json!({"type": "ours"})] {
            let data = json!({"function": "f", "value": value});
            assert_eq!(effects(value, TextResult::Say, false), [event("function.result", data)]);
        }
    }

    #[test]
    fn a_verb_that_cannot_be_understood_is_told_with_the_reason() {
        for (value, problem) in [
            (json!({"type": "audio", "pcm16": "AQ=="}), "whole samples"),
            (json!({"type": "audio", "pcm16": "!"}), "base64"),
            (json!({"type": "audio", "pcm16": "", "rate": 1}), "`rate` 1"),
            (json!({"type": "say"}), "text"),
        ] {
            let told = effects(value, TextResult::Say, false);
            let [Effect::Message(FromModule::Event(event))] = &told[..] else { panic!("{told:?}") };
            assert_eq!(event.name, "function.bad_result");
            assert!(event.data["problem"].as_str().unwrap().contains(problem), "{event:?}");
        }
        let told = effects(json!({"type": "done"}), TextResult::Say, false);
        assert!(matches!(&told[..], [Effect::Message(FromModule::Event(_))]), "not for functions");
    }

    #[test]
    fn failures_are_told_apart_by_their_keys() {
        assert_eq!(failure(&json!({"exception": "no: trace"})).as_deref(), Some("no: trace"));
        assert_eq!(failure(&json!({"error": "E", "reason": "r"})).as_deref(), Some("E: r"));
        assert_eq!(failure(&json!({"error": {"a": 1}})).as_deref(), Some("{\"a\":1}"));
        for fine in
            [json!({"error": null, "text": "x"}), json!({}), json!("error"), json!({"reason": 1})]
        {
            assert_eq!(failure(&fine), None, "{fine}");
        }
    }
}
