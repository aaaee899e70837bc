//! Encodes a finished picture, lossy or lossless, whichever is smaller where both look the same.
//!
//! The rule: a picture is encoded with loss. If it has few colours, and so many of its pixels repeat a neighbour that
//! it promises to be clearly smaller without loss, it is encoded so too, and the smaller file is taken. Logos,
//! pixel art and screenshots end without loss: crisp, and smaller. Photographs never pay for the second
//! attempt, not even those that a GIF has cut down to 256 colours, because dither repeats nothing. A JPEG is always lossy:
//! what is gone is gone, and its noise would be kept.
//!
//! A picture that is as large as it was may have been compressed harder than it is now: it does not become larger in
//! bytes than its source, if that can be had without loss or at a lower quality.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use shared::outcome::Reason;

use super::raster::{Channels, Finished, Image};
use crate::codec::webp::{self, Pixels, Settings};

/// Up to so many different colours a picture is tried without loss. Smooth photographs have more within
/// their first rows; anti-aliased graphics have fewer in all.
const FEW_COLOURS: usize = 2048;

/// What a pixel that repeats no neighbour costs without loss, in tenths of a byte: 5 to 10 over logos, drawings and
/// indexed photographs, as measured.
const TENTHS_PER_NEW_PIXEL: usize = 9;

/// A picture is tried without loss if that promises to need at most so many percent of the lossy file.
const PROMISING_PERCENT: usize = 80;

/// A finished file.
pub(super) struct Encoded {
    pub(super) webp: Vec<u8>,
    pub(super) lossless: bool,
}

/// Parts of the quality that are tried one after the other where a file is too large, in percent.
const LOWER_QUALITIES: [u32; 5] = [85, 70, 50, 30, 10];

/// Encodes `picture`, into no more than `at_most` bytes if that can be had; without loss only if it `has_no_loss_yet`.
pub(super) fn encode(
    picture: &Finished,
    quality: u8,
    at_most: Option<usize>,
    has_no_loss_yet: bool,
) -> Result<Encoded, Reason> {
    let (width, height) = picture.size();
    let pixels = match picture {
        Finished::Yuv420 { y, u, v, .. } => Pixels::Yuv420 { y, u, v },
        Finished::Image(image) if image.channels == Channels::Rgba => Pixels::Rgba(&image.samples),
        Finished::Image(image) => Pixels::Rgb(&image.samples),
    };
    let one = |lossless, quality| {
        let webp = webp::encode(width, height, &pixels, Settings { lossless, quality }).map_err(failed)?;
        Ok::<_, Reason>(Encoded { webp, lossless })
    };
    let mut best = one(false, quality)?;
    let image = match picture {
        Finished::Image(image) if has_no_loss_yet => Some(image),
        Finished::Image(_) | Finished::Yuv420 { .. } => None,
    };
    let promising = image.is_some_and(|image| promises_without_loss(image, best.webp.len()));
    let too_large = |best: &Encoded| at_most.is_some_and(|at_most| best.webp.len() > at_most);
    if promising || (image.is_some() && too_large(&best)) {
        best = smaller(best, one(true, quality)?);
    }
    for percent in LOWER_QUALITIES {
        if !too_large(&best) {
            break;
        }
        best = smaller(best, one(false, part_of(quality, percent))?);
    }
    Ok(best)
}

/// So many percent of a quality, at least 1.
pub(super) fn part_of(quality: u8, percent: u32) -> u8 {
    u8::try_from(u32::from(quality) * percent / 100).unwrap_or(quality).max(1)
}

/// The smaller one; of equals the second, which is the one without loss where there is one.
fn smaller(one: Encoded, other: Encoded) -> Encoded {
    if other.webp.len() <= one.webp.len() { other } else { one }
}

/// The reason for an encoder that fails on pixels that were decoded: too large for the format.
pub(super) fn failed(what: &str) -> Reason {
    Reason::new("unencodable", format!("The picture cannot be written as WebP: {what}."))
}

/// Whether `image` is likely to be clearly smaller without loss than the `lossy` bytes it takes with it.
fn promises_without_loss(image: &Image, lossy: usize) -> bool {
    let budget = lossy * PROMISING_PERCENT / 100 * 10 / TENTHS_PER_NEW_PIXEL;
    let width = image.width as usize;
    match image.channels {
        Channels::Gray => repeats(image.samples.as_chunks::<1>().0, width, budget),
        Channels::Rgb => repeats(image.samples.as_chunks::<3>().0, width, budget),
        Channels::Rgba | Channels::Cmyk => repeats(image.samples.as_chunks::<4>().0, width, budget),
    }
}

/// Whether no more than `budget` of `pixels` differ from the one before and the one above, in few colours.
fn repeats<const CHANNELS: usize>(pixels: &[[u8; CHANNELS]], width: usize, budget: usize) -> bool {
    let (mut new, mut seen) = (0, HashSet::<u32, BuildHasherDefault<Mix>>::default());
    let mut above: &[[u8; CHANNELS]] = &[];
    for line in pixels.chunks_exact(width.max(1)) {
        for (x, pixel) in line.iter().enumerate() {
            if (x > 0 && line[x - 1] == *pixel) || above.get(x) == Some(pixel) {
                continue;
            }
            new += 1;
            seen.insert(pixel.iter().fold(0, |packed, sample| packed << 8 | u32::from(*sample)));
            if new > budget || seen.len() > FEW_COLOURS {
                return false;
            }
        }
        above = line;
    }
    true
}

/// Spreads the bits of a packed pixel; nobody gains by making colours collide.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// Whether an animation whose first frame is `image` is encoded without loss: decided on that frame alone, because
/// trying both ways on each would take twice the time.
pub(super) fn frame_is_smaller_without_loss(image: &Image, quality: u8) -> Result<bool, Reason> {
    // A frame of which more is new than a quarter is dithered or photographed, and not worth an attempt.
    let quarter = image.width as usize * image.height as usize / 4;
    if !promises_without_loss(image, quarter) {
        return Ok(false);
    }
    encode(&Finished::Image(image.clone()), quality, None, true).map(|encoded| encoded.lossless)
}
