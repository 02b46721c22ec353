//! `ringback module check`: holds short sessions with a module, as a bridge does and worse, and says in words what it does wrong.
//! Knows nothing of what a module is for.

mod peer;
mod rules;

use std::time::Duration;

use ringback_module::message::{FromModule, Kind};
use serde_json::{Value, json};

use self::peer::{Peer, Place};
use self::rules::Rules;
use super::{ServerArgs, config};
use crate::cli::screen::{self, Style};
use crate::cli::{runtime, serve};
use crate::exit::Exit;

/// Deadlines of the contract: to be ready, to answer a ping or to take sound, to say the last words.
const READY: Duration = Duration::from_millis(10_000);
const DEAD: Duration = Duration::from_millis(2_000);
const STOP: Duration = Duration::from_millis(3_000);
/// A process whose input ended is killed after this.
const LEAVE: Duration = Duration::from_millis(2_000);

/// Options of `ringback module check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How the module is started, as with `ringback serve --module`: `"python3 my_module.py"`; or the ws:// or wss:// URL of a server.
    #[arg(value_name = "COMMAND|URL")]
    module: String,
    /// The module's configuration, as in a `[[module]]`'s `config`.
    #[arg(long, value_name = "JSON", value_parser = config)]
    config: Option<Value>,
    /// It is a filter: a program says so by itself, a server cannot.
    #[arg(long)]
    filter: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> Exit {
    let place = match args.server.server(&args.module) {
        Some(server) => server.map(Place::Server),
        None => serve::words(&args.module).map(Place::Program),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    let config = args.config.clone().unwrap_or_default();
    match runtime.block_on(check(&place, &config, args.filter)) {
        0 => {
            screen::line("It speaks ringback.v1.");
            Exit::Ok
        }
        wrong => {
            let things = if wrong == 1 { "thing is" } else { "things are" };
            screen::problem(format!(
                "{wrong} {things} wrong; compute-modules/api/CONTRACT.md tells how it should be"
            ));
            Exit::Failure
        }
    }
}

/// Everything, in order; how much was wrong.
async fn check(place: &Place, config: &Value, filters: bool) -> usize {
    let (mut wrong, mut is_filter, mut takes) = (0, filters, 1);
    for (title, session) in SESSIONS {
        let is_tried = match session {
            Session::Filter => is_filter,
            Session::Two => takes > 1,
            _ => true,
        };
        if !is_tried {
            continue;
        }
        screen::painted(&format!("{}\n", Style::of_stdout().bold(title)));
        let mut rules = Rules::default();
        match Peer::reach(place).await {
            Ok(mut peer) => {
                // A session that cannot go on has said why.
                rules.takes = peer.takes();
                let _ = hold(session, config, &mut peer, &mut rules).await;
                peer.end().await;
            }
            Err(error) => rules.wrong(error),
        }
        wrong += rules.print();
        is_filter |= rules.kinds.contains(&Kind::Filter);
        takes = rules.takes;
        if !rules.began && session == Session::Call {
            // The others would only say the same.
            break;
        }
    }
    wrong
}

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Call,
    Resumed,
    Words,
    /// Only for who says that it is one.
    Filter,
    /// Only for what registers for as many, and for servers.
    Two,
    Vanished,
}

const SESSIONS: [(&str, Session); 6] = [
    ("A call", Session::Call),
    ("A call taken up again after a crash", Session::Resumed),
    ("A call of words", Session::Words),
    ("A call whose sound it filters", Session::Filter),
    ("Two calls at once", Session::Two),
    ("A bridge that vanishes", Session::Vanished),
];

/// The session cannot go on.
struct Broken;

async fn hold(
    session: Session,
    config: &Value,
    peer: &mut Peer,
    rules: &mut Rules,
) -> Result<(), Broken> {
    let start = start(session, config, 1);
    let resumed = &start["resume"];
    rules.begin(resumed["from_ms"].as_u64(), resumed["epoch"].as_u64(), session == Session::Words);
    rules.registered = peer.is_server();
    rules.filters = session == Session::Filter;
    peer.say(rules, 1, &start).await?;
    if !begin(session, peer, rules).await? {
        return Ok(());
    }
    peer.sound(rules, 1_000).await?;
    peer.ping(rules, 0).await?;
    match session {
        Session::Two => {
            if !another(config, peer, rules).await? {
                return Ok(());
            }
        }
        Session::Call => everything(peer, rules).await?,
        Session::Words => {
            let said = json!({ "type": "text", "id": "p1", "track": 0, "text": "hello", "final": true, "start_ms": 0, "end_ms": 0 });
            peer.say(rules, 1, &said).await?;
            peer.ping(rules, 0).await?;
        }
        Session::Filter => peer.answers(rules).await?,
        Session::Resumed | Session::Vanished => {}
    }
    if session != Session::Vanished {
        stop(peer, rules).await?;
    }
    leave(peer, rules).await
}

