//! What providers do beside what they promise, each by name, with a sentence and a source, to be acted out by a simulated phone.
//! Values only: `Line` acts on them.

mod line;

use std::time::Duration;

use super::{Line as Dialled, Provider};

pub(crate) use self::line::{Line, Part};

/// Something a provider's end was seen or is free to do, that ours must live with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// In commands: lower case, hyphens.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub summary: &'static str,
    /// Who does it, or why it may be done.
    pub source: &'static str,
    /// How it is acted out.
    pub act: Act,
}

/// How a behaviour is acted out on the messages of the provider's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// Now and then everything waits, up to so long, and then comes at once.
    Stall(Duration),
    /// The caller's voice comes in messages this long, if the codec has no frames of its own.
    Packets(Duration),
    /// Now and then a message of sound comes behind so many that were said after it.
    Displace(u32),
    /// Now and then a message of sound comes twice; of words, each.
    Duplicate,
    /// The first sound or words come before the stream is announced, where nobody waits for an answer to that.
    EarlySound,
    /// Every tenth message of sound is followed by this; of words, each.
    Aside(Aside),
    /// Every JSON object has a member that nobody knows.
    MoreFields,
    /// The stream is announced so long after the connection is there.
    LateOpening(Duration),
    /// The stream is announced twice.
    OpeningTwice,
    /// Before an utterance is told, it is told word by word as it grows.
    Partials,
    /// The caller cuts in so long after the provider began to speak.
    CutIn(Duration),
    /// A key is pressed behind every utterance.
    Keys,
    /// What was spoken to the caller is told.
    TellSpoken,
    /// Texts that follow each other share a message.
    Together,
    /// Numbers in JSON are written as text, and text that is a number as a number.
    Requoted,
    /// Marks that playback reaches are not reported.
    LoseMarks,
    /// Once a second we are told for so long to send nothing.
    Full(Duration),
    /// What we send is not read for so long, again and again.
    Unread(Duration),
    /// The end is not said; the socket is closed.
    NoGoodbye,
    /// Nothing is said, the connection is gone.
    Cut,
    /// Nothing is said any more, nothing is read, and the connection stays.
    Vanish,
    /// The socket is closed as soon as the stream is announced.
    EarlyClose,
    /// In mid-call the connection is gone, and the same call comes again.
    Redial,
    /// In mid-call one of the lines is gone that the bridge dialled, which may be dialled again.
    DropLine(Dialled),
    /// Every tenth message of sound is followed by one of these, in turn, which the bridge knows and has nothing to do about.
    Tell(Dialled, &'static [&'static str]),
    /// Nothing is ever asked that would show that both ends are alive; the provider's end does so by itself.
    NoKeepAlive,
}

