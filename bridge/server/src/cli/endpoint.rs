//! `ringback endpoint`: the endpoints of a listener, shown and changed in the file where they are kept. A bridge that runs takes them up
//! within a second.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{LogArgs, screen};
use crate::audit::{Audit, Entry};
use crate::clock::WallTime;
use crate::config::{Config, Context, ListenerConfig};
use crate::endpoints::{Change, Changed, EndpointStore, Endpoints, Old};
use crate::exit::Exit;

/// Who is written down as having changed something here.
const WHO: &str = "command line";

/// Options of `ringback endpoint`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration; the default is ringback.toml in this folder.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

/// Two endpoints there may be at a time, one of which is active: it has no end.
#[derive(Debug, Subcommand)]
enum What {
    /// Show a listener's endpoints, and how often each was used.
    List {
        /// Name of the listener.
        listener: String,
    },
    /// Make the first endpoint, or one after the active one was revoked. Its path is shown this once.
    New {
        /// Name of the listener.
        listener: String,
    },
    /// Make a new active endpoint in the place of the old one, which goes on for a while or is revoked. Its path is shown this once.
    Rotate {
        /// Name of the listener.
        listener: String,
        /// The old one goes on for so many seconds.
        #[arg(long, value_name = "SECONDS", required_unless_present = "revoke_old")]
        old_expires_in: Option<u64>,
        /// The old one ends now.
        #[arg(long, conflicts_with = "old_expires_in")]
        revoke_old: bool,
    },
    /// Put off the end of an endpoint that has not ended yet.
    Extend {
        /// Name of the listener.
        listener: String,
        /// Name of the endpoint.
        endpoint: String,
        /// It goes on for so many seconds from now.
        #[arg(long, value_name = "SECONDS")]
        expires_in: u64,
    },
    /// Be rid of an endpoint, whatever its state.
    Revoke {
        /// Name of the listener.
        listener: String,
        /// Name of the endpoint.
        endpoint: String,
    },
}

impl What {
    fn listener(&self) -> &str {
        match self {
            Self::List { listener }
            | Self::New { listener }
            | Self::Rotate { listener, .. }
            | Self::Extend { listener, .. }
            | Self::Revoke { listener, .. } => listener,
        }
    }

    /// What is wanted; nothing, to look.
    fn change(&self) -> Option<Change> {
        Some(match self {
            Self::List { .. } => return None,
            Self::New { .. } => Change::New,
            Self::Rotate { old_expires_in, .. } => {
                Change::Rotate(old_expires_in.map_or(Old::Goes, Old::Stays))
            }
            Self::Extend { endpoint, expires_in, .. } => {
                Change::Extend(endpoint.clone(), *expires_in)
            }
            Self::Revoke { endpoint, .. } => Change::Revoke(endpoint.clone()),
        })
    }
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    let config = Config::load(args.config.as_deref(), &log.overrides(), &Context::of_process());
    let config = match config {
        Ok(config) => config,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let name = args.what.listener();
    let Some(listener) = config.listener(name) else {
        let known: Vec<_> = config.listeners.iter().map(|l| l.endpoint.name.as_str()).collect();
        let known = known.join(", ");
        return screen::failed(
            Exit::Usage,
            format!("there is no listener {name:?} (known: {known})"),
        );
    };
    let Some(path) = &listener.endpoints else {
        let help = format!("listener {name:?} has no `endpoints`: name a file to keep them in");
        return screen::failed(Exit::Usage, help);
    };
    let store = match EndpointStore::open(path) {
        Ok(store) => store,
        Err(error) => return screen::failed(Exit::Unavailable, error),
    };
    let Some(change) = args.what.change() else {
        show(listener, &store.endpoints());
        return Exit::Ok;
    };
    match changed(&config, listener, &store, &change) {
        Ok(changed) => {
            tell(listener, &changed);
            Exit::Ok
        }
        Err(error) => screen::failed(Exit::Failure, error),
    }
}

/// Does it and writes it down, where an audit log is kept.
fn changed(
    config: &Config,
    listener: &ListenerConfig,
    store: &EndpointStore,
    change: &Change,
) -> Result<Changed, String> {
    let audit = config.operator.as_ref().and_then(|operator| operator.audit.as_deref());
    let failed = |error| format!("the audit log cannot be written: {error}");
    // Before anything is done that could not be written down.
    let audit = audit.map(Audit::open).transpose().map_err(failed)?;
    let changed = store.change(change).map_err(|error| error.to_string());
    if let Some(audit) = audit {
        let outcome = changed.as_ref().map_or_else(Clone::clone, |_| "done".into());
        let endpoint = match change {
            Change::Extend(id, _) | Change::Revoke(id) => format!("/{id}"),
            Change::New | Change::Rotate(_) => String::new(),
        };
        let on = format!("{}{endpoint}", listener.endpoint.name);
        let act = format!("endpoint.{}", change.name());
        audit.write_now(Entry { who: WHO.into(), from: None, act, on, outcome }).map_err(failed)?;
    }
    changed
}

fn tell(listener: &ListenerConfig, Changed { endpoints, made }: &Changed) {
    if let Some((id, segment)) = made {
        let endpoint = &listener.endpoint;
        let at = endpoint.public_url.as_deref().unwrap_or(&endpoint.path).trim_end_matches('/');
        screen::line(format!("{id} is at {at}/{}", segment.expose()));
        screen::line("which is shown this once and kept nowhere.");
    }
    show(listener, endpoints);
}

fn show(listener: &ListenerConfig, endpoints: &Endpoints) {
    let now = WallTime::now().unix_seconds().0;
    let at = |seconds: u64| WallTime::from_unix(Duration::from_secs(seconds)).to_string();
    if endpoints.all().is_empty() {
        let name = &listener.endpoint.name;
        screen::line(format!("listener {name} has no endpoint: nobody can call it"));
    }
    for endpoint in endpoints.all() {
        let state = endpoint.state(now);
        let until = endpoint.expires.map(|end| format!(", until {}", at(end))).unwrap_or_default();
        let last = endpoint.last_used.map(|last| format!(", last at {}", at(last)));
        let (id, used, made) = (&endpoint.id, endpoint.used, at(endpoint.made));
        let last = last.unwrap_or_default();
        screen::line(format!("{id}  {state}{until}  made {made}  used {used} times{last}"));
    }
}
