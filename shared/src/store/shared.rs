//! A store behind an `Arc` is a store.

use std::sync::Arc;

use super::{
    Capabilities, CopyOptions, DeleteItems, GetOptions, GetResult, ListOptions, ListPage, ObjectMeta,
    ObjectStore, Outgoing, Precondition, PutOptions, PutResult, StoreResult, Tags, UploadPage, VersionPage,
};
use crate::object_ref::{ETag, ObjectRef};

impl<S: ObjectStore> ObjectStore for Arc<S> {
    fn capabilities(&self) -> Capabilities {
        S::capabilities(self)
    }

    async fn probe(&self, bucket: &str, key: &str) -> StoreResult<()> {
        S::probe(self, bucket, key).await
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        S::head(self, object).await
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        S::get(self, object, options).await
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        S::put(self, object, body, options).await
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        S::copy(self, source, destination, options).await
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        S::delete(self, object, if_match).await
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        S::delete_batch(self, bucket, items).await
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        S::list(self, bucket, options).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        S::list_versions(self, bucket, prefix, after).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        S::list_uploads(self, bucket, prefix, after).await
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        S::get_tags(self, object).await
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        S::put_tags(self, object, tags).await
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        S::create_upload(self, object, options).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        S::upload_part(self, object, upload_id, number, body).await
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        S::complete_upload(self, object, upload_id, parts, precondition).await
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        S::abort_upload(self, object, upload_id).await
    }
}
