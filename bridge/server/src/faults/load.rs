//! Rows in which there is too little room, or too much to do. The lines are good.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::bridge::{Bridge, ECHO, PATIENCE, Signal};
use super::caller::{Call, End};
use super::process::cannot;
use super::recording::recorded_in;
use super::row::Row;
use super::scene::{Scene, row_of};
use super::{Fault, Ground, Run};

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F34",
        name: "disk-full",
        what: "the disk is full in mid-call",
        how: "recordings on a tmpfs of 128 KiB",
        run: Run::Here(disk_full),
    },
    Fault {
        id: "F36",
        name: "no-folder",
        what: "the folder for recordings cannot be made",
        how: "its parent is a file",
        run: Run::Here(no_folder),
    },
    Fault {
        id: "F40",
        name: "overload",
        what: "twice as many calls are offered as there is room for",
        how: "`max_calls`, and as many callers again",
        run: Run::Here(overload),
    },
    Fault {
        id: "F41",
        name: "spike",
        what: "400 calls (quick: 150) are set up at once, and are gone",
        how: "as many callers at the same moment",
        run: Run::Here(spike),
    },
    Fault {
        id: "F42",
        name: "no-descriptors",
        what: "the bridge may open no more files",
        how: "prlimit on the running process, then lifted",
        run: Run::Here(no_descriptors),
    },
    Fault {
        id: "F43",
        name: "reloads",
        what: "its configuration is read again 1,000 times (quick: 100) under calls, every tenth with an error in it",
        how: "SIGHUP",
        run: Run::Here(reloads),
    },
];

const SECOND: Duration = Duration::from_secs(1);

/// A small file system in memory; gone with this.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        let outcome = mount.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if outcome.status.success() {
            Ok(Self(path.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&outcome.stderr).trim().to_owned())
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, for whoever has a file open there; what is left is memory, and goes with the last of them.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn disk_full(ground: &Ground) -> Result<Row, String> {
    let folder = ground.folder.path("full");
    let disk = match Tmpfs::mount(&folder, "128k") {
        Ok(disk) => disk,
        Err(error) => return Ok(cannot(format!("it takes the right to mount a tmpfs: {error}"))),
    };
    let row = recorded(ground, &folder, 8 * SECOND);
    drop(disk);
    row
}

fn no_folder(ground: &Ground) -> Result<Row, String> {
    let file = ground.folder.path("no-folder");
    std::fs::write(&file, "a file").map_err(|error| error.to_string())?;
    recorded(ground, &file.join("recordings"), 4 * SECOND)
}

/// Calls whose recordings must fail: they lose nothing by it, and the failure is told.
fn recorded(ground: &Ground, folder: &Path, lasts: Duration) -> Result<Row, String> {
    let scene = match Scene::start(ground, &recorded_in(folder), lasts + 2 * SECOND) {
        Ok(scene) => scene,
        // Refusing to start is a way to fail, if it says why.
        Err(error) if error.contains("record") => {
            let mut row = Row::default();
            row.notes.push(format!("it refuses to start: {error}"));
            return Ok(row);
        }
        Err(error) => return Err(error),
    };
    let recorded = |mut call: Call| {
        call.to = scene.bridge.url("recorded");
        call
    };
    let counted = scene.place(scene.calls(lasts).into_iter().map(recorded).collect());
    let (mut row, _) = scene.row(&counted)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    let failures = scene.bridge.events("module.failed");
    let events = scene.bridge.events("event");
    let of_recorder = |event: &&serde_json::Value| event["module"] == "recorder";
    let told = failures.iter().filter(of_recorder);
    let told = told.filter_map(|event| event["reason"].as_str().map(str::to_owned)).next();
    let stopped = |event: &&serde_json::Value| {
        event["name"] == "recorder.stopped" || event["data"]["error"].is_string()
    };
    let told = told.or_else(|| events.iter().find(stopped).map(|event| event["data"].to_string()));
    match told {
        Some(reason) => row.notes.push(format!("told: {reason}")),
        None => row.wrong.push("nobody was told that there is no recording".into()),
    }
    scene.finish(row)
}

