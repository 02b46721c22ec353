//! Programs as real processes that speak HTTPS: started, looked after, and ended with all that they started.

use ringback_module::message::{FromModule, StopReason};

use super::sessions::{key, message, next, start};
use super::*;
use crate::config::ProbeKind;
use crate::module_host::{FromHost, ToHost};

const SCRIPT: &str = include_str!("../test_client.py");

fn pool(mode: &str, change: impl FnOnce(&mut FunctionConfig)) -> Arc<FunctionPool> {
    let mut config = config();
    config.command = ["python3", "-c", SCRIPT, mode].map(str::to_owned).to_vec();
    config.on.retain(|trigger, _| *trigger == Trigger::Dtmf);
    change(&mut config);
    let pool = Arc::new(FunctionPool::new("fn".into(), config, Clock::start()));
    pool.start();
    pool
}

async fn call(pool: &Arc<FunctionPool>) -> Hosted {
    let mut start = start(false);
    // The machine may be busy.
    start.limits.ready_ms = 60_000;
    let mut hosted = spawn_function(pool, start);
    let ready = next(&mut hosted).await;
    assert!(matches!(ready, FromHost::Ready(_)), "{ready:?}");
    hosted
}

/// What the program says of a key that is pressed.
async fn press(hosted: &mut Hosted, digit: char) -> Value {
    hosted.try_send(key(digit)).unwrap();
    let mut told = message(hosted).await;
    assert_eq!(told["name"], "did", "{told}");
    told["data"].take()
}

/// Waits until something is wrong that names this.
async fn problem(pool: &FunctionPool, word: &str) {
    let mut state = pool.inner.state.subscribe();
    let told = state
        .wait_for(|state| state.problem.as_ref().is_some_and(|problem| problem.contains(word)));
    timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("no problem with {word:?}")).unwrap();
}

