//! The bridge as a library.
