//! Files of lines: whole, in order, where their names say, through full disks and restarts.

use crate::events::EventKind;
use crate::sink::testing::{Feed, Folder, event};
use crate::telemetry::Lost;

use super::*;

fn lines(folder: &Folder, name: &str) -> JsonLines {
    let path = folder.path(name).parse().unwrap();
    JsonLines { path, max_file: None, flush_every: Duration::ZERO }
}

fn ids(text: &str) -> Vec<String> {
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        line["event_id"].as_str().unwrap().to_owned()
    };
    text.lines().map(id).collect()
}

#[test]
fn names_of_files_have_places_that_nothing_can_escape_from() {
    let mut odd = event("../../etc/passwd", 1, EventKind::Turn);
    odd.listener = "tw/il\0io".into();
    odd.route = String::new();
    odd.at = "..".into();
    let path = |template: &str| template.parse::<Template>().unwrap().path(&odd);
    assert_eq!(path("a/{call}.jsonl"), Path::new("a/______etc_passwd.jsonl"));
    assert_eq!(path("{date}/{listener}-{route}"), Path::new("__/tw_il_io-_"));
    odd.at = "2026-11-21T07:05:09.042Z".into();
    let template: Template = "t/{date}.jsonl".parse().unwrap();
    assert_eq!(template.path(&odd), Path::new("t/2026-11-21.jsonl"));
    assert_eq!(template.to_string(), "t/{date}.jsonl");
    for (wrong, why) in [
        ("", "is no file"),
        ("a/", "is no file"),
        ("a{date", "is not closed"),
        ("{from}.jsonl", "there is no {from}: {date}, {call}, {listener} and {route} are"),
    ] {
        let told = wrong.parse::<Template>().unwrap_err();
        assert!(told.contains(why), "{wrong}: {told}");
    }
}

#[tokio::test]
async fn events_become_whole_lines_in_order_in_the_files_of_their_calls() {
    let folder = Folder::new("jsonl");
    let (feed, intake) = Feed::new(100);
    for n in 1..=40 {
        feed.put(event(if n % 3 == 0 { "c2" } else { "c1" }, n, EventKind::Turn));
    }
    feed.close();
    run(lines(&folder, "deep/down/{call}.jsonl"), intake).await;
    let wanted = |call: &str, of: fn(&u64) -> bool| -> Vec<_> {
        (1..=40).filter(of).map(|n| format!("{call}-{n}")).collect()
    };
    assert_eq!(ids(&folder.read("deep/down/c1.jsonl")), wanted("c1", |n| n % 3 != 0));
    assert_eq!(ids(&folder.read("deep/down/c2.jsonl")), wanted("c2", |n| n % 3 == 0));
    assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (40, 0));
}

#[tokio::test]
async fn a_file_is_appended_to_and_a_line_that_was_cut_off_stands_alone() {
    let folder = Folder::new("jsonl-append");
    std::fs::write(folder.0.join("x.jsonl"), "{\"event_id\":\"old\"}\n{\"half").unwrap();
    let (feed, intake) = Feed::new(100);
    feed.put(event("c1", 1, EventKind::Turn));
    feed.close();
    run(lines(&folder, "x.jsonl"), intake).await;
    let text = folder.read("x.jsonl");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[1]), (3, "{\"half"), "{text}");
    assert_eq!(ids(lines[2]), ["c1-1"]);
}

#[test]
fn a_file_that_is_large_enough_is_followed_by_one_with_the_next_number() {
    let folder = Folder::new("jsonl-size");
    let config = JsonLines { max_file: Some(160), ..lines(&folder, "{route}/x.jsonl") };
    let one = |n| Arc::new(event("c1", n, EventKind::Turn));
    let size = one(1).json.len() as u64 + 1;
    assert!((54..=80).contains(&size), "two lines fit, three do not: {size}");
    let writer = || Writer { config: config.clone(), open: BTreeMap::new() };
    let mut first = writer();
    for n in 1..=3 {
        assert!(matches!(first.write(&[one(n)]), (1, None)));
    }
    // After a restart it goes on where it was.
    let mut second = writer();
    assert!(matches!(second.write(&[one(4), one(5)]), (2, None)));
    let file = |name: &str| ids(&folder.read(&format!("default/{name}")));
    assert_eq!(file("x.jsonl"), ["c1-1", "c1-2"]);
    assert_eq!(file("x.1.jsonl"), ["c1-3"]);
    assert_eq!(file("x.2.jsonl"), ["c1-4", "c1-5"]);
    std::fs::remove_file(folder.0.join("default/x.2.jsonl")).unwrap();
    assert!(matches!(second.write(&[one(6)]), (1, None)));
    assert_eq!(file("x.1.jsonl"), ["c1-3", "c1-6"], "the last there is goes on");
    assert_eq!(file("x.2.jsonl"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn lines_are_gathered_for_a_while_but_not_at_the_end() {
    let folder = Folder::new("jsonl-flush");
    let (feed, intake) = Feed::new(100);
    let config = JsonLines { flush_every: Duration::from_secs(5), ..lines(&folder, "x.jsonl") };
    feed.put(event("c1", 1, EventKind::Turn));
    let running = tokio::spawn(run(config, intake));
    tokio::time::sleep(Duration::from_secs(4)).await;
    feed.put(event("c1", 2, EventKind::Turn));
    assert_eq!(folder.read("x.jsonl"), "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ids(&folder.read("x.jsonl")), ["c1-1", "c1-2"]);
    feed.put(event("c1", 3, EventKind::Turn));
    feed.close();
    let before = tokio::time::Instant::now();
    running.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "the end waits for nothing");
    assert_eq!(ids(&folder.read("x.jsonl")).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_is_tried_again_while_the_oldest_give_way() {
    let folder = Folder::new("jsonl-full");
    // A file where the folder should be.
    std::fs::write(folder.0.join("t"), "").unwrap();
    let (feed, intake) = Feed::new(5);
    let running = tokio::spawn(run(lines(&folder, "t/x.jsonl"), intake));
    feed.put(event("c1", 1, EventKind::Turn));
    tokio::time::sleep(Duration::from_secs(10)).await;
    for n in 2..=9 {
        feed.put(event("c1", n, EventKind::Turn));
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    let figures = feed.figures();
    assert!(figures.retries() >= 5, "{}", figures.retries());
    assert_eq!((figures.delivered(), figures.lost(Lost::Overflow)), (0, 3));
    std::fs::remove_file(folder.0.join("t")).unwrap();
    feed.close();
    running.await.unwrap();
    let told = ids(&folder.read("t/x.jsonl"));
    assert_eq!(told, ["c1-1", "c1-5", "c1-6", "c1-7", "c1-8", "c1-9"]);
    assert_eq!((figures.delivered(), figures.waiting()), (6, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn of_a_write_that_fails_nothing_is_kept() {
    // A device that is always full.
    let config = JsonLines {
        path: "/dev/full".parse().unwrap(),
        max_file: None,
        flush_every: Duration::ZERO,
    };
    let mut writer = Writer { config, open: BTreeMap::new() };
    let (written, failed) = writer.write(&[Arc::new(event("c1", 1, EventKind::Turn))]);
    let told = failed.unwrap().to_string();
    assert_eq!(written, 0);
    assert!(told.starts_with("/dev/full: "), "{told}");
    assert!(writer.open.is_empty());
}
