//! The object store as the functions see it: one port, [`ObjectStore`], and its adapters.
//!
//! Every adapter passes the same contract suite. Conditions are part of the port because they are what
//! makes handlers idempotent without a database: create-only writes, replacement and deletion of exactly
//! the object that was seen.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::object_ref::{ETag, ETagRef, ObjectRef};

mod body;
mod call;
mod error;
mod fault;
mod limits;
mod memory;
mod outgoing;
mod record;
mod s3;
mod shared;

pub use call::{Call, Operation};
pub use error::{StoreError, StoreErrorKind};
pub use fault::{Fault, FaultStore};
pub use memory::MemoryStore;
pub use outgoing::{Outgoing, OutgoingFile};
pub use record::{Permission, RecordingStore};
pub use s3::{Dialect, S3Config, S3Store, Timeouts};

/// The name of the user metadata that marks what these functions wrote themselves, so that none of them
/// reacts to its own output.
pub const PRODUCED_BY: &str = "produced-by";

/// What every call of the port answers.
pub type StoreResult<T> = Result<T, StoreError>;

/// User metadata, names without `x-amz-meta-` and in lower case. At most 2 KB in a real store.
pub type Metadata = BTreeMap<String, String>;

/// Tags, at most ten in a real store.
pub type Tags = BTreeMap<String, String>;

/// What has to hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// No object stands under the key (`If-None-Match: *`).
    IfAbsent,
    /// The object that stands there has this tag (`If-Match`).
    IfMatch(ETag),
}

/// What a store knows about an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The whole object's size in bytes, also where only a range was read.
    pub size: u64,
    /// The normalised entity tag.
    pub e_tag: ETag,
    /// When it was written.
    pub last_modified: Timestamp,
    /// The version, where the bucket is versioned.
    pub version_id: Option<String>,
    /// `Content-Type`, as declared by whoever wrote it.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// User metadata.
    pub metadata: Metadata,
    /// How many tags it has, where the store says so (a GET does; `None`: ask for the tags).
    pub tag_count: Option<u32>,
    /// Until when object lock keeps it from being deleted, as far as the store tells; a legal hold has no end.
    pub locked_until: Option<Timestamp>,
}

/// How to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GetOptions {
    /// Only these bytes; the end may lie past the object's end.
    pub range: Option<Range<u64>>,
    /// Only if the object still has this tag.
    pub if_match: Option<ETag>,
}

/// An object that is being read.
pub struct GetResult {
    /// What the store knows about it.
    pub meta: ObjectMeta,
    /// The length of `body` in bytes, as declared: the object's, or that of the range that was asked for.
    pub length: u64,
    /// Its bytes, as they arrive. A body that ends early is an error of kind
    /// [`StoreErrorKind::Truncated`], never a short success.
    pub body: BoxStream<'static, StoreResult<Bytes>>,
    call: Call,
}

impl GetResult {
    /// The answer to `call`.
    fn new(call: Call, meta: ObjectMeta, length: u64, body: BoxStream<'static, StoreResult<Bytes>>) -> Self {
        Self { meta, length, body, call }
    }
}

impl std::fmt::Debug for GetResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetResult").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// What has to hold.
    pub precondition: Precondition,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// User metadata.
    pub metadata: Metadata,
    /// Tags, set in the same request.
    pub tags: Tags,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutResult {
    /// The new object's tag.
    pub e_tag: ETag,
    /// Its version, where the bucket is versioned.
    pub version_id: Option<String>,
}

/// How to copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyOptions {
    /// Only if the source still has this tag.
    pub source_if_match: Option<ETag>,
    /// What has to hold at the destination.
    pub precondition: Precondition,
    /// The copy's metadata; `None` keeps the source's. `Content-Type` is kept either way.
    pub metadata: Option<Metadata>,
    /// The copy's tags; `None` keeps the source's.
    pub tags: Option<Tags>,
}

