//! EventBridge: object events from `aws.s3`, whose keys are raw, and schedules.

use serde_json::Value;

use super::{Change, Content, Creation, Malformed, ObjectEvent, Tick, json, key};
use crate::object_ref::ObjectRef;

pub(super) fn is_object_event(value: &Value) -> bool {
    json::text(value, &["source"]) == Some("aws.s3") && value.get("detail-type").is_some()
}

pub(super) fn is_schedule(value: &Value) -> bool {
    json::text(value, &["detail-type"]) == Some("Scheduled Event")
        || json::text(value, &["source"]) == Some("aws.scheduler")
}

pub(super) fn record(value: &Value) -> Result<Content, Malformed> {
    let detail_type = json::required(value, &["detail-type"])?;
    let change = match detail_type {
        "Object Created" => Change::Created(match json::text(value, &["detail", "reason"]) {
            Some("PutObject") => Creation::Put,
            Some("POST Object" | "PostObject") => Creation::Post,
            Some("CopyObject") => Creation::Copy,
            Some("CompleteMultipartUpload") => Creation::Multipart,
            _ => Creation::Unknown,
        }),
        "Object Deleted" => Change::Removed,
        other => Change::Other(other.to_owned()),
    };
    let field = |name| ["detail", "object", name];
    let bucket = json::bucket(value, &["detail", "bucket", "name"])?;
    let key = key::raw(json::required(value, &field("key"))?)?;
    let version_id = json::text(value, &field("version-id")).filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(Content::Object(ObjectEvent {
        object: ObjectRef::new(bucket, key).at_version(version_id),
        change,
        size: json::size(value, &field("size")),
        e_tag: json::e_tag(value, &field("etag")),
        time: json::time(value, &["time"]),
        metadata: None,
        sequencer: json::text(value, &field("sequencer")).map(str::to_owned),
    }))
}

pub(super) fn tick(value: &Value) -> Content {
    Content::Tick(Tick {
        time: json::time(value, &["time"]),
        payload: value.get("detail").cloned().unwrap_or_default(),
    })
}
