//! Turns a picture the way it was held, as EXIF says. It comes after resizing, when the picture is small.

/// The field that says it, and the types in which it is written (TIFF 6.0, section 2).
const ORIENTATION: u16 = 0x0112;
const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// EXIF orientation: how stored pixels are turned to be seen upright. 1 is as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

impl Orientation {
    /// From an EXIF block (TIFF, with or without the `Exif\0\0` before it); upright if it does not say.
    ///
    /// Only the first directory is read, and of that one field: directories may name one another, each many times, and
    /// whoever follows them all takes gigabytes for a few kilobytes.
    pub(super) fn of_exif(tiff: &[u8]) -> Self {
        let tiff = tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff);
        Self(first_directory_says(tiff).filter(|value| (1..=8).contains(value)).unwrap_or(1))
    }

    /// Whether width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Where the pixel that is seen at (`x`, `y`) is stored, in a stored picture of `width` × `height`.
    fn stored(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        match self.0 {
            2 => (width - 1 - x, y),
            3 => (width - 1 - x, height - 1 - y),
            4 => (x, height - 1 - y),
            5 => (y, x),
            6 => (y, height - 1 - x),
            7 => (width - 1 - y, height - 1 - x),
            8 => (width - 1 - y, x),
            _ => (x, y),
        }
    }

    /// Turns a plane of `width` × `height` pixels of `bytes` bytes each.
    pub(super) fn apply(
        self,
        samples: Vec<u8>,
        width: u32,
        height: u32,
        bytes: usize,
    ) -> (Vec<u8>, u32, u32) {
        if self.0 == 1 {
            return (samples, width, height);
        }
        let (out_width, out_height) = if self.swaps_sides() { (height, width) } else { (width, height) };
        let mut turned = Vec::with_capacity(samples.len());
        for y in 0..out_height as usize {
            for x in 0..out_width as usize {
                let (column, row) = self.stored(x, y, width as usize, height as usize);
                let at = (row * width as usize + column) * bytes;
                turned.extend_from_slice(&samples[at..at + bytes]);
            }
        }
        (turned, out_width, out_height)
    }
}

/// The value of the field in a block's first directory.
fn first_directory_says(tiff: &[u8]) -> Option<u8> {
    let is_little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |bytes: &[u8]| {
        let bytes = bytes.get(..2)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |bytes: &[u8]| {
        let bytes = bytes.get(..4)?.try_into().ok()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    if short(tiff.get(2..)?)? != 42 {
        return None;
    }
    let directory = tiff.get(usize::try_from(long(tiff.get(4..)?)?).ok()?..)?;
    let count = usize::from(short(directory)?);
    // Cameras write blocks that are damaged further on; what is there counts.
    let mut fields = directory.get(2..)?.chunks_exact(12).take(count);
    let field = fields.find(|field| short(field) == Some(ORIENTATION))?;
    let value = field.get(8..)?;
    match short(field.get(2..)?)? {
        BYTE => value.first().copied(),
        SHORT => u8::try_from(short(value)?).ok(),
        LONG => u8::try_from(long(value)?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block with these fields in its first directory.
    fn block(is_little: bool, fields: &[(u16, u16, u32)]) -> Vec<u8> {
        let short = |n: u16| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let long = |n: u32| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut tiff = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
        tiff.extend(short(42));
        tiff.extend(long(8));
        tiff.extend(short(u16::try_from(fields.len()).unwrap()));
        for (tag, kind, value) in fields {
            tiff.extend(short(*tag));
            tiff.extend(short(*kind));
            tiff.extend(long(1));
            match *kind {
                BYTE => tiff.extend([u8::try_from(*value).unwrap(), 0, 0, 0]),
                SHORT => tiff.extend([short(u16::try_from(*value).unwrap()), [0; 2]].concat()),
                _ => tiff.extend(long(*value)),
            }
        }
        tiff
    }

    #[test]
    fn the_first_directory_says_it_in_either_order_and_any_whole_type() {
        for is_little in [true, false] {
            for kind in [BYTE, SHORT, LONG] {
                let tiff =
                    block(is_little, &[(0x010f, SHORT, 7), (ORIENTATION, kind, 6), (ORIENTATION, kind, 3)]);
                let marked = [b"Exif\0\0", &*tiff].concat();
                assert_eq!(Orientation::of_exif(&tiff), Orientation(6), "{is_little} {kind}");
                assert_eq!(Orientation::of_exif(&marked), Orientation(6), "{is_little} {kind}");
            }
            for (kind, value) in [(SHORT, 0), (SHORT, 9), (LONG, 6 << 16), (2, 6)] {
                let tiff = block(is_little, &[(ORIENTATION, kind, value)]);
                assert_eq!(Orientation::of_exif(&tiff), Orientation(1), "{is_little} {kind} {value}");
            }
        }
    }

    #[test]
    fn what_is_there_of_a_broken_block_counts() {
        let mut tiff = block(true, &[(ORIENTATION, SHORT, 8), (0x010f, SHORT, 7)]);
        tiff[8] = 200;
        tiff.truncate(tiff.len() - 3);
        assert_eq!(Orientation::of_exif(&tiff), Orientation(8));
    }

    #[test]
    fn directories_that_name_one_another_are_not_followed() {
        let pointers = vec![(0x8769, LONG, 8); 4000];
        let fields = [&*pointers, &[(ORIENTATION, SHORT, 3)]].concat();
        assert_eq!(Orientation::of_exif(&block(false, &fields)), Orientation(3));
    }

    proptest! {
        #[test]
        fn any_block_says_something(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let with_head = [b"II*\0\x08\0\0\0", &*bytes].concat();
            for block in [&bytes, &with_head] {
                prop_assert!((1..=8).contains(&Orientation::of_exif(block).0));
            }
        }
    }

    #[test]
    fn each_orientation_turns_as_exif_defines_it() {
        // a b c
        // d e f
        let stored = b"abcdef".to_vec();
        for (orientation, seen, width) in [
            (1, b"abcdef", 3),
            (2, b"cbafed", 3),
            (3, b"fedcba", 3),
            (4, b"defabc", 3),
            (5, b"adbecf", 2),
            (6, b"daebfc", 2),
            (7, b"fcebda", 2),
            (8, b"cfbead", 2),
        ] {
            let (turned, w, _) = Orientation(orientation).apply(stored.clone(), 3, 2, 1);
            assert_eq!((turned.as_slice(), w), (seen.as_slice(), width), "orientation {orientation}");
        }
    }

    #[test]
    fn a_block_that_says_nothing_leaves_the_picture_as_it_is() {
        for block in [&b""[..], b"Exif\0\0", b"II*\0\x08\0\0\0", b"garbage"] {
            assert_eq!(Orientation::of_exif(block), Orientation::default());
        }
    }
}
