//! Rows in which the line between the provider and the bridge is bad. The line is `crate::chaos`; nothing is faulted here but it.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::bridge::ECHO;
use super::caller::{Counted, End, Leave};
use super::recording::{self, recorded};
use super::row::Row;
use super::scene::{Scene, forgive_missing, hop, lost, named_of, recovery, row_of};
use super::{Fault, Ground, Run};
use crate::chaos::{self, Done, Faults, Stall, Told, Way};

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F1",
        name: "jitter",
        what: "every octet up to 200 ms late, both ways",
        how: "chaos proxy, another schedule for each call",
        run: Run::Here(jitter),
    },
    Fault {
        id: "F2",
        name: "stall-2s",
        what: "nothing comes for 2 s, then all of it",
        how: "chaos proxy, towards the bridge",
        run: Run::Here(short_stall),
    },
    Fault {
        id: "F3",
        name: "stall-15s",
        what: "nothing comes for 15 s (quick: 6 s), then all of it",
        how: "chaos proxy, towards the bridge; a recorder listens",
        run: Run::Here(long_stall),
    },
    Fault {
        id: "F12",
        name: "provider-reset",
        what: "the provider's connection is reset in mid-call, and the same call comes again 3 s later",
        how: "chaos proxy, then a second connection with the same call id",
        run: Run::Here(reset),
    },
    Fault {
        id: "F13",
        name: "half-close",
        what: "the provider says no more will come, without a close, and stays",
        how: "chaos proxy",
        run: Run::Here(half_close),
    },
    Fault {
        id: "F14",
        name: "vanish",
        what: "the provider is gone without a word",
        how: "chaos proxy: nothing passes any more; pings every 20 s (quick: 2 s)",
        run: Run::Here(vanish),
    },
    Fault {
        id: "F15",
        name: "two-sockets",
        what: "a second connection brings a call that is there already",
        how: "two connections with one call id",
        run: Run::Here(two_sockets),
    },
    Fault {
        id: "F16",
        name: "one-octet-segments",
        what: "every octet comes alone",
        how: "chaos proxy, in pieces of one octet both ways",
        run: Run::Here(slices),
    },
    Fault {
        id: "F17",
        name: "provider-does-not-read",
        what: "the provider goes on speaking, and reads nothing",
        how: "the far end stops reading",
        run: Run::Here(deaf),
    },
    Fault {
        id: "F18",
        name: "bit-flips",
        what: "one bit in 50,000 is turned over, without TLS",
        how: "chaos proxy, towards the bridge",
        run: Run::Here(flips),
    },
];

const SECOND: Duration = Duration::from_secs(1);

fn jitter(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(60, 5);
    let scene = Scene::start(ground, ECHO, lasts + 2 * SECOND)?;
    let jitter = Duration::from_millis(200);
    let faults = Faults { jitter, seed: 7, ..Faults::default() };
    let (counted, told) = scene.place_over(faults, scene.calls(lasts))?;
    let (mut row, ended) = scene.row(&counted)?;
    let latest = told.iter().map(|told| told.inward.longest_ms.min(told.outward.longest_ms)).min();
    row.felt(latest >= Some(100), || format!("a line was no later than {latest:?} ms"));
    in_order(&mut row, &counted);
    heard_all(&mut row, &counted, &ended);
    // Heaps of a bad line are a latency that does not go away by itself: what would be late for ever is trimmed, and named.
    let trimmed = row.lost.get("playout trimmed").copied().unwrap_or_default();
    row.notes.push(format!("{trimmed} frames trimmed to keep the echo from lagging"));
    scene.finish(row)
}

fn short_stall(ground: &Ground) -> Result<Row, String> {
    stall(ground, Duration::from_secs(2))
}

fn long_stall(ground: &Ground) -> Result<Row, String> {
    stall(ground, ground.time(15, 6))
}

