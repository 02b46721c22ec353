//! `GET /events`: the event stream over HTTP, as Server-Sent Events (WHATWG HTML, section 9.2). Who may listen is the listener's part.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Query;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures_util::stream::unfold;
use serde::Deserialize;

use super::Events;
use crate::listener::EVENTS_PATH;

/// What a listener may ask for.
#[derive(Deserialize)]
struct Which {
    /// Only this call, by our name or the provider's.
    call: Option<String>,
}

/// The route of `events`. A comment every 15 s keeps proxies awake and finds listeners that are gone.
pub(crate) fn routes(events: Events) -> Router {
    let answer = move |Query(Which { call }): Query<Which>| {
        let lines = unfold(events.subscribe(call), |mut subscription| async move {
            let json = subscription.next().await?;
            Some((Ok::<_, Infallible>(Event::default().data(json)), subscription))
        });
        std::future::ready(Sse::new(lines).keep_alive(KeepAlive::new()))
    };
    Router::new().route(EVENTS_PATH, get(answer))
}
