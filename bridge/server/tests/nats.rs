//! Modules as workers on a real nats-server: what survives when any of the three kinds of process dies, who is let in, and what is stored.

#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

#[path = "support/nats_server.rs"]
mod nats_server;
mod support;

use std::collections::BTreeSet;
use std::process::Stdio;

use futures_util::future::join_all;
use nats_server::NatsServer;
use ringback::clock::Clock;
use ringback_codecs::MediaFormat;
use ringback_proto::provider::{Dial, find};
use ringback_proto::session::Report;
use serde_json::Value;
use support::{
    Caller, Folder, Host, PYTHON, Process, What, assert_whole, known, not_run, root, soon,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Samples of a caller's frame at 8 kHz.
const FRAME: u64 = 160;

fn server(name: &str, arguments: &[&str]) -> Option<NatsServer> {
    let server = NatsServer::start(name, arguments);
    if server.is_none() {
        not_run("no nats-server (Debian package nats-server)");
    }
    server
}

/// A bridge whose calls go to an echo, which speaks, and to ears of a group; `nats` are further keys of `[nats]`.
fn route(url: &str, nats: &str) -> String {
    format!(
        "[nats]\nurls = [\"{url}\"]\n{nats}\n\
         [[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
         [[module]]\nname = \"ears\"\nkind = \"nats\"\ngroup = \"ears\"\nready_timeout = \"20s\"\nring = \"30s\"\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\", \"ears\"]\nspeaker = \"echo\"\n"
    )
}

/// A worker that tells what it hears, and takes so many calls; it is there when this returns.
async fn worker(url: &str, max_sessions: u32, more: &[&str]) -> Child {
    let mut command = Command::new(PYTHON);
    command.arg(root().join("bridge/server/tests/support/served_ears.py"));
    command
        .args(["--nats", url, "--group", "ears", "--max-sessions"])
        .arg(max_sessions.to_string());
    command.args(more).env("RINGBACK_NATS_PASSWORD", "s3cret");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut worker = command.spawn().unwrap();
    let mut told = BufReader::new(worker.stdout.take().unwrap()).lines();
    soon("that it works", told.next_line()).await.unwrap().expect("a line");
    worker
}

async fn dial(stream: TcpStream) -> Caller {
    let provider = find("raw").expect("a provider");
    let linear = |f: &&MediaFormat| f.rate.hz() == 8_000 && f.octets_for(1) == Some(2);
    let format = *provider.formats().iter().find(linear).expect("raw speaks linear sound");
    let dial = Dial { target: "/raw".into(), format: Some(format), ..Dial::default() };
    Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.expect("a call")
}

async fn call(host: &Host) -> Caller {
    dial(host.connect().await).await
}

/// Goes on with the known sound.
async fn talk(caller: &mut Caller, frames: u64) {
    let from = caller.samples_sent;
    let samples: Vec<i16> = (from..from + frames * FRAME).map(known).collect();
    caller.speak(&samples).await;
}

/// Events of the ears of each call, in the order in which calls began.
fn heard(host: &Host, name: &str) -> Vec<(String, Vec<Value>)> {
    told(&host.log.entries(), name)
}

fn told(entries: &[support::Entry], name: &str) -> Vec<(String, Vec<Value>)> {
    let mut calls: Vec<(String, Vec<Value>)> = Vec::new();
    for entry in entries {
        if calls.last().is_none_or(|_| calls.iter().all(|(call, _)| *call != entry.call)) {
            calls.push((entry.call.clone(), Vec::new()));
        }
        let What::Report(Report::Event(_, event), _) = &entry.what else { continue };
        let of = calls.iter_mut().find(|(call, _)| *call == entry.call);
        if let Some((_, events)) = of.filter(|_| event.name == name) {
            events.push(event.data.clone());
        }
    }
    calls
}

/// Whichever workers heard a call: every sample of it was heard, as it was said, by its position.
fn assert_heard_all(host: &Host, calls: usize, samples: &[u64]) {
    let number = |event: &Value, key: &str| event[key].as_u64().expect("a number");
    let all = heard(host, "heard");
    assert_eq!(all.len(), calls);
    let mut ends = Vec::new();
    for (call, mut events) in all {
        events.sort_by_key(|event| number(event, "from"));
        let mut end = 0;
        for event in &events {
            assert_eq!(number(event, "wrong"), 0, "{call}: something else was heard: {event}");
            assert!(number(event, "from") <= end, "{call}: missed {end} to {event}");
            end = end.max(number(event, "to"));
        }
        ends.push(end);
    }
    ends.sort_unstable();
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    assert_eq!(ends, samples, "all were heard to the end");
    assert!(heard(host, "gap").iter().all(|(_, gaps)| gaps.is_empty()));
}

/// Waits until so many sessions in all were begun.
async fn started(host: &Host, count: usize) {
    let count_of = |entries: &[support::Entry]| {
        let is_start = |entry: &&support::Entry| matches!(&entry.what, What::Report(Report::Event(_, event), _) if event.name == "started");
        (entries.iter().filter(is_start).count() >= count).then_some(())
    };
    host.log.until(&format!("{count} sessions"), count_of).await;
}

async fn until_started(host: &Host, callers: &mut [Caller], count: usize) {
    meanwhile(callers, started(host, count)).await;
}

/// Waits until the ears of every call have heard something beyond this sample.
async fn until_heard(host: &Host, callers: &mut [Caller], beyond: u64) {
    let is_beyond = |entries: &[support::Entry]| {
        let all = told(entries, "heard");
        let far = |(_, events): &(String, Vec<Value>)| {
            events.iter().any(|event| event["to"].as_u64().unwrap() > beyond)
        };
        all.iter().all(far).then_some(())
    };
    meanwhile(callers, host.log.until("all are heard again", is_beyond)).await;
}

/// What the bridge answers there.
async fn page(host: &Host, path: &str) -> String {
    let mut io = host.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", io.read_to_string(&mut answer)).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Waits until the page has this line.
async fn told_at(host: &Host, path: &str, line: &str) {
    soon(&format!("{line:?} at {path}"), async { while !page(host, path).await.contains(line) {} })
        .await;
}

/// Waits for something while the callers talk on.
async fn meanwhile(callers: &mut [Caller], future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    loop {
        // Looked at between frames: a frame that is dropped half-way would be said and not counted.
        let is_done =
            std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if is_done.await {
            return;
        }
        join_all(callers.iter_mut().map(|caller| talk(caller, 1))).await;
    }
}

#[tokio::test]
async fn two_bridges_and_three_workers_lose_one_each_and_no_call_of_the_other_bridge_loses_a_sample()
 {
    let Some(nats) = server("all", &[]) else { return };
    let url = nats.url();
    let mut workers = join_all([1, 2, 3].map(|_| worker(&url, 2, &[]))).await;
    let host = Host::on_loopback(&route(&url, ""));
    let folder = Folder::new("nats-bridge");
    let file = folder.write("ringback.toml", &route(&url, "")).display().to_string();
    let doomed = Process::serve(&["--config", &file], &[]);

    // Five of six places.
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(call(&host).await);
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(dial(TcpStream::connect(&doomed.address).await.unwrap()).await);
    }
    until_started(&host, &mut callers, 3).await;
    for other in &mut others {
        let is_ears = |result: &String| result.contains("\"started\"");
        soon("ears on the other bridge", async {
            while !other.results.iter().any(is_ears) {
                talk(other, 1).await;
            }
        })
        .await;
    }

    doomed.signal("KILL");
    // As they came, whichever call they are of.
    let pids = |host: &Host| -> Vec<u64> {
        let starts = host.log.events("ears", "started");
        starts.iter().map(|start| start["pid"].as_u64().unwrap()).collect()
    };
    let victim = pids(&host)[0];
    let lost = pids(&host).iter().filter(|pid| **pid == victim).count();
    let dead = workers.iter_mut().find(|worker| worker.id().map(u64::from) == Some(victim));
    dead.unwrap().start_kill().unwrap();

    // Two workers are left, with four places: what the dead bridge had of them is free again, or the last call would find none.
    until_started(&host, &mut callers, 3 + lost).await;
    callers.push(call(&host).await);
    until_started(&host, &mut callers, 4 + lost).await;
    let places: BTreeSet<_> = pids(&host)[3..].iter().copied().collect();
    assert!(!places.contains(&victim) && places.len() <= 2, "{places:?}");

    join_all(callers.iter_mut().map(|caller| talk(caller, 10))).await;
    let said: Vec<_> = callers.iter().map(|caller| caller.samples_sent).collect();
    join_all(callers.into_iter().map(Caller::hang_up)).await;
    host.log
        .until("four ends", |entries| (support::summaries(entries).count() == 4).then_some(()))
        .await;
    for summary in support::summaries(&host.log.entries()) {
        assert_eq!(summary.reason.name(), "remote");
        assert_whole(summary, &[]);
    }
    assert_heard_all(&host, 4, &said);
    host.stop().await;
}

#[tokio::test]
async fn a_nats_server_that_is_started_anew_costs_no_call_a_sample() {
    let Some(mut nats) = server("anew", &[]) else { return };
    let worker = worker(&nats.url(), 2, &[]).await;
    let host = Host::on_loopback(&route(&nats.url(), ""));
    let mut callers = vec![call(&host).await, call(&host).await];
    until_started(&host, &mut callers, 2).await;
    assert_eq!(page(&host, "/readyz").await, "ready\n");
    nats.kill();
    meanwhile(&mut callers, told_at(&host, "/readyz", "NATS is not connected\n")).await;
    join_all(callers.iter_mut().map(|caller| talk(caller, 25))).await;
    nats.run();
    // If something was under way it is lost, and its session begins again; if not, it goes on. Heard is all of it in either case.
    let beyond = callers.iter().map(|caller| caller.samples_sent).max().unwrap();
    until_heard(&host, &mut callers, beyond).await;
    let said: Vec<_> = callers.iter().map(|caller| caller.samples_sent).collect();
    join_all(callers.into_iter().map(Caller::hang_up)).await;
    host.log
        .until("two ends", |entries| (support::summaries(entries).count() == 2).then_some(()))
        .await;
    assert_heard_all(&host, 2, &said);
    host.stop().await;
    drop(worker);
}

#[tokio::test]
async fn who_may_come_in_is_who_has_the_password_and_trusts_the_certificate() {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = Folder::new("nats-tls");
    let certificate = folder.write("certificate.pem", &key.cert.pem()).display().to_string();
    let private = folder.write("key.pem", &key.signing_key.serialize_pem()).display().to_string();
    let secret = folder.write("password", "s3cret").display().to_string();
    let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &private];
    let Some(nats) = server("tls", &[&tls[..], &["--user", "me", "--pass", "s3cret"]].concat())
    else {
        return;
    };
    let url = nats.url().replace("nats://", "tls://");
    let worker = worker(&url, 1, &["--user", "me", "--ca-file", &certificate]).await;
    let keys = format!("user = \"me\"\npassword = \"file:{secret}\"\nca_file = \"{certificate}\"");
    let host = Host::on_loopback(&route(&url, &keys));
    let mut callers = vec![call(&host).await];
    until_started(&host, &mut callers, 1).await;
    talk(&mut callers[0], 10).await;
    let said = callers[0].samples_sent;
    callers.remove(0).hang_up().await;
    host.log.ended_alone().await;
    assert_heard_all(&host, 1, &[said]);
    host.stop().await;
    drop(worker);
}

