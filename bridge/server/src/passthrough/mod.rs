//! Streams that are passed on as they come, to a WebSocket server of the operator's: whom it is, what it is told, and what its answer
//! means to the provider. Understands nothing of what is said.
//!
//! What programs behind Palantir's WebSocket listeners expect, and more: the provider proves itself here and its frames go there,
//! without the path that was called and without any credential.

mod pipe;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::provider::{OutgoingUpgrade, Secret, Upgrade};

use crate::client::WsUrl;
use crate::config::PassthroughConfig;
use crate::listener::{Endpoint, Refusal};
use crate::outgoing::{ConnectError, Connector};
use crate::registry::Entered;
use crate::shutdown::Shutdown;
use crate::socket::{self, DialError, Socket, SocketOptions};
use crate::telemetry::{Report, report};

pub use pipe::{Count, PassedOn, PassedOnEnd, Side};

/// The server has so long to be connected to and to take the stream; the provider waits for its own answer meanwhile.
const DEADLINE: Duration = Duration::from_secs(5);
/// What the names of header fields begin with that tell of the call.
const CONTEXT: &str = "X-Ringback-";
/// What a subprotocol begins with that is a credential.
const CREDENTIAL: &str = "Bearer-";

/// Where the streams of a route are passed on to.
pub(crate) struct Passthrough {
    config: PassthroughConfig,
    connector: Arc<Connector>,
}

/// A stream that is to be passed on, or is.
pub(crate) struct Passing {
    to: Arc<Passthrough>,
    call: String,
    listener: String,
    provider: &'static str,
    request: OutgoingUpgrade,
    /// What the provider is answered with where the server chooses no subprotocol.
    otherwise: Option<String>,
    server: Option<Socket>,
    /// Its place among the calls that are live.
    entered: Box<Entered>,
}

/// Who opened a stream, and where.
pub(crate) struct Opened<'a> {
    /// Our name for the call.
    pub(crate) call: String,
    pub(crate) endpoint: &'a Endpoint,
    /// Name of the provider.
    pub(crate) provider: &'static str,
    pub(crate) upgrade: &'a Upgrade<'a>,
    /// Where it came from, if that is an address.
    pub(crate) from: Option<IpAddr>,
    /// The subprotocol that the provider's own protocol would be answered with.
    pub(crate) usual: Option<String>,
    /// The subprotocol that carried the credential.
    pub(crate) credential: Option<Secret>,
    /// Its place among the calls that are live.
    pub(crate) entered: Box<Entered>,
}

impl Passthrough {
    pub(crate) fn new(config: &PassthroughConfig, connector: &Arc<Connector>) -> Arc<Self> {
        Arc::new(Self { config: config.clone(), connector: Arc::clone(connector) })
    }

    /// Takes down what the server is to be asked for a stream that was let in. Dials nobody yet.
    pub(crate) fn wanted(self: &Arc<Self>, opened: Opened<'_>) -> Box<Passing> {
        let Opened { call, endpoint, provider, upgrade, from, usual, credential, entered } = opened;
        let mut headers = Vec::new();
        if self.config.context {
            let mut tell = |name: &str, value: &str| {
                headers.push((format!("{CONTEXT}{name}"), value.to_owned()));
            };
            tell("Call-Id", &call);
            tell("Listener", &endpoint.name);
            tell("Provider", provider);
            if let Some(from) = from {
                tell("From", &from.to_string());
            }
        }
        let is_own = |name: &&str| !name.is_empty() && !is_credential(name);
        let subprotocols = upgrade.subprotocols().filter(is_own).map(str::to_owned).collect();
        let target = self.config.url.target.clone();
        Box::new(Passing {
            to: Arc::clone(self),
            call,
            listener: endpoint.name.clone(),
            provider,
            request: OutgoingUpgrade { target, headers, subprotocols },
            otherwise: usual.or_else(|| credential.map(|name| name.expose().to_owned())),
            server: None,
            entered,
        })
    }

