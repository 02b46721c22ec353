//! Base64 of media payloads, straight into and out of a buffer; knows nothing of what the octets are.

use base64_simd::{STANDARD, STANDARD_NO_PAD};

/// The text is not base64 of the standard alphabet (RFC 4648, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotBase64;

/// Appends the octets of `text`, with or without padding. On error nothing is appended.
pub(crate) fn decode(text: &str, octets: &mut Vec<u8>) -> Result<(), NotBase64> {
    let start = octets.len();
    STANDARD
        .decode_append(text, octets)
        .or_else(|_| {
            octets.truncate(start);
            STANDARD_NO_PAD.decode_append(text, octets)
        })
        .map_err(|_| {
            octets.truncate(start);
            NotBase64
        })
}

/// Appends base64 of `octets`, padded.
pub(crate) fn encode(octets: &[u8], text: &mut Vec<u8>) {
    STANDARD.encode_append(octets, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_may_be_missing_and_errors_leave_nothing() {
        // RFC 4648, 10
        for text in ["Zm8=", "Zm8"] {
            let mut octets = b"x".to_vec();
            decode(text, &mut octets).unwrap();
            assert_eq!(octets, b"xfo");
        }
        for text in ["Zm8*", "Z", "Zm9v\n", "Zm8=Zm8="] {
            let mut octets = b"x".to_vec();
            assert_eq!(decode(text, &mut octets), Err(NotBase64), "{text}");
            assert_eq!(octets, b"x");
        }
    }

    #[test]
    fn encoding_appends_with_padding() {
        let mut text = b"\"".to_vec();
        encode(b"foob", &mut text);
        assert_eq!(text, b"\"Zm9vYg==");
    }
}
