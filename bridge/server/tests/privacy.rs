//! Whole calls with numbers and tokens that occur nowhere else, at the highest log level: none of them may be printed or counted.

mod support;

use ringback::clock::Clock;
use ringback::socket::{self, DialError, Outgoing, SocketOptions};
use ringback_proto::provider::{Dial, OutgoingUpgrade, find};
use support::{Caller, Folder, PATIENCE, PYTHON, Process, quoted, root, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const FROM: &str = "+15557348291";
const TO: &str = "+15556613072";
const BEARER: &str = "bearer-kx81m-canary";
const QUERY: &str = "query-zp47w-canary";
const WRONG: &str = "wrong-qj93t-canary";
const PARAMETER: &str = "parameter-vd52h-canary";

/// What may be found nowhere. Of numbers, the digits: who prints them without the plus has printed them too.
const CANARIES: [&str; 6] = ["15557348291", "15556613072", BEARER, QUERY, WRONG, PARAMETER];

fn configuration(folder: &Folder) -> String {
    let teller = quoted(root().join("bridge/server/tests/support/teller.py").display());
    format!(
        r#"
[[listener]]
name = "twilio"
path = "/twilio"
provider = "twilio"
auth = {{ kind = "bearer", token = "env:BEARER_CANARY" }}

[[listener]]
name = "raw"
path = "/raw"
provider = "raw"
auth = {{ kind = "query", parameter = "token", token = "env:QUERY_CANARY" }}

[[listener]]
name = "browser"
path = "/browser"
provider = "raw"
auth = {{ kind = "bearer", tokens = ["env:QUERY_CANARY", "env:BEARER_CANARY"] }}

[[listener]]
name = "path"
path = "/path"
provider = "twilio"
auth = {{ kind = "path", token = "env:QUERY_CANARY" }}

[[module]]
name = "echo"
builtin = "echo"

[[module]]
name = "recorder"
builtin = "recorder"
config = {{ dir = {} }}

[[module]]
name = "teller"
kind = "child"
command = ["{PYTHON}", {teller}]
ready_timeout = "20s"

[[route]]
name = "default"
modules = ["echo", "recorder", "teller"]
speaker = "echo"
"#,
        quoted(folder.path("recordings").display())
    )
}

fn dial(provider: &str, target: &str) -> Dial {
    Dial {
        target: target.into(),
        call: format!("{provider}-call"),
        from: FROM.into(),
        to: TO.into(),
        parameters: vec![("account".into(), PARAMETER.into())],
        ..Dial::default()
    }
}

async fn connect(process: &Process) -> TcpStream {
    soon("a connection", TcpStream::connect(&process.address)).await.expect("it listens")
}

/// A call from the first word to the goodbye.
async fn call(process: &Process, provider: &str, target: &str, headers: &[(&str, &str)]) {
    let (clock, provider) = (Clock::start(), find(provider).expect("a provider"));
    let dial = dial(provider.name(), target);
    let mut caller = Caller::dial(clock, connect(process).await, provider, &dial, headers)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", provider.name()));
    caller.speak(&[1_000; 160 * 50]).await;
    if provider.name() == "raw" {
        // The teller died once, came back and told what it knows.
        caller
            .until("the teller's last word", |c| c.results.iter().any(|r| r.contains("\"told\"")))
            .await;
    }
    caller.hang_up().await;
}

async fn refused(process: &Process, provider: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    let (clock, provider) = (Clock::start(), find(provider).expect("a provider"));
    let io = connect(process).await;
    match Caller::dial(clock, io, provider, &dial(provider.name(), target), headers).await {
        Err(DialError::Refused { status, .. }) => status,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{target} was let in"),
    }
}

/// A stream that breaks the protocol with a message that holds a number and a token.
async fn broken(process: &Process) {
    let authorization = ("Authorization".to_owned(), format!("Bearer {BEARER}"));
    let request = OutgoingUpgrade {
        target: "/twilio".into(),
        headers: vec![authorization],
        ..OutgoingUpgrade::default()
    };
    let io = connect(process).await;
    let mut socket =
        socket::dial(io, "bridge", &request, SocketOptions::default()).await.expect("a stream");
    let unknown = format!(r#"{{"event":"{FROM}","token":"{PARAMETER}"}}"#);
    socket.send(Outgoing::Text(&unknown)).await.expect("sent");
    let garbage = format!(r#"{{"event":"start","from":"{FROM}",nonsense"#);
    socket.send(Outgoing::Text(&garbage)).await.expect("sent");
    socket.close(4_000, &format!("{FROM} is gone")).await;
}

/// What the bridge answers to a stream with these subprotocols.
async fn agreed(process: &Process, target: &str, subprotocols: &[String]) -> Option<String> {
    let request = OutgoingUpgrade {
        target: target.into(),
        subprotocols: subprotocols.to_vec(),
        ..OutgoingUpgrade::default()
    };
    let io = connect(process).await;
    let socket =
        socket::dial(io, "bridge", &request, SocketOptions::default()).await.expect("a stream");
    let agreed = socket.subprotocol().map(str::to_owned);
    socket.close(1_000, "").await;
    agreed
}

async fn metrics(process: &Process) -> String {
    let mut stream = connect(process).await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("in time").expect("readable");
    answer
}

#[tokio::test]
async fn numbers_and_tokens_are_neither_printed_nor_counted() {
    let folder = Folder::new("privacy");
    let file = folder.write("ringback.toml", &configuration(&folder));
    let file = file.display().to_string();
    let environment =
        [("RINGBACK_LOG", "trace"), ("BEARER_CANARY", BEARER), ("QUERY_CANARY", QUERY)];
    let process = Process::serve(&["--config", &file], &environment);

    let bearer = format!("Bearer {BEARER}");
    let raw = format!("/raw?token={QUERY}");
    call(&process, "twilio", "/twilio", &[("Authorization", &bearer)]).await;
    call(&process, "raw", &raw, &[]).await;
    broken(&process).await;
    let bearer = format!("Bearer-{BEARER}");
    let raw = find("raw").expect("a provider").dial(&Dial::default()).0.subprotocols;
    let offered = [raw.clone(), vec![bearer.clone()]].concat();
    assert_eq!(agreed(&process, "/browser", &offered).await.as_ref(), raw.first());
    assert_eq!(agreed(&process, "/twilio", std::slice::from_ref(&bearer)).await, Some(bearer));
    assert_eq!(agreed(&process, &format!("/path/{QUERY}"), &[]).await, None);
    assert_eq!(refused(&process, "twilio", &format!("/path/{WRONG}"), &[]).await, 401);
    let wrong = format!("Bearer-{WRONG}");
    let field = [("Sec-WebSocket-Protocol", wrong.as_str())];
    assert_eq!(refused(&process, "twilio", "/twilio", &field).await, 401);
    let wrong = format!("Bearer {WRONG}");
    assert_eq!(refused(&process, "twilio", "/twilio", &[("Authorization", &wrong)]).await, 401);
    let wrong = format!("/raw?token={WRONG}");
    assert_eq!(refused(&process, "raw", &wrong, &[]).await, 401);
    let lost = format!("/nothing/{QUERY}?token={QUERY}");
    assert_eq!(refused(&process, "raw", &lost, &[]).await, 404);
    let impossible = format!("/raw?token={QUERY}&channels={FROM}");
    assert_eq!(refused(&process, "raw", &impossible, &[]).await, 400);

    let metrics = metrics(&process).await;
    process.signal("TERM");
    let greeting = process.greeting.clone();
    let ended = process.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    // The calls are there, and a log that says nothing would prove nothing.
    assert!(metrics.contains("ringback_calls_started_total 3"), "{metrics}");
    for line in ["call started", "call ended", "result", "module gone", "restarting", "401"] {
        assert!(ended.stderr.contains(line), "no {line:?} in the log:\n{}", ended.stderr);
    }
    assert!(ended.stderr.contains("+1555***91"), "the caller's number, cut:\n{}", ended.stderr);
    let printed =
        [("stdout", greeting + &ended.stdout), ("stderr", ended.stderr), ("metrics", metrics)];
    for (place, text) in printed {
        for canary in CANARIES {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary} is in {place}");
        }
    }
}

/// Descriptors beyond the three streams that programs get which this process starts.
#[cfg(target_os = "linux")]
fn passed_on() -> std::collections::HashSet<String> {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let passed_on = |number: &String| {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
        let flags = u32::from_str_radix(flags, 8).ok()?;
        Some(flags & CLOSED_ON_EXEC == 0 && number.parse::<u32>().ok()? > 2)
    };
    let all = std::fs::read_dir("/proc/self/fd").expect("there is one").flatten();
    let all = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    all.filter(|number| passed_on(number) == Some(true)).collect()
}

/// What a program that the bridge starts finds around it, told by a shell.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_gets_neither_secrets_nor_descriptors_nor_privileges_of_the_bridge() {
    let folder = Folder::new("guarded");
    let dir = quoted(folder.path("").display());
    let script = "env > environment; ls -l /proc/$$/fd > descriptors; \
        grep NoNewPrivs /proc/$$/status > privileges; mv privileges told; cat > /dev/null";
    let module = format!(
        "[[module]]\nname = \"sh\"\ncommand = [\"sh\", \"-c\", {}]\ndir = {dir}\nwarm = 1\n\
         env = {{ GIVEN = \"env:QUERY_CANARY\" }}\ninherit_env = [\"PLAIN_*\"]\n",
        quoted(script)
    );
    let listener = "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         auth = { kind = \"bearer\", token = \"env:BEARER_CANARY\" }\n";
    let file = folder.write("ringback.toml", &format!("{listener}{module}"));
    let file = file.display().to_string();
    let environment = [
        ("BEARER_CANARY", BEARER),
        ("QUERY_CANARY", QUERY),
        ("PLAIN_ONE", "seen"),
        ("OTHER", "AWS_SECRET"),
    ];
    let process = Process::serve(&["--config", &file], &environment);
    let told = folder.path("told");
    soon("what a program found", async {
        while !told.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).expect("it was written");
    let environment = read("environment");
    assert!(environment.contains(&format!("GIVEN={QUERY}\n")), "what it is given by name");
    assert!(environment.contains("PLAIN_ONE=seen\n"), "what it inherits by name");
    assert!(environment.contains("PATH="), "what programs cannot do without");
    let hidden = ["BEARER_CANARY", "QUERY_CANARY", BEARER, "OTHER", "AWS_SECRET"];
    assert!(!hidden.iter().any(|secret| environment.contains(secret)), "{environment}");
    // What whoever runs this test passes on to all programs is not the bridge's.
    let known = passed_on();
    let descriptors = read("descriptors");
    // "11 -> pipe:[6883758]"; the shell keeps a copy of one of its streams itself.
    let own = descriptors.lines().filter_map(|line| line.split_once(" -> "));
    let own = own.filter(|(left, _)| !known.iter().any(|n| left.ends_with(&format!(" {n}"))));
    let own: Vec<_> = own.map(|(_, to)| to).collect();
    assert!(own.len() >= 3 && !own.iter().any(|to| to.starts_with("socket:")), "{own:?}");
    assert!(!own.iter().any(|to| to.starts_with("anon_inode:")), "{own:?}");
    assert_eq!(read("told").split_whitespace().collect::<Vec<_>>(), ["NoNewPrivs:", "1"]);
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
