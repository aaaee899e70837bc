//! s3s's trait over the model: each operation in a line or two.

use std::sync::Arc;

use hyper::HeaderMap;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::events::{Cause, Event};
use super::form::FileName;
use super::model::{Bucket, Ids, StoredObject, Versioning, WriteConditions};
use super::oss;
use super::requests::Call;
use super::server::{Dialect, Shared};
use super::wire;

/// The operations.
pub(super) struct Backend {
    pub(super) shared: Arc<Shared>,
}

/// Who calls, for the event that tells of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    pub(super) principal: String,
    pub(super) request_id: String,
}

impl Who {
    fn of<T>(request: &S3Request<T>) -> Self {
        let Some(call) = request.extensions.get::<Call>() else { return Self::default() };
        let call = call.lock();
        Self { principal: call.principal.clone(), request_id: call.request_id.clone() }
    }
}

/// The owner of all buckets.
pub(super) fn owner(account: &str) -> Owner {
    Owner { display_name: None, id: Some(account.to_owned()) }
}

/// The version as clients are told: none where the bucket never kept versions.
pub(super) fn shown_version(bucket: &Bucket, id: &str) -> Option<String> {
    (bucket.versioning != Versioning::Off).then(|| id.to_owned())
}

/// The conditions of a copy on its destination, which are not among the inputs that s3s knows.
fn conditions(dialect: Dialect, headers: &HeaderMap) -> S3Result<WriteConditions> {
    let condition = |name: &str| {
        let header = headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        header.transpose().map_err(|error| s3_error!(error, InvalidArgument, "{name} cannot be read"))
    };
    Ok(WriteConditions {
        if_match: condition("if-match")?,
        if_none_match: condition("if-none-match")?,
        forbid_overwrite: oss::forbids_overwriting(dialect, headers),
    })
}

impl Backend {
    #[expect(clippy::too_many_arguments, reason = "an event has many fields")]
    pub(super) fn event(
        &self,
        cause: Cause,
        bucket: &str,
        key: &str,
        object: Option<&StoredObject>,
        version_id: Option<String>,
        ids: &mut Ids,
        who: &Who,
        time: jiff::Timestamp,
    ) -> Event {
        Event {
            cause,
            time,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: object.map(|object| object.body.len()),
            e_tag: object.map(|object| object.e_tag.clone()),
            version_id: version_id.filter(|id| id != super::model::NULL_VERSION),
            sequencer: ids.sequencer(),
            principal: who.principal.clone(),
            request_id: who.request_id.clone(),
            region: self.shared.options.region.clone(),
            account: self.shared.options.account.clone(),
        }
    }

    fn exists(&self, bucket: &str) -> S3Result<()> {
        self.shared.world().bucket(bucket).map(|_| ())
    }
}

type Answer<T> = S3Result<S3Response<T>>;

