//! A whole bridge that has every secret there is, each with a value that occurs nowhere else: whatever it prints, tells and writes is
//! searched for them. Its configuration is the example with everything switched on, which a test holds to every key there is: a
//! secret that is new has its canary here.
#![cfg(all(feature = "nats", feature = "functions"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its bridge has failed")]
#![allow(
    clippy::print_stdout,
    reason = "how much was searched is what one looks for in the output"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use ringback_codecs::{SampleRate, wav};
use support::{Finished, Folder, PATIENCE, Process, quoted, ringback, root, run, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Is no secret, and must be found: a name that the log and the captures are to have.
const CONTROL: &str = "control-canary-5d20c8";

/// All that is looked for, by the name of the variable or file.
type Canaries = BTreeMap<String, String>;

fn base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

/// The value of a variable, in the form that its key asks for.
fn value(name: &str, canary: &str) -> String {
    match name {
        "DATABASE_URL" => format!("postgres://ringback:{canary}@127.0.0.1:1/calls"),
        "GENESYS_CLIENT_SECRET" | "SINCH_APPLICATION_SECRET" => base64(canary),
        // A key of 256 bits in hexadecimal.
        _ if name.starts_with("RECORDINGS_") => {
            let octets = canary.bytes().map(|octet| format!("{octet:02x}")).chain(["0".repeat(64)]);
            octets.collect::<String>()[..64].to_owned()
        }
        _ if name.ends_with("SIGNING_SECRET") => format!("whsec_{}", base64(canary)),
        _ => canary.to_owned(),
    }
}

/// The example with all that is switched off by a `#` switched on, on this machine, in `folder`.
fn whole_example(folder: &Folder) -> String {
    let example = std::fs::read_to_string(root().join("examples/ringback.toml")).unwrap();
    let is_setting = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| is_setting(l)).unwrap_or(line));
    // What is elsewhere is not asked, and TLS would only hide what is said.
    let lines = lines
        .filter(|line| !["tls =", "ca_file =", "#"].iter().any(|begin| line.starts_with(begin)));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    let dir = folder.path("var").display().to_string();
    for place in ["/var/lib/ringback", "/srv/stt", "/run/ringback", "/run/secrets", "/etc/ringback"]
    {
        text = text.replace(place, &dir);
    }
    for (from, to) in [
        ("\"127.0.0.1:8080\"", "\"127.0.0.1:0\""),
        ("\"127.0.0.1:9080\"", "\"127.0.0.1:0\""),
        ("127.0.0.1:8945", "127.0.0.1:0"),
        // Whoever is dialled is not there, and is dialled with a secret in the URL.
        ("wss://gpu.example.com/stt", "ws://127.0.0.1:1/stt?key=gpu-url-canary"),
        ("wss://bot.example/media", "ws://127.0.0.1:1/media?key=bot-url-canary"),
        ("ws://localhost:5000/", "ws://127.0.0.1:1/?key=passed-url-canary"),
        ("https://crm.example.com/calls", "http://127.0.0.1:1/calls?key=crm-url-canary"),
        ("https://minio.example.com", "http://127.0.0.1:1"),
        ("https://login.example/keys", "http://127.0.0.1:1/keys?key=jwks-url-canary"),
        ("name = \"twilio\"\n", &format!("name = \"{CONTROL}\"\n")),
        // Who is not there is not waited for.
        ("drain_timeout = \"30s\"", "drain_timeout = \"1s\""),
        ("level = \"info\"", "level = \"trace\""),
        ("kind = \"azure-jwt\",", "kind = \"azure-jwt\", jwks_url = \"http://127.0.0.1:1/azure\","),
    ] {
        assert!(text.contains(from), "the example has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// The variables that the configuration names.
fn variables(text: &str) -> Canaries {
    let names = text.split("\"env:").skip(1).filter_map(|rest| rest.split_once('"'));
    let canary = |name: &str| format!("{}-canary-7f3a91", name.to_lowercase().replace('_', "-"));
    names.map(|(name, _)| (name.to_owned(), canary(name))).collect()
}

/// Everything that is secret and no variable.
const ELSEWHERE: [&str; 8] = [
    "gpu-url-canary",
    "bot-url-canary",
    "passed-url-canary",
    "crm-url-canary",
    "jwks-url-canary",
    "asterisk-file-canary",
    "credentials-file-canary",
    // Of the private key's middle.
    "PEM",
];

struct Searched {
    needles: Vec<(String, String)>,
    octets: usize,
    places: usize,
    control: usize,
}

impl Searched {
    fn new(canaries: &Canaries, pem: &str) -> Self {
        let mut needles = Vec::new();
        for (name, canary) in canaries {
            needles.push((name.clone(), canary.clone()));
            needles.push((name.clone(), value(name, canary)));
            needles.push((name.clone(), base64(canary).trim_end_matches('=').to_owned()));
        }
        for text in ELSEWHERE {
            let middle = pem.lines().nth(5).unwrap();
            needles.push((text.into(), if text == "PEM" { middle } else { text }.into()));
        }
        Self { needles, octets: 0, places: 0, control: 0 }
    }

    /// The line that has `needle` in it.
    fn find<'t>(text: &'t str, needle: &str) -> Option<&'t str> {
        text.lines().find(|line| line.contains(needle))
    }

    /// Nothing of it is in what was found at `place`.
    fn look(&mut self, place: &str, found: &[u8]) {
        let text = format!("{place}\n{}", String::from_utf8_lossy(found));
        for (name, needle) in &self.needles {
            let line = Self::find(&text, needle);
            assert_eq!(line, None, "the secret of {name} is in {place}");
        }
        self.octets += found.len();
        self.places += 1;
        self.control += usize::from(Self::find(&text, CONTROL).is_some());
    }

    fn ended(&mut self, place: &str, ended: &Finished) {
        self.look(&format!("{place}, stdout"), ended.stdout.as_bytes());
        self.look(&format!("{place}, stderr"), ended.stderr.as_bytes());
    }

    /// All files below a folder but those that are ours.
    fn files(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                self.files(&path);
            } else if !OURS.contains(&name.as_str()) {
                self.look(&path.display().to_string(), &std::fs::read(&path).unwrap());
            }
        }
    }
}

