//! WebP uploads: stills, shrunk to their size while they are decoded, and animations.

use shared::outcome::Reason;

use super::colour::{ColourInfo, Space};
use super::cost::Parts;
use super::geometry;
use super::header::{Format, Header, undecodable};
use super::orient::Orientation;
use super::raster::{Channels, Image, Raster, opaque};
use super::recipe::Recipe;
use crate::codec::webp::{AnimationDecoder, Demuxer};

pub(super) fn header(bytes: &[u8], recipe: &Recipe) -> Result<Header, Reason> {
    let demuxer = Demuxer::new(bytes).map_err(undecodable)?;
    let info = demuxer.info();
    let stored = if info.frames > 1 { demuxer.durations() } else { vec![0] };
    // As for GIF: what is too fast to be meant is shown for a tenth of a second.
    let durations_ms = if info.frames > 1 {
        stored.iter().map(|ms| if *ms <= 10 { 100 } else { *ms }).collect()
    } else {
        vec![0]
    };
    let pixels = u64::from(info.width) * u64::from(info.height);
    let (width, height) = kept_size(info.width, info.height, recipe);
    let kept = u64::from(width) * u64::from(height);
    let is_animated = info.is_animation;
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
        delays_changed: durations_ms != stored,
        decoded_pixels: pixels * durations_ms.len() as u64,
        durations_ms,
        loops: info.loops,
        orientation: demuxer.chunk(b"EXIF").as_deref().map(Orientation::of_exif).unwrap_or_default(),
        colour: demuxer
            .chunk(b"ICCP")
            .and_then(|profile| ColourInfo::of_icc(&profile, Space::Rgb))
            .unwrap_or_default(),
        animated: (info.frames > 1).then_some(frames),
        // The first frame of an animation is not shrunk while it is decoded.
        otherwise: None,
        parts: if is_animated { Parts { raster: pixels * 4, decoding: pixels * 12, ..still } } else { still },
    })
}

/// The size at which a still is decoded: that of its largest rendition. The decoder takes means of areas, of which nothing
/// has to be kept but the result. Lanczos instead costs 6 to 10 % more bytes, at a likeness that cannot be told apart.
fn kept_size(width: u32, height: u32, recipe: &Recipe) -> (u32, u32) {
    let side = geometry::measured_side(width, height, recipe.fit);
    let wanted = recipe.largest_edge();
    if side <= wanted {
        return (width, height);
    }
    let shrunk = |length: u32| {
        let nearest = (u64::from(length) * u64::from(wanted) + u64::from(side) / 2) / u64::from(side);
        u32::try_from(nearest).unwrap_or(length).max(1)
    };
    (shrunk(width), shrunk(height))
}

/// Decodes a still, or the only frame of an animation.
pub(super) fn decode(bytes: &[u8], header: &Header, recipe: &Recipe) -> Result<Raster, Reason> {
    let demuxer = Demuxer::new(bytes).map_err(undecodable)?;
    if demuxer.info().is_animation {
        let mut frames = frames(bytes)?;
        let rgba = frames.next_frame().map_err(undecodable)?.ok_or_else(|| undecodable("it has no frame"))?;
        let (width, height, samples) = (header.width, header.height, rgba.to_vec());
        return Ok(Raster::Image(opaque(Image { width, height, channels: Channels::Rgba, samples })));
    }
    let (width, height) = kept_size(header.width, header.height, recipe);
    let samples = demuxer.still(width, height).map_err(undecodable)?;
    Ok(Raster::Image(opaque(Image { width, height, channels: Channels::Rgba, samples })))
}

/// The frames of an animation, each as it is seen on the whole canvas.
pub(super) fn frames(bytes: &[u8]) -> Result<AnimationDecoder<'_>, Reason> {
    AnimationDecoder::new(bytes).map_err(undecodable)
}

/// A file's pixels as they are coded, without anything beside them: profile, EXIF, XMP and unknown chunks are left
/// out. `None` where the file has no chunks.
pub(super) fn stripped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut webp = b"RIFF\0\0\0\0WEBP".to_vec();
    // What stands behind the file's own length is no part of it.
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    let end = length.checked_add(8)?.min(bytes.len());
    copy_pixels(bytes.get(12..end)?, &mut webp, Within::File);
    let length = u32::try_from(webp.len() - 8).ok()?;
    webp[4..8].copy_from_slice(&length.to_le_bytes());
    Some(webp)
}

/// What chunks are read of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    File,
    /// A frame has none of its own.
    Frame,
}

