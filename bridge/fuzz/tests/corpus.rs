//! Every target over its seeds, its corpus and a little of what chance makes of them: the same each time. Looks for nothing new.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringback_fuzz::mutate::{Dice, mutated};
use ringback_fuzz::{Target, all, corpus};

/// Inputs of chance for each target.
const BY_CHANCE: usize = 40;

fn check(is: impl Fn(&Target) -> bool) {
    let targets: Vec<_> = all().into_iter().filter(is).collect();
    assert!(!targets.is_empty(), "no target is meant");
    for target in targets {
        let kept = corpus::read(&target).expect("a corpus");
        let inputs = [target.seeds(), kept].concat();
        assert!(!inputs.is_empty(), "{} has nothing to begin with", target.name);
        let mut dice = Dice(7);
        let chance = (0..BY_CHANCE).map(|_| mutated(&inputs, &mut dice));
        for (index, input) in inputs.iter().cloned().chain(chance).enumerate() {
            let ran = catch_unwind(AssertUnwindSafe(|| target.run(&input)));
            assert!(ran.is_ok(), "{} is broken by its input {index}", target.name);
        }
    }
}

#[test]
fn the_bridges_end_of_every_provider() {
    check(|target| target.name.starts_with("bridge-"));
}

#[test]
fn the_phones_end_of_every_provider() {
    check(|target| target.name.starts_with("phone-"));
}

#[test]
fn what_is_shown_of_every_providers_streams() {
    check(|target| target.name.starts_with("redaction-"));
}

#[test]
fn everything_else() {
    let apart = ["bridge-", "phone-", "redaction-"];
    check(|target| !apart.iter().any(|kind| target.name.starts_with(kind)));
}

#[test]
fn every_corpus_is_of_a_target() {
    let known: Vec<_> = all().iter().map(|target| format!("{}.txt", target.name)).collect();
    let folder = ringback_fuzz::seeds::root().join("bridge/fuzz/corpus");
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(known.contains(&name), "{name} belongs to no target");
    }
}
