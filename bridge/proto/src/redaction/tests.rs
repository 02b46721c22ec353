//! Tests of redaction on messages written for it.

use super::*;
use crate::provider::{Line, Track, find};

fn redactor(provider: &str) -> Redactor {
    Redactor::new(find(provider).unwrap(), Sound::Silence, [3; 32])
}

fn redacted(provider: &str, text: &str) -> String {
    let shown = redactor(provider).message(Direction::In, Message::Text(text), &Facts::default());
    let Wire::Text(shown) = shown else { panic!("text stays text") };
    shown
}

#[test]
fn the_protocols_own_words_stay_and_all_others_go() {
    let text = r#"{"event":"start","sequenceNumber":"1","start":{"streamSid":"MZ17aa","from":"+15557348291","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000},"customParameters":{"event":"Jane","pin":"1234","n":42,"vip":true}},"novelty":"secret-word"}"#;
    let shown = redacted("twilio", text);
    for kept in [
        r#"{"event":"start","sequenceNumber":"1","start":{"#,
        r#""tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}"#,
        r#""vip":true"#,
        r#""from":"+1000"#,
    ] {
        assert!(shown.contains(kept), "{kept} in {shown}");
    }
    for gone in ["MZ17aa", "7348291", "Jane", "1234", "42", "secret", "word"] {
        assert!(!shown.contains(gone), "{gone} in {shown}");
    }
    assert_eq!(shown.len(), text.len());
}

#[test]
fn a_number_is_replaced_wherever_the_name_of_a_format_could_stand() {
    let text = r#"{"event":"start","track":"x15557348291","mediaFormat":{"encoding":"audio/15557348291","codec":"L16;rate=16000;channels=1"}}"#;
    let shown = redacted("twilio", text);
    assert!(!shown.contains("7348291"), "{shown}");
    assert!(shown.contains("L16;rate=16000;channels=1"), "{shown}");
}

#[test]
fn what_is_no_json_or_not_quite_is_replaced_as_well() {
    for text in [
        r#"{"event":"start","from":"+15557348291",nonsense"#,
        r#"{"event":"+15557348291","token":"canary"}"#,
        r#"{"from":"+15557348291 canary"#,
        r#"{"from": +15557348291canary}"#,
        "hello +15557348291 canary",
        "canary15557348291",
        r#"["canary", 15557348291]"#,
        "\u{feff}{\"token\":\"canary\", \"\\u002b15557348291\":1}",
        r#"{"x":"{\"token\":\"canary\",\"n\":15557348291}"}"#,
        r#"{"timestamp":1,15557348291,"mark":"m" "canary"}"#,
        r#"{"timestamp":1, number: 15557348291}"#,
        r#"{"timestamp":{"x":1} 15557348291}"#,
        r#"{"\qcanary15557348291":1}"#,
        r#"{"x":"DTMF_DIGIT_canary"}"#,
        r#"{"dtmf_events":["DTMF_DIGIT_15557348291","DTMF_DIGIT_canary"]}"#,
        r#"{"dtmf":"1 canary"}"#,
    ] {
        let shown = redacted("twilio", text);
        assert!(!shown.contains("7348291") && !shown.contains("canary"), "{text}: {shown}");
    }
}

#[test]
fn the_number_of_a_desk_is_replaced_however_short_it_is() {
    let text = r#"{"event":"start","sequenceNumber":"101","from":"101","callerId":"105","dnis":102,"to":103,"streamId":"1","novelty":"104","retries":3}"#;
    let shown = redacted("twilio", text);
    for kept in [r#""sequenceNumber":"101""#, r#""streamId":"1""#, r#""retries":3"#] {
        assert!(shown.contains(kept), "{kept} in {shown}");
    }
    for gone in [r#""from":"101""#, "102", "103", "104", "105"] {
        assert!(!shown.contains(gone), "{gone} in {shown}");
    }
}

