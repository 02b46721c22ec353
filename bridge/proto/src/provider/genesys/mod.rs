//! Genesys Cloud: AudioHook Monitor, which is listened to, and Audio Connector, which is a conversation. One protocol, PCMU in binary
//! messages and JSON around it; both ends of the wire. Signatures of the request are checked elsewhere.
//!
//! Genesys offers media in `open` and waits for one of them in `opened`; all messages are counted and acknowledged; and whoever wants
//! the end, it is Genesys that says `close` and, answered with `closed`, closes the socket. What is not spoken: `pause`, `reconnect`,
//! transcripts as `event` (they need places in the sound and confidences that not every module has), `outputVariables`.

mod bridge;
mod envelope;
mod phone;

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::behaviour::Behaviour;
use super::end::End;
use super::{
    Accepted, Capabilities, ClearLaw, Dial, FrameLaw, HangupLaw, Info, Options, OutgoingUpgrade,
    PlayoutPolicy, Protocol, Provider, Rejection, Status, Upgrade,
};
use bridge::Bridge;
use phone::Phone;

/// Both ends of AudioHook Monitor.
pub(super) struct Monitor;

/// Both ends of Audio Connector.
pub(super) struct Connector;

/// A message in which nobody hears anything is not needed more often; Genesys counts messages and has been seen to refuse more than
/// five of sound in a second (after a burst of 25).
const LONGEST: Duration = Duration::from_millis(200);

static MONITOR: Info = Info {
    name: "genesys-audiohook",
    title: "Genesys Cloud AudioHook Monitor",
    reference: "https://developer.genesys.cloud/devapps/audiohook/",
    status: Status::Documentation,
    capabilities: Capabilities { hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY },
    formats: &[MediaFormat::PCMU_8000],
};

static CONNECTOR: Info = Info {
    name: "genesys-connector",
    title: "Genesys Cloud Audio Connector",
    reference: "https://developer.genesys.cloud/devapps/audiohook/",
    status: Status::Documentation,
    capabilities: Capabilities {
        // Genesys queues; how much is not told.
        playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
        frame: FrameLaw::UpTo(LONGEST),
        // It tells when playback begins and ends, but not of which words: there are no marks.
        clear: ClearLaw::DropsMarks,
        ..CONNECTOR_LISTENING
    },
    formats: &[MediaFormat::PCMU_8000],
};

/// What is left of the Connector where only the caller is listened to.
const CONNECTOR_LISTENING: Capabilities =
    Capabilities { dtmf_in: true, hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

/// What differs between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    Monitor,
    Connector,
}

impl Product {
    const fn info(self) -> &'static Info {
        match self {
            Self::Monitor => &MONITOR,
            Self::Connector => &CONNECTOR,
        }
    }

    /// What can be done where the bridge may speak, or may not.
    const fn capabilities(self, two_way: bool) -> Capabilities {
        match self {
            Self::Connector if !two_way => CONNECTOR_LISTENING,
            product => product.info().capabilities,
        }
    }

    /// The channels we would have, the dearest first. `external` is the person on the phone.
    const fn preferred(self) -> [&'static [&'static str]; 3] {
        match self {
            Self::Monitor => [&["external", "internal"], &["external"], &["internal"]],
            Self::Connector => [&["external"], &["external", "internal"], &["internal"]],
        }
    }

    fn accept(self, upgrade: &Upgrade<'_>, options: &Options) -> Accepted {
        let bridge = Bridge::new(self, upgrade.parameters(options), options);
        Accepted { protocol: End::boxed(bridge), subprotocol: None }
    }

    fn dial(self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let headers = [
            ("audiohook-organization-id", phone::ORGANIZATION),
            ("audiohook-correlation-id", phone::CORRELATION),
            ("audiohook-session-id", &call.call),
        ];
        let upgrade = OutgoingUpgrade {
            target: call.target.clone(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            subprotocols: Vec::new(),
        };
        (upgrade, End::boxed(Phone::new(self, call)))
    }
}

static BEHAVIOURS: &[Behaviour] = &[Behaviour::NUMBERS_AS_TEXT];

impl Provider for Monitor {
    fn info(&self) -> &'static Info {
        &MONITOR
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        Ok(Product::Monitor.accept(upgrade, options))
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        Product::Monitor.dial(call)
    }
}

impl Provider for Connector {
    fn info(&self) -> &'static Info {
        &CONNECTOR
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        Ok(Product::Connector.accept(upgrade, options))
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        Product::Connector.dial(call)
    }
}
