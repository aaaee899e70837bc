//! Streams an object of unknown length to the store: small ones by one PUT, others in parts.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    Metadata, ObjectStore, PRODUCED_BY, Precondition, PutOptions, StoreError, StoreErrorKind, StoreResult,
};

use crate::retry::retrying;

/// The least size of a part that is not the last (S3 User Guide, multipart upload limits).
pub(crate) const PART_BYTES: usize = 5 << 20;

/// What was written by one request and has no more than this can be had back without another.
const KEPT_BYTES: usize = 2 << 20;

/// The name of the metadata by which a writer knows its own object.
const WRITTEN_BY: &str = "written-by";

/// Who this library is in `produced-by`.
const PRODUCER: &str = "expiry-sweeper";

/// A multipart upload as far as it has come: enough to complete it from another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadState {
    /// The raw key.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// The parts' tags, in order; the first one's number is 1.
    pub parts: Vec<String>,
    /// How many rows are in the parts.
    pub rows: u64,
}

/// An object in the writing.
///
/// At most the least size of a part and what was appended last are held in memory.
pub(super) struct PartWriter {
    pub(super) object: ObjectRef,
    /// By what the writer knows its own object, should an answer get lost.
    token: String,
    content_type: &'static str,
    pub(super) buffer: BytesMut,
    upload: Option<(String, Vec<(u16, ETag)>)>,
    bytes: u64,
    /// The least size of a part that is not the last.
    pub(super) part_bytes: usize,
    /// How many bytes are expected at once, at most.
    pub(super) expected_bytes: usize,
    /// What was written, where that was little.
    pub(super) kept: Option<Bytes>,
}

impl PartWriter {
    pub(super) fn new(object: ObjectRef, token: &str, content_type: &'static str) -> Self {
        let (buffer, token) = (BytesMut::new(), token.to_owned());
        let (part_bytes, expected_bytes) = (PART_BYTES, PART_BYTES);
        Self {
            object,
            token,
            content_type,
            buffer,
            upload: None,
            bytes: 0,
            part_bytes,
            expected_bytes,
            kept: None,
        }
    }

    fn options(&self) -> PutOptions {
        PutOptions {
            precondition: Precondition::IfAbsent,
            content_type: Some(self.content_type.to_owned()),
            metadata: Metadata::from([
                (PRODUCED_BY.to_owned(), PRODUCER.to_owned()),
                (WRITTEN_BY.to_owned(), self.token.clone()),
            ]),
            ..PutOptions::default()
        }
    }

    /// Sets the memory of what is expected aside once it is clear that it will be needed, and has that of the part
    /// before again where that was sent. Growing by doubling, or anew for each part, would leave holes behind
    /// that nothing else fits into.
    pub(super) fn make_room(&mut self) {
        let whole = self.expected_bytes + self.expected_bytes / 8;
        let is_large = self.upload.is_some() || self.buffer.len() > self.expected_bytes / 16;
        if is_large && self.buffer.capacity() < whole {
            self.buffer.reserve(whole - self.buffer.len());
        }
    }

