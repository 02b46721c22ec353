//! Webhooks with a server in memory and time in hand: order, tries, what is given up, and what outlives a restart.

use serde_json::Value;

use crate::events::EventKind;
use crate::outgoing::mock::{Mock, Reply, reply};
use crate::sink::testing::{Feed, Folder, event};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hook(mock: &Mock) -> Webhook {
    Webhook {
        url: format!("{}/calls", mock.url).parse().unwrap(),
        keys: vec![SigningKey::parse(SECRET).unwrap()],
        source: "/ringback".into(),
        addresses: Addresses::default(),
        timeout: Duration::from_secs(10),
        retry_for: Duration::from_secs(3600),
        concurrency: 4,
        spool: None,
    }
}

/// A webhook at work.
struct Rig {
    feed: Feed,
    running: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(mock: &Mock, config: Webhook) -> Self {
        let (feed, intake) = Feed::new(100);
        let running = tokio::spawn(run(config, 100, Arc::new(mock.connector()), intake));
        Self { feed, running }
    }

    fn put(&self, call: &str, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|n| self.feed.put(event(call, n, EventKind::TranscriptFinal)));
    }

    async fn end(self) -> Feed {
        self.feed.close();
        self.running.await.unwrap();
        self.feed
    }
}

/// The ids of events, in the order they were told.
fn ids(mock: &Mock) -> Vec<String> {
    mock.asked().iter().map(|request| field(request, "webhook-id").to_owned()).collect()
}

fn field<'a>(request: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(prefix.as_str())).expect(request)
}

fn ok() -> Reply {
    reply("204 No Content", "", "")
}

