//! Where a rejected upload goes, and what its copy says about it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use shared::object_ref::{ETag, ObjectRef};
use shared::short_code::ShortCode;
use shared::store::{Metadata, PRODUCED_BY};

use crate::key::MAX_KEY_BYTES;

/// The most that one request copies, in bytes.
pub const MAX_COPY_BYTES: u64 = 5 << 30;

/// The most bytes of a percent-encoded key that fit into metadata beside everything else.
const MAX_SOURCE_KEY: usize = 1400;

/// What need not be escaped (RFC 3986, unreserved), and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The key of the copy: `{bucket}/{key}.{e_tag}`. Where that is longer than a key may be, the end of the key gives
/// way to the short code of the whole; the copy's metadata has all of it.
pub fn key_of(source: &ObjectRef, e_tag: &ETag) -> String {
    let ObjectRef { bucket, key, .. } = source;
    let whole = format!("{bucket}/{key}.{e_tag}");
    if whole.len() <= MAX_KEY_BYTES {
        return whole;
    }
    let code = ShortCode::of_digest(&Md5::digest(key).into(), 0);
    let kept = (key.len() - (whole.len() - MAX_KEY_BYTES)).saturating_sub("~00000000".len());
    let kept = (0..=kept).rev().find(|at| key.is_char_boundary(*at)).unwrap_or_default();
    format!("{bucket}/{}~{code}.{e_tag}", &key[..kept])
}

/// The metadata of the copy. Nothing of the upload's own is kept: a ticket has no business there.
pub fn metadata(source: &ObjectRef, codes: &[&str], rejected_at: Timestamp, producer: &str) -> Metadata {
    let escaped = utf8_percent_encode(&source.key, ESCAPED).to_string();
    let key = if escaped.len() <= MAX_SOURCE_KEY {
        ("source-key", escaped)
    } else {
        ("source-key-base64", URL_SAFE_NO_PAD.encode(&source.key))
    };
    [
        ("reasons", codes.join(",")),
        ("source-bucket", source.bucket.clone()),
        key,
        ("rejected-at", rejected_at.to_string()),
        (PRODUCED_BY, producer.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::CODES;

    fn e_tag() -> ETag {
        ETag::parse("5d41402abc4b2a76b9719d911017c592").unwrap()
    }

    #[test]
    fn a_copy_stands_under_the_bucket_the_key_and_the_tag() {
        let source = ObjectRef::new("files", "bn0m0anw/cv.pdf");
        assert_eq!(key_of(&source, &e_tag()), "files/bn0m0anw/cv.pdf.5d41402abc4b2a76b9719d911017c592");
    }

    #[test]
    fn the_longest_key_has_a_place_of_its_own_too() {
        for letter in ["a", "é", "語"] {
            let key = format!("bn0m0anw/{}", letter.repeat(1015 / letter.len()));
            let source = ObjectRef::new("f".repeat(63), &key);
            let there = key_of(&source, &e_tag());
            assert!(there.len() <= MAX_KEY_BYTES && there.len() > MAX_KEY_BYTES - 4, "{}", there.len());
            assert!(there.ends_with(&format!(".{}", e_tag())));
            let other = ObjectRef::new("f".repeat(63), format!("{}x", &key[..key.len() - letter.len()]));
            assert_ne!(key_of(&other, &e_tag()), there);
            let said = metadata(&source, &CODES, Timestamp::UNIX_EPOCH, "upload-validator");
            let bytes: usize = said.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(bytes <= 2048, "{bytes} bytes of metadata");
        }
    }

    #[test]
    fn the_copy_says_where_it_comes_from_in_ascii() {
        let source = ObjectRef::new("files", "bn0m0anw/ä b+c%20.pdf");
        let said = metadata(&source, &["empty", "bad-key"], Timestamp::UNIX_EPOCH, "upload-validator");
        assert_eq!(said["reasons"], "empty,bad-key");
        assert_eq!(said["source-bucket"], "files");
        assert_eq!(said["source-key"], "bn0m0anw/%C3%A4%20b%2Bc%2520.pdf");
        assert_eq!(said["rejected-at"], "1970-01-01T00:00:00Z");
        assert_eq!(said["produced-by"], "upload-validator");
    }
}
