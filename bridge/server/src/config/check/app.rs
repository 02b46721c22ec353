//! Listeners whose providers we dial: as whom we sign there, and whom we may dial at all. Dials nobody.

use std::ops::Range;

use ringback_proto::provider::{App, Transport};

use super::super::raw::{self, At};
use super::{Checker, span};
use crate::reach::{Host, Reach};

impl Checker<'_> {
    /// What a listener without any configuration has: this machine is within its reach, for tries.
    pub(super) fn near(transport: Transport) -> Reach {
        let Transport::Webhook { hosts } = transport else { return Reach::default() };
        let near = ["ws://127.0.0.1", "ws://[::1]", "ws://localhost"];
        let hosts = hosts.iter().chain(&near).filter_map(|host| host.parse().ok());
        Reach::new(hosts.collect(), Vec::new())
    }

    /// As whom we sign, and whom we may dial.
    pub(super) fn app(
        &mut self,
        table: Range<usize>,
        raw: &raw::Listener,
        transport: Transport,
    ) -> (App, Reach) {
        let raw::Options { client_id, client_secret, dial, .. } = &raw.options;
        let Transport::Webhook { hosts } = transport else {
            let given = [span(client_id), span(client_secret), span(dial)];
            for place in given.into_iter().flatten() {
                self.problem(place, "is for providers that we dial, and this one dials us");
            }
            return Default::default();
        };
        if !raw.insecure || client_id.is_some() || client_secret.is_some() {
            for (key, given) in [("client_id", client_id), ("client_secret", client_secret)] {
                if given.is_none() {
                    let help = format!(
                        "`options.{key}` is missing: the bridge signs with it where it dials; `insecure = true` is for tries on one's own machine"
                    );
                    self.problem(table.clone(), help);
                }
            }
        }
        let app = App {
            client_id: client_id.as_ref().map(|at| at.get_ref().clone()).unwrap_or_default(),
            client_secret: match client_secret {
                Some(at) => self.resolve(at),
                None => App::default().client_secret,
            },
        };
        let known = || hosts.iter().filter_map(|host| host.parse().ok()).collect();
        let reach = dial.as_ref().map(|at| self.dialled(at.get_ref()));
        (app, reach.unwrap_or_else(|| Reach::new(known(), Vec::new())))
    }

    /// Hosts, and networks that their names may lead into.
    fn dialled(&mut self, texts: &[At<String>]) -> Reach {
        let (mut hosts, mut networks) = (Vec::new(), Vec::new());
        for at in texts {
            let text = at.get_ref();
            let is_network = text.contains('/') && !text.contains("://");
            let added = if is_network {
                crate::listener::network(text).map(|network| networks.push(network))
            } else {
                text.parse::<Host>().map(|host| hosts.push(host))
            };
            if let Err(problem) = added {
                self.problem(at.span(), problem);
            }
        }
        Reach::new(hosts, networks)
    }
}
