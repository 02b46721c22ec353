//! Rows in which a module is away, slow, hung or hostile. The caller's line is good.

use std::net::SocketAddr;
use std::time::Duration;

use super::bridge::{ECHO, Signal, send};
use super::caller::{Call, Counted};
use super::ear::{Ear, Session};
use super::row::Row;
use super::scene::Scene;
use super::{Fault, Ground, Run};
use crate::chaos::{self, Faults, Proxy, Told};
use crate::shutdown::Shutdown;

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F19",
        name: "module-reset",
        what: "the connection to a module is reset every 3 s",
        how: "chaos proxy before a WebSocket module that counts",
        run: Run::Here(resets),
    },
    Fault {
        id: "F20",
        name: "module-away",
        what: "a module is away for 8 s (quick: 4 s), less than the ring of 10 s",
        how: "its connection is reset, and nobody listens at its address",
        run: Run::Here(away),
    },
    Fault {
        id: "F21",
        name: "module-away-long",
        what: "a module is away for longer than its ring: 30 s of 10 s (quick: 6 s of 2 s)",
        how: "its connection is reset, and nobody listens at its address",
        run: Run::Here(away_long),
    },
    Fault {
        id: "F22",
        name: "module-slow",
        what: "a module takes half of what is said",
        how: "chaos proxy: a line of half the rate",
        run: Run::Here(slow),
    },
    Fault {
        id: "F23",
        name: "module-hung",
        what: "a module's process stands still",
        how: "SIGSTOP",
        run: Run::Here(hung),
    },
    Fault {
        id: "F24",
        name: "module-crash-loop",
        what: "a module ends as soon as it is started",
        how: "a child process that exits",
        run: Run::Here(crash_loop),
    },
    Fault {
        id: "F25",
        name: "module-flood",
        what: "a module says far more than its session may",
        how: "child processes that keep to the contract for a second; then one plays 10 s with each frame, and one tells 10,000 events",
        run: Run::Here(flood),
    },
    Fault {
        id: "F26",
        name: "module-garbage",
        what: "a module says what is not of the contract",
        how: "a child process that writes random octets",
        run: Run::Here(garbage),
    },
    Fault {
        id: "F27",
        name: "bus-down",
        what: "the NATS server is away",
        how: "kill",
        run: Run::Elsewhere(
            "a NATS server is killed and started again by the tests (`cargo test -p ringback --test nats`)",
        ),
    },
    Fault {
        id: "F28",
        name: "module-black-hole",
        what: "a module's server takes connections and answers nothing",
        how: "a port that nobody accepts on",
        run: Run::Here(black_hole),
    },
];

const SECOND: Duration = Duration::from_secs(1);

/// What happens between the bridge and the module.
enum Outage {
    /// The line is bad.
    Line(Faults),
    /// Nobody is at the address: from two seconds on, for so long.
    Away(Duration),
}

/// From the first call to when the module goes away.
const LEAD: Duration = Duration::from_secs(2);

/// What became of calls whose module was away.
struct Heard {
    row: Row,
    sessions: Vec<Session>,
    counted: Vec<Counted>,
    /// What was done to the connections to the module.
    told: Vec<Told>,
}

