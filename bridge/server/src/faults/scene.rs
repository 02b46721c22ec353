//! What most rows have in common: a bridge, healthy calls beside, faulted calls, and both counts held against each other. Does no fault.

use std::time::Duration;

use ringback_proto::Instant;
use serde_json::Value;
use tokio::task::JoinSet;

use super::Ground;
use super::beside::{BEFORE, Beside, WARM_UP};
use super::bridge::{Bridge, PATIENCE, Signal};
use super::caller::{Call, Counted, place};
use super::row::Row;
use crate::bench::Missing;
use crate::chaos::{Faults, Proxy, Told};
use crate::client::WsUrl;
use crate::shutdown::Shutdown;

/// Healthy calls.
const HEALTHY: usize = 10;
/// Samples of a frame at 8 kHz, at which all calls and modules of the rows are.
const SAMPLES: u64 = 160;
/// Whatever is late by less is not.
pub(super) const ON_TIME: Duration = Duration::from_millis(150);
/// What the far end itself did not say, among the reasons of a loss.
pub(super) const THE_LINE: &str = "the line";
/// What stands in every complaint about frames of which nobody knows where they are.
const MISSING: &str = "are missing";
/// How long a bridge without calls may take to end.
const GOODBYE: Duration = Duration::from_secs(10);

/// A bridge and its healthy calls.
pub(super) struct Scene<'a> {
    pub(super) ground: &'a Ground,
    pub(super) bridge: Bridge,
    beside: Option<Beside>,
}

impl<'a> Scene<'a> {
    /// Starts both; returns when `lasts` begins, in which the fault is to be done.
    pub(super) fn start(ground: &'a Ground, toml: &str, lasts: Duration) -> Result<Self, String> {
        Self::beside(ground, Bridge::start(ground, toml)?, lasts)
    }

    /// The same around a bridge that is there.
    pub(super) fn beside(
        ground: &'a Ground,
        bridge: Bridge,
        lasts: Duration,
    ) -> Result<Self, String> {
        let beside = Beside::start(&bridge, HEALTHY, lasts)?;
        // They are placed one after the other, which takes a moment.
        let all = |bridge: &Bridge| bridge.events("call.started").len() >= HEALTHY;
        bridge.until(PATIENCE, |bridge| all(bridge).then_some(()));
        std::thread::sleep(WARM_UP + BEFORE);
        Ok(Self { ground, bridge, beside: Some(beside) })
    }

    /// A bridge without healthy calls.
    pub(super) fn alone(ground: &'a Ground, toml: &str) -> Result<Self, String> {
        Ok(Self { ground, bridge: Bridge::start(ground, toml)?, beside: None })
    }

    /// A bridge that is there, without healthy calls.
    pub(super) const fn around(ground: &'a Ground, bridge: Bridge) -> Self {
        Self { ground, bridge, beside: None }
    }

    /// A call of so long.
    pub(super) fn call(&self, name: &str, lasts: Duration) -> Call {
        Call::new(self.bridge.url("twilio"), name, lasts)
    }

    /// As many calls as there are seeds.
    pub(super) fn calls(&self, lasts: Duration) -> Vec<Call> {
        (0..self.ground.seeds).map(|n| self.call(&format!("faulted-{n}"), lasts)).collect()
    }

    /// Places calls and waits for their end.
    pub(super) fn place(&self, calls: Vec<Call>) -> Vec<Counted> {
        self.ground.wait(all(self.ground.clock, calls))
    }

    /// Places calls over a bad line and waits for their end; also what was done to the connection of each.
    pub(super) fn place_over(
        &self,
        faults: Faults,
        mut calls: Vec<Call>,
    ) -> Result<(Vec<Counted>, Vec<Told>), String> {
        let count = calls.len();
        let (clock, to) = (self.ground.clock, self.bridge.authority.clone());
        self.ground.wait(async {
            let proxy = Proxy::bind(([127, 0, 0, 1], 0).into(), to, faults).await;
            let proxy = proxy.map_err(|error| format!("no bad line: {error}"))?;
            let authority = proxy.local_addr().map_err(|error| error.to_string())?.to_string();
            let shutdown = Shutdown::new();
            let running = tokio::spawn(proxy.run(clock, shutdown.clone()));
            for call in &mut calls {
                call.to = WsUrl::plain(authority.clone(), call.to.target.clone());
            }
            let counted = all(clock, calls).await;
            shutdown.drain();
            let told = running.await.map_err(|error| error.to_string())?.connections;
            if told.len() == count {
                return Ok((counted, told));
            }
            Err(format!("{} of {count} calls came over the bad line", told.len()))
        })
    }

