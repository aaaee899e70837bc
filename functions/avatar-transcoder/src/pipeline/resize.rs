//! Crops and resizes, in the samples' own encoding, with Lanczos; alpha is premultiplied meanwhile, so that the
//! colour of what cannot be seen does not bleed into what can.

use fast_image_resize::images::{Image as Resized, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::geometry::Crop;
use super::orient::Orientation;
use super::raster::{Channels, Finished, Image};
use crate::codec::turbojpeg::{Plane, Subsampling};

/// One sample a pixel, which is no alpha.
const GRAY: (PixelType, bool) = (PixelType::U8, false);

/// What cannot happen with sizes that were checked: reported as data, all the same.
pub(super) type Failed = String;

fn resample(
    samples: &[u8],
    (width, height): (u32, u32),
    (pixel, has_alpha): (PixelType, bool),
    crop: Crop,
    (to_width, to_height): (u32, u32),
) -> Result<Vec<u8>, Failed> {
    let source = ImageRef::new(width, height, samples, pixel).map_err(|error| error.to_string())?;
    let mut resized = Resized::new(to_width, to_height, pixel);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(crop.left, crop.top, crop.width, crop.height)
        .use_alpha(has_alpha);
    Resizer::new().resize(&source, &mut resized, &options).map_err(|error| error.to_string())?;
    Ok(resized.into_vec())
}

/// The whole of a picture in RGBA, whose samples are somebody else's, at the size `to`.
pub(super) fn rgba(samples: &[u8], size: (u32, u32), to: (u32, u32)) -> Result<Vec<u8>, Failed> {
    let whole = Crop { left: 0.0, top: 0.0, width: f64::from(size.0), height: f64::from(size.1) };
    resample(samples, size, (PixelType::U8x4, true), whole.for_size(to), to)
}

/// The part `crop` of `image`, at the size `to`.
pub(super) fn image(image: &Image, crop: Crop, to: (u32, u32)) -> Result<Image, Failed> {
    let size = (image.width, image.height);
    let crop = crop.for_size(to);
    let samples = match image.channels {
        Channels::Gray => resample(&image.samples, size, GRAY, crop, to)?,
        Channels::Rgb => resample(&image.samples, size, (PixelType::U8x3, false), crop, to)?,
        Channels::Rgba => resample(&image.samples, size, (PixelType::U8x4, true), crop, to)?,
        // Four inks are no colours with alpha.
        Channels::Cmyk => resample(&image.samples, size, (PixelType::U8x4, false), crop, to)?,
    };
    Ok(Image { width: to.0, height: to.1, channels: image.channels, samples })
}

/// The whole of `picture` at the smaller size `to`, in the same form.
pub(super) fn finished(picture: &Finished, to: (u32, u32)) -> Result<Finished, Failed> {
    let whole = |width: u32, height: u32| Crop {
        left: 0.0,
        top: 0.0,
        width: f64::from(width),
        height: f64::from(height),
    };
    Ok(match picture {
        Finished::Image(source) => Finished::Image(image(source, whole(source.width, source.height), to)?),
        Finished::Yuv420 { width, height, y, u, v } => {
            let half = |(width, height): (u32, u32)| (width.div_ceil(2), height.div_ceil(2));
            let (from, chroma) = ((*width, *height), half((*width, *height)));
            let luma = resample(y, from, GRAY, whole(from.0, from.1), to)?;
            let shrink = |plane| resample(plane, chroma, GRAY, whole(chroma.0, chroma.1), half(to));
            Finished::Yuv420 { width: to.0, height: to.1, y: luma, u: shrink(u)?, v: shrink(v)? }
        }
    })
}

/// How much coarser chroma is than luma, across and down.
fn coarseness(subsampling: Subsampling) -> (f64, f64) {
    match subsampling {
        Subsampling::S444 | Subsampling::Gray => (1.0, 1.0),
        Subsampling::S422 => (2.0, 1.0),
        Subsampling::S420 => (2.0, 2.0),
        Subsampling::S440 => (1.0, 2.0),
        Subsampling::S411 => (4.0, 1.0),
    }
}

/// The part `crop` of a JPEG's planes, at the size `to`, turned upright, as the encoder takes it: 4:2:0 in
/// video range, without a detour over red, green and blue.
pub(super) fn planes(
    planes: &[Plane],
    subsampling: Subsampling,
    crop: Crop,
    to: (u32, u32),
    orientation: Orientation,
) -> Result<Finished, Failed> {
    let luma = &planes[0];
    let crop = crop.for_size(to);
    let mut y = resample(&luma.samples, (luma.width, luma.height), GRAY, crop, to)?;
    to_video_range(&mut y, 16.0, 219.0);
    let half = (to.0.div_ceil(2), to.1.div_ceil(2));
    let mut chroma = planes.iter().skip(1).map(|plane| {
        let part = part(plane, crop, coarseness(subsampling));
        let mut samples = resample(&plane.samples, (plane.width, plane.height), GRAY, part, half)?;
        to_video_range(&mut samples, 128.0 - 128.0 * 224.0 / 255.0, 224.0);
        Ok::<_, Failed>(orientation.apply(samples, half.0, half.1, 1).0)
    });
    let neutral = || Ok(vec![128; half.0 as usize * half.1 as usize]);
    let u = chroma.next().unwrap_or_else(neutral)?;
    let v = chroma.next().unwrap_or_else(neutral)?;
    let (y, width, height) = orientation.apply(y, to.0, to.1, 1);
    Ok(Finished::Yuv420 { width, height, y, u, v })
}

/// The part `crop` of a JPEG's planes, all of them at the size `to`, in full range.
pub(super) fn same_size(
    planes: &[Plane],
    subsampling: Subsampling,
    crop: Crop,
    to: (u32, u32),
) -> Result<Vec<Vec<u8>>, Failed> {
    let coarse = coarseness(subsampling);
    planes
        .iter()
        .zip([(1.0, 1.0), coarse, coarse])
        .map(|(plane, coarseness)| {
            let size = (plane.width, plane.height);
            resample(&plane.samples, size, GRAY, part(plane, crop, coarseness), to)
        })
        .collect()
}

/// The part `crop` of a JPEG's planes as pixels of the size `to`: chroma is brought to that size on its own.
pub(super) fn pixels(
    planes: &[Plane],
    subsampling: Subsampling,
    crop: Crop,
    to: (u32, u32),
) -> Result<Image, Failed> {
    let mut planes = same_size(planes, subsampling, crop.for_size(to), to)?.into_iter();
    let luma = planes.next().unwrap_or_default();
    let (channels, samples) = match (planes.next(), planes.next()) {
        (Some(blue), Some(red)) => {
            let mut samples = vec![0; luma.len() * 3];
            let pixels = samples.as_chunks_mut::<3>().0.iter_mut();
            for (((rgb, y), u), v) in pixels.zip(&luma).zip(&blue).zip(&red) {
                *rgb = full_to_rgb(*y, *u, *v);
            }
            (Channels::Rgb, samples)
        }
        _ => (Channels::Gray, luma),
    };
    Ok(Image { width: to.0, height: to.1, channels, samples })
}

/// JFIF: ITU-R BT.601 in full range, in 65536ths.
fn full_to_rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (i32::from(y) << 16, i32::from(u) - 128, i32::from(v) - 128);
    let rounded = |sum: i32| u8::try_from(((sum + (1 << 15)) >> 16).clamp(0, 255)).unwrap_or(u8::MAX);
    [y + 91_881 * v, y - 22_553 * u - 46_802 * v, y + 116_130 * u].map(rounded)
}

/// The same part in a plane that is coarser.
fn part(plane: &Plane, crop: Crop, (across, down): (f64, f64)) -> Crop {
    Crop {
        left: crop.left / across,
        top: crop.top / down,
        width: (crop.width / across).min(f64::from(plane.width) - crop.left / across),
        height: (crop.height / down).min(f64::from(plane.height) - crop.top / down),
    }
}

/// From full range (0 to 255) to `offset` + `range` × value / 255.
fn to_video_range(samples: &mut [u8], offset: f32, range: f32) {
    let table: [u8; 256] = std::array::from_fn(|i| {
        super::raster::to_u8(offset + f32::from(u8::try_from(i).unwrap_or(u8::MAX)) * range / 255.0)
    });
    samples.iter_mut().for_each(|sample| *sample = table[usize::from(*sample)]);
}
