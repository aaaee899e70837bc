//! Turns a picture the way it was held, as EXIF says. It comes after resizing, when the picture is small.

use exif::{In, Reader, Tag};

/// EXIF orientation: how stored pixels are turned to be seen upright. 1 is as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

impl Orientation {
    /// From an EXIF block (TIFF, without the `Exif\0\0` before it); upright if it does not say.
    pub(super) fn of_exif(tiff: &[u8]) -> Self {
        let tiff = tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff);
        let mut reader = Reader::new();
        // Cameras write blocks that are damaged further on; what was read before counts.
        reader.continue_on_error(true);
        let exif = reader.read_raw(tiff.to_vec()).or_else(|error| error.distill_partial_result(|_| {})).ok();
        let value = exif.and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
        Self(
            value
                .and_then(|value| u8::try_from(value).ok())
                .filter(|value| (1..=8).contains(value))
                .unwrap_or(1),
        )
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

#[cfg(test)]
mod tests {
    use super::*;

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
