//! What a [`Reader`] takes and what it refuses, frame by frame and by name; `tests/websocket.rs` has what comes by chance.

use super::*;

/// Longest message taken here.
const MAX: usize = 70_000;

const FIN_TEXT: u8 = FIN | TEXT;
const FIN_BINARY: u8 = FIN | BINARY;
const FIN_CONTINUATION: u8 = FIN | CONTINUATION;
const FIN_CLOSE: u8 = FIN | CLOSE;
const FIN_PING: u8 = FIN | PING;
const FIN_PONG: u8 = FIN | PONG;

/// A frame with its length in the octets it needs, masked if a client sends it.
fn frame(to: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    match payload.len() {
        0..=125 => frame_with(to, first, &[payload.len() as u8], payload),
        126..=0xFFFF => {
            let [high, low] = (payload.len() as u16).to_be_bytes();
            frame_with(to, first, &[126, high, low], payload)
        }
        longer => {
            let length = [&[127], &(longer as u64).to_be_bytes()[..]].concat();
            frame_with(to, first, &length, payload)
        }
    }
}

/// A frame with its length as given.
fn frame_with(to: Role, first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let (masked, mask): (u8, &[u8]) = match to {
        Role::Server => (MASKED, &[0x12, 0x34, 0x56, 0x78]),
        Role::Client => (0, &[]),
        Role::Records => unreachable!("records are no frames"),
    };
    let mut payload = payload.to_vec();
    if let Ok(mask) = mask.try_into() {
        apply_mask(mask, &mut payload);
    }
    let (width, length) = length.split_first().expect("a length");
    [&[first, masked | width], length, mask, &payload].concat()
}

