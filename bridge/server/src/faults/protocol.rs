//! Rows in which the provider says what it should not: out of order, twice, too much, nonsense. The line is good.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};
use ringback_proto::provider;
use serde_json::{Value, json};

use super::bridge::ECHO;
use super::caller::{Call, Counted, End, Leave, Mangle, OPENING};
use super::row::Row;
use super::scene::{Scene, THE_LINE, forgive_twice, hop, lost, recovery, row_of};
use super::{Fault, Ground, Run};

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F4",
        name: "out-of-order",
        what: "messages of sound come up to three places from where they belong",
        how: "the far end says them so",
        run: Run::Here(disordered),
    },
    Fault {
        id: "F5",
        name: "duplicates",
        what: "one message of sound in twenty comes twice",
        how: "the far end says them so",
        run: Run::Here(duplicates),
    },
    Fault {
        id: "F6",
        name: "missing",
        what: "1 to 10 messages of sound in a row never come",
        how: "the far end leaves them out",
        run: Run::Here(missing),
    },
    Fault {
        id: "F7",
        name: "numbers-restart",
        what: "sequence numbers and times begin again, stand still and are no numbers",
        how: "the far end writes them so",
        run: Run::Here(restarted),
    },
    Fault {
        id: "F8",
        name: "drift",
        what: "the provider's clock is 200 ppm off for 4 h",
        how: "simulated time",
        run: Run::Elsewhere(
            "it takes four hours; the playout's and the drift's own tests do it in simulated time (`cargo test -p ringback-proto drift`)",
        ),
    },
    Fault {
        id: "F9",
        name: "twice-real-time",
        what: "sound comes twice as fast as it is spoken for 10 s (quick: 4 s)",
        how: "the far end sends it so",
        run: Run::Here(too_fast),
    },
    Fault {
        id: "F10",
        name: "start-and-stop",
        what: "sound before the start, no start, two starts, sound after the stop",
        how: "the far end says it so, a call for each",
        run: Run::Here(start_and_stop),
    },
    Fault {
        id: "F11",
        name: "odd-payloads",
        what: "payloads that are no base64, empty, too short, half a sample; JSON that is none; another format than is spoken",
        how: "the far end says it so, a call for each",
        run: Run::Here(odd_payloads),
    },
];

const SECOND: Duration = Duration::from_secs(1);

/// Changes the JSON of a message.
fn edited(text: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_str(text).unwrap_or_default();
    edit(&mut json);
    json.to_string()
}

/// Calls whose messages are treated so.
fn mangled(
    ground: &Ground,
    lasts: Duration,
    mangle: fn() -> Mangle,
) -> Result<(Scene<'_>, Row, Vec<Value>), String> {
    let scene = Scene::start(ground, ECHO, lasts + 2 * SECOND)?;
    let mut calls = scene.calls(lasts);
    calls.iter_mut().for_each(|call| call.mangle = Some(mangle()));
    let counted = scene.place(calls);
    let (mut row, ended) = scene.row(&counted)?;
    let disordered: u64 = counted.iter().map(|call| call.disordered).sum();
    row.must(disordered == 0, || format!("{disordered} frames came in another order"));
    let strangers: u64 = counted.iter().map(|call| call.strangers).sum();
    row.should(strangers <= row.missing(), || format!("{strangers} frames came that nobody said"));
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
        row.felt(call.mangled > 0, || format!("{} said all as it should", call.name));
    }
    Ok((scene, row, ended))
}

fn disordered(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(20, 4);
    let mangle = || -> Mangle {
        let mut held: Vec<String> = Vec::new();
        Box::new(move |number, text| match (number, number % 10) {
            (OPENING, _) => vec![text],
            // One waits for three others, and is then said.
            (_, 3) => {
                held.push(text);
                Vec::new()
            }
            (_, 6) => [vec![text], std::mem::take(&mut held)].concat(),
            _ => vec![text],
        })
    };
    let (scene, mut row, _) = mangled(ground, lasts, mangle)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    scene.finish(row)
}

