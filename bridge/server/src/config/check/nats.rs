//! The NATS cluster, and modules that are workers there.

#[cfg(not(feature = "nats"))]
use super::super::Builtin;
use super::super::raw::{self, At};
use super::super::{ModuleRun, NatsConfig, NatsLogin, NatsStream};
use super::Checker;
use crate::outgoing::Trust;

const DEFAULT_PREFIX: &str = "ringback";
#[cfg(not(feature = "nats"))]
const NOT_BUILT: &str =
    "this binary was built without NATS: build it with `cargo build --release --features nats`";

impl Checker<'_> {
    /// The cluster, if there is one; `trust` is what holds for all that have no `ca_file` of their own.
    pub(super) fn nats(&mut self, raw: &raw::File, trust: &Trust) -> Option<NatsConfig> {
        let Some(table) = &raw.nats else {
            for module in &raw.module {
                let group = module.get_ref().group.as_ref();
                if let Some(at) = group.filter(|_| cfg!(feature = "nats")) {
                    let help = "there is no [nats]: add one with the `urls` of its servers";
                    self.problem(at.span(), help);
                }
            }
            return None;
        };
        #[cfg(not(feature = "nats"))]
        self.problem(table.span(), NOT_BUILT);
        let raw = table.get_ref();
        if raw.urls.is_empty() {
            let help = "[nats] needs `urls`, such as [\"nats://127.0.0.1:4222\"]";
            self.problem(table.span(), help);
        }
        for at in &raw.urls {
            self.nats_url(at);
        }
        let prefix = raw.prefix.as_ref().map_or_else(
            || DEFAULT_PREFIX.to_owned(),
            |at| {
                let tokens = at.get_ref().split('.');
                self.subject_tokens(at, "a prefix", tokens)
            },
        );
        let events = raw.events.as_ref().map(|at| {
            let name = self.subject_tokens(at, "a stream", [at.get_ref().as_str()]);
            NatsStream { name, create: raw.create_stream.as_ref().is_some_and(|at| *at.get_ref()) }
        });
        if let (Some(at), None) = (&raw.create_stream, &events) {
            self.problem(at.span(), "needs `events`, the name of the stream");
        }
        Some(NatsConfig {
            urls: raw.urls.iter().map(|at| at.get_ref().clone()).collect(),
            login: self.nats_login(raw),
            trust: raw
                .ca_file
                .as_ref()
                .map_or_else(|| trust.clone(), |at| Trust::File(at.get_ref().into())),
            prefix,
            events,
        })
    }

    /// Says nothing of what is in it: people put passwords there.
    fn nats_url(&mut self, at: &At<String>) {
        let rest =
            ["nats://", "tls://"].iter().find_map(|scheme| at.get_ref().strip_prefix(scheme));
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            let help =
                "expected nats:// or tls:// with host and port, such as \"nats://127.0.0.1:4222\"";
            self.problem(at.span(), help);
            return;
        };
        if rest.contains('@') {
            let help = "user, password or token do not stand in the URL: use `user` and `password`, `token` or `credentials` of [nats]";
            self.problem(at.span(), help);
        } else if rest.contains(['/', '?', '#', ' ']) {
            self.problem(at.span(), "expected nothing behind host and port");
        }
    }

    fn nats_login(&mut self, raw: &raw::Nats) -> NatsLogin {
        let user = match (&raw.user, &raw.password) {
            (Some(user), Some(password)) => Some((user.get_ref().clone(), self.resolve(password))),
            (Some(at), None) => {
                self.problem(at.span(), "needs `password` beside it");
                None
            }
            (None, Some(at)) => {
                self.problem(at.span(), "needs `user` beside it");
                None
            }
            (None, None) => None,
        };
        NatsLogin {
            token: raw.token.as_ref().map(|at| self.resolve(at)),
            user,
            credentials: raw.credentials.as_ref().map(|at| self.resolve(at)),
        }
    }

    /// A module that is whichever worker of the group has room.
    pub(super) fn worker_of(&mut self, group: &At<String>) -> ModuleRun {
        let name = self.subject_tokens(group, "a group", [group.get_ref().as_str()]);
        #[cfg(feature = "nats")]
        return ModuleRun::Nats { group: name };
        #[cfg(not(feature = "nats"))]
        {
            let _ = name;
            self.problem(group.span(), NOT_BUILT);
            ModuleRun::Builtin(Builtin::Echo)
        }
    }

    /// Text that stands in a subject: NATS takes nearly everything, but shells, files and other clients do not.
    fn subject_tokens<'t>(
        &mut self,
        at: &At<String>,
        what: &str,
        tokens: impl IntoIterator<Item = &'t str>,
    ) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let fits = |token: &str| !token.is_empty() && token.chars().all(plain);
        if !tokens.into_iter().all(fits) {
            let found = at.get_ref();
            let rule = format!("found {found:?}: {what} is made of letters, digits, `-` and `_`");
            self.problem(at.span(), rule);
        }
        at.get_ref().clone()
    }
}
