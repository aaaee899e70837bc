//! PUT, form uploads, copies, deletes, tags and locks.

use hyper::HeaderMap;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};

use super::backend::{Backend, Who, shown_version};
use super::events::Cause;
use super::faults::Target;
use super::model::{Deleted, NewObject, StoredObject, WriteConditions};
use super::oss;
use super::read::ReadConditions;
use super::receive::receive;
use super::server::Dialect;
use super::wire::{self, attributes, locks};

/// As many keys as a batch has at most.
const MAX_BATCH: usize = 1000;

impl Backend {
    pub(super) async fn put(
        &self,
        mut input: PutObjectInput,
        cause: Cause,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
        who: &Who,
    ) -> S3Result<PutObjectOutput> {
        let attributes = attributes!(input);
        let (legal_hold, retention) = locks!(input);
        let dialect = self.shared.options.dialect;
        let tagging = oss::tagging(dialect, headers, input.tagging.take());
        let tagging = tagging.as_deref();
        let tags =
            if cause == Cause::Post { wire::tags_of_form(tagging) } else { wire::tags_of_header(tagging) }?;
        self.shared.world().bucket(&input.bucket)?;
        let length = if cause == Cause::Post { None } else { input.content_length };
        let received =
            receive(input.body.take(), input.content_md5.as_deref(), length, headers, trailers.as_ref())
                .await?;
        let sums = received.checksum.as_deref().cloned().unwrap_or_default();
        let new = NewObject {
            body: received.body,
            e_tag: match (dialect, cause) {
                // OSS says that the tag of a form upload is no digest of its content.
                (Dialect::Oss, Cause::Post) => dialect.e_tag(Md5::digest(received.md5)),
                _ => dialect.e_tag(received.md5),
            },
            attributes: wire::shared(attributes),
            tags,
            legal_hold,
            retention,
            checksum: received.checksum,
            parts: Default::default(),
        };
        let conditions = WriteConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            forbid_overwrite: oss::forbids_overwriting(dialect, headers),
        };
        let (object, version_id) = self.store(&input.bucket, &input.key, new, &conditions, cause, who)?;
        Ok(PutObjectOutput {
            e_tag: Some(ETag::Strong(object.e_tag)),
            version_id,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..PutObjectOutput::default()
        })
    }

    /// Writes an object, tells who wants to know, and answers it with the version that the client is told.
    pub(super) fn store(
        &self,
        bucket_name: &str,
        key: &str,
        new: NewObject,
        conditions: &WriteConditions,
        cause: Cause,
        who: &Who,
    ) -> S3Result<(StoredObject, Option<String>)> {
        let now = self.shared.now();
        let mut world = self.shared.world();
        let (bucket, ids) = world.bucket_mut(bucket_name)?;
        let object = bucket.write(key, new, conditions, now, ids)?;
        let version_id = shown_version(bucket, &object.version_id);
        let event = self.event(cause, bucket_name, key, Some(&object), version_id.clone(), ids, who, now);
        self.shared.subscriptions.publish(&event);
        Ok((object, version_id))
    }

    pub(super) fn copy(
        &self,
        mut input: CopyObjectInput,
        headers: &HeaderMap,
        conditions: &WriteConditions,
        who: &Who,
    ) -> S3Result<CopyObjectOutput> {
        let dialect = self.shared.options.dialect;
        let (source_bucket, source_key, source_version) = source(&input.copy_source)?;
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE");
        let retags =
            input.tagging_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE")
                || oss::replaces_tags(dialect, headers);
        let class = input.storage_class.as_ref().map(|class| class.as_str().to_owned());
        let redirect = input.website_redirect_location.clone();
        let itself = source_bucket == input.bucket && source_key == input.key && source_version.is_none();
        if itself && !replaces && !retags && class.is_none() && redirect.is_none() {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let (legal_hold, retention) = locks!(input);
        let replacement = attributes!(input);
        let new_tags = oss::tagging(dialect, headers, input.tagging.take());
        let new_tags = wire::tags_of_header(new_tags.as_deref())?;
        let (original, original_version) = {
            let world = self.shared.world();
            let bucket = world.bucket(source_bucket)?;
            let object = bucket.find(source_key, source_version)?.clone();
            let version = shown_version(bucket, &object.version_id);
            (object, version)
        };
        let read = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        if read.check(&original)?.is_some() {
            return Err(super::model::precondition_failed());
        }
        let attributes = if replaces {
            wire::shared(replacement)
        } else {
            let mut kept = (*original.attributes).clone();
            kept.storage_class = class.filter(|class| class != "STANDARD");
            kept.redirect = redirect;
            wire::shared(kept)
        };
        // A copy is written in one piece, so its tag is a digest even where the source's is not.
        let e_tag = match original.parts.is_empty() {
            true => original.e_tag,
            false => dialect.e_tag(Md5::digest(original.body.bytes())),
        };
        let new = NewObject {
            body: original.body,
            e_tag,
            attributes,
            tags: if retags { new_tags } else { original.tags },
            legal_hold,
            retention,
            checksum: original.checksum,
            parts: Default::default(),
        };
        let (object, version_id) =
            self.store(&input.bucket, &input.key, new, conditions, Cause::Copy, who)?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(object.e_tag)),
            last_modified: Some(wire::seconds(object.last_modified)),
            ..CopyObjectResult::default()
        };
        Ok(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: original_version,
            version_id,
            ..CopyObjectOutput::default()
        })
    }

    pub(super) fn delete(&self, input: &DeleteObjectInput, who: &Who) -> S3Result<DeleteObjectOutput> {
        let version = input.version_id.as_deref();
        let deleted = self.remove(&input.bucket, &input.key, version, input.if_match.as_ref(), who)?;
        Ok(match deleted {
            Deleted::Nothing => {
                DeleteObjectOutput { version_id: input.version_id.clone(), ..DeleteObjectOutput::default() }
            }
            Deleted::Gone { version_id, was_marker } => DeleteObjectOutput {
                delete_marker: was_marker.then_some(true),
                version_id,
                ..DeleteObjectOutput::default()
            },
            Deleted::Marked { version_id } => DeleteObjectOutput {
                delete_marker: Some(true),
                version_id: Some(version_id),
                ..DeleteObjectOutput::default()
            },
        })
    }

    fn remove(
        &self,
        bucket_name: &str,
        key: &str,
        version_id: Option<&str>,
        if_match: Option<&ETagCondition>,
        who: &Who,
    ) -> S3Result<Deleted> {
        let now = self.shared.now();
        let mut world = self.shared.world();
        let (bucket, ids) = world.bucket_mut(bucket_name)?;
        let deleted = bucket.delete(key, version_id, if_match, now, ids)?;
        let event = match &deleted {
            Deleted::Nothing => None,
            Deleted::Gone { version_id, .. } => Some((Cause::Delete, version_id.clone())),
            Deleted::Marked { version_id } => Some((Cause::DeleteMarkerCreated, Some(version_id.clone()))),
        };
        if let Some((cause, version_id)) = event {
            let event = self.event(cause, bucket_name, key, None, version_id, ids, who, now);
            self.shared.subscriptions.publish(&event);
        }
        Ok(deleted)
    }

    pub(super) fn delete_batch(
        &self,
        input: DeleteObjectsInput,
        is_native: bool,
        who: &Who,
    ) -> S3Result<DeleteObjectsOutput> {
        let is_oss = self.shared.options.dialect == Dialect::Oss;
        let is_unknown =
            |item: &ObjectIdentifier| item.e_tag.is_some() || (item.version_id.is_some() && !is_native);
        if is_oss && input.delete.objects.iter().any(is_unknown) {
            return Err(s3_error!(MalformedXML, "The XML you provided was not well-formed."));
        }
        if input.delete.objects.is_empty() || input.delete.objects.len() > MAX_BATCH {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        self.shared.world().bucket(&input.bucket)?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for item in input.delete.objects {
            let target = Target {
                operation: "DeleteObjects",
                bucket: &input.bucket,
                key: Some(&item.key),
                principal: &who.principal,
            };
            let result = if self.shared.faults.strikes_key(&target) {
                Err(s3_error!(InternalError, "We encountered an internal error. Please try again."))
            } else {
                let condition = item.e_tag.clone().map(condition);
                self.remove(&input.bucket, &item.key, item.version_id.as_deref(), condition.as_ref(), who)
            };
            match result {
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(item.key),
                    version_id: item.version_id,
                }),
                Ok(Deleted::Nothing) => deleted.push(DeletedObject {
                    key: Some(item.key),
                    version_id: item.version_id,
                    ..DeletedObject::default()
                }),
                Ok(Deleted::Gone { version_id, was_marker }) => deleted.push(DeletedObject {
                    key: Some(item.key),
                    delete_marker: was_marker.then_some(true),
                    delete_marker_version_id: version_id.clone().filter(|_| was_marker),
                    version_id,
                }),
                Ok(Deleted::Marked { version_id }) => deleted.push(DeletedObject {
                    key: Some(item.key),
                    delete_marker: Some(true),
                    delete_marker_version_id: Some(version_id),
                    version_id: None,
                }),
            }
        }
        if input.delete.quiet == Some(true) {
            deleted.clear();
        }
        Ok(DeleteObjectsOutput {
            deleted: (!deleted.is_empty()).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..DeleteObjectsOutput::default()
        })
    }

    /// Changes the object that a call means; answers the version that the client is told.
    pub(super) fn change(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
        how: impl FnOnce(&mut StoredObject),
    ) -> S3Result<Option<String>> {
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(bucket)?;
        let object = bucket.find_mut(key, version_id)?;
        how(object);
        let id = object.version_id.clone();
        Ok(shown_version(bucket, &id))
    }

    /// The object that a call means, and the version that the client is told.
    pub(super) fn look(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> S3Result<(StoredObject, Option<String>)> {
        let world = self.shared.world();
        let bucket = world.bucket(bucket)?;
        let object = bucket.find(key, version_id)?.clone();
        let version = shown_version(bucket, &object.version_id);
        Ok((object, version))
    }
}

/// `*` in the XML of a batch is read as a tag, not as any.
fn condition(e_tag: ETag) -> ETagCondition {
    if e_tag.value() == "*" { ETagCondition::Any } else { ETagCondition::ETag(e_tag) }
}

/// Where a copy comes from.
pub(super) fn source(source: &CopySource) -> Result<(&str, &str, Option<&str>), S3Error> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok((bucket, key, version_id.as_deref())),
        _ => Err(s3_error!(NotImplemented, "A copy's source is named by its bucket and key.")),
    }
}
