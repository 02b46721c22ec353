//! What an operator has a live call do without ending it: private parts, and the caller's consent. Answers once the call has done so.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use ringback_module::message::Consent;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Problem, json};
use super::api::View;
use super::endpoints::parsed;
use crate::registry::{LiveCall, Order, Standing};

/// A call looks at its orders with every frame, and when it is woken.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// It ends by itself after so many seconds.
    limit_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// How that is known.
    #[serde(default)]
    how: String,
}

pub(super) async fn begin_private(
    view: &View<'_>,
    name: &str,
    body: &Value,
) -> Result<Response<Body>, Problem> {
    let Part { limit_seconds } = parsed(body)?;
    if limit_seconds == Some(0) {
        let message = "`limit_seconds` is at least 1: /private/end ends what has begun";
        return Err(Problem::new(400, "bad_body", message));
    }
    let order = Order::BeginPrivate { limit: limit_seconds.map(Duration::from_secs) };
    let standing = ordered(&*view.call(name)?, order, |now, _| now.is_private).await?;
    Ok(json(200, &json!({ "call": name, "private": standing.is_private })))
}

pub(super) async fn end_private(view: &View<'_>, name: &str) -> Result<Response<Body>, Problem> {
    let call = view.call(name)?;
    let standing = ordered(&call, Order::EndPrivate, |now, _| !now.is_private).await?;
    Ok(json(200, &json!({ "call": name, "private": standing.is_private })))
}

pub(super) async fn consent(
    view: &View<'_>,
    name: &str,
    given: bool,
    body: &Value,
) -> Result<Response<Body>, Problem> {
    let Told { how } = parsed(body)?;
    // Whoever says so answers for it, where nothing else is said.
    let how = if how.is_empty() { format!("told by {}", view.who.name) } else { how };
    let order = Order::Consent(Consent { given, how });
    let told = |now: &Standing, before: &Standing| now.consents > before.consents;
    let standing = ordered(&*view.call(name)?, order, told).await?;
    Ok(json(200, &json!({ "call": name, "consent": standing.consent })))
}

/// Gives the order, and waits until what was wanted holds.
async fn ordered(
    call: &LiveCall,
    order: Order,
    holds: impl Fn(&Standing, &Standing) -> bool,
) -> Result<Standing, Problem> {
    if call.state() != "live" {
        let message = "the call has not started, has no modules here, or ends";
        return Err(Problem::new(409, "not_live", message));
    }
    let mut standing = call.standing();
    let before = *standing.borrow_and_update();
    if !call.order(order) {
        return Err(Problem::busy());
    }
    let held = tokio::time::timeout(PATIENCE, standing.wait_for(|now| holds(now, &before))).await;
    match held {
        Ok(Ok(standing)) => Ok(*standing),
        // It ended meanwhile, or does not get to it.
        _ => Err(Problem::new(409, "not_taken", "the call has not taken this up")),
    }
}