fn duplicates(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(20, 4);
    let mangle = || -> Mangle {
        Box::new(|number, text| match number % 20 {
            7 if number != OPENING => vec![text.clone(), text],
            _ => vec![text],
        })
    };
    let (scene, mut row, ended) = mangled(ground, lasts, mangle)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    let said = row.sent / 20;
    let known: u64 = ended
        .iter()
        .map(|end| hop(end, "wire.in", "entered"))
        .sum::<u64>()
        .saturating_sub(row.sent);
    row.must(known >= said.saturating_sub(u64::from(ground.seeds)), || {
        format!("{said} messages came twice, and the ledger knows of {known}")
    });
    let dropped = row.lost.get("caller.order duplicate").copied().unwrap_or_default();
    row.felt(dropped == known, || format!("{known} copies came, and {dropped} were dropped"));
    scene.finish(row)
}

fn missing(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(20, 6);
    let mangle = || -> Mangle {
        Box::new(|number, text| {
            // Of every fifty a gap, one longer than the one before: 1 to 10.
            let (round, place) = (number / 50, number % 50);
            let gone = number != OPENING && place >= 20 && place < 21 + round % 10;
            if gone { Vec::new() } else { vec![text] }
        })
    };
    let (scene, mut row, _) = mangled(ground, lasts, mangle)?;
    let (left_out, missing) = (row.lost.get(THE_LINE).copied().unwrap_or_default(), row.missing());
    row.felt(left_out > 0, || "nothing was left out".into());
    // Sound that is made up for a gap goes on from what was before it, its number included, and into what is behind it.
    let gaps = u64::from(ground.seeds) * lasts.as_secs();
    let twice = row.twice;
    forgive_twice(&mut row);
    row.must(twice <= gaps, || format!("{twice} frames came twice in {gaps} gaps"));
    row.should(missing <= left_out + gaps, || {
        format!("{left_out} frames never came in {gaps} gaps, and {missing} are missing")
    });
    row.notes.push(format!("{gaps} gaps; a neighbour of each may be blurred into it"));
    scene.finish(row)
}

fn restarted(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(20, 6);
    let mangle = || -> Mangle {
        Box::new(|number, text| {
            let edit = |json: &mut Value| match number / 50 {
                1 => {
                    json["sequenceNumber"] = json!((number - 49).to_string());
                    json["media"]["chunk"] = json!((number - 49).to_string());
                    json["media"]["timestamp"] = json!(((number - 50) * 20).to_string());
                }
                2 => json["media"]["timestamp"] = json!("1000"),
                3 => json["media"]["timestamp"] = json!("-5"),
                4 => json["sequenceNumber"] = json!("4294967295"),
                _ => {}
            };
            if number == OPENING { vec![text] } else { vec![edited(&text, edit)] }
        })
    };
    let (scene, mut row, _) = mangled(ground, lasts, mangle)?;
    // Where numbers jump, sound is made up, and goes on from what was before it: a number then comes again.
    let (twice, jumps) = (row.twice, 5 * u64::from(ground.seeds));
    forgive_twice(&mut row);
    row.must(twice <= jumps, || format!("{twice} frames came twice in {jumps} jumps"));
    let most = row.sent / 2;
    row.should(row.back > most, || {
        "more than half of the frames are missing: the call stood still".into()
    });
    scene.finish(row)
}

fn too_fast(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.time(10, 4);
    let scene = Scene::start(ground, ECHO, lasts + 6 * SECOND)?;
    let before = scene.bridge.rss_kib();
    let mut calls = scene.calls(2 * lasts);
    let speaks = lasts;
    for call in &mut calls {
        call.speed = 2;
        call.linger = 5 * SECOND;
    }
    let count = calls.len() as u64;
    let began = scene.bridge.now();
    let counted = scene.place(calls);
    let after = scene.bridge.rss_kib();
    let (mut row, _) = scene.row(&counted)?;
    let back = recovery(&counted, began + speaks);
    row.recovery = Some(back);
    row.should(back <= 10 * SECOND, || format!("latency was back after {back:?}"));
    // What came twice as fast cannot be played in its time: half of it is too much.
    let (trimmed, sent) = (row.lost.get("playout trimmed").copied().unwrap_or_default(), row.sent);
    row.felt(trimmed >= sent / 4, || format!("of {sent} frames {trimmed} were too many"));
    if let Some((before, after)) = before.zip(after) {
        let each = after.saturating_sub(before) / count.max(1);
        row.notes.push(format!("{each} KiB more memory for each faulted call"));
        row.must(each < 2_048, || format!("{each} KiB more memory for each faulted call"));
    }
    scene.finish(row)
}

