//! How every record ends: exactly one [`Outcome`], which is data and not an error.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::object_ref::{ETag, ObjectRef};

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The rendition was written.
    Stored,
    /// The rendition stood there already; nothing was written.
    Unchanged,
    /// The upload is what was promised.
    Accepted,
    /// The upload was looked at and refused, for good.
    Rejected,
    /// There was nothing to do for this record.
    Skipped,
    /// A sweep listed what it would delete and deleted nothing.
    Planned,
    /// A sweep deleted what had expired.
    Swept,
    /// The record could not be decided; see [`RetryClass`].
    Failed,
}

impl Status {
    /// The name in answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unchanged => "unchanged",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Planned => "planned",
            Self::Swept => "swept",
            Self::Failed => "failed",
        }
    }
}

/// Whether delivering a failed record again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryClass {
    /// Throttling, time-outs, 5xx: the invocation fails, so that the carrier delivers again.
    Retryable,
    /// Missing permission, missing bucket, malformed record: a person has to act.
    Permanent,
}

/// Why: a stable code for programs and one sentence for a person who can act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable, kebab-case.
    pub code: &'static str,
    /// One sentence, without a secret, a ticket or an event body in it.
    pub message: String,
}

impl Reason {
    /// A reason with its sentence.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The record's origin, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The bucket's name.
    pub bucket: String,
    /// The raw key.
    pub key: String,
    /// The version, where the bucket is versioned.
    pub version_id: Option<String>,
    /// The normalised entity tag, where it is known.
    pub e_tag: Option<ETag>,
}

impl Source {
    /// The origin `object` with the tag that was seen.
    pub fn new(object: &ObjectRef, e_tag: Option<ETag>) -> Self {
        Self {
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            version_id: object.version_id.clone(),
            e_tag,
        }
    }
}

/// How one record ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// What became of it.
    pub status: Status,
    /// Where it came from; absent where a record names no object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Why, for everything but plain success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// For [`Status::Failed`] only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryClass>,
    /// Wall-clock time spent on this record.
    pub duration_ms: u64,
    /// What the function adds: `avatar`, `quarantine`, `reasons`, `sweep`.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

impl Outcome {
    fn bare(status: Status) -> Self {
        Self { status, source: None, reason: None, retry: None, duration_ms: 0, detail: Map::new() }
    }

    /// An outcome that needs no reason.
    pub fn of(status: Status) -> Self {
        Self::bare(status)
    }

    /// Refused for good.
    pub fn rejected(reason: Reason) -> Self {
        Self { reason: Some(reason), ..Self::bare(Status::Rejected) }
    }

    /// Nothing to do.
    pub fn skipped(reason: Reason) -> Self {
        Self { reason: Some(reason), ..Self::bare(Status::Skipped) }
    }

    /// Not decided.
    pub fn failed(reason: Reason, retry: RetryClass) -> Self {
        Self { reason: Some(reason), retry: Some(retry), ..Self::bare(Status::Failed) }
    }

    /// The same outcome, naming its origin.
    #[must_use]
    pub fn from_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The same outcome with what the function adds under `name`. A value that is null is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        if !value.is_null() {
            self.detail.insert(name.to_owned(), value);
        }
        self
    }

    /// The same outcome with the time that it took.
    #[must_use]
    pub fn took(mut self, duration: std::time::Duration) -> Self {
        self.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Whether the carrier should deliver this record again.
    pub fn is_retryable(&self) -> bool {
        self.retry == Some(RetryClass::Retryable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_outcome_reads_as_the_contract_says() {
        let source = Source::new(
            &ObjectRef::new("uploads", "u/a.png"),
            ETag::parse("5D41402ABC4B2A76B9719D911017C592"),
        );
        let outcome = Outcome::rejected(Reason::new("empty", "The object has no bytes.")).from_source(source);
        assert_eq!(
            serde_json::to_value(outcome).unwrap(),
            json!({
                "status": "rejected",
                "source": {"bucket": "uploads", "key": "u/a.png", "version_id": null,
                           "e_tag": "5d41402abc4b2a76b9719d911017c592"},
                "reason": {"code": "empty", "message": "The object has no bytes."},
                "duration_ms": 0,
            })
        );
    }

    #[test]
    fn what_the_function_adds_stands_beside_the_rest() {
        let outcome = Outcome::of(Status::Stored).with("avatar", json!({"key": "u/bn0m0anw.webp"}));
        let value = serde_json::to_value(outcome.with("url", Value::Null)).unwrap();
        assert_eq!(value["avatar"]["key"], "u/bn0m0anw.webp");
        assert!(value.get("url").is_none());
    }
}
