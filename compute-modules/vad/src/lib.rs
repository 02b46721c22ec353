//! Voice activity detection: the compute module that tells when somebody speaks. Plays nothing and decides no turns.
//!
//! Silero VAD's 16 kHz network, run in plain Rust on the original weights (see `data/README.md`), because it is the one detector
//! found that neither fires on the tones, music and noise of a telephone line nor goes deaf in them.

mod config;
mod module;
mod segmenter;
mod silero;
mod weights;

pub use config::Config;
pub use module::Vad;
pub use silero::{RATE, Silero, WINDOW};
