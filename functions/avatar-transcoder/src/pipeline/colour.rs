//! To sRGB, by what the picture says about its colours: an ICC profile (by matrix or by table, for gray, RGB or
//! four inks), code points, or a gamma and primaries.

mod hdr;
mod matrix;
mod pruned;

use std::sync::Arc;

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, TransferCharacteristics, Transform16BitExecutor, TransformOptions, curve_from_gamma,
};

use super::raster::{Channels, Image};
use hdr::ToneMap;
use matrix::Matrix;

/// How the samples of a picture are meant.
#[derive(Debug, Clone, Default)]
pub(super) enum ColourInfo {
    /// As sRGB, which is also what is assumed where nothing is said.
    #[default]
    Srgb,
    /// By a profile.
    Profile(Box<ColorProfile>),
    /// By code points of ITU-T H.273.
    CodePoints(CodePoints),
}

/// Code points of ITU-T H.273, as a PNG's `cICP` chunk has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CodePoints {
    pub(super) primaries: u8,
    pub(super) transfer: u8,
    /// Whether black is 16 and white 235.
    pub(super) video_range: bool,
}

/// What the samples of a file are, and thereby which profiles fit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// One sample, perhaps with alpha. A profile for RGB fits too: gray is where all three are the same.
    Gray,
    Rgb,
    Cmyk,
}

/// Where white and the three colours stand in CIE 1931 x and y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chromaticities {
    pub(super) white: (f32, f32),
    pub(super) red: (f32, f32),
    pub(super) green: (f32, f32),
    pub(super) blue: (f32, f32),
}

impl ColourInfo {
    /// By an ICC profile; `None` where it is damaged or for other samples, which is no reason to refuse a picture
    /// whose pixels are sound.
    pub(super) fn of_icc(profile: &[u8], space: Space) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(&pruned::pruned(profile)?).ok()?;
        let fits = match profile.color_space {
            DataColorSpace::Gray => space == Space::Gray,
            DataColorSpace::Rgb => space != Space::Cmyk,
            DataColorSpace::Cmyk => space == Space::Cmyk,
            _ => false,
        };
        if !fits {
            return None;
        }
        // A profile may say in code points that it is brighter than a screen's white, which its curves cannot.
        if let Some(points) = profile.cicp
            && ToneMap::of(points.color_primaries, points.transfer_characteristics).is_some()
        {
            return Self::of_code_points(CodePoints {
                primaries: u8::try_from(points.color_primaries as u32).ok()?,
                transfer: u8::try_from(points.transfer_characteristics as u32).ok()?,
                video_range: false,
            });
        }
        Some(Self::Profile(Box::new(profile)))
    }

    /// By code points; `None` where they name nothing that is defined.
    pub(super) fn of_code_points(points: CodePoints) -> Option<Self> {
        let (primaries, transfer) = points.named()?;
        let defined = ToneMap::of(primaries, transfer).is_some() || points.profile().is_some();
        defined.then_some(Self::CodePoints(points))
    }

    /// By the exponent that decodes the samples, and by primaries; sRGB's where one of them is missing.
    /// `None` where they make no sense.
    pub(super) fn measured(exponent: Option<f32>, primaries: Option<Chromaticities>) -> Option<Self> {
        let mut profile = ColorProfile::new_srgb();
        profile.cicp = None;
        if let Some(exponent) = exponent {
            if !(0.1..=10.0).contains(&exponent) {
                return None;
            }
            let curve = curve_from_gamma(exponent);
            profile.red_trc = Some(curve.clone());
            profile.green_trc = Some(curve.clone());
            profile.blue_trc = Some(curve);
        }
        if let Some(Chromaticities { white, red, green, blue }) = primaries {
            let point = |(x, y): (f32, f32)| Chromaticity { x, y };
            let inside = |(x, y): (f32, f32)| x >= 0.0 && y > 0.0 && x + y <= 1.0;
            let area = (red.0 - blue.0) * (green.1 - blue.1) - (green.0 - blue.0) * (red.1 - blue.1);
            // Blue may lie a hair outside of what can be seen, as in ProPhoto; white may not.
            if !inside(white) || [red, green, blue].iter().any(|(_, y)| *y <= 0.0) || area.abs() < 0.01 {
                return None;
            }
            let primaries = ColorPrimaries { red: point(red), green: point(green), blue: point(blue) };
            profile.update_rgb_colorimetry(point(white).to_xyyb(), primaries);
        }
        Some(Self::Profile(Box::new(profile)))
    }

    /// How pictures with these channels become sRGB; `None` where they are already.
    pub(super) fn conversion(&self, channels: Channels) -> Option<Conversion> {
        match self {
            Self::Srgb => None,
            Self::Profile(profile) => Conversion::by_profile(profile, channels),
            Self::CodePoints(points) => {
                let (primaries, transfer) = points.named()?;
                let kind = match ToneMap::of(primaries, transfer) {
                    Some(tone_map) => Some(Kind::Bright(Box::new(tone_map))),
                    None => Conversion::by_profile(&points.profile()?, channels).map(|found| found.kind),
                };
                match (kind, points.video_range) {
                    (None, false) => None,
                    (kind, video_range) => Some(Conversion { kind: kind.unwrap_or(Kind::None), video_range }),
                }
            }
        }
    }
}

