//! Rows in which the provider says what it should not: out of order, twice, too much, nonsense. The line is good.

use std::time::Duration;

use serde_json::{Value, json};

use super::bridge::ECHO;
use super::caller::{End, Mangle, OPENING};
use super::row::Row;
use super::scene::{Scene, hop, recovery};
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
        what: "payloads that are no base64, empty, of odd length, and JSON that is none",
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
    let (left_out, missing) =
        (row.lost.get("the line").copied().unwrap_or_default(), row.missing());
    row.must(left_out > 0, || "nothing was left out".into());
    // Sound that is made up for a gap goes on from what was before it, its number included, and into what is behind it.
    let gaps = u64::from(ground.seeds) * lasts.as_secs();
    let twice = row.twice;
    row.wrong.retain(|wrong| !wrong.ends_with("came twice"));
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
    row.wrong.retain(|wrong| !wrong.ends_with("came twice"));
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
    row.recovery = Some(recovery(&counted, began + speaks));
    if let Some((before, after)) = before.zip(after) {
        let each = after.saturating_sub(before) / count.max(1);
        row.notes.push(format!("{each} KiB more memory for each faulted call"));
        row.must(each < 2_048, || format!("{each} KiB more memory for each faulted call"));
    }
    scene.finish(row)
}

fn start_and_stop(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 6 * SECOND)?;
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
    let kinds: [(&str, Mangle); 4] =
        [("early", early()), ("never", never()), ("twice", twice()), ("stopped", stopped())];
    variants(scene, kinds.into_iter().collect())
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
    variants(
        scene,
        vec![
            ("no base64", payload("!!! not base64 !!!")),
            ("empty", payload("")),
            ("odd", payload("//8=")),
            ("no JSON", broken),
        ],
    )
}

/// A call for each way of doing it: the bridge may end it with a word or go on, but it accounts for all and does nothing else.
fn variants(scene: Scene<'_>, kinds: Vec<(&'static str, Mangle)>) -> Result<Row, String> {
    let mut calls = Vec::new();
    let names: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
    for (at, (_, mangle)) in kinds.into_iter().enumerate() {
        let mut call = scene.call(&format!("faulted-{at}"), 4 * SECOND);
        call.mangle = Some(mangle);
        calls.push(call);
    }
    let counted = scene.place(calls);
    std::thread::sleep(SECOND);
    let ended = scene.bridge.ended("faulted-", 0)?;
    let mut row = super::scene::row_of(&[], &ended);
    row.sent = counted.iter().map(|call| call.sent).sum();
    row.back = counted.iter().map(super::caller::Counted::back).sum();
    for (kind, call) in names.iter().zip(&counted) {
        let clean = match &call.end {
            End::Left => true,
            End::Closed(code) => [1000, 1002, 1003, 1007, 1008].contains(code),
            _ => false,
        };
        row.must(clean, || format!("{kind}: ended with {:?}", call.end));
        // Sound that is made up for what cannot be read goes on from what was before it, its number included.
        row.must(call.twice <= 1, || format!("{kind}: {} frames came twice", call.twice));
        row.notes.push(format!("{kind}: {:?}, {} of {} back", call.end, call.back(), call.sent));
    }
    scene.finish(row)
}
