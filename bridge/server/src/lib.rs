//! The bridge as a library.

pub mod clock;
pub mod exit;
pub mod net;
pub mod shutdown;
pub mod socket;
pub mod telemetry;
