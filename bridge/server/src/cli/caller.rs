//! What all commands that place a call have in common: who calls whom as which provider. Places none.

use ringback_codecs::SampleRate;
use ringback_proto::provider::{self, Dial, PROVIDERS, Provider};

use super::TrustArgs;
use super::credential::CredentialArgs;
use crate::client::WsUrl;
use crate::destination::Destination;
use crate::outgoing::Connector;

/// Options of every command that places a call.
#[derive(Debug, clap::Args)]
pub(super) struct Caller {
    /// Provider to act as.
    #[arg(long, short, value_parser = provider_named, default_value = "twilio")]
    provider: &'static str,
    /// The bridge's listener, as `serve` prints it: ws:// or wss://, http:// or https:// where calls are posted, tcp:// for
    /// bare TCP; the default is that of --config, or the provider's path at 127.0.0.1:8080.
    #[arg(long, short, value_name = "URL", value_parser = bridge_url)]
    url: Option<WsUrl>,
    #[command(flatten)]
    trust: TrustArgs,
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
    #[arg(long, value_name = "HZ", value_parser = rate)]
    rate: Option<SampleRate>,
    /// Only stream to the bridge; play nothing of what it answers.
    #[arg(long)]
    pub(super) one_way: bool,
    /// Print events as JSON lines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    credential: CredentialArgs,
}

pub(super) fn provider_named(name: &str) -> Result<&'static str, String> {
    provider::find(name).map(|p| p.name()).ok_or_else(|| {
        let names: Vec<_> = PROVIDERS.iter().map(|p| p.name()).collect();
        format!("no such provider; there are {}", names.join(", "))
    })
}

/// A listener's URL in any form in which one is shown: where to connect is the same, and how is the provider's matter.
pub(super) fn bridge_url(text: &str) -> Result<WsUrl, String> {
    let plain = ["http://", "tcp://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    match (plain, text.strip_prefix("https://")) {
        (Some(rest), _) => format!("ws://{rest}").parse(),
        (_, Some(rest)) => format!("wss://{rest}").parse(),
        _ => text.parse(),
    }
}

fn rate(text: &str) -> Result<SampleRate, String> {
    let rate = text.parse().ok().and_then(SampleRate::new);
    rate.ok_or_else(|| format!("a rate in Hz, {} to {}", SampleRate::MIN, SampleRate::MAX))
}

pub(super) fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Caller {
    /// The provider to act as.
    pub(super) fn provider(&self) -> &'static dyn Provider {
        provider::find(self.provider).expect("the parser took no other name")
    }

    /// Where to call, and with what.
    pub(super) fn destination(&self) -> Result<Destination, String> {
        self.credential.destination(self.provider(), self.url.as_ref())
    }

    /// What connects to it.
    pub(super) fn connector(&self) -> Connector {
        self.trust.connector()
    }

    /// The call.
    pub(super) fn dial(&self) -> Result<Dial, String> {
        let formats = self.provider().info().formats;
        let format = match self.rate {
            None => None,
            Some(rate) => {
                Some(formats.iter().find(|f| f.rate == rate).copied().ok_or_else(|| {
                    let rates: Vec<_> = formats.iter().map(|f| f.rate.hz().to_string()).collect();
                    let has =
                        if rates.is_empty() { "no sound".into() } else { rates.join(", ") + " Hz" };
                    format!("{} does not speak at {rate}; it has {has}", self.provider)
                })?)
            }
        };
        Ok(Dial {
            call: format!("call-{}", std::process::id()),
            from: self.from.clone(),
            to: self.to.clone(),
            parameters: self.parameters.clone(),
            format,
            two_way: !self.one_way,
            ..Dial::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::bridge_url;

    #[test]
    fn a_listeners_url_is_taken_as_it_is_shown() {
        for (shown, meant) in [
            ("http://127.0.0.1:8080/zoom-rtms", "ws://127.0.0.1:8080/zoom-rtms"),
            ("tcp://127.0.0.1:9092", "ws://127.0.0.1:9092"),
            ("https://bridge.example/zoom", "wss://bridge.example/zoom"),
            ("wss://bridge.example/twilio", "wss://bridge.example/twilio"),
        ] {
            assert_eq!(bridge_url(shown), meant.parse(), "{shown}");
        }
        assert!(bridge_url("sip:bridge.example").is_err_and(|e| e.contains("ws://")));
    }
}
