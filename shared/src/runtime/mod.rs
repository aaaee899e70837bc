//! Who calls the handlers: AWS Lambda or Alibaba Cloud's Function Compute, by the environment.
//!
//! A binary's `main` is one call of [`start`], with what builds its dependencies and what handles an
//! event. Everything else about a platform stays here: the executor, the report of a failed start, the
//! shape in which an invocation fails.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::env::{ConfigError, Environment};
use crate::telemetry;

mod fc;
mod lambda;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The platform's id of the invocation that is being answered, if one is.
pub fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

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

/// Whose calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Platform {
    Lambda,
    FunctionCompute,
}

impl Platform {
    /// What the environment speaks of. Lambda's own variable is decisive; of Function Compute's, which
    /// differ from one of its runtimes to the next, any one is enough.
    fn of(environment: &Environment) -> Option<Self> {
        const FUNCTION_COMPUTE: [&str; 5] = [
            "FC_CUSTOM_LISTEN_PORT",
            "FC_FUNC_CODE_PATH",
            "FC_INSTANCE_ID",
            "FC_FUNCTION_NAME",
            "FC_SERVER_PORT",
        ];
        let is_set = |variable: &&str| environment.get(variable).is_some();
        if is_set(&"AWS_LAMBDA_RUNTIME_API") {
            Some(Self::Lambda)
        } else {
            FUNCTION_COMPUTE.iter().any(is_set).then_some(Self::FunctionCompute)
        }
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
    // One thread: what waits, waits for the store; and an instance starts half a millisecond sooner.
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            tracing::error!(%error, "cannot start the executor");
            return ExitCode::FAILURE;
        }
    };
    let environment = Environment::of_process();
    executor.block_on(async {
        match Platform::of(&environment) {
            Some(Platform::Lambda) => Box::pin(lambda::run(environment, build, handle)).await,
            Some(Platform::FunctionCompute) => Box::pin(fc::run(environment, build, handle)).await,
            None => {
                tracing::error!(
                    "{function} is started by AWS Lambda (AWS_LAMBDA_RUNTIME_API) or by Function Compute \
                     (FC_CUSTOM_LISTEN_PORT), and the environment speaks of neither; on your own machine, \
                     `make run` starts it"
                );
                ExitCode::FAILURE
            }
        }
    })
}

/// The dependencies, with what was configured or what is wrong with it in the log.
async fn built<D: Debug>(build: impl Future<Output = Result<D, ConfigError>>) -> Result<Arc<D>, ConfigError> {
    match build.await {
        Ok(dependencies) => {
            tracing::info!(configuration = ?dependencies, "started");
            Ok(Arc::new(dependencies))
        }
        Err(error) => {
            tracing::error!(%error, "cannot start");
            Err(error)
        }
    }
}

/// Writes why an invocation fails.
fn log_failure(error: &InvocationError) {
    tracing::error!(error_type = error.error_type, %error, "the invocation fails");
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

    #[test]
    fn the_environment_says_whose_calls_are_answered() {
        let of = |variables: &[&'static str]| {
            Platform::of(&variables.iter().map(|variable| (*variable, "x")).collect())
        };
        assert_eq!(of(&["AWS_LAMBDA_RUNTIME_API"]), Some(Platform::Lambda));
        assert_eq!(of(&["FC_FUNC_CODE_PATH"]), Some(Platform::FunctionCompute));
        assert_eq!(of(&["FC_SERVER_PORT"]), Some(Platform::FunctionCompute));
        assert_eq!(of(&["AWS_LAMBDA_RUNTIME_API", "FC_INSTANCE_ID"]), Some(Platform::Lambda));
        assert_eq!(of(&["HOME", "AWS_REGION"]), None);
    }
}
