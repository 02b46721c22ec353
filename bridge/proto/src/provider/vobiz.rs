//! Vobiz: Plivo's wire with statements of its own. Both ends of it, as a table that says where it differs.
//!
//! A stop never comes, closing is the end; but we may send one, which ends the stream and lets the call's XML go on. We may play
//! linear sound at 24 kHz too ([`super::Options::outbound_format`]), which is never sent.

use super::dialect::{Dialect, Ours, Request};
use super::plivo::{self, like_plivo};
use super::{Capabilities, HangupLaw, Info, Status};

static INFO: Info = Info {
    name: "vobiz",
    title: "Vobiz Audio Streaming",
    reference: "https://docs.vobiz.ai/xml/stream",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: plivo::FORMATS,
};

const TWO_WAY: Capabilities = Capabilities { hangup: HangupLaw::Message, ..plivo::TWO_WAY };

pub(super) static DIALECT: Dialect = Dialect {
    ours: Ours {
        kinds: &[
            ("playAudio", Request::Media),
            ("checkpoint", Request::Mark),
            ("clearAudio", Request::Clear),
            ("sendDTMF", Request::Dtmf),
            ("stop", Request::Hangup),
        ],
        hangup: r#"{"event":"stop","streamId":$stream}"#,
        ..plivo::OURS
    },
    two_way: |_| TWO_WAY,
    ..like_plivo(&INFO, "Vobiz JSON")
};
