//! How the operator's side answers: JSON, the one form of all refusals, and the fields that keep browsers from misuse. Decides nothing.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// Why something is not done, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// HTTP status.
    pub(super) status: u16,
    /// For programs.
    pub(super) error: &'static str,
    /// For people.
    pub(super) message: String,
    /// Methods that there are.
    pub(super) allow: Option<String>,
    /// Asked again before this, it is not done either.
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: u16, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), allow: None, retry_after: None }
    }

    /// There is none, or it is none of yours: nobody is told which.
    pub(super) fn not_found() -> Self {
        Self::new(404, "not_found", "there is no such thing here")
    }

    /// The call takes no more orders.
    pub(super) fn busy() -> Self {
        Self::new(409, "busy", "the call has more orders than it takes")
    }

    pub(super) fn method(allowed: &[&str]) -> Self {
        let allow = allowed.join(", ");
        let message = format!("this is asked with {allow}");
        Self { allow: Some(allow), ..Self::new(405, "method_not_allowed", message) }
    }

    pub(super) fn later(error: &'static str, message: impl Into<String>, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(503, error, message) }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({ "error": self.error, "message": self.message });
        let mut response = json(self.status, &body);
        let headers = response.headers_mut();
        if self.status == 503 {
            headers.insert("x-ringback-reason", HeaderValue::from_static(self.error));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(after) = self.retry_after {
            // Rounded up: a second early is too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// An answer of JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> Response<Body> {
    // What we make has no keys that are not text, the one thing that could fail.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text_of(status, "application/json", text)
}

/// An answer of text.
pub(super) fn text_of(status: u16, kind: &'static str, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What every answer says to browsers: take it for nothing else, run nothing, show it in no frame, keep it nowhere.
const HARDENED: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::VARY, HeaderValue::from_static("authorization, origin")),
];

pub(super) fn harden(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().extend(HARDENED);
    response
}
