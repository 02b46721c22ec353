//! `ringback providers`: the table of providers, for people and for programs.

use ringback_codecs::{Encoding, Endian};
use ringback_proto::provider::{
    Behaviour, Capabilities, ClearLaw, HangupLaw, Info, PROVIDERS, PlayoutPolicy, Provider,
    Transport, behaviour,
};
use serde_json::json;

use super::screen;
use crate::connect::credential;
use crate::exit::Exit;
use crate::hangup::recipe;

/// Options of `ringback providers`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As the Markdown table of the README.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let rows = PROVIDERS.iter().map(|provider| provider.info());
    let text = if args.json {
        let rows: Vec<_> = PROVIDERS.iter().map(|provider| row_json(*provider)).collect();
        format!("{:#}\n", serde_json::Value::Array(rows))
    } else if args.markdown {
        markdown()
    } else {
        rows.map(row_text).collect()
    };
    screen::print(&text)
}

fn row_json(provider: &dyn Provider) -> serde_json::Value {
    let (info, can) = (provider.info(), provider.capabilities());
    let transport = match provider.transport() {
        Transport::WebSocket => "websocket",
        Transport::Records => "tcp records",
        Transport::Webhook { .. } => "webhook, then websockets that the bridge dials",
    };
    json!({
        "name": info.name,
        "title": info.title,
        "reference": info.reference,
        "status": info.status.to_string(),
        "transport": transport,
        "auth": credential(info.name),
        "formats": info.formats.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "playout": playout(&can),
        "clear": can.clear != ClearLaw::Unsupported,
        "marks": can.marks,
        "pause": can.pause,
        "dtmf_in": can.dtmf_in,
        "dtmf_out": can.dtmf_out,
        "hangup": hangup(info.name, &can),
        "results": can.results,
        "text": can.text,
        "files": can.files,
        "handoff": can.handoff,
        "behaviours": behaviours(provider),
    })
}

/// What `ringback call --behaviour` knows of this provider.
fn behaviours(provider: &dyn Provider) -> Vec<serde_json::Value> {
    let row = |behaviour: &'static Behaviour| {
        json!({
            "name": behaviour.name,
            "summary": behaviour.summary,
            "source": behaviour.source,
        })
    };
    behaviour::all(provider).into_iter().map(row).collect()
}

/// How a module's hang-up ends the call: by a message of the wire, by the provider's API where the listener has `hangup`, by closing
/// the stream and what the provider makes of that, or not at all where the stream is only a copy of a call.
fn hangup(provider: &str, can: &Capabilities) -> &'static str {
    match can.hangup {
        HangupLaw::Message => "in-band",
        HangupLaw::Close if recipe(provider).is_some() => "rest",
        HangupLaw::Close if can.playout == PlayoutPolicy::None => "none",
        HangupLaw::Close => "close",
    }
}

fn row_text(info: &Info) -> String {
    let formats: Vec<_> = info.formats.iter().map(ToString::to_string).collect();
    format!(
        "{:<18} {}\n{:18} {}; {}; {}\n{:18} {}\n",
        info.name,
        info.title,
        "",
        playout(&info.capabilities),
        verbs(&info.capabilities).join(", "),
        info.status,
        "",
        if can_only_talk(info) { "words".to_owned() } else { formats.join(", ") },
    )
}

/// Whether words go both ways instead of sound.
const fn can_only_talk(info: &Info) -> bool {
    info.capabilities.text && info.formats.is_empty()
}

/// The providers as the README shows them.
#[must_use]
fn markdown() -> String {
    let mut text = String::from(
        "| name | provider | formats (kHz) | playback | verbs | status |\n|---|---|---|---|---|---|\n",
    );
    for info in PROVIDERS.iter().map(|provider| provider.info()) {
        text.push_str(&format!(
            "| `{}` | [{}]({}) | {} | {} | {} | {} |\n",
            info.name,
            info.title,
            info.reference,
            formats(info),
            playout(&info.capabilities),
            verbs(&info.capabilities).join(", "),
            info.status,
        ));
    }
    text
}

/// Encodings with their rates in kHz, the usual ones first: `PCMU 8, L16 LE 16/8/24`.
fn formats(info: &Info) -> String {
    if can_only_talk(info) {
        return "words".into();
    }
    let mut groups: Vec<(Encoding, Vec<String>)> = Vec::new();
    for format in info.formats {
        let rate = (f64::from(format.rate.hz()) / 1_000.0).to_string();
        match groups.iter_mut().find(|(encoding, _)| *encoding == format.encoding) {
            Some((_, rates)) => rates.push(rate),
            None => groups.push((format.encoding, vec![rate])),
        }
    }
    let group = |(encoding, rates): &(Encoding, Vec<String>)| {
        let name = match encoding {
            Encoding::L16(Endian::Little) => "L16 LE".to_owned(),
            Encoding::L16(Endian::Big) => "L16 BE".to_owned(),
            other => other.to_string(),
        };
        format!("{name} {}", rates.join("/"))
    };
    groups.iter().map(group).collect::<Vec<_>>().join(", ")
}

fn playout(can: &Capabilities) -> String {
    match can.playout {
        PlayoutPolicy::Ahead { limit } => format!("queued there, up to {} s", limit.as_secs_f64()),
        PlayoutPolicy::Paced { limit } => {
            format!("sent in real time, up to {} s queued", limit.as_secs_f64())
        }
        PlayoutPolicy::None if can.text => "spoken there".into(),
        PlayoutPolicy::None => "none".into(),
    }
}

fn verbs(can: &Capabilities) -> Vec<&'static str> {
    let all = [
        (can.clear != ClearLaw::Unsupported, "clear"),
        (can.marks, "marks"),
        (can.pause, "pause"),
        (can.dtmf_in, "keys in"),
        (can.dtmf_out, "keys out"),
        (can.hangup == HangupLaw::Message, "hang-up"),
        (can.files, "files"),
        (can.handoff, "hand-off"),
        (can.results, "results in-band"),
    ];
    all.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::{hangup, row_json};
    use crate::hangup::RECIPES;
    use ringback_proto::provider::{self, HangupLaw, PROVIDERS};

    #[test]
    fn how_a_call_is_ended_is_told_for_every_provider() {
        for provider in PROVIDERS {
            let told = row_json(*provider)["hangup"].as_str().unwrap().to_owned();
            let by_api = RECIPES.iter().any(|recipe| recipe.provider == provider.name());
            let message = provider.capabilities().hangup == HangupLaw::Message;
            assert_eq!(told == "in-band", message, "{}", provider.name());
            assert_eq!(told == "rest", by_api, "{}", provider.name());
        }
        let of = |name| hangup(name, &provider::find(name).unwrap().capabilities());
        assert_eq!((of("exotel"), of("ringcx")), ("close", "none"));
    }
}
