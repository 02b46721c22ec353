//! Modules as real processes through whole calls: whatever one of them does costs its own results and nothing else.

mod support;

use std::future::poll_fn;
use std::task::Poll;

use ringback_proto::provider::{Dial, find};
use ringback_proto::session::Report;
use support::{
    Caller, Entry, Folder, Host, NODE, PYTHON, TOKEN, assert_whole, has_node, known, quoted,
    read_wav, root, send_signal, served_ears, soon, summaries, worker_ears,
    worker_ears_in_typescript,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Samples of a caller's frame at 8 kHz.
const FRAME: u64 = 160;

/// A route whose speaker is an echo in the bridge, `delay_ms` late; `others` are the rest of its modules by name.
fn route(delay_ms: u32, others: &[&str]) -> String {
    let names: Vec<_> = ["echo"].iter().chain(others).map(quoted).collect();
    format!(
        "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\nconfig = {{ delay_ms = {delay_ms} }}\n\
         [[route]]\nname = \"default\"\nmodules = [{}]\nspeaker = \"echo\"\n",
        names.join(", ")
    )
}

fn child(name: &str, script: &str, arguments: &[&str], keys: &str) -> String {
    let interpreter = if script.ends_with(".mjs") { NODE } else { PYTHON };
    let script = root().join("bridge/server").join(script);
    let words = [interpreter.to_owned(), script.display().to_string()].into_iter();
    let words = words.chain(arguments.iter().map(ToString::to_string));
    let command: Vec<_> = words.map(quoted).collect();
    let command = command.join(", ");
    format!("[[module]]\nname = \"{name}\"\nkind = \"child\"\ncommand = [{command}]\n{keys}\n")
}

/// Tells what it heard; ready at once, or when told so at `gate`.
fn ears(name: &str, gate: Option<u16>) -> String {
    let gate = gate.map(|port| port.to_string());
    let arguments: Vec<&str> = gate.as_deref().into_iter().collect();
    child(name, "tests/support/ears.py", &arguments, "ready_timeout = \"20s\"")
}

/// Does what `mode` says to its host.
fn bad(mode: &str, keys: &str) -> String {
    child(mode, "src/module_host/test_module.py", &[mode], keys)
}

async fn call(host: &Host) -> Caller {
    let provider = find("raw").expect("a provider");
    let linear =
        |f: &&ringback_codecs::MediaFormat| f.rate.hz() == 8_000 && f.octets_for(1) == Some(2);
    let format = *provider.formats().iter().find(linear).expect("raw speaks linear sound");
    let dial = Dial { target: "/raw".into(), format: Some(format), ..Dial::default() };
    let stream = host.connect().await;
    Caller::dial(host.clock, stream, provider, &dial, &[]).await.expect("a call")
}

/// Goes on with the known sound.
async fn talk(caller: &mut Caller, frames: u64) {
    let from = caller.samples_sent;
    let samples: Vec<i16> = (from..from + frames * FRAME).map(known).collect();
    caller.speak(&samples).await;
}

/// Waits for something while the caller talks on.
async fn meanwhile<T>(caller: &mut Caller, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        // Looked at between frames: a frame that is dropped half-way would be said and not counted.
        match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            Poll::Ready(value) => return value,
            Poll::Pending => talk(caller, 1).await,
        }
    }
}

/// Everything said came back, `delay` samples late and in order.
fn assert_echoed(caller: &Caller, delay: usize) {
    assert_eq!(caller.samples_heard, caller.samples_sent);
    let octets = caller.heard.concat();
    let heard = octets.chunks_exact(2).map(|octets| i16::from_le_bytes([octets[0], octets[1]]));
    let expected = std::iter::repeat_n(0, delay).chain((0..).map(known));
    let wrong = heard.zip(expected).position(|(heard, said)| heard != said);
    assert_eq!(wrong, None, "the first sample of the echo that is not what was said");
}

/// What ears heard is what was said, every sample of it at least once, whichever process heard it.
fn assert_heard_all(host: &Host, module: &str, samples: u64) {
    assert_heard_all_of(host.log.events(module, "heard"), module, samples);
    assert_eq!(host.log.events(module, "gap"), Vec::<serde_json::Value>::new());
}

fn assert_heard_all_of(mut heard: Vec<serde_json::Value>, module: &str, samples: u64) {
    let number = |event: &serde_json::Value, key: &str| event[key].as_u64().expect("a number");
    heard.sort_by_key(|event| number(event, "from"));
    let mut end = 0;
    for event in &heard {
        assert_eq!(number(event, "wrong"), 0, "{module} heard something else: {event}");
        assert!(number(event, "from") <= end, "{module} missed {end} to {event}");
        end = end.max(number(event, "to"));
    }
    assert_eq!(end, samples, "{module} did not hear the end");
}