impl CodePoints {
    fn named(self) -> Option<(CicpColorPrimaries, TransferCharacteristics)> {
        Some((self.primaries.try_into().ok()?, self.transfer.try_into().ok()?))
    }

    fn profile(self) -> Option<ColorProfile> {
        let (primaries, transfer) = self.named()?;
        defined(primaries, transfer)
    }
}

/// The profile of these code points, in full range; `None` where they are reserved or unspecified.
fn defined(
    color_primaries: CicpColorPrimaries,
    transfer_characteristics: TransferCharacteristics,
) -> Option<ColorProfile> {
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    profile.update_rgb_colorimetry_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    // Whether it was updated does not show in what is returned (moxcms 0.9 always answers false).
    profile.cicp.is_some().then_some(profile)
}

/// A way from a picture's colours to sRGB, made once for all its renditions.
#[derive(Clone)]
pub(super) struct Conversion {
    kind: Kind,
    /// Whether samples have to be stretched from 16…235 first.
    video_range: bool,
}

#[derive(Clone)]
enum Kind {
    None,
    /// What each gray becomes, for samples that are gray, with alpha or without.
    Gray(Box<[[u8; 3]; 256]>),
    Matrix(Matrix),
    Tables(Transform),
    Bright(Box<ToneMap>),
}

/// Most pictures carry some maker's edition of sRGB, and need no conversion: whether that is so, is tried on
/// these colours.
const PROBES: [[u8; 3]; 12] = [
    [0, 0, 0],
    [255, 255, 255],
    [128, 128, 128],
    [255, 0, 0],
    [0, 255, 0],
    [0, 0, 255],
    [64, 128, 192],
    [192, 64, 32],
    [16, 200, 100],
    [240, 230, 20],
    [8, 8, 8],
    [90, 20, 160],
];

/// Up to so much may a probe differ, which is what rounding does in the editions of sRGB.
const NEAR: u8 = 2;

fn is_near(before: [u8; 3], after: [u8; 3]) -> bool {
    before.iter().zip(after).all(|(before, after)| before.abs_diff(after) <= NEAR)
}

/// Samples that are converted in one go.
const BATCH: usize = 4 * 3 * 1024;

/// A conversion by tables, between layouts, in 16 bits: in 8 moxcms cuts off what it should round, which darkens by
/// half a level.
#[derive(Clone)]
struct Transform {
    executor: Arc<Transform16BitExecutor>,
    channels: usize,
    to_channels: usize,
}

impl Transform {
    fn new(profile: &ColorProfile, from: Layout, to: Layout) -> Option<Self> {
        let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
        let executor = profile.create_transform_16bit(from, &srgb, to, options).ok()?;
        Some(Self { executor, channels: from.channels(), to_channels: to.channels() })
    }

