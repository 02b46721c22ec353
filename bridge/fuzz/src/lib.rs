//! Everything that reads what strangers send, as functions of octets that must hold whatever these are. Finds no octets by itself:
//! tests replay the corpus, `ringback-fuzz` turns it over on a stable compiler, and `coverage/` hands the same functions to libFuzzer.

pub mod corpus;
pub mod lawful;
pub mod mutate;
pub mod script;
pub mod seeds;
pub mod targets;

pub use targets::{Target, all, find};
