//! A module as a Rust value: told sound and messages, answers into a buffer its caller owns. Does no I/O by itself.

use crate::message::{
    Event, FromModule, Hangup, Ready, Reject, Say, Start, StopReason, ToModule, Transcript, Vad,
};

/// What a piece of sound is beside its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// Sound before this frame is missing.
    pub const DISCONTINUITY: Self = Self(1);
    /// At least part of the frame was made up to conceal loss.
    pub const SYNTHESIZED: Self = Self(2);
    /// Somebody speaks in it.
    pub const SPEECH: Self = Self(4);
    /// Last frame of a segment.
    pub const END_OF_SEGMENT: Self = Self(8);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A slice of time of one track, in the format the module accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFrame<'a> {
    /// Which track.
    pub track: u16,
    /// Samples per second.
    pub rate: u32,
    /// Position of the first sample on the media clock, in samples at `rate`.
    pub pts: u64,
    /// What is special about it.
    pub flags: FrameFlags,
    /// Mono samples.
    pub samples: &'a [i16],
}

impl AudioFrame<'_> {
    /// Position of the first sample in milliseconds, 0 if the rate is.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        let ms = self.pts as u128 * 1_000 / self.rate as u128;
        if ms > u64::MAX as u128 { u64::MAX } else { ms as u64 }
    }
}

/// What a module is told.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Sound.
    Audio(AudioFrame<'a>),
    /// Anything else; never `start` or `stop`, which have methods of their own.
    Message(&'a ToModule),
}

/// One answer of a module, as read back from [`Outputs`].
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// Sound to be played, at the rate of [`crate::message::AcceptOut`].
    Audio(&'a [i16]),
    /// Anything else.
    Message(&'a FromModule),
}

#[derive(Debug)]
enum Item {
    /// Up to this sample.
    Audio { end: usize },
    /// The next message.
    Message,
}

/// Answers of a module in order, in memory its caller owns and uses again.
#[derive(Debug, Default)]
pub struct Outputs {
    samples: Vec<i16>,
    messages: Vec<FromModule>,
    items: Vec<Item>,
}

impl Outputs {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues sound to be played into the call.
    pub fn play(&mut self, samples: &[i16]) {
        self.samples.extend_from_slice(samples);
        let end = self.samples.len();
        match self.items.last_mut() {
            Some(Item::Audio { end: last }) => *last = end,
            _ => self.items.push(Item::Audio { end }),
        }
    }

    /// Says anything.
    pub fn push(&mut self, message: FromModule) {
        if self.messages.is_empty() {
            // Most modules say one thing at a time, and memory for more would be kept in every call.
            self.messages.reserve_exact(1);
        }
        self.messages.push(message);
        self.items.push(Item::Message);
    }

    /// The utterance is complete.
    pub fn end_of_audio(&mut self) {
        self.push(FromModule::AudioEnd { epoch: None });
    }

    /// Drops all queued playback.
    pub fn clear(&mut self) {
        self.push(FromModule::Clear { epoch: None });
    }

    /// Asks to be told when all that was queued before has been played.
    pub fn mark(&mut self, name: impl Into<String>) {
        self.push(FromModule::Mark { name: name.into() });
    }

    /// Has the provider speak this, a whole utterance, on a call that carries words.
    pub fn say(&mut self, text: impl Into<String>) {
        self.push(FromModule::Say(Say::new(text)));
    }

    /// Reports words.
    pub fn transcript(&mut self, transcript: Transcript) {
        self.push(FromModule::Transcript(transcript));
    }

    /// Reports speech or silence.
    pub fn vad(&mut self, vad: Vad) {
        self.push(FromModule::Vad(vad));
    }

    /// Reports anything with a name.
    pub fn event(&mut self, name: impl Into<String>, data: serde_json::Value) {
        self.push(FromModule::Event(Event { name: name.into(), data }));
    }

    /// Ends the call.
    pub fn hangup(&mut self, hangup: Hangup) {
        self.push(FromModule::Hangup(hangup));
    }

    /// All answers in order.
    pub fn iter(&self) -> impl Iterator<Item = Output<'_>> {
        let mut start = 0;
        let mut messages = self.messages.iter();
        self.items.iter().filter_map(move |item| match item {
            Item::Audio { end } => {
                let samples = &self.samples[start..*end];
                start = *end;
                Some(Output::Audio(samples))
            }
            Item::Message => messages.next().map(Output::Message),
        })
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Memory held, in octets, beside that of messages.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.samples.capacity() * size_of::<i16>() + self.items.capacity() * size_of::<Item>()
    }

    /// Forgets all answers and keeps the memory.
    pub fn reset(&mut self) {
        self.samples.clear();
        self.messages.clear();
        self.items.clear();
    }
}

/// A module failed; its session ends, the call goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ModuleError {
    /// Short, for programs.
    pub code: &'static str,
    /// For a person: what, and what to do.
    pub message: String,
}

impl ModuleError {
    /// A failure with a code for programs and a message for people.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A compute module: one value per session.
///
/// Calls come in the order `start`, any number of `process`, `stop`; a session whose `start` failed gets nothing more.
/// A call must return well within a frame (20 ms): in-process modules run where the call's sound flows.
pub trait Module: Send {
    /// Answers the offer.
    fn start(&mut self, start: &Start) -> Result<Ready, Reject>;

    /// Takes sound or a message.
    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError>;

    /// Last words.
    fn stop(&mut self, reason: StopReason, out: &mut Outputs) {
        let _ = (reason, out);
    }
}
