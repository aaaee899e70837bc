//! Which part of a picture is kept, and how large it becomes.

use super::recipe::Fit;

/// A part of a picture, in its own pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crop {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Crop {
    /// The same part of a smaller copy, which has `scale` pixels for each of the picture's, across and down, and
    /// is `width` × `height` large: what is left over of a pixel at the end of a row is a pixel there.
    pub(super) fn scaled(self, (across, down): (f64, f64), (width, height): (u32, u32)) -> Self {
        let (left, top) = (self.left * across, self.top * down);
        Self {
            left,
            top,
            width: (self.width * across).min(f64::from(width) - left),
            height: (self.height * down).min(f64::from(height) - top),
        }
    }

    /// The same on whole pixels where it keeps its size at `to`, but for a part of a pixel that a decoder has rounded
    /// away: such a picture is cut out, not resampled. It never reaches beyond the pixels that this reaches into.
    pub(super) fn for_size(self, to: (u32, u32)) -> Self {
        let (width, height) = (f64::from(to.0), f64::from(to.1));
        if (self.width - width).abs() < 1.0 && (self.height - height).abs() < 1.0 {
            Self { left: self.left.floor(), top: self.top.floor(), width, height }
        } else {
            self
        }
    }
}

/// The part of a picture of `width` × `height` that is kept, about its very centre.
pub(super) fn crop(width: u32, height: u32, fit: Fit) -> Crop {
    let (w, h) = (f64::from(width), f64::from(height));
    match fit {
        Fit::Contain => Crop { left: 0.0, top: 0.0, width: w, height: h },
        Fit::Cover => {
            let side = w.min(h);
            Crop { left: (w - side) / 2.0, top: (h - side) / 2.0, width: side, height: side }
        }
    }
}

/// The size of the rendition of a source of `width` × `height` at `edge`. Nothing is enlarged.
pub(super) fn target(width: u32, height: u32, fit: Fit, edge: u32) -> (u32, u32) {
    match fit {
        Fit::Cover => {
            let side = width.min(height).min(edge);
            (side, side)
        }
        Fit::Contain => {
            let long = width.max(height);
            if long <= edge {
                return (width, height);
            }
            let scaled = |side: u32| {
                let exact = u64::from(side) * u64::from(edge);
                let rounded = (exact + u64::from(long) / 2) / u64::from(long);
                u32::try_from(rounded).unwrap_or(edge).clamp(1, edge)
            };
            (scaled(width), scaled(height))
        }
    }
}

/// The side of a picture that a rendition's edge is measured on.
pub(super) fn measured_side(width: u32, height: u32, fit: Fit) -> u32 {
    match fit {
        Fit::Cover => width.min(height),
        Fit::Contain => width.max(height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cover_keeps_the_centred_square_and_contain_keeps_everything() {
        assert_eq!(crop(600, 400, Fit::Cover), Crop { left: 100.0, top: 0.0, width: 400.0, height: 400.0 });
        assert_eq!(crop(600, 401, Fit::Contain), Crop { left: 0.0, top: 0.0, width: 600.0, height: 401.0 });
        assert_eq!(target(600, 400, Fit::Cover, 512), (400, 400));
        assert_eq!(target(6000, 4000, Fit::Contain, 512), (512, 341));
        assert_eq!(target(60_000, 10, Fit::Contain, 512), (512, 1));
    }

    proptest! {
        #[test]
        fn nothing_is_enlarged_and_nothing_vanishes(width in 1_u32..70_000, height in 1_u32..70_000, edge in 1_u32..5_000) {
            for fit in [Fit::Cover, Fit::Contain] {
                let (w, h) = target(width, height, fit, edge);
                prop_assert!(w >= 1 && h >= 1 && w <= edge && h <= edge && w <= width && h <= height);
                let crop = crop(width, height, fit);
                prop_assert!(crop.left >= 0.0 && crop.left + crop.width <= f64::from(width));
                prop_assert!(crop.top >= 0.0 && crop.top + crop.height <= f64::from(height));
            }
        }
    }
}
