//! What the caller of `ringback call` has to say: a sound file, or words, one utterance after the other. Listens to no answer but to
//! know that there was one.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Provider, Track};
use ringback_proto::simulator::{PhoneEvent, Simulator};

use super::{Sound, read_mono};
use crate::client::{CallEvent, Client, ClientError};

/// Said if nothing is given.
const GREETING: &str = "Hello, can you hear me?";

/// What is not said yet.
pub(super) enum Speech {
    Sound {
        sound: Sound,
        /// It was given to the phone.
        given: bool,
    },
    Words {
        left: VecDeque<String>,
        /// An answer to the last is waited for until then.
        answer_by: Option<Instant>,
    },
}

impl Speech {
    /// What the options say, where it goes with the provider.
    pub(super) fn new(
        provider: &dyn Provider,
        audio: Option<&Path>,
        say: &[String],
    ) -> Result<Self, String> {
        let title = provider.title();
        match (provider.has_sound(), audio) {
            (true, _) if !say.is_empty() => Err(format!(
                "{title} carries sound and no words: give a sound file with --audio instead of --say"
            )),
            (true, None) => Err("--audio WAV is missing: what is the caller to say?".into()),
            (true, Some(path)) => Ok(Self::Sound { sound: read_mono(path)?, given: false }),
            (false, Some(_)) => Err(format!(
                "{title} carries words and no sound: give them with --say instead of --audio"
            )),
            (false, None) => {
                let mut left: VecDeque<_> = say.iter().cloned().collect();
                if left.is_empty() {
                    left.push_back(GREETING.into());
                }
                Ok(Self::Words { left, answer_by: None })
            }
        }
    }

    /// Says what is due on a stream that has started; gives words that were said. Words wait for an answer to those before and for
    /// its end, or without one for as long as `patience`.
    pub(super) async fn go_on(
        &mut self,
        now: Instant,
        patience: Duration,
        client: &mut Client,
    ) -> Result<Option<String>, ClientError> {
        let Some(start) = client.phone().start() else { return Ok(None) };
        match self {
            Self::Sound { sound, given } => {
                if let (false, Some(format)) = (*given, start.inbound) {
                    client.speak(&sound.at(format.rate));
                    *given = true;
                }
                Ok(None)
            }
            Self::Words { answer_by: Some(at), .. } if *at > now => Ok(None),
            // Whoever speaks now would cut the answer off.
            Self::Words { .. } if client.phone().spoken_to_until(now).is_some() => Ok(None),
            Self::Words { left, answer_by } => {
                let Some(words) = left.pop_front() else { return Ok(None) };
                client.say(&words).await?;
                *answer_by = Some(now + patience);
                Ok(Some(words))
            }
        }
    }

    /// Something happened on the call.
    pub(super) fn heard(&mut self, event: &CallEvent) {
        if let (Self::Words { answer_by, .. }, CallEvent::Phone(PhoneEvent::Said(_))) =
            (self, event)
        {
            *answer_by = None;
        }
    }

    /// The stream is to be opened anew: what `phone` has not said is left.
    pub(super) fn begin_again(&mut self, phone: &Simulator) {
        match self {
            Self::Sound { sound, given } => {
                *sound = sound.last(phone.unspoken(Track::Inbound), phone.start());
                *given = false;
            }
            Self::Words { answer_by, .. } => *answer_by = None,
        }
    }

    /// Whether all is said.
    pub(super) fn is_over(&self, phone: &Simulator) -> bool {
        match self {
            Self::Sound { given, .. } => *given && phone.unspoken(Track::Inbound) == 0,
            Self::Words { left, .. } => left.is_empty(),
        }
    }
}
