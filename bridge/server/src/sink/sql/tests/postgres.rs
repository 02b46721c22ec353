//! A PostgreSQL server of its own for a test: made in a folder, reached over a Unix socket, gone with the test.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgRow;

use super::*;

/// Where Debian keeps what is not on the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A program of PostgreSQL: on the path, or the newest that Debian has.
fn program(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<_> =
        std::fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|e| e.path()).collect();
    versions.sort();
    let debian = versions.into_iter().rev().map(|version| version.join("bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    debian.chain(on_path).find(|program| program.is_file())
}

/// A command, as `nobody` if we are root: PostgreSQL runs for nobody who may do everything.
fn command(program: &Path, as_nobody: bool) -> Command {
    if !as_nobody {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(program);
    command
}

/// A server at work.
struct Server {
    folder: Folder,
    server: Child,
}

impl Server {
    /// `None`, said loudly, where there is no PostgreSQL; a failure where there must be.
    fn start() -> Option<Self> {
        let (Some(initdb), Some(postgres)) = (program("initdb"), program("postgres")) else {
            let why = "no PostgreSQL (initdb, postgres)";
            assert!(std::env::var_os("CI").is_none(), "this test must run, but there is {why}");
            eprintln!("SKIPPED, NOTHING WAS TESTED: {why}; `bash .ci/test` sets one up");
            return None;
        };
        let folder = Folder::new("pg");
        std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o777)).unwrap();
        let id = Command::new("id").arg("-u").output().unwrap().stdout;
        let root = id.trim_ascii() == b"0";
        let data = folder.0.join("data");
        let mut init = command(&initdb, root);
        init.args([
            "--auth=trust",
            "--username=ringback",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            "-D",
        ]);
        let made = init.arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = Self::serve(&postgres, &folder, root);
        Some(Self { folder, server })
    }

    fn serve(postgres: &Path, folder: &Folder, root: bool) -> Child {
        let mut server = command(postgres, root);
        server.arg("-D").arg(folder.0.join("data")).arg("-k").arg(&folder.0);
        server.args(["-h", "", "-c", "fsync=off", "-c", "shared_buffers=1MB"]);
        server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn url(&self) -> String {
        format!("postgres:///postgres?user=ringback&host={}", self.folder.0.display())
    }

    async fn ask(&self, question: &str) -> Vec<String> {
        let options = PgConnectOptions::from_str(&self.url()).unwrap();
        let mut connection = options.connect().await.unwrap();
        sqlx::query("SET search_path TO ringback").execute(&mut connection).await.unwrap();
        let rows: Vec<PgRow> = sqlx::query(question).fetch_all(&mut connection).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect()
    }

    fn config(&self) -> Sql {
        let database = Database::Postgres { url: Secret::from(&*self.url()) };
        Sql { database, source: "/ringback".into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, but with what it shares with its children given back.
        let id = self.server.id().to_string();
        let told = Command::new("kill").args(["-QUIT", &id]).status();
        if !told.is_ok_and(|status| status.success()) {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn a_call_fills_the_tables_of_postgresql_once_however_often_it_comes() {
    let Some(server) = Server::start() else { return };
    // It may not be up yet: then it is tried again, as when it goes away.
    for _ in 0..2 {
        let feed = run_all(server.config(), call()).await;
        assert_eq!((feed.figures().delivered(), feed.figures().waiting()), (8, 0));
    }
    for (question, answers) in QUESTIONS {
        let answer = server.ask(question).await;
        let answer: Vec<_> = answer.iter().map(|line| line.replace("1, 2", "1,2")).collect();
        assert_eq!(answer, answers, "{question}");
    }
    let text = server.ask("SELECT text FROM transcripts WHERE event_id = 'c1-3'").await;
    assert_eq!(text, ["grüß 'dich'\u{fffd}\\u0000"], "what it cannot hold is replaced");
    let at = "SELECT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') FROM calls";
    assert_eq!(server.ask(at).await, ["2026-11-21 07:05:09.042"]);

    // What the tables cannot hold costs itself and nothing else.
    let mut odd = call();
    odd.truncate(1);
    odd.push(with(20, EventKind::Dtmf, r#""type":"dtmf""#));
    odd.push(with(21, EventKind::TranscriptFinal, r#""type":"transcript","id":"u9","track":"left","text":"","final":true,"start_ms":0,"end_ms":0"#));
    odd.push(with(22, EventKind::Dtmf, r#""type":"dtmf""#));
    let feed = run_all(server.config(), odd).await;
    assert_eq!((feed.figures().delivered(), feed.figures().lost(Lost::Refused)), (3, 1));
    let question = "SELECT event_id FROM results WHERE at_ms >= 20 ORDER BY event_id";
    assert_eq!(server.ask(question).await, ["c1-20", "c1-22"]);

    // Deleted by call and bridge.
    run_all(Sql { source: "/another".into(), ..server.config() }, call()).await;
    let rows = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM results) + (SELECT count(*) FROM transcripts) + (SELECT count(*) FROM calls) || ''";
    let before: u64 = server.ask(rows).await[0].parse().unwrap();
    let calls = BTreeSet::from(["c1".to_owned()]);
    assert_eq!(erase(&server.config(), &calls).await.unwrap(), before - 9);
    assert_eq!(server.ask(rows).await, ["9"], "of the other bridge");
    assert_eq!(erase(&server.config(), &calls).await.unwrap(), 0);
}
