//! Calls that go on with another stream, and modules that are left out of calls while they are of no use.

mod modules;
mod streams;
#[path = "../support/mod.rs"]
mod support;
