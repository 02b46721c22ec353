//! Listeners: who may call, where, and what the calls go to.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::provider::{self, Auth, Credential, Options, Transport};
use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{ListenerConfig, Place, Problem, RouteConfig};
use super::Checker;
use crate::listener::{Endpoint, RESERVED_PATHS, Sources};
use crate::socket::SocketOptions;

/// What a path must be like.
pub(super) const PATH_RULE: &str = "a path begins with `/` and has no query, space or quote";

/// How long a call may wait for another stream.
const REATTACH: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(120);
/// How long it does, if nobody says.
const USUAL_REATTACH: Duration = Duration::from_secs(10);

/// Whether it is.
pub(super) fn is_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c);
    path.starts_with('/') && path.chars().all(plain)
}

impl Checker<'_> {
    /// All listeners. Without any there is one for each provider, at a path of its name and without authentication.
    pub(super) fn listeners(
        &mut self,
        raw: &raw::File,
        socket: SocketOptions,
        routes: &[RouteConfig],
        bind: SocketAddr,
        bind_place: &Place,
    ) -> Vec<ListenerConfig> {
        let reattach = self.time(raw.limits.reattach_window.as_ref(), REATTACH, USUAL_REATTACH);
        if raw.listener.is_empty() {
            return self.default_listeners(socket, routes, bind, bind_place);
        }
        let mut listeners = Vec::<ListenerConfig>::new();
        let proxies = self.networks(&raw.server.trusted_proxies);
        for table in &raw.listener {
            let mut listener = self.listener(table, socket, reattach, routes, &listeners);
            listener.endpoint.sources.trusted_proxies.clone_from(&proxies);
            let anybody = !listener.endpoint.sources.keeps_strangers_out();
            let beyond = anybody && !bind.ip().is_loopback();
            // What passes requests on to this machine alone passes on anybody's: a secret is not to be had there either.
            let secret = anybody && Credential::of(&listener.auth).is_told();
            let answer = listener.answer.as_ref();
            if (beyond || secret) && answer.is_some_and(|answer| answer.auth.opens_for_strangers())
            {
                self.strangers_asking(table.get_ref(), &listener);
            }
            let insecure = table.get_ref().insecure;
            let open = listener.endpoints.is_none() && !insecure;
            // Addresses prove nothing of whom something on this machine passes on and does not name.
            let is_anybodys =
                anybody || (proxies.is_empty() && listener.endpoint.sources.takes_this_machine());
            listener.only_near = open && is_anybodys && listener.auth == Auth::None;
            if open && beyond && listener.auth.opens_for_strangers() {
                let at = table.get_ref().auth.as_ref().map_or(table.span(), Spanned::span);
                self.problem(at, format!(
                    "anybody who reaches {bind} could call: set `auth` or `allow`, or `insecure = true` if something in front checks"
                ));
            }
            listeners.push(listener);
        }
        listeners
    }

    fn default_listeners(
        &mut self,
        socket: SocketOptions,
        routes: &[RouteConfig],
        bind: SocketAddr,
        bind_place: &Place,
    ) -> Vec<ListenerConfig> {
        if !bind.ip().is_loopback() {
            let message = format!(
                "found {bind}: without a [[listener]] anybody who reaches it could call; write a configuration with `auth`, or bind to 127.0.0.1"
            );
            self.problems.push(Problem { place: bind_place.clone(), message });
        }
        let context = self.context;
        let listener = |provider: &&str| ListenerConfig {
            endpoint: Endpoint {
                name: (*provider).to_owned(),
                tenant: None,
                transport: transport(provider),
                path: format!("/{provider}"),
                public_url: None,
                max_streams: None,
                token_in_path: false,
                answer: None,
                origins: Vec::new(),
                sources: Sources::default(),
                socket,
            },
            provider: (*provider).to_owned(),
            auth: Auth::None,
            only_near: true,
            answer: None,
            keys: None,
            hangup: None,
            endpoints: None,
            one_way: false,
            options: Options::default(),
            reach: Self::near(transport(provider)),
            reattach: None,
            routes: self.usual_routes(0..0, provider, routes),
        };
        let listeners = context.providers.iter().map(listener).collect();
        // What is wrong with the routes is wrong for each of them.
        self.problems.dedup();
        listeners
    }

    fn listener(
        &mut self,
        table: &Spanned<raw::Listener>,
        socket: SocketOptions,
        usual_reattach: Duration,
        routes: &[RouteConfig],
        others: &[ListenerConfig],
    ) -> ListenerConfig {
        let raw = table.get_ref();
        let taken: Vec<_> = others.iter().map(|other| other.endpoint.name.as_str()).collect();
        let name = self.name(table.span(), raw.name.as_ref(), &taken);
        let path = self.path(table.span(), raw.path.as_ref(), others);
        let provider = self.provider(table.span(), raw.provider.as_ref());
        let public_url = self.public_url(raw.public_url.as_ref());
        let auth = self.auth(raw.auth.as_ref(), public_url.is_some());
        let keys = self.key_source(raw.auth.as_ref());
        let hangup = self.hangup(raw.hangup.as_ref(), &provider);
        let inbound_format = raw.options.inbound_format.as_ref().and_then(|at| self.format(at));
        let outbound_format = raw.options.outbound_format.as_ref().and_then(|at| self.format(at));
        let list = self.routes_of(table.span(), raw, &name, routes);
        let max_streams = raw.max_calls.as_ref().map(|at| self.number(Some(at), 1..=1_000_000, 1));
        let keepalive = self.keepalive(raw.keepalive.as_ref(), socket.keepalive);
        let transport = transport(&provider);
        if transport == Transport::Records {
            self.records(table.span(), raw.auth.as_ref(), &auth, others);
        }
        if let Some(at) = raw.auth.as_ref().filter(|_| !auth.fits(transport))
            && transport != Transport::Records
        {
            self.wrong_kind(at.span(), &auth, &provider, transport);
        }
        self.passed_on(table, transport, &list, routes);
        let endpoints = self.endpoints(raw, &auth, transport, others);
        let (point, answer) = self.answer(raw, &path, &provider, &auth, others).unzip();
        let endpoint = Endpoint {
            name,
            tenant: self.tenant(raw.tenant.as_ref()),
            transport,
            path,
            public_url,
            max_streams,
            token_in_path: matches!(auth, Auth::Path { .. }) || endpoints.is_some(),
            answer: point,
            origins: self.origins(&raw.origins),
            sources: Sources { allow: self.allow(raw.allow.as_ref()), ..Sources::default() },
            socket: SocketOptions { keepalive, ..socket },
        };
        let (app, reach) = self.app(table.span(), raw, transport);
        let options = Options { inbound_format, outbound_format, app, ..Options::default() };
        let one_way = raw.options.one_way;
        let reattach = self.reattach(raw, &auth, usual_reattach);
        ListenerConfig {
            endpoint,
            provider,
            auth,
            // Known when all of it is.
            only_near: false,
            keys,
            hangup,
            answer,
            endpoints,
            one_way,
            options,
            reach,
            reattach,
            routes: list,
        }
    }

    /// How long the calls of a listener wait for another stream. Where nothing proves who calls, or by what others may have seen,
    /// whoever knows a call's name could go on with it: only if the listener itself says so.
    fn reattach(&mut self, raw: &raw::Listener, auth: &Auth, usual: Duration) -> Option<Duration> {
        let is_weak = auth.opens_for_strangers() || auth.can_be_said_again();
        let usual = if is_weak { Duration::ZERO } else { usual };
        let window = self.time(raw.reattach_window.as_ref(), REATTACH, usual);
        (!window.is_zero()).then_some(window)
    }

    /// What holds for listeners whose streams are no WebSockets.
    fn records(
        &mut self,
        table: Range<usize>,
        at: Option<&At<raw::Auth>>,
        auth: &Auth,
        others: &[ListenerConfig],
    ) {
        if let Some(other) = others.iter().find(|o| o.endpoint.transport == Transport::Records) {
            let name = &other.endpoint.name;
            self.problem(
                table,
                format!("its connections tell no path, so there can be one such listener: {name:?} is another"),
            );
        }
        if let Some(at) = at.filter(|_| *auth != Auth::None) {
            self.problem(
                at.span(),
                "nothing on this wire carries a credential; say by address who may call: `allow`",
            );
        }
    }

    /// Says why a kind of credential opens for nobody there.
    fn wrong_kind(&mut self, at: Range<usize>, auth: &Auth, provider: &str, transport: Transport) {
        let kind = auth.kind();
        let help = match transport {
            Transport::Webhook { .. } => format!(
                "{kind} is of those who open a stream, and {provider} posts a request: nobody could call; take zoom-signature, or a token"
            ),
            _ => format!(
                "{kind} is of those who post a request, and {provider} opens a stream: nobody could call; `ringback connect {provider}` shows what fits"
            ),
        };
        self.problem(at, help);
    }

    fn path(
        &mut self,
        table: Range<usize>,
        path: Option<&At<String>>,
        others: &[ListenerConfig],
    ) -> String {
        let Some(at) = path else {
            self.problem(table, "`path` is missing, such as \"/twilio\"");
            return String::new();
        };
        let path = at.get_ref();
        if !is_path(path) {
            self.problem(at.span(), format!("found {path:?}: {PATH_RULE}"));
        } else if RESERVED_PATHS.contains(&path.as_str()) {
            self.problem(at.span(), format!("{path:?} is taken by the bridge itself"));
        } else if self.is_door(path) {
            self.problem(
                at.span(),
                format!("{path:?} is where modules dial in (`workers` of [server])"),
            );
        } else if let Some(name) = taken(path, others) {
            self.problem(at.span(), format!("{path:?} is the path of listener {name:?} already"));
        }
        path.clone()
    }

    fn provider(&mut self, table: Range<usize>, provider: Option<&At<String>>) -> String {
        let context = self.context;
        let known = context.providers.iter().copied();
        match provider {
            Some(at) => {
                if !context.providers.contains(&at.get_ref().as_str()) {
                    self.unknown(at, "provider", known);
                }
                at.get_ref().clone()
            }
            None => {
                let known = context.providers.join(", ");
                self.problem(table, format!("`provider` is missing (known: {known})"));
                String::new()
            }
        }
    }

    pub(super) fn public_url(&mut self, url: Option<&At<String>>) -> Option<String> {
        let at = url?;
        let url = at.get_ref();
        let rest = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://"));
        let host = rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
        if host.is_none_or(str::is_empty) {
            let example = "\"wss://bridge.example/twilio\"";
            self.problem(
                at.span(),
                format!("found {url:?}, expected the URL the provider dials, such as {example}"),
            );
        }
        Some(url.clone())
    }

    pub(super) fn origins(&mut self, origins: &[At<String>]) -> Vec<String> {
        for at in origins {
            let origin = at.get_ref();
            let host = origin.split_once("://").map(|(_, host)| host);
            if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
                let example = "\"https://phone.example\"";
                self.problem(at.span(), format!("found {origin:?}, expected scheme and host without a path, such as {example}"));
            }
        }
        origins.iter().map(|at| at.get_ref().clone()).collect()
    }

    pub(super) fn format(&mut self, at: &At<String>) -> Option<MediaFormat> {
        let format = provider::format_named(at.get_ref());
        if format.is_none() {
            let found = at.get_ref();
            self.problem(at.span(), format!(
                "found {found:?}, expected encoding and rate: pcmu/8000, pcma/8000, l16le/16000, l16be/16000, g722/16000 or opus/48000"
            ));
        }
        format
    }
}

/// Name of the listener that has this path, for its streams or for answers.
pub(super) fn taken<'l>(path: &str, others: &'l [ListenerConfig]) -> Option<&'l str> {
    let takes = |endpoint: &Endpoint| {
        let answers = endpoint.answer.as_ref().is_some_and(|point| point.path == path);
        endpoint.path == path || answers
    };
    others.iter().map(|other| &other.endpoint).find(|e| takes(e)).map(|e| e.name.as_str())
}

/// What carries the streams of a provider; of one that is not known, whatever is usual.
fn transport(provider: &str) -> Transport {
    provider::find(provider).map_or(Transport::WebSocket, |provider| provider.transport())
}
