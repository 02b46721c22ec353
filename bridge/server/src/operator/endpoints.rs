//! The endpoints of listeners in the API: what they are, and how one takes the place of another. What may be is in [`crate::endpoints`].

use axum::body::Body;
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Called;
use super::answer::{Problem, json};
use crate::clock::WallTime;
use crate::endpoints::{Change, Changed, EndpointError, Endpoints, Old, Rule};

/// What is asked with a rotation: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// The old one stays for so many seconds.
    old_expires_in: Option<u64>,
    /// The old one ends now.
    #[serde(default)]
    revoke_old: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    /// Seconds from now.
    expires_in: u64,
}

pub(super) fn list(called: &Called) -> Response<Body> {
    json(200, &view(called, &called.store.endpoints()))
}

/// What is wanted by a rotation.
pub(super) fn rotation(body: &Value) -> Result<Change, Problem> {
    let wanted: Rotation = parsed(body)?;
    match (wanted.old_expires_in, wanted.revoke_old) {
        (Some(seconds), false) => Ok(Change::Rotate(Old::Stays(seconds))),
        (None, true) => Ok(Change::Rotate(Old::Goes)),
        _ => {
            let message = "say what becomes of the old endpoint: `old_expires_in`, in seconds, or `revoke_old`: true";
            Err(Problem::new(400, "bad_body", message))
        }
    }
}

/// What is wanted by putting off an end.
pub(super) fn extension(id: &str, body: &Value) -> Result<Change, Problem> {
    let Extension { expires_in } = parsed(body)?;
    Ok(Change::Extend(id.to_owned(), expires_in))
}

/// The body of a request.
pub(super) fn parsed<T: for<'de> Deserialize<'de>>(body: &Value) -> Result<T, Problem> {
    T::deserialize(body).map_err(|error| Problem::new(400, "bad_body", error.to_string()))
}

/// Does it, where that may take as long as a disk does.
pub(super) async fn change(called: &Called, change: Change) -> Result<Response<Body>, Problem> {
    let store = called.store.clone();
    let done = tokio::task::spawn_blocking(move || store.change(&change)).await;
    let done = done.map_err(|_| Problem::new(500, "internal", "a fault of this program"))?;
    let Changed { endpoints, made } = done.map_err(|error| match error {
        EndpointError::Rule(Rule::Unknown) => Problem::not_found(),
        EndpointError::Rule(rule) => Problem::new(409, "not_now", rule.to_string()),
        EndpointError::File { .. } => Problem::new(500, "not_kept", error.to_string()),
    })?;
    let mut view = view(called, &endpoints);
    if let Some((id, segment)) = made {
        let below = |at: &str| format!("{}/{}", at.trim_end_matches('/'), segment.expose());
        let url = called.public_url.as_deref().map(below);
        // Told this once.
        view["made"] = json!({ "endpoint": id, "path": below(&called.path), "url": url });
    }
    Ok(json(200, &view))
}

fn view(called: &Called, endpoints: &Endpoints) -> Value {
    let now = WallTime::now().unix_seconds().0;
    let at =
        |seconds: u64| WallTime::from_unix(std::time::Duration::from_secs(seconds)).to_string();
    let endpoints = endpoints.all().iter().map(|endpoint| {
        json!({
            "endpoint": endpoint.id,
            "state": endpoint.state(now),
            "made": at(endpoint.made),
            "expires": endpoint.expires.map(at),
            "used": endpoint.used,
            "last_used": endpoint.last_used.map(at),
        })
    });
    json!({ "listener": called.listener, "endpoints": endpoints.collect::<Vec<_>>() })
}