/// What the ears heard, and the row of the calls.
fn with_ear(
    ground: &Ground,
    lasts: Duration,
    ring: &str,
    outage: &Outage,
) -> Result<Heard, String> {
    let (ear, shutdown) = (ground.wait(Ear::start()), Shutdown::new());
    let ear = ear.map_err(|error| format!("no ear: {error}"))?;
    let to = ear.address.to_string();
    let faults = match outage {
        Outage::Line(faults) => faults.clone(),
        Outage::Away(_) => Faults::default(),
    };
    let (proxy, address) = ground.wait(bad_line(([127, 0, 0, 1], 0).into(), &to, faults))?;
    let running = ground.runtime.spawn(proxy.run(ground.clock, shutdown.clone()));
    let toml = format!(
        "{ECHO}[[module]]\nname = \"ear\"\nkind = \"websocket\"\nurl = \"ws://{address}/\"\nring = \"{ring}\"\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\"]\n\
         [[route]]\nname = \"with-ear\"\nmodules = [\"echo\", \"ear\"]\nspeaker = \"echo\"\n\
         [[listener]]\nname = \"twilio\"\npath = \"/twilio\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"default\"\n\
         [[listener]]\nname = \"eared\"\npath = \"/eared\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"with-ear\"\n"
    );
    let scene = Scene::start(ground, &toml, lasts + 4 * SECOND)?;
    let eared = |mut call: Call| {
        call.to = scene.bridge.url("eared");
        call.linger = 3 * SECOND;
        call
    };
    let calls = scene.calls(lasts).into_iter().map(eared).collect();
    let last = Shutdown::new();
    let away = match outage {
        Outage::Line(_) => None,
        Outage::Away(time) => {
            let time = *time;
            let (clock, gone, last) = (ground.clock, shutdown.clone(), last.clone());
            Some(ground.runtime.spawn(async move {
                tokio::time::sleep(LEAD).await;
                gone.drain();
                tokio::time::sleep(time).await;
                let (proxy, _) = bad_line(address, &to, Faults::default()).await?;
                Ok::<_, String>(proxy.run(clock, last).await)
            }))
        }
    };
    let counted = scene.place(calls);
    let (mut row, _) = scene.row(&counted)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("the caller misses {missing} frames of the echo"));
    let row = scene.finish(row)?;
    shutdown.drain();
    last.drain();
    // They end with their connections; all they could tell is known.
    let told = ground.wait(running).map_err(|error| error.to_string())?.connections;
    if let Some(away) = away {
        ground.wait(away).map_err(|error| error.to_string())??;
    }
    let (mut row, sessions) = (row, ear.sessions());
    row.must(sessions.len() == counted.len(), || {
        format!("{} sessions of {} calls", sessions.len(), counted.len())
    });
    Ok(Heard { row, sessions, counted, told })
}

/// Each session had to be gone on with over other connections.
fn interrupted(row: &mut Row, sessions: &[Session]) {
    let fewest = sessions.iter().map(|session| session.connections).min().unwrap_or_default();
    row.felt(fewest >= 2, || format!("a session had {fewest} connections"));
}

/// A line to the module, and where it begins.
async fn bad_line(at: SocketAddr, to: &str, faults: Faults) -> Result<(Proxy, SocketAddr), String> {
    let failed = |error| format!("no line to the module: {error}");
    let proxy = Proxy::bind(at, to.to_owned(), faults).await.map_err(failed)?;
    let address = proxy.local_addr().map_err(failed)?;
    Ok((proxy, address))
}

/// Every number was heard, once.
fn all_heard(row: &mut Row, sessions: &[Session]) {
    let (said, heard) = (row.sent, sessions.iter().map(Session::heard).sum::<u64>());
    let twice: u64 = sessions.iter().map(Session::twice).sum();
    let connections: u32 = sessions.iter().map(|session| session.connections).sum();
    let replayed: u64 = sessions.iter().map(|session| session.replayed / 160).sum();
    row.must(heard == said, || format!("the module heard {heard} of {said} frames"));
    row.must(twice == 0, || format!("the module heard {twice} frames twice"));
    row.notes.push(format!(
        "the module heard {heard} of {said} over {connections} connections; {replayed} frames came again unacknowledged"
    ));
}

fn resets(ground: &Ground) -> Result<Row, String> {
    let line = Outage::Line(Faults { reset: Some(3 * SECOND), ..Faults::default() });
    let Heard { mut row, sessions, told, .. } =
        with_ear(ground, ground.time(60, 10), "10s", &line)?;
    interrupted(&mut row, &sessions);
    let resets = told.iter().filter(|told| told.ended == chaos::End::Reset).count();
    row.felt(resets >= 2 * sessions.len(), || {
        format!("{resets} resets of {} sessions", sessions.len())
    });
    all_heard(&mut row, &sessions);
    Ok(row)
}

fn away(ground: &Ground) -> Result<Row, String> {
    let away = ground.time(8, 4);
    let Heard { mut row, sessions, .. } =
        with_ear(ground, away + 8 * SECOND, "10s", &Outage::Away(away))?;
    interrupted(&mut row, &sessions);
    all_heard(&mut row, &sessions);
    Ok(row)
}