fn overload(ground: &Ground) -> Result<Row, String> {
    const ROOM: usize = 20;
    let toml = format!("[limits]\nmax_calls = {ROOM}\n{ECHO}");
    let scene = Scene::start(ground, &toml, 8 * SECOND)?;
    let room = ROOM - 10;
    let calls: Vec<_> =
        (0..2 * ROOM - 10).map(|n| scene.call(&format!("faulted-{n}"), 4 * SECOND)).collect();
    let counted = scene.place(calls);
    let (refused, admitted): (Vec<_>, Vec<_>) =
        counted.into_iter().partition(|call| matches!(call.end, End::Refused(_)));
    let ended = scene.bridge.ended("faulted-", admitted.len())?;
    let mut row = row_of(&admitted, &ended);
    row.must(admitted.len() == room, || {
        format!("{} calls were admitted to {room} places", admitted.len())
    });
    let by_status = refused.iter().filter(|call| call.end == End::Refused(Some(503))).count();
    row.must(by_status == refused.len(), || {
        format!("{by_status} of {} refusals were by status 503", refused.len())
    });
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    let mut took: Vec<_> = refused.iter().map(|call| call.times[2] - call.times[0]).collect();
    took.sort_unstable();
    let slowest = took.last().copied().unwrap_or_default();
    row.notes.push(format!(
        "{} admitted, {} answered 503 within {slowest:?}",
        admitted.len(),
        refused.len()
    ));
    row.should(slowest <= Duration::from_millis(50), || format!("a refusal took {slowest:?}"));
    scene.finish(row)
}

fn spike(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 8 * SECOND)?;
    let count = if ground.quick { 150 } else { 400 };
    let call = |n| Call { linger: SECOND / 2, ..scene.call(&format!("faulted-{n:03}"), SECOND) };
    let counted = scene.place((0..count).map(call).collect());
    let calm = scene.bridge.now();
    let set_up = counted.iter().filter(|call| call.end == End::Left).count();
    let ended = scene.bridge.ended("faulted-", set_up)?;
    let mut row = row_of(&counted, &ended);
    // A thread that was kept from its core says so to those who ask for more.
    let late = scene.bridge.logged("reason=\"lag\"").len();
    row.must(set_up == count || late > 0, || format!("{set_up} of {count} calls were set up"));
    row.should(set_up == count, || format!("{set_up} of {count} calls were set up"));
    let slowest =
        counted.iter().map(|call| call.times[1] - call.times[0]).max().unwrap_or_default();
    let one_more = || {
        let call = Call { linger: SECOND / 2, ..scene.call("after", SECOND / 2) };
        scene.place(vec![call]).remove(0)
    };
    let mut after = one_more();
    let at_once = after.end == End::Left;
    while after.end == End::Refused(Some(503)) && scene.bridge.now() < calm + PATIENCE {
        std::thread::sleep(SECOND / 2);
        after = one_more();
    }
    let took = after.times[1] - after.times[0];
    row.recovery = Some(if at_once { took } else { after.times[1] - calm });
    row.notes.push(format!("the slowest set-up took {slowest:?}, one afterwards {took:?}"));
    row.must(after.end == End::Left, || format!("a call afterwards ended with {:?}", after.end));
    row.should(at_once, || "the first call afterwards was refused".into());
    row.should(took <= Duration::from_millis(200), || format!("a set-up afterwards took {took:?}"));
    scene.finish(row)
}

#[cfg(target_os = "linux")]
fn limit_files(bridge: &Bridge, files: Option<u64>) -> Result<Option<u64>, String> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let id = i32::try_from(bridge.id()).ok().and_then(Pid::from_raw);
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let before = prlimit(id, Resource::Nofile, Rlimit { current: files, maximum });
    before.map(|limit| limit.current).map_err(|error| format!("prlimit: {error}"))
}

