//! Progressive files, scan by scan. Of each block there is kept what its samples need, less than half of what libjpeg-turbo
//! keeps, and which of its coefficients are not zero, on which depends how later scans are coded.

use super::bits::{Bits, Held, Source};
use super::huffman::{Dc, Lookup};
use super::idct::{Partial, SUMMED, Terms, flat, outside};
use super::planes_for;
use super::script::{Component, Scan, Script};
use crate::codec::turbojpeg::{Header, Plane};

/// What is kept of a block.
pub(super) trait Kept: Clone + Default {
    /// Samples of a block, across and down.
    const SIDE: usize;

    /// The coefficients that are needed, but for the mean: a bit for each, in zigzag order.
    const USED: u64;

    /// Adds to the mean.
    fn add_to_mean(&mut self, terms: &Terms, value: i32);

    /// Notes a further coefficient that is needed.
    fn add(&mut self, terms: &Terms, place: usize, value: i32);

    /// Adds to one of them, away from zero.
    fn grow(&mut self, terms: &Terms, place: usize, value: i32);

    /// Writes the samples to `rows`, which are `stride` apart.
    fn write(&self, divisor: i32, rows: &mut [u8], stride: usize, strange: &mut u32) -> Option<()>;
}

/// The mean alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Mean(i32);

impl Kept for Mean {
    const SIDE: usize = 1;
    const USED: u64 = 0;

    fn add_to_mean(&mut self, _: &Terms, value: i32) {
        self.0 = self.0.wrapping_add(value);
    }

    fn add(&mut self, _: &Terms, _: usize, _: i32) {}

    fn grow(&mut self, _: &Terms, _: usize, _: i32) {}

    fn write(&self, divisor: i32, rows: &mut [u8], _: usize, strange: &mut u32) -> Option<()> {
        *rows.first_mut()? = flat(self.0, divisor, strange);
        Some(())
    }
}

/// The sums that two by two samples are made of, and which of the coefficients in them are negative.
#[derive(Debug, Clone, Default)]
pub(super) struct Quarters {
    sums: Partial,
    negative: u64,
}

impl Kept for Quarters {
    const SIDE: usize = 2;
    const USED: u64 = SUMMED;

    #[inline(always)]
    fn add_to_mean(&mut self, terms: &Terms, value: i32) {
        self.sums.add(terms, 0, value);
    }

    #[inline(always)]
    fn add(&mut self, terms: &Terms, place: usize, value: i32) {
        self.negative |= u64::from(value < 0) << (place % 64);
        self.sums.add(terms, place, value);
    }

    #[inline(always)]
    fn grow(&mut self, terms: &Terms, place: usize, value: i32) {
        let is_negative = self.negative >> (place % 64) & 1 != 0;
        self.sums.add(terms, place, if is_negative { -value } else { value });
    }

    fn write(&self, _: i32, rows: &mut [u8], stride: usize, strange: &mut u32) -> Option<()> {
        let [upper, lower] = self.sums.samples(strange);
        *rows.first_chunk_mut()? = upper;
        *rows.get_mut(stride..)?.first_chunk_mut()? = lower;
        Some(())
    }
}

/// The blocks of a component, row by row.
struct Blocks<'a, K> {
    component: Component<'a>,
    terms: Terms,
    /// One bit for each coefficient that is not zero, in zigzag order, but the first.
    present: Vec<u64>,
    kept: Vec<K>,
}

/// Bytes of each block that is kept.
pub(super) fn bytes_of_block<K: Kept>() -> usize {
    size_of::<u64>() + size_of::<K>()
}

/// The bits of a scan, and where its restart markers are.
struct Reader<'a> {
    source: Source<'a>,
    bits: Bits,
    interval: usize,
    until_restart: usize,
    next_restart: u8,
}

impl<'a> Reader<'a> {
    fn new(scan: &Scan<'a>) -> Option<Self> {
        let (source, bits) = Source::new(scan.data)?;
        let interval = if scan.restart_interval == 0 { usize::MAX } else { scan.restart_interval };
        Some(Self { source, bits, interval, until_restart: interval, next_restart: 0 })
    }

