//! What is seen from outside: one JSON line per record, and metrics in CloudWatch's embedded format.
//!
//! Never a ticket, a secret or an event body: only the fields named here are written.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::outcome::{Outcome, Status};
use crate::runtime;

/// The namespace of every metric.
pub const NAMESPACE: &str = "BucketFunctions";

/// Sends this process's log to standard output, as JSON lines; libraries speak from warnings up.
pub fn init(function: &'static str) {
    let own = ["shared", "avatar_transcoder", "upload_validator", "expiry_sweeper"];
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(own.map(|target| (target, LevelFilter::INFO)));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(std::io::stdout);
    // A second call, from a test, keeps the first one's subscriber.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
    tracing::info!(function, version = env!("CARGO_PKG_VERSION"), "starting");
}

/// Writes the line of one record.
pub fn record(outcome: &Outcome, size_bytes: Option<u64>) {
    let (bucket, key) = outcome.source.as_ref().map(|s| (s.bucket.as_str(), s.key.as_str())).unzip();
    let (code, message) = outcome.reason.as_ref().map(|r| (r.code, r.message.as_str())).unzip();
    let status = outcome.status.as_str();
    let duration_ms = outcome.duration_ms;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                object.bucket = bucket,
                object.key = key,
                size_bytes,
                duration_ms,
                status,
                reason = code,
                detail = message,
                "record"
            )
        };
    }
    match outcome.status {
        Status::Failed => line!(error),
        _ => line!(info),
    }
}

/// One metric's value; its name ends in its unit where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `SweptBytes`, `AvatarsStored`, …
    pub name: &'static str,
    /// `Count`, `Bytes`, `Milliseconds`, `Seconds` (CloudWatch's names).
    pub unit: &'static str,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// A count. Above 2⁵³ it is rounded.
    #[expect(clippy::cast_precision_loss, reason = "CloudWatch stores doubles")]
    pub fn count(name: &'static str, value: u64) -> Self {
        Self { name, unit: "Count", value: value as f64 }
    }
}

/// The embedded-metric document of `metrics` at `now`, by the given dimensions (name and value).
pub fn embedded_metrics(now: Timestamp, dimensions: &[(&str, &str)], metrics: &[Metric]) -> Value {
    let names: Vec<_> = dimensions.iter().map(|(name, _)| *name).collect();
    let definitions: Vec<_> = metrics.iter().map(|m| json!({"Name": m.name, "Unit": m.unit})).collect();
    let mut document = Map::new();
    document.insert(
        "_aws".into(),
        json!({"Timestamp": now.as_millisecond(),
               "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": definitions}]}),
    );
    for (name, value) in dimensions {
        document.insert((*name).into(), json!(value));
    }
    for metric in metrics {
        document.insert(metric.name.into(), json!(metric.value));
    }
    Value::Object(document)
}

/// Writes `metrics` to standard output, where CloudWatch finds them.
#[expect(clippy::print_stdout, reason = "standard output is where CloudWatch reads metrics from")]
pub fn emit(now: Timestamp, dimensions: &[(&str, &str)], metrics: &[Metric]) {
    // Metrics go where log lines go: nowhere, in a process that is no function.
    if !tracing::dispatcher::has_been_set() {
        return;
    }
    let mut document = embedded_metrics(now, dimensions, metrics);
    if let Some(id) = runtime::request_id() {
        document["request_id"] = id.into();
    }
    println!("{document}");
}

/// Counts the outcomes of one invocation by status, as one metric document.
pub fn count_outcomes(now: Timestamp, function: &str, outcomes: &[Outcome]) {
    const NAMES: [(Status, &str); 6] = [
        (Status::Stored, "StoredCount"),
        (Status::Unchanged, "UnchangedCount"),
        (Status::Accepted, "AcceptedCount"),
        (Status::Rejected, "RejectedCount"),
        (Status::Skipped, "SkippedCount"),
        (Status::Failed, "FailedCount"),
    ];
    let metrics: Vec<_> = NAMES
        .iter()
        .map(|(status, name)| (name, outcomes.iter().filter(|o| o.status == *status).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| Metric::count(name, u64::try_from(count).unwrap_or(u64::MAX)))
        .collect();
    if !metrics.is_empty() {
        emit(now, &[("FunctionName", function)], &metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_document_names_its_metrics_and_carries_their_values() {
        let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let document =
            embedded_metrics(now, &[("FunctionName", "expiry-sweeper")], &[Metric::count("SweptObjects", 7)]);
        assert_eq!(
            document,
            json!({
                "_aws": {"Timestamp": 1_700_000_000_123_i64, "CloudWatchMetrics": [{
                    "Namespace": "BucketFunctions", "Dimensions": [["FunctionName"]],
                    "Metrics": [{"Name": "SweptObjects", "Unit": "Count"}]}]},
                "FunctionName": "expiry-sweeper",
                "SweptObjects": 7.0,
            })
        );
    }
}
