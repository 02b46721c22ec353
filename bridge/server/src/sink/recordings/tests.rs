//! Recordings into folders and into a bucket that is a server in memory: what is asked of it, and what stays when it is away.

use std::fs::File;

use ringback_proto::provider::Secret;

use crate::events::EventKind;
use crate::outgoing::mock::{Deed, Mock, Reply, reply};
use crate::sink::testing::{Feed, Folder, event};

use super::*;

/// An event that tells of a recording at `path`.
fn finished(path: &str) -> Event {
    let mut event = event("c1", 1, EventKind::Event);
    let path = serde_json::Value::from(path);
    event.json = format!(
        r#"{{"call":"c1","module":"recorder","type":"event","name":"recorder.finished","data":{{"path":{path},"ms":9400}}}}"#
    );
    event
}

fn into_folder(folder: &Folder, delete_local: bool) -> Recordings {
    let store = Store::Folder(folder.0.join("kept"));
    Recordings { store, dir: folder.0.join("made"), delete_local }
}

fn into_bucket(folder: &Folder, mock: &Mock) -> Recordings {
    let store = Store::S3(S3 {
        bucket: "calls".into(),
        prefix: "2026/nov".into(),
        endpoint: Some(mock.url.parse().unwrap()),
        region: Some("eu-central-1".into()),
        key: Some((Secret::from("KEYID"), Secret::from("s3cret"))),
    });
    Recordings { store, dir: folder.0.join("made"), delete_local: true }
}

/// A folder with recordings of these names, whose octets are their names.
fn recorded(names: &[&str]) -> Folder {
    let folder = Folder::new("recordings");
    std::fs::create_dir(folder.0.join("made")).unwrap();
    for name in names {
        std::fs::write(folder.0.join("made").join(name), name).unwrap();
    }
    folder
}

fn names(folder: &Folder, of: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.0.join(of)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn run_all(config: Recordings, connector: Connector, events: Vec<Event>) -> Feed {
    let (feed, intake) = Feed::new(100);
    events.into_iter().for_each(|event| feed.put(event));
    feed.close();
    run(config, Arc::new(connector), intake).await;
    feed
}

#[tokio::test]
async fn a_recording_is_kept_when_it_is_whole_and_goes_only_then() {
    let folder = recorded(&["a.wav", "b.wav.sealed", "live.wav", "live.wav.sealed.part"]);
    let events = vec![finished("made/a.wav"), finished("/elsewhere/b.wav.sealed")];
    let feed = run_all(into_folder(&folder, true), Connector::default(), events).await;
    assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (2, 0));
    assert_eq!(names(&folder, "kept"), ["a.wav", "b.wav.sealed"]);
    assert_eq!(folder.read("kept/b.wav.sealed"), "b.wav.sealed");
    let left = ["live.wav", "live.wav.sealed.part"];
    assert_eq!(names(&folder, "made"), left, "a call that goes on is left alone");

    let folder = recorded(&["a.wav", "a.json", "b.wav.part"]);
    run_all(into_folder(&folder, false), Connector::default(), vec![finished("a.wav")]).await;
    assert_eq!(names(&folder, "kept"), ["a.json", "a.wav"], "with what is known of it");
    assert_eq!(names(&folder, "made"), ["a.json", "a.wav", "a.wav.stored", "b.wav.part"]);
    run_all(into_folder(&folder, true), Connector::default(), vec![finished("a.wav")]).await;
    assert_eq!(names(&folder, "made"), ["a.wav.stored", "b.wav.part"]);
}

#[tokio::test]
async fn nothing_but_recordings_of_the_folder_can_be_named() {
    let folder = recorded(&["a.wav"]);
    std::fs::write(folder.0.join("secret.wav"), "not in the folder").unwrap();
    std::fs::write(folder.0.join("made/passwd"), "no recording").unwrap();
    for path in ["../secret.wav", "made/passwd", "..", "", ".hidden.wav", "a b.wav", "x\u{0}.wav"] {
        let event = finished(path);
        let feed = run_all(into_folder(&folder, true), Connector::default(), vec![event]).await;
        assert_eq!(feed.figures().delivered(), 0, "{path:?}");
    }
    assert_eq!(names(&folder, "kept"), [""; 0]);
    assert!(folder.0.join("secret.wav").exists() && folder.0.join("made/passwd").exists());
    assert!(is_finished(&finished("x/a.wav")) && !is_finished(&finished("x/passwd")));
    let mut other = finished("a.wav");
    other.json = other.json.replace("\"name\":\"recorder.finished\"", "\"name\":\"note\"");
    assert!(!is_finished(&other));
}

