//! Workers acted out in memory, and what only modules that dial in can meet: who gets the call, who is let in, who goes. In virtual
//! time.

use std::net::SocketAddr;

use ringback_proto::provider::{Message, OutgoingUpgrade, Secret, Upgrade};
use tokio::task::JoinHandle;

use super::served::Acted;
use super::*;
use crate::listener::{Entry, Limits, Pages, Refusal, Server, Streams};
use crate::net::{MemoryConnector, memory};
use crate::shutdown::Shutdown;
use crate::socket::{self, DialError, Incoming, Outgoing, Socket, SocketOptions, close_code};
use crate::workers::Workers;

/// Lets modules in, and no streams.
struct Doorman(Rosters);

impl Streams for Doorman {
    type Admitted = ();

    fn is_door(&self, path: &str) -> bool {
        self.0.is_door(path)
    }

    fn enter(&self, upgrade: &Upgrade<'_>, peer: SocketAddr) -> Result<Entry, Refusal> {
        self.0.enter(upgrade, peer)
    }

    async fn serve(&self, (): (), _: Socket) {}
}

/// A server where workers of the module `m` dial in.
pub(super) struct Bridge {
    rosters: Rosters,
    connector: MemoryConnector,
    shutdown: Shutdown,
    config: RosterConfig,
}

/// A worker, by its connection.
struct Line {
    control: Socket,
    connector: MemoryConnector,
    mode: &'static str,
}

fn options() -> SocketOptions {
    SocketOptions { max_message: 1 << 20, keepalive: None, burst: u64::MAX, ..Default::default() }
}

async fn dial(
    connector: &MemoryConnector,
    path: &str,
    subprotocol: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, DialError> {
    let io = connector.connect().await.unwrap();
    let request = OutgoingUpgrade {
        target: path.into(),
        headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        subprotocols: vec![subprotocol.into()],
    };
    socket::dial(io, "localhost", &request, options()).await
}

impl Bridge {
    pub(super) fn new() -> Self {
        Self::with(RosterConfig { tokens: Vec::new(), max_workers: 4, max_waiting: 2 })
    }

    fn with(config: RosterConfig) -> Self {
        let (listener, connector) = memory(64 * 1024);
        let shutdown = Shutdown::new();
        let rosters = Rosters::new(shutdown.clone());
        let other = RosterConfig { tokens: vec![("x".into(), "other".into())], ..config.clone() };
        rosters.apply("/modules", [("m", &config), ("other", &other)]);
        let (limits, pages) = (Limits::default(), Pages::default());
        let streams = Arc::new(Doorman(rosters.clone()));
        let (routes, workers) = (rosters.routes(), Workers::here());
        let server =
            Server::new(streams, Vec::new(), limits, pages, routes, shutdown.clone(), workers);
        tokio::spawn(server.run(listener));
        Self { rosters, connector, shutdown, config }
    }

    pub(super) fn spec(&self) -> WorkerSpec {
        WorkerSpec { name: "m".into(), roster: self.rosters.roster("m") }
    }

    fn session(&self) -> Hosted {
        spawn_worker(self.spec(), start())
    }

    /// A worker that does as the mode says, for as long as the test.
    pub(super) fn worker(&self, mode: &'static str, max_sessions: u32) -> JoinHandle<()> {
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let mut line = Line::dial(connector, mode, max_sessions).await;
            while line.once().await {}
        })
    }

    /// The same, once it is registered; and what it says next is up to the test.
    async fn line(&self, mode: &'static str, max_sessions: u32) -> Line {
        Line::dial(self.connector.clone(), mode, max_sessions).await
    }

    fn overview(&self) -> Value {
        self.rosters.overview()["modules"][0].clone()
    }

    fn sessions(&self) -> Vec<u64> {
        let overview = self.overview();
        let workers = overview["workers"].as_array().unwrap();
        workers.iter().map(|worker| worker["sessions"].as_u64().unwrap()).collect()
    }
}

impl Line {
    async fn dial(connector: MemoryConnector, mode: &'static str, max_sessions: u32) -> Self {
        let control = dial(&connector, "/modules/m", "ringback.v1.worker", &[]).await.unwrap();
        let mut line = Self { control, connector, mode };
        line.say(
            json!({"type": "register", "module": mode, "v": [1], "max_sessions": max_sessions}),
        )
        .await;
        assert_eq!(line.heard().await["type"], "registered");
        line
    }

    async fn say(&mut self, message: Value) {
        self.control.send(Outgoing::Text(&message.to_string())).await.unwrap();
    }

