//! GET and HEAD.

use std::ops::Range;

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED};
use s3s::dto::*;
use s3s::{Body, S3Error, S3Result, s3_error};

use super::backend::{Backend, shown_version};
use super::blob::Blob;
use super::model::{StoredObject, precondition_failed};
use super::wire;

/// What must hold for a read.
pub(super) struct ReadConditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

/// What does not hold.
pub(super) enum Unmet {
    /// What was to be the same is not.
    Changed,
    /// What was to be new is not.
    Same,
}

impl ReadConditions<'_> {
    /// RFC 9110 13.2.2: a condition on the tag goes before the one on the time.
    pub(super) fn check(&self, object: &StoredObject) -> S3Result<Option<Unmet>> {
        let modified = object.last_modified.as_second();
        let later_than =
            |time: &Timestamp| -> S3Result<bool> { Ok(modified > wire::time(time)?.as_second()) };
        match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !object.matches(condition) => return Ok(Some(Unmet::Changed)),
            (None, Some(time)) if later_than(time)? => return Ok(Some(Unmet::Changed)),
            _ => {}
        }
        Ok(match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if object.matches(condition) => Some(Unmet::Same),
            (None, Some(time)) if !later_than(time)? => Some(Unmet::Same),
            _ => None,
        })
    }

    fn check_read(&self, object: &StoredObject) -> S3Result<()> {
        match self.check(object)? {
            None => Ok(()),
            Some(Unmet::Changed) => Err(precondition_failed()),
            Some(Unmet::Same) => Err(not_modified(object)),
        }
    }
}

fn not_modified(object: &StoredObject) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::try_from(format!("\"{}\"", object.e_tag)).ok().map(|value| (ETAG, value)));
    let mut date = Vec::new();
    if wire::seconds(object.last_modified).format(TimestampFormat::HttpDate, &mut date).is_ok() {
        headers.extend(HeaderValue::try_from(date).ok().map(|value| (LAST_MODIFIED, value)));
    }
    let mut error = s3_error!(NotModified, "Not Modified");
    error.set_headers(headers);
    error
}

fn unsatisfiable(len: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.extend(
        HeaderValue::try_from(format!("bytes */{len}"))
            .ok()
            .map(|value| (hyper::header::CONTENT_RANGE, value)),
    );
    error.set_headers(headers);
    error
}

/// The bytes that are meant, and whether they are only a part.
fn extent(
    object: &StoredObject,
    range: Option<&s3s::dto::Range>,
    part: Option<i32>,
) -> S3Result<(Range<u64>, bool)> {
    let len = object.body.len();
    if let Some(part) = part {
        let at = usize::try_from(part).ok().and_then(|part| part.checked_sub(1));
        let at = at.ok_or_else(|| s3_error!(InvalidArgument, "Part number must be 1 to 10000"))?;
        let start: u64 = object.parts.iter().take(at).sum();
        return match object.parts.get(at) {
            Some(size) => Ok((start..start + size, true)),
            None if at == 0 && object.parts.is_empty() => Ok((0..len, false)),
            None => Err(unsatisfiable(len)),
        };
    }
    match range {
        None => Ok((0..len, false)),
        Some(range) => Ok((range.check(len).map_err(|_| unsatisfiable(len))?, true)),
    }
}

fn content_range(range: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1))
}

/// A body for the wire, which says its length.
pub(super) fn outgoing(blob: &Blob) -> StreamingBlob {
    if blob.len() <= 1 << 20 {
        return Body::from(blob.bytes()).into();
    }
    StreamingBlob::wrap(blob.clone().stream())
}

fn length(bytes: u64) -> Option<i64> {
    i64::try_from(bytes).ok()
}

