//! JPEG: baseline and progressive, gray, YCbCr, RGB, CMYK and YCCK, shrunk while decoding.

use shared::outcome::Reason;

use super::colour::ColourInfo;
use super::cost::Parts;
use super::geometry;
use super::header::{Format, Header, undecodable};
use super::orient::Orientation;
use super::raster::{Channels, Image, Raster};
use super::recipe::Recipe;
use crate::codec::turbojpeg::{ColourSpace, Decoder, PixelFormat, Subsampling, scaled};

/// How much larger than the rendition a picture is left by the shrinking decoder, so that the resizer has
/// something to work on: at 1.2 the difference to a full decode cannot be seen.
const HEADROOM_TENTHS: u64 = 12;

/// What the decoder takes for its tables and state.
const DECODER_BYTES: u64 = 256 << 10;

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
    /// Parts of the profile: their number and content.
    icc: Vec<(u8, Vec<u8>)>,
    has_adobe: bool,
}

impl Segments {
    fn read(bytes: &[u8]) -> Self {
        let mut segments = Self::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        loop {
            // Any number of fill bytes may stand before a marker.
            while let [0xff, 0xff, ..] = rest {
                rest = &rest[1..];
            }
            let [0xff, marker, high, low, ..] = *rest else { return segments };
            if matches!(marker, 0xda | 0xd9) {
                return segments;
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(payload) = rest.get(4..2 + length.max(2)) else { return segments };
            segments.note(marker, payload);
            rest = &rest[2 + length.max(2)..];
        }
    }

    fn note(&mut self, marker: u8, payload: &[u8]) {
        match (marker, payload) {
            (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, _) if self.frame.is_none() => {
                self.frame = Frame::read(marker, payload);
            }
            (0xe1, _) if payload.starts_with(b"Exif\0\0") && self.exif.is_none() => {
                self.exif = Some(payload[6..].to_vec());
            }
            (0xe2, _) => {
                if let Some([number, _count, part @ ..]) = payload.strip_prefix(b"ICC_PROFILE\0") {
                    self.icc.push((*number, part.to_vec()));
                }
            }
            (0xee, _) => self.has_adobe |= payload.starts_with(b"Adobe"),
            _ => {}
        }
    }

    fn colour(&mut self) -> ColourInfo {
        if self.icc.is_empty() {
            return ColourInfo::Srgb;
        }
        self.icc.sort_by_key(|(number, _)| *number);
        ColourInfo::Icc(self.icc.iter().flat_map(|(_, part)| part.iter().copied()).collect())
    }
}

/// The smallest number of eighths at which the picture is still large enough for `recipe`.
fn eighths(width: u32, height: u32, recipe: &Recipe) -> u32 {
    let side = geometry::measured_side(width, height, recipe.fit);
    let wanted = u64::from(recipe.largest_edge()) * HEADROOM_TENTHS / 10;
    (1..8).find(|eighths| u64::from(scaled(side, *eighths)) >= wanted).unwrap_or(8)
}

pub(super) fn header(bytes: &[u8], recipe: &Recipe) -> Result<Header, Reason> {
    let mut segments = Segments::read(bytes);
    let Frame { marker, precision, width, height, components, density } =
        segments.frame.ok_or_else(|| undecodable("it has no frame header"))?;
    if precision != 8 || matches!(marker, 0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf) {
        return Err(Reason::new(
            "unsupported-type",
            "The picture is a JPEG with 12 bits, lossless or hierarchical coding, which browsers do not show either.",
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
    Ok(Header {
        format: Format::Jpeg,
        width,
        height,
        durations_ms: vec![0],
        loops: 0,
        orientation: segments.exif.as_deref().map(Orientation::of_exif).unwrap_or_default(),
        colour: segments.colour(),
        animated: None,
        parts: Parts {
            raster,
            decoding: coefficients,
            rows: u64::from(scaled(height, part)),
            channels: u64::from(components.clamp(1, 4)),
            has_alpha: false,
        },
    })
}

/// Decodes, shrinking to what `recipe` needs. A picture without a foreign profile stays in its own planes.
pub(super) fn decode(bytes: &[u8], header: &Header, recipe: &Recipe) -> Result<Raster, Reason> {
    let mut decoder = Decoder::new().ok_or_else(|| undecodable("the decoder has no memory"))?;
    let found = decoder.header(bytes).map_err(undecodable)?;
    let part = eighths(header.width, header.height, recipe);
    let format = match found.colour_space {
        ColourSpace::YCbCr
            if header.colour.profile(Channels::Rgb).is_none() && recipe.watermark.is_none() =>
        {
            let planes = decoder.planes(bytes, &found, part).map_err(undecodable)?;
            return Ok(Raster::Planes {
                width: scaled(found.width, part),
                height: scaled(found.height, part),
                subsampling: found.subsampling,
                planes,
            });
        }
        ColourSpace::Gray
            if header.colour.profile(Channels::Gray).is_none() && recipe.watermark.is_none() =>
        {
            let planes = decoder.planes(bytes, &found, part).map_err(undecodable)?;
            return Ok(Raster::Planes {
                width: scaled(found.width, part),
                height: scaled(found.height, part),
                subsampling: Subsampling::Gray,
                planes,
            });
        }
        ColourSpace::YCbCr | ColourSpace::Rgb => PixelFormat::Rgb,
        ColourSpace::Gray => PixelFormat::Gray,
        ColourSpace::Cmyk | ColourSpace::Ycck => PixelFormat::Cmyk,
    };
    let (width, height, mut samples) = decoder.pixels(bytes, &found, part, format).map_err(undecodable)?;
    let channels = match format {
        PixelFormat::Rgb => Channels::Rgb,
        PixelFormat::Gray => Channels::Gray,
        PixelFormat::Cmyk => Channels::Cmyk,
    };
    // Adobe writes inks upside down: 255 is bare paper.
    if channels == Channels::Cmyk && Segments::read(bytes).has_adobe {
        samples.iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    Ok(Raster::Image(Image { width, height, channels, samples }))
}
