//! To sRGB from profiles that are curves and a matrix, as nearly all of photographs are, or one curve for gray, by the
//! profile's own arithmetic. Samples of eight bits need no more than 256 sums for each channel, which take microseconds to make; the
//! tables of a conversion that is meant for any samples took a tenth of a small avatar's time.

use std::sync::LazyLock;

use moxcms::{ColorProfile, DataColorSpace};

/// The light of white.
const WHITE: i32 = 1 << 24;

/// Equal parts of the light from black to white, of which none holds more than one border between two levels.
const BINS: usize = 4096;

/// The light in one of them.
const BIN: i32 = WHITE >> 12;

/// More light than this from one channel is no profile's, and could overflow.
const MOST: f64 = 32.0;

/// Linear light of sRGB's red, green and blue; the fourth fills a register of the processor.
type Light = [i32; 4];

/// Which level of sRGB some light is, rounded to the nearest.
struct Levels {
    /// The level at the dark end of each bin.
    darkest: [u8; BINS],
    /// The light from which on it is the next level already.
    next: [i32; 256],
}

static LEVELS: LazyLock<Levels> = LazyLock::new(Levels::new);

impl Levels {
    fn new() -> Self {
        let next = std::array::from_fn(|level| match u8::try_from(level) {
            Ok(u8::MAX) | Err(_) => i32::MAX,
            Ok(level) => parts(linear((f64::from(level) + 0.5) / 255.0)).unwrap_or(i32::MAX),
        });
        let (mut level, mut light) = (0_u8, 0);
        let darkest = std::array::from_fn(|_| {
            while light >= next[usize::from(level)] {
                level += 1;
            }
            light += BIN;
            level
        });
        Self { darkest, next }
    }

    fn of(&self, light: i32) -> u8 {
        let light = light.clamp(0, WHITE - 1);
        let level = self.darkest[usize::try_from(light / BIN).unwrap_or_default() % BINS];
        level + u8::from(light >= self.next[usize::from(level)])
    }
}

/// IEC 61966-2-1.
fn linear(sample: f64) -> f64 {
    if sample <= 0.04045 { sample / 12.92 } else { ((sample + 0.055) / 1.055).powf(2.4) }
}

/// As parts of white's light; `None` where it is beyond all measure.
#[expect(clippy::cast_possible_truncation, reason = "held against the largest before")]
fn parts(light: f64) -> Option<i32> {
    (light.abs() < MOST).then(|| (light * f64::from(WHITE)).round() as i32)
}

/// Whether a profile is more than curves, or leads elsewhere than to CIE XYZ.
fn has_tables(profile: &ColorProfile) -> bool {
    profile.pcs != DataColorSpace::Xyz
        || profile.lut_a_to_b_perceptual.is_some()
        || profile.lut_a_to_b_colorimetric.is_some()
        || profile.lut_a_to_b_saturation.is_some()
}

/// What each gray becomes by a profile for gray; `None` where the profile is more than a curve.
pub(super) fn grays(profile: &ColorProfile) -> Option<[u8; 256]> {
    if profile.color_space != DataColorSpace::Gray || has_tables(profile) {
        return None;
    }
    let curve = profile.build_8bit_lin_table(&profile.gray_trc).ok()?;
    let mut levels = [0; 256];
    for (level, light) in levels.iter_mut().zip(curve.iter()) {
        *level = LEVELS.of(parts(f64::from(*light))?);
    }
    Some(levels)
}

/// A profile's three curves and its matrix, multiplied out.
#[derive(Clone)]
pub(super) struct Matrix {
    /// The light that each level of each channel adds.
    shares: Box<[[Light; 256]; 3]>,
}

impl Matrix {
    /// `None` where `profile` is more than curves and a matrix, or makes no sense.
    pub(super) fn of(profile: &ColorProfile) -> Option<Self> {
        if !profile.is_matrix_shaper() || has_tables(profile) {
            return None;
        }
        let matrix = profile.transform_matrix(&ColorProfile::new_srgb()).v;
        let curves = [
            profile.build_r_linearize_table::<u8, 256, 8>(true).ok()?,
            profile.build_g_linearize_table::<u8, 256, 8>(true).ok()?,
            profile.build_b_linearize_table::<u8, 256, 8>(true).ok()?,
        ];
        let mut shares = Box::new([[Light::default(); 256]; 3]);
        for (channel, curve) in curves.iter().enumerate() {
            for (share, light) in shares[channel].iter_mut().zip(curve.iter()) {
                for (part, row) in share.iter_mut().zip(&matrix) {
                    *part = parts(f64::from(*light) * row[channel])?;
                }
            }
        }
        Some(Self { shares })
    }

    fn light(&self, [red, green, blue]: [u8; 3]) -> Light {
        let [reds, greens, blues] = &*self.shares;
        let shares = (&reds[usize::from(red)], &greens[usize::from(green)], &blues[usize::from(blue)]);
        std::array::from_fn(|i| shares.0[i] + shares.1[i] + shares.2[i])
    }

    /// One colour in sRGB.
    pub(super) fn colour(&self, colour: [u8; 3]) -> [u8; 3] {
        let [red, green, blue, _] = self.light(colour);
        [red, green, blue].map(|light| LEVELS.of(light))
    }