#[tokio::test]
async fn what_an_earlier_run_left_is_stored_at_the_next_start() {
    let folder = recorded(&["old.wav", "young.wav", "done.wav"]);
    std::fs::write(folder.0.join("made/done.wav.stored"), "").unwrap();
    for name in ["old.wav", "done.wav"] {
        let file = File::options().write(true).open(folder.0.join("made").join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }
    let feed = run_all(into_folder(&folder, true), Connector::default(), Vec::new()).await;
    assert_eq!(names(&folder, "kept"), ["old.wav"], "the young one may still be written to");
    assert_eq!((feed.figures().taken(), feed.figures().delivered()), (1, 1));
    assert_eq!(names(&folder, "made"), ["done.wav", "done.wav.stored", "young.wav"]);
}

#[tokio::test]
async fn a_bucket_is_asked_to_keep_it_with_a_signature() {
    let folder = recorded(&["a.wav"]);
    let mock = Mock::new(vec![reply("200 OK", "etag: \"1\"\r\n", "")]);
    let config = into_bucket(&folder, &mock);
    let feed = run_all(config, mock.connector(), vec![finished("a.wav")]).await;
    assert_eq!(feed.figures().delivered(), 1);
    let asked = mock.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /calls/2026/nov/a.wav HTTP/1.1\r\n"), "{head}");
    let signed = "authorization: AWS4-HMAC-SHA256 Credential=KEYID/";
    assert!(head.contains(signed) && head.contains("/eu-central-1/s3/aws4_request"), "{head}");
    assert!(!head.contains("s3cret"), "{head}");
    assert_eq!(body, "a.wav");
    assert_eq!(names(&folder, "made"), [""; 0]);
}

#[tokio::test]
async fn a_long_recording_goes_in_parts() {
    let folder = recorded(&["longer.wav"]);
    let begun =
        "<InitiateMultipartUploadResult><UploadId>up1</UploadId></InitiateMultipartUploadResult>";
    let ended = "<CompleteMultipartUploadResult><ETag>\"9\"</ETag></CompleteMultipartUploadResult>";
    let part = reply("200 OK", "etag: \"p\"\r\n", "");
    let mock = Mock::new(vec![
        reply("200 OK", "", begun),
        part.clone(),
        part.clone(),
        part,
        reply("200 OK", "", ended),
    ]);
    let (feed, intake) = Feed::new(1);
    feed.put(finished("longer.wav"));
    let connector = Arc::new(mock.connector());
    let mut carrier = Carrier::new(into_bucket(&folder, &mock), connector, 4);
    carrier.carry("longer.wav", &intake, &mut Backoff::default()).await;
    assert_eq!(feed.figures().delivered(), 1);
    let lines: Vec<_> = mock
        .asked()
        .iter()
        .map(|request| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
            (line.replace("/calls/2026/nov/longer.wav", ""), body.to_owned())
        })
        .collect();
    let parts: Vec<_> = lines[1..4].iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(parts, ["long", "er.w", "av"]);
    assert!(lines[0].0.starts_with("POST ?uploads"), "{lines:?}");
    assert!(
        lines[1].0.contains("partNumber=1") && lines[1].0.contains("uploadId=up1"),
        "{lines:?}"
    );
    assert!(
        lines[4].0.starts_with("POST ?uploadId=up1") && lines[4].1.contains("Part"),
        "{lines:?}"
    );
    assert_eq!(names(&folder, "made"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_tried_again_and_nothing_is_deleted() {
    let folder = recorded(&["a.wav"]);
    let mock =
        Mock::new(vec![reply("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>")]);
    let (feed, intake) = Feed::new(10);
    feed.put(finished("a.wav"));
    feed.put(finished("gone.wav"));
    let connector = Arc::new(mock.connector());
    let running = tokio::spawn(run(into_bucket(&folder, &mock), connector, intake));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(feed.figures().retries() >= 3, "{}", feed.figures().retries());
    assert_eq!(names(&folder, "made"), ["a.wav"]);
    mock.answer(reply("200 OK", "etag: \"1\"\r\n", ""));
    feed.close();
    running.await.unwrap();
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Unreadable)), (1, 1));
    assert_eq!(names(&folder, "made"), [""; 0]);
}

