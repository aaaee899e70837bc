//! Shrinks a picture by a whole number while its rows arrive, so that a large one is never held whole.
//!
//! Each pixel of the result is the mean of a square of pixels, weighted by alpha. That is as good as any filter while
//! the resizer, which follows, still has twice the pixels it needs.

use super::geometry;
use super::raster::{Channels, Image};
use super::recipe::Recipe;

/// How much larger than the rendition a picture is left.
const HEADROOM: u32 = 2;

/// Sums of as many samples of 8 bits fit into 16.
const LARGEST: u32 = 256;

/// The whole number by which a picture of `width` × `height` can be shrunk before `recipe` is followed; 1 for most.
pub(super) fn factor(width: u32, height: u32, recipe: &Recipe) -> u32 {
    let side = geometry::measured_side(width, height, recipe.fit);
    (side / recipe.largest_edge().saturating_mul(HEADROOM)).clamp(1, LARGEST)
}

/// Pixels that are left of each, across and down.
pub(super) fn scale(width: u32, height: u32, recipe: &Recipe) -> (f64, f64) {
    let scale = 1.0 / f64::from(factor(width, height, recipe));
    (scale, scale)
}

/// The length of a side that was shrunk by `factor`: what is left at the end is a pixel of its own.
pub(super) fn shrunk(side: u32, factor: u32) -> u32 {
    side.div_ceil(factor)
}

/// Takes rows, gives a picture.
pub(super) struct Shrinker {
    factor: usize,
    channels: Channels,
    /// Samples of a row that arrives.
    row: usize,
    /// Sums over the rows of a square; colours are multiplied by alpha.
    sums: Sums,
    rows_in_sums: usize,
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

enum Sums {
    /// Without alpha. Sixteen bits are enough for [`LARGEST`] rows, and twice as fast.
    Plain(Vec<u16>),
    Weighted(Vec<u32>),
}

impl Shrinker {
    /// For a picture of `width` × `height`, to be shrunk by `factor`.
    pub(super) fn new(width: u32, height: u32, channels: Channels, factor: u32) -> Self {
        let row = width as usize * channels.count();
        let sums = match (factor, channels) {
            (1, _) => Sums::Plain(Vec::new()),
            (_, Channels::Rgba) => Sums::Weighted(vec![0; row]),
            _ => Sums::Plain(vec![0; row]),
        };
        let (width, height) = (shrunk(width, factor), shrunk(height, factor));
        Self {
            factor: factor as usize,
            channels,
            row,
            sums,
            rows_in_sums: 0,
            width,
            height,
            samples: Vec::with_capacity(width as usize * height as usize * channels.count()),
        }
    }

