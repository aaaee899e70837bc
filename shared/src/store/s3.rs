//! The port over aws-sdk-s3, for S3 and what speaks like it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, EncodingType, MetadataDirective,
    TaggingDirective,
};
use futures::future::join_all;
use tokio::sync::OnceCell;

use super::limits::{self, MAX_PAGE};
use super::{
    Call, Capabilities, CopyOptions, DeleteItem, DeleteItems, GetOptions, GetResult, ListOptions, ListPage,
    ListedEntry, ListedVersion, Metadata, ObjectMeta, ObjectStore, Operation, Outgoing, PendingUpload,
    Precondition, PutOptions, PutResult, StoreError, StoreErrorKind, StoreResult, Tags, UploadPage,
    VersionPage,
};
use crate::credentials::{KeySlot, Keys};
use crate::env::Environment;
use crate::object_ref::{ETag, ETagRef, ObjectRef};
use crate::outcome::RetryClass;

mod attempts;
mod batch;
mod client;
mod config;
mod failure;
mod oss;
mod outgoing;
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
    /// Which buckets keep versions, as far as OSS was asked.
    versioned: Arc<Mutex<BTreeMap<String, bool>>>,
    /// Whether batch deletes hold their conditions, as far as that was tried.
    holds_conditions: Arc<OnceCell<bool>>,
}

/// Why OSS is not asked to create only.
const OVERWRITES: &str = "OSS ignores x-oss-forbid-overwrite in a bucket whose versioning is enabled or suspended, \
                          so that an address could be overwritten";

/// How many objects of a batch are looked at at once.
const LOOKS: usize = 16;

fn written(call: &Call, e_tag: Option<&str>, version_id: Option<&str>) -> StoreResult<PutResult> {
    let version_id = version_id.filter(|version| !version.is_empty()).map(str::to_owned);
    Ok(PutResult { e_tag: wire::e_tag(call, e_tag)?, version_id })
}

impl S3Store {
    /// A store that is reached as `config` says. Nothing is connected yet.
    pub fn new(config: S3Config) -> Self {
        let (client, versioned, holds_conditions) = (Arc::default(), Arc::default(), Arc::default());
        Self { config, credentials: None, client, versioned, holds_conditions }
    }

    /// The same with credentials of its own, instead of those that the SDK finds.
    pub fn with_credentials(mut config: S3Config, credentials: Credentials) -> Self {
        if config.dialect == Dialect::Oss {
            config.keys = Some(KeySlot::new(Some(Keys {
                id: credentials.access_key_id().to_owned(),
                secret: credentials.secret_access_key().to_owned(),
                token: credentials.session_token().map(str::to_owned),
            })));
        }
        Self { credentials: Some(credentials), ..Self::new(config) }
    }

