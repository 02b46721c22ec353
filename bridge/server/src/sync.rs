//! Atomics of the few files whose invariants are models of their own (`bridge/models`): there these are loom's. Holds nothing itself.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
