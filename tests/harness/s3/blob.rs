//! Bodies: bytes in segments, so that a large object needs no large allocation and a copy costs nothing.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};

/// As long as a segment becomes, in bytes.
const SEGMENT: usize = 1 << 20;

/// The bytes of an object. Clones share them.
#[derive(Debug, Clone)]
pub struct Blob {
    segments: Arc<[Bytes]>,
    len: u64,
}

impl Default for Blob {
    fn default() -> Self {
        Self::from_segments(Vec::new())
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::from_segments(vec![bytes])
    }
}

impl Blob {
    fn from_segments(mut segments: Vec<Bytes>) -> Self {
        segments.retain(|segment| !segment.is_empty());
        let len = segments.iter().map(|segment| segment.len() as u64).sum();
        Self { segments: segments.into(), len }
    }

    /// One behind the other.
    pub(super) fn concat<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::from_segments(parts.into_iter().flat_map(|part| part.segments.iter().cloned()).collect())
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes in one piece; copies if there are several segments.
    pub fn bytes(&self) -> Bytes {
        match &*self.segments {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }

    /// The bytes of `range`, as far as there are any.
    pub(super) fn slice(&self, range: Range<u64>) -> Self {
        let mut start = 0_u64;
        let mut segments = Vec::new();
        for segment in &*self.segments {
            let end = start + segment.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
                segments.push(segment.slice(at(from)..at(to)));
            }
            start = end;
        }
        Self::from_segments(segments)
    }

    /// The segments, one after the other.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync + 'static {
        let count = self.segments.len();
        stream::iter((0..count).filter_map(move |at| self.segments.get(at).cloned().map(Ok)))
    }
}

/// Takes bytes as they come from the wire. It copies: a piece from the wire may be a view of a much
/// larger read buffer, which a small object must not keep alive.
#[derive(Debug, Default)]
pub(super) struct BlobWriter {
    segments: Vec<Bytes>,
    last: BytesMut,
}

impl BlobWriter {
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = SEGMENT - self.last.len();
            let (now, later) = piece.split_at(piece.len().min(room));
            self.last.extend_from_slice(now);
            if self.last.len() == SEGMENT {
                self.segments.push(self.last.split().freeze());
            }
            piece = later;
        }
    }

    pub(super) fn finish(mut self) -> Blob {
        // The copy has no spare capacity, which matters with many small objects.
        self.segments.push(Bytes::copy_from_slice(&self.last));
        Blob::from_segments(self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_crosses_segments() {
        let blob = Blob::from_segments(vec!["abc".into(), "".into(), "defg".into(), "h".into()]);
        assert_eq!(blob.len(), 8);
        assert_eq!(blob.slice(2..8).bytes(), "cdefgh");
        assert_eq!(blob.slice(3..5).bytes(), "de");
        assert_eq!(blob.slice(0..99).bytes(), "abcdefgh");
        assert!(blob.slice(5..5).is_empty());
    }

    #[test]
    fn what_is_written_in_pieces_is_read_as_it_was() {
        let body: Vec<u8> = (0..3 * SEGMENT + 17).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let mut writer = BlobWriter::default();
        body.chunks(70_001).for_each(|piece| writer.push(piece));
        let blob = writer.finish();
        assert_eq!(blob.segments.len(), 4);
        assert_eq!(blob.bytes(), body);
    }
}
