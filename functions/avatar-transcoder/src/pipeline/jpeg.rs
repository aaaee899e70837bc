//! JPEG: baseline and progressive, Huffman or arithmetic coding, gray, YCbCr, RGB, CMYK and YCCK, shrunk while
//! decoding. Of files with several pictures (MPO, gain maps) it is the first that is shown, as in browsers.

use shared::outcome::Reason;

use super::Decoded;
use super::colour::{ColourInfo, Space};
use super::cost::Parts;
use super::geometry;
use super::header::{self, Format, Header, undecodable};
use super::limits::Limits;
use super::orient::Orientation;
use super::raster::{Channels, Image, Raster};
use super::recipe::Recipe;
use crate::codec::scaled_jpeg;
use crate::codec::turbojpeg::{self, ColourSpace, Decoder, PixelFormat, Plane, Subsampling, scaled};

/// How much larger than the rendition a picture is left by the shrinking decoder, so that the resizer has something to
/// work on. At 1.25 some photographs lose 4 points of SSIMULACRA2 to a full decode, at 1.4 none loses more than 1.
const HEADROOM_TENTHS: u64 = 14;

/// What the decoder takes for its tables and state.
const DECODER_BYTES: u64 = 256 << 10;

/// What a scan takes for each block, in nanoseconds, as measured where every bit is well foretold.
const ARITHMETIC_NS: u64 = 5_000;
/// The same where it is coded by Huffman, and a few bits skip a whole row of blocks.
const HUFFMAN_NS: u64 = 60;

/// What scans may take all together, in nanoseconds: ten seconds. A scan of a hundred bytes may go over all blocks, so that
/// a few kilobytes could cost hours.
const MOST_NS: u64 = 10_000_000_000;

/// A start of frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    marker: u8,
    /// Bits per sample.
    precision: u8,
    width: u32,
    height: u32,
    components: u8,
    /// Samples of all components for each pixel, in hundredths: 300 without subsampling, 150 for 4:2:0.
    density: u64,
}

impl Frame {
    fn read(marker: u8, payload: &[u8]) -> Option<Self> {
        let [precision, h1, h0, w1, w0, components, rest @ ..] = payload else { return None };
        let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
        let factors = rest.as_chunks::<3>().0.iter().take(usize::from(*components));
        let samples = factors.map(|[_, hv, _]| (u64::from(hv >> 4).max(1), u64::from(hv & 15).max(1)));
        let (most_h, most_v) = samples.clone().fold((1, 1), |(h, v), (a, b)| (h.max(a), v.max(b)));
        let density = samples.map(|(h, v)| h * v * 100 / (most_h * most_v)).sum();
        Some(Self {
            marker,
            precision: *precision,
            width: side(*w1, *w0),
            height: side(*h1, *h0),
            components: *components,
            density,
        })
    }
}

/// What the segments before the first scan say.
#[derive(Debug, Default)]
struct Segments {
    frame: Option<Frame>,
    exif: Option<Vec<u8>>,
    /// Parts of the profile: their number, how many there are, and content.
    icc: Vec<(u8, u8, Vec<u8>)>,
    has_adobe: bool,
}

impl Segments {
    fn read(bytes: &[u8]) -> Self {
        let mut segments = Self::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        loop {
            // Decoders skip what stands between segments, and any number of fill bytes before a marker.
            let Some(start) = rest.iter().position(|byte| *byte == 0xff) else { return segments };
            rest = &rest[start..];
            while let [0xff, 0xff, ..] = rest {
                rest = &rest[1..];
            }
            let [0xff, marker, ref behind @ ..] = *rest else { return segments };
            match (marker, behind) {
                (0xda | 0xd9, _) => return segments,
                (0x00 | 0x01 | 0xd0..=0xd8, _) => rest = behind,
                (_, [high, low, ..]) => {
                    let length = usize::from(u16::from_be_bytes([*high, *low])).max(2);
                    let Some(payload) = behind.get(2..length) else { return segments };
                    segments.note(marker, payload);
                    rest = &behind[length..];
                }
                _ => return segments,
            }
        }
    }

    fn note(&mut self, marker: u8, payload: &[u8]) {
        match (marker, payload) {
            (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xf7, _) if self.frame.is_none() => {
                self.frame = Frame::read(marker, payload);
            }
            (0xe1, _) if payload.starts_with(b"Exif\0\0") && self.exif.is_none() => {
                self.exif = Some(payload[6..].to_vec());
            }
            (0xe2, _) => {
                if let Some([number, count, part @ ..]) = payload.strip_prefix(b"ICC_PROFILE\0") {
                    self.icc.push((*number, *count, part.to_vec()));
                }
            }
            (0xee, _) => self.has_adobe |= payload.starts_with(b"Adobe"),
            _ => {}
        }
    }

