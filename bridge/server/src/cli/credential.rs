//! What a call is placed with, by flags or out of a bridge's own configuration. Takes no secret itself, only where it is kept.

use std::path::{Path, PathBuf};

use ringback_proto::provider::auth::{Issuer, JwtKey, JwtMaker, NoProof, PrivateJwk, Proof};
use ringback_proto::provider::{App, Provider, Secret, Transport};

use crate::client::WsUrl;
use crate::config::{AuthKind, Config, Context, ListenerConfig, Overrides, resolve_secret};
use crate::destination::Destination;

/// Options of every command that places calls.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Proof")]
pub(super) struct CredentialArgs {
    /// Call the provider's listener in this configuration, where it listens and with its own secrets, as the provider would.
    #[arg(long, value_name = "FILE", conflicts_with = "auth")]
    config: Option<PathBuf>,
    /// Which listener, if the provider has several.
    #[arg(long, value_name = "NAME", requires = "config")]
    listener: Option<String>,
    /// Kind of credential, as in a listener's `auth`.
    #[arg(long, value_name = "KIND", hide_possible_values = true, long_help = KINDS)]
    auth: Option<AuthKind>,
    /// Where the secret is kept: env:NAME or file:PATH.
    #[arg(long, value_name = "WHERE", visible_aliases = ["token", "password"], requires = "auth")]
    secret: Option<String>,
    /// Where a private key is kept, for tokens by RS256: a JSON web key, RSA. With --config too.
    #[arg(long, value_name = "WHERE")]
    key: Option<String>,
    /// Where Genesys' API key is kept.
    #[arg(long, value_name = "WHERE", requires = "auth")]
    api_key: Option<String>,
    /// User name, for `basic`.
    #[arg(long, value_name = "NAME", requires = "auth")]
    user: Option<String>,
    /// Header field, for `header`.
    #[arg(long, value_name = "NAME", requires = "auth")]
    header: Option<String>,
    /// Query parameter, for `query`.
    #[arg(long, value_name = "NAME", requires = "auth")]
    parameter: Option<String>,
    /// Send the token as a subprotocol, as browsers do.
    #[arg(long, requires = "auth")]
    subprotocol: bool,
    /// The secret is a shared key of this name, for `twilio-signature`.
    #[arg(long, value_name = "NAME", requires = "auth")]
    shared_key: Option<String>,
    /// What the header fields begin with, for `plivo-signature` [default: x-plivo].
    #[arg(long, value_name = "PREFIX", requires = "auth")]
    prefix: Option<String>,
    /// `iss` of a token.
    #[arg(long, value_name = "TEXT", requires = "auth")]
    issuer: Option<String>,
    /// `aud` of a token.
    #[arg(long, value_name = "TEXT", requires = "auth")]
    audience: Option<String>,
    /// What the bridge signs with where it dials this provider: the listener's `client_id`. Without, that it signs nothing.
    #[arg(long, value_name = "ID", requires = "client_secret", conflicts_with = "config")]
    client_id: Option<String>,
    /// Where the listener's `client_secret` is kept.
    #[arg(long, value_name = "WHERE", requires = "client_id", conflicts_with = "config")]
    client_secret: Option<String>,
    /// Further claim of a token, any number of times.
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "auth", value_parser = super::caller::parameter)]
    claims: Vec<(String, String)>,
    /// The listener's `public_url`, over which signatures are computed, if it is another than what is called.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

const KINDS: &str = "\
Kind of credential, as in a listener's `auth`, and what each is made of:

  bearer             --secret [--subprotocol]
  basic              --user --secret
  header             --header --secret
  query              --parameter --secret
  path               --secret
  twilio-signature   --secret [--shared-key] [--public-url]
  plivo-signature    --secret [--prefix] [--public-url]
  vonage-jwt         --secret [--claim]
  avaya-jwt          --secret [--claim]
  azure-jwt          --key --audience [--issuer] [--claim]
  jwt                --secret or --key [--issuer] [--audience] [--claim]
  genesys-signature  --api-key --secret [--public-url]
  zoom-signature     --secret, with --client-id and --client-secret for what the bridge signs";

/// The flags that a kind takes: those it needs, and those it may have.
const fn flags(kind: AuthKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        AuthKind::None
        | AuthKind::SignalwireSignature
        | AuthKind::TelnyxSignature
        | AuthKind::SinchSignature
        | AuthKind::JambonzSignature => (&[], &[]),
        AuthKind::Bearer => (&["secret"], &["subprotocol"]),
        AuthKind::Basic => (&["user", "secret"], &[]),
        AuthKind::Header => (&["header", "secret"], &[]),
        AuthKind::Query => (&["parameter", "secret"], &[]),
        AuthKind::Path => (&["secret"], &[]),
        AuthKind::TwilioSignature => (&["secret"], &["shared-key"]),
        AuthKind::PlivoSignature => (&["secret"], &["prefix"]),
        AuthKind::VonageJwt | AuthKind::AvayaJwt => (&["secret"], &["claim"]),
        AuthKind::AzureJwt => (&["key", "audience"], &["issuer", "claim"]),
        AuthKind::Jwt => (&[], &["secret", "key", "issuer", "audience", "claim"]),
        AuthKind::GenesysSignature => (&["api-key", "secret"], &[]),
        AuthKind::ZoomSignature => (&["secret"], &[]),
    }
}

