//! Carriers that wrap other carriers' events as text: SNS and SQS, in any order.

use serde_json::Value;

use super::{Content, Malformed, Record, event_bridge, json, s3};

/// SQS(SNS(S3)) is the deepest that AWS builds.
const MAX_DEPTH: usize = 3;

pub(super) fn is_sqs(value: &Value) -> bool {
    json::text(value, &["eventSource"]) == Some("aws:sqs")
}

pub(super) fn is_sns(value: &Value) -> bool {
    json::text(value, &["EventSource"]) == Some("aws:sns")
}

/// The records inside one SQS message, all under the message's id.
pub(super) fn of_sqs(message: &Value) -> Vec<Record> {
    let id = json::text(message, &["messageId"]).map(str::to_owned);
    let contents = match json::required(message, &["body"]) {
        Ok(body) => parsed(body, MAX_DEPTH),
        Err(malformed) => vec![Err(malformed)],
    };
    contents.into_iter().map(|content| Record { delivery_id: id.clone(), content }).collect()
}

/// The records inside one SNS notification.
pub(super) fn of_sns(notification: &Value) -> Vec<Record> {
    let contents = match json::required(notification, &["Sns", "Message"]) {
        Ok(message) => parsed(message, MAX_DEPTH - 1),
        Err(malformed) => vec![Err(malformed)],
    };
    contents.into_iter().map(|content| Record { delivery_id: None, content }).collect()
}

fn parsed(text: &str, depth: usize) -> Vec<Result<Content, Malformed>> {
    match serde_json::from_str(text) {
        Ok(value) => inner(&value, depth),
        Err(error) => vec![Err(Malformed(format!("the message's body is no JSON ({error})")))],
    }
}

fn inner(value: &Value, depth: usize) -> Vec<Result<Content, Malformed>> {
    let Some(depth) = depth.checked_sub(1) else {
        return vec![Err(Malformed("the message wraps others too deeply".into()))];
    };
    if s3::is_test(value) {
        return vec![Ok(Content::Test)];
    }
    if event_bridge::is_object_event(value) {
        return vec![event_bridge::record(value)];
    }
    // SNS to SQS without raw delivery: the notification is the body.
    if json::text(value, &["Type"]) == Some("Notification") {
        return match json::required(value, &["Message"]) {
            Ok(message) => parsed(message, depth),
            Err(malformed) => vec![Err(malformed)],
        };
    }
    match value.get("Records").and_then(Value::as_array) {
        Some(records) if !records.is_empty() => records.iter().map(object).collect(),
        _ => vec![Err(Malformed(format!("the message carries {}", super::seen(value))))],
    }
}

fn object(record: &Value) -> Result<Content, Malformed> {
    if s3::is_record(record) {
        s3::record(record)
    } else {
        Err(Malformed(format!("the message carries a record from {}", super::source(record))))
    }
}