/// One object of a batch delete. It borrows: a batch has many, and whoever deletes has their names anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteItem<'n> {
    /// The raw key.
    pub key: &'n str,
    /// A version to delete for good; `None` deletes the current one (in a versioned bucket by a marker).
    pub version_id: Option<&'n str>,
    /// Only if the current object has this tag. Not together with `version_id`.
    pub if_match: Option<ETagRef<'n>>,
}

impl<'n> DeleteItem<'n> {
    /// Whatever stands under a key.
    pub fn any(key: &'n str) -> Self {
        Self { key, version_id: None, if_match: None }
    }
}

/// The objects of a batch delete, which can be gone through more than once: whoever has their names in another form
/// makes the items as they are needed, since a list of them would take as much memory as the names.
pub trait DeleteItems<'n>: Iterator<Item = DeleteItem<'n>> + Clone + Send {}

impl<'n, I: Iterator<Item = DeleteItem<'n>> + Clone + Send> DeleteItems<'n> for I {}

/// How to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that share what follows the prefix up to this are folded into `common_prefixes`.
    pub delimiter: Option<String>,
    /// Only keys after this one, in UTF-8 byte order.
    pub start_after: Option<String>,
    /// Where the page before ended.
    pub continuation: Option<String>,
    /// Page size, at most (and by default) 1,000.
    pub max_keys: Option<u16>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The raw key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag.
    pub e_tag: Option<ETag>,
    /// When it was written.
    pub last_modified: Timestamp,
    /// `STANDARD`, `GLACIER`, …
    pub storage_class: Option<String>,
}

/// A page of a listing, in UTF-8 byte order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The objects.
    pub objects: Vec<ListedEntry>,
    /// The folded prefixes, each once over all pages.
    pub common_prefixes: Vec<String>,
    /// Where the next page starts; `None` at the end.
    pub continuation: Option<String>,
}

/// One version, or delete marker, of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// The raw key.
    pub key: String,
    /// The version; `null` for what was written before versioning.
    pub version_id: String,
    /// Whether it is what a plain GET sees.
    pub is_latest: bool,
    /// Whether it is a delete marker, which has no size and no tag.
    pub is_delete_marker: bool,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag.
    pub e_tag: Option<ETag>,
    /// When it was written.
    pub last_modified: Timestamp,
}

/// A page of versions: keys in order, newest version first within a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionPage {
    /// Versions and delete markers, interleaved in the store's order.
    pub versions: Vec<ListedVersion>,
    /// The next page's markers (key, version); `None` at the end.
    pub next: Option<(String, Option<String>)>,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpload {
    /// The raw key.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: Timestamp,
}

/// A page of pending uploads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadPage {
    /// The uploads, in key order.
    pub uploads: Vec<PendingUpload>,
    /// The next page's markers (key, upload id); `None` at the end.
    pub next: Option<(String, Option<String>)>,
}

/// What not every store can do. Where a condition cannot be held, the adapter looks at the tag right before
/// the call and goes on without a guard, so that only what happens in between is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-Match` on writes (replacement).
    pub conditional_replace: bool,
    /// `If-Match` on deletes, single and per key of a batch.
    pub conditional_delete: bool,
    /// Listings are known to be in UTF-8 byte order, as S3's and OSS's are. Others walk a tree of folders, so that `a/b` may come
    /// before `a!`.
    pub byte_order: bool,
}

