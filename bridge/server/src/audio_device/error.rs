//! Why a microphone or speaker cannot be used, each with what to do about it. Opens nothing.

use cpal::ErrorKind;

use super::Direction;

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The system's sound cannot be reached at all.
    #[error(
        "there is no sound on this machine ({reason}): start its sound service, or plug a device in"
    )]
    NoSound {
        /// What the system said.
        reason: String,
    },
    /// The system names no default.
    #[error("there is no default {direction}: plug one in, or choose one of `ringback mic --list` with {}", .direction.option())]
    NoDefault {
        /// Which kind.
        direction: Direction,
    },
    /// No device has that name.
    #[error("no {direction} is called {name:?}; {}", choices(*.direction, .there_are))]
    Unknown {
        /// Which kind.
        direction: Direction,
        /// As asked for.
        name: String,
        /// The names there are.
        there_are: Vec<String>,
    },
    /// Several devices have that name.
    #[error("more than one {direction} is called {name:?}: {}; give one of these names in full", .fit.join(", "))]
    Ambiguous {
        /// Which kind.
        direction: Direction,
        /// As asked for.
        name: String,
        /// The names that fit.
        fit: Vec<String>,
    },
    /// It is there and does not open.
    #[error("cannot use the {direction} {name:?}: {reason}; {advice}")]
    Open {
        /// Which kind.
        direction: Direction,
        /// Its name.
        name: String,
        /// What the system said.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// It worked and stopped.
    #[error("the {direction} {name:?} stopped: {reason}; plug it in again and call again")]
    Lost {
        /// Which kind.
        direction: Direction,
        /// Its name.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// It runs much faster than real time, as devices do that stand for no hardware.
    #[error(
        "the {direction} {name:?} runs faster than real time, so it is no real device; choose one of `ringback mic --list` with {}",
        .direction.option()
    )]
    NotPaced {
        /// Which kind.
        direction: Direction,
        /// Its name.
        name: String,
    },
}

impl DeviceError {
    /// A device that does not open.
    pub(super) fn open(direction: Direction, name: &str, error: &cpal::Error) -> Self {
        let other = format!("choose another of `ringback mic --list` with {}", direction.option());
        let advice = match error.kind() {
            ErrorKind::DeviceBusy => format!("close the program that uses it, or {other}"),
            ErrorKind::PermissionDenied => {
                "allow this program to use it (on Linux: be in the group `audio`)".to_owned()
            }
            ErrorKind::DeviceNotAvailable => format!("plug it in, or {other}"),
            ErrorKind::HostUnavailable => "start the sound service of this machine".to_owned(),
            _ => other,
        };
        let reason = error.to_string().trim_end_matches('.').to_owned();
        Self::Open { direction, name: name.to_owned(), reason, advice }
    }
}

fn choices(direction: Direction, there_are: &[String]) -> String {
    if there_are.is_empty() {
        return format!("there is no {direction} at all: plug one in");
    }
    format!("choose one of these with {}: {}", direction.option(), there_are.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let direction = Direction::Input;
        let name = "usb".to_owned();
        let unknown = |there_are: &[&str]| {
            let there_are = there_are.iter().map(|name| (*name).to_owned()).collect();
            DeviceError::Unknown { direction, name: name.clone(), there_are }
        };
        let open = |kind| DeviceError::open(direction, "usb", &cpal::Error::new(kind));
        for (error, advice) in [
            (DeviceError::NoDefault { direction }, "--input"),
            (unknown(&[]), "plug one in"),
            (unknown(&["built-in"]), "built-in"),
            (open(ErrorKind::DeviceBusy), "close the program"),
            (open(ErrorKind::PermissionDenied), "allow"),
            (open(ErrorKind::DeviceNotAvailable), "plug it in"),
            (open(ErrorKind::UnsupportedConfig), "ringback mic --list"),
        ] {
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
