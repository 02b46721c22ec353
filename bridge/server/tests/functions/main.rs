//! Unmodified programs on Palantir's own clients, Python and TypeScript, on calls through the bridge. Skipped, loudly, where the clients
//! are not installed.
#![cfg(feature = "functions")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use ringback::client::{CallEvent, Client, WsUrl};
use ringback::clock::Clock;
use ringback::outgoing::Connector;
use ringback_proto::provider::{Dial, Digit, PROVIDERS, Provider, find};
use ringback_proto::session::Report;
use ringback_proto::simulator::PhoneEvent;
use support::{
    Caller, Host, NODE, Process, has_node, not_run, quoted, root, send_signal, soon, sound,
};

const HZ: u32 = 16_000;

/// A language that Palantir has a client for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    TypeScript,
}

/// Where `.ci/setup` installs the clients.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target").join("foundry")
}

impl Language {
    /// What runs the program, if the client is there.
    fn command(self) -> Option<Vec<String>> {
        let program = root().join("bridge/server/tests/functions");
        let text = |path: PathBuf| path.display().to_string();
        match self {
            Self::Python => {
                let python = clients().join("python/bin/python");
                let there = python.exists();
                if !there {
                    not_run("no Python environment with `foundry-compute-modules`");
                }
                there.then(|| vec![text(python), text(program.join("app.py"))])
            }
            Self::TypeScript => {
                let modules = clients().join("node_modules");
                let there = modules.join("@palantir/compute-module").exists();
                if !there {
                    not_run("no `@palantir/compute-module`");
                }
                let path = format!("NODE_PATH={}", modules.display());
                let command = vec!["env".into(), path, NODE.into(), text(program.join("app.cjs"))];
                (there && has_node()).then_some(command)
            }
        }
    }

    /// A bridge whose calls go to the program.
    fn host(self, on: &str) -> Option<Host> {
        let command: Vec<_> = self.command()?.into_iter().map(quoted).collect();
        let words = PROVIDERS.iter().find(|p| p.capabilities().text).expect("there is one");
        Some(Host::on_loopback(&format!(
            "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
             [[listener]]\nname = \"words\"\npath = \"/words\"\nprovider = \"{}\"\n\
             [[module]]\nname = \"app\"\nkind = \"function\"\ncommand = [{}]\non = {{ {on} }}\nready_timeout = \"30s\"\n",
            words.name(),
            command.join(", "),
        )))
    }
}

/// A call to `/raw` in linear sound.
async fn call(host: &Host) -> Caller {
    let provider = find("raw").expect("a provider");
    let linear =
        |f: &&ringback_codecs::MediaFormat| f.rate.hz() == HZ && f.octets_for(1) == Some(2);
    let format = provider.formats().iter().find(linear).copied();
    let dial = Dial { target: "/raw".into(), format, ..Dial::default() };
    let mut caller =
        Caller::dial(host.clock, host.connect().await, provider, &dial, &[]).await.expect("a call");
    caller.in_step = false;
    caller
}

async fn press(caller: &mut Caller, key: char) {
    caller.format().await;
    caller.press(Digit::new(key).expect("a key")).await;
}

/// A call to `/words`.
struct Phone {
    client: Client,
}

impl Phone {
    async fn call(host: &Host) -> Self {
        let provider = *PROVIDERS.iter().find(|p| p.capabilities().text).expect("there is one");
        let url = WsUrl::plain(host.address.to_string(), "/words".into());
        Self::at(host.clock, &host.connector, &url, provider).await
    }

    async fn at(clock: Clock, connector: &Connector, url: &WsUrl, provider: &dyn Provider) -> Self {
        let client = Client::connect(clock, connector, url, provider, Dial::default(), false);
        Self { client: client.await.expect("a call") }
    }

    async fn say(&mut self, words: &str) {
        self.client.say(words).await.expect("the call goes on");
    }

    /// Waits until the bridge has said this.
    async fn hears(&mut self, words: &str) {
        self.until(words, |event| matches!(event, PhoneEvent::Said(said) if said == words)).await;
    }

    async fn until(&mut self, what: &str, is: impl Fn(&PhoneEvent) -> bool) {
        soon(what, async {
            while let Some(event) = self.client.next().await.expect("the call goes on") {
                if let CallEvent::Phone(event) = event
                    && is(&event)
                {
                    return;
                }
            }
            panic!("the call ended before {what}");
        })
        .await;
    }
}

/// An error that the program's failure comes to.
async fn error(host: &Host, what: &str, words: &[&str]) {
    let told = |report: &Report| matches!(report, Report::Error(_, error) if words.iter().any(|word| error.message.contains(word)));
    host.log.module("app", what, told).await;
}

const ALL: &str = "start = \"on_start\", transcript = \"on_transcript\", utterance = \"on_utterance\", dtmf = \"on_dtmf\", end = \"on_end\"";

