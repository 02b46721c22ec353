//! Every stage of a frame's way through the bridge, by itself and all together: what 20 ms of sound cost. No sockets, no network.
//!
//! ```text
//! cargo bench -p ringback --bench stages                         time, by divan; takes its options, such as a filter
//! cargo bench -p ringback --bench stages -- --instructions       instructions, compared with `instructions.txt`; needs valgrind
//! cargo bench -p ringback --bench stages -- --record             the same, written there
//! ```
//! Times differ from run to run and machine to machine; instructions hardly do, so they show what a change did. One stage under
//! a microscope: `valgrind --tool=callgrind <the benchmark> --count <stage>`.

mod instructions;
mod sound;
mod table;
#[path = "../../tests/support/turn.rs"]
mod turn;
mod wire;
mod written;

use std::process::ExitCode;

use divan::{AllocProfiler, Bencher};

use table::{Stage, stages};

// Shows in every row that a stage at work does not allocate.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

#[divan::bench(args = stages())]
fn stage(bencher: Bencher<'_, '_>, stage: &Stage) {
    let mut unit = stage.prepare();
    bencher.bench_local(&mut unit);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--count", only @ ..] => instructions::count(only),
        ["--instructions"] => return instructions::compare(),
        ["--record"] => return instructions::record(),
        _ => divan::main(),
    }
    ExitCode::SUCCESS
}