fn stall(ground: &Ground, long: Duration) -> Result<Row, String> {
    let (lead, after) = (2 * SECOND, 5 * SECOND);
    let lasts = lead + long + after;
    let scene = Scene::start(ground, &recorded(), lasts + 2 * SECOND)?;
    let began = scene.bridge.now();
    let stall = Some(Stall::once(lead, long));
    let faults = Faults { stall, way: Way::In, ..Faults::default() };
    let mut calls = scene.calls(lasts);
    calls.iter_mut().for_each(|call| call.to = scene.bridge.url("recorded"));
    let (counted, told) = scene.place_over(faults, calls)?;
    let (mut row, ended) = scene.row(&counted)?;
    let shortest = told.iter().map(|told| told.inward.longest_ms).min().unwrap_or_default();
    let felt = Duration::from_millis(shortest) + SECOND / 4 >= long;
    row.felt(felt, || format!("a line stood still for {shortest} ms only"));
    in_order(&mut row, &counted);
    heard_all(&mut row, &counted, &ended);
    let back = recovery(&counted, began + lead + long);
    row.recovery = Some(back);
    row.should(back <= 4 * SECOND, || {
        format!("latency was back after {back:?}, and should be within 4 s")
    });
    for end in &ended {
        let (heard, told) =
            (hop(end, "module.recorder.in.0", "entered"), hop(end, "module.recorder.in.0", "left"));
        row.must(heard == told && heard > 0, || {
            format!("the recorder was told {told} of {heard} samples")
        });
    }
    // The stall is late, not lost: each recording holds all that was said.
    let said = counted.iter().map(|call| call.sent).min().unwrap_or_default();
    recording::check(&mut row, &scene.bridge.folder, counted.len(), said, Some("finished"));
    scene.finish(row)
}

/// All that was said arrived at the bridge.
fn heard_all(row: &mut Row, counted: &[Counted], ended: &[serde_json::Value]) {
    let said: u64 = counted.iter().map(|call| call.messages).sum();
    let came: u64 = ended.iter().map(|end| hop(end, "wire.in", "entered")).sum();
    row.must(said == came, || format!("{said} messages of sound were sent, and {came} came"));
}

fn in_order(row: &mut Row, counted: &[Counted]) {
    let (disordered, strangers) = (
        counted.iter().map(|call| call.disordered).sum::<u64>(),
        counted.iter().map(|call| call.strangers).sum::<u64>(),
    );
    row.must(disordered == 0, || format!("{disordered} frames came in another order"));
    row.should(strangers <= row.missing(), || format!("{strangers} frames came that nobody said"));
    for call in counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
}

/// A bridge whose calls wait for another stream: without `auth` only a listener that asks for it has them do so.
fn awaiting() -> String {
    format!(
        "{ECHO}[[listener]]\nname = \"twilio\"\npath = \"/twilio\"\nprovider = \"twilio\"\nreattach_window = \"10s\"\n"
    )
}

fn reset(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, &awaiting(), 10 * SECOND)?;
    let faults = Faults { reset: Some(2 * SECOND), ..Faults::default() };
    let name = "faulted-0";
    let (first, told) = scene.place_over(faults, vec![scene.call(name, 4 * SECOND)])?;
    std::thread::sleep(3 * SECOND);
    let again = scene.place(vec![scene.call(name, 2 * SECOND)]);
    let ended = scene.bridge.ended(name, 1)?;
    std::thread::sleep(SECOND / 2);
    let calls = scene.bridge.ended(name, 1)?.len();
    let mut row = Row::default();
    for end in &ended {
        row.must(end["balanced"] == true, || format!("unbalanced: {}", end["unbalanced"]));
    }
    for (reason, frames) in ended.iter().flat_map(lost) {
        *row.lost.entry(reason).or_default() += frames;
    }
    row.sent = first.iter().chain(&again).map(|call| call.sent).sum();
    row.back = first.iter().chain(&again).map(Counted::back).sum();
    let mut row = scene.finish(row)?;
    let broken = first.iter().all(|call| matches!(call.end, End::Broken(_)));
    row.felt(broken && told.iter().all(|told| told.ended == chaos::End::Reset), || {
        format!("the first stream ended with {:?}", first[0].end)
    });
    row.must(calls == 1, || format!("it became {calls} calls"));
    row.must(ended.iter().all(|end| end["reattached"] == 1), || "it was not taken up again".into());
    // What was on its way in the last tenth of a second is the line's.
    let late = first.iter().map(Counted::missing).map(|missing| missing.frames).sum::<u64>();
    row.should(late <= 5, || format!("{late} frames of before the reset are missing"));
    for call in &again {
        // What it hears first may begin in the middle of a frame, and whoever reads numbers from there on reads wrong ones for a while.
        let unnamed = call.missing().unnamed(named_of(name, &ended));
        row.must(unnamed <= call.strangers, || {
            format!("{unnamed} frames of the second stream are not named")
        });
    }
    for call in &again {
        row.must(call.end == End::Left, || format!("its second stream ended with {:?}", call.end));
        row.must(call.back() > 0, || "nothing is heard on its second stream".into());
    }
    Ok(row)
}

