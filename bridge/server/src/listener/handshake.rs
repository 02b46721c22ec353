//! The opening handshake of RFC 6455, section 4.2, checked strictly and refused helpfully. Knows nothing of providers.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header,
};

use super::Refusal;
use crate::socket::accept_key;

/// Checks that a request is a proper upgrade and gives the value of `Sec-WebSocket-Accept`.
pub(crate) fn check(request: &Parts, origins: &[String]) -> Result<String, Refusal> {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Err(Refusal::new(405, "a stream is opened with GET"));
    }
    if request.version != Version::HTTP_11 {
        return Err(Refusal::new(400, "a stream needs HTTP/1.1"));
    }
    let host = single(headers, &header::HOST)?;
    if Authority::try_from(host).map_or(true, |authority| authority.host().is_empty()) {
        return Err(Refusal::new(400, "`Host` must name this server"));
    }
    if has_body(headers) {
        // A proxy in front would count its octets, and we would take them for frames.
        return Err(Refusal::new(400, "a request for a stream has no body"));
    }
    if !has_token(headers, header::UPGRADE, "websocket") {
        return Err(Refusal::new(426, "this is a WebSocket endpoint: send `Upgrade: websocket`"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::new(400, "`Connection` must contain `Upgrade`"));
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION)? != "13" {
        return Err(Refusal::new(426, "only version 13 of the WebSocket protocol is spoken"));
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY)?;
    if !is_base64_of_16_octets(key) {
        return Err(Refusal::new(400, "`Sec-WebSocket-Key` must be 16 octets in base64"));
    }
    if !offers_are_well_formed(headers) {
        let help =
            "`Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions` are lists of names, each once";
        return Err(Refusal::new(400, help));
    }
    check_origin(headers, host, origins)?;
    Ok(accept_key(key.as_bytes()))
}

/// Whether a request announces octets behind its head.
fn has_body(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    headers.contains_key(header::TRANSFER_ENCODING)
        || lengths.into_iter().any(|length| length != "0")
}

/// Whether what a client offers to speak follows the grammar (RFC 6455, 4.3). What is none of it must not be guessed at; extensions
/// that are well-formed are not taken up.
fn offers_are_well_formed(headers: &HeaderMap) -> bool {
    let list = |name: HeaderName| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        (!values.is_empty()).then(|| {
            let values = values.iter().map(|value| value.to_str().unwrap_or("\0"));
            values.collect::<Vec<_>>().join(",")
        })
    };
    let protocols = list(header::SEC_WEBSOCKET_PROTOCOL).is_none_or(|list| {
        let names: Vec<_> = list.split(',').map(str::trim).collect();
        let is_once = |name: &&str| names.iter().filter(|other| *other == name).count() == 1;
        names.iter().all(|name| is_token(name) && is_once(name))
    });
    let extensions =
        list(header::SEC_WEBSOCKET_EXTENSIONS).is_none_or(|list| list.split(',').all(is_extension));
    protocols && extensions
}

/// A name and its parameters: `permessage-deflate; client_max_window_bits=15`.
fn is_extension(text: &str) -> bool {
    let mut parts = text.split(';').map(str::trim);
    parts.next().is_some_and(is_token)
        && parts.all(|parameter| match parameter.split_once('=') {
            None => is_token(parameter),
            Some((name, value)) => {
                let value = value.trim();
                let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                is_token(name.trim()) && is_token(unquoted.unwrap_or(value))
            }
        })
}

/// Whether a text is a word of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet))
}

/// The value of a field that must be there exactly once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Refusal> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        // A missing version is a version we do not speak; the answer tells which one we do.
        let status = if *name == header::SEC_WEBSOCKET_VERSION { 426 } else { 400 };
        return Err(Refusal::new(status, format!("`{name}` must be there exactly once")));
    };
    value.to_str().map_err(|_| Refusal::new(400, format!("`{name}` is not plain ASCII")))
}

/// Whether the comma-separated list of a field has a token, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// 16 octets make 22 digits of base64 and two signs of padding.
fn is_base64_of_16_octets(key: &str) -> bool {
    let digit = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(digit)
}

/// Lets through whoever sends no `Origin` (every provider), sends our own name (some client libraries), or is on the list.
pub(crate) fn check_origin(
    headers: &HeaderMap,
    host: &str,
    origins: &[String],
) -> Result<(), Refusal> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = single(headers, &header::ORIGIN)?;
    let name = origin.split_once("://").map_or(origin, |(_, name)| name);
    let listed = origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
    if listed || name.eq_ignore_ascii_case(host) {
        return Ok(());
    }
    let public =
        "this web page may not open streams here; list its origin under `origins` of the listener";
    let reason = format!("origin {origin:?} is not in `origins`");
    Err(Refusal { reason, ..Refusal::new(403, public) })
}

/// The answer to an accepted upgrade. `subprotocol` must be a valid field value.
pub(crate) fn switch(accept: &str, subprotocol: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_base64_of_16_octets() {
        for key in
            ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w=="]
        {
            assert!(is_base64_of_16_octets(key), "{key}");
        }
        for key in [
            "",
            "AAA=",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "!GhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_base64_of_16_octets(key), "{key}");
        }
    }
}
