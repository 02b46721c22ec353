//! Sinks with calls.