#[tokio::test(start_paused = true)]
async fn events_are_told_as_signed_cloud_events() {
    let mock = Mock::new(vec![ok()]);
    let mut config = hook(&mock);
    config.keys.push(SigningKey::parse("bmV4dCBrZXksIGxvbmcgZW5vdWdoIGZvciBpdA==").unwrap());
    let keys = config.keys.clone();
    let rig = Rig::start(&mock, config);
    rig.put("c1", [1]);
    let feed = rig.end().await;
    let asked = mock.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /calls HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(head, "content-type"), "application/cloudevents+json");
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"]),
        (&"ringback.transcript.final.v1".into(), &"c1-1".into())
    );
    assert_eq!(told["data"]["text"], "grüß \"dich\"");
    let at = ringback_proto::UnixSeconds(field(head, "webhook-timestamp").parse().unwrap());
    assert!(WallTime::now().unix_seconds().0.abs_diff(at.0) < 60);
    let wanted = keys.iter().map(|key| key.sign("c1-1", at, body)).collect::<Vec<_>>().join(" ");
    assert_eq!(field(head, "webhook-signature"), wanted, "by all keys, while one is replaced");
    assert_eq!((feed.figures().delivered(), feed.figures().retries()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_under_the_same_name_and_before_what_comes_behind_it() {
    let mock = Mock::new(vec![
        reply("503 Service Unavailable", "", "busy"),
        Reply::Silence,
        Reply::Octets("SSH-2.0-OpenSSH_9.2\r\n".into()),
        reply("429 Too Many Requests", "", ""),
        ok(),
    ]);
    let rig = Rig::start(&mock, Webhook { concurrency: 1, ..hook(&mock) });
    rig.put("c1", [1, 2, 3]);
    let began = tokio::time::Instant::now();
    let feed = rig.end().await;
    assert_eq!(ids(&mock), ["c1-1", "c1-1", "c1-1", "c1-1", "c1-1", "c1-2", "c1-3"]);
    // Pauses of 1, 2, 4 and 8 s, at least half of each, and the 10 s of silence.
    let took = began.elapsed().as_secs_f64();
    assert!((17.5..=25.5).contains(&took), "{took}");
    assert_eq!((feed.figures().delivered(), feed.figures().retries()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn one_call_that_is_refused_for_now_does_not_hold_up_another() {
    let mock = Mock::new(vec![reply("500 Oops", "", ""), ok()]);
    let rig = Rig::start(&mock, Webhook { concurrency: 1, ..hook(&mock) });
    rig.put("c1", [1, 2]);
    rig.put("c2", [1, 2]);
    rig.end().await;
    assert_eq!(ids(&mock), ["c1-1", "c2-1", "c2-2", "c1-1", "c1-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_to_come_again_is_left_alone_until_then() {
    let mock = Mock::new(vec![reply("429 Slow Down", "retry-after: 120\r\n", ""), ok()]);
    let rig = Rig::start(&mock, hook(&mock));
    rig.put("c1", [1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.put("c2", [1]);
    tokio::time::sleep(Duration::from_secs(118)).await;
    assert_eq!(ids(&mock), ["c1-1"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ids(&mock).len(), 3);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_will_never_be_taken_is_given_up_and_told() {
    let mock = Mock::new(vec![
        reply("400 Bad Request", "", "no"),
        reply("301 Moved", "location: http://localhost/elsewhere\r\n", ""),
        ok(),
    ]);
    let rig = Rig::start(&mock, hook(&mock));
    rig.put("c1", [1, 2, 3]);
    let feed = rig.end().await;
    assert_eq!(ids(&mock), ["c1-1", "c1-2", "c1-3"], "no redirect is followed");
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Refused)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_delivered_for_too_long_is_given_up() {
    let mock = Mock::new(vec![reply("500 Oops", "", "")]);
    let retry_for = Duration::from_secs(300);
    let rig = Rig::start(&mock, Webhook { retry_for, ..hook(&mock) });
    rig.put("c1", [1]);
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(rig.feed.figures().lost(Lost::Expired), 0);
    mock.answer(reply("500 Oops", "", ""));
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert_eq!(rig.feed.figures().lost(Lost::Expired), 1);
    mock.answer(ok());
    rig.put("c1", [2]);
    let feed = rig.end().await;
    assert_eq!(
        ids(&mock).last().map(String::as_str),
        Some("c1-2"),
        "the next one has its own time"
    );
    assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_for_good_is_told_nothing_more() {
    let mock = Mock::new(vec![ok(), reply("410 Gone", "", "unsubscribed")]);
    let rig = Rig::start(&mock, Webhook { concurrency: 1, ..hook(&mock) });
    rig.put("c1", [1, 2, 3]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.put("c2", [1]);
    let feed = rig.end().await;
    assert_eq!(ids(&mock), ["c1-1", "c1-2"]);
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Disabled)), (1, 3));
    assert_eq!(feed.figures().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_a_server_had_gone_is_counted_once() {
    let mock = Mock::new(vec![Reply::Silence, reply("410 Gone", "", "unsubscribed")]);
    let rig = Rig::start(&mock, Webhook { concurrency: 2, ..hook(&mock) });
    rig.put("c1", [1]);
    rig.put("c2", [1]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let feed = rig.end().await;
    let figures = feed.figures();
    assert_eq!((figures.lost(Lost::Disabled), figures.retries()), (2, 0));
    assert_eq!((figures.taken(), figures.delivered(), figures.waiting()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_are_under_way_and_no_more() {
    let mock = Mock::new(vec![Reply::Silence]);
    let rig = Rig::start(&mock, Webhook { concurrency: 3, ..hook(&mock) });
    for call in ["c1", "c2", "c3", "c4", "c5"] {
        rig.put(call, [1, 2]);
    }
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(ids(&mock), ["c1-1", "c2-1", "c3-1"]);
    mock.answer(ok());
    rig.end().await;
    assert_eq!(ids(&mock).len(), 3 + 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_undelivered_outlives_a_process_that_is_killed() {
    let folder = Folder::new("webhook-spool");
    let spool = Some(folder.0.join("crm"));
    let away = Mock::new(vec![reply("204 No Content", "", ""), reply("500 Oops", "", "")]);
    let rig = Rig::start(&away, Webhook { spool: spool.clone(), concurrency: 1, ..hook(&away) });
    rig.put("c1", [1, 2, 3]);
    rig.put("c2", [1]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.running.abort();
    assert!(rig.running.await.unwrap_err().is_cancelled());
    assert_eq!(rig.feed.figures().delivered(), 1);

    let back = Mock::new(vec![ok()]);
    let rig = Rig::start(&back, Webhook { spool, concurrency: 1, ..hook(&back) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.put("c3", [1]);
    let feed = rig.end().await;
    assert_eq!(ids(&back), ["c1-2", "c1-3", "c2-1", "c3-1"], "the old ones first, in order");
    let first = back.asked()[0].split_once("\r\n\r\n").unwrap().1.to_owned();
    let before = away.asked()[1].split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(first, before, "the same event, octet by octet");
    assert_eq!((feed.figures().taken(), feed.figures().delivered()), (4, 4));
    let left: Vec<_> = std::fs::read_dir(folder.0.join("crm")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_cannot_be_written_costs_its_events_only_a_restart() {
    let folder = Folder::new("webhook-no-spool");
    std::fs::write(folder.0.join("crm"), "a file where the folder should be").unwrap();
    let mock = Mock::new(vec![ok()]);
    let spool = Some(folder.0.join("crm"));
    let rig = Rig::start(&mock, Webhook { spool, ..hook(&mock) });
    rig.put("c1", [1, 2]);
    let feed = rig.end().await;
    assert_eq!((ids(&mock).len(), feed.figures().delivered()), (2, 2));
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let url = "https://crm.example/calls?key=s3cret".parse().unwrap();
    let keys = vec![SigningKey::parse(SECRET).unwrap()];
    let printed = format!(
        "{keys:?} {}",
        crate::sink::SinkKind::Webhook(Webhook {
            url,
            keys: keys.clone(),
            source: "/".into(),
            addresses: Addresses::default(),
            timeout: Duration::ZERO,
            retry_for: Duration::ZERO,
            concurrency: 1,
            spool: None,
        })
    );
    assert_eq!(printed, "[[redacted]] told to https://crm.example/calls");
}
