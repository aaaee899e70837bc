//! What can go wrong at a store, sorted by what a handler does about it.

use std::error::Error;
use std::fmt;

use crate::outcome::{Reason, RetryClass};

/// What went wrong, as far as a handler has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No such object (or version, or upload).
    NotFound,
    /// No such bucket.
    NoSuchBucket,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// Somebody else wrote at the same time (409 `ConditionalRequestConflict`).
    Conflict,
    /// Not permitted; the error names the action and the ARN.
    AccessDenied,
    /// Under object lock or legal hold.
    Locked,
    /// Asked to slow down (429, 503 `SlowDown`).
    Throttled,
    /// 5xx, or a 200 whose body is an error.
    Unavailable,
    /// No answer in time; the effect may or may not have happened.
    Timeout,
    /// The body ended before its length.
    Truncated,
    /// The body is longer than its reader accepts ([`super::GetResult::bytes`]).
    TooLarge,
    /// The store does not do this at all (501).
    Unsupported,
    /// Credentials that no longer hold.
    ExpiredCredentials,
    /// Anything else that another try will not mend.
    Invalid,
}

impl StoreErrorKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NotFound,
        Self::NoSuchBucket,
        Self::PreconditionFailed,
        Self::Conflict,
        Self::AccessDenied,
        Self::Locked,
        Self::Throttled,
        Self::Unavailable,
        Self::Timeout,
        Self::Truncated,
        Self::TooLarge,
        Self::Unsupported,
        Self::ExpiredCredentials,
        Self::Invalid,
    ];

    /// The stable code of a reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NoSuchBucket => "no-such-bucket",
            Self::PreconditionFailed => "precondition-failed",
            Self::Conflict => "conflict",
            Self::AccessDenied => "access-denied",
            Self::Locked => "locked",
            Self::Throttled => "throttled",
            Self::Unavailable => "store-unavailable",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated-body",
            Self::TooLarge => "too-large",
            Self::Unsupported => "unsupported-by-store",
            Self::ExpiredCredentials => "expired-credentials",
            Self::Invalid => "store-refused",
        }
    }

    /// The kind of that code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether the same call may fare better later.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Self::Conflict
            | Self::Throttled
            | Self::Unavailable
            | Self::Timeout
            | Self::Truncated
            | Self::ExpiredCredentials => RetryClass::Retryable,
            Self::NotFound
            | Self::NoSuchBucket
            | Self::PreconditionFailed
            | Self::AccessDenied
            | Self::Locked
            | Self::TooLarge
            | Self::Unsupported
            | Self::Invalid => RetryClass::Permanent,
        }
    }
}

/// A store call that failed, naming the call and the object.
///
/// `Display` is one sentence without its source; log the chain once, where it ends.
#[derive(Debug)]
pub struct StoreError {
    /// What went wrong.
    pub kind: StoreErrorKind,
    /// The permission that the call needs, as IAM spells it: `s3:GetObject`.
    pub action: &'static str,
    /// The resource's ARN: `arn:aws:s3:::bucket/key`.
    pub resource: String,
    /// The store's own code and message, where it gave one.
    pub detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind` in the call that needs `action` on `resource`.
    pub fn new(
        kind: StoreErrorKind,
        action: &'static str,
        resource: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, action, resource: resource.into(), detail: detail.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether a later delivery of the same record may fare better.
    pub fn retry_class(&self) -> RetryClass {
        self.kind.retry_class()
    }

    /// The reason that an outcome carries for this error.
    pub fn reason(&self) -> Reason {
        Reason::new(self.kind.code(), self.to_string())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, resource, detail, .. } = self;
        match self.kind {
            StoreErrorKind::NotFound => write!(f, "{resource} does not exist"),
            StoreErrorKind::NoSuchBucket => write!(f, "the bucket of {resource} does not exist"),
            StoreErrorKind::PreconditionFailed => write!(f, "{resource} is not as the request demands"),
            StoreErrorKind::Conflict => write!(f, "{resource} is being written by somebody else"),
            StoreErrorKind::AccessDenied => {
                write!(f, "access denied: the function's role needs {action} on {resource}")
            }
            StoreErrorKind::Locked => write!(f, "{resource} is under object lock"),
            StoreErrorKind::Throttled => write!(f, "the store asks to slow down at {action} on {resource}"),
            StoreErrorKind::Unavailable => write!(f, "the store failed at {action} on {resource}"),
            StoreErrorKind::Timeout => write!(f, "no answer in time to {action} on {resource}"),
            StoreErrorKind::Truncated => write!(f, "the body of {resource} ended early"),
            StoreErrorKind::TooLarge => write!(f, "{resource} has more bytes than are accepted"),
            StoreErrorKind::Unsupported => {
                write!(f, "the store does not support {action} on {resource} as asked")
            }
            StoreErrorKind::ExpiredCredentials => write!(f, "the credentials have expired at {action}"),
            StoreErrorKind::Invalid => write!(f, "the store refused {action} on {resource}"),
        }?;
        if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_that_leads_back_to_it() {
        for kind in StoreErrorKind::ALL {
            assert_eq!(StoreErrorKind::of_code(kind.code()), Some(kind));
        }
        assert_eq!(StoreErrorKind::of_code("not-attempted"), None);
    }
}
