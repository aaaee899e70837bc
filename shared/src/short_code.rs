//! The 8-character code of a content, and the chain of codes after a collision.

use std::fmt;
use std::str::FromStr;

use base32::Alphabet;
use md5::{Digest, Md5};
use serde::Serialize;

/// Characters of a code.
const LENGTH: usize = 8;
/// Bytes of a code: 40 bits.
const BYTES: usize = 5;

/// Forty bits, written as eight characters of Crockford's base32 in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortCode([u8; BYTES]);

impl ShortCode {
    /// The `n`-th code of the content with this MD5: the digest's first five bytes for 0, those of
    /// MD5(digest ‖ n) after `n` collisions.
    pub fn of_digest(digest: &[u8; 16], n: u8) -> Self {
        let hashed: [u8; 16] = match n {
            0 => *digest,
            _ => Md5::new().chain_update(digest).chain_update([n]).finalize().into(),
        };
        let mut bits = [0; BYTES];
        bits.copy_from_slice(&hashed[..BYTES]);
        Self(bits)
    }
}

impl From<ShortCode> for u64 {
    /// The forty bits as a number.
    fn from(code: ShortCode) -> Self {
        code.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }
}

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a short code has 8 letters and digits without u")]
pub struct NoShortCode;

impl FromStr for ShortCode {
    type Err = NoShortCode;

    /// Reads a code as people copy it: case does not matter, `i` and `l` are 1, `o` is 0.
    fn from_str(text: &str) -> Result<Self, NoShortCode> {
        // The decoder is lenient about length and about anything that it does not know.
        if text.len() != LENGTH || !text.bytes().all(|b| b.is_ascii_alphanumeric() && !b"uU".contains(&b)) {
            return Err(NoShortCode);
        }
        let decoded = base32::decode(Alphabet::Crockford, &text.to_ascii_uppercase()).ok_or(NoShortCode)?;
        decoded.try_into().map(Self).map_err(|_| NoShortCode)
    }
}

impl fmt::Display for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(Alphabet::Crockford, &self.0).to_ascii_lowercase())
    }
}

impl Serialize for ShortCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    use crate::object_ref::ETag;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/fixtures/vectors/short_code.json")).unwrap()
    }

    #[test]
    fn codes_are_those_of_the_vectors() {
        let vectors = vectors();
        for vector in vectors["codes"].as_array().unwrap() {
            let digest: [u8; 16] = hex::decode(vector["md5"].as_str().unwrap()).unwrap().try_into().unwrap();
            if let Some(content) = vector["content_hex"].as_str() {
                let hashed: [u8; 16] = Md5::digest(hex::decode(content).unwrap()).into();
                assert_eq!(hashed, digest, "{vector}");
            }
            if let Some(e_tag) = vector["etag"].as_str() {
                assert_eq!(ETag::parse(e_tag).and_then(|tag| tag.md5_hint()), Some(digest), "{vector}");
            }
            for (n, code) in (0..).zip(vector["codes"].as_array().unwrap()) {
                assert_eq!(ShortCode::of_digest(&digest, n).to_string(), code.as_str().unwrap(), "n = {n}");
            }
        }
    }

    #[test]
    fn parsing_is_lenient_about_what_people_confuse_and_about_nothing_else() {
        let vectors = vectors();
        for vector in vectors["parse"].as_array().unwrap() {
            let code: ShortCode = vector["text"].as_str().unwrap().parse().unwrap();
            assert_eq!(code.to_string(), vector["reads_as"].as_str().unwrap());
        }
        for text in vectors["invalid"].as_array().unwrap() {
            assert_eq!(text.as_str().unwrap().parse::<ShortCode>(), Err(NoShortCode), "{text}");
        }
        for tag in vectors["etags_without_md5"].as_array().unwrap() {
            assert_eq!(ETag::parse(tag.as_str().unwrap()).and_then(|tag| tag.md5_hint()), None, "{tag}");
        }
    }

    #[test]
    fn a_code_is_a_number_of_forty_bits() {
        let code =
            ShortCode::of_digest(&[0x01, 0x02, 0x03, 0x04, 0x05, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 0);
        assert_eq!(u64::from(code), 0x01_0203_0405);
    }

    #[test]
    fn contents_that_collide_once_part_at_the_next_code() {
        let vectors = vectors();
        let collision = &vectors["collision"];
        for (content, next) in
            collision["contents"].as_array().unwrap().iter().zip(collision["code_1"].as_array().unwrap())
        {
            let digest = Md5::digest(content.as_str().unwrap()).into();
            assert_eq!(ShortCode::of_digest(&digest, 0).to_string(), collision["code_0"].as_str().unwrap());
            assert_eq!(ShortCode::of_digest(&digest, 1).to_string(), next.as_str().unwrap());
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: [u8; 5], upper: bool) {
            let code = ShortCode(bits);
            let text = code.to_string();
            prop_assert_eq!(text.len(), LENGTH);
            let text = if upper { text.to_ascii_uppercase() } else { text };
            prop_assert_eq!(text.parse::<ShortCode>(), Ok(code));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".*") {
            let _ = text.parse::<ShortCode>();
        }
    }
}
