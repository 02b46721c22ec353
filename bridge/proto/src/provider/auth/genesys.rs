//! HTTP message signatures as Genesys AudioHook makes them (draft-ietf-httpbis-message-signatures-11), made and checked. Knows
//! the components that AudioHook signs and no others of the draft.

use subtle::{Choice, ConstantTimeEq};

use super::{Replays, Secret, Used, base64_of, hmac_sha256, opens, refuse};
use crate::UnixSeconds;
use crate::provider::{Rejection, Upgrade};

/// All of these must be signed, in any order; further header fields may be.
const COMPONENTS: [&str; 6] = [
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
];
/// Genesys' own verifier allows for so slow a clock here ...
const FUTURE: u64 = 3;
/// ... and takes a signature for 7 s; that and twice the slack is ours.
const AGE: u64 = 13;
const SHORTEST_NONCE: usize = 22;

pub(super) fn check(
    upgrade: &Upgrade<'_>,
    api_key: &Secret,
    secrets: &[Secret],
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<Used, Rejection> {
    let offered_key = field(upgrade, "x-api-key")
        .ok_or_else(|| refuse("the X-API-KEY header field is missing"))?;
    let input = field(upgrade, "signature-input").ok_or_else(|| {
        refuse(
            "the request is not signed: no Signature-Input (has the integration a client secret?)",
        )
    })?;
    let signatures = field(upgrade, "signature")
        .ok_or_else(|| refuse("the Signature header field is missing"))?;
    let input = Input::parse(&input)
        .ok_or_else(|| refuse("the Signature-Input header field cannot be understood"))?;
    let offered = signature_of(&signatures, input.label)
        .ok_or_else(|| refuse("the Signature header field does not fit the Signature-Input"))?;
    input.covers_enough()?;
    let base = base(upgrade, &input.components, input.params)
        .ok_or_else(|| refuse("a header field that is signed is missing, or not one we know"))?;

    // All of it is computed whatever is wrong, so that time does not tell which part was.
    let right_key = api_key.matches(&offered_key) & api_key.matches(input.key_id);
    let mut matched = Choice::from(0);
    for key in secrets.iter().filter_map(|secret| secret.key().and(base64_of(secret.expose()))) {
        let signed = hmac_sha256(&key, base.as_bytes()).ct_eq(&offered);
        matched |= signed & !Choice::from(u8::from(key.is_empty()));
    }
    if !bool::from(right_key) {
        return Err(refuse("X-API-KEY or `keyid` is not this listener's API key"));
    }
    opens(
        matched,
        "the signature does not match: wrong client secret, or behind a proxy without `public_url`",
    )?;
    let expiry = input.times(now)?;
    replays.first_use(&[b"genesys", input.key_id.as_bytes(), input.nonce.as_bytes()], now, expiry)
}

/// All values of a header field, each trimmed (section 2.1 of the draft).
fn field(upgrade: &Upgrade<'_>, name: &str) -> Option<String> {
    let values = upgrade.headers.iter().filter(|(found, _)| *found == name);
    let values: Vec<_> = values.map(|(_, value)| value.trim()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// What is signed (section 2.3): a line for each component and one for the parameters, as they came.
fn base(upgrade: &Upgrade<'_>, components: &[&str], params: &str) -> Option<String> {
    let mut base = String::new();
    for component in components {
        let value = match *component {
            "@request-target" => upgrade.target.to_owned(),
            "@authority" => authority(upgrade)?,
            derived if derived.starts_with('@') => return None,
            name => field(upgrade, name)?,
        };
        base.push_str(&format!("\"{component}\": {value}\n"));
    }
    Some(format!("{base}\"@signature-params\": {params}"))
}

/// Host and port as dialled: of the public URL, or, without one, of the request, if no proxy changed it.
fn authority(upgrade: &Upgrade<'_>) -> Option<String> {
    let (default_port, authority) = match upgrade.public_url {
        Some(url) => {
            let (scheme, rest) = url.split_once("://")?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (if scheme.eq_ignore_ascii_case("ws") { ":80" } else { ":443" }, &rest[..end])
        }
        // Genesys dials `wss` only.
        None => (":443", upgrade.header("host")?.trim()),
    };
    let authority = authority.to_ascii_lowercase();
    Some(authority.strip_suffix(default_port).map_or_else(|| authority.clone(), str::to_owned))
}

/// The `Signature` of that label: `sig1=:<base64>:`.
fn signature_of(field: &str, label: &str) -> Option<Vec<u8>> {
    let mut members = field.split(',').filter_map(|member| member.trim().split_once('='));
    let value = members.find(|(found, _)| *found == label)?.1;
    base64_of(value.strip_prefix(':')?.strip_suffix(':')?)
}

/// The first member of a `Signature-Input`.
///
/// Read as it is serialised (RFC 8941, 4.1) and no other way, so that what is signed is the very text that came.
#[derive(Debug, PartialEq, Eq, Default)]
struct Input<'a> {
    label: &'a str,
    components: Vec<&'a str>,
    /// The list and its parameters as they came.
    params: &'a str,
    key_id: &'a str,
    nonce: &'a str,
    algorithm: &'a str,
    created: Option<u64>,
    expires: Option<u64>,
}

impl<'a> Input<'a> {
    fn parse(field: &'a str) -> Option<Self> {
        let (label, value) = field.split_once('=')?;
        let (list, mut rest) = value.strip_prefix('(')?.split_once(')')?;
        let mut input = Self { label, ..Self::default() };
        for item in list.split(' ') {
            let component = quoted(item)?;
            if input.components.contains(&component) {
                return None;
            }
            input.components.push(component);
        }
        let mut seen = Vec::new();
        while let Some(parameter) = rest.strip_prefix(';') {
            let (name, value) = parameter.split_once('=')?;
            // No string of ours has an escape, so a quote ends it.
            let end = match value.strip_prefix('"') {
                Some(text) => text.find('"')? + 2,
                None => value.find([';', ',']).unwrap_or(value.len()),
            };
            let (value, after) = value.split_at(end);
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match name {
                "keyid" => input.key_id = quoted(value)?,
                "nonce" => input.nonce = quoted(value)?,
                "alg" => input.algorithm = quoted(value)?,
                "created" => input.created = Some(value.parse().ok()?),
                "expires" => input.expires = Some(value.parse().ok()?),
                // Signed like the rest, and of no meaning to us.
                _ => {}
            }
            rest = after;
        }
        input.params = &value[..value.len() - rest.len()];
        (rest.is_empty() || rest.starts_with(',')).then_some(input)
    }

    fn covers_enough(&self) -> Result<(), Rejection> {
        if COMPONENTS.iter().any(|component| !self.components.contains(component)) {
            return Err(refuse("the signature does not cover all that it must"));
        }
        if self.algorithm != "hmac-sha256" {
            return Err(refuse("the signature is by another algorithm than hmac-sha256"));
        }
        if self.nonce.len() < SHORTEST_NONCE {
            return Err(refuse("the signature's nonce is missing or too short"));
        }
        Ok(())
    }

    /// Checks both times and returns the one from which the signature is refused.
    fn times(&self, now: UnixSeconds) -> Result<UnixSeconds, Rejection> {
        let (Some(created), Some(expires)) = (self.created, self.expires) else {
            return Err(refuse("the signature does not tell when it was made and when it expires"));
        };
        if created > now.0.saturating_add(FUTURE) {
            return Err(refuse("the signature is not valid yet; is this machine's clock slow?"));
        }
        if created.saturating_add(AGE) < now.0 || expires.saturating_add(FUTURE) < now.0 {
            return Err(refuse("the signature has expired; is this machine's clock fast?"));
        }
        Ok(UnixSeconds(created.saturating_add(AGE).min(expires.saturating_add(FUTURE)) + 1))
    }
}

/// A string of RFC 8941 without escapes.
fn quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
    inner.chars().all(plain).then_some(inner)
}

/// What goes into a signature beside the request itself.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The client secret, base64.
    pub secret: &'a Secret,
    /// At least 22 characters, never the same again.
    pub nonce: &'a str,
    /// When it is made.
    pub created: UnixSeconds,
    /// When it expires; Genesys gives it 30 s.
    pub expires: UnixSeconds,
}

/// `Signature-Input` and `Signature` for a request that has all header fields to be signed; for whoever plays Genesys. `None` if
/// one is missing or the secret is not base64.
#[must_use]
pub fn genesys_signature(upgrade: &Upgrade<'_>, signing: &Signing<'_>) -> Option<[String; 2]> {
    let names = COMPONENTS.map(|name| format!("\"{name}\"")).join(" ");
    let params = format!(
        "({names});keyid=\"{}\";nonce=\"{}\";alg=\"hmac-sha256\";created={};expires={}",
        upgrade.header("x-api-key")?.trim(),
        signing.nonce,
        signing.created.0,
        signing.expires.0,
    );
    let base = base(upgrade, &COMPONENTS, &params)?;
    let mac = hmac_sha256(&base64_of(signing.secret.expose())?, base.as_bytes());
    let signature = base64_simd::STANDARD.encode_to_string(mac);
    Some([format!("sig1={params}"), format!("sig1=:{signature}:")])
}
