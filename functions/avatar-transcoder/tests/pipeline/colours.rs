//! What becomes of colours. Expected values are LittleCMS's for the profiles of `tests/fixtures/profiles` (see the
//! README there), or computed from the formulas that a test names.

use avatar_transcoder::pipeline::{Fit, Recipe};

use super::support::*;

/// Rounding at different places: LittleCMS works in 16 bits, and so does moxcms, but not in the same ones.
const NEAR: u8 = 2;

fn assert_colours(seen: [u8; 4], expected: [u8; 3], what: &str) {
    let near = seen.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= NEAR);
    assert!(near, "{what}: saw {seen:?}, expected {expected:?}");
}

/// What LittleCMS makes of Display P3.
const DISPLAY_P3: [([u8; 3], [u8; 3]); 9] = [
    ([255, 0, 0], [255, 0, 0]),
    ([220, 20, 20], [240, 0, 0]),
    ([20, 200, 20], [0, 204, 0]),
    ([20, 20, 220], [20, 20, 229]),
    ([128, 128, 128], [128, 128, 128]),
    ([200, 100, 50], [215, 93, 31]),
    ([64, 128, 192], [32, 130, 197]),
    ([32, 16, 8], [35, 15, 7]),
    ([90, 160, 120], [61, 162, 117]),
];

/// What LittleCMS makes of `wide-gamma-1.8`.
const WIDE: [([u8; 3], [u8; 3]); 7] = [
    ([240, 240, 240], [243, 243, 243]),
    ([128, 128, 128], [147, 147, 147]),
    ([20, 20, 220], [64, 0, 236]),
    ([200, 100, 50], [255, 90, 55]),
    ([64, 128, 192], [0, 150, 208]),
    ([32, 16, 8], [55, 12, 5]),
    ([90, 160, 120], [0, 188, 135]),
];

#[test]
fn display_p3_keeps_its_look() {
    for (stored, expected) in DISPLAY_P3 {
        let png = with_iccp(&flat_png(stored), &profile("display-p3"));
        assert_colours(flat_colour(&png), expected, &format!("{stored:?}"));
    }
}

#[test]
fn a_matrix_profile_of_other_primaries_white_and_gamma_is_applied() {
    for (stored, expected) in WIDE {
        let png = with_iccp(&flat_png(stored), &profile("wide-gamma-1.8"));
        assert_colours(flat_colour(&png), expected, &format!("{stored:?}"));
    }
}

#[test]
fn a_profile_that_is_a_table_is_applied() {
    for (stored, expected) in [
        ([255, 0, 0], [0, 255, 0]),
        ([220, 20, 20], [23, 220, 23]),
        ([20, 200, 20], [24, 22, 200]),
        ([128, 128, 128], [128, 128, 128]),
        ([200, 100, 50], [52, 200, 100]),
        ([64, 128, 192], [192, 64, 128]),
        ([90, 160, 120], [120, 90, 160]),
    ] {
        let png = with_iccp(&flat_png(stored), &profile("swapped-lut"));
        assert_colours(flat_colour(&png), expected, &format!("{stored:?}"));
    }
}

#[test]
fn gray_profiles_are_applied_to_gray_with_and_without_alpha() {
    for (name, pairs) in [
        ("gray-gamma-1.8", [(0, 0), (16, 20), (64, 82), (128, 147), (200, 210), (255, 255)]),
        ("gray-dot-gain", [(0, 0), (16, 34), (64, 89), (128, 149), (200, 211), (255, 255)]),
    ] {
        for (stored, expected) in pairs {
            let what = format!("{name} of {stored}");
            let gray = encode_png(8, 8, png::ColorType::Grayscale, png::BitDepth::Eight, &[stored; 64]);
            assert_colours(flat_colour(&with_iccp(&gray, &profile(name))), [expected; 3], &what);
            let pixels = [stored, 200].repeat(64);
            let with_alpha = encode_png(8, 8, png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, &pixels);
            let seen = flat_colour(&with_iccp(&with_alpha, &profile(name)));
            assert_colours(seen, [expected; 3], &what);
            assert_eq!(seen[3], 200, "alpha is no colour");
        }
    }
    // The mean of LittleCMS's result for the whole picture.
    let jpeg = with_profile(&file("made/gray.jpg"), &profile("gray-gamma-1.8"), 60_000);
    let seen = Seen::of(&made(&jpeg, &recipe(96)).main.webp);
    let mean = seen.rgba.chunks_exact(4).map(|p| f64::from(p[1])).sum::<f64>() / (96.0 * 96.0);
    assert!((mean - 127.64).abs() < 1.5, "{mean}");
}

