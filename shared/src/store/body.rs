//! Reading a body whole, up to a limit.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::{GetResult, StoreErrorKind, StoreResult};

/// What is set aside at once, whatever length an answer declares.
const MAX_INITIAL_CAPACITY: u64 = 1 << 20;

impl GetResult {
    /// The whole body, of at most `limit` bytes.
    ///
    /// Both the declared length and what really arrives are held against the limit, and no more memory
    /// than the limit is set aside.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLarge`] beyond the limit; what reading may bring otherwise, above all
    /// [`StoreErrorKind::Truncated`].
    pub async fn bytes(mut self, limit: u64) -> StoreResult<Bytes> {
        let too_large = |length: u64| {
            let detail = format!("{length} bytes or more, at most {limit} are read");
            self.call.error(StoreErrorKind::TooLarge, detail)
        };
        if self.length > limit {
            return Err(too_large(self.length));
        }
        let Some(first) = self.body.next().await.transpose()? else { return Ok(Bytes::new()) };
        let mut length = first.len() as u64;
        if length > limit {
            return Err(too_large(length));
        }
        // Small objects arrive as one chunk, which is then handed on as it is.
        let Some(second) = self.body.next().await else { return Ok(first) };
        let capacity = self.length.min(MAX_INITIAL_CAPACITY).max(length);
        let mut whole = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or_default());
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            let chunk = chunk?;
            length += chunk.len() as u64;
            if length > limit {
                return Err(too_large(length));
            }
            whole.extend_from_slice(&chunk);
            next = self.body.next().await;
        }
        Ok(whole.freeze())
    }
}
