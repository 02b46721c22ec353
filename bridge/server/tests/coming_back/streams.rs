//! Calls that lose their stream and go on with another: over sockets, by whom they may be taken over and by whom not, and until when.

use std::time::Duration;

use crate::support::{
    Caller, Entry, Folder, Goodbye, Host, What, assert_whole, known, quoted, summaries,
};
use ringback::net::MemoryConnector;
use ringback_proto::provider::{self, Dial, find};
use ringback_proto::session::{EndReason, Report, Summary};

/// Two listeners that want a credential and two that want none; the recorder keeps files and the echo answers.
const LISTENERS: &str = r#"
    [[listener]]
    name = "main"
    path = "/main"
    provider = "raw"
    auth = { kind = "bearer", token = "env:PATH" }
    [[listener]]
    name = "other"
    path = "/other"
    provider = "raw"
    auth = { kind = "bearer", token = "env:PATH" }
    [[listener]]
    name = "open"
    path = "/open"
    provider = "raw"
    [[listener]]
    name = "open-and-kept"
    path = "/open-and-kept"
    provider = "raw"
    reattach_window = "5s"
    [[module]]
    name = "echo"
    builtin = "echo"
"#;

struct Bridge {
    host: Host,
    connector: MemoryConnector,
}

impl Bridge {
    fn new(more: &str) -> Self {
        let (host, connector) = Host::in_memory(&format!("{more}{LISTENERS}"));
        Self { host, connector }
    }

    async fn dial(&self, listener: &str, call: &str) -> Caller {
        let token = format!("Bearer {}", std::env::var("PATH").expect("there is one"));
        let format = provider::format_named("l16le/16000");
        let (target, call) = (format!("/{listener}"), call.to_owned());
        let dial = Dial { target, call, format, ..Dial::default() };
        let io = self.connector.connect().await.expect("it listens");
        let raw = find("raw").expect("a provider");
        let headers = [("authorization", token.as_str())];
        Caller::dial(self.host.clock, io, raw, &dial, &headers).await.expect("let in")
    }

    /// A call that has spoken a second and heard all of it.
    async fn call(&self, listener: &str, call: &str) -> Caller {
        let mut caller = self.dial(listener, call).await;
        caller.speak(&sound(0)).await;
        caller
    }

    async fn sleep(&self, time: Duration) {
        self.host.clock.sleep_until(Some(self.host.clock.now() + time)).await;
    }

    fn started(&self) -> usize {
        let is = |entry: &Entry| matches!(entry.what, What::Report(Report::Started(_), _));
        self.host.log.entries().iter().filter(|entry| is(entry)).count()
    }

    /// Whether each stream that went on with a call was in the place of one that was still there.
    fn reattached(&self) -> Vec<(bool, Duration)> {
        let is = |entry: Entry| match entry.what {
            What::Report(Report::Reattached { replaced, away }, _) => Some((replaced, away)),
            _ => None,
        };
        self.host.log.entries().into_iter().filter_map(is).collect()
    }

    async fn detached(&self) {
        let is = |entry: &Entry| matches!(entry.what, What::Report(Report::Detached { .. }, _));
        self.host.log.until("a lost stream", |entries| entries.iter().any(is).then_some(())).await;
    }
}

/// Second `n` of a sound.
fn sound(n: u64) -> Vec<i16> {
    (0..16_000).map(|sample| known(n * 16_000 + sample)).collect()
}

