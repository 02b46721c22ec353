//! `ringback module`: for whoever writes one. Makes a new module, plays a recording to one, says what one does wrong.

mod check;
mod new;
mod play;

use super::LogArgs;
use crate::exit::Exit;

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
    /// of words, and one from which the bridge vanishes. Ends with 0 if nothing was wrong, with 1 if something was.
    Check(check::Args),
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    match &args.command {
        Command::New(args) => new::run(args),
        Command::Test(args) => play::run(args, log),
        Command::Check(args) => check::run(args),
    }
}
