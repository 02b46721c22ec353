//! What all commands that place a call have in common: who calls whom as which provider, and how events are printed. Places none.

use ringback_codecs::{MediaFormat, SampleRate};
use ringback_proto::Instant;
use ringback_proto::provider::{self, Dial, PROVIDERS, Provider};
use ringback_proto::simulator::{Counters, PhoneEvent};

use super::screen;
use crate::client::{CallEvent, WsUrl};

/// Options of every command that places a call.
#[derive(Debug, clap::Args)]
pub(super) struct Caller {
    /// Provider to act as.
    #[arg(long, short, value_parser = provider_named, default_value = "twilio")]
    provider: &'static str,
    /// The bridge's listener; the default is the provider's path at 127.0.0.1:8080.
    #[arg(long, short, value_name = "URL")]
    url: Option<WsUrl>,
    /// Calling number.
    #[arg(long, default_value = "+15550100001")]
    from: String,
    /// Called number.
    #[arg(long, default_value = "+15550100002")]
    to: String,
    /// Custom parameter, any number of times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Sample rate to speak, where the provider has a choice.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
    /// Only stream to the bridge; play nothing of what it answers.
    #[arg(long)]
    pub(super) one_way: bool,
    /// Print events as JSON lines.
    #[arg(long)]
    pub(super) json: bool,
}

fn provider_named(name: &str) -> Result<&'static str, String> {
    provider::find(name).map(|p| p.name()).ok_or_else(|| {
        let names: Vec<_> = PROVIDERS.iter().map(|p| p.name()).collect();
        format!("no such provider; there are {}", names.join(", "))
    })
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Caller {
    /// The provider to act as.
    pub(super) fn provider(&self) -> &'static dyn Provider {
        provider::find(self.provider).expect("the parser took no other name")
    }

    /// Where to call.
    pub(super) fn url(&self) -> WsUrl {
        self.url.clone().unwrap_or_else(|| WsUrl {
            authority: "127.0.0.1:8080".into(),
            target: format!("/{}", self.provider),
        })
    }

    /// The call.
    pub(super) fn dial(&self) -> Dial {
        let wanted = self.rate.and_then(SampleRate::new);
        let format = wanted.and_then(|rate| {
            let mut formats = self.provider().info().formats.iter();
            formats.find(|f| f.rate == rate).copied().map(|f| MediaFormat { rate, ..f })
        });
        Dial {
            call: format!("call-{}", std::process::id()),
            from: self.from.clone(),
            to: self.to.clone(),
            parameters: self.parameters.clone(),
            format,
            two_way: !self.one_way,
            ..Dial::default()
        }
    }
}

/// Prints what happens on a call.
pub(super) struct Show {
    json: bool,
    since: Instant,
    /// When the last word was sent, for latencies.
    pub(super) spoken_at: Option<Instant>,
}

impl Show {
    /// Tells time from `since` on, as JSON lines or for people.
    pub(super) const fn new(json: bool, since: Instant) -> Self {
        Self { json, since, spoken_at: None }
    }

    /// Something happened on the call.
    pub(super) fn event(&self, now: Instant, event: &CallEvent) {
        let (name, detail) = describe(event);
        self.line(now, name, &detail);
    }

    /// Something of this name happened.
    pub(super) fn line(&self, now: Instant, name: &str, detail: &str) {
        let at = (now - self.since).as_secs_f64();
        let after = self.spoken_at.map(|spoken| (now - spoken).as_millis());
        if self.json {
            screen::line(serde_json::json!({ "at": at, "event": name, "detail": detail }));
        } else {
            let after =
                after.map(|ms| format!("  (+{ms} ms after the last word)")).unwrap_or_default();
            screen::line(format!("{at:8.3} s  {name:<15} {detail}{after}"));
        }
    }

    /// What the call came to. `more` are figures of the command's own, for JSON; people are told them in the command's words.
    pub(super) fn summary(&self, counters: Counters, more: &[(&str, u64)]) {
        if !self.json {
            return screen::line(format!(
                "sent {} frames, heard {} samples in {} messages",
                counters.frames_sent, counters.samples_received, counters.media_received
            ));
        }
        let mut summary = serde_json::json!({
            "event": "summary",
            "frames_sent": counters.frames_sent,
            "media_received": counters.media_received,
            "samples_received": counters.samples_received,
            "underruns": counters.underruns,
            "marks_played": counters.marks_played,
            "clears": counters.clears,
        });
        for (name, figure) in more {
            summary[*name] = (*figure).into();
        }
        screen::line(summary);
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
            PhoneEvent::HungUp => ("hung-up", "by the bridge".into()),
            PhoneEvent::Notice(notice) => ("notice", format!("{notice:?}")),
            _ => ("other", format!("{event:?}")),
        },
    }
}

fn started(start: &provider::Start) -> String {
    let outbound = start.outbound.map_or("listens only".to_owned(), |f| format!("hears {f}"));
    format!("speaks {}, {outbound}", start.inbound)
}
