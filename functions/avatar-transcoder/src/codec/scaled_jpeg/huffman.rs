//! Tables that tell from the next bits as much as can be told at once.

use super::bits::{Bits, FILLED_BITS, Held};
use super::markers::Codes;

/// Bits that the tables look at.
const SEEN: u32 = 10;
const ENTRIES: usize = 1 << SEEN;

/// The most that one code takes with its value, in bits.
const LONGEST: u32 = 16 + 15;

/// What ends a block, as a step further than codes that were looked at once can lead.
const END: u8 = 160;

/// What cannot be told at once, as a step to where no block can end.
const UNSEEN: u8 = 255;

/// A code: what it says of the coefficient that follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code {
    /// Bits of the code; 0 where it is longer than what was looked at.
    length: u8,
    /// Zeros before the coefficient.
    pub(super) run: u8,
    /// Bits of the coefficient's value.
    pub(super) size: u8,
}

impl Code {
    fn new(length: u8, symbol: u8) -> Self {
        Self { length, run: symbol >> 4, size: symbol & 15 }
    }

    /// How far this code leads in a block.
    fn step(self) -> u8 {
        if self.size == 0 && self.run != 15 { END } else { self.run + 1 }
    }
}

/// Codes by their first bits, and the long ones by comparing.
#[derive(Debug)]
pub(super) struct Lookup {
    short: [Code; ENTRIES],
    /// For every length up to 16: the first 16 bits that are beyond the codes of it, and what added to a code
    /// of it gives the place of its symbol.
    long: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Lookup {
    /// `None` unless the codes are a proper tree, in which no code is all ones.
    pub(super) fn new(codes: &Codes) -> Option<Self> {
        let mut short = [Code::default(); ENTRIES];
        let mut long = [(0, 0); 17];
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, count) in (1_u8..).zip(codes.counts) {
            let bits = u32::from(length);
            long[usize::from(length)].1 = i32::try_from(place).ok()? - i32::try_from(code).ok()?;
            for _ in 0..*count {
                let symbol = *codes.symbols.get(place)?;
                if let Some(free) = SEEN.checked_sub(bits) {
                    let first = (code << free) as usize;
                    short.get_mut(first..first + (1 << free))?.fill(Code::new(length, symbol));
                }
                code += 1;
                place += 1;
            }
            (*count == 0 || code < 1 << bits).then_some(())?;
            long[usize::from(length)].0 = code << (16 - bits);
            code <<= 1;
        }
        (place <= 256).then(|| Self { short, long, symbols: codes.symbols.to_vec() })
    }

    /// Takes one code, and leaves as many bits as its value may have.
    #[inline(always)]
    pub(super) fn take(&self, bits: &mut Bits, held: &Held) -> Option<Code> {
        bits.refill(held);
        let short = self.short[bits.peek(SEEN)];
        let code = if short.length == 0 { self.long(bits.peek(16))? } else { short };
        bits.skip(u32::from(code.length));
        Some(code)
    }

    #[cold]
    fn long(&self, next: usize) -> Option<Code> {
        let length = (1..17).find(|length| next < self.long[*length].0 as usize)?;
        let code = i32::try_from(next >> (16 - length)).ok()?;
        let place = usize::try_from(code + self.long[length].1).ok()?;
        Some(Code::new(u8::try_from(length).ok()?, *self.symbols.get(place)?))
    }

    /// The code that the last `count` of these bits start with, and the value after it, if all of it is seen.
    fn seen(&self, bits: usize, count: u32) -> Option<(Code, i8)> {
        let code = self.short[bits << (SEEN - count) & (ENTRIES - 1)];
        let length = u32::from(code.length) + u32::from(code.size);
        // Eight bits and more are left to where values are checked.
        if code.length == 0 || length > count || code.size > 7 {
            return None;
        }
        let raw = i8::try_from(bits >> (count - length) & ((1 << code.size) - 1)).ok()?;
        let all = i8::try_from((1_i32 << code.size) - 1).ok()?;
        Some((code, if raw <= all >> 1 { raw - all } else { raw }))
    }
}

/// The table of a component's first coefficients.
#[derive(Debug)]
pub(super) struct Dc {
    codes: Lookup,
    /// Bits of the code and its value, 0 where not all of it was seen; and the value.
    whole: [(u8, i8); ENTRIES],
}

impl Dc {
    pub(super) fn new(codes: &Codes) -> Option<Self> {
        if codes.symbols.iter().any(|symbol| *symbol > 15) {
            return None;
        }
        let codes = Lookup::new(codes)?;
        let whole = std::array::from_fn(|bits| {
            let seen = codes.seen(bits, SEEN);
            seen.map_or((0, 0), |(code, value)| (code.length + code.size, value))
        });
        Some(Self { codes, whole })
    }

    /// Takes the difference to the block before, and leaves [`Bits`] enough for what comes next.
    #[inline(always)]
    pub(super) fn difference(&self, bits: &mut Bits, held: &Held) -> Option<i32> {
        bits.refill(held);
        let (length, value) = self.whole[bits.peek(SEEN)];
        if length > 0 {
            bits.skip(u32::from(length));
            return Some(i32::from(value));
        }
        let code = self.codes.take(bits, held)?;
        Some(bits.value(u32::from(code.size)))
    }
}

/// One or two coefficients, all of whose bits were looked at.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// Bits of both.
    length: u8,
    /// Places after both.
    step: u8,
    /// Places of them from the present one.
    first_at: u8,
    second_at: u8,
    first: i8,
    second: i8,
}

