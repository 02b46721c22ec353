//! Strangers who want to keep others off, over sockets: all are gone within their deadline, and a call beside them loses nothing.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use ringback::denial::{Flood, Hold, flood, hold};
use ringback_proto::provider::{Dial, find};
use support::{Caller, Host, assert_whole, known, soon};
use tokio::sync::watch;

/// Beside the deadline: last words of 200 ms, and a machine with much else to do.
const SLACK: Duration = Duration::from_secs(4);

/// A good call that goes on until the other end of `stop` is dropped, and says how much it said.
async fn good_call(host: &Host, stop: watch::Receiver<()>) -> Caller {
    let provider = find("raw").expect("a provider");
    let format =
        provider.formats().iter().find(|f| f.rate.hz() == 8_000 && f.octets_for(1) == Some(2));
    let dial = Dial {
        target: "/raw".into(),
        call: "good".into(),
        format: Some(*format.expect("raw speaks linear sound")),
        ..Dial::default()
    };
    let stream = host.connect().await;
    let mut caller = Caller::dial(host.clock, stream, provider, &dial, &[]).await.expect("a call");
    let mut n = 0;
    while stop.has_changed().is_ok() {
        let frame: Vec<i16> = (n..n + 160).map(known).collect();
        caller.speak(&frame).await;
        n += 160;
    }
    caller.hang_up().await
}

/// Runs `attack` beside a good call, of which every sample must come back.
async fn beside_a_good_call(limits: &str, attack: impl AsyncFnOnce(SocketAddr)) {
    let host = Host::on_loopback(limits);
    let (go, stop) = watch::channel(());
    let attack = async {
        attack(host.address).await;
        drop(go);
    };
    let ((), good) = tokio::join!(soon("the attack", attack), good_call(&host, stop));
    let n = good.samples_sent;
    assert_eq!(good.samples_heard, n);
    let expected: Vec<u8> = (0..n).flat_map(|n| known(n).to_le_bytes()).collect();
    assert!(good.heard.concat() == expected, "the good call was disturbed");
    assert_whole(&host.log.ended("good").await, &[]);
    host.stop().await;
}

/// Everybody comes from one address here.
const FROM_ONE: &str = "[limits]\nmax_connections_per_address = 5000\nmax_calls = 3000\n";

#[tokio::test]
async fn whoever_holds_connections_is_gone_within_the_deadline() {
    beside_a_good_call(FROM_ONE, async |address| {
        // All at a time: 500 of one kind and 1,000 of each other.
        let (silent, heads, streams, messages) = tokio::join!(
            hold(address, "/twilio", 1_000, Hold::Silent),
            hold(address, "/twilio", 500, Hold::SlowHead),
            hold(address, "/twilio", 1_000, Hold::SilentStream),
            hold(address, "/twilio", 50, Hold::SlowMessage)
        );
        for (how, count, held) in [
            (Hold::Silent, 1_000, silent),
            (Hold::SlowHead, 500, heads),
            (Hold::SilentStream, 1_000, streams),
            (Hold::SlowMessage, 50, messages),
        ] {
            eprintln!("{}: {held:?}", how.name());
            assert_eq!((held.opened, held.closed), (count, count), "{}", how.name());
            let just_before = how.deadline() - Duration::from_secs(1);
            assert!(held.first >= just_before && held.last <= how.deadline() + SLACK, "{held:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_floods_is_gone_at_once() {
    beside_a_good_call("", async |address| {
        for what in Flood::ALL {
            let flooded = flood(address, "/raw", what).await.expect("a stream");
            eprintln!("{}: {flooded:?}", what.name());
            assert_eq!(flooded.code, Some(what.code()), "{}: {flooded:?}", what.name());
            assert!(flooded.after.is_some_and(|after| after < SLACK), "{flooded:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    beside_a_good_call("", async |address| {
        let held = hold(address, "/twilio", 1_000, Hold::Silent).await;
        eprintln!("from one address: {held:?}");
        assert_eq!(held.opened, held.closed);
        assert!(held.first < Hold::Silent.deadline(), "those too many are refused at once");
    })
    .await;
}