fn start_and_stop(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 7 * SECOND)?;
    let is_start = |text: &str| text.contains("\"start\"") && !text.contains("\"media\"");
    let early = move || -> Mangle {
        let mut held = Vec::new();
        Box::new(move |number, text| match number {
            OPENING if is_start(&text) => {
                held.push(text);
                Vec::new()
            }
            3 => [std::mem::take(&mut held), vec![text]].concat(),
            _ => vec![text],
        })
    };
    let never = move || -> Mangle {
        Box::new(
            move |number, text| {
                if number == OPENING && is_start(&text) { Vec::new() } else { vec![text] }
            },
        )
    };
    let twice = move || -> Mangle {
        let mut start = String::new();
        Box::new(move |number, text| match number {
            OPENING => {
                if is_start(&text) {
                    start.clone_from(&text);
                }
                vec![text]
            }
            50 => vec![start.clone(), text],
            _ => vec![text],
        })
    };
    let stopped = || -> Mangle {
        Box::new(|number, text| match number {
            50 => {
                let stop = edited(&text, |json| {
                    json["event"] = json!("stop");
                    json["stop"] = json!({"accountSid": "AC0", "callSid": "CA0"});
                    json.as_object_mut().map(|object| object.remove("media"));
                });
                vec![stop, text]
            }
            _ => vec![text],
        })
    };
    variants(
        scene,
        vec![
            Variant::new("early", early(), |call, end| {
                let early = dropped(end, "wire.in early");
                call.end == End::Left && early == 3 && call.missing().frames == 3
            }),
            Variant::new("never", never(), |call, _| {
                call.end == End::Closed(1008) && call.media == 0
            })
            .until_closed(),
            Variant::new("twice", twice(), |call, end| broke(call, end, 1002, "twice")),
            Variant::new("stopped", stopped(), |call, end| {
                call.end == End::Closed(1000) && end["reason"] == "remote" && is_cut_at_50(call)
            }),
        ],
    )
}

fn odd_payloads(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 6 * SECOND)?;
    let payload = |odd: &'static str| -> Mangle {
        Box::new(move |number, text| match number {
            50..=55 => vec![edited(&text, |json| json["media"]["payload"] = json!(odd))],
            _ => vec![text],
        })
    };
    let broken: Mangle = Box::new(|number, text| match number {
        50 => vec![text[..text.len() / 2].to_owned()],
        _ => vec![text],
    });
    let other_rate: Mangle = Box::new(|number, text| match number {
        OPENING => vec![edited(&text, |json| {
            if let Some(rate) = json.pointer_mut("/start/mediaFormat/sampleRate") {
                *rate = json!(16_000);
            }
        })],
        _ => vec![text],
    });
    variants(
        scene,
        vec![
            Variant::new("no base64", payload("!!! not base64 !!!"), |call, end| {
                broke(call, end, 1002, "base64")
            }),
            Variant::new("empty", payload(""), is_hurt_from_50_to_55),
            Variant::new("too short", payload("//8="), is_hurt_from_50_to_55),
            Variant::new("no JSON", broken, |call, end| broke(call, end, 1007, "JSON")),
            Variant::new("half a sample", payload("AAAA"), |call, end| {
                is_hurt_from_50_to_55(call, end) && dropped(end, "caller.decode undecodable") == 6
            })
            .linear(),
            Variant::new("another rate", other_rate, |call, _| {
                call.end == End::Closed(1003) && call.media == 0
            }),
        ],
    )
}

