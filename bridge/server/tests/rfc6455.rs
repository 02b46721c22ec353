//! What RFC 6455 demands, traced to tests: `rfc6455.txt` beside this file has every demand, and each test that it names must exist.
#![allow(clippy::unwrap_used, reason = "a test that cannot look at the repository has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TRACE: &str = include_str!("rfc6455.txt");
/// Demands in the sections that concern us, as the standard counts them.
const SECTIONS: [&str; 5] = ["4", "5", "7", "8", "10"];

#[test]
fn every_demand_of_the_standard_is_held_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::<&str, String>::new();
    let (mut demands, mut held, mut elsewhere) = (0, 0, 0);
    let mut sections = BTreeSet::new();
    for line in TRACE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts: Vec<_> = line.split(" | ").collect();
        let [section, demand, by] = parts[..] else { panic!("no line of the trace: {line:?}") };
        let chapter = section.split('.').next().unwrap();
        assert!(SECTIONS.contains(&chapter) && !demand.is_empty(), "{line:?}");
        sections.insert(chapter);
        demands += 1;
        if let Some(reason) = by.strip_prefix("- ") {
            assert!(reason.len() > 5, "{line:?}");
            elsewhere += 1;
            continue;
        }
        for test in by.split(", ") {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{line:?}"));
            let text = files.entry(file).or_insert_with(|| {
                std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
            });
            let is_there = text.contains(&format!("fn {name}(")) && text.contains("#[test]")
                || text.contains(&format!("async fn {name}("));
            assert!(is_there, "{file} has no test {name}, which holds {section}: {demand}");
        }
        held += 1;
    }
    assert_eq!(sections.len(), SECTIONS.len());
    assert!(demands >= 100, "{demands} demands");
    eprintln!(
        "RFC 6455: {held} of {demands} demands held by tests, {elsewhere} on others or on what is not done here"
    );
}