/// What the module missed in the midst of a call is what it was told is gone; what was on its way when the call ended is not missed.
fn exactly_told(row: &mut Row, sessions: &[Session]) {
    // Behind the last gap nothing may have been heard any more: it is in nobody's midst.
    let told = sessions.iter().map(|session| session.gaps_ms - session.last_gaps_ms).sum::<u64>();
    let holes = sessions.iter().flat_map(|session| &session.frames).filter(|&&times| times == 0);
    let (missed, count) = (20 * holes.count() as u64, sessions.len() as u64);
    let heard: u64 = sessions.iter().map(Session::heard).sum();
    row.notes.push(format!(
        "the module heard {heard} frames, missed {missed} ms in their midst and was told of {told} ms"
    ));
    row.felt(missed > 0, || "nothing was lost".into());
    // A gap may begin and end within a frame, whose number cannot be read then.
    let edges = 40 * count * sessions.iter().map(|s| u64::from(s.gaps)).max().unwrap_or_default();
    row.must(missed <= told + edges && told <= missed + edges, || {
        format!("the module missed {missed} ms, and was told of {told} ms")
    });
}

fn away_long(ground: &Ground) -> Result<Row, String> {
    let (away, ring) = (ground.time(30, 6), if ground.quick { "2s" } else { "10s" });
    let Heard { mut row, sessions, .. } =
        with_ear(ground, away + 6 * SECOND, ring, &Outage::Away(away))?;
    interrupted(&mut row, &sessions);
    exactly_told(&mut row, &sessions);
    let named = 20 * row.lost.get("module.ear.in.0 overwritten").copied().unwrap_or_default();
    let told = sessions.iter().map(|session| session.gaps_ms).sum::<u64>();
    row.notes.push(format!("the ledger names {named} ms"));
    // What was given and not acknowledged may be lost with the connection: that is told, and was not lost here.
    row.must(named > 0 && named <= told + 40 * sessions.len() as u64, || {
        format!("the modules were told of {told} ms, and the ledger names {named} ms")
    });
    row.must(2 * named >= told, || format!("of {told} ms that were told the ledger names {named}"));
    Ok(row)
}

fn slow(ground: &Ground) -> Result<Row, String> {
    // Linear sound at 8 kHz is 16,000 octets a second.
    let line = Outage::Line(Faults { rate: Some(8_000), ..Faults::default() });
    let Heard { mut row, sessions, counted, .. } =
        with_ear(ground, ground.time(90, 20), "2s", &line)?;
    exactly_told(&mut row, &sessions);
    // Half of what was said fits through, less what is said again after a connection that was too late for its pings.
    let said = counted.iter().map(|call| call.sent).max().unwrap_or_default();
    let connections: u32 = sessions.iter().map(|session| session.connections).sum();
    for session in &sessions {
        let heard = session.heard();
        row.must(heard >= said / 5, || format!("a module heard {heard} of {said} frames"));
        row.felt(heard <= said * 7 / 10, || format!("a module heard {heard} of {said} frames"));
    }
    row.notes.push(format!("{connections} connections of {} sessions", sessions.len()));
    Ok(row)
}

/// A bridge with a child process beside its echo, on a path of its own: `/eared` has both.
fn with_child(command: &str, more: &str) -> String {
    format!(
        "{ECHO}[[module]]\nname = \"child\"\nkind = \"child\"\ncommand = {command}\n{more}\
         [[route]]\nname = \"default\"\nmodules = [\"echo\"]\n\
         [[route]]\nname = \"with-child\"\nmodules = [\"echo\", \"child\"]\nspeaker = \"echo\"\n\
         [[listener]]\nname = \"twilio\"\npath = \"/twilio\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"default\"\n\
         [[listener]]\nname = \"eared\"\npath = \"/eared\"\nprovider = \"twilio\"\ninsecure = true\nroute = \"with-child\"\n"
    )
}

