//! The records that Lambda sends to the destinations of asynchronous invocations.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::result::InvocationResult;

/// The invocation record (Lambda Developer Guide, "Capturing records of Lambda asynchronous invocations").
pub(super) fn record(
    now: Timestamp,
    arn: &str,
    attempts: usize,
    request: &Value,
    result: &InvocationResult,
) -> Value {
    let failed = result.ok().is_none();
    let mut response_context = json!({"statusCode": 200, "executedVersion": "$LATEST"});
    if failed {
        response_context["functionError"] = json!("Unhandled");
    }
    json!({
        "version": "1.0",
        "timestamp": format!("{now:.3}"),
        "requestContext": {
            "requestId": result.request_id,
            "functionArn": format!("{arn}:$LATEST"),
            "condition": if failed { "RetriesExhausted" } else { "Success" },
            "approximateInvokeCount": attempts,
        },
        "requestPayload": request,
        "responseContext": response_context,
        "responsePayload": result.payload(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::Answer;

    #[test]
    fn a_failure_reads_as_lambda_writes_it() {
        let result = InvocationResult {
            request_id: "e4b46cbf".into(),
            answer: Answer::FunctionError { error_type: "Retryable".into(), message: "Slow down.".into() },
            duration_ms: 1.0,
            init_ms: None,
            logs: Vec::new(),
            peak_rss_bytes: None,
        };
        let now = "2026-11-14T18:16:05.568Z".parse().unwrap();
        assert_eq!(
            record(now, "arn:aws:lambda:us-east-1:000000000000:function:f", 3, &json!({"a": 1}), &result),
            json!({
                "version": "1.0",
                "timestamp": "2026-11-14T18:16:05.568Z",
                "requestContext": {
                    "requestId": "e4b46cbf",
                    "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
                    "condition": "RetriesExhausted",
                    "approximateInvokeCount": 3
                },
                "requestPayload": {"a": 1},
                "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
                "responsePayload": {"errorType": "Retryable", "errorMessage": "Slow down."}
            })
        );
    }
}
