//! The `dtmf` compute module.