    /// The next message; null when the bridge closes.
    async fn heard(&mut self) -> Value {
        loop {
            match self.control.recv().await {
                Some(Ok(came @ Incoming::Message(_))) => match self.control.message(&came) {
                    Some(Message::Text(text)) => return serde_json::from_str(text).unwrap(),
                    _ => panic!("no text"),
                },
                Some(Ok(Incoming::Close(Some(closed)))) => return json!(closed.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Value::Null,
            }
        }
    }

    async fn open(&mut self, ticket: &str) -> Result<Socket, DialError> {
        let bearer = format!("Bearer {ticket}");
        dial(&self.connector, "/modules/m", "ringback.v1", &[("authorization", &bearer)]).await
    }

    /// Obeys one message; false at the end.
    async fn once(&mut self) -> bool {
        let heard = self.heard().await;
        match heard["type"].as_str() {
            Some("open") => {
                let socket = self.open(heard["ticket"].as_str().unwrap()).await.unwrap();
                tokio::spawn(Acted { mode: self.mode, side: socket }.run());
                true
            }
            Some("ping") => {
                self.say(json!({"type": "pong", "t": heard["t"]})).await;
                true
            }
            _ => false,
        }
    }

    /// Obeys until nothing is asked for any more.
    async fn settle(&mut self) {
        while let Ok(true) = timeout(Duration::from_secs(1), self.once()).await {}
    }
}

async fn gone(hosted: &mut Hosted) -> String {
    match next(hosted).await {
        FromHost::Gone { reason: Some(reason) } => reason,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_busy_worker_gets_the_session() {
    let bridge = Bridge::new();
    let (mut one, mut two) = (bridge.line("good", 4).await, bridge.line("good", 2).await);
    one.settle().await;
    two.settle().await;
    let mut held = Vec::new();
    // By share of their places: none, 1/4 and 0/2, 1/4 and 1/2, 2/4 and 1/2 (and the second one's turn), 2/4 and 2/2.
    for expected in [[1, 0], [1, 1], [2, 1], [2, 2], [3, 2]] {
        let mut hosted = bridge.session();
        one.settle().await;
        two.settle().await;
        ready(&mut hosted, Value::Null).await;
        held.push(hosted);
        assert_eq!(bridge.sessions(), expected);
    }
    held.clear();
    one.settle().await;
    two.settle().await;
    assert_eq!(bridge.sessions(), [0, 0]);
    // By what they report, however many sessions they have.
    one.say(json!({"type": "load", "load": 0.9})).await;
    two.say(json!({"type": "load", "load": 0.2})).await;
    one.settle().await;
    two.settle().await;
    let mut hosted = bridge.session();
    ready(&mut hosted, Value::Null).await;
    assert_eq!(bridge.sessions(), [0, 1]);
    // A report is as old as the sessions that were begun since: 0.2 and one of two places are 0.7, then 1.2.
    one.say(json!({"type": "load", "load": 0.6})).await;
    one.settle().await;
    two.settle().await;
    let mut other = bridge.session();
    ready(&mut other, Value::Null).await;
    assert_eq!(bridge.sessions(), [1, 1]);
    // Sessions that it has from elsewhere take its places.
    one.say(json!({"type": "load", "load": 0.0, "sessions": 4})).await;
    one.settle().await;
    two.settle().await;
    assert_eq!(bridge.overview()["workers"][0]["elsewhere"], 3);
    let mut third = bridge.session();
    ready(&mut third, Value::Null).await;
    assert_eq!(bridge.sessions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_a_worker_and_fails_by_name_if_none_comes() {
    let bridge = Bridge::new();
    let mut early = bridge.session();
    tokio::time::sleep(Duration::from_secs(15)).await;
    bridge.worker("good", 1);
    ready(&mut early, Value::Null).await;

    // Its one place is taken: two may wait, and a third may not.
    let (mut second, mut third) = (bridge.session(), bridge.session());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bridge.overview()["waiting"], 2);
    let reason = gone(&mut bridge.session()).await;
    assert!(reason.contains("2 sessions wait for one already"), "{reason}");
    // First come, first served.
    drop(early);
    ready(&mut second, Value::Null).await;
    assert_eq!(gone(&mut third).await, "its one worker has no place");
    let nobody = Bridge::new();
    let reason = gone(&mut nobody.session()).await;
    assert_eq!(reason, "no worker has dialled in");
    // What is called off does not wait on.
    let mut stopped = nobody.session();
    stopped.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut stopped).await, FromHost::Gone { reason: None });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(nobody.overview()["waiting"], 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_or_opens_nothing_or_is_not_ready_is_passed_over() {
    for mode in ["busy", "late", "no connection"] {
        let bridge = Bridge::new();
        let mut bad = bridge.line(mode, 100).await;
        if mode != "no connection" {
            bad.settle().await;
            tokio::spawn(async move { while bad.once().await {} });
        } else {
            tokio::spawn(async move { while !bad.heard().await.is_null() {} });
        }
        let mut good = bridge.line("good", 4).await;
        good.say(json!({"type": "load", "load": 0.5})).await;
        good.settle().await;
        tokio::spawn(async move { while good.once().await {} });
        let mut hosted = bridge.session();
        ready(&mut hosted, Value::Null).await;
        assert_eq!(bridge.sessions(), [0, 1], "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_is_replaced_by_another() {
    let bridge = Bridge::new();
    bridge.worker("crash", 1);
    let mut hosted = bridge.session();
    ready(&mut hosted, Value::Null).await;
    bridge.worker("good", 1);
    hosted.try_send(audio(0, &[1])).unwrap();
    let reason = restarting(&mut hosted).await;
    assert!(reason.starts_with("worker local#1: "), "{reason}");
    assert_eq!(next(&mut hosted).await, FromHost::NeedStart);
    let mut again = start();
    again.resume = Some(Resume { token: None, from_ms: 40, epoch: 3 });
    hosted.try_send(ToHost::Start(Box::new(again))).unwrap();
    ready(&mut hosted, json!({"from_ms": 40, "epoch": 3})).await;
    assert_eq!(bridge.sessions(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_ends_what_it_has_and_gets_no_more() {
    let bridge = Bridge::new();
    let (mut one, mut two) = (bridge.line("good", 3).await, bridge.line("good", 3).await);
    one.settle().await;
    two.settle().await;
    let mut kept = bridge.session();
    ready(&mut kept, Value::Null).await;
    assert_eq!(bridge.sessions(), [1, 0]);
    one.say(json!({"type": "going_away", "in_ms": 30_000})).await;
    one.settle().await;
    assert_eq!(bridge.overview()["workers"][0]["idle_connections"], 0);
    for expected in [1, 2] {
        let mut hosted = bridge.session();
        two.settle().await;
        ready(&mut hosted, Value::Null).await;
        assert_eq!(bridge.sessions(), [1, expected]);
        std::mem::forget(hosted);
    }
    // Both go: who comes now waits, and what goes on goes on, even when the worker's own connection is gone.
    two.say(json!({"type": "going_away", "in_ms": 30_000})).await;
    two.settle().await;
    drop(one);
    let mut waits = bridge.session();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bridge.overview()["waiting"], 1);
    kept.try_send(audio(0, &[7])).unwrap();
    let echo = FromHost::Audio { epoch: None, samples: vec![7] };
    assert_eq!(next(&mut kept).await, echo);
    kept.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut kept).await, event("stopping", json!("hangup")));
    bridge.worker("good", 1);
    ready(&mut waits, Value::Null).await;
}

#[tokio::test(start_paused = true)]
async fn only_who_has_a_token_or_a_ticket_comes_in() {
    let tokens = vec![("a".into(), Secret::from("s3cret")), ("b".into(), Secret::from("t0ken"))];
    let bridge = Bridge::with(RosterConfig { tokens, max_workers: 4, max_waiting: 1 });
    let refused =
        async |path: &str, subprotocol: &str, headers: &[(&'static str, &str)]| match dial(
            &bridge.connector,
            path,
            subprotocol,
            headers,
        )
        .await
        {
            Err(DialError::Refused { status, body, .. }) => {
                assert!(!body.contains("s3cret") && !body.contains("`tokens`"), "{body}");
                status
            }
            Ok(_) => 101,
            Err(error) => panic!("{error}"),
        };
    let worker = "ringback.v1.worker";
    for (status, authorization) in [
        (101, "Bearer s3cret"),
        (101, "bearer t0ken"),
        (401, "Bearer wrong"),
        (401, "Bearer s3cre"),
        (401, "Bearer "),
        (401, "Basic s3cret"),
        (403, "Bearer other"),
    ] {
        let got = refused("/modules/m", worker, &[("authorization", authorization)]).await;
        assert_eq!(got, status, "{authorization}");
    }
    assert_eq!(refused("/modules/m", worker, &[]).await, 401);
    let web = [("authorization", "Bearer s3cret"), ("origin", "https://example.com")];
    assert_eq!(refused("/modules/m", worker, &web).await, 403);
    // A token is no ticket, and what is neither is nobody.
    let right = [("authorization", "Bearer s3cret")];
    assert_eq!(refused("/modules/m", "ringback.v1", &right).await, 401);
    assert_eq!(refused("/modules/m", "chat", &right).await, 400);
    for path in ["/modules", "/modules/", "/modules/m/x", "/modules/nobody", "/m"] {
        assert_eq!(refused(path, worker, &right).await, 404, "{path}");
    }
    // Without tokens, whoever is passed on by a proxy is not of this machine.
    let open = Bridge::new();
    for (field, expected) in [(None, None), (Some(("x-forwarded-for", "192.0.2.7")), Some(403))] {
        let headers: Vec<_> = field.into_iter().collect();
        let status = match dial(&open.connector, "/modules/m", worker, &headers).await {
            Err(DialError::Refused { status, .. }) => Some(status),
            _ => None,
        };
        assert_eq!(status, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_opens_once_and_not_for_long() {
    let bridge = Bridge::new();
    let mut line = bridge.line("good", 2).await;
    let (first, second) = (line.heard().await, line.heard().await);
    let ticket = |open: &Value| open["ticket"].as_str().unwrap().to_owned();
    assert_ne!(ticket(&first), ticket(&second));
    let _kept = line.open(&ticket(&first)).await.unwrap();
    let refused = |opened: Result<Socket, DialError>| match opened {
        Err(DialError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(line.open(&ticket(&first)).await), 401);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(refused(line.open(&ticket(&second)).await), 401);
    // What did not come is asked for again.
    let third = loop {
        let heard = line.heard().await;
        if heard["type"] == "open" {
            break ticket(&heard);
        }
        line.say(json!({"type": "pong", "t": heard["t"]})).await;
    };
    assert!(line.open(&third).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_session_is_kept_alive_and_replaced_when_it_is_cut() {
    let bridge = Bridge::new();
    let mut line = bridge.line("good", 1).await;
    let open = line.heard().await;
    let mut idle = line.open(open["ticket"].as_str().unwrap()).await.unwrap();
    tokio::spawn(async move { while line.once().await {} });
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(matches!(idle.recv().await, Some(Ok(Incoming::Ping))));
    }
    // Nothing is said on it before `start`.
    idle.send(Outgoing::Text("{\"type\":\"ready\"}")).await.unwrap();
    loop {
        match idle.recv().await {
            Some(Ok(Incoming::Close(Some(closed)))) => break assert_eq!(closed.code, 4002),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    ready(&mut bridge.session(), Value::Null).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_says_nothing_or_nonsense_is_let_go() {
    let bridge = Bridge::new();
    let register = r#"{"type":"register","module":"x","v":[1]}"#;
    for (messages, code) in [
        (vec![], 4008),
        (vec!["hello"], 4002),
        (vec![r#"{"type":"load"}"#], 4002),
        (vec![r#"{"type":"register","module":"x","v":[9]}"#], 4002),
        // It registers, and answers no ping.
        (vec![register], 4008),
        (vec![register, "[]"], 4002),
    ] {
        let mut control =
            dial(&bridge.connector, "/modules/m", "ringback.v1.worker", &[]).await.unwrap();
        for message in &messages {
            control.send(Outgoing::Text(message)).await.unwrap();
        }
        let closed = timeout(PATIENCE, async {
            loop {
                if let Some(Ok(Incoming::Close(Some(closed)))) = control.recv().await {
                    return closed.code;
                }
            }
        });
        assert_eq!(closed.await, Ok(code), "{messages:?}");
        drop(control);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bridge.overview()["workers"], json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_workers_than_allowed_and_none_whose_token_was_taken_away() {
    let bridge = Bridge::new();
    let mut lines = Vec::new();
    for _ in 0..4 {
        lines.push(bridge.line("good", 1).await);
    }
    let mut fifth = dial(&bridge.connector, "/modules/m", "ringback.v1.worker", &[]).await.unwrap();
    let register = r#"{"type":"register","module":"x"}"#;
    fifth.send(Outgoing::Text(register)).await.unwrap();
    let Some(Ok(Incoming::Close(Some(closed)))) = fifth.recv().await else { panic!() };
    assert_eq!((closed.code, closed.reason.contains("max_workers")), (4029, true));
    // Tokens are wanted from now on, and these have none.
    let tokens = vec![("a".into(), Secret::from("s3cret"))];
    let config = RosterConfig { tokens, ..bridge.config.clone() };
    bridge.rosters.apply("/modules", [("m", &config)]);
    for line in &mut lines {
        while line.heard().await["type"] == "open" {}
    }
    assert_eq!(bridge.overview()["workers"], json!([]));
    assert!(bridge.rosters.is_door("/modules/m") && !bridge.rosters.is_door("/modules/other"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_bridge_is_told() {
    let bridge = Bridge::new();
    let mut line = bridge.line("good", 1).await;
    line.settle().await;
    bridge.shutdown.cut();
    assert_eq!(line.heard().await, json!(close_code::GOING_AWAY));
}
