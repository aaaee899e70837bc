//! GIF's LZW, a frame at a time. What is in perfect order is decoded here, and the rest by the `weezl` crate, which says
//! what is wrong with it.
//!
//! What a code stands for was written to the frame before, whole and in one piece: it is what the code before it wrote,
//! and the index after that. So the table holds places in the frame, and decoding copies from there, which
//! needs no walk along a chain of prefixes. Format: GIF89a, appendix F.

use weezl::BitOrder;
use weezl::decode::Decoder;

/// Codes have at most 12 bits.
const CODES: usize = 1 << 12;
const LONGEST_CODE: u32 = 12;

/// What most strings are shorter than; they are copied at once.
const CHUNK: usize = 16;

/// Codes, the lowest bits first.
struct Codes<'a> {
    data: &'a [u8],
    bits: u64,
    count: u32,
}

impl Codes<'_> {
    /// The next code of `size` bits, at most [`LONGEST_CODE`].
    fn next(&mut self, size: u32) -> Option<usize> {
        if self.count < size {
            self.fill();
            if self.count < size {
                return None;
            }
        }
        let code = self.bits & ((1 << size) - 1);
        self.bits >>= size;
        self.count -= size;
        usize::try_from(code).ok()
    }

    fn fill(&mut self) {
        if let Some((head, _)) = self.data.split_first_chunk::<8>() {
            // Bits beyond `count` are those that the next call brings again.
            self.bits |= u64::from_le_bytes(*head) << self.count;
            let taken = (63 - self.count) / 8;
            self.data = &self.data[taken as usize..];
            self.count += taken * 8;
        } else {
            while let Some((byte, rest)) = self.data.split_first()
                && self.count <= 56
            {
                self.bits |= u64::from(*byte) << self.count;
                self.count += 8;
                self.data = rest;
            }
        }
    }
}

/// The `count` indices that `data`, whose indices have `index_bits` bits, begins with, in the order of the file.
///
/// # Errors
/// What is wrong with the data.
pub(crate) fn decode(index_bits: u8, data: &[u8], count: usize) -> Result<Vec<u8>, String> {
    match decode_whole(index_bits, data, count) {
        Some(indices) => Ok(indices),
        None => decode_any(index_bits, data, count),
    }
}

/// The same by `weezl`, for all that it knows.
fn decode_any(index_bits: u8, mut data: &[u8], count: usize) -> Result<Vec<u8>, String> {
    if !(1..LONGEST_CODE).contains(&index_bits.into()) {
        return Err(format!("a frame has indices of {index_bits} bits"));
    }
    let mut indices = vec![0; count];
    let mut decoder = Decoder::new(BitOrder::Lsb, index_bits);
    let mut at = 0;
    while at < count {
        let decoded = decoder.decode_bytes(data, &mut indices[at..]);
        decoded.status.map_err(|error| format!("a frame cannot be decoded, {error}"))?;
        if decoded.consumed_in == 0 && decoded.consumed_out == 0 {
            return Err(format!("a frame has {at} of {count} pixels"));
        }
        data = &data[decoded.consumed_in..];
        at += decoded.consumed_out;
    }
    Ok(indices)
}

/// The same, where they are all there and nothing is out of the ordinary.
fn decode_whole(index_bits: u8, data: &[u8], count: usize) -> Option<Vec<u8>> {
    // Behind the frame stands each index by itself, and room for copying more than there is.
    let literals = count.checked_add(CHUNK)?;
    let room = literals.checked_add(256 + CHUNK)?;
    // Places are kept in 32 bits.
    if !(2..=8).contains(&index_bits) || u32::try_from(room).is_err() {
        return None;
    }
    let mut frame = vec![0; room];
    (0..=u8::MAX).zip(&mut frame[literals..]).for_each(|(index, literal)| *literal = index);
    decode_into(index_bits, Codes { data, bits: 0, count: 0 }, literals, &mut frame)?;
    frame.truncate(count);
    Some(frame)
}