#[tokio::test]
async fn a_recording_that_cannot_be_read_is_counted_and_holds_up_no_other() {
    let folder = recorded(&["whole.wav"]);
    // It can be opened, but no octet of it can be read.
    std::fs::create_dir(folder.0.join("made/broken.wav")).unwrap();
    let mock = Mock::new(vec![reply("200 OK", "etag: \"1\"\r\n", "")]);
    let (feed, intake) = Feed::new(10);
    feed.put(finished("broken.wav"));
    feed.put(finished("whole.wav"));
    feed.close();
    run(into_bucket(&folder, &mock), Arc::new(mock.connector()), intake).await;
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Unreadable)), (1, 1));
    assert_eq!(feed.figures().retries(), 0);
}

/// What a bucket was asked: to keep an object of that name, or to delete it.
fn verbs(mock: &Mock) -> Vec<String> {
    let verb = |request: &String| {
        let name = |of: &str, end: &str| {
            let name = of.split_once("2026/nov/").and_then(|(_, rest)| rest.split_once(end));
            name.map_or(String::new(), |(name, _)| name.to_owned())
        };
        let deletes = request.starts_with("POST /calls?delete");
        let name = if deletes { name(request, "<") } else { name(request, " ") };
        format!("{} {name}", if deletes { "DELETE" } else { &request[..3] })
    };
    mock.asked().iter().map(verb).collect()
}

/// A bucket that takes two files, while it takes the second of which this is done, and then answers `last`.
fn taking(deed: impl Fn() + Send + Sync + 'static, last: Vec<Reply>) -> Mock {
    let put = reply("200 OK", "etag: \"1\"\r\n", "");
    let Reply::Octets(octets) = put.clone() else { panic!("it answers") };
    Mock::new([vec![put, Reply::After(Deed::of(deed), octets)], last].concat())
}

/// The same, and the second is deleted here meanwhile.
fn deleting(folder: &Folder, last: Vec<Reply>) -> Mock {
    let path = folder.0.join("made/a.wav");
    taking(move || std::fs::remove_file(&path).unwrap(), last)
}

#[tokio::test]
async fn a_recording_that_is_deleted_while_it_is_stored_does_not_stay_in_the_store() {
    let folder = recorded(&["a.wav", "a.json"]);
    // It was on its way already when it was deleted, and whoever deleted it looked at the store then.
    let deleted = "<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>";
    let mock = deleting(&folder, vec![reply("200 OK", "", deleted)]);
    let config = Recordings { delete_local: false, ..into_bucket(&folder, &mock) };
    let running = run_all(config, mock.connector(), vec![finished("a.wav")]);
    let feed = tokio::time::timeout(Duration::from_secs(60), running).await.unwrap();
    assert_eq!(verbs(&mock), ["PUT a.json", "PUT a.wav", "DELETE a.wav", "DELETE a.json"]);
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Deleted)), (0, 1));
    assert_eq!(feed.figures().waiting(), 0);
    assert_eq!(names(&folder, "made"), ["a.json"], "nothing says that it is stored");
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_is_deleted_before_it_is_stored_again_does_not_stay_in_the_store() {
    let folder = recorded(&["a.wav"]);
    // Nobody knows what the store did before it failed.
    let mock = Mock::new(vec![reply("403 Forbidden", "", "")]);
    let (feed, intake) = Feed::new(10);
    feed.put(finished("a.wav"));
    feed.close();
    let connector = Arc::new(mock.connector());
    let config = Recordings { delete_local: false, ..into_bucket(&folder, &mock) };
    let running = tokio::spawn(run(config, connector, intake));
    while mock.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::remove_file(folder.0.join("made/a.wav")).unwrap();
    mock.answer(reply("404 Not Found", "", ""));
    running.await.unwrap();
    assert_eq!(feed.figures().lost(Lost::Deleted), 1);
    assert!(verbs(&mock).contains(&"DELETE a.wav".to_owned()), "{:?}", verbs(&mock));
}

