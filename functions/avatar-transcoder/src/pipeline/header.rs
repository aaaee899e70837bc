//! What an upload is and what it would cost, from its header alone.

use std::io::Cursor;

use shared::media_type::{self, MediaType};
use shared::outcome::Reason;

use super::colour::ColourInfo;
use super::cost::{self, Parts};
use super::limits::Limits;
use super::orient::Orientation;
use super::recipe::Recipe;
use super::{gif, jpeg, webp};

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    Webp,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

/// A header, read.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) format: Format,
    /// As stored, before orientation.
    pub(super) width: u32,
    pub(super) height: u32,
    /// How long each frame is shown, in milliseconds; one entry for a still picture.
    pub(super) durations_ms: Vec<u32>,
    /// Whether the file has other durations, too short to be meant.
    pub(super) delays_changed: bool,
    /// Pixels of all frames that decoding goes over, which may be more than the canvas has.
    pub(super) decoded_pixels: u64,
    /// How often an animation is played; 0 is for ever.
    pub(super) loops: u32,
    pub(super) orientation: Orientation,
    pub(super) colour: ColourInfo,
    /// What decoding a still of it holds.
    pub(super) parts: Parts,
    /// What decoding holds where the decoder that was foreseen turns out not to know the file.
    pub(super) otherwise: Option<Parts>,
    /// What decoding holds frame by frame, of an animation.
    pub(super) animated: Option<Parts>,
}

/// The reason for a file that a decoder cannot make sense of.
pub(super) fn undecodable(what: impl std::fmt::Display) -> Reason {
    Reason::new("undecodable", format!("The picture is truncated or damaged: {what}."))
}

/// Reads the header of an upload. Nothing is allocated for pixels.
pub(super) fn read(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Header, Reason> {
    let header = match media_type::sniff(bytes) {
        Some(MediaType::Jpeg) => jpeg::header(bytes, recipe),
        Some(MediaType::Png) => super::png::header(bytes, recipe),
        Some(MediaType::Gif) => gif::header(bytes, recipe, limits),
        Some(MediaType::Webp) => webp::header(bytes, recipe),
        Some(other) => {
            return Err(Reason::new(
                "unsupported-type",
                format!("The file is {}; PNG, JPEG, GIF and WebP become avatars.", other.name()),
            ));
        }
        None => {
            return Err(Reason::new(
                "unsupported-type",
                "The file is no picture that is known; PNG, JPEG, GIF and WebP become avatars.",
            ));
        }
    }?;
    if header.width == 0 || header.height == 0 {
        return Err(undecodable("it has no pixels"));
    }
    Ok(header)
}

/// Holds a header against the limits, before anything is allocated.
pub(super) fn check(
    header: &Header,
    upload_bytes: usize,
    recipe: &Recipe,
    limits: &Limits,
) -> Result<(), Reason> {
    let (width, height) = (u64::from(header.width), u64::from(header.height));
    if width * height > limits.pixels {
        return Err(Reason::new(
            "too-many-pixels",
            format!("The picture has {width} × {height} pixels; at most {} are accepted.", limits.pixels),
        ));
    }
    let frames = header.durations_ms.len();
    if frames as u64 > u64::from(limits.frames) {
        return Err(Reason::new(
            "too-many-frames",
            format!("The picture has {frames} frames; at most {} are accepted.", limits.frames),
        ));
    }
    let needed = cost::decided(header, upload_bytes, recipe, limits).memory_bytes;
    if needed > limits.memory_bytes {
        return Err(Reason::new(
            "too-much-memory",
            format!(
                "Decoding the picture takes about {} MB; this function has {} MB. Give it more memory to accept such pictures.",
                needed >> 20,
                limits.memory_bytes >> 20
            ),
        ));
    }
    Ok(())
}

/// A reader over the upload.
pub(super) fn cursor(bytes: &[u8]) -> Cursor<&[u8]> {
    Cursor::new(bytes)
}
