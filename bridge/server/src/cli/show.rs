//! How a call is printed: what happens at the phone, what modules find and how late it came. Drives nothing.

use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider;
use ringback_proto::simulator::{Counters, PhoneEvent};
use serde_json::{Value, json};

use super::screen;
use crate::call::notice_text;
use crate::client::CallEvent;

/// Prints what happens on a call, as lines or as JSON objects.
pub(super) struct Show {
    json: bool,
    partials: bool,
    since: Instant,
    /// When the last word was sent.
    spoken_at: Option<Instant>,
    latencies: Latencies,
}

/// From the end of speech to its final text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Latencies {
    count: u32,
    sum: Duration,
    worst: Duration,
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        self.count += 1;
        self.sum += latency;
        self.worst = self.worst.max(latency);
    }

    fn mean(&self) -> Duration {
        self.sum.checked_div(self.count).unwrap_or_default()
    }
}

impl Show {
    /// Times are told from `since` on. `partials` are transcripts that may still change.
    pub(super) fn new(json: bool, partials: bool, since: Instant) -> Self {
        Self { json, partials, since, spoken_at: None, latencies: Latencies::default() }
    }

    /// The last word was sent.
    pub(super) fn spoken(&mut self, now: Instant) {
        self.spoken_at = Some(now);
    }

    /// Something happened at the phone.
    pub(super) fn event(&self, now: Instant, event: &CallEvent) {
        let (name, detail) = describe(event);
        self.note(now, name, &detail);
    }

    /// Something of this name happened.
    pub(super) fn note(&self, now: Instant, name: &str, detail: &str) {
        if self.json {
            let at = (now - self.since).as_secs_f64();
            return screen::line(json!({ "at": at, "event": name, "detail": detail }));
        }
        let after = self.spoken_at.map(|spoken| (now - spoken).as_millis());
        let after = after.map(|ms| format!("(+{ms} ms after the last word)")).unwrap_or_default();
        self.line(now, name, detail, &after);
    }

    /// A module found something, or the bridge told of the call. `sent_at` says when a moment of the caller's voice was sent.
    pub(super) fn result(
        &mut self,
        now: Instant,
        result: &Value,
        mut sent_at: impl FnMut(Duration) -> Option<Instant>,
    ) {
        let kind = result["type"].as_str().unwrap_or_default();
        let is_transcript = kind == "transcript";
        let is_final = result["final"] == true;
        if is_transcript && !is_final && !self.partials {
            return;
        }
        let end = result["end_ms"].as_u64().filter(|_| is_transcript);
        let sent = end.and_then(|end| sent_at(Duration::from_millis(end)));
        let latency = sent.map(|sent| now - sent);
        if let (true, Some(latency)) = (is_final, latency) {
            self.latencies.add(latency);
        }
        if self.json {
            let mut result = result.clone();
            if let Some(latency) = latency {
                result["latency_ms"] = json!(millis(latency));
            }
            screen::line(result);
        } else if let Some(detail) = found(kind, result) {
            let ms = latency.map(|latency| latency.as_millis());
            // Of text that may still change, the speech has not ended.
            let what = if is_final { " after the end of speech" } else { "" };
            let after = ms.map(|ms| format!("(+{ms} ms{what})"));
            self.line(now, kind, &detail, &after.unwrap_or_default());
        }
    }

    /// What the call came to. `more` are figures of the command's own, for JSON; people are told them in the command's words.
    pub(super) fn summary(&self, counters: &Counters, more: &[(&str, u64)]) {
        let Latencies { count, worst, .. } = self.latencies;
        let mean = self.latencies.mean();
        if self.json {
            let mut summary = json!({
                "event": "summary",
                "frames_sent": counters.frames_sent,
                "media_received": counters.media_received,
                "samples_received": counters.samples_received,
                "underruns": counters.underruns,
                "marks_played": counters.marks_played,
                "clears": counters.clears,
                "texts_sent": counters.texts_sent,
                "texts_received": counters.texts_received,
                "transcripts": count,
                "latency_mean_ms": (count > 0).then(|| millis(mean)),
                "latency_worst_ms": (count > 0).then(|| millis(worst)),
            });
            for (name, figure) in more {
                summary[*name] = (*figure).into();
            }
            return screen::line(summary);
        }
        if counters.frames_sent > 0 || counters.texts_sent == 0 {
            screen::line(format!(
                "sent {} frames, heard {} samples in {} messages",
                counters.frames_sent, counters.samples_received, counters.media_received
            ));
        } else {
            let (sent, received) = (counters.texts_sent, counters.texts_received);
            screen::line(format!("sentences said: {sent}, messages heard with words: {received}"));
        }
        if count > 0 {
            screen::line(format!(
                "{count} transcripts, {} ms after the end of speech on average, {} ms at worst",
                mean.as_millis(),
                worst.as_millis()
            ));
        }
    }

    fn line(&self, now: Instant, name: &str, detail: &str, after: &str) {
        let at = (now - self.since).as_secs_f64();
        let line = format!("{at:8.3} s  {name:<15} {detail} {after}");
        screen::line(line.trim_end());
    }
}

