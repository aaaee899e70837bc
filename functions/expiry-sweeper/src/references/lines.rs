//! From a list's bytes to its lines: unpacked where they are gzip, whatever the list is called.

use std::io::Write;
use std::mem;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use shared::object_ref::ObjectRef;
use shared::store::ObjectStore;

use super::{ReferenceError, store_error};
use crate::ranges::Ranges;

/// The longest key (S3 User Guide, object key names).
const MAX_KEY_BYTES: usize = 1024;
/// What is unpacked at once: gzip makes at most about a thousandfold of it.
const GZIP_BYTES: usize = 4 << 10;
/// Unpacked bytes after which lines are handed on.
const BATCH_BYTES: usize = 256 << 10;
/// How gzip begins (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a list.
pub(super) struct Lines<R> {
    bytes: R,
    /// What of a range is not unpacked yet.
    packed: Bytes,
    unpacker: Unpacker,
    splitter: Splitter,
    ended: bool,
}

enum Unpacker {
    Unknown,
    Plain,
    // Boxed: the tables of the inflater are many kilobytes.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl<'s, S: ObjectStore> Lines<Ranges<'s, S>> {
    pub(super) fn new(bytes: Ranges<'s, S>) -> Self {
        let splitter = Splitter::new(bytes.object().clone());
        Self { bytes, packed: Bytes::new(), unpacker: Unpacker::Unknown, splitter, ended: false }
    }

    /// The next keys, in the list's order; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<String>>, ReferenceError> {
        while !self.ended {
            if self.packed.is_empty() {
                let bytes =
                    self.bytes.next().await.map_err(|error| store_error(&self.splitter.list, error))?;
                match bytes {
                    Some(bytes) => self.packed = bytes,
                    None => {
                        self.ended = true;
                        self.unpack_end()?;
                        let keys = self.splitter.finish()?;
                        return Ok((!keys.is_empty()).then_some(keys));
                    }
                }
            }
            let keys = self.unpack()?;
            if !keys.is_empty() {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    }

    /// Unpacks up to a batch's worth of what has arrived.
    fn unpack(&mut self) -> Result<Vec<String>, ReferenceError> {
        if matches!(self.unpacker, Unpacker::Unknown) {
            // A range is one byte long only where the list is.
            self.unpacker = if self.packed.starts_with(&GZIP_MAGIC) {
                Unpacker::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
            } else {
                Unpacker::Plain
            };
        }
        match &mut self.unpacker {
            Unpacker::Gzip(decoder) => {
                while !self.packed.is_empty() && decoder.get_ref().len() < BATCH_BYTES {
                    let slice = self.packed.split_to(self.packed.len().min(GZIP_BYTES));
                    decoder.write_all(&slice).map_err(|error| damaged(&self.splitter.list, &error))?;
                }
                let unpacked = mem::take(decoder.get_mut());
                self.splitter.push(&unpacked)
            }
            Unpacker::Plain | Unpacker::Unknown => {
                let slice = self.packed.split_to(self.packed.len().min(BATCH_BYTES));
                self.splitter.push(&slice)
            }
        }
    }

    fn unpack_end(&mut self) -> Result<(), ReferenceError> {
        if let Unpacker::Gzip(decoder) = &mut self.unpacker {
            decoder.try_finish().map_err(|error| damaged(&self.splitter.list, &error))?;
            let unpacked = mem::take(decoder.get_mut());
            let keys = self.splitter.push(&unpacked)?;
            self.splitter.held = keys;
        }
        Ok(())
    }
}

fn damaged(list: &ObjectRef, error: &std::io::Error) -> ReferenceError {
    ReferenceError::Damaged { list: list.clone(), problem: error.to_string() }
}

/// Splits bytes into lines.
struct Splitter {
    list: ObjectRef,
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
    /// Keys that wait for the end.
    held: Vec<String>,
    /// The line that comes next, from 1.
    line: u64,
}

impl Splitter {
    fn new(list: ObjectRef) -> Self {
        Self { list, pending: Vec::new(), held: Vec::new(), line: 1 }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, ReferenceError> {
        let mut keys = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if self.pending.is_empty() {
                keys.extend(self.key(line)?);
            } else {
                self.pending.extend_from_slice(line);
                let line = mem::take(&mut self.pending);
                keys.extend(self.key(&line)?);
            }
            self.line += 1;
        }
        self.pending.extend_from_slice(rest);
        // The byte order mark and a carriage return may come with it.
        if self.pending.len() > MAX_KEY_BYTES + BYTE_ORDER_MARK.len() + 1 {
            return Err(self.no_key("it is longer than a key may be"));
        }
        Ok(keys)
    }

    fn finish(&mut self) -> Result<Vec<String>, ReferenceError> {
        let line = mem::take(&mut self.pending);
        let mut keys = mem::take(&mut self.held);
        keys.extend(self.key(&line)?);
        Ok(keys)
    }

    /// The key that a line holds; `None` for an empty line.
    fn key(&self, line: &[u8]) -> Result<Option<String>, ReferenceError> {
        let line = if self.line == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_KEY_BYTES {
            return Err(self.no_key("it is longer than a key may be"));
        }
        let key = str::from_utf8(line).map_err(|_| self.no_key("it is not UTF-8"))?;
        Ok((!key.is_empty()).then(|| key.to_owned()))
    }

    fn no_key(&self, problem: &'static str) -> ReferenceError {
        ReferenceError::NoKey { list: self.list.clone(), line: self.line, problem }
    }
}
