//! Streams an object of unknown length to the store: small ones by one PUT, others in parts.

use std::io;

use serde::{Deserialize, Serialize};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    Metadata, ObjectStore, Outgoing, PRODUCED_BY, Precondition, PutOptions, StoreError, StoreErrorKind,
    StoreResult,
};

use super::spool::Spool;
use crate::retry::retrying;

/// The least size of a part that is not the last (S3 User Guide, multipart upload limits).
pub(crate) const PART_BYTES: usize = 5 << 20;

/// What was written by one request can be had back without another, from memory if it has no more than this.
const KEPT_BYTES: usize = 2 << 20;

/// What waits in memory before it goes to a temporary file, so that a small report needs none.
const IN_MEMORY_BYTES: usize = 128 << 10;

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
/// What is to become a part waits in a temporary file, or in memory where there can be none.
pub(super) struct PartWriter {
    pub(super) object: ObjectRef,
    /// By what the writer knows its own object, should an answer get lost.
    token: String,
    content_type: &'static str,
    pub(super) spool: Spool,
    upload: Option<(String, Vec<(u16, ETag)>)>,
    bytes: u64,
    /// The least size of a part that is not the last.
    pub(super) part_bytes: usize,
    /// How many bytes are expected at once, at most.
    pub(super) expected_bytes: usize,
    /// What was written, where it can be had back.
    pub(super) kept: Option<Outgoing>,
}

impl PartWriter {
    pub(super) fn new(object: ObjectRef, token: &str, content_type: &'static str) -> Self {
        let (spool, token) = (Spool::new(IN_MEMORY_BYTES), token.to_owned());
        let (part_bytes, expected_bytes) = (PART_BYTES, PART_BYTES);
        Self {
            object,
            token,
            content_type,
            spool,
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

    /// Appends.
    ///
    /// # Errors
    /// What waits in a temporary file cannot be had back.
    pub(super) fn push(&mut self, text: &[u8]) -> StoreResult<()> {
        self.spool.make_room(self.expected_bytes + self.expected_bytes / 8, self.upload.is_some());
        self.spool.push(text).map_err(|error| unreadable(&self.object, error))
    }

    /// Whether a part should be sent.
    pub(super) fn is_full(&self) -> bool {
        self.spool.length() >= self.part_bytes as u64
    }

    /// Whether the object's key can no longer be changed.
    pub(super) fn is_begun(&self) -> bool {
        self.upload.is_some()
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.spool.length()
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
        let part = self.spool.outgoing().map_err(|error| unreadable(&self.object, error))?;
        let sent = retrying(|| store.upload_part(&self.object, upload_id, number, part.clone())).await;
        match sent {
            Ok(e_tag) => {
                parts.push((number, e_tag));
                self.bytes += part.length();
                self.spool.clear();
                Ok(())
            }
            Err(error) => {
                // Nothing that was appended is dropped: the next call sends it.
                self.spool.put_back(part);
                Err(error)
            }
        }
    }

    /// Writes what is held and makes the whole visible. [`StoreErrorKind::PreconditionFailed`] means that
    /// something else stands there.
    pub(super) async fn finish(&mut self, store: &impl ObjectStore) -> StoreResult<()> {
        if self.upload.is_none() {
            let body = self.spool.outgoing().map_err(|error| unreadable(&self.object, error))?;
            let written = retrying(|| store.put(&self.object, body.clone(), self.options())).await;
            let written = match written {
                Ok(_) => Ok(()),
                Err(error) => self.settle(store, error).await,
            };
            match &written {
                Ok(()) => {
                    self.bytes += body.length();
                    self.spool.clear();
                    let is_kept = match &body {
                        Outgoing::Memory(bytes) => bytes.len() <= KEPT_BYTES,
                        Outgoing::File(_) => true,
                    };
                    self.kept = is_kept.then_some(body);
                }
                // The caller may try another key.
                Err(_) => self.spool.put_back(body),
            }
            return written;
        }
        if self.spool.length() > 0 {
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

fn unreadable(object: &ObjectRef, error: io::Error) -> StoreError {
    let detail = "what waits in a temporary file cannot be read back";
    StoreError::new(StoreErrorKind::Unavailable, "s3:PutObject", object.to_string(), detail).caused_by(error)
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
