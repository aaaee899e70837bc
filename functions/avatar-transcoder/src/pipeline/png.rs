//! PNG: all colour types and depths, interlaced or not. Of an APNG its default image, as the format intends for
//! viewers that do not animate.

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use shared::outcome::Reason;

use super::colour::{Chromaticities, CodePoints, ColourInfo, Space};
use super::cost::Parts;
use super::header::{Format, Header, cursor, undecodable};
use super::orient::Orientation;
use super::raster::{Channels, Raster, opaque};
use super::recipe::Recipe;
use super::shrink::{self, Shrinker};

/// What the decoder may set aside for chunks beside the pixels: profiles and text.
const CHUNK_BYTES: usize = 16 << 20;

/// What inflating takes, whatever the size.
const INFLATE_BYTES: u64 = 256 << 10;

/// The exponent that sRGB is close to; files that say about this mean sRGB.
const SRGB_GAMMA: f32 = 1.0 / 2.2;

fn decoder(bytes: &[u8]) -> Decoder<std::io::Cursor<&[u8]>> {
    let mut decoder = Decoder::new_with_limits(cursor(bytes), Limits { bytes: CHUNK_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    decoder
}

pub(super) fn header(bytes: &[u8], recipe: &Recipe) -> Result<Header, Reason> {
    let mut decoder = decoder(bytes);
    let (width, height) = {
        let info = decoder.read_header_info().map_err(undecodable)?;
        (info.width, info.height)
    };
    let info = decoder.read_header_info().map_err(undecodable)?;
    let wide = u64::from(info.bit_depth == BitDepth::Sixteen) + 1;
    let names_clear = names_clear_colour(bytes);
    let channels = match info.color_type {
        // The colour that stands for nothing becomes alpha for every pixel.
        ColorType::Grayscale if names_clear => 2,
        ColorType::Rgb if names_clear => 4,
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Indexed | ColorType::Rgba => 4,
    };
    let pixels = u64::from(width) * u64::from(height);
    let factor = shrink::factor(width, height, recipe);
    let kept = u64::from(shrink::shrunk(width, factor)) * u64::from(shrink::shrunk(height, factor));
    let kept_channels = if channels == 2 { 4 } else { channels };
    // Rows pass one by one: filtered, widened, summed. Interlaced ones are put together first.
    let rows = u64::from(width) * (channels * wide * 4 + kept_channels * 5);
    let whole = if info.interlaced { pixels * channels * wide } else { 0 };
    // What turns out to hide nothing is copied without its alpha.
    let opaque = if kept_channels == 4 { kept * 3 } else { 0 };
    Ok(Header {
        format: Format::Png,
        width,
        height,
        durations_ms: vec![0],
        delays_changed: false,
        decoded_pixels: pixels,
        loops: 0,
        orientation: Orientation::default(),
        colour: ColourInfo::Srgb,
        animated: None,
        otherwise: None,
        parts: Parts {
            raster: kept * kept_channels,
            decoding: whole.max(opaque) + rows + INFLATE_BYTES,
            rows: u64::from(shrink::shrunk(height, factor)),
            channels: kept_channels,
            has_alpha: kept_channels == 4,
        },
    })
}

/// Whether a chunk before the pixels names a colour that is to be clear.
fn names_clear_colour(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let [l3, l2, l1, l0, name @ ..] = rest {
        let length = u32::from_be_bytes([*l3, *l2, *l1, *l0]) as usize;
        match name.get(..4) {
            Some(b"tRNS") => return true,
            Some(b"IDAT") | None => return false,
            // Behind the name and the content stands a checksum.
            Some(_) => rest = length.checked_add(8).and_then(|end| name.get(end..)).unwrap_or_default(),
        }
    }
    false
}

/// What the file says about its colours, in the order of precedence of the PNG specification, third edition: `cICP`,
/// `iCCP`, `sRGB`, then `gAMA` and `cHRM` together. What cannot be used counts as not there.
fn colour(info: &png::Info<'_>) -> ColourInfo {
    let code_points = || {
        let points = info.coding_independent_code_points?;
        // Nothing but RGB fits a PNG.
        (points.matrix_coefficients == 0).then_some(())?;
        ColourInfo::of_code_points(CodePoints {
            primaries: points.color_primaries,
            transfer: points.transfer_function,
            video_range: !points.is_video_full_range_image,
        })
    };
    let profile = || {
        let space = match info.color_type {
            ColorType::Grayscale | ColorType::GrayscaleAlpha => Space::Gray,
            ColorType::Rgb | ColorType::Rgba | ColorType::Indexed => Space::Rgb,
        };
        ColourInfo::of_icc(info.icc_profile.as_deref()?, space)
    };
    code_points()
        .or_else(profile)
        .or_else(|| info.srgb.map(|_| ColourInfo::Srgb))
        .or_else(|| measured(info))
        .unwrap_or_default()
}

/// By `gAMA` and `cHRM`.
fn measured(info: &png::Info<'_>) -> Option<ColourInfo> {
    let exponent = info
        .gama_chunk
        .map(png::ScaledFloat::into_value)
        .filter(|gamma| *gamma > 0.0 && (gamma - SRGB_GAMMA).abs() > 0.05 * SRGB_GAMMA)
        .map(f32::recip);
    let primaries = info.chrm_chunk.map(|chromaticities| {
        let point = |(x, y): (png::ScaledFloat, png::ScaledFloat)| (x.into_value(), y.into_value());
        Chromaticities {
            white: point(chromaticities.white),
            red: point(chromaticities.red),
            green: point(chromaticities.green),
            blue: point(chromaticities.blue),
        }
    });
    if exponent.is_none() && primaries.is_none() {
        return None;
    }
    // A gamma is worth something without primaries that make sense.
    ColourInfo::measured(exponent, primaries).or_else(|| ColourInfo::measured(exponent, None))
}

/// Decodes, and completes `header` with what stands before the pixels.
pub(super) fn decode(bytes: &[u8], header: &mut Header, recipe: &Recipe) -> Result<Raster, Reason> {
    let mut reader = decoder(bytes).read_info().map_err(undecodable)?;
    let info = reader.info();
    header.colour = colour(info);
    let (width, height, interlaced) = (info.width, info.height, info.interlaced);
    let (color, depth) = reader.output_color_type();
    let wide = depth == BitDepth::Sixteen;
    let (in_channels, channels) = match color {
        ColorType::Grayscale => (1, Channels::Gray),
        ColorType::GrayscaleAlpha => (2, Channels::Rgba),
        ColorType::Rgb => (3, Channels::Rgb),
        ColorType::Rgba => (4, Channels::Rgba),
        ColorType::Indexed => return Err(undecodable("its palette is missing")),
    };
    let mut shrinker = Shrinker::new(width, height, channels, shrink::factor(width, height, recipe));
    let mut narrowed = Vec::new();
    let mut take = |row: &[u8]| {
        if in_channels != 2 && !wide {
            return shrinker.push(row);
        }
        let narrow = |i: usize| {
            if wide { to_8_bits(row[2 * i], row[2 * i + 1]) } else { row[i] }
        };
        let count = row.len() / if wide { 2 } else { 1 };
        narrowed.clear();
        if in_channels == 2 {
            narrowed.extend((0..count / 2).flat_map(|i| {
                let gray = narrow(2 * i);
                [gray, gray, gray, narrow(2 * i + 1)]
            }));
        } else {
            narrowed.extend((0..count).map(narrow));
        }
        shrinker.push(&narrowed);
    };
    if interlaced {
        let size = reader.output_buffer_size().ok_or_else(|| undecodable("it is too large"))?;
        let mut whole = vec![0; size];
        reader.next_frame(&mut whole).map_err(undecodable)?;
        for row in whole.chunks_exact((size / height as usize).max(1)) {
            take(row);
        }
    } else {
        while let Some(row) = reader.next_row().map_err(undecodable)? {
            take(row.data());
        }
    }
    // A file without its end was cut off, even if its pixels are whole; what lies behind the end is junk.
    reader.finish().map_err(undecodable)?;
    // The block may stand behind the pixels.
    header.orientation = reader.info().exif_metadata.as_deref().map(Orientation::of_exif).unwrap_or_default();
    let image = shrinker.finish().ok_or_else(|| undecodable("rows are missing"))?;
    // An alpha channel that hides nothing costs time and bytes in every later step.
    Ok(Raster::Image(opaque(image)))
}

/// Rounds 16 bits to 8: 65535 is 257 × 255.
fn to_8_bits(high: u8, low: u8) -> u8 {
    let value = u32::from(u16::from_be_bytes([high, low]));
    u8::try_from((value * 255 + 32767) / 65535).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_rounded_and_not_cut() {
        for sample in 0..=u16::MAX {
            let [high, low] = sample.to_be_bytes();
            // Full range is 65535 on one side and 255 on the other; 257 is odd, so nothing lies in between.
            let exact = f64::from(sample) * 255.0 / 65535.0;
            assert_eq!(f64::from(to_8_bits(high, low)), exact.round(), "{sample}");
        }
        assert_eq!(to_8_bits(0xff, 0xff), 255);
        assert_eq!(to_8_bits(0x00, 0x80), 0, "128 is less than half of 257");
        assert_eq!(to_8_bits(0x00, 0x81), 1, "129 is more");
        assert!((0..=u8::MAX).all(|n| to_8_bits(n, n) == n), "257 n is n");
    }
}
