//! Random octets of the system, for what nobody may foresee; in a simulation, those of its seed, or no story could be told twice.
//! Keeps none.

/// Fills `octets` with what nobody can foresee.
///
/// # Errors
/// If the system has none to give.
pub(crate) fn fill(octets: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(feature = "simulation")]
    if seeded::fill(octets) {
        return Ok(());
    }
    getrandom::fill(octets)
}

/// Octets that follow from a seed, on threads that say so.
#[cfg(feature = "simulation")]
pub(crate) mod seeded {
    use std::cell::Cell;

    thread_local! { static STATE: Cell<Option<u64>> = const { Cell::new(None) } }

    /// As long as it lives, chance on this thread follows from a seed.
    pub(crate) struct Seeded(());

    /// From now on chance on this thread follows from `seed`.
    pub(crate) fn from(seed: u64) -> Seeded {
        STATE.set(Some(seed));
        Seeded(())
    }

    impl Drop for Seeded {
        fn drop(&mut self) {
            STATE.set(None);
        }
    }

    /// Fills `octets` if there is a seed.
    pub(super) fn fill(octets: &mut [u8]) -> bool {
        let Some(mut state) = STATE.get() else { return false };
        for piece in octets.chunks_mut(8) {
            let number = next(&mut state).to_le_bytes();
            piece.copy_from_slice(&number[..piece.len()]);
        }
        STATE.set(Some(state));
        true
    }

    /// Numbers that look random and are the same for the same seed (SplitMix64).
    pub(crate) fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
