//! One bucket's objects, versions and pending uploads.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use md5::{Digest, Md5};

use super::super::{Call, Metadata, ObjectMeta, Precondition, PutOptions, StoreErrorKind, StoreResult, Tags};
use crate::object_ref::{ETag, ObjectRef};

/// The version of what was written without versioning.
pub(super) const NULL_VERSION: &str = "null";

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) versioned: bool,
    /// The versions of each key, oldest first. Never an empty list.
    pub(super) keys: BTreeMap<String, Vec<Version>>,
    /// By key and upload id.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

pub(super) struct Version {
    /// `None` is the `null` version.
    pub(super) id: Option<String>,
    pub(super) last_modified: Timestamp,
    /// `None` makes this a delete marker.
    pub(super) content: Option<Content>,
    pub(super) locked: bool,
}

#[derive(Clone)]
pub(super) struct Content {
    pub(super) body: Bytes,
    pub(super) e_tag: ETag,
    pub(super) content_type: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) tags: Tags,
}

pub(super) struct Upload {
    pub(super) initiated: Timestamp,
    options: PutOptions,
    pub(super) parts: BTreeMap<u16, (ETag, Bytes)>,
}

/// The tag of what is written in one piece: its MD5.
pub(super) fn digest_of(body: &[u8]) -> ETag {
    tag_of(&hex::encode(Md5::digest(body)))
}

fn tag_of(text: &str) -> ETag {
    ETag::parse(text).unwrap_or_else(|| unreachable!("a digest is not empty"))
}

impl Content {
    pub(super) fn new(body: Bytes, options: PutOptions) -> Self {
        let e_tag = digest_of(&body);
        Self::tagged(body, e_tag, options)
    }

    fn tagged(body: Bytes, e_tag: ETag, options: PutOptions) -> Self {
        let PutOptions { content_type, cache_control, metadata, tags, precondition: _ } = options;
        // S3 declares what nobody declared.
        let content_type = content_type.or_else(|| Some("binary/octet-stream".to_owned()));
        Self { body, e_tag, content_type, cache_control, metadata, tags }
    }

    pub(super) fn meta(&self, version: &Version) -> ObjectMeta {
        ObjectMeta {
            size: self.body.len() as u64,
            e_tag: self.e_tag.clone(),
            last_modified: version.last_modified,
            version_id: version.id.clone(),
            content_type: self.content_type.clone(),
            cache_control: self.cache_control.clone(),
            metadata: self.metadata.clone(),
            tag_count: None,
            locked_until: version.locked.then_some(Timestamp::MAX),
        }
    }
}

impl Version {
    /// The id as listings and requests spell it.
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(NULL_VERSION)
    }
}

impl Bucket {
    /// The version that `object` names, or the current one; a delete marker counts as nothing.
    pub(super) fn content(&self, call: &Call, object: &ObjectRef) -> StoreResult<(&Version, &Content)> {
        let version = self.keys.get(&object.key).and_then(|versions| match &object.version_id {
            Some(id) => versions.iter().find(|version| version.id() == id),
            None => versions.last(),
        });
        let missing = || call.error(StoreErrorKind::NotFound, "");
        let version = version.ok_or_else(missing)?;
        Ok((version, version.content.as_ref().ok_or_else(missing)?))
    }

    /// The same, to change what may change.
    pub(super) fn find_mut(&mut self, call: &Call, object: &ObjectRef) -> StoreResult<&mut Version> {
        let versions = self.keys.get_mut(&object.key);
        let version = versions.and_then(|versions| match &object.version_id {
            Some(id) => versions.iter_mut().find(|version| version.id() == id),
            None => versions.last_mut(),
        });
        version
            .filter(|version| version.content.is_some())
            .ok_or_else(|| call.error(StoreErrorKind::NotFound, ""))
    }

