//! The bridge's part in a NATS cluster: the connection while it runs, and the storing of what happens on calls until it ends. What is
//! said over it is in [`crate::nats`] and with the modules.

use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::call::Watchers;
use crate::clock::Clock;
use crate::config::Config;
use crate::nats::Nats;
use crate::nats::events::{Lanes, lanes};

/// A cluster to be connected to.
pub(super) struct Cluster {
    nats: Arc<Nats>,
    lanes: Option<Lanes>,
}

impl Cluster {
    /// The one of the configuration. Who stores what happens on calls there, looks on with the others.
    pub(super) fn of(
        config: &Config,
        clock: Clock,
        watchers: Watchers,
    ) -> (Watchers, Option<Self>) {
        let Some(config) = &config.nats else { return (watchers, None) };
        let nats = Nats::new(config.clone());
        let Some(stream) = config.events.clone() else {
            return (watchers, Some(Self { nats, lanes: None }));
        };
        let (events, lanes) = lanes(clock, &nats, stream);
        (watchers.with(events), Some(Self { nats, lanes: Some(lanes) }))
    }

    /// For modules.
    pub(super) fn nats(&self) -> Arc<Nats> {
        Arc::clone(&self.nats)
    }

    /// Connects, for as long as `keeping` lives.
    pub(super) fn start(self, keeping: &mut JoinSet<()>) -> Storing {
        let (nats, ending) = (self.nats, CancellationToken::new());
        keeping.spawn(async move { nats.keep().await });
        let stored = self.lanes.map(|lanes| tokio::spawn(lanes.run(ending.clone())));
        Storing { ending, stored }
    }
}

/// What is being stored.
pub(super) struct Storing {
    ending: CancellationToken,
    stored: Option<JoinHandle<()>>,
}

impl Storing {
    /// All calls have ended: waits, in bounded time, until what happened on them is stored.
    pub(super) async fn finish(self) {
        self.ending.cancel();
        if let Some(stored) = self.stored {
            // All it can fail by is a panic, which was told.
            let _ = stored.await;
        }
    }
}
