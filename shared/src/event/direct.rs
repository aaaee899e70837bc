//! By hand: `{"bucket": …, "key": …}`, with `version_id`, `e_tag` and `size` where they are known.

use serde_json::Value;

use super::{Change, Content, Creation, Malformed, ObjectEvent, json, key};
use crate::object_ref::ObjectRef;

pub(super) fn is_direct(value: &Value) -> bool {
    value.get("bucket").is_some() && value.get("key").is_some()
}

pub(super) fn record(value: &Value) -> Result<Content, Malformed> {
    let bucket = json::bucket(value, &["bucket"])?;
    let key = key::raw(json::required(value, &["key"])?)?;
    let version_id = json::text(value, &["version_id"]).map(str::to_owned);
    Ok(Content::Object(ObjectEvent {
        object: ObjectRef::new(bucket, key).at_version(version_id),
        change: Change::Created(Creation::Unknown),
        size: json::size(value, &["size"]),
        e_tag: json::e_tag(value, &["e_tag"]),
        time: None,
        metadata: None,
        sequencer: None,
    }))
}