#[expect(clippy::cast_possible_truncation, reason = "the frame is shorter than 2³² bytes")]
fn decode_into(index_bits: u8, mut codes: Codes<'_>, literals: usize, frame: &mut [u8]) -> Option<()> {
    let count = literals.checked_sub(CHUNK)?;
    let (clear, first_size) = (1_usize << index_bits, u32::from(index_bits) + 1);
    let (end, first_free) = (clear + 1, clear + 2);
    // Where the string of a code stands, and its length.
    let mut strings = [(0_u32, 0_u32); CODES];
    for (index, string) in strings[..clear].iter_mut().enumerate() {
        *string = ((literals + index) as u32, 1);
    }
    let (mut size, mut free) = (first_size, first_free);
    let mut before: Option<(u32, u32)> = None;
    let mut at = 0;
    while at < count {
        let code = codes.next(size)?;
        if code == clear {
            (size, free, before) = (first_size, first_free, None);
            continue;
        }
        match before {
            None if code < clear => {}
            None => return None,
            Some(_) if code == end || code > free => return None,
            Some((start, length)) => {
                // A full table stays as it is until it is cleared.
                if let Some(string) = strings.get_mut(free) {
                    *string = (start, length + 1);
                    free += 1;
                    size += u32::from(free == 1 << size && size < LONGEST_CODE);
                }
            }
        }
        let (start, length) = *strings.get(code)?;
        let (from, string) = (start as usize, length as usize);
        let taken = string.min(count - at);
        if taken <= CHUNK {
            let chunk: [u8; CHUNK] = *frame[from..].first_chunk()?;
            frame[at..at + CHUNK].copy_from_slice(&chunk);
        } else {
            // A string may end with the index that it is about to write.
            frame.copy_within(from..from + taken - 1, at);
            frame[at + taken - 1] = frame[from + taken - 1];
        }
        if from < at && from + taken > at {
            frame[at + taken - 1] = frame[at];
        }
        before = Some((at as u32, length));
        at += taken;
    }
    Some(())
}

/// Holds this decoder against the format's description and against `weezl`, and answers whether it had an answer.
#[cfg(any(test, fuzzing))]
pub(crate) fn agree(index_bits: u8, data: &[u8], count: usize) -> bool {
    let ours = decode_whole(index_bits, data, count);
    assert!(ours == as_described(index_bits, data, count), "{count} indices are not as described");
    // It looks a few codes ahead, and refuses what is wrong behind the frame.
    if let (Some(ours), Ok(theirs)) = (&ours, decode_any(index_bits, data, count)) {
        assert!(*ours == theirs, "{count} indices are not as weezl has them");
    }
    ours.is_some()
}

