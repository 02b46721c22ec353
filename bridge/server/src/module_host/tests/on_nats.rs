//! What only a worker on NATS can meet: nobody there, no room, messages that are lost, servers that are too small.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;

use super::worked::Cluster;
use super::*;

/// It is asked once, and again, for so long.
fn in_a_hurry() -> Start {
    let mut start = start();
    start.limits.ready_ms = 300;
    start
}

#[tokio::test]
async fn why_nobody_took_it_is_told() {
    let Some(cluster) = Cluster::start("nobody", &[]).await else { return };
    let reason = restarting(&mut spawn_nats(cluster.spec("nobody"), in_a_hurry())).await;
    assert!(reason.contains("group nobody") && reason.contains("none is there"), "{reason}");

    let mut busy = cluster.client.subscribe("test.v1.offer.busy").await.unwrap();
    let client = cluster.client.clone();
    tokio::spawn(async move {
        let no = json!({"type": "reject", "code": "busy", "message": "8 of\u{1b} 8"}).to_string();
        while let Some(offer) = busy.next().await {
            client.publish(offer.reply.unwrap(), no.clone().into()).await.unwrap();
        }
    });
    let reason = restarting(&mut spawn_nats(cluster.spec("busy"), in_a_hurry())).await;
    assert!(reason.contains("busy: 8 of\\u{1b} 8"), "{reason}");

    let mut odd = cluster.client.subscribe("test.v1.offer.odd").await.unwrap();
    let client = cluster.client.clone();
    tokio::spawn(async move {
        // A name that would have the bridge speak anywhere else.
        let take = json!({"type": "take", "session": "x.in\r\nPUB elsewhere", "worker": "w"});
        while let Some(offer) = odd.next().await {
            client.publish(offer.reply.unwrap(), take.to_string().into()).await.unwrap();
        }
    });
    let reason = restarting(&mut spawn_nats(cluster.spec("odd"), in_a_hurry())).await;
    assert!(reason.contains("a name that is none"), "{reason}");
}

#[tokio::test]
async fn who_comes_while_it_is_asked_for_gets_the_session() {
    let Some(cluster) = Cluster::start("late", &[]).await else { return };
    let mut deaf = cluster.client.subscribe("test.v1.offer.late").await.unwrap();
    cluster.settled().await;
    let mut hosted = spawn_nats(cluster.spec("late"), start());
    deaf.next().await.unwrap();
    drop(deaf);
    cluster.work_as("late", "good").await;
    ready(&mut hosted, Value::Null).await;
}

#[tokio::test]
async fn a_stop_while_nobody_is_there_is_the_end() {
    let Some(cluster) = Cluster::start("stop", &[]).await else { return };
    let mut hosted = spawn_nats(cluster.spec("nobody"), start());
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
}

#[tokio::test]
async fn whoever_takes_it_too_late_is_let_go() {
    let Some(cluster) = Cluster::start("two", &[]).await else { return };
    let mut offers = cluster.client.subscribe("test.v1.offer.slow").await.unwrap();
    let mut declined =
        cluster.client.subscribe("test.v1.session.aaaaaaaaaaaaaaaa.in").await.unwrap();
    cluster.settled().await;
    let _hosted = spawn_nats(cluster.spec("slow"), start());
    // The first offer is answered only when the second has been made and was answered by somebody else.
    let first = offers.next().await.unwrap().reply.unwrap();
    let second = offers.next().await.unwrap().reply.unwrap();
    let take = |session: &str| json!({"type": "take", "session": session}).to_string();
    cluster.client.publish(second, take("bbbbbbbbbbbbbbbb").into()).await.unwrap();
    cluster.client.publish(first, take("aaaaaaaaaaaaaaaa").into()).await.unwrap();
    let goodbye = timeout(PATIENCE, declined.next()).await.unwrap().unwrap();
    let headers = goodbye.headers.unwrap();
    assert_eq!(headers.get("Ringback-Close").unwrap().as_str(), "1000 somebody else took it");
}

#[tokio::test]
async fn a_message_that_is_lost_costs_the_session_and_not_the_call() {
    let Some(cluster) = Cluster::start("lost", &[]).await else { return };
    let mut offers = cluster.client.subscribe("test.v1.offer.lossy").await.unwrap();
    let mut input = cluster.client.subscribe("test.v1.session.cccccccccccccccc.in").await.unwrap();
    cluster.settled().await;
    let mut hosted = spawn_nats(cluster.spec("lossy"), start());
    let reply = offers.next().await.unwrap().reply.unwrap();
    let take = json!({"type": "take", "session": "cccccccccccccccc", "worker": "w"}).to_string();
    cluster.client.publish(reply, take.into()).await.unwrap();
    let start = input.next().await.unwrap();
    assert_eq!(start.headers.unwrap().get("Ringback-Json").unwrap().as_str(), "0 0");
    for (number, message) in
        [(0, json!({"type": "ready", "accept": {}})), (2, json!({"type": "pong", "t": 0}))]
    {
        let mut headers = HeaderMap::new();
        headers.insert("Ringback-Json", format!("{number} 1"));
        let output = "test.v1.session.cccccccccccccccc.out";
        let body = message.to_string().into();
        cluster.client.publish_with_headers(output, headers, body).await.unwrap();
    }
    let reason = restarting(&mut hosted).await;
    assert_eq!(reason, "w of lossy: 1 messages from it were lost on their way");
    let goodbye = loop {
        let message = input.next().await.unwrap();
        if let Some(close) = message.headers.unwrap().get("Ringback-Close") {
            break close.to_string();
        }
    };
    assert!(goodbye.starts_with("4009 "), "{goodbye}");
}

#[tokio::test]
async fn a_server_that_takes_only_small_messages_is_told_so() {
    let folder =
        std::env::temp_dir().join(format!("ringback-nats-small-{}.conf", std::process::id()));
    std::fs::write(&folder, "max_payload: 65536\n").unwrap();
    let config = folder.display().to_string();
    let cluster = Cluster::start("small", &["-c", &config]).await;
    std::fs::remove_file(&folder).unwrap();
    let Some(cluster) = cluster else { return };
    let mut hosted = spawn_nats(cluster.spec("any"), start());
    let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
    assert!(reason.contains("up to 65536 octets") && reason.contains("max_payload"), "{reason}");
}
