//! The answers by provider: one row and one document for each that asks over HTTP. Holds data only.
//!
//! Not here, for there is no such document: those who are told by REST (Vonage Video, Infobip, Wavix, Azure, Telnyx but for TeXML), by
//! a script or a dialplan (Voximplant, Asterisk, FreeSWITCH), or in a portal (Genesys, Avaya, Webex, AudioCodes, Talkdesk, NICE,
//! RingCX, Smartflo). Ozonetel's asks at every event of a call and needs a SIP extension in the document; those who answer it disagree
//! whether its event `Stream` comes when the stream begins or when it is over, and the wrong word there ends the call.

use super::credential::Kind;
use super::template::Syntax;
use super::{Answer, Fact, Letters, Parameter};

pub(super) static ANSWERS: &[&Answer] = &[
    &Answer {
        provider: "twilio",
        document: include_str!("documents/twilio.xml"),
        parameter: Some(PARAMETER),
        // A query does not arrive.
        in_url: &[Kind::Path],
        facts: &TWILIO,
        call: &["CallSid"],
        ..XML
    },
    // The session tells the numbers itself, and a query arrives.
    &Answer {
        provider: "conversation-relay",
        document: include_str!("documents/conversation-relay.xml"),
        parameter: Some(PARAMETER),
        call: &["CallSid"],
        ..XML
    },
    &Answer {
        provider: "signalwire",
        document: include_str!("documents/signalwire.xml"),
        parameter: Some(PARAMETER),
        credentials: &[(Kind::Bearer, r#" authBearerToken="{{token}}""#)],
        in_url: &[Kind::Path],
        facts: &[from(&["From"]), to(&["To"])],
        call: &["CallSid"],
        other: Some(("call.call_id", &SWML)),
        ..XML
    },
    // TeXML; the stream tells the numbers itself.
    &Answer {
        provider: "telnyx",
        document: include_str!("documents/telnyx.xml"),
        call: &["CallSid"],
        ..XML
    },
    &Answer { provider: "plivo", ..PLIVO },
    &Answer { provider: "vobiz", ..PLIVO },
    &Answer {
        provider: "vonage",
        document: include_str!("documents/vonage.json"),
        parameter: Some(Parameter { around: ["\n        \"headers\": {", "},"], ..MEMBER }),
        credentials: &[
            (Kind::Vonage, "\n        \"authorization\": {\"type\": \"vonage\"},"),
            (
                Kind::Bearer,
                "\n        \"authorization\": {\"type\": \"custom\", \"value\": \"Bearer {{token}}\"},",
            ),
        ],
        // The stream does not even tell its call's name, so it is passed on too.
        facts: &[
            Fact { sample: "447700900001", ..from(&["from"]) },
            Fact { sample: "447700900002", ..to(&["to"]) },
            Fact { name: "uuid", paths: &["uuid"], sample: "aaaaaaaa-bbbb-cccc-dddd-0123456789ab" },
        ],
        call: &["uuid"],
        ..JSON
    },
    // Of a Voicebot or Stream applet that was given an address to ask for the stream's URL.
    &Answer {
        provider: "exotel",
        document: include_str!("documents/exotel.json"),
        parameter: Some(Parameter {
            pattern: "&{{name}}={{value}}",
            letters: Letters::Percent,
            ..PARAMETER
        }),
        in_url: &[Kind::Basic, Kind::Query, Kind::Path],
        query: "sample-rate=16000",
        call: &["CallSid"],
        ..JSON
    },
    &Answer {
        provider: "bandwidth",
        document: include_str!("documents/bandwidth.xml"),
        parameter: Some(Parameter {
            pattern: "\n    <StreamParam name=\"{{name}}\" value=\"{{value}}\"/>",
            ..PARAMETER
        }),
        credentials: &[(
            Kind::Basic,
            "\n    destinationUsername=\"{{user}}\" destinationPassword=\"{{token}}\"",
        )],
        facts: &[from(&["from"]), to(&["to"])],
        call: &["callId"],
        asides: Some(("eventType", &["disconnect", "transferDisconnect"])),
        ..XML
    },
    // One address hears all of a call's events; only the first of an incoming call asks for something to do.
    &Answer {
        provider: "sinch",
        document: include_str!("documents/sinch.json"),
        nothing: r#"{"action": {"name": "continue"}}"#,
        parameter: Some(Parameter {
            pattern: r#"{"key": "{{name}}", "value": "{{value}}"}"#,
            ..MEMBER
        }),
        facts: &[from(&["cli"]), to(&["to.endpoint"])],
        call: &["callid"],
        asides: Some(("event", &["ace", "dice", "pie", "notify"])),
        ..JSON
    },
    // Whether it passes custom parameters on is not documented.
    &Answer {
        provider: "cloudonix",
        document: include_str!("documents/cloudonix.xml"),
        call: &["CallSid", "Session"],
        ..XML
    },
    &Answer {
        provider: "kazoo",
        document: include_str!("documents/kazoo.xml"),
        call: &["CallSid", "Call-ID"],
        ..XML
    },
    // The stream tells the numbers itself.
    &Answer {
        provider: "jambonz",
        document: include_str!("documents/jambonz.json"),
        parameter: Some(Parameter { around: ["\n    \"metadata\": {", "},"], ..MEMBER }),
        credentials: &[(
            Kind::Basic,
            "\n    \"wsAuth\": {\"username\": \"{{user}}\", \"password\": \"{{token}}\"},",
        )],
        call: &["call_sid"],
        ..JSON
    },
];

/// For numbers whose calls are handled by a SWML script. `connect` is the way that plays, too; the method `stream` only listens.
static SWML: Answer = Answer {
    provider: "signalwire",
    document: include_str!("documents/signalwire-swml.json"),
    nothing: r#"{"version": "1.0.0", "sections": {"main": []}}"#,
    parameter: Some(Parameter { around: ["\n          \"custom_parameters\": {", "},"], ..MEMBER }),
    credentials: &[(Kind::Bearer, "\n          \"authorization_bearer_token\": \"{{token}}\",")],
    in_url: &[Kind::Path],
    // Filled in by SignalWire itself where the document is pasted.
    facts: &[
        Fact { sample: "%{call.from}", ..from(&["call.from"]) },
        Fact { sample: "%{call.to}", ..to(&["call.to"]) },
    ],
    call: &["call.call_id"],
    // Both are the same to SWML, and what is no name in them is run as JavaScript.
    evaluates: &["%{", "${"],
    ..JSON
};

const XML: Answer = Answer {
    provider: "",
    syntax: Syntax::Xml,
    document: "",
    nothing: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response/>\n",
    parameter: None,
    credentials: &[],
    in_url: &[Kind::Query, Kind::Path],
    query: "",
    facts: &[],
    call: &[],
    asides: None,
    evaluates: &[],
    other: None,
};

const JSON: Answer = Answer { syntax: Syntax::Json, nothing: "[]", ..XML };

const PLIVO: Answer = Answer {
    document: include_str!("documents/plivo.xml"),
    parameter: Some(Parameter {
        around: [" extraHeaders=\"", "\""],
        pattern: "{{name}}={{value}}",
        separator: ",",
        letters: Letters::Alphanumeric,
    }),
    facts: &[
        Fact { sample: "15550100001", ..from(&["From"]) },
        Fact { sample: "15550100002", ..to(&["To"]) },
    ],
    call: &["CallUUID"],
    // Told here unless a `hangup_url` is set.
    asides: Some(("Event", &["Hangup"])),
    ..XML
};

/// Filled in by Twilio itself where the document is pasted into a TwiML Bin.
static TWILIO: [Fact; 2] = [
    Fact { name: "from", paths: &["From"], sample: "{{From}}" },
    Fact { name: "to", paths: &["To"], sample: "{{To}}" },
];

const PARAMETER: Parameter = Parameter {
    around: ["", ""],
    pattern: "\n      <Parameter name=\"{{name}}\" value=\"{{value}}\"/>",
    separator: "",
    letters: Letters::Any,
};

const MEMBER: Parameter =
    Parameter { pattern: r#""{{name}}": "{{value}}""#, separator: ", ", ..PARAMETER };

const fn from(paths: &'static [&'static str]) -> Fact {
    Fact { name: "from", paths, sample: "+15550100001" }
}

const fn to(paths: &'static [&'static str]) -> Fact {
    Fact { name: "to", paths, sample: "+15550100002" }
}
