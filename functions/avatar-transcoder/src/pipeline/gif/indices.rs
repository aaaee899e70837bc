//! A frame's indices, row by row from the top, in whatever order the file has them.

use gif::Frame;
use shared::outcome::Reason;

use crate::codec::lzw;
use crate::pipeline::header::undecodable;

/// The indices of a frame, decoded.
pub(super) struct Indices {
    bytes: Vec<u8>,
    width: usize,
    height: usize,
    interlaced: bool,
}

impl Indices {
    /// Decodes what `frame` has packed.
    pub(super) fn of(frame: &Frame<'_>) -> Result<Self, Reason> {
        let (width, height) = (usize::from(frame.width), usize::from(frame.height));
        let (bits, data) = frame.buffer.split_first().ok_or_else(|| undecodable("a frame is empty"))?;
        if width * height == 0 {
            return Err(undecodable("a frame has no pixels"));
        }
        let bytes = lzw::decode(*bits, data, width * height).map_err(undecodable)?;
        Ok(Self { bytes, width, height, interlaced: frame.interlaced })
    }

    /// A row, of those that there are.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        let place = if self.interlaced { interlaced(row, self.height) } else { row };
        &self.bytes[place * self.width..][..self.width]
    }

    /// The largest index.
    pub(super) fn largest(&self) -> usize {
        self.bytes.iter().copied().max().unwrap_or_default().into()
    }
}

/// Which row of an interlaced file the picture's row is: every eighth one comes first, then those halfway between them,
/// then every other of four, and at last the odd ones (GIF89a, appendix E).
fn interlaced(row: usize, height: usize) -> usize {
    let (first, second, third) = (height.div_ceil(8), (height + 3) / 8, (height + 1) / 4);
    match row % 8 {
        0 => row / 8,
        4 => first + row / 8,
        2 | 6 => first + second + row / 4,
        _ => first + second + third + row / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_an_interlaced_frame_come_in_four_passes() {
        for height in 0..70 {
            let passes = [(0, 8), (4, 8), (2, 4), (1, 2)];
            let order = passes.into_iter().flat_map(|(first, step)| (first..height).step_by(step));
            for (place, row) in order.enumerate() {
                assert_eq!(interlaced(row, height), place, "row {row} of {height}");
            }
        }
    }
}
