//! Databases: SQLite in a file, and PostgreSQL where its programs are. Tables, batches, repetitions, and what goes away.

mod postgres;

use ringback_proto::provider::Secret;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::events::EventKind;
use crate::sink::testing::{Feed, Folder, event};

use super::*;

fn sqlite(folder: &Folder) -> Sql {
    let database = Database::Sqlite { path: folder.path("deep/calls.db").into() };
    Sql { database, source: "/ringback".into() }
}

/// An event with these members beside those that all have.
fn with(n: u64, kind: EventKind, members: &str) -> Event {
    let mut event = event("c1", n, kind);
    let Event { id, at, .. } = &event;
    event.json = format!(
        r#"{{"event_id":"{id}","listener":"twilio","route":"default","at":"{at}","at_ms":{n},"call":"c1","provider_call":"CA1","provider":"twilio",{members}}}"#
    );
    event
}

/// A call with something for every table.
fn call() -> Vec<Event> {
    vec![
        with(1, EventKind::CallStarted, r#""type":"call.started","from":"+1555***02","to":"***""#),
        with(2, EventKind::ModuleReady, r#""module":"stt","type":"module.ready""#),
        with(
            3,
            EventKind::TranscriptFinal,
            r#""module":"stt","type":"transcript","id":"u1","track":0,"text":"gr\u00fc\u00df 'dich'\u0000\\u0000","final":true,"start_ms":20,"end_ms":900,"confidence":0.5,"language":"de","words":[{"w":"x","s":1,"e":2}]"#,
        ),
        with(
            4,
            EventKind::TranscriptPartial,
            r#""type":"transcript","id":"u2","track":1,"text":"no","final":false,"start_ms":0,"end_ms":0"#,
        ),
        with(5, EventKind::Dtmf, r##""type":"dtmf","digit":"#","track":0"##),
        with(
            6,
            EventKind::Event,
            r#""module":"bot","type":"event","name":"order","data":{"n":[1,2]}"#,
        ),
        with(
            7,
            EventKind::Error,
            r#""module":"bot","type":"error","code":"x","message":"y","fatal":false"#,
        ),
        with(
            8,
            EventKind::CallEnded,
            r#""type":"call.ended","reason":"remote","detail":"hung up","duration_ms":5000,"heard_ms":4000,"played_ms":3000,"balanced":true,"ledger":[]"#,
        ),
    ]
}

/// What is asked of both databases, and their answers: one text column.
const QUESTIONS: [(&str, &[&str]); 6] = [
    (
        "SELECT source || ' ' || call || ' ' || provider || ' ' || provider_call || ' ' || listener || ' ' || route || ' ' || caller || ' ' || callee || ' ' || reason || ' ' || detail || ' ' || CAST(duration_ms + heard_ms + played_ms AS text) FROM calls",
        &["/ringback c1 twilio CA1 twilio default +1555***02 *** remote hung up 12000"],
    ),
    (
        "SELECT event_id || ' ' || coalesce(module, '-') || ' ' || utterance || ' ' || CAST(track AS text) || ' ' || CAST(start_ms AS text) || ' ' || CAST(end_ms AS text) || ' ' || coalesce(language, '-') FROM transcripts ORDER BY event_id",
        &["c1-3 stt u1 0 20 900 de", "c1-4 - u2 1 0 0 -"],
    ),
    (
        "SELECT CAST(confidence AS text) || CASE WHEN final THEN ' final' ELSE ' not' END FROM transcripts WHERE call = 'c1' AND words IS NOT NULL",
        &["0.5 final"],
    ),
    (
        "SELECT event_id || ' ' || coalesce(module, '-') || ' ' || type || ' ' || coalesce(name, '-') || ' ' || coalesce(data -> 'data' ->> 'n', data ->> 'digit') FROM results ORDER BY event_id",
        &["c1-5 - dtmf - #", "c1-6 bot event order [1,2]"],
    ),
    (
        "SELECT event_id || ' ' || type FROM events ORDER BY event_id",
        &["c1-1 call.started", "c1-2 module.ready", "c1-7 error", "c1-8 call.ended"],
    ),
    (
        "SELECT CASE WHEN started_at = ended_at AND balanced THEN summary ->> 'reason' END FROM calls",
        &["remote"],
    ),
];

async fn run_all(config: Sql, events: impl IntoIterator<Item = Event>) -> Feed {
    let (feed, intake) = Feed::new(10_000);
    events.into_iter().for_each(|event| feed.put(event));
    feed.close();
    tokio::time::timeout(Duration::from_secs(60), run(config, intake)).await.unwrap();
    feed
}

async fn ask_sqlite(folder: &Folder, question: &str) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(folder.path("deep/calls.db"));
    let mut connection = options.connect().await.unwrap();
    let rows: Vec<SqliteRow> = sqlx::query(question).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

#[tokio::test]
async fn a_call_fills_the_tables_of_sqlite_once_however_often_it_comes() {
    let folder = Folder::new("sqlite");
    for _ in 0..2 {
        let feed = run_all(sqlite(&folder), call()).await;
        assert_eq!((feed.figures().delivered(), feed.figures().retries()), (8, 0));
    }
    for (question, answers) in QUESTIONS {
        let answer = ask_sqlite(&folder, question).await;
        // Spaces within JSON are the database's business.
        let answer: Vec<_> = answer.iter().map(|line| line.replace("1, 2", "1,2")).collect();
        assert_eq!(answer, answers, "{question}");
    }
    let another = Sql { source: "/another".into(), ..sqlite(&folder) };
    run_all(another, call()).await;
    let count = ask_sqlite(&folder, "SELECT CAST(count(*) AS text) FROM events").await;
    assert_eq!(count, ["8"], "of another bridge, the same names are other events");

    let calls = std::collections::BTreeSet::from(["c1".to_owned(), "c9".to_owned()]);
    assert_eq!(
        erase(&sqlite(&folder), &calls).await.unwrap(),
        9,
        "a row of a call and of each event"
    );
    let count = ask_sqlite(&folder, "SELECT CAST(count(*) AS text) FROM events").await;
    assert_eq!(count, ["4"], "the other bridge's");
    assert_eq!(erase(&sqlite(&folder), &calls).await.unwrap(), 0);
}

#[tokio::test]
async fn many_events_are_written_in_order_and_in_few_transactions() {
    let folder = Folder::new("sqlite-many");
    let dtmf = |n| with(n, EventKind::Dtmf, r#""type":"dtmf","digit":"1""#);
    let feed = run_all(sqlite(&folder), (1..=2_000).map(dtmf)).await;
    assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (2_000, 0));
    let question = "SELECT CAST(count(DISTINCT at_ms) AS text) FROM results";
    assert_eq!(ask_sqlite(&folder, question).await, ["2000"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_is_for_nobody_elses_eyes() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("sqlite-mode");
    run_all(sqlite(&folder), call()).await;
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path("deep/calls.db")), 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_tried_again_while_the_oldest_give_way() {
    let folder = Folder::new("sqlite-away");
    std::fs::write(folder.0.join("deep"), "a file where the folder should be").unwrap();
    let (feed, intake) = Feed::new(3);
    let running = tokio::spawn(run(sqlite(&folder), intake));
    feed.put(with(1, EventKind::Dtmf, r#""type":"dtmf""#));
    tokio::time::sleep(Duration::from_secs(30)).await;
    (2..=6).for_each(|n| feed.put(with(n, EventKind::Dtmf, r#""type":"dtmf""#)));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Overflow)), (0, 2));
    assert!(feed.figures().retries() >= 4, "{}", feed.figures().retries());
    std::fs::remove_file(folder.0.join("deep")).unwrap();
    feed.close();
    // SQLite works on a thread of its own, which tokio's clock does not wait for: while something blocks, time stands still.
    let (done, hold) = std::sync::mpsc::channel::<()>();
    let holding = tokio::task::spawn_blocking(move || hold.recv());
    tokio::time::advance(Duration::from_secs(60)).await;
    running.await.unwrap();
    assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (4, 0));
    let ids = ask_sqlite(&folder, "SELECT event_id FROM results ORDER BY event_id").await;
    assert_eq!(ids, ["c1-1", "c1-4", "c1-5", "c1-6"]);
    drop(done);
    holding.await.unwrap().unwrap_err();
}

#[test]
fn a_character_that_a_database_cannot_hold_is_replaced_and_no_other() {
    for (json, wanted) in [
        (r#""plain""#, r#""plain""#),
        (r#""a\u0000b""#, r#""a\ufffdb""#),
        (r#""\\u0000\u0000\n\u00fc""#, r#""\\u0000\ufffd\n\u00fc""#),
        (r#""\\\u0000""#, r#""\\\ufffd""#),
    ] {
        assert_eq!(without_nul(json), wanted);
    }
}

#[test]
fn a_url_is_checked_and_never_told() {
    let url = |text: &str| check(&Database::Postgres { url: Secret::from(text) });
    assert_eq!(url("postgres://user:s3cret@db.example.com:5433/calls?sslmode=verify-full"), Ok(()));
    assert_eq!(url("postgresql:///calls?host=/run/postgresql"), Ok(()));
    for wrong in ["mysql://user:s3cret@db/calls", "s3cret", "postgres://s3cret@db:port/x"] {
        let told = url(wrong).unwrap_err();
        assert!(told.contains("sslmode=verify-full") && !told.contains("s3cret"), "{told}");
    }
    let config = Sql {
        database: Database::Postgres { url: Secret::from("postgres://u:s3cret@db/x") },
        source: "/".into(),
    };
    let printed = format!("{config:?} {}", crate::sink::SinkKind::Sql(config.clone()));
    assert!(!printed.contains("s3cret") && printed.ends_with("PostgreSQL"), "{printed}");
}

/// Rows of two calls in turn, so that pages are split and rows are moved from one to another.
#[tokio::test]
async fn nothing_is_left_in_the_file_of_a_call_that_was_deleted() {
    let folder = Folder::new("sqlite-erased");
    let of = |call: &str, n: u64| {
        let text = call.repeat(n as usize * 37 % 90 + 5);
        let members =
            format!(r#""module":"bot","type":"event","name":"note","data":{{"text":"{text}"}}"#);
        let event = with(n, EventKind::Event, &members);
        let json = event.json.replace("\"c1", &format!("\"{call}"));
        Event { id: event.id.replace("c1", call), call: call.into(), json, ..event }
    };
    for n in 0..40 {
        run_all(sqlite(&folder), [of("theirs", n), of("others", n)]).await;
    }
    let having = |text: &str| {
        let file = std::fs::read(folder.path("deep/calls.db")).unwrap();
        file.windows(text.len()).filter(|found| *found == text.as_bytes()).count()
    };
    assert!(having("theirs") > 40 && having("others") > 40);
    let gone = erase(&sqlite(&folder), &["theirs".to_owned()].into()).await.unwrap();
    assert!(gone >= 40, "{gone}");
    assert_eq!(having("theirs"), 0);
    assert!(having("others") > 40);
}
