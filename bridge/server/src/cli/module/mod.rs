//! `ringback module`: for whoever writes one. Makes a new module, plays a recording to one, says what one does wrong.

mod check;
mod new;
mod play;

use std::sync::Arc;

use serde_json::Value;

use super::{LogArgs, TrustArgs};
use crate::config::resolve_secret;
use crate::exit::Exit;
use crate::module_host::WebSocketSpec;

/// Options of `ringback module`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a small, complete module with its test into a new folder.
    New(new::Args),
    /// Play a sound file to a module without any phone, and print what it says and how fast.
    ///
    /// Ends with 0 if the module took the sound, reported no error and ended in time, with 1 if not.
    Test(play::Args),
    /// Find out whether a module keeps to the contract, and say in words what it does wrong.
    ///
    /// Holds four short sessions with it: a call with everything that can happen in one, a call taken up again after a crash, a call
    /// of words, and one from which the bridge vanishes; more with a filter, and with what takes two at once. Ends with 0 if nothing
    /// was wrong, with 1 if something was.
    Check(check::Args),
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    match &args.command {
        Command::New(args) => new::run(args),
        Command::Test(args) => play::run(args, log),
        Command::Check(args) => check::run(args),
    }
}

/// Where a module's server is, and what it asks for.
#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// Where the token that a server asks for is kept: env:NAME or file:PATH.
    #[arg(long, value_name = "WHERE")]
    token: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl ServerArgs {
    /// The server that `module` is the URL of, if it is one.
    fn server(&self, module: &str) -> Option<Result<WebSocketSpec, String>> {
        let is_url = module.starts_with("ws://") || module.starts_with("wss://");
        is_url.then(|| {
            let var = |name: &str| std::env::var(name).ok();
            let token = self.token.as_deref().map(|at| resolve_secret(at, &var)).transpose()?;
            let connector = Arc::new(self.trust.connector());
            Ok(WebSocketSpec { name: "module".into(), url: module.parse()?, token, connector })
        })
    }
}

fn config(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
