//! Asterisk's AudioSocket: records of kind, length and payload over plain TCP, without any handshake. Both ends of the wire, a record
//! each message; whoever owns the connection cuts it into records.
//!
//! The first record is the call's UUID and the only credential there is. Which rate the sound has is told by the kind of the
//! records that carry it, so a stream starts with its first sound. Asterisk queues nothing: sound is played as it comes, nothing
//! can be taken back, and two seconds without a record either way end the application.

use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};

use super::behaviour::{Aside, Behaviour};
use super::end::{End, Turn, Wire};
use super::{
    Accepted, Capabilities, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Info, Notice,
    Options, Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection,
    Start, Status, StopCause, Track, Transport, Upgrade, linear_at,
};
use crate::Instant;
use crate::hex::{hex, unhex};

/// Both ends of AudioSocket's wire.
pub(super) struct AudioSocket;

const FRAME: Duration = Duration::from_millis(20);
/// Two seconds without a record either way end the application; nobody shall wait for them.
const QUIET: Duration = Duration::from_secs(1);
const HANGUP: u8 = 0x00;
const UUID: u8 = 0x01;
const DTMF: u8 = 0x03;
const ERROR: u8 = 0xFF;

static INFO: Info = Info {
    name: "audiosocket",
    title: "Asterisk AudioSocket",
    reference: "https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        linear_at(SampleRate::HZ_8000),
        linear_at(SampleRate::HZ_16000),
        linear_at(SampleRate::HZ_24000),
        linear_at(SampleRate::HZ_48000),
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    // It has no queue; what waits, waits in the connection.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(5) },
    frame: FrameLaw::MultipleOf(FRAME),
    ..LISTEN_ONLY
};

