//! Pictures that are brighter than a screen's white (PQ and HLG of ITU-R BT.2100), brought down to sRGB.
//!
//! Diffuse white is 203 cd/m² (ITU-R BT.2408) and the brightest 1000. Up to about half of diffuse white everything
//! stays as it is; above, it is rolled off by the curve of ITU-R BT.2390, all three colours by the same factor,
//! so that hues stay.

use moxcms::{CicpColorPrimaries, ColorProfile, Matrix3d, TransferCharacteristics, Vector3d};

use super::super::raster::to_u8;

/// Diffuse white, which becomes the screen's white at the end of the roll-off, in cd/m².
const WHITE: f64 = 203.0;

/// The brightest that is told apart, in cd/m².
const PEAK: f64 = 1000.0;

/// Both transfer functions are tables over eight bits, and so is what follows.
#[derive(Debug, Clone)]
pub(super) struct ToneMap {
    /// What each sample means: cd/m² for PQ, light of the scene from 0 to 1 for HLG.
    light: [f64; 256],
    /// The picture's part of red, green and blue in luminance, where light is the scene's.
    scene: Option<[f64; 3]>,
    /// From the picture's primaries to sRGB's.
    matrix: Matrix3d,
}

impl ToneMap {
    /// For primaries and a transfer function; `None` where this is not a matter of brightness.
    pub(super) fn of(primaries: CicpColorPrimaries, transfer: TransferCharacteristics) -> Option<Self> {
        let decode = match transfer {
            TransferCharacteristics::Smpte2084 => pq,
            TransferCharacteristics::Hlg => hlg,
            _ => return None,
        };
        let profile = super::defined(primaries, TransferCharacteristics::Linear)?;
        let scene = (transfer == TransferCharacteristics::Hlg).then(|| profile.rgb_to_xyz_matrix().v[1]);
        Some(Self {
            light: std::array::from_fn(|code| decode(code as f64 / 255.0)),
            scene,
            matrix: profile.transform_matrix(&ColorProfile::new_srgb()),
        })
    }

    /// One pixel.
    pub(super) fn to_srgb(&self, pixel: [u8; 3]) -> [u8; 3] {
        let mut light = pixel.map(|sample| self.light[usize::from(sample)]);
        if let Some(parts) = self.scene {
            // From the scene to a screen of the peak's brightness.
            let luminance: f64 = light.iter().zip(parts).map(|(light, part)| light * part).sum();
            let gain = PEAK * luminance.max(0.0).powf(0.2);
            light = light.map(|light| light * gain);
        }
        let brightest = light.into_iter().fold(0.0, f64::max);
        if brightest > 0.0 {
            let factor = rolled_off(brightest) / brightest / WHITE;
            light = light.map(|light| light * factor);
        }
        self.matrix.mul_vector(Vector3d { v: light }).v.map(encoded)
    }
}

/// SMPTE ST 2084: from a signal of 0 to 1 to cd/m².
fn pq(signal: f64) -> f64 {
    let power = signal.powf(1.0 / 78.84375);
    let light = (power - 0.8359375).max(0.0) / (18.8515625 - 18.6875 * power);
    10_000.0 * light.powf(1.0 / 0.159_301_757_812_5)
}

/// The inverse of [`pq`].
fn pq_signal(light: f64) -> f64 {
    let power = (light / 10_000.0).powf(0.159_301_757_812_5);
    ((0.8359375 + 18.8515625 * power) / (1.0 + 18.6875 * power)).powf(78.84375)
}

/// ARIB STD-B67: from a signal to the scene's light, both from 0 to 1.
fn hlg(signal: f64) -> f64 {
    const A: f64 = 0.178_832_77;
    const B: f64 = 1.0 - 4.0 * A;
    if signal <= 0.5 {
        signal * signal / 3.0
    } else {
        let c = 0.5 - A * (4.0 * A).ln();
        (((signal - c) / A).exp() + B) / 12.0
    }
}

/// The roll-off of BT.2390, from cd/m² to cd/m².
fn rolled_off(light: f64) -> f64 {
    let peak = pq_signal(PEAK);
    let white = pq_signal(WHITE) / peak;
    let knee = 1.5 * white - 0.5;
    let signal = (pq_signal(light) / peak).min(1.0);
    if signal <= knee {
        return light;
    }
    let t = (signal - knee) / (1.0 - knee);
    let (t2, t3) = (t * t, t * t * t);
    let rolled = (2.0 * t3 - 3.0 * t2 + 1.0) * knee
        + (t3 - 2.0 * t2 + t) * (1.0 - knee)
        + (3.0 * t2 - 2.0 * t3) * white;
    pq(rolled * peak)
}

/// sRGB's encoding of linear light.
#[expect(clippy::cast_possible_truncation, reason = "eight bits are left of it")]
fn encoded(light: f64) -> u8 {
    let light = light.clamp(0.0, 1.0);
    let signal = if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
    to_u8(signal as f32 * 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transfer_functions_meet_their_published_points() {
        // BT.2408, table 1: diffuse white is 58 % of PQ and 75 % of HLG.
        assert!((pq(0.58) - 203.0).abs() < 3.0, "{}", pq(0.58));
        assert!((pq_signal(203.0) - 0.58).abs() < 0.002);
        assert!((hlg(0.5) - 1.0 / 12.0).abs() < 1e-9);
        assert!((hlg(1.0) - 1.0).abs() < 1e-6);
        assert!((PEAK * hlg(0.75).powf(1.2) - 203.0).abs() < 3.0);
    }

    #[test]
    fn shadows_stay_and_the_brightest_becomes_white() {
        assert!((rolled_off(50.0) - 50.0).abs() < 1e-9);
        assert!((rolled_off(1000.0) - 203.0).abs() < 0.5);
        assert!((rolled_off(9000.0) - 203.0).abs() < 0.5);
        let mut last = 0.0;
        for light in 1..2000 {
            let now = rolled_off(f64::from(light));
            assert!(now >= last - 1e-9, "brighter stays brighter at {light}");
            last = now;
        }
    }
}