#[test]
fn a_profile_for_rgb_is_applied_to_gray() {
    // Gray in `wide-gamma-1.8` is gray of its gamma.
    let gray = encode_png(8, 8, png::ColorType::Grayscale, png::BitDepth::Eight, &[128; 64]);
    assert_colours(flat_colour(&with_iccp(&gray, &profile("wide-gamma-1.8"))), [147; 3], "gray");
}

#[test]
fn a_profile_of_four_inks_is_applied() {
    let jpeg = with_profile(&file("made/cmyk-adobe.jpg"), &profile("inks"), 60_000);
    let picture = made(&jpeg, &Recipe { fit: Fit::Contain, ..recipe(64) });
    let seen = Seen::of(&picture.main.webp);
    // LittleCMS on the same file, in the middle of each quarter; ±6 for two lossy codings and because it
    // interpolates between four neighbours and not between sixteen.
    for ((x, y), expected) in [
        ((16, 12), [196, 58, 48]),
        ((48, 12), [7, 128, 74]),
        ((16, 36), [66, 57, 122]),
        ((48, 36), [240, 235, 234]),
    ] {
        let pixel = seen.at(x, y);
        assert!(pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 6), "{pixel:?}, not {expected:?}");
    }
}

#[test]
fn a_jpeg_keeps_the_look_of_its_profile() {
    let recipe = Recipe { fit: Fit::Contain, ..recipe(64) };
    // LittleCMS on the same file, in the middle of each quarter.
    for (name, expected) in [
        ("display-p3", [[240, 0, 0], [0, 204, 0], [21, 20, 229], [240, 240, 240]]),
        ("swapped-lut", [[23, 220, 23], [24, 23, 200], [220, 24, 22], [240, 240, 240]]),
    ] {
        // A profile comes in one segment or in many.
        for part in [60_000, 100] {
            let tagged = with_profile(&file("made/orientation-1.jpg"), &profile(name), part);
            let seen = Seen::of(&made(&tagged, &recipe).main.webp);
            for ((x, y), expected) in [(16, 12), (48, 12), (16, 36), (48, 36)].into_iter().zip(expected) {
                let pixel = seen.at(x, y);
                let near = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 8);
                assert!(near, "{name}: {pixel:?}, not {expected:?}");
            }
        }
    }
}

#[test]
fn a_profile_that_is_damaged_incomplete_or_for_other_samples_is_ignored() {
    let plain = file("made/orientation-1.jpg");
    let expected = made(&plain, &recipe(48)).main.webp;
    let p3 = profile("display-p3");
    let incomplete = with_segment(&plain, 0xe2, &[b"ICC_PROFILE\0\x01\x02", &p3[..200]].concat());
    let mut damaged = p3.clone();
    damaged[36..40].copy_from_slice(b"xxxx");
    for (what, jpeg) in [
        ("incomplete", incomplete),
        ("damaged", with_profile(&plain, &damaged, 60_000)),
        ("cut off", with_profile(&plain, &p3[..300], 60_000)),
        ("gray", with_profile(&plain, &profile("gray-gamma-1.8"), 60_000)),
        ("inks", with_profile(&plain, &profile("inks"), 60_000)),
    ] {
        assert_eq!(made(&jpeg, &recipe(48)).main.webp, expected, "{what}");
    }
}

#[test]
fn a_webp_keeps_the_look_of_its_profile() {
    for (stored, expected) in DISPLAY_P3 {
        let plain = made(&flat_png(stored), &recipe(64)).main.webp;
        let tagged = riff(&[vp8x(0x20, 8, 8), chunk(b"ICCP", &profile("display-p3")), plain[12..].to_vec()]);
        assert_colours(flat_colour(&tagged), expected, &format!("{stored:?}"));
    }
}

