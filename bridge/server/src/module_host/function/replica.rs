//! One replica: where it finds the bridge, its process if the bridge starts it, and its end. Knows no call and no result.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::provider::Secret;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::stderr::LastLine;
use super::certificate::Identity;
use super::log::log_lines;
use super::runtime::{self, Desk, V1};
use crate::config::FunctionConfig;
use crate::net::{self, Listener as _, TcpListener};

/// Connections a replica may have.
const CONNECTIONS: usize = 64;
/// A client has so long to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Processes of the group that outlive the first have so long before they are killed.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where a replica finds the bridge.
#[derive(Debug)]
pub(super) struct Address {
    /// The host clients connect to.
    host: String,
    https: TcpListener,
    /// For clients that speak no TLS; on this machine only.
    http: Option<TcpListener>,
    folder: Folder,
}

/// The files of a replica; those of one that the bridge starts go with it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ours {
            // What cannot be removed is a token that opens nothing any more.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Address {
    /// Takes ports and writes files. Not for a thread that serves calls.
    pub(super) fn take(
        config: &FunctionConfig,
        identity: &Identity,
        token: &Secret,
    ) -> Result<Self, String> {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let bind = |address| {
            TcpListener::bind(address)
                .map_err(|error| format!("cannot listen on {address}: {error}"))
        };
        let (host, https, http) = match &config.listen {
            None => ("localhost".to_owned(), loopback, Some(loopback)),
            Some(listen) => {
                // 0 is any port, for both.
                let port = listen.address.port();
                let next =
                    SocketAddr::new(listen.address.ip(), port.saturating_add(u16::from(port > 0)));
                (listen.host.clone(), listen.address, next.ip().is_loopback().then_some(next))
            }
        };
        let folder = match &config.listen {
            None => own_folder().map(|path| Folder { path, is_ours: true }),
            Some(listen) => {
                let path = listen.dir.clone();
                std::fs::create_dir_all(&path).map(|()| Folder { path, is_ours: false })
            }
        };
        let folder = folder.map_err(|error| format!("no folder for its files: {error}"))?;
        let address = Self { host, https: bind(https)?, http: http.map(bind).transpose()?, folder };
        address.write(identity, token).map_err(|error| {
            format!("cannot write into {}: {error}", address.folder.path.display())
        })?;
        Ok(address)
    }

    fn write(&self, identity: &Identity, token: &Secret) -> io::Result<()> {
        private(&self.file("token"), token.expose())?;
        std::fs::write(self.file("ca.pem"), &identity.authority)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    /// What the clients read from their environment. The plain URLs are for those that take them as they are; the Python client
    /// only takes their paths, and speaks HTTPS to host and port.
    pub(super) fn environment(
        &self,
        token: &Secret,
        session: &str,
        concurrency: usize,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
        };
        let https = port(&self.https)?;
        let base = match &self.http {
            Some(http) => format!("http://{}:{}", self.host, port(http)?),
            None => format!("https://{}:{https}", self.host),
        };
        let v2 = format!("{base}/{}", token.expose());
        let (authority, token) = (self.file("ca.pem"), self.file("token"));
        let path = |path: &Path| path.display().to_string();
        Ok(vec![
            ("RUNTIME_HOST", self.host.clone()),
            ("RUNTIME_PORT", https.to_string()),
            ("GET_JOB_URI", format!("{base}{V1}/job")),
            ("POST_RESULT_URI", format!("{base}{V1}/results")),
            ("POST_SCHEMA_URI", format!("{base}{V1}/schemas")),
            ("RESTART_NOTIFICATION_URI", format!("{base}{V1}/restart-notify")),
            ("GET_JOB_URI_V2", format!("{v2}/job")),
            ("POST_RESULT_URI_V2", format!("{v2}/results")),
            ("POST_SCHEMA_URI_V2", format!("{v2}/schemas")),
            ("MODULE_AUTH_TOKEN", path(&token)),
            ("CONNECTIONS_TO_OTHER_PODS_CA_PATH", path(&authority)),
            ("DEFAULT_CA_PATH", path(&authority)),
            ("MAX_CONCURRENT_TASKS", concurrency.to_string()),
            ("COMPUTE_SESSION_ID", session.to_owned()),
        ])
    }

    /// Writes the environment where a container can be given it; one that the bridge starts has it already.
    pub(super) fn write_environment(
        &self,
        environment: &[(&'static str, String)],
    ) -> io::Result<()> {
        let lines: String =
            environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        private(&self.file("environment"), &lines)
    }

    /// Takes connections for ever.
    pub(super) async fn serve(mut self, identity: Arc<Identity>, desk: Arc<Desk>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let plain = async {
                match &mut self.http {
                    Some(http) => http.accept().await,
                    None => std::future::pending().await,
                }
            };
            let (accepted, is_secure) = tokio::select! {
                accepted = self.https.accept() => (accepted, true),
                accepted = plain => (accepted, false),
            };
            let opened = match accepted {
                Ok((parcel, _)) => TcpListener::open(parcel).await,
                Err(error) => Err(error),
            };
            let stream = match opened {
                Ok(stream) => stream,
                Err(error) => {
                    if !net::is_about_one_connection(&error) {
                        tracing::warn!(
                            module = desk.module,
                            "no connections can be taken: {error}"
                        );
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let (identity, desk) = (Arc::clone(&identity), Arc::clone(&desk));
            connections.spawn(async move {
                if is_secure {
                    match timeout(HANDSHAKE, identity.acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => runtime::serve(stream, desk).await,
                        Ok(Err(error)) => tracing::debug!(module = desk.module, "no TLS: {error}"),
                        Err(_) => {
                            tracing::debug!(module = desk.module, "no TLS within {HANDSHAKE:?}");
                        }
                    }
                } else {
                    runtime::serve(stream, desk).await;
                }
                drop(place);
            });
        }
    }
}

/// A folder that nobody else can look into.
pub(super) fn own_folder() -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("ringback-{}", random()?));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path)?;
    Ok(path)
}