    /// Holds the current object against a condition.
    pub(super) fn check(&self, call: &Call, key: &str, precondition: &Precondition) -> StoreResult<()> {
        let current = self.keys.get(key).and_then(|versions| versions.last()?.content.as_ref());
        let kind = match (precondition, current) {
            (Precondition::None, _) | (Precondition::IfAbsent, None) => return Ok(()),
            (Precondition::IfMatch(wanted), Some(content)) if *wanted == content.e_tag => return Ok(()),
            (Precondition::IfMatch(_), None) => StoreErrorKind::NotFound,
            (Precondition::IfAbsent | Precondition::IfMatch(_), Some(_)) => {
                StoreErrorKind::PreconditionFailed
            }
        };
        Err(call.error(kind, ""))
    }

    /// Makes a version current: in place of what is there, or above it where the bucket is versioned.
    pub(super) fn push(
        &mut self,
        call: &Call,
        key: &str,
        id: String,
        content: Option<Content>,
        now: Timestamp,
    ) -> StoreResult<Option<String>> {
        let id = self.versioned.then_some(id);
        if id.is_none() {
            self.remove(call, key)?;
        }
        let version = Version { id: id.clone(), last_modified: now, content, locked: false };
        self.keys.entry(key.to_owned()).or_default().push(version);
        Ok(id)
    }

    /// Removes what an unversioned bucket holds under `key`, if anything.
    pub(super) fn remove(&mut self, call: &Call, key: &str) -> StoreResult<()> {
        self.remove_version(call, key, NULL_VERSION)
    }

    /// Removes a version for good, if it is there.
    pub(super) fn remove_version(&mut self, call: &Call, key: &str, id: &str) -> StoreResult<()> {
        let Some(versions) = self.keys.get_mut(key) else { return Ok(()) };
        let Some(index) = versions.iter().position(|version| version.id() == id) else { return Ok(()) };
        if versions.get(index).is_some_and(|version| version.locked) {
            return Err(call.error(StoreErrorKind::Locked, ""));
        }
        versions.remove(index);
        if versions.is_empty() {
            self.keys.remove(key);
        }
        Ok(())
    }

    pub(super) fn begin_upload(&mut self, key: &str, id: &str, options: PutOptions, now: Timestamp) {
        let upload = Upload { initiated: now, options, parts: BTreeMap::new() };
        self.uploads.insert((key.to_owned(), id.to_owned()), upload);
    }

    pub(super) fn upload(&mut self, call: &Call, key: &str, id: &str) -> StoreResult<&mut Upload> {
        self.uploads
            .get_mut(&(key.to_owned(), id.to_owned()))
            .ok_or_else(|| call.error(StoreErrorKind::NotFound, "NoSuchUpload"))
    }

    pub(super) fn end_upload(&mut self, key: &str, id: &str) {
        self.uploads.remove(&(key.to_owned(), id.to_owned()));
    }
}

impl Upload {
    /// The object that the named parts make.
    pub(super) fn assemble(&self, call: &Call, parts: &[(u16, ETag)]) -> StoreResult<Content> {
        let refuse = |detail: &str| call.error(StoreErrorKind::Invalid, detail);
        if parts.is_empty() {
            return Err(refuse("an upload is completed with at least one part"));
        }
        if !parts.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(refuse("InvalidPartOrder: the parts are not in ascending order"));
        }
        let mut body = BytesMut::new();
        let mut digests = Md5::new();
        for (number, e_tag) in parts {
            let (_, bytes) = self
                .parts
                .get(number)
                .filter(|(uploaded, _)| uploaded == e_tag)
                .ok_or_else(|| refuse("InvalidPart: a part is missing or its tag is another"))?;
            digests.update(Md5::digest(bytes));
            body.extend_from_slice(bytes);
        }
        let e_tag = tag_of(&format!("{}-{}", hex::encode(digests.finalize()), parts.len()));
        Ok(Content::tagged(body.freeze(), e_tag, self.options.clone()))
    }
}
