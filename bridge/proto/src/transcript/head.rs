//! The first line of a transcript: the request for the stream, the listener's options, and where a capture is from. Redacts nothing.

use ringback_codecs::MediaFormat;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Transcript;
use crate::provider::{App, EarlyMedia, Options, Secret, format_name, format_named};

/// Where a capture is from and how much it tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Name of the provider.
    pub provider: String,
    /// Name of the listener.
    pub listener: String,
    /// The bridge's name for the call.
    pub call: String,
    /// Version of the bridge.
    pub bridge: String,
    /// Wall time at the beginning of the stream.
    pub began: String,
    /// What became of the sound: `silence of the same length` or `as it was`.
    pub sound: String,
    /// What was replaced by stand-ins, in words.
    pub redacted: Vec<String>,
    /// Parts of the request that are not here, by name: credentials, and what says nothing about the stream.
    pub left_out: Vec<String>,
}

/// A first line to be written.
#[derive(Debug)]
pub struct Head<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Header fields.
    pub headers: &'a [(String, String)],
    /// The listener's options.
    pub options: &'a Options,
    /// Where it is from.
    pub about: &'a About,
}

#[derive(Serialize)]
struct Written<'a> {
    dir: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a str,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    headers: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    options: serde_json::Map<String, Value>,
    capture: &'a About,
}

impl Head<'_> {
    /// The line, without the end of line. Of several header fields of one name, the values are joined, as HTTP allows.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut headers = serde_json::Map::new();
        for (name, value) in self.headers {
            match headers.get_mut(name) {
                Some(Value::String(values)) => *values = format!("{values}, {value}"),
                _ => drop(headers.insert(name.clone(), value.clone().into())),
            }
        }
        let Self { target, about, .. } = *self;
        super::to_json(&Written {
            dir: "in",
            kind: "upgrade",
            data: target,
            headers,
            options: written(self.options),
            capture: about,
        })
    }
}

/// The options that are not as usual, but for names of credentials.
fn written(options: &Options) -> serde_json::Map<String, Value> {
    let mut map = serde_json::Map::new();
    let formats =
        [("inbound_format", options.inbound_format), ("outbound_format", options.outbound_format)];
    for (name, format) in formats {
        if let Some(format) = format.and_then(format_name) {
            map.insert(name.into(), format.into());
        }
    }
    if options.one_way {
        map.insert("one_way".into(), true.into());
    }
    if options.early_media == EarlyMedia::Drop {
        map.insert("early_media".into(), "drop".into());
    }
    map
}

/// Reads the first line.
pub(super) fn parse(line: &str) -> Result<Transcript, String> {
    let first: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
    if first["type"] != "upgrade" {
        return Err("the first line of a transcript is of type upgrade".into());
    }
    let target = first["data"].as_str().ok_or("`data` is the path and query of the request")?;
    let headers = first["headers"].as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().ok_or("values of `headers` are text")?;
        Ok((name.clone(), value.to_owned()))
    });
    let about = match &first["capture"] {
        Value::Null => None,
        about => Some(About::deserialize(about).map_err(|error| format!("`capture`: {error}"))?),
    };
    Ok(Transcript {
        target: target.to_owned(),
        headers: headers.collect::<Result<_, String>>()?,
        options: options(&first["options"])?,
        backwards: first["backwards"] == true,
        about,
        lines: Vec::new(),
        notes: Vec::new(),
    })
}

fn options(given: &Value) -> Result<Options, String> {
    let format = |name: &str| match given[name].as_str() {
        None => Ok(None),
        Some(found) => format(found).map(Some).ok_or_else(|| {
            format!("`options.{name}`: found {found:?}, expected a format such as pcmu/8000")
        }),
    };
    Ok(Options {
        inbound_format: format("inbound_format")?,
        outbound_format: format("outbound_format")?,
        one_way: given["one_way"] == true,
        early_media: match given["early_media"].as_str() {
            Some("drop") => EarlyMedia::Drop,
            _ => EarlyMedia::default(),
        },
        credential_query: given["credential_query"].as_str().map(str::to_owned),
        app: App {
            client_id: given["client_id"].as_str().unwrap_or_default().to_owned(),
            client_secret: Secret::from(given["client_secret"].as_str().unwrap_or_default()),
        },
    })
}

/// `l16le/16000`, and as transcripts written by hand have it: `l16-16000`, and G.711 without its rate.
fn format(name: &str) -> Option<MediaFormat> {
    let long = match name.replace('-', "/").as_str() {
        short @ ("pcmu" | "pcma") => format!("{short}/8000"),
        name => match name.strip_prefix("l16/") {
            Some(rate) => format!("l16le/{rate}"),
            None => name.to_owned(),
        },
    };
    format_named(&long)
}