impl CredentialArgs {
    /// Where a call of `provider` goes: `url` if it is given, or else the listener of the configuration, or else the provider's
    /// usual path on this machine.
    pub(super) fn destination(
        &self,
        provider: &dyn Provider,
        url: Option<&WsUrl>,
    ) -> Result<Destination, String> {
        let private = self.key.as_deref().map(private_key).transpose()?;
        let mut destination = match &self.config {
            Some(file) => {
                let config = load(file)?;
                let listener = self.listener_of(&config, provider)?;
                dials_here(listener, provider)?;
                let listener_name = &listener.endpoint.name;
                let secure = config.tls.is_some();
                let of = Destination::of(listener, config.bind, secure, private.as_ref());
                of.map_err(|error| {
                    format!("{}, listener {listener_name:?}: {error} (--key)", file.display())
                })?
            }
            None => {
                let near = WsUrl::plain("127.0.0.1:8080".into(), format!("/{}", provider.name()));
                let (proof, app) = (self.proof(private)?, self.app()?);
                Destination { proof, app, ..Destination::from(near) }
            }
        };
        fits(provider, &destination)?;
        if let Some(url) = url {
            destination.url = url.clone();
        }
        if let Some(url) = &self.public_url {
            destination.public_url = Some(url.clone());
        }
        Ok(destination)
    }

    /// The listener of that name in a configuration, or the provider's only one.
    pub(super) fn of(config: Option<PathBuf>, listener: Option<String>) -> Self {
        Self { config, listener, ..Self::default() }
    }

    /// As whom the bridge is to sign where it dials.
    fn app(&self) -> Result<App, String> {
        let Some(client_id) = self.client_id.clone() else { return Ok(App::default()) };
        let client_secret = resolve(self.client_secret.as_deref(), "client-secret")?;
        Ok(App { client_id, client_secret })
    }

    /// Whether any of it is given.
    pub(super) fn is_given(&self) -> bool {
        self.auth.is_some()
            || self.names_listener()
            || self.key.is_some()
            || self.client_id.is_some()
            || self.public_url.is_some()
    }

    /// Whether a configuration says where to call.
    pub(super) fn names_listener(&self) -> bool {
        self.config.is_some()
    }

