//! Reads a report where it stands at the store, in little memory however long it is.

use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use shared::object_ref::ObjectRef;
use shared::store::{ObjectStore, StoreError, StoreResult};

use super::{ReadError, Row, RowDecoder};
use crate::ranges::Ranges;

/// What of a report is fetched at once.
pub(crate) const FETCHED_BYTES: u64 = 256 << 10;

/// What of that becomes rows at once, which need a few times as much memory.
pub(crate) const DECODED_BYTES: usize = 16 << 10;

/// Why a report at the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is damaged, or is no report.
    #[error(transparent)]
    Report(#[from] ReadError),
}

/// A report at the store.
pub(crate) struct StoredReport<'s, S> {
    ranges: Ranges<'s, S>,
    /// What was fetched, and is not decoded yet.
    bytes: Bytes,
    decoder: RowDecoder,
}

impl<'s, S: ObjectStore> StoredReport<'s, S> {
    pub(crate) async fn open(store: &'s S, object: &ObjectRef) -> StoreResult<Self> {
        let ranges = Ranges::open(store, object).await?.by(FETCHED_BYTES);
        Ok(Self { ranges, bytes: Bytes::new(), decoder: RowDecoder::new() })
    }

    /// Its rows, in their order; the stream ends after an error.
    pub(crate) fn rows(self) -> impl Stream<Item = Result<Row, StoredError>> {
        let some = stream::try_unfold(self, async |mut report| {
            let rows = report.some().await?;
            Ok::<_, StoredError>(rows.map(|rows| (stream::iter(rows.into_iter().map(Ok)), report)))
        });
        some.try_flatten()
    }

    /// The next rows, some at a time; `None` at the end.
    async fn some(&mut self) -> Result<Option<Vec<Row>>, StoredError> {
        if self.bytes.is_empty() {
            // Even empty it holds on to the memory of what it was.
            self.bytes = Bytes::new();
            let Some(bytes) = self.ranges.next().await? else {
                self.decoder.finish()?;
                return Ok(None);
            };
            self.bytes = bytes;
        }
        let some = self.bytes.split_to(self.bytes.len().min(DECODED_BYTES));
        Ok(Some(self.decoder.push(&some)?))
    }
}