    fn apply(&self, samples: &[u8]) -> Option<Vec<u8>> {
        let mut converted = Vec::with_capacity(samples.len() / self.channels * self.to_channels);
        let mut wide = Vec::with_capacity(BATCH);
        for batch in samples.chunks(BATCH) {
            let from: Vec<u16> = batch.iter().map(|sample| u16::from(*sample) * 257).collect();
            wide.resize(batch.len() / self.channels * self.to_channels, 0);
            self.executor.transform(&from, &mut wide).ok()?;
            let narrow = |sample: &u16| (u32::from(*sample) * 255 + 32767) / 65535;
            converted.extend(wide.iter().map(|sample| u8::try_from(narrow(sample)).unwrap_or(u8::MAX)));
        }
        Some(converted)
    }
}

impl Conversion {
    fn by_profile(profile: &ColorProfile, channels: Channels) -> Option<Self> {
        let kind = match (profile.color_space, channels) {
            (DataColorSpace::Gray, Channels::Gray | Channels::Rgb | Channels::Rgba) => {
                Kind::Gray(match matrix::grays(profile) {
                    Some(levels) => Box::new(levels.map(|level| [level; 3])),
                    None => grays(&Transform::new(profile, Layout::Gray, Layout::Rgb)?)?,
                })
            }
            (DataColorSpace::Rgb, Channels::Gray) => Kind::Gray(match Matrix::of(profile) {
                Some(matrix) => Box::new(std::array::from_fn(|gray| {
                    matrix.colour([u8::try_from(gray).unwrap_or(u8::MAX); 3])
                })),
                None => grays(&Transform::new(profile, Layout::Rgb, Layout::Rgb)?)?,
            }),
            (DataColorSpace::Rgb, Channels::Rgb | Channels::Rgba) => match Matrix::of(profile) {
                Some(matrix) if PROBES.iter().all(|probe| is_near(*probe, matrix.colour(*probe))) => {
                    return None;
                }
                Some(matrix) => Kind::Matrix(matrix),
                None => {
                    let colours = Transform::new(profile, Layout::Rgb, Layout::Rgb)?;
                    let converted = colours.apply(PROBES.as_flattened())?;
                    if PROBES.iter().zip(converted.as_chunks().0).all(|(a, b)| is_near(*a, *b)) {
                        return None;
                    }
                    Kind::Tables(match channels {
                        Channels::Rgba => Transform::new(profile, Layout::Rgba, Layout::Rgba)?,
                        _ => colours,
                    })
                }
            },
            // Four channels are named RGBA, whatever they are.
            (DataColorSpace::Cmyk, Channels::Cmyk) => {
                Kind::Tables(Transform::new(profile, Layout::Rgba, Layout::Rgb)?)
            }
            _ => return None,
        };
        let unchanged =
            |table: &[[u8; 3]; 256]| (0..=u8::MAX).zip(table).all(|(gray, to)| is_near([gray; 3], *to));
        match &kind {
            Kind::Gray(table) if unchanged(table) => None,
            _ => Some(Self { kind, video_range: false }),
        }
    }

    /// What each gray becomes, if nothing but gray comes of gray.
    pub(super) fn of_gray(&self) -> Option<[u8; 256]> {
        match &self.kind {
            Kind::Gray(table) if !self.video_range => {
                let stays_gray = table.iter().all(|[red, green, blue]| red == green && green == blue);
                stays_gray.then(|| table.map(|[gray, ..]| gray))
            }
            _ => None,
        }
    }

    /// `image` as RGB, or RGBA where it has alpha.
    fn apply(&self, mut image: Image) -> Image {
        if self.video_range {
            each_colour(&mut image, |sample| {
                let full = (i32::from(sample) - 16) * 255;
                u8::try_from((full + 109).clamp(0, 255 * 219) / 219).unwrap_or(u8::MAX)
            });
        }
        match &self.kind {
            Kind::None => without_profile(image),
            Kind::Gray(table) => per_pixel(&image, |pixel| table[usize::from(pixel[0])]),
            Kind::Bright(tone_map) => per_pixel(&image, |pixel| tone_map.to_srgb(pixel)),
            Kind::Matrix(matrix) => {
                match image.channels {
                    Channels::Rgb => matrix.convert(image.samples.as_chunks_mut::<3>().0),
                    Channels::Rgba => matrix.convert(image.samples.as_chunks_mut::<4>().0),
                    // Made for other channels.
                    Channels::Gray | Channels::Cmyk => return without_profile(image),
                }
                image
            }
            Kind::Tables(transform) => {
                let channels = match image.channels {
                    Channels::Cmyk => Channels::Rgb,
                    other => other,
                };
                // It was made for other channels, if it fails.
                let Some(mut samples) = transform.apply(&image.samples) else {
                    return without_profile(image);
                };
                if channels == Channels::Rgba {
                    // Alpha is no colour.
                    for (after, before) in samples.chunks_exact_mut(4).zip(image.samples.chunks_exact(4)) {
                        after[3] = before[3];
                    }
                }
                Image { channels, samples, ..image }
            }
        }
    }
}

