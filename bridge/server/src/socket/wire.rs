//! Frames of RFC 6455 as octets: reads and writes both ends' frames in memory, without a socket, a clock or a copy too many.
//!
//! Our own, because a call is 100 messages a second: libraries allocate for each, here a message is unmasked where it was read
//! and written where it is sent from. `tests/websocket.rs` holds it against an independent implementation.

use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

use ringback_proto::scratch::{Lend, Octets, Scratch};

/// Octets of a frame's head before the mask: two, and up to eight of length.
const MAX_HEAD: usize = 14;
/// Payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;
/// Room for a read. More costs memory per call and gains nothing: a frame of 20 ms is hundreds of octets.
const READ_BUFFER: usize = 4 * 1024;

/// Kind and length of a record.
const RECORD_HEAD: usize = 3;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Which end of the connection we are: clients mask what they send, servers do not (RFC 6455, 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asked for the upgrade.
    Client,
    /// Granted it.
    Server,
    /// Neither: no WebSocket at all, but records of an octet of kind, two of length and the payload (AudioSocket). Each is a binary
    /// message, head included, and there are no others.
    Records,
}

/// What a frame or message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text message; checked to be UTF-8.
    Text,
    /// A binary message.
    Binary,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
    /// Closes the stream; the payload is empty or a code and a reason, checked.
    Close,
}

impl Kind {
    const fn opcode(self) -> u8 {
        match self {
            Self::Text => TEXT,
            Self::Binary => BINARY,
            Self::Ping => PING,
            Self::Pong => PONG,
            Self::Close => CLOSE,
        }
    }
}

/// How a peer broke RFC 6455 or our limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It broke the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text that is not UTF-8.
    #[error("not UTF-8 after {valid_up_to} octets")]
    NotUtf8 {
        /// Octets that are.
        valid_up_to: usize,
    },
    /// A message bigger than the limit.
    #[error("bigger than the limit")]
    TooBig,
}

/// A message that was read; its octets are at [`Reader::octets`] until the next [`Reader::next_message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// What it is.
    pub kind: Kind,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the read buffer.
    Read(Range<usize>),
    /// Put together from fragments.
    Assembled,
}

/// A frame's head.
struct Head {
    opcode: u8,
    fin: bool,
    mask: Option<[u8; 4]>,
    /// Length of the head itself.
    octets: usize,
    payload: usize,
}

/// A read buffer. Keeps its length when it is given back, because filling it with zeros again would cost more than all else.
#[derive(Debug, Default)]
struct Space(Vec<u8>);

impl Lend for Space {
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local! { static SHELF: RefCell<Vec<Space>> = const { RefCell::new(Vec::new()) } }
        &SHELF
    }

    fn wipe(&mut self) {}

    fn octets(&self) -> usize {
        self.0.capacity()
    }
}

/// Takes octets as they come and gives messages.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    max_message: usize,
    /// Lent by the thread while there is something in it.
    buffer: Option<Scratch<Space>>,
    /// What was read and not yet consumed.
    unread: Range<usize>,
    /// A message of which not all fragments came yet.
    assembling: Option<Kind>,
    assembled: Vec<u8>,
}

impl Reader {
    /// Reads what is sent to `role`; a message of more than `max_message` octets is an error.
    #[must_use]
    pub const fn new(role: Role, max_message: usize) -> Self {
        Self {
            role,
            max_message,
            buffer: None,
            unread: 0..0,
            assembling: None,
            assembled: Vec::new(),
        }
    }

    /// Room for the next read, never empty; tell [`Reader::filled`] how much of it was used.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.wanted();
        let buffer = &mut self.buffer.get_or_insert_with(Scratch::lend).0;
        if buffer.len() - self.unread.start < wanted || self.unread.end == buffer.len() {
            buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        &mut buffer[self.unread.end..]
    }