fn is_running(pid: &Value) -> bool {
    // Without its end read by anybody a process is there and yet over.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test]
async fn a_program_speaks_https_and_ends_with_all_that_it_started() {
    let pool = pool("family", |config| config.replicas = 2);
    let mut hosted = call(&pool).await;
    let did = press(&mut hosted, '1').await;
    assert_eq!(did["digit"], "1");
    assert!(did["env"].as_str().unwrap().starts_with("fn-"), "{did}");
    let pids = did["pids"].as_array().unwrap();
    assert_eq!((pids.len(), pids.iter().filter(|pid| is_running(pid)).count()), (2, 2));
    drop(hosted);
    pool.stop().await;
    let gone = timeout(PATIENCE, async {
        // A process that was killed is there until the system has got round to it.
        while pids.iter().any(is_running) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.expect("none is left");
}

#[tokio::test]
async fn a_program_is_started_again_whatever_it_ends_with() {
    let marker = std::env::temp_dir().join(format!("ringback-once-{}", std::process::id()));
    let _ = std::fs::remove_file(&marker);
    let pool = pool(&format!("once:{}", marker.display()), |_| {});
    let mut hosted = call(&pool).await;
    assert_eq!(press(&mut hosted, '1').await["digit"], "1");
    problem(&pool, "exited with status 0").await;
    std::fs::remove_file(&marker).unwrap();
    pool.stop().await;
}

#[tokio::test]
async fn a_program_that_is_killed_is_followed_by_another() {
    let pool = pool("crash", |_| {});
    let mut hosted = call(&pool).await;
    let first = press(&mut hosted, '1').await;
    let second = press(&mut hosted, '2').await;
    assert_ne!(first["pids"], second["pids"]);
    problem(&pool, "killed by signal 9").await;
    pool.stop().await;
}

#[tokio::test]
async fn a_program_that_does_not_come_back_is_replaced() {
    let pool = pool("stuck", |config| config.job_timeout = Duration::from_millis(100));
    let mut hosted = call(&pool).await;
    hosted.try_send(key('1')).unwrap();
    hosted.try_send(key('2')).unwrap();
    let told = message(&mut hosted).await;
    assert_eq!(told["message"], "on_dtmf: it did not answer within 100ms");
    problem(&pool, "did not come back from a job").await;
    let told = message(&mut hosted).await;
    assert_eq!(told["data"]["digit"], "2", "{told}");
    pool.stop().await;
}

#[tokio::test]
async fn what_keeps_a_program_from_working_is_said() {
    for (mode, word) in
        [("exit", "exited with status 3: no such luck"), ("empty", "tells of no functions")]
    {
        let pool = pool(mode, |_| {});
        problem(&pool, word).await;
        assert_eq!(pool.missing().map(|(_, was_ready)| was_ready), Some(false));
        pool.stop().await;
    }
    let pool = pool("", |config| config.command = vec!["/no/such/program".into()]);
    problem(&pool, "cannot start /no/such/program").await;
    pool.stop().await;
}

#[tokio::test]
async fn what_is_being_done_at_the_end_is_done() {
    let pool = pool("slow", |_| {});
    let mut hosted = call(&pool).await;
    hosted.try_send(key('1')).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (told, ()) = tokio::join!(message(&mut hosted), pool.stop());
    assert_eq!(told["data"]["digit"], "1");
    hosted
        .try_send(ToHost::Stop { reason: StopReason::Drain, deadline: Duration::from_secs(3) })
        .unwrap();
    let last = next(&mut hosted).await;
    assert!(matches!(last, FromHost::Message(FromModule::Done { .. })), "{last:?}");
}

#[tokio::test]
async fn a_program_that_somebody_else_starts_is_told_where_the_bridge_is() {
    let dir = std::env::temp_dir().join(format!("ringback-listen-{}", std::process::id()));
    let listen = crate::config::FunctionListen {
        address: "127.0.0.2:0".parse().unwrap(),
        host: "127.0.0.2".into(),
        dir: dir.clone(),
    };
    let pool = pool("", |config| {
        config.command.clear();
        config.listen = Some(listen);
    });
    let environment = timeout(PATIENCE, async {
        loop {
            let text = std::fs::read_to_string(dir.join("environment")).unwrap_or_default();
            if text.contains("COMPUTE_SESSION_ID") && text.ends_with('\n') {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let environment = environment.await.unwrap();
    let lines = environment.lines().map(|line| line.split_once('=').unwrap());
    let child = tokio::process::Command::new("python3")
        .args(["-c", SCRIPT, "good"])
        .envs(lines)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut hosted = call(&pool).await;
    assert_eq!(press(&mut hosted, '1').await["digit"], "1");
    let token = std::fs::read_to_string(dir.join("token")).unwrap();
    assert!(!token.contains('\n') && token.len() >= 32, "a line end would go along");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.join("token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o077, 0, "it is nobody else's");
    pool.stop().await;
    drop(child);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn exec(command: &[&str]) -> Option<Probe> {
    let kind = ProbeKind::Exec(command.iter().map(|&word| word.to_owned()).collect());
    Some(Probe { kind, every: Duration::from_millis(20), timeout: Duration::from_secs(20) })
}

#[tokio::test]
async fn a_program_gets_work_when_its_readiness_probe_succeeds() {
    let folder = replica::own_folder().unwrap();
    let loaded = folder.join("loaded");
    let pool = pool("plain", |config| {
        config.readiness = exec(&["test", "-e", loaded.to_str().unwrap()]);
    });
    // It asks for work all the same.
    pool.inner.until(|board| board.has_polled(0) && board.functions(0).is_some()).await;
    assert_eq!(pool.inner.board.ready(true), 0);
    std::fs::write(&loaded, "").unwrap();
    let mut hosted = call(&pool).await;
    assert_eq!(press(&mut hosted, '1').await["digit"], "1");
    std::fs::remove_file(&loaded).unwrap();
    pool.inner.until(|board| board.ready(true) == 0).await;
    std::fs::remove_dir_all(&folder).unwrap();
    pool.stop().await;
}

#[tokio::test]
async fn a_program_whose_liveness_probe_fails_three_times_is_started_again() {
    let pool = pool("plain", |config| config.liveness = exec(&["false"]));
    problem(&pool, "its liveness probe failed 3 times").await;
    pool.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_is_a_probe_and_what_is_not_found_is_no_success() {
    use crate::outgoing::mock::{Mock, Reply, reply};
    for (answer, expected) in [
        (reply("200 OK", "", "well"), Ok(())),
        (reply("302 Found", "location: http://localhost/elsewhere\r\n", ""), Ok(())),
        (reply("404 Not Found", "", ""), Err("404")),
        (reply("503 Busy", "", ""), Err("503")),
        (Reply::Silence, Err("no whole answer in 2s")),
    ] {
        let mock = Mock::new(vec![answer]);
        let kind = ProbeKind::Http(format!("{}/ready", mock.url).parse().unwrap());
        let second = Duration::from_secs(1);
        let page = Probe { kind, every: second, timeout: second * 2 };
        let said = probe::probe(&page, &mock.connector(), &Default::default(), &[]).await;
        match expected {
            Ok(()) => assert_eq!(said, Ok(())),
            Err(word) => assert!(said.as_ref().unwrap_err().contains(word), "{said:?}"),
        }
        assert!(mock.asked().iter().all(|request| request.starts_with("GET /ready ")));
    }
}
