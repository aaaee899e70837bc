//! What the server holds: buckets, versions, uploads. Everything here is a plain function of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use s3s::dto::{Checksum, ETagCondition};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::blob::Blob;

/// The id of the version that a bucket without versioning keeps.
pub(super) const NULL_VERSION: &str = "null";

/// Name to value.
pub type Tags = BTreeMap<String, String>;

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// It never did.
    #[default]
    Off,
    /// It does.
    Enabled,
    /// It did, and keeps those it has.
    Suspended,
}

/// What stands beside the bytes of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes {
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// `Content-Disposition`
    pub content_disposition: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `Content-Language`
    pub content_language: Option<String>,
    /// `Expires`
    pub(super) expires: Option<s3s::dto::Timestamp>,
    /// `x-amz-website-redirect-location`
    pub(super) redirect: Option<String>,
    /// The storage class, where it is not `STANDARD`.
    pub storage_class: Option<String>,
    /// `x-amz-meta-*`, without the prefix, in lower case.
    pub metadata: BTreeMap<String, String>,
}

impl Attributes {
    /// Nothing but a `Content-Type`.
    pub fn of_type(content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..Self::default() }
    }
}

/// A version of an object.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// The bytes.
    pub body: Blob,
    /// The entity tag without quotes.
    pub e_tag: String,
    /// What stands beside the bytes.
    pub attributes: Arc<Attributes>,
    /// The tags.
    pub tags: Tags,
    /// When it was written.
    pub last_modified: Timestamp,
    /// `null` unless the bucket keeps versions.
    pub version_id: String,
    /// Whether a legal hold forbids its deletion.
    pub legal_hold: bool,
    /// Until when its deletion is forbidden, and in which mode.
    pub(super) retention: Option<(String, Timestamp)>,
    /// Digests that the client asked for.
    pub(super) checksum: Option<Box<Checksum>>,
    /// Bytes of each part, if it was uploaded in parts.
    pub(super) parts: Arc<[u64]>,
}

impl StoredObject {
    /// Refuses to be deleted while it is locked.
    fn check_unlocked(&self, now: Timestamp) -> S3Result<()> {
        let retained = self.retention.as_ref().is_some_and(|(_, until)| *until > now);
        if self.legal_hold || retained {
            return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
        }
        Ok(())
    }

    pub(super) fn matches(&self, condition: &ETagCondition) -> bool {
        match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(e_tag) => e_tag.value() == self.e_tag,
        }
    }
}

/// A version, or the marker that says that there is no object any more.
#[derive(Debug, Clone)]
pub(super) enum Version {
    Object(StoredObject),
    Marker { version_id: String, last_modified: Timestamp },
}

impl Version {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Object(object) => &object.version_id,
            Self::Marker { version_id, .. } => version_id,
        }
    }

    pub(super) fn object(&self) -> Option<&StoredObject> {
        match self {
            Self::Object(object) => Some(object),
            Self::Marker { .. } => None,
        }
    }
}

/// The versions of a key, oldest first, never empty.
pub(super) type Versions = Vec<Version>;

/// A multipart upload under way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) initiated: Timestamp,
    pub(super) attributes: Arc<Attributes>,
    pub(super) tags: Tags,
    pub(super) legal_hold: bool,
    pub(super) retention: Option<(String, Timestamp)>,
    pub(super) parts: BTreeMap<u16, Part>,
}

/// A part of an upload.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) body: Blob,
    pub(super) md5: [u8; 16],
    pub(super) last_modified: Timestamp,
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: Timestamp,
    pub(super) versioning: Versioning,
    pub(super) object_lock: bool,
    pub(super) public_read: bool,
    pub(super) policy: Option<String>,
    pub(super) tags: Option<Tags>,
    pub(super) objects: BTreeMap<String, Versions>,
    /// By key and upload id, which is the order in which S3 lists them.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deleted {
    /// There was nothing.
    Nothing,
    /// The object, or the named version, is gone for good.
    Gone { version_id: Option<String>, was_marker: bool },
    /// A marker lies over the versions.
    Marked { version_id: String },
}

/// What a new version is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct NewObject {
    pub(super) body: Blob,
    pub(super) e_tag: String,
    pub(super) attributes: Arc<Attributes>,
    pub(super) tags: Tags,
    pub(super) legal_hold: bool,
    pub(super) retention: Option<(String, Timestamp)>,
    pub(super) checksum: Option<Box<Checksum>>,
    pub(super) parts: Arc<[u64]>,
}

