//! Routes without modules, whose streams are passed on as they come, and what listeners on them cannot have.

use std::time::Duration;

use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{PassthroughConfig, RouteConfig};
use super::{Checker, span};
use crate::client::WsUrl;
use crate::socket::SocketOptions;
use ringback_proto::provider::Transport;

/// Where programs listen that were written for Palantir's WebSocket listeners.
const DEFAULT_URL: (&str, &str) = ("localhost:5000", "/");
/// Calls of words can be silent for minutes.
const DEFAULT_IDLE: Duration = Duration::from_secs(600);

impl Checker<'_> {
    /// Where a route's streams are passed on to, if they are; it then has nothing that modules would be for.
    pub(super) fn passthrough(
        &mut self,
        route: &raw::Route,
        socket: SocketOptions,
    ) -> Option<PassthroughConfig> {
        let raw = route.passthrough.as_ref()?.get_ref();
        let given = [
            ("modules", route.modules.first().map(At::span)),
            ("speaker", span(&route.speaker)),
            ("speakers", span(&route.speakers)),
            ("barge_in", span(&route.barge_in)),
            ("canary", route.canary.0.first().map(|canary| canary.module.span())),
        ];
        let whom = "a route with `passthrough`, which has no modules and";
        self.superfluous(given, &["name", "when", "passthrough"], whom);
        let url = raw.url.as_ref().map(|at| {
            at.get_ref().parse::<WsUrl>().map_err(|problem| self.problem(at.span(), problem))
        });
        let (authority, target) = DEFAULT_URL;
        let default = || WsUrl::plain(authority.into(), target.into());
        let range = Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);
        Some(PassthroughConfig {
            url: url.and_then(Result::ok).unwrap_or_else(default),
            context: raw.context,
            idle: self.time(raw.idle.as_ref(), range, DEFAULT_IDLE),
            socket,
        })
    }

    /// What a listener cannot have if its streams, or some of them, are passed on.
    pub(super) fn passed_on(
        &mut self,
        table: &Spanned<raw::Listener>,
        transport: Transport,
        list: &[String],
        routes: &[RouteConfig],
    ) {
        let list = list.iter().filter_map(|name| routes.iter().find(|route| route.name == *name));
        let (passed_on, calls): (Vec<_>, Vec<_>) =
            list.enumerate().partition(|(_, route)| route.passthrough.is_some());
        let Some(&(_, RouteConfig { name, .. })) = passed_on.first() else { return };
        let raw = table.get_ref();
        self.known_early(table, raw, &passed_on, calls.first().map(|(place, _)| *place));
        if transport != Transport::WebSocket {
            let at = raw.provider.as_ref().map_or(table.span(), At::span);
            let why = "its calls do not come as a WebSocket, and only those can be passed on";
            self.problem(at, format!("route {name:?} has `passthrough`: {why}"));
        }
        if !calls.is_empty() {
            return;
        }
        if let Some(at) = &raw.hangup {
            let why = "the bridge does not understand what is passed on and never hangs up";
            self.problem(at.span(), format!("`hangup` is of no use on route {name:?}: {why}"));
        }
        let raw::Options { one_way, inbound_format, outbound_format, .. } = &raw.options;
        let at = span(inbound_format).or(span(outbound_format));
        if let Some(at) = at.or_else(|| one_way.then(|| table.span())) {
            let why = "the bridge decodes nothing of what is passed on";
            self.problem(at, format!("`options` are of no use on route {name:?}: {why}"));
        }
    }

    /// A stream is passed on before it has told anything: by its request alone, and not after a route that waits for more.
    fn known_early(
        &mut self,
        table: &Spanned<raw::Listener>,
        raw: &raw::Listener,
        passed_on: &[(usize, &RouteConfig)],
        first_call: Option<usize>,
    ) {
        for &(place, RouteConfig { name, when, .. }) in passed_on {
            let entry = raw.routes.as_ref().and_then(|list| list.get_ref().get(place));
            let at = entry.map_or(table.span(), At::span);
            if !when.needs_only_the_request() {
                let why = "is passed on before its stream says more than its request does: its `when` can have `listener` and `headers`";
                self.problem(at.clone(), format!("what route {name:?} takes {why}"));
            }
            if first_call.is_some_and(|first| first < place) {
                let why =
                    "has `passthrough` and is tried before those with modules: put it before them";
                self.problem(at, format!("route {name:?} {why}"));
            }
        }
    }
}
