//! A decoder for the usual JPEG, shrunk to an eighth or a quarter: it makes only the samples that are left
//! then, and in doing so takes less time than libjpeg-turbo. At half and more it would take as long.
//!
//! It knows Huffman coding, sequential in one scan or progressive, and answers `None` at anything else and at the slightest
//! damage: then libjpeg-turbo decides. What it answers are libjpeg-turbo's own samples.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bits are cut out of words, and what is left of them fits"
)]

use std::rc::Rc;

#[cfg(any(test, fuzzing))]
mod agreement;
mod bits;
mod huffman;
mod idct;
mod markers;
mod progressive;
mod script;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use agreement::agree;
use bits::{Bits, Held, Source};
use huffman::{Dc, Skipped, Values};
use idct::{Sums, Terms, flat};
use markers::{Coding, Scan};
use progressive::{Mean, Quarters, bytes_of_block};
use script::Script;

use super::turbojpeg::{Header, Plane, Subsampling, scaled};

/// Blocks of luma in every unit of the scan, across and down.
fn blocks_of_luma(subsampling: Subsampling) -> (usize, usize) {
    match subsampling {
        Subsampling::S444 | Subsampling::Gray => (1, 1),
        Subsampling::S422 => (2, 1),
        Subsampling::S420 => (2, 2),
        Subsampling::S440 => (1, 2),
        Subsampling::S411 => (4, 1),
    }
}

/// Whether components of these blocks in every unit are what the header says.
fn fit(blocks: impl Iterator<Item = (usize, usize)>, subsampling: Subsampling) -> bool {
    let luma = blocks_of_luma(subsampling);
    match subsampling {
        Subsampling::Gray => blocks.eq([luma]),
        _ => blocks.eq([luma, (1, 1), (1, 1)]),
    }
}

/// Of tiny pictures several scales have one size, by which libjpeg-turbo is told the scale, and takes the largest.
fn is_tiny(header: &Header) -> bool {
    header.width < 8 && header.height < 8
}

/// The planes of `bytes`, whose header was read, at `eighths`/8 of its size, as
/// [`super::turbojpeg::Decoder::planes`] answers them.
pub(crate) fn planes(bytes: &[u8], header: &Header, eighths: u32) -> Option<Vec<Plane>> {
    if is_tiny(header) || !matches!(eighths, 1 | 2) {
        return None;
    }
    let subsampling = header.subsampling?;
    let luma = blocks_of_luma(subsampling);
    if let Some(script) = progressive_script(bytes, header) {
        return match eighths {
            1 => progressive::decode::<Mean>(&script, header, luma),
            _ => progressive::decode::<Quarters>(&script, header, luma),
        };
    }
    let scan = Scan::read(bytes)?;
    let is_expected = fit(scan.components.iter().map(|component| component.blocks), subsampling)
        && scan.width == header.width as usize
        && scan.height == header.height as usize;
    match eighths {
        _ if !is_expected => None,
        1 => decode::<Eighth>(&scan, header, luma),
        _ => decode::<Quarter>(&scan, header, luma),
    }
}

/// The scans of a progressive picture that is decoded here, if it is not damaged.
fn progressive_script<'a>(bytes: &'a [u8], header: &Header) -> Option<Script<'a>> {
    let script = Script::read(bytes)?;
    let is_expected = fit(script.components.iter().map(|component| component.blocks), header.subsampling?)
        && script.width == header.width as usize
        && script.height == header.height as usize;
    is_expected.then_some(script)
}

/// What [`planes`] keeps of the blocks of a progressive picture, in bytes, while it goes through the scans; `None` where
/// that is left to libjpeg-turbo.
pub(crate) fn progressive_bytes(bytes: &[u8], header: &Header, eighths: u32) -> Option<u64> {
    let of_block = match eighths {
        _ if is_tiny(header) => return None,
        1 => bytes_of_block::<Mean>(),
        2 => bytes_of_block::<Quarters>(),
        _ => return None,
    };
    Some((progressive_script(bytes, header)?.blocks() * of_block) as u64)
}

/// How one component's blocks are decoded.
trait Reduced: Sized {
    /// Samples of a block, across and down.
    const SIDE: usize;

    fn new(coding: &Coding) -> Option<Self>;

    /// Takes a block, whose mean differs by what comes first from `mean`, and writes it to `rows`, which are
    /// `stride` apart.
    fn block(
        &self,
        bits: &mut Bits,
        held: &Held,
        mean: &mut i32,
        rows: &mut [u8],
        stride: usize,
        strange: &mut u32,
    ) -> Option<()>;
}

/// Blocks of which the mean is left.
struct Eighth {
    dc: Dc,
    ac: Skipped,
    divisor: i32,
}

impl Reduced for Eighth {
    const SIDE: usize = 1;

    fn new(coding: &Coding) -> Option<Self> {
        let divisor = coding.divisors[0].into();
        Some(Self { dc: Dc::new(&coding.dc)?, ac: Skipped::new(&coding.ac)?, divisor })
    }

    #[inline(always)]
    fn block(
        &self,
        bits: &mut Bits,
        held: &Held,
        mean: &mut i32,
        rows: &mut [u8],
        _: usize,
        strange: &mut u32,
    ) -> Option<()> {
        *mean = mean.wrapping_add(self.dc.difference(bits, held)?);
        self.ac.block(bits, held)?;
        *rows.first_mut()? = flat(*mean, self.divisor, strange);
        Some(())
    }
}

