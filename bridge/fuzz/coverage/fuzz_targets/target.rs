//! Hands what libFuzzer makes to the target that the environment names. Holds none itself: one program for all saves a link for each.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<ringback_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("RINGBACK_FUZZ_TARGET").expect("RINGBACK_FUZZ_TARGET names a target");
    ringback_fuzz::find(&name).expect("RINGBACK_FUZZ_TARGET names a target")
});

fuzz_target!(|octets: &[u8]| TARGET.run(octets));