fn answer<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        answer(self.make_bucket(req.input)?)
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        self.drop_bucket(&req.input.bucket)?;
        Ok(S3Response::with_status(DeleteBucketOutput {}, hyper::StatusCode::NO_CONTENT))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.exists(&req.input.bucket)?;
        let bucket_region = Some(self.shared.options.region.clone());
        answer(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() })
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        answer(self.all_buckets(&req.input))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        answer(self.location(&req.input.bucket)?)
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        answer(self.versioning(&req.input.bucket)?)
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        self.change_versioning(&req.input)?;
        answer(PutBucketVersioningOutput {})
    }

    async fn get_bucket_policy(&self, req: S3Request<GetBucketPolicyInput>) -> Answer<GetBucketPolicyOutput> {
        answer(self.policy(&req.input.bucket)?)
    }

    async fn put_bucket_policy(&self, req: S3Request<PutBucketPolicyInput>) -> Answer<PutBucketPolicyOutput> {
        self.change_policy(&req.input.bucket, Some(req.input.policy))?;
        answer(PutBucketPolicyOutput {})
    }

    async fn delete_bucket_policy(
        &self,
        req: S3Request<DeleteBucketPolicyInput>,
    ) -> Answer<DeleteBucketPolicyOutput> {
        self.change_policy(&req.input.bucket, None)?;
        answer(DeleteBucketPolicyOutput {})
    }

    async fn get_bucket_tagging(
        &self,
        req: S3Request<GetBucketTaggingInput>,
    ) -> Answer<GetBucketTaggingOutput> {
        answer(self.bucket_tags(&req.input.bucket)?)
    }

    async fn put_bucket_tagging(
        &self,
        req: S3Request<PutBucketTaggingInput>,
    ) -> Answer<PutBucketTaggingOutput> {
        let set = req.input.tagging.tag_set.into_iter();
        let tags = set.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
        self.change_bucket_tags(&req.input.bucket, Some(tags.collect()))?;
        answer(PutBucketTaggingOutput {})
    }

    async fn delete_bucket_tagging(
        &self,
        req: S3Request<DeleteBucketTaggingInput>,
    ) -> Answer<DeleteBucketTaggingOutput> {
        self.change_bucket_tags(&req.input.bucket, None)?;
        answer(DeleteBucketTaggingOutput {})
    }

    async fn get_bucket_acl(&self, req: S3Request<GetBucketAclInput>) -> Answer<GetBucketAclOutput> {
        self.exists(&req.input.bucket)?;
        let owner = Some(owner(&self.shared.options.account));
        answer(GetBucketAclOutput { owner, ..GetBucketAclOutput::default() })
    }

    async fn get_object_acl(&self, req: S3Request<GetObjectAclInput>) -> Answer<GetObjectAclOutput> {
        let input = &req.input;
        self.look(&input.bucket, &input.key, input.version_id.as_deref())?;
        let owner = Some(owner(&self.shared.options.account));
        answer(GetObjectAclOutput { owner, ..GetObjectAclOutput::default() })
    }

    async fn get_bucket_encryption(
        &self,
        req: S3Request<GetBucketEncryptionInput>,
    ) -> Answer<GetBucketEncryptionOutput> {
        self.exists(&req.input.bucket)?;
        Err(s3_error!(
            ServerSideEncryptionConfigurationNotFoundError,
            "The server side encryption configuration was not found"
        ))
    }

    async fn get_bucket_notification_configuration(
        &self,
        req: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> Answer<GetBucketNotificationConfigurationOutput> {
        self.exists(&req.input.bucket)?;
        answer(GetBucketNotificationConfigurationOutput::default())
    }

    async fn get_object_lock_configuration(
        &self,
        req: S3Request<GetObjectLockConfigurationInput>,
    ) -> Answer<GetObjectLockConfigurationOutput> {
        if !self.shared.world().bucket(&req.input.bucket)?.object_lock {
            return Err(s3_error!(
                ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket"
            ));
        }
        let enabled = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
        let configuration = ObjectLockConfiguration { object_lock_enabled: Some(enabled), rule: None };
        answer(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) })
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (who, trailers) = (Who::of(&req), req.trailing_headers.take());
        // A form upload comes this way too; its headers are about the form, not about the object.
        if req.method == hyper::Method::POST {
            if let Some(name) = req.extensions.get::<FileName>() {
                req.input.key = name.fill(&req.input.key);
            }
            if let Some(call) = req.extensions.get::<Call>() {
                call.lock().key.clone_from(&req.input.key);
            }
            return answer(self.put(req.input, Cause::Post, &HeaderMap::new(), None, &who).await?);
        }
        answer(self.put(req.input, Cause::Put, &req.headers, trailers, &who).await?)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        answer(self.get(&req.input)?)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        answer(self.head(&req.input)?)
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        answer(self.attributes(&req.input)?)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let dialect = self.shared.options.dialect;
        let (who, conditions) = (Who::of(&req), conditions(dialect, &req.headers)?);
        answer(self.copy(req.input, &req.headers, &conditions, &who)?)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let who = Who::of(&req);
        let output = self.delete(&req.input, &who)?;
        Ok(S3Response::with_status(output, hyper::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let who = Who::of(&req);
        let is_native = req.extensions.get::<oss::Native>().is_some();
        answer(self.delete_batch(req.input, is_native, &who)?)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        answer(self.list_v1(&req.input)?)
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        answer(self.list_v2(&req.input)?)
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        answer(self.list_versions(&req.input)?)
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        let input = &req.input;
        let (object, version_id) = self.look(&input.bucket, &input.key, input.version_id.as_deref())?;
        answer(GetObjectTaggingOutput { tag_set: wire::tag_set(&object.tags), version_id })
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        let input = req.input;
        let tags = wire::tags_of_set(input.tagging.tag_set)?;
        let version = input.version_id.as_deref();
        let version_id = self.change(&input.bucket, &input.key, version, |object| object.tags = tags)?;
        answer(PutObjectTaggingOutput { version_id })
    }

    async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> Answer<DeleteObjectTaggingOutput> {
        let input = &req.input;
        let version = input.version_id.as_deref();
        let version_id = self.change(&input.bucket, &input.key, version, |object| object.tags.clear())?;
        let output = DeleteObjectTaggingOutput { version_id };
        Ok(S3Response::with_status(output, hyper::StatusCode::NO_CONTENT))
    }

    async fn get_object_legal_hold(
        &self,
        req: S3Request<GetObjectLegalHoldInput>,
    ) -> Answer<GetObjectLegalHoldOutput> {
        let input = &req.input;
        let (object, _) = self.look(&input.bucket, &input.key, input.version_id.as_deref())?;
        let status =
            if object.legal_hold { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
        let status = Some(ObjectLockLegalHoldStatus::from_static(status));
        answer(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status }) })
    }

    async fn put_object_legal_hold(
        &self,
        req: S3Request<PutObjectLegalHoldInput>,
    ) -> Answer<PutObjectLegalHoldOutput> {
        let input = req.input;
        let status = input.legal_hold.and_then(|hold| hold.status);
        let on = status.is_some_and(|status| status.as_str() == ObjectLockLegalHoldStatus::ON);
        let version = input.version_id.as_deref();
        self.change(&input.bucket, &input.key, version, |object| object.legal_hold = on)?;
        answer(PutObjectLegalHoldOutput::default())
    }

    async fn get_object_retention(
        &self,
        req: S3Request<GetObjectRetentionInput>,
    ) -> Answer<GetObjectRetentionOutput> {
        let input = &req.input;
        let (object, _) = self.look(&input.bucket, &input.key, input.version_id.as_deref())?;
        let Some((mode, until)) = object.retention else {
            return Err(s3_error!(
                NoSuchObjectLockConfiguration,
                "The specified object does not have a ObjectLock configuration"
            ));
        };
        let mode = Some(ObjectLockRetentionMode::from(mode));
        let retain_until_date = Some(wire::seconds(until));
        answer(GetObjectRetentionOutput { retention: Some(ObjectLockRetention { mode, retain_until_date }) })
    }

    async fn put_object_retention(
        &self,
        req: S3Request<PutObjectRetentionInput>,
    ) -> Answer<PutObjectRetentionOutput> {
        let input = req.input;
        let retention = match input.retention {
            Some(ObjectLockRetention { mode: Some(mode), retain_until_date: Some(until) }) => {
                Some((mode.as_str().to_owned(), wire::time(&until)?))
            }
            _ => None,
        };
        let version = input.version_id.as_deref();
        self.change(&input.bucket, &input.key, version, |object| object.retention = retention)?;
        answer(PutObjectRetentionOutput::default())
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        answer(self.begin(req.input, &req.headers)?)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let trailers = req.trailing_headers.take();
        answer(self.part(req.input, &req.headers, trailers).await?)
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        answer(self.part_copy(&req.input)?)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let who = Who::of(&req);
        answer(self.complete(req.input, &req.headers, &who)?)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let output = self.abort(&req.input)?;
        Ok(S3Response::with_status(output, hyper::StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        answer(self.parts(req.input)?)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        answer(self.uploads(req.input)?)
    }
}
