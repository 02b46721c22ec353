//! `ringback faults` as its users run it: the list, two rows of the table, and frames that are all accounted for. What a row may not
//! excuse is tested beside its code.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Folder, ringback, run};

/// A row says nothing until it is over.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn all_rows_are_listed_and_no_other_is_run() {
    let listed = run(&mut ringback(["faults", "--list"]), LONG);
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 46), "{}", listed.stderr);
    assert!(listed.stdout.contains("F29  drain"), "{}", listed.stdout);
    let unknown = run(&mut ringback(["faults", "--only", "F47"]), LONG);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no fault \"F47\""), "{}", unknown.stderr);
}

#[test]
fn rows_count_at_the_far_end_what_the_ledger_says() {
    let folder = Folder::new("faults");
    let file = folder.path("table.json");
    let file = file.to_str().expect("a path");
    // Other tests run beside: what they may do to times fails no row, and what is lost still does.
    let args = "faults --quick --busy --seeds 2 --only F5,overload --json".split(' ');
    let ended = run(&mut ringback(args.chain([file])), LONG);
    let table = std::fs::read_to_string(file).unwrap_or_default();
    let table: Value = serde_json::from_str(&table).unwrap_or_default();
    let verdicts: Vec<_> =
        table.as_array().expect("rows").iter().map(|row| &row["verdict"]).collect();
    assert!(verdicts.iter().all(|&verdict| verdict == "pass" || verdict == "spoiled"), "{table:#}");
    assert_eq!((ended.code, verdicts.len()), (Some(0), 2), "{}", ended.stderr);
    assert_eq!(table[0]["lost"]["caller.order duplicate"], 20, "{table:#}");
    assert!(table[0]["twice"] == 0 && table[0]["frames_in"] == 400, "{table:#}");
}

#[test]
fn every_frame_is_accounted_for() {
    let folder = Folder::new("frames");
    let file = folder.path("count.json");
    let file = file.to_str().expect("a path");
    let ended =
        run(&mut ringback(["faults", "--frames", "2000", "--calls", "20", "--json", file]), LONG);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let count: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap_or_default())
        .unwrap_or_default();
    assert_eq!((&count["said"], &count["came"]), (&2_000.into(), &2_000.into()), "{count}");
    assert_eq!((&count["unaccounted"], &count["twice"]), (&0.into(), &0.into()), "{count}");
}
