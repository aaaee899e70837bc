//! PNG: depth, transparency, orientation, and the still picture of an animation.

use avatar_transcoder::pipeline::{Fit, Recipe};

use super::support::*;

#[test]
fn every_exif_orientation_of_png_and_webp_is_turned_upright() {
    // The stored pictures of the JPEGs, which the same number turns upright, written as PNG and as WebP.
    for orientation in 1..=8 {
        let stored = made_as_stored(orientation);
        let recipe = Recipe { fit: Fit::Contain, ..recipe(512) };
        let png = encode_png(stored.0, stored.1, png::ColorType::Rgba, png::BitDepth::Eight, &stored.2);
        let before = with_chunk(&png, b"eXIf", &exif(orientation), b"IDAT");
        let behind = with_chunk(&png, b"eXIf", &exif(orientation), b"IEND");
        let webp = made(&png, &recipe).main.webp;
        let webp =
            riff(&[vp8x(0x08, stored.0, stored.1), webp[12..].to_vec(), chunk(b"EXIF", &exif(orientation))]);
        for (what, bytes) in [("png", before), ("png, behind the pixels", behind), ("webp", webp)] {
            let picture = made(&bytes, &recipe);
            let what = format!("{what}, orientation {orientation}");
            assert_eq!((picture.main.width, picture.main.height), (64, 48), "{what}");
            assert_eq!((picture.source.width, picture.source.height), (64, 48), "{what}");
            assert_upright(&picture, &what);
        }
    }
}

/// The scene of four quarters, turned so that `orientation` turns it back: red, green; blue, white.
fn made_as_stored(orientation: u8) -> (u32, u32, Vec<u8>) {
    let (width, height) = if orientation >= 5 { (48, 64) } else { (64, 48) };
    // By the definition of EXIF: where row 0 and column 0 of what is stored are seen.
    let seen_at = |x: u32, y: u32| match orientation {
        2 => (63 - x, y),
        3 => (63 - x, 47 - y),
        4 => (x, 47 - y),
        5 => (y, x),
        6 => (63 - y, x),
        7 => (63 - y, 47 - x),
        8 => (y, 47 - x),
        _ => (x, y),
    };
    let pixels = (0..width * height)
        .flat_map(|i| match seen_at(i % width, i / width) {
            (x, y) if x < 32 && y < 24 => [220, 20, 20, 255],
            (_, y) if y < 24 => [20, 200, 20, 255],
            (x, _) if x < 32 => [20, 20, 220, 255],
            _ => [240, 240, 240, 255],
        })
        .collect();
    (width, height, pixels)
}

#[test]
fn sixteen_bits_become_the_nearest_eight() {
    use png::BitDepth::Sixteen;
    use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    // n, and what 255 n / 65535 rounds to: cutting the lower byte off would give 127, 0 and 254.
    for (stored, expected) in
        [(0x7fff_u16, 127), (0x8080, 128), (0x0081, 1), (0xff7f, 255), (0xff7e, 254), (0xffff, 255)]
    {
        let sample = stored.to_be_bytes();
        let opaque = [0xff, 0xff];
        for (what, color, pixel) in [
            ("gray", Grayscale, sample.to_vec()),
            ("gray with alpha", GrayscaleAlpha, [sample, opaque].concat()),
            ("rgb", Rgb, sample.repeat(3)),
            ("rgba", Rgba, [sample, sample, sample, opaque].concat()),
        ] {
            let png = encode_png(8, 8, color, Sixteen, &pixel.repeat(64));
            assert_eq!(flat_colour(&png), [expected, expected, expected, 255], "{what} {stored:#x}");
        }
        let alpha = [[0x40, 0x40], [0x80, 0x80], [0xc0, 0xc0], sample].concat();
        let png = encode_png(8, 8, Rgba, Sixteen, &alpha.repeat(64));
        assert_eq!(flat_colour(&png)[3], expected, "alpha {stored:#x}");
    }
}

#[test]
fn a_transparent_colour_of_sixteen_bits_is_compared_in_sixteen() {
    let pixels = [[0x12, 0x34, 0x12, 0x34, 0x12, 0x34], [0x12, 0x35, 0x12, 0x34, 0x12, 0x34]].concat();
    let png = encode_png(8, 8, png::ColorType::Rgb, png::BitDepth::Sixteen, &pixels.repeat(32));
    let png = with_chunk(&png, b"tRNS", &[0x12, 0x34, 0x12, 0x34, 0x12, 0x34], b"IDAT");
    let seen = Seen::of(&made(&png, &recipe(64)).main.webp);
    assert_eq!((seen.at(0, 0)[3], seen.at(1, 0)[3]), (0, 255));
}

#[test]
fn interlaced_rows_are_put_in_order() {
    // `png` writes no interlaced files, so this one is put together: Adam7 of a gradient, 8 × 8.
    let value = |x: usize, y: usize| u8::try_from(x * 16 + y * 16).unwrap();
    let mut rows = Vec::new();
    for (x0, y0, dx, dy) in
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    {
        for y in (y0..8).step_by(dy) {
            rows.push(0);
            rows.extend((x0..8).step_by(dx).map(|x| value(x, y)));
        }
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &rows).unwrap();
    let shell = b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xae\x42\x60\x82".to_vec();
    let png = with_chunk(&shell, b"IHDR", &[0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 1], b"IEND");
    let png = with_chunk(&png, b"IDAT", &encoder.finish().unwrap(), b"IEND");
    let seen = Seen::of(&made(&png, &recipe(64)).main.webp);
    for (x, y) in [(0, 0), (3, 1), (7, 7), (1, 6), (5, 2)] {
        assert!(seen.at(x, y)[0].abs_diff(value(x, y)) < 8, "at {x}, {y}: {:?}", seen.at(x, y));
    }
}

#[test]
fn an_apng_whose_default_image_is_no_frame_shows_that_image() {
    // acTL, then IDAT without fcTL before it: the default image is for viewers that do not animate.
    let red = flat_png([255, 0, 0]);
    let png = with_chunk(&red, b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0], b"IDAT");
    let control =
        [&0_u32.to_be_bytes()[..], &8_u32.to_be_bytes(), &8_u32.to_be_bytes(), &[0; 8], &[0, 1, 0, 10, 0, 0]]
            .concat();
    let png = with_chunk(&png, b"fcTL", &control, b"IEND");
    let blue = flat_png([0, 0, 255]);
    let start = blue.windows(4).position(|window| window == b"IDAT").unwrap();
    let length = u32::from_be_bytes(blue[start - 4..start].try_into().unwrap()) as usize;
    let data = [&1_u32.to_be_bytes()[..], &blue[start + 4..start + 4 + length]].concat();
    let png = with_chunk(&png, b"fdAT", &data, b"IEND");
    let picture = made(&png, &recipe(64));
    assert_eq!(picture.main.frames, 1);
    assert_eq!(Seen::of(&picture.main.webp).at(4, 4), [255, 0, 0, 255]);
}
