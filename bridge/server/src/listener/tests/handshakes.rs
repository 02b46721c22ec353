//! Opening handshakes by the table: what is let in, what is refused, and what each is told (RFC 6455, section 4; RFC 9112).

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What [`KEY`] is answered with (RFC 6455, section 1.3).
const ACCEPT: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request and what comes of it.
struct Case {
    what: &'static str,
    request: Vec<u8>,
    /// 0 for a connection that is closed without a word.
    status: u16,
    /// In head or body of the answer.
    told: &'static str,
}

fn case(what: &'static str, request: impl Into<Vec<u8>>, status: u16, told: &'static str) -> Case {
    Case { what, request: request.into(), status, told }
}

/// [`UPGRADE`] with more fields.
fn with(fields: &str) -> String {
    format!("{UPGRADE}{fields}\r\n\r\n")
}

/// [`UPGRADE`] with another value in the place of the key.
fn with_key(key: &str) -> String {
    but(KEY, key)
}

fn with_target(target: &str) -> String {
    but("/stream", target)
}

#[rustfmt::skip]
fn good() -> Vec<Case> {
    let (host, version) = ("Host: bridge\r\n", "Sec-WebSocket-Version: 13\r\n");
    vec![
        case("as every library sends it", but("13", "13"), 101, ACCEPT),
        case("an upgrade is answered with one", but("13", "13"), 101, "upgrade: websocket"),
        case("and a connection that is upgraded", but("13", "13"), 101, "connection: upgrade"),
        case("field names in any case", UPGRADE.replace("Upgrade:", "UPGRADE:").replace("Host", "hOST") + "\r\n", 101, ACCEPT),
        case("`Upgrade` in another case", but("websocket", "WebSocket"), 101, ACCEPT),
        case("`Upgrade` as a list", but("Upgrade: websocket", "Upgrade: h2c, websocket"), 101, ACCEPT),
        case("`Upgrade` as two fields", but("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"), 101, ACCEPT),
        case("`Connection` with the token alone", but("keep-alive, Upgrade", "Upgrade"), 101, ACCEPT),
        case("`Connection` in another case", but("keep-alive, Upgrade", "KEEP-ALIVE ,upgrade"), 101, ACCEPT),
        case("`Connection` as two fields", but("keep-alive, Upgrade", "keep-alive\r\nConnection: Upgrade"), 101, ACCEPT),
        case("a list with an empty element", but("keep-alive, Upgrade", "keep-alive,, Upgrade,"), 101, ACCEPT),
        case("white space around values", but(version, "Sec-WebSocket-Version:   13 \t\r\n"), 101, ACCEPT),
        case("no white space at all", UPGRADE.replace(": ", ":") + "\r\n", 101, ACCEPT),
        case("a host with a port", but(host, "Host: bridge.example:8080\r\n"), 101, ACCEPT),
        case("a host of IPv6", but(host, "Host: [2001:db8::1]:8080\r\n"), 101, ACCEPT),
        case("a query", with_target("/stream?room=1&x=%20"), 101, ACCEPT),
        case("the target as a whole URL", with_target("http://bridge/stream"), 101, ACCEPT),
        case("the key of the standard's other example", with_key("AQIDBAUGBwgJCgsMDQ4PEC=="), 101, "sec-websocket-accept: "),
        case("a key of all signs", with_key("+/+/+/+/+/+/+/+/+/+/+w=="), 101, "sec-websocket-accept: "),
        case("our own page", with("Origin: http://bridge"), 101, ACCEPT),
        case("our own page by TLS", with("Origin: https://bridge"), 101, ACCEPT),
        case("a page that is listed", with("Origin: https://phone.example"), 101, ACCEPT),
        case("a page that is listed, in another case", with("Origin: HTTPS://Phone.Example"), 101, ACCEPT),
        case("a subprotocol", with("Sec-WebSocket-Protocol: audio.v1"), 101, "sec-websocket-protocol: audio.v1"),
        case("the first of several", with("Sec-WebSocket-Protocol: b, a\r\nSec-WebSocket-Protocol: c"), 101, "sec-websocket-protocol: b\r\n"),
        case("an extension is not taken up", with("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), 101, ACCEPT),
        case("an extension in quotes is not either", with("Sec-WebSocket-Extensions: x; a=\"1\"; b=2, y"), 101, ACCEPT),
        case("fields nobody knows", with("X-Unknown: \u{e9}\r\nCookie: a=b"), 101, ACCEPT),
        case("no body, said in a field", with("Content-Length: 0"), 101, ACCEPT),
        case("an empty line before it", format!("\r\n{UPGRADE}\r\n"), 101, ACCEPT),
        case("line feeds alone", but("13", "13").replace("\r\n", "\n"), 101, ACCEPT),
        case("as many fields as there may be", with(&["X: y"; 59].join("\r\n")), 101, ACCEPT),
    ]
}

#[rustfmt::skip]
fn bad_requests() -> Vec<Case> {
    let host = "Host: bridge\r\n";
    let get = |method: &str| but("GET /", &format!("{method} /"));
    let mut octets = with("X-Octets: ?").into_bytes();
    octets.iter_mut().filter(|octet| **octet == b'?').for_each(|octet| *octet = 0xFF);
    vec![
        case("POST", get("POST"), 405, "allow: GET"),
        case("PUT", get("PUT"), 405, "allow: GET"),
        case("HEAD", get("HEAD"), 405, "allow: GET"),
        case("OPTIONS", get("OPTIONS"), 405, "allow: GET"),
        case("a method is not in any case", get("get"), 405, "allow: GET"),
        case("a method of nobody", get("BREW"), 405, "allow: GET"),
        case("HTTP/1.0", but("HTTP/1.1", "HTTP/1.0"), 400, "needs HTTP/1.1"),
        case("HTTP/1.2", but("HTTP/1.1", "HTTP/1.2"), 400, "HTTP/1.1 400"),
        case("HTTP/0.9", "GET /stream\r\n\r\n", 400, ""),
        case("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, ""),
        case("no HTTP at all", "garbage\r\n\r\n", 400, ""),
        case("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", 400, ""),
        case("TLS where there is none", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x0D, 0x0A][..], 400, ""),
        case("no host", but(host, ""), 400, "`host` must be there exactly once"),
        case("two hosts", but(host, "Host: a\r\nHost: b\r\n"), 400, "`host` must be there exactly once"),
        case("the same host twice", but(host, &host.repeat(2)), 400, "`host` must be there exactly once"),
        case("an empty host", but(host, "Host:\r\n"), 400, "`Host` must name"),
        case("a host with a path", but(host, "Host: bridge/x\r\n"), 400, "`Host` must name"),
        case("a host of two words", but(host, "Host: bridge evil\r\n"), 400, "`Host` must name"),
        case("a body", with("Content-Length: 5"), 400, "no body"),
        case("a body in chunks", with("Transfer-Encoding: chunked"), 400, "no body"),
        case("a body both ways", with("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, ""),
        case("two lengths of a body", with("Content-Length: 0\r\nContent-Length: 5"), 400, ""),
        case("a length that is none", with("Content-Length: +0"), 400, ""),
        case("a field over two lines", with("X-Folded: a\r\n b"), 400, ""),
        case("a field without a colon", with("X-Nothing"), 400, ""),
        case("a space before the colon", with("X-Space : a"), 400, ""),
        case("a field without a name", with(": a"), 400, ""),
        case("a control character in a value", with("X-Control: a\u{1}b"), 400, ""),
        case("a null in a value", with("X-Null: a\0b"), 400, ""),
        case("a carriage return alone in a value", with("X-Return: a\rb"), 400, ""),
        case("a value that is not UTF-8", octets, 400, "not UTF-8"),
        case("one field too many", with(&["X: y"; 60].join("\r\n")), 431, ""),
        case("a head that is too long", with(&format!("X-Long: {}", "x".repeat(20_000))), 431, ""),
        case("a path that is too long", with_target(&format!("/{}", "x".repeat(20_000))), 431, ""),
    ]
}

#[rustfmt::skip]
fn bad_upgrades() -> Vec<Case> {
    let upgrade = "Upgrade: websocket\r\n";
    let connection = "keep-alive, Upgrade";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let as_version = |value: &str| but("Version: 13", &format!("Version: {value}"));
    let (one_key, octets) = ("`sec-websocket-key` must be there exactly once", "16 octets");
    let (version_13, protocols) = ("sec-websocket-version: 13", "are lists of names, each once");
    vec![
        case("no `Upgrade`", but(upgrade, ""), 426, "upgrade: websocket"),
        case("an upgrade to something else", but("websocket", "h2c"), 426, "`Upgrade: websocket`"),
        case("an upgrade to nothing", but("Upgrade: websocket", "Upgrade:"), 426, "upgrade: websocket"),
        case("a word that begins so", but("websocket", "websockets"), 426, "upgrade: websocket"),
        case("two words", but("websocket", "web socket"), 426, "upgrade: websocket"),
        case("no `Connection`", but("Connection: keep-alive, Upgrade\r\n", ""), 400, "`Connection` must contain"),
        case("a connection that is kept", but(connection, "keep-alive"), 400, "`Connection` must contain"),
        case("a connection that is closed", but(connection, "close"), 400, "`Connection` must contain"),
        case("a token that begins so", but(connection, "upgrades"), 400, "`Connection` must contain"),
        case("no version", but(version, ""), 426, version_13),
        case("an older version", as_version("8"), 426, version_13),
        case("a version that was never used", as_version("12"), 426, version_13),
        case("a version to come", as_version("25"), 426, version_13),
        case("a list of versions", as_version("13, 8"), 426, version_13),
        case("two versions", as_version("13\r\nSec-WebSocket-Version: 8"), 426, version_13),
        case("a version with a nought before it", as_version("013"), 426, version_13),
        case("an empty version", as_version(""), 426, version_13),
        case("no key", but(key, ""), 400, one_key),
        case("two keys", but(key, &key.repeat(2)), 400, one_key),
        case("an empty key", with_key(""), 400, octets),
        case("a key of 3 octets", with_key("AAAA"), 400, octets),
        case("a key of 15 octets", with_key("AAAAAAAAAAAAAAAAAAAA"), 400, octets),
        case("a key of 17 octets", with_key("AAAAAAAAAAAAAAAAAAAAAAA="), 400, octets),
        case("a key without padding", with_key("dGhlIHNhbXBsZSBub25jZQ"), 400, octets),
        case("a key of another alphabet", with_key("-_-_-_-_-_-_-_-_-_-_-w=="), 400, octets),
        case("a key with a space in it", with_key("dGhlIHNhbXB sZSBub25jZQ=="), 400, octets),
        case("a key that is none", with_key("!GhlIHNhbXBsZSBub25jZQ=="), 400, octets),
        case("an empty subprotocol", with("Sec-WebSocket-Protocol:"), 400, protocols),
        case("a subprotocol missing in a list", with("Sec-WebSocket-Protocol: a,,b"), 400, protocols),
        case("a subprotocol of two words", with("Sec-WebSocket-Protocol: a b"), 400, protocols),
        case("a subprotocol with a sign of the list", with("Sec-WebSocket-Protocol: a;b"), 400, protocols),
        case("a subprotocol twice", with("Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: a"), 400, protocols),
        case("an empty extension", with("Sec-WebSocket-Extensions:"), 400, protocols),
        case("an extension without a name", with("Sec-WebSocket-Extensions: ; a=1"), 400, protocols),
        case("a parameter without a name", with("Sec-WebSocket-Extensions: x; =1"), 400, protocols),
        case("a quote that is not closed", with("Sec-WebSocket-Extensions: x; a=\"1"), 400, protocols),
    ]
}

#[rustfmt::skip]
fn strangers() -> Vec<Case> {
    let origin = |origin: &str| with(&format!("Origin: {origin}"));
    vec![
        case("another page", origin("https://evil.example"), 403, "`origins`"),
        case("a page of nowhere", origin("null"), 403, "`origins`"),
        case("an empty origin", origin(""), 403, "`origins`"),
        case("our name at another port", origin("http://bridge:81"), 403, "`origins`"),
        case("a name that begins as ours", origin("http://bridge.evil.example"), 403, "`origins`"),
        case("a name that ends as ours", origin("http://evil-bridge"), 403, "`origins`"),
        case("our name behind another", origin("http://evil.example/http://bridge"), 403, "`origins`"),
        case("our name as a user", origin("http://bridge@evil.example"), 403, "`origins`"),
        case("a listed page without TLS", origin("http://phone.example"), 403, "`origins`"),
        case("two origins", origin("http://bridge\r\nOrigin: https://evil.example"), 400, "exactly once"),
        case("a wrong credential", with("Authorization: Bearer wrong"), 401, "www-authenticate: Bearer"),
        case("no such path", with_target("/streams"), 404, "[[listener]]"),
        case("a path below", with_target("/stream/"), 404, "[[listener]]"),
        case("a path in another case", with_target("/STREAM"), 404, "[[listener]]"),
        case("a path with two slashes", with_target("//stream"), 404, "[[listener]]"),
        case("a path that is written otherwise", with_target("/%73tream"), 404, "[[listener]]"),
        case("a path through another", with_target("/x/../stream"), 404, "[[listener]]"),
        case("a path with a null", with_target("/stream%00"), 404, "[[listener]]"),
        case("a fragment", with_target("/streams#/stream"), 404, "[[listener]]"),
    ]
}

/// What is said back: all of it if the connection is closed, the head if it is upgraded.
async fn answer(connector: &MemoryConnector, request: &[u8]) -> String {
    let mut io = connector.connect().await.unwrap();
    // Who refuses a long request may not read it to the end.
    let _ = io.write_all(request).await;
    let mut answer = Vec::new();
    while !(answer.starts_with(b"HTTP/1.1 101") && answer.windows(4).any(|end| end == b"\r\n\r\n"))
    {
        if !matches!(io.read_buf(&mut answer).await, Ok(1..)) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// What is wrong with the answer to a request, if anything is.
async fn wrong(connector: &MemoryConnector, case: &Case) -> Option<String> {
    let Case { what, request, status, told } = case;
    let clock = Clock::start();
    let answer = answer(connector, request).await;
    let found = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_upgraded = *status == 101;
    let offers = String::from_utf8_lossy(request).contains("Sec-WebSocket-Protocol");
    let has = |field: &str| answer.contains(field);
    let as_expected = found == *status
        && has(told)
        && has("sec-websocket-accept: ") == is_upgraded
        && has("sec-websocket-protocol: ") == (is_upgraded && offers)
        && !has("sec-websocket-extensions")
        && has("connection: close") == !matches!(status, 0 | 101)
        // Nobody waits for what does not come.
        && clock.now().since_epoch() < Duration::from_secs(1);
    (!as_expected).then(|| format!("{what}: wanted {status} {told:?}, found {answer}"))
}

#[tokio::test(start_paused = true)]
async fn opening_handshakes_are_checked_strictly_and_refused_helpfully() {
    let (connector, _server, _shutdown) = in_memory();
    let cases: Vec<_> =
        [good(), bad_requests(), bad_upgrades(), strangers()].into_iter().flatten().collect();
    assert!(cases.len() >= 120, "{} requests", cases.len());
    let mut wrong_ones = Vec::new();
    for case in &cases {
        wrong_ones.extend(wrong(&connector, case).await);
    }
    assert!(wrong_ones.is_empty(), "{} are wrong:\n{}", wrong_ones.len(), wrong_ones.join("\n"));
    assert!(get(&connector, "/healthz").await.starts_with("HTTP/1.1 200 "));
}
