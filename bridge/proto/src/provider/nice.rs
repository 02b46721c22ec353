//! NICE CXone's custom Agent Assist endpoint: mu-law in binary messages after one in JSON. Both ends of the wire, as a table.
//!
//! It is listened to, results go back another way. Every perspective has a socket of its own: `TX` is what the agent hears, which is
//! the caller; `RX` is the agent's voice; `MIX` is both and counts as the caller's. A hold closes the socket and the end of it opens a
//! new one: only the contact's name tells that it is the same call. Experimental, because of the first message nothing is public but
//! the perspective; that the contact is called `contactId` is a guess.

use ringback_codecs::MediaFormat;

use super::behaviour::Behaviour;
use super::dialect::{Carriage, Dialect, Ours, Theirs};
use super::{Capabilities, Info, Status, Track};

static INFO: Info = Info {
    name: "nice",
    title: "NICE CXone Agent Assist",
    reference: "https://help.nicecxone.com",
    status: Status::Experimental,
    capabilities: Capabilities::LISTEN_ONLY,
    formats: &[MediaFormat::PCMU_8000],
};

const PERSPECTIVE: &str = "streamPerspective";

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[],
        first_starts: true,
        open: &[r#"{"streamPerspective":$heard,"contactId":$call$members}"#],
        stream: &[],
        call: &["contactId", "contactID", "contact_id"],
        from: &[],
        to: &[],
        encoding: &[],
        rate: &[],
        channels: &[],
        ..Theirs::USUAL
    },
    ours: Ours { kinds: &[], media: "", mark: "", clear: "", stream: "", ..Ours::USUAL },
    carriage: Carriage::Binary,
    tracks: |message| match message.node.text(PERSPECTIVE) {
        None | Some("TX" | "MIX") => Ok(vec![Track::Inbound]),
        Some("RX") => Ok(vec![Track::Outbound]),
        Some(_) => Err(message.error(PERSPECTIVE, "is none of RX, TX, MIX")),
    },
    tracks_name: |tracks| match tracks {
        [Track::Outbound] => "RX",
        [Track::Inbound] => "TX",
        _ => "MIX",
    },
    parameters: |message| message.pairs(&[PERSPECTIVE, "contactId"]),
    behaviours: &[Behaviour::redial("a hold closes the socket, its end opens a new one")],
    ..Dialect::like_twilio(&INFO, "NICE JSON")
};
