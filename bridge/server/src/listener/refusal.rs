//! No to a stream, as HTTP says it: what the peer is told, what machines read, and what only the log keeps. Decides nothing.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use ringback_proto::provider::Rejection;

use crate::tenants::Quota;

/// The field in which a 503 says in one word what there is too little of: `x-ringback-reason: calls`.
pub const REASON: HeaderName = HeaderName::from_static("x-ringback-reason");

/// What there is too little of for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Shortage {
    /// No new calls are taken: the bridge ends.
    Draining,
    /// As many connections as allowed are open.
    Connections,
    /// As many connections of one address as allowed are open.
    Address,
    /// As many calls as allowed are open.
    Calls,
    /// As many calls as the listener may have are open.
    ListenerCalls,
    /// The tenant has as many calls as it may.
    TenantCalls,
    /// As many calls of the tenant's have begun within a second as may.
    TenantSetups,
    /// A thread that serves calls comes too late to them.
    Lag,
    /// Little memory is left.
    Memory,
    /// Few descriptors are left: connections, files, pipes.
    Descriptors,
    /// None of the keys of a token's issuer could be read.
    Keys,
    /// Too much is posted about one call at a time.
    Posts,
}

impl Shortage {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::Draining,
        Self::Connections,
        Self::Address,
        Self::Calls,
        Self::ListenerCalls,
        Self::TenantCalls,
        Self::TenantSetups,
        Self::Lag,
        Self::Memory,
        Self::Descriptors,
        Self::Keys,
        Self::Posts,
    ];

    /// In a word, for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Calls => "calls",
            Self::ListenerCalls => "listener_calls",
            Self::TenantCalls => Quota::Calls.name(),
            Self::TenantSetups => Quota::Setups.name(),
            Self::Lag => "lag",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Keys => "keys",
            Self::Posts => "posts",
        }
    }
}

/// No to a stream. What the peer is told and what the log keeps are different strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status of the answer, 400 to 599. 401, 405, 426 and 503 bring their header fields with them.
    pub status: u16,
    /// What the peer is told.
    pub public: String,
    /// What the log keeps.
    pub reason: String,
    /// What machines are told, in [`REASON`].
    pub code: Option<&'static str>,
    /// Whether [`super::Streams::reconsider`] may find a reason to let it in after all.
    pub may_change: bool,
}

impl Refusal {
    /// A refusal that has nothing to hide.
    pub fn new(status: u16, public: impl Into<String>) -> Self {
        let public = public.into();
        Self { status, reason: public.clone(), public, code: None, may_change: false }
    }

    /// 503: the peer may come back later.
    pub fn overloaded(shortage: Shortage, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            code: Some(shortage.name()),
            ..Self::new(503, "no capacity now, try again later")
        }
    }

    pub(crate) fn into_response(self, retry_after: Duration) -> Response<Body> {
        let mut response = Response::new(Body::from(self.public + "\n"));
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self.status {
            401 => {
                let basic = HeaderValue::from_static("Basic realm=\"ringback\"");
                headers.append(header::WWW_AUTHENTICATE, basic);
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            405 => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            426 => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            503 => {
                headers.insert(header::RETRY_AFTER, retry_after.as_secs().into());
            }
            _ => {}
        }
        if let Some(code) = self.code {
            headers.insert(REASON, HeaderValue::from_static(code));
        }
        response
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self {
            reason: rejection.to_string(),
            may_change: rejection == Rejection::UnknownKey,
            ..Self::new(rejection.status(), rejection.public())
        }
    }
}
