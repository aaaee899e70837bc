//! The port over aws-sdk-s3, for S3 and what speaks like it.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, EncodingType, MetadataDirective, TaggingDirective,
};
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::OnceCell;

use super::limits::{self, MAX_PAGE};
use super::{
    Call, Capabilities, CopyOptions, DeleteItem, GetOptions, GetResult, ListOptions, ListPage, ListedEntry,
    ListedVersion, ObjectMeta, ObjectStore, Operation, PendingUpload, Precondition, PutOptions, PutResult,
    StoreErrorKind, StoreResult, Tags, UploadPage, VersionPage,
};
use crate::object_ref::{ETag, ObjectRef};

mod attempts;
mod batch;
mod client;
mod config;
mod failure;
mod read;
mod wire;

use attempts::Attempts;
pub use config::{Dialect, S3Config, Timeouts};
use failure::{failure, is_unexplained};

/// A store that speaks S3. Clones share their connections.
///
/// The client is made at the first call, so that a process that is only started costs nothing.
#[derive(Debug, Clone)]
pub struct S3Store {
    config: S3Config,
    credentials: Option<Credentials>,
    client: Arc<OnceCell<Client>>,
}

/// `If-None-Match` and `If-Match`, as headers.
fn conditions(precondition: &Precondition) -> (Option<String>, Option<String>) {
    match precondition {
        Precondition::None => (None, None),
        Precondition::IfAbsent => (Some("*".to_owned()), None),
        Precondition::IfMatch(e_tag) => (None, Some(e_tag.quoted())),
    }
}

fn written(call: &Call, e_tag: Option<&str>, version_id: Option<&str>) -> StoreResult<PutResult> {
    let version_id = version_id.filter(|version| !version.is_empty()).map(str::to_owned);
    Ok(PutResult { e_tag: wire::e_tag(call, e_tag)?, version_id })
}

impl S3Store {
    /// A store that is reached as `config` says. Nothing is connected yet.
    pub fn new(config: S3Config) -> Self {
        Self { config, credentials: None, client: Arc::default() }
    }

    /// The same with credentials of its own, instead of those that the SDK finds.
    pub fn with_credentials(config: S3Config, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::new(config) }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| client::connect(&self.config, self.credentials.clone())).await
    }

    async fn head_output(&self, call: &Call, object: &ObjectRef) -> StoreResult<HeadObjectOutput> {
        let request = self
            .client()
            .await
            .head_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone());
        request.send().await.map_err(|error| failure(call, error))
    }
}

