//! The port in memory, with S3's semantics, for tests of handlers and for the local cloud.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;

use super::limits::{self, MAX_PAGE};
use super::{
    Call, Capabilities, CopyOptions, DeleteItem, DeleteItems, GetOptions, GetResult, ListOptions, ListPage,
    ObjectMeta, ObjectStore, Operation, Outgoing, Precondition, PutOptions, PutResult, StoreErrorKind,
    StoreResult, Tags, UploadPage, VersionPage,
};
use crate::clock::{Clock, SystemClock};
use crate::object_ref::{ETag, ETagRef, ObjectRef};

mod bucket;
mod listing;

use bucket::{Bucket, Content, digest_of};

/// Bytes of a chunk of a body, so that readers meet bodies that come in pieces.
const CHUNK_BYTES: usize = 64 << 10;

/// A store that keeps everything in memory. Clones share their content.
///
/// Buckets have to be created; versions, delete markers, conditions, tags, multipart uploads and
/// pagination are as in S3. What it leaves out: parts below 5 MiB are taken, nobody is refused access.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    page_size: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    /// Makes version and upload ids, which so sort by age.
    counter: u64,
}

impl State {
    fn bucket(&mut self, call: &Call) -> StoreResult<&mut Bucket> {
        self.buckets.get_mut(&call.bucket).ok_or_else(|| call.error(StoreErrorKind::NoSuchBucket, ""))
    }

    fn next_id(&mut self) -> String {
        self.counter += 1;
        format!("{:016x}", self.counter)
    }

    /// Writes `content`, if `precondition` holds.
    fn write(
        &mut self,
        call: &Call,
        key: &str,
        content: Content,
        precondition: &Precondition,
        now: Timestamp,
    ) -> StoreResult<PutResult> {
        let id = self.next_id();
        let bucket = self.bucket(call)?;
        bucket.check(call, key, precondition)?;
        let e_tag = content.e_tag.clone();
        let version_id = bucket.push(call, key, id, Some(content), now)?;
        Ok(PutResult { e_tag, version_id })
    }