/// Calls beside such a child: the caller must not notice; what else is checked is up to `judge`.
fn beside_child(
    ground: &Ground,
    (command, lasts): (&str, Duration),
    during: impl FnOnce(&Scene<'_>, ringback_proto::Instant, &mut Row),
) -> Result<Row, String> {
    let scene = Scene::start(ground, &with_child(command, "sessions = 1\n"), lasts + 2 * SECOND)?;
    let memory = scene.bridge.rss_kib();
    let mut call = scene.call("faulted-0", lasts);
    call.to = scene.bridge.url("eared");
    let began = scene.bridge.now();
    let placing = ground.runtime.spawn(super::caller::place(ground.clock, call));
    let mut seen = Row::default();
    during(&scene, began, &mut seen);
    let counted = ground.wait(placing).map_err(|error| error.to_string())?;
    let (mut row, ended) = scene.row(&[counted])?;
    let missing = row.missing();
    row.should(missing == 0, || format!("the caller misses {missing} frames of the echo"));
    row.wrong.append(&mut seen.wrong);
    row.late.append(&mut seen.late);
    row.notes.append(&mut seen.notes);
    row.recovery = seen.recovery;
    if let Some((before, after)) = memory.zip(scene.bridge.rss_kib()) {
        let more = after.saturating_sub(before);
        row.notes.push(format!("{more} KiB more memory"));
        row.must(more < 8 * 1024, || format!("{more} KiB more memory"));
    }
    for end in &ended {
        let starts = end["modules"].as_array().into_iter().flatten();
        let child = starts
            .filter(|module| module["name"] == "child")
            .find_map(|module| module["starts"].as_u64());
        let starts = child.unwrap_or_default();
        row.notes.push(format!("the child was started {starts} times"));
        row.must((1..=6).contains(&starts), || format!("the child was started {starts} times"));
    }
    scene.finish(row)
}

/// This program as a module.
fn itself(kind: &str) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = serde_json::Value::from(program.to_string_lossy());
    Ok(format!("[{program}, \"faults\", \"--be-module\", \"{kind}\"]"))
}

/// Waits until the child is ready; whether it ever was.
fn child_is_ready(scene: &Scene<'_>, row: &mut Row) -> bool {
    let ready = |bridge: &super::bridge::Bridge| {
        let events = bridge.events("module.ready");
        events.iter().any(|event| event["module"] == "child").then_some(())
    };
    let is_ready = scene.bridge.until(5 * SECOND, ready).is_some();
    row.felt(is_ready, || "the child was never ready".into());
    is_ready
}

fn hung(ground: &Ground) -> Result<Row, String> {
    beside_child(ground, (&itself("idle")?, 8 * SECOND), |scene, _, row| {
        if !child_is_ready(scene, row) {
            return;
        }
        std::thread::sleep(SECOND);
        let children = children_of(scene.bridge.id());
        let stopped = scene.bridge.now();
        for child in &children {
            if let Err(error) = send(*child, Signal::Stop) {
                row.wrong.push(error);
            }
        }
        row.must(!children.is_empty(), || "there is no child process to stop".into());
        let failed = |bridge: &super::bridge::Bridge| {
            bridge
                .events("module.failed")
                .iter()
                .any(|event| event["module"] == "child")
                .then_some(())
        };
        let noticed = scene.bridge.until(5 * SECOND, failed);
        let took = scene.bridge.now() - stopped;
        row.must(noticed.is_some(), || "nobody noticed that the child stands still".into());
        row.recovery = Some(took);
        row.should(took <= Duration::from_millis(2_300), || {
            format!("it was noticed after {took:?}, and must be within 2 s")
        });
        // Those that are left standing are the system's, not ours, to end: they go when the bridge does.
        for child in &children {
            let _ = send(*child, Signal::Continue);
        }
    })
}

/// Processes that a process has started.
fn children_of(id: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |id: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    ids.filter(|&child| parent(child) == Some(id)).collect()
}

