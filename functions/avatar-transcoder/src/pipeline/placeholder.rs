//! What a page shows before the avatar has come: its ThumbHash and its average colour.

use super::geometry;
use super::raster::Finished;
use super::recipe::Fit;
use super::resize;

/// The longest side that a ThumbHash is computed from. Its definition takes up to 100 pixels; it keeps seven waves
/// across, for which 32 are plenty and a tenth of the work.
const MAX_SIDE: u32 = 32;

/// The ThumbHash of `picture`, and its average colour, weighted by alpha.
pub(super) fn of(picture: &Finished) -> (Vec<u8>, [u8; 3]) {
    let (width, height) = picture.size();
    let to = geometry::target(width, height, Fit::Contain, MAX_SIDE);
    let small = resize::finished(picture, to).unwrap_or_else(|_| picture.clone());
    let (width, height) = small.size();
    let rgba = small.to_rgba();
    let hash = thumbhash::rgba_to_thumb_hash(width as usize, height as usize, &rgba);
    (hash, average(&rgba))
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
