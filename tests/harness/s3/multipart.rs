//! Uploads in parts.

use hyper::HeaderMap;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::backend::{Backend, Who, owner};
use super::blob::Blob;
use super::events::Cause;
use super::model::{self, NewObject, Upload, WriteConditions};
use super::oss;
use super::read::ReadConditions;
use super::receive::receive;
use super::server::Dialect;
use super::wire::{self, attributes, encoded, locks};
use super::write::source;

/// As small as a part may be that is not the last one, in bytes.
const MIN_PART: u64 = 5 << 20;
const MAX_PART_NUMBER: u16 = 10_000;
const PAGE: usize = 1000;

fn number(number: i32) -> S3Result<u16> {
    u16::try_from(number).ok().filter(|number| (1..=MAX_PART_NUMBER).contains(number)).ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

fn page(limit: Option<i32>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).map_or(PAGE, |limit| limit.min(PAGE))
}

impl Backend {
    pub(super) fn begin(
        &self,
        mut input: CreateMultipartUploadInput,
        headers: &HeaderMap,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let attributes = wire::shared(attributes!(input));
        let (legal_hold, retention) = locks!(input);
        let tags = oss::tagging(self.shared.options.dialect, headers, input.tagging.take());
        let tags = wire::tags_of_header(tags.as_deref())?;
        let initiated = self.shared.now();
        let mut world = self.shared.world();
        let (bucket, ids) = world.bucket_mut(&input.bucket)?;
        let id = ids.opaque("upload");
        let parts = Default::default();
        let upload = Upload { initiated, attributes, tags, legal_hold, retention, parts };
        bucket.uploads.insert((input.key.clone(), id.clone()), upload);
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(super) async fn part(
        &self,
        mut input: UploadPartInput,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<UploadPartOutput> {
        let number = number(input.part_number)?;
        self.shared.world().bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
        let md5 = input.content_md5.as_deref();
        let received =
            receive(input.body.take(), md5, input.content_length, headers, trailers.as_ref()).await?;
        let sums = received.checksum.as_deref().cloned().unwrap_or_default();
        let part = model::Part { body: received.body, md5: received.md5, last_modified: self.shared.now() };
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(&input.bucket)?;
        bucket.upload_mut(&input.key, &input.upload_id)?.parts.insert(number, part);
        Ok(UploadPartOutput {
            e_tag: Some(ETag::Strong(self.shared.options.dialect.e_tag(received.md5))),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..UploadPartOutput::default()
        })
    }

    pub(super) fn part_copy(&self, input: &UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
        let number = number(input.part_number)?;
        let (bucket, key, version) = source(&input.copy_source)?;
        let (original, version_id) = self.look(bucket, key, version)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        if conditions.check(&original)?.is_some() {
            return Err(model::precondition_failed());
        }
        let body = match &input.copy_source_range {
            None => original.body,
            Some(range) => {
                let range = Range::parse(range).map_err(|error| {
                    s3_error!(
                        error,
                        InvalidArgument,
                        "The x-amz-copy-source-range value must be of the form bytes=first-last"
                    )
                })?;
                original.body.slice(range.check(original.body.len())?)
            }
        };
        let md5: [u8; 16] = Md5::digest(body.bytes()).into();
        let now = self.shared.now();
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(&input.bucket)?;
        let part = model::Part { body, md5, last_modified: now };
        bucket.upload_mut(&input.key, &input.upload_id)?.parts.insert(number, part);
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(self.shared.options.dialect.e_tag(md5))),
            last_modified: Some(wire::seconds(now)),
            ..CopyPartResult::default()
        };
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: version_id,
            ..UploadPartCopyOutput::default()
        })
    }

    pub(super) fn complete(
        &self,
        input: CompleteMultipartUploadInput,
        headers: &HeaderMap,
        who: &Who,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let dialect = self.shared.options.dialect;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let new = {
            let world = self.shared.world();
            let bucket = world.bucket(&input.bucket)?;
            assemble(dialect, bucket.upload(&input.key, &input.upload_id)?, &wanted)?
        };
        let conditions = WriteConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            forbid_overwrite: oss::forbids_overwriting(dialect, headers),
        };
        let cause = Cause::CompleteMultipartUpload;
        let (object, version_id) = self.store(&input.bucket, &input.key, new, &conditions, cause, who)?;
        if let Ok((bucket, _)) = self.shared.world().bucket_mut(&input.bucket) {
            bucket.uploads.remove(&(input.key.clone(), input.upload_id.clone()));
        }
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(object.e_tag)),
            version_id,
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(super) fn abort(&self, input: &AbortMultipartUploadInput) -> S3Result<AbortMultipartUploadOutput> {
        let mut world = self.shared.world();
        let (bucket, _) = world.bucket_mut(&input.bucket)?;
        bucket.upload(&input.key, &input.upload_id)?;
        bucket.uploads.remove(&(input.key.clone(), input.upload_id.clone()));
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(super) fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let world = self.shared.world();
        let upload = world.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
        let after = input.part_number_marker.and_then(|marker| u16::try_from(marker).ok()).unwrap_or(0);
        let limit = page(input.max_parts);
        let mut parts: Vec<_> =
            upload.parts.range(after.saturating_add(1)..).take(limit.saturating_add(1)).collect();
        let is_truncated = parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().filter(|_| is_truncated).map(|(number, _)| i32::from(**number));
        let shown = parts.into_iter().map(|(number, part)| Part {
            part_number: Some(i32::from(*number)),
            size: i64::try_from(part.body.len()).ok(),
            e_tag: Some(ETag::Strong(self.shared.options.dialect.e_tag(part.md5))),
            last_modified: Some(wire::seconds(part.last_modified)),
            ..Part::default()
        });
        Ok(ListPartsOutput {
            parts: Some(shown.collect()),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(is_truncated),
            max_parts: i32::try_from(limit).ok(),
            part_number_marker: input.part_number_marker,
            next_part_number_marker: next,
            owner: Some(owner(&self.shared.options.account)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..ListPartsOutput::default()
        })
    }

    pub(super) fn uploads(&self, input: ListMultipartUploadsInput) -> S3Result<ListMultipartUploadsOutput> {
        let world = self.shared.world();
        let bucket = world.bucket(&input.bucket)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let limit = page(input.max_uploads);
        let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
        let after = |key: &str, id: &str| match (marker, input.upload_id_marker.as_deref()) {
            (None, _) => true,
            (Some(marker), Some(last)) if key == marker => id > last,
            (Some(marker), _) => key > marker,
        };
        let encoding = input.encoding_type.as_ref();
        let (mut uploads, mut prefixes, mut next) = (Vec::new(), Vec::<String>::new(), None);
        let mut last: Option<(&str, &str)> = None;
        let here = bucket.uploads.iter().filter(|((key, id), _)| key.starts_with(prefix) && after(key, id));
        for ((key, id), upload) in here {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let folded = delimiter
                .and_then(|delimiter| Some(prefix.len() + rest.find(delimiter)? + delimiter.len()))
                .and_then(|end| key.get(..end));
            if folded.is_some_and(|folded| {
                prefixes.last().is_some_and(|last| last == folded) || marker == Some(folded)
            }) {
                continue;
            }
            if uploads.len() + prefixes.len() >= limit {
                next = last;
                break;
            }
            if let Some(folded) = folded {
                last = Some((folded, ""));
                prefixes.push(folded.to_owned());
                continue;
            }
            last = Some((key, id));
            uploads.push(MultipartUpload {
                key: Some(encoded(key, encoding)),
                upload_id: Some(id.clone()),
                initiated: Some(wire::seconds(upload.initiated)),
                owner: Some(owner(&self.shared.options.account)),
                storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                ..MultipartUpload::default()
            });
        }
        let folded = prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encoded(prefix, encoding)) });
        Ok(ListMultipartUploadsOutput {
            common_prefixes: Some(folded.collect()),
            uploads: Some(uploads),
            is_truncated: Some(next.is_some()),
            next_key_marker: next.map(|(key, _)| encoded(key, encoding)),
            next_upload_id_marker: next.map(|(_, id)| id.to_owned()),
            bucket: Some(input.bucket),
            key_marker: input.key_marker.map(|marker| encoded(&marker, encoding)),
            upload_id_marker: input.upload_id_marker,
            max_uploads: i32::try_from(limit).ok(),
            prefix: input.prefix.map(|prefix| encoded(&prefix, encoding)),
            delimiter: input.delimiter.map(|delimiter| encoded(&delimiter, encoding)),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        })
    }
}

/// The object that the named parts make.
fn assemble(dialect: Dialect, upload: &Upload, wanted: &[CompletedPart]) -> S3Result<NewObject> {
    if wanted.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    let (mut parts, mut before, mut md5) = (Vec::new(), 0, Md5::new());
    for (at, named) in wanted.iter().enumerate() {
        let number = number(named.part_number.unwrap_or_default())?;
        if number <= before {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        before = number;
        let part = upload.parts.get(&number).filter(|part| {
            named.e_tag.as_ref().is_some_and(|e_tag| e_tag.value() == dialect.e_tag(part.md5))
        });
        let part = part.ok_or_else(|| {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
            )
        })?;
        if part.body.len() < MIN_PART && at + 1 < wanted.len() {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        md5.update(part.md5);
        parts.push(part);
    }
    Ok(NewObject {
        body: Blob::concat(parts.iter().map(|part| &part.body)),
        e_tag: format!("{}-{}", dialect.e_tag(md5.finalize()), parts.len()),
        attributes: upload.attributes.clone(),
        tags: upload.tags.clone(),
        legal_hold: upload.legal_hold,
        retention: upload.retention.clone(),
        checksum: None,
        parts: parts.iter().map(|part| part.body.len()).collect(),
    })
}
