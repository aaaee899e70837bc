//! JPEG in all the ways that it is written.

use avatar_transcoder::pipeline::{Fit, Limits, Recipe, estimate, transcode};

use super::support::*;

fn whole(edge: u32) -> Recipe {
    Recipe { fit: Fit::Contain, ..recipe(edge) }
}

#[test]
fn odd_sampling_factors_show_the_same_picture() {
    let reference = Seen::of(&made(&file("made/sampling-444.jpg"), &recipe(80)).main.webp);
    for name in [
        "422",
        "420",
        "440",
        "411",
        "410",
        "441",
        "311",
        "chroma-wide",
        "chroma-fine",
        "444-as-2x1",
        "422-as-2x2",
    ] {
        let jpeg = file(&format!("made/sampling-{name}.jpg"));
        let seen = Seen::of(&made(&jpeg, &recipe(80)).main.webp);
        // Where chroma is finer than luma, luma has been halved.
        let near = if name == "chroma-fine" { 8.0 } else { 4.0 };
        assert!(difference(&reference, &seen) < near, "{name}: {}", difference(&reference, &seen));
        // At every size that the decoder shrinks to, which is where planes of odd sizes meet.
        for edge in [16, 24, 40, 60, 72] {
            let shrunk = Seen::of(&made(&jpeg, &recipe(edge)).main.webp);
            let full = made(&made(&jpeg, &Recipe { quality: 100, ..recipe(80) }).main.webp, &recipe(edge));
            let difference = difference(&shrunk, &Seen::of(&full.main.webp));
            assert!(difference < 7.0, "{name} at {edge}: {difference}");
        }
    }
}

#[test]
fn components_that_are_red_green_and_blue_are_not_taken_for_others() {
    let reference = Seen::of(&made(&file("made/sampling-444.jpg"), &recipe(80)).main.webp);
    let seen = Seen::of(&made(&file("made/rgb.jpg"), &recipe(80)).main.webp);
    assert!(difference(&reference, &seen) < 4.0, "{}", difference(&reference, &seen));
}

#[test]
fn arithmetic_coding_is_decoded() {
    let reference = Seen::of(&made(&file("astronaut.png"), &recipe(80)).main.webp);
    for name in ["made/arithmetic.jpg", "made/arithmetic-progressive.jpg"] {
        let seen = Seen::of(&made(&file(name), &recipe(80)).main.webp);
        assert!(difference(&reference, &seen) < 6.0, "{name}: {}", difference(&reference, &seen));
    }
}

/// `jpeg` with the marker of its frame and the precision of its samples replaced.
fn with_frame(jpeg: &[u8], marker: u8, precision: u8) -> Vec<u8> {
    let at = jpeg.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
    let mut jpeg = jpeg.to_vec();
    jpeg[at + 1] = marker;
    jpeg[at + 4] = precision;
    jpeg
}

#[test]
fn twelve_bits_lossless_and_hierarchical_coding_are_refused_by_name() {
    let plain = file("made/sampling-420.jpg");
    for (marker, precision, name) in [
        (0xc1, 12, "12 bits"),
        (0xc3, 8, "lossless"),
        (0xcb, 16, "lossless"),
        (0xc5, 8, "hierarchical"),
        (0xf7, 8, "JPEG-LS"),
    ] {
        let reason = refused(&with_frame(&plain, marker, precision));
        assert_eq!(reason.code, "unsupported-type");
        assert!(reason.message.contains(name), "{}", reason.message);
    }
    // Luma 3 × 1 and chroma 2 × 1 divide by no whole number.
    let mut fractional = file("made/sampling-311.jpg");
    let at = fractional.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    assert_eq!(fractional[at + 11], 0x31);
    fractional[at + 14] = 0x21;
    let reason = refused(&fractional);
    assert_eq!(reason.code, "unsupported-type", "{reason:?}");
}

