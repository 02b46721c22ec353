//! What was used up of a credential for what is about to be served. Checks no credential.

use std::sync::{Arc, Mutex, PoisonError};

use ringback_proto::provider::{Replays, Used};

/// That a credential was used up by what has still to be served. Dropped before, it gives the credential back.
#[derive(Default)]
pub(crate) struct Receipt {
    pub(crate) replays: Arc<Mutex<Replays>>,
    pub(crate) used: Option<Used>,
}

impl Receipt {
    /// It was served: the credential does not open again.
    pub(crate) fn keep(mut self) {
        self.used = None;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(used) = &self.used {
            self.replays.lock().unwrap_or_else(PoisonError::into_inner).give_back(used);
        }
    }
}
