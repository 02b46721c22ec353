//! The operator's side over sockets: who is answered, what the API does to live calls, and events over HTTP/1.1 and HTTP/2.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its bridge has failed")]

mod access;
mod api;
mod endpoints;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tenants;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ringback::net::Io;
use ringback_proto::provider::{Dial, find};
use serde_json::Value;
use support::{Caller, Folder, Host, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Secrets by the names of their tokens, and what each opens.
const TOKENS: [(&str, &str, &str); 6] = [
    ("reader", "reader-0123456789abcdef", "scopes = [\"read\"]"),
    ("listener", "listener-0123456789abcdef", "scopes = [\"listen\"]"),
    ("controller", "controller-0123456789abcdef", "scopes = [\"control\"]"),
    ("admin", "admin-0123456789abcdef", "scopes = [\"read\", \"listen\", \"control\", \"admin\"]"),
    (
        "acme",
        "acme-0123456789abcdef",
        "tenant = \"acme\"\nscopes = [\"read\", \"listen\", \"control\", \"admin\"]",
    ),
    (
        "globex",
        "globex-0123456789abcdef",
        "tenant = \"globex\"\nscopes = [\"read\", \"listen\", \"control\", \"admin\"]",
    ),
];

/// The secret of a token.
fn secret(name: &str) -> &'static str {
    TOKENS.iter().find(|(known, ..)| *known == name).unwrap().1
}

/// A bridge with an operator's side and those tokens, a listener for each of two tenants, and one of nobody's.
fn toml(folder: &Folder) -> String {
    let mut text = String::from("[operator]\nbind = \"127.0.0.1:0\"\n");
    for (name, secret, more) in TOKENS {
        let file = folder.write(name, secret);
        let token = support::quoted(format!("file:{}", file.display()));
        text += &format!("[[operator.token]]\nname = \"{name}\"\ntoken = {token}\n{more}\n");
    }
    for tenant in ["acme", "globex"] {
        text += &format!("[[tenant]]\nname = \"{tenant}\"\n");
        text += &listener(tenant, &format!("tenant = \"{tenant}\""));
    }
    let endpoints = support::quoted(folder.path("doors.json").display());
    text += &listener("doors", &format!("tenant = \"acme\"\nendpoints = {endpoints}"));
    text + &listener("raw", "") + "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n"
}

fn listener(name: &str, keys: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"raw\"\n{keys}\n")
}

/// A call at a listener, which has started.
async fn call(host: &Host, io: impl Io, listener: &str, name: &str) -> Caller {
    let dial = Dial { target: format!("/{listener}"), call: name.into(), ..Dial::default() };
    let provider = find("raw").unwrap();
    let mut caller = Caller::dial(host.clock, io, provider, &dial, &[]).await.unwrap();
    caller.format().await;
    caller
}

/// A path of the document with the names of what there is, a call among them.
fn path_of(path: &str, call: &str) -> String {
    path.replace("{call}", call).replace("{listener}", "doors").replace("{endpoint}", "e-none")
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Asks over a connection of its own: `target` is method and path.
async fn ask_over(
    mut io: impl Io,
    target: &str,
    token: Option<&str>,
    fields: &[(&str, &str)],
) -> Answer {
    let mut request = format!("{target} HTTP/1.1\r\nconnection: close\r\n");
    if !fields.iter().any(|(name, _)| *name == "host") {
        request += "host: localhost\r\n";
    }
    if let Some(token) = token {
        request += &format!("authorization: Bearer {token}\r\n");
    }
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    io.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    soon("an answer", io.read_to_end(&mut octets)).await.unwrap();
    parsed(&octets)
}

fn parsed(octets: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(octets).unwrap() else {
        panic!("no whole answer: {:?}", String::from_utf8_lossy(octets))
    };
    let fields = head.headers.iter().map(|field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(field.value).unwrap())
    });
    Answer {
        status: head.code.unwrap(),
        headers: fields.collect(),
        text: String::from_utf8(octets[end..].to_vec()).unwrap(),
    }
}

/// Asks a bridge's operator's side over TCP.
async fn ask(host: &Host, target: &str, token: &str) -> Answer {
    ask_with(host, target, Some(secret(token)), &[]).await
}

/// The same with or without any token, and with header fields.
async fn ask_with(
    host: &Host,
    target: &str,
    token: Option<&str>,
    fields: &[(&str, &str)],
) -> Answer {
    let io = tokio::net::TcpStream::connect(host.operator.unwrap()).await.unwrap();
    ask_over(io, target, token, fields).await
}
