//! The rows in print: as a table for people, as one for a README, as JSON. Judges nothing.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Fault, Row, Verdict};

/// Rows as they come from [`super::run`].
type Rows = [(&'static Fault, Row)];

fn cells(fault: &Fault, row: &Row) -> [String; 7] {
    let counted = row.sent > 0;
    let number = |number: u64| if counted { number.to_string() } else { "-".into() };
    let others = row.others.map_or("-".into(), |(before, during)| {
        format!("{:.2} / {:.2}", f64::from(before) / 1e3, f64::from(during) / 1e3)
    });
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let lost = row.lost.iter().map(|(reason, frames)| format!("{frames} {reason}"));
    let lost = lost.collect::<Vec<_>>().join(", ");
    [
        format!("{} {}", fault.id, fault.name),
        number(row.sent),
        number(row.back),
        if counted && lost.is_empty() { "0".into() } else { lost },
        row.recovery.map_or("-".into(), seconds),
        others,
        row.verdict().name().to_owned(),
    ]
}

const HEADS: [&str; 7] =
    ["fault", "in", "out", "lost, by reason", "back after", "others' p99, ms", "verdict"];

/// What a verdict says beside its name.
fn why(row: &Row) -> Vec<String> {
    match row.verdict() {
        Verdict::Pass => Vec::new(),
        Verdict::Fail(why) => why,
        Verdict::Spoiled(why) | Verdict::Elsewhere(why) | Verdict::NotBuilt(why) => vec![why],
    }
}

/// For people.
#[must_use]
pub fn text(rows: &Rows) -> String {
    let all: Vec<_> = rows.iter().map(|(fault, row)| cells(fault, row)).collect();
    let width = |column: usize| {
        let widths = all.iter().map(|cells| cells[column].chars().count());
        widths.chain([HEADS[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    let line = |text: &mut String, cells: [&str; 7]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(&mut text, HEADS);
    for ((fault, row), cells) in rows.iter().zip(&all) {
        line(&mut text, cells.each_ref().map(String::as_str));
        let _ = writeln!(text, "    {}; {}", fault.what, fault.how);
        for note in why(row).iter().map(|why| format!("! {why}")).chain(row.notes.clone()) {
            let _ = writeln!(text, "    {note}");
        }
    }
    let _ = writeln!(text, "\n{}", summary(rows));
    text
}

/// How many there are of each verdict.
fn summary(rows: &Rows) -> String {
    let count = |name: &str| rows.iter().filter(|(_, row)| row.verdict().name() == name).count();
    let names = ["pass", "FAIL", "spoiled", "not built", "not here"];
    let counts = names.map(|name| (count(name), name));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// For a README.
#[must_use]
pub fn markdown(rows: &Rows) -> String {
    let mut text = format!("| {} |\n|{}\n", HEADS.join(" | "), "---|".repeat(HEADS.len()));
    for (fault, row) in rows {
        let mut cells = cells(fault, row);
        let _ = write!(cells[0], ": {}", fault.what);
        if let Some(why) = why(row).first() {
            let _ = write!(cells[6], ": {why}");
        }
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// For programs.
#[must_use]
pub fn json(rows: &Rows) -> Value {
    let row = |(fault, row): &(&'static Fault, Row)| {
        json!({
            "id": fault.id, "name": fault.name, "what": fault.what, "how": fault.how,
            "frames_in": row.sent, "frames_out": row.back, "twice": row.twice, "out_of_order": row.disordered, "lost": row.lost,
            "recovery_ms": row.recovery.map(|time| time.as_millis() as u64),
            "others_p99_us": row.others.map(|(before, during)| json!({"before": before, "during": during})),
            "spoiled": row.spoiled, "verdict": row.verdict().name(), "why": why(row), "notes": row.notes,
        })
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(&'static Fault, Row)> {
        let fault = super::super::all().next().expect("there are faults");
        let mut row = Row { sent: 200, back: 198, others: Some((310, 1_420)), ..Row::default() };
        row.lost.insert("playout trimmed".into(), 2);
        row.recovery = Some(Duration::from_millis(1_250));
        let failed = Row { wrong: vec!["the bridge is gone".into()], ..Row::default() };
        vec![(fault, row), (fault, failed)]
    }

    #[test]
    fn a_table_says_what_was_lost_and_why() {
        let printed = text(&rows());
        for part in [
            "F1 jitter",
            "2 playout trimmed",
            "1.2 s",
            "0.31 / 1.42",
            "pass",
            "! the bridge is gone",
            "1 pass, 1 FAIL",
        ] {
            assert!(printed.contains(part), "{part}\n{printed}");
        }
        let readme = markdown(&rows());
        assert_eq!(readme.lines().count(), 4);
        assert!(readme.contains("| FAIL: the bridge is gone |"), "{readme}");
        let json = json(&rows());
        assert_eq!(
            (&json[0]["lost"]["playout trimmed"], &json[1]["verdict"]),
            (&2.into(), &"FAIL".into())
        );
    }
}
