//! Fixed credentials, wherever a provider can put one: header fields, subprotocol, query, path. Verifies no signature.

use subtle::ConstantTimeEq;

use super::{Grant, Secret, TWICE, any, base64_of, refuse};
use crate::provider::{Rejection, Upgrade};

/// How a subprotocol begins that is a bearer token: the one place of an upgrade that a browser lets its pages fill in.
const SUBPROTOCOL: &str = "Bearer-";

/// A bearer token and what to answer it with.
pub(super) fn bearer_token<'a>(upgrade: &'a Upgrade<'_>) -> Result<(&'a str, Grant), Rejection> {
    if upgrade.header("authorization").is_some() {
        return Ok((authorization(upgrade, "bearer")?, Grant::default()));
    }
    let mut offered = upgrade.subprotocols().filter(|name| name.starts_with(SUBPROTOCOL));
    match (offered.next(), offered.next()) {
        (_, Some(_)) => Err(refuse(TWICE)),
        (Some(name), None) => Ok((
            &name[SUBPROTOCOL.len()..],
            Grant { subprotocol: Some(Secret::from(name)), ..Grant::default() },
        )),
        (None, None) => {
            Err(refuse("the Authorization header field is missing, and so is a Bearer subprotocol"))
        }
    }
}

pub(super) fn bearer(upgrade: &Upgrade<'_>, tokens: &[Secret]) -> Result<Grant, Rejection> {
    let (token, grant) = bearer_token(upgrade)?;
    any(tokens, token, "the bearer token is not one of this listener's")?;
    Ok(grant)
}

/// The credentials of an `Authorization` field of this scheme (RFC 9110, 11.6.2; schemes have no case).
fn authorization<'a>(upgrade: &'a Upgrade<'_>, scheme: &str) -> Result<&'a str, Rejection> {
    let field = upgrade
        .header("authorization")
        .ok_or_else(|| refuse("the Authorization header field is missing"))?;
    match field.trim().split_once(' ') {
        Some((found, credentials)) if found.eq_ignore_ascii_case(scheme) => Ok(credentials.trim()),
        _ => Err(refuse("the Authorization header field is of another scheme")),
    }
}

pub(super) fn basic(
    upgrade: &Upgrade<'_>,
    user: &str,
    passwords: &[Secret],
) -> Result<(), Rejection> {
    const WRONG: &str = "user or password is wrong";
    let credentials = authorization(upgrade, "basic")?;
    let decoded =
        base64_of(credentials).ok_or_else(|| refuse("the Basic credentials are not base64"))?;
    let decoded =
        String::from_utf8(decoded).map_err(|_| refuse("the Basic credentials are not UTF-8"))?;
    let (offered, password) =
        decoded.split_once(':').ok_or_else(|| refuse("the Basic credentials lack a colon"))?;
    let right_user = bool::from(user.as_bytes().ct_eq(offered.as_bytes()));
    // The password is compared in any case, so that a wrong user takes as long as a wrong password.
    let right_password = any(passwords, password, WRONG);
    if right_user { right_password } else { Err(refuse(WRONG)) }
}

pub(super) fn header(
    upgrade: &Upgrade<'_>,
    name: &str,
    values: &[Secret],
) -> Result<(), Rejection> {
    let value = upgrade
        .header(name)
        .ok_or_else(|| refuse("the header field with the credential is missing"))?;
    any(values, value, "the credential in the header field is wrong")
}

pub(super) fn query(upgrade: &Upgrade<'_>, name: &str, values: &[Secret]) -> Result<(), Rejection> {
    let mut values_of = upgrade.query_pairs().filter(|(found, _)| found == name);
    let (_, value) = values_of
        .next()
        .ok_or_else(|| refuse("the query parameter with the credential is missing"))?;
    if values_of.next().is_some() {
        return Err(refuse(TWICE));
    }
    any(values, &value, "the credential in the query is wrong")
}

pub(super) fn path(upgrade: &Upgrade<'_>, tokens: &[Secret]) -> Result<(), Rejection> {
    let path = upgrade.path().trim_end_matches('/');
    let segment = path.rsplit('/').next().unwrap_or_default();
    any(tokens, segment, "the last segment of the path is not this listener's token")
}