async fn listening(host: &Host, module: &str) {
    host.log.module(module, "ready", |r| matches!(r, Report::ModuleReady(_))).await;
}

#[tokio::test]
async fn a_bad_module_costs_its_own_results_only() {
    let slow = "ready_timeout = \"20s\"";
    let names = ["ears", "hang", "flood", "garbage", "reject", "late", "crash", "fatal", "slot"];
    let toml = [
        route(0, &names),
        ears("ears", None),
        bad("hang", slow),
        bad("flood", slow),
        bad("garbage", slow),
        bad("reject", slow),
        bad("late", "ready_timeout = \"700ms\""),
        bad("crash", slow),
        bad("fatal", slow),
        bad("slot", slow),
    ];
    let host = Host::on_loopback(&toml.concat());
    let mut caller = call(&host).await;
    talk(&mut caller, 50).await;
    for (module, why) in [
        ("hang", "no sign of life for 2000 ms"),
        ("flood", "sends sound without end and far beyond its credit"),
        ("garbage", "does not speak ringback.v1"),
        ("reject", "rejected the session: bad_config as told"),
        ("late", "not ready within 700 ms"),
        ("crash", "exited with status 3: boom"),
        ("fatal", "vendor: no key"),
        ("slot", "sent a frame for slot 7"),
    ] {
        let failed = |report: &Report| matches!(report, Report::ModuleFailed { reason, .. } if reason.contains(why));
        meanwhile(&mut caller, host.log.module(module, why, failed)).await;
    }
    meanwhile(&mut caller, listening(&host, "ears")).await;
    let caller = caller.hang_up().await;
    assert_echoed(&caller, 0);
    let summary = host.log.ended_alone().await;
    assert_whole(
        &summary,
        &[("module.flood.out", "overflow"), ("module.flood.out", "not_speaker")],
    );
    assert_heard_all(&host, "ears", caller.samples_sent);
    let starts = |name: &str| summary.modules.iter().find(|m| m.name == name).unwrap().starts;
    assert_eq!((starts("echo"), starts("ears"), starts("reject"), starts("fatal")), (1, 1, 1, 1));
    assert!(starts("crash") >= 2 && starts("garbage") >= 2, "{:?}", summary.modules);
    host.stop().await;
}

#[tokio::test]
async fn a_killed_module_hears_what_it_missed_and_a_late_one_hears_it_all() {
    let folder = Folder::new("killed");
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gate.local_addr().unwrap().port();
    let recorder = format!(
        "[[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ path = {} }}\n",
        quoted(folder.path("call.wav").display())
    );
    let toml = [
        route(100, &["killed", "late", "recorder"]),
        ears("killed", None),
        ears("late", Some(port)),
        recorder,
    ];
    let host = Host::on_loopback(&toml.concat());
    let mut caller = call(&host).await;
    talk(&mut caller, 100).await;
    // Two seconds of the call are over before the late one is ready; the other has said what it heard of them.
    assert!(host.log.events("late", "started").is_empty());
    let (mut line, _) = meanwhile(&mut caller, gate.accept()).await.unwrap();
    meanwhile(&mut caller, host.log.events_of("killed", "heard", 1)).await;
    line.write_all(b"!").await.unwrap();
    let started = host.log.events("killed", "started");
    let id = started[0]["pid"].as_u64().expect("a process id");
    send_signal("KILL", u32::try_from(id).unwrap());
    talk(&mut caller, 75).await;
    let started = meanwhile(&mut caller, host.log.events_of("killed", "started", 2)).await;
    meanwhile(&mut caller, listening(&host, "late")).await;
    talk(&mut caller, 25).await;
    let caller = caller.hang_up().await;
    assert_echoed(&caller, 800);

    let summary = host.log.ended_alone().await;
    assert_whole(&summary, &[]);
    assert_heard_all(&host, "killed", caller.samples_sent);
    assert_heard_all(&host, "late", caller.samples_sent);
    let from_ms = started[1]["resume"]["from_ms"].as_u64().expect("it is told where to go on");
    assert!(from_ms > 0, "it had acknowledged what it heard before");
    check_recording(&folder, caller.samples_sent);
    host.stop().await;
}