    /// Passes over the restart marker, if one has to stand here.
    #[inline(always)]
    fn restarts(&mut self) -> Option<bool> {
        if self.until_restart > 0 {
            return Some(false);
        }
        (self.source.marker(self.bits)? == 0xd0 + self.next_restart).then_some(())?;
        self.bits = self.source.restart()?;
        (self.until_restart, self.next_restart) = (self.interval, (self.next_restart + 1) % 8);
        Some(true)
    }

    #[inline(always)]
    fn reserve(&mut self) -> Option<()> {
        self.source.reserve(&mut self.bits)
    }

    /// Whether nothing is left but the marker that follows the scan.
    fn ends(mut self) -> Option<()> {
        (!matches!(self.source.marker(self.bits)?, 0xd0..=0xd7)).then_some(())
    }
}

/// The planes of a picture, as `libjpeg-turbo` makes them.
pub(super) fn decode<K: Kept>(
    script: &Script<'_>,
    header: &Header,
    luma: (usize, usize),
) -> Option<Vec<Plane>> {
    let mut parts: Vec<Blocks<'_, K>> = Vec::with_capacity(script.components.len());
    for component in &script.components {
        let count = component.size.0 * component.size.1;
        let (component, terms) = (*component, Terms::new(component.divisors));
        parts.push(Blocks { component, terms, present: vec![0; count], kept: vec![K::default(); count] });
    }
    for scan in &script.scans {
        match (scan.band.0, scan.is_first) {
            (0, true) => first_means(scan, script, &mut parts)?,
            (0, false) => further_bits_of_means(scan, script, &mut parts)?,
            (_, is_first) => {
                let [(place, Some(codes))] = scan.components[..] else { return None };
                let (part, codes) = (parts.get_mut(place)?, Lookup::new(&codes)?);
                if is_first {
                    first_of_band(scan, part, &codes)?;
                } else {
                    further_bits_of_band(scan, part, &codes)?;
                }
            }
        }
    }
    let mut planes = planes_for(header, luma, K::SIDE, parts.len());
    for (plane, part) in planes.iter_mut().zip(parts) {
        part.write(plane)?;
    }
    if let Some(luma) = planes.first_mut() {
        luma.repeat_beyond(header, u32::try_from(K::SIDE).ok()?);
    }
    Some(planes)
}

impl<K: Kept> Blocks<'_, K> {
    fn write(&self, plane: &mut Plane) -> Option<()> {
        let divisor = i32::from(self.component.divisors[0]);
        let (across, _) = self.component.size;
        let stride = across * K::SIDE;
        let (mut samples, width) = (vec![0; stride * K::SIDE], plane.width as usize);
        for (kept, rows) in self.kept.chunks_exact(across).zip(plane.samples.chunks_mut(width * K::SIDE)) {
            let mut strange = 0;
            for (column, kept) in kept.iter().enumerate() {
                let rows = samples.get_mut(column * K::SIDE..)?;
                kept.write(divisor, rows, stride, &mut strange)?;
            }
            (strange == 0).then_some(())?;
            for (to, from) in rows.chunks_exact_mut(width).zip(samples.chunks_exact(stride)) {
                let common = width.min(stride);
                to[..common].copy_from_slice(&from[..common]);
            }
        }
        Some(())
    }
}

