//! A list's bytes, range by range, so that a slow sweep holds no connection open and a lost one costs
//! one range.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{GetOptions, ObjectMeta, ObjectStore};

use super::{ReferenceError, store_error};
use crate::retry::retrying;

/// What is read at once.
const RANGE_BYTES: u64 = 4 << 20;

/// The bytes of a list.
pub(super) struct Chunks<'s, S> {
    store: &'s S,
    list: ObjectRef,
    meta: ObjectMeta,
    position: u64,
}

impl<S> Clone for Chunks<'_, S> {
    fn clone(&self) -> Self {
        let Self { store, list, meta, position } = self;
        Self { store, list: list.clone(), meta: meta.clone(), position: *position }
    }
}

impl<'s, S: ObjectStore> Chunks<'s, S> {
    pub(super) async fn open(store: &'s S, list: &ObjectRef) -> Result<Self, ReferenceError> {
        let meta = retrying(|| store.head(list)).await.map_err(|error| store_error(list, error))?;
        Ok(Self { store, list: list.clone(), meta, position: 0 })
    }

    pub(super) fn list(&self) -> &ObjectRef {
        &self.list
    }

    pub(super) fn e_tag(&self) -> &ETag {
        &self.meta.e_tag
    }

    pub(super) fn check_age(&self, now: Timestamp, max_age: Duration) -> Result<(), ReferenceError> {
        let written = self.meta.last_modified;
        let limit = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        if now.duration_since(written) > limit {
            return Err(ReferenceError::Stale { list: self.list.clone(), written, max_age });
        }
        Ok(())
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReferenceError> {
        if self.position >= self.meta.size {
            return Ok(None);
        }
        let end = self.meta.size.min(self.position.saturating_add(RANGE_BYTES));
        let range = self.position..end;
        let bytes = retrying(async || {
            let options = GetOptions { range: Some(range.clone()), if_match: Some(self.meta.e_tag.clone()) };
            self.store.get(&self.list, options).await?.bytes(RANGE_BYTES).await
        });
        let bytes = bytes.await.map_err(|error| store_error(&self.list, error))?;
        if bytes.len() as u64 != end - self.position {
            let problem = "the store answered with fewer bytes than it has".to_owned();
            return Err(ReferenceError::Damaged { list: self.list.clone(), problem });
        }
        self.position = end;
        Ok(Some(bytes))
    }
}