/// What a conversion makes of each gray.
fn grays(transform: &Transform) -> Option<Box<[[u8; 3]; 256]>> {
    let all: Vec<u8> = (0..=u8::MAX).flat_map(|gray| std::iter::repeat_n(gray, transform.channels)).collect();
    let converted = transform.apply(&all)?;
    let mut table = Box::new([[0; 3]; 256]);
    for (entry, found) in table.iter_mut().zip(converted.as_chunks::<3>().0) {
        *entry = *found;
    }
    Some(table)
}

fn each_colour(image: &mut Image, change: impl Fn(u8) -> u8) {
    let colours = if image.channels == Channels::Rgba { 3 } else { image.channels.count() };
    for pixel in image.samples.chunks_exact_mut(image.channels.count()) {
        pixel[..colours].iter_mut().for_each(|sample| *sample = change(*sample));
    }
}

/// RGB, or RGBA where there is alpha, pixel by pixel.
fn per_pixel(image: &Image, convert: impl Fn([u8; 3]) -> [u8; 3]) -> Image {
    let (channels, samples) = match image.channels {
        Channels::Gray => {
            (Channels::Rgb, image.samples.iter().flat_map(|gray| convert([*gray; 3])).collect())
        }
        Channels::Rgba => {
            let pixels = image.samples.chunks_exact(4).flat_map(|p| {
                let [red, green, blue] = convert([p[0], p[1], p[2]]);
                [red, green, blue, p[3]]
            });
            (Channels::Rgba, pixels.collect())
        }
        Channels::Rgb | Channels::Cmyk => {
            let pixels = image.samples.chunks_exact(image.channels.count());
            (Channels::Rgb, pixels.flat_map(|p| convert([p[0], p[1], p[2]])).collect())
        }
    };
    Image { channels, samples, ..*image }
}

/// `image` as RGB, or RGBA where it has alpha, in sRGB.
pub(super) fn to_srgb(image: Image, conversion: Option<&Conversion>) -> Image {
    match conversion {
        Some(conversion) => conversion.apply(image),
        None => without_profile(image),
    }
}

