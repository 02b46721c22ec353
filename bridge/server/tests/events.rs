//! A whole call whose module is a process of its own, listened to over `/events` while it goes on. Covers no single piece.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its call has failed")]

use std::time::Duration;

use ringback::bridge::Bridge;
use ringback::client::{CallEvent, Client, WsUrl};
use ringback::clock::Clock;
use ringback::config::{Config, Context, Overrides};
use ringback::events::{FollowError, Follower};
use ringback::net::{Listener as _, TcpListener};
use ringback::outgoing::{Connector, Peer};
use ringback::shutdown::Shutdown;
use ringback::workers::Workers;
use ringback_proto::provider::{self, Dial};
use serde_json::{Value, json};

/// A transcriber that hears "sound" in every call, in nothing but the standard library.
const MODULE: &str = r#"
import json, os, struct
stdin, stdout = os.fdopen(0, "rb"), os.fdopen(1, "wb", 0)
said = False

def say(type, slot=1, **fields):
    body = json.dumps({"type": type, **fields}).encode()
    stdout.write(struct.pack("<IBBH", len(body), 0, 0, slot) + body)

say("register", slot=0, module="test", v=[1])
while True:
    head = stdin.read(8)
    if len(head) < 8:
        break
    length, kind, _, slot = struct.unpack("<IBBH", head)
    body = stdin.read(length)
    if kind == 1:
        if not said:
            say("transcript", id="u1", text="sound", final=True, start_ms=0, end_ms=20, confidence=0.5)
        said = True
        continue
    message = json.loads(body)
    if message["type"] == "ping":
        say("pong", slot=slot, t=message["t"])
    elif message["type"] == "start":
        pcm = {"encoding": "pcm_s16le", "rate": 8000}
        say("ready", accept={"in": pcm, "out": pcm, "tracks": [0], "framing": "raw"})
    elif message["type"] == "stop":
        say("transcript", id="u2", text="the end", final=True, start_ms=20, end_ms=40)
        say("done")
"#;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(events: &str) -> Config {
    let text = format!(
        r#"
server = {{ bind = "127.0.0.1:0", events = "{events}" }}
[[module]]
name = "stt"
command = ["python3", "-c", '''{MODULE}''']
[[route]]
name = "default"
modules = ["stt"]
"#
    );
    let context = Context::of_process();
    Config::parse("test.toml", &text, &Overrides::default(), &context).unwrap()
}

/// A bridge on a free port.
struct Rig {
    clock: Clock,
    authority: String,
    shutdown: Shutdown,
    bridge: tokio::task::JoinHandle<ringback::listener::Drained>,
}

impl Rig {
    fn start(events: &str) -> Self {
        let config = config(events);
        let (clock, shutdown) = (Clock::start(), Shutdown::new());
        let listener = TcpListener::bind(config.bind).unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let bridge = Bridge::new(&config, clock, shutdown.clone(), None);
        let bridge =
            tokio::spawn(async move { bridge.run(&config, listener, Workers::here()).await });
        Self { clock, authority, shutdown, bridge }
    }

    fn peer(&self) -> Peer {
        Peer { authority: self.authority.clone(), secure: false }
    }

    async fn call(&self, name: &str) -> Client {
        let url = WsUrl::plain(self.authority.clone(), "/twilio".into());
        let provider = provider::find("twilio").unwrap();
        let dial = Dial { call: name.into(), from: "+15550100002".into(), ..Dial::default() };
        let mut client =
            Client::connect(self.clock, &Connector::default(), &url, provider, dial, false)
                .await
                .unwrap();
        client.speak(&[1_000; 8_000]);
        client
    }

    async fn end(self) {
        self.shutdown.drain();
        let drained = tokio::time::timeout(PATIENCE, self.bridge).await.unwrap().unwrap();
        assert_eq!(drained.cut, 0);
    }
}

/// The next event of that type, while the call goes on.
async fn next(follower: &mut Follower, client: &mut Client, kind: &str) -> Value {
    let heard = async {
        loop {
            tokio::select! {
                event = follower.next() => {
                    let event = event.unwrap().unwrap();
                    if event["type"] == kind {
                        return event;
                    }
                }
                // Without a call it waits: what is left comes from the bridge.
                Some(event) = async { client.next().await.unwrap() } => {
                    assert!(!matches!(event, CallEvent::Closed { .. }), "the bridge ended the call");
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {kind} came"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transcript_is_heard_while_the_call_goes_on_and_its_accounts_after_it() {
    let rig = Rig::start("loopback");
    let mut all = Follower::connect(&Connector::default(), &rig.peer(), None).await.unwrap();
    let mut ours =
        Follower::connect(&Connector::default(), &rig.peer(), Some("CA 7")).await.unwrap();
    let mut nobodys =
        Follower::connect(&Connector::default(), &rig.peer(), Some("another")).await.unwrap();
    let mut client = rig.call("CA 7").await;

    let started = next(&mut all, &mut client, "call.started").await;
    assert_eq!((&started["from"], &started["provider"]), (&json!("+1555***02"), &json!("twilio")));
    let ready = next(&mut ours, &mut client, "module.ready").await;
    assert_eq!((&ready["module"], &ready["call"]), (&json!("stt"), &started["call"]));
    let transcript = next(&mut ours, &mut client, "transcript").await;
    let wanted = json!({
        "call": started["call"], "provider_call": "CA 7", "provider": "twilio", "module": "stt",
        "id": "u1", "text": "sound", "final": true, "start_ms": 0, "end_ms": 20, "confidence": 0.5,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&transcript[key], value, "{key} in {transcript}");
    }
    assert!(transcript["at_ms"].as_u64().is_some_and(|at| at >= 20), "{transcript}");
    assert!(transcript["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{transcript}");
    assert!(!client.phone().is_over(), "it came while the call went on");
    let heard = client.phone().sent_at(Duration::from_millis(20)).unwrap();
    assert!(heard <= rig.clock.now());

    client.hang_up().await.unwrap();
    let last = next(&mut ours, &mut client, "transcript").await;
    assert_eq!(last["text"], "the end", "words after the end of the call are told");
    let ended = next(&mut ours, &mut client, "call.ended").await;
    assert_eq!((&ended["reason"], &ended["balanced"]), (&json!("remote"), &json!(true)));
    assert_eq!(ended["modules"][0]["results"], 2);

    rig.end().await;
    assert_eq!(ours.next().await.unwrap(), None, "the stream ends with the server");
    assert_eq!(nobodys.next().await.unwrap(), None, "of another call nothing was to be told");
}

#[tokio::test]
async fn events_that_are_off_are_not_there() {
    let rig = Rig::start("off");
    match Follower::connect(&Connector::default(), &rig.peer(), None).await {
        Err(error @ FollowError::Refused { status: 404 }) => {
            assert!(error.to_string().contains("`events` under [server]"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let peer = rig.peer();
    rig.end().await;
    let gone = Follower::connect(&Connector::default(), &peer, None).await;
    assert!(matches!(gone, Err(FollowError::Connect(_))), "{gone:?}");
}
