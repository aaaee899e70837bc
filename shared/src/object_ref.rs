//! Which object is meant: bucket, raw key, version, and the entity tag as every store spells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An object in a bucket. The key is raw: it is decoded once, by [`crate::event`], and never
/// cleaned up, because `a//b` and `a/b` are two objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded, at most 1,024 bytes of UTF-8 in a real store.
    pub key: String,
    /// The version, where the bucket is versioned; `None` means the current one.
    pub version_id: Option<String>,
}

impl ObjectRef {
    /// The current version of `key` in `bucket`.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), version_id: None }
    }

    /// The object that `s3://bucket/key` names; `None` for anything else. The key is taken as it stands.
    pub fn parse_uri(uri: &str) -> Option<Self> {
        let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
        (!bucket.is_empty() && !key.is_empty()).then(|| Self::new(bucket, key))
    }

    /// The same object at `version_id`.
    #[must_use]
    pub fn at_version(mut self, version_id: Option<String>) -> Self {
        self.version_id = version_id;
        self
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// An entity tag, normalised: without quotes, in lower case. OSS sends the digest in upper case and
/// S3 in lower case, with quotes in headers and without in events; all of them compare equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// Normalises what a header, an event or a listing carried. `None` for an empty tag.
    pub fn parse(raw: &str) -> Option<Self> {
        let bare = bare(raw);
        (!bare.is_empty()).then(|| Self(bare.to_ascii_lowercase()))
    }

    /// The tag without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same without memory of its own.
    pub fn borrowed(&self) -> ETagRef<'_> {
        ETagRef(&self.0)
    }

    /// The tag as `If-Match` wants it, in quotes.
    pub fn quoted(&self) -> String {
        self.borrowed().quoted()
    }

    /// The MD5 that this tag may be: 32 hexadecimal digits. It is a hint, since KMS and SSE-C tags look
    /// the same and are not the content's digest.
    pub fn md5_hint(&self) -> Option<[u8; 16]> {
        let mut digest = [0; 16];
        hex::decode_to_slice(&self.0, &mut digest).ok().map(|()| digest)
    }

    /// Whether the object came by multipart upload, whose tags end in the number of parts.
    pub fn is_multipart(&self) -> bool {
        self.0.rsplit_once('-').is_some_and(|(digest, parts)| {
            digest.len() == 32 && !parts.is_empty() && parts.bytes().all(|b| b.is_ascii_digit())
        })
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({})", self.0)
    }
}

/// A tag without what stands around it, so that nothing is left to take away from what is normalised.
fn bare(raw: &str) -> &str {
    raw.trim_matches(|c: char| c == '"' || c.is_whitespace())
}

/// An entity tag, normalised, that somebody else keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETagRef<'t>(&'t str);

impl<'t> ETagRef<'t> {
    /// What [`ETag::as_str`] gave. `None` for a text that is not normalised, or empty.
    pub fn normalised(text: &'t str) -> Option<Self> {
        let is_bare = !text.is_empty() && bare(text) == text;
        (is_bare && !text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(Self(text))
    }

    /// The tag without quotes.
    pub fn as_str(self) -> &'t str {
        self.0
    }

    /// The tag as `If-Match` wants it, in quotes.
    pub fn quoted(self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The same with memory of its own.
    pub fn owned(self) -> ETag {
        ETag(self.0.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_compare_equal_however_the_carrier_spells_them() {
        let header = ETag::parse("\"5d41402abc4b2a76b9719d911017c592\"");
        let oss = ETag::parse("5D41402ABC4B2A76B9719D911017C592");
        assert_eq!(header, oss);
        assert!(header.is_some());
        assert_eq!(ETag::parse("\"\""), None);
    }

    #[test]
    fn what_is_normalised_stays_as_it_is_and_can_be_borrowed() {
        for raw in ["\"5D41\"", " \"a b\" ", "\" a\"", "W/\"a\"", "é", "\"\u{3000}\"", "\"", ""] {
            let e_tag = ETag::parse(raw);
            assert_eq!(e_tag.as_ref().and_then(|e_tag| ETag::parse(e_tag.as_str())), e_tag, "{raw:?}");
            let borrowed = e_tag.as_ref().map(ETag::borrowed);
            assert_eq!(borrowed.map(ETagRef::owned), e_tag, "{raw:?}");
            assert_eq!(borrowed.and_then(|e_tag| ETagRef::normalised(e_tag.as_str())), borrowed, "{raw:?}");
        }
        for other in ["\"5d41\"", "5D41", " a", ""] {
            assert_eq!(ETagRef::normalised(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_uri_names_a_bucket_and_a_raw_key() {
        assert_eq!(ObjectRef::parse_uri("s3://audit/a//b c"), Some(ObjectRef::new("audit", "a//b c")));
        for wrong in ["s3://audit", "s3://audit/", "s3:///key", "https://audit/key", ""] {
            assert_eq!(ObjectRef::parse_uri(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_bare_digest_hints_at_the_content() {
        let single = ETag::parse("5d41402abc4b2a76b9719d911017c592").unwrap();
        assert_eq!(hex::encode(single.md5_hint().unwrap()), "5d41402abc4b2a76b9719d911017c592");
        let multipart = ETag::parse("5d41402abc4b2a76b9719d911017c592-12").unwrap();
        assert_eq!(multipart.md5_hint(), None);
        assert!(multipart.is_multipart());
        assert!(!single.is_multipart());
    }
}
