//! What a runtime may do when: the states of one execution environment, without HTTP.

use bytes::Bytes;
use serde_json::{Value, json};

/// One invocation, as it is handed to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub request_id: String,
    /// `Lambda-Runtime-Deadline-Ms`: Unix time, in milliseconds.
    pub deadline_ms: i64,
    /// `Lambda-Runtime-Invoked-Function-Arn`.
    pub arn: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub trace_id: String,
    /// The event.
    pub payload: Bytes,
}

/// What the runtime said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It asked for work: it has started, or has finished what it had.
    Ready,
    /// It answered an invocation.
    Response {
        /// Which one.
        request_id: String,
        /// The answer, as it was sent.
        body: Bytes,
    },
    /// It reported that an invocation failed.
    Error {
        /// Which one.
        request_id: String,
        /// `errorType` of the body, or else the header's.
        error_type: String,
        /// `errorMessage` of the body.
        message: String,
    },
    /// It reported that it cannot start.
    InitError {
        /// `errorType` of the body, or else the header's.
        error_type: String,
        /// `errorMessage` of the body.
        message: String,
    },
}

impl Said {
    /// The error's type and message from what a runtime posts, `{"errorType", "errorMessage"}`; a body that is
    /// none of this still fails with the type in `header`.
    pub(super) fn error_in(body: &[u8], header: Option<&str>) -> (String, String) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let error_type = field("errorType").or(header.map(str::to_owned));
        (error_type.unwrap_or_else(|| "Unhandled".to_owned()), field("errorMessage").unwrap_or_default())
    }
}

/// Why the API refuses a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The id is not that of the invocation under way.
    InvalidRequestId,
    /// The call does not fit the state.
    InvalidTransition { from: &'static str, to: &'static str },
    /// The answer is larger than Lambda takes.
    TooLarge { limit: usize },
}

impl Refusal {
    /// Status and body, as the real API has them.
    pub(super) fn answer(&self) -> (u16, Value) {
        let (status, error_type, message) = match self {
            Self::InvalidRequestId => (400, "InvalidRequestID", "Invalid request ID".to_owned()),
            Self::InvalidTransition { from, to } => (
                403,
                "InvalidStateTransition",
                format!(
                    "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
                ),
            ),
            Self::TooLarge { limit } => (
                413,
                "RequestEntityTooLarge",
                format!("Exceeded maximum allowed payload size ({limit} bytes)."),
            ),
        };
        (status, json!({"errorMessage": message, "errorType": error_type}))
    }
}

/// Where an execution environment stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Started, and not yet asked for work.
    #[default]
    Started,
    /// It said that it cannot start.
    InitFailed,
    /// Waiting for work.
    Ready,
    /// Working on the invocation of this id.
    Running(String),
    /// Has answered the invocation of this id, and not yet asked for more.
    Answered(String),
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitFailed => "InitError",
            Self::Ready => "Ready",
            Self::Running(_) => "Running",
            Self::Answered(_) => "InvocationResponse",
        }
    }

    /// The runtime asks for work. Answers whether that is news: a runtime whose connection broke asks again.
    pub(super) fn ask(&mut self) -> Result<bool, Refusal> {
        match self {
            Self::Started | Self::Answered(_) => {
                *self = Self::Ready;
                Ok(true)
            }
            Self::Ready => Ok(false),
            Self::Running(_) | Self::InitFailed => {
                Err(Refusal::InvalidTransition { from: self.name(), to: "Ready" })
            }
        }
    }

    /// The runtime has been given `request_id` to work on.
    pub(super) fn give(&mut self, request_id: &str) {
        *self = Self::Running(request_id.to_owned());
    }

    /// The runtime answers `request_id`, or reports its error.
    pub(super) fn end(&mut self, request_id: &str) -> Result<(), Refusal> {
        match self {
            Self::Running(current) if current == request_id => {
                *self = Self::Answered(request_id.to_owned());
                Ok(())
            }
            Self::Answered(current) if current == request_id => {
                Err(Refusal::InvalidTransition { from: self.name(), to: "InvocationResponse" })
            }
            _ => Err(Refusal::InvalidRequestId),
        }
    }

    /// The runtime reports that it cannot start.
    pub(super) fn fail_init(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Started => {
                *self = Self::InitFailed;
                Ok(())
            }
            _ => Err(Refusal::InvalidTransition { from: self.name(), to: "InitError" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_answered_once_and_by_its_id_only() {
        let mut phase = Phase::default();
        assert_eq!(phase.end("a"), Err(Refusal::InvalidRequestId));
        assert_eq!(phase.ask(), Ok(true));
        assert_eq!(phase.ask(), Ok(false));
        phase.give("a");
        assert!(matches!(phase.ask(), Err(Refusal::InvalidTransition { .. })));
        assert_eq!(phase.end("b"), Err(Refusal::InvalidRequestId));
        assert_eq!(phase.end("a"), Ok(()));
        assert!(matches!(phase.end("a"), Err(Refusal::InvalidTransition { .. })));
        assert_eq!(phase.ask(), Ok(true));
        assert_eq!(phase.end("a"), Err(Refusal::InvalidRequestId));
    }

    #[test]
    fn init_fails_before_the_first_invocation_or_not_at_all() {
        let mut phase = Phase::default();
        assert_eq!(phase.fail_init(), Ok(()));
        assert!(phase.ask().is_err());
        let mut phase = Phase::Ready;
        assert!(phase.fail_init().is_err());
    }

    #[test]
    fn an_error_has_a_type_even_where_the_body_has_none() {
        let (error_type, message) =
            Said::error_in(br#"{"errorType": "Retryable", "errorMessage": "Slow down."}"#, Some("Unhandled"));
        assert_eq!((error_type.as_str(), message.as_str()), ("Retryable", "Slow down."));
        assert_eq!(Said::error_in(b"oops", Some("Runtime.Oops")).0, "Runtime.Oops");
        assert_eq!(Said::error_in(b"", None).0, "Unhandled");
    }
}