/// A second session beside the first, which ends before it; whether there is one.
async fn another(config: &Value, peer: &mut Peer, rules: &mut Rules) -> Result<bool, Broken> {
    peer.switch();
    rules.begin_another();
    if let Err(error) = peer.open().await {
        rules.well(format!("takes one at a time: {error}"));
        peer.switch();
        rules.switch();
        stop(peer, rules).await?;
        return leave(peer, rules).await.map(|()| false);
    }
    peer.say(rules, peer.slot(), &start(Session::Two, config, peer.slot())).await?;
    if !begin(Session::Two, peer, rules).await? {
        return Ok(false);
    }
    for _ in 0..2 {
        peer.sound(rules, 2_000).await?;
        peer.ping(rules, 0).await?;
        peer.switch();
        rules.switch();
    }
    // The first is over now, and the second goes on.
    peer.switch();
    rules.switch();
    stop(peer, rules).await?;
    peer.switch();
    rules.switch();
    peer.sound(rules, 3_000).await?;
    peer.ping(rules, 0).await?;
    Ok(true)
}

async fn stop(peer: &mut Peer, rules: &mut Rules) -> Result<(), Broken> {
    let deadline_ms = STOP.as_millis() as u64;
    let stop = json!({ "type": "stop", "reason": "hangup", "deadline_ms": deadline_ms });
    peer.say(rules, peer.slot(), &stop).await?;
    let what = "`done` in answer to `stop`";
    let is_done = |message: &FromModule| matches!(message, FromModule::Done { .. });
    peer.until(rules, STOP, what, is_done).await.map(drop)
}

/// From `start` to `ready`; whether there is a session.
async fn begin(session: Session, peer: &mut Peer, rules: &mut Rules) -> Result<bool, Broken> {
    let answers =
        |message: &FromModule| matches!(message, FromModule::Ready(_) | FromModule::Reject(_));
    match peer.until(rules, READY, "`ready` or `reject` in answer to `start`", answers).await? {
        FromModule::Reject(reject) => {
            let said = format!("rejects it: {} {}", reject.code, reject.message);
            match session {
                // A server does not say how many it takes; that it is busy is the way to say it.
                Session::Two if peer.is_server() && reject.retryable => {
                    rules.well(format!("takes one at a time: {}", reject.message));
                    peer.switch();
                    rules.switch();
                    stop(peer, rules).await?;
                }
                Session::Words => rules.well(format!("{said} (who only hears sound may)")),
                _ => rules
                    .wrong(format!("{said}; if it needs a configuration, give it with --config")),
            }
            leave(peer, rules).await?;
            Ok(false)
        }
        _ => {
            rules.began = true;
            Ok(true)
        }
    }
}

/// All that can come in a call, and what a later version might say.
async fn everything(peer: &mut Peer, rules: &mut Rules) -> Result<(), Broken> {
    for message in [
        json!({ "type": "dtmf", "track": 0, "digit": "5", "source": "provider", "at_ms": 900 }),
        json!({ "type": "vad", "track": 0, "state": "speech", "at_ms": 900, "probability": 0.9 }),
        json!({ "type": "playback", "epoch": 0, "state": "started", "played_ms": 0 }),
        json!({ "type": "gap", "track": 0, "from_ms": 1000, "to_ms": 1200, "reason": "provider" }),
        json!({ "type": "text", "id": "u1", "track": 0, "text": "hello", "final": true, "start_ms": 100, "end_ms": 900 }),
        json!({ "type": "event", "name": "crm.found", "data": { "id": 7 } }),
        json!({ "type": "credit", "out_ms": 30_000 }),
        json!({ "type": "dtmf", "digit": "6", "of_a_later_version": { "x": [1, null] } }),
        json!({ "type": "of.a.later.version", "x": 1 }),
    ] {
        peer.say(rules, 1, &message).await?;
    }
    peer.say(rules, 0, &json!({ "type": "of.a.later.version" })).await?;
    if peer.ping(rules, 1).await.is_err() {
        rules.wrong("it does not outlive messages it may not want, or of a later version; what is not known is to be ignored");
        return Err(Broken);
    }
    rules.well("takes what it did not ask for, and ignores what it does not know");
    peer.say(rules, 1, &json!({ "type": "finalize", "id": "f7" })).await?;
    let what = "`finalized` with the id of `finalize`";
    let is_it =
        |message: &FromModule| matches!(message, FromModule::Finalized { id } if id == "f7");
    // Without an answer the rest can be tried all the same.
    let _ = peer.until(rules, STOP, what, is_it).await;
    // The caller cuts in: what is said from here on is for the next epoch.
    let cleared = json!({ "type": "cleared", "epoch": 0, "played_ms": 200, "discarded_ms": 300 });
    peer.say(rules, 1, &cleared).await?;
    peer.ping(rules, 0).await?;
    peer.sound(rules, 3_000).await?;
    peer.ping(rules, 0).await
}

