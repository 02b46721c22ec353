//! Vonage Voice WebSockets: linear PCM in binary messages, JSON for control. Both ends of the wire, as a table.
//!
//! There is no stop message, no call name, no count and no time on this wire: closing is the end, and the custom headers of the
//! NCCO, flattened into the first message, are all that is told about the call.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::{Carriage, Dialect, Kind, Ours, Request, Theirs, only_inbound};
use super::{Capabilities, ClearLaw, FrameLaw, Info, PlayoutPolicy, Status, linear};

static INFO: Info = Info {
    name: "vonage",
    title: "Vonage Voice API",
    reference: "https://developer.vonage.com/en/voice/voice-api/concepts/websockets",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: FORMATS,
};

/// Linear PCM at Vonage's rates.
pub(super) const FORMATS: &[MediaFormat] = &[linear(16_000), linear(8_000), linear(24_000)];

pub(super) const TWO_WAY: Capabilities = Capabilities {
    // 3072 messages are buffered; what happens beyond that is not told, so keep clear of it.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(50) },
    frame: FrameLaw::Exact(Duration::from_millis(20)),
    // Whether a clear answers pending notifications is not told; late ones do no harm.
    clear: ClearLaw::DropsMarks,
    marks: true,
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

/// `audio/l16;rate=16000`.
const fn content_type(format: MediaFormat) -> &'static str {
    match format.rate.hz() {
        8_000 => "audio/l16;rate=8000",
        24_000 => "audio/l16;rate=24000",
        _ => "audio/l16;rate=16000",
    }
}

pub(super) static DIALECT: Dialect =
    Dialect { two_way: |_| TWO_WAY, ..Dialect::like_vonage(&INFO, "Vonage JSON") };

impl Theirs {
    /// What Vonage says, and who copied it.
    pub(super) const VONAGE: Self = Self {
        kinds: &[
            ("websocket:connected", Kind::Start),
            ("websocket:dtmf", Kind::Dtmf),
            ("websocket:notify", Kind::Played),
            ("websocket:cleared", Kind::Cleared),
        ],
        open: &[r#"{"event":"websocket:connected","content-type":$encoding$members}"#],
        dtmf: r#"{"event":"websocket:dtmf","digit":"$digit","duration":260}"#,
        played: r#"{"event":"websocket:notify","payload":{"mark":$name}}"#,
        cleared: r#"{"event":"websocket:cleared"}"#,
        call_parameter: Some("uuid"),
        stream: &[],
        call: &[],
        from: &[],
        to: &[],
        encoding: &["content-type"],
        rate: &[],
        channels: &[],
        digit: &["digit"],
        duration: &["duration"],
        mark: &["payload.mark"],
        ..Self::USUAL
    };
}

impl Ours {
    /// What Vonage takes.
    pub(super) const VONAGE: Self = Self {
        key: "action",
        kinds: &[("notify", Request::Mark), ("clear", Request::Clear)],
        media: "",
        mark: r#"{"action":"notify","payload":{"mark":$name}}"#,
        clear: r#"{"action":"clear"}"#,
        name: "payload.mark",
        stream: "",
        ..Self::USUAL
    };
}

impl Dialect {
    /// What those have in common that speak Vonage's wire.
    pub(super) const fn like_vonage(info: &'static Info, expected: &'static str) -> Self {
        Self {
            theirs: Theirs::VONAGE,
            ours: Ours::VONAGE,
            carriage: Carriage::Binary,
            one_way: Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY },
            encoding_name: content_type,
            tracks: only_inbound,
            parameters: |message| message.pairs(&["event", "content-type"]),
            ..Self::like_twilio(info, expected)
        }
    }
}
