//! What every message of Genesys' protocol has around it: the session's name, counts both ways, places in the sound. Knows no message.

use std::fmt;
use std::time::Duration;

use super::super::json::{self, Node, Quoted, Reader};
use super::super::{Outbox, ProtocolError};

/// How one end names what it has heard of the other.
#[derive(Debug, Clone, Copy)]
struct Side {
    /// Member with the count of what we heard, in what we send.
    heard: &'static str,
    /// Member with the count of what they heard, in what they send.
    theirs: &'static str,
}

/// One end's counts.
#[derive(Debug)]
pub(super) struct Envelope {
    side: Side,
    /// Name of the session: a UUID in the documentation, but `dummy` has been seen.
    id: Option<String>,
    sent: u64,
    heard: u64,
}

impl Envelope {
    /// Of the bridge, which is told the session's name.
    pub(super) const fn of_server() -> Self {
        let side = Side { heard: "clientseq", theirs: "serverseq" };
        Self { side, id: None, sent: 0, heard: 0 }
    }

    /// Of Genesys, which makes up the session's name.
    pub(super) const fn of_client(id: String) -> Self {
        let side = Side { heard: "serverseq", theirs: "clientseq" };
        Self { side, id: Some(id), sent: 0, heard: 0 }
    }

    /// Name of the session, once it is known.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Messages sent so far; the last one's count.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends a message; Genesys tells in each how far its sound has come.
    pub(super) fn send(
        &mut self,
        out: &mut Outbox,
        kind: &str,
        position: Option<Duration>,
        parameters: fmt::Arguments<'_>,
    ) {
        self.sent += 1;
        let (sent, heard, count) = (self.sent, self.heard, self.side.heard);
        let id = Quoted(self.id.as_deref().unwrap_or_default());
        let head = format_args!(r#""version":"2","type":"{kind}","id":{id},"seq":{sent}"#);
        match position.map(Period) {
            None => json::send(
                out,
                format_args!(r#"{{{head},"{count}":{heard},"parameters":{{{parameters}}}}}"#),
            ),
            Some(at) => json::send(
                out,
                format_args!(
                    r#"{{{head},"{count}":{heard},"position":"{at}","parameters":{{{parameters}}}}}"#
                ),
            ),
        }
    }

    /// Counts a message that came. One that is missing, of another session or that acknowledges what was never sent is an error;
    /// a count that is not told is believed.
    pub(super) fn check(&mut self, message: Reader<'_>) -> Result<(), ProtocolError> {
        let id = message.text("id")?;
        if self.id.get_or_insert_with(|| id.to_owned()) != id {
            return Err(message.error("id", "is not that of the session"));
        }
        let seq = message.node.number("seq").unwrap_or(self.heard + 1);
        if seq != self.heard + 1 {
            return Err(message.error("seq", "does not follow that of the last message"));
        }
        self.heard = seq;
        if message.node.number(self.side.theirs).is_some_and(|theirs| theirs > self.sent) {
            return Err(message.error(self.side.theirs, "is above what was sent"));
        }
        Ok(())
    }

    /// Counts on from a message of which nothing before is known.
    pub(super) fn begin(&mut self, message: Reader<'_>) {
        self.heard = message.node.number("seq").unwrap_or(self.heard + 1);
    }
}

/// A time in ISO 8601, as far as it is used here: seconds.
pub(super) struct Period(pub(super) Duration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PT{}", self.0.as_secs())?;
        let nanos = format!("{:09}", self.0.subsec_nanos());
        match nanos.trim_end_matches('0') {
            "" => f.write_str("S"),
            digits => write!(f, ".{digits}S"),
        }
    }
}

/// The time at a path of a message: `PT1.2S`; hours and minutes are understood, too.
pub(super) fn period(node: &Node<'_>, path: &str) -> Option<Duration> {
    const LONGEST: f64 = 1e9;
    let mut rest = node.text(path)?.strip_prefix("PT")?;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let seconds = match unit.as_bytes().first()? {
            b'H' => 3_600.0,
            b'M' => 60.0,
            b'S' => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = &unit[1..];
    }
    (total < LONGEST).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_leniently_and_printed_exactly() {
        let read = |text: &str| {
            period(&Node::Text(text.into()), "").or_else(|| {
                let json = format!("{{\"p\":\"{text}\"}}");
                period(&Node::parse(0, "JSON", &json).unwrap(), "p")
            })
        };
        for (text, millis) in [
            ("PT0S", 0),
            ("PT0.0S", 0),
            ("PT1.2S", 1_200),
            ("PT.5S", 500),
            ("PT1M2.5S", 62_500),
            ("PT1H", 3_600_000),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1.2S", "PT1.2", "PT1X", "PT1.2.3S", "PT-1S", "PT9e9S", "PT99999999999S"] {
            assert_eq!(read(text), None, "{text}");
        }
        for (micros, text) in [(0, "PT0S"), (1_200_000, "PT1.2S"), (125, "PT0.000125S")] {
            assert_eq!(Period(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn counts_that_do_not_add_up_are_errors() {
        let check = |envelope: &mut Envelope, text: &str| {
            let node = Node::parse(0, "JSON", text).unwrap();
            let checked = envelope.check(Reader { index: 0, kind: "ping", node: &node });
            checked.map_err(|error| error.to_string())
        };
        let mut envelope = Envelope::of_server();
        assert_eq!(check(&mut envelope, r#"{"id":"dummy","seq":1,"serverseq":0}"#), Ok(()));
        for (text, field) in [
            (r#"{"seq":2,"serverseq":0}"#, "id"),
            (r#"{"id":"x","seq":2,"serverseq":0}"#, "id"),
            (r#"{"id":"dummy","seq":1,"serverseq":0}"#, "seq"),
            (r#"{"id":"dummy","seq":3,"serverseq":0}"#, "seq"),
            (r#"{"id":"dummy","seq":2,"serverseq":1}"#, "serverseq"),
        ] {
            let error = check(&mut envelope, text).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{error}");
            envelope.heard = 1;
        }
        assert_eq!(check(&mut envelope, r#"{"id":"dummy","seq":"2"}"#), Ok(()));
        assert_eq!(check(&mut envelope, r#"{"id":"dummy"}"#), Ok(()));
        assert_eq!(envelope.heard, 3);
    }
}
