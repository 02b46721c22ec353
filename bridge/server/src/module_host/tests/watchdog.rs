//! When a module that gives no sign of life is taken for dead: in time, and not while it lives.

use ringback_module::message::Ready;

use super::super::talk::{End, Talk};
use super::*;

fn has_begun() -> Ready {
    serde_json::from_value(json!({
        "session": "s1", "accept": {"in": null, "out": null, "tracks": [], "framing": "raw"}
    }))
    .unwrap()
}

/// How long after its last sign of life, which it gives after `signs` others, a module is given up.
async fn given_up_after(dead_ms: u64, every: Duration, signs: u32) -> Duration {
    let mut start = start();
    start.limits.dead_ms = dead_ms;
    let (from, _hears) = mpsc::channel(8);
    let talk = Talk::new("m", &start, &from);
    talk.ready.set(has_begun()).unwrap();
    let living = async {
        for _ in 0..signs {
            tokio::time::sleep(every).await;
            talk.seen_alive();
        }
        let last = tokio::time::Instant::now();
        std::future::pending::<()>().await;
        last
    };
    let mut last = tokio::time::Instant::now();
    tokio::select! {
        biased;
        end = talk.watch() => {
            last += every * signs;
            assert!(matches!(&end, End::Failed(failure) if failure.reason.contains("no sign of life")));
        }
        _ = living => unreachable!("it never ends"),
    }
    last.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_module_that_hangs_is_given_up_within_the_deadline_wherever_the_watchdog_stands() {
    let dead = message::Limits::default().dead_ms;
    assert_eq!(dead, 2_000, "what is promised of a module that hangs");
    let (mut soonest, mut latest) = (Duration::MAX, Duration::ZERO);
    for every in [499, 500, 501, 7, 63, 124, 125, 126, 250, 313] {
        for signs in [1, 2, 9, 40] {
            let after = given_up_after(dead, Duration::from_millis(every), signs).await;
            (soonest, latest) = (soonest.min(after), latest.max(after));
        }
    }
    assert!(latest <= Duration::from_millis(dead), "{latest:?}");
    assert!(soonest >= Duration::from_millis(dead - dead / 16), "{soonest:?}: it may yet answer");
}