/// A way to say what should not be said, and whether what became of it is as it must be.
struct Variant {
    kind: &'static str,
    mangle: Mangle,
    /// Of the caller's count, and of the end that the bridge tells, nothing if the call never began.
    as_it_must: fn(&Counted, &Value) -> bool,
    until_closed: bool,
    linear: bool,
}

impl Variant {
    fn new(kind: &'static str, mangle: Mangle, as_it_must: fn(&Counted, &Value) -> bool) -> Self {
        Self { kind, mangle, as_it_must, until_closed: false, linear: false }
    }

    /// The caller stays until the bridge has enough of it.
    fn until_closed(self) -> Self {
        Self { until_closed: true, ..self }
    }

    /// The caller speaks in samples of two octets, over a provider that has such.
    fn linear(self) -> Self {
        Self { linear: true, ..self }
    }

    fn call(self, scene: &Scene<'_>, name: &str) -> Call {
        let mut call = scene.call(name, 4 * SECOND);
        call.mangle = Some(self.mangle);
        if self.until_closed {
            call.leave = Leave::Never;
        }
        if self.linear {
            call.provider = provider::find("plivo").expect("there is Plivo");
            call.to = scene.bridge.url("plivo");
            call.format = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000);
        }
        call
    }
}

/// What a ledger names, by hop and reason.
fn dropped(end: &Value, reason: &str) -> u64 {
    lost(end).iter().filter(|(name, _)| name == reason).map(|(_, frames)| frames).sum()
}

/// The caller's first second came back, and nothing after it.
fn is_cut_at_50(call: &Counted) -> bool {
    (45..=50).contains(&call.back()) && call.sent < 60
}

/// The bridge ended the call with this code, and told why in a sentence in which this word stands.
fn broke(call: &Counted, end: &Value, code: u16, word: &str) -> bool {
    let told = end["detail"].as_str().is_some_and(|detail| detail.contains(word));
    call.end == End::Closed(code) && end["reason"] == "protocol" && told && is_cut_at_50(call)
}

/// The call went on: all messages came, none of these frames came back, and two others at most are missing: the neighbours that their
/// gap runs into, or the last, which sound that was made up for them put off.
fn is_hurt_from_50_to_55(call: &Counted, end: &Value) -> bool {
    let heard = |number: usize| call.frames.get(number).is_some_and(|(_, heard)| heard.is_some());
    call.end == End::Left
        && hop(end, "wire.in", "entered") == call.sent
        && !(50..=55).any(heard)
        && call.missing().frames <= 6 + 2
}

/// A call for each way of doing it: the bridge may end it with a word or go on, but it accounts for all and does nothing else.
fn variants(scene: Scene<'_>, variants: Vec<Variant>) -> Result<Row, String> {
    let judges: Vec<_> = variants.iter().map(|one| (one.kind, one.as_it_must)).collect();
    let name = |at: usize| format!("faulted-{at}");
    let calls = variants.into_iter().enumerate().map(|(at, one)| one.call(&scene, &name(at)));
    let counted = scene.place(calls.collect());
    let ended = scene.bridge.ended_of_all_but("bench-")?;
    let mut row = row_of(&[], &ended);
    row.sent = counted.iter().map(|call| call.sent).sum();
    row.back = counted.iter().map(Counted::back).sum();
    for ((kind, as_it_must), call) in judges.iter().zip(&counted) {
        let end = ended.iter().find(|end| end["provider_call"] == call.name);
        let end = end.unwrap_or(&Value::Null);
        row.felt(call.mangled > 0, || format!("{kind}: all was said as it should be"));
        row.must(as_it_must(call, end), || {
            format!(
                "{kind}: it ended with {:?}, told as {} {}",
                call.end, end["detail"], end["ledger"]
            )
        });
        // Sound that is made up for what cannot be read goes on from what was before it, its number included.
        row.must(call.twice <= 1, || format!("{kind}: {} frames came twice", call.twice));
        row.notes.push(format!("{kind}: {:?}, {} of {} back", call.end, call.back(), call.sent));
    }
    scene.finish(row)
}
