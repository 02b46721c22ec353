//! Our WebSocket wire against an independent implementation of RFC 6455, and against octets that make no sense.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use ringback::socket::wire::{Arrival, Kind, Reader, Role, WireError, Writer};
use tungstenite::protocol::{self, CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const MAX: usize = 1 << 20;

/// A connection in memory: what was put in is read, what is written is kept.
#[derive(Default)]
struct Pipe {
    input: io::Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            octets => Ok(octets),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.output.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other implementation, as the peer of `ours`.
fn theirs(ours: Role, input: Vec<u8>) -> WebSocket<Pipe> {
    let role = match ours {
        Role::Client => protocol::Role::Server,
        Role::Server => protocol::Role::Client,
    };
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let pipe = Pipe { input: io::Cursor::new(input), ..Pipe::default() };
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

/// What `ours` reads of octets that come in pieces of `piece`.
fn read(role: Role, octets: &[u8], piece: usize) -> Result<Vec<(Kind, Vec<u8>)>, WireError> {
    let mut reader = Reader::new(role, MAX);
    let mut messages = Vec::new();
    for piece in octets.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(arrival) = reader.next_message()? {
            let Arrival { kind, .. } = arrival;
            messages.push((kind, reader.octets(&arrival).to_vec()));
        }
    }
    Ok(messages)
}

fn payload(kind: Kind, length: usize) -> Vec<u8> {
    (0..length).map(|i| if kind == Kind::Text { b'a' + (i % 26) as u8 } else { i as u8 }).collect()
}

fn both_ways(role: Role, kind: Kind, length: usize) {
    let octets = payload(kind, length);
    let mut writer = Writer::new(role);
    writer.push(kind, &octets);
    let mut peer = theirs(role, writer.pending().to_vec());
    let heard = peer.read().expect("well-formed");
    assert_eq!(heard.into_data(), octets, "{role:?} {kind:?} of {length}");

    let message = match kind {
        Kind::Text => Message::text(String::from_utf8(octets.clone()).expect("letters")),
        _ => Message::binary(octets.clone()),
    };
    let mut peer = theirs(role, Vec::new());
    peer.send(message).expect("memory takes it");
    let sent = &peer.get_ref().output;
    for piece in [1, 7, 4_096, sent.len()] {
        let heard = read(role, sent, piece).expect("well-formed");
        assert_eq!(heard, [(kind, octets.clone())], "{role:?} {kind:?} of {length}");
    }
}

#[test]
fn messages_of_every_kind_of_length_are_understood_both_ways() {
    for role in [Role::Client, Role::Server] {
        for kind in [Kind::Text, Kind::Binary] {
            for length in [0, 1, 7, 8, 9, 125, 126, 127, 381, 65_535, 65_536, 70_000] {
                both_ways(role, kind, length);
            }
        }
    }
}

#[test]
fn control_frames_and_closes_are_understood_both_ways() {
    for role in [Role::Client, Role::Server] {
        let mut writer = Writer::new(role);
        writer.push(Kind::Ping, b"are you there");
        writer.push_close(1001, "going away");
        let mut peer = theirs(role, writer.pending().to_vec());
        assert_eq!(peer.read().expect("a ping"), Message::Ping("are you there".into()));
        let close = CloseFrame { code: 1001.into(), reason: "going away".into() };
        assert_eq!(peer.read().expect("a close"), Message::Close(Some(close)));
        // Closed by then, which it may call an error.
        let _ = peer.flush();
        let answers = read(role, &peer.get_ref().output, 3).expect("well-formed");
        let kinds: Vec<_> = answers.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Pong, Kind::Close]);
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..600), piece in 1_usize..64) {
        for role in [Role::Client, Role::Server] {
            let _ = read(role, &octets, piece);
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9_000)), 1..6),
        piece in 1_usize..5_000,
    ) {
        let mut writer = Writer::new(Role::Client);
        let messages: Vec<_> = messages
            .into_iter()
            .map(|(is_text, octets)| if is_text {
                (Kind::Text, String::from_utf8_lossy(&octets).into_owned().into_bytes())
            } else {
                (Kind::Binary, octets)
            })
            .collect();
        for (kind, octets) in &messages {
            writer.push(*kind, octets);
        }
        prop_assert_eq!(read(Role::Server, writer.pending(), piece), Ok(messages));
    }
}