/// Copies those of `chunks` that make up pixels, from a file or from one of its frames: of each kind the first, as decoders
/// read it, since another might hold anything.
fn copy_pixels(mut chunks: &[u8], into: &mut Vec<u8>, within: Within) {
    let mut copied: Vec<[u8; 4]> = Vec::new();
    while let [n0, n1, n2, n3, l0, l1, l2, l3, behind @ ..] = chunks {
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        let Some(content) = behind.get(..length) else { return };
        let name = [*n0, *n1, *n2, *n3];
        let start = into.len();
        // A picture is either with loss or without.
        let kind = if name == *b"VP8L" { *b"VP8 " } else { name };
        let is_again = copied.contains(&kind);
        if name != *b"ANMF" && !is_again {
            copied.push(kind);
        }
        into.extend_from_slice(&chunks[..8]);
        match (&name, content) {
            _ if is_again => into.truncate(start),
            (b"VP8X", [flags, size @ ..]) => {
                // What is left of the flags: alpha and animation.
                into.push(flags & 0b0001_0010);
                into.extend_from_slice(size);
            }
            // A frame's place, then its own chunks.
            (b"ANMF", _) if length >= 16 && within == Within::File => {
                into.extend_from_slice(&content[..16]);
                copy_pixels(&content[16..], into, Within::Frame);
                let kept = u32::try_from(into.len() - start - 8).unwrap_or(u32::MAX);
                into[start + 4..start + 8].copy_from_slice(&kept.to_le_bytes());
            }
            (b"ANIM" | b"ALPH" | b"VP8 " | b"VP8L", _) => into.extend_from_slice(content),
            _ => into.truncate(start),
        }
        if (into.len() - start) % 2 == 1 {
            into.push(0);
        }
        chunks = behind.get(length + length % 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::recipe::Fit;
    use super::*;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        let padding = vec![0; content.len() % 2];
        [name, &length[..], content, &padding].concat()
    }

    fn file(chunks: &[u8]) -> Vec<u8> {
        let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
        [b"RIFF", &length[..], b"WEBP", chunks].concat()
    }

    #[test]
    fn frames_in_frames_are_left_out_however_deep() {
        let mut nested = Vec::new();
        for _ in 0..20_000 {
            nested = chunk(b"ANMF", &[&[0; 16], &*nested].concat());
        }
        let pixels = chunk(b"VP8L", b"pixels");
        let animation =
            [chunk(b"ANIM", b"ground"), chunk(b"ANMF", &[&[1; 16], &*pixels, &nested].concat())].concat();
        let expected = [chunk(b"ANIM", b"ground"), chunk(b"ANMF", &[&[1; 16], &*pixels].concat())].concat();
        assert_eq!(stripped(&file(&animation)).unwrap(), file(&expected));
    }

    #[test]
    fn what_is_told_twice_or_behind_the_end_is_left_out() {
        let pixels = [chunk(b"ALPH", b"alpha"), chunk(b"VP8 ", b"pixels")].concat();
        let secrets = [chunk(b"VP8L", b"GPS-SECRET"), chunk(b"ALPH", b"GPS-SECRET")].concat();
        let inside = file(&[&*pixels, &secrets].concat());
        let behind = [file(&pixels), secrets].concat();
        for bytes in [inside, behind] {
            assert_eq!(stripped(&bytes).unwrap(), file(&pixels));
        }
    }

    proptest! {
        #[test]
        fn a_still_is_decoded_at_the_size_of_its_largest_rendition(
            width in 1_u32..16_384,
            height in 1_u32..16_384,
            edge in 16_u32..2_048,
            fit in prop_oneof![Just(Fit::Cover), Just(Fit::Contain)],
        ) {
            let recipe = Recipe { edge, extra_edges: vec![edge / 2], fit, ..Recipe::default() };
            let kept = kept_size(width, height, &recipe);
            prop_assert_eq!(
                geometry::measured_side(kept.0, kept.1, fit),
                geometry::measured_side(width, height, fit).min(edge)
            );
            // What the renditions need is cut out, and not stretched by as much as a pixel.
            let scale = (f64::from(kept.0) / f64::from(width), f64::from(kept.1) / f64::from(height));
            let to = geometry::target(width, height, fit, edge);
            let crop = geometry::crop(width, height, fit).scaled(scale, kept).for_size(to);
            prop_assert_eq!((crop.width, crop.height), (f64::from(to.0), f64::from(to.1)));
            prop_assert!(crop.left + crop.width <= f64::from(kept.0), "{crop:?} of {kept:?}");
            prop_assert!(crop.top + crop.height <= f64::from(kept.1), "{crop:?} of {kept:?}");
        }
    }
}