    /// Notes a mistake in `environment` if `bucket`, which `variable` names, keeps versions and is OSS's,
    /// where a create-only write would overwrite. Asks only if all else is in order. A bucket that cannot be asked about is looked at again
    /// before the first write.
    pub async fn check_create_only(
        &self,
        environment: &mut Environment,
        variable: &'static str,
        bucket: &str,
    ) {
        let has_keys = self.config.keys.as_ref().is_some_and(|keys| keys.current().is_some());
        let is_oss = self.config.dialect == Dialect::Oss;
        let may_ask = is_oss && has_keys && environment.is_sound() && !bucket.is_empty();
        if may_ask && self.keeps_versions(bucket).await {
            environment.mistake(variable, false, format!("a bucket without versioning; {OVERWRITES}"));
        }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| client::connect(&self.config, self.credentials.clone())).await
    }

    fn failure<E>(&self, call: &Call, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.noted(failure(self.config.dialect, call, error))
    }

    /// Tells the runtime where keys no longer hold.
    fn noted(&self, error: StoreError) -> StoreError {
        if let (StoreErrorKind::ExpiredCredentials, Some(keys)) = (error.kind, &self.config.keys) {
            keys.expire();
        }
        error
    }

    fn quoted(&self, e_tag: &ETag) -> String {
        self.config.dialect.quoted(e_tag)
    }

    /// The headers that hold `precondition` in a write to `object`.
    ///
    /// OSS has no `If-Match` for writes: there the tag is looked at right before the write. And it creates
    /// only where nothing stands in buckets that keep no versions, so that it is not asked to elsewhere.
    async fn conditions(
        &self,
        call: &Call,
        object: &ObjectRef,
        precondition: &Precondition,
    ) -> StoreResult<(Option<String>, Option<String>)> {
        match precondition {
            Precondition::None => Ok((None, None)),
            Precondition::IfAbsent => {
                if self.config.dialect == Dialect::Oss && self.keeps_versions(&object.bucket).await {
                    return Err(call.error(StoreErrorKind::Invalid, OVERWRITES));
                }
                Ok((Some("*".to_owned()), None))
            }
            Precondition::IfMatch(e_tag) => {
                let held = self.held(call, object, Some(e_tag)).await?;
                Ok((None, held.map(|e_tag| self.quoted(e_tag))))
            }
        }
    }

    /// `if_match`, if the store holds it; otherwise nothing, once the object was seen to have the tag.
    async fn held<'a>(
        &self,
        call: &Call,
        object: &ObjectRef,
        if_match: Option<&'a ETag>,
    ) -> StoreResult<Option<&'a ETag>> {
        let (Dialect::Oss, Some(e_tag)) = (self.config.dialect, if_match) else { return Ok(if_match) };
        let current = ObjectRef::new(&object.bucket, &object.key);
        if self.head(&current).await?.e_tag != *e_tag {
            return Err(call.error(StoreErrorKind::PreconditionFailed, ""));
        }
        Ok(None)
    }

    /// Whether an OSS bucket keeps versions, or kept them once. One that cannot be asked about is taken for
    /// one that does not; the answer to a write tells otherwise.
    async fn keeps_versions(&self, bucket: &str) -> bool {
        let known = self.versioned.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).copied();
        if let Some(known) = known {
            return known;
        }
        match self.client().await.get_bucket_versioning().bucket(bucket).send().await {
            Ok(answer) => {
                let statuses = [BucketVersioningStatus::Enabled, BucketVersioningStatus::Suspended];
                let keeps = answer.status.is_some_and(|status| statuses.contains(&status));
                self.versioned
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(bucket.to_owned(), keeps);
                keeps
            }
            Err(error) => {
                let error = self.failure(&Call::on_bucket(Operation::ListVersions, bucket), error);
                tracing::warn!(
                    object.bucket = bucket,
                    %error,
                    "cannot ask whether the bucket keeps versions (oss:GetBucketVersioning)"
                );
                false
            }
        }
    }

    /// The result of a write. One that was to create only and made a version may have covered another.
    fn written(
        &self,
        call: &Call,
        e_tag: Option<&str>,
        version_id: Option<&str>,
        precondition: &Precondition,
    ) -> StoreResult<PutResult> {
        let result = written(call, e_tag, version_id)?;
        let creates = *precondition == Precondition::IfAbsent && self.config.dialect == Dialect::Oss;
        if creates && result.version_id.is_some() {
            return Err(call.error(StoreErrorKind::Invalid, OVERWRITES));
        }
        Ok(result)
    }

    /// OSS takes no underscore in a metadata's name.
    fn check_metadata(&self, call: &Call, metadata: &Metadata) -> StoreResult<()> {
        match metadata.keys().find(|name| name.contains('_')) {
            Some(name) if self.config.dialect == Dialect::Oss => {
                let detail = format!("OSS takes no underscore in the metadata name {name:?}");
                Err(call.error(StoreErrorKind::Invalid, detail))
            }
            _ => Ok(()),
        }
    }

    /// Deletes those objects of a batch that still have the tag that was seen, where the store holds no
    /// condition in a batch.
    async fn delete_looked_at<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let items: Vec<_> = items.collect();
        let look = async |item: &DeleteItem<'_>| {
            let call = Call::on_item(bucket, item);
            self.held(&call, &ObjectRef::new(bucket, item.key), item.if_match.map(ETagRef::owned).as_ref())
                .await
                .map(drop)
        };
        let mut looks = Vec::with_capacity(items.len());
        for some in items.chunks(LOOKS) {
            looks.extend(join_all(some.iter().map(&look)).await);
        }
        let passed = items.iter().zip(&looks).filter(|(_, look)| look.is_ok());
        let passed: Vec<_> = passed.map(|(item, _)| DeleteItem { if_match: None, ..*item }).collect();
        let mut deleted = self.delete_items(bucket, passed.into_iter()).await?.into_iter();
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        let missing = || Err(call.error(StoreErrorKind::Unavailable, "no result"));
        Ok(looks.into_iter().map(|look| look.and_then(|()| deleted.next().unwrap_or_else(missing))).collect())
    }

    /// Deletes a batch under the conditions that the store itself holds.
    async fn delete_items<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        let in_batch = items.clone().filter(|item| wire::survives_xml(item.key));
        let alone: Vec<_> = items.clone().filter(|item| !wire::survives_xml(item.key)).collect();
        let batched = if in_batch.clone().next().is_some() {
            let client = self.client().await;
            let answer = batch::delete(client, self.config.dialect, bucket, in_batch).await;
            answer.map_err(|error| self.noted(error))?
        } else {
            Vec::new()
        };
        if alone.is_empty() {
            return Ok(batched);
        }
        let mut batched = batched.into_iter();
        // Keys that XML cannot carry go one by one; they are rare.
        let mut single = join_all(alone.into_iter().map(|item| async move {
            let object = ObjectRef::new(bucket, item.key).at_version(item.version_id.map(str::to_owned));
            self.delete(&object, item.if_match.map(ETagRef::owned).as_ref()).await
        }))
        .await
        .into_iter();
        let in_order = |item: DeleteItem<'_>| {
            let result = if wire::survives_xml(item.key) { batched.next() } else { single.next() };
            result.unwrap_or_else(|| Err(call.error(StoreErrorKind::Unavailable, "no result")))
        };
        Ok(items.map(in_order).collect())
    }

    /// Whether a batch delete is refused whose condition does not hold: some servers read over it, and delete what they were
    /// told to keep.
    async fn try_condition(&self, bucket: &str, key: &str) -> StoreResult<bool> {
        let object = ObjectRef::new(bucket, key);
        self.put(&object, bytes::Bytes::from_static(b"probe"), PutOptions::default()).await?;
        let other = ETagRef::normalised("00000000000000000000000000000000");
        let item = DeleteItem { key, version_id: None, if_match: other };
        let answer = self.delete_items(bucket, std::iter::once(item)).await;
        let held = match answer.and_then(|results| results.into_iter().next().unwrap_or(Ok(()))) {
            Ok(()) => false,
            Err(error) if error.retry_class() == RetryClass::Retryable => return Err(error),
            // Whatever else it says, this is not what it means by a condition.
            Err(error) => error.kind == StoreErrorKind::PreconditionFailed,
        };
        self.delete(&object, None).await?;
        Ok(held)
    }

    async fn head_output(&self, call: &Call, object: &ObjectRef) -> StoreResult<HeadObjectOutput> {
        let request = self
            .client()
            .await
            .head_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone());
        request.send().await.map_err(|error| self.failure(call, error))
    }
}