/// Writes a file that nobody else can read; without a line end, which a client would send along.
fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

/// What nobody can guess, of letters and digits.
pub(super) fn random() -> io::Result<String> {
    let mut octets = [0; 24];
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// A process that was started, and all that it starts.
pub(super) struct Process {
    child: Child,
    group: Group,
    last: LastLine,
    logs: JoinSet<()>,
}

impl Process {
    pub(super) fn start(
        module: &str,
        config: &FunctionConfig,
        environment: &[(&'static str, String)],
    ) -> Result<Self, String> {
        let (program, arguments) = config.command.split_first().ok_or("its command is empty")?;
        let mut command = Command::new(program);
        config.surroundings.enclose(&mut command);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // Lines are to come when they are printed.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let (last, mut logs) = (LastLine::default(), JoinSet::new());
        if let Some(stdout) = child.stdout.take() {
            logs.spawn(log_lines(module.to_owned(), stdout, last.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            logs.spawn(log_lines(module.to_owned(), stderr, last.clone()));
        }
        Ok(Self { group: Group::of(&child), child, last, logs })
    }

    /// Waits until it exits, takes what it left behind with it, and says how it went. Cancel safe.
    pub(super) async fn exited(&mut self) -> String {
        let status = self.child.wait().await;
        self.group.kill();
        // Its number may soon be somebody else's.
        self.group.0 = None;
        let how = match status {
            Ok(status) => super::super::child::exit_text(status),
            Err(error) => format!("its end is not known: {error}"),
        };
        // What it printed last often says why.
        let _ = timeout(LAST_LINES, async { while self.logs.join_next().await.is_some() {} }).await;
        let quote = self.last.quote().map(|line| format!(": {line}")).unwrap_or_default();
        format!("{how}{quote}")
    }

    /// Asks the process, and none of those that it started, to end when it has done what it does.
    pub(super) fn ask_to_end(&self) {
        self.group.terminate_first();
    }

    /// Ends all of it now.
    pub(super) fn kill(&self) {
        self.group.kill();
    }
}

/// The processes that came of one; none is left when this is dropped.
pub(super) struct Group(Option<u32>);

impl Group {
    /// Those of a process that leads a group.
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id())
    }

    #[cfg(target_os = "linux")]
    fn id(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(i32::try_from(self.0?).ok()?)
    }

    fn kill(&self) {
        #[cfg(target_os = "linux")]
        if let Some(id) = self.id() {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }

    fn terminate_first(&self) {
        #[cfg(target_os = "linux")]
        if let Some(id) = self.id() {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