fn crash_loop(ground: &Ground) -> Result<Row, String> {
    beside_child(ground, ("[\"sh\", \"-c\", \"exit 3\"]", 6 * SECOND), |scene, began, row| {
        failed_once(scene, began, row);
        let again = |bridge: &super::bridge::Bridge| {
            (bridge.events("module.failed").len() >= 2).then_some(())
        };
        let again = scene.bridge.until(6 * SECOND, again).is_some();
        row.felt(again, || "it was tried once only".into());
    })
}

fn flood(ground: &Ground) -> Result<Row, String> {
    let sound = beside_child(ground, (&itself("floods")?, 4 * SECOND), |scene, _, row| {
        if !child_is_ready(scene, row) {
            return;
        }
        failed_once(scene, scene.bridge.now(), row);
        // It floods from a second on.
        let took = row.recovery.unwrap_or_default().saturating_sub(SECOND);
        row.recovery = Some(took);
        row.should(took <= 3 * SECOND, || format!("it was ended after {took:?}"));
        let why = row.notes.iter().any(|note| note.contains("beyond its credit"));
        row.felt(why, || "it was not ended for its flood".into());
    })?;
    let lasts = 5 * SECOND;
    let words = beside_child(ground, (&itself("babbles")?, lasts), |scene, _, row| {
        if !child_is_ready(scene, row) {
            return;
        }
        std::thread::sleep(lasts - SECOND);
        let said = scene.bridge.events("event");
        let said = said.iter().filter(|event| event["module"] == "child").count();
        // 500 at once, and 500 a second: the rest waits with the module.
        row.felt(said > 500, || format!("it told {said} events only"));
        row.must(said <= 500 * (1 + 6), || format!("{said} events of it were let through"));
        row.notes.push(format!("of 10,000 events with each frame {said} were let through"));
    })?;
    Ok(sound.and(words))
}

fn garbage(ground: &Ground) -> Result<Row, String> {
    beside_child(ground, ("[\"cat\", \"/dev/urandom\"]", 6 * SECOND), failed_once)
}

/// The bridge says that the child failed.
fn failed_once(scene: &Scene<'_>, began: ringback_proto::Instant, row: &mut Row) {
    let failed = |bridge: &super::bridge::Bridge| {
        bridge.events("module.failed").into_iter().find(|event| event["module"] == "child")
    };
    let noticed = scene.bridge.until(6 * SECOND, failed);
    row.recovery = Some(scene.bridge.now() - began);
    match noticed {
        Some(event) => {
            row.notes.push(format!("told: {}", event["reason"].as_str().unwrap_or_default()));
        }
        None => row.wrong.push("nobody noticed that the child failed".into()),
    }
}

fn black_hole(ground: &Ground) -> Result<Row, String> {
    // It is listened on, so that connections are made, and nobody takes them.
    let hole = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .map_err(|e| e.to_string())?;
    let address = hole.local_addr().map_err(|error| error.to_string())?;
    let toml = with_child("[\"true\"]", "").replace(
        "kind = \"child\"\ncommand = [\"true\"]\n",
        &format!("kind = \"websocket\"\nurl = \"ws://{address}/\"\nready_timeout = \"3s\"\n"),
    );
    let scene = Scene::start(ground, &toml, 8 * SECOND)?;
    let mut call = scene.call("faulted-0", 6 * SECOND);
    call.to = scene.bridge.url("eared");
    let began = scene.bridge.now();
    let placing = ground.runtime.spawn(super::caller::place(ground.clock, call));
    let mut seen = Row::default();
    failed_once(&scene, began, &mut seen);
    let counted = ground.wait(placing).map_err(|error| error.to_string())?;
    let (mut row, _) = scene.row(&[counted])?;
    let missing = row.missing();
    row.should(missing == 0, || format!("the caller misses {missing} frames of the echo"));
    let asked = hole.set_nonblocking(true).and_then(|()| hole.accept());
    row.felt(asked.is_ok(), || "nobody connected to it".into());
    let took = seen.recovery.unwrap_or_default();
    row.recovery = Some(took);
    row.should(took <= 4 * SECOND, || {
        format!("it was told after {took:?}, and must be within 3 s")
    });
    row.wrong.append(&mut seen.wrong);
    row.notes.append(&mut seen.notes);
    scene.finish(row)
}
