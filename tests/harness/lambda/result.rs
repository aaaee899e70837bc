//! How an invocation ends.

use std::time::Duration;

use serde_json::{Value, json};

/// What an invocation ends with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What the function answered. A body that is no JSON is a string, as Lambda passes it through.
    Ok(Value),
    /// The function reported an error, during the invocation or while it started.
    FunctionError {
        /// As the function named it.
        error_type: String,
        /// As the function said it.
        message: String,
    },
    /// The deadline passed, and the process was killed.
    TimedOut {
        /// The limit that it broke.
        limit: Duration,
    },
    /// The process ended without an answer.
    Exited {
        /// As Lambda words it: `exit status 1`, `signal: killed`; none where it exited with success.
        how: Option<String>,
    },
}

impl Answer {
    /// The error's type, where there is one.
    pub fn error_type(&self) -> Option<&str> {
        match self {
            Self::Ok(_) => None,
            Self::FunctionError { error_type, .. } => Some(error_type),
            Self::TimedOut { .. } => Some("Sandbox.Timedout"),
            Self::Exited { .. } => Some("Runtime.ExitError"),
        }
    }
}

/// An invocation that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct InvocationResult {
    /// The id that the function saw; retries of an asynchronous invocation share it.
    pub request_id: String,
    /// What it ended with.
    pub answer: Answer,
    /// From the hand-over of the event to the answer, in milliseconds.
    pub duration_ms: f64,
    /// How long the process took to start, in milliseconds, where this invocation started it.
    pub init_ms: Option<f64>,
    /// The lines that the process wrote since the last invocation ended, standard output and error.
    pub logs: Vec<String>,
    /// The largest resident memory during this invocation, where the system tells it (Linux).
    pub peak_rss_bytes: Option<u64>,
}

impl InvocationResult {
    /// The answer, where the invocation succeeded.
    pub fn ok(&self) -> Option<&Value> {
        match &self.answer {
            Answer::Ok(value) => Some(value),
            _ => None,
        }
    }

    /// What the invocation failed with, in one sentence.
    pub fn error(&self) -> Option<String> {
        let message = match &self.answer {
            Answer::Ok(_) => return None,
            Answer::FunctionError { message, .. } => message.clone(),
            Answer::TimedOut { limit } => format!(
                "RequestId: {} Error: Task timed out after {:.2} seconds",
                self.request_id,
                limit.as_secs_f64()
            ),
            Answer::Exited { how: Some(how) } => {
                format!("RequestId: {} Error: Runtime exited with error: {how}", self.request_id)
            }
            Answer::Exited { how: None } => {
                format!("RequestId: {} Error: Runtime exited without providing a reason", self.request_id)
            }
        };
        Some(message)
    }

    /// What the invoker gets: the answer, or the error as JSON.
    pub fn payload(&self) -> Value {
        match (&self.answer, self.answer.error_type(), self.error()) {
            (Answer::Ok(value), ..) => value.clone(),
            (_, error_type, message) => json!({"errorType": error_type, "errorMessage": message}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(answer: Answer) -> InvocationResult {
        InvocationResult {
            request_id: "id".into(),
            answer,
            duration_ms: 0.0,
            init_ms: None,
            logs: Vec::new(),
            peak_rss_bytes: None,
        }
    }

    #[test]
    fn errors_are_worded_as_lambda_words_them() {
        let timed_out = ended(Answer::TimedOut { limit: Duration::from_millis(1500) });
        assert_eq!(
            timed_out.payload(),
            json!({"errorType": "Sandbox.Timedout",
                   "errorMessage": "RequestId: id Error: Task timed out after 1.50 seconds"})
        );
        let exited = ended(Answer::Exited { how: Some("exit status 3".into()) });
        assert_eq!(exited.error().unwrap(), "RequestId: id Error: Runtime exited with error: exit status 3");
        let left = ended(Answer::Exited { how: None });
        assert_eq!(left.error().unwrap(), "RequestId: id Error: Runtime exited without providing a reason");
    }
}