const LISTEN_ONLY: Capabilities =
    Capabilities { dtmf_in: true, hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

/// Rates by the kind of the records that carry them.
const RATES: [(u8, u32); 9] = [
    (0x10, 8_000),
    (0x11, 12_000),
    (0x12, 16_000),
    (0x13, 24_000),
    (0x14, 32_000),
    (0x15, 44_100),
    (0x16, 48_000),
    (0x17, 96_000),
    (0x18, 192_000),
];

fn format_of(kind: u8) -> Option<MediaFormat> {
    let (_, hz) = RATES.iter().find(|(known, _)| *known == kind)?;
    SampleRate::new(*hz).map(linear_at)
}

/// The kind of the records that carry sound of this rate; Asterisk takes another rate than its own and converts it.
fn kind_of(format: MediaFormat) -> u8 {
    RATES.iter().find(|(_, hz)| *hz == format.rate.hz()).map_or(RATES[0].0, |(kind, _)| *kind)
}

/// A kind that is not given to anything, and two octets.
static BEHAVIOURS: &[Behaviour] = &[Behaviour::unknown(Aside::Binary(&[0x42, 0, 2, 1, 2]))];

impl Provider for AudioSocket {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn transport(&self) -> Transport {
        Transport::Records
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, _: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge =
            Bridge { options: options.clone(), state: State::AwaitingUuid, quiet_at: None };
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let request = OutgoingUpgrade { target: call.target.clone(), ..OutgoingUpgrade::default() };
        let format = call.format.unwrap_or(INFO.formats[0]);
        (request, End::boxed(Phone { call: call.clone(), format, stopped: false }))
    }
}

/// Takes a record apart.
fn record(turn: Turn, octets: &[u8]) -> Result<(u8, &[u8]), ProtocolError> {
    let wrong = |problem| ProtocolError::Field {
        index: turn.index,
        kind: "record",
        field: "length",
        problem,
    };
    let (head, payload) = octets.split_first_chunk::<3>().ok_or_else(|| wrong("is cut"))?;
    if usize::from(u16::from_be_bytes([head[1], head[2]])) != payload.len() {
        return Err(wrong("is not that of the payload"));
    }
    Ok((head[0], payload))
}

/// Sends a record; Asterisk drops a call whose payload comes later than its head, so both are one message.
fn send(out: &mut Outbox, kind: u8, payload: &[u8]) {
    debug_assert!(payload.len() <= usize::from(u16::MAX));
    out.binary(|octets| {
        octets.push(kind);
        octets.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        octets.extend_from_slice(payload);
    });
}

/// The bridge's end.
struct Bridge {
    options: Options,
    state: State,
    /// When silence is due, if nothing is said before. Nothing until the call has said who it is.
    quiet_at: Option<Instant>,
}

enum State {
    AwaitingUuid,
    /// With the call's name.
    AwaitingSound(String),
    /// With the kinds of what comes in and what goes out, if anything may.
    Streaming {
        inbound: u8,
        outbound: Option<u8>,
    },
    Stopped,
}

impl Bridge {
    fn start(&mut self, kind: u8, announced: MediaFormat, uuid: String) -> Event {
        let two_way = !self.options.one_way;
        let outbound = two_way.then(|| self.options.outbound_format.unwrap_or(announced));
        self.state = State::Streaming { inbound: kind, outbound: outbound.map(kind_of) };
        Event::Started(Box::new(Start {
            stream: None,
            call: Some(uuid),
            from: None,
            to: None,
            parameters: Vec::new(),
            tracks: vec![Track::Inbound],
            inbound: Some(self.options.inbound_format.unwrap_or(announced)),
            outbound,
            capabilities: if two_way { TWO_WAY } else { LISTEN_ONLY },
        }))
    }
}

impl Wire for Bridge {
    fn text(&mut self, _: Turn, _: &str, _: &mut Outbox) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(Event::Notice(Notice::unknown("text message"))))
    }

    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let index = turn.index;
        let (kind, payload) = record(turn, octets)?;
        if let (State::AwaitingSound(uuid), Some(format)) = (&mut self.state, format_of(kind)) {
            let uuid = std::mem::take(uuid);
            let started = self.start(kind, format, uuid);
            out.event(started);
        }
        Ok(Some(match (kind, &self.state) {
            (_, State::Stopped) => Event::Notice(Notice::late("record")),
            (UUID, State::AwaitingUuid) => {
                let uuid = payload.try_into().map_err(|_| ProtocolError::Field {
                    index,
                    kind: "UUID record",
                    field: "length",
                    problem: "is not 16",
                })?;
                self.state = State::AwaitingSound(uuid_text(uuid));
                self.quiet_at = Some(turn.now + QUIET);
                return Ok(None);
            }
            (UUID, _) => return Err(ProtocolError::out_of_turn(index, "UUID record", "twice")),
            (HANGUP, _) => {
                self.state = State::Stopped;
                Event::Stopped(StopCause::Remote)
            }
            (ERROR, _) => {
                let code = payload.first().copied().unwrap_or_default();
                Event::Notice(Notice::ProviderError { text: format!("error {code:#04x}") })
            }
            (_, State::AwaitingUuid) => {
                return Err(ProtocolError::out_of_turn(index, "record", "before the UUID"));
            }
            (DTMF, _) => {
                let digit = payload.first().and_then(|key| Digit::new(char::from(*key)));
                let digit = digit.ok_or(ProtocolError::Field {
                    index,
                    kind: "DTMF record",
                    field: "digit",
                    problem: "is missing or no key of a telephone",
                })?;
                Event::Dtmf { digit, duration: None }
            }
            (kind, State::Streaming { inbound, .. }) if kind == *inbound => {
                out.media(Track::Inbound, payload)
            }
            (kind, _) => Event::Notice(Notice::unknown(&format!("record {kind:#04x}"))),
        }))
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, &self.state) {
            (
                Command::Media { track: Track::Outbound, payload },
                State::Streaming { outbound: Some(kind), .. },
            ) if !payload.is_empty() => {
                send(out, *kind, payload);
                self.quiet_at = Some(now + QUIET);
            }
            (Command::Hangup, state) if !matches!(state, State::Stopped) => {
                self.state = State::Stopped;
                send(out, HANGUP, &[]);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }

    /// Nobody has spoken for long.
    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if self.next_timeout().is_some_and(|at| at <= now) {
            // Before the stream has a rate: 8 kHz, which Asterisk takes on every call.
            let kind = match self.state {
                State::Streaming { outbound: Some(kind), .. } => kind,
                _ => RATES[0].0,
            };
            let rate = format_of(kind).map_or(SampleRate::HZ_8000, |format| format.rate);
            send(out, kind, &SILENCE[..2 * rate.samples_in(FRAME) as usize]);
            self.quiet_at = Some(now + QUIET);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.quiet_at.filter(|_| !matches!(self.state, State::Stopped))
    }
}

/// 20 ms at the highest rate.
const SILENCE: [u8; 7_680] = [0; 7_680];

/// Asterisk's end.
struct Phone {
    call: Dial,
    format: MediaFormat,
    stopped: bool,
}