/// Goes over the blocks of a scan of means: `each` gets the place of the component in the scan, and the block, if it is
/// one of the picture.
fn over_means<K: Kept>(
    scan: &Scan<'_>,
    script: &Script<'_>,
    parts: &mut [Blocks<'_, K>],
    mut each: impl FnMut(&mut Bits, &Held, usize, bool, Option<(&mut K, &Terms)>) -> Option<()>,
) -> Option<()> {
    let mut reader = Reader::new(scan)?;
    let is_alone = scan.components.len() == 1;
    let units = match scan.components[..] {
        // A scan of one component has a unit for each of its blocks.
        [(place, _)] => parts.get(place)?.component.size,
        _ => {
            let most = script
                .components
                .iter()
                .fold((1, 1), |(h, v), part| (h.max(part.blocks.0), v.max(part.blocks.1)));
            (script.width.div_ceil(8 * most.0), script.height.div_ceil(8 * most.1))
        }
    };
    for row in 0..units.1 {
        for column in 0..units.0 {
            let restarts = reader.restarts()?;
            reader.until_restart -= 1;
            reader.reserve()?;
            for (nth, (place, _)) in scan.components.iter().enumerate() {
                let part = parts.get_mut(*place)?;
                let blocks = if is_alone { (1, 1) } else { part.component.blocks };
                for down in 0..blocks.1 {
                    for across in 0..blocks.0 {
                        let at = (column * blocks.0 + across, row * blocks.1 + down);
                        let (width, height) = part.component.size;
                        let block = if at.0 < width && at.1 < height {
                            Some((part.kept.get_mut(at.1 * width + at.0)?, &part.terms))
                        } else {
                            None
                        };
                        let is_new = restarts && down == 0 && across == 0;
                        each(&mut reader.bits, reader.source.held(), nth, is_new, block)?;
                    }
                }
            }
        }
    }
    reader.ends()
}

fn first_means<K: Kept>(scan: &Scan<'_>, script: &Script<'_>, parts: &mut [Blocks<'_, K>]) -> Option<()> {
    let codes: Option<Vec<Dc>> =
        scan.components.iter().map(|(_, codes)| codes.as_ref().and_then(Dc::new)).collect();
    let (codes, low) = (codes?, scan.low);
    let mut means = [0_i32; 3];
    over_means(scan, script, parts, |bits, held, nth, is_new, block| {
        let mean = means.get_mut(nth)?;
        let before = if is_new { 0 } else { *mean };
        *mean = before.wrapping_add(codes.get(nth)?.difference(bits, held)?);
        // As much as libjpeg-turbo holds.
        (outside(*mean, 15 - low) == 0).then_some(())?;
        if let Some((block, terms)) = block {
            block.add_to_mean(terms, *mean << low);
        }
        Some(())
    })
}

fn further_bits_of_means<K: Kept>(
    scan: &Scan<'_>,
    script: &Script<'_>,
    parts: &mut [Blocks<'_, K>],
) -> Option<()> {
    over_means(scan, script, parts, |bits, held, _, _, block| {
        // Also a negative mean grows: what is missing of it was rounded down.
        if let (true, Some((block, terms))) = (bits.bit(held), block) {
            block.add_to_mean(terms, 1 << scan.low);
        }
        Some(())
    })
}

fn first_of_band<K: Kept>(scan: &Scan<'_>, part: &mut Blocks<'_, K>, codes: &Lookup) -> Option<()> {
    let mut reader = Reader::new(scan)?;
    let count = part.kept.len();
    let (mut at, mut empty) = (0, 0);
    while at < count {
        if reader.restarts()? && empty > 0 {
            return None;
        }
        if empty > 0 {
            let passed = empty.min(count - at).min(reader.until_restart);
            (at, empty, reader.until_restart) = (at + passed, empty - passed, reader.until_restart - passed);
            continue;
        }
        reader.reserve()?;
        let (kept, present) = (part.kept.get_mut(at)?, part.present.get_mut(at)?);
        empty = first_of_block(&mut reader, scan, codes, &part.terms, kept, present)?;
        at += 1;
        reader.until_restart -= 1;
    }
    (empty == 0).then_some(())?;
    reader.ends()
}

/// Takes a block's coefficients, and answers how many blocks after it have none.
#[inline(always)]
fn first_of_block<K: Kept>(
    reader: &mut Reader<'_>,
    scan: &Scan<'_>,
    codes: &Lookup,
    terms: &Terms,
    kept: &mut K,
    present: &mut u64,
) -> Option<usize> {
    let (bits, held) = (&mut reader.bits, reader.source.held());
    let mut place = scan.band.0;
    loop {
        let code = codes.take(bits, held)?;
        if code.size > 0 {
            place += usize::from(code.run);
            (place <= scan.band.1).then_some(())?;
            let value = bits.value(u32::from(code.size));
            let is_large = u32::from(code.size) + scan.low > 7;
            if is_large && !terms.hold(place, value, scan.low) {
                return None;
            }
            *present |= 1 << place;
            if K::USED >> place & 1 != 0 {
                kept.add(terms, place, value << scan.low);
            }
            place += 1;
            if place > scan.band.1 {
                return Some(0);
            }
        } else if code.run == 15 {
            place += 16;
            (place <= scan.band.1).then_some(())?;
        } else {
            return Some(empty_blocks(bits, code.run) - 1);
        }
    }
}

/// How many blocks end here, by the code for `run`, which says how many bits of the number follow.
#[inline(always)]
fn empty_blocks(bits: &mut Bits, run: u8) -> usize {
    let run = u32::from(run);
    if run == 0 {
        return 1;
    }
    let more = bits.peek(run);
    bits.skip(run);
    (1 << run) + more
}

fn further_bits_of_band<K: Kept>(scan: &Scan<'_>, part: &mut Blocks<'_, K>, codes: &Lookup) -> Option<()> {
    let mut reader = Reader::new(scan)?;
    let mut empty = 0;
    for (kept, present) in part.kept.iter_mut().zip(&mut part.present) {
        if reader.restarts()? && empty > 0 {
            return None;
        }
        reader.until_restart -= 1;
        reader.reserve()?;
        further_bits_of_block(&mut reader, scan, codes, &part.terms, kept, present, &mut empty)?;
    }
    (empty == 0).then_some(())?;
    reader.ends()
}

/// Adds a bit to a block's coefficients, and takes those that are the least that it tells. `empty` counts the blocks from
/// this one on that have no new ones.
#[inline(always)]
fn further_bits_of_block<K: Kept>(
    reader: &mut Reader<'_>,
    scan: &Scan<'_>,
    codes: &Lookup,
    terms: &Terms,
    kept: &mut K,
    present: &mut u64,
    empty: &mut usize,
) -> Option<()> {
    let (bits, held) = (&mut reader.bits, reader.source.held());
    let (first, last) = scan.band;
    let band = u64::MAX >> (63 - last);
    let least = 1 << scan.low;
    let mut place = first;
    while *empty == 0 && place <= last {
        let code = codes.take(bits, held)?;
        let is_positive = match (code.size, code.run) {
            (1, _) => Some(bits.bit(held)),
            (0, 15) => None,
            (0, run) => {
                *empty = empty_blocks(bits, run);
                break;
            }
            _ => return None,
        };
        let from = u64::MAX << place;
        let next = *present & from;
        // Mostly there is nothing in between.
        let straight = place + usize::from(code.run);
        let new = if straight <= last && next & !(u64::MAX << straight << 1) == 0 {
            straight
        } else {
            let mut zeros = !*present & band & from;
            for _ in 0..code.run {
                zeros &= zeros.wrapping_sub(1);
            }
            (zeros != 0).then_some(())?;
            let new = zeros.trailing_zeros() as usize;
            grow(bits, held, next & !(u64::MAX << new), terms, kept, least);
            new
        };
        place = new;
        if let Some(is_positive) = is_positive {
            if scan.low > 6 && !terms.hold(place, 1, scan.low) {
                return None;
            }
            *present |= 1 << place;
            if K::USED >> place & 1 != 0 {
                kept.add(terms, place, if is_positive { least } else { -least });
            }
        }
        place += 1;
    }
    if *empty > 0 {
        if place <= last {
            grow(bits, held, *present & band & (u64::MAX << place), terms, kept, least);
        }
        *empty -= 1;
    }
    Some(())
}

/// Takes a bit for each of the coefficients in `places`.
#[inline(always)]
fn grow<K: Kept>(bits: &mut Bits, held: &Held, places: u64, terms: &Terms, kept: &mut K, least: i32) {
    let grown = K::USED & bits.spread(held, places, places & K::USED != 0);
    let mut rest = grown;
    while rest != 0 {
        kept.grow(terms, rest.trailing_zeros() as usize, least);
        rest &= rest - 1;
    }
}