#[cfg(not(target_os = "linux"))]
fn limit_files(_: &Bridge, _: Option<u64>) -> Result<Option<u64>, String> {
    Err("the limits of a running process can be set on Linux only".into())
}

fn no_descriptors(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::start(ground, ECHO, 14 * SECOND)?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", scene.bridge.id()))
        .map_or(0, Iterator::count) as u64;
    let room = 5;
    let before = limit_files(&scene.bridge, Some(open + room))?;
    let call =
        |n| Call { linger: SECOND / 2, ..scene.call(&format!("faulted-{n:02}"), 2 * SECOND) };
    let counted = scene.place((0..30).map(call).collect());
    limit_files(&scene.bridge, before)?;
    let lifted = scene.bridge.now();
    let (served, others): (Vec<_>, Vec<_>) =
        counted.into_iter().partition(|call| call.end == End::Left);
    std::thread::sleep(SECOND);
    let after = scene.place(vec![scene.call("faulted-after", SECOND)]);
    let back = after[0].times[1] - lifted;
    let all: Vec<_> = served.iter().chain(&after).cloned().collect();
    let ended = scene.bridge.ended("faulted-", all.len())?;
    let mut row = row_of(&all, &ended);
    row.recovery = Some(back);
    let without = scene.bridge.logged("Too many open files").len();
    let refused = scene.bridge.logged("status=503").len();
    row.felt(!others.is_empty() && without + refused > 0, || {
        format!(
            "{} calls got none, and the log tells of {without} descriptors too few",
            others.len()
        )
    });
    row.must(served.len() as u64 >= room / 2, || {
        format!("{} calls were served with {room} descriptors left", served.len())
    });
    for call in &others {
        let clean = matches!(call.end, End::Refused(None | Some(503)) | End::Broken(_));
        row.must(clean && call.media == 0, || format!("{} ended with {:?}", call.name, call.end));
    }
    row.notes.push(format!(
        "{} of 30 calls were served with {room} descriptors left, {} had to wait or go",
        served.len(),
        others.len()
    ));
    row.must(after[0].end == End::Left, || {
        format!("a call afterwards ended with {:?}", after[0].end)
    });
    scene.finish(row)
}

fn reloads(ground: &Ground) -> Result<Row, String> {
    let times: u32 = if ground.quick { 100 } else { 1_000 };
    let pause = Duration::from_millis(30);
    let lasts = pause * times + 2 * SECOND;
    let scene = Scene::start(ground, ECHO, lasts + 2 * SECOND)?;
    let calls: Vec<_> = scene.calls(lasts);
    let under_way: Vec<_> = calls
        .into_iter()
        .map(|call| ground.runtime.spawn(super::caller::place(ground.clock, call)))
        .collect();
    for turn in 0..times {
        let toml = match turn % 10 {
            9 => "[[module]]\nname = \"echo\"\nbuiltin = \"no such\"\n".to_owned(),
            _ => format!("{ECHO}ring = \"{}ms\"\n", 300 + turn),
        };
        scene.bridge.configure(&toml)?;
        scene.bridge.signal(Signal::Hangup)?;
        std::thread::sleep(pause);
    }
    let counted = ground.wait(async {
        let mut all = Vec::new();
        for call in under_way {
            all.extend(call.await.ok());
        }
        all
    });
    let (mut row, _) = scene.row(&counted)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    let (read, refused) =
        (scene.bridge.logged("configuration").len(), scene.bridge.logged("no such").len());
    row.notes.push(format!(
        "{times} signals; the log tells {read} times of the configuration, {refused} of the error"
    ));
    // Signals that come while files are read are one.
    let wrong = times as usize / 10;
    row.felt(refused >= wrong / 4 && read >= times as usize / 4, || {
        format!("of {times} configurations {read} were read, and {refused} of {wrong} refused")
    });
    let after = scene.place(vec![scene.call("after", SECOND / 2)]);
    row.must(after[0].end == End::Left, || {
        format!("a call afterwards ended with {:?}", after[0].end)
    });
    scene.finish(row)
}
