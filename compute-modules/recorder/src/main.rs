//! The `recorder` module as a process of its own, speaking `ringback.v1` over stdin and stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringback_module::stdio::run(
        "ringback-recorder",
        || Box::new(ringback_recorder::Recorder::new()),
    )
}
