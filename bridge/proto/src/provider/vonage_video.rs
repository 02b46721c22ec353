//! Vonage Video's Audio Connector: the wire of Vonage Voice, and sound in JSON where `audioTransport` asks for it. Both ends of it, as
//! a table.
//!
//! Such sound is `{"audio":"..."}` with base64 inside, beside whatever static fields were asked for; there is nothing else by which to
//! know it. Our end takes either transport and answers in the one that comes; the provider's end that we act out speaks JSON, as
//! `vonage` is the other. What is heard is a participant of a session or all of them, so there are no keys. A goodbye precedes the
//! close. Experimental, because the JSON transport is known from Vonage's samples only.

use super::dialect::{Carriage, Dialect, Kind, MediaPaths, Ours, Request, Theirs};
use super::{Capabilities, Info, Status, vonage};

static INFO: Info = Info {
    name: "vonage-video",
    title: "Vonage Video Audio Connector",
    reference: "https://developer.vonage.com/en/video/guides/audio-connector",
    status: Status::Experimental,
    capabilities: TWO_WAY,
    formats: vonage::FORMATS,
};

const TWO_WAY: Capabilities = Capabilities { dtmf_in: false, ..vonage::TWO_WAY };

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[
            ("websocket:connected", Kind::Start),
            ("websocket:dtmf", Kind::Dtmf),
            ("websocket:notify", Kind::Played),
            ("websocket:cleared", Kind::Cleared),
            // Somebody was muted or is heard again.
            ("websocket:media:update", Kind::Nothing),
            ("websocket:disconnected", Kind::Stop),
        ],
        media: r#"{"audio":"$payload"}"#,
        stop: r#"{"event":"websocket:disconnected"}"#,
        call_parameter: Some("call"),
        ..Theirs::VONAGE
    },
    ours: Ours {
        kinds: &[("", Request::Media), ("notify", Request::Mark), ("clear", Request::Clear)],
        media: r#"{"audio":"$payload"}"#,
        payload: "audio",
        ..Ours::VONAGE
    },
    carriage: Carriage::Either(MediaPaths { payload: "audio", ..MediaPaths::UNTOLD }),
    two_way: |_| TWO_WAY,
    one_way: Capabilities::LISTEN_ONLY,
    ..Dialect::like_vonage(&INFO, "Vonage JSON")
};
