//! Pixels between the steps.

use crate::codec::turbojpeg::{Plane, Subsampling};

/// Interleaved samples of 8 bits, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) samples: Vec<u8>,
}

/// What `change` makes of each pixel, one after the other. Writing into what is there already takes a fraction of the
/// time that collecting takes.
pub(super) fn each<const FROM: usize, const TO: usize>(
    pixels: &[[u8; FROM]],
    change: impl Fn([u8; FROM]) -> [u8; TO],
) -> Vec<u8> {
    let mut samples = vec![0; pixels.len() * TO];
    for (to, from) in samples.as_chunks_mut::<TO>().0.iter_mut().zip(pixels) {
        *to = change(*from);
    }
    samples
}

/// Without the alpha channel, if it hides nothing.
pub(super) fn opaque(image: Image) -> Image {
    let hides = || image.samples.as_chunks::<4>().0.iter().fold(255, |least, pixel| pixel[3] & least) != 255;
    if image.channels != Channels::Rgba || hides() {
        return image;
    }
    let samples = each(image.samples.as_chunks::<4>().0, |p| [p[0], p[1], p[2]]);
    Image { channels: Channels::Rgb, samples, ..image }
}

/// With an alpha channel that hides nothing, if there was none.
pub(super) fn with_alpha(image: Image) -> Image {
    if image.channels != Channels::Rgb {
        return image;
    }
    let samples = each(image.samples.as_chunks::<3>().0, |p| [p[0], p[1], p[2], 255]);
    Image { channels: Channels::Rgba, samples, ..image }
}

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Gray,
    Rgb,
    /// Straight alpha.
    Rgba,
    /// Ink, 255 being full.
    Cmyk,
}

impl Channels {
    pub(super) fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// A decoded picture, at its own size or smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raster {
    Image(Image),
    /// A JPEG's own planes, full range; they may reach beyond `width` and `height` by less than a block.
    Planes {
        width: u32,
        height: u32,
        subsampling: Subsampling,
        planes: Vec<Plane>,
    },
}

impl Raster {
    /// Width and height of the picture.
    pub(super) fn size(&self) -> (u32, u32) {
        match self {
            Self::Image(image) => (image.width, image.height),
            Self::Planes { width, height, .. } => (*width, *height),
        }
    }
}

/// A finished picture in sRGB, as large as its rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finished {
    /// RGB or RGBA.
    Image(Image),
    /// Luma, and two planes of chroma at half the size, in video range.
    Yuv420 { width: u32, height: u32, y: Vec<u8>, u: Vec<u8>, v: Vec<u8> },
}

impl Finished {
    /// Width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        match self {
            Self::Image(image) => (image.width, image.height),
            Self::Yuv420 { width, height, .. } => (*width, *height),
        }
    }

    /// Red, green, blue and straight alpha, row by row.
    pub(super) fn to_rgba(&self) -> Vec<u8> {
        match self {
            Self::Image(image) if image.channels == Channels::Rgba => image.samples.clone(),
            Self::Image(image) => {
                image.samples.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect()
            }
            Self::Yuv420 { width, height, y, u, v } => {
                let (width, height) = (*width as usize, *height as usize);
                let chroma_width = width.div_ceil(2);
                let mut rgba = Vec::with_capacity(width * height * 4);
                for row in 0..height {
                    for column in 0..width {
                        let chroma = row / 2 * chroma_width + column / 2;
                        rgba.extend(video_to_rgb(y[row * width + column], u[chroma], v[chroma]));
                        rgba.push(255);
                    }
                }
                rgba
            }
        }
    }
}

/// ITU-R BT.601, video range.
fn video_to_rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (f32::from(y) - 16.0, f32::from(u) - 128.0, f32::from(v) - 128.0);
    let y = y * 255.0 / 219.0;
    let k = 255.0 / 224.0;
    [y + 1.402 * k * v, y - (0.344_136 * u + 0.714_136 * v) * k, y + 1.772 * k * u].map(to_u8)
}

/// Rounds and clamps to 8 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
pub(super) fn to_u8(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}
