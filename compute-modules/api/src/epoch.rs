//! Which playback generation a module's sound is for, kept so that a [`crate::Module`] need not know of generations at all.

use std::borrow::Cow;

use crate::message::{FromModule, Play, Say, Start, ToModule};

/// Follows the epochs of one session from the module's side. Sound a module makes before it was told of a
/// [`ToModule::Cleared`] belongs to what was cleared; sound it makes after belongs to the next epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epochs {
    current: u32,
}

impl Epochs {
    /// Begin of a session: epoch 0, or the one it resumes in.
    #[must_use]
    pub fn new(start: &Start) -> Self {
        Self { current: start.resume.as_ref().map_or(0, |resume| resume.epoch) }
    }

    /// The epoch that sound made now is for.
    #[must_use]
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// To be called with each message when the module is told it, not when it arrives.
    pub fn told(&mut self, message: &ToModule) {
        if let ToModule::Cleared(cleared) = message {
            self.current = self.current.max(cleared.epoch.saturating_add(1));
        }
    }

    /// To be called with each message the module says; puts the epoch into those that lack it.
    ///
    /// A `clear` is tied to the epoch the module knows: should the caller's own barge-in have cleared it already, nothing
    /// is cleared twice and both sides still count alike.
    pub fn said<'a>(&mut self, message: &'a FromModule) -> Cow<'a, FromModule> {
        match message {
            FromModule::Clear { epoch } => {
                let cleared = epoch.unwrap_or(self.current);
                if cleared == self.current {
                    self.current = self.current.saturating_add(1);
                }
                Cow::Owned(FromModule::Clear { epoch: Some(cleared) })
            }
            FromModule::Say(say) if say.epoch.is_none() => {
                Cow::Owned(FromModule::Say(Say { epoch: Some(self.current), ..say.clone() }))
            }
            FromModule::Play(play) if play.epoch.is_none() => {
                Cow::Owned(FromModule::Play(Play { epoch: Some(self.current), ..play.clone() }))
            }
            FromModule::AudioBegin { epoch } => {
                self.current = *epoch;
                Cow::Borrowed(message)
            }
            FromModule::AudioEnd { epoch: None } => {
                Cow::Owned(FromModule::AudioEnd { epoch: Some(self.current) })
            }
            _ => Cow::Borrowed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Cleared;

    fn cleared(epoch: u32) -> ToModule {
        ToModule::Cleared(Cleared { epoch, ..Cleared::default() })
    }

    #[test]
    fn barge_in_starts_the_next_epoch() {
        let mut epochs = Epochs::default();
        epochs.told(&cleared(0));
        assert_eq!(epochs.current(), 1);
        epochs.told(&cleared(0));
        assert_eq!(epochs.current(), 1, "an old report changes nothing");
    }

    #[test]
    fn own_clear_and_its_report_count_once() {
        let mut epochs = Epochs::default();
        let said = epochs.said(&FromModule::Clear { epoch: None }).into_owned();
        assert_eq!(said, FromModule::Clear { epoch: Some(0) });
        assert_eq!(epochs.current(), 1);
        epochs.told(&cleared(0));
        assert_eq!(epochs.current(), 1);
        let end = epochs.said(&FromModule::AudioEnd { epoch: None }).into_owned();
        assert_eq!(end, FromModule::AudioEnd { epoch: Some(1) });
        let said = epochs.said(&FromModule::Say(Say::new("so"))).into_owned();
        assert_eq!(said, FromModule::Say(Say { epoch: Some(1), ..Say::new("so") }));
        let play = Play::new("https://files.example/tune.mp3");
        let said = epochs.said(&FromModule::Play(play.clone())).into_owned();
        assert_eq!(said, FromModule::Play(Play { epoch: Some(1), ..play }));
    }

    #[test]
    fn clear_of_an_old_epoch_changes_nothing() {
        let mut epochs = Epochs::default();
        epochs.told(&cleared(4));
        epochs.said(&FromModule::Clear { epoch: Some(4) });
        assert_eq!(epochs.current(), 5);
    }
}