async fn words_are_answered_in_words(language: Language) {
    let Some(host) = language.host(ALL) else { return };
    let mut phone = Phone::call(&host).await;
    phone.hears("Welcome.").await;
    phone.say("good morning").await;
    phone.hears("You said good morning.").await;
    phone.say("raise").await;
    // Python says that it broke off; TypeScript's whole program ends, and is started again.
    error(&host, "an exception in mid-stream", &["mid-stream", "exited with status 1"]).await;
    phone.say("again").await;
    phone.hears("You said again.").await;
    phone.say("bye").await;
    phone.until("the end of the call", |event| matches!(event, PhoneEvent::HungUp)).await;
    let over = host.log.events_of("app", "over", 1).await;
    assert_eq!(over[0]["turns"].as_u64(), Some(9), "{over:?}");
    let summary = host.log.ended_alone().await;
    assert_eq!(summary.reason.name(), "hangup", "{:?}", summary.reason);
    host.stop().await;
}

async fn sound_is_heard_and_answered(language: Language) {
    let Some(host) = language.host(ALL) else { return };
    let mut caller = call(&host).await;
    caller.format().await;
    // Keys are told to who is ready; the program takes a second to start.
    host.log
        .module("app", "that it is ready", |report| matches!(report, Report::ModuleReady(_)))
        .await;
    press(&mut caller, '1').await;
    let key = host.log.events_of("app", "key", 1).await.remove(0);
    assert_eq!(key["digit"], "1");
    press(&mut caller, '2').await;
    caller
        .until("the sound of a function", |caller| caller.samples_heard >= u64::from(HZ) / 2)
        .await;
    press(&mut caller, '3').await;
    error(&host, "an exception", &["three"]).await;
    caller.speak(&sound("sentence.wav", HZ)).await;
    caller.pause(60).await;
    let heard = host.log.events_of("app", "heard", 1).await.remove(0);
    assert_eq!(heard["rate"], 16_000);
    assert!((1_500..4_500).contains(&heard["ms"].as_u64().unwrap()), "{heard}");
    // Whatever becomes of the program, the next job is done.
    send_signal("KILL", u32::try_from(key["pid"].as_u64().unwrap()).unwrap());
    press(&mut caller, '4').await;
    let keys = host.log.events_of("app", "key", 2).await;
    assert_eq!(keys[1]["digit"], "4");
    assert_ne!(keys[1]["pid"], key["pid"]);
    press(&mut caller, '#').await;
    caller.closed().await;
    assert_eq!(host.log.events_of("app", "over", 1).await[0]["reason"], "hangup");
    host.log.ended_alone().await;
    host.stop().await;
    assert!(!is_running(&keys[1]["pid"]), "no program outlives the bridge");
}

fn is_running(pid: &serde_json::Value) -> bool {
    let test = format!("kill -0 {pid}");
    std::process::Command::new("sh").args(["-c", &test]).status().unwrap().success()
}

/// The client understands no cancel; what the bridge does in its place frees the only one that works.
async fn a_stream_without_end_ends_with_its_call(language: Language) {
    let on = "start = \"forever\", dtmf = \"on_dtmf\"";
    let Some(host) = language.host(on) else { return };
    let mut caller = call(&host).await;
    caller.format().await;
    caller.until("sound", |caller| caller.samples_heard >= u64::from(HZ)).await;
    caller.hang_up().await;
    host.log.ended_alone().await;
    let mut next = call(&host).await;
    next.format().await;
    next.until("sound", |caller| caller.samples_heard >= u64::from(HZ)).await;
    next.hang_up().await;
    host.stop().await;
}

#[tokio::test]
async fn words_are_answered_in_words_by_python() {
    words_are_answered_in_words(Language::Python).await;
}

#[tokio::test]
async fn words_are_answered_in_words_by_typescript() {
    words_are_answered_in_words(Language::TypeScript).await;
}

#[tokio::test]
async fn sound_is_heard_and_answered_by_python() {
    sound_is_heard_and_answered(Language::Python).await;
}

#[tokio::test]
async fn sound_is_heard_and_answered_by_typescript() {
    sound_is_heard_and_answered(Language::TypeScript).await;
}

#[tokio::test]
async fn a_stream_without_end_ends_with_its_call_in_python() {
    a_stream_without_end_ends_with_its_call(Language::Python).await;
}

#[tokio::test]
async fn the_example_answers_the_phone() {
    let Some(command) = Language::Python.command() else { return };
    let mut run = std::process::Command::new(root().join("examples/foundry-function/run"));
    run.args(["--bind", "127.0.0.1:0"]).env_remove("RINGBACK_BIND").env_remove("RINGBACK_LOG");
    run.env("PYTHON", &command[0]).env("PYTHONDONTWRITEBYTECODE", "1");
    run.env("RINGBACK", env!("CARGO_BIN_EXE_ringback"));
    let process = Process::start(&mut run);
    let provider = find("conversation-relay").expect("a provider");
    let url = WsUrl::plain(process.address.clone(), "/relay".into());
    let mut phone = Phone::at(Clock::start(), &Connector::default(), &url, provider).await;
    phone.hears("Hello, this is the bakery. What can I do for you?").await;
    phone.say("When do you open?").await;
    phone.hears("We open at seven, every day but Sunday.").await;
    phone.say("Bye.").await;
    phone.until("the end", |event| matches!(event, PhoneEvent::HungUp)).await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
