//! What the server crate reads by itself: frames of WebSockets from either end, answers to our requests for streams, configurations.

use ringback::config::{Config, Context, Overrides};
use ringback::socket::Asking;
use ringback::socket::wire::{Kind, Reader, Role, WireError, Writer};
use ringback_proto::provider::OutgoingUpgrade;

use crate::script::{Draft, Script};
use crate::seeds;

/// Largest message taken.
const LIMIT: usize = 2_000;

type Read = (Kind, Vec<u8>);

fn messages(role: Role, stream: &[u8], piece: usize) -> (Vec<Read>, Option<WireError>) {
    let (mut reader, mut found) = (Reader::new(role, LIMIT), Vec::new());
    for piece in stream.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(arrival)) => {
                    let octets = reader.octets(&arrival);
                    if arrival.kind == Kind::Text {
                        assert_eq!(reader.text(&arrival).as_bytes(), octets);
                    }
                    found.push((arrival.kind, octets.to_vec()));
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(reader.space().len() <= 64 * 1024, "room for more than may come");
    }
    (found, None)
}

/// Octets off the wire are the same messages in whatever pieces they come; written again by the other end, they are read as the same.
pub(super) fn frames(role: Role, octets: &[u8]) {
    let Some((&piece, stream)) = octets.split_first() else { return };
    let (whole, error) = messages(role, stream, stream.len().max(1));
    let pieces = messages(role, stream, usize::from(piece) + 1);
    assert_eq!((&whole, error), (&pieces.0, pieces.1), "in pieces it is something else");
    let other = match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
        Role::Records => Role::Records,
    };
    let mut writer = Writer::new(other);
    for (kind, octets) in &whole {
        let control = matches!(kind, Kind::Ping | Kind::Pong | Kind::Close);
        assert!(octets.len() <= if control { 125 } else { LIMIT });
        writer.push(*kind, octets);
    }
    let written = writer.pending().to_vec();
    let (again, failed) = messages(role, &written, 11);
    assert_eq!((again, failed), (whole, None));
}

pub(super) fn frame_seeds(role: Role) -> Vec<Vec<u8>> {
    let other = if role == Role::Client { Role::Server } else { Role::Client };
    let head = |first: u8, payload: &[u8]| {
        let mask: &[u8] = if role == Role::Server { &[0; 4] } else { &[] };
        let bit = if role == Role::Server { 0x80 } else { 0 };
        [&[first, bit | payload.len() as u8][..], mask, payload].concat()
    };
    if role == Role::Records {
        let records = [&[0x01, 0, 2, 7, 8][..], &[0x10, 0, 4, 1, 2, 3, 4], &[0, 0, 0]].concat();
        return vec![[&[3][..], &records].concat(), vec![0, 0x10, 1]];
    }
    let mut writer = Writer::new(other);
    writer.push(Kind::Text, "text \u{e9}".as_bytes());
    writer.push(Kind::Ping, b"life");
    writer.push(Kind::Binary, &[9; 300]);
    writer.push_close(1000, "over");
    let pieces = [
        head(0x01, b"frag"),
        head(0x89, b"between"),
        head(0x00, "m\u{e9}nt".as_bytes()),
        head(0x80, b"ed"),
    ];
    vec![
        [&[40][..], writer.pending()].concat(),
        [&[0][..], &pieces.concat()].concat(),
        [&[5][..], &head(0x81, &[0xff, 0xfe])].concat(),
        [&[1][..], &head(0x88, &[3, 233, b'x'])].concat(),
        [&[1][..], &[0x82, 0xff], &u64::MAX.to_be_bytes(), &[0; 4]].concat(),
    ]
}

/// An answer to a request for a stream is read the same in whatever pieces it comes, and never takes more than a head's room.
pub(super) fn answer(octets: &[u8]) {
    let mut script = Script::new(octets);
    let (piece, offered) = (usize::from(script.octet()) + 1, script.octet());
    let stream = script.rest();
    let subprotocols = ["media", "audio.v1"].iter().take(usize::from(offered) % 3);
    let request = OutgoingUpgrade {
        target: "/x".into(),
        subprotocols: subprotocols.map(|name| (*name).to_owned()).collect(),
        ..OutgoingUpgrade::default()
    };
    let Ok(mut asking) = Asking::new("bridge.example", &request) else { return };
    assert!(asking.request().ends_with(b"\r\n\r\n"));
    for piece in stream.chunks(piece).chain([&[][..]]) {
        match asking.take(piece) {
            Ok(None) => {}
            // The key is made anew each time: nobody can have answered it.
            Ok(Some(agreed)) => panic!("agreed with a stranger: {agreed:?}"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.len() < 8 * 1024, "{} octets of an error", said.len());
                return;
            }
        }
    }
    panic!("an answer that ended was neither yes nor no");
}

pub(super) fn answer_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: media\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nfull",
        "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwrong\r\n0\r\n\r\n",
        "HTTP/1.0 404 X\n\n",
    ];
    let each = texts.iter().map(|text| [&[60, 1][..], text.as_bytes()].concat());
    each.collect()
}

/// Text as a configuration: taken or refused with places in it, and never with what an environment variable holds.
pub(super) fn configuration(octets: &[u8]) {
    const HELD: &str = "c4n4ry-0f-4n-3nv1r0nm3nt";
    let text = String::from_utf8_lossy(octets);
    // Files that it names are opened; these never end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    // Those that set keys of the file are no secrets.
    let variable = |name: &str| (!name.starts_with("RINGBACK_")).then(|| HELD.to_owned());
    let context = Context { variable: &variable, ..Context::of_process() };
    match Config::parse("fuzz.toml", &text, &Overrides::default(), &context) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.routes.is_empty());
            let told = format!("{}{config:?}", config.summary());
            assert!(!told.contains(HELD), "a secret is told: {told}");
            // Read again it means the same.
            let again = Config::parse("fuzz.toml", &text, &Overrides::default(), &context);
            assert_eq!(format!("{config:?}"), format!("{:?}", again.expect("it was taken before")));
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            let told = error.to_string();
            assert!(!told.contains(HELD), "a secret is told: {told}");
            assert!(told.len() <= 4_096 + 64 * text.len(), "{} octets of problems", told.len());
        }
    }
}

/// The example in parts, and whole with all that is switched off in it.
pub(super) fn configuration_seeds() -> Vec<Vec<u8>> {
    let path = seeds::root().join("examples/ringback.toml");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let is_setting = |line: &&str| {
        let bare = line.trim_start_matches('#');
        !bare.starts_with(' ') && !bare.is_empty()
    };
    let on: Vec<_> =
        text.lines().filter(is_setting).map(|line| line.trim_start_matches('#')).collect();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut part = String::new();
    for line in on {
        if line.starts_with('[') && !part.is_empty() {
            seeds.push(std::mem::take(&mut part).into_bytes());
        }
        part += line;
        part += "\n";
    }
    seeds.push(part.into_bytes());
    seeds.push(Draft::new().piece(b"[[listener]]").done());
    seeds
}