/// A UUID as text (RFC 9562, 4).
fn uuid_text(uuid: [u8; 16]) -> String {
    let hex = hex(&uuid);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The UUID that a text is, or one made of it: the dialplan gives one, other callers have any name.
fn uuid_of(name: &str) -> [u8; 16] {
    match unhex(&name.replace('-', "")).and_then(|octets| octets.try_into().ok()) {
        Some(uuid) => uuid,
        None => {
            // FNV-1a, 128 bits (Fowler, Noll, Vo): names that differ get UUIDs that do.
            const PRIME: u128 = (1 << 88) + 0x13b;
            const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
            let hash = |hash: u128, octet| (hash ^ u128::from(octet)).wrapping_mul(PRIME);
            name.bytes().fold(BASIS, hash).to_be_bytes()
        }
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let uuid = uuid_of(&self.call.call);
        send(out, UUID, &uuid);
        let can = if self.call.two_way { TWO_WAY } else { LISTEN_ONLY };
        let start = self.call.started(None, Vec::new(), self.format, can);
        // All that this wire tells of a call is its UUID.
        let start = Start { call: Some(uuid_text(uuid)), from: None, to: None, ..start };
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        _: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Err(ProtocolError::out_of_turn(turn.index, "text message", "on this wire"))
    }

    /// Asterisk resets the connection over anything but sound and the end.
    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let (kind, payload) = record(turn, octets)?;
        match (kind, format_of(kind)) {
            (HANGUP, _) => Ok(Some(Event::HangupRequested)),
            (_, Some(_)) if payload.is_empty() => Err(ProtocolError::Field {
                index: turn.index,
                kind: "audio record",
                field: "length",
                problem: "is 0",
            }),
            // It would be converted; silence is silence.
            (_, Some(format)) if format != self.format && payload.iter().all(|o| *o == 0) => {
                Ok(None)
            }
            (_, Some(format)) if format == self.format => {
                Ok(Some(out.media(Track::Outbound, payload)))
            }
            _ => Err(ProtocolError::Unsupported {
                index: turn.index,
                what: format!("a record of kind {kind:#04x}"),
            }),
        }
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.stopped => {}
            Command::Media { track: Track::Inbound, payload } => {
                send(out, kind_of(self.format), payload);
            }
            Command::Dtmf(digit) => send(out, DTMF, &[digit.as_char() as u8]),
            Command::Hangup => {
                self.stopped = true;
                send(out, HANGUP, &[]);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    #[test]
    fn names_become_uuids_and_uuids_stay() {
        let text = "40325ec2-5efd-4bd3-805f-53576e581d13";
        assert_eq!(uuid_text(uuid_of(text)), text);
        assert_eq!(uuid_text(uuid_of("40325EC25EFD4BD3805F53576E581D13")), text);
        assert_ne!(uuid_of("call-1"), uuid_of("call-2"));
        assert_eq!(uuid_of(""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128.to_be_bytes());
    }

    #[test]
    fn a_quiet_call_is_kept_alive_from_the_first() {
        let upgrade = Upgrade { target: "/", public_url: None, headers: &[] };
        let accepted = AudioSocket.accept(&upgrade, &Options::default()).unwrap();
        let (mut bridge, mut out) = (accepted.protocol, Outbox::new());
        assert_eq!(bridge.poll_timeout(), None);
        let mut uuid = vec![UUID, 0, 16];
        uuid.extend([7; 16]);
        bridge.handle_message(Instant::ZERO, Message::Binary(&uuid), &mut out).unwrap();
        let mut sounds = Vec::new();
        for (seconds, rate) in [(1, None), (2, Some(0x12))] {
            let now = bridge.poll_timeout().expect("silence is due");
            assert_eq!(now, Instant::ZERO + Duration::from_secs(seconds));
            bridge.handle_timeout(now, &mut out).unwrap();
            if let Some(kind) = rate {
                let sound = [&[kind, 2, 128][..], &[1; 640]].concat();
                bridge.handle_message(now, Message::Binary(&sound), &mut out).unwrap();
            }
            for send in out.sends() {
                let super::super::Send::Binary(span) = send else { panic!("{send:?}") };
                sounds.push(out.octets(span).to_vec());
            }
            out.reset();
        }
        assert_eq!(sounds[0], [&[0x10, 1, 64][..], &[0; 320]].concat());
        // What is said puts it off; then silence has the call's own rate.
        let now = Instant::ZERO + Duration::from_millis(2_500);
        let said = Command::Media { track: Track::Outbound, payload: &[1; 640] };
        bridge.handle_command(now, said, &mut out).unwrap();
        out.reset();
        let due = bridge.poll_timeout().expect("silence is due");
        assert_eq!(due, now + QUIET);
        bridge.handle_timeout(due, &mut out).unwrap();
        let super::super::Send::Binary(span) = &out.sends()[0] else { panic!("no silence") };
        assert_eq!(out.octets(span), [&[0x12, 2, 128][..], &[0; 640]].concat());
    }

    #[test]
    fn every_rate_has_its_kind() {
        for (kind, hz) in RATES {
            assert_eq!(format_of(kind).map(kind_of), Some(kind), "{hz}");
        }
        assert_eq!(format_of(0x19), None);
    }
}
