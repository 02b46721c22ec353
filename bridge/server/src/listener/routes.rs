//! The plain HTTP side: is the process alive, does it take calls, what are its figures. Nothing about single calls.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::shutdown::Shutdown;
use crate::telemetry::METRICS;

/// Paths that no listener can have.
pub const RESERVED_PATHS: [&str; 4] = ["/healthz", "/readyz", METRICS_PATH, EVENTS_PATH];
pub(super) const METRICS_PATH: &str = "/metrics";
/// Served by [`crate::events`], which are about single calls; who may read it is decided where requests are answered.
pub(crate) const EVENTS_PATH: &str = "/events";

/// Liveness says that the process answers at all, and nothing about load: a supervisor that restarts a busy bridge would cut
/// good calls. Readiness says whether new calls are taken.
pub(super) fn router(shutdown: Shutdown, retry_after: Duration) -> Router {
    let ready = move || {
        let answer = if shutdown.is_draining() {
            let retry_after = [(header::RETRY_AFTER, retry_after.as_secs().to_string())];
            (StatusCode::SERVICE_UNAVAILABLE, retry_after, "draining\n").into_response()
        } else {
            "ready\n".into_response()
        };
        std::future::ready(answer)
    };
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", get(ready))
        .route(METRICS_PATH, get(|| std::future::ready(metrics())))
        .fallback(|| std::future::ready(not_found()))
}

fn metrics() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, METRICS.exposition()).into_response()
}

pub(super) fn not_found() -> Response {
    let help = "nothing here; streams are taken at the `path` of each [[listener]]\n";
    (StatusCode::NOT_FOUND, help).into_response()
}
