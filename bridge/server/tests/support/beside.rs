//! A good call beside whatever else is done to a bridge, of which nothing may be missing. Does no harm itself.

use ringback_proto::provider::{Dial, find};
use tokio::sync::watch;

use super::{Caller, Host, assert_whole, known};

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

/// Does `attacks` beside a good call, of which every sample must come back; says how many they were.
pub async fn beside_a_good_call(host: &Host, attacks: impl Future<Output = ()>) -> u64 {
    let (go, stop) = watch::channel(());
    let attacks = async {
        attacks.await;
        drop(go);
    };
    let ((), good) = tokio::join!(attacks, good_call(host, stop));
    let n = good.samples_sent;
    assert_eq!(good.samples_heard, n);
    let expected: Vec<u8> = (0..n).flat_map(|n| known(n).to_le_bytes()).collect();
    assert!(good.heard.concat() == expected, "the good call was disturbed");
    assert_whole(&host.log.ended("good").await, &[]);
    n
}
