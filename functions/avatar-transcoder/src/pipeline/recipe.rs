//! What an avatar should look like.

use shared::outcome::Reason;

use super::{Limits, geometry, watermark};

/// How a picture that is not square meets a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// The largest square is kept, the one that [`Recipe::gravity`] says; the rest is cut off.
    #[default]
    Cover,
    /// The whole picture is kept, with its longer side at the edge.
    Contain,
}

/// Which square of a picture is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CropGravity {
    /// The one in the middle.
    #[default]
    Centre,
    /// The one that draws the eye, or the one in the middle where none does.
    Smart,
}

/// What lies behind a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Nothing.
    Transparent,
    /// Red, green and blue.
    Colour([u8; 3]),
}

impl Ground {
    /// From `transparent` or `#rrggbb`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "transparent" {
            return Some(Self::Transparent);
        }
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        let mut colour = [0; 3];
        hex::decode_to_slice(digits, &mut colour).ok()?;
        Some(Self::Colour(colour))
    }
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transparent => f.write_str("transparent"),
            Self::Colour(colour) => write!(f, "#{}", hex::encode(colour)),
        }
    }
}

/// What becomes of an animated upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Animation {
    /// It stays animated.
    #[default]
    Keep,
    /// Its first frame is kept.
    Still,
}

/// Where a watermark stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gravity {
    /// In the middle.
    Centre,
    /// At the top, in the middle.
    North,
    /// At the top right.
    NorthEast,
    /// At the right, in the middle.
    East,
    /// At the bottom right.
    #[default]
    SouthEast,
    /// At the bottom, in the middle.
    South,
    /// At the bottom left.
    SouthWest,
    /// At the left, in the middle.
    West,
    /// At the top left.
    NorthWest,
}

impl Gravity {
    /// All of them, by the names that configuration uses.
    const NAMES: [(&'static str, Self); 9] = [
        ("centre", Self::Centre),
        ("north", Self::North),
        ("north-east", Self::NorthEast),
        ("east", Self::East),
        ("south-east", Self::SouthEast),
        ("south", Self::South),
        ("south-west", Self::SouthWest),
        ("west", Self::West),
        ("north-west", Self::NorthWest),
    ];

    /// The gravity of that name, `north-east`; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, gravity)| *gravity)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, gravity)| *gravity == self).map_or("", |(name, _)| name)
    }
}

/// A picture that is laid over every rendition.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green, blue and straight alpha, row by row.
    pub rgba: Vec<u8>,
    /// Where it stands.
    pub gravity: Gravity,
    /// From 0, invisible, to 1, as it is.
    pub opacity: f32,
    /// Its longer side as a part of the rendition's shorter one, from 0 to 1.
    pub scale: f32,
}

impl Watermark {
    /// [`Watermark::scale`], unless it is changed.
    pub const SCALE: f32 = 0.25;

    /// A watermark from the bytes of a PNG, JPEG, GIF or WebP; an animation gives its first frame. It stands at
    /// the bottom right, as it is, a quarter of the rendition wide, until that is changed.
    ///
    /// # Errors
    /// As for an upload.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, Reason> {
        let (width, height, rgba) = super::whole_picture(bytes, limits)?;
        Ok(Self { width, height, rgba, gravity: Gravity::default(), opacity: 1.0, scale: Self::SCALE })
    }
}

/// What an avatar should look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The length of the longer side of the main rendition, in pixels. A smaller source is not enlarged.
    pub edge: u32,
    /// The same for each extra rendition.
    pub extra_edges: Vec<u32>,
    /// How a picture meets the square.
    pub fit: Fit,
    /// Which square is kept, where one is.
    pub gravity: CropGravity,
    /// What is laid behind the picture. With [`Fit::Contain`] it fills the square; without it the rendition is as
    /// wide and high as the picture.
    pub ground: Option<Ground>,
    /// WebP's quality for lossy renditions, 1 to 100.
    pub quality: u8,
    /// What becomes of an animated upload.
    pub animation: Animation,
    /// What is laid over every rendition.
    pub watermark: Option<Watermark>,
}

impl Recipe {
    /// The same recipe with `mark` over every rendition, kept as large as the largest of them needs it.
    #[must_use]
    pub fn with_watermark(self, mark: Watermark) -> Self {
        let watermark = Some(watermark::shrunk(mark, self.largest_edge()));
        Self { watermark, ..self }
    }

    /// The bytes of the watermark's pixels.
    pub(super) fn watermark_bytes(&self) -> u64 {
        self.watermark.as_ref().map_or(0, |mark| mark.rgba.len() as u64)
    }

    /// Whether a JPEG's planes can be encoded without a detour over red, green and blue.
    pub(super) fn keeps_planes(&self) -> bool {
        self.watermark.is_none() && (self.ground.is_none() || self.fit == Fit::Cover)
    }

    /// Whether the square that is kept has to be looked for.
    pub(super) fn looks_for_a_square(&self) -> bool {
        self.fit == Fit::Cover && self.gravity == CropGravity::Smart
    }

    /// The width and height of a rendition of a picture of this size at `edge`.
    pub(super) fn size(&self, width: u32, height: u32, edge: u32) -> (u32, u32) {
        let (wide, high) = geometry::target(width, height, self.fit, edge);
        match self.ground {
            Some(_) => (wide.max(high), wide.max(high)),
            None => (wide, high),
        }
    }

    /// The largest edge of any rendition.
    pub(super) fn largest_edge(&self) -> u32 {
        self.extra_edges.iter().copied().fold(self.edge, u32::max)
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            edge: 512,
            extra_edges: Vec::new(),
            fit: Fit::Cover,
            gravity: CropGravity::Centre,
            ground: None,
            quality: 80,
            animation: Animation::Keep,
            watermark: None,
        }
    }
}
