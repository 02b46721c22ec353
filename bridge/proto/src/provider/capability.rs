//! What a stream's wire can do, as values that drive playback; decides nothing itself.

use std::time::Duration;

/// What the wire can do; decides how playback is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Who queues playback.
    pub playout: PlayoutPolicy,
    /// Sizes of the media messages we send.
    pub frame: FrameLaw,
    /// What the provider does when told to drop its queue.
    pub clear: ClearLaw,
    /// Whether it tells when playback reached a mark.
    pub marks: bool,
    /// Whether playback can be held at the provider.
    pub pause: bool,
    /// Whether key presses are reported.
    pub dtmf_in: bool,
    /// Whether we can press keys.
    pub dtmf_out: bool,
    /// What a hang-up does on the wire.
    pub hangup: HangupLaw,
    /// Whether the provider tells when to stop sending, and at which fill.
    pub flow: Option<FlowControl>,
    /// Whether results of modules are sent on the stream itself.
    pub results: bool,
    /// Whether the provider recognises speech and speaks by itself, so that words go both ways.
    pub text: bool,
    /// Whether it fetches files and plays them, and can be told to tell which words it has spoken; for [`Capabilities::text`].
    pub files: bool,
    /// Whether a hang-up can carry data for whoever goes on with the call.
    pub handoff: bool,
}

impl Capabilities {
    /// A stream on which words go both ways and no sound does.
    pub const TEXT_ONLY: Self = Self { text: true, ..Self::LISTEN_ONLY };

    /// A stream on which sound comes in and nothing can be done.
    pub const LISTEN_ONLY: Self = Self {
        playout: PlayoutPolicy::None,
        frame: FrameLaw::Any,
        clear: ClearLaw::Unsupported,
        marks: false,
        pause: false,
        dtmf_in: false,
        dtmf_out: false,
        hangup: HangupLaw::Close,
        flow: None,
        results: false,
        text: false,
        files: false,
        handoff: false,
    };
}

/// At which fill of its queue a provider says [`super::Event::Full`] and [`super::Event::Writable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowControl {
    /// Full at this much queued sound, or more.
    pub full: Duration,
    /// Writable again below this.
    pub writable: Duration,
}

/// Who queues playback, and how far ahead of real time it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayoutPolicy {
    /// The provider queues: it may be sent ahead, up to its `limit`.
    Ahead {
        /// More than this is discarded by the provider.
        limit: Duration,
    },
    /// What is queued there is latency, or it does not queue: send in real time.
    Paced {
        /// More than this is discarded by the provider.
        limit: Duration,
    },
    /// Nothing can be played on this stream.
    None,
}

/// Sizes of media messages a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameLaw {
    /// Any number of samples.
    Any,
    /// Exactly this long, every one.
    Exact(Duration),
    /// Any multiple of this.
    MultipleOf(Duration),
    /// Any number of samples, and this long where there are so many: messages are counted, and too many are refused.
    UpTo(Duration),
    /// Any multiple of `step` that is not shorter than `least`; a step of nothing is one sample.
    AtLeast {
        /// The shortest.
        least: Duration,
        /// What all are multiples of.
        step: Duration,
    },
}

/// What the provider does on clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearLaw {
    /// There is no such command.
    Unsupported,
    /// Drops its queue and returns all pending marks as if played.
    ReturnsMarks,
    /// Drops its queue and the pending marks with it: they will never be reported.
    DropsMarks,
}

/// What hanging up does on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangupLaw {
    /// There is a message for it.
    Message,
    /// Closing the stream is all there is; what the provider does next is its configuration.
    Close,
}
