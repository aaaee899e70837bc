//! What a ticket promises, and whether it holds.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{keys, numeric_date};
use crate::object_ref::ObjectRef;
use crate::outcome::Reason;

/// The claims of a ticket. Names are those of the token; unknown ones are ignored, as RFC 7519 asks, and one that
/// stands there twice is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The bucket.
    pub aud: Audience,
    /// The exact key.
    pub sub: String,
    /// Until when the object has to be created, exclusive.
    #[serde(with = "seconds")]
    pub exp: Timestamp,
    /// From when on.
    #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Timestamp>,
    /// When the ticket was issued; for people.
    #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub iat: Option<Timestamp>,
    /// The ticket's own name; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Bytes, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// Bytes, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// The media type that the content must have: `image/png`, `image/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// MD5 of the content, in hexadecimal or base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// SHA-256 of the content, in hexadecimal or base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whose upload it is; opaque, copied to the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When the object may be deleted.
    #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Whom a ticket is for: one bucket, or several (RFC 7519, 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Any of these.
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, bucket: &str) -> bool {
        match self {
            Self::One(one) => one == bucket,
            Self::Many(many) => many.iter().any(|one| one == bucket),
        }
    }
}

/// What is true of an upload.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Where it stands.
    pub object: &'a ObjectRef,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type by content; `None` if nobody knows it.
    pub media_type: Option<&'a str>,
    /// Its MD5, if it is known. A ticket that claims one is not fulfilled without it.
    pub md5: Option<[u8; 16]>,
    /// Its SHA-256, likewise.
    pub sha256: Option<[u8; 32]>,
}

impl Claims {
    /// Every claim that does not hold; none means that the upload is what was promised.
    pub fn failures(&self, facts: &Facts<'_>) -> Vec<Reason> {
        let mut failures = Vec::new();
        let mut fail = |code, message: String| failures.push(Reason::new(code, message));
        if !self.aud.contains(&facts.object.bucket) {
            fail("ticket-wrong-bucket", "The ticket is for another bucket.".into());
        }
        // Byte by byte: another case, another escape or another normal form is another object.
        if self.sub != facts.object.key {
            fail("ticket-wrong-key", "The ticket is for another key.".into());
        }
        if facts.created_at >= self.exp {
            fail(
                "ticket-expired",
                format!("The ticket expired at {}; the upload came at {}.", self.exp, facts.created_at),
            );
        }
        if let Some(nbf) = self.nbf.filter(|nbf| facts.created_at < *nbf) {
            fail(
                "ticket-not-yet-valid",
                format!("The ticket holds from {nbf} on; the upload came at {}.", facts.created_at),
            );
        }
        let fits = self.min_size.is_none_or(|min| facts.size >= min)
            && self.max_size.is_none_or(|max| facts.size <= max);
        if !fits {
            let bounds = match (self.min_size, self.max_size) {
                (Some(min), Some(max)) => format!("{min} to {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, max) => format!("at most {}", max.unwrap_or_default()),
            };
            fail(
                "ticket-wrong-size",
                format!("The ticket is for {bounds} bytes; the upload has {}.", facts.size),
            );
        }
        if let Some(promised) = &self.content_type
            && !facts.media_type.is_some_and(|found| matches_type(promised, found))
        {
            let found = facts.media_type.unwrap_or("of no known type");
            fail(
                "ticket-wrong-type",
                format!("The ticket is for another type of file; the upload is {found}."),
            );
        }
        let holds = |claimed: &Option<String>, found: Option<&[u8]>, length: usize| {
            claimed.as_ref().is_none_or(|text| {
                keys::digest(text, length).is_some_and(|claimed| found.is_some_and(|found| claimed == found))
            })
        };
        if !holds(&self.md5, facts.md5.as_ref().map(<[u8; 16]>::as_slice), 16)
            || !holds(&self.sha256, facts.sha256.as_ref().map(<[u8; 32]>::as_slice), 32)
        {
            fail("ticket-wrong-digest", "The ticket is for other content: the digest differs.".into());
        }
        failures
    }
}

/// Whether the media type `found` is what `promised` says: the same, or of the family that `image/*` names.
pub fn matches_type(promised: &str, found: &str) -> bool {
    let promised = promised.trim().to_ascii_lowercase();
    match promised.strip_suffix("/*") {
        Some("*") => true,
        Some(family) => found.split('/').next() == Some(family),
        None => promised == found,
    }
}

/// Instants as seconds since the epoch.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_second())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        numeric_date(seconds).ok_or_else(|| D::Error::custom("a time is out of range"))
    }
}

/// The same, where there may be none. `expires_at` may also be written as RFC 3339 does.
mod optional_seconds {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&time.as_second()),
            None => serializer.serialize_none(),
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let time = match Option::<Written>::deserialize(deserializer)? {
            None => return Ok(None),
            Some(Written::Seconds(seconds)) => numeric_date(seconds),
            Some(Written::Text(text)) => text.parse().ok(),
        };
        time.map(Some).ok_or_else(|| D::Error::custom("a time cannot be read"))
    }
}
