//! Crops and resizes, in the samples' own encoding, with Lanczos; alpha is premultiplied meanwhile, so that the
//! colour of what cannot be seen does not bleed into what can.

use fast_image_resize::images::{Image as Resized, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::geometry::Crop;
use super::orient::Orientation;
use super::raster::{Channels, Finished, Image};
use crate::codec::turbojpeg::{Plane, Subsampling};

/// What cannot happen with sizes that were checked: reported as data, all the same.
pub(super) type Failed = String;

fn resample(
    samples: &[u8],
    (width, height): (u32, u32),
    pixel: PixelType,
    crop: Crop,
    (to_width, to_height): (u32, u32),
) -> Result<Vec<u8>, Failed> {
    let source = ImageRef::new(width, height, samples, pixel).map_err(|error| error.to_string())?;
    let mut resized = Resized::new(to_width, to_height, pixel);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(crop.left, crop.top, crop.width, crop.height)
        .use_alpha(pixel == PixelType::U8x4);
    Resizer::new().resize(&source, &mut resized, &options).map_err(|error| error.to_string())?;
    Ok(resized.into_vec())
}

/// The part `crop` of `image`, at the size `to`.
pub(super) fn image(image: &Image, crop: Crop, to: (u32, u32)) -> Result<Image, Failed> {
    let size = (image.width, image.height);
    let samples = match image.channels {
        Channels::Gray => resample(&image.samples, size, PixelType::U8, crop, to)?,
        Channels::Rgb => resample(&image.samples, size, PixelType::U8x3, crop, to)?,
        Channels::Rgba => resample(&image.samples, size, PixelType::U8x4, crop, to)?,
        // Four inks look like colours with alpha to the resizer, so each goes on its own.
        Channels::Cmyk => {
            let mut inks = Vec::with_capacity(4);
            for ink in 0..4 {
                let plane: Vec<u8> = image.samples.iter().skip(ink).step_by(4).copied().collect();
                inks.push(resample(&plane, size, PixelType::U8, crop, to)?);
            }
            (0..inks[0].len()).flat_map(|i| [inks[0][i], inks[1][i], inks[2][i], inks[3][i]]).collect()
        }
    };
    Ok(Image { width: to.0, height: to.1, channels: image.channels, samples })
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
    let mut y = resample(&luma.samples, (luma.width, luma.height), PixelType::U8, crop, to)?;
    to_video_range(&mut y, 16.0, 219.0);
    let half = (to.0.div_ceil(2), to.1.div_ceil(2));
    let (across, down) = coarseness(subsampling);
    let mut chroma = planes.iter().skip(1).map(|plane| {
        let part = Crop {
            left: crop.left / across,
            top: crop.top / down,
            width: (crop.width / across).min(f64::from(plane.width) - crop.left / across),
            height: (crop.height / down).min(f64::from(plane.height) - crop.top / down),
        };
        let mut samples = resample(&plane.samples, (plane.width, plane.height), PixelType::U8, part, half)?;
        to_video_range(&mut samples, 128.0 - 128.0 * 224.0 / 255.0, 224.0);
        Ok::<_, Failed>(orientation.apply(samples, half.0, half.1, 1).0)
    });
    let neutral = || Ok(vec![128; half.0 as usize * half.1 as usize]);
    let u = chroma.next().unwrap_or_else(neutral)?;
    let v = chroma.next().unwrap_or_else(neutral)?;
    let (y, width, height) = orientation.apply(y, to.0, to.1, 1);
    Ok(Finished::Yuv420 { width, height, y, u, v })
}

/// From full range (0 to 255) to `offset` + `range` × value / 255.
fn to_video_range(samples: &mut [u8], offset: f32, range: f32) {
    let table: [u8; 256] = std::array::from_fn(|i| {
        super::raster::to_u8(offset + f32::from(u8::try_from(i).unwrap_or(u8::MAX)) * range / 255.0)
    });
    samples.iter_mut().for_each(|sample| *sample = table[usize::from(*sample)]);
}