/// What the stream has, in its order: message ids, and events.
async fn stored(nats: &NatsServer, stream: &str, count: usize) -> Vec<(String, Value)> {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    soon(&format!("{count} events in the stream"), async {
        loop {
            if let Ok(mut stream) = context.get_stream(stream).await
                && stream.info().await.is_ok_and(|info| info.state.messages >= count as u64)
            {
                let mut events = Vec::new();
                for sequence in 1..=stream.info().await.unwrap().state.messages {
                    let message = stream.get_raw_message(sequence).await.unwrap();
                    let event: Value = serde_json::from_slice(&message.payload).unwrap();
                    let kind = event["type"].as_str().unwrap();
                    assert_eq!(message.subject.as_str(), format!("ringback.v1.events.{kind}"));
                    let id = message.headers.get("Nats-Msg-Id").unwrap().to_string();
                    events.push((id, event));
                }
                return events;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn what_happens_on_calls_is_stored_once_and_in_order_though_the_server_is_away_for_a_while() {
    let Some(mut nats) = server("events", &[]) else { return };
    let worker = worker(&nats.url(), 4, &[]).await;
    let host = Host::on_loopback(&route(&nats.url(), "events = \"calls\"\ncreate_stream = true"));
    let mut callers = vec![call(&host).await, call(&host).await];
    until_started(&host, &mut callers, 2).await;
    nats.kill();
    join_all(callers.iter_mut().map(|caller| talk(caller, 25))).await;
    nats.run();
    let beyond = callers.iter().map(|caller| caller.samples_sent).max().unwrap();
    until_heard(&host, &mut callers, beyond).await;
    join_all(callers.into_iter().map(Caller::hang_up)).await;
    host.log
        .until("two ends", |entries| (support::summaries(entries).count() == 2).then_some(()))
        .await;
    let log = host.log.clone();
    // What is not stored when calls have ended is stored before the bridge has.
    host.stop().await;

    let reports = told(&log.entries(), "heard");
    let events = stored(&nats, "calls", 1).await;
    let ids: BTreeSet<_> = events.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), events.len(), "each is there once");
    for (call, heard) in reports {
        let of: Vec<_> =
            events.iter().map(|(_, event)| event).filter(|e| e["call"] == call.as_str()).collect();
        let kinds: Vec<_> = of.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("call.started", "call.ended"), "{kinds:?}");
        let named = |event: &&&Value| event["type"] == "event" && event["name"] == "heard";
        let data: Vec<_> = of.iter().filter(named).map(|event| event["data"].clone()).collect();
        assert_eq!(data, heard, "{call}");
    }
    drop(worker);
}
