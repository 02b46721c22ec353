//! `ringback recordings list`: what recordings there are. Changes none.

use std::path::Path;

use ringback_recorder::vault::Keys;
use ringback_recorder::{Look, Stage, is_held};
use serde_json::json;

use crate::cli::screen;
use crate::clock::WallTime;
use crate::exit::Exit;
use crate::recordings::library;

pub(super) fn list(dir: &Path, keys: &Keys, as_json: bool) -> Exit {
    let found = match library::list(dir, keys) {
        Ok(found) => found,
        Err(error) => return screen::failed(Exit::Failure, format!("{}: {error}", dir.display())),
    };
    let (mut count, mut octets) = (0_u64, 0);
    for look in &found {
        (count, octets) = (count + 1, octets + look.octets);
        screen::line(if as_json { in_json(look).to_string() } else { in_words(look) });
    }
    if !as_json {
        let mib = octets as f64 / (1024.0 * 1024.0);
        screen::line(format!("{count} recordings, {mib:.1} MiB"));
    }
    Exit::Ok
}

fn stage(look: &Look) -> &'static str {
    match look.stage {
        Stage::Live => "live",
        Stage::Left => "left",
        Stage::Finished => "finished",
    }
}

fn in_json(look: &Look) -> serde_json::Value {
    let mut told = json!({
        "path": look.path.display().to_string(),
        "stage": stage(look),
        "octets": look.octets,
        "written": WallTime::of_file(look.modified).to_string(),
        "ms": look.ms,
        "held": is_held(&look.path),
        "encrypted": look.sealed.is_some(),
    });
    if let Some(seal) = &look.sealed {
        told["key"] = json!(seal.key.as_ref().map(ToString::to_string));
        told["ended"] = json!(seal.ended);
    }
    if let Some(about) = &look.about {
        told["about"] = json!(about);
    }
    if let Some(problem) = &look.problem {
        told["problem"] = json!(problem);
    }
    told
}

fn in_words(look: &Look) -> String {
    let mut words = vec![
        WallTime::of_file(look.modified).to_string(),
        format!("{:.1} s", look.ms as f64 / 1_000.0),
        look.path.display().to_string(),
    ];
    if look.stage != Stage::Finished {
        words.push(stage(look).into());
    }
    if is_held(&look.path) {
        words.push("held".into());
    }
    if let Some(seal) = &look.sealed {
        let key = seal.key.as_ref().map_or("destroyed".into(), ToString::to_string);
        words.push(format!("key {key}"));
    }
    if let Some(about) = &look.about {
        words.push(format!("call {}", about.call));
    } else if let Some(problem) = &look.problem {
        words.push(format!("({problem})"));
    }
    words.join("  ")
}
