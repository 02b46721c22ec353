//! An event on its way to sinks: its name, its JSON and what it is filed under. Written once, shared by all that take it.

use serde::{Deserialize, Serialize};

use crate::events::EventKind;

/// Something that happened on a call, to be kept somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `<call>-<n>`: its own name, the same at every sink and every try. Numbers count all that happens on a call; those missing
    /// at a sink are of kinds that it did not ask for.
    pub id: String,
    /// The bridge's name for the call.
    pub call: String,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// When, as RFC 3339 in UTC.
    pub at: String,
    /// Name of the listener.
    pub listener: String,
    /// Name of the route; empty before the call has one.
    pub route: String,
    /// A JSON object in one line, as `/events` tells it, with `event_id`, `listener` and `route`.
    pub json: String,
}

/// An event in its CloudEvents 1.0 envelope, in structured mode (CloudEvents JSON format, sections 2 and 3).
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: &'a str,
    datacontenttype: &'static str,
}

/// An event as a file keeps it: this in a line, and its JSON in another.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    call: String,
    kind: String,
    at: String,
    listener: String,
    route: String,
}

impl Event {
    /// Octets it takes, more or less.
    #[must_use]
    pub fn octets(&self) -> usize {
        size_of::<Self>() + self.json.len() + 2 * self.id.len()
    }

    /// The event as a CloudEvent of `source`.
    #[must_use]
    pub fn cloud_event(&self, source: &str) -> String {
        let envelope = Envelope {
            specversion: "1.0",
            id: &self.id,
            source,
            kind: format!("ringback.{}.v1", self.kind),
            subject: format!("call/{}", self.call),
            time: &self.at,
            datacontenttype: "application/json",
        };
        let mut text = line(&envelope);
        // The event is JSON already: it goes in as it stands, as the last member of the object.
        text.pop();
        text + ",\"data\":" + &self.json + "}"
    }

    /// As a file keeps it.
    pub(super) fn to_kept(&self) -> String {
        let kept = Kept {
            id: self.id.clone(),
            call: self.call.clone(),
            kind: self.kind.name().to_owned(),
            at: self.at.clone(),
            listener: self.listener.clone(),
            route: self.route.clone(),
        };
        line(&kept) + "\n" + &self.json + "\n"
    }

    /// From what a file kept; `None` if that is broken.
    pub(super) fn from_kept(text: &str) -> Option<Self> {
        let (head, json) = text.strip_suffix('\n')?.split_once('\n')?;
        let Kept { id, call, kind, at, listener, route } = serde_json::from_str(head).ok()?;
        Some(Self { id, call, kind: kind.parse().ok()?, at, listener, route, json: json.into() })
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts under fixed names are always JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::sink::testing::event;

    use super::*;

    #[test]
    fn a_cloud_event_holds_the_event_in_the_standards_envelope() {
        let event = event("c1", 3, EventKind::TranscriptFinal);
        let told: Value = serde_json::from_str(&event.cloud_event("/ringback")).unwrap();
        let wanted = json!({
            "specversion": "1.0", "id": "c1-3", "source": "/ringback", "type": "ringback.transcript.final.v1",
            "subject": "call/c1", "time": event.at, "datacontenttype": "application/json",
            "data": serde_json::from_str::<Value>(&event.json).unwrap(),
        });
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_a_file_keeps_is_the_same_event_and_half_of_it_is_none() {
        let event = event("c1", 3, EventKind::Dtmf);
        let kept = event.to_kept();
        assert_eq!(Event::from_kept(&kept), Some(event));
        assert_eq!(Event::from_kept(&kept[..kept.len() - 5]), None);
        assert_eq!(Event::from_kept(&kept.replace("dtmf", "unheard-of")), None);
    }
}
