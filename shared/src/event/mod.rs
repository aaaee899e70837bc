//! Events in: [`normalize`] turns whatever a carrier delivers into a [`Delivery`] of records, and
//! [`Delivery::answer`] turns the outcomes into what that carrier understands.
//!
//! An envelope is recognised by its shape, never by configuration. One bad record yields its own
//! [`Malformed`] and the others go on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::object_ref::{ETag, ObjectRef};

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
    /// EventBridge schedule.
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
