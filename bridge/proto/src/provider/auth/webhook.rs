//! Whether a webhook may be answered: fixed credentials as streams have them, and signatures over the whole request. Answers none.

use super::{Auth, Replays, refuse, tokens};
use crate::UnixSeconds;
use crate::provider::{Rejection, Webhook};

/// What is demanded of those who ask what to do with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookAuth {
    /// What streams can have too, where it is not bound to a stream.
    Common(Auth),
}

impl WebhookAuth {
    /// Lets the webhook be answered or says why not. `replays` remembers, where a signature counts only once, what has counted; the
    /// same one is to be given for everything that is signed with the same secret.
    ///
    /// # Errors
    /// [`Rejection::Unauthorized`], with the reason for the log.
    pub fn check(
        &self,
        webhook: &Webhook<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<(), Rejection> {
        let _ = (now, replays);
        let head = &webhook.head();
        match self {
            Self::Common(auth) => match auth {
                Auth::None => Ok(()),
                Auth::Bearer { tokens } => tokens::bearer(head, tokens).map(drop),
                Auth::Basic { user, passwords } => tokens::basic(head, user, passwords),
                Auth::Header { name, values } => tokens::header(head, name, values),
                Auth::Query { name, values } => tokens::query(head, name, values),
                _ => Err(refuse(NOT_OF_WEBHOOKS)),
            },
        }
    }

    /// Whether this can be checked of a webhook at all.
    #[must_use]
    pub const fn is_of_webhooks(&self) -> bool {
        match self {
            Self::Common(auth) => matches!(
                auth,
                Auth::None
                    | Auth::Bearer { .. }
                    | Auth::Basic { .. }
                    | Auth::Header { .. }
                    | Auth::Query { .. }
            ),
        }
    }

    /// Whether somebody without any credential is answered.
    #[must_use]
    pub const fn opens_for_strangers(&self) -> bool {
        match self {
            Self::Common(auth) => auth.opens_for_strangers(),
        }
    }

    /// Whether a request without credentials shall be told to bring them: many clients send user and password only then (RFC 7235).
    #[must_use]
    pub const fn challenges(&self) -> bool {
        matches!(self, Self::Common(Auth::Basic { .. }))
    }

    /// What it is called in a configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Common(auth) => auth.kind(),
        }
    }
}

const NOT_OF_WEBHOOKS: &str = "this kind of credential is for streams only";