    /// The profile, put together; parts may come in any order, and none may be missing.
    fn colour(&mut self, components: u8) -> ColourInfo {
        self.icc.sort_by_key(|(number, ..)| *number);
        let whole = self.icc.iter().zip(1..=u8::MAX).all(|((number, count, _), expected)| {
            *number == expected && usize::from(*count) == self.icc.len()
        });
        if self.icc.is_empty() || !whole {
            return ColourInfo::Srgb;
        }
        let profile: Vec<u8> = self.icc.iter().flat_map(|(.., part)| part.iter().copied()).collect();
        let space = match components {
            1 => Space::Gray,
            4 => Space::Cmyk,
            _ => Space::Rgb,
        };
        ColourInfo::of_icc(&profile, space).unwrap_or_default()
    }
}

/// What is coded in a way that is not decoded here, nor by browsers.
fn unsupported(frame: Frame) -> Option<Reason> {
    let what = match frame.marker {
        0xf7 => "a JPEG-LS".to_owned(),
        0xc3 | 0xc7 | 0xcb | 0xcf => "a lossless JPEG".to_owned(),
        0xc5 | 0xc6 | 0xcd | 0xce => "a hierarchical JPEG".to_owned(),
        _ if frame.precision != 8 => format!("a JPEG with {} bits a sample", frame.precision),
        _ => return None,
    };
    Some(Reason::new(
        "unsupported-type",
        format!("The picture is {what}, which browsers do not show either; save it as a usual JPEG."),
    ))
}

/// The reason for what the decoder says.
fn refused(what: String) -> Reason {
    // Samplings that divide by no whole number are not damage.
    if what.contains("not implemented") {
        return Reason::new(
            "unsupported-type",
            format!("The picture is a JPEG of an unusual kind that is not decoded: {what}."),
        );
    }
    undecodable(what)
}

/// The smallest number of eighths at which the picture is still large enough for `recipe`. Only halves are taken of
/// halves: at 3, 5, 6 and 7 eighths the decoder's blocks show, by up to 18 points of SSIMULACRA2.
fn eighths(width: u32, height: u32, recipe: &Recipe) -> u32 {
    let side = geometry::measured_side(width, height, recipe.fit);
    let wanted = u64::from(recipe.largest_edge()) * HEADROOM_TENTHS / 10;
    [1, 2, 4].into_iter().find(|eighths| u64::from(scaled(side, *eighths)) >= wanted).unwrap_or(8)
}

pub(super) fn header(bytes: &[u8], recipe: &Recipe) -> Result<Header, Reason> {
    let mut segments = Segments::read(bytes);
    let frame = segments.frame.ok_or_else(|| undecodable("it has no frame header"))?;
    if let Some(reason) = unsupported(frame) {
        return Err(reason);
    }
    let Frame { marker, width, height, components, density, .. } = frame;
    let (kind, scan_ns) = match marker {
        0xc9 | 0xca => ("an arithmetic-coded JPEG", ARITHMETIC_NS),
        _ => ("a JPEG", HUFFMAN_NS),
    };
    let scans = scans(bytes);
    let blocks = u64::from(width).div_ceil(8) * u64::from(height).div_ceil(8) * density.max(100) / 100;
    if blocks.saturating_mul(scans).saturating_mul(scan_ns) > MOST_NS {
        return Err(Reason::new(
            "unsupported-type",
            format!(
                "The picture is {kind} whose {scans} scans take too long to be decoded; save it as a usual JPEG."
            ),
        ));
    }
    let part = eighths(width, height, recipe);
    let kept = u64::from(scaled(width, part)) * u64::from(scaled(height, part));
    // A picture that stays in its planes keeps their density; all others are interleaved.
    let raster = (kept * density / 100).max(kept * u64::from(components.min(4)));
    // Progressive pictures are held as coefficients, 2 bytes each, until the last scan; others for a row of blocks.
    let pixels = if matches!(marker, 0xc2 | 0xca) {
        u64::from(width) * u64::from(height)
    } else {
        u64::from(width) * 32
    };
    let coefficients = pixels * density / 100 * 2 + DECODER_BYTES;
    let parts = |decoding| Parts {
        raster,
        decoding,
        rows: u64::from(scaled(height, part)),
        channels: u64::from(components.clamp(1, 4)),
        has_alpha: false,
    };
    let kept = if marker == 0xc2 { kept_of_blocks(bytes, part) } else { None };
    Ok(Header {
        format: Format::Jpeg,
        width,
        height,
        durations_ms: vec![0],
        delays_changed: false,
        decoded_pixels: u64::from(width) * u64::from(height),
        loops: 0,
        orientation: segments.exif.as_deref().map(Orientation::of_exif).unwrap_or_default(),
        colour: segments.colour(components),
        animated: None,
        parts: parts(kept.map_or(coefficients, |kept| kept + DECODER_BYTES)),
        otherwise: kept.map(|_| parts(coefficients)),
    })
}

