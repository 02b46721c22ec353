//! The `dtmf` module as a process of its own, spoken to over standard input and output.

fn main() -> std::process::ExitCode {
    ringback_module::stdio::run("dtmf", || Box::new(ringback_dtmf::Dtmf::new()))
}
