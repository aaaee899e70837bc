//! What happens to objects, as S3 reports it to others.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

/// Characters that a form leaves as they are; a space becomes `+`.
const FORM: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b'/').remove(b' ');

/// Why an object appeared or disappeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// PUT.
    Put,
    /// A form upload.
    Post,
    /// A copy.
    Copy,
    /// A multipart upload that was completed.
    CompleteMultipartUpload,
    /// An object, or a version, that was deleted for good.
    Delete,
    /// A delete marker that was laid over the versions.
    DeleteMarkerCreated,
}

impl Cause {
    /// The event's name as it stands in a record: `ObjectCreated:Put`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "ObjectCreated:Put",
            Self::Post => "ObjectCreated:Post",
            Self::Copy => "ObjectCreated:Copy",
            Self::CompleteMultipartUpload => "ObjectCreated:CompleteMultipartUpload",
            Self::Delete => "ObjectRemoved:Delete",
            Self::DeleteMarkerCreated => "ObjectRemoved:DeleteMarkerCreated",
        }
    }

    /// Whether there is an object now.
    pub fn is_creation(self) -> bool {
        !matches!(self, Self::Delete | Self::DeleteMarkerCreated)
    }

    /// EventBridge's name of the call.
    fn reason(self) -> &'static str {
        match self {
            Self::Put => "PutObject",
            Self::Post => "POST Object",
            Self::Copy => "CopyObject",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::Delete | Self::DeleteMarkerCreated => "DeleteObject",
        }
    }
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Why.
    pub cause: Cause,
    /// When.
    pub time: Timestamp,
    /// The bucket.
    pub bucket: String,
    /// The raw key.
    pub key: String,
    /// Bytes; none with a removal.
    pub size: Option<u64>,
    /// The entity tag without quotes; none with a removal.
    pub e_tag: Option<String>,
    /// The version, in a bucket with versioning.
    pub version_id: Option<String>,
    /// Grows from event to event, in hexadecimal digits.
    pub sequencer: String,
    /// The access key of who did it.
    pub principal: String,
    /// The request's id.
    pub request_id: String,
    /// The region.
    pub region: String,
    /// The account that owns the bucket.
    pub account: String,
}

impl Event {
    /// S3's own notification with one record. `configuration` is the notification's id.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
    pub fn notification(&self, configuration: &str) -> Value {
        let mut object = json!({ "key": form_encode(&self.key) });
        if let Some(size) = self.size {
            object["size"] = size.into();
        }
        if let Some(e_tag) = &self.e_tag {
            object["eTag"] = e_tag.as_str().into();
        }
        if let Some(version) = &self.version_id {
            object["versionId"] = version.as_str().into();
        }
        object["sequencer"] = self.sequencer.as_str().into();
        json!({ "Records": [{
            "eventVersion": "2.6",
            "eventSource": "aws:s3",
            "awsRegion": self.region,
            "eventTime": millis(self.time),
            "eventName": self.cause.name(),
            "userIdentity": { "principalId": format!("AWS:{}", self.principal) },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": { "x-amz-request-id": self.request_id, "x-amz-id-2": extended_id(&self.request_id) },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": configuration,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": self.account },
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": object,
            },
        }] })
    }

    /// The event as OSS's native trigger carries it, with the key as it is.
    ///
    /// <https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/user-guide/formats-of-event-for-different-triggers>
    pub fn oss(&self) -> Value {
        let name = match self.cause {
            Cause::Put => "ObjectCreated:PutObject",
            Cause::Post => "ObjectCreated:PostObject",
            Cause::Copy => "ObjectCreated:CopyObject",
            Cause::CompleteMultipartUpload => "ObjectCreated:CompleteMultipartUpload",
            Cause::Delete | Cause::DeleteMarkerCreated => "ObjectRemoved:DeleteObject",
        };
        let mut object = json!({ "key": self.key });
        if let Some(size) = self.size {
            object["size"] = size.into();
            object["deltaSize"] = size.into();
        }
        if let Some(e_tag) = &self.e_tag {
            object["eTag"] = e_tag.to_uppercase().into();
        }
        json!({ "events": [{
            "eventName": name,
            "eventSource": "acs:oss",
            "eventTime": millis(self.time),
            "eventVersion": "1.0",
            "oss": {
                "bucket": {
                    "arn": format!("acs:oss:{}:{}:{}", self.region, self.account, self.bucket),
                    "name": self.bucket,
                    "ownerIdentity": self.account,
                },
                "object": object,
                "ossSchemaVersion": "1.0",
            },
            "region": self.region,
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": { "requestId": self.request_id },
            "userIdentity": { "principalId": self.principal },
        }] })
    }

    /// The event as EventBridge carries it, with the key as it is.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
    pub fn event_bridge(&self) -> Value {
        let mut object = json!({ "key": self.key });
        if let Some(size) = self.size {
            object["size"] = size.into();
        }
        if let Some(e_tag) = &self.e_tag {
            object["etag"] = e_tag.as_str().into();
        }
        if let Some(version) = &self.version_id {
            object["version-id"] = version.as_str().into();
        }
        object["sequencer"] = self.sequencer.as_str().into();
        let mut detail = json!({
            "version": "0",
            "bucket": { "name": self.bucket },
            "object": object,
            "request-id": self.request_id,
            "requester": self.account,
            "source-ip-address": "127.0.0.1",
            "reason": self.cause.reason(),
        });
        match self.cause {
            Cause::Delete => detail["deletion-type"] = "Permanently Deleted".into(),
            Cause::DeleteMarkerCreated => detail["deletion-type"] = "Delete Marker Created".into(),
            _ => {}
        }
        json!({
            "version": "0",
            "id": uuid_of(&self.request_id, &self.sequencer),
            "detail-type": if self.cause.is_creation() { "Object Created" } else { "Object Deleted" },
            "source": "aws.s3",
            "account": self.account,
            "time": self.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": self.region,
            "resources": [format!("arn:aws:s3:::{}", self.bucket)],
            "detail": detail,
        })
    }
}

