//! The Lambda Runtime API. The only place that knows `lambda_runtime`.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing::Instrument;

use super::{Invocation, InvocationError, REQUEST_ID, built, log_failure};
use crate::env::{ConfigError, Environment};

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Self { error_type: error.error_type.to_owned(), error_message: error.message }
    }
}

/// Asks Lambda for events until Lambda ends the process.
pub(super) async fn run<D, B, BF, H, HF>(mut environment: Environment, build: B, handle: H) -> ExitCode
where
    D: Debug,
    B: FnOnce(Environment) -> BF,
    BF: Future<Output = Result<D, ConfigError>>,
    H: Fn(Arc<D>, Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
{
    check_what_lambda_sets(&mut environment);
    let dependencies = match built(build(environment)).await {
        Ok(dependencies) => dependencies,
        Err(error) => {
            report_init_error(&error).await;
            return ExitCode::FAILURE;
        }
    };
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
        let id = invocation.request_id.clone();
        let answer = REQUEST_ID.scope(id, handle(dependencies.clone(), payload, invocation));
        async { answer.await.inspect_err(log_failure) }.instrument(span)
    });
    match lambda_runtime::run(service).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the runtime ended");
            ExitCode::FAILURE
        }
    }
}

/// Notes what is missing of that which Lambda, and whoever stands in for it, sets for a function: the runtime library ends
/// the process by a panic without it.
fn check_what_lambda_sets(environment: &mut Environment) {
    const MEMORY_SIZE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
    for variable in ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION"] {
        if environment.get(variable).is_none() {
            environment.mistake(variable, false, "a text, as Lambda sets it");
        }
    }
    if environment.get(MEMORY_SIZE).is_none_or(|memory| memory.parse::<i32>().is_err()) {
        environment.mistake(MEMORY_SIZE, false, "megabytes in a whole number, as Lambda sets it");
    }
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
        // The log has said the same already, should nobody listen.
        let _ = client.call(request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lambda_sets_is_told_where_it_is_missing() {
        let of_lambda = [
            ("AWS_LAMBDA_FUNCTION_NAME", "sweeper"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ];
        let checked = |variables: &[(&'static str, &'static str)]| {
            let mut environment = Environment::from_iter(variables.iter().copied());
            check_what_lambda_sets(&mut environment);
            environment.finish(()).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&of_lambda), Ok(()));
        for (left_out, (variable, _)) in of_lambda.iter().enumerate() {
            let mut fewer = of_lambda.to_vec();
            fewer.remove(left_out);
            assert!(checked(&fewer).unwrap_err().contains(variable));
        }
        let odd = [of_lambda[0], of_lambda[1], ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "a lot")];
        assert!(checked(&odd).unwrap_err().contains("a lot"));
    }
}