    async fn dial(&self, request: &OutgoingUpgrade) -> Result<Socket, Refusal> {
        let url = &self.config.url;
        let dialled = tokio::time::timeout(DEADLINE, async {
            let connected = self.connector.connect(&url.peer()).await;
            let io = connected.map_err(|error| unconnected(url, &error))?;
            let options = SocketOptions {
                // How fast it may send is for the provider to say: it waits until that has taken what was sent.
                burst: u64::MAX,
                ..self.config.socket
            };
            let dialled = socket::dial(io, url.host(), request, options).await;
            dialled.map_err(|error| refused(url, &error))
        });
        let late = |_| unavailable(504, url, &format!("no answer in {DEADLINE:?}"));
        dialled.await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }
}

/// Whether a subprotocol is a credential, in whatever case.
fn is_credential(name: &str) -> bool {
    name.get(..CREDENTIAL.len()).is_some_and(|start| start.eq_ignore_ascii_case(CREDENTIAL))
}

/// The provider is told that there is nobody, and the log why. A query may hold what nobody else should know.
fn unavailable(status: u16, url: &WsUrl, reason: &str) -> Refusal {
    let WsUrl { secure, authority, target } = url;
    let scheme = if *secure { "wss" } else { "ws" };
    let path = target.split('?').next().unwrap_or_default();
    Refusal {
        reason: format!(
            "the server that streams are passed on to, {scheme}://{authority}{path}: {reason}"
        ),
        ..Refusal::new(status, "the server behind this one cannot take the stream now")
    }
}

fn unconnected(url: &WsUrl, error: &ConnectError) -> Refusal {
    let status = if matches!(error, ConnectError::Deadline(_)) { 504 } else { 502 };
    unavailable(status, url, &format!("cannot connect: {error}"))
}

fn refused(url: &WsUrl, error: &DialError) -> Refusal {
    let status = match error {
        DialError::Refused { status: 503, .. } => 503,
        DialError::Deadline(_) => 504,
        _ => 502,
    };
    unavailable(status, url, &error.to_string())
}

impl Passing {
    /// Dials the server, and gives the subprotocol that the provider is to be answered with.
    ///
    /// # Errors
    /// What the provider is told instead of yes.
    pub(crate) async fn dial(&mut self) -> Result<Option<String>, Refusal> {
        let server = self.to.dial(&self.request).await?;
        let subprotocol = server.subprotocol().map(str::to_owned);
        self.server = Some(server);
        Ok(subprotocol.or_else(|| self.otherwise.take()))
    }

    /// Passes everything on until one of the two ends it, nothing is said for too long, or the bridge ends.
    pub(crate) async fn run(self, provider: Socket, shutdown: &Shutdown) {
        let Self { to, call, listener, provider: provider_name, server, mut entered, .. } = self;
        // There is one: who is not connected is not answered with yes.
        let Some(server) = server else { return };
        let (call, listener) = (call.as_str(), listener.as_str());
        let server_name = to.config.url.authority.as_str();
        report(&Report::PassingOn { call, listener, provider: provider_name, server: server_name });
        let passed = pipe::run(provider, server, to.config.idle, shutdown, &mut entered).await;
        report(&Report::PassedOn { call, listener, passed: &passed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_a_credential_is_known_in_any_case() {
        for name in ["Bearer-abc", "bearer-abc", "BEARER-"] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["", "Bearer", "media", "Bäärer-x", "forbearer-x"] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn each_way_of_not_being_there_has_its_status_and_no_query_in_the_log() {
        let url: WsUrl = "wss://bot.example/x?key=s3cret".parse().expect("a URL");
        let refused_with =
            |status| DialError::Refused { status, retry_after: None, body: "no".into() };
        let cases = [
            (unconnected(&url, &ConnectError::Io("refused".into())), 502),
            (unconnected(&url, &ConnectError::Deadline(DEADLINE)), 504),
            (refused(&url, &refused_with(503)), 503),
            (refused(&url, &refused_with(401)), 502),
            (refused(&url, &DialError::Handshake("odd".into())), 502),
            (refused(&url, &DialError::Deadline(DEADLINE)), 504),
        ];
        for (refusal, status) in cases {
            assert_eq!(refusal.status, status);
            assert!(refusal.reason.contains("wss://bot.example:443/x: "), "{}", refusal.reason);
            assert!(!refusal.reason.contains("s3cret") && !refusal.public.contains("bot.example"));
        }
    }
}
