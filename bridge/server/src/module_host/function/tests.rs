//! Every rule of the clients' protocol and what results mean to a call, with a client that is acted out octet by octet, in virtual time.

mod programs;
mod protocol;
mod sessions;
pub(in super::super) mod situations;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::board::{Job, Outcome, Values};
use super::*;
use crate::config::{TextResult, Trigger};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(3_600);
const TOKEN: &str = "tok-123";

fn config() -> FunctionConfig {
    let on = Trigger::ALL.map(|trigger| (trigger, format!("on_{}", trigger.name())));
    FunctionConfig {
        command: Vec::new(),
        surroundings: crate::module_host::Surroundings::default(),
        on: BTreeMap::from(on),
        replicas: 1,
        concurrency: 1,
        max_queued: 3,
        job_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(10),
        end_of_utterance: Duration::from_millis(500),
        result: TextResult::Say,
        schemas: Schemas::Required,
        listen: None,
        readiness: None,
        liveness: None,
    }
}

/// A pool whose replicas are acted out.
struct Rig {
    pool: Arc<FunctionPool>,
    desks: Vec<Arc<Desk>>,
}

impl Rig {
    fn new(config: FunctionConfig) -> Self {
        let pool = Arc::new(FunctionPool::new("fn".into(), config, Clock::start()));
        let inner = Arc::clone(&pool.inner);
        inner.is_started.store(true, Ordering::SeqCst);
        let desk = |replica| {
            let (board, clock) = (Arc::clone(&inner.board), inner.clock);
            let token = Secret::from(TOKEN);
            Arc::new(Desk { board, replica, clock, module: "fn".into(), token })
        };
        let desks = (0..inner.config.replicas).map(desk).collect();
        tokio::spawn(async move { inner.watch().await });
        Self { pool, desks }
    }

    fn board(&self) -> &Board {
        &self.pool.inner.board
    }

    fn client(&self, replica: usize) -> Client {
        Client { desk: Arc::clone(&self.desks[replica]) }
    }

    /// A client that has told its functions and asked for work.
    async fn ready_client(&self, replica: usize) -> Client {
        let client = self.client(replica);
        let schemas = json!([{"functionName": "on_start"}]).to_string();
        assert_eq!(client.post("schemas", &schemas).await.0, 204);
        assert_eq!(client.get("job").await.0, 204);
        client
    }

    /// A job of a call.
    fn submit(&self, id: &str) -> (Arc<Job>, Values) {
        self.submit_guess(id, false)
    }

    fn submit_guess(&self, id: &str, is_partial: bool) -> (Arc<Job>, Values) {
        let job = Job::new(id.into(), "f".into(), "c".into(), json!({"n": 1}), is_partial);
        let values = self.board().submit(Arc::clone(&job));
        (job, values)
    }
}

/// What all values of a job were, and how it ended.
async fn result((job, mut values): (Arc<Job>, Values)) -> (Vec<Value>, Outcome) {
    let mut all = Vec::new();
    while let Some(value) = timeout(PATIENCE, values.recv()).await.expect("a value or the end") {
        all.push(value);
    }
    (all, job.outcome())
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// A program that speaks the protocol.
#[derive(Clone)]
struct Client {
    desk: Arc<Desk>,
}

impl Client {
    fn connect(&self) -> Wire {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(runtime::serve(theirs, Arc::clone(&self.desk)));
        Wire { io: ours }
    }

    async fn request(&self, head: &str, body: &str) -> (u16, String) {
        let mut wire = self.connect();
        let length = body.len();
        wire.write(&format!("{head} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\nmodule-auth-token: {TOKEN}\r\n\r\n{body}")).await;
        wire.answer().await.expect("an answer")
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.request(&format!("GET {V1}/{path}"), "").await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.request(&format!("POST {V1}/{path}"), body).await
    }

    /// Asks for work until there is some.
    async fn job(&self) -> Value {
        loop {
            let (status, body) = self.get("job").await;
            if status == 200 {
                let mut job: Value = serde_json::from_str(&body).unwrap();
                return job["computeModuleJobV1"].take();
            }
            assert_eq!(status, 204);
        }
    }

    /// Takes the next job; its name.
    async fn take(&self) -> String {
        self.job().await["jobId"].as_str().unwrap().to_owned()
    }

    async fn answer(&self, id: &str, result: &Value) {
        assert_eq!(self.post(&format!("results/{id}"), &result.to_string()).await.0, 204);
    }

    /// Begins to stream a result.
    async fn stream(&self, id: &str, agent: &str) -> Wire {
        let mut wire = self.connect();
        wire.write(&format!(
            "POST {V1}/results/{id} HTTP/1.1\r\nhost: h\r\nuser-agent: {agent}\r\ntransfer-encoding: chunked\r\nmodule-auth-token: {TOKEN}\r\n\r\n"
        )).await;
        wire
    }
}

const PYTHON: &str = "python-requests/2.32.0";
const NODE: &str = "axios/1.7.0";
const V1: &str = super::runtime::V1;

/// A connection of a client.
struct Wire {
    io: DuplexStream,
}

impl Wire {
    async fn write(&mut self, text: &str) {
        // It may be closed at the other end, which is seen by who waits for the answer.
        let _ = self.io.write_all(text.as_bytes()).await;
    }

    async fn chunk(&mut self, text: &str) {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// Ends a stream as it should be, and gives the answer.
    async fn end(&mut self) -> Option<(u16, String)> {
        self.write("0\r\n\r\n").await;
        self.answer().await
    }

    /// `None` if the connection ends without one.
    async fn answer(&mut self) -> Option<(u16, String)> {
        let mut octets = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&octets);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
                if body.len() >= length {
                    return Some((head[9..12].parse().unwrap(), body.to_owned()));
                }
            }
            let read =
                timeout(PATIENCE, self.io.read_buf(&mut octets)).await.expect("octets or the end");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}
