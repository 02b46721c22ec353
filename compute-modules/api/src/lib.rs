//! The contract between Ringback and a compute module, `ringback.v1`: what is said, how it looks as octets, and a runner that
//! makes a child process of any [`Module`]. No async runtime, no sockets; `CONTRACT.md` beside this crate is the prose.

#[cfg(test)]
mod contract_test;
pub mod epoch;
pub mod message;
mod module;
#[cfg(test)]
mod schema_test;
pub mod stdio;
pub mod wire;

pub use message::{FromModule, ToModule};
pub use module::{AudioFrame, FrameFlags, Input, Module, ModuleError, Output, Outputs};

/// WebSocket subprotocol and name of the contract's major version.
pub const CONTRACT: &str = "ringback.v1";
/// WebSocket subprotocol of a module that dials in, on the connection on which it registers.
pub const WORKER_CONTRACT: &str = "ringback.v1.worker";
/// Major version spoken by this crate.
pub const VERSION: u32 = 1;
