//! A decorator that writes down which calls were made, so that a test can count requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;

use super::{
    Call, Capabilities, CopyOptions, DeleteItem, GetOptions, GetResult, ListOptions, ListPage, ObjectMeta,
    ObjectStore, Operation, Precondition, PutOptions, PutResult, StoreResult, Tags, UploadPage, VersionPage,
};
use crate::object_ref::{ETag, ObjectRef};

/// A store whose calls are written down. Clones share the recording.
#[derive(Debug, Clone)]
pub struct RecordingStore<S> {
    inner: S,
    calls: Arc<Mutex<Vec<Call>>>,
    bytes_read: Arc<AtomicU64>,
}

impl<S> RecordingStore<S> {
    /// `inner`, with nothing written down so far.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Arc::default(), bytes_read: Arc::default() }
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
        self.lock().push(Call::on_object(operation, object));
    }

    fn note_bucket(&self, operation: Operation, bucket: &str) {
        self.lock().push(Call::on_bucket(operation, bucket));
    }
}

impl<S: ObjectStore> ObjectStore for RecordingStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
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

    async fn put(&self, object: &ObjectRef, body: Bytes, options: PutOptions) -> StoreResult<PutResult> {
        self.note_object(Operation::Put, object);
        self.inner.put(object, body, options).await
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        self.note_object(Operation::Copy, destination);
        self.inner.copy(source, destination, options).await
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        self.note_object(Operation::Delete, object);
        self.inner.delete(object, if_match).await
    }

    async fn delete_batch(&self, bucket: &str, items: &[DeleteItem]) -> StoreResult<Vec<StoreResult<()>>> {
        self.note_bucket(Operation::DeleteBatch, bucket);
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
        self.inner.create_upload(object, options).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: Bytes,
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
        assert_eq!(store.take().len(), 2);
        assert!(store.calls().is_empty());
    }
}
