//! What only processes with several sessions can meet, and those that are started before there is a session. The processes are
//! real ones.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Processes of a module that behaves and takes two sessions each, but for what `change` changes.
pub(super) fn pool(change: impl FnOnce(&mut ChildSpec)) -> Arc<ChildPool> {
    let command = ["python3", "-c", SCRIPT, "good", "2"].map(str::to_owned).to_vec();
    let mut spec = ChildSpec::new("shared", command);
    change(&mut spec);
    ChildPool::new(spec)
}

/// The same start for a module that is to behave like this.
pub(super) fn behaving(mode: &str, start: Start) -> Start {
    Start { config: json!({ "mode": mode }), ..start }
}

/// A session that is ready.
pub(super) async fn joined(pool: &Arc<ChildPool>, mode: &str) -> Hosted {
    let mut hosted = spawn_child(pool, behaving(mode, start()));
    ready(&mut hosted, Value::Null).await;
    hosted
}

/// Process and slot of a session that tells.
async fn place(hosted: &mut Hosted) -> (u64, u64) {
    let FromHost::Message(FromModule::Event(told)) = next(hosted).await else { panic!("no event") };
    assert_eq!(told.name, "pid");
    (told.data[0].as_u64().unwrap(), told.data[1].as_u64().unwrap())
}

async fn whoami(pool: &Arc<ChildPool>) -> (Hosted, (u64, u64)) {
    let mut hosted = joined(pool, "whoami").await;
    let place = place(&mut hosted).await;
    (hosted, place)
}

async fn over(mut hosted: Hosted) {
    hosted.try_send(stop(PATIENCE)).unwrap();
    while !matches!(next(&mut hosted).await, FromHost::Gone { reason: None }) {}
}

/// It hears, and is heard.
async fn assert_lives(hosted: &mut Hosted, pts: u64) {
    hosted.try_send(audio(pts, &[7])).unwrap();
    assert_eq!(next(hosted).await, FromHost::Audio { epoch: None, samples: vec![7] });
}

/// One process started ahead, which has connected to the gate: it is loaded once it gets an octet over its line, and the line is cut
/// when it is no more.
async fn gated(mode: &str) -> (TcpListener, Arc<ChildPool>, TcpStream) {
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gate.local_addr().unwrap().port().to_string();
    let pool = pool(|spec| {
        spec.warm = 1;
        spec.max_processes = 1;
        spec.command.splice(3.., [mode.into(), "2".into(), port]);
    });
    let (line, _) = timeout(PATIENCE, gate.accept()).await.unwrap().unwrap();
    (gate, pool, line)
}

/// Waits until the process at the other end is no more.
async fn cut(line: &mut TcpStream) {
    let end = timeout(PATIENCE, line.read(&mut [0])).await.expect("still running");
    assert!(matches!(end, Ok(0) | Err(_)));
}

/// Waits until so many are ready that were started ahead.
async fn warm(pool: &ChildPool, wanted: usize) {
    let ready = pool.until(|warmth| warmth.ready == wanted);
    timeout(PATIENCE, ready).await.expect("not started ahead");
}

#[tokio::test]
async fn sessions_are_packed_and_slots_are_used_again() {
    let pool = pool(|_| {});
    let (first, (process, slot)) = whoami(&pool).await;
    let (second, other) = whoami(&pool).await;
    assert_eq!((slot, other), (1, (process, 2)));
    let (third, (elsewhere, _)) = whoami(&pool).await;
    assert_ne!(elsewhere, process, "two are all it takes");
    over(first).await;
    let (fourth, place) = whoami(&pool).await;
    assert!([(process, 1), (elsewhere, 2)].contains(&place), "{place:?}");
    for hosted in [second, third, fourth] {
        over(hosted).await;
    }
}

#[tokio::test]
async fn the_configuration_may_let_fewer_share_than_the_module_would() {
    let pool = pool(|spec| spec.sessions = std::num::NonZeroU16::new(1));
    let (_first, (process, slot)) = whoami(&pool).await;
    let (_second, (other, other_slot)) = whoami(&pool).await;
    assert_ne!(process, other);
    assert_eq!((slot, other_slot), (1, 1));
}

#[tokio::test]
async fn what_goes_wrong_in_a_session_costs_its_neighbour_nothing() {
    for mode in ["odd", "mute", "fatal", "reject", "babble", "deaf", "unclear"] {
        let pool = pool(|_| {});
        let (mut neighbour, _) = whoami(&pool).await;
        assert_lives(&mut neighbour, 0).await;
        let mut bad = spawn_child(&pool, behaving(mode, start()));
        match mode {
            "odd" | "mute" => drop(restarting(&mut bad).await),
            "fatal" => while !matches!(next(&mut bad).await, FromHost::Gone { .. }) {},
            "reject" => assert!(matches!(next(&mut bad).await, FromHost::Rejected(_))),
            _ => {
                ready(&mut bad, Value::Null).await;
                bad.try_send(stop(Duration::from_millis(50))).unwrap();
            }
        }
        drop(bad);
        assert_lives(&mut neighbour, 1).await;
        over(neighbour).await;
    }
}

