//! S3 Batch Operations, schemas 1.0 and 2.0: one task an object, its key form-encoded.

use serde_json::Value;

use super::{Change, Content, Creation, Delivery, Envelope, Malformed, ObjectEvent, Record, json, key};
use crate::object_ref::ObjectRef;

pub(super) fn is_batch(value: &Value) -> bool {
    value.get("invocationSchemaVersion").is_some() && value.get("tasks").is_some_and(Value::is_array)
}

pub(super) fn delivery(value: &Value) -> Result<Delivery, Malformed> {
    let schema_version = json::required(value, &["invocationSchemaVersion"])?;
    if !["1.0", "2.0"].contains(&schema_version) {
        return Err(Malformed(format!(
            "the event is an S3 Batch Operations invocation of schema {schema_version:?}; 1.0 and 2.0 are understood"
        )));
    }
    let envelope = Envelope::BatchOperations {
        schema_version: schema_version.to_owned(),
        invocation_id: json::required(value, &["invocationId"])?.to_owned(),
    };
    let tasks = value["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let records = tasks
        .iter()
        .map(|task| Record {
            delivery_id: json::text(task, &["taskId"]).map(str::to_owned),
            content: record(task),
        })
        .collect();
    Ok(Delivery { envelope, records })
}

fn record(task: &Value) -> Result<Content, Malformed> {
    json::required(task, &["taskId"])?;
    let bucket = match json::text(task, &["s3Bucket"]) {
        Some(name) => name,
        None => {
            let arn = json::required(task, &["s3BucketArn"])?;
            arn.rsplit(':').next().unwrap_or(arn)
        }
    };
    if bucket.is_empty() {
        return Err(Malformed("the task's bucket name is empty".into()));
    }
    let key = key::form_decoded(json::required(task, &["s3Key"])?)?;
    let version_id = json::text(task, &["s3VersionId"]).filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(Content::Object(ObjectEvent {
        object: ObjectRef::new(bucket, key).at_version(version_id),
        change: Change::Created(Creation::Unknown),
        size: None,
        e_tag: None,
        time: None,
        metadata: None,
        sequencer: None,
    }))
}