impl Backend {
    pub(super) fn get(&self, input: &GetObjectInput) -> S3Result<GetObjectOutput> {
        let world = self.shared.world();
        let bucket = world.bucket(&input.bucket)?;
        let object = bucket.find(&input.key, input.version_id.as_deref())?;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        conditions.check_read(object)?;
        let (range, partial) = extent(object, input.range.as_ref(), input.part_number)?;
        let whole = !partial && input.checksum_mode.is_some();
        let sums = object.checksum.as_deref().filter(|_| whole).cloned().unwrap_or_default();
        let body = object.body.slice(range.clone());
        let attributes = &object.attributes;
        Ok(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: length(body.len()),
            body: Some(outgoing(&body)),
            content_range: partial.then(|| content_range(&range, object.body.len())),
            cache_control: attributes.cache_control.clone(),
            content_disposition: attributes.content_disposition.clone(),
            content_encoding: attributes.content_encoding.clone(),
            content_language: attributes.content_language.clone(),
            content_type: content_type(attributes.content_type.as_deref()),
            expires: attributes.expires.clone(),
            website_redirect_location: attributes.redirect.clone(),
            storage_class: attributes.storage_class.clone().map(StorageClass::from),
            metadata: Some(attributes.metadata.clone().into_iter().collect()),
            e_tag: Some(ETag::Strong(object.e_tag.clone())),
            last_modified: Some(wire::seconds(object.last_modified)),
            tag_count: i32::try_from(object.tags.len()).ok().filter(|count| *count > 0),
            parts_count: input.part_number.and(i32::try_from(object.parts.len()).ok()).filter(|n| *n > 0),
            object_lock_legal_hold_status: legal_hold(object),
            object_lock_mode: object.retention.clone().map(|(mode, _)| ObjectLockMode::from(mode)),
            object_lock_retain_until_date: object.retention.as_ref().map(|(_, until)| wire::seconds(*until)),
            version_id: shown_version(bucket, &object.version_id),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..GetObjectOutput::default()
        })
    }

    pub(super) fn head(&self, input: &HeadObjectInput) -> S3Result<HeadObjectOutput> {
        let world = self.shared.world();
        let bucket = world.bucket(&input.bucket)?;
        let object = bucket.find(&input.key, input.version_id.as_deref())?;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        conditions.check_read(object)?;
        let (range, partial) = extent(object, input.range.as_ref(), input.part_number)?;
        let whole = !partial && input.checksum_mode.is_some();
        let sums = object.checksum.as_deref().filter(|_| whole).cloned().unwrap_or_default();
        let attributes = &object.attributes;
        Ok(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: length(range.end - range.start),
            content_range: partial.then(|| content_range(&range, object.body.len())),
            cache_control: attributes.cache_control.clone(),
            content_disposition: attributes.content_disposition.clone(),
            content_encoding: attributes.content_encoding.clone(),
            content_language: attributes.content_language.clone(),
            content_type: content_type(attributes.content_type.as_deref()),
            expires: attributes.expires.clone(),
            website_redirect_location: attributes.redirect.clone(),
            storage_class: attributes.storage_class.clone().map(StorageClass::from),
            metadata: Some(attributes.metadata.clone().into_iter().collect()),
            e_tag: Some(ETag::Strong(object.e_tag.clone())),
            last_modified: Some(wire::seconds(object.last_modified)),
            parts_count: input.part_number.and(i32::try_from(object.parts.len()).ok()).filter(|n| *n > 0),
            object_lock_legal_hold_status: legal_hold(object),
            object_lock_mode: object.retention.clone().map(|(mode, _)| ObjectLockMode::from(mode)),
            object_lock_retain_until_date: object.retention.as_ref().map(|(_, until)| wire::seconds(*until)),
            version_id: shown_version(bucket, &object.version_id),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..HeadObjectOutput::default()
        })
    }

    pub(super) fn attributes(&self, input: &GetObjectAttributesInput) -> S3Result<GetObjectAttributesOutput> {
        let world = self.shared.world();
        let bucket = world.bucket(&input.bucket)?;
        let object = bucket.find(&input.key, input.version_id.as_deref())?;
        let wanted = |name: &str| input.object_attributes.iter().any(|attribute| attribute.as_str() == name);
        let class = object.attributes.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned());
        Ok(GetObjectAttributesOutput {
            e_tag: wanted("ETag").then(|| ETag::Strong(object.e_tag.clone())),
            object_size: if wanted("ObjectSize") { length(object.body.len()) } else { None },
            storage_class: wanted("StorageClass").then(|| StorageClass::from(class)),
            checksum: object.checksum.as_deref().filter(|_| wanted("Checksum")).cloned(),
            last_modified: Some(wire::seconds(object.last_modified)),
            version_id: shown_version(bucket, &object.version_id),
            ..GetObjectAttributesOutput::default()
        })
    }
}

fn legal_hold(object: &StoredObject) -> Option<ObjectLockLegalHoldStatus> {
    object.legal_hold.then(|| ObjectLockLegalHoldStatus::from_static(ObjectLockLegalHoldStatus::ON))
}

/// What S3 says of an object about which nothing was said.
fn content_type(content_type: Option<&str>) -> Option<String> {
    Some(content_type.unwrap_or("binary/octet-stream").to_owned())
}
