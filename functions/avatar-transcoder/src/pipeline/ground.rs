//! Lays a picture on a ground: a square that a picture which is kept whole does not fill, and a colour behind what
//! can be seen through.

use super::raster::{Channels, Image};
use super::recipe::{Fit, Ground};

/// `image` (RGB or RGBA) on `ground`: in the middle of a square, if it is to be kept whole.
pub(super) fn lay_on(image: Image, ground: Ground, fit: Fit) -> Image {
    let image = match ground {
        Ground::Colour(colour) => flattened(image, colour),
        Ground::Transparent => image,
    };
    if fit == Fit::Cover || image.width == image.height {
        return image;
    }
    let side = image.width.max(image.height);
    let channels = match ground {
        Ground::Colour(_) => Channels::Rgb,
        Ground::Transparent => Channels::Rgba,
    };
    let pixel: &[u8] = match &ground {
        Ground::Colour(colour) => colour,
        Ground::Transparent => &[0; 4],
    };
    let mut samples = pixel.repeat(side as usize * side as usize);
    let (left, top) = ((side - image.width) / 2, (side - image.height) / 2);
    let (from, to) = (image.channels.count(), channels.count());
    for (row, line) in image.samples.chunks_exact(image.width as usize * from).enumerate() {
        let start = ((top as usize + row) * side as usize + left as usize) * to;
        for (under, over) in samples[start..].chunks_exact_mut(to).zip(line.chunks_exact(from)) {
            // Where the ground can be seen through and the picture cannot, it is opaque.
            under[to - 1] = 255;
            under[..from].copy_from_slice(over);
        }
    }
    Image { width: side, height: side, channels, samples }
}

/// What is seen of `image` on `colour`.
fn flattened(image: Image, colour: [u8; 3]) -> Image {
    if image.channels != Channels::Rgba {
        return image;
    }
    let samples = image
        .samples
        .chunks_exact(4)
        .flat_map(|pixel| {
            let alpha = u32::from(pixel[3]);
            std::array::from_fn::<u8, 3, _>(|i| {
                let mixed = u32::from(pixel[i]) * alpha + u32::from(colour[i]) * (255 - alpha);
                u8::try_from((mixed + 127) / 255).unwrap_or(u8::MAX)
            })
        })
        .collect();
    Image { channels: Channels::Rgb, samples, ..image }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(channels: Channels, pixel: &[u8]) -> Image {
        Image { width: 4, height: 2, channels, samples: pixel.repeat(8) }
    }

    #[test]
    fn a_whole_picture_stands_in_the_middle_of_its_ground() {
        let laid = lay_on(wide(Channels::Rgb, &[1, 2, 3]), Ground::Transparent, Fit::Contain);
        assert_eq!((laid.width, laid.height, laid.channels), (4, 4, Channels::Rgba));
        let expected = [[0, 0, 0, 0].repeat(4), [1, 2, 3, 255].repeat(8), [0, 0, 0, 0].repeat(4)].concat();
        assert_eq!(laid.samples, expected);
        let laid = lay_on(wide(Channels::Rgb, &[1, 2, 3]), Ground::Colour([9, 8, 7]), Fit::Contain);
        assert_eq!(laid.samples, [[9, 8, 7].repeat(4), [1, 2, 3].repeat(8), [9, 8, 7].repeat(4)].concat());
    }

    #[test]
    fn a_colour_is_seen_through_what_is_transparent() {
        let laid = lay_on(wide(Channels::Rgba, &[255, 0, 0, 51]), Ground::Colour([0, 0, 255]), Fit::Cover);
        assert_eq!((laid.width, laid.height, laid.channels), (4, 2, Channels::Rgb));
        assert_eq!(laid.samples[..3], [51, 0, 204]);
        let kept = lay_on(wide(Channels::Rgba, &[255, 0, 0, 51]), Ground::Transparent, Fit::Cover);
        assert_eq!(kept, wide(Channels::Rgba, &[255, 0, 0, 51]));
    }
}
