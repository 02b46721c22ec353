//! The command line: what can be asked of the binary and which file answers it.

mod audit;
mod bench;
mod call;
mod caller;
mod chaos;
mod connect;
mod credential;
mod demo;
mod endpoint;
mod faults;
#[cfg(feature = "mic")]
mod mic;
mod module;
mod providers;
mod recordings;
mod replay;
mod screen;
mod serve;
mod show;
#[cfg(feature = "simulation")]
mod simulate;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::client::ClientError;
use crate::config::Overrides;
use crate::exit::Exit;
use crate::outgoing::{Connector, Trust};
use crate::telemetry::{self, LogFormat, LogOptions};

/// Real-time voice and telephony media bridge.
///
/// Telephony systems stream call audio to it over WebSockets; it decodes, resamples and routes the sound to compute modules and
/// plays what they answer into the call.
#[derive(Debug, Parser)]
#[command(name = "ringback", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure, 64 bad command line or configuration, 69 cannot listen or connect, 70 a fault of this program.

Try it:  ringback demo            a call, a live transcript and a reply, with nothing configured
         ringback serve           take calls on 127.0.0.1:8080
         ringback call --provider twilio --audio call.wav";

/// How much is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What to log: a level, or targets with levels (`info,ringback::call=debug`).
    #[arg(long, global = true, env = "RINGBACK_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// One JSON object a line instead of text.
    #[arg(long, global = true)]
    log_json: bool,
}

impl LogArgs {
    /// What the flags say of the log.
    fn overrides(&self) -> Overrides {
        let log_format = self.log_json.then_some(LogFormat::Json);
        Overrides { log: self.log.clone(), log_format, ..Overrides::default() }
    }

    /// Sets the log up for a command that is not a server; its own output comes first, so little is logged by default.
    fn init(&self, level: &str) {
        let format = if self.log_json { LogFormat::Json } else { LogFormat::Human };
        let filter = self.log.clone().unwrap_or_else(|| level.to_owned());
        if let Err(error) = telemetry::init(&LogOptions { format, filter }) {
            screen::problem(error);
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take calls.
    Serve(serve::Args),
    /// Place a call as a provider would, from a sound file or with words.
    Call(call::Args),
    /// Place a call with your microphone and speaker.
    #[cfg(feature = "mic")]
    Mic(mic::Args),
    /// Say again to a bridge what a captured call's provider said, and compare the answers.
    Replay(replay::Args),
    /// Write a module, play a recording to it, find out what it does wrong.
    Module(module::Args),
    /// Show a listener's endpoints, the secret paths that it is called at, and put new ones in the place of old ones.
    Endpoint(endpoint::Args),
    /// Say whether an audit log is whole.
    Audit(audit::Args),
    /// List the providers that are understood.
    Providers(providers::Args),
    /// Say how a provider is told to send its calls here.
    Connect(connect::Args),
    /// List, check, decrypt and repair recordings, and change their keys.
    Recordings(recordings::Args),
    /// Show it all: a call, its live transcript, a reply, a recording and a picture.
    Demo(demo::Args),
    /// Measure latency and cost with many calls at once.
    Bench(bench::Args),
    /// Be a bad line: pass connections on late, slowly, in pieces, damaged or not at all.
    Chaos(chaos::Args),
    /// Tell stories of chance about a bridge in simulated time, and say what goes wrong in them.
    #[cfg(feature = "simulation")]
    Simulate(simulate::Args),
    /// Do to bridges what goes wrong in the field, and print what became of it.
    Faults(faults::Args),
    /// Print a completion script for a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line and says how the process should end.
#[must_use]
pub fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser, not to us.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit;
        }
    };
    match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ringback", &mut std::io::stdout());
            Exit::Ok
        }
        Command::Replay(args) => replay::run(&args, &cli.log),
        Command::Module(args) => module::run(&args, &cli.log),
        Command::Endpoint(args) => endpoint::run(&args, &cli.log),
        Command::Audit(args) => audit::run(&args),
        Command::Providers(args) => providers::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Recordings(args) => recordings::run(&args, &cli.log),
        Command::Serve(args) => serve::run(&args, &cli.log),
        Command::Call(args) => call::run(&args, &cli.log),
        #[cfg(feature = "mic")]
        Command::Mic(args) => mic::run(&args, &cli.log),
        Command::Demo(args) => demo::run(&args, &cli.log),
        Command::Bench(args) => bench::run(&args, &cli.log),
        Command::Faults(args) => faults::run(&args, &cli.log),
        Command::Chaos(args) => chaos::run(&args, &cli.log),
        #[cfg(feature = "simulation")]
        Command::Simulate(args) => simulate::run(&args),
    }
}

/// Says why a call failed, and how the process is to end for it.
fn call_failed(error: &ClientError) -> Exit {
    // In one line: what the other side answered is a part of it.
    screen::problem(screen::harmless(error));
    match error {
        ClientError::Connect { .. } => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

/// Whom a command trusts that calls by `wss://`.
#[derive(Debug, clap::Args)]
struct TrustArgs {
    /// For wss://, trust the certificate authorities of this file and no others.
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    ca_file: Option<PathBuf>,
    /// For wss://, take whoever answers for whom was meant. For tests only.
    #[arg(long)]
    insecure: bool,
}

impl TrustArgs {
    /// What connects.
    fn connector(&self) -> Connector {
        Connector::new(Trust::from_options(self.ca_file.clone(), self.insecure))
    }
}

/// A runtime for a command; `threads` 0 is one for each core.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
