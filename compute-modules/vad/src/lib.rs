//! The `vad` compute module.
