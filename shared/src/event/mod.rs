//! Events in: [`normalize`] turns whatever a carrier delivers into a [`Delivery`] of records, and
//! [`Delivery::answer`] turns the outcomes into what that carrier understands.
//!
//! An envelope is recognised by its shape, never by configuration. One bad record yields its own
//! [`Malformed`] and the others go on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::object_ref::{ETag, ObjectRef};
use crate::outcome::Reason;

mod answer;
mod batch;
mod direct;
mod event_bridge;
mod json;
mod key;
mod map;
mod oss;
mod queue;
mod s3;

/// What the carrier's JSON was recognised as; decides how keys are decoded and how to answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Envelope {
    /// S3 event notification, `Records[]` with `eventSource` `aws:s3`.
    S3Notification,
    /// EventBridge `Object Created` from `aws.s3`.
    EventBridge,
    /// SNS to Lambda, `Records[].Sns`.
    Sns,
    /// SQS to Lambda, `Records[].body`; answered by `batchItemFailures`.
    Sqs,
    /// S3 Batch Operations; answered by one result per task.
    BatchOperations {
        /// `1.0` or `2.0`, echoed in the answer.
        schema_version: String,
        /// Echoed in the answer.
        invocation_id: String,
    },
    /// Step Functions Distributed Map with `BatchInput`.
    DistributedMap {
        /// What the state machine passes to every batch.
        batch_input: Value,
    },
    /// OSS native trigger, `events[]` with `eventSource` `acs:oss`.
    OssNotification,
    /// OSS through EventBridge, as CloudEvent, single or array.
    OssCloudEvent,
    /// Function Compute timer.
    FcTimer,
    /// EventBridge schedule, or `{"sweep": …}` from a state machine or by hand.
    Schedule,
    /// `{"bucket": …, "key": …}`, by hand.
    Direct,
    /// `s3:TestEvent`, sent when a notification is configured.
    TestEvent,
}

/// One invocation's event, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What it was recognised as.
    pub envelope: Envelope,
    /// Every record in it, in order.
    pub records: Vec<Record>,
}

/// One record of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The carrier's own name for it, where the answer has to repeat it: the SQS message id or the
    /// Batch Operations task id. One SQS message can hold several records; they share the id.
    pub delivery_id: Option<String>,
    /// What it says, or what is wrong with it.
    pub content: Result<Content, Malformed>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Something happened to an object.
    Object(ObjectEvent),
    /// An object of a listing, from a Distributed Map.
    Listed(ListedObject),
    /// It is time: a schedule or a timer.
    Tick(Tick),
    /// The carrier tries whether we are there.
    Test,
}

/// Something happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectEvent {
    /// Which object, its key decoded as its carrier demands.
    pub object: ObjectRef,
    /// What happened.
    pub change: Change,
    /// Its size in bytes, where the carrier says it.
    pub size: Option<u64>,
    /// Its entity tag, where the carrier says it.
    pub e_tag: Option<ETag>,
    /// When it happened, where the carrier says it.
    pub time: Option<Timestamp>,
    /// The object's user metadata, names without their `x-…-meta-` prefix and in lower case, where the
    /// carrier says it (OSS `userMeta`).
    pub metadata: Option<BTreeMap<String, String>>,
    /// S3's order of events for one key: hexadecimal, compared after padding with zeros on the left.
    pub sequencer: Option<String>,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was created, or replaced.
    Created(Creation),
    /// It was removed; nothing is there to be read.
    Removed,
    /// Something else, under the carrier's name for it.
    Other(String),
}

/// How an object came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// `PutObject`.
    Put,
    /// `PostObject`, a browser's form upload.
    Post,
    /// `CopyObject`.
    Copy,
    /// `CompleteMultipartUpload`.
    Multipart,
    /// The carrier does not say (by hand, Batch Operations).
    Unknown,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedObject {
    /// The raw key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag that was listed.
    pub e_tag: Option<ETag>,
    /// When it was last written.
    pub last_modified: Timestamp,
    /// `STANDARD`, `GLACIER`, …
    pub storage_class: Option<String>,
}

/// It is time to do something.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The instant that the schedule meant, where it says so.
    pub time: Option<Timestamp>,
    /// What the schedule carries: the EventBridge `detail`, the timer's `payload`, a state machine's
    /// own input; null if nothing.
    pub payload: Value,
}

/// A record, or a whole event, that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// What is understood, for messages.
const UNDERSTOOD: &str = "S3 notifications, EventBridge, SNS, SQS, S3 Batch Operations, a Distributed Map's \
     {BatchInput, Items}, OSS events and CloudEvents, timers and schedules, {\"sweep\": …}, \
     and {\"bucket\", \"key\"} by hand";

