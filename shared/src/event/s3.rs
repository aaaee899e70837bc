//! S3 event notifications: `Records[]` with `eventSource` `aws:s3`, version 2 (S3 User Guide, Event message
//! structure). New fields are ignored, as the guide asks.

use serde_json::Value;

use super::{Change, Content, Creation, Malformed, ObjectEvent, json, key};
use crate::object_ref::ObjectRef;

pub(super) fn is_record(value: &Value) -> bool {
    json::text(value, &["eventSource"]) == Some("aws:s3")
}

pub(super) fn is_test(value: &Value) -> bool {
    json::text(value, &["Event"]) == Some("s3:TestEvent")
}

pub(super) fn record(value: &Value) -> Result<Content, Malformed> {
    let version = json::required(value, &["eventVersion"])?;
    if version.split('.').next() != Some("2") {
        return Err(Malformed(format!(
            "the record has eventVersion {version:?}; versions 2.x are understood"
        )));
    }
    let object = ["s3", "object"];
    let field = |name| [object[0], object[1], name];
    let bucket = json::bucket(value, &["s3", "bucket", "name"])?;
    let key = key::form_decoded(json::required(value, &field("key"))?)?;
    let version_id = json::text(value, &field("versionId")).filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(Content::Object(ObjectEvent {
        object: ObjectRef::new(bucket, key).at_version(version_id),
        change: change(json::required(value, &["eventName"])?),
        size: json::size(value, &field("size")),
        e_tag: json::e_tag(value, &field("eTag")),
        time: json::time(value, &["eventTime"]),
        metadata: None,
        sequencer: json::text(value, &field("sequencer")).map(str::to_owned),
    }))
}

/// What an event name of S3 or OSS says, with or without the `s3:` that configurations put before it.
pub(super) fn change(event_name: &str) -> Change {
    let name =
        event_name.strip_prefix("s3:").or_else(|| event_name.strip_prefix("oss:")).unwrap_or(event_name);
    match name.split_once(':') {
        Some(("ObjectCreated", how)) => match how {
            "Put" | "PutObject" => Change::Created(Creation::Put),
            "Post" | "PostObject" => Change::Created(Creation::Post),
            "Copy" | "CopyObject" => Change::Created(Creation::Copy),
            "CompleteMultipartUpload" => Change::Created(Creation::Multipart),
            // OSS sends these under the same family while nothing can be read yet.
            "InitiateMultipartUpload" | "UploadPart" | "UploadPartCopy" => {
                Change::Other(event_name.to_owned())
            }
            _ => Change::Created(Creation::Unknown),
        },
        Some(("ObjectRemoved" | "LifecycleExpiration", _)) => Change::Removed,
        _ => Change::Other(event_name.to_owned()),
    }
}
