//! The operator's side: where it listens, who may ask for what, and whose calls are whose.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use ringback_proto::provider::{Auth, Transport};
use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{ListenerConfig, TenantConfig};
use super::Checker;
use crate::endpoints::EndpointStore;
use crate::operator::{DEFAULT_BIND, OperatorConfig, Scope, Token};

/// A shorter token can be guessed.
const SHORTEST_TOKEN: usize = 16;
const DEFAULT_CONNECTIONS: usize = 100;

impl Checker<'_> {
    /// Whose calls there are.
    pub(super) fn tenants(&mut self, raw: &raw::File) -> Vec<TenantConfig> {
        let mut tenants = Vec::<TenantConfig>::new();
        for table in &raw.tenant {
            let taken: Vec<_> = tenants.iter().map(|tenant| &*tenant.name).collect();
            let name = self.name(table.span(), table.get_ref().name.as_ref(), &taken);
            let raw = table.get_ref();
            let mut most = |at: &Option<At<usize>>| {
                at.as_ref().map(|at| self.number(Some(at), 1..=1_000_000, 1))
            };
            tenants.push(TenantConfig {
                name: name.into(),
                max_calls: most(&raw.max_calls),
                calls_per_second: most(&raw.calls_per_second).map(|rate| rate as u32),
                max_event_listeners: most(&raw.max_event_listeners),
            });
        }
        self.tenants = tenants.iter().map(|tenant| Arc::clone(&tenant.name)).collect();
        tenants
    }

    /// One of the tenants.
    pub(super) fn tenant(&mut self, at: Option<&At<String>>) -> Option<Arc<str>> {
        let at = at?;
        let found = self.tenants.iter().find(|name| &***name == at.get_ref()).cloned();
        if found.is_none() {
            let known = self.tenants.clone();
            self.unknown(at, "[[tenant]]", known.iter().map(AsRef::as_ref));
        }
        found
    }

    /// The operator's side, if there is one.
    pub(super) fn operator(&mut self, raw: &raw::File, bind: SocketAddr) -> Option<OperatorConfig> {
        let table = raw.operator.as_ref()?;
        let operator = table.get_ref();
        let own = self.operator_bind(operator, bind);
        let mut tokens = Vec::new();
        for token in &operator.token {
            let token = self.operator_token(token, &tokens);
            tokens.push(token);
        }
        if !own.ip().is_loopback() {
            let at = operator.bind.as_ref().map_or(table.span(), Spanned::span);
            if tokens.is_empty() {
                let help = "set up [[operator.token]], or bind to 127.0.0.1";
                self.problem(at.clone(), format!("anybody who reaches {own} could ask: {help}"));
            }
            if operator.tls.is_none() && !operator.insecure {
                self.problem(at, format!(
                    "whoever listens on the way to {own} reads the tokens: set `tls`, or `insecure = true` if something in front encrypts"
                ));
            }
        }
        Some(OperatorConfig {
            bind: own,
            tls: operator.tls.as_ref().and_then(|tls| self.tls(tls)),
            tokens,
            origins: self.origins(&operator.origins),
            max_connections: self.number(
                operator.max_connections.as_ref(),
                1..=10_000,
                DEFAULT_CONNECTIONS,
            ),
            audit: operator.audit.as_ref().map(|at| PathBuf::from(at.get_ref())),
            trusted_proxies: self.networks(&raw.server.trusted_proxies),
        })
    }

    fn operator_bind(&mut self, raw: &raw::Operator, bind: SocketAddr) -> SocketAddr {
        let default: SocketAddr = DEFAULT_BIND.parse().expect("an address of ours");
        let Some(at) = &raw.bind else { return default };
        let text = at.get_ref();
        let Ok(own) = text.parse::<SocketAddr>() else {
            let message = format!(
                "found {text:?}, expected an address and a port such as {DEFAULT_BIND:?} or \"[::1]:9080\""
            );
            self.problem(at.span(), message);
            return default;
        };
        if own == bind && own.port() != 0 {
            self.problem(
                at.span(),
                format!("{own} is where providers are taken (`bind` of [server])"),
            );
        }
        own
    }

    /// Where the endpoints of a listener are kept, which are a secret in its path.
    pub(super) fn endpoints(
        &mut self,
        raw: &raw::Listener,
        auth: &Auth,
        transport: Transport,
        others: &[ListenerConfig],
    ) -> Option<PathBuf> {
        let at = raw.endpoints.as_ref()?;
        let path = PathBuf::from(at.get_ref());
        if matches!(auth, Auth::Path { .. }) {
            let help =
                "an endpoint is a secret in the path already: leave `auth` of kind path away";
            self.problem(at.span(), help);
        }
        if transport == Transport::Records {
            self.problem(
                at.span(),
                "its connections tell no path; say by address who may call: `allow`",
            );
        }
        if raw.answer.is_some() {
            let help = "`answer` would have to tell the path, of which only a hash is kept";
            self.problem(at.span(), help);
        }
        if let Some(other) = others.iter().find(|other| other.endpoints.as_ref() == Some(&path)) {
            let name = &other.endpoint.name;
            self.problem(at.span(), format!("those of listener {name:?} are kept there already"));
        }
        if let Err(error) = EndpointStore::open(&path) {
            self.problem(at.span(), error.to_string());
        }
        Some(path)
    }

    fn operator_token(&mut self, table: &At<raw::OperatorToken>, others: &[Token]) -> Token {
        let raw = table.get_ref();
        let taken: Vec<_> = others.iter().map(|other| other.name.as_str()).collect();
        let name = self.name(table.span(), raw.name.as_ref(), &taken);
        let keys = ["token", "tokens"];
        let secrets = self.secrets(table.span(), keys, raw.token.as_ref(), raw.tokens.as_ref());
        let at = raw.token.as_ref().map(At::span).or(raw.tokens.as_ref().map(At::span));
        let at = at.unwrap_or(table.span());
        let known = |secret| others.iter().find(|other| other.secrets.contains(secret));
        for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
            if secret.expose().len() < SHORTEST_TOKEN {
                let help = "make one with `openssl rand -hex 32`";
                self.problem(
                    at.clone(),
                    format!(
                        "a token of fewer than {SHORTEST_TOKEN} characters can be guessed; {help}"
                    ),
                );
            }
            if let Some(other) = known(secret) {
                let name = &other.name;
                self.problem(at.clone(), format!("it is the token of {name:?} already"));
            }
        }
        Token {
            name,
            secrets,
            scopes: self.scopes(table.span(), raw.scopes.as_ref()).into_iter().collect(),
            tenant: self.tenant(raw.tenant.as_ref()),
        }
    }

    fn scopes(&mut self, table: Range<usize>, at: Option<&At<Vec<Scope>>>) -> Vec<Scope> {
        let scopes = at.map(|at| at.get_ref().clone()).unwrap_or_default();
        if scopes.is_empty() {
            let all = Scope::ALL.map(Scope::name).join(", ");
            let place = at.map_or(table, Spanned::span);
            self.problem(
                place,
                format!("`scopes` is missing or empty: it would open nothing ({all})"),
            );
        }
        scopes
    }
}
