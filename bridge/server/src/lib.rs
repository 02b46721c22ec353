//! The bridge as a library: what the machine does. The only crate with an async runtime, sockets, processes and a clock.

#[cfg(feature = "mic")]
pub mod audio_device;
pub mod audit;
pub mod bench;
pub mod bridge;
pub mod call;
pub mod capture;
mod chance;
pub mod chaos;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod connect;
pub mod denial;
pub mod destination;
pub mod endpoints;
pub mod events;
pub mod exit;
pub mod faults;
pub mod hangup;
pub mod keyring;
pub mod listener;
mod lockfile;
pub mod module_host;
#[cfg(feature = "nats")]
pub mod nats;
pub mod net;
pub mod operator;
pub mod outgoing;
pub mod overload;
pub mod passthrough;
pub mod picture;
pub mod reach;
mod receipt;
pub mod recordings;
pub mod registry;
mod reload;
pub mod replay;
pub mod shutdown;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod sink;
pub mod socket;
mod sync;
pub mod telemetry;
pub mod tenants;
pub mod tls;
pub mod workers;
