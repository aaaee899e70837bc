//! Decodes a key once, as its carrier demands, and never cleans it up.

use super::Malformed;

/// The longest key that is handed on, in bytes of UTF-8. Stores end at 1,024; what is a little longer is judged
/// like any other key outside of a function's grammar.
const MAX_KEY_BYTES: usize = 4096;

/// A key as S3 notifications and Batch Operations write it: `+` is a space, then percent-escapes.
///
/// # Errors
/// An escape that is none, or bytes that are no UTF-8: such a key cannot have been sent by a store.
pub(super) fn form_decoded(encoded: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
                let (high, low) = (digit(), digit());
                let value = high.zip(low).and_then(|(h, l)| u8::try_from(h * 16 + l).ok());
                value.ok_or_else(|| {
                    refused(encoded, "has a percent sign that two hexadecimal digits do not follow")
                })?
            }
            byte => byte,
        });
    }
    let key =
        String::from_utf8(bytes).map_err(|_| refused(encoded, "is no UTF-8 once its escapes are decoded"))?;
    raw(&key)
}

/// A key that stands as it is.
///
/// # Errors
/// It is empty or longer than any store's.
pub(super) fn raw(key: &str) -> Result<String, Malformed> {
    if key.is_empty() {
        return Err(Malformed("the record's object key is empty".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(refused(key, "has more than 4,096 bytes"));
    }
    Ok(key.to_owned())
}

fn refused(key: &str, why: &str) -> Malformed {
    let shown: String = key.chars().take(60).collect();
    Malformed(format!("the object key {shown:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    #[test]
    fn a_notifications_key_is_form_decoded() {
        for (encoded, key) in [
            ("red+flower.jpg", "red flower.jpg"),
            ("a%2Bb+%E5%A4%B4.png", "a+b 头.png"),
            ("%2B", "+"),
            ("a//b/../c", "a//b/../c"),
            ("/leading", "/leading"),
            ("%F0%9F%98%80.gif", "😀.gif"),
            ("100%25", "100%"),
        ] {
            assert_eq!(form_decoded(encoded).as_deref(), Ok(key), "{encoded}");
        }
    }

    #[test]
    fn a_key_that_no_store_can_have_sent_is_refused_in_words() {
        for encoded in ["%", "a%4", "%zz", "%ff%fe", "", &"x".repeat(4097)] {
            assert!(form_decoded(encoded).is_err(), "{encoded}");
        }
        assert!(form_decoded(&"x".repeat(4096)).is_ok());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(key in "\\PC{1,200}") {
            prop_assume!(key.len() <= MAX_KEY_BYTES);
            let encoded = utf8_percent_encode(&key, NON_ALPHANUMERIC).to_string().replace("%20", "+");
            prop_assert_eq!(form_decoded(&encoded), Ok(key));
        }

        #[test]
        fn no_key_makes_it_panic(key in ".*") {
            let _ = form_decoded(&key);
        }
    }
}
