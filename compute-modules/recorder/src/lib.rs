//! The `recorder` compute module.
