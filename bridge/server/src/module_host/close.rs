//! The last word between bridge and a module that is no process of its own: codes and what they mean. Closes nothing itself.

use super::talk::{BREACH, End, LATE};
use crate::socket::{Closed, close_code};

/// The module did not let us in.
const UNAUTHORIZED: u16 = 4001;
/// There is no such module there.
const UNKNOWN: u16 = 4004;

/// What a module means that closes the connection.
pub(super) fn left(closed: Option<Closed>) -> End {
    let Some(Closed { code, reason }) = closed else {
        return End::failed("closed the connection without a word");
    };
    let colon = if reason.is_empty() { "" } else { ": " };
    let reason = format!("closed the connection with {code}{colon}{}", reason.escape_debug());
    match code {
        // Without `done`, or it would have been heard before.
        close_code::NORMAL => End::Over(Some(reason)),
        UNAUTHORIZED => End::Over(Some(format!("{reason}; check `token`, which it does not take"))),
        BREACH => End::Over(Some(format!("{reason}; it does not speak ringback.v1"))),
        UNKNOWN => End::Over(Some(format!("{reason}; check the path of `url`"))),
        _ => End::failed(reason),
    }
}

/// What the module is told when the connection closes.
pub(super) fn farewell(end: &End, is_stopping: bool) -> (u16, String) {
    match end {
        End::Over(Some(reason)) if is_stopping => (LATE, reason.clone()),
        End::Over(_) | End::Rejected(_) => (close_code::NORMAL, String::new()),
        End::Failed(failure) => (failure.code, failure.reason.clone()),
        End::Abandoned => (close_code::GOING_AWAY, "the call is gone".into()),
    }
}