#[test]
fn a_gain_map_is_left_alone_and_the_primary_picture_shown() {
    // Ultra HDR: XMP and an MPF index in the primary picture, the gain map behind its end.
    let primary = file("made/orientation-1.jpg");
    let map = file("made/gray.jpg");
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF \
        xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description \
        xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/' hdrgm:Version='1.0'/></rdf:RDF></x:xmpmeta>";
    let iso = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0";
    let ultra_hdr = with_segment(&primary, 0xe2, &mpf(primary.len(), map.len()));
    let ultra_hdr = with_segment(&with_segment(&ultra_hdr, 0xe2, iso), 0xe1, xmp);
    let ultra_hdr = [&ultra_hdr[..], &map].concat();
    let picture = made(&ultra_hdr, &whole(512));
    assert_eq!(picture.source.frames, 1);
    assert_upright(&picture, "the primary picture");
    assert_eq!(picture.main.webp, made(&primary, &whole(512)).main.webp);
    // With a profile among the segments of the same number.
    let wide = with_profile(&ultra_hdr, &profile("display-p3"), 60_000);
    let expected = made(&with_profile(&primary, &profile("display-p3"), 60_000), &whole(512));
    assert_eq!(made(&wide, &whole(512)).main.webp, expected.main.webp);
}

/// An index of two pictures (CIPA DC-007).
fn mpf(first: usize, second: usize) -> Vec<u8> {
    let long = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value].concat()
    };
    [
        b"MPF\0II*\0\x08\0\0\0\x03\0".to_vec(),
        entry(0xb000, 7, 4, *b"0100"),
        entry(0xb001, 4, 1, long(2)),
        entry(0xb002, 7, 32, long(50)),
        vec![0; 4],
        [long(0x2003_0000), long(first), long(0), long(0)].concat(),
        [long(0), long(second), long(first), long(0)].concat(),
    ]
    .concat()
}

#[test]
fn of_an_mpo_the_first_picture_is_shown() {
    let (left, right) = (file("made/orientation-6.jpg"), file("made/gray.jpg"));
    let mpo = [&with_segment(&left, 0xe2, &mpf(left.len(), right.len()))[..], &right].concat();
    assert_upright(&made(&mpo, &whole(512)), "the first picture of an MPO");
}

#[test]
fn a_thumbnail_inside_of_a_picture_is_not_taken_for_it() {
    // EXIF holds a whole JPEG, with its own frame and end.
    let thumbnail = file("made/gray.jpg");
    let block = [b"Exif\0\0", &exif(1)[..], &thumbnail].concat();
    let jpeg = with_segment(&file("made/sampling-420.jpg"), 0xe1, &block);
    assert_eq!(
        made(&jpeg, &recipe(80)).main.webp,
        made(&file("made/sampling-420.jpg"), &recipe(80)).main.webp
    );
}

#[test]
fn junk_before_between_and_behind_is_no_damage() {
    for name in ["made/orientation-1.jpg", "made/progressive.jpg", "made/restart.jpg"] {
        let plain = file(name);
        let expected = made(&plain, &whole(96)).main.webp;
        let end = plain.len() - 2;
        let behind = 4 + usize::from(plain[5]);
        for (what, jpeg) in [
            ("behind the end", [&plain[..], &[0xff; 3000], b"junk"].concat()),
            ("before the end", [&plain[..end], b"\x12\x34\x56", &plain[end..]].concat()),
            ("fill bytes before the end", [&plain[..end], &[0xff; 7], &plain[end..]].concat()),
            ("between segments", [&plain[..behind], &[0x11, 0x22, 0x33], &plain[behind..]].concat()),
        ] {
            assert_eq!(made(&jpeg, &whole(96)).main.webp, expected, "{name}: {what}");
        }
    }
}

