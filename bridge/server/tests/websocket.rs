//! Our WebSocket wire against an independent implementation of RFC 6455, and against octets that make no sense.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use ringback::socket::wire::{Arrival, Kind, Reader, Role, WireError, Writer};
use tungstenite::protocol::{self, CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const MAX: usize = 1 << 20;

type Messages = Vec<(Kind, Vec<u8>)>;

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
        Role::Records => unreachable!("records are no WebSocket"),
    };
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let pipe = Pipe { input: io::Cursor::new(input), ..Pipe::default() };
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

/// What `ours` reads of octets that come in pieces of `piece`.
fn read(role: Role, octets: &[u8], piece: usize) -> Result<Messages, WireError> {
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

/// Longest message where two implementations are compared.
const SMALL: usize = 300;

/// A frame as somebody might send it, right or wrong.
#[derive(Debug, Clone)]
struct Frame {
    fin: bool,
    reserved: u8,
    opcode: u8,
    is_masked: bool,
    /// Octets of the length behind the first: 0, 2 or 8; more if the payload needs them.
    width: usize,
    payload: Vec<u8>,
}

impl Frame {
    fn is_wider_than_needed(&self) -> bool {
        self.width() > width_of(self.payload.len())
    }

    fn width(&self) -> usize {
        self.width.max(width_of(self.payload.len()))
    }

    fn write(&self, octets: &mut Vec<u8>) {
        octets.push(u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode);
        let bit = u8::from(self.is_masked) << 7;
        let length = self.payload.len();
        match self.width() {
            0 => octets.push(bit | length as u8),
            2 => {
                octets.push(bit | 126);
                octets.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                octets.push(bit | 127);
                octets.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask = if self.is_masked { [0x5A, 0x00, 0xC3, 0x81] } else { [0; 4] };
        if self.is_masked {
            octets.extend_from_slice(&mask);
        }
        octets.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(octet, m)| octet ^ m));
    }
}

const fn width_of(length: usize) -> usize {
    match length {
        0..=125 => 0,
        126..=0xFFFF => 2,
        _ => 8,
    }
}

/// Codes good and bad, about every border, with a reason.
fn closes() -> impl Strategy<Value = Vec<u8>> {
    let codes = [0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1013, 1015, 1016];
    let codes = [&codes[..], &[2999, 3000, 4000, 4999, 5000, 65_535]].concat();
    (prop::sample::select(codes), "[a-zé]{0,5}")
        .prop_map(|(code, reason): (u16, _)| [&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// Text whole and cut, octets at random, and lengths about every border.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zé€😀]{0,8}".prop_map(String::into_bytes);
    let lengths = prop::sample::select(vec![0, 1, 124, 125, 126, 127, 200, SMALL, SMALL + 1]);
    prop_oneof![
        8 => text.clone(),
        2 => (text, 0_usize..4).prop_map(|(mut text, less)| {
            text.truncate(text.len().saturating_sub(less));
            text
        }),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        2 => prop::sample::select(vec![b"\xC3".to_vec(), b"\xA9".to_vec()]),
        3 => lengths.prop_map(|length| vec![b'x'; length]),
    ]
}

/// What is usual, and now and then something else.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![30 => Just(usual), 1 => other]
}

/// Mostly right for `role` to read, so that something goes on for some frames.
fn frames(role: Role) -> impl Strategy<Value = Vec<Frame>> {
    let opcode = prop_oneof![
        24 => prop::sample::select(vec![1_u8, 2]),
        8 => prop::sample::select(vec![9_u8, 10]),
        1 => 0_u8..16,
    ];
    let content = prop_oneof![15 => (opcode, payloads()), 1 => (Just(8), closes())];
    let right = role == Role::Server;
    let bits = (any::<bool>(), mostly(0, 0_u8..8), mostly(right, Just(!right)));
    let width = mostly(0, prop::sample::select(vec![2_usize, 8]));
    let frame = (content, bits, width, mostly(true, Just(false))).prop_map(
        |((opcode, payload), (fin, reserved, is_masked), width, in_order)| {
            (in_order, Frame { fin, reserved, opcode, is_masked, width, payload })
        },
    );
    prop::collection::vec(frame, 1..12).prop_map(|frames| {
        let mut is_open = false;
        let put_in_order = |(in_order, mut frame): (bool, Frame)| {
            match frame.opcode {
                8.. => frame.fin |= in_order,
                1 | 2 if in_order => {
                    frame.opcode = if is_open { 0 } else { frame.opcode };
                    is_open = !frame.fin;
                }
                _ => {}
            }
            frame
        };
        frames.into_iter().map(put_in_order).collect()
    })
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All was taken, or all up to a close.
    Taken,
    Refused,
    /// Refused because a text is not UTF-8, which the other implementation says as soon as it can and ours at the text's end.
    NotUtf8,
}

/// What the other implementation reads in our place.
fn read_by_theirs(role: Role, octets: Vec<u8>) -> (Messages, End) {
    let role = match role {
        Role::Client => protocol::Role::Client,
        Role::Server => protocol::Role::Server,
        Role::Records => unreachable!("records are no WebSocket"),
    };
    let limits =
        WebSocketConfig::default().max_message_size(Some(SMALL)).max_frame_size(Some(SMALL));
    let pipe = Pipe { input: io::Cursor::new(octets), ..Pipe::default() };
    let mut theirs = WebSocket::from_raw_socket(pipe, role, Some(limits));
    let mut messages = Vec::new();
    loop {
        let message = match theirs.read() {
            Ok(message) => message,
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, End::Taken);
            }
            Err(tungstenite::Error::Utf8(_)) => return (messages, End::NotUtf8),
            Err(_) => return (messages, End::Refused),
        };
        let kind = match &message {
            Message::Text(_) => Kind::Text,
            Message::Binary(_) => Kind::Binary,
            Message::Ping(_) => Kind::Ping,
            Message::Pong(_) => Kind::Pong,
            // Its way to refuse the code of a close.
            Message::Close(Some(close)) if close.reason == "Protocol violation" => {
                return (messages, End::Refused);
            }
            Message::Close(close) => {
                let code = close.iter().flat_map(|close| u16::from(close.code).to_be_bytes());
                let reason = close.iter().flat_map(|close| close.reason.bytes());
                messages.push((Kind::Close, code.chain(reason).collect()));
                return (messages, End::Taken);
            }
            Message::Frame(frame) => panic!("never read: {frame:?}"),
        };
        messages.push((kind, message.into_data().to_vec()));
    }
}

