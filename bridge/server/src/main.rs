//! The `ringback` binary: nothing but the command line of the library.

fn main() -> std::process::ExitCode {
    ringback::cli::run().into()
}