#[test]
fn what_cameras_get_wrong_is_no_damage() {
    let plain = file("made/sampling-420.jpg");
    let expected = made(&plain, &recipe(80)).main.webp;
    // Progressive parameters in a baseline scan.
    let mut parameters = plain.clone();
    let scan = plain.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let last = scan + 2 + usize::from(plain[scan + 3]);
    assert_eq!(parameters[last - 3..last], [0, 63, 0]);
    parameters[last - 2] = 0;
    // A version of JFIF that nobody knows.
    let mut version = plain.clone();
    let at = plain.windows(5).position(|window| window == b"JFIF\0").unwrap();
    version[at + 5] = 9;
    for (what, jpeg) in [("parameters", parameters), ("version", version)] {
        assert_eq!(made(&jpeg, &recipe(80)).main.webp, expected, "{what}");
        // The decoder tells its first complaint only; that the file ends early is seen all the same.
        for kept in [jpeg.len() - 2, jpeg.len() * 3 / 4, jpeg.len() / 2] {
            assert_eq!(refused(&jpeg[..kept]).code, "undecodable", "{what}, cut to {kept}");
        }
    }
    // A transform that the Adobe segment names and nobody knows: three components are luma and chroma.
    let adobe = with_segment(&plain, 0xee, b"Adobe\0\x64\0\0\0\0\x09");
    assert!(transcode(&adobe, &recipe(80), &Limits::default()).is_ok());
}

#[test]
fn every_fraction_that_the_decoder_shrinks_to_equals_a_full_decode() {
    let hubble = file("hubble_deep_field.jpg");
    let large = made(&hubble, &Recipe { quality: 100, ..recipe(872) }).main.webp;
    for edge in [50, 110, 200, 300, 400, 500, 600, 700] {
        let shrunk = Seen::of(&made(&hubble, &recipe(edge)).main.webp);
        let full = Seen::of(&made(&large, &recipe(edge)).main.webp);
        let difference = difference(&shrunk, &full);
        assert!(difference < 5.0, "{edge}: {difference}");
    }
}

fn encoded(
    side: u16,
    progressive: bool,
    profile: Option<&[u8]>,
    pixel: impl Fn(u32, u32) -> [u8; 3],
) -> Vec<u8> {
    let wide = u32::from(side);
    let samples: Vec<u8> = (0..wide * wide).flat_map(|i| pixel(i % wide, i / wide)).collect();
    let mut jpeg = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 92);
    encoder.set_progressive(progressive);
    if let Some(profile) = profile {
        encoder.add_icc_profile(profile).unwrap();
    }
    encoder.encode(&samples, side, side, jpeg_encoder::ColorType::Rgb).unwrap();
    jpeg
}

#[test]
fn a_jpeg_stays_lossy_with_a_profile_and_without_one() {
    let logo = |x: u32, y: u32| if (x / 16 + y / 16).is_multiple_of(2) { [9, 9, 9] } else { [240, 200, 20] };
    for profile in [None, Some(profile("display-p3"))] {
        let jpeg = encoded(128, false, profile.as_deref(), logo);
        let picture = made(&jpeg, &recipe(128));
        assert!(!picture.main.lossless, "with a profile: {}", profile.is_some());
        assert!(picture.main.webp.len() <= jpeg.len());
    }
}

#[test]
fn a_damaged_progressive_picture_is_looked_at_again_only_where_memory_allows() {
    let jpeg = encoded(1600, true, None, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(0x9e37_79b1);
        noise.to_le_bytes()[1..].try_into().unwrap()
    });
    let recipe = recipe(64);
    let needed = estimate(&jpeg, &recipe, &Limits::default()).unwrap().memory_bytes;
    let limits = Limits { memory_bytes: needed + (1 << 20), ..Limits::default() };
    assert!(transcode(&jpeg, &recipe, &limits).is_ok());
    // A marker that nothing explains, within the last scan.
    let mut damaged = jpeg.clone();
    let at = damaged.len() - 1000;
    damaged[at..at + 2].copy_from_slice(&[0xff, 0xd3]);
    assert_eq!(transcode(&damaged, &recipe, &limits).unwrap_err().code, "too-much-memory");
    assert_eq!(transcode(&damaged, &recipe, &Limits::default()).unwrap_err().code, "undecodable");
}
