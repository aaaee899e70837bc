//! Reads an object range by range, so that a slow reader holds no connection open and a lost one costs one
//! range.

use bytes::Bytes;
use shared::object_ref::ObjectRef;
use shared::store::{GetOptions, ObjectMeta, ObjectStore, StoreError, StoreErrorKind, StoreResult};

use crate::retry::retrying;

/// What is read at once, unless somebody wants less.
const RANGE_BYTES: u64 = 4 << 20;

/// An object in the reading. What was replaced meanwhile is an error of kind
/// [`StoreErrorKind::PreconditionFailed`], never a mixture.
pub(crate) struct Ranges<'s, S> {
    store: &'s S,
    object: ObjectRef,
    meta: ObjectMeta,
    position: u64,
    /// What is read at once.
    range_bytes: u64,
}

impl<S> Clone for Ranges<'_, S> {
    fn clone(&self) -> Self {
        let Self { store, object, meta, position, range_bytes } = self;
        let (object, meta) = (object.clone(), meta.clone());
        Self { store, object, meta, position: *position, range_bytes: *range_bytes }
    }
}

impl<'s, S: ObjectStore> Ranges<'s, S> {
    pub(crate) async fn open(store: &'s S, object: &ObjectRef) -> StoreResult<Self> {
        let meta = retrying(|| store.head(object)).await?;
        Ok(Self { store, object: object.clone(), meta, position: 0, range_bytes: RANGE_BYTES })
    }

    /// The same, read in ranges of `bytes`.
    pub(crate) fn by(mut self, bytes: u64) -> Self {
        self.range_bytes = bytes;
        self
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(crate) fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> StoreResult<Option<Bytes>> {
        if self.position >= self.meta.size {
            return Ok(None);
        }
        let end = self.meta.size.min(self.position.saturating_add(self.range_bytes));
        let range = self.position..end;
        let bytes = retrying(async || {
            let options = GetOptions { range: Some(range.clone()), if_match: Some(self.meta.e_tag.clone()) };
            let bytes = self.store.get(&self.object, options).await?.bytes(self.range_bytes).await?;
            if bytes.len() as u64 == range.end - range.start {
                return Ok(bytes);
            }
            let resource = self.object.to_string();
            Err(StoreError::new(
                StoreErrorKind::Truncated,
                "s3:GetObject",
                resource,
                "fewer bytes than asked for",
            ))
        })
        .await?;
        self.position = end;
        Ok(Some(bytes))
    }
}