/// A gamma, in hundred thousandths.
fn gamma(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// The primaries of `wide-gamma-1.8`, in hundred thousandths.
fn wide_primaries() -> Vec<u8> {
    [34_570, 35_850, 73_500, 26_500, 11_500, 82_600, 15_700, 1_800_u32].map(u32::to_be_bytes).concat()
}

#[test]
fn gamma_in_a_png_is_respected() {
    // 255 × sRGB(( n / 255 )^(1 / gamma)), by the definition of sRGB.
    for (value, stored, expected) in [
        (100_000, 128, 188),
        (100_000, 10, 56),
        (55_556, 128, 147),
        (25_000, 200, 165),
        // What files say that mean sRGB.
        (45_455, 128, 128),
        // Nonsense.
        (0, 128, 128),
    ] {
        let png = with_chunk(&flat_png([stored; 3]), b"gAMA", &gamma(value), b"IDAT");
        assert_colours(flat_colour(&png), [expected; 3], &format!("gamma {value} of {stored}"));
        let gray = encode_png(8, 8, png::ColorType::Grayscale, png::BitDepth::Eight, &[stored; 64]);
        let png = with_chunk(&gray, b"gAMA", &gamma(value), b"IDAT");
        assert_colours(flat_colour(&png), [expected; 3], &format!("gamma {value} of gray {stored}"));
    }
}

#[test]
fn primaries_in_a_png_are_respected() {
    // As much as the profile that says the same.
    for (stored, expected) in WIDE {
        let png = with_chunk(&flat_png(stored), b"gAMA", &gamma(55_556), b"IDAT");
        let png = with_chunk(&png, b"cHRM", &wide_primaries(), b"IDAT");
        assert_colours(flat_colour(&png), expected, &format!("{stored:?}"));
    }
    let nonsense = with_chunk(&flat_png([200, 100, 50]), b"cHRM", &[0; 32], b"IDAT");
    assert_eq!(flat_colour(&nonsense), [200, 100, 50, 255]);
}

#[test]
fn code_points_in_a_png_are_respected() {
    for (stored, expected) in DISPLAY_P3 {
        // Primaries of Display P3, sRGB's transfer function, RGB, full range.
        let png = with_chunk(&flat_png(stored), b"cICP", &[12, 13, 0, 1], b"IDAT");
        assert_colours(flat_colour(&png), expected, &format!("{stored:?}"));
    }
    // In video range 16 is black and 235 white.
    for (stored, expected) in [(16, 0), (235, 255), (126, 128), (0, 0), (255, 255)] {
        let png = with_chunk(&flat_png([stored; 3]), b"cICP", &[1, 13, 0, 0], b"IDAT");
        assert_colours(flat_colour(&png), [expected; 3], &format!("{stored} in video range"));
    }
}

#[test]
fn pictures_brighter_than_a_screen_are_brought_down_to_it() {
    // BT.2100's functions, BT.2390's roll-off from 1000 to 203 cd/m² and BT.2087's matrix, computed apart.
    let pq: [([u8; 3], [u8; 3]); 7] = [
        ([0; 3], [0; 3]),
        ([64; 3], [45; 3]),
        ([110; 3], [130; 3]),
        ([148; 3], [229; 3]),
        ([192; 3], [255; 3]),
        ([255; 3], [255; 3]),
        ([60, 120, 150], [0, 144, 241]),
    ];
    let hlg: [([u8; 3], [u8; 3]); 7] = [
        ([0; 3], [0; 3]),
        ([64; 3], [62; 3]),
        ([110; 3], [116; 3]),
        ([192; 3], [230; 3]),
        ([255; 3], [255; 3]),
        ([148, 90, 60], [183, 85, 57]),
        ([60, 120, 150], [0, 131, 162]),
    ];
    for (transfer, pairs) in [(16, pq), (18, hlg)] {
        for (stored, expected) in pairs {
            let png = with_chunk(&flat_png(stored), b"cICP", &[9, transfer, 0, 1], b"IDAT");
            assert_colours(flat_colour(&png), expected, &format!("{stored:?} by function {transfer}"));
        }
    }
}

#[test]
fn what_a_png_says_about_colours_has_an_order() {
    // cICP before iCCP before sRGB before gAMA and cHRM; each is what would be seen without the ones before it.
    let stored = [64, 128, 192];
    let (wide, p3) = ([0, 150, 208], [32, 130, 197]);
    let mut png = flat_png(stored);
    let mut see = |name: &[u8; 4], data: &[u8], expected: [u8; 3], what: &str| {
        png = with_chunk(&png, name, data, b"IDAT");
        assert_colours(flat_colour(&png), expected, what);
    };
    see(b"cHRM", &wide_primaries(), [0, 130, 197], "cHRM alone, with sRGB's curve");
    see(b"gAMA", &gamma(55_556), wide, "with gAMA");
    see(b"sRGB", &[0], stored, "sRGB beats both");
    png = with_iccp(&png, &profile("swapped-lut"));
    assert_colours(flat_colour(&png), [192, 64, 128], "a profile beats sRGB");
    let broken = with_chunk(&png, b"cICP", &[2, 2, 0, 1], b"IDAT");
    assert_colours(flat_colour(&broken), [192, 64, 128], "code points that name nothing count as not there");
    let png = with_chunk(&png, b"cICP", &[12, 13, 0, 1], b"IDAT");
    assert_colours(flat_colour(&png), p3, "code points beat all");
    let ignored = with_chunk(&flat_png(stored), b"sRGB", &[0], b"IDAT");
    let ignored = with_iccp(&ignored, b"not a profile");
    assert_colours(flat_colour(&ignored), stored, "a damaged profile counts as not there");
}
