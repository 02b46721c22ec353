//! `ringback connect`: what to paste where, so that a provider's calls reach a listener.

use ringback_proto::provider::PROVIDERS;

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
    let provider = &args.provider;
    text.push_str(&format!(
        "\nTry the listener as this provider would call it: ringback call --provider {provider} --config ringback.toml --audio FILE.wav\n"
    ));
    screen::print(&text)
}