fn two_sockets(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, &awaiting(), 7 * SECOND)?;
    let mut calls = vec![scene.call("faulted-0", 5 * SECOND), scene.call("faulted-0", 5 * SECOND)];
    calls[0].leave = Leave::HangUp;
    let counted = scene.place(calls);
    let replaced = counted.iter().filter(|call| matches!(call.end, End::Closed(1008))).count();
    let ended = scene.bridge.ended("faulted-0", 1)?;
    let mut row = Row {
        sent: counted.iter().map(|c| c.sent).sum(),
        back: counted.iter().map(Counted::back).sum(),
        ..Row::default()
    };
    for end in &ended {
        row.must(end["balanced"] == true, || format!("unbalanced: {}", end["unbalanced"]));
    }
    let mut row = scene.finish(row)?;
    row.must(replaced == 1, || format!("{replaced} of two streams were replaced by the other"));
    let stayed = counted.iter().filter(|call| call.end == End::Left && call.back() > 0).count();
    row.must(stayed == 1, || format!("{stayed} of two streams went on with the call"));
    Ok(row)
}

fn half_close(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 10 * SECOND)?;
    let faults = Faults { half_close: Some(2 * SECOND), way: Way::In, ..Faults::default() };
    gone(scene, faults, [15 * SECOND, 6 * SECOND], |told| told.inward.half_closed)
}

fn vanish(ground: &Ground) -> Result<Row, String> {
    let ping = if ground.quick { 2 } else { 20 };
    let toml = format!("[limits]\nkeepalive = \"{ping}s\"\n{ECHO}");
    // Two pings, and the part of a third that had passed.
    let most = if ground.quick { 5 * SECOND } else { 45 * SECOND };
    let scene = Scene::start(ground, &toml, most + 4 * SECOND)?;
    let faults = Faults { stall: Some(Stall::for_ever(2 * SECOND)), ..Faults::default() };
    gone(scene, faults, [most, most + 2 * SECOND], |told| told.inward.stalls > 0)
}

/// Callers that are gone: their calls must end in time.
fn gone(
    scene: Scene<'_>,
    faults: Faults,
    [within, lasts]: [Duration; 2],
    felt: fn(&Told) -> bool,
) -> Result<Row, String> {
    let calls = scene.calls(lasts);
    let count = calls.len();
    let (counted, told) = scene.place_over(faults, calls)?;
    let ended = scene.bridge.ended_within("faulted-", count, within + 5 * SECOND)?;
    let mut row = row_of(&counted, &ended);
    forgive_missing(&mut row);
    row.felt(told.iter().all(felt), || "a line was not gone".into());
    let came: Vec<_> = ended.iter().map(|end| hop(end, "wire.in", "entered")).collect();
    row.notes.push(format!("{} frames came before the line was gone", came.iter().sum::<u64>()));
    row.must(came.iter().all(|came| (1..=100).contains(came)), || {
        format!("of the 2 s before the line was gone {came:?} frames came")
    });
    row.should(came.iter().all(|came| *came >= 90), || {
        format!("of the 2 s before the line was gone {came:?} frames came")
    });
    // Of what came, the last may have met a line that was gone already.
    let heard = row.back;
    row.must(heard > 0, || "nothing was heard again".into());
    row.should(heard + 10 * count as u64 >= came.iter().sum::<u64>(), || {
        format!("of {came:?} frames that came, {heard} were heard again")
    });
    let longest =
        ended.iter().filter_map(|end| end["duration_ms"].as_u64()).max().unwrap_or_default();
    let took = Duration::from_millis(longest).saturating_sub(2 * SECOND);
    row.recovery = Some(took);
    row.should(took <= within, || {
        format!("the call ended {took:?} after, and must within {within:?}")
    });
    scene.finish(row)
}

fn slices(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(20, 4);
    let scene = Scene::start(ground, ECHO, lasts + 2 * SECOND)?;
    let faults = Faults { slice: NonZeroUsize::new(1), ..Faults::default() };
    let (counted, told) = scene.place_over(faults, vec![scene.call("faulted-0", lasts)])?;
    let (mut row, ended) = scene.row(&counted)?;
    let alone = |done: &Done| done.octets > 0 && done.pieces == done.octets;
    row.felt(told.iter().all(|told| alone(&told.inward) && alone(&told.outward)), || {
        "octets came together".into()
    });
    in_order(&mut row, &counted);
    heard_all(&mut row, &counted, &ended);
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    scene.finish(row)
}

