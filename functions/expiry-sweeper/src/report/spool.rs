//! What of an object was not sent yet: a little of it in memory, and the rest in a temporary file.

use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use sha2::{Digest, Sha256};
use shared::store::{Outgoing, OutgoingFile};

use crate::references::temporary_directory;

/// Bytes that wait to be sent.
///
/// Where no file can be made or written, because the disk is full or only to be read, they wait in memory.
pub(super) struct Spool {
    /// Where a file is made once it is needed; `None` where there can be none.
    directory: Option<PathBuf>,
    /// How many bytes wait in memory before a file is made.
    most_in_memory: usize,
    /// What is in memory, behind what is in the file.
    memory: BytesMut,
    file: Option<Spilled>,
}

/// What is in a file.
struct Spilled {
    file: Arc<File>,
    bytes: u64,
    digest: Sha256,
}

impl Spilled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn outgoing(&self) -> OutgoingFile {
        OutgoingFile::new(self.file.clone(), self.bytes, self.digest.clone().finalize().into())
    }
}

impl Spool {
    /// An empty one that makes a file in the directory for temporary ones when more than `most_in_memory` bytes wait.
    pub(super) fn new(most_in_memory: usize) -> Self {
        let directory = Some(temporary_directory());
        Self { directory, most_in_memory, memory: BytesMut::new(), file: None }
    }

