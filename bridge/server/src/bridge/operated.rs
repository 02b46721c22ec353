//! The bridge's part in its operator's side: what that is about, and the endpoints of listeners, which others change as well. Answers
//! nobody.

use std::sync::Arc;

use super::live::Live;
use super::{Bridge, Plan};
use crate::audit::Audit;
use crate::config::Config;
use crate::endpoints::{self, EndpointStore};
use crate::listener::Endpoint;
use crate::operator::{Bridged, Called, Operator, Reloading};
use crate::telemetry::{OperatorReport, operator_report};

impl Bridge {
    /// The operator's side, where it has one: as `config` says, which the bridge was made of. `reloading` reads the configuration again.
    /// An error says why its audit log cannot be written.
    #[must_use]
    pub fn operator(
        &self,
        config: &Config,
        reloading: Option<Reloading>,
    ) -> Option<Result<Arc<Operator>, String>> {
        let bridged = Bridged {
            clock: self.clock,
            shutdown: self.shutdown.clone(),
            events: self.events.clone(),
            registry: self.registry.clone(),
            rosters: self.rosters.clone(),
            tokens: self.live.tokens.clone(),
            tenants: self.tenants.clone(),
            called: self.live.now().plans.iter().filter_map(|plan| plan.called()).collect(),
            limits: config.limits,
            pages: config.pages,
        };
        let operator = config.operator.as_ref()?;
        let audit = operator.audit.as_deref().map(|path| {
            let failed = |error| format!("`audit` of [operator], {}: {error}", path.display());
            Audit::open(path).map_err(failed)
        });
        let audit = audit.transpose();
        Some(audit.map(|audit| Operator::new(operator, bridged, audit, reloading)))
    }
}

impl Plan {
    /// Where it is called, if that comes and goes.
    fn called(&self) -> Option<Called> {
        let Endpoint { name, tenant, path, public_url, .. } = &self.endpoint;
        Some(Called {
            listener: name.clone(),
            tenant: tenant.clone(),
            path: path.clone(),
            public_url: public_url.clone(),
            store: self.endpoints.clone()?,
        })
    }
}

/// Where the endpoints of listeners are kept.
pub(super) fn standing_stores(live: &Live) -> Vec<EndpointStore> {
    live.now().plans.iter().filter_map(|plan| plan.endpoints.clone()).collect()
}

/// Takes up what others change about endpoints, and writes down how they are used.
pub(super) async fn keep_endpoints(stores: Vec<EndpointStore>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(endpoints::PERIOD).await;
        let stores = stores.clone();
        let refreshed = tokio::task::spawn_blocking(move || {
            stores.iter().map(EndpointStore::refresh).find_map(Result::err)
        });
        let failed = refreshed.await.ok().flatten();
        if let Some(error) = failed.as_ref().filter(|_| !failing) {
            let reason = error.to_string();
            operator_report(&OperatorReport::EndpointsNotKept { reason: &reason });
        }
        failing = failed.is_some();
    }
}