fn deaf(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 16 * SECOND)?;
    let mut calls = scene.calls(15 * SECOND);
    for call in &mut calls {
        call.deaf = Some((2 * SECOND, 60 * SECOND));
        call.leave = Leave::Never;
        call.linger = Duration::ZERO;
    }
    let count = calls.len();
    // Whoever reads nothing hears no end either: what it does then is not waited for.
    let placing = scene.ground.runtime.spawn({
        let clock = scene.ground.clock;
        async move {
            let mut running: tokio::task::JoinSet<_> =
                calls.into_iter().map(|call| super::caller::place(clock, call)).collect();
            while running.join_next().await.is_some() {}
        }
    });
    let ended =
        scene.bridge.ended_within("faulted-", count, 16 * SECOND + scene.ground.time(60, 45));
    placing.abort();
    let ended = ended?;
    let mut row = row_of(&[], &ended);
    row.sent = ended.iter().map(|end| hop(end, "wire.in", "entered")).sum();
    row.back = ended.iter().map(|end| hop(end, "wire.out", "left")).sum();
    row.notes.push("in and out are the bridge's own count: the far end is deaf".into());
    let reasons: Vec<_> = ended.iter().filter_map(|end| end["reason"].as_str()).collect();
    row.notes.push(format!("ended as {}", reasons.first().copied().unwrap_or_default()));
    // That it goes on speaking for 2 s and more is what tells it from a line that is gone.
    let came = row.sent;
    row.felt(reasons.iter().all(|reason| *reason == "socket"), || {
        format!("the calls ended as {reasons:?}")
    });
    row.should(came > 100 * count as u64, || format!("they ended after {came} frames"));
    let longest =
        ended.iter().filter_map(|end| end["duration_ms"].as_u64()).max().unwrap_or_default();
    let took = Duration::from_millis(longest).saturating_sub(2 * SECOND);
    row.recovery = Some(took);
    // What the systems of both ends keep is a second or so; then the write deadline of 5 s runs.
    row.should(took <= 8 * SECOND, || {
        format!("the calls ended {took:?} after, and must within 8 s")
    });
    scene.finish(row)
}

fn flips(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(30, 5);
    let scene = Scene::start(ground, ECHO, lasts + 2 * SECOND)?;
    let faults = Faults { flip: 2e-5, way: Way::In, seed: 7, ..Faults::default() };
    let (counted, told) = scene.place_over(faults, scene.calls(lasts))?;
    // A flip in the request or in the announcement is a call that never began, or one of another name.
    let ended = scene.bridge.ended_of_all_but("bench-")?;
    let mut row = row_of(&[], &ended);
    row.sent = counted.iter().map(|call| call.sent).sum();
    row.back = counted.iter().map(Counted::back).sum();
    let flipped: u64 = told.iter().map(|told| told.inward.flipped).sum();
    let named: u64 = row.lost.values().sum();
    let stayed = counted.iter().filter(|call| call.end == End::Left && call.back() > 0);
    let (stayed, missing) = stayed
        .fold((0, 0), |(stayed, missing), call| (stayed + 1, missing + call.missing().frames));
    row.notes.push(format!(
        "{flipped} bits turned over on {} calls; {} began, {stayed} stayed to the end",
        counted.len(),
        ended.len()
    ));
    let seen = stayed < counted.len() || missing + named > 0;
    row.felt(flipped > 0 && seen, || format!("of {flipped} bits turned over none was seen"));
    // A bit costs the frame it is in, and perhaps the one that its gap runs into.
    row.must(missing <= 2 * (flipped + named), || {
        format!("{missing} frames are missing of calls that stayed, for {flipped} bits")
    });
    for call in &counted {
        let clean = match &call.end {
            End::Left | End::Refused(Some(400..=499)) => true,
            End::Closed(code) => [1000, 1002, 1003, 1007, 1008, 1009].contains(code),
            End::Broken(_) | End::Refused(_) => call.media == 0,
        };
        row.must(clean, || format!("{} ended with {:?}", call.name, call.end));
    }
    scene.finish(row)
}
