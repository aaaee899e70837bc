//! Who calls the handlers: the Lambda Runtime API. The only place that knows `lambda_runtime`.

use std::time::Duration;

use jiff::Timestamp;

/// What a handler may know about the call that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The platform's id of this invocation.
    pub request_id: String,
    /// When the platform ends it.
    pub deadline: Timestamp,
}

impl Invocation {
    /// How long is left at `now`; zero once the deadline has passed.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.deadline.duration_since(now)).unwrap_or_default()
    }
}

/// An invocation that has to fail, so that the carrier delivers again or a person hears of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// Stable, as the error type that the platform records: `Retryable` or `MalformedEvent`.
    pub error_type: &'static str,
    /// One sentence.
    pub message: String,
}
