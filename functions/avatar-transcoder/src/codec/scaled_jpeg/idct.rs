//! From coefficients to two by two samples or one, with the integers of libjpeg's `jidctred.c`, bit for bit.
//!
//! Every coefficient is multiplied and added to its sum as it is decoded. What no picture has, and what
//! implementations of libjpeg's differ in therefore, is marked as strange: sums that leave their range.

use std::array;

/// Fractions of 13 bits, as in libjpeg.
const BITS: u32 = 13;

/// Factors of the odd rows and columns: 1, 3, 5, 7.
const ODD: [i32; 4] = [29692, -10426, 6967, -5906];

/// Of columns 0, 1, 3, 5 and 7; the rest is there for whole vectors.
const LANES: usize = 8;

/// What a coefficient does in a block: it is multiplied and added to a sum.
#[derive(Debug, Clone, Copy, Default)]
struct Term {
    sum: u16,
    divisor: u16,
    factor: i32,
}

/// Terms by place in zigzag order; those of rows and columns 2, 4 and 6, and beyond the block, do nothing.
#[derive(Debug)]
pub(super) struct Terms([Term; 256]);

/// Sums of a block by columns: its first row, then its odd ones, weighted.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums([i32; 2 * LANES]);

/// Rows and columns in zigzag order.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The coefficients that are summed up, but for the mean: a bit for each, in zigzag order.
pub(super) const SUMMED: u64 = {
    let (mut summed, mut at) = (0, 1);
    while at < 64 {
        let (row, column) = (ZIGZAG[at] / 8, ZIGZAG[at] % 8);
        if (row == 0 || row % 2 == 1) && (column == 0 || column % 2 == 1) {
            summed |= 1 << at;
        }
        at += 1;
    }
    summed
};

/// Not zero where `value` takes more than `bits` bits and a sign.
#[inline(always)]
pub(super) fn outside(value: i32, bits: u32) -> u32 {
    (value.wrapping_add(1 << bits) as u32) >> (bits + 1)
}

/// A sample, once its fraction is off.
#[inline(always)]
fn sample(value: i32, strange: &mut u32) -> u8 {
    *strange |= outside(value, 9);
    value.wrapping_add(128).clamp(0, 255) as u8
}

/// The sample that a block without any other coefficient has everywhere, and the only one where it is reduced to it.
#[inline(always)]
pub(super) fn flat(mean: i32, divisor: i32, strange: &mut u32) -> u8 {
    let value = mean.wrapping_mul(divisor);
    *strange |= outside(value, 11);
    sample(value.wrapping_add(4) >> 3, strange)
}

impl Terms {
    pub(super) fn new(divisors: &[u8; 64]) -> Self {
        let mut terms = [Term::default(); 256];
        for ((term, place), divisor) in terms.iter_mut().zip(ZIGZAG).zip(divisors) {
            let (row, column) = (usize::from(place / 8), usize::from(place % 8));
            let divisor = u16::from(*divisor);
            // Where nothing is added, the product may all the same be too large.
            *term = Term { sum: 0, divisor, factor: 0 };
            if (row == 0 || row % 2 == 1) && (column == 0 || column % 2 == 1) {
                let lane = column.div_ceil(2);
                let (sum, factor) = if row == 0 { (lane, 1) } else { (LANES + lane, ODD[row / 2]) };
                *term = Term { sum: sum as u16, divisor, factor: factor * i32::from(divisor) };
            }
        }
        Self(terms)
    }
}

impl Terms {
    /// Whether 16 bits hold the coefficient at `place`, of which `low` bits are still unknown, and its product.
    #[cold]
    pub(super) fn hold(&self, place: usize, value: i32, low: u32) -> bool {
        let most = (i64::from(value.unsigned_abs()) + 1) << low;
        most * i64::from(self.0[place & 255].divisor.max(1)) <= 1 << 15
    }
}

/// Those of [`Sums`] that are used, while not all of the coefficients are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Partial([i32; 2 * USED]);

/// Columns that are summed up.
const USED: usize = 5;

impl Partial {
    /// Adds to the coefficient at `place`.
    #[inline(always)]
    pub(super) fn add(&mut self, terms: &Terms, place: usize, value: i32) {
        let term = terms.0[place & 255];
        let sum = usize::from(term.sum);
        let sum = if sum < LANES { sum } else { sum - LANES + USED };
        if let Some(sum) = self.0.get_mut(sum) {
            *sum = sum.wrapping_add(value.wrapping_mul(term.factor));
        }
    }

    /// The two by two samples of the block.
    pub(super) fn samples(&self, strange: &mut u32) -> [[u8; 2]; 2] {
        let mut sums = Sums::default();
        let (first, odd) = self.0.split_at(USED);
        sums.0[..USED].copy_from_slice(first);
        sums.0[LANES..LANES + USED].copy_from_slice(odd);
        sums.samples(strange)
    }
}

impl Sums {
    /// Adds the coefficient at `place`. A `large` one is marked as strange where 16 bits cannot hold it.
    #[inline(always)]
    pub(super) fn add(&mut self, terms: &Terms, place: usize, value: i32, is_large: bool, strange: &mut u32) {
        let term = terms.0[place & 255];
        let sum = &mut self.0[usize::from(term.sum) % (2 * LANES)];
        *sum = sum.wrapping_add(value.wrapping_mul(term.factor));
        if is_large {
            *strange |= outside(value.wrapping_mul(i32::from(term.divisor)), 15);
        }
    }

    /// The two by two samples of the block: means of its quarters.
    #[inline(always)]
    pub(super) fn samples(&self, strange: &mut u32) -> [[u8; 2]; 2] {
        let (first, odd) = self.0.split_at(LANES);
        let far = |sums: &[i32], bits| sums.iter().fold(0, |far, sum| far | outside(*sum, bits));
        *strange |= far(first, 11) | far(odd, 26);
        let first: [i32; LANES] =
            array::from_fn(|lane| (first[lane] << (BITS + 2)).wrapping_add(1 << (BITS - 1)));
        let halves: [[i32; LANES]; 2] = [
            array::from_fn(|lane| first[lane].wrapping_add(odd[lane]) >> BITS),
            array::from_fn(|lane| first[lane].wrapping_sub(odd[lane]) >> BITS),
        ];
        halves.map(|[mean, odd @ ..]| {
            let mean = (mean << (BITS + 2)).wrapping_add(1 << (BITS + 6));
            let odd = odd
                .iter()
                .zip(ODD)
                .fold(0_i32, |sum, (value, factor)| sum.wrapping_add(value.wrapping_mul(factor)));
            [mean.wrapping_add(odd), mean.wrapping_sub(odd)].map(|value| sample(value >> (BITS + 7), strange))
        })
    }
}
