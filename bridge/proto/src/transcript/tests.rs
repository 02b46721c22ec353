//! Tests of reading and writing transcripts.

use super::*;
use crate::provider::format_named;

const FIRST: &str = r#"{"dir":"in","type":"upgrade","data":"/twilio"}"#;

fn parse(lines: &[&str]) -> Result<Transcript, TranscriptError> {
    Transcript::parse(&(lines.join("\n") + "\n"))
}

#[test]
fn what_is_written_is_what_is_read() {
    let options = Options {
        inbound_format: format_named("l16le/16000"),
        one_way: true,
        ..Options::default()
    };
    let headers = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    let about = About { provider: "twilio".into(), sound: "as it was".into(), ..About::default() };
    let head = Head { target: "/t?x=1", headers: &headers, options: &options, about: &about };
    let at = |micros| Instant::from_epoch(Duration::from_micros(micros));
    let said = [
        (Direction::In, at(0), Wire::Text("a \"quoted\"\nline".into())),
        (Direction::Out, at(20_125), Wire::Binary(vec![0, 1, 0xfe, 0xff])),
        (Direction::In, at(3_600_000_001), Wire::Close(CUT)),
    ];
    let mut text = head.to_line() + "\n" + &note_line(at(5), "nothing yet") + "\n";
    for (direction, at, wire) in &said {
        text += &(wire.to_line(*direction, *at) + "\n");
    }
    let read = Transcript::parse(&text).unwrap();
    assert_eq!((read.target.as_str(), &read.options), ("/t?x=1", &options));
    assert_eq!(read.headers, [("a".to_owned(), "1, 2".to_owned())]);
    assert_eq!(read.about.as_ref(), Some(&about));
    assert_eq!(read.notes, [(2, "nothing yet".to_owned())]);
    let lines = read.lines.into_iter().map(|line| (line.direction, line.at, line.wire));
    assert_eq!(lines.collect::<Vec<_>>(), said);
}

#[test]
fn lines_are_20_ms_apart_unless_they_say_when() {
    let hello = r#"{"dir":"in","type":"text","data":"x"}"#;
    let late = r#"{"dir":"in","type":"text","data":"x","at":500.25}"#;
    let read = parse(&[FIRST, hello, late, hello]).unwrap();
    let at: Vec<_> = read.lines.iter().map(|line| line.at.since_epoch().as_micros()).collect();
    assert_eq!(at, [20_000, 500_250, 520_250]);
    assert_eq!(read.lines[2].number, 4);
}

#[test]
fn what_is_no_transcript_is_refused_with_its_line() {
    let cases = [
        (vec![""], 1, "no JSON"),
        (vec![r#"{"type":"text","data":"/"}"#], 1, "upgrade"),
        (vec![r#"{"type":"upgrade","data":"/","options":{"inbound_format":"mp3"}}"#], 1, "mp3"),
        (vec![FIRST, "{"], 2, "no JSON"),
        (vec![FIRST, r#"{"dir":"in","type":"text"}"#], 2, "`data`"),
        (vec![FIRST, r#"{"dir":"up","type":"text","data":""}"#], 2, "`dir`"),
        (vec![FIRST, r#"{"dir":"in","type":"ping","data":""}"#], 2, "`type`"),
        (vec![FIRST, r#"{"dir":"in","type":"binary","data":"abc"}"#], 2, "hex"),
        (vec![FIRST, r#"{"dir":"in","type":"binary","data":"zz"}"#], 2, "hex"),
        (vec![FIRST, r#"{"dir":"in","type":"close","data":"soon"}"#], 2, "code"),
        (vec![FIRST, r#"{"dir":"in","type":"text","data":"","at":-1}"#], 2, "`at`"),
    ];
    for (lines, number, words) in cases {
        let error = parse(&lines).unwrap_err();
        assert_eq!(error.line, number, "{error}");
        assert!(error.problem.contains(words), "{error}");
    }
}

#[test]
fn a_last_line_that_was_torn_off_is_left_out_and_noted() {
    let whole = format!("{FIRST}\n{{\"dir\":\"in\",\"type\":\"text\",\"data\":\"x\"}}\n");
    let read = Transcript::parse(&format!("{whole}{{\"dir\":\"in\",\"ty")).unwrap();
    assert_eq!((read.lines.len(), read.notes.len()), (1, 1));
    assert!(Transcript::parse(&format!("{whole}{{\"dir\":\"in\",\"ty\n")).is_err());
}
