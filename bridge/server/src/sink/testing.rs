//! What tests of sinks share: events to send, folders that go away, sinks by themselves. Asserts nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::queue::Queue;
use super::{Event, Intake};
use crate::events::EventKind;
use crate::telemetry::SinkFigures;

/// The `n`-th event of a call.
pub(crate) fn event(call: &str, n: u64, kind: EventKind) -> Event {
    let id = format!("{call}-{n}");
    let json = format!(
        r#"{{"event_id":"{id}","call":"{call}","type":"{kind}","text":"gr\u00fc\u00df \"dich\""}}"#
    );
    Event {
        id,
        call: call.into(),
        kind,
        at: "2026-11-21T07:05:09.042Z".into(),
        listener: "twilio".into(),
        route: "default".into(),
        json,
    }
}

/// A queue, what a sink takes from it, and its figures.
pub(crate) struct Feed {
    queue: Arc<Queue>,
    figures: Arc<SinkFigures>,
}

impl Feed {
    pub(crate) fn new(most: usize) -> (Self, Intake) {
        let (queue, figures) = (Arc::new(Queue::new(most)), Arc::<SinkFigures>::default());
        let intake = Intake {
            name: "test".into(),
            queue: Arc::clone(&queue),
            figures: Arc::clone(&figures),
        };
        (Self { queue, figures }, intake)
    }

    pub(crate) fn put(&self, event: Event) {
        self.figures.take(1);
        self.figures.lose(crate::telemetry::Lost::Overflow, self.queue.push(Arc::new(event)));
    }

    pub(crate) fn close(&self) {
        self.queue.close();
    }

    pub(crate) fn figures(&self) -> &SinkFigures {
        &self.figures
    }
}

/// A folder that goes away with this.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("ringback-sink-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