#[test]
fn sound_becomes_silence_of_its_length_in_its_format() {
    let text = r#"{"event":"media","media":{"payload":"AAECAwQFBgc="}}"#;
    assert_eq!(redacted("twilio", text), r#"{"event":"media","media":{"payload":"//////////8="}}"#);
    let text = r#"{"event":"media","data":{"samples":[1,-200,3000]}}"#;
    assert_eq!(redacted("ozonetel", text), r#"{"event":"media","data":{"samples":[0,0,0]}}"#);
    let mut linear = redactor("vonage");
    let shown = linear.message(Direction::Out, Message::Binary(&[1, 2, 3, 4]), &Facts::default());
    assert_eq!(shown, Wire::Binary(vec![0; 4]));
    let mut kept = Redactor::new(find("vonage").unwrap(), Sound::Keep, [3; 32]);
    let media = Command::Media { track: Track::Outbound, payload: &[] };
    let sound = Facts::of_command(&media);
    let shown = kept.message(Direction::Out, Message::Binary(&[1, 2, 3, 4]), &sound);
    assert_eq!(shown, Wire::Binary(vec![1, 2, 3, 4]));
    // What our end takes for none is none, whatever it is called.
    let note = r#"{"event":"note","data":"Jane"}"#;
    let shown = kept.message(Direction::In, Message::Text(note), &Facts::default());
    assert_eq!(shown, Wire::Text(r#"{"event":"note","data":"AAAA"}"#.into()));
}

#[test]
fn records_keep_their_kind_and_length() {
    let mut records = redactor("audiosocket");
    let mut shown = |octets: &[u8]| match records.message(
        Direction::In,
        Message::Binary(octets),
        &Facts::default(),
    ) {
        Wire::Binary(octets) => octets,
        other => panic!("{other:?}"),
    };
    let id = [&[1, 0, 16][..], &[0x5a; 16]].concat();
    let made = shown(&id);
    assert!(made[..3] == id[..3] && made[3..] != id[3..] && made.len() == id.len(), "{made:?}");
    assert_eq!(shown(&[3, 0, 1, b'9']), [3, 0, 1, b'5']);
    assert_eq!(shown(&[0x10, 0, 2, 7, 7]), [0x10, 0, 2, 0, 0]);
    assert_eq!(shown(&[0, 0, 0]), [0, 0, 0]);
    assert_eq!(shown(&[1]), [1], "what is no record stays short");
}

#[test]
fn keys_pressed_are_all_the_same() {
    let digit = Digit::new('9').unwrap();
    let facts = Facts { keys: vec![digit], ..Facts::default() };
    let mut redactor = redactor("twilio");
    let mut shown = |text| match redactor.message(Direction::In, Message::Text(text), &facts) {
        Wire::Text(text) => text,
        other => panic!("{other:?}"),
    };
    let json = r#"{"event":"dtmf","sequenceNumber":"9","dtmf":{"digit":"9"},"other":"9"}"#;
    let wanted = r#"{"event":"dtmf","sequenceNumber":"9","dtmf":{"digit":"5"},"other":"5"}"#;
    assert_eq!(shown(json), wanted);
    assert_eq!(shown("DTMF_END digit:9"), "DTMF_END digit:5");
    assert_eq!(shown(r#"{"digits":"4711#"}"#), r#"{"digits":"5555#"}"#);
    assert_eq!(shown(r#"{"digit":7,"digits":[4,7]}"#), r#"{"digit":5,"digits":[5,5]}"#);
}

#[test]
fn what_proves_something_is_not_even_stood_in_for() {
    let shown = redacted("twilio", r#"{"event":"start","signature":"canary0123456789abcdef=="}"#);
    assert_eq!(shown, r#"{"event":"start","signature":""}"#);
}

#[test]
fn where_the_bridge_dials_and_why_a_line_was_lost_name_nobody() {
    let mut redactor = redactor("zoom-rtms");
    for wire in [
        Wire::Dial(Line::Control, "wss://canary.example/15557348291?token=canary".into()),
        Wire::Lost(Line::Media, "canary.example refused +15557348291".into()),
        Wire::On(Line::Control, r#"{"msg_type":1,"signature":"canary","n":"15557348291"}"#.into()),
    ] {
        let shown = redactor.wire(Direction::Out, &wire, &Facts::default());
        let text = format!("{shown:?}");
        assert!(!text.contains("canary") && !text.contains("7348291"), "{text}");
        assert_eq!(std::mem::discriminant(&shown), std::mem::discriminant(&wire));
    }
}

#[test]
fn a_program_whose_name_tells_a_number_is_left_out() {
    let headers = [("user-agent", "Phone/15557348291")];
    let upgrade = Upgrade { target: "/twilio", public_url: None, headers: &headers };
    let shown = redactor("twilio").upgrade(&upgrade, "/twilio", &Options::default(), None);
    assert_eq!(shown.left_out, ["header field user-agent"]);
}

#[test]
fn credentials_are_left_out_of_the_request_and_said_to_be() {
    let headers = [
        ("host", "bridge.example"),
        ("authorization", "Bearer canary"),
        ("x-twilio-signature", "canary"),
        ("cookie", "canary=1"),
        ("user-agent", "TmTwiProxy/1.0"),
        ("sec-websocket-protocol", "media, Bearer-canary"),
        ("x-ms-call-connection-id", "51e0d1a2-canary"),
    ];
    let upgrade = Upgrade {
        target: "/asterisk/canary?token=canary&from=%2B15557348291&rate=8000&note=canary+x",
        public_url: None,
        headers: &headers,
    };
    let options = Options { credential_query: Some("token".into()), ..Options::default() };
    let shown = redactor("asterisk").upgrade(&upgrade, "/asterisk", &options, Some("media"));
    let text = format!("{shown:?}");
    assert!(!text.contains("canary") && !text.contains("7348291"), "{text}");
    assert!(shown.target.starts_with("/asterisk?from=%2B1000"), "{text}");
    assert!(shown.target.contains("&rate=8000&note="), "{text}");
    let names: Vec<_> =
        shown.headers.iter().map(|(name, value)| (name.as_str(), value.len())).collect();
    assert_eq!(
        names,
        [("user-agent", 14), ("sec-websocket-protocol", 5), ("x-ms-call-connection-id", 15)]
    );
    let left_out = [
        "end of the path",
        "query parameter token",
        "header field authorization",
        "header field x-twilio-signature",
        "header field cookie",
        "a subprotocol offered",
    ];
    assert_eq!(shown.left_out, left_out);
}