fn describe(event: &CallEvent) -> (&'static str, String) {
    match event {
        CallEvent::Closed { code, reason } => ("closed", format!("{code} {reason}")),
        CallEvent::Phone(event) => match event {
            PhoneEvent::Started(start) => ("started", started(start)),
            PhoneEvent::PlaybackBegan => ("playback-began", String::new()),
            PhoneEvent::PlaybackEnded => ("playback-ended", String::new()),
            PhoneEvent::MarkRequested(name) => ("mark-set", name.clone()),
            PhoneEvent::MarkPlayed(name) => ("mark-played", name.clone()),
            PhoneEvent::Cleared { samples, .. } => {
                ("cleared", format!("{samples} samples dropped"))
            }
            PhoneEvent::Paused => ("paused", String::new()),
            PhoneEvent::Resumed => ("resumed", String::new()),
            PhoneEvent::Dtmf(digit) => ("key", digit.as_char().to_string()),
            PhoneEvent::Result(json) => ("result", json.clone()),
            PhoneEvent::Said(words) => ("hears", words.clone()),
            PhoneEvent::Interrupted(heard) => ("interrupts", format!("having heard \"{heard}\"")),
            PhoneEvent::Plays(url) => ("plays", url.clone()),
            PhoneEvent::Language { speech, recognition } => {
                let told = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "as before".into());
                ("language", format!("speech {}, recognition {}", told(speech), told(recognition)))
            }
            PhoneEvent::HandedOn(data) => ("handed-on", data.clone()),
            PhoneEvent::HungUp => ("hung-up", "by the bridge".into()),
            PhoneEvent::Notice(notice) => ("notice", notice_text(notice)),
            _ => ("other", format!("{event:?}")),
        },
    }
}

fn started(start: &provider::Start) -> String {
    let Some(inbound) = start.inbound else {
        return "speaks and hears words; the provider makes them of sound".into();
    };
    let outbound = start.outbound.map_or("listens only".to_owned(), |f| format!("hears {f}"));
    format!("speaks {inbound}, {outbound}")
}

/// A result or event of the bridge in a person's words, or `None` if it is not for them: what the phone's own events say already,
/// and what is for logs and programs.
fn found(kind: &str, result: &Value) -> Option<String> {
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    Some(match kind {
        "transcript" if result["final"] == true => text("text").to_owned(),
        "transcript" => format!("{} ...", text("text")),
        "turn" => format!("{} {}", text("event"), text("text")),
        "vad" => text("state").to_owned(),
        "dtmf" => text("digit").to_owned(),
        "event" => format!("{} {}", text("name"), result["data"]),
        "error" => format!("{}: {}: {}", text("module"), text("code"), text("message")),
        "module.ready" => text("module").to_owned(),
        "module.failed" => format!("{}: {}", text("module"), text("reason")),
        "lagged" => format!("{} events missed", result["missed"]),
        "call.ended" => {
            let balanced = result["balanced"] == true;
            let account = if balanced { "every hop adds up" } else { "IT DOES NOT ADD UP" };
            format!("{}; {account}", text("detail"))
        }
        _ => return None,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(partials: bool, results: &[Value]) -> Latencies {
        let mut show = Show::new(true, partials, Instant::ZERO);
        let now = Instant::from_millis(5_000);
        for result in results {
            show.result(now, result, |into| Some(Instant::from_millis(100) + into));
        }
        show.latencies
    }

    #[test]
    fn latency_is_from_the_last_sample_of_the_speech_to_its_final_text() {
        let transcript = |end: u64, done: bool| json!({"type": "transcript", "id": "u", "text": "hi", "final": done, "end_ms": end});
        let latencies = show(
            true,
            &[transcript(4_000, true), transcript(3_000, false), transcript(4_600, true)],
        );
        assert_eq!((latencies.count, latencies.worst), (2, Duration::from_millis(900)));
        assert_eq!(latencies.mean(), Duration::from_millis(600));
        let vad = json!({"type": "vad", "state": "speech", "at_ms": 1, "end_ms": 2});
        assert_eq!(show(false, &[vad, transcript(1, false)]), Latencies::default());
        assert_eq!(Latencies::default().mean(), Duration::ZERO);
    }

    #[test]
    fn results_are_told_in_words() {
        let cases = [
            (json!({"type": "transcript", "text": "hi", "final": true}), Some("hi")),
            (json!({"type": "transcript", "text": "h", "final": false}), Some("h ...")),
            (json!({"type": "dtmf", "digit": "5"}), Some("5")),
            (json!({"type": "event", "name": "a.b", "data": {"n": 1}}), Some("a.b {\"n\":1}")),
            (
                json!({"type": "call.ended", "detail": "they hung up", "balanced": true}),
                Some("they hung up; every hop adds up"),
            ),
            (
                json!({"type": "call.ended", "detail": "x", "balanced": false}),
                Some("x; IT DOES NOT ADD UP"),
            ),
            (json!({"type": "call.started"}), None),
            (json!({"type": "metric", "name": "rtf"}), None),
        ];
        for (result, words) in cases {
            let kind = result["type"].as_str().unwrap();
            assert_eq!(found(kind, &result).as_deref(), words, "{result}");
        }
    }
}
