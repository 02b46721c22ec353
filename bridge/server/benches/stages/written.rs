//! The table of instructions that is checked in, and the comparison with one counted now. Counts nothing, reads no file.

use std::fmt::Write as _;

/// A stage has got worse if it takes so much more than what is written down, of both.
const TOLERANCE_PERCENT: u64 = 10;
const TOLERANCE: u64 = 50;

/// Instructions of every stage for 20 ms of sound, and what they were counted with.
pub(crate) struct Table {
    pub(crate) machine: String,
    pub(crate) rows: Vec<(String, u64)>,
}

const HEAD: &str = "# Instructions that each stage takes for 20 ms of sound; `.ci/instructions` compares, with --record it writes.\n";
const MACHINE: &str = "# Counted with ";

impl Table {
    /// Reads what [`Self::print`] printed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let machine = text.lines().find_map(|line| line.strip_prefix(MACHINE));
        let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (count, name) = line.trim().split_once("  ")?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        let rows = rows.collect::<Option<_>>().ok_or("a line of the table is not `count  name`")?;
        Ok(Self { machine: machine.unwrap_or("something unknown").to_owned(), rows })
    }

    pub(crate) fn print(&self) -> String {
        let mut text = format!("{HEAD}{MACHINE}{}\n", self.machine);
        for (name, count) in &self.rows {
            let _ = writeln!(text, "{count:>9}  {name}");
        }
        text
    }

    /// This table beside an older one, for people, and how many rows are worse, new or gone.
    pub(crate) fn against(&self, old: &Self) -> (String, usize) {
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
        // A line that nobody counts any more would hold for whatever gets its name next.
        let gone = |name: &String| self.rows.iter().all(|(known, _)| known != name);
        for (name, before) in old.rows.iter().filter(|(name, _)| gone(name)) {
            bad += 1;
            let _ = writeln!(text, "{before:>9} {:>9}  gone     {name}", "");
        }
        (text, bad)
    }
}
