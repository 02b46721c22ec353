//! Modules that are somebody's bot: whose, where, and what it is shown. Dials nobody.

use std::ops::Range;

use ringback_proto::provider::{self, App, Auth, Proof, Provider, Transport, format_name};
use ringback_proto::translation::can_dial;

use super::super::super::raw::{self, At};
use super::super::super::{BotConfig, Builtin, ModuleRun};
use super::super::{Checker, span};
use crate::client::WsUrl;
use crate::destination::Destination;
use crate::outgoing::{self, Trust};

/// What such a module takes.
pub(super) const KEYS: &[&str] =
    &["provider", "url", "auth", "public_url", "parameters", "headers", "format", "ca_file"];

/// Where those that only bots have stand, if they are there; but for `provider`.
pub(super) fn spans(raw: &raw::Module) -> [(&'static str, Option<Range<usize>>); 5] {
    [
        ("auth", span(&raw.auth)),
        ("public_url", span(&raw.public_url)),
        ("parameters", span(&raw.parameters)),
        ("headers", span(&raw.headers)),
        ("format", span(&raw.format)),
    ]
}

impl Checker<'_> {
    pub(super) fn bot(
        &mut self,
        named: &At<String>,
        url: &At<String>,
        raw: &raw::Module,
    ) -> ModuleRun {
        let Some(provider) = self.dialling(named) else {
            return ModuleRun::Builtin(Builtin::Echo);
        };
        let url = match bot_url(provider, url.get_ref()) {
            Ok(parsed) => parsed,
            Err(problem) => {
                self.problem(url.span(), problem);
                WsUrl::plain(String::new(), String::new())
            }
        };
        if let Some(at) = raw.ca_file.as_ref().filter(|_| !url.secure) {
            self.problem(at.span(), "is for wss:// only: a ws:// server shows no certificate");
        }
        let proof = self.proof(raw.auth.as_ref(), provider);
        let public_url = self.public_url(raw.public_url.as_ref());
        let format = raw.format.as_ref().and_then(|at| self.format(at));
        if let (Some(at), Some(format)) = (&raw.format, format)
            && !provider.formats().contains(&format)
        {
            let known = provider.formats().iter().filter_map(|format| format_name(*format));
            let known: Vec<_> = known.collect();
            let known = if known.is_empty() { "no sound".into() } else { known.join(", ") };
            self.problem(at.span(), format!("{} has {known}", provider.name()));
        }
        let pairs = |at: &Option<At<std::collections::BTreeMap<String, String>>>| {
            let pairs = at.iter().flat_map(|at| at.get_ref().clone());
            pairs.collect::<Vec<_>>()
        };
        let headers = pairs(&raw.headers);
        if let Some((name, _)) = headers.iter().find(|(name, value)| !is_field(name, value)) {
            let at = raw.headers.as_ref().map_or(named.span(), At::span);
            self.problem(at, format!("{name:?} is no header field"));
        }
        ModuleRun::Bot(Box::new(BotConfig {
            provider: provider.name().to_owned(),
            to: Destination { url, proof, public_url, app: App::default() },
            parameters: pairs(&raw.parameters),
            headers,
            format,
            trust: raw.ca_file.as_ref().map(|at| Trust::File(at.get_ref().into())),
        }))
    }

    /// A provider that dials its bots.
    fn dialling(&mut self, named: &At<String>) -> Option<&'static dyn Provider> {
        let dials = |provider: &&&'static dyn Provider| can_dial(**provider);
        let known = provider::PROVIDERS.iter().filter(dials).copied();
        let found = known.clone().find(|provider| provider.name() == named.get_ref());
        if found.is_none() {
            self.unknown(named, "provider that dials bots", known.map(|known| known.name()));
        }
        found
    }

    /// What the provider would prove itself by, made of what a listener of that provider would check it with.
    fn proof(&mut self, raw: Option<&At<raw::Auth>>, provider: &dyn Provider) -> Proof {
        let auth = self.auth(raw, true);
        let Some(at) = raw else { return Proof::None };
        if auth != Auth::None && !auth.fits(provider.transport()) {
            let (kind, name) = (auth.kind(), provider.name());
            self.problem(at.span(), format!("{name} cannot prove itself by {kind} where it dials"));
        }
        auth.proof(None).unwrap_or_else(|_| {
            let help =
                "only who has the private key can sign so; take a secret that both sides have";
            self.problem(at.span(), help);
            Proof::None
        })
    }
}

/// `ws://` and `wss://`, or `tcp://` where there is no WebSocket.
fn bot_url(provider: &dyn Provider, text: &str) -> Result<WsUrl, String> {
    if provider.transport() != Transport::Records {
        return text.parse();
    }
    let name = provider.name();
    let rest = text.strip_prefix("tcp://").map(|rest| rest.trim_end_matches('/'));
    let host = rest.filter(|rest| rest.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty()));
    let Some(host) = host else {
        return Err(format!("found {text:?}; {name} dials tcp://host:port"));
    };
    let authority = outgoing::authority(host, 0).map_err(|error| format!("{text:?} {error}"))?;
    Ok(WsUrl::plain(authority, "/".into()))
}

fn is_field(name: &str, value: &str) -> bool {
    let token = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    !name.is_empty() && name.bytes().all(token) && !value.contains(['\r', '\n', '\0'])
}
