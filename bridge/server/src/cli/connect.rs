//! `ringback connect`: what to paste where, so that a provider's calls reach a listener.

use ringback_proto::provider::{PROVIDERS, Provider};

use super::screen;
use crate::connect::{PublicUrl, page};
use crate::exit::Exit;

/// Options of `ringback connect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose calls; one of those that `ringback providers` lists.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(PROVIDERS.iter().map(|p| p.name())))]
    provider: String,
    /// Where the provider reaches the listener from outside.
    #[arg(long, value_parser = PublicUrl::parse, value_name = "URL")]
    url: Option<PublicUrl>,
}

pub(super) fn run(args: &Args) -> Exit {
    let example = || PublicUrl::example(&args.provider);
    let text = page(&args.provider, &args.url.clone().unwrap_or_else(example));
    let mut text = text.unwrap_or_default();
    if args.url.is_none() {
        text.push_str("\nThis is with an address made up; give yours: --url wss://HOST/PATH\n");
    }
    let call = PROVIDERS.iter().find(|p| p.name() == args.provider).map(|p| call(*p));
    let call = call.unwrap_or_default();
    text.push_str(&format!("\nTry the listener as this provider would call it: {call}\n"));
    screen::print(&text)
}

/// The command that calls the listener of a configuration as this provider would.
fn call(provider: &dyn Provider) -> String {
    let what = if provider.has_sound() { "--audio FILE.wav" } else { "--say \"Hello.\"" };
    format!("ringback call --provider {} --config ringback.toml {what}", provider.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_tried_is_sound_where_there_is_any_and_words_elsewhere() {
        for provider in PROVIDERS {
            let command = call(*provider);
            assert_eq!(command.contains("--audio"), provider.has_sound(), "{command}");
            assert_eq!(command.contains("--say"), provider.capabilities().text, "{command}");
        }
    }
}
