//! What a page shows before the avatar has come: its ThumbHash and its average colour.

use super::geometry::{self, Crop};
use super::raster::{Channels, Finished, Image};
use super::recipe::Fit;
use super::resize;

/// The longest side that a ThumbHash is computed from, by its definition.
const MAX_SIDE: u32 = 100;

/// The ThumbHash of `picture`, and its average colour, weighted by alpha.
pub(super) fn of(picture: &Finished) -> (Vec<u8>, [u8; 3]) {
    let (width, height) = picture.size();
    let whole = Image { width, height, channels: Channels::Rgba, samples: picture.to_rgba() };
    let to = geometry::target(width, height, Fit::Contain, MAX_SIDE);
    let all = Crop { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) };
    let small = resize::image(&whole, all, to).unwrap_or(whole);
    let hash = thumbhash::rgba_to_thumb_hash(small.width as usize, small.height as usize, &small.samples);
    (hash, average(&small.samples))
}

fn average(rgba: &[u8]) -> [u8; 3] {
    let mut sums = [0_u64; 4];
    for pixel in rgba.chunks_exact(4) {
        let alpha = u64::from(pixel[3]);
        for channel in 0..3 {
            sums[channel] += u64::from(pixel[channel]) * alpha;
        }
        sums[3] += alpha;
    }
    std::array::from_fn(|channel| {
        u8::try_from((sums[channel] + sums[3] / 2).checked_div(sums[3]).unwrap_or(0)).unwrap_or(u8::MAX)
    })
}
