//! Calls over sockets whose events end in all kinds of sinks at once. Covers no single sink.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its call has failed")]

mod support;

use std::process::Command;
use std::sync::{Arc, Mutex};

use ringback_proto::provider::{Dial, find};
use serde_json::Value;
use support::{Caller, Folder, Host, PATIENCE, PYTHON, quoted, root, run, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A transcriber that hears "sound" in every call.
const MODULE: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import ringback

class Ears(ringback.Module):
    name, rate = "ears", 8000

    def on_start(self, s):
        s.said = False

    def on_audio(self, s, pcm):
        if not s.said:
            s.transcript("grün", start_ms=0, end_ms=20)
        s.said = True

    def on_stop(self, s):
        s.transcript("the end", start_ms=20, end_ms=40)

ringback.run(Ears)
"#;

/// An HTTP server that takes everything; the bodies that came.
async fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/calls", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let body = loop {
                    if let Some(body) = body(&request) {
                        break body;
                    }
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "half a request");
                };
                taken.lock().unwrap().push(body);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            });
        }
    });
    (url, bodies)
}

/// The body of a request, if all of it came.
fn body(request: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() >= length.parse().unwrap()).then(|| serde_json::from_str(body).unwrap())
}

/// What is said in events, in order.
fn words(events: &[Value]) -> Vec<&str> {
    let said = events.iter().filter(|event| event["type"] == "transcript");
    said.map(|event| event["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calls_transcript_ends_in_all_kinds_of_sinks() {
    let folder = Folder::new("sinks");
    let script = quoted(folder.write("ears.py", MODULE).display());
    let sdk = quoted(root().join("compute-modules/python/src").display());
    let (url, told) = receiver().await;
    let file = quoted(folder.path("{date}/{listener}.jsonl").display());
    let (recordings, database) = (folder.path("recordings"), folder.path("calls.db"));
    let (recordings, database) = (quoted(recordings.display()), quoted(database.display()));
    let mut more = String::new();
    if cfg!(feature = "sql") {
        more +=
            &format!("[[sink]]\nname = \"db\"\nkind = \"sqlite\"\nall = true\npath = {database}\n");
    }
    if cfg!(feature = "object-store") {
        let url = quoted(format!("file://{}", folder.path("archive").display()));
        more += &format!(
            "[[sink]]\nname = \"archive\"\nkind = \"object_store\"\nall = true\nurl = {url}\ndir = {recordings}\ndelete_local = true\n"
        );
    }
    let host = Host::on_loopback(&format!(
        "[[listener]]\nname = \"phone\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"ears\"\ncommand = [\"{PYTHON}\", {script}, {sdk}]\n\
         [[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {recordings} }}\n\
         [[route]]\nname = \"default\"\nmodules = [\"ears\", \"recorder\"]\n\
         [[sink]]\nname = \"lines\"\nkind = \"jsonl\"\nall = true\npath = {file}\n\
         [[sink]]\nname = \"hook\"\nkind = \"webhook\"\nall = true\nurl = \"{url}\"\ninsecure = true\n{more}"
    ));
    let dial = Dial { target: "/raw?call=CA7".into(), ..Dial::default() };
    let stream = host.connect().await;
    let provider = find("raw").unwrap();
    let mut caller = Caller::dial(host.clock, stream, provider, &dial, &[]).await.unwrap();
    caller.in_step = false;
    caller.speak(&[1_000; 1_600]).await;
    soon("a transcript", async {
        while !caller.results.iter().any(|result| result.contains("grün")) {
            caller.pause(1).await;
        }
    })
    .await;
    caller.hang_up().await;
    host.log.ended_alone().await;
    host.stop().await;

    let mut days: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().flatten().collect();
    days.retain(|entry| entry.path().join("phone.jsonl").exists());
    let text = std::fs::read_to_string(days[0].path().join("phone.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(words(&lines), ["grün", "the end"]);
    assert_eq!(lines[0]["type"], "call.started");
    let ended = lines.last().unwrap();
    assert_eq!((&ended["type"], &ended["balanced"]), (&"call.ended".into(), &true.into()));
    assert!(!ended["ledger"].as_array().unwrap().is_empty());
    let data: Vec<_> =
        told.lock().unwrap().iter().map(|event: &Value| event["data"].clone()).collect();
    assert_eq!(data, lines, "both were told the same in the same order");
    #[cfg(feature = "sql")]
    {
        use sqlx::{ConnectOptions as _, Row as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path("calls.db"));
        let mut database = options.connect().await.unwrap();
        let question = "SELECT text, reason FROM transcripts JOIN calls USING (source, call) ORDER BY event_id";
        let rows = sqlx::query(question).fetch_all(&mut database).await.unwrap();
        let told = rows.iter().map(|row| (row.get::<String, _>(0), row.get::<String, _>(1)));
        let wanted = [("grün", "remote"), ("the end", "remote")];
        assert!(told.eq(wanted.map(|(text, reason)| (text.to_owned(), reason.to_owned()))));
    }
    if cfg!(feature = "object-store") {
        let kept = std::fs::read_dir(folder.path("archive")).unwrap();
        let mut kept: Vec<_> = kept.map(|entry| entry.unwrap().path()).collect();
        kept.sort();
        let [about, recording] = kept.as_slice() else { panic!("{kept:?}") };
        assert_eq!(support::read_wav(recording).channels, 2, "the recording was moved");
        let about: Value = serde_json::from_slice(&std::fs::read(about).unwrap()).unwrap();
        assert_eq!((&about["provider"], &about["state"]), (&"raw".into(), &"finished".into()));
        assert_eq!(std::fs::read_dir(folder.path("recordings")).unwrap().count(), 0);
    }
}

#[test]
fn the_example_tells_when_a_recording_is_there() {
    let mut command = Command::new(root().join("examples/recorder-webhook/run"));
    command.env("RINGBACK", env!("CARGO_BIN_EXE_ringback"));
    let ended = run(&mut command, PATIENCE);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let told: Vec<_> = ended.stdout.lines().collect();
    let [line] = told.as_slice() else { panic!("one recording, one line: {told:?}") };
    let (call, path) = line.split_once(" s in recordings/").expect(line);
    let (call, seconds) = call.strip_prefix("call/").unwrap().split_once(": ").unwrap();
    assert!(path.starts_with(call) && path.ends_with(".wav"), "{line}");
    let seconds: f64 = seconds.parse().unwrap();
    assert!((2.0..10.0).contains(&seconds), "{line}");
}
