//! What the API answers and does, for somebody who was found to be allowed to. Who that is, is decided before.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{Response, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::Principal;
use super::answer::{Problem, json, text_of};
use super::{Called, Operator};
use crate::registry::{LiveCall, Order};
use crate::telemetry::METRICS;
use crate::tenants::{Quota, Tenant};

/// The document of the API, as it is served.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// Lines of the audit log that are told at a time.
const MOST_LINES: usize = 1_000;

/// Which lines of the audit log are asked for.
#[derive(Deserialize)]
struct Page {
    /// Those behind this number.
    after: Option<u64>,
    /// No more than so many.
    limit: Option<usize>,
}

/// A call, as it is told.
#[derive(Serialize)]
struct CallView<'a> {
    call: &'a str,
    state: &'static str,
    listener: &'a str,
    provider: &'static str,
    tenant: Option<&'a str>,
    began: String,
    seconds: u64,
    provider_call: Option<&'a str>,
    route: Option<&'a str>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    modules: &'a [String],
    private: bool,
    consent: Option<bool>,
}

/// What somebody may see: the one place that knows what belongs to whom.
pub(super) struct View<'a> {
    operator: &'a Operator,
    pub(super) who: &'a Principal,
}

impl<'a> View<'a> {
    pub(super) fn new(operator: &'a Operator, who: &'a Principal) -> Self {
        Self { operator, who }
    }

    /// Whether what belongs to `tenant` may be seen.
    fn sees(&self, tenant: Option<&str>) -> bool {
        self.who.tenant.as_deref().is_none_or(|own| tenant == Some(own))
    }

    fn calls(&self) -> Vec<Arc<LiveCall>> {
        let mut calls = self.operator.registry.all();
        calls.retain(|call| self.sees(call.tenant.as_deref()));
        calls
    }

    /// The listener of that name, if it is called at endpoints.
    pub(super) fn called(&self, listener: &str) -> Result<&'a Called, Problem> {
        let mut called = self.operator.called.iter();
        let found = called.find(|called| called.listener == listener);
        found.filter(|called| self.sees(called.tenant.as_deref())).ok_or_else(Problem::not_found)
    }

    /// The call of that name.
    pub(super) fn call(&self, name: &str) -> Result<Arc<LiveCall>, Problem> {
        let found = self.operator.registry.find(name);
        found.filter(|call| self.sees(call.tenant.as_deref())).ok_or_else(Problem::not_found)
    }
}

impl Operator {
    fn view_of<'a>(&self, call: &'a LiveCall) -> CallView<'a> {
        let (started, standing) = (call.started(), *call.standing().borrow());
        CallView {
            call: &call.name,
            state: call.state(),
            listener: &call.listener,
            provider: call.provider,
            tenant: call.tenant.as_deref(),
            began: call.began.to_string(),
            seconds: (self.clock.now() - call.since).as_secs(),
            provider_call: started.and_then(|s| s.provider_call.as_deref()),
            route: started.and_then(|s| s.route.as_deref()),
            from: started.and_then(|s| s.from.as_deref()),
            to: started.and_then(|s| s.to.as_deref()),
            modules: started.map_or(&[], |s| &s.modules),
            private: standing.is_private,
            consent: standing.consent,
        }
    }

    pub(super) fn calls(&self, view: &View<'_>) -> Response<Body> {
        let calls = view.calls();
        let calls: Vec<_> = calls.iter().map(|call| self.view_of(call)).collect();
        json(200, &json!({ "calls": calls, "draining": self.shutdown.is_draining() }))
    }

    pub(super) fn call(&self, view: &View<'_>, name: &str) -> Result<Response<Body>, Problem> {
        Ok(json(200, &self.view_of(&*view.call(name)?)))
    }

    /// The call is told; it ends as soon as its modules have said their last words.
    pub(super) fn hang_up(&self, view: &View<'_>, name: &str) -> Result<Response<Body>, Problem> {
        let call = view.call(name)?;
        let by = view.who.name.clone();
        if !call.order(Order::HangUp { by }) {
            return Err(Problem::busy());
        }
        Ok(json(202, &json!({ "call": call.name, "state": "ending" })))
    }

    /// What tenants may use, and what they use.
    pub(super) fn tenants(&self, view: &View<'_>) -> Response<Body> {
        let own = |tenant: &&Arc<Tenant>| view.sees(Some(&tenant.config().name));
        let tenants = self.tenants.all().iter().filter(own).map(|tenant| {
            let (config, (calls, listeners)) = (tenant.config(), tenant.uses());
            let refused = Quota::ALL.map(|quota| (quota.name(), tenant.refused(quota)));
            json!({
                "tenant": &*config.name,
                "calls": calls,
                "max_calls": config.max_calls,
                "begun": tenant.begun(),
                "calls_per_second": config.calls_per_second,
                "event_listeners": listeners,
                "max_event_listeners": config.max_event_listeners,
                "refused": BTreeMap::from(refused),
            })
        });
        json(200, &json!({ "tenants": tenants.collect::<Vec<_>>() }))
    }

    /// Lines of the audit log. Reads a file, so it is done where that may take long.
    pub(super) async fn read_audit(&self, query: &str) -> Result<Response<Body>, Problem> {
        let Some(audit) = self.record.audit().cloned() else {
            return Err(Problem::new(
                409,
                "no_audit",
                "no audit log is kept: `audit` of [operator]",
            ));
        };
        let uri = format!("/?{query}").parse::<Uri>().unwrap_or_default();
        let page = Query::<Page>::try_from_uri(&uri);
        let Query(Page { after, limit }) =
            page.map_err(|error| Problem::new(400, "bad_query", error.to_string()))?;
        let most = limit.unwrap_or(MOST_LINES).min(MOST_LINES);
        let read = tokio::task::spawn_blocking(move || audit.read(after.unwrap_or(0), most)).await;
        let read = read.unwrap_or_else(|_| Err(std::io::Error::other("a fault of this program")));
        let failed = |error: std::io::Error| Problem::new(500, "audit_failed", error.to_string());
        let page = read.map_err(failed)?;
        Ok(json(200, &json!({ "entries": page.lines, "more": page.more })))
    }

    /// The same as the first SIGTERM.
    pub(super) fn drain(&self) -> Response<Body> {
        self.shutdown.drain();
        let calls = self.registry.all().len();
        let until = self.drains_until().to_string();
        json(202, &json!({ "draining": true, "until": until, "calls": calls }))
    }

    /// Reads files, so it is done where that may take long.
    pub(super) async fn reload(&self) -> Result<Response<Body>, Problem> {
        let Some(reloading) = self.reloading.clone() else {
            let why = "this bridge was started without a way to read its configuration again";
            return Err(Problem::new(409, "no_configuration", why));
        };
        let done = tokio::task::spawn_blocking(move || reloading()).await;
        match done {
            Ok(Ok(restart)) => Ok(json(200, &json!({ "applied": true, "needs_restart": restart }))),
            Ok(Err(problems)) => Err(Problem::new(422, "configuration_refused", problems)),
            Err(_panicked) => Err(Problem::new(500, "internal", "a fault of this program")),
        }
    }

    pub(super) fn metrics(&self) -> Response<Body> {
        text_of(200, "text/plain; version=0.0.4; charset=utf-8", METRICS.exposition())
    }

    pub(super) fn workers(&self) -> Response<Body> {
        json(200, &self.rosters.overview())
    }

    pub(super) fn document(&self) -> Response<Body> {
        text_of(200, "application/json", DOCUMENT)
    }
}
