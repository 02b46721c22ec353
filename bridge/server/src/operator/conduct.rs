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
    let standing = ordered(&*view.call(name)?, order, is_as_private).await?;
    Ok(json(200, &json!({ "call": name, "private": standing.is_private })))
}

/// Whether a call is private because an operator said so since: one that was private already may have had another limit.
const fn is_as_private(now: &Standing, before: &Standing) -> bool {
    now.privates > before.privates
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use ringback_proto::Instant;
    use ringback_proto::provider::{Message, Options, Upgrade, find};
    use ringback_proto::session::{Action, PrivateBy, Route, Session, SessionConfig};

    use super::*;
    use crate::call::{Seen, Watch as _};
    use crate::registry::Registry;

    /// A call that started, as its session goes on.
    fn started() -> Session {
        let target = "/raw?encoding=l16&rate=8000";
        let upgrade = Upgrade { target, public_url: None, headers: &[] };
        let raw = find("raw").expect("there is one");
        let accepted = raw.accept(&upgrade, &Options::default()).expect("nothing is asked of it");
        let mut config = SessionConfig::new("c1", "raw");
        config.routes = Route::to(Vec::new()).into();
        let mut session = Session::new(Instant::ZERO, config, accepted.protocol);
        session.handle_message(Instant::ZERO, Message::Binary(&[0; 320]));
        session
    }

    /// What its place among the live ones hears of that.
    fn see(call: &LiveCall, session: &mut Session) {
        while let Some(action) = session.poll_action() {
            if let Action::Report(report) = action {
                call.see("c1", Instant::ZERO, &Seen::Report { report: &report, session });
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_private_call_is_answered_for_once_it_has_the_new_limit() {
        let registry = Registry::default();
        let mut entered = registry.enter("c1".into(), "a".into(), None, "raw", Instant::ZERO);
        let (call, mut session) = (entered.call(), started());
        let limit = Some(Duration::from_secs(1));
        let begin = || ordered(&call, Order::BeginPrivate { limit }, is_as_private);
        // A module has it private, and nobody takes the order.
        session.begin_private(Instant::ZERO, PrivateBy::Operator, None);
        see(&call, &mut session);
        assert!(call.standing().borrow().is_private);
        assert_eq!(begin().await.map(|standing| standing.privates).ok(), None, "it does not hold");
        let taking = async {
            for _ in 0..2 {
                let order = poll_fn(|cx| entered.poll_order(cx)).await;
                assert_eq!(order, Order::BeginPrivate { limit });
                session.begin_private(Instant::ZERO, PrivateBy::Operator, limit);
            }
            see(&call, &mut session);
        };
        let (answer, ()) = tokio::join!(begin(), taking);
        assert!(answer.is_ok_and(|standing| standing.is_private));
        session.handle_timeout(Instant::ZERO + Duration::from_secs(1));
        assert!(!session.is_private(), "the new limit held");
    }
}
