//! Alibaba Cloud OSS: the native trigger's `events[]`, the same through EventBridge as CloudEvents, and
//! Function Compute's timer. Keys stand as they are, tags are upper-case, most fields are optional.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Content, Malformed, ObjectEvent, Tick, json, key, s3};
use crate::object_ref::ObjectRef;

pub(super) fn is_record(value: &Value) -> bool {
    json::text(value, &["eventSource"]) == Some("acs:oss") && value.get("oss").is_some()
}

pub(super) fn is_cloud_event(value: &Value) -> bool {
    value.get("specversion").is_some() && json::at(value, &["data"]).is_some_and(is_record)
}

pub(super) fn is_timer(value: &Value) -> bool {
    value.get("triggerTime").is_some() && value.get("triggerName").is_some()
}

pub(super) fn record(value: &Value) -> Result<Content, Malformed> {
    let field = |name| ["oss", "object", name];
    let bucket = json::bucket(value, &["oss", "bucket", "name"])?;
    let key = key::raw(json::required(value, &field("key"))?)?;
    Ok(Content::Object(ObjectEvent {
        object: ObjectRef::new(bucket, key),
        change: s3::change(json::required(value, &["eventName"])?),
        size: json::size(value, &field("size")),
        e_tag: json::e_tag(value, &field("eTag")),
        time: json::time(value, &["eventTime"]),
        metadata: metadata(value),
        sequencer: None,
    }))
}

pub(super) fn of_cloud_event(value: &Value) -> Result<Content, Malformed> {
    record(&value["data"])
}

fn metadata(value: &Value) -> Option<BTreeMap<String, String>> {
    let named = json::at(value, &["oss", "object", "objectMeta", "userMeta"])?.as_object()?;
    let bare = |name: &str| {
        let name = name.to_ascii_lowercase();
        let name =
            name.strip_prefix("x-oss-meta-").or_else(|| name.strip_prefix("x-amz-meta-")).unwrap_or(&name);
        name.to_owned()
    };
    Some(named.iter().filter_map(|(name, value)| Some((bare(name), value.as_str()?.to_owned()))).collect())
}

pub(super) fn tick(value: &Value) -> Content {
    // The payload is text; what reads as JSON is taken as such, so that one policy input serves both clouds.
    let payload = json::text(value, &["payload"])
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
        .unwrap_or_default();
    Content::Tick(Tick { time: json::time(value, &["triggerTime"]), payload })
}