#[cfg(unix)]
#[tokio::test]
async fn where_recordings_go_once_they_are_stored_none_is_deleted_or_stored_twice_on_its_way() {
    use ringback_recorder::{Removed, look_after, remove};
    let folder = recorded(&["a.wav", "a.json"]);
    let (path, (tell, told)) = (folder.0.join("made/a.wav"), std::sync::mpsc::channel());
    let meanwhile =
        move || tell.send((remove(&path).unwrap(), look_after(&path).unwrap().is_some())).unwrap();
    let mock = taking(meanwhile, Vec::new());
    let feed =
        run_all(into_bucket(&folder, &mock), mock.connector(), vec![finished("a.wav")]).await;
    assert_eq!(told.recv().unwrap(), (Removed::Busy, false));
    assert_eq!((feed.figures().delivered(), names(&folder, "made")), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_deletes_nothing_holds_up_no_other_recording() {
    let folder = recorded(&["a.wav", "a.json"]);
    let mock = deleting(&folder, vec![reply("403 Forbidden", "", "")]);
    let config = Recordings { delete_local: false, ..into_bucket(&folder, &mock) };
    let feed = run_all(config, mock.connector(), vec![finished("a.wav")]).await;
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Deleted)), (0, 1));
    let asked = verbs(&mock).iter().filter(|verb| *verb == "DELETE a.wav").count();
    assert!(asked > MOST_UNDELETED as usize, "{asked}");
}

#[tokio::test]
async fn where_recordings_go_once_they_are_stored_one_that_is_gone_may_be_so_and_stays_stored() {
    let folder = recorded(&["a.wav", "a.json"]);
    let mock = deleting(&folder, Vec::new());
    let feed =
        run_all(into_bucket(&folder, &mock), mock.connector(), vec![finished("a.wav")]).await;
    assert_eq!(verbs(&mock), ["PUT a.json", "PUT a.wav"]);
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Deleted)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn where_recordings_go_once_they_are_stored_one_that_another_bridge_took_is_not_stored_here()
{
    let folder = recorded(&["a.wav", "b.wav"]);
    let path = folder.0.join("made/a.wav");
    // While this bridge waits for its store, another one stores the recording and deletes it.
    let away = |path: PathBuf| move || std::fs::remove_file(&path).unwrap();
    let Reply::Octets(refused) = reply("403 Forbidden", "", "") else { panic!("it answers") };
    let put = reply("200 OK", "etag: \"1\"\r\n", "");
    let mock = Mock::new(vec![Reply::After(Deed::of(away(path)), refused), put]);
    let events = vec![finished("a.wav"), finished("b.wav")];
    let feed = run_all(into_bucket(&folder, &mock), mock.connector(), events).await;
    assert_eq!(verbs(&mock), ["PUT a.wav", "PUT b.wav"], "nothing of it is deleted there");
    let figures = feed.figures();
    assert_eq!((figures.delivered(), figures.lost(Lost::Deleted), figures.waiting()), (1, 1, 0));
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_once_however_often_it_is_found() {
    let folder = recorded(&["a.wav"]);
    let file = File::options().write(true).open(folder.0.join("made/a.wav")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    // What is known of it can be opened, but no octet of it can be read.
    std::fs::create_dir(folder.0.join("made/a.json")).unwrap();
    STARTED.get_or_init(WallTime::now);
    let mut carrier = Carrier::new(into_folder(&folder, false), Arc::default(), PART);
    let (feed, intake) = Feed::new(10);
    let (figures, mut backoff) = (feed.figures(), Backoff::default());
    for _ in 0..3 {
        carrier.sweep(&intake, &mut backoff).await;
    }
    assert_eq!((figures.taken(), figures.lost(Lost::Unreadable)), (1, 1));
    std::fs::remove_dir(folder.0.join("made/a.json")).unwrap();
    for _ in 0..2 {
        carrier.sweep(&intake, &mut backoff).await;
    }
    assert_eq!((figures.taken(), figures.delivered(), figures.lost(Lost::Unreadable)), (2, 1, 1));
    assert_eq!(names(&folder, "kept"), ["a.wav"], "it can be read by now");
}