    /// Whether a part should be sent.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= self.part_bytes
    }

    /// Whether the object's key can no longer be changed.
    pub(super) fn is_begun(&self) -> bool {
        self.upload.is_some()
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.buffer.len() as u64
    }

    /// The upload, if it has begun.
    pub(super) fn state(&self, rows: u64) -> Option<UploadState> {
        let (upload_id, parts) = self.upload.as_ref()?;
        let parts = parts.iter().map(|(_, e_tag)| e_tag.as_str().to_owned()).collect();
        Some(UploadState { key: self.object.key.clone(), upload_id: upload_id.clone(), parts, rows })
    }

    /// Sends what is held as a part.
    pub(super) async fn send(&mut self, store: &impl ObjectStore) -> StoreResult<()> {
        let (upload_id, parts) = match &mut self.upload {
            Some(upload) => upload,
            None => {
                // An attempt whose answer was lost leaves an upload without parts behind, which the
                // bucket's rule on stale uploads clears away.
                let id = retrying(|| store.create_upload(&self.object, self.options())).await?;
                self.upload.insert((id, Vec::new()))
            }
        };
        let number = u16::try_from(parts.len() + 1).map_err(|_| {
            let resource = self.object.to_string();
            StoreError::new(
                StoreErrorKind::Invalid,
                "s3:PutObject",
                resource,
                "more parts than an object may have",
            )
        })?;
        let part = self.buffer.split().freeze();
        let sent = retrying(|| store.upload_part(&self.object, upload_id, number, part.clone())).await;
        match sent {
            Ok(e_tag) => {
                parts.push((number, e_tag));
                self.bytes += part.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Nothing that was appended is dropped: the next call sends it.
                self.buffer = part.into();
                Err(error)
            }
        }
    }

    /// Writes what is held and makes the whole visible. [`StoreErrorKind::PreconditionFailed`] means that
    /// something else stands there.
    pub(super) async fn finish(&mut self, store: &impl ObjectStore) -> StoreResult<()> {
        if self.upload.is_none() {
            let body = self.buffer.split().freeze();
            let written = retrying(|| store.put(&self.object, body.clone(), self.options())).await;
            let written = match written {
                Ok(_) => Ok(()),
                Err(error) => self.settle(store, error).await,
            };
            match &written {
                Ok(()) => {
                    self.bytes += body.len() as u64;
                    self.kept = (body.len() <= KEPT_BYTES).then_some(body);
                }
                // The caller may try another key.
                Err(_) => self.buffer = body.into(),
            }
            return written;
        }
        if !self.buffer.is_empty() {
            self.send(store).await?;
        }
        let Some((upload_id, parts)) = &self.upload else { return Ok(()) };
        let completed =
            retrying(|| store.complete_upload(&self.object, upload_id, parts, Precondition::IfAbsent)).await;
        match completed {
            Ok(_) => Ok(()),
            Err(error) => self.settle(store, error).await,
        }
    }

    /// Whether what has this metadata was written by the writer with `token`. What says nothing of its writer
    /// may be anybody's.
    pub(super) fn is_by(metadata: &Metadata, token: &str) -> bool {
        metadata.get(WRITTEN_BY).is_some_and(|written_by| written_by == token)
    }

    /// The writing failed, but it may have been an attempt of its own that it met, or an answer that was lost.
    async fn settle(&self, store: &impl ObjectStore, error: StoreError) -> StoreResult<()> {
        let doubtful = matches!(
            error.kind,
            StoreErrorKind::PreconditionFailed
                | StoreErrorKind::Conflict
                | StoreErrorKind::NotFound
                | StoreErrorKind::Timeout
                | StoreErrorKind::Unavailable
        );
        if !doubtful {
            return Err(error);
        }
        match retrying(|| store.head(&self.object)).await {
            Ok(meta) if Self::is_by(&meta.metadata, &self.token) => Ok(()),
            Ok(_) => Err(StoreError::new(
                StoreErrorKind::PreconditionFailed,
                error.action,
                error.resource,
                "something else stands there",
            )),
            Err(_) => Err(error),
        }
    }
}

/// Completes an upload that another process began and did not end. `false` where the upload is gone and
/// no object stands there either, so that its parts are lost.
pub(super) async fn complete(
    store: &impl ObjectStore,
    bucket: &str,
    state: &UploadState,
) -> StoreResult<bool> {
    let object = ObjectRef::new(bucket, &*state.key);
    let parts: Vec<_> = (1..).zip(state.parts.iter().filter_map(|e_tag| ETag::parse(e_tag))).collect();
    let completed =
        retrying(|| store.complete_upload(&object, &state.upload_id, &parts, Precondition::IfAbsent)).await;
    match completed {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed) => {
            match retrying(|| store.head(&object)).await {
                // Completed by whoever began it, or by an attempt whose answer was lost.
                Ok(_) => Ok(true),
                Err(missing) if missing.kind == StoreErrorKind::NotFound => Ok(false),
                Err(other) => Err(other),
            }
        }
        Err(error) => Err(error),
    }
}
