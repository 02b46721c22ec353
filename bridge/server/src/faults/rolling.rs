//! Three bridges behind a load balancer, replaced one after the other under calls. The balancer is one of ours: it asks `/readyz` and
//! passes octets on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::bridge::{Bridge, ECHO, PATIENCE, Signal, get};
use super::caller::{Call, Counted, End, place};
use super::row::Row;
use super::scene::row_of;
use super::{Fault, Ground, Run};
use crate::client::WsUrl;
use crate::clock::Clock;

pub(super) static ROWS: &[Fault] = &[Fault {
    id: "F31",
    name: "rolling-restart",
    what: "three bridges behind a load balancer are replaced one after the other, under calls",
    how: "a balancer that asks /readyz every 50 ms; SIGTERM, another bridge in its place; callers try twice",
    run: Run::Here(rolling_restart),
}];

const SECOND: Duration = Duration::from_secs(1);
const BRIDGES: usize = 3;
/// How often bridges are asked whether they take calls.
const ASKED_EVERY: Duration = Duration::from_millis(50);
/// From one call to the next.
const CALLED_EVERY: Duration = Duration::from_millis(100);
/// What each call says.
const SAYS: Duration = SECOND;
/// Before a caller tries again who was refused.
const AGAIN: Duration = Duration::from_millis(200);

/// Bridges' addresses, and whether each takes calls.
#[derive(Debug, Default)]
struct Backends {
    all: Mutex<Vec<(String, bool)>>,
    next: AtomicUsize,
    over: AtomicBool,
}

impl Backends {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<(String, bool)>) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next one in turn that takes calls.
    fn choose(&self) -> Option<String> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.with(|all| {
            let ready: Vec<_> = all.iter().filter(|(_, ready)| *ready).collect();
            ready.get(turn % ready.len().max(1)).map(|(authority, _)| authority.clone())
        })
    }

    /// Asks each again and again, as balancers do.
    fn watch(&self) {
        while !self.over.load(Ordering::Relaxed) {
            for authority in self.with(|all| all.clone()).into_iter().map(|(name, _)| name) {
                let ready = get(&authority, "/readyz");
                let ready = ready.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
                self.with(|all| {
                    let its = all.iter_mut().find(|(name, _)| *name == authority);
                    its.map(|its| its.1 = ready)
                });
            }
            std::thread::sleep(ASKED_EVERY);
        }
    }
}

/// Passes each connection on to a bridge that takes calls; closes it, if there is none.
async fn balance(listener: TcpListener, backends: Arc<Backends>) {
    while let Ok((mut caller, _)) = listener.accept().await {
        let Some(authority) = backends.choose() else { continue };
        tokio::spawn(async move {
            let _ = caller.set_nodelay(true);
            let Ok(mut bridge) = TcpStream::connect(&authority).await else { return };
            let _ = bridge.set_nodelay(true);
            // Whichever end breaks, the other one sees it.
            let _ = tokio::io::copy_bidirectional(&mut caller, &mut bridge).await;
        });
    }
}

/// What became of a call, and whether it took a second try.
async fn call_twice(clock: Clock, to: WsUrl, at: usize) -> (Counted, bool) {
    let call = |n: u32| Call {
        linger: SECOND / 2,
        ..Call::new(to.clone(), &format!("faulted-{at}-{n}"), SAYS)
    };
    let first = place(clock, call(1)).await;
    if first.media > 0 || first.end == End::Left {
        return (first, false);
    }
    tokio::time::sleep(AGAIN).await;
    (place(clock, call(2)).await, true)
}

fn rolling_restart(ground: &Ground) -> Result<Row, String> {
    let toml = format!("[server]\ndrain_timeout = \"30s\"\n{ECHO}");
    let (backends, mut bridges) = (Arc::new(Backends::default()), Vec::new());
    for _ in 0..BRIDGES {
        let bridge = Bridge::start(ground, &toml)?;
        backends.with(|all| all.push((bridge.authority.clone(), true)));
        bridges.push(bridge);
    }
    let listener = ground.wait(TcpListener::bind("127.0.0.1:0")).map_err(|e| e.to_string())?;
    let authority = listener.local_addr().map_err(|error| error.to_string())?.to_string();
    let balancing = ground.runtime.spawn(balance(listener, Arc::clone(&backends)));
    let watching = std::thread::spawn({
        let backends = Arc::clone(&backends);
        move || backends.watch()
    });
    let to = WsUrl::plain(authority, "/twilio".into());
    let (clock, over) = (ground.clock, Arc::new(AtomicBool::new(false)));
    let calling = ground.runtime.spawn({
        let over = Arc::clone(&over);
        async move {
            let mut placed = tokio::task::JoinSet::new();
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                placed.spawn(call_twice(clock, to.clone(), count));
                count += 1;
                tokio::time::sleep(CALLED_EVERY).await;
            }
            placed.join_all().await
        }
    });
    let mut row = Row::default();
    let replaced = replace_all(ground, &toml, &backends, &mut bridges, &mut row);
    over.store(true, Ordering::Relaxed);
    let outcomes = ground.wait(calling).map_err(|error| error.to_string())?;
    backends.over.store(true, Ordering::Relaxed);
    let _ = watching.join();
    balancing.abort();
    let mut ended = replaced?;
    for bridge in &mut bridges {
        bridge.signal(Signal::Term)?;
        row.must(bridge.wait(PATIENCE).is_some(), || "a bridge did not end".into());
        ended.extend(bridge.events("call.ended"));
    }
    Ok(judge(row, &outcomes, &ended))
}

/// Replaces one after the other; the ends of calls that those which are gone told.
fn replace_all(
    ground: &Ground,
    toml: &str,
    backends: &Backends,
    bridges: &mut [Bridge],
    row: &mut Row,
) -> Result<Vec<Value>, String> {
    let mut ended = Vec::new();
    for bridge in bridges {
        std::thread::sleep(SECOND);
        bridge.signal(Signal::Term)?;
        let ended_before = bridge.events("call.ended").len();
        let live = bridge.events("call.started").len() - ended_before;
        row.felt(live > 0, || "a bridge had no call when it was told to go".into());
        let status = bridge.wait(PATIENCE);
        row.must(status.is_some_and(|status| status.success()), || {
            format!("a bridge ended with {status:?}")
        });
        ended.extend(bridge.events("call.ended"));
        let new = Bridge::start(ground, toml)?;
        let gone = std::mem::replace(bridge, new);
        backends.with(|all| {
            all.retain(|(authority, _)| *authority != gone.authority);
            all.push((bridge.authority.clone(), false));
        });
        row.notes.push(format!("a bridge with {live} calls was told to go"));
    }
    std::thread::sleep(SECOND);
    Ok(ended)
}

fn judge(before: Row, outcomes: &[(Counted, bool)], ended: &[Value]) -> Row {
    let counted: Vec<_> = outcomes.iter().map(|(counted, _)| counted.clone()).collect();
    let again = outcomes.iter().filter(|(_, again)| *again).count();
    let failed = counted.iter().filter(|call| call.end != End::Left).count();
    let mut row = before.and(row_of(&counted, ended));
    row.notes.push(format!("{} calls, {again} of them at the second try", counted.len()));
    row.must(failed == 0, || format!("{failed} of {} calls failed or were cut", counted.len()));
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    row
}