/// What must hold for a write.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    /// OSS's own way to create only.
    pub(super) forbid_overwrite: bool,
}

impl WriteConditions {
    pub(super) fn check(&self, current: Option<&StoredObject>) -> S3Result<()> {
        if self.forbid_overwrite && current.is_some() {
            return Err(file_already_exists());
        }
        match (&self.if_none_match, current) {
            (Some(ETagCondition::ETag(_)), _) => {
                return Err(s3_error!(
                    NotImplemented,
                    "A header you provided implies functionality that is not implemented: If-None-Match takes only *"
                ));
            }
            (Some(ETagCondition::Any), Some(_)) => return Err(precondition_failed()),
            _ => {}
        }
        match (&self.if_match, current) {
            (Some(_), None) => Err(no_such_key()),
            (Some(condition), Some(object)) if !object.matches(condition) => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

pub(super) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn file_already_exists() -> S3Error {
    let code = S3ErrorCode::Custom("FileAlreadyExists".into());
    let message = "The object you specified already exists and can not be overwritten.";
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(hyper::StatusCode::CONFLICT);
    error
}

pub(super) fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

impl Bucket {
    pub(super) fn new(created: Timestamp) -> Self {
        Self {
            created,
            versioning: Versioning::Off,
            object_lock: false,
            public_read: false,
            policy: None,
            tags: None,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
        }
    }

    /// The object that a GET without version sees.
    pub(super) fn current(&self, key: &str) -> Option<&StoredObject> {
        self.objects.get(key)?.last()?.object()
    }

    /// The object that a call means.
    pub(super) fn find(&self, key: &str, version_id: Option<&str>) -> S3Result<&StoredObject> {
        let versions = self.objects.get(key);
        let Some(id) = version_id else {
            return match versions.and_then(|versions| versions.last()) {
                Some(Version::Object(object)) => Ok(object),
                Some(Version::Marker { version_id, .. }) => {
                    Err(marked(no_such_key(), version_id, self.versioning))
                }
                None => Err(no_such_key()),
            };
        };
        match versions.into_iter().flatten().find(|version| version.id() == id) {
            Some(Version::Object(object)) => Ok(object),
            Some(Version::Marker { version_id, .. }) => {
                let refused =
                    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
                Err(marked(refused, version_id, self.versioning))
            }
            None => Err(s3_error!(NoSuchVersion, "The specified version does not exist.")),
        }
    }

    pub(super) fn find_mut(&mut self, key: &str, version_id: Option<&str>) -> S3Result<&mut StoredObject> {
        let id = self.find(key, version_id)?.version_id.clone();
        let versions = self.objects.get_mut(key).into_iter().flatten();
        versions
            .filter_map(|version| match version {
                Version::Object(object) if object.version_id == id => Some(object),
                _ => None,
            })
            .next()
            .ok_or_else(no_such_key)
    }

    /// Lays `version` over the others; one with the id `null` replaces the one that had it.
    fn push(&mut self, key: &str, version: Version) {
        match self.objects.get_mut(key) {
            None => {
                self.objects.insert(key.to_owned(), vec![version]);
            }
            Some(versions) => {
                if version.id() == NULL_VERSION {
                    versions.retain(|other| other.id() != NULL_VERSION);
                }
                versions.push(version);
            }
        }
    }

    fn next_id(&self, ids: &mut Ids) -> String {
        match self.versioning {
            Versioning::Enabled => ids.opaque("version"),
            Versioning::Off | Versioning::Suspended => NULL_VERSION.to_owned(),
        }
    }

    /// Writes an object and answers it.
    pub(super) fn write(
        &mut self,
        key: &str,
        new: NewObject,
        conditions: &WriteConditions,
        now: Timestamp,
        ids: &mut Ids,
    ) -> S3Result<StoredObject> {
        // OSS ignores its header where versions are kept, or once were.
        let forbid_overwrite = conditions.forbid_overwrite && self.versioning == Versioning::Off;
        WriteConditions { forbid_overwrite, ..conditions.clone() }.check(self.current(key))?;
        let object = StoredObject {
            body: new.body,
            e_tag: new.e_tag,
            attributes: new.attributes,
            tags: new.tags,
            last_modified: now,
            version_id: self.next_id(ids),
            legal_hold: new.legal_hold,
            retention: new.retention,
            checksum: new.checksum,
            parts: new.parts,
        };
        self.push(key, Version::Object(object.clone()));
        Ok(object)
    }

    /// Deletes the object, or the named version. A condition is about the current object.
    pub(super) fn delete(
        &mut self,
        key: &str,
        version_id: Option<&str>,
        if_match: Option<&ETagCondition>,
        now: Timestamp,
        ids: &mut Ids,
    ) -> S3Result<Deleted> {
        if let Some(condition) = if_match {
            let current = self.current(key).ok_or_else(no_such_key)?;
            if !current.matches(condition) {
                return Err(precondition_failed());
            }
        }
        match (version_id, self.versioning) {
            (Some(id), _) => self.delete_version(key, id, now),
            (None, Versioning::Off) => match self.objects.get(key) {
                None => Ok(Deleted::Nothing),
                Some(_) => {
                    self.delete_version(key, NULL_VERSION, now)?;
                    Ok(Deleted::Gone { version_id: None, was_marker: false })
                }
            },
            (None, Versioning::Enabled | Versioning::Suspended) => {
                let version_id = self.next_id(ids);
                if version_id == NULL_VERSION
                    && let Some(object) = self.objects.get(key).and_then(|versions| {
                        versions
                            .iter()
                            .filter_map(Version::object)
                            .find(|object| object.version_id == NULL_VERSION)
                    })
                {
                    object.check_unlocked(now)?;
                }
                self.push(key, Version::Marker { version_id: version_id.clone(), last_modified: now });
                Ok(Deleted::Marked { version_id })
            }
        }
    }

    fn delete_version(&mut self, key: &str, id: &str, now: Timestamp) -> S3Result<Deleted> {
        let Some(versions) = self.objects.get_mut(key) else { return Ok(Deleted::Nothing) };
        let Some(at) = versions.iter().position(|version| version.id() == id) else {
            return Ok(Deleted::Nothing);
        };
        let was_marker = match versions.get(at) {
            Some(Version::Object(object)) => {
                object.check_unlocked(now)?;
                false
            }
            _ => true,
        };
        versions.remove(at);
        if versions.is_empty() {
            self.objects.remove(key);
        }
        Ok(Deleted::Gone { version_id: Some(id.to_owned()), was_marker })
    }

    pub(super) fn upload_mut(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(&(key.to_owned(), id.to_owned())).ok_or_else(no_such_upload)
    }

    pub(super) fn upload(&self, key: &str, id: &str) -> S3Result<&Upload> {
        self.uploads.get(&(key.to_owned(), id.to_owned())).ok_or_else(no_such_upload)
    }
}

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

/// Says with an error that a marker is what was found.
fn marked(mut error: S3Error, version_id: &str, versioning: Versioning) -> S3Error {
    let mut headers = hyper::HeaderMap::new();
    headers.insert("x-amz-delete-marker", hyper::header::HeaderValue::from_static("true"));
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/xml"));
    if versioning != Versioning::Off
        && let Ok(id) = version_id.parse()
    {
        headers.insert("x-amz-version-id", id);
    }
    error.set_headers(headers);
    error
}

/// Where ids come from. They look random, and are the same in every run with the same seed.
#[derive(Debug)]
pub(super) struct Ids {
    random: fastrand::Rng,
    sequence: u64,
}

impl Ids {
    pub(super) fn new(seed: u64, now: Timestamp) -> Self {
        let start = u64::try_from(now.as_microsecond()).unwrap_or_default();
        Self { random: fastrand::Rng::with_seed(seed), sequence: start }
    }

    /// An id that says nothing. A counter in it keeps it unique.
    pub(super) fn opaque(&mut self, kind: &str) -> String {
        use md5::{Digest, Md5};
        self.sequence += 1;
        let text = format!("{kind} {} {}", self.sequence, self.random.u64(..));
        hex::encode(Md5::digest(text))
    }

    /// What events of a key are put in order by.
    pub(super) fn sequencer(&mut self) -> String {
        self.sequence += 1;
        format!("{:018X}", self.sequence)
    }
}

/// All buckets.
#[derive(Debug)]
pub(super) struct World {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) ids: Ids,
}

impl World {
    pub(super) fn bucket(&self, name: &str) -> S3Result<&Bucket> {
        self.buckets.get(name).ok_or_else(no_such_bucket)
    }

    /// The bucket and the source of ids, both to be changed.
    pub(super) fn bucket_mut(&mut self, name: &str) -> S3Result<(&mut Bucket, &mut Ids)> {
        let bucket = self.buckets.get_mut(name).ok_or_else(no_such_bucket)?;
        Ok((bucket, &mut self.ids))
    }
}

fn no_such_bucket() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist")
}
