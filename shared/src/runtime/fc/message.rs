//! What FC's requests say, and what it understands of an answer.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::super::InvocationError;
use crate::credentials::Keys;
use crate::env;

/// Without it FC takes every answer for a success.
const STATUS: &str = "x-fc-status";

/// What the headers of a request tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) request_id: String,
    /// The function's time-out.
    pub(super) timeout: Option<Duration>,
    /// The keys of the function's role. `None` unless all of them came: newer runtimes leave the token
    /// out, and what is left is of no use without it.
    pub(super) keys: Option<Keys>,
}

impl Context {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
        let owned = |name| value(name).map(str::to_owned);
        let keys = || {
            Some(Keys {
                id: owned("x-fc-access-key-id")?,
                secret: owned("x-fc-access-key-secret")?,
                token: Some(owned("x-fc-security-token")?),
            })
        };
        Self {
            request_id: owned("x-fc-request-id").unwrap_or_else(|| "unknown".to_owned()),
            timeout: value("x-fc-function-timeout")
                .and_then(|seconds| env::number(seconds, 1..=86_400))
                .map(Duration::from_secs),
            keys: keys(),
        }
    }
}

/// Writes one of the lines by which FC's console finds what belongs to a request.
#[expect(clippy::print_stdout, reason = "standard output is where Function Compute reads the log from")]
pub(super) fn log_line(what: &str, request_id: &str) {
    println!("FC {what} RequestId: {request_id}");
}

fn response(status: StatusCode, body: Option<&Value>) -> Response<Full<Bytes>> {
    let text = body.map(Value::to_string).unwrap_or_default();
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(status.as_u16()));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// The answer to an event.
pub(super) fn success(answer: &Value) -> Response<Full<Bytes>> {
    response(StatusCode::OK, Some(answer))
}

/// The answer to a lifecycle request.
pub(super) fn done() -> Response<Full<Bytes>> {
    response(StatusCode::OK, None)
}

/// What lets FC deliver an event again. 404 is the one status that its manual names for it.
pub(super) fn failure(error: &InvocationError) -> Response<Full<Bytes>> {
    let body = json!({"errorType": error.error_type, "errorMessage": error.message});
    response(StatusCode::NOT_FOUND, Some(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(named: &[(&'static str, &'static str)]) -> HeaderMap {
        named
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn keys_without_their_token_are_not_taken() {
        let without = headers(&[("x-fc-access-key-id", "1"), ("x-fc-access-key-secret", "2")]);
        assert_eq!(Context::of(&without).keys, None);
        let mut with = without;
        with.insert("x-fc-security-token", HeaderValue::from_static("3"));
        let keys = Context::of(&with).keys.unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token.as_deref()), ("1", "2", Some("3")));
        with.insert("x-fc-security-token", HeaderValue::from_static(""));
        assert_eq!(Context::of(&with).keys, None);
    }

    #[test]
    fn a_time_out_that_is_none_is_not_taken() {
        let timeout = |value| Context::of(&headers(&[("x-fc-function-timeout", value)])).timeout;
        assert_eq!(timeout("300"), Some(Duration::from_secs(300)));
        for none in ["0", "-1", "soon", "99999999"] {
            assert_eq!(timeout(none), None, "{none}");
        }
    }
}