/// How many scans a file may have: in what is coded a marker's first byte is always followed by a zero or a restart.
fn scans(bytes: &[u8]) -> u64 {
    bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]).count() as u64
}

/// What the faster decoder keeps of the blocks of a progressive picture, in bytes, if it knows this one.
fn kept_of_blocks(bytes: &[u8], part: u32) -> Option<u64> {
    let found = Decoder::new()?.header(bytes).ok()?;
    let in_planes = matches!(found.colour_space, ColourSpace::YCbCr | ColourSpace::Gray);
    if in_planes { scaled_jpeg::progressive_bytes(bytes, &found, part) } else { None }
}

/// The planes of the picture, by the faster decoder where it knows the kind of file. Whether a file is damaged
/// is for the other to decide, if it may take the memory for that.
fn planes(
    decoder: &mut Decoder,
    bytes: &[u8],
    found: &turbojpeg::Header,
    subsampling: Subsampling,
    part: u32,
    otherwise: impl Fn() -> Result<(), Reason>,
) -> Result<Vec<Plane>, Reason> {
    if let Some(planes) = scaled_jpeg::planes(bytes, found, part) {
        return Ok(planes);
    }
    otherwise()?;
    decoder.planes(bytes, found, subsampling, part).map_err(refused)
}

/// Decodes, shrinking to what `recipe` needs. A picture in luma and chroma stays in its own planes.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    recipe: &Recipe,
    limits: &Limits,
) -> Result<Decoded, Reason> {
    let mut decoder = Decoder::new().ok_or_else(|| undecodable("the decoder has no memory"))?;
    let found = decoder.header(bytes).map_err(refused)?;
    let part = eighths(header.width, header.height, recipe);
    let scale = (f64::from(part) / 8.0, f64::from(part) / 8.0);
    let (format, channels) = match found.colour_space {
        ColourSpace::YCbCr | ColourSpace::Rgb => (PixelFormat::Rgb, Channels::Rgb),
        ColourSpace::Gray => (PixelFormat::Gray, Channels::Gray),
        ColourSpace::Cmyk | ColourSpace::Ycck => (PixelFormat::Cmyk, Channels::Cmyk),
    };
    let to_srgb = header.colour.conversion(channels);
    if let (ColourSpace::YCbCr | ColourSpace::Gray, Some(subsampling)) =
        (found.colour_space, found.subsampling)
    {
        let planes = planes(&mut decoder, bytes, &found, subsampling, part, || match header.otherwise {
            Some(parts) => header::check(&Header { parts, ..header.clone() }, bytes.len(), recipe, limits),
            None => Ok(()),
        })?;
        let (width, height) = (scaled(found.width, part), scaled(found.height, part));
        let raster = Raster::Planes { width, height, subsampling, planes };
        return Ok(Decoded { raster, scale, to_srgb });
    }
    let (width, height, mut samples) = decoder.pixels(bytes, &found, part, format).map_err(refused)?;
    // Adobe writes inks upside down: 255 is bare paper.
    if channels == Channels::Cmyk && Segments::read(bytes).has_adobe {
        samples.iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    Ok(Decoded { raster: Raster::Image(Image { width, height, channels, samples }), scale, to_srgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUFFMAN: u8 = 0xc2;
    const ARITHMETIC: u8 = 0xca;

    /// A progressive picture of one component, with so many scans of next to nothing.
    fn progressive(marker: u8, width: u16, height: u16, scans: usize) -> Vec<u8> {
        let mut jpeg = vec![0xff, 0xd8, 0xff, marker, 0, 11, 8];
        jpeg.extend(height.to_be_bytes());
        jpeg.extend(width.to_be_bytes());
        jpeg.extend([1, 1, 0x11, 0]);
        jpeg.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0, 0].repeat(scans));
        jpeg.extend([0xff, 0xd9]);
        jpeg
    }

    #[test]
    fn scans_that_would_take_longer_than_an_invocation_are_refused_by_the_header() {
        let recipe = Recipe::default();
        for (marker, width, height, scans, refused) in [
            (ARITHMETIC, 7000, 7000, 498, true),
            (ARITHMETIC, 4000, 3000, 10, false),
            (ARITHMETIC, 1000, 1000, 100, false),
            (ARITHMETIC, 1000, 1000, 500, true),
            (HUFFMAN, 7000, 7000, 498, true),
            (HUFFMAN, 7000, 7000, 60, false),
            (HUFFMAN, 4000, 3000, 498, false),
        ] {
            let read = header(&progressive(marker, width, height, scans), &recipe);
            let code = read.err().map(|reason| reason.code);
            assert_eq!(code, refused.then_some("unsupported-type"), "{width} × {height}, {scans}");
        }
    }
}
