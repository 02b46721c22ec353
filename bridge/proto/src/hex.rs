//! Octets as hexadecimal digits and back. Knows no signs between them.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two small digits an octet.
pub(crate) fn hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// The octets again; `None` where there is anything but pairs of digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let [high, low] = *pair else { return None };
        u8::try_from(digit(high)? * 16 + digit(low)?).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_come_back_from_their_digits() {
        let octets: Vec<u8> = (0..=255).collect();
        let text = hex(&octets);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"), "{text}");
        assert_eq!(unhex(&text), Some(octets));
        assert_eq!(unhex("0A"), Some(vec![10]));
        for none in ["0", "0g", "é"] {
            assert_eq!(unhex(none), None, "{none}");
        }
    }
}
