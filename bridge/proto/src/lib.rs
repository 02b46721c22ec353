//! What a call means: provider protocols, the media path and the session, as values that are told things and the time.
//!
//! No socket, clock, task, file or environment variable exists here; the server crate owns those.

mod hex;
pub mod ledger;
pub mod media;
pub mod provider;
pub mod redaction;
pub mod rule;
pub mod scratch;
pub mod session;
pub mod simulator;
mod time;
pub mod transcript;
pub mod translation;

pub use time::{Instant, UnixSeconds};
