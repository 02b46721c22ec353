//! The contract as octets: stdio frames and audio headers. Pure: fed slices, writes into `Vec`s.
//!
//! A stdio stream is a sequence of frames, all numbers little-endian:
//!
//! ```text
//! 0  u32 length of the body in octets
//! 4  u8  kind: 0 JSON (UTF-8), 1 audio
//! 5  u8  0
//! 6  u16 session slot: 0 the process itself (register, ping), 1.. one session each
//! 8  body
//! ```

/// Octets in front of every stdio frame.
pub const STDIO_HEADER: usize = 8;
/// Octets in front of the samples in [`crate::message::Framing::Hdr16`].
pub const AUDIO_HEADER: usize = 16;
/// Largest body of a stdio frame: a message of `Limits::max_msg` octets.
pub const MAX_BODY: usize = 262_144;