    /// The listener of that name, or the only one that the provider has.
    fn listener_of<'a>(
        &self,
        config: &'a Config,
        provider: &dyn Provider,
    ) -> Result<&'a ListenerConfig, String> {
        let provider = provider.name();
        let its_own: Vec<_> = config.listeners.iter().filter(|l| l.provider == provider).collect();
        let names: Vec<_> = its_own.iter().map(|l| l.endpoint.name.as_str()).collect();
        let file = config.file.as_deref().unwrap_or_default();
        match (&self.listener, its_own.as_slice()) {
            (_, []) => Err(format!("{file}: no listener takes calls of {provider}")),
            (None, [only]) => Ok(only),
            (None, _) => Err(format!(
                "{file}: {provider} has several listeners, say which with --listener: {}",
                names.join(", ")
            )),
            (Some(name), several) => {
                let found = several.iter().find(|listener| listener.endpoint.name == *name);
                found.copied().ok_or_else(|| {
                    format!(
                        "{file}: no listener of {provider} is called {name:?}; there are {}",
                        names.join(", ")
                    )
                })
            }
        }
    }

    /// The flags that are given.
    fn given(&self) -> Vec<&'static str> {
        [
            ("secret", self.secret.is_some()),
            ("key", self.key.is_some()),
            ("api-key", self.api_key.is_some()),
            ("user", self.user.is_some()),
            ("header", self.header.is_some()),
            ("parameter", self.parameter.is_some()),
            ("subprotocol", self.subprotocol),
            ("shared-key", self.shared_key.is_some()),
            ("prefix", self.prefix.is_some()),
            ("issuer", self.issuer.is_some()),
            ("audience", self.audience.is_some()),
            ("claim", !self.claims.is_empty()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }

    /// A flag too many is a misunderstanding, as a key too many is in a configuration.
    fn fits(&self, kind: AuthKind, name: &str) -> Result<(), String> {
        let ((needed, possible), given) = (flags(kind), self.given());
        let list = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(|flag| format!("--{flag}")).collect();
            if flags.is_empty() { "nothing".to_owned() } else { flags.join(", ") }
        };
        if let Some(missing) = needed.iter().find(|flag| !given.contains(flag)) {
            return Err(format!("--auth {name} needs --{missing}; it is made of {}", list(needed)));
        }
        let of_use = [needed, possible].concat();
        match given.iter().find(|flag| !of_use.contains(flag)) {
            Some(flag) => {
                Err(format!("--{flag} is not used by --auth {name}, which takes {}", list(&of_use)))
            }
            None => Ok(()),
        }
    }

    fn proof(&self, private: Option<PrivateJwk>) -> Result<Proof, String> {
        let Some(kind) = self.auth else {
            return if private.is_some() { Err(NO_KIND.into()) } else { Ok(Proof::None) };
        };
        let name = clap::ValueEnum::to_possible_value(&kind);
        self.fits(kind, name.as_ref().map_or("", |value| value.get_name()))?;
        let secret = || resolve(self.secret.as_deref(), "secret");
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(match kind {
            AuthKind::None => Proof::None,
            AuthKind::SignalwireSignature
            | AuthKind::TelnyxSignature
            | AuthKind::SinchSignature
            | AuthKind::JambonzSignature => return Err(NoProof::Asked.to_string()),
            AuthKind::ZoomSignature => Proof::ZoomSignature { secret: secret()? },
            AuthKind::Bearer => {
                Proof::Bearer { token: secret()?, by_subprotocol: self.subprotocol }
            }
            AuthKind::Basic => Proof::Basic { user: text(&self.user), password: secret()? },
            AuthKind::Header => Proof::Header { name: text(&self.header), value: secret()? },
            AuthKind::Query => Proof::Query { name: text(&self.parameter), value: secret()? },
            AuthKind::Path => Proof::Path { token: secret()? },
            AuthKind::TwilioSignature => {
                Proof::TwilioSignature { key: secret()?, shared_key: self.shared_key.clone() }
            }
            AuthKind::PlivoSignature => Proof::PlivoSignature {
                prefix: self.prefix.clone().unwrap_or_else(|| "x-plivo".into()),
                token: secret()?,
            },
            AuthKind::VonageJwt => self.issuer(JwtMaker::Vonage, private)?,
            AuthKind::AvayaJwt => self.issuer(JwtMaker::Avaya, private)?,
            AuthKind::AzureJwt => self.issuer(JwtMaker::Azure, private)?,
            AuthKind::Jwt => self.issuer(JwtMaker::Any, private)?,
            AuthKind::GenesysSignature => Proof::GenesysSignature {
                api_key: resolve(self.api_key.as_deref(), "api-key")?,
                secret: secret()?,
            },
        })
    }

    fn issuer(&self, maker: JwtMaker, private: Option<PrivateJwk>) -> Result<Proof, String> {
        let key = match (private, &self.secret) {
            (Some(_), Some(_)) => {
                return Err("a token is signed with --secret or with --key, found both".into());
            }
            (Some(key), None) => JwtKey::Private(key),
            (None, secret) => JwtKey::Shared(resolve(secret.as_deref(), "secret")?),
        };
        Ok(Proof::Jwt(Issuer {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            claims: self.claims.clone(),
            ..Issuer::new(maker, key)
        }))
    }
}

/// That a bridge which is to dial this machine may.
fn dials_here(listener: &ListenerConfig, provider: &dyn Provider) -> Result<(), String> {
    let dialled = matches!(provider.transport(), Transport::Webhook { .. });
    if dialled && listener.reach.url("ws://127.0.0.1:1/").is_err() {
        return Err(format!(
            "listener {:?} may not dial this machine, which plays {} here: for tries, have its `options` say dial = [\"ws://127.0.0.1\"] and start it again",
            listener.endpoint.name,
            provider.title()
        ));
    }
    Ok(())
}

/// That the provider's wire has a place for the credential.
fn fits(provider: &dyn Provider, to: &Destination) -> Result<(), String> {
    let (name, transport) = (provider.name(), provider.transport());
    let posts = matches!(transport, Transport::Webhook { .. });
    match to.proof {
        Proof::None => {}
        _ if transport == Transport::Records => {
            return Err(format!(
                "nothing on the wire of {name} carries a credential; its listener says by address who may call"
            ));
        }
        Proof::ZoomSignature { .. } if !posts => {
            return Err(format!("zoom-signature signs what is posted, and {name} opens a stream"));
        }
        _ => {}
    }
    if !posts && to.app != App::default() {
        return Err(format!(
            "--client-id and --client-secret are for providers that the bridge dials, and {name} dials the bridge"
        ));
    }
    Ok(())
}

const NO_KIND: &str = "--key needs --auth or --config";

fn load(file: &Path) -> Result<Config, String> {
    let config = Config::load(Some(file), &Overrides::default(), &Context::of_process());
    config.map_err(|error| error.to_string())
}

/// The secret that `reference` names.
fn resolve(reference: Option<&str>, flag: &str) -> Result<Secret, String> {
    let reference = reference.ok_or_else(|| format!("--{flag} is missing"))?;
    resolve_secret(reference, &|name| std::env::var(name).ok())
        .map_err(|problem| format!("--{flag}: {problem}"))
}

fn private_key(reference: &str) -> Result<PrivateJwk, String> {
    let text = resolve(Some(reference), "key")?;
    PrivateJwk::parse(text.expose()).map_err(|error| format!("--key: {reference} {error}"))
}
