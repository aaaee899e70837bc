//! What is written to a store: bytes in memory, or in a file that is read while they are sent.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

/// The bytes of a write. Clones share them, so that an attempt can be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File(OutgoingFile),
}

/// The first bytes of a file.
///
/// They must not change until the write has ended. That they are the ones that were meant is told by their
/// digest, which the store is sent with the request.
#[derive(Clone)]
pub struct OutgoingFile {
    file: Arc<File>,
    length: u64,
    sha256: [u8; 32],
}

impl OutgoingFile {
    /// The first `length` bytes of `file`, whose SHA-256 is `sha256`.
    pub fn new(file: Arc<File>, length: u64, sha256: [u8; 32]) -> Self {
        Self { file, length, sha256 }
    }

    /// How many they are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// At most `most` bytes from `at` on; empty at the end. Readers do not disturb each other.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than it was.
    pub fn read(&self, at: u64, most: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }
}

impl PartialEq for OutgoingFile {
    fn eq(&self, other: &Self) -> bool {
        (self.length, self.sha256) == (other.length, other.sha256)
    }
}

impl Eq for OutgoingFile {}

impl fmt::Debug for OutgoingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingFile").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// How many bytes they are.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.length,
        }
    }

    /// All of them in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(file) => file.read(0, usize::MAX),
        }
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_piece_by_piece_up_to_its_length() {
        let directory = std::env::temp_dir().join(format!("outgoing-{}", std::process::id()));
        std::fs::write(&directory, b"0123456789").unwrap();
        let file = Arc::new(File::open(&directory).unwrap());
        std::fs::remove_file(&directory).unwrap();
        let outgoing = OutgoingFile::new(file.clone(), 7, [0; 32]);
        assert_eq!(outgoing.read(0, 5).unwrap(), "01234");
        assert_eq!(outgoing.read(5, 5).unwrap(), "56");
        assert_eq!(outgoing.read(7, 5).unwrap(), "");
        assert_eq!(Outgoing::File(outgoing).bytes().unwrap(), "0123456");
        assert!(OutgoingFile::new(file, 11, [0; 32]).read(5, 10).is_err());
    }
}