    /// Gives the buffer back, if nothing is in it.
    pub fn rest(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
            self.buffer = None;
        }
    }

    /// Whether a message has begun of which not all fragments came yet.
    #[must_use]
    pub const fn is_assembling(&self) -> bool {
        self.assembling.is_some()
    }

    /// Whether anything has begun that is not whole: a message, a frame, a head.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.is_assembling() || !self.unread.is_empty()
    }

    fn buffer(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.0)
    }

    /// Octets the buffer must hold: the frame that has begun, and more than what is unread.
    fn wanted(&self) -> usize {
        let begun = self.head().ok().flatten().map_or(MAX_HEAD, |head| head.octets + head.payload);
        let full = self.unread.len() == self.buffer().len();
        begun.max(READ_BUFFER + if full { self.unread.len() } else { 0 })
    }

    /// So many octets were read into [`Reader::space`].
    pub fn filled(&mut self, octets: usize) {
        self.unread.end = (self.unread.end + octets).min(self.buffer().len());
    }

    /// Takes octets that were read elsewhere.
    pub fn push(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let space = self.space();
            let count = space.len().min(octets.len());
            space[..count].copy_from_slice(&octets[..count]);
            octets = &octets[count..];
            self.filled(count);
        }
    }

    /// The octets of a message.
    #[must_use]
    pub fn octets(&self, arrival: &Arrival) -> &[u8] {
        match &arrival.place {
            Place::Read(range) => self.buffer().get(range.clone()).unwrap_or_default(),
            Place::Assembled => &self.assembled,
        }
    }

    /// The text of a message; empty for those that are none.
    #[must_use]
    pub fn text(&self, arrival: &Arrival) -> &str {
        // Checked on arrival; checking again costs nanoseconds, and nothing unsafe.
        std::str::from_utf8(self.octets(arrival)).unwrap_or_default()
    }

    /// The next whole message or control frame, or `None` until more was read.
    ///
    /// # Errors
    /// The first error is the last word: what follows on the wire means nothing.
    pub fn next_message(&mut self) -> Result<Option<Arrival>, WireError> {
        loop {
            self.rest();
            let Some(head) = self.head()? else { return Ok(None) };
            if self.unread.len() < head.octets + head.payload {
                return Ok(None);
            }
            let start = self.unread.start + head.octets;
            let payload = start..start + head.payload;
            self.unread.start = payload.end;
            if let (Some(mask), Some(buffer)) = (head.mask, &mut self.buffer) {
                apply_mask(mask, &mut buffer.0[payload.clone()]);
            }
            if let Some(arrival) = self.take(&head, payload)? {
                return Ok(Some(arrival));
            }
        }
    }

    fn take(&mut self, head: &Head, payload: Range<usize>) -> Result<Option<Arrival>, WireError> {
        let kind = match head.opcode {
            TEXT => Kind::Text,
            BINARY => Kind::Binary,
            PING => Kind::Ping,
            PONG => Kind::Pong,
            CLOSE => {
                check_close(&self.buffer()[payload.clone()])?;
                Kind::Close
            }
            _ => return self.go_on(head, payload),
        };
        if !head.fin {
            self.assembling = Some(kind);
            self.assembled.clear();
            self.append(payload);
            return Ok(None);
        }
        if kind == Kind::Text {
            check_text(&self.buffer()[payload.clone()])?;
        }
        Ok(Some(Arrival { kind, place: Place::Read(payload) }))
    }

    /// A fragment behind the first.
    fn go_on(&mut self, head: &Head, payload: Range<usize>) -> Result<Option<Arrival>, WireError> {
        self.append(payload);
        if !head.fin {
            return Ok(None);
        }
        let Some(kind) = self.assembling.take() else { return Ok(None) };
        if kind == Kind::Text {
            check_text(&self.assembled)?;
        }
        Ok(Some(Arrival { kind, place: Place::Assembled }))
    }

    fn append(&mut self, payload: Range<usize>) {
        let Self { buffer, assembled, .. } = self;
        let buffer = buffer.as_ref().map_or(&[][..], |buffer| &buffer.0);
        assembled.extend_from_slice(&buffer[payload]);
    }

    /// Reads and checks the head of the next frame, if all of it is there.
    fn head(&self) -> Result<Option<Head>, WireError> {
        let octets = &self.buffer()[self.unread.clone()];
        if self.role == Role::Records {
            return self.record(octets);
        }
        let Some((&[first, second], rest)) = octets.split_first_chunk() else { return Ok(None) };
        let (length, least, rest) = match second & !MASKED {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), 126, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
                None => return Ok(None),
            },
            short => (u64::from(short), 0, rest),
        };
        if length < least {
            return Err(WireError::Protocol("a length has more octets than it needs"));
        }
        let (opcode, fin, masked) = (first & 0x0F, first & FIN != 0, second & MASKED != 0);
        self.check(first, masked, length)?;
        let (mask, rest) = match (masked, rest.split_first_chunk()) {
            (false, _) => (None, rest),
            (true, Some((mask, rest))) => (Some(*mask), rest),
            (true, None) => return Ok(None),
        };
        // Fits: it is at most `max_message`.
        let payload = length as usize;
        Ok(Some(Head { opcode, fin, mask, octets: octets.len() - rest.len(), payload }))
    }

    /// The head of a record, which is part of the message.
    fn record(&self, octets: &[u8]) -> Result<Option<Head>, WireError> {
        let Some(&[_kind, high, low]) = octets.first_chunk() else { return Ok(None) };
        let payload = RECORD_HEAD + usize::from(u16::from_be_bytes([high, low]));
        if payload > self.max_message {
            return Err(WireError::TooBig);
        }
        Ok(Some(Head { opcode: BINARY, fin: true, mask: None, octets: 0, payload }))
    }

    fn check(&self, first: u8, masked: bool, length: u64) -> Result<(), WireError> {
        let protocol = |problem| Err(WireError::Protocol(problem));
        if first & RESERVED != 0 {
            return protocol("reserved bits are set, but no extension was agreed on");
        }
        match (self.role, masked) {
            (Role::Server, false) => return protocol("a frame of a client is not masked"),
            (Role::Client, true) => return protocol("a frame of a server is masked"),
            _ => {}
        }
        let begun = match first & 0x0F {
            CLOSE | PING | PONG if first & FIN == 0 => {
                return protocol("a control frame is fragmented");
            }
            CLOSE | PING | PONG if length > MAX_CONTROL as u64 => {
                return protocol("a control frame has more than 125 octets");
            }
            CLOSE | PING | PONG => return Ok(()),
            TEXT | BINARY if self.assembling.is_some() => {
                return protocol("a message begins before the last one has ended");
            }
            TEXT | BINARY => 0,
            CONTINUATION if self.assembling.is_none() => {
                return protocol("a continuation of a message that has not begun");
            }
            CONTINUATION => self.assembled.len(),
            _ => return protocol("unknown opcode"),
        };
        if length > self.max_message.saturating_sub(begun) as u64 {
            return Err(WireError::TooBig);
        }
        Ok(())
    }
}

