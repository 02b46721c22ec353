//! Bots written for a provider as modules, dialled over connections: another bridge, a program of somebody's, and bots that do not
//! behave. What is said in every pair of providers is tried without sockets, in the protocol's own tests.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::process::Command;
use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback::config::{Config, Context, ModuleRun, Overrides};
use ringback::net::{self, Listener as _, MemoryHosts, MemoryListener};
use ringback::socket::{self, Outgoing, Socket, SocketOptions};
use ringback_proto::provider::{Dial, find};
use ringback_proto::session::Report;
use support::{Host, assert_whole, known, root, run, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES: u64 = 25;

/// A bridge whose only module is a bot of `provider` at `bot.example`, and where that listens.
fn with_bot(provider: &str, more: &str) -> (Host, MemoryListener) {
    let hosts = MemoryHosts::default();
    let (listener, connector) = net::memory(16 * 1024);
    hosts.add("bot.example:80", connector.clone());
    hosts.add("bot.example:9019", connector);
    let url =
        if provider == "audiosocket" { "tcp://bot.example:9019" } else { "ws://bot.example/media" };
    let toml = format!(
        "[[module]]\nname = \"bot\"\nkind = \"bot\"\nprovider = \"{provider}\"\nurl = \"{url}\"\n{more}"
    );
    let (host, _) = Host::among(&hosts, "localhost:80", &toml);
    (host, listener)
}

async fn call(host: &Host, provider: &str) -> Client {
    let provider = find(provider).unwrap();
    let url = WsUrl::plain("localhost:80".into(), format!("/{}", provider.name()));
    let dial = Dial { call: "call-1".into(), ..Dial::default() };
    Client::connect(host.clock, &host.connector, &url, provider, dial, true).await.unwrap()
}

/// Goes on for so long; whether the call is over by then.
async fn stay(host: &Host, client: &mut Client, time: Duration) -> bool {
    let until = host.clock.now() + time;
    loop {
        tokio::select! {
            biased;
            event = client.next() => match event.unwrap() {
                Some(CallEvent::Closed { .. }) | None => return true,
                Some(_) if client.phone().is_over() => return true,
                Some(_) => {}
            },
            () = host.clock.sleep_until(Some(until)) => return false,
        }
    }
}

async fn accepted(server: &mut MemoryListener) -> DuplexStream {
    soon("the bridge dials", server.accept()).await.unwrap().0
}

async fn answered(server: &mut MemoryListener) -> Socket {
    let max_message = 1024 * 1024;
    let options = SocketOptions { keepalive: None, max_message, ..SocketOptions::default() };
    let io = accepted(server).await;
    socket::answer(io, options).await.unwrap()
}

/// Why the bot is gone, as the bridge tells.
async fn why(host: &Host) -> String {
    host.log
        .until("the bot's end", |entries| {
            entries.iter().find_map(|entry| match &entry.what {
                support::What::Report(Report::ModuleFailed { reason, .. }, _) => {
                    Some(reason.clone())
                }
                _ => None,
            })
        })
        .await
}

/// A bridge is a bot of another: its echo of Twilio's streams, which checks Twilio's signature, answers whoever calls.
#[tokio::test]
async fn a_bridge_is_the_bot_of_another_over_real_connections() {
    let secret = "[listener.auth]\nkind = \"twilio-signature\"\ntoken = \"env:CARGO_PKG_NAME\"\n";
    let echo = Host::on_loopback(&format!(
        "[[listener]]\nname = \"twilio\"\npath = \"/media\"\nprovider = \"twilio\"\npublic_url = \"wss://bot.example/media\"\n{secret}"
    ));
    let bot = format!(
        "[[module]]\nname = \"bot\"\nprovider = \"twilio\"\nurl = \"ws://{}/media\"\npublic_url = \"wss://bot.example/media\"\nparameters = {{ tenant = \"t1\" }}\nauth = {{ kind = \"twilio-signature\", token = \"env:CARGO_PKG_NAME\" }}\n",
        echo.address
    );
    let host = Host::on_loopback(&bot);
    for name in ["asterisk", "azure", "freeswitch-fork", "raw"] {
        let provider = find(name).unwrap();
        let url = WsUrl::plain(host.address.to_string(), format!("/{name}"));
        let dial = Dial { call: format!("call-{name}"), ..Dial::default() };
        let client = Client::connect(host.clock, &host.connector, &url, provider, dial, true);
        let mut client = client.await.unwrap();
        let heard = soon("the echo", async {
            let mut spoken = false;
            loop {
                stay(&host, &mut client, FRAME).await;
                if let Some(format) = client.phone().start().and_then(|start| start.inbound) {
                    let samples = FRAMES * format.rate.samples_in(FRAME);
                    if !std::mem::replace(&mut spoken, true) {
                        client.speak(&(0..samples).map(known).collect::<Vec<_>>());
                    }
                    let voiced = client.phone().heard().iter().filter(|s| s.abs() > 200).count();
                    if voiced as u64 > samples * 8 / 10 {
                        return voiced;
                    }
                }
            }
        });
        assert!(heard.await > 0);
        client.hang_up().await.unwrap();
        let summary = host.log.ended(&format!("call-{name}")).await;
        assert_eq!(summary.reason.name(), "remote");
        assert_whole(&summary, &[("playout", "call_ended"), ("module.bot.in.0", "overwritten")]);
    }
    host.stop().await;
    echo.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_closes_its_stream_hangs_up_and_one_that_is_cut_has_failed() {
    for (code, hangs_up) in [(1000, true), (1005, true), (1001, false), (1011, false)] {
        let (host, mut server) = with_bot("twilio", "on_fail = \"continue\"\n");
        let mut client = call(&host, "asterisk").await;
        let (_, bot) = tokio::join!(stay(&host, &mut client, FRAME * 10), answered(&mut server));
        let closing = tokio::spawn(bot.close(code, "so long"));
        let closed = stay(&host, &mut client, Duration::from_secs(3)).await;
        assert_eq!(closed, hangs_up, "{code}");
        if !hangs_up {
            let why = why(&host).await;
            assert!(why.contains(&format!("closed the stream with {code}: so long")), "{why}");
            client.hang_up().await.unwrap();
        }
        closing.await.unwrap();
        host.stop().await;
    }
    let (host, mut server) = with_bot("twilio", "on_fail = \"hangup\"\n");
    let mut client = call(&host, "asterisk").await;
    let (_, bot) = tokio::join!(stay(&host, &mut client, FRAME * 10), answered(&mut server));
    drop(bot);
    assert!(stay(&host, &mut client, Duration::from_secs(3)).await);
    assert!(why(&host).await.starts_with("ws://bot.example:80/media: the connection was cut"));
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_is_not_there_costs_only_itself() {
    let refused = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    for (answer, expected) in [
        (Some(refused), "refused the stream with status 404"),
        (Some("SSH-2.0-x\r\n"), "the answer is not HTTP"),
        (None, "not ready within 2000 ms"),
    ] {
        let (host, mut server) = with_bot("twilio", "ready_timeout = \"2s\"\n");
        let mut client = call(&host, "asterisk").await;
        let bot = async {
            let mut io = accepted(&mut server).await;
            if let Some(text) = answer {
                io.write_all(text.as_bytes()).await.unwrap();
            }
            let _ = io.read_to_end(&mut Vec::new()).await;
        };
        let (closed, ()) = tokio::join!(stay(&host, &mut client, Duration::from_secs(5)), bot);
        assert!(!closed, "the call goes on");
        let why = why(&host).await;
        assert!(why.contains(expected), "{why}");
        client.hang_up().await.unwrap();
        host.stop().await;
    }
    let (host, server) = with_bot("twilio", "");
    drop(server);
    let mut client = call(&host, "asterisk").await;
    stay(&host, &mut client, Duration::from_secs(1)).await;
    assert!(why(&host).await.contains("cannot connect"));
    client.hang_up().await.unwrap();
    host.stop().await;
}

/// One that accepts the stream and does not begin the session, as a bot of Genesys has to.
#[tokio::test(start_paused = true)]
async fn a_bot_that_does_not_open_the_session_is_not_waited_for() {
    let (host, mut server) = with_bot("genesys-connector", "ready_timeout = \"2s\"\n");
    let mut client = call(&host, "asterisk").await;
    let bot = async {
        let mut bot = answered(&mut server).await;
        while let Some(Ok(_)) = bot.recv().await {}
    };
    tokio::join!(stay(&host, &mut client, Duration::from_secs(5)), bot);
    assert!(why(&host).await.contains("not ready"));
    client.hang_up().await.unwrap();
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_does_not_keep_to_its_provider_is_told_and_left() {
    let big = "x".repeat(1024 * 1024 + 1);
    for (text, code, expected) in [
        ("no JSON", 1007, "the bot broke the protocol"),
        (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"@@"}}"#, 0, "the bot broke"),
        (big.as_str(), 1009, "bigger than the limit"),
    ] {
        let (host, mut server) = with_bot("twilio", "");
        let mut client = call(&host, "asterisk").await;
        let bot = async {
            let mut bot = answered(&mut server).await;
            bot.recv().await;
            let _ = bot.send(Outgoing::Text(text)).await;
            soon("a close", async {
                loop {
                    match bot.recv().await {
                        Some(Ok(socket::Incoming::Close(Some(closed)))) => return closed.code,
                        Some(Ok(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
            .await
        };
        let (_, closed) = tokio::join!(stay(&host, &mut client, Duration::from_secs(3)), bot);
        assert!(code == 0 || closed == code, "{closed}");
        let why = why(&host).await;
        assert!(why.contains(expected), "{why}");
        client.hang_up().await.unwrap();
        host.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_takes_nothing_or_says_without_end_is_given_up() {
    // Takes nothing.
    let (host, mut server) = with_bot("twilio", "");
    let mut client = call(&host, "asterisk").await;
    let (_, bot) = tokio::join!(stay(&host, &mut client, FRAME), answered(&mut server));
    assert!(!stay(&host, &mut client, Duration::from_secs(20)).await);
    assert!(why(&host).await.contains("took nothing for 5s"));
    drop(bot);
    client.hang_up().await.unwrap();
    host.stop().await;

    // Says without end: its queue is as long as a provider's, the rest is dropped and counted, and then it is too much.
    let (host, mut server) = with_bot("twilio", "");
    let mut client = call(&host, "asterisk").await;
    let bot = async {
        let mut bot = answered(&mut server).await;
        let payload = "f".repeat(40_000);
        let sid = loop {
            let came = bot.recv().await.unwrap().unwrap();
            let Some(ringback_proto::provider::Message::Text(text)) = bot.message(&came) else {
                continue;
            };
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            if let Some(sid) = json["streamSid"].as_str() {
                break sid.to_owned();
            }
        };
        let media =
            serde_json::json!({"event": "media", "streamSid": sid, "media": {"payload": payload}});
        let media = media.to_string();
        for _ in 0..1_000 {
            if bot.send(Outgoing::Text(&media)).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(stay(&host, &mut client, Duration::from_secs(9)), bot);
    let why = why(&host).await;
    assert!(why.contains("octets within a second") || why.contains("cut"), "{why}");
    client.hang_up().await.unwrap();
    let summary = host.log.ended_alone().await;
    let hop = summary.ledger.hop("module.bot.out").unwrap();
    assert!(hop.dropped.iter().any(|(reason, count)| reason.name() == "overflow" && *count > 0));
    assert_eq!(summary.ledger.unbalanced().count(), 0);
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bot_without_a_websocket_is_dialled_as_asterisk_does() {
    let (host, mut server) = with_bot("audiosocket", "");
    let mut client = call(&host, "twilio").await;
    let samples: Vec<i16> = (0..FRAMES * 160).map(known).collect();
    client.speak(&samples);
    let bot = async {
        let mut io = accepted(&mut server).await;
        let (mut kinds, mut sound) = (Vec::new(), 0);
        while sound < 320 * FRAMES as usize {
            let kind = io.read_u8().await.unwrap();
            let length = usize::from(io.read_u16().await.unwrap());
            let mut payload = vec![0; length];
            io.read_exact(&mut payload).await.unwrap();
            sound += if kind == 0x10 { length } else { 0 };
            kinds.push(kind);
        }
        kinds
    };
    let (closed, kinds) = tokio::join!(stay(&host, &mut client, Duration::from_secs(3)), bot);
    assert_eq!((kinds[0], kinds[1]), (0x01, 0x10), "the call's id, then sound");
    assert!(closed, "the end of its connection is how such a bot hangs up");
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bot_of_words_and_a_call_of_sound_do_not_meet() {
    let (host, _server) = with_bot("conversation-relay", "");
    let mut client = call(&host, "asterisk").await;
    stay(&host, &mut client, Duration::from_secs(1)).await;
    let why = why(&host).await;
    assert!(why.contains("unsupported_format") && why.contains("carries sound"), "{why}");
    client.hang_up().await.unwrap();
    host.stop().await;
    // And one of words answers a call of words.
    let echo = MemoryHosts::default();
    let (behind, _) = Host::among(&echo, "localhost:81", "");
    let toml = "[[module]]\nname = \"bot\"\nprovider = \"conversation-relay\"\nurl = \"ws://localhost:81/conversation-relay\"\n";
    let (host, _) = Host::among(&echo, "localhost:80", toml);
    let mut client = call(&host, "conversation-relay").await;
    client.say("A table for two, please.").await.unwrap();
    stay(&host, &mut client, Duration::from_secs(1)).await;
    assert_eq!(client.counters().texts_received, 1);
    client.hang_up().await.unwrap();
    host.stop().await;
    behind.stop().await;
}

#[test]
fn what_is_no_bot_is_said_before_anything_starts() {
    let cases = [
        ("provider = \"twillio\"\nurl = \"ws://x\"", "did you mean \"twilio\"?"),
        ("provider = \"zoom-rtms\"\nurl = \"ws://x\"", "no provider that dials bots \"zoom-rtms\""),
        ("provider = \"twilio\"", "needs `provider`, whose streams it takes, and `url`"),
        ("provider = \"twilio\"\nurl = \"http://x\"", "does not begin with ws://"),
        ("provider = \"audiosocket\"\nurl = \"ws://x\"", "audiosocket dials tcp://host:port"),
        ("provider = \"audiosocket\"\nurl = \"tcp://x\"", "audiosocket dials tcp://host:port"),
        (
            "provider = \"vonage\"\nurl = \"ws://x\"\nformat = \"pcmu/8000\"",
            "vonage has l16le/16000",
        ),
        ("provider = \"twilio\"\nurl = \"ws://x\"\nca_file = \"x\"", "is for wss:// only"),
        (
            "provider = \"twilio\"\nurl = \"ws://x\"\nheaders = { \"a b\" = \"c\" }",
            "is no header field",
        ),
        (
            "provider = \"audiosocket\"\nurl = \"tcp://x:1\"\nauth = { kind = \"bearer\", token = \"env:CARGO_PKG_NAME\" }",
            "cannot prove itself by bearer",
        ),
        ("builtin = \"echo\"\nparameters = { a = \"b\" }", "`parameters` is not used by"),
        (
            "kind = \"bot\"\nprovider = \"twilio\"\nurl = \"ws://x\"\ntoken = \"env:A\"",
            "`token` is not used by kind \"bot\"",
        ),
    ];
    for (text, expected) in cases {
        let text = format!("[[module]]\nname = \"m\"\n{text}\n");
        let (flags, context) = (Overrides::default(), Context::of_process());
        let error = Config::parse("f.toml", &text, &flags, &context).expect_err(&text).to_string();
        assert!(error.contains(expected), "{error}\n{text}");
    }
    let config = support::config(
        "[[module]]\nname = \"m\"\nprovider = \"audiosocket\"\nurl = \"tcp://bot.example:9019\"\n",
    );
    let ModuleRun::Bot(bot) = &config.modules[0].run else { panic!("{:?}", config.modules) };
    assert_eq!((bot.to.url.authority.as_str(), bot.to.url.secure), ("bot.example:9019", false));
}

/// The bot that is shown to users, written for Twilio: behind calls of Asterisk as a module, and behind Twilio's own as they come.
#[tokio::test]
async fn the_twilio_bot_of_the_examples_answers_whoever_calls() {
    for (provider, parameters) in [
        ("asterisk", r#""tenant": "t1", "to": "+15550100002"}"#),
        ("twilio", r#""to": "+15550100002"}"#),
    ] {
        let mut command = Command::new(root().join("examples/twilio-bot/run"));
        command.arg(provider).env("RINGBACK", env!("CARGO_BIN_EXE_ringback"));
        let finished = tokio::task::spawn_blocking(move || run(&mut command, support::PATIENCE));
        let finished = finished.await.unwrap();
        let lines: Vec<_> = finished.stdout.lines().collect();
        let all = format!("{}{}", finished.stdout, finished.stderr);
        assert!(lines.first().is_some_and(|line| line.contains(parameters)), "{provider}: {all}");
        for expected in ["answer-1 was heard", "key 5", "the caller hung up"] {
            assert!(lines.iter().any(|line| line.contains(expected)), "{provider}: {all}");
        }
    }
}
