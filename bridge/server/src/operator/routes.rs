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
    Drain,
    Reload,
}

const fn route(
    method: Method,
    path: &'static str,
    scope: Scope,
    whom: Whom,
    operation: Operation,
) -> Route {
    Route { method, path, scope, whom, operation }
}

/// All of it.
pub(super) static ROUTES: [Route; 9] = {
    use Operation as Op;
    use Scope::{Admin, Control, Listen, Read};
    use Whom::{All, Each};
    [
        route(Method::GET, "/metrics", Read, All, Op::Metrics),
        route(Method::GET, "/workers", Read, All, Op::Workers),
        route(Method::GET, "/events", Listen, Each, Op::Events),
        route(Method::GET, "/v1/openapi.json", Read, Each, Op::Document),
        route(Method::GET, "/v1/calls", Read, Each, Op::Calls),
        route(Method::GET, "/v1/calls/{call}", Read, Each, Op::Call),
        route(Method::POST, "/v1/calls/{call}/hangup", Control, Each, Op::HangUp),
        route(Method::POST, "/v1/drain", Control, All, Op::Drain),
        route(Method::POST, "/v1/reload", Admin, All, Op::Reload),
    ]
};

/// What a path names, in its order.
pub(super) type Names<'p> = Vec<&'p str>;

/// The route that is asked for, and what its path names.
pub(super) fn find<'p>(
    method: &Method,
    path: &'p str,
) -> Result<(&'static Route, Names<'p>), Problem> {
    let mut allowed = Vec::new();
    for route in &ROUTES {
        let Some(names) = names(route.path, path) else { continue };
        if route.method == *method {
            return Ok((route, names));
        }
        allowed.push(route.method.as_str());
    }
    if allowed.is_empty() { Err(Problem::not_found()) } else { Err(Problem::method(&allowed)) }
}

/// What `path` names where `pattern` has names, if it is one of its paths.
fn names<'p>(pattern: &str, path: &'p str) -> Option<Names<'p>> {
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
            find(method, path).map(|(route, names)| (route.operation, names))
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