    /// Converts pixels of three samples, or of four, of which the last is no colour.
    pub(super) fn convert<const CHANNELS: usize>(&self, pixels: &mut [[u8; CHANNELS]]) {
        let levels = &*LEVELS;
        for pixel in pixels {
            if let [red, green, blue, ..] = &mut pixel[..] {
                let light = self.light([*red, *green, *blue]);
                (*red, *green, *blue) = (levels.of(light[0]), levels.of(light[1]), levels.of(light[2]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moxcms::{Layout, TransformOptions, curve_from_gamma};
    use proptest::prelude::*;

    fn encoded(light: f64) -> f64 {
        let light = light.clamp(0.0, 1.0);
        255.0 * if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
    }

    #[test]
    fn light_becomes_the_nearest_level() {
        for light in (-WHITE / 8..WHITE + WHITE / 8).step_by(97) {
            let exact = encoded(f64::from(light) / f64::from(WHITE));
            let level = f64::from(LEVELS.of(light));
            assert!((level - exact).abs() <= 0.502, "{light}: {level}, not {exact}");
        }
        assert_eq!([LEVELS.of(0), LEVELS.of(WHITE)], [0, 255]);
        assert_eq!([LEVELS.of(i32::MIN), LEVELS.of(i32::MAX)], [0, 255]);
    }

    #[test]
    fn no_level_is_left_out() {
        let all: Vec<u8> =
            (0..=u8::MAX).map(|level| LEVELS.of(parts(linear(f64::from(level) / 255.0)).unwrap())).collect();
        assert_eq!(all, (0..=u8::MAX).collect::<Vec<_>>());
    }

    /// Every twelfth level of each channel, and all of the darkest, where steps are the largest.
    fn colours() -> Vec<[u8; 3]> {
        let cube = (0..22_u32.pow(3)).map(|i| [i % 22, i / 22 % 22, i / 484].map(|level| level * 12));
        let dark = (0..20_u32.pow(3)).map(|i| [i % 20, i / 20 % 20, i / 400]);
        cube.chain(dark).map(|colour| colour.map(|level| u8::try_from(level).unwrap())).collect()
    }

    #[test]
    fn colours_are_within_one_level_of_those_by_large_tables() {
        for profile in [
            ColorProfile::new_display_p3(),
            ColorProfile::new_adobe_rgb(),
            ColorProfile::new_bt2020(),
            ColorProfile::new_pro_photo_rgb(),
        ] {
            let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
            let executor = profile.create_transform_16bit(Layout::Rgb, &srgb, Layout::Rgb, options).unwrap();
            let mut ours = colours();
            let wide: Vec<u16> = ours.as_flattened().iter().map(|level| u16::from(*level) * 257).collect();
            let mut theirs = vec![0; wide.len()];
            executor.transform(&wide, &mut theirs).unwrap();
            Matrix::of(&profile).unwrap().convert(&mut ours);
            let pairs = ours.as_flattened().iter().zip(&theirs);
            let differences: Vec<f64> =
                pairs.map(|(ours, theirs)| f64::from(*ours) - f64::from(*theirs) / 257.0).collect();
            let (least, most) = differences
                .iter()
                .fold((0.0_f64, 0.0_f64), |(least, most), found| (least.min(*found), most.max(*found)));
            assert!(least > -1.0 && most < 1.0, "{least} to {most}");
        }
    }

    #[test]
    fn a_profile_with_tables_or_without_sense_is_left_to_others() {
        let mut gray = ColorProfile::new_srgb();
        gray.color_space = DataColorSpace::Gray;
        assert!(Matrix::of(&gray).is_none());
        let mut nonsense = ColorProfile::new_srgb();
        nonsense.red_colorant.x = f64::NAN;
        assert!(Matrix::of(&nonsense).is_none());
        nonsense.red_colorant.x = 1e9;
        assert!(Matrix::of(&nonsense).is_none());
    }

    #[test]
    fn grays_are_those_of_their_curve() {
        let levels = grays(&ColorProfile::new_gray_with_gamma(1.8)).unwrap();
        // The file has the exponent in 256ths.
        let exponent = (1.8_f64 * 256.0).round() / 256.0;
        for (gray, level) in levels.iter().enumerate() {
            let exact = encoded((gray as f64 / 255.0).powf(exponent));
            assert!((f64::from(*level) - exact).abs() < 0.51, "{gray}: {level}, not {exact}");
        }
        assert!(grays(&ColorProfile::new_srgb()).is_none());
    }

    proptest! {
        #[test]
        fn colours_are_those_of_the_profiles_own_arithmetic(
            gamma in 0.5_f32..3.0,
            turn in prop::array::uniform9(-0.2_f64..0.2),
            colour in prop::array::uniform3(any::<u8>()),
        ) {
            let mut profile = ColorProfile::new_srgb();
            profile.cicp = None;
            let curve = Some(curve_from_gamma(gamma));
            (profile.red_trc, profile.green_trc, profile.blue_trc) = (curve.clone(), curve.clone(), curve);
            let [a, b, c, d, e, f, g, h, i] = turn;
            for (colorant, turn) in [
                (&mut profile.red_colorant, [a, b, c]),
                (&mut profile.green_colorant, [d, e, f]),
                (&mut profile.blue_colorant, [g, h, i]),
            ] {
                colorant.x += turn[0];
                colorant.y += turn[1];
                colorant.z += turn[2];
            }
            // The file has the exponent in 256ths.
            let gamma = f64::from((gamma * 256.0).round()) / 256.0;
            let light = colour.map(|level| (f64::from(level) / 255.0).powf(gamma));
            let rows = profile.transform_matrix(&ColorProfile::new_srgb()).v;
            let seen = Matrix::of(&profile).unwrap().colour(colour);
            for (row, level) in rows.iter().zip(seen) {
                let sum: f64 = row.iter().zip(light).map(|(part, light)| part * light).sum();
                prop_assert!((f64::from(level) - encoded(sum)).abs() < 0.51, "{level}, not {}", encoded(sum));
            }
            let mut with_alpha = [[colour[0], colour[1], colour[2], 77]];
            Matrix::of(&profile).unwrap().convert(&mut with_alpha);
            prop_assert_eq!(with_alpha[0], [seen[0], seen[1], seen[2], 77]);
        }
    }
}
