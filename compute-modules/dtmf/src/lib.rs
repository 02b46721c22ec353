//! DTMF: the compute module that hears key presses in the sound of a call. Sends no tones and knows nothing of RTP events.
//!
//! Meant for calls whose provider does not signal keys. Every 5 ms a block of 16 ms is measured at the eight frequencies of ITU-T
//! Q.23; what counts as a tone, and how long it must be, follows the figures administrations gave for ITU-T Q.24 (see [`Detector`]).

mod bank;
mod config;
mod detector;
mod module;

pub use config::Config;
pub use detector::{Detector, Press, RATE};
pub use module::Dtmf;