/// Goes away. A process has to go then by itself, and a server has to be there for the next.
async fn leave(peer: &mut Peer, rules: &mut Rules) -> Result<(), Broken> {
    if peer.is_server() {
        match peer.again().await {
            Ok(()) => rules.well("can be dialled again"),
            Err(error) => rules.wrong(format!("takes no other session: {error}")),
        }
        return Ok(());
    }
    match peer.close(rules, LEAVE).await {
        Some(Some(0)) => rules.well("exits with 0 when its standard input ends"),
        Some(Some(code)) => rules.wrong(format!("exits with {code} when its standard input ends; 0 says that all went well")),
        Some(None) => rules.wrong("is killed by a signal when its standard input ends"),
        None => rules.wrong(format!("is still there {} ms after its standard input ended: the bridge is gone then, and it has to go too", LEAVE.as_millis())),
    }
    Ok(())
}

/// As a bridge begins a session.
fn start(session: Session, config: &Value, slot: u16) -> Value {
    let has_sound = session != Session::Words;
    let formats = |rates: &[u32]| -> Vec<Value> {
        let rates = rates.iter().filter(|_| has_sound);
        rates.map(|rate| json!({ "encoding": "pcm_s16le", "rate": rate })).collect()
    };
    let track = |id: u16, role: &str| json!({ "id": id, "role": role });
    let tracks = match session {
        Session::Words => vec![],
        Session::Filter => vec![track(0, "caller")],
        _ => vec![track(0, "caller"), track(1, "agent")],
    };
    let (rates, spoken): (&[u32], &[u32]) = match session {
        Session::Filter => (&[8_000], &[8_000]),
        _ => (&[8_000, 16_000], &[8_000, 24_000]),
    };
    let kind = if session == Session::Filter { "filter" } else { "agent" };
    let features = if has_sound {
        json!([
            "dtmf",
            "vad",
            "playback",
            "clear",
            "mark",
            "pause",
            "dtmf.send",
            "hangup",
            "private",
            "finalize",
            "resume"
        ])
    } else {
        json!(["text", "say", "language", "hangup", "private", "resume"])
    };
    let mut start = json!({
        "type": "start", "v": 1, "session": rules::session(slot), "wall": "2026-11-20T22:00:00.123Z", "kind": kind,
        "call": { "id": format!("call-{slot}"), "from": "+15550100", "to": "+15550199", "direction": "inbound", "provider": "check" },
        "config": config,
        "offer": {
            "tracks": tracks, "in": formats(rates), "out": formats(spoken),
            "frame_ms": [10, 20, 40, 60, 100], "framing": ["raw", "hdr16"], "features": features,
        },
        "limits": { "ready_ms": READY.as_millis() as u64, "stop_ms": STOP.as_millis() as u64, "ping_ms": 500,
                    "dead_ms": DEAD.as_millis() as u64, "max_msg": 262_144, "pre_roll_ms": 10_000 },
        "credit": { "out_ms": 30_000 },
    });
    if session == Session::Resumed {
        start["resume"] = json!({ "from_ms": 5_000, "epoch": 2 });
    }
    start
}

#[cfg(test)]
mod tests {
    use ringback_module::message::ToModule;

    use super::*;

    #[test]
    fn what_begins_a_session_here_is_what_the_contract_says() {
        for (_, session) in SESSIONS {
            let start = start(session, &Value::Null, 1);
            let ToModule::Start(read) = serde_json::from_value(start.clone()).unwrap() else {
                panic!("no start: {start}");
            };
            assert_eq!(read.limits, ringback_module::message::Limits::default());
            assert_eq!(read.carries_text(), session == Session::Words);
            assert_eq!(read.resume.is_some(), session == Session::Resumed);
            assert_eq!(read.kind == Kind::Filter, session == Session::Filter);
        }
    }
}