    /// Counts of the far ends, held against the ledgers of the bridge: each balances, and names all that is missing.
    pub(super) fn row(&self, counted: &[Counted]) -> Result<(Row, Vec<Value>), String> {
        let ended = self.bridge.ended("faulted-", counted.len())?;
        Ok((row_of(counted, &ended), ended))
    }

    /// Ends the scene: healthy calls, then the bridge, which must have been well all the time.
    pub(super) fn finish(mut self, mut row: Row) -> Result<Row, String> {
        row.must(self.bridge.is_up(), || "the bridge is gone".into());
        if let Some(beside) = self.beside.take() {
            let calls = beside.calls();
            let missing = beside.finish(&mut row);
            let ended = self.bridge.ended("bench-", calls)?;
            ended.iter().for_each(|ended| check_balance(&mut row, ended));
            for (at, missing) in missing.into_iter().enumerate() {
                let name = format!("bench-{at}");
                check_named(&mut row, &name, missing, named_of(&name, &ended));
            }
        }
        self.bridge.signal(Signal::Term)?;
        let status = self.bridge.wait(GOODBYE);
        row.must(status.is_some(), || format!("the bridge did not end within {GOODBYE:?}"));
        self.check_panics(&mut row);
        Ok(row)
    }

    /// Only the healthy calls' part, where the bridge is gone by then.
    pub(super) fn check_panics(&self, row: &mut Row) {
        let panics = self.bridge.logged("panicked");
        row.must(panics.is_empty(), || format!("a panic: {}", panics[0]));
    }
}

async fn all(clock: crate::clock::Clock, calls: Vec<Call>) -> Vec<Counted> {
    let mut running: JoinSet<_> = calls.into_iter().map(|call| place(clock, call)).collect();
    let mut counted = Vec::new();
    while let Some(one) = running.join_next().await {
        counted.extend(one.ok());
    }
    counted.sort_by(|a, b| a.name.cmp(&b.name));
    counted
}

/// The far ends' counts and the ledgers', side by side: what is missing of a call its own ledger names.
pub(super) fn row_of(counted: &[Counted], ended: &[Value]) -> Row {
    let mut row = Row::default();
    for end in ended {
        check_balance(&mut row, end);
        for (reason, frames) in lost(end) {
            *row.lost.entry(reason).or_default() += frames;
        }
    }
    for call in counted {
        row.sent += call.sent;
        row.back += call.back();
        row.twice += call.twice;
        row.disordered += call.disordered;
        let unsaid = call.sent.saturating_sub(call.messages);
        if unsaid > 0 {
            *row.lost.entry(THE_LINE.to_owned()).or_default() += unsaid;
        }
        // Whatever was said twice was dropped once for being so, which nobody misses.
        let copies = call.messages.saturating_sub(call.sent);
        let named = (named_of(&call.name, ended) + unsaid).saturating_sub(copies);
        check_named(&mut row, &call.name, call.missing(), named);
    }
    let twice = row.twice;
    row.must(twice == 0, || format!("{twice} frames came twice"));
    row
}

/// What is missing of a call must be named by its ledger.
fn check_named(row: &mut Row, call: &str, missing: Missing, named: u64) {
    row.must(missing.unnamed(named) == 0, || {
        let Missing { frames, holes } = missing;
        format!("{call}: {frames} frames {MISSING} in {holes} places, and its ledger names {named}")
    });
}

/// What the ledger of a call names that a caller would miss who hears an echo of himself, in frames.
pub(super) fn named_of(call: &str, ended: &[Value]) -> u64 {
    let its = ended.iter().filter(|end| end["provider_call"] == call);
    its.map(lost_to_the_caller).sum()
}

/// What was dropped on the way from the caller through the echo back to the caller. What another module did not get, nobody misses there.
fn lost_to_the_caller(ended: &Value) -> u64 {
    const WAY: [&str; 8] = [
        "wire.in",
        "caller.order",
        "caller.decode",
        "module.echo.in.0",
        "module.echo.out",
        "voice.echo",
        "playout",
        "wire.out",
    ];
    let on_the_way = |(reason, _): &(String, u64)| {
        reason.split_once(' ').is_some_and(|(hop, _)| WAY.contains(&hop))
    };
    lost(ended).into_iter().filter(on_the_way).map(|(_, frames)| frames).sum()
}

fn check_balance(row: &mut Row, ended: &Value) {
    row.must(ended["balanced"] == true, || {
        format!(
            "the ledger of {} does not balance: {}",
            ended["provider_call"], ended["unbalanced"]
        )
    });
}

/// Takes back that frames are missing: where the line itself is gone, what was said into it is nobody's loss.
pub(super) fn forgive_missing(row: &mut Row) {
    row.wrong.retain(|wrong| !wrong.contains(MISSING));
}