impl ObjectStore for S3Store {
    fn capabilities(&self) -> Capabilities {
        match self.config.dialect {
            Dialect::S3 => Capabilities { conditional_replace: true, conditional_delete: true },
            Dialect::Oss => Capabilities { conditional_replace: false, conditional_delete: false },
        }
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        let call = Call::on_object(Operation::Head, object);
        limits::check_key(&call, &object.key)?;
        match self.head_output(&call, object).await {
            Ok(output) => read::meta_of_head(&call, output),
            // An answer to HEAD has no body, so that expired credentials, a wrong region and a refused
            // version all read "400". A GET of one byte says which.
            Err(error) if is_unexplained(&error) => {
                let options = GetOptions { range: Some(0..1), if_match: None };
                match read::get(self.client().await, object, options).await {
                    Err(told) if told.kind != StoreErrorKind::Invalid => Err(told),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        read::get(self.client().await, object, options).await
    }

    async fn put(&self, object: &ObjectRef, body: Bytes, options: PutOptions) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::Put, object);
        limits::check_key(&call, &object.key)?;
        limits::check_put(&call, &options)?;
        let (if_none_match, if_match) = conditions(&options.precondition);
        let request = self
            .client()
            .await
            .put_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_content_type(options.content_type)
            .set_cache_control(options.cache_control)
            .set_metadata(wire::headers(options.metadata))
            .set_tagging(wire::tagging_header(&options.tags))
            .body(ByteStream::from(body));
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).send().await;
        let answer = sent.map_err(|error| attempts.explain(failure(&call, error)))?;
        written(&call, answer.e_tag(), answer.version_id())
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::Copy, destination);
        let read = Call::on_object(Operation::Head, source);
        limits::check_key(&read, &source.key)?;
        limits::check_key(&call, &destination.key)?;
        limits::check_copy(&call, &options)?;
        let (if_none_match, if_match) = conditions(&options.precondition);
        let mut request = self
            .client()
            .await
            .copy_object()
            .copy_source(wire::copy_source(source))
            .bucket(&destination.bucket)
            .key(&destination.key)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_copy_source_if_match(options.source_if_match.as_ref().map(ETag::quoted));
        let mut pinned = None;
        if let Some(metadata) = options.metadata {
            // Replacing metadata replaces every header that describes the content, so these are read
            // first, and the copy is held to the very object that they were read from.
            let head = self.head_output(&read, source).await?;
            let e_tag = wire::e_tag(&read, head.e_tag())?;
            if options.source_if_match.as_ref().is_some_and(|wanted| *wanted != e_tag) {
                return Err(read.error(StoreErrorKind::PreconditionFailed, ""));
            }
            request = request
                .copy_source_if_match(e_tag.quoted())
                .metadata_directive(MetadataDirective::Replace)
                .set_metadata(wire::headers(metadata))
                .set_content_type(head.content_type)
                .set_cache_control(head.cache_control)
                .set_content_encoding(head.content_encoding)
                .set_content_disposition(head.content_disposition)
                .set_content_language(head.content_language);
            pinned = (options.source_if_match.is_none() && options.precondition == Precondition::None)
                .then_some(e_tag);
        }
        if let Some(tags) = options.tags {
            let tagging = wire::tagging_header(&tags);
            request = request.tagging_directive(TaggingDirective::Replace).set_tagging(tagging);
        }
        let long = client::long_calls(&self.config.timeouts);
        let attempts = Attempts::default();
        let sent = request.customize().config_override(long).interceptor(attempts.clone()).send().await;
        let answer = sent.map_err(|error| {
            let mut error = attempts.explain(failure(&call, error));
            // The caller set no condition, so that a failed one is our own: the source was replaced
            // between our two requests.
            if pinned.is_some() && error.kind == StoreErrorKind::PreconditionFailed {
                error.kind = StoreErrorKind::Conflict;
            }
            error
        })?;
        let e_tag = answer.copy_object_result().and_then(|result| result.e_tag());
        written(&call, e_tag, answer.version_id())
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        let call = Call::on_object(Operation::Delete, object);
        limits::check_key(&call, &object.key)?;
        limits::check_condition(&call, if_match)?;
        let request = self
            .client()
            .await
            .delete_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .set_if_match(if_match.map(ETag::quoted));
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).send().await;
        match sent.map_err(|error| attempts.explain(failure(&call, error))) {
            Ok(_) => Ok(()),
            // Not every store counts a missing object as deleted.
            Err(error) if error.kind == StoreErrorKind::NotFound && if_match.is_none() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_batch(&self, bucket: &str, items: &[DeleteItem]) -> StoreResult<Vec<StoreResult<()>>> {
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        limits::check_batch(&call, items)?;
        let (in_batch, alone): (Vec<_>, Vec<_>) =
            items.iter().partition(|item| wire::survives_xml(&item.key));
        let mut batched = match in_batch.as_slice() {
            [] => Vec::new(),
            some => batch::delete(self.client().await, bucket, some).await?,
        }
        .into_iter();
        // Keys that XML cannot carry go one by one; they are rare.
        let mut single = join_all(alone.into_iter().map(|item| async move {
            let object = ObjectRef::new(bucket, &item.key).at_version(item.version_id.clone());
            self.delete(&object, item.if_match.as_ref()).await
        }))
        .await
        .into_iter();
        let in_order = |item: &DeleteItem| {
            let result = if wire::survives_xml(&item.key) { batched.next() } else { single.next() };
            result.unwrap_or_else(|| Err(call.error(StoreErrorKind::Unavailable, "no result")))
        };
        Ok(items.iter().map(in_order).collect())
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        let call = Call::on_bucket(Operation::List, bucket);
        let request = self
            .client()
            .await
            .list_objects_v2()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .set_prefix((!options.prefix.is_empty()).then_some(options.prefix))
            .set_delimiter(options.delimiter)
            .set_start_after(options.start_after)
            .set_continuation_token(options.continuation)
            .set_max_keys(options.max_keys.map(|keys| keys.min(MAX_PAGE).into()));
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        let encoding = answer.encoding_type.as_ref();
        let objects = answer.contents.unwrap_or_default().into_iter().map(|object| {
            let key = wire::present(&call, object.key, "a key")?;
            Ok(ListedEntry {
                key: wire::listed(&call, &key, encoding)?,
                size: wire::size(&call, object.size)?,
                e_tag: object.e_tag.as_deref().and_then(ETag::parse),
                last_modified: wire::timestamp(&call, object.last_modified)?,
                storage_class: object.storage_class.map(|class| class.as_str().to_owned()),
            })
        });
        let prefixes =
            answer.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix);
        let continuation = match answer.is_truncated {
            Some(true) => Some(wire::present(&call, answer.next_continuation_token, "where it goes on")?),
            _ => None,
        };
        Ok(ListPage {
            objects: objects.collect::<StoreResult<_>>()?,
            common_prefixes: prefixes
                .map(|prefix| wire::listed(&call, &prefix, encoding))
                .collect::<Result<_, _>>()?,
            continuation,
        })
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        let call = Call::on_bucket(Operation::ListVersions, bucket);
        let (key_marker, version_marker) = after.map_or((None, None), |(key, version)| (Some(key), version));
        let request = self
            .client()
            .await
            .list_object_versions()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_key_marker(key_marker)
            .set_version_id_marker(version_marker);
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        let encoding = answer.encoding_type.as_ref();
        let versions = answer.versions.unwrap_or_default().into_iter().map(|version| {
            let key = wire::present(&call, version.key, "a key")?;
            Ok(ListedVersion {
                key: wire::listed(&call, &key, encoding)?,
                version_id: wire::present(&call, version.version_id, "a version")?,
                is_latest: version.is_latest.unwrap_or_default(),
                is_delete_marker: false,
                size: wire::size(&call, version.size)?,
                e_tag: version.e_tag.as_deref().and_then(ETag::parse),
                last_modified: wire::timestamp(&call, version.last_modified)?,
            })
        });
        let markers = answer.delete_markers.unwrap_or_default().into_iter().map(|marker| {
            let key = wire::present(&call, marker.key, "a key")?;
            Ok(ListedVersion {
                key: wire::listed(&call, &key, encoding)?,
                version_id: wire::present(&call, marker.version_id, "a version")?,
                is_latest: marker.is_latest.unwrap_or_default(),
                is_delete_marker: true,
                size: 0,
                e_tag: None,
                last_modified: wire::timestamp(&call, marker.last_modified)?,
            })
        });
        let mut versions = versions.chain(markers).collect::<StoreResult<Vec<_>>>()?;
        // The SDK sorts markers apart from versions; this puts them together again.
        versions.sort_by(|a, b| {
            let newest_first = b.last_modified.cmp(&a.last_modified);
            a.key.cmp(&b.key).then(b.is_latest.cmp(&a.is_latest)).then(newest_first)
        });
        let next = match answer.is_truncated {
            Some(true) => {
                let key = wire::listed_option(&call, answer.next_key_marker, encoding)?;
                let key = wire::present(&call, key, "where it goes on")?;
                Some((key, answer.next_version_id_marker.filter(|version| !version.is_empty())))
            }
            _ => None,
        };
        Ok(VersionPage { versions, next })
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        let call = Call::on_bucket(Operation::ListUploads, bucket);
        let (key_marker, upload_marker) = after.map_or((None, None), |(key, upload)| (Some(key), upload));
        let request = self
            .client()
            .await
            .list_multipart_uploads()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_key_marker(key_marker)
            .set_upload_id_marker(upload_marker);
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        let encoding = answer.encoding_type.as_ref();
        let uploads = answer.uploads.unwrap_or_default().into_iter().map(|upload| {
            let key = wire::present(&call, upload.key, "a key")?;
            Ok(PendingUpload {
                key: wire::listed(&call, &key, encoding)?,
                upload_id: wire::present(&call, upload.upload_id, "an upload's id")?,
                initiated: wire::timestamp(&call, upload.initiated)?,
            })
        });
        let next = match answer.is_truncated {
            Some(true) => {
                let key = wire::listed_option(&call, answer.next_key_marker, encoding)?;
                let key = wire::present(&call, key, "where it goes on")?;
                Some((key, answer.next_upload_id_marker.filter(|upload| !upload.is_empty())))
            }
            _ => None,
        };
        Ok(UploadPage { uploads: uploads.collect::<StoreResult<_>>()?, next })
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        let call = Call::on_object(Operation::GetTags, object);
        limits::check_key(&call, &object.key)?;
        let request = self
            .client()
            .await
            .get_object_tagging()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone());
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        Ok(wire::tags(answer.tag_set))
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        let call = Call::on_object(Operation::PutTags, object);
        limits::check_key(&call, &object.key)?;
        limits::check_tags(&call, tags)?;
        let request = self
            .client()
            .await
            .put_object_tagging()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .tagging(wire::tag_set(&call, tags)?);
        request.send().await.map(drop).map_err(|error| failure(&call, error))
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        let call = Call::on_object(Operation::CreateUpload, object);
        limits::check_key(&call, &object.key)?;
        limits::check_put(&call, &options)?;
        let request = self
            .client()
            .await
            .create_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_content_type(options.content_type)
            .set_cache_control(options.cache_control)
            .set_metadata(wire::headers(options.metadata))
            .set_tagging(wire::tagging_header(&options.tags));
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        wire::present(&call, answer.upload_id, "an upload's id")
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: Bytes,
    ) -> StoreResult<ETag> {
        let call = Call::on_object(Operation::UploadPart, object);
        limits::check_part_number(&call, number)?;
        let request = self
            .client()
            .await
            .upload_part()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id)
            .part_number(number.into())
            .body(ByteStream::from(body));
        let answer = request.send().await.map_err(|error| failure(&call, error))?;
        wire::e_tag(&call, answer.e_tag())
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::CompleteUpload, object);
        let (if_none_match, if_match) = conditions(&precondition);
        let parts = parts.iter().map(|(number, e_tag)| {
            CompletedPart::builder().part_number((*number).into()).e_tag(e_tag.quoted()).build()
        });
        let request = self
            .client()
            .await
            .complete_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build());
        let long = client::long_calls(&self.config.timeouts);
        let attempts = Attempts::default();
        let sent = request.customize().config_override(long).interceptor(attempts.clone()).send().await;
        let answer = sent.map_err(|error| attempts.explain(failure(&call, error)))?;
        written(&call, answer.e_tag(), answer.version_id())
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        let call = Call::on_object(Operation::AbortUpload, object);
        let request = self
            .client()
            .await
            .abort_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id);
        match request.send().await.map_err(|error| failure(&call, error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
