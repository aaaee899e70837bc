//! What one upload may cost, checked on its header before anything is allocated for it.

use std::time::Duration;

use shared::outcome::Reason;

/// Upper bounds for one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the upload.
    pub bytes: u64,
    /// Pixels of the upload's canvas, width times height.
    pub pixels: u64,
    /// Frames of an animated upload.
    pub frames: u32,
    /// Bytes that decoding and encoding may take at their peak, the upload itself included.
    pub memory_bytes: u64,
    /// The time that one upload may take. An animation that would take longer loses frames, then its
    /// size, then its motion.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 10 << 20,
            pixels: 50_000_000,
            frames: 200,
            memory_bytes: 256 << 20,
            time: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Refuses an upload that is empty or has too many bytes.
    pub(crate) fn check_bytes(&self, len: usize) -> Result<(), Reason> {
        if len == 0 {
            return Err(Reason::new("empty", "The upload has no bytes."));
        }
        if len as u64 > self.bytes {
            return Err(Reason::new(
                "too-large",
                format!("The upload has {len} bytes; at most {} are accepted.", self.bytes),
            ));
        }
        Ok(())
    }
}
