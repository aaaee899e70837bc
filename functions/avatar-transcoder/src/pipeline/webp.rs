//! WebP uploads: stills, shrunk while decoding where they are much too large, and animations.

use shared::outcome::Reason;

use super::colour::ColourInfo;
use super::cost::Parts;
use super::geometry;
use super::header::{Format, Header, undecodable};
use super::orient::Orientation;
use super::raster::{Channels, Image, Raster};
use super::recipe::Recipe;
use crate::codec::webp::{AnimationDecoder, Demuxer, Info};

/// A picture more than twice this much larger than its rendition is shrunk while decoding, to this much.
const HEADROOM: u32 = 2;

pub(super) fn header(bytes: &[u8], recipe: &Recipe) -> Result<Header, Reason> {
    let demuxer = Demuxer::new(bytes).map_err(undecodable)?;
    let info = demuxer.info();
    let durations_ms = if info.frames > 1 {
        // As for GIF: what is too fast to be meant is shown for a tenth of a second.
        demuxer.durations().into_iter().map(|ms| if ms <= 10 { 100 } else { ms }).collect()
    } else {
        vec![0]
    };
    let pixels = u64::from(info.width) * u64::from(info.height);
    let (width, height) = kept_size(info.width, info.height, recipe);
    let kept = u64::from(width) * u64::from(height);
    let is_animated = info.frames > 1;
    // Without loss, and for the alpha of a lossy picture, the file's own size is held while it is decoded.
    let whole = if demuxer.is_lossless() { pixels * 4 } else { pixels * u64::from(info.has_alpha) };
    let opaque = if info.has_alpha { 0 } else { kept * 3 };
    let still = Parts {
        raster: kept * 4,
        decoding: whole.max(opaque) + u64::from(info.width) * 64,
        rows: u64::from(height),
        channels: 4,
        has_alpha: info.has_alpha,
    };
    // Two canvases, and a frame without loss, which is decoded whole.
    let frames = Parts { decoding: pixels * 12, has_alpha: true, ..still };
    Ok(Header {
        format: Format::Webp,
        width: info.width,
        height: info.height,
        durations_ms,
        loops: info.loops,
        orientation: demuxer.chunk(b"EXIF").as_deref().map(Orientation::of_exif).unwrap_or_default(),
        colour: demuxer.chunk(b"ICCP").map_or(ColourInfo::Srgb, ColourInfo::Icc),
        animated: is_animated.then_some(frames),
        // The first frame of an animation is not shrunk while it is decoded.
        parts: if is_animated { Parts { raster: pixels * 4, decoding: pixels * 12, ..still } } else { still },
    })
}

/// The size at which a still is decoded.
fn kept_size(width: u32, height: u32, recipe: &Recipe) -> (u32, u32) {
    let side = geometry::measured_side(width, height, recipe.fit);
    let wanted = recipe.largest_edge().saturating_mul(HEADROOM);
    if side <= wanted.saturating_mul(2) {
        return (width, height);
    }
    let shrunk = |length: u32| {
        let exact = u64::from(length) * u64::from(wanted) / u64::from(side);
        u32::try_from(exact).unwrap_or(length).max(1)
    };
    (shrunk(width), shrunk(height))
}

/// Decodes a still.
pub(super) fn decode(bytes: &[u8], header: &Header, recipe: &Recipe) -> Result<Raster, Reason> {
    let demuxer = Demuxer::new(bytes).map_err(undecodable)?;
    let info = demuxer.info();
    let (width, height) = kept_size(header.width, header.height, recipe);
    let samples = demuxer.still(width, height).map_err(undecodable)?;
    if info.has_alpha {
        return Ok(Raster::Image(Image { width, height, channels: Channels::Rgba, samples }));
    }
    let samples = samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    Ok(Raster::Image(Image { width, height, channels: Channels::Rgb, samples }))
}

/// The frames of an animation, each as it is seen on the whole canvas.
pub(super) fn frames<'a>(bytes: &'a [u8], header: &Header) -> Result<AnimationDecoder<'a>, Reason> {
    let frames = u32::try_from(header.durations_ms.len()).unwrap_or(u32::MAX);
    let info =
        Info { width: header.width, height: header.height, frames, has_alpha: true, loops: header.loops };
    AnimationDecoder::new(bytes, &info).map_err(undecodable)
}