impl Pair {
    const UNSEEN: Self = Self { length: 0, step: UNSEEN, first_at: END, second_at: END, first: 0, second: 0 };

    fn new(codes: &Lookup, bits: usize) -> Self {
        let Some((code, value)) = codes.seen(bits, SEEN) else { return Self::UNSEEN };
        let mut pair = Self {
            length: code.length + code.size,
            step: code.step(),
            first_at: if code.size == 0 { END } else { code.run },
            first: value,
            ..Self::UNSEEN
        };
        let left = SEEN - u32::from(pair.length);
        if pair.step == END || left == 0 {
            return pair;
        }
        if let Some((code, value)) = codes.seen(bits & ((1 << left) - 1), left) {
            pair.length += code.length + code.size;
            pair.second_at = if code.size == 0 { END } else { pair.step + code.run };
            pair.second = value;
            pair.step += code.step();
        }
        pair
    }
}

/// The table of a component's further coefficients, where their values are needed.
#[derive(Debug)]
pub(super) struct Values {
    codes: Lookup,
    pairs: [Pair; ENTRIES],
}

impl Values {
    pub(super) fn new(codes: &Codes) -> Option<Self> {
        let codes = Lookup::new(codes)?;
        let pairs = std::array::from_fn(|bits| Pair::new(&codes, bits));
        Some(Self { codes, pairs })
    }

    /// Takes the rest of a block, of which the first coefficient was taken, giving the place in zigzag order and the
    /// value of every coefficient to `note`, which also gets zeros at places beyond. Values beyond 7 bits are told
    /// to be large. Answers whether there were any codes but the one for the end.
    #[inline(always)]
    pub(super) fn block(
        &self,
        bits: &mut Bits,
        held: &Held,
        mut note: impl FnMut(usize, i32, bool),
    ) -> Option<bool> {
        let (mut at, mut looks) = (1, (FILLED_BITS - LONGEST) / SEEN);
        loop {
            for _ in 0..looks {
                let pair = self.pairs[bits.peek(SEEN)];
                let next = at + usize::from(pair.step);
                if next < 64 || is_end(next) {
                    bits.skip(u32::from(pair.length));
                    note(at + usize::from(pair.first_at), i32::from(pair.first), false);
                    note(at + usize::from(pair.second_at), i32::from(pair.second), false);
                    if next >= 64 {
                        return Some(next != 1 + usize::from(END));
                    }
                    at = next;
                } else {
                    // A long code, or the second one is the next block's.
                    let code = self.codes.take(bits, held)?;
                    let value = bits.value(u32::from(code.size));
                    if code.size > 0 {
                        note(at + usize::from(code.run), value, code.size > 7);
                    }
                    at += usize::from(code.step());
                    if at >= 64 {
                        return is_end(at).then_some(at != 1 + usize::from(END));
                    }
                    break;
                }
            }
            bits.refill(held);
            looks = FILLED_BITS / SEEN;
        }
    }
}

/// As many codes as the bits that were looked at hold.
#[derive(Debug, Clone, Copy)]
struct Stride {
    /// Bits of all of them with their values, which need not have been looked at.
    length: u8,
    /// Places from the present one.
    step: u8,
}

impl Stride {
    /// The most bits, so that there are enough for three of them.
    const LONGEST: u32 = FILLED_BITS / 3;

    fn new(codes: &Lookup, bits: usize) -> Self {
        let mut stride = Self { length: 0, step: 0 };
        while u32::from(stride.length) < SEEN && stride.step < 64 {
            let code = codes.short[bits << stride.length & (ENTRIES - 1)];
            let length = stride.length + code.length + code.size;
            let is_seen = code.length > 0 && u32::from(stride.length + code.length) <= SEEN;
            if !is_seen || u32::from(length) > Self::LONGEST {
                break;
            }
            stride = Self { length, step: stride.step + code.step() };
        }
        if stride.length == 0 { Self { length: 0, step: UNSEEN } } else { stride }
    }
}

/// The table of a component's further coefficients, where they only have to be skipped.
#[derive(Debug)]
pub(super) struct Skipped {
    codes: Lookup,
    strides: [Stride; ENTRIES],
}

impl Skipped {
    pub(super) fn new(codes: &Codes) -> Option<Self> {
        let codes = Lookup::new(codes)?;
        let strides = std::array::from_fn(|bits| Stride::new(&codes, bits));
        Some(Self { codes, strides })
    }

    /// Takes the rest of a block, of which the first coefficient was taken.
    #[inline(always)]
    pub(super) fn block(&self, bits: &mut Bits, held: &Held) -> Option<()> {
        let (mut at, mut looks) = (1, (FILLED_BITS - LONGEST) / Stride::LONGEST);
        loop {
            for _ in 0..looks {
                let stride = self.strides[bits.peek(SEEN)];
                let next = at + usize::from(stride.step);
                if next < 64 {
                    bits.skip(u32::from(stride.length));
                    at = next;
                } else if is_end(next) {
                    bits.skip(u32::from(stride.length));
                    return Some(());
                } else {
                    // A long code, or codes of the next block are among them.
                    let code = self.codes.take(bits, held)?;
                    bits.skip(u32::from(code.size));
                    at += usize::from(code.step());
                    if at >= 64 {
                        return is_end(at).then_some(());
                    }
                    break;
                }
            }
            bits.refill(held);
            looks = FILLED_BITS / Stride::LONGEST;
        }
    }
}

/// Whether a block may end `at` this place: exactly full, or by the code for it.
#[inline(always)]
fn is_end(at: usize) -> bool {
    at == 64 || (usize::from(END) + 1..usize::from(END) + 64).contains(&at)
}
