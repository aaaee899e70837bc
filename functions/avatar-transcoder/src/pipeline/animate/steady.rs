//! What of an animation's frame is drawn again. The encoder leaves out blocks that look nearly as in the frame before, as
//! it was handed in; what changes slowly would so never be drawn again, and end far from where it should. So each
//! block is held against what was drawn last: it either stays exactly that, or is drawn anew.

/// The side of a block that the encoder leaves out whole, from the canvas's corner on.
const SIDE: usize = 8;

/// The frames of an animation that is encoded with loss, one after the other.
pub(super) struct Steady {
    /// RGBA, row by row, as it is shown by now, but for the encoder's loss.
    shown: Vec<u8>,
    width: usize,
    /// By so much may a sample differ from what is shown.
    most: u8,
}

/// By how much a sample may differ for libwebp to see no change at this quality.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 31")]
fn most(quality: u8) -> u8 {
    let part = (f64::from(quality.min(100)) / 100.0).sqrt();
    (31.0 * (1.0 - part) + part).round() as u8
}

impl Steady {
    /// For frames of `width` pixels in a row, which are encoded at `quality`.
    pub(super) fn new(width: u32, quality: u8) -> Self {
        Self { shown: Vec::new(), width: width as usize, most: most(quality) }
    }

    /// The next frame, `rgba`, as it should be encoded.
    pub(super) fn next(&mut self, rgba: &[u8]) -> &[u8] {
        if self.shown.len() != rgba.len() {
            self.shown = rgba.to_vec();
            return &self.shown;
        }
        let (row, most) = (self.width * 4, self.most);
        let bands = self.shown.chunks_mut(row * SIDE).zip(rgba.chunks(row * SIDE));
        for (shown, wanted) in bands {
            for left in (0..row).step_by(SIDE * 4) {
                let part = left..(left + SIDE * 4).min(row);
                let differs = shown
                    .chunks_exact(row)
                    .zip(wanted.chunks_exact(row))
                    .any(|(shown, wanted)| !are_near(&shown[part.clone()], &wanted[part.clone()], most));
                if differs {
                    for (shown, wanted) in shown.chunks_exact_mut(row).zip(wanted.chunks_exact(row)) {
                        shown[part.clone()].copy_from_slice(&wanted[part.clone()]);
                    }
                }
            }
        }
        &self.shown
    }
}

/// Whether two rows of pixels are opaque, and no sample differs by more than `most`.
fn are_near(one: &[u8], other: &[u8], most: u8) -> bool {
    let near = |one: &[u8; 4], other: &[u8; 4]| {
        let differences = [0, 1, 2].map(|i| one[i].abs_diff(other[i]));
        one[3] == 255 && other[3] == 255 && differences.iter().all(|difference| *difference <= most)
    };
    one.as_chunks().0.iter().zip(other.as_chunks().0).all(|(one, other)| near(one, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoders_measure_is_known() {
        assert_eq!([1, 50, 80, 100].map(most), [28, 10, 4, 1]);
    }

    #[test]
    fn what_changes_slowly_is_drawn_again() {
        let mut steady = Steady::new(8, 80);
        let shown: Vec<u8> =
            (100..110).map(|level| steady.next(&[level, level, level, 255].repeat(64))[0]).collect();
        assert_eq!(shown, [100, 100, 100, 100, 100, 105, 105, 105, 105, 105]);
    }

    proptest! {
        #[test]
        fn blocks_stay_exactly_or_are_exactly_drawn(
            width in 1_usize..20,
            height in 1_usize..20,
            quality in 1_u8..=100,
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 20 * 20 * 4), 1..5),
            near in 0_u8..30,
        ) {
            let mut steady = Steady::new(u32::try_from(width).unwrap(), quality);
            let mut before: Option<Vec<u8>> = None;
            for frame in frames {
                let wanted: Vec<u8> = frame[..width * height * 4]
                    .as_chunks::<4>().0.iter()
                    .flat_map(|p| [100 + p[0] % (near + 1), 100 + p[1] % (near + 1), p[2] % (near + 1), 255 - p[3] / 255])
                    .collect();
                let shown = steady.next(&wanted).to_vec();
                for (i, pixel) in shown.as_chunks::<4>().0.iter().enumerate() {
                    let (wanted, was) = (&wanted[i * 4..][..4], before.as_ref().map(|before| &before[i * 4..][..4]));
                    prop_assert!(pixel == wanted || was == Some(pixel));
                    prop_assert!(pixel == wanted || are_near(pixel, wanted, most(quality)));
                }
                before = Some(shown);
            }
        }
    }
}