/// A message that belongs to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// A text message.
    Text(&'static str),
    /// A binary message.
    Binary(&'static [u8]),
    /// A text message over a line that the bridge dialled.
    On(Dialled, &'static str),
}

impl Behaviour {
    /// Of wires with JSON.
    pub(super) const NUMBERS_AS_TEXT: Self = Self {
        name: "numbers-as-text",
        summary: "numbers are written as text, and text that is a number as a number",
        source: "pages of one provider's documentation disagree about which are quoted",
        act: Act::Requoted,
    };

    /// Of wires with JSON.
    pub(super) const MORE_FIELDS: Self = Self {
        name: "unknown-fields",
        summary: "every message has a field that nobody knows",
        source: "providers add fields without saying so",
        act: Act::MoreFields,
    };

    /// Of a name that means the same everywhere, acted out with what this wire calls unknown.
    pub(super) const fn unknown(aside: Aside) -> Self {
        Self {
            name: "unknown-messages",
            summary: "messages of a kind that nobody knows come between the others",
            source: "providers add messages without saying so",
            act: Act::Aside(aside),
        }
    }

    /// Of wires whose calls outlive their connections.
    pub(super) const fn redial(source: &'static str) -> Self {
        Self {
            name: "redial",
            summary: "in mid-call the connection is gone, and a new one brings the same call",
            source,
            act: Act::Redial,
        }
    }

    /// Of wires that put several values into one text.
    pub(super) const fn together(source: &'static str) -> Self {
        Self {
            name: "several-in-one",
            summary: "texts that follow each other share a message, with or without a new line between them",
            source,
            act: Act::Together,
        }
    }

    /// Of wires that say when to send nothing.
    pub(super) const fn full(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            summary: "again and again nothing may be sent for 400 ms",
            source,
            act: Act::Full(Duration::from_millis(400)),
        }
    }
}

/// What no wire of sound excludes.
static SOUND: &[Behaviour] = &[
    Behaviour {
        name: "thirty-ms",
        summary: "the caller's voice comes in messages of 30 ms",
        source: "Asterisk passes on what the far end packs: 960 octets at 16 kHz",
        act: Act::Packets(Duration::from_millis(30)),
    },
    Behaviour {
        name: "long-packets",
        summary: "the caller's voice comes in messages of 100 ms",
        source: "Smartflo and RingCX send 100 ms, Genesys 200 ms, Avaya up to 250 ms",
        act: Act::Packets(Duration::from_millis(100)),
    },
];

/// What no wire excludes.
static GENERAL: &[Behaviour] = &[
    Behaviour {
        name: "burst",
        summary: "now and then nothing comes for up to 800 ms, and then all of it at once",
        source: "TCP resends what got lost, and nothing overtakes it",
        act: Act::Stall(Duration::from_millis(800)),
    },
    Behaviour {
        name: "slow-reader",
        summary: "what the bridge sends is not read for a second, again and again",
        source: "a busy host",
        act: Act::Unread(Duration::from_secs(1)),
    },
    Behaviour {
        name: "no-goodbye",
        summary: "the caller hangs up and the socket is closed without a word",
        source: "Plivo and Vobiz may leave out the stop; Vonage, Infobip and Sinch have none",
        act: Act::NoGoodbye,
    },
    Behaviour {
        name: "cut",
        summary: "the caller hangs up and the connection is gone, without so much as a close",
        source: "a socket that ends is a legal end of a call everywhere",
        act: Act::Cut,
    },
    Behaviour {
        name: "vanish",
        summary: "the caller hangs up, nothing is said or read any more, and the connection stays",
        source: "a host that lost power; the stop that never comes",
        act: Act::Vanish,
    },
    Behaviour {
        name: "early-close",
        summary: "the socket is closed as soon as the stream is announced",
        source: "callers hang up while a call is being connected",
        act: Act::EarlyClose,
    },
];

static LOSE_MARKS: Behaviour = Behaviour {
    name: "marks-never-returned",
    summary: "playback reaches marks, and the bridge is not told",
    source: "a clear by the provider itself drops them: SiphonAI's auto_clear",
    act: Act::LoseMarks,
};

/// Of wires that number or time their sound, so that it can be put in order again.
pub(super) static NUMBERED: &[Behaviour] = &[
    Behaviour {
        name: "out-of-order",
        summary: "now and then two messages of sound come in each other's place",
        source: "Telnyx documents it, whoever numbers messages may",
        act: Act::Displace(1),
    },
    Behaviour {
        name: "late",
        summary: "now and then a message of sound comes 400 ms after its time",
        source: "Telnyx documents it, whoever numbers messages may",
        act: Act::Displace(20),
    },
    Behaviour {
        name: "duplicate",
        summary: "now and then a message of sound comes twice",
        source: "whoever numbers messages may repeat them",
        act: Act::Duplicate,
    },
];

/// Of wires whose JSON is words.
pub(super) static WORDS: &[Behaviour] = &[
    Behaviour::NUMBERS_AS_TEXT,
    Behaviour::MORE_FIELDS,
    Behaviour {
        name: "partial-prompts",
        summary: "what the caller says is told word by word before it is told whole",
        source: "Twilio does so where the TwiML says partialPrompts=\"true\"",
        act: Act::Partials,
    },
    Behaviour {
        name: "duplicate",
        summary: "every prompt comes twice",
        source: "prompts have no number, so that nobody could tell one that is repeated from one that was said again",
        act: Act::Duplicate,
    },
    Behaviour {
        name: "cuts-in",
        summary: "the caller cuts in 300 ms after the provider has begun to speak, and says nothing",
        source: "Twilio's `interruptible` is \"any\" unless the TwiML says otherwise; a cough will do",
        act: Act::CutIn(Duration::from_millis(300)),
    },
    Behaviour {
        name: "cuts-in-at-once",
        summary: "the caller cuts in before the first word was spoken",
        source: "speech that begins while the words are on their way",
        act: Act::CutIn(Duration::ZERO),
    },
    Behaviour {
        name: "keys-between",
        summary: "a key is pressed behind every utterance",
        source: "Twilio tells keys where the TwiML says dtmfDetection=\"true\"",
        act: Act::Keys,
    },
    Behaviour {
        name: "early-words",
        summary: "the first words come before the setup",
        source: "what one thread recognises may overtake what another announces, as Vonage's sound does",
        act: Act::EarlySound,
    },
    Behaviour {
        name: "late-setup",
        summary: "the setup comes two seconds after the connection",
        source: "a busy host",
        act: Act::LateOpening(Duration::from_secs(2)),
    },
    Behaviour {
        name: "setup-twice",
        summary: "the setup comes twice",
        source: "whoever is not sure that it was heard says it again",
        act: Act::OpeningTwice,
    },
];

/// Of wires that are JSON.
pub(super) static JSON: &[Behaviour] = &[
    Behaviour::unknown(Aside::Text(
        r#"{"event":"never-heard-of","type":"never-heard-of","value":{"a":[1,null]}}"#,
    )),
    Behaviour::NUMBERS_AS_TEXT,
    Behaviour::MORE_FIELDS,
    Behaviour {
        name: "early-sound",
        summary: "the first sound comes before the stream is announced",
        source: "Vonage's media and control threads race, Azure's sound may come before its metadata",
        act: Act::EarlySound,
    },
];

/// Everything that can be acted out on this provider's wire, its own first.
#[must_use]
pub fn all(provider: &dyn Provider) -> Vec<&'static Behaviour> {
    let mut all = provider.behaviours();
    all.extend(provider.has_sound().then_some(SOUND).into_iter().flatten());
    all.extend(GENERAL);
    all.extend(provider.capabilities().marks.then_some(&LOSE_MARKS));
    all
}

/// The behaviour of that name, if this provider's wire has it.
#[must_use]
pub fn find(provider: &dyn Provider, name: &str) -> Option<&'static Behaviour> {
    all(provider).into_iter().find(|behaviour| behaviour.name == name)
}