/// Blocks of which two by two samples are left.
struct Quarter {
    dc: Dc,
    ac: Values,
    terms: Terms,
    divisor: i32,
}

impl Reduced for Quarter {
    const SIDE: usize = 2;

    fn new(coding: &Coding) -> Option<Self> {
        Some(Self {
            dc: Dc::new(&coding.dc)?,
            ac: Values::new(&coding.ac)?,
            terms: Terms::new(coding.divisors),
            divisor: coding.divisors[0].into(),
        })
    }

    #[inline(always)]
    fn block(
        &self,
        bits: &mut Bits,
        held: &Held,
        mean: &mut i32,
        rows: &mut [u8],
        stride: usize,
        strange: &mut u32,
    ) -> Option<()> {
        *mean = mean.wrapping_add(self.dc.difference(bits, held)?);
        let mut sums = Sums::default();
        sums.add(&self.terms, 0, *mean, false, strange);
        let is_varied = self.ac.block(bits, held, |place, value, is_large| {
            sums.add(&self.terms, place, value, is_large, strange);
        })?;
        let [upper, lower] =
            if is_varied { sums.samples(strange) } else { [[flat(*mean, self.divisor, strange); 2]; 2] };
        *rows.first_chunk_mut()? = upper;
        *rows.get_mut(stride..)?.first_chunk_mut()? = lower;
        Some(())
    }
}

/// The samples of one row of units, with what the last unit adds.
struct Strip<R> {
    decoder: Rc<R>,
    blocks: (usize, usize),
    stride: usize,
    samples: Vec<u8>,
}

fn decode<R: Reduced>(scan: &Scan, header: &Header, luma: (usize, usize)) -> Option<Vec<Plane>> {
    let units = (scan.width.div_ceil(8 * luma.0), scan.height.div_ceil(8 * luma.1));
    let mut strips: Vec<Strip<R>> = Vec::with_capacity(3);
    for (i, component) in scan.components.iter().enumerate() {
        // The two of chroma mostly share their tables, which are better held once.
        let same = scan.components[..i].iter().position(|earlier| earlier.coding == component.coding);
        let decoder = match same {
            Some(same) => Rc::clone(&strips.get(same)?.decoder),
            None => Rc::new(R::new(&component.coding)?),
        };
        let (across, down) = component.blocks;
        let stride = units.0 * across * R::SIDE;
        let samples = vec![0; stride * down * R::SIDE];
        strips.push(Strip { decoder, blocks: (across, down), stride, samples });
    }
    let mut planes = planes_for(header, luma, R::SIDE, strips.len());
    let (mut source, mut bits) = Source::new(scan.data)?;
    let mut means = [0; 3];
    let (mut until_restart, mut next_restart) = (scan.restart_interval, 0);
    for row in 0..units.1 {
        let mut strange = 0;
        for column in 0..units.0 {
            if scan.restart_interval > 0 {
                if until_restart == 0 {
                    (source.marker(bits)? == 0xd0 + next_restart).then_some(())?;
                    bits = source.restart()?;
                    (until_restart, next_restart) = (scan.restart_interval, (next_restart + 1) % 8);
                    means = [0; 3];
                }
                until_restart -= 1;
            }
            source.reserve(&mut bits)?;
            for (strip, mean) in strips.iter_mut().zip(&mut means) {
                for down in 0..strip.blocks.1 {
                    for across in 0..strip.blocks.0 {
                        let left = (column * strip.blocks.0 + across) * R::SIDE;
                        let start = down * R::SIDE * strip.stride + left;
                        strip.decoder.block(
                            &mut bits,
                            source.held(),
                            mean,
                            strip.samples.get_mut(start..)?,
                            strip.stride,
                            &mut strange,
                        )?;
                    }
                }
            }
        }
        (strange == 0).then_some(())?;
        for (plane, strip) in planes.iter_mut().zip(&strips) {
            let width = plane.width as usize;
            let rows = plane.samples.chunks_exact_mut(width).skip(row * strip.blocks.1 * R::SIDE);
            for (to, from) in rows.zip(strip.samples.chunks_exact(strip.stride)) {
                to.copy_from_slice(from.get(..width)?);
            }
        }
    }
    // Only the end may follow, or it is not a picture of one scan.
    (source.marker(bits)? == 0xd9).then_some(())?;
    if let Some(luma) = planes.first_mut() {
        luma.repeat_beyond(header, R::SIDE as u32);
    }
    Some(planes)
}

/// Planes of the size that libjpeg-turbo gives them.
fn planes_for(header: &Header, luma: (usize, usize), side: usize, count: usize) -> Vec<Plane> {
    let eighths = side as u32;
    let (across, down) = (luma.0 as u32, luma.1 as u32);
    let width = scaled(header.width, eighths).next_multiple_of(across);
    let height = scaled(header.height, eighths).next_multiple_of(down);
    (0..count)
        .map(|i| {
            let (width, height) = if i == 0 { (width, height) } else { (width / across, height / down) };
            Plane { width, height, samples: vec![0; width as usize * height as usize] }
        })
        .collect()
}