/// What the test wrote itself.
const OURS: [&str; 7] = [
    "ringback.toml",
    "literal.toml",
    "asterisk",
    "bridge.creds",
    "vonage.pem",
    "keys.json",
    "silence.wav",
];

struct Ground {
    folder: Folder,
    toml: String,
    canaries: Canaries,
    environment: Vec<(String, String)>,
    pem: String,
}

impl Ground {
    fn new() -> Self {
        let folder = Folder::new("canaries");
        let toml = whole_example(&folder);
        let canaries = variables(&toml);
        assert!(canaries.len() >= 40, "{canaries:?}");
        let environment = canaries.iter().map(|(name, canary)| (name.clone(), value(name, canary)));
        let environment = environment.collect();
        let tests = root().join("bridge/proto/tests/authentication/private_key.json");
        let key = std::fs::read_to_string(tests).unwrap();
        let pem = root().join("bridge/server/src/outgoing/test-key.pem");
        let pem = std::fs::read_to_string(pem).unwrap();
        folder.write("ringback.toml", &toml);
        folder.write("var/asterisk", "asterisk-file-canary");
        folder.write("var/bridge.creds", "credentials-file-canary");
        folder.write("var/vonage.pem", &pem);
        folder.write("var/keys.json", &format!("{{\"keys\":[{key}]}}"));
        let file = std::fs::File::create(folder.path("silence.wav")).unwrap();
        let mut writer = wav::Writer::new(file, SampleRate::HZ_8000, 1).unwrap();
        writer.write(&[0; 800]).unwrap();
        writer.finish().unwrap();
        Self { folder, toml, canaries, environment, pem }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = ringback(args);
        command.current_dir(self.folder.path("")).env("RINGBACK_LOG", "trace");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Listeners by name, with their providers.
    fn listeners(&self) -> Vec<(String, String)> {
        let value = |block: &str, key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
            line.and_then(|rest| rest.split_once('"')).map(|(value, _)| value.to_owned())
        };
        let blocks = self.toml.split("[[").filter(|block| block.starts_with("listener]]"));
        blocks.map(|b| (value(b, "name").unwrap(), value(b, "provider").unwrap())).collect()
    }

    fn secret(&self, name: &str) -> &str {
        &self.canaries[name]
    }
}

/// Asks and reads to the end, whatever comes.
async fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request for a stream, or for a page.
fn request(method: &str, target: &str, fields: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}content-length: 0\r\n\r\n"
    )
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Right calls at every listener that can be called, with its own secrets.
fn good_calls(ground: &Ground, address: &str, searched: &mut Searched) -> usize {
    let audio = ground.folder.path("silence.wav").display().to_string();
    let mut taken = 0;
    for (name, provider) in ground.listeners() {
        let flags = ["call", "--linger", "0", "--provider", &provider, "--audio", &audio];
        let flags = [&flags[..], &["--config", "ringback.toml", "--listener", &name]].concat();
        let mut command = ground.command(&flags);
        let ended = run(command.env("RINGBACK_BIND", address), PATIENCE);
        taken += usize::from(ended.code == Some(0));
        searched.ended(&format!("a call at {name}"), &ended);
    }
    taken
}

