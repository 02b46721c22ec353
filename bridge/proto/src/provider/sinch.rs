//! Sinch Voice Stream: linear PCM in binary messages after a handshake in JSON. Both ends of the wire, as a table.
//!
//! The call is not answered before we say so: the first message is a request that `{"command":"answer"}` grants. Rates go from 8 to
//! 96 kHz. Closing the socket, on purpose or not, hangs up the call. There are no marks, and keys do not reach this wire.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::{Carriage, Dialect, Kind, Ours, Request, Theirs, members_of, only_inbound};
use super::json::Node;
use super::{Capabilities, ClearLaw, Info, PlayoutPolicy, Status, linear};

static INFO: Info = Info {
    name: "sinch",
    title: "Sinch Voice Stream",
    reference: "https://developers.sinch.com/docs/voice/api-reference/svaml/streams",
    status: Status::Documentation,
    capabilities: two_way(linear(16_000)),
    formats: &[
        linear(16_000),
        linear(8_000),
        linear(24_000),
        linear(44_100),
        linear(48_000),
        linear(96_000),
    ],
};

/// What can be done at a rate: the queue is measured in octets.
const fn two_way(format: MediaFormat) -> Capabilities {
    const QUEUE: u32 = 5_000_000;
    Capabilities {
        playout: PlayoutPolicy::Ahead {
            limit: Duration::from_secs((QUEUE / 2 / format.rate.hz()) as u64),
        },
        clear: ClearLaw::DropsMarks,
        ..Capabilities::LISTEN_ONLY
    }
}

/// The call's custom headers: an object, or a list of pairs as they are written where the stream is asked for.
fn call_headers(message: &Node<'_>) -> Vec<(String, String)> {
    let Some(Node::List(headers)) = message.get("callHeaders") else {
        return members_of(message, "callHeaders");
    };
    let pair = |header: &Node<'_>| {
        let value = header.text("value").unwrap_or_default();
        header.text("key").map(|key| (key.to_owned(), value.to_owned()))
    };
    headers.iter().filter_map(pair).collect()
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        key: "command",
        kinds: &[("connect", Kind::Start), ("heartbeat", Kind::Nothing)],
        open: &[
            r#"{"command":"connect","version":1,"callId":$call,"applicationKey":"01234567-89ab-cdef-0123-456789abcdef","codec":$encoding,"sampleRate":$rate,"callHeaders":$parameters}"#,
        ],
        stream: &[],
        call: &["callId"],
        from: &[],
        to: &[],
        encoding: &["codec"],
        rate: &["sampleRate"],
        channels: &[],
        ..Theirs::USUAL
    },
    ours: Ours {
        key: "command",
        kinds: &[("clear", Request::Clear)],
        answer: r#"{"command":"answer"}"#,
        media: "",
        mark: "",
        clear: r#"{"command":"clear"}"#,
        stream: "",
        ..Ours::USUAL
    },
    carriage: Carriage::Binary,
    two_way,
    encoding_name: |_| "PCM",
    tracks: only_inbound,
    parameters: call_headers,
    ..Dialect::like_twilio(&INFO, "Sinch JSON")
};
