//! The `player` compute module.
