//! Who calls the handlers: the Lambda Runtime API. The only place that knows `lambda_runtime`.
//!
//! A binary's `main` is one call of [`start`], with what builds its dependencies and what handles an
//! event. Everything else about a platform stays here: the executor, the report of a failed start, the
//! shape in which an invocation fails.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::env::{ConfigError, Environment};
use crate::telemetry;

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

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Self { error_type: error.error_type.to_owned(), error_message: error.message }
    }
}

/// Runs a function until the platform ends the process: builds its dependencies once with `build`, says
/// what was configured, and answers every event with `handle`.
///
/// A configuration that cannot be used is logged, reported to the platform with every mistake in it, and
/// ends the process with a failure.
pub fn start<D, B, BF, H, HF>(function: &'static str, build: B, handle: H) -> ExitCode
where
    D: Debug,
    B: FnOnce(Environment) -> BF,
    BF: Future<Output = Result<D, ConfigError>>,
    H: Fn(Arc<D>, Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
{
    telemetry::init(function);
    // One thread: an instance has one invocation at a time, and starts half a millisecond sooner.
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            tracing::error!(%error, "cannot start the executor");
            return ExitCode::FAILURE;
        }
    };
    executor.block_on(async {
        let dependencies = match build(Environment::of_process()).await {
            Ok(dependencies) => Arc::new(dependencies),
            Err(error) => {
                tracing::error!(%error, "cannot start");
                report_init_error(&error).await;
                return ExitCode::FAILURE;
            }
        };
        tracing::info!(configuration = ?dependencies, "started");
        let service = service_fn(|event: LambdaEvent<Value>| {
            let (payload, context) = event.into_parts();
            let invocation = Invocation {
                deadline: i64::try_from(context.deadline)
                    .ok()
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                    .unwrap_or(Timestamp::MAX),
                request_id: context.request_id,
            };
            let span = tracing::info_span!("invocation", request_id = %invocation.request_id);
            let answer = handle(dependencies.clone(), payload, invocation);
            async {
                answer.await.inspect_err(|error| {
                    tracing::error!(error_type = error.error_type, %error, "the invocation fails");
                })
            }
            .instrument(span)
        });
        match lambda_runtime::run(service).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the runtime ended");
                ExitCode::FAILURE
            }
        }
    })
}

/// Tells the platform why the process ends before its first event, so that the invoker sees the
/// configuration's mistakes and not only that a process exited.
async fn report_init_error(error: &ConfigError) {
    let body = json!({"errorType": "Configuration", "errorMessage": error.to_string(), "stackTrace": []});
    let request = http::Request::post("/2018-06-01/runtime/init/error")
        .header("lambda-runtime-function-error-type", "Configuration")
        .header("content-type", "application/json")
        .body(lambda_runtime_api_client::body::Body::from(body.to_string()));
    let client = lambda_runtime_api_client::Client::builder().build();
    if let (Ok(request), Ok(client)) = (request, client) {
        // Outside Lambda nobody listens; the log line above has said the same.
        let _ = client.call(request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_remains_after_the_deadline() {
        let deadline = Timestamp::from_second(100).unwrap();
        let invocation = Invocation { request_id: "1".into(), deadline };
        assert_eq!(invocation.remaining(Timestamp::from_second(97).unwrap()), Duration::from_secs(3));
        assert_eq!(invocation.remaining(Timestamp::from_second(101).unwrap()), Duration::ZERO);
    }
}