#[tokio::test]
async fn calls_that_share_a_process_hear_all_though_it_is_killed_in_the_middle() {
    let shared = child(
        "shared",
        "tests/support/ears.py",
        &["--shared", "2"],
        "warm = 1\nready_timeout = \"20s\"",
    );
    let host = Host::on_loopback(&[route(0, &["shared"]), shared].concat());
    let starts = |count| host.log.events_of("shared", "started", count);
    let mut first = call(&host).await;
    let started = meanwhile(&mut first, starts(1)).await;
    let mut second = call(&host).await;
    let started_too = meanwhile(&mut second, starts(2)).await;
    let id = &started[0]["pid"];
    assert_eq!(&started_too[1]["pid"], id, "they share a process");
    let (one, two) = (started[0]["call"].clone(), started_too[1]["call"].clone());
    assert_ne!(one, two);
    tokio::join!(talk(&mut first, 75), talk(&mut second, 75));
    send_signal("KILL", u32::try_from(id.as_u64().expect("a process id")).unwrap());
    let (again, ()) = tokio::join!(meanwhile(&mut first, starts(4)), talk(&mut second, 75));
    assert_ne!(&again[2]["pid"], id);
    assert_eq!(again[2]["pid"], again[3]["pid"], "and share another one");
    let (first, second) = tokio::join!(first.hang_up(), second.hang_up());
    let both = |entries: &[Entry]| {
        let ended: Vec<_> = summaries(entries).cloned().collect();
        (ended.len() == 2).then_some(ended)
    };
    for summary in host.log.until("the end of both", both).await {
        assert_whole(&summary, &[]);
    }
    for (caller, name) in [(&first, one), (&second, two)] {
        assert_echoed(caller, 0);
        let heard = host.log.events("shared", "heard").into_iter();
        let heard = heard.filter(|event| event["call"] == name).collect();
        assert_heard_all_of(heard, "shared", caller.samples_sent);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_module_in_typescript_hears_all_too_and_a_killed_one_what_it_missed() {
    if !has_node() {
        return;
    }
    let ears = child("ears", "tests/support/ears.mjs", &[], "ready_timeout = \"20s\"");
    let host = Host::on_loopback(&[route(0, &["ears"]), ears].concat());
    let mut caller = call(&host).await;
    talk(&mut caller, 100).await;
    meanwhile(&mut caller, host.log.events_of("ears", "heard", 1)).await;
    let id = host.log.events("ears", "started")[0]["pid"].as_u64().expect("a process id");
    send_signal("KILL", u32::try_from(id).unwrap());
    talk(&mut caller, 50).await;
    let started = meanwhile(&mut caller, host.log.events_of("ears", "started", 2)).await;
    talk(&mut caller, 25).await;
    let caller = caller.hang_up().await;
    assert_echoed(&caller, 0);
    assert_whole(&host.log.ended_alone().await, &[]);
    assert_heard_all(&host, "ears", caller.samples_sent);
    assert!(started[1]["resume"]["from_ms"].as_u64().is_some_and(|from_ms| from_ms > 0));
    host.stop().await;
}

#[tokio::test]
async fn a_server_that_is_killed_is_dialled_again_and_hears_what_it_missed() {
    let folder = Folder::new("dialled");
    let token = folder.write("token", &format!("{TOKEN}\n"));
    let (mut server, authority) = served_ears("127.0.0.1:0").await;
    let token = quoted(format!("file:{}", token.display()));
    let toml = [
        route(0, &["dialled", "turned-away"]),
        format!(
            "[[module]]\nname = \"dialled\"\nurl = \"ws://{authority}/ears\"\ntoken = {token}\nready_timeout = \"20s\"\n"
        ),
        format!("[[module]]\nname = \"turned-away\"\nurl = \"ws://{authority}/ears\"\n"),
    ];
    let host = Host::on_loopback(&toml.concat());
    let mut caller = call(&host).await;
    talk(&mut caller, 100).await;
    let turned_away = |report: &Report| matches!(report, Report::ModuleFailed { reason, .. } if reason.contains("check `token`"));
    meanwhile(&mut caller, host.log.module("turned-away", "refused", turned_away)).await;
    meanwhile(&mut caller, host.log.events_of("dialled", "heard", 1)).await;
    meanwhile(&mut caller, server.kill()).await.unwrap();
    talk(&mut caller, 75).await;
    let (_server, again) = meanwhile(&mut caller, served_ears(&authority)).await;
    assert_eq!(again, authority);
    let started = meanwhile(&mut caller, host.log.events_of("dialled", "started", 2)).await;
    talk(&mut caller, 25).await;
    let caller = caller.hang_up().await;
    assert_echoed(&caller, 0);

    let summary = host.log.ended_alone().await;
    assert_whole(&summary, &[]);
    assert_heard_all(&host, "dialled", caller.samples_sent);
    let from_ms = started[1]["resume"]["from_ms"].as_u64().expect("it is told where to go on");
    assert!(from_ms > 0, "it had acknowledged what it heard before");
    host.stop().await;
}

/// A bridge where workers of the module `ears` dial in.
fn bridge_of_workers(folder: &Folder) -> Host {
    let token = quoted(format!("file:{}", folder.write("token", TOKEN).display()));
    let ears = format!(
        "[[module]]\nname = \"ears\"\nkind = \"worker\"\ntokens = {{ gpu = {token} }}\nready_timeout = \"20s\"\n"
    );
    Host::on_loopback(&[route(0, &["ears"]), ears].concat())
}

#[tokio::test]
async fn a_worker_that_comes_late_hears_it_all_and_another_takes_over_when_it_is_killed() {
    let folder = Folder::new("workers");
    let host = bridge_of_workers(&folder);
    let mut caller = call(&host).await;
    // Two seconds of the call are over before anybody is there.
    talk(&mut caller, 100).await;
    let mut first = meanwhile(&mut caller, worker_ears(host.address)).await;
    meanwhile(&mut caller, host.log.events_of("ears", "heard", 2)).await;
    meanwhile(&mut caller, first.kill()).await.unwrap();
    talk(&mut caller, 75).await;
    // Whatever it is written in.
    let second = async {
        match has_node() {
            true => worker_ears_in_typescript(host.address).await,
            false => worker_ears(host.address).await,
        }
    };
    let _second = meanwhile(&mut caller, second).await;
    let started = meanwhile(&mut caller, host.log.events_of("ears", "started", 2)).await;
    talk(&mut caller, 25).await;
    let caller = caller.hang_up().await;
    assert_echoed(&caller, 0);

    assert_whole(&host.log.ended_alone().await, &[]);
    assert_heard_all(&host, "ears", caller.samples_sent);
    assert_eq!(started[0]["resume"], serde_json::Value::Null);
    assert!(started[1]["resume"]["from_ms"].as_u64().is_some_and(|from_ms| from_ms > 0));
    host.stop().await;
}

#[tokio::test]
async fn a_worker_that_drains_ends_its_call_and_the_next_one_goes_elsewhere() {
    let folder = Folder::new("workers-drain");
    let host = bridge_of_workers(&folder);
    let mut first = worker_ears(host.address).await;
    let mut one = call(&host).await;
    let started = meanwhile(&mut one, host.log.events_of("ears", "started", 1)).await;
    let _second = meanwhile(&mut one, worker_ears(host.address)).await;
    let shown = meanwhile(&mut one, page(&host, "/workers")).await;
    assert_eq!(shown["modules"][0]["name"], "ears");
    let workers = shown["modules"][0]["workers"].as_array().unwrap();
    assert_eq!(
        (workers.len(), &workers[0]["worker"], &workers[0]["sessions"]),
        (2, &"gpu#1".into(), &1.into())
    );

    send_signal("TERM", first.id().unwrap());
    let leaves = async {
        while page(&host, "/workers").await["modules"][0]["workers"][0]["going_away"] != true {}
    };
    meanwhile(&mut one, soon("that it leaves", leaves)).await;
    let mut two = call(&host).await;
    talk(&mut two, 10).await;
    let both = meanwhile(&mut two, host.log.events_of("ears", "started", 2)).await;
    assert_ne!(started[0]["pid"], both[1]["pid"], "the second call is with the other worker");
    talk(&mut one, 50).await;
    let one = one.hang_up().await;
    assert_echoed(&one, 0);
    assert_eq!(soon("its end", first.wait()).await.unwrap().code(), Some(0));
    let two = two.hang_up().await;
    assert_echoed(&two, 0);
    // Nobody had to be told anything twice.
    assert_eq!(host.log.events("ears", "started").len(), 2);
    host.stop().await;
}

/// A page of the bridge, which is JSON.
async fn page(host: &Host, path: &str) -> serde_json::Value {
    let mut stream = host.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Left the caller from the first sample on, right the echo as it was heard.
fn check_recording(folder: &Folder, spoken: u64) {
    let wav = read_wav(&folder.path("call.wav"));
    assert_eq!((wav.rate.hz(), wav.channels), (8_000, 2));
    let side = |n: usize| -> Vec<i16> { wav.samples.iter().skip(n).step_by(2).copied().collect() };
    let (left, right) = (side(0), side(1));
    let said: Vec<i16> = (0..spoken).map(known).collect();
    // Where the machine stood still for long a side has silence; the known sound has no zero in it.
    let sound = |side: Vec<i16>| side.into_iter().filter(|&s| s != 0).collect::<Vec<_>>();
    let begins = right.iter().position(|&sample| sample != 0).expect("an echo");
    assert!(begins >= 800, "the echo is 100 ms late, heard after {begins} samples");
    assert!(sound(left) == said, "left is not what the caller said");
    let heard = sound(right);
    assert!(said.starts_with(&heard), "right is not what the caller heard");
    // 100 ms were not echoed yet, and up to 60 ms not heard.
    assert!(heard.len() + 8 * 300 > said.len(), "{} of {} were heard", heard.len(), said.len());
}

/// Goes on until the sample that is heard last came through the filter, or did not.
async fn talk_until(caller: &mut Caller, filtered: bool) {
    for _ in 0..1_500 {
        talk(caller, 1).await;
        let said = known(caller.samples_heard - 1);
        let octets = caller.heard.last().expect("it is in step");
        let heard = i16::from_le_bytes([octets[octets.len() - 2], octets[octets.len() - 1]]);
        if heard == if filtered { !said } else { said } {
            return;
        }
    }
    panic!("not within half a minute: filtered {filtered}");
}

#[tokio::test]
async fn a_filter_is_heard_in_the_callers_place_and_a_killed_one_is_in_nobodys_way() {
    let keys = "role = \"filter\"\nbudget = \"200ms\"\nready_timeout = \"20s\"";
    let filter = child("inverter", "tests/support/inverter.py", &[], keys);
    let host = Host::on_loopback(&[route(0, &["inverter"]), filter].concat());
    let mut caller = call(&host).await;
    talk_until(&mut caller, true).await;
    let id = host.log.events("inverter", "started")[0]["pid"].as_u64().expect("a process id");
    send_signal("KILL", u32::try_from(id).unwrap());
    talk_until(&mut caller, false).await;
    talk_until(&mut caller, true).await;
    let caller = caller.hang_up().await;
    let octets = caller.heard.concat();
    assert_eq!(octets.len() as u64, 2 * caller.samples_sent);
    let heard = octets.chunks_exact(2).map(|octets| i16::from_le_bytes([octets[0], octets[1]]));
    let wrong =
        heard.zip((0..).map(known)).position(|(heard, said)| ![said, !said].contains(&heard));
    assert_eq!(
        wrong, None,
        "the first sample that is neither what was said nor what is made of it"
    );
    let summary = host.log.ended_alone().await;
    let (way, answers) = ("filter.inverter", "filter.inverter.answers");
    let passed = ["bypassed_late", "bypassed_failed", "bypassed_down", "call_ended"];
    let but = passed.map(|reason| (way, reason)).into_iter();
    let late = [(answers, "late"), ("module.inverter.out", "after_end")];
    assert_whole(&summary, &but.chain(late).collect::<Vec<_>>());
    let inverter = summary.modules.iter().find(|m| m.name == "inverter").unwrap();
    assert_eq!(inverter.starts, 2);
    assert!(!inverter.bypassed.is_empty(), "it was not there from the beginning");
    host.stop().await;
}

#[tokio::test]
async fn a_module_that_is_given_up_is_followed_by_its_fallback() {
    let toml =
        [route(0, &["reject"]), bad("reject", "on_fail = \"fallback:ears\""), ears("ears", None)];
    let host = Host::on_loopback(&toml.concat());
    let mut caller = call(&host).await;
    talk(&mut caller, 10).await;
    meanwhile(&mut caller, listening(&host, "ears")).await;
    talk(&mut caller, 10).await;
    let caller = caller.hang_up().await;
    let summary = host.log.ended_alone().await;
    assert_whole(&summary, &[]);
    assert_heard_all(&host, "ears", caller.samples_sent);
    let replaced: Vec<_> = summary.modules.iter().map(|m| (m.name.as_str(), m.replaced)).collect();
    assert_eq!(replaced, [("echo", false), ("reject", true), ("ears", false)]);
    host.stop().await;
}

#[tokio::test]
async fn a_module_that_the_call_cannot_do_without_ends_it() {
    let toml = [route(0, &["reject"]), bad("reject", "on_fail = \"hangup\"")];
    let host = Host::on_loopback(&toml.concat());
    let mut caller = call(&host).await;
    assert_eq!(caller.closed().await.code, 1011);
    let summary = host.log.ended_alone().await;
    assert!(summary.reason.to_string().contains("rejected the session: bad_config as told"));
    host.stop().await;
}
