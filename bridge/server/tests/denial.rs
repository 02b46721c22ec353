//! Strangers who want to keep others off, over sockets: all are gone within their deadline, and a call beside them loses nothing.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use ringback::denial::{Flood, Hold, flood, hold};
use support::{Host, beside_a_good_call, soon};

/// Beside the deadline: last words of 200 ms, and a machine with much else to do.
const SLACK: Duration = Duration::from_secs(4);

/// Runs `attack` against a bridge with these limits, beside a good call, of which every sample must come back.
async fn attacked(limits: &str, attack: impl AsyncFnOnce(SocketAddr)) {
    let host = Host::on_loopback(limits);
    beside_a_good_call(&host, soon("the attack", attack(host.address))).await;
    host.stop().await;
}

/// Everybody comes from one address here.
const FROM_ONE: &str = "[limits]\nmax_connections_per_address = 5000\nmax_calls = 3000\n";

#[tokio::test]
async fn whoever_holds_connections_is_gone_within_the_deadline() {
    attacked(FROM_ONE, async |address| {
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
    attacked("", async |address| {
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
    attacked("", async |address| {
        let held = hold(address, "/twilio", 1_000, Hold::Silent).await;
        eprintln!("from one address: {held:?}");
        assert_eq!(held.opened, held.closed);
        assert!(held.first < Hold::Silent.deadline(), "those too many are refused at once");
    })
    .await;
}
