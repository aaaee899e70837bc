//! Looks for the square of a picture that people would keep: where there is detail, what differs from the rest,
//! and what has the colour of skin.
//!
//! It works on a copy of 48 pixels across, in whole numbers, so that it costs little and always finds the same.
//! Where nothing stands out, it says so, and the square in the middle is kept.

use super::colour;
use super::geometry::Crop;
use super::raster::{Channels, Image, Raster};
use super::resize;
use crate::codec::turbojpeg::{Plane, Subsampling};

/// The shorter side of the copy that is looked at.
const SHORT_SIDE: u32 = 48;

/// The longer side at most: what is longer is looked at more coarsely.
const LONG_SIDE: u32 = 48 * 16;

/// How much better than the middle a square has to be, in percent.
const BETTER_PERCENT: u64 = 104;

/// Differences of brightness up to this are noise.
const NOISE: i32 = 3;

/// Luma and the two differences of colour, with neutral at 128.
type Pixel = [u8; 3];

/// A small copy of a picture.
struct Copy {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
    /// How much of each pixel is seen.
    alpha: Vec<u8>,
}

/// The square that stands out; `None` where none does, or the picture is square already.
pub(super) fn square(raster: &Raster) -> Option<Crop> {
    match raster {
        Raster::Image(image) => square_of_image(image),
        Raster::Planes { width, height, subsampling, planes } => {
            found(*width, *height, |all, to| Copy::of_planes(planes, *subsampling, all, to))
        }
    }
}

/// The same of an image.
pub(super) fn square_of_image(image: &Image) -> Option<Crop> {
    found(image.width, image.height, |all, to| Copy::of_image(image, all, to))
}

/// The same of a picture of which `copy` makes a copy of another size.
fn found(width: u32, height: u32, copy: impl FnOnce(Crop, (u32, u32)) -> Option<Copy>) -> Option<Crop> {
    if width == height {
        return None;
    }
    let all = Crop { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) };
    let copy = copy(all, small(width, height))?;
    let weights = copy.weights();
    let lies = width > height;
    let (long, short) = if lies { (copy.width, copy.height) } else { (copy.height, copy.width) };
    let mut along = vec![0_u64; long];
    for (i, weight) in weights.iter().enumerate() {
        let (x, y) = (i % copy.width, i / copy.width);
        along[if lies { x } else { y }] += weight;
    }
    let offset = best_offset(&along, short)?;

    let side = f64::from(width.min(height));
    let room = f64::from(width.max(height)) - side;
    let moved = (offset as f64 * (f64::from(width.max(height)) / long as f64)).round().clamp(0.0, room);
    let (left, top) = if lies { (moved, 0.0) } else { (0.0, moved) };
    Some(Crop { left, top, width: side, height: side })
}

/// The size of the copy of a picture of `width` × `height`.
fn small(width: u32, height: u32) -> (u32, u32) {
    let (short, long) = (width.min(height), width.max(height));
    let smaller = |side: u32| {
        let by_short = u64::from(side) * u64::from(SHORT_SIDE) / u64::from(short.max(SHORT_SIDE));
        let by_long = u64::from(side) * u64::from(LONG_SIDE) / u64::from(long.max(LONG_SIDE));
        u32::try_from(by_short.min(by_long)).unwrap_or(LONG_SIDE).max(1)
    };
    (smaller(width), smaller(height))
}

/// Where a window of `window` entries has the most weight, with what lies in its middle counting most.
fn best_offset(along: &[u64], window: usize) -> Option<usize> {
    let last = along.len().checked_sub(window).filter(|last| *last > 0)?;
    let side = window as u64;
    let score = |offset: usize| {
        let weighted = along[offset..offset + window].iter().zip(0_u64..).map(|(weight, i)| {
            let from_middle = (2 * i + 1).abs_diff(side);
            // At an edge it counts a quarter of what it does in the middle.
            weight * (4 * side * side - 3 * from_middle * from_middle)
        });
        weighted.sum::<u64>()
    };
    let middle = score(last / 2);
    // Of equals, the one nearest to the middle.
    let best =
        (0..=last).max_by_key(|offset| (score(*offset), std::cmp::Reverse(offset.abs_diff(last / 2))))?;
    (score(best) * 100 > middle * BETTER_PERCENT).then_some(best)
}

