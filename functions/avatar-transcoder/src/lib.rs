//! The avatar function: from an upload's bytes to an immutable WebP at an address that the client knows.
//!
//! An event names an upload; [`admission`] decides by the event alone whether it is looked at and in which
//! [`address`] folder its avatar stands; [`slot`] decides what to do with what stands there already;
//! [`pipeline`] makes the renditions; [`handler`] carries all of it between the buckets.

pub mod address;
pub mod admission;
mod codec;
pub mod config;
pub mod handler;
pub mod pipeline;
pub mod slot;

/// Holds the decoder of shrunk JPEGs against libjpeg-turbo.
#[cfg(fuzzing)]
pub fn scaled_jpeg_agrees(bytes: &[u8]) {
    codec::scaled_jpeg::agree(bytes);
}

/// Holds the decoder of GIF's LZW against two others: the bits of an index, how many there are in two bytes, and the data.
#[cfg(fuzzing)]
pub fn lzw_agrees(bytes: &[u8]) {
    if let [bits, low, high, data @ ..] = bytes {
        codec::lzw::agree(*bits, data, u16::from_le_bytes([*low, *high]).into());
    }
}