#[tokio::test]
async fn a_session_that_was_dropped_is_told_to_stop_and_makes_room() {
    let pool = pool(|spec| spec.max_processes = 1);
    let (_neighbour, (process, _)) = whoami(&pool).await;
    let (dropped, _) = whoami(&pool).await;
    drop(dropped);
    // There is no room before it has said that it is done.
    let (_third, place) = whoami(&pool).await;
    assert_eq!(place, (process, 2));
}

#[tokio::test]
async fn sessions_of_a_process_that_died_come_back_in_another_together() {
    let pool = pool(|_| {});
    let (mut neighbour, (process, _)) = whoami(&pool).await;
    let mut bad = joined(&pool, "crash").await;
    bad.try_send(audio(0, &[1])).unwrap();
    let mut places = Vec::new();
    for hosted in [&mut bad, &mut neighbour] {
        assert_eq!(restarting(hosted).await, "exited with status 3: boom");
        assert_eq!(next(hosted).await, FromHost::NeedStart);
        hosted.try_send(ToHost::Start(Box::new(behaving("whoami", start())))).unwrap();
    }
    for hosted in [&mut bad, &mut neighbour] {
        ready(hosted, Value::Null).await;
        places.push(place(hosted).await);
        assert_lives(hosted, 0).await;
    }
    assert_ne!(places[0].0, process);
    assert_eq!(places[0].0, places[1].0, "a process is known to take two before it has said so");
}

#[tokio::test]
async fn no_more_sessions_come_to_a_process_that_broke_the_contract() {
    let pool = pool(|_| {});
    let (neighbour, (process, _)) = whoami(&pool).await;
    let mut bad = joined(&pool, "odd").await;
    restarting(&mut bad).await;
    drop(bad);
    let (next, (other, _)) = whoami(&pool).await;
    assert_ne!(other, process);
    over(neighbour).await;
    over(next).await;
}

#[tokio::test]
async fn a_session_waits_for_a_place_and_is_refused_by_name_in_the_end() {
    let pool = pool(|spec| {
        spec.max_processes = 1;
        spec.sessions = std::num::NonZeroU16::new(1);
    });
    let (first, _) = whoami(&pool).await;
    let mut impatient = start();
    impatient.limits.ready_ms = 50;
    let mut refused = spawn_child(&pool, impatient);
    let FromHost::Rejected(reject) = next(&mut refused).await else { panic!() };
    assert_eq!(reject.code, "busy");
    assert!(reject.message.contains("`max_processes` is 1"), "{}", reject.message);

    let mut patient = spawn_child(&pool, behaving("good", start()));
    let mut called_off = spawn_child(&pool, start());
    called_off.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut called_off).await, FromHost::Gone { reason: None });
    over(first).await;
    ready(&mut patient, Value::Null).await;
    over(patient).await;
}

#[tokio::test]
async fn what_was_started_ahead_is_used_first_and_kept_for_the_next() {
    let pool = pool(|spec| {
        spec.warm = 1;
        spec.max_processes = 1;
        spec.sessions = std::num::NonZeroU16::new(1);
    });
    warm(&pool, 1).await;
    assert!(pool.warmth().unwrap().was_warm);
    let (first, (process, _)) = whoami(&pool).await;
    assert_eq!(pool.warmth().unwrap().ready, 0);
    over(first).await;
    let (second, place) = whoami(&pool).await;
    assert_eq!(place, (process, 1), "there is but one process, and its model is loaded");
    over(second).await;
}

#[tokio::test]
async fn what_is_taken_is_replaced() {
    let pool = pool(|spec| spec.warm = 1);
    warm(&pool, 1).await;
    let (first, (process, _)) = whoami(&pool).await;
    warm(&pool, 1).await;
    let (second, other) = whoami(&pool).await;
    assert_eq!(other, (process, 2), "a process is filled before the next is begun");
    let (third, (reserve, _)) = whoami(&pool).await;
    assert_ne!(reserve, process);
    for hosted in [first, second, third] {
        over(hosted).await;
    }
}

#[tokio::test]
async fn one_that_dies_before_its_first_session_is_started_again() {
    let path = std::env::temp_dir().join(format!("module-host-unborn-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let pool = pool(|spec| {
        spec.warm = 1;
        spec.command.splice(3.., ["unborn".into(), "2".into(), path.display().to_string()]);
    });
    let warmth = pool.warmth().unwrap();
    let said = "module shared: 0 of 1 processes started ahead of calls are ready";
    assert_eq!((warmth.was_warm, warmth.to_string().as_str()), (false, said));
    warm(&pool, 1).await;
    std::fs::remove_file(path).unwrap();
    let (hosted, _) = whoami(&pool).await;
    over(hosted).await;
}

