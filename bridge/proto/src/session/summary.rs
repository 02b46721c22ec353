//! What remains of a call: one record with its ledger. Values only; whoever logs or stores it decides how.

use std::sync::Arc;
use std::time::Duration;

use super::private::PrivateCounts;
use super::state::EndReason;
use crate::ledger::Ledger;
use crate::media::filter::Bypass;

/// The end of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Ours.
    pub call: String,
    /// The provider's name for the call, where it told one.
    pub provider_call: Option<String>,
    /// Name of the provider.
    pub provider: &'static str,
    /// Whose call it was.
    pub tenant: Option<Arc<str>>,
    /// Name of the route that took it, if one did.
    pub route: Option<String>,
    /// Why it ended.
    pub reason: EndReason,
    /// From the stream's start to its end; zero if it never started.
    pub duration: Duration,
    /// Sound of the caller, what was made up for it included.
    pub heard: Duration,
    /// Sound given to the wire.
    pub played: Duration,
    /// Media messages that arrived.
    pub frames_in: u64,
    /// Media messages sent.
    pub frames_out: u64,
    /// Messages of words that arrived, on a call that carries words.
    pub texts_in: u64,
    /// Messages of words sent.
    pub texts_out: u64,
    /// Holes the caller heard in mid-utterance.
    pub underruns: u64,
    /// How much faster the provider's clock ran than ours, where it could be told.
    pub drift_ppm: Option<f64>,
    /// Times another stream went on with it, because one was lost or replaced.
    pub reattached: u32,
    /// What became of each module.
    pub modules: Vec<ModuleSummary>,
    /// Its private parts, if there were any.
    pub private: Option<PrivateCounts>,
    /// Every hop's accounts.
    pub ledger: Ledger,
}

/// What became of a module on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSummary {
    /// Name, as in the configuration.
    pub name: String,
    /// The module of the route in whose place it was, where it was a canary.
    pub replaces: Option<String>,
    /// Times it was started; more than once means that it crashed and came back.
    pub starts: u32,
    /// Results it streamed.
    pub results: u64,
    /// Frames that it was found to take too long for, which held up the call; not every frame is timed.
    pub overran: u64,
    /// Its last failure.
    pub error: Option<String>,
    /// Whether it was given up and another one started in its place.
    pub replaced: bool,
    /// Of a filter: sound that passed it as it was, in ms by reason.
    pub bypassed: Vec<(Bypass, u64)>,
}