impl ObjectStore for S3Store {
    fn capabilities(&self) -> Capabilities {
        match self.config.dialect {
            Dialect::S3 => {
                // Behind an endpoint of its own may be any server.
                let byte_order = self.config.endpoint.is_none();
                let conditional_delete = self.holds_conditions.get().copied().unwrap_or(true);
                Capabilities { conditional_replace: true, conditional_delete, byte_order }
            }
            Dialect::Oss => {
                Capabilities { conditional_replace: false, conditional_delete: false, byte_order: true }
            }
        }
    }

    async fn probe(&self, bucket: &str, key: &str) -> StoreResult<()> {
        if self.config.dialect != Dialect::S3 || self.config.endpoint.is_none() {
            return Ok(());
        }
        self.holds_conditions.get_or_try_init(|| self.try_condition(bucket, key)).await.map(|_| ())
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        let call = Call::on_object(Operation::Head, object);
        limits::check_key(&call, &object.key)?;
        match self.head_output(&call, object).await {
            Ok(output) => read::meta_of_head(&call, output),
            // An answer to HEAD has no body, so that expired credentials, a wrong region and a refused
            // version all read "400". A GET of one byte says which.
            Err(error) if is_unexplained(self.config.dialect, &error) => {
                let options = GetOptions { range: Some(0..1), if_match: None };
                match self.get(object, options).await {
                    Err(told) if told.kind != StoreErrorKind::Invalid => Err(told),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        let client = self.client().await;
        read::get(client, self.config.dialect, object, options).await.map_err(|error| self.noted(error))
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::Put, object);
        limits::check_key(&call, &object.key)?;
        limits::check_put(&call, &options)?;
        self.check_metadata(&call, &options.metadata)?;
        let (if_none_match, if_match) = self.conditions(&call, object, &options.precondition).await?;
        let (body, signed_by) = outgoing::body(body.into());
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
            .body(body);
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).interceptor(signed_by).send().await;
        let answer = sent.map_err(|error| attempts.explain(self.failure(&call, error)))?;
        self.written(&call, answer.e_tag(), answer.version_id(), &options.precondition)
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
        self.check_metadata(&call, options.metadata.as_ref().unwrap_or(&Metadata::new()))?;
        let (if_none_match, if_match) = self.conditions(&call, destination, &options.precondition).await?;
        let mut request = self
            .client()
            .await
            .copy_object()
            .copy_source(wire::copy_source(source))
            .bucket(&destination.bucket)
            .key(&destination.key)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_copy_source_if_match(options.source_if_match.as_ref().map(|e_tag| self.quoted(e_tag)));
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
                .copy_source_if_match(self.quoted(&e_tag))
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
            let mut error = attempts.explain(self.failure(&call, error));
            // The caller set no condition, so that a failed one is our own: the source was replaced
            // between our two requests.
            if pinned.is_some() && error.kind == StoreErrorKind::PreconditionFailed {
                error.kind = StoreErrorKind::Conflict;
            }
            error
        })?;
        let e_tag = answer.copy_object_result().and_then(|result| result.e_tag());
        self.written(&call, e_tag, answer.version_id(), &options.precondition)
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        let call = Call::on_object(Operation::Delete, object);
        limits::check_key(&call, &object.key)?;
        limits::check_condition(&call, if_match)?;
        let guarded = if_match.is_some();
        let if_match = self.held(&call, object, if_match).await?;
        let looked = guarded && if_match.is_none();
        let request = self
            .client()
            .await
            .delete_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .set_if_match(if_match.map(|e_tag| self.quoted(e_tag)));
        let attempts = Attempts::default();
        let mut request = request.customize().interceptor(attempts.clone());
        if looked {
            // It was looked at once, and after an attempt that had its effect without an answer it may be another.
            request = request.config_override(Config::builder().retry_config(RetryConfig::disabled()));
        }
        let sent = request.send().await;
        match sent.map_err(|error| attempts.explain(self.failure(&call, error))) {
            Ok(_) => Ok(()),
            // Not every store counts a missing object as deleted.
            Err(error) if error.kind == StoreErrorKind::NotFound && !guarded => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        limits::check_batch(&call, items.clone())?;
        if self.config.dialect == Dialect::Oss && items.clone().any(|item| item.if_match.is_some()) {
            return self.delete_looked_at(bucket, items).await;
        }
        self.delete_items(bucket, items).await
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
        let answer = request.send().await.map_err(|error| self.failure(&call, error))?;
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
        let answer = request.send().await.map_err(|error| self.failure(&call, error))?;
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
        let answer = request.send().await.map_err(|error| self.failure(&call, error))?;
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
        let answer = request.send().await.map_err(|error| self.failure(&call, error))?;
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
        request.send().await.map(drop).map_err(|error| self.failure(&call, error))
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        let call = Call::on_object(Operation::CreateUpload, object);
        limits::check_key(&call, &object.key)?;
        limits::check_put(&call, &options)?;
        self.check_metadata(&call, &options.metadata)?;
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
        let answer = request.send().await.map_err(|error| self.failure(&call, error))?;
        wire::present(&call, answer.upload_id, "an upload's id")
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        let call = Call::on_object(Operation::UploadPart, object);
        limits::check_part_number(&call, number)?;
        let (body, signed_by) = outgoing::body(body.into());
        let request = self
            .client()
            .await
            .upload_part()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id)
            .part_number(number.into())
            .body(body);
        let answer = request
            .customize()
            .interceptor(signed_by)
            .send()
            .await
            .map_err(|error| self.failure(&call, error))?;
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
        let (if_none_match, if_match) = self.conditions(&call, object, &precondition).await?;
        let parts = parts.iter().map(|(number, e_tag)| {
            CompletedPart::builder().part_number((*number).into()).e_tag(self.quoted(e_tag)).build()
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
        let answer = sent.map_err(|error| attempts.explain(self.failure(&call, error)))?;
        self.written(&call, answer.e_tag(), answer.version_id(), &precondition)
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
        match request.send().await.map_err(|error| self.failure(&call, error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
