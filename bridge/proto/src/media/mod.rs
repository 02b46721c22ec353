//! The media path between wire and modules: order, history, frames, playback. Pure values told samples and the time.

mod backlog;
mod drift;
pub mod filter;
pub mod mixer;
pub mod playout;
pub mod ring;
pub mod tap;
pub mod timeline;
mod voice;
pub mod voices;