/// The key as a form would send it: `red flower.jpg` is `red+flower.jpg`.
pub fn form_encode(key: &str) -> String {
    percent_encode(key.as_bytes(), FORM).to_string().replace(' ', "+")
}

/// ISO 8601 with milliseconds.
fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The second of the two ids that S3 answers each request with.
pub(super) fn extended_id(request_id: &str) -> String {
    format!("{request_id}/local-cloud")
}

fn uuid_of(request_id: &str, sequencer: &str) -> String {
    use md5::{Digest, Md5};
    let digits = hex::encode(Md5::digest(format!("{request_id}/{sequencer}")));
    let part = |range| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(cause: Cause) -> Event {
        Event {
            cause,
            time: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            bucket: "uploads".to_owned(),
            key: "a b+头/ä~(1).png".to_owned(),
            size: cause.is_creation().then_some(5),
            e_tag: cause.is_creation().then(|| "b1946ac92492d2347c6235b4d2611184".to_owned()),
            version_id: None,
            sequencer: "0055AED6DCD90281E5".to_owned(),
            principal: "test".to_owned(),
            request_id: "R".to_owned(),
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
        }
    }

    #[test]
    fn a_notification_encodes_its_key_like_a_form() {
        let record = &event(Cause::Put).notification("to-avatars")["Records"][0];
        assert_eq!(record["s3"]["object"]["key"], "a+b%2B%E5%A4%B4/%C3%A4%7E%281%29.png");
        assert_eq!(record["s3"]["object"]["eTag"], "b1946ac92492d2347c6235b4d2611184");
        assert_eq!(record["eventTime"], "2026-01-02T03:04:05.678Z");
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["s3"]["configurationId"], "to-avatars");
        assert!(record["s3"]["object"].get("versionId").is_none());
    }

    #[test]
    fn a_removal_has_neither_size_nor_tag() {
        let record = &event(Cause::Delete).notification("x")["Records"][0];
        assert!(record["s3"]["object"].get("size").is_none());
        assert!(record["s3"]["object"].get("eTag").is_none());
    }

    #[test]
    fn event_bridge_carries_the_key_as_it_is() {
        let event = event(Cause::Post).event_bridge();
        assert_eq!(event["detail"]["object"]["key"], "a b+头/ä~(1).png");
        assert_eq!(event["detail-type"], "Object Created");
        assert_eq!(event["time"], "2026-01-02T03:04:05Z");
    }
}