/// Turns what a carrier delivered into records.
///
/// # Errors
/// The whole event is nothing that is understood; the message names what was seen.
pub fn normalize(event: &Value) -> Result<Delivery, Malformed> {
    if let Some(elements) = event.as_array() {
        return array(elements);
    }
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        return of_records(event, records);
    }
    if let Some(events) = event.get("events").and_then(Value::as_array) {
        return of_oss_events(event, events);
    }
    if s3::is_test(event) {
        return Ok(single(Envelope::TestEvent, Ok(Content::Test)));
    }
    if batch::is_batch(event) {
        return batch::delivery(event);
    }
    if map::is_map(event) {
        return Ok(map::delivery(event));
    }
    if oss::is_cloud_event(event) {
        return Ok(single(Envelope::OssCloudEvent, oss::of_cloud_event(event)));
    }
    if oss::is_record(event) {
        // EventBridge's RawData format: the payload alone.
        return Ok(single(Envelope::OssCloudEvent, oss::record(event)));
    }
    if oss::is_timer(event) {
        return Ok(single(Envelope::FcTimer, Ok(oss::tick(event))));
    }
    if event_bridge::is_schedule(event) {
        return Ok(single(Envelope::Schedule, Ok(event_bridge::tick(event))));
    }
    if event_bridge::is_object_event(event) {
        return Ok(single(Envelope::EventBridge, event_bridge::record(event)));
    }
    if let Some(payload) = event.get("sweep") {
        let tick = Tick { time: None, payload: payload.clone() };
        return Ok(single(Envelope::Schedule, Ok(Content::Tick(tick))));
    }
    if direct::is_direct(event) {
        return Ok(single(Envelope::Direct, direct::record(event)));
    }
    Err(not_understood(event))
}

fn single(envelope: Envelope, content: Result<Content, Malformed>) -> Delivery {
    Delivery { envelope, records: vec![Record { delivery_id: None, content }] }
}

fn all(
    envelope: Envelope,
    elements: &[Value],
    one: impl Fn(&Value) -> Result<Content, Malformed>,
) -> Delivery {
    let records =
        elements.iter().map(|element| Record { delivery_id: None, content: one(element) }).collect();
    Delivery { envelope, records }
}

/// The records of one array come from one carrier; the first that is recognised says which, and one
/// that is not of it is malformed.
fn of_records(event: &Value, records: &[Value]) -> Result<Delivery, Malformed> {
    if records.iter().any(queue::is_sqs) {
        return Ok(Delivery {
            envelope: Envelope::Sqs,
            records: records.iter().flat_map(queue::of_sqs).collect(),
        });
    }
    if records.iter().any(queue::is_sns) {
        return Ok(Delivery {
            envelope: Envelope::Sns,
            records: records.iter().flat_map(queue::of_sns).collect(),
        });
    }
    if records.iter().any(s3::is_record) {
        return Ok(all(Envelope::S3Notification, records, |record| {
            if s3::is_record(record) { s3::record(record) } else { Err(foreign(record)) }
        }));
    }
    Err(records.first().map_or_else(|| not_understood(event), foreign))
}

fn of_oss_events(event: &Value, events: &[Value]) -> Result<Delivery, Malformed> {
    if events.iter().any(oss::is_record) {
        return Ok(all(Envelope::OssNotification, events, |record| {
            if oss::is_record(record) { oss::record(record) } else { Err(foreign(record)) }
        }));
    }
    Err(events.first().map_or_else(|| not_understood(event), foreign))
}

/// Batched CloudEvents arrive as a bare array.
fn array(elements: &[Value]) -> Result<Delivery, Malformed> {
    if elements.iter().any(|element| oss::is_cloud_event(element) || oss::is_record(element)) {
        return Ok(all(Envelope::OssCloudEvent, elements, |element| {
            if oss::is_cloud_event(element) {
                oss::of_cloud_event(element)
            } else if oss::is_record(element) {
                oss::record(element)
            } else {
                Err(foreign(element))
            }
        }));
    }
    if elements.iter().any(event_bridge::is_object_event) {
        return Ok(all(Envelope::EventBridge, elements, |element| {
            if event_bridge::is_object_event(element) {
                event_bridge::record(element)
            } else {
                Err(foreign(element))
            }
        }));
    }
    Err(Malformed(format!(
        "the event is an array of {} elements; understood are {UNDERSTOOD}",
        elements.len()
    )))
}

fn foreign(record: &Value) -> Malformed {
    Malformed(format!("the record comes from {}; understood are {UNDERSTOOD}", source(record)))
}

fn not_understood(event: &Value) -> Malformed {
    Malformed(format!("the event is {}; understood are {UNDERSTOOD}", seen(event)))
}

/// The record's own word for where it comes from, abridged.
fn source(record: &Value) -> String {
    let named = ["eventSource", "EventSource", "source"].iter().find_map(|name| record.get(name)?.as_str());
    named.map_or_else(|| seen(record), |name| format!("{:?}", abridged(name)))
}

/// What a value looks like, by the names of its fields: values may be secrets.
fn seen(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
        Value::Object(fields) => {
            let names: Vec<_> = fields.keys().take(8).map(|name| abridged(name)).collect();
            let more = if fields.len() > names.len() { ", …" } else { "" };
            format!("an object with {}{more}", names.join(", "))
        }
        Value::Array(elements) => format!("an array of {} elements", elements.len()),
        Value::String(_) => "a text".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

fn abridged(name: &str) -> String {
    name.chars().take(40).collect()
}

impl ObjectEvent {
    /// Why no function has anything to do for this record: it tells of no creation, or of a folder marker
    /// that a console writes (a key that ends in `/`, without bytes).
    pub fn skip_reason(&self) -> Option<Reason> {
        match &self.change {
            Change::Removed => {
                return Some(Reason::new(
                    "removal-event",
                    "The event tells of a removal; there is nothing to read.",
                ));
            }
            Change::Other(name) => {
                let name = abridged(name);
                return Some(Reason::new(
                    "not-a-creation",
                    format!("The event {name:?} tells of no new object."),
                ));
            }
            Change::Created(_) => {}
        }
        (self.object.key.ends_with('/') && self.size.unwrap_or(0) == 0)
            .then(|| Reason::new("folder-marker", "The object only marks a folder."))
    }
}

#[cfg(test)]
mod tests;
