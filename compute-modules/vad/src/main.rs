//! The `vad` module as a process of its own, spoken to over standard input and output.

fn main() -> std::process::ExitCode {
    ringback_module::stdio::run("vad", || Box::new(ringback_vad::Vad::new()))
}
