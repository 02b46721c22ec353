//! Instructions a stage takes, counted by valgrind and compared with those written down: figures that repeat where times do not.
//!
//! The benchmark runs itself under callgrind, which counts only inside [`counted`] and writes a dump each time it returns: one
//! run gives all stages. Another compiler or another processor makes other instructions; then the comparison is shown but is no
//! verdict.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::table::{Stage, Unit, stages};
use crate::written::Table;

/// Units counted.
const COUNTED: u32 = 200;

/// [`counted`] as callgrind knows it.
const COUNTED_FUNCTION: &str = concat!(module_path!(), "::counted");

/// Runs stages, all or those named; under callgrind, this is what is counted.
pub(crate) fn count(only: &[&str]) {
    for stage in stages().iter().filter(|s| only.is_empty() || only.contains(&s.name())) {
        let mut unit = stage.prepare();
        counted(&mut unit);
    }
}

/// Kept out of line: callgrind finds it by its name.
#[inline(never)]
fn counted(unit: &mut Unit) {
    for _ in 0..COUNTED {
        unit();
    }
}

/// Counts and compares; fails if a stage got worse, is new or is gone on the machine the table was made on.
pub(crate) fn compare() -> ExitCode {
    let (table, now) = match read().and_then(|table| Ok((table, measure()?))) {
        Ok(both) => both,
        Err(error) => return fail(&error),
    };
    let (text, bad) = now.against(&table);
    eprint!("{text}");
    if table.machine != now.machine {
        eprintln!(
            "no verdict: counted with {}\n    written down with {}",
            now.machine, table.machine
        );
        return ExitCode::SUCCESS;
    }
    if bad > 0 {
        return fail(&format!(
            "{bad} stages got worse, are new or are gone: make them better, or accept them with `.ci/instructions --record`"
        ));
    }
    ExitCode::SUCCESS
}

/// Counts and writes the table.
pub(crate) fn record() -> ExitCode {
    let written = measure().and_then(|table| {
        std::fs::write(path(), table.print()).map_err(|e| format!("{}: {e}", path().display()))
    });
    written.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &str) -> ExitCode {
    eprintln!("instructions: {error}");
    ExitCode::FAILURE
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/stages/instructions.txt")
}

fn read() -> Result<Table, String> {
    let text = std::fs::read_to_string(path());
    Table::parse(&text.map_err(|error| format!("{}: {error}", path().display()))?)
}

/// Runs this program under callgrind and reads what it counted.
fn measure() -> Result<Table, String> {
    let stages = stages();
    let machine = machine()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let _ = std::fs::remove_dir_all(&folder);
    let made = std::fs::create_dir_all(&folder);
    made.map_err(|error| format!("{}: {error}", folder.display()))?;
    let out = folder.join("counts");
    run_under_callgrind(&out)?;
    let row = |(index, stage): (usize, &Stage)| {
        let dump = out.with_extension((index + 1).to_string());
        let total = std::fs::read_to_string(&dump).ok().and_then(|text| total(&text));
        let total = total.ok_or_else(|| format!("{} has no totals", dump.display()))?;
        Ok((stage.name().to_owned(), total / u64::from(COUNTED)))
    };
    let rows = stages.iter().enumerate().map(row).collect::<Result<_, String>>()?;
    Ok(Table { machine, rows })
}

fn run_under_callgrind(out: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(out);
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED_FUNCTION}"))
        .arg(format!("--dump-after={COUNTED_FUNCTION}"))
        .arg(file)
        .arg(program)
        .arg("--count")
        .output();
    let output = output.map_err(|error| format!("valgrind: {error}; please install it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("valgrind: {}\n{said}", output.status))
    }
}

/// What the dump counted in all.
fn total(dump: &str) -> Option<u64> {
    dump.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

/// All that decides which instructions there are.
fn machine() -> Result<String, String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|error| format!("{program}: {error}; please install it"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let rustc = version(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))?;
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::is_x86_feature_detected!("avx2") { " with AVX2" } else { "" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    let valgrind = version("valgrind")?;
    Ok(format!("{rustc}, {}{vectors}, {valgrind}", std::env::consts::ARCH))
}