#[tokio::test]
async fn a_call_that_comes_while_a_model_is_loaded_does_not_end_that() {
    let (gate, pool, mut line) = gated("unloaded").await;
    let mut impatient = start();
    impatient.limits.ready_ms = 50;
    let mut early = spawn_child(&pool, impatient);
    assert_eq!(restarting(&mut early).await, "not ready within 50 ms");
    drop(early);
    line.write_all(b"!").await.unwrap();
    warm(&pool, 1).await;
    let (hosted, _) = whoami(&pool).await;
    over(hosted).await;
    assert!(timeout(Duration::ZERO, gate.accept()).await.is_err(), "it was loaded once");
}

#[tokio::test]
async fn renewed_processes_are_for_new_sessions_and_old_ones_go_on() {
    let pool = pool(|spec| spec.warm = 1);
    let (mut old, (process, _)) = whoami(&pool).await;
    pool.renew();
    warm(&pool, 1).await;
    let (mut new, (other, _)) = whoami(&pool).await;
    assert_ne!(process, other);
    assert_lives(&mut old, 0).await;
    assert_lives(&mut new, 0).await;
    over(old).await;
    over(new).await;
}

#[tokio::test]
async fn a_changed_program_is_for_new_sessions() {
    let root = std::env::temp_dir().join(format!("module-host-changed-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("bot.py"), SCRIPT).unwrap();
    let mut spec = ChildSpec::new("m", ["python3", "bot.py", "good", "8"].map(Into::into).to_vec());
    spec.launch.dir = Some(root.clone());
    let pools = ChildPools::default();
    let (pool, mut watch) = (pools.of(&spec), Watch::default());
    assert!(Arc::ptr_eq(&pool, &pools.of(&spec)), "the same processes for the same module");
    let (mut old, (process, _)) = whoami(&pool).await;
    watch.look(&pools).await;
    watch.look(&pools).await;
    let (other, (same, _)) = whoami(&pool).await;
    assert_eq!(same, process, "nothing has changed");
    std::fs::write(root.join("bot.py"), format!("{SCRIPT}# Better.\n")).unwrap();
    watch.look(&pools).await;
    watch.look(&pools).await;
    let (new, (changed, _)) = whoami(&pool).await;
    assert_ne!(changed, process);
    assert_lives(&mut old, 0).await;
    for hosted in [old, other, new] {
        over(hosted).await;
    }
    std::fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn with_the_pool_go_the_processes_that_nobody_is_on() {
    // The second would stay, and gives signs of life, though its input has ended.
    for mode in ["unloaded", "clinging"] {
        let (_gate, pool, mut line) = gated(mode).await;
        line.write_all(b"!").await.unwrap();
        warm(&pool, 1).await;
        drop(pool);
        cut(&mut line).await;
    }
}

#[tokio::test]
async fn one_that_may_not_know_that_its_session_is_over_is_not_kept_ready() {
    let pool = pool(|spec| {
        spec.warm = 1;
        spec.max_processes = 1;
    });
    let (dropped, (process, _)) = whoami(&pool).await;
    drop(dropped);
    warm(&pool, 1).await;
    let (hosted, (other, _)) = whoami(&pool).await;
    assert_ne!(other, process);
    over(hosted).await;
}

#[tokio::test]
async fn one_that_never_registers_is_ended_and_another_is_started() {
    let (gate, _pool, mut line) = gated("unloaded").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(121)).await;
    tokio::time::resume();
    cut(&mut line).await;
    timeout(PATIENCE, gate.accept()).await.expect("no other was started").unwrap();
}

#[tokio::test]
async fn one_that_nobody_is_on_and_that_gives_no_sign_of_life_is_ended() {
    let (_gate, pool, mut line) = gated("mum").await;
    line.write_all(b"!").await.unwrap();
    warm(&pool, 1).await;
    let dead = Duration::from_millis(message::Limits::default().dead_ms);
    tokio::time::pause();
    let ended = timeout(dead, pool.until(|warmth| warmth.ready == 0)).await;
    tokio::time::resume();
    ended.expect("taken for alive");
    cut(&mut line).await;
}

#[tokio::test]
async fn one_that_closes_its_stdout_and_stays_is_killed() {
    let (_gate, _pool, mut line) = gated("shut").await;
    line.write_all(b"!").await.unwrap();
    cut(&mut line).await;
}

#[tokio::test]
async fn a_session_that_is_not_read_holds_up_the_others_of_its_process_for_a_moment_only() {
    let pool = pool(|_| {});
    let (mut neighbour, _) = whoami(&pool).await;
    // What it says is more than all queues between it and the call take together.
    let mut unread = joined(&pool, "gush").await;
    assert_lives(&mut neighbour, 0).await;
    let reason = restarting(&mut unread).await;
    assert!(reason.starts_with("says more than is listened to"), "{reason}");
    assert_lives(&mut neighbour, 1).await;
}
