//! Step Functions Distributed Map: `{BatchInput, Items[]}`, the items as ListObjectsV2 or a CSV inventory
//! gives them.

use jiff::Timestamp;
use serde_json::Value;

use super::{Content, Delivery, Envelope, ListedObject, Malformed, Record, json, key};

pub(super) fn is_map(value: &Value) -> bool {
    value.get("Items").is_some_and(Value::is_array)
}

pub(super) fn delivery(value: &Value) -> Delivery {
    let items = value["Items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Delivery {
        envelope: Envelope::DistributedMap {
            batch_input: value.get("BatchInput").cloned().unwrap_or_default(),
        },
        records: items.iter().map(|item| Record { delivery_id: None, content: record(item) }).collect(),
    }
}

fn record(item: &Value) -> Result<Content, Malformed> {
    let modified = json::at(item, &["LastModified"]).or_else(|| json::at(item, &["LastModifiedDate"]));
    // The item reader writes seconds; an inventory writes ISO 8601.
    let last_modified = modified
        .and_then(|value| match value {
            Value::Number(seconds) => Timestamp::from_second(seconds.as_i64()?).ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        })
        .ok_or_else(|| Malformed("the item has no readable LastModified".into()))?;
    Ok(Content::Listed(ListedObject {
        key: key::raw(json::required(item, &["Key"])?)?,
        size: json::size(item, &["Size"]).ok_or_else(|| Malformed("the item has no readable Size".into()))?,
        e_tag: json::e_tag(item, &["Etag"]).or_else(|| json::e_tag(item, &["ETag"])),
        last_modified,
        storage_class: json::text(item, &["StorageClass"]).map(str::to_owned),
    }))
}