fn lost(summary: &Summary) -> bool {
    matches!(summary.reason, EndReason::Socket { .. })
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_is_cut_goes_on_with_the_next_one() {
    let bridge = Bridge::new("");
    let first = bridge.call("main", "CA1").await;
    drop(first);
    bridge.detached().await;
    bridge.sleep(Duration::from_secs(3)).await;
    let second = bridge.call("main", "CA1").await;
    assert_eq!(second.samples_heard, 16_000, "the echo of the second second");
    second.hang_up().await;
    let summary = bridge.host.log.ended("CA1").await;
    assert_whole(&summary, &[]);
    assert_eq!(
        (summary.reason, summary.reattached, summary.frames_in),
        (EndReason::Remote, 1, 100)
    );
    let outage = summary.heard - Duration::from_secs(2);
    assert!((2_980..=3_020).contains(&outage.as_millis()), "{outage:?}");
    let [(false, away)] = bridge.reattached()[..] else { panic!("{:?}", bridge.reattached()) };
    assert!(away.abs_diff(Duration::from_secs(3)) <= Duration::from_millis(20), "{away:?}");
    assert_eq!((bridge.started(), summary.modules[0].starts), (1, 1));
    bridge.host.stop().await;
}

/// In real time, which is that of the thread that writes captures.
#[tokio::test]
async fn what_was_captured_of_both_streams_of_a_call_is_found_by_its_name() {
    let folder = Folder::new("capture-came-back");
    let dir = folder.path("captures");
    let bridge = Bridge::new(&format!("[capture]\ndir = {}\n", quoted(dir.display())));
    let first = bridge.call("main", "CA1").await;
    drop(first);
    bridge.detached().await;
    bridge.call("main", "CA1").await.hang_up().await;
    let call = bridge.host.log.ended("CA1").await.call;
    bridge.call("main", "CA2").await.hang_up().await;
    bridge.host.log.ended("CA2").await;
    bridge.host.stop().await;
    assert_eq!(ringback::capture::erase(&dir, &[call].into()), (2, vec![]));
    let left = std::fs::read_dir(dir.join("raw")).expect("it is there").count();
    assert_eq!(left, 1, "that of the other call");
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_two_streams_has_the_call_and_the_older_is_told() {
    let bridge = Bridge::new("");
    let mut first = bridge.call("main", "CA1").await;
    let asked = bridge.host.clock.now();
    let mut second = bridge.dial("main", "CA1").await;
    second.format().await;
    let goodbye = Goodbye { code: 1008, reason: "replaced".into() };
    assert_eq!(first.closed().await, goodbye);
    assert!(bridge.host.clock.now() - asked <= Duration::from_millis(100));
    second.speak(&sound(1)).await;
    second.hang_up().await;
    let summary = bridge.host.log.ended("CA1").await;
    assert_whole(&summary, &[]);
    assert_eq!((summary.reattached, summary.frames_in), (1, 100));
    assert_eq!((bridge.started(), bridge.reattached()), (1, vec![(true, Duration::ZERO)]));
    bridge.host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_goes_on_with_ends_with_its_window() {
    let bridge = Bridge::new("[limits]\nreattach_window = \"7s\"\n");
    drop(bridge.call("main", "CA1").await);
    bridge.detached().await;
    let began = bridge.host.clock.now();
    let summary = bridge.host.log.ended("CA1").await;
    let waited = bridge.host.clock.now() - began;
    assert!(lost(&summary) && waited.as_millis().abs_diff(7_000) <= 20, "{waited:?}");
    assert!(summary.duration < Duration::from_millis(1_100), "{:?}", summary.duration);
    bridge.call("main", "CA1").await.hang_up().await;
    assert_eq!((bridge.started(), bridge.reattached().len()), (2, 0), "a name that is free again");
    bridge.host.stop().await;
}

/// Streams that are not those of the call that waits: each begins a call of its own, and the one that waits ends alone.
#[tokio::test(start_paused = true)]
async fn nobody_else_goes_on_with_a_call() {
    let others = [
        ("other", "CA1", "another listener"),
        ("open", "CA1", "no credential"),
        ("main", "CA2", "another name"),
    ];
    for (listener, call, why) in others {
        let bridge = Bridge::new("");
        drop(bridge.call("main", "CA1").await);
        bridge.detached().await;
        bridge.call(listener, call).await.hang_up().await;
        assert_eq!((bridge.started(), bridge.reattached().len()), (2, 0), "{why}");
        let ended = |entries: &[Entry]| summaries(entries).find(|summary| lost(summary)).cloned();
        assert_eq!(bridge.host.log.until("its end", ended).await.reattached, 0, "{why}");
        bridge.host.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_proves_who_calls_a_call_is_kept_only_if_its_listener_says_so() {
    let bridge = Bridge::new("");
    drop(bridge.call("open", "CA1").await);
    assert!(lost(&bridge.host.log.ended("CA1").await));
    drop(bridge.call("open-and-kept", "CA2").await);
    bridge.detached().await;
    bridge.call("open-and-kept", "CA2").await.hang_up().await;
    assert_eq!(bridge.host.log.ended("CA2").await.reattached, 1);
    bridge.host.stop().await;
    let bridge = Bridge::new("[limits]\nreattach_window = \"0s\"\n");
    let began = bridge.host.clock.now();
    drop(bridge.call("main", "CA1").await);
    assert!(lost(&bridge.host.log.ended("CA1").await));
    assert!(bridge.host.clock.now() - began < Duration::from_secs(2));
    bridge.host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_bridge_lets_a_stream_come_back_and_no_other_in() {
    let bridge = Bridge::new("[limits]\nmax_calls = 1\n");
    drop(bridge.call("main", "CA1").await);
    bridge.detached().await;
    // Who it is shows as soon as it starts.
    let goodbye = Goodbye { code: 1013, reason: "no place for another call".into() };
    assert_eq!(bridge.dial("main", "CA2").await.closed().await, goodbye);
    let mut second = bridge.dial("main", "CA1").await;
    second.format().await;
    second.speak(&sound(1)).await;
    second.hang_up().await;
    assert_eq!(bridge.host.log.ended("CA1").await.reattached, 1);
    assert_eq!((bridge.started(), bridge.reattached().len()), (1, 1));
    bridge.call("main", "CA2").await.hang_up().await;
    assert_eq!(bridge.started(), 2, "its place is free again");
    bridge.host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_its_place_and_holds_up_a_drain_no_longer_than_it_waits() {
    let bridge = Bridge::new("[limits]\nmax_calls = 1\n");
    drop(bridge.call("main", "CA1").await);
    bridge.detached().await;
    let began = bridge.host.clock.now();
    let Bridge { host, .. } = bridge;
    let clock = host.clock;
    host.stop().await;
    let waited = clock.now() - began;
    assert!(waited <= Duration::from_secs(12), "{waited:?}");
}
