//! A decorator that writes down which calls were made, so that a test can count requests.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;

use super::{
    Call, Capabilities, CopyOptions, DeleteItems, GetOptions, GetResult, ListOptions, ListPage, ObjectMeta,
    ObjectStore, Operation, Outgoing, Precondition, PutOptions, PutResult, StoreResult, Tags, UploadPage,
    VersionPage,
};
use crate::object_ref::{ETag, ObjectRef};

/// What a call needs to be allowed, as IAM spells it: the action and the resource's ARN.
pub type Permission = (&'static str, String);

/// A store whose calls are written down. Clones share the recording.
#[derive(Debug, Clone)]
pub struct RecordingStore<S> {
    inner: S,
    calls: Arc<Mutex<Vec<Call>>>,
    permissions: Arc<Mutex<BTreeSet<Permission>>>,
    bytes_read: Arc<AtomicU64>,
}

impl<S> RecordingStore<S> {
    /// `inner`, with nothing written down so far.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Arc::default(), permissions: Arc::default(), bytes_read: Arc::default() }
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// The calls so far, which are then forgotten, and so are the bytes.
    pub fn take(&self) -> Vec<Call> {
        self.bytes_read.store(0, Ordering::Relaxed);
        std::mem::take(&mut *self.lock())
    }

    /// The methods that were called, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().iter().map(|call| call.operation).collect()
    }

    /// How often `operation` was called.
    pub fn count(&self, operation: Operation) -> usize {
        self.lock().iter().filter(|call| call.operation == operation).count()
    }

    /// What all calls since the start needed to be allowed, what S3 asks beside the call's own action included: a
    /// copy reads its source with the tags that it keeps, and what replaces or deletes under a condition reads the
    /// entity tag.
    pub fn permissions(&self) -> BTreeSet<Permission> {
        self.permissions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes of bodies were read, which may be fewer than were asked for.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_object(&self, operation: Operation, object: &ObjectRef) {
        self.note(Call::on_object(operation, object));
    }

    fn note_bucket(&self, operation: Operation, bucket: &str) {
        self.note(Call::on_bucket(operation, bucket));
    }

    fn note(&self, call: Call) {
        // A batch delete is allowed item by item.
        if call.operation != Operation::DeleteBatch {
            self.need(&call);
        }
        self.lock().push(call);
    }

    fn need_options(&self, object: &ObjectRef, options: &PutOptions) {
        if !options.tags.is_empty() {
            self.need(&Call::on_object(Operation::PutTags, object));
        }
        self.need_condition(object, &options.precondition);
    }

    /// To replace what has an entity tag, one has to be allowed to see it.
    fn need_condition(&self, object: &ObjectRef, precondition: &Precondition) {
        if matches!(precondition, Precondition::IfMatch(_)) {
            self.need(&Call::on_object(Operation::Get, object));
        }
    }

    fn need(&self, call: &Call) {
        self.permissions.lock().unwrap_or_else(PoisonError::into_inner).insert(call.permission());
    }
}

impl<S: ObjectStore> ObjectStore for RecordingStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn probe(&self, bucket: &str, key: &str) -> StoreResult<()> {
        self.inner.probe(bucket, key).await
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        self.note_object(Operation::Head, object);
        self.inner.head(object).await
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        self.note_object(Operation::Get, object);
        let mut result = self.inner.get(object, options).await?;
        let bytes_read = Arc::clone(&self.bytes_read);
        let count = move |chunk: &StoreResult<Bytes>| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            bytes_read.fetch_add(length, Ordering::Relaxed);
        };
        result.body = result.body.inspect(count).boxed();
        Ok(result)
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.note_object(Operation::Put, object);
        self.need_options(object, &options);
        self.inner.put(object, body, options).await
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        self.note_object(Operation::Copy, destination);
        self.need(&Call::on_object(Operation::Get, source));
        if options.tags.is_none() {
            self.need(&Call::on_object(Operation::GetTags, source));
        }
        if options.tags.as_ref().is_none_or(|tags| !tags.is_empty()) {
            self.need(&Call::on_object(Operation::PutTags, destination));
        }
        self.need_condition(destination, &options.precondition);
        self.inner.copy(source, destination, options).await
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        self.note_object(Operation::Delete, object);
        if if_match.is_some() {
            self.need(&Call::on_object(Operation::Get, object));
        }
        self.inner.delete(object, if_match).await
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        self.note_bucket(Operation::DeleteBatch, bucket);
        for item in items.clone() {
            self.need(&Call::on_item(bucket, &item));
            if item.if_match.is_some() {
                self.need(&Call::on_object(Operation::Get, &ObjectRef::new(bucket, item.key)));
            }
        }
        self.inner.delete_batch(bucket, items).await
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        self.note_bucket(Operation::List, bucket);
        self.inner.list(bucket, options).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        self.note_bucket(Operation::ListVersions, bucket);
        self.inner.list_versions(bucket, prefix, after).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        self.note_bucket(Operation::ListUploads, bucket);
        self.inner.list_uploads(bucket, prefix, after).await
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        self.note_object(Operation::GetTags, object);
        self.inner.get_tags(object).await
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        self.note_object(Operation::PutTags, object);
        self.inner.put_tags(object, tags).await
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        self.note_object(Operation::CreateUpload, object);
        self.need_options(object, &options);
        self.inner.create_upload(object, options).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        self.note_object(Operation::UploadPart, object);
        self.inner.upload_part(object, upload_id, number, body).await
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        self.note_object(Operation::CompleteUpload, object);
        self.need_condition(object, &precondition);
        self.inner.complete_upload(object, upload_id, parts, precondition).await
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        self.note_object(Operation::AbortUpload, object);
        self.inner.abort_upload(object, upload_id).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[tokio::test]
    async fn calls_and_bytes_are_written_down_as_they_happen() {
        let store = RecordingStore::new(MemoryStore::new().with_bucket("b"));
        let object = ObjectRef::new("b", "k");
        store.put(&object, Bytes::from(vec![7; 200_000]), PutOptions::default()).await.unwrap();
        let mut result = store.get(&object, GetOptions::default()).await.unwrap();
        assert_eq!(store.bytes_read(), 0);
        let first = result.body.next().await.unwrap().unwrap();
        assert_eq!(store.bytes_read(), first.len() as u64);
        assert!(store.bytes_read() < 200_000);
        let calls: Vec<_> = store.calls().iter().map(Call::to_string).collect();
        assert_eq!(calls, ["put b/k", "get b/k"]);
        assert_eq!(store.count(Operation::Get), 1);
        let arn = || "arn:aws:s3:::b/k".to_owned();
        assert_eq!(store.permissions(), [("s3:GetObject", arn()), ("s3:PutObject", arn())].into());
        assert_eq!(store.take().len(), 2);
        assert!(store.calls().is_empty());
    }
}
