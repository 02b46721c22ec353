//! Keys that come, go, change and cannot be had, in virtual time against a server in this process.

use super::*;
use crate::outgoing::mock::{Mock, Reply, key_set, reply};
use crate::telemetry::capture;

/// Tokens of anybody who has a key.
fn jwt(configured: &str) -> Jwt {
    let keys =
        if configured.is_empty() { KeySet::default() } else { KeySet::parse(configured).unwrap() };
    Jwt::new(JwtKeys::Public(keys))
}

fn by_url(mock: &Mock, cache: Option<PathBuf>) -> KeySource {
    KeySource::Url { url: format!("{}/keys", mock.url).parse().unwrap(), cache }
}

fn ring(mock: &Mock, source: KeySource, configured: &str) -> Arc<Keyring> {
    let connector = Arc::new(mock.connector());
    Keyring::new("test", source, jwt(configured), connector, Clock::start())
}

/// Names of nothing but the keys: how many hold now.
fn held(ring: &Keyring) -> usize {
    match ring.auth().as_deref() {
        Some(Auth::Jwt(Jwt { keys: JwtKeys::Public(keys), .. })) => keys.len(),
        Some(other) => panic!("{other:?}"),
        None => 0,
    }
}

fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ringback-keys-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_and_kept_as_long_as_the_issuer_says_within_bounds() {
    let with_age = |age: &str| reply("200 OK", &format!("cache-control: {age}\r\n"), &key_set("a"));
    let mock = Mock::new(vec![
        with_age("max-age=1800"),
        with_age("max-age=1"),
        with_age("no-store"),
        with_age("max-age=99999999"),
        reply("200 OK", "", &key_set("a")),
    ]);
    let ring = ring(&mock, by_url(&mock, None), "");
    assert_eq!(held(&ring), 0);
    assert_eq!(ring.renew().await, Duration::from_secs(1800));
    assert_eq!(held(&ring), 1);
    assert_eq!(ring.renew().await, OFTEN);
    assert_eq!(ring.renew().await, OFTEN);
    assert_eq!(ring.renew().await, SELDOM);
    assert_eq!(ring.renew().await, USUAL);
    assert!(mock.asked()[0].starts_with("GET /keys HTTP/1.1\r\n"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_over_failures_that_are_tried_again_ever_later_until_they_are_too_old() {
    let mock = Mock::new(vec![
        reply("200 OK", "", &key_set("a")),
        reply("500 Internal Server Error", "", ""),
        reply("200 OK", "", "<html>"),
        reply("429 Too Many Requests", "retry-after: 100\r\n", ""),
        reply("200 OK", "", r#"{"keys":[]}"#),
        reply("404 Not Found", "", ""),
    ]);
    let ring = ring(&mock, by_url(&mock, None), "");
    ring.renew().await;
    let mut waits = Vec::new();
    for _ in 0..7 {
        waits.push(ring.renew().await.as_secs());
        assert_eq!(held(&ring), 1);
    }
    assert_eq!(waits, [5, 10, 100, 40, 80, 160, 300]);
    tokio::time::advance(KEEP).await;
    ring.renew().await;
    assert_eq!(held(&ring), 0, "too old");
    mock.answer(reply("200 OK", "", &key_set("b")));
    assert_eq!(ring.renew().await, USUAL);
    assert_eq!(held(&ring), 1, "and back");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_whose_keys_are_good_for_a_day_may_be_gone_for_hours_when_they_are_due() {
    let daily = reply("200 OK", "cache-control: max-age=86400\r\n", &key_set("a"));
    let mock = Mock::new(vec![daily, reply("503 Service Unavailable", "", "")]);
    let ring = ring(&mock, by_url(&mock, None), "");
    let mut again = ring.renew().await;
    for _ in 0..10 {
        tokio::time::advance(again).await;
        again = ring.renew().await;
        assert_eq!(held(&ring), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn configured_keys_hold_whether_or_not_others_can_be_had() {
    let mock = Mock::new(vec![reply("200 OK", "", &key_set("fetched"))]);
    let ring = ring(&mock, by_url(&mock, None), &key_set("configured"));
    assert_eq!(held(&ring), 1);
    ring.renew().await;
    assert_eq!(held(&ring), 2);
    mock.answer(reply("503 Service Unavailable", "", ""));
    tokio::time::advance(KEEP).await;
    ring.renew().await;
    assert_eq!(held(&ring), 1);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_key_are_served_by_one_fetch_and_then_nobody_for_a_while() {
    let mock = Mock::new(vec![reply("200 OK", "", &key_set("a"))]);
    let ring = ring(&mock, by_url(&mock, None), "");
    let keeper = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { ring.keep_fresh().await }
    });
    // While the first fetch is under way, whoever comes waits for that one.
    assert!(ring.renewed().await);
    assert_eq!((held(&ring), mock.asked().len()), (1, 1));
    assert!(!ring.renewed().await, "read just now");
    tokio::time::advance(REST).await;
    let (first, second, third) = tokio::join!(ring.renewed(), ring.renewed(), ring.renewed());
    assert!(first && second && third);
    assert_eq!(mock.asked().len(), 2);
    // One that does not answer is not waited for to its own end.
    mock.answer(Reply::Silence);
    tokio::time::advance(REST).await;
    let before = tokio::time::Instant::now();
    assert!(!ring.renewed().await);
    assert_eq!(before.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!(held(&ring), 1);
    keeper.abort();
}

#[tokio::test]
async fn the_last_fetch_is_there_at_the_next_start_unless_it_is_too_old_or_garbage() {
    let folder = folder("cache");
    let cache = folder.join("keys.json");
    let mock = Mock::new(vec![reply("200 OK", "", &key_set("a"))]);
    let first = ring(&mock, by_url(&mock, Some(cache.clone())), "");
    assert_eq!(held(&first), 0, "a first start has no copy");
    first.renew().await;
    assert_eq!(std::fs::read_to_string(&cache).unwrap(), key_set("a"));
    assert_eq!(held(&ring(&mock, by_url(&mock, Some(cache.clone())), "")), 1);

    let old = WallTime::now().since(std::time::UNIX_EPOCH) - KEEP;
    let file = std::fs::File::options().write(true).open(&cache).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + old).unwrap();
    assert_eq!(held(&ring(&mock, by_url(&mock, Some(cache.clone())), "")), 0, "too old");

    std::fs::write(&cache, "{").unwrap();
    let log = capture(|| assert_eq!(held(&ring(&mock, by_url(&mock, Some(cache.clone())), "")), 0));
    assert!(log.contains("keys.json") && log.contains("of no use"), "{log}");

    // Keys that cannot be kept hold nevertheless.
    let nowhere = ring(&mock, by_url(&mock, Some(folder.join("no/such/folder.json"))), "");
    nowhere.renew().await;
    assert_eq!(held(&nowhere), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_when_it_has_changed_and_kept_when_it_became_garbage() {
    let folder = folder("file");
    let path = folder.join("keys.json");
    std::fs::write(&path, key_set("first")).unwrap();
    let configured = key_set("first");
    let ring = ring(&Mock::new(Vec::new()), KeySource::File(path.clone()), &configured);
    let first = ring.auth();
    assert_eq!(held(&ring), 1, "what the configuration read");
    ring.renew().await;
    assert_eq!(ring.auth(), first);
    assert_eq!(held(&ring), 1);
    ring.renew().await;
    assert_eq!(ring.auth(), first);
    std::fs::write(&path, key_set("another one")).unwrap();
    assert_eq!(ring.renew().await, LOOK);
    let second = ring.auth();
    assert!(second != first);
    assert_eq!(held(&ring), 1, "what is no longer in the file does not hold");
    for text in ["{", ""] {
        std::fs::write(&path, text).unwrap();
        ring.renew().await;
        assert_eq!(ring.auth(), second);
    }
    std::fs::remove_dir_all(folder).unwrap();
    ring.renew().await;
    assert_eq!(ring.auth(), second);
}
