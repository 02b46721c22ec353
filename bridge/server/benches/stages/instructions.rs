//! Instructions a stage takes, counted by valgrind and compared with those written down: figures that repeat where times do not.
//!
//! The benchmark runs itself under callgrind, which counts only inside [`counted`] and writes a dump each time it returns: one
//! run gives all stages. Another compiler or another processor makes other instructions; then the comparison is shown but is no
//! verdict.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::table::{Stage, Unit, stages};

/// Units counted.
const COUNTED: u32 = 200;
/// A stage has got worse if it takes so much more than what is written down, of both.
const TOLERANCE_PERCENT: u64 = 10;
const TOLERANCE: u64 = 50;

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

/// Counts and compares; fails if a stage got worse on the machine the table was made on.
pub(crate) fn compare() -> ExitCode {
    let (table, now) = match Table::read().and_then(|table| Ok((table, Table::measure()?))) {
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
            "{bad} stages got worse or are new: make them better, or accept them with `.ci/instructions --record`"
        ));
    }
    ExitCode::SUCCESS
}

/// Counts and writes the table.
pub(crate) fn record() -> ExitCode {
    let written = Table::measure().and_then(|table| {
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

/// Instructions of every stage for 20 ms of sound, and what they were counted with.
struct Table {
    machine: String,
    rows: Vec<(String, u64)>,
}

const HEAD: &str = "# Instructions that each stage takes for 20 ms of sound; `.ci/instructions` compares, with --record it writes.\n";
const MACHINE: &str = "# Counted with ";

impl Table {
    fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(path());
        let text = text.map_err(|error| format!("{}: {error}", path().display()))?;
        let machine = text.lines().find_map(|line| line.strip_prefix(MACHINE));
        let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (count, name) = line.trim().split_once("  ")?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        let rows = rows.collect::<Option<_>>().ok_or("a line of the table is not `count  name`")?;
        Ok(Self { machine: machine.unwrap_or("something unknown").to_owned(), rows })
    }

    fn print(&self) -> String {
        let mut text = format!("{HEAD}{MACHINE}{}\n", self.machine);
        for (name, count) in &self.rows {
            let _ = writeln!(text, "{count:>9}  {name}");
        }
        text
    }

    /// Runs this program under callgrind and reads what it counted.
    fn measure() -> Result<Self, String> {
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
        Ok(Self { machine, rows })
    }

    /// This table beside an older one, for people, and how many rows are worse or new.
    fn against(&self, old: &Self) -> (String, usize) {
        let mut text = format!("{:>9} {:>9}           instructions for 20 ms\n", "written", "now");
        let mut bad = 0;
        for (name, now) in &self.rows {
            let Some((_, before)) = old.rows.iter().find(|(known, _)| known == name) else {
                bad += 1;
                let _ = writeln!(text, "{:>9} {now:>9}  new      {name}", "");
                continue;
            };
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let worse = now.saturating_sub(*before);
            let is_worse = worse > TOLERANCE && worse * 100 > before * TOLERANCE_PERCENT;
            bad += usize::from(is_worse);
            let mark = if is_worse { "WORSE" } else { "" };
            let _ = writeln!(text, "{before:>9} {now:>9} {change:>+6.1} %  {name}  {mark}");
        }
        (text, bad)
    }
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
