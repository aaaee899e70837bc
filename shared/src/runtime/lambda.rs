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
pub(super) async fn run<D, B, BF, H, HF>(environment: Environment, build: B, handle: H) -> ExitCode
where
    D: Debug,
    B: FnOnce(Environment) -> BF,
    BF: Future<Output = Result<D, ConfigError>>,
    H: Fn(Arc<D>, Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
{
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
