//! The bridge as a library.

pub mod clock;
pub mod config;
pub mod exit;
pub mod listener;
pub mod module_host;
pub mod net;
pub mod shutdown;
pub mod socket;
pub mod telemetry;