fn check_text(octets: &[u8]) -> Result<(), WireError> {
    std::str::from_utf8(octets)
        .map(drop)
        .map_err(|error| WireError::NotUtf8 { valid_up_to: error.valid_up_to() })
}

/// A close frame is empty or has a code that may be sent (RFC 6455, 7.4) and a reason in UTF-8.
fn check_close(payload: &[u8]) -> Result<(), WireError> {
    match payload.split_first_chunk() {
        None if payload.is_empty() => Ok(()),
        None => Err(WireError::Protocol("a close frame has half a code")),
        Some((code, _)) if !is_sendable(u16::from_be_bytes(*code)) => {
            Err(WireError::Protocol("a close frame has a code that may not be sent"))
        }
        Some((_, reason)) => check_text(reason),
    }
}

/// Whether a close code may stand in a frame: registered ones and those of applications (RFC 6455, 7.4.2).
#[must_use]
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Applies or removes a mask, which is the same (RFC 6455, 5.3).
fn apply_mask(mask: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *octet ^= mask;
    }
}

/// Masks for a client's frames. They must not be foreseeable (RFC 6455, 10.3), so they come from the system, many at a time.
struct Masks {
    pool: [u8; 256],
    used: usize,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        if self.used == self.pool.len() {
            // Without randomness a mask of zeros is still well-formed; what it protects from are proxies between web pages and
            // servers, which a telephone call does not pass.
            let _ = crate::chance::fill(&mut self.pool);
            self.used = 0;
        }
        let mask = self.pool.as_chunks::<4>().0[self.used / 4];
        self.used += 4;
        mask
    }
}

/// Puts messages into frames, and keeps them until they are written.
pub struct Writer {
    role: Role,
    masks: Option<Box<Masks>>,
    /// Lent by the thread while something waits in it.
    buffer: Option<Octets>,
    written: usize,
}

impl Writer {
    /// Writes what `role` sends.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let masks = match role {
            Role::Client => Some(Box::new(Masks { pool: [0; 256], used: 256 })),
            Role::Server | Role::Records => None,
        };
        Self { role, masks, buffer: None, written: 0 }
    }

    /// Octets that wait to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.written..])
    }

    /// So many octets of [`Writer::pending`] were written.
    pub fn wrote(&mut self, octets: usize) {
        self.written += octets;
        if self.pending().is_empty() {
            self.written = 0;
            self.buffer = None;
        }
    }

    /// Appends a whole message or a control frame, which must not have more than 125 octets.
    pub fn push(&mut self, kind: Kind, payload: &[u8]) {
        if self.role == Role::Records {
            // Records have no word for anything else.
            if kind == Kind::Binary {
                self.buffer.get_or_insert_with(Octets::lend).extend_from_slice(payload);
            }
            return;
        }
        let mask = self.masks.as_mut().map(|masks| masks.next());
        let bit = if mask.is_some() { MASKED } else { 0 };
        let buffer = self.buffer.get_or_insert_with(Octets::lend);
        buffer.push(FIN | kind.opcode());
        match (payload.len(), u16::try_from(payload.len())) {
            (short @ 0..=125, _) => buffer.push(bit | short as u8),
            (_, Ok(long)) => {
                buffer.push(bit | 126);
                buffer.extend_from_slice(&long.to_be_bytes());
            }
            (longer, Err(_)) => {
                buffer.push(bit | 127);
                buffer.extend_from_slice(&(longer as u64).to_be_bytes());
            }
        }
        if let Some(mask) = &mask {
            buffer.extend_from_slice(mask);
        }
        let start = buffer.len();
        buffer.extend_from_slice(payload);
        if let Some(mask) = mask {
            apply_mask(mask, &mut buffer[start..]);
        }
    }

    /// Appends a close frame with `code` and at most 123 octets of `reason`; a code that may not be sent leaves it empty.
    pub fn push_close(&mut self, code: u16, reason: &str) {
        if !is_sendable(code) {
            return self.push(Kind::Close, b"");
        }
        let mut payload = [0; MAX_CONTROL];
        let reason = super::cut(reason, MAX_CONTROL - 2).as_bytes();
        payload[..2].copy_from_slice(&code.to_be_bytes());
        payload[2..2 + reason.len()].copy_from_slice(reason);
        self.push(Kind::Close, &payload[..2 + reason.len()]);
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("pending", &self.pending().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