impl Copy {
    fn of_planes(planes: &[Plane], subsampling: Subsampling, all: Crop, to: (u32, u32)) -> Option<Self> {
        let size = (to.0 as usize, to.1 as usize);
        let area = size.0 * size.1;
        let small = resize::same_size(planes, subsampling, all, to).ok()?;
        let sample = |plane: usize, i: usize| small.get(plane).map_or(128, |samples| samples[i]);
        let pixels = (0..area).map(|i| [sample(0, i), sample(1, i), sample(2, i)]).collect();
        Some(Self { width: size.0, height: size.1, pixels, alpha: vec![255; area] })
    }

    fn of_image(image: &Image, all: Crop, to: (u32, u32)) -> Option<Self> {
        let small = colour::to_srgb(resize::image(image, all, to).ok()?, None);
        let (pixels, alpha) = (luma_and_colour(&small), alpha(&small));
        Some(Self { width: to.0 as usize, height: to.1 as usize, pixels, alpha })
    }

    /// How much each pixel draws the eye.
    fn weights(&self) -> Vec<u64> {
        let mean = self.mean();
        (0..self.pixels.len())
            .map(|i| {
                let pixel = self.pixels[i];
                let difference = |channel: usize| i32::from(pixel[channel]).abs_diff(mean[channel]);
                let stands_out = difference(0) / 2 + 2 * (difference(1) + difference(2));
                let detail = (self.detail(i) - NOISE).max(0).unsigned_abs();
                // People look at faces before anything else, however loud the rest is.
                let weight = 2 * detail + stands_out.saturating_sub(8) / 2 + 10 * skin(pixel);
                u64::from(weight) * u64::from(self.alpha[i])
            })
            .collect()
    }

    fn mean(&self) -> [i32; 3] {
        let count = i64::try_from(self.pixels.len()).unwrap_or(i64::MAX).max(1);
        std::array::from_fn(|channel| {
            let sum: i64 = self.pixels.iter().map(|pixel| i64::from(pixel[channel])).sum();
            i32::try_from(sum / count).unwrap_or(128)
        })
    }

    /// How much brighter or darker a pixel is than its four neighbours are together.
    fn detail(&self, i: usize) -> i32 {
        let (x, y) = (i % self.width, i / self.width);
        let luma = |x: usize, y: usize| i32::from(self.pixels[y * self.width + x][0]);
        let here = luma(x, y);
        let left = luma(x.saturating_sub(1), y);
        let right = luma((x + 1).min(self.width - 1), y);
        let above = luma(x, y.saturating_sub(1));
        let below = luma(x, (y + 1).min(self.height - 1));
        ((4 * here - left - right - above - below) / 2).abs()
    }
}

/// How close a colour is to skin, of any lightness: its differences of colour lie in one small region.
fn skin([luma, blue, red]: Pixel) -> u32 {
    if !(40..=240).contains(&luma) {
        return 0;
    }
    let away = i32::from(blue).abs_diff(110) * 2 + i32::from(red).abs_diff(150) * 2;
    64_u32.saturating_sub(away)
}

/// ITU-R BT.601, full range, in whole numbers.
fn luma_and_colour(image: &Image) -> Vec<Pixel> {
    let to_byte = |value: i32| u8::try_from(value.clamp(0, 255)).unwrap_or_default();
    image
        .samples
        .chunks_exact(image.channels.count())
        .map(|pixel| {
            let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
            let luma = (77 * red + 150 * green + 29 * blue + 128) / 256;
            [
                to_byte(luma),
                to_byte(128 + (144 * (blue - luma)) / 256),
                to_byte(128 + (183 * (red - luma)) / 256),
            ]
        })
        .collect()
}