/// The same, bit by bit and string by string, as GIF89a describes it.
#[cfg(any(test, fuzzing))]
fn as_described(index_bits: u8, data: &[u8], count: usize) -> Option<Vec<u8>> {
    let clear = (2..=8).contains(&index_bits).then(|| 1_usize << index_bits)?;
    let mut bits = data.iter().flat_map(|byte| (0..8).map(move |bit| usize::from(byte >> bit & 1)));
    let (mut size, mut strings, mut before) = (u32::from(index_bits) + 1, Vec::new(), None::<Vec<u8>>);
    let mut indices = Vec::new();
    while indices.len() < count {
        let code = (0..size).try_fold(0, |code, place| Some(code | bits.next()? << place))?;
        if code == clear {
            (size, before) = (u32::from(index_bits) + 1, None);
            strings.clear();
            continue;
        }
        let known = |code: usize, strings: &[Vec<u8>]| match code.checked_sub(clear + 2) {
            None => u8::try_from(code).ok().filter(|_| code < clear).map(|index| vec![index]),
            Some(place) => strings.get(place).cloned(),
        };
        let string = match (known(code, &strings), &before) {
            (Some(string), _) => string,
            (None, Some(before)) if code == clear + 2 + strings.len() => [before, &before[..1]].concat(),
            (None, _) => return None,
        };
        if let Some(before) = before.filter(|_| clear + 2 + strings.len() < CODES) {
            strings.push([before, vec![string[0]]].concat());
            let free = clear + 2 + strings.len();
            size += u32::from(free == 1 << size && size < LONGEST_CODE);
        }
        indices.extend(&string);
        before = Some(string);
    }
    indices.truncate(count);
    Some(indices)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of one row as the `gif` crate packs it: the bits of an index, and the data.
    fn packed(indices: Vec<u8>) -> (u8, Vec<u8>) {
        let width = u16::try_from(indices.len()).unwrap();
        let mut frame = gif::Frame::from_indexed_pixels(width, 1, indices, None);
        frame.make_lzw_pre_encoded();
        let (bits, data) = frame.buffer.split_first().unwrap();
        (*bits, data.to_vec())
    }

    fn agree_on(indices: &[u8]) {
        let (bits, data) = packed(indices.to_vec());
        assert!(agree(bits, &data, indices.len()), "{} indices", indices.len());
        assert_eq!(decode(bits, &data, indices.len()).as_deref(), Ok(indices));
    }

    #[test]
    fn strings_of_all_lengths_are_decoded() {
        for length in [1, 2, 3, 15, 16, 17, 18, 100, 5000, 65_000] {
            // One colour: each code but the first stands for what it is about to write.
            agree_on(&vec![3; length]);
            let repeated: Vec<u8> = (0..length).map(|n| [7, 7, 1, 0, 255][n % 5]).collect();
            agree_on(&repeated);
        }
    }

    #[test]
    fn a_full_table_is_used_on() {
        let noise: Vec<u8> = (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        agree_on(&noise);
        // Without the codes that clear it, of which an encoder need not make use.
        let mut encoder = weezl::encode::Encoder::new(BitOrder::Lsb, 8);
        let data = encoder.encode(&noise).unwrap();
        assert!(agree(8, &data, 60_000));
    }

    #[test]
    fn what_follows_the_frame_is_not_looked_at() {
        let (bits, mut data) = packed(vec![5; 1000]);
        data.extend([0xff; 100]);
        assert!(agree(bits, &data, 1000));
        assert!(agree(bits, &data, 999), "a string may be cut off");
    }

    #[test]
    fn what_is_out_of_order_is_left_to_weezl_and_refused() {
        let (bits, data) = packed((0..200).collect());
        for (why, bits, data, count) in [
            ("cut off", bits, &data[..data.len() / 2], 200),
            ("the end comes too early", bits, &data, 201),
            ("empty", bits, &[], 1),
            ("no code has so many bits", 12, &data, 200),
            ("no index has so few bits", 0, &data, 200),
            // The first code after one that clears is an index; 511 stands for nothing yet.
            ("a code of the future", 8, &[0x00, 0xff, 0x03, 0xff], 10),
        ] {
            assert_eq!(decode_whole(bits, data, count), None, "{why}");
            assert!(decode(bits, data, count).is_err(), "{why}");
        }
    }

    #[test]
    fn indices_of_many_bits_are_left_to_weezl() {
        let indices: Vec<u8> = (0..500).map(|n| u8::from(n % 3 == 0)).collect();
        for bits in [9, 10, 11] {
            let data = weezl::encode::Encoder::new(BitOrder::Lsb, bits).encode(&indices).unwrap();
            assert!(!agree(bits, &data, indices.len()));
            assert_eq!(decode(bits, &data, indices.len()).as_deref(), Ok(&*indices), "{bits} bits");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn pictures_are_decoded_as_weezl_decodes_them(
            runs in prop::collection::vec((any::<u8>(), 1..40_usize), 1..800),
            colours in prop::sample::select(vec![2_u8, 4, 16, 100, 0]),
        ) {
            let runs = runs.into_iter().map(|(index, times)| vec![index.checked_rem(colours).unwrap_or(index); times]);
            agree_on(&runs.flatten().collect::<Vec<_>>());
        }

        #[test]
        fn damage_is_decoded_alike_or_left_to_weezl(
            runs in prop::collection::vec((any::<u8>(), 1..9_usize), 1..800),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            bits in prop::option::of(0..14_u8),
            count in 0..6000_usize,
        ) {
            let (right, mut data) = packed(runs.iter().flat_map(|(index, times)| vec![*index; *times]).collect());
            for (place, byte) in damage {
                let place = place.index(data.len());
                data[place] = byte;
            }
            agree(bits.unwrap_or(right), &data, count);
        }

        #[test]
        fn any_bytes_are_decoded_alike_or_left_to_weezl(
            data in prop::collection::vec(any::<u8>(), 0..3000),
            bits in 0..14_u8,
            count in 0..6000_usize,
        ) {
            agree(bits, &data, count);
        }
    }
}