    /// Deletes one object, by a marker where the bucket is versioned and no version is named.
    fn delete(
        &mut self,
        call: &Call,
        key: &str,
        version_id: Option<&str>,
        if_match: Option<&ETag>,
        now: Timestamp,
    ) -> StoreResult<()> {
        let id = self.next_id();
        let bucket = self.bucket(call)?;
        if let Some(e_tag) = if_match {
            bucket.check(call, key, &Precondition::IfMatch(e_tag.clone()))?;
        }
        match version_id {
            Some(version_id) => bucket.remove_version(call, key, version_id),
            None if bucket.versioned => bucket.push(call, key, id, None, now).map(drop),
            None => bucket.remove(call, key),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// A store without buckets, on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// A store without buckets whose objects are written at `clock`'s time.
    pub fn with_clock(clock: impl Clock + 'static) -> Self {
        Self { clock: Arc::new(clock), page_size: MAX_PAGE, state: Arc::default() }
    }

    /// The same content, seen in pages of at most `entries`.
    #[must_use]
    pub fn with_page_size(mut self, entries: u16) -> Self {
        self.page_size = entries.clamp(1, MAX_PAGE);
        self
    }

    /// The same store with a bucket `name`.
    #[must_use]
    pub fn with_bucket(self, name: &str) -> Self {
        self.create_bucket(name, false);
        self
    }

    /// The same store with a versioned bucket `name`.
    #[must_use]
    pub fn with_versioned_bucket(self, name: &str) -> Self {
        self.create_bucket(name, true);
        self
    }

    /// Creates a bucket. One that is there keeps its content and may become versioned; what it held
    /// until then has the version `null`.
    pub fn create_bucket(&self, name: &str, versioned: bool) {
        let mut state = self.lock();
        let bucket = state.buckets.entry(name.to_owned()).or_default();
        bucket.versioned |= versioned;
    }

    /// Puts an object under object lock, or lifts it: a locked object is not deleted.
    ///
    /// # Errors
    /// Where there is no such object.
    pub fn set_locked(&self, object: &ObjectRef, locked: bool) -> StoreResult<()> {
        let call = Call::on_object(Operation::PutTags, object);
        let mut state = self.lock();
        let version = state.bucket(&call)?.find_mut(&call, object)?;
        version.locked = locked;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test's thread leaves whole values behind, never halves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("buckets", &self.lock().buckets.keys()).finish_non_exhaustive()
    }
}

/// The bytes of `body` that `options` asks for.
fn slice(call: &Call, body: &Bytes, options: &GetOptions) -> StoreResult<Bytes> {
    let Some(range) = &options.range else { return Ok(body.clone()) };
    limits::check_range(call, range)?;
    let size = body.len();
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(size);
    if start >= size {
        return Err(
            call.error(StoreErrorKind::Invalid, "InvalidRange: the range starts past the object's end")
        );
    }
    Ok(body.slice(start..end))
}

/// What is to be written; where it cannot be read, nothing is.
fn in_memory(call: &Call, body: impl Into<Outgoing>) -> StoreResult<Bytes> {
    body.into().bytes().map_err(|error| call.error(StoreErrorKind::Unavailable, "").caused_by(error))
}

impl ObjectStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_replace: true, conditional_delete: true, byte_order: true }
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        let call = Call::on_object(Operation::Head, object);
        limits::check_key(&call, &object.key)?;
        let mut state = self.lock();
        let (version, content) = state.bucket(&call)?.content(&call, object)?;
        Ok(content.meta(version))
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        let call = Call::on_object(Operation::Get, object);
        limits::check_key(&call, &object.key)?;
        let (meta, mut rest) = {
            let mut state = self.lock();
            let (version, content) = state.bucket(&call)?.content(&call, object)?;
            if options.if_match.as_ref().is_some_and(|e_tag| *e_tag != content.e_tag) {
                return Err(call.error(StoreErrorKind::PreconditionFailed, ""));
            }
            // S3 counts the tags at a GET, and says nothing where there are none.
            let tag_count = u32::try_from(content.tags.len()).ok().filter(|count| *count > 0);
            let meta = ObjectMeta { tag_count, ..content.meta(version) };
            (meta, slice(&call, &content.body, &options)?)
        };
        let length = rest.len() as u64;
        let chunks = std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(CHUNK_BYTES))))
        });
        Ok(GetResult::new(call, meta, length, futures::stream::iter(chunks).boxed()))
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
        let precondition = options.precondition.clone();
        let content = Content::new(in_memory(&call, body)?, options);
        self.lock().write(&call, &object.key, content, &precondition, self.clock.now())
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::Copy, destination);
        let read = Call::on_object(Operation::Get, source);
        limits::check_key(&read, &source.key)?;
        limits::check_key(&call, &destination.key)?;
        limits::check_copy(&call, &options)?;
        if source == destination && options.metadata.is_none() {
            return Err(call.error(StoreErrorKind::Invalid, "a copy onto itself has to change something"));
        }
        let mut state = self.lock();
        let (_, content) = state.bucket(&read)?.content(&read, source)?;
        if options.source_if_match.as_ref().is_some_and(|e_tag| *e_tag != content.e_tag) {
            return Err(read.error(StoreErrorKind::PreconditionFailed, ""));
        }
        let mut content = content.clone();
        // A copy is written in one piece, so its tag is the digest even where the source's was not.
        content.e_tag = digest_of(&content.body);
        if let Some(metadata) = options.metadata {
            content.metadata = metadata;
        }
        if let Some(tags) = options.tags {
            content.tags = tags;
        }
        state.write(&call, &destination.key, content, &options.precondition, self.clock.now())
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        let call = Call::on_object(Operation::Delete, object);
        limits::check_key(&call, &object.key)?;
        limits::check_condition(&call, if_match)?;
        self.lock().delete(&call, &object.key, object.version_id.as_deref(), if_match, self.clock.now())
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let whole = Call::on_bucket(Operation::DeleteBatch, bucket);
        limits::check_batch(&whole, items.clone())?;
        let now = self.clock.now();
        let mut state = self.lock();
        state.bucket(&whole)?;
        let delete = |item: DeleteItem<'_>| {
            let call = Call::on_item(bucket, &item);
            let if_match = item.if_match.map(ETagRef::owned);
            state.delete(&call, item.key, item.version_id, if_match.as_ref(), now)
        };
        Ok(items.map(delete).collect())
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        let call = Call::on_bucket(Operation::List, bucket);
        let entries = options.max_keys.unwrap_or(MAX_PAGE).min(self.page_size);
        let mut state = self.lock();
        Ok(listing::objects(state.bucket(&call)?, &options, entries.into()))
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        let call = Call::on_bucket(Operation::ListVersions, bucket);
        let mut state = self.lock();
        Ok(listing::versions(state.bucket(&call)?, prefix, after, self.page_size.into()))
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        let call = Call::on_bucket(Operation::ListUploads, bucket);
        let mut state = self.lock();
        Ok(listing::uploads(state.bucket(&call)?, prefix, after.as_ref(), self.page_size.into()))
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        let call = Call::on_object(Operation::GetTags, object);
        limits::check_key(&call, &object.key)?;
        let mut state = self.lock();
        let (_, content) = state.bucket(&call)?.content(&call, object)?;
        Ok(content.tags.clone())
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        let call = Call::on_object(Operation::PutTags, object);
        limits::check_key(&call, &object.key)?;
        limits::check_tags(&call, tags)?;
        let mut state = self.lock();
        let version = state.bucket(&call)?.find_mut(&call, object)?;
        if let Some(content) = &mut version.content {
            content.tags.clone_from(tags);
        }
        Ok(())
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        let call = Call::on_object(Operation::CreateUpload, object);
        limits::check_key(&call, &object.key)?;
        limits::check_put(&call, &options)?;
        let now = self.clock.now();
        let mut state = self.lock();
        let id = state.next_id();
        state.bucket(&call)?.begin_upload(&object.key, &id, options, now);
        Ok(id)
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
        let body = in_memory(&call, body)?;
        let e_tag = digest_of(&body);
        let mut state = self.lock();
        let upload = state.bucket(&call)?.upload(&call, &object.key, upload_id)?;
        upload.parts.insert(number, (e_tag.clone(), body));
        Ok(e_tag)
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::CompleteUpload, object);
        let now = self.clock.now();
        let mut state = self.lock();
        let content = state.bucket(&call)?.upload(&call, &object.key, upload_id)?.assemble(&call, parts)?;
        let written = state.write(&call, &object.key, content, &precondition, now)?;
        state.bucket(&call)?.end_upload(&object.key, upload_id);
        Ok(written)
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        let call = Call::on_object(Operation::AbortUpload, object);
        self.lock().bucket(&call)?.end_upload(&object.key, upload_id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;

    fn object(key: &str) -> ObjectRef {
        ObjectRef::new("b", key)
    }

    async fn put(store: &MemoryStore, key: &str) -> PutResult {
        store.put(&object(key), Bytes::from_static(b"x"), PutOptions::default()).await.unwrap()
    }

    #[tokio::test]
    async fn objects_are_written_at_the_clocks_time() {
        let then = "2026-11-21T06:00:00Z".parse().unwrap();
        let store = MemoryStore::with_clock(FixedClock(then)).with_bucket("b");
        put(&store, "k").await;
        assert_eq!(store.clone().head(&object("k")).await.unwrap().last_modified, then);
    }

    #[tokio::test]
    async fn what_is_locked_is_not_deleted() {
        let store = MemoryStore::new().with_bucket("b");
        put(&store, "k").await;
        store.set_locked(&object("k"), true).unwrap();
        assert_eq!(store.delete(&object("k"), None).await.unwrap_err().kind, StoreErrorKind::Locked);
        let results = store.delete_batch("b", [DeleteItem::any("k")].into_iter()).await.unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().kind, StoreErrorKind::Locked);
        store.set_locked(&object("k"), false).unwrap();
        store.delete(&object("k"), None).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_before_versioning_is_the_null_version() {
        let store = MemoryStore::new().with_bucket("b");
        put(&store, "k").await;
        store.create_bucket("b", true);
        put(&store, "k").await;
        let page = store.list_versions("b", "", None).await.unwrap();
        assert_eq!(page.versions.len(), 2);
        assert_eq!(page.versions[1].version_id, "null");
        assert!(store.head(&object("k").at_version(Some("null".to_owned()))).await.is_ok());
    }

    #[tokio::test]
    async fn the_copy_of_a_multipart_object_has_a_plain_tag() {
        let store = MemoryStore::new().with_bucket("b");
        let id = store.create_upload(&object("k"), PutOptions::default()).await.unwrap();
        let part = store.upload_part(&object("k"), &id, 1, Bytes::from_static(b"x")).await.unwrap();
        let whole =
            store.complete_upload(&object("k"), &id, &[(1, part.clone())], Precondition::None).await.unwrap();
        // The MD5 of the MD5 of "x", with the number of parts.
        assert_eq!(whole.e_tag.as_str(), "9affad555af89da9b0bfcd5e45bc93da-1");
        let copy = store.copy(&object("k"), &object("copy"), CopyOptions::default()).await.unwrap();
        assert_eq!(copy.e_tag, part);
    }
}
