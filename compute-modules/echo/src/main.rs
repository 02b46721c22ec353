//! The `echo` module as a process of its own, speaking `ringback.v1` over stdin and stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringback_module::stdio::run("ringback-echo", || Box::new(ringback_echo::Echo::new()))
}