    /// How many bytes wait.
    pub(super) fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.bytes) + self.memory.len() as u64
    }

    /// How much memory is set aside.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Sets memory aside for `whole` bytes in all, as far as they will wait there, once it is clear that so much
    /// will be needed. Growing by doubling, or anew for each part, would leave holes behind that nothing else
    /// fits into.
    pub(super) fn make_room(&mut self, whole: usize, is_needed: bool) {
        let whole = if self.directory.is_some() { whole.min(self.most_in_memory) } else { whole };
        let is_needed = is_needed || self.memory.len() > whole / 16;
        if self.file.is_none() && is_needed && self.memory.capacity() < whole {
            self.memory.reserve(whole - self.memory.len());
        }
    }

    /// Appends.
    ///
    /// # Errors
    /// There is no room in the file, and what it holds cannot be read back into memory.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let would_wait = self.memory.len() + bytes.len();
        let spills = self.file.is_some() || would_wait > self.most_in_memory;
        if !spills || !self.spill()? {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write(bytes) {
            self.go_on_in_memory(&error)?;
            self.memory.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Brings what is in memory to the file, which is made if there is none. Answers whether all that waits is there.
    fn spill(&mut self) -> io::Result<bool> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let file = match &mut self.file {
            Some(file) => file,
            // It has no name, so that it is gone with the process however that ends.
            None => match tempfile::tempfile_in(directory) {
                Ok(file) => {
                    let digest = Sha256::new();
                    self.file.insert(Spilled { file: Arc::new(file), bytes: 0, digest })
                }
                Err(error) => {
                    self.go_on_in_memory(&error)?;
                    return Ok(false);
                }
            },
        };
        if self.memory.is_empty() {
            return Ok(true);
        }
        match file.write(&self.memory) {
            Ok(()) => {
                self.memory = BytesMut::new();
                Ok(true)
            }
            Err(error) => {
                self.go_on_in_memory(&error)?;
                Ok(false)
            }
        }
    }

    /// Without a file from now on.
    fn go_on_in_memory(&mut self, why: &io::Error) -> io::Result<()> {
        tracing::warn!(error = %why, "there is no room for a temporary file; the report waits in memory");
        self.directory = None;
        if let Some(file) = self.file.take() {
            let mut whole = BytesMut::from(&*file.outgoing().read(0, usize::MAX)?);
            whole.extend_from_slice(&self.memory);
            self.memory = whole;
        }
        Ok(())
    }

    /// All that waits. It goes on waiting until [`Spool::clear`].
    ///
    /// # Errors
    /// As [`Spool::push`].
    pub(super) fn outgoing(&mut self) -> io::Result<Outgoing> {
        if self.file.is_some()
            && self.spill()?
            && let Some(file) = &self.file
        {
            return Ok(Outgoing::File(file.outgoing()));
        }
        // The store's copy shares the memory, and gives it back with `put_back`.
        Ok(Outgoing::Memory(take(&mut self.memory).freeze()))
    }

    /// Puts back what could not be sent.
    pub(super) fn put_back(&mut self, outgoing: Outgoing) {
        if let Outgoing::Memory(bytes) = outgoing {
            self.memory = bytes.into();
        }
    }

    /// It was sent. What follows goes to another file: an attempt that was given up may still be reading this one.
    pub(super) fn clear(&mut self) {
        self.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that begin in memory and do not end there.
    fn pieces() -> Vec<Vec<u8>> {
        (0..20).map(|n| vec![b'a' + n; 30 + usize::from(n)]).collect()
    }

    /// All that waits, and whether it waits in a file.
    fn content(spool: &mut Spool) -> (Vec<u8>, bool) {
        let outgoing = spool.outgoing().unwrap();
        let content = outgoing.bytes().unwrap().to_vec();
        assert_eq!(outgoing.length(), content.len() as u64);
        let in_file = match &outgoing {
            Outgoing::Memory(_) => false,
            Outgoing::File(file) => {
                let digest: [u8; 32] = Sha256::digest(&content).into();
                assert_eq!(file.sha256(), digest);
                true
            }
        };
        spool.put_back(outgoing);
        assert_eq!(spool.length(), content.len() as u64);
        (content, in_file)
    }

    #[test]
    fn what_is_little_waits_in_memory_and_what_is_more_in_a_file() {
        let mut spool = Spool::new(100);
        let mut whole = Vec::new();
        for piece in pieces() {
            spool.push(&piece).unwrap();
            whole.extend_from_slice(&piece);
            assert_eq!(content(&mut spool), (whole.clone(), whole.len() > 100));
        }
        let sent = spool.outgoing().unwrap();
        spool.clear();
        assert_eq!((spool.length(), content(&mut spool).0), (0, Vec::new()));
        for piece in pieces() {
            spool.push(&piece).unwrap();
        }
        // An attempt that nobody waits for any more has its bytes all the same.
        assert_eq!(sent.bytes().unwrap(), whole);
        assert_eq!(content(&mut spool), (whole, true));
    }

    #[test]
    fn without_a_place_for_files_everything_waits_in_memory() {
        let mut spool = Spool { directory: Some("/nowhere/at/all".into()), ..Spool::new(100) };
        pieces().iter().for_each(|piece| spool.push(piece).unwrap());
        assert_eq!(content(&mut spool), (pieces().concat(), false));
    }

    #[test]
    fn what_is_in_a_file_that_is_full_comes_back_to_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        for full_after in 0..=pieces().len() {
            let mut spool = Spool::new(100);
            for (n, piece) in pieces().iter().enumerate() {
                if n == full_after
                    && let Some(spilled) = &mut spool.file
                {
                    // Only to be read, it takes as little as one that is full.
                    std::fs::write(&path, spilled.outgoing().read(0, usize::MAX).unwrap()).unwrap();
                    spilled.file = Arc::new(File::open(&path).unwrap());
                }
                spool.push(piece).unwrap();
            }
            assert_eq!(content(&mut spool).0, pieces().concat(), "{full_after}");
        }
    }

    #[test]
    fn what_cannot_be_had_back_is_an_error_and_not_a_shorter_report() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        let mut spool = Spool::new(100);
        pieces().iter().for_each(|piece| spool.push(piece).unwrap());
        std::fs::write(&path, "less").unwrap();
        spool.file.as_mut().unwrap().file = Arc::new(File::open(&path).unwrap());
        assert!(spool.push(b"more").is_err());
    }
}