/// An object store.
///
/// Calls are retried inside the adapter; what is returned as an error has been retried already, and
/// [`StoreError::retry_class`] says whether a later invocation may fare better.
///
/// A retry meets what an earlier attempt did whose answer was lost. So a failed condition may be one's
/// own doing: [`StoreErrorKind::PreconditionFailed`] of a create-only or replacing write may mean that
/// *this* call wrote the object, and [`StoreErrorKind::NotFound`] of a conditional delete or of a
/// completion that it deleted or completed it. Whoever sets a condition looks at what stands there
/// before it calls the failure somebody else's.
///
/// The whole limits of S3 (length of keys, metadata in ASCII and 2 KB, ten tags, 1,000 objects of a
/// batch) are checked before a request is made and answer [`StoreErrorKind::Invalid`] in every adapter.
pub trait ObjectStore: Send + Sync + 'static {
    /// What this store can do.
    fn capabilities(&self) -> Capabilities;

    /// Finds out what [`ObjectStore::capabilities`] can only know by trying, on an object of its own under `key`, where nothing
    /// may stand, once for a store. Of stores that are known it asks nothing.
    fn probe(&self, bucket: &str, key: &str) -> impl Future<Output = StoreResult<()>> + Send {
        let _ = (bucket, key);
        std::future::ready(Ok(()))
    }

    /// What is known about an object.
    ///
    /// The answer to a HEAD has no body, so that a missing bucket reads [`StoreErrorKind::NotFound`]
    /// here, and a missing object [`StoreErrorKind::AccessDenied`] to a role without `s3:ListBucket`.
    fn head(&self, object: &ObjectRef) -> impl Future<Output = StoreResult<ObjectMeta>> + Send;

    /// Opens an object for reading. A range that starts at the object's end or beyond, as every range
    /// of an empty object does, is [`StoreErrorKind::Invalid`].
    fn get(
        &self,
        object: &ObjectRef,
        options: GetOptions,
    ) -> impl Future<Output = StoreResult<GetResult>> + Send;

    /// Writes a whole object. `object.version_id` must be `None`. `If-Match` where nothing stands is
    /// [`StoreErrorKind::NotFound`] or [`StoreErrorKind::PreconditionFailed`], as stores differ.
    fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> impl Future<Output = StoreResult<PutResult>> + Send;

    /// Copies within the store, without the bytes passing through here. A 200 answer with an error
    /// in its body is an error. One request copies at most 5 GiB in a real store. Where metadata is
    /// replaced, a source that is replaced meanwhile is [`StoreErrorKind::Conflict`].
    fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> impl Future<Output = StoreResult<PutResult>> + Send;

    /// Deletes one object; an object that is not there counts as deleted, unless a condition was set:
    /// then it is [`StoreErrorKind::NotFound`] or [`StoreErrorKind::PreconditionFailed`].
    fn delete(
        &self,
        object: &ObjectRef,
        if_match: Option<&ETag>,
    ) -> impl Future<Output = StoreResult<()>> + Send;

    /// Deletes up to 1,000 objects in one request. The answer has one result per item, in the order
    /// of `items`; an error of the whole request is the outer one.
    fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> impl Future<Output = StoreResult<Vec<StoreResult<()>>>> + Send;

    /// One page of objects.
    fn list(&self, bucket: &str, options: ListOptions) -> impl Future<Output = StoreResult<ListPage>> + Send;

    /// One page of versions of the keys under `prefix`.
    fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> impl Future<Output = StoreResult<VersionPage>> + Send;

    /// One page of pending multipart uploads of the keys under `prefix`.
    fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> impl Future<Output = StoreResult<UploadPage>> + Send;

    /// An object's tags.
    fn get_tags(&self, object: &ObjectRef) -> impl Future<Output = StoreResult<Tags>> + Send;

    /// Replaces an object's tags.
    fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> impl Future<Output = StoreResult<()>> + Send;

    /// Begins a multipart upload and answers its id. The precondition of `options` is held until
    /// [`ObjectStore::complete_upload`], which takes it.
    fn create_upload(
        &self,
        object: &ObjectRef,
        options: PutOptions,
    ) -> impl Future<Output = StoreResult<String>> + Send;

    /// Uploads part `number` (from 1; all but the last at least 5 MiB) and answers its tag.
    fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> impl Future<Output = StoreResult<ETag>> + Send;

    /// Puts the parts together, in the order of their numbers.
    fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> impl Future<Output = StoreResult<PutResult>> + Send;

    /// Gives a multipart upload up; one that is gone already counts as given up.
    fn abort_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
    ) -> impl Future<Output = StoreResult<()>> + Send;
}
