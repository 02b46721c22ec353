//! A caller in a story: places its call over its line, speaks, presses a key, listens and hangs up. Judges nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Dial, Digit, Provider, Track, Transport};
use ringback_proto::simulator::Counters;
use tokio::task::JoinSet;

use super::cast::Call;
use crate::chaos;
use crate::client::{CallEvent, Client, ClientError, WsUrl};
use crate::clock::Clock;
use crate::net::{Io, MemoryConnector};
use crate::outgoing::Connector;
use crate::socket::DialError;

/// Length of a frame.
const FRAME: Duration = Duration::from_millis(20);
/// Somebody who is gone without a word stays gone so long: two pings that nobody answers are told by then.
const GONE: Duration = Duration::from_secs(70);
/// The same of one whom the bridge dials again, for as long as its provider keeps a call.
const DIALLED_AGAIN: Duration = Duration::from_secs(160);
/// How often one call is placed.
const PLACED: u32 = 2;
/// Said where words are carried instead of sound.
const WORDS: &str = "Is anybody there?";

/// Where calls are placed.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) clock: Clock,
    pub(super) bridge: MemoryConnector,
    pub(super) connector: Connector,
    pub(super) authority: &'static str,
    /// Lines that are up.
    pub(super) lines: Arc<Mutex<JoinSet<chaos::Told>>>,
}

/// What became of a call, as its caller saw it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Of the last time it was placed.
    pub(super) counters: Counters,
    /// Sample that were heard and were not silence.
    pub(super) heard: usize,
    /// How often it was taken.
    pub(super) taken: u32,
    /// The bridge said that it takes no calls.
    pub(super) refused: bool,
    /// The bridge closed.
    pub(super) closed: Option<u16>,
    /// What went wrong at this end.
    pub(super) failed: Option<String>,
    /// When the caller was gone.
    pub(super) over: Instant,
}

impl Outcome {
    /// Writes down why it did not go on.
    fn fail(&mut self, error: &ClientError) {
        match error {
            ClientError::Dial { error: DialError::Refused { status: 503, .. }, .. } => {
                self.refused = true;
            }
            error => self.failed = Some(error.to_string()),
        }
    }
}

/// Places a call, and again where its behaviour says so.
pub(super) async fn play(place: Place, call: Call) -> (Call, Outcome) {
    place.clock.sleep_until(Some(Instant::ZERO + call.begins)).await;
    let mut outcome = Outcome::default();
    for time in 0..PLACED {
        let behaviours = call.behaviour.filter(|_| time == 0).into_iter().collect();
        let again = once(&place, &call, behaviours, time, &mut outcome).await;
        if !again || outcome.refused || outcome.failed.is_some() {
            break;
        }
    }
    outcome.over = place.clock.now();
    (call, outcome)
}

/// Places it once; says whether it is to be placed again.
async fn once(
    place: &Place,
    call: &Call,
    behaviours: Vec<&'static ringback_proto::provider::behaviour::Behaviour>,
    time: u32,
    outcome: &mut Outcome,
) -> bool {
    let provider = call.provider;
    let formats = provider.formats();
    let dial = Dial {
        call: call.name(),
        format: formats.get((call.format % formats.len().max(1) as u64) as usize).copied(),
        behaviours,
        seed: call.seed,
        ..Dial::default()
    };
    let mut client = match connect(place, call, dial, time).await {
        Ok(client) => client,
        Err(error) => {
            outcome.fail(&error);
            return false;
        }
    };
    outcome.taken += 1;
    let talked = talk(place.clock, &mut client, call, outcome).await;
    outcome.counters = client.counters();
    outcome.heard = client.phone().heard().iter().filter(|&&sample| sample != 0).count();
    if let Err(error) = talked {
        outcome.fail(&error);
        return false;
    }
    let gone = if call.outlives() { DIALLED_AGAIN } else { GONE };
    if call.outlives() || client.phone().is_vanished() {
        place.clock.sleep_until(Some(place.clock.now() + gone)).await;
    }
    client.redials()
}

async fn connect(place: &Place, call: &Call, dial: Dial, time: u32) -> Result<Client, ClientError> {
    let (clock, provider) = (place.clock, call.provider);
    let url = WsUrl::plain(place.authority.into(), format!("/{}", provider.name()));
    if let Transport::Webhook { .. } = provider.transport() {
        return Client::connect(clock, &place.connector, &url, provider, dial, true).await;
    }
    let refused = |error: std::io::Error| ClientError::Connect {
        address: place.authority.into(),
        error: crate::outgoing::ConnectError::Io(error.to_string()),
    };
    let far = place.bridge.connect().await.map_err(refused)?;
    match &call.line {
        None => over(clock, far, &url, provider, dial).await,
        Some(faults) => {
            let (near, mut middle) = tokio::io::duplex(64 * 1024);
            let (faults, mut far) = (faults.clone(), far);
            let connection = call.index * u64::from(PLACED) + u64::from(time);
            let line = async move {
                let ends = (&mut middle, &mut far);
                chaos::line(clock, ends, &faults, connection).await
            };
            place.lines.lock().unwrap_or_else(PoisonError::into_inner).spawn(line);
            over(clock, near, &url, provider, dial).await
        }
    }
}

async fn over(
    clock: Clock,
    io: impl Io,
    url: &WsUrl,
    provider: &dyn Provider,
    dial: Dial,
) -> Result<Client, ClientError> {
    Client::over(clock, io, url, provider, dial, true).await
}

/// Sample `n` of a sound that has no zero in it.
fn sample(n: u64) -> i16 {
    match (n.wrapping_mul(7_919) % 30_011) as i16 - 15_006 {
        0 => 1,
        sample => sample,
    }
}

/// Speaks and listens until it is time to go, or the bridge wants no more.
async fn talk(
    clock: Clock,
    client: &mut Client,
    call: &Call,
    outcome: &mut Outcome,
) -> Result<(), ClientError> {
    // A provider that never says that the stream has started is not waited for.
    let latest = clock.now() + Duration::from_secs(20) + FRAME * call.frames as u32;
    let (mut spoken, mut leaves) = (false, None);
    loop {
        let start = client.phone().start().map(|start| (start.inbound, start.capabilities.text));
        if let (false, Some((inbound, words))) = (spoken, start) {
            spoken = true;
            if let Some(format) = inbound {
                let length = call.frames * format.rate.samples_in(FRAME);
                client.speak(&(0..length).map(sample).collect::<Vec<_>>());
            }
            if words {
                client.say(WORDS).await?;
            }
        }
        if leaves.is_none() && spoken && client.phone().unspoken(Track::Inbound) == 0 {
            if let Some(digit) = call.key.and_then(Digit::new) {
                client.press(digit).await?;
            }
            leaves = Some(clock.now() + call.stays);
        }
        if leaves.unwrap_or(latest) <= clock.now() {
            return client.hang_up().await;
        }
        let wake = leaves.unwrap_or(clock.now() + FRAME).min(latest);
        tokio::select! {
            biased;
            event = client.next() => match event? {
                Some(CallEvent::Closed { code, .. }) => outcome.closed = Some(code),
                Some(CallEvent::Phone(_)) => {}
                None => return Ok(()),
            },
            () = clock.sleep_until(Some(wake)) => {}
        }
    }
}