fn alpha(image: &Image) -> Vec<u8> {
    match image.channels {
        Channels::Rgba => image.samples.iter().skip(3).step_by(4).copied().collect(),
        _ => vec![255; image.samples.len() / image.channels.count()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn painted(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Raster {
        let samples = (0..width * height).flat_map(|i| pixel(i % width, i / width)).collect();
        Raster::Image(Image { width, height, channels: Channels::Rgb, samples })
    }

    /// A red disc of 30 pixels across on a gray ground.
    fn disc(width: u32, height: u32, (x, y): (u32, u32)) -> Raster {
        painted(width, height, |px, py| {
            if px.abs_diff(x).pow(2) + py.abs_diff(y).pow(2) < 15 * 15 { [220, 40, 30] } else { [120; 3] }
        })
    }

    #[test]
    fn a_subject_is_found_wherever_it_is() {
        for x in [20, 90, 150, 220, 280] {
            let crop = square(&disc(300, 100, (x, 50))).map_or(100.0, |crop| crop.left);
            let centre = (f64::from(x) - 50.0).clamp(0.0, 200.0);
            assert!((crop - centre).abs() < 20.0, "at {x}: {crop}, not about {centre}");
            let crop = square(&disc(100, 300, (50, x))).map_or(100.0, |crop| crop.top);
            assert!((crop - centre).abs() < 20.0, "down at {x}: {crop}, not about {centre}");
        }
    }

    #[test]
    fn a_subject_is_found_in_the_planes_of_a_jpeg() {
        let plane = |width: u32, height: u32, left: u32, inside: u8| Plane {
            width,
            height,
            samples: (0..width * height)
                .map(|i| if (left..left + width / 10).contains(&(i % width)) { inside } else { 128 })
                .collect(),
        };
        for (left, expected) in [(0, 0.0), (260, 200.0)] {
            let planes =
                vec![plane(300, 100, left, 90), plane(150, 50, left / 2, 110), plane(150, 50, left / 2, 190)];
            let raster = Raster::Planes { width: 300, height: 100, subsampling: Subsampling::S420, planes };
            assert_eq!(square(&raster).unwrap().left, expected);
        }
    }

    #[test]
    fn where_nothing_stands_out_there_is_no_answer() {
        assert_eq!(square(&painted(300, 100, |_, _| [200, 10, 10])), None, "blank");
        assert_eq!(
            square(&painted(300, 100, |x, y| [100 + u8::try_from((x * 7 + y * 13) % 5).unwrap(); 3])),
            None,
            "texture"
        );
        assert_eq!(square(&disc(200, 200, (20, 20))), None, "square already");
        assert_eq!(square(&disc(300, 100, (150, 50))), None, "in the middle");
    }

    #[test]
    fn transparent_pixels_draw_no_eye() {
        let samples = (0..300 * 100)
            .flat_map(|i| match i % 300 {
                x if x > 260 && x % 8 < 4 => [255, 255, 255, 0],
                x if x < 30 => [255, 0, 0, 255],
                _ => [0, 0, 0, 0],
            })
            .collect();
        let raster = Raster::Image(Image { width: 300, height: 100, channels: Channels::Rgba, samples });
        let crop = square(&raster).unwrap();
        assert!(crop.left < 10.0, "{crop:?}");
    }

    proptest! {
        #[test]
        fn it_stays_inside_of_every_picture(
            width in 1_u32..400, height in 1_u32..400, seed in any::<u32>(), channels in 0_usize..4,
        ) {
            let channels = [Channels::Gray, Channels::Rgb, Channels::Rgba, Channels::Cmyk][channels];
            let mut state = seed;
            let samples = (0..width as usize * height as usize * channels.count())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            let raster = Raster::Image(Image { width, height, channels, samples });
            if let Some(crop) = square(&raster) {
                prop_assert_eq!((crop.width, crop.height), (f64::from(width.min(height)), f64::from(width.min(height))));
                prop_assert!(crop.left >= 0.0 && crop.left + crop.width <= f64::from(width));
                prop_assert!(crop.top >= 0.0 && crop.top + crop.height <= f64::from(height));
                prop_assert_eq!(square(&raster), Some(crop), "it finds the same again");
            }
        }
    }
}
