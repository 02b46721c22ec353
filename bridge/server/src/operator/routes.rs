//! What can be asked of the operator's side: one table, which the document of the API is held to. Answers nothing itself.

use axum::http::Method;

use super::access::Scope;
use super::answer::Problem;

/// Something that can be asked.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    /// With `{names}` where something is named.
    pub(super) path: &'static str,
    pub(super) scope: Scope,
    pub(super) whom: Whom,
    /// What it is called in the document and in the audit log.
    pub(super) name: &'static str,
    /// Whether the audit log has it: whatever changes something, and what tells what people say.
    pub(super) is_recorded: bool,
    pub(super) takes_body: bool,
    pub(super) operation: Operation,
}

/// Who may be answered of those whose token is for one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// Everybody, of what is their own.
    Each,
    /// Nobody: it is about the whole bridge.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Metrics,
    Workers,
    Events,
    Document,
    Calls,
    Call,
    HangUp,
    BeginPrivate,
    EndPrivate,
    GiveConsent,
    WithdrawConsent,
    Tenants,
    Drain,
    Reload,
    Audit,
    Endpoints,
    NewEndpoint,
    RotateEndpoint,
    ExtendEndpoint,
    RevokeEndpoint,
}

const fn get(
    path: &'static str,
    scope: Scope,
    whom: Whom,
    name: &'static str,
    operation: Operation,
) -> Route {
    let (method, is_recorded, takes_body) = (Method::GET, false, false);
    Route { method, path, scope, whom, name, operation, is_recorded, takes_body }
}

const fn post(
    path: &'static str,
    scope: Scope,
    whom: Whom,
    name: &'static str,
    operation: Operation,
) -> Route {
    let (method, is_recorded, takes_body) = (Method::POST, true, false);
    Route { method, path, scope, whom, name, operation, is_recorded, takes_body }
}

impl Route {
    /// Whether it does more than tell.
    pub(super) fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// What a path of it names, in its order.
    pub(super) fn names<'p>(&self, path: &'p str) -> Vec<&'p str> {
        names(self.path, path).unwrap_or_default()
    }

    const fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    const fn with_body(mut self) -> Self {
        self.takes_body = true;
        self
    }
}

/// All of it.
pub(super) static ROUTES: [Route; 20] = {
    use Operation as Op;
    use Scope::{Admin, Control, Listen, Read};
    use Whom::{All, Each};
    const PRIVATE_BEGIN: &str = "/v1/calls/{call}/private/begin";
    const PRIVATE_END: &str = "/v1/calls/{call}/private/end";
    const CONSENT: &str = "/v1/calls/{call}/consent/give";
    const NO_CONSENT: &str = "/v1/calls/{call}/consent/withdraw";
    const LISTENER: &str = "/v1/listeners/{listener}/endpoints";
    [
        get("/metrics", Read, All, "metrics", Op::Metrics),
        get("/workers", Read, All, "workers", Op::Workers),
        get("/events", Listen, Each, "events", Op::Events).recorded(),
        get("/v1/openapi.json", Read, Each, "document", Op::Document),
        get("/v1/calls", Read, Each, "calls", Op::Calls),
        get("/v1/calls/{call}", Read, Each, "call", Op::Call),
        post("/v1/calls/{call}/hangup", Control, Each, "hangup", Op::HangUp),
        post(PRIVATE_BEGIN, Control, Each, "private.begin", Op::BeginPrivate).with_body(),
        post(PRIVATE_END, Control, Each, "private.end", Op::EndPrivate),
        post(CONSENT, Control, Each, "consent.give", Op::GiveConsent).with_body(),
        post(NO_CONSENT, Control, Each, "consent.withdraw", Op::WithdrawConsent).with_body(),
        get("/v1/tenants", Read, Each, "tenants", Op::Tenants),
        post("/v1/drain", Control, All, "drain", Op::Drain),
        post("/v1/reload", Admin, All, "reload", Op::Reload),
        get("/v1/audit", Admin, All, "audit", Op::Audit).recorded(),
        get(LISTENER, Admin, Each, "endpoints", Op::Endpoints),
        post(LISTENER, Admin, Each, "endpoint.new", Op::NewEndpoint),
        post(
            "/v1/listeners/{listener}/endpoints/rotate",
            Admin,
            Each,
            "endpoint.rotate",
            Op::RotateEndpoint,
        )
        .with_body(),
        post(
            "/v1/listeners/{listener}/endpoints/{endpoint}/extend",
            Admin,
            Each,
            "endpoint.extend",
            Op::ExtendEndpoint,
        )
        .with_body(),
        post(
            "/v1/listeners/{listener}/endpoints/{endpoint}/revoke",
            Admin,
            Each,
            "endpoint.revoke",
            Op::RevokeEndpoint,
        ),
    ]
};

/// The route that is asked for.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static Route, Problem> {
    let mut allowed = Vec::new();
    for route in &ROUTES {
        if names(route.path, path).is_none() {
            continue;
        }
        if route.method == *method {
            return Ok(route);
        }
        allowed.push(route.method.as_str());
    }
    if allowed.is_empty() { Err(Problem::not_found()) } else { Err(Problem::method(&allowed)) }
}

/// What `path` names where `pattern` has names, if it is one of its paths.
fn names<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    let mut names = Vec::new();
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(names),
            (Some(name), Some(found)) if name.starts_with('{') && !found.is_empty() => {
                names.push(found);
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_whole_and_methods_are_told() {
        let of = |method: &Method, path| {
            find(method, path).map(|route| (route.operation, route.names(path)))
        };
        assert_eq!(of(&Method::GET, "/v1/calls").unwrap(), (Operation::Calls, vec![]));
        assert_eq!(of(&Method::GET, "/v1/calls/a-1").unwrap(), (Operation::Call, vec!["a-1"]));
        assert_eq!(of(&Method::POST, "/v1/calls/a/hangup").unwrap().1, ["a"]);
        for path in [
            "/",
            "",
            "/v1",
            "/v1/calls/",
            "/v1/calls/a/",
            "//v1/calls",
            "/v1/calls/a/b/c",
            "/V1/calls",
        ] {
            assert_eq!(of(&Method::GET, path).unwrap_err().status, 404, "{path}");
        }
        let wrong = of(&Method::DELETE, "/v1/calls").unwrap_err();
        assert_eq!((wrong.status, wrong.allow.as_deref()), (405, Some("GET")));
        assert_eq!(of(&Method::GET, "/v1/drain").unwrap_err().allow.as_deref(), Some("POST"));
    }
}