type Messages = Vec<(Kind, Vec<u8>)>;
/// First octets and payloads.
type Frames<'a> = &'a [(u8, &'a [u8])];

/// All messages, and the error that ended them if one did.
fn read(role: Role, octets: &[u8], piece: usize) -> (Messages, Option<WireError>) {
    let mut reader = Reader::new(role, MAX);
    let mut messages = Vec::new();
    for piece in octets.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(arrival)) => {
                    messages.push((arrival.kind, reader.octets(&arrival).to_vec()));
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Reads frames at both ends, octet by octet and at once, and expects the same of each.
fn assert_read(case: &str, frames: Frames<'_>, expected: (&Messages, Option<WireError>)) {
    for role in [Role::Client, Role::Server] {
        let octets: Vec<_> =
            frames.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect();
        for piece in [1, octets.len()] {
            let (messages, error) = read(role, &octets, piece);
            assert!(messages == *expected.0, "{case}, {role:?}: {messages:?}");
            assert_eq!(error, expected.1, "{case}, {role:?}");
        }
    }
}

const FRAGMENTED: WireError = WireError::Protocol("a control frame is fragmented");
const LONG_CONTROL: WireError = WireError::Protocol("a control frame has more than 125 octets");
const BEFORE_END: WireError = WireError::Protocol("a message begins before the last one has ended");
const NOT_BEGUN: WireError = WireError::Protocol("a continuation of a message that has not begun");
const RESERVED_BITS: WireError =
    WireError::Protocol("reserved bits are set, but no extension was agreed on");
const UNKNOWN: WireError = WireError::Protocol("unknown opcode");
const WIDE_LENGTH: WireError = WireError::Protocol("a length has more octets than it needs");

#[test]
fn what_breaks_the_order_of_frames_is_refused() {
    let long = [b'x'; 126];
    let cases: [(&str, Frames<'_>, WireError); 17] = [
        ("a ping too long", &[(FIN_PING, &long)], LONG_CONTROL),
        ("a pong too long", &[(FIN_PONG, &long)], LONG_CONTROL),
        ("a close too long", &[(FIN_CLOSE, &long)], LONG_CONTROL),
        ("a ping in fragments", &[(PING, b"")], FRAGMENTED),
        ("a pong in fragments", &[(PONG, b"x")], FRAGMENTED),
        ("a close in fragments", &[(CLOSE, b"")], FRAGMENTED),
        ("a text within a text", &[(TEXT, b"a"), (FIN_TEXT, b"b")], BEFORE_END),
        ("a binary within a text", &[(TEXT, b"a"), (FIN_BINARY, b"b")], BEFORE_END),
        ("a text within a binary", &[(BINARY, b"a"), (TEXT, b"b")], BEFORE_END),
        ("a binary within a binary", &[(BINARY, b""), (BINARY, b"")], BEFORE_END),
        ("a continuation of nothing", &[(CONTINUATION, b"a")], NOT_BEGUN),
        ("an end of nothing", &[(FIN_CONTINUATION, b"")], NOT_BEGUN),
        ("a reserved bit", &[(FIN_TEXT | 0x40, b"a")], RESERVED_BITS),
        ("another", &[(FIN_BINARY | 0x20, b"a")], RESERVED_BITS),
        ("the third, of a ping", &[(FIN_PING | 0x10, b"")], RESERVED_BITS),
        (
            "one octet too many in fragments",
            &[(BINARY, &[0; MAX]), (FIN_CONTINUATION, b"x")],
            WireError::TooBig,
        ),
        ("one octet too many", &[(FIN_BINARY, &[0; MAX + 1])], WireError::TooBig),
    ];
    for (case, frames, error) in cases {
        assert_read(case, frames, (&vec![], Some(error)));
    }
    let whole: Frames<'_> = &[(TEXT, b"a"), (FIN_CONTINUATION, b"b"), (FIN_CONTINUATION, b"c")];
    let one = vec![(Kind::Text, b"ab".to_vec())];
    assert_read("a continuation of what has ended", whole, (&one, Some(NOT_BEGUN)));
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        assert_read("an opcode", &[(FIN | opcode, b"a")], (&vec![], Some(UNKNOWN)));
        assert_read("an opcode, not the last", &[(opcode, b"a")], (&vec![], Some(UNKNOWN)));
    }
}

#[test]
fn the_wrong_end_of_masks_is_refused() {
    for first in [FIN_TEXT, FIN_PING, FIN_CLOSE] {
        let (masked, bare) = (frame(Role::Server, first, b""), frame(Role::Client, first, b""));
        let told = |problem| (vec![], Some(WireError::Protocol(problem)));
        assert_eq!(read(Role::Client, &masked, 9), told("a frame of a server is masked"));
        assert_eq!(read(Role::Server, &bare, 9), told("a frame of a client is not masked"));
    }
}

#[test]
fn lengths_are_refused_that_are_wider_than_they_need_to_be() {
    let wide = |length: u64| [&[127], &length.to_be_bytes()[..]].concat();
    for role in [Role::Client, Role::Server] {
        for length in [vec![126, 0, 0], vec![126, 0, 125], wide(0), wide(126), wide(0xFFFF)] {
            let octets = frame_with(role, FIN_BINARY, &length, b"");
            assert_eq!(read(role, &octets, 1), (vec![], Some(WIDE_LENGTH)), "{length:?}");
        }
        for (length, payload) in
            [(vec![126, 0, 126], 126), (vec![126, 0xFF, 0xFF], 0xFFFF), (wide(1 << 16), 1 << 16)]
        {
            let octets = frame_with(role, FIN_BINARY, &length, &vec![7; payload]);
            let (messages, error) = read(role, &octets, 5_000);
            assert!(
                messages == [(Kind::Binary, vec![7; payload])] && error.is_none(),
                "{length:?}"
            );
        }
        for length in [wide(MAX as u64 + 1), wide(1 << 63), wide(u64::MAX)] {
            let octets = frame_with(role, FIN_BINARY, &length, b"");
            assert_eq!(read(role, &octets, 1), (vec![], Some(WireError::TooBig)), "{length:?}");
        }
    }
}

#[test]
fn closes_are_empty_or_a_code_that_may_be_sent_and_a_reason() {
    let half = WireError::Protocol("a close frame has half a code");
    assert_read("half a code", &[(FIN_CLOSE, &[3])], (&vec![], Some(half)));
    let unsendable = WireError::Protocol("a close frame has a code that may not be sent");
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        let payload = code.to_be_bytes();
        let case = code.to_string();
        assert_read(&case, &[(FIN_CLOSE, &payload)], (&vec![], Some(unsendable)));
    }
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let payload = [&code.to_be_bytes(), "adiós".as_bytes()].concat();
        let taken = vec![(Kind::Close, payload.clone())];
        assert_read(&code.to_string(), &[(FIN_CLOSE, &payload)], (&taken, None));
    }
    assert_read("no code", &[(FIN_CLOSE, b"")], (&vec![(Kind::Close, vec![])], None));
    let longest = [&1000_u16.to_be_bytes()[..], &[b'x'; 123]].concat();
    let taken = vec![(Kind::Close, longest.clone())];
    assert_read("the longest reason", &[(FIN_CLOSE, &longest)], (&taken, None));
    let reason = [&1000_u16.to_be_bytes()[..], b"ok\xC3"].concat();
    let not_utf8 = WireError::NotUtf8 { valid_up_to: 2 };
    assert_read("half a character", &[(FIN_CLOSE, &reason)], (&vec![], Some(not_utf8)));
}

#[test]
fn texts_are_refused_that_are_not_utf_8_in_one_and_in_several_fragments() {
    for (octets, valid_up_to) in [
        (b"\xFF".as_slice(), 0),
        (b"ab\xC3\x28", 2),
        // Overlong, a surrogate, beyond Unicode, cut short.
        (b"\xC0\xAF", 0),
        (b"a\xED\xA0\x80", 1),
        (b"\xF4\x90\x80\x80", 0),
        (b"abc\xE2\x82", 3),
    ] {
        let error = Some(WireError::NotUtf8 { valid_up_to });
        assert_read("in one", &[(FIN_TEXT, octets)], (&vec![], error));
        for cut in 0..=octets.len() {
            let (head, tail) = octets.split_at(cut);
            let frames = [(TEXT, head), (CONTINUATION, b""), (FIN_CONTINUATION, tail)];
            assert_read("in fragments", &frames, (&vec![], error));
        }
        let taken = vec![(Kind::Binary, octets.to_vec())];
        assert_read("not as a text", &[(FIN_BINARY, octets)], (&taken, None));
    }
}

#[test]
fn messages_are_put_together_wherever_they_are_cut() {
    let text = "é€😀";
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        let frames: Frames<'_> = &[
            (TEXT, head),
            (FIN_PING, b"between"),
            (CONTINUATION, b""),
            (FIN_PONG, b""),
            (FIN_CONTINUATION, tail),
            (BINARY, b""),
            (FIN_CONTINUATION, b"\xFF"),
        ];
        let expected = vec![
            (Kind::Ping, b"between".to_vec()),
            (Kind::Pong, vec![]),
            (Kind::Text, text.into()),
            (Kind::Binary, vec![0xFF]),
        ];
        assert_read(&format!("cut at {cut}"), frames, (&expected, None));
    }
}