/// Every secret where it does not belong, and where it is looked at.
async fn bad_calls(ground: &Ground, address: &str, searched: &mut Searched) -> usize {
    let mut refused = 0;
    let values = ground.environment.iter().map(|(_, value)| value.as_str());
    for value in values.chain(["asterisk-file-canary"]) {
        let plain: String = value.chars().filter(|c| !" /?#".contains(*c)).collect();
        for (target, field) in [
            ("/signalwire".to_owned(), format!("authorization: Bearer {value}x\r\n")),
            ("/asterisk-basic".into(), format!("authorization: Basic {}\r\n", base64(value))),
            ("/avaya".into(), format!("authorization: Bearer {value}\r\n")),
            ("/telnyx".into(), format!("x-telnyx-streaming-auth-token: {value}x\r\n")),
            ("/genesys".into(), format!("x-api-key: {value}\r\nsignature: sig1=:{plain}:\r\n")),
            ("/modules/transcriber".into(), format!("authorization: Bearer {value}x\r\n")),
            (format!("/texml?token={plain}x&{plain}={plain}"), String::new()),
            (format!("/twilio-path/{plain}x"), String::new()),
            (format!("/nothing/{plain}?token={plain}"), String::new()),
            ("/signalwire".into(), format!("sec-websocket-protocol: Bearer-{plain}x\r\n")),
        ] {
            let answer = ask(address, &request("GET", &target, &format!("{UPGRADE}{field}"))).await;
            assert!(!answer.starts_with("HTTP/1.1 101"), "{target} {field}");
            searched.look("a refusal", answer.as_bytes());
            refused += 1;
        }
        let post = request(
            "POST",
            "/bandwidth/answer",
            &format!("authorization: Basic {}\r\n", base64(value)),
        );
        searched.look("an answer", ask(address, &post).await.as_bytes());
    }
    refused
}

/// All that an operator may ask, with a right token and with others.
async fn operators(ground: &Ground, address: &str, searched: &mut Searched) {
    let right = ground.secret("OPERATOR_ON_CALL");
    let pages = [
        "/metrics",
        "/workers",
        "/v1/calls",
        "/v1/tenants",
        "/v1/openapi.json",
        "/v1/audit",
        "/nowhere",
    ];
    for page in pages {
        let bearer = format!("authorization: Bearer {right}\r\n");
        let answer = ask(address, &request("GET", page, &bearer)).await;
        searched.look(&format!("the operator's {page}"), answer.as_bytes());
    }
    for post in ["/v1/reload", "/v1/listeners/asterisk/endpoints", "/v1/calls/none/hangup"] {
        let bearer = format!("authorization: Bearer {right}\r\n");
        let answer = ask(address, &request("POST", post, &bearer)).await;
        searched.look(&format!("the operator's {post}"), answer.as_bytes());
    }
    // Last, since an address that guesses is not listened to for a minute.
    for (_, value) in ground.environment.iter().take(8) {
        let bearer = format!("authorization: Bearer {value}x\r\n");
        let answer = ask(address, &request("GET", &format!("/v1/calls/{value}"), &bearer)).await;
        searched.look("the operator's refusal", answer.as_bytes());
    }
}

#[tokio::test]
async fn no_secret_is_in_anything_that_a_bridge_prints_tells_or_writes() {
    let ground = Ground::new();
    let mut searched = Searched::new(&ground.canaries, &ground.pem);
    let process = Process::start(&mut ground.command(&["serve", "--config", "ringback.toml"]));
    let operator =
        process.greeting.lines().find_map(|l| l.strip_prefix("for operators on http://"));
    let operator = operator.expect("it says where").trim().to_owned();

    let taken = good_calls(&ground, &process.address, &mut searched);
    let refused = bad_calls(&ground, &process.address, &mut searched).await;
    operators(&ground, &operator, &mut searched).await;
    // Secrets in the place of where they are kept, which is what people do once.
    let literal = ground.environment.iter().fold(ground.toml.clone(), |text, (name, value)| {
        text.replace(&format!("\"env:{name}\""), &quoted(value))
    });
    ground.folder.write("literal.toml", &literal);
    std::fs::copy(ground.folder.path("literal.toml"), ground.folder.path("ringback.toml")).unwrap();
    process.signal("HUP");
    let mut log = process.logged("configuration");
    for page in ["/metrics", "/healthz", "/readyz"] {
        searched.look(page, ask(&process.address, &request("GET", page, "")).await.as_bytes());
    }
    process.signal("TERM");
    searched.look("the greeting", process.greeting.as_bytes());
    let ended = process.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    log += &ended.stderr;
    searched.look("the log", log.as_bytes());
    searched.ended("the bridge", &ended);
    searched.files(&ground.folder.path(""));

    let ended = run(&mut ground.command(&["serve", "--config", "literal.toml"]), PATIENCE);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    searched.ended("a configuration with its secrets in it", &ended);
    // In a form that none of them has: what is wrong is told, and not what it is.
    ground.folder.write("ringback.toml", &ground.toml);
    let mut command = ground.command(&["serve", "--config", "ringback.toml"]);
    command.envs(ground.canaries.iter());
    let ended = run(&mut command, PATIENCE);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    searched.ended("secrets of the wrong form", &ended);

    // The log of a bridge that took no call and told nothing would prove nothing.
    assert!(taken >= 12, "only {taken} calls were taken");
    for word in ["call started", "call ended", "401", "404", "DEBUG"] {
        assert!(log.contains(word), "no {word:?} in the log");
    }
    assert!(searched.control >= 2, "the control was found in {} places", searched.control);
    println!(
        "{} secrets, {taken} calls taken, {refused} refused: 0 found in {} octets at {} places; the control at {}",
        ground.canaries.len() + ELSEWHERE.len(),
        searched.octets,
        searched.places,
        searched.control
    );
}
