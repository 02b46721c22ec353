//! Signatures of webhooks as the Standard Webhooks specification has them (github.com/standard-webhooks/standard-webhooks, "Signature
//! scheme"): HMAC-SHA256 over id, time and body. Verifies nothing.

use std::fmt;

use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use ringback_proto::UnixSeconds;

/// Octets that a key must have, as the specification asks for.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that webhooks are signed with. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// From its text: `whsec_` and 24 to 64 octets in base64; the prefix may be left out.
    ///
    /// # Errors
    /// What is wrong with it, without saying what it is.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const HELP: &str = "is no signing secret: `whsec_` and 24 to 64 octets in base64, as `echo whsec_$(openssl rand -base64 32)` makes";
        let base64 = text.strip_prefix("whsec_").unwrap_or(text);
        let octets = STANDARD.decode_to_vec(base64).map_err(|_| HELP)?;
        if LENGTH.contains(&octets.len()) { Ok(Self(octets)) } else { Err(HELP) }
    }

    /// The signature of a body that is sent at `at` under the name `id`.
    #[must_use]
    pub fn sign(&self, id: &str, at: UnixSeconds, body: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [id, ".", &at.0.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode_to_string(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specifications_own_libraries() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let key = SigningKey::parse(secret).unwrap();
        let at = UnixSeconds(1_614_265_330);
        let body = "{\"test\": 2432232314}";
        let signed = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body), signed);
        assert_eq!(SigningKey::parse(&secret[6..]), Ok(key.clone()), "the prefix may be left out");
        for (id, at, body) in [
            ("msg_p5jXN8AQM9LWM0D4loKWxJeK", at, body),
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", UnixSeconds(1_614_265_331), body),
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", at, "{\"test\": 2432232315}"),
        ] {
            assert_ne!(key.sign(id, at, body), signed);
        }
    }

    #[test]
    fn keys_are_long_enough_and_never_printed() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{key:?}"), "[redacted]");
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all, but long enough"] {
            let told = SigningKey::parse(wrong).unwrap_err();
            assert!(told.contains("whsec_") && !told.contains("long enough"), "{told}");
        }
    }
}
