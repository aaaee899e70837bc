//! Lays a picture over a rendition.

use super::geometry;
use super::raster::{Channels, Image};
use super::recipe::{Fit, Gravity, Watermark};
use super::resize;

/// `image` (RGB or RGBA) with `mark` over it. The mark's longer side is [`Watermark::scale`] of the image's
/// shorter one; it is not enlarged.
pub(super) fn lay_over(mut image: Image, mark: &Watermark) -> Image {
    let Some(mark_image) = scaled(&image, mark) else { return image };
    let (left, top) = place((image.width, image.height), (mark_image.width, mark_image.height), mark.gravity);
    let channels = image.channels.count();
    for row in 0..mark_image.height as usize {
        for column in 0..mark_image.width as usize {
            let over = (row * mark_image.width as usize + column) * 4;
            let under = ((top as usize + row) * image.width as usize + left as usize + column) * channels;
            let over = &mark_image.samples[over..over + 4];
            blend(&mut image.samples[under..under + channels], over, mark.opacity);
        }
    }
    image
}

/// `mark` as large as a rendition of `edge` needs it, so that a large one is not held beside every upload.
pub(super) fn shrunk(mark: Watermark, edge: u32) -> Watermark {
    let (width, height) = size(&mark, edge);
    if (width, height) == (mark.width, mark.height) {
        return mark;
    }
    match resize::rgba(&mark.rgba, (mark.width, mark.height), (width, height)) {
        Ok(rgba) => Watermark { width, height, rgba, ..mark },
        Err(_) => mark,
    }
}

fn scaled(image: &Image, mark: &Watermark) -> Option<Image> {
    let (width, height) = size(mark, image.width.min(image.height));
    let samples = resize::rgba(&mark.rgba, (mark.width, mark.height), (width, height)).ok()?;
    Some(Image { width, height, channels: Channels::Rgba, samples })
}

/// The width and height of a mark on an image whose shorter side is `short`.
fn size(mark: &Watermark, short: u32) -> (u32, u32) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the image's side"
    )]
    let edge = (f64::from(short) * f64::from(mark.scale.clamp(0.0, 1.0))).round().max(1.0) as u32;
    geometry::target(mark.width, mark.height, Fit::Contain, edge)
}

/// The left and top of a mark.
fn place((width, height): (u32, u32), (mark_width, mark_height): (u32, u32), gravity: Gravity) -> (u32, u32) {
    let (right, bottom) = (width - mark_width, height - mark_height);
    let left = match gravity {
        Gravity::West | Gravity::NorthWest | Gravity::SouthWest => 0,
        Gravity::East | Gravity::NorthEast | Gravity::SouthEast => right,
        Gravity::Centre | Gravity::North | Gravity::South => right / 2,
    };
    let top = match gravity {
        Gravity::North | Gravity::NorthEast | Gravity::NorthWest => 0,
        Gravity::South | Gravity::SouthEast | Gravity::SouthWest => bottom,
        Gravity::Centre | Gravity::East | Gravity::West => bottom / 2,
    };
    (left, top)
}

/// `over` (straight alpha) on `under`, which may have alpha itself (Porter and Duff's "over").
fn blend(under: &mut [u8], over: &[u8], opacity: f32) {
    let alpha = f32::from(over[3]) / 255.0 * opacity.clamp(0.0, 1.0);
    let below = under.get(3).map_or(1.0, |alpha| f32::from(*alpha) / 255.0);
    let result = alpha + below * (1.0 - alpha);
    if result <= 0.0 {
        return;
    }
    for channel in 0..3 {
        let mixed = f32::from(over[channel]) * alpha + f32::from(under[channel]) * below * (1.0 - alpha);
        under[channel] = super::raster::to_u8(mixed / result);
    }
    if let Some(alpha) = under.get_mut(3) {
        *alpha = super::raster::to_u8(result * 255.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(gravity: Gravity, opacity: f32) -> Watermark {
        Watermark { width: 2, height: 2, rgba: [255, 0, 0, 255].repeat(4), gravity, opacity, scale: 0.5 }
    }

    fn ground() -> Image {
        Image { width: 4, height: 4, channels: Channels::Rgb, samples: vec![0; 48] }
    }

    fn red_at(image: &Image, x: usize, y: usize) -> u8 {
        image.samples[(y * 4 + x) * 3]
    }

    #[test]
    fn a_mark_stands_where_gravity_pulls_it() {
        for (gravity, x, y) in [
            (Gravity::NorthWest, 0, 0),
            (Gravity::SouthEast, 3, 3),
            (Gravity::Centre, 1, 1),
            (Gravity::NorthEast, 3, 0),
        ] {
            let marked = lay_over(ground(), &mark(gravity, 1.0));
            assert_eq!(red_at(&marked, x, y), 255, "{gravity:?}");
            let reds = marked.samples.iter().filter(|sample| **sample == 255).count();
            assert_eq!(reds, 4, "{gravity:?}");
        }
    }

    #[test]
    fn opacity_mixes() {
        let marked = lay_over(ground(), &mark(Gravity::NorthWest, 0.5));
        assert_eq!(red_at(&marked, 0, 0), 128);
    }
}
