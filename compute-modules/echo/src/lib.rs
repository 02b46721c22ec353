//! The `echo` compute module.