/// What we read, up to the first close or, to look behind it, to the end.
fn read_by_ours(role: Role, octets: &[u8], piece: usize, past_closes: bool) -> (Messages, End) {
    let mut reader = Reader::new(role, SMALL);
    let mut messages = Vec::new();
    for piece in octets.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(None) => break,
                Ok(Some(arrival)) => {
                    messages.push((arrival.kind, reader.octets(&arrival).to_vec()));
                    if arrival.kind == Kind::Close && !past_closes {
                        return (messages, End::Taken);
                    }
                }
                Err(WireError::NotUtf8 { .. }) => return (messages, End::NotUtf8),
                Err(_) => return (messages, End::Refused),
            }
        }
    }
    (messages, End::Taken)
}

/// Expects both to take and to refuse the same.
fn compare(role: Role, frames: &[Frame], piece: usize) -> Result<(), TestCaseError> {
    // Lengths wider than needed are forbidden (RFC 6455, 5.2), but the other implementation lets them pass.
    let shared = frames.iter().take_while(|frame| !frame.is_wider_than_needed());
    let mut octets = Vec::new();
    shared.for_each(|frame| frame.write(&mut octets));
    let (theirs, their_end) = read_by_theirs(role, octets.clone());
    let (ours, our_end) = read_by_ours(role, &octets, piece, false);
    if their_end == End::NotUtf8 {
        prop_assert!(ours.starts_with(&theirs), "{:?} of {:?}", ours, theirs);
        let end = Frame {
            fin: true,
            reserved: 0,
            opcode: 0,
            is_masked: role == Role::Server,
            width: 0,
            payload: Vec::new(),
        };
        end.write(&mut octets);
        prop_assert_ne!(read_by_ours(role, &octets, piece, true).1, End::Taken);
        return Ok(());
    }
    prop_assert_eq!((&ours, our_end), (&theirs, their_end));
    let wide = frames.iter().find(|frame| frame.is_wider_than_needed());
    let is_closed = ours.last().is_some_and(|(kind, _)| *kind == Kind::Close);
    if let (Some(wide), End::Taken, false) = (wide, our_end, is_closed) {
        wide.write(&mut octets);
        prop_assert_eq!(read_by_ours(role, &octets, piece, false), (ours, End::Refused));
    }
    Ok(())
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

    #[test]
    fn frames_right_and_wrong_are_taken_and_refused_as_by_others(
        as_client in frames(Role::Client),
        as_server in frames(Role::Server),
        piece in 1_usize..400,
    ) {
        compare(Role::Client, &as_client, piece)?;
        compare(Role::Server, &as_server, piece)?;
    }
}
