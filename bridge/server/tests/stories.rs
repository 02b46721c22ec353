//! Stories of chance: a whole bridge in simulated time with callers, lines and modules up to no good. A handful of them, and every one
//! that ever went wrong; `ringback simulate` tells as many as one likes.
#![cfg(feature = "simulation")]

use ringback::simulation::{Story, simulate};

fn assert_well(story: &Story) {
    assert!(story.problems.is_empty(), "seed {}: {:#?}", story.seed, story.problems);
}

#[test]
fn the_same_seed_is_the_same_story_to_the_octet() {
    let (first, again, other) = (simulate(11), simulate(11), simulate(12));
    let differs = first.lines.iter().zip(&again.lines).find(|(one, two)| one != two);
    assert_eq!(differs, None);
    assert_eq!(first.hash, again.hash);
    assert_ne!(first.hash, other.hash, "chance has nothing to say");
}

#[test]
fn in_a_handful_of_stories_nothing_goes_wrong() {
    for seed in 1..=5 {
        assert_well(&simulate(seed));
    }
}
