//! The table of stages, from the socket's octets to the module's samples and back. The only list there is.

use std::fmt;

/// Does one unit of work: 20 ms of sound.
pub(crate) type Unit = Box<dyn FnMut()>;

/// Units done before any is measured: by then a stream has all the memory it will ever need.
const WARM_UP: u32 = 100;

/// A stage and how to get it ready.
pub(crate) struct Stage {
    name: String,
    prepare: Box<dyn Fn() -> Unit + Send + Sync>,
}

impl Stage {
    /// A stage of that name, which must be unique.
    pub(crate) fn new<F: FnMut() + 'static>(
        name: impl Into<String>,
        prepare: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), prepare: Box::new(move || Box::new(prepare())) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A fresh state, warmed up.
    pub(crate) fn prepare(&self) -> Unit {
        let mut unit = (self.prepare)();
        (0..WARM_UP).for_each(|_| unit());
        unit
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// All stages, in the order in which a frame meets them.
pub(crate) fn stages() -> Vec<Stage> {
    let mut stages = Vec::new();
    stages.extend(crate::wire::stages());
    stages.extend(crate::sound::stages());
    stages.extend(session());
    stages
}

/// Everything between two system calls but the WebSocket: the provider's message in, an echo at 16 kHz, its message out.
fn session() -> impl Iterator<Item = Stage> {
    let providers = ringback_proto::provider::PROVIDERS.iter();
    let sound = providers.filter(|provider| provider.has_sound());
    sound.map(|provider| provider.name()).map(|provider| {
        Stage::new(format!("session turn: {provider}"), move || {
            // Enough that the provider's counter, which begins anew after the last, is seen to do so and not to stumble.
            let mut call = crate::turn::Turn::new(provider, 512);
            move || {
                divan::black_box(call.turn());
            }
        })
    })
}
