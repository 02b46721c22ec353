//! RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2): verified with public keys and, for whoever plays an issuer, made with private
//! ones. Makes no keys and reads no format of them.

use std::fmt;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use sha2::{Digest as _, Sha256};

/// What stands before the digest (RFC 8017, 9.2, note 1).
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    modulus: BoxedMontyParams,
    exponent: u32,
    octets: usize,
}

impl PublicKey {
    /// A key of 2048, 3072 or 4096 bits with an odd exponent, which every key in use has; others are `None`.
    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let octets = modulus.len();
        let sized = matches!(octets, 256 | 384 | 512) && modulus[0] >= 0x80;
        let exponent = exponent
            .iter()
            .try_fold(0_u32, |sum, octet| Some(sum.checked_mul(256)? + u32::from(*octet)))
            .filter(|exponent| *exponent >= 3 && exponent % 2 == 1)?;
        if !sized {
            return None;
        }
        let modulus = Option::from(Odd::new(BoxedUint::from_be_slice_vartime(modulus)))?;
        Some(Self { modulus: BoxedMontyParams::new_vartime(modulus), exponent, octets })
    }

    /// Whether the private half signed `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != self.octets {
            return false;
        }
        let signature = BoxedUint::from_be_slice_vartime(signature);
        if signature >= *self.modulus.modulus().as_ref() {
            return false;
        }
        // Nothing is secret here, so nothing needs constant time.
        let power = self.power(signature, &BoxedUint::from(self.exponent), 32);
        // Made whole and compared whole: what is parsed instead can be forged (Bleichenbacher, 2006).
        *power == *self.encoded(message)
    }

    /// `base` to the power of `exponent`, as long as the key; `bits` of the exponent count, and only they can be told from the time.
    fn power(&self, base: BoxedUint, exponent: &BoxedUint, bits: u32) -> Box<[u8]> {
        let form = BoxedMontyForm::new(base, &self.modulus);
        form.pow_bounded_exp(exponent, bits).retrieve().to_be_bytes()
    }

    /// EMSA-PKCS1-v1_5 (RFC 8017, 9.2): `00 01 ff ... ff 00 DigestInfo digest`.
    fn encoded(&self, message: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(message);
        let tail = DIGEST_INFO.len() + digest.len();
        let mut encoded = vec![0xff; self.octets];
        encoded[..2].copy_from_slice(&[0, 1]);
        encoded[self.octets - tail - 1] = 0;
        encoded[self.octets - tail..][..DIGEST_INFO.len()].copy_from_slice(&DIGEST_INFO);
        encoded[self.octets - digest.len()..].copy_from_slice(&digest);
        encoded
    }
}

/// Both halves of a key. Prints as nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PrivateKey {
    public: PublicKey,
    exponent: BoxedUint,
}

impl PrivateKey {
    /// `None` if the halves do not belong together: a signature by such a key would open nothing and say nothing about why.
    pub(super) fn new(public: PublicKey, exponent: &[u8]) -> Option<Self> {
        let bits = u32::try_from(public.octets * 8).ok()?;
        let exponent = BoxedUint::from_be_slice(exponent, bits).ok()?;
        let key = Self { public, exponent };
        key.public.signed(b"", &key.sign(b"")).then_some(key)
    }

    /// The signature of `message`, as long as the key. Takes the same time for every exponent.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let encoded = BoxedUint::from_be_slice_vartime(&self.public.encoded(message));
        self.public.power(encoded, &self.exponent, self.exponent.bits_precision()).into_vec()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_sound_size_are_taken() {
        let mut modulus = vec![0xff; 256];
        assert!(PublicKey::new(&modulus, &[1, 0, 1]).is_some());
        for exponent in [&[][..], &[1], &[0, 2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert!(PublicKey::new(&modulus, exponent).is_none(), "{exponent:?}");
        }
        assert!(PublicKey::new(&modulus[1..], &[3]).is_none(), "an odd size");
        assert!(PublicKey::new(&[0xff; 128], &[3]).is_none(), "1024 bits");
        modulus[0] = 0x7f;
        assert!(PublicKey::new(&modulus, &[3]).is_none(), "a leading zero");
        modulus[0] = 0xff;
        modulus[255] = 0xfe;
        assert!(PublicKey::new(&modulus, &[3]).is_none(), "an even modulus");
    }

    #[test]
    fn signatures_of_no_key_are_refused_whatever_their_size() {
        let key = PublicKey::new(&[0xff; 256], &[1, 0, 1]).unwrap();
        for length in [0, 1, 255, 256, 257] {
            for octet in [0, 1, 0xfe, 0xff] {
                assert!(!key.signed(b"message", &vec![octet; length]), "{length} of {octet}");
            }
        }
    }
}
