//! The plain HTTP side: is the process alive, does it take calls, what are its figures. Nothing about single calls.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Readiness;
use crate::shutdown::Shutdown;
use crate::telemetry::METRICS;

/// Paths that no listener can have.
pub const RESERVED_PATHS: [&str; 5] =
    ["/healthz", "/readyz", METRICS_PATH, EVENTS_PATH, WORKERS_PATH];
pub(super) const METRICS_PATH: &str = "/metrics";
/// Served by [`crate::events`], which are about single calls; who may read it is decided where requests are answered.
pub(crate) const EVENTS_PATH: &str = "/events";
/// Which modules have dialled in, for whoever may see the figures.
pub(crate) const WORKERS_PATH: &str = "/workers";

/// Liveness says that the process answers at all, and nothing about load: a supervisor that restarts a busy bridge would cut
/// good calls. Readiness says whether new calls are taken, and what is not as it should be, a line for each.
pub(super) fn router(
    shutdown: Shutdown,
    retry_after: Duration,
    readiness: impl Fn() -> Readiness + Clone + Send + Sync + 'static,
) -> Router {
    let ready = move || {
        let Readiness { waits, busy, mut lines } = readiness();
        let word = match (shutdown.is_draining(), waits, busy) {
            (true, ..) => "draining",
            (_, true, _) => "starting",
            (_, _, true) => "busy",
            _ => "ready",
        };
        let is_ready = word == "ready";
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        lines.insert(0, word.into());
        let text = lines.join("\n") + "\n";
        let retry_after = [(header::RETRY_AFTER, retry_after.as_secs().to_string())];
        std::future::ready(if is_ready {
            text.into_response()
        } else {
            (status, retry_after, text).into_response()
        })
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

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower_service::Service as _;

    use super::*;

    async fn asked(shutdown: &Shutdown, readiness: Readiness) -> (u16, bool, String) {
        let mut router =
            router(shutdown.clone(), Duration::from_secs(5), move || readiness.clone());
        let request = Request::get("/readyz").body(Body::empty()).unwrap();
        let answer = router.call(request).await.unwrap();
        let (status, is_for_later) =
            (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER));
        let body = to_bytes(answer.into_body(), 1024).await.unwrap();
        (status, is_for_later, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_tells_what_is_not_there_that_should_be() {
        let shutdown = Shutdown::new();
        let lacking =
            |waits| Readiness { waits, lines: vec!["0 of 2".into()], ..Readiness::default() };
        let busy = Readiness { busy: true, lines: vec!["lag".into()], ..Readiness::default() };
        let (all, starting) = (Readiness::default(), lacking(true));
        assert_eq!(asked(&shutdown, all).await, (200, false, "ready\n".into()));
        let answer = asked(&shutdown, starting.clone()).await;
        assert_eq!(answer, (503, true, "starting\n0 of 2\n".into()));
        let answer = asked(&shutdown, lacking(false)).await;
        assert_eq!(answer, (200, false, "ready\n0 of 2\n".into()));
        assert_eq!(asked(&shutdown, busy).await, (503, true, "busy\nlag\n".into()));
        shutdown.drain();
        let answer = asked(&shutdown, starting).await;
        assert_eq!(answer, (503, true, "draining\n0 of 2\n".into()));
    }
}
