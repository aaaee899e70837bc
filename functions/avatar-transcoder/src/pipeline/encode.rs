//! Encodes a finished picture, lossy or lossless, whichever is smaller where both look the same.
//!
//! The rule: a picture with few colours (logos, pixel art, screenshots) is encoded both ways, and lossless wins
//! if it is not larger; it never looks worse. A picture with many colours is lossy, because for photographs
//! lossless is several times larger and costs time to find that out. A JPEG is always lossy: what is
//! gone is gone, and its noise would be kept.

use std::collections::HashSet;

use shared::outcome::Reason;

use super::raster::{Channels, Finished};
use crate::codec::webp::{self, Pixels, Settings};

/// Up to so many different colours a picture is tried without loss. Smooth photographs have more within
/// their first rows; anti-aliased graphics have fewer in all.
const FEW_COLOURS: usize = 2048;

/// A finished file.
pub(super) struct Encoded {
    pub(super) webp: Vec<u8>,
    pub(super) lossless: bool,
}

pub(super) fn encode(picture: &Finished, quality: u8) -> Result<Encoded, Reason> {
    let (width, height) = picture.size();
    let lossy = Settings { lossless: false, quality };
    let pixels = match picture {
        Finished::Yuv420 { y, u, v, .. } => Pixels::Yuv420 { y, u, v },
        Finished::Image(image) if image.channels == Channels::Rgba => Pixels::Rgba(&image.samples),
        Finished::Image(image) => Pixels::Rgb(&image.samples),
    };
    let one = |settings| webp::encode(width, height, &pixels, settings).map_err(failed);
    let smaller = match picture {
        Finished::Image(image) if has_few_colours(&image.samples, image.channels.count(), FEW_COLOURS) => {
            Some(one(Settings { lossless: true, quality })?)
        }
        _ => None,
    };
    let lossy = one(lossy)?;
    Ok(match smaller {
        Some(lossless) if lossless.len() <= lossy.len() => Encoded { webp: lossless, lossless: true },
        _ => Encoded { webp: lossy, lossless: false },
    })
}

/// The reason for an encoder that fails on pixels that were decoded: too large for the format.
pub(super) fn failed(what: &str) -> Reason {
    Reason::new("unencodable", format!("The picture cannot be written as WebP: {what}."))
}

/// Whether there are at most `few` different pixels; stops at the first one too many.
pub(super) fn has_few_colours(samples: &[u8], channels: usize, few: usize) -> bool {
    let mut seen = HashSet::with_capacity(few + 1);
    let mut last = None;
    for pixel in samples.chunks_exact(channels) {
        // Flat areas are what makes graphics, so most pixels need no look-up.
        if last == Some(pixel) {
            continue;
        }
        last = Some(pixel);
        if seen.insert(pixel) && seen.len() > few {
            return false;
        }
    }
    true
}
