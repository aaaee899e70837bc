//! The bits of a scan, without the zero bytes that are stuffed after every 0xff, up to the next marker.

use memchr::memchr;

use super::markers::next_marker;

/// How much is held at a time.
const FILLED: usize = 16 << 10;

/// More than what one unit of the scan can take: ten blocks of 64 codes of 16 bits with values of 15, and
/// what is read ahead.
const UNIT: usize = 10 * 64 * 4 + 8;

/// The bits that there are at least once they are filled up.
pub(super) const FILLED_BITS: u32 = 56;

/// The bytes that are decoded next.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// What has not been looked at.
    rest: &'a [u8],
    held: Box<Held>,
    /// End of the bytes in `held`.
    end: usize,
    /// Whether a marker stands at `rest`, so that `held` is all there is.
    /// What is read beyond its end is nonsense, and found to be too much afterwards.
    at_marker: bool,
}

/// A buffer of fixed size, so that most bounds are known beforehand.
pub(super) type Held = [u8; FILLED + UNIT];

/// A place in the buffer, and the bits that stand there, the next one highest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits {
    window: u64,
    /// Bits in `window` that are accounted for. What is below them is right too, or zero.
    count: u32,
    /// The byte after those.
    at: usize,
}

impl<'a> Source<'a> {
    /// The source for the data of a scan, and the first bits of it.
    pub(super) fn new(data: &'a [u8]) -> Option<(Self, Bits)> {
        let held = vec![0; FILLED + UNIT].into_boxed_slice().try_into().ok()?;
        let mut source = Self { rest: data, held, end: 0, at_marker: false };
        let bits = source.restart()?;
        Some((source, bits))
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Sees to it that a whole unit can be decoded.
    #[inline]
    pub(super) fn reserve(&mut self, bits: &mut Bits) -> Option<()> {
        if bits.at + UNIT <= self.end {
            return Some(());
        }
        // By value, so that what is called rarely does not keep the bits out of registers.
        *bits = self.advance(*bits)?;
        Some(())
    }

    #[cold]
    fn advance(&mut self, mut bits: Bits) -> Option<Bits> {
        if self.at_marker {
            return (bits.at <= self.end + 8).then_some(bits);
        }
        // What is in the window stays, for what is given back.
        let used = bits.at.saturating_sub(8).min(self.end);
        self.held.copy_within(used..self.end, 0);
        self.end -= used;
        bits.at -= used;
        self.fill()?;
        Some(bits)
    }

    fn fill(&mut self) -> Option<()> {
        while self.end < FILLED {
            let part = self.rest.get(..FILLED - self.end).unwrap_or(self.rest);
            let ordinary = memchr(0xff, part).unwrap_or(part.len());
            self.held[self.end..self.end + ordinary].copy_from_slice(&part[..ordinary]);
            self.end += ordinary;
            self.rest = &self.rest[ordinary..];
            match self.rest {
                [0xff, 0, rest @ ..] if self.end < FILLED => {
                    self.held[self.end] = 0xff;
                    self.end += 1;
                    self.rest = rest;
                }
                // No room: the next time.
                [0xff, 0, ..] => break,
                [0xff, ..] => {
                    self.at_marker = true;
                    break;
                }
                [_, ..] => {}
                // Without a marker at its end the file is cut.
                [] => return None,
            }
        }
        Some(())
    }

    /// The marker after the bits, all of which have to be used but for less than a byte.
    #[cold]
    pub(super) fn marker(&mut self, mut bits: Bits) -> Option<u8> {
        self.reserve(&mut bits)?;
        let position = (bits.at * 8).checked_sub(bits.count as usize)?;
        (self.at_marker && position.div_ceil(8) == self.end).then_some(())?;
        let (marker, rest) = next_marker(self.rest)?;
        (self.rest, self.end, self.at_marker) = (rest, 0, false);
        Some(marker)
    }

    /// The first bits after a restart marker.
    #[cold]
    pub(super) fn restart(&mut self) -> Option<Bits> {
        self.fill()?;
        Some(Bits::default())
    }
}

impl Bits {
    /// Sees to it that there are [`FILLED_BITS`] or more.
    #[inline(always)]
    pub(super) fn refill(&mut self, held: &Held) {
        // Past the end of the buffer there is nothing to find: what asks for it is refused at the next unit.
        if let Some(word) = held.get(self.at..).and_then(|rest| rest.first_chunk()) {
            self.window |= u64::from_be_bytes(*word) >> self.count;
        }
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= FILLED_BITS;
    }

    /// The next `count` bits, from 1 to 32.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.window >> (64 - count)) as usize
    }

    /// Takes `count` bits off, of those that are there.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.window <<= count;
        self.count -= count;
    }

    /// Takes one bit, filling up where there is none.
    #[inline(always)]
    pub(super) fn bit(&mut self, held: &Held) -> bool {
        if self.count == 0 {
            self.refill(held);
        }
        let bit = self.window >> 63 != 0;
        self.skip(1);
        bit
    }

    /// Takes as many bits as `places` has, and puts the first of them at its lowest place, and so on; nowhere, if they
    /// are not `wanted`.
    #[inline(always)]
    pub(super) fn spread(&mut self, held: &Held, places: u64, wanted: bool) -> u64 {
        let (mut rest, mut left, mut spread) = (places, places.count_ones(), 0);
        while left > 0 {
            let count = left.min(FILLED_BITS);
            if self.count < count {
                self.refill(held);
            }
            if wanted {
                // Without a branch for each, as nothing foretells them.
                let mut window = self.window;
                for _ in 0..count {
                    let place = rest & rest.wrapping_neg();
                    spread |= place & (window.cast_signed() >> 63).cast_unsigned();
                    window <<= 1;
                    rest ^= place;
                }
            }
            self.skip(count);
            left -= count;
        }
        spread
    }

    /// Takes the value of `size` bits, from 0 to 15: with the first bit off, it is negative.
    #[inline(always)]
    pub(super) fn value(&mut self, size: u32) -> i32 {
        let raw = (self.window >> 32 >> 1 >> (31 - size)) as i32;
        let all = (1 << size) - 1;
        self.skip(size);
        if raw <= all >> 1 { raw - all } else { raw }
    }
}