/// Takes back that frames came twice: sound that is made up for a gap goes on from what was before it, its number included.
pub(super) fn forgive_twice(row: &mut Row) {
    row.wrong.retain(|wrong| !wrong.ends_with("came twice"));
}

/// What a ledger says was dropped, in frames, by hop and reason.
pub(super) fn lost(ended: &Value) -> Vec<(String, u64)> {
    let hops = ended["ledger"].as_array().into_iter().flatten();
    let drops = hops.flat_map(|hop| {
        let name = hop["hop"].as_str().unwrap_or_default();
        let unit = if hop["unit"] == "samples" { SAMPLES } else { 1 };
        let dropped = hop["dropped"].as_object().into_iter().flatten();
        dropped.map(move |(reason, count)| {
            (format!("{name} {reason}"), count.as_u64().unwrap_or_default().div_ceil(unit))
        })
    });
    drops.collect()
}

/// A figure of a hop of a call that ended.
pub(super) fn hop(ended: &Value, name: &str, figure: &str) -> u64 {
    let hops = ended["ledger"].as_array().into_iter().flatten();
    hops.filter(|hop| hop["hop"] == name).filter_map(|hop| hop[figure].as_u64()).sum()
}

/// How long after `fault` the last frame was said that was late or never came; zero, if none was said so late.
pub(super) fn recovery(counted: &[Counted], fault: Instant) -> Duration {
    let last = counted.iter().filter_map(|call| call.last_late(ON_TIME)).max();
    last.filter(|last| *last > fault).map_or(Duration::ZERO, |last| last - fault)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_ledger_names_is_told_in_frames() {
        let ended = json!({"balanced": true, "provider_call": "faulted-0", "ledger": [
            {"hop": "wire.in", "unit": "messages", "entered": 9, "left": 7, "queued": 0, "dropped": {"early": 2}},
            {"hop": "playout", "unit": "samples", "entered": 1_000, "left": 679, "queued": 0, "dropped": {"trimmed": 321}},
        ]});
        let expected = [("wire.in early".to_owned(), 2), ("playout trimmed".to_owned(), 3)];
        assert_eq!(lost(&ended), expected);
        assert_eq!((hop(&ended, "wire.in", "entered"), hop(&ended, "nowhere", "left")), (9, 0));
    }

    fn counted(heard: &[bool]) -> Counted {
        let at = Instant::from_millis;
        let frames =
            heard.iter().zip(0..).map(|(&heard, n)| (at(20 * n), heard.then(|| at(20 * n + 5))));
        Counted {
            name: "faulted-0".into(),
            messages: heard.len() as u64,
            mangled: 0,
            sent: heard.len() as u64,
            media: 0,
            twice: 0,
            disordered: 0,
            strangers: 0,
            frames: frames.collect(),
            end: super::super::caller::End::Left,
            times: [at(0); 3],
        }
    }

    #[test]
    fn a_copy_that_was_dropped_excuses_no_frame() {
        let end = json!({"balanced": true, "provider_call": "faulted-0", "ledger": [
            {"hop": "caller.order", "unit": "messages", "dropped": {"duplicate": 1}}]});
        let mut far = counted(&[true, false, true]);
        assert_eq!(row_of(std::slice::from_ref(&far), std::slice::from_ref(&end)).wrong.len(), 0);
        far.messages += 1;
        assert_eq!(row_of(&[far], &[end]).wrong.len(), 1);
    }

    #[test]
    fn a_frame_that_nobody_names_is_a_failure() {
        let far = counted(&[true, true, false, true]);
        let row_with = |call: &str, hop: &str, dropped: u64| {
            let ledger = json!([{"hop": hop, "unit": "samples", "dropped": {"trimmed": dropped}}]);
            let end = json!({"balanced": true, "provider_call": call, "ledger": ledger});
            row_of(std::slice::from_ref(&far), &[end])
        };
        let row = row_with("faulted-0", "playout", 0);
        assert_eq!((row.sent, row.back, row.missing(), row.wrong.len()), (4, 3, 1, 1));
        assert_eq!(row_with("faulted-0", "playout", 160).wrong, Vec::<String>::new());
        assert_eq!(row_with("faulted-1", "playout", 160).wrong.len(), 1, "another call's");
        assert_eq!(row_with("faulted-0", "module.ear.in.0", 160).wrong.len(), 1, "another's sound");
        let unbalanced = json!({"balanced": false, "ledger": []});
        assert_eq!(row_of(&[counted(&[true])], &[unbalanced]).wrong.len(), 1);
        assert_eq!(
            recovery(std::slice::from_ref(&far), Instant::from_millis(10)),
            Duration::from_millis(30)
        );
        assert_eq!(recovery(&[far], Instant::from_millis(50)), Duration::ZERO);
    }
}