#[test]
fn empty_messages_are_messages() {
    for (opcode, kind) in [(TEXT, Kind::Text), (BINARY, Kind::Binary)] {
        let empty = vec![(kind, vec![])];
        assert_read("in one", &[(FIN | opcode, b"")], (&empty, None));
        let fragments: Frames<'_> = &[(opcode, b""), (FIN_CONTINUATION, b"")];
        assert_read("in two", fragments, (&empty, None));
    }
    for (first, kind) in [(FIN_PING, Kind::Ping), (FIN_PONG, Kind::Pong)] {
        assert_read("control", &[(first, b"")], (&vec![(kind, vec![])], None));
        let longest = [b'x'; 125];
        assert_read("longest", &[(first, &longest)], (&vec![(kind, longest.to_vec())], None));
    }
}

#[test]
fn a_close_may_come_within_a_message() {
    let frames: Frames<'_> = &[(TEXT, b"unfini"), (FIN_CLOSE, b"")];
    assert_read("within a message", frames, (&vec![(Kind::Close, vec![])], None));
}

#[test]
fn records_are_messages_with_their_heads() {
    let wire =
        [&[0x01, 0, 2, 7, 8][..], &[0x10, 0, 0], &[0x10, 1, 0], &[9; 256], &[0, 0, 0]].concat();
    let expected: Messages = [&wire[..5], &wire[5..8], &wire[8..267], &wire[267..]]
        .map(|record| (Kind::Binary, record.to_vec()))
        .into();
    for piece in [1, 2, 3, 100, wire.len()] {
        assert_eq!(
            read(Role::Records, &wire, piece),
            (expected.clone(), None),
            "{piece} at a time"
        );
    }
    let mut reader = Reader::new(Role::Records, 64 * 1024);
    reader.push(&[0x10, 0xFF, 0xFF]);
    assert_eq!(reader.next_message(), Err(WireError::TooBig));

    let mut writer = Writer::new(Role::Records);
    writer.push(Kind::Binary, &[0x03, 0, 1, b'5']);
    // There are no words for these.
    writer.push(Kind::Ping, b"");
    writer.push_close(1000, "");
    assert_eq!(writer.pending(), [0x03, 0, 1, b'5']);
}

#[test]
fn each_frame_of_a_client_has_a_mask_that_nobody_foresees() {
    const FRAMES: usize = 4_096;
    let mut writer = Writer::new(Role::Client);
    let masks: std::collections::BTreeSet<[u8; 4]> = (0..FRAMES)
        .map(|_| {
            writer.push(Kind::Binary, &[0; 4]);
            let frame = writer.pending().to_vec();
            writer.wrote(frame.len());
            assert_eq!(frame[..2], [FIN_BINARY, MASKED | 4]);
            // What is masked are noughts, so that the mask shows.
            assert_eq!(frame[2..6], frame[6..]);
            frame[2..6].try_into().expect("four octets")
        })
        .collect();
    // Of 4,096 numbers out of 2^32 two are the same once in 500 tries.
    assert!(masks.len() >= FRAMES - 2, "{} different masks", masks.len());
    for octet in 0..4 {
        let values: std::collections::BTreeSet<u8> = masks.iter().map(|mask| mask[octet]).collect();
        assert!(values.len() > 250, "octet {octet} has {} values", values.len());
    }
}
