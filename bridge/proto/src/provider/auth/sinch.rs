//! Sinch's signature of callbacks, made and checked: HMAC-SHA256 over method, path, kind, time and a digest of the body. The digest is
//! MD5, because Sinch says so; to find another body for it is still out of reach, and the key is in the HMAC.

use md5::{Digest as _, Md5};
use subtle::{Choice, ConstantTimeEq};

use super::webhook::fresh;
use super::{Replays, Secret, base64_of, hmac_sha256, opens, refuse};
use crate::UnixSeconds;
use crate::provider::answer::Method;
use crate::provider::{Rejection, Webhook};

/// What an application signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinchSecrets {
    /// Its key, which says who signs.
    pub application: Secret,
    /// Its secrets as Sinch shows them: base64 of the key.
    pub secrets: Vec<Secret>,
}

pub(super) fn check(
    webhook: &Webhook<'_>,
    secrets: &SinchSecrets,
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<(), Rejection> {
    if webhook.method != Method::Post {
        return Err(refuse("Sinch asks by POST, and what a query says would not be signed"));
    }
    let field = webhook
        .header("authorization")
        .ok_or_else(|| refuse("the Authorization header field is missing"))?;
    let credentials = field.trim().split_once(' ');
    let credentials = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("application"));
    let (application, offered) = credentials
        .and_then(|(_, credentials)| credentials.trim().split_once(':'))
        .ok_or_else(|| refuse("the Authorization header field is no signature of Sinch's"))?;
    let offered = base64_of(offered).ok_or_else(|| refuse("the signature is not base64"))?;
    let time = webhook
        .header("x-timestamp")
        .ok_or_else(|| refuse("the X-Timestamp header field is missing"))?;
    let made = iso_8601(time).ok_or_else(|| refuse("the X-Timestamp header field is no time"))?;
    let signed = signed(webhook, time);
    let mut matched = Choice::from(0);
    for key in secrets.secrets.iter().filter_map(|s| s.key().and(base64_of(s.expose()))) {
        let fits = hmac_sha256(&key, signed.as_bytes()).ct_eq(&offered);
        matched |= fits & !Choice::from(u8::from(key.is_empty()));
    }
    matched &= secrets.application.matches(application);
    opens(
        matched,
        "the signature does not match: wrong application key or secret, or the path of the public URL is not exactly what Sinch asks",
    )?;
    let expiry = fresh(made, now)?;
    replays.first_use(&[b"sinch", &offered], now, expiry)?;
    Ok(())
}

fn signed(webhook: &Webhook<'_>, time: &str) -> String {
    let digest = base64_simd::STANDARD.encode_to_string(Md5::digest(webhook.body));
    let kind = webhook.header("content-type").unwrap_or_default();
    let url = webhook.public_url.split('?').next().unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |begin| &rest[begin..]);
    format!("POST\n{digest}\n{kind}\nx-timestamp:{time}\n{path}")
}

/// `2014-09-24T10:59:41Z`, with or without a fraction.
fn iso_8601(text: &str) -> Option<UnixSeconds> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let plausible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !plausible {
        return None;
    }
    // Days since 1970, in years that begin with March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some(UnixSeconds(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Three numbers.
fn three(text: &str, between: char) -> Option<[u64; 3]> {
    let mut numbers = text.split(between).map(|number| {
        let digits = number.len() <= 4 && number.bytes().all(|octet| octet.is_ascii_digit());
        digits.then(|| number.parse().ok()).flatten()
    });
    let three = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(three)
}

/// The value Sinch puts into `Authorization` for a webhook that has its other header fields; for whoever plays Sinch. `None` if the
/// time is missing or the secret is not base64.
#[must_use]
pub fn sinch_signature(
    application: &str,
    secret: &Secret,
    webhook: &Webhook<'_>,
) -> Option<String> {
    let signed = signed(webhook, webhook.header("x-timestamp")?);
    let mac = hmac_sha256(&base64_of(secret.expose())?, signed.as_bytes());
    Some(format!("application {application}:{}", base64_simd::STANDARD.encode_to_string(mac)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_second() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2014-09-24T10:59:41Z", 1_411_556_381),
            ("2014-06-04T13:41:58.4711Z", 1_401_889_318),
            ("2024-02-29T23:59:60Z", 1_709_251_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(iso_8601(text), Some(UnixSeconds(seconds)), "{text}");
        }
        for text in [
            "",
            "Z",
            "2014-09-24",
            "2014-09-24T10:59:41",
            "2014-09-24T10:59Z",
            "2014-13-24T10:59:41Z",
            "1969-12-31T23:59:59Z",
            "2014-09-24T24:59:41Z",
            "+014-09-24T10:59:41Z",
            "20145-09-24T10:59:41Z",
            "2014-09-24T10:59:41:1Z",
        ] {
            assert_eq!(iso_8601(text), None, "{text}");
        }
    }
}