    /// Takes the next row, or several whole ones.
    pub(super) fn push(&mut self, rows: &[u8]) {
        if self.factor == 1 {
            self.samples.extend_from_slice(rows);
            return;
        }
        for row in rows.chunks_exact(self.row) {
            match &mut self.sums {
                Sums::Plain(sums) => sums.iter_mut().zip(row).for_each(|(sum, s)| *sum += u16::from(*s)),
                Sums::Weighted(sums) => {
                    for (sum, pixel) in sums.as_chunks_mut::<4>().0.iter_mut().zip(row.as_chunks::<4>().0) {
                        let alpha = u32::from(pixel[3]);
                        sum[0] += u32::from(pixel[0]) * alpha;
                        sum[1] += u32::from(pixel[1]) * alpha;
                        sum[2] += u32::from(pixel[2]) * alpha;
                        sum[3] += alpha;
                    }
                }
            }
            self.rows_in_sums += 1;
            if self.rows_in_sums == self.factor {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let rows = self.rows_in_sums;
        match (&mut self.sums, self.channels) {
            (Sums::Weighted(sums), _) => {
                weigh(sums, self.factor, rows, &mut self.samples);
                sums.fill(0);
            }
            (Sums::Plain(sums), Channels::Gray) => {
                average::<1>(sums, self.factor, rows, &mut self.samples);
                sums.fill(0);
            }
            (Sums::Plain(sums), Channels::Rgb) => {
                average::<3>(sums, self.factor, rows, &mut self.samples);
                sums.fill(0);
            }
            (Sums::Plain(sums), Channels::Rgba | Channels::Cmyk) => {
                average::<4>(sums, self.factor, rows, &mut self.samples);
                sums.fill(0);
            }
        }
        self.rows_in_sums = 0;
    }

    /// The picture; `None` if rows are missing or too many.
    pub(super) fn finish(mut self) -> Option<Image> {
        if self.rows_in_sums > 0 {
            self.flush();
        }
        let (width, height, channels) = (self.width, self.height, self.channels);
        let expected = width as usize * height as usize * channels.count();
        (self.samples.len() == expected).then_some(Image { width, height, channels, samples: self.samples })
    }
}

/// Divides by a number of samples, rounding, by a product and a shift: a division for each mean takes most of the time.
#[derive(Debug, Clone, Copy)]
struct Divisor {
    half: u64,
    reciprocal: u64,
}

impl Divisor {
    /// What is rounded up in the reciprocal does not show in a quotient of up to 255: this shift has more than twice the
    /// bits of the largest number, and eight.
    const SHIFT: u32 = 40;

    fn new(samples: usize) -> Self {
        let samples = samples.max(1) as u64;
        Self { half: samples / 2, reciprocal: (1_u64 << Self::SHIFT).div_ceil(samples) }
    }

    fn mean(self, total: u64) -> u8 {
        to_u8(((total + self.half) * self.reciprocal) >> Self::SHIFT)
    }
}

/// Means of blocks of `factor` pixels across and `rows` down.
fn average<const CHANNELS: usize>(sums: &[u16], factor: usize, rows: usize, samples: &mut Vec<u8>) {
    // Nearly all of large pictures are halved, for which the compiler can do better if it knows.
    match factor {
        2 => average_by::<CHANNELS>(sums, 2, rows, samples),
        3 => average_by::<CHANNELS>(sums, 3, rows, samples),
        _ => average_by::<CHANNELS>(sums, factor, rows, samples),
    }
}

#[inline(always)]
fn average_by<const CHANNELS: usize>(sums: &[u16], factor: usize, rows: usize, samples: &mut Vec<u8>) {
    let start = samples.len();
    samples.resize(start + (sums.len() / CHANNELS).div_ceil(factor) * CHANNELS, 0);
    let means = samples[start..].as_chunks_mut::<CHANNELS>().0;
    let whole = Divisor::new(factor * rows);
    for (mean, block) in means.iter_mut().zip(sums.chunks(factor * CHANNELS)) {
        let mut total = [0_u32; CHANNELS];
        for pixel in block.as_chunks::<CHANNELS>().0 {
            for (total, sample) in total.iter_mut().zip(pixel) {
                *total += u32::from(*sample);
            }
        }
        let divisor = if block.len() == factor * CHANNELS {
            whole
        } else {
            Divisor::new(block.len() / CHANNELS * rows)
        };
        *mean = total.map(|total| divisor.mean(total.into()));
    }
}

/// The same for colours multiplied by alpha. What cannot be seen has no colour.
fn weigh(sums: &[u32], factor: usize, rows: usize, samples: &mut Vec<u8>) {
    let start = samples.len();
    samples.resize(start + (sums.len() / 4).div_ceil(factor) * 4, 0);
    let means = samples[start..].as_chunks_mut::<4>().0;
    let whole = Divisor::new(factor * rows);
    for (mean, block) in means.iter_mut().zip(sums.chunks(factor * 4)) {
        let mut total = [0_u64; 4];
        for pixel in block.as_chunks::<4>().0 {
            for (total, sum) in total.iter_mut().zip(pixel) {
                *total += u64::from(*sum);
            }
        }
        let [red, green, blue, alpha] = total;
        if alpha == 0 {
            continue;
        }
        let divisor = if block.len() == factor * 4 { whole } else { Divisor::new(block.len() / 4 * rows) };
        let scale = 1.0 / as_float(alpha);
        let colour = |sum: u64| super::raster::to_u8(as_float(sum) * scale);
        *mean = [colour(red), colour(green), colour(blue), divisor.mean(alpha)];
    }
}

/// Seven digits, where three are kept.
#[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
fn as_float(sum: u64) -> f32 {
    sum as f32
}

fn to_u8(mean: u64) -> u8 {
    u8::try_from(mean).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shrink(width: u32, height: u32, channels: Channels, factor: u32, samples: &[u8]) -> Image {
        let mut shrinker = Shrinker::new(width, height, channels, factor);
        for row in samples.chunks_exact(width as usize * channels.count()) {
            shrinker.push(row);
        }
        shrinker.finish().unwrap()
    }

    #[test]
    fn pictures_are_left_twice_as_large_as_they_are_wanted() {
        let recipe = Recipe::default();
        assert_eq!(factor(1023, 2000, &recipe), 1);
        assert_eq!(factor(4096, 2048, &recipe), 2);
        assert_eq!(factor(9000, 9000, &recipe), 8);
        assert_eq!(factor(u32::MAX, u32::MAX, &Recipe { edge: 16, ..recipe.clone() }), LARGEST);
        assert_eq!(factor(5000, 5000, &Recipe { edge: u32::MAX, ..recipe }), 1);
    }

    #[test]
    fn what_cannot_be_seen_lends_no_colour() {
        let samples = [255, 0, 0, 255, 0, 255, 0, 0, 255, 0, 0, 255, 0, 255, 0, 0];
        assert_eq!(shrink(2, 2, Channels::Rgba, 2, &samples).samples, [255, 0, 0, 128]);
        assert_eq!(shrink(2, 1, Channels::Rgba, 2, &[9, 9, 9, 0, 7, 7, 7, 0]).samples, [0, 0, 0, 0]);
    }

    #[test]
    fn missing_rows_are_noticed() {
        let mut shrinker = Shrinker::new(4, 4, Channels::Gray, 2);
        shrinker.push(&[1; 4]);
        assert!(shrinker.finish().is_none());
    }

    proptest! {
        #[test]
        fn a_flat_picture_stays_flat(
            width in 1_u32..40, height in 1_u32..40, factor in 1_u32..9, colour in any::<[u8; 3]>(), alpha in 1_u8..,
        ) {
            let pixels = (width * height) as usize;
            let [r, g, b] = colour;
            for (channels, pixel) in [
                (Channels::Gray, vec![r]), (Channels::Rgb, vec![r, g, b]),
                (Channels::Rgba, vec![r, g, b, alpha]), (Channels::Cmyk, vec![r, g, b, alpha]),
            ] {
                let small = shrink(width, height, channels, factor, &pixel.repeat(pixels));
                prop_assert_eq!((small.width, small.height), (width.div_ceil(factor), height.div_ceil(factor)));
                prop_assert!(small.samples.chunks_exact(pixel.len()).all(|seen| seen == pixel));
            }
        }

        #[test]
        fn a_product_and_a_shift_divide(count in 1_usize..=65_536, part in 0.0..=1.0_f64) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
            let total = (part * (count * 255) as f64) as u64;
            for total in [total, total / count as u64 * count as u64 + count as u64 / 2] {
                let exact = (total + count as u64 / 2) / count as u64;
                prop_assert_eq!(u64::from(Divisor::new(count).mean(total)), exact.min(255));
            }
        }

        #[test]
        fn the_mean_of_a_square_is_its_pixel(samples in prop::collection::vec(any::<u8>(), 16)) {
            let small = shrink(4, 4, Channels::Gray, 4, &samples);
            let sum: u32 = samples.iter().map(|s| u32::from(*s)).sum();
            prop_assert_eq!(u32::from(small.samples[0]), (sum + 8) / 16);
        }
    }
}
