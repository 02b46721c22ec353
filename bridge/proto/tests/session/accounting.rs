//! Whatever does not get where it was to go stands in the call's account, under its reason.

use super::*;

/// What the account of a hop says: how much came, and what was dropped.
fn account(summary: &Summary, hop: &str) -> (u64, Vec<(Reason, u64)>) {
    let hop = summary.ledger.hop(hop).unwrap_or_else(|| panic!("{hop} has no account"));
    (hop.entered, hop.dropped.clone())
}

/// Sound as Twilio sends it.
fn media(track: &str, chunk: u32, payload: &str) -> String {
    format!(
        r#"{{"event":"media","sequenceNumber":"{}","streamSid":"MZ17","media":{{"track":"{track}","chunk":"{chunk}","timestamp":"{}","payload":"{payload}"}}}}"#,
        chunk + 1,
        20 * (chunk - 1),
    )
}

#[test]
fn a_message_that_comes_after_the_end_is_late() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    rig.command(Command::Hangup);
    assert!(rig.session.is_over() && !rig.session.is_ended());
    let now = rig.at();
    for chunk in 2..5 {
        rig.session.handle_message(now, Message::Text(&media("inbound", chunk, "/////w==")));
    }
    let summary = rig.finish();
    assert_eq!(account(&summary, "wire.in"), (4, vec![(Reason::AfterEnd, 3)]));
    assert_eq!(summary.frames_in, 4);
}

#[test]
fn sound_that_a_module_says_after_the_end_is_counted_as_that() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.command(Command::Hangup);
    rig.play(0, &[1_000; 160]);
    assert_eq!(account(&rig.finish(), "module.agent.out"), (160, vec![(Reason::AfterEnd, 160)]));
}

#[test]
fn sound_of_a_track_that_the_stream_has_not_is_no_part_of_it() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    let now = rig.at();
    rig.session.handle_message(now, Message::Text(&media("outbound", 2, "/////w==")));
    rig.exchange();
    assert!(rig.reports.contains(&Report::Dropped { reason: Reason::Early, count: 1 }));
    rig.command(Command::Hangup);
    assert_eq!(account(&rig.finish(), "wire.in"), (2, vec![(Reason::Early, 1)]));
}

/// Sound that comes before the stream has started is kept for it, and comes with the start.
#[test]
fn sound_of_a_call_that_has_no_way_for_it_is_told_and_counted() {
    use ringback_proto::rule::{Key, Rule};
    let elsewhere = Rule::default().and(Key::From, ["nobody"]);
    let route = Route { when: elsewhere, ..Route::to(vec![port("stt", false)]) };
    let mut rig = Rig::connected("vonage", Dial::default(), |config| config.routes = route.into());
    for _ in 0..2 {
        rig.session.handle_message(rig.at(), Message::Binary(&[0; 640]));
    }
    assert_eq!(rig.session.ledger().hop("wire.in").map(|hop| hop.entered), Some(0), "it is kept");
    rig.open();
    let early = Report::Dropped { reason: Reason::Early, count: 1 };
    assert_eq!(rig.reports.iter().filter(|report| **report == early).count(), 2);
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::NoRoute);
    assert_eq!(account(&summary, "wire.in"), (2, vec![(Reason::Early, 2)]));
    assert_eq!(summary.frames_in, 2);
}

#[test]
fn what_the_socket_did_not_take_is_not_called_sent() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    let now = rig.at();
    rig.session.module_audio(now, PortId(0), Epoch::Current, &[1_000; 160]);
    rig.now += 20;
    rig.session.handle_timeout(rig.at());
    assert!(!rig.session.sends().sends().is_empty());
    rig.session.sent(false);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(account(&summary, "wire.out"), (1, vec![(Reason::SendFailed, 1)]));
    assert!(rig.played.is_empty());
}

#[test]
fn what_the_host_of_a_module_drops_is_the_modules_loss() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.session.module_dropped(rig.at(), PortId(0), Reason::Overflow, 320);
    rig.exchange();
    assert!(rig.reports.contains(&Report::Dropped { reason: Reason::Overflow, count: 320 }));
    rig.command(Command::Hangup);
    assert_eq!(account(&rig.finish(), "module.agent.out"), (320, vec![(Reason::Overflow, 320)]));
}

#[cfg(feature = "opus")]
#[test]
fn what_the_decoder_cannot_read_is_counted_and_the_next_is_heard() {
    use ringback_codecs::{Encoding, MediaFormat};
    let raw = provider::find("raw").expect("a provider of the table");
    let is_opus = |format: &&MediaFormat| format.encoding == Encoding::Opus;
    let format = raw.formats().iter().find(is_opus).copied().expect("it speaks Opus");
    let dial = Dial { format: Some(format), ..Dial::default() };
    let route = Route::to(vec![port("stt", false)]).into();
    let mut rig = Rig::dialled("raw", dial, |config| config.routes = route);
    rig.ready(0, &listens(16_000));
    let mut packet = Vec::new();
    let silence = vec![0; format.rate.samples_in(Duration::from_millis(20)) as usize];
    format.encoder().expect("there is one").encode(&silence, &mut packet).expect("silence");
    // Of a packet of code 3, the second octet says how many frames it has (RFC 6716, 3.2.5): not none.
    for payload in [&packet[..], &[0xff, 0x00], &packet] {
        rig.speak(payload);
        rig.run(20);
    }
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(account(&summary, "caller.decode"), (3, vec![(Reason::Undecodable, 1)]));
    assert_eq!(account(&summary, "wire.in"), (3, Vec::new()));
}
