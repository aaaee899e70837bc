//! To sRGB, by the profile that the picture carries.

use moxcms::{CicpProfile, ColorProfile, DataColorSpace, Layout, TransformOptions, curve_from_gamma};

use super::raster::{Channels, Image};

/// How the samples of a picture are meant.
#[derive(Debug, Clone, Default)]
pub(super) enum ColourInfo {
    /// As sRGB, which is also what is assumed where nothing is said.
    #[default]
    Srgb,
    /// By an ICC profile.
    Icc(Vec<u8>),
    /// By code points of ITU-T H.273 (PNG `cICP`).
    Cicp { primaries: u8, transfer: u8 },
    /// With sRGB's primaries and this decoding exponent (PNG `gAMA`).
    Gamma(f32),
}

impl ColourInfo {
    /// The profile, unless it is sRGB, or cannot be used for pictures with these channels: a damaged profile
    /// is no reason to refuse a picture whose pixels are sound.
    pub(super) fn profile(&self, channels: Channels) -> Option<ColorProfile> {
        let profile = match self {
            Self::Srgb => return None,
            Self::Icc(bytes) => ColorProfile::new_from_slice(bytes).ok()?,
            Self::Cicp { primaries, transfer } => ColorProfile::new_from_cicp(CicpProfile {
                color_primaries: (*primaries).try_into().ok()?,
                transfer_characteristics: (*transfer).try_into().ok()?,
                matrix_coefficients: 0_u8.try_into().ok()?,
                full_range: true,
            }),
            Self::Gamma(exponent) => {
                let mut profile = ColorProfile::new_srgb();
                let curve = curve_from_gamma(*exponent);
                profile.red_trc = Some(curve.clone());
                profile.green_trc = Some(curve.clone());
                profile.blue_trc = Some(curve);
                profile.cicp = None;
                profile
            }
        };
        let space = match channels {
            Channels::Gray => DataColorSpace::Gray,
            Channels::Rgb | Channels::Rgba => DataColorSpace::Rgb,
            Channels::Cmyk => DataColorSpace::Cmyk,
        };
        (profile.color_space == space && !(space == DataColorSpace::Rgb && is_srgb(&profile)))
            .then_some(profile)
    }
}

/// Whether converting by this profile leaves colours as they are, as nearly as 8 bits can say. Most
/// pictures carry some maker's edition of sRGB, and need no conversion.
fn is_srgb(profile: &ColorProfile) -> bool {
    const PROBES: [u8; 36] = [
        0, 0, 0, 255, 255, 255, 128, 128, 128, 255, 0, 0, 0, 255, 0, 0, 0, 255, 64, 128, 192, 192, 64, 32,
        16, 200, 100, 240, 230, 20, 8, 8, 8, 90, 20, 160,
    ];
    let mut converted = [0; PROBES.len()];
    let transform = profile.create_transform_8bit(
        Layout::Rgb,
        &ColorProfile::new_srgb(),
        Layout::Rgb,
        TransformOptions::default(),
    );
    transform.is_ok_and(|transform| transform.transform(&PROBES, &mut converted).is_ok())
        && PROBES.iter().zip(converted).all(|(before, after)| before.abs_diff(after) <= 2)
}

/// `image` as RGB, or RGBA where it has alpha, in sRGB.
pub(super) fn to_srgb(image: Image, profile: Option<&ColorProfile>) -> Image {
    let converted = profile.and_then(|profile| convert(&image, profile));
    match (converted, image.channels) {
        (Some(converted), _) => converted,
        (None, Channels::Rgb | Channels::Rgba) => image,
        (None, Channels::Gray) => {
            let samples = image.samples.iter().flat_map(|gray| [*gray; 3]).collect();
            Image { channels: Channels::Rgb, samples, ..image }
        }
        // Without a profile nobody knows the inks; this is how process colours multiply on white paper.
        (None, Channels::Cmyk) => {
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

fn convert(image: &Image, profile: &ColorProfile) -> Option<Image> {
    let (from, to, channels) = match image.channels {
        Channels::Gray => (Layout::Gray, Layout::Rgb, Channels::Rgb),
        Channels::Rgb => (Layout::Rgb, Layout::Rgb, Channels::Rgb),
        Channels::Rgba => (Layout::Rgba, Layout::Rgba, Channels::Rgba),
        // moxcms names four channels RGBA, whatever they are.
        Channels::Cmyk => (Layout::Rgba, Layout::Rgb, Channels::Rgb),
    };
    let options = TransformOptions::default();
    let transform = profile.create_transform_8bit(from, &ColorProfile::new_srgb(), to, options).ok()?;
    let mut samples = vec![0; image.samples.len() / image.channels.count() * channels.count()];
    transform.transform(&image.samples, &mut samples).ok()?;
    if image.channels == Channels::Rgba {
        // Alpha is no colour.
        for (after, before) in samples.chunks_exact_mut(4).zip(image.samples.chunks_exact(4)) {
            after[3] = before[3];
        }
    }
    Some(Image { width: image.width, height: image.height, channels, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srgb_needs_no_conversion_and_display_p3_does() {
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        assert!(ColourInfo::Icc(srgb).profile(Channels::Rgb).is_none());
        let p3 = ColorProfile::new_display_p3().encode().unwrap();
        assert!(ColourInfo::Icc(p3.clone()).profile(Channels::Rgb).is_some());
        assert!(
            ColourInfo::Icc(p3).profile(Channels::Gray).is_none(),
            "a profile for other channels is ignored"
        );
        assert!(ColourInfo::Icc(b"garbage".to_vec()).profile(Channels::Rgb).is_none());
    }

    #[test]
    fn a_display_p3_red_becomes_the_reddest_that_srgb_has() {
        let profile = ColorProfile::new_display_p3();
        let image = Image { width: 1, height: 1, channels: Channels::Rgba, samples: vec![255, 0, 0, 77] };
        let converted = to_srgb(image, Some(&profile));
        assert_eq!((converted.samples[0], converted.samples[3]), (255, 77));
    }

    #[test]
    fn inks_darken_paper() {
        let image = |samples: Vec<u8>| Image { width: 1, height: 1, channels: Channels::Cmyk, samples };
        assert_eq!(to_srgb(image(vec![0, 0, 0, 0]), None).samples, [255, 255, 255]);
        assert_eq!(to_srgb(image(vec![255, 0, 0, 0]), None).samples, [0, 255, 255]);
        assert_eq!(to_srgb(image(vec![0, 0, 0, 255]), None).samples, [0, 0, 0]);
    }
}
