//! The bridge's one connection to a NATS cluster: made at the start, kept, and its state told. What goes over it is said by others:
//! [`crate::module_host`] speaks to workers, and `events.rs` beside this stores what happens on calls.

pub(crate) mod events;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::OnceCell;
use tokio::time::{interval, sleep};
use tokio_rustls::rustls::crypto::ring;

use crate::config::{NatsConfig, NatsLogin};
use crate::module_host::shortened;
use crate::outgoing::{Trust, unchecked};
use crate::telemetry::{METRICS, PeerText, Report, report};

/// The state of the connection is looked at this often.
const LOOK: Duration = Duration::from_millis(200);
/// A server is asked for life this often, and given up when two pings have no answer.
const PING: Duration = Duration::from_secs(2);
/// Name resolution, TCP, TLS and the server's greeting take no longer than this together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Between tries to connect: so much longer each time, up to the most.
const PAUSE_STEP: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Messages that wait for the socket, those of all sessions together; whoever has more to say waits.
const WAITING_TO_GO: usize = 2_048;
/// Messages that came for one subscription and were not taken; beyond it they are lost, which their numbers show. Twice what a worker
/// may have on its way.
const WAITING_TO_BE_TAKEN: usize = 512;

/// The connection to a cluster. There is one for each bridge; whatever is said over it is said at once or waits, boundedly.
pub struct Nats {
    config: NatsConfig,
    client: OnceCell<Client>,
    /// Chosen by chance when the process started: tells this bridge from others, and from itself before.
    instance: String,
}

impl Nats {
    /// Connects to nobody yet.
    #[must_use]
    pub fn new(config: NatsConfig) -> Arc<Self> {
        // The library asks for the process's usual cryptography; without a choice of ours it takes the only one there is, if that is so.
        let _ = ring::default_provider().install_default();
        Arc::new(Self { config, client: OnceCell::new(), instance: by_chance() })
    }

    /// A subject of ours.
    pub(crate) fn subject(&self, rest: &str) -> String {
        format!("{}.v1.{rest}", self.config.prefix)
    }

    /// Tells this bridge from others, and from itself before it was started again.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The connection, whether it is there at the moment or not; the first to ask begins it.
    ///
    /// # Errors
    /// If the configuration cannot be used: what it says was read then, not when it was checked.
    async fn client(&self) -> io::Result<&Client> {
        self.client
            .get_or_try_init(|| async {
                let options = options(&self.config, &self.instance)?;
                options.connect(self.config.urls.as_slice()).await.map_err(io::Error::other)
            })
            .await
    }

    /// Whether the connection is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.get().is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Waits until the connection is there.
    pub(crate) async fn connected(&self) -> io::Result<&Client> {
        let client = self.client().await?;
        while client.connection_state() != State::Connected {
            sleep(LOOK / 4).await;
        }
        Ok(client)
    }

    /// Connects, and tells whenever the connection comes or goes. Ends only if it can never be.
    pub(crate) async fn keep(&self) {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => {
                let reason = error.to_string();
                return report(&Report::NatsRefused { reason: &reason });
            }
        };
        let mut shown = Shown(false);
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let is_there = client.connection_state() == State::Connected;
            match (shown.0, is_there) {
                (false, true) => {
                    let info = client.try_server_info().unwrap_or_default();
                    report(&Report::NatsConnected { server: &info.server_name });
                }
                (true, false) => report(&Report::NatsLost),
                _ => {}
            }
            shown.0 = is_there;
        }
    }
}

/// What the figures say of the connection, and say no more once this is dropped.
struct Shown(bool);

impl Drop for Shown {
    fn drop(&mut self) {
        if self.0 {
            METRICS.nats_connected.decrement();
        }
    }
}

fn options(config: &NatsConfig, instance: &str) -> io::Result<ConnectOptions> {
    let options = ConnectOptions::new()
        .name(format!("ringback {instance}"))
        .retry_on_initial_connect()
        // Whom a server names would be given our login.
        .ignore_discovered_servers()
        .connection_timeout(CONNECT_DEADLINE)
        .ping_interval(PING)
        .client_capacity(WAITING_TO_GO)
        .subscription_capacity(WAITING_TO_BE_TAKEN)
        .custom_inbox_prefix(format!("{}.v1.inbox", config.prefix))
        .reconnect_delay_callback(|tries| {
            // No two bridges that lost the same server come back at the same moment.
            let pause = PAUSE_STEP.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX));
            shortened(pause.min(MAX_PAUSE))
        })
        .event_callback(|event| async move { told(&event) });
    let options = match &config.trust {
        Trust::System => options,
        Trust::File(path) => options.add_root_certificates(path.clone()),
        Trust::Anybody => options.tls_client_config(unchecked()),
    };
    let NatsLogin { token, user, credentials } = &config.login;
    let options = match token {
        Some(token) => options.token(token.expose().to_owned()),
        None => options,
    };
    let options = match user {
        Some((user, password)) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        None => options,
    };
    let Some(text) = credentials else { return Ok(options) };
    options.credentials(text.expose()).map_err(|_| {
        let wrong = "`credentials` of [nats] is no credentials file: it has no user JWT or no seed";
        io::Error::other(wrong)
    })
}

/// What the library has to say, beside whether the connection is there.
fn told(event: &Event) {
    match event {
        // Lost in front of a session, which finds out by the numbers.
        Event::SlowConsumer(_) => METRICS.nats_overflows.increment(),
        Event::ServerError(error) => {
            let reason = error.to_string();
            report(&Report::NatsRefused { reason: &reason });
        }
        Event::ClientError(error) => {
            let reason = error.to_string();
            tracing::debug!(reason = %PeerText(&reason), "NATS is tried again");
        }
        _ => {}
    }
}

/// Letters and digits that nobody can guess.
fn by_chance() -> String {
    use std::fmt::Write as _;
    let mut chance = [0; 8];
    // A bridge that the system gives no random number takes its chance of a namesake.
    let _ = getrandom::fill(&mut chance);
    chance.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