fn without_profile(image: Image) -> Image {
    match image.channels {
        Channels::Rgb | Channels::Rgba => image,
        Channels::Gray => per_pixel(&image, |gray| gray),
        // Without a profile nobody knows the inks; this is how process colours multiply on white paper.
        Channels::Cmyk => {
            let paper = |ink: u8, key: u8| {
                let light = u16::from(255 - ink) * u16::from(255 - key);
                u8::try_from((light + 127) / 255).unwrap_or(u8::MAX)
            };
            let samples = image
                .samples
                .chunks_exact(4)
                .flat_map(|p| [paper(p[0], p[3]), paper(p[1], p[3]), paper(p[2], p[3])])
                .collect();
            Image { channels: Channels::Rgb, samples, ..image }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn icc(profile: &ColorProfile, space: Space) -> Option<ColourInfo> {
        ColourInfo::of_icc(&profile.encode().unwrap(), space)
    }

    #[test]
    fn srgb_needs_no_conversion_and_display_p3_does() {
        let srgb = icc(&ColorProfile::new_srgb(), Space::Rgb).unwrap();
        assert!(srgb.conversion(Channels::Rgb).is_none());
        assert!(srgb.conversion(Channels::Gray).is_none());
        let p3 = icc(&ColorProfile::new_display_p3(), Space::Rgb).unwrap();
        assert!(p3.conversion(Channels::Rgb).is_some());
        assert!(p3.conversion(Channels::Gray).is_none(), "gray is the same in both");
    }

    #[test]
    fn a_profile_that_is_damaged_or_for_other_samples_is_ignored() {
        assert!(icc(&ColorProfile::new_display_p3(), Space::Cmyk).is_none());
        assert!(icc(&ColorProfile::new_gray_with_gamma(1.8), Space::Rgb).is_none());
        assert!(icc(&ColorProfile::new_gray_with_gamma(1.8), Space::Gray).is_some());
        assert!(ColourInfo::of_icc(b"garbage", Space::Rgb).is_none());
    }

    #[test]
    fn inks_become_what_their_profile_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/profiles/inks.icc");
        let info = ColourInfo::of_icc(&std::fs::read(path).unwrap(), Space::Cmyk).unwrap();
        let conversion = info.conversion(Channels::Cmyk).unwrap();
        // By LittleCMS; the first ones lie on points of the table, where nothing is interpolated.
        for (inks, expected, near) in [
            ([0, 0, 0, 0], [255, 255, 255], 2),
            ([255, 0, 0, 0], [0, 151, 218], 2),
            ([0, 255, 0, 0], [216, 11, 123], 2),
            ([0, 0, 255, 0], [247, 224, 0], 2),
            ([255, 255, 0, 0], [52, 47, 128], 2),
            ([0, 0, 0, 255], [40, 40, 40], 2),
            ([128, 128, 128, 0], [140, 119, 113], 2),
            ([64, 64, 64, 64], [158, 146, 141], 2),
            ([100, 60, 20, 10], [158, 167, 191], 4),
            ([20, 200, 180, 40], [184, 78, 64], 4),
        ] {
            let image = Image { width: 1, height: 1, channels: Channels::Cmyk, samples: inks.to_vec() };
            let seen = to_srgb(image, Some(&conversion)).samples;
            let close = seen.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= near);
            assert!(close, "{inks:?}: {seen:?}, not {expected:?}");
        }
    }

    #[test]
    fn inks_darken_paper() {
        let image = |samples: Vec<u8>| Image { width: 1, height: 1, channels: Channels::Cmyk, samples };
        assert_eq!(to_srgb(image(vec![0, 0, 0, 0]), None).samples, [255, 255, 255]);
        assert_eq!(to_srgb(image(vec![255, 0, 0, 0]), None).samples, [0, 255, 255]);
        assert_eq!(to_srgb(image(vec![0, 0, 0, 255]), None).samples, [0, 0, 0]);
    }

    #[test]
    fn chromaticities_that_make_no_sense_are_ignored() {
        let srgb = Chromaticities {
            white: (0.3127, 0.3290),
            red: (0.64, 0.33),
            green: (0.30, 0.60),
            blue: (0.15, 0.06),
        };
        let measured = |chromaticities| ColourInfo::measured(None, Some(chromaticities));
        let same = measured(srgb).unwrap();
        assert!(same.conversion(Channels::Rgb).is_none(), "sRGB's own primaries change nothing");
        assert!(measured(Chromaticities { white: (0.0, 0.0), ..srgb }).is_none());
        assert!(measured(Chromaticities { green: (0.15, 0.06), ..srgb }).is_none());
        assert!(ColourInfo::measured(Some(0.0), None).is_none());
        assert!(ColourInfo::measured(Some(f32::NAN), None).is_none());
    }

    #[test]
    fn code_points_that_name_nothing_are_ignored() {
        let points = |primaries, transfer| CodePoints { primaries, transfer, video_range: false };
        assert!(ColourInfo::of_code_points(points(1, 13)).unwrap().conversion(Channels::Rgb).is_none());
        assert!(ColourInfo::of_code_points(points(12, 13)).unwrap().conversion(Channels::Rgb).is_some());
        assert!(ColourInfo::of_code_points(points(2, 2)).is_none(), "unspecified");
        assert!(ColourInfo::of_code_points(points(255, 255)).is_none(), "reserved");
    }
}
