//! Which part is kept, on what ground, under which watermark, how many bytes it takes, and what a page shows before it
//! has come.

use avatar_transcoder::pipeline::{
    CropGravity, Fit, Gravity, Ground, Limits, Recipe, Watermark, estimate, transcode,
};
use proptest::prelude::*;

use super::support::*;

/// RGBA pixels of a file, cut out: `left`, `top`, `width`, `height`.
fn cut(bytes: &[u8], (left, top, width, height): (usize, usize, usize, usize)) -> Vec<u8> {
    let whole = Recipe { fit: Fit::Contain, quality: 100, ..recipe(4096) };
    let seen = Seen::of(&made(bytes, &whole).main.webp);
    let pixels: Vec<u8> =
        (0..width * height).flat_map(|i| seen.at(left + i % width, top + i / width)).collect();
    let (width, height) = (u32::try_from(width).unwrap(), u32::try_from(height).unwrap());
    encode_png(width, height, png::ColorType::Rgba, png::BitDepth::Eight, &pixels)
}

/// The part of `bytes` that `smart` keeps, found by how well each offset fits what it kept.
fn kept_offset(bytes: &[u8], size: (usize, usize)) -> usize {
    let side = size.0.min(size.1);
    let smart = Recipe { gravity: CropGravity::Smart, quality: 100, ..recipe(4096) };
    let kept = Seen::of(&made(bytes, &smart).main.webp);
    let whole = Recipe { fit: Fit::Contain, quality: 100, ..recipe(4096) };
    let all = Seen::of(&made(bytes, &whole).main.webp);
    (0..=size.0.max(size.1) - side)
        .min_by_key(|offset| {
            let (dx, dy) = if size.0 > size.1 { (*offset, 0) } else { (0, *offset) };
            (0..side * side)
                .step_by(7)
                .map(|i| {
                    let (x, y) = (i % side, i / side);
                    let (a, b) = (kept.at(x, y), all.at(x + dx, y + dy));
                    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(b))).sum::<u64>()
                })
                .sum::<u64>()
        })
        .unwrap()
}

#[test]
fn a_smart_crop_keeps_the_astronauts_face() {
    // The face is at 180…270 × 70…165; each part has it off its middle, where the usual crop cuts it.
    let astronaut = file("astronaut.png");
    for (what, part) in [
        ("at the left", (160, 30, 352, 180)),
        ("at the right", (0, 30, 290, 160)),
        ("at the top, and a loud suit below", (120, 0, 220, 512)),
        ("at the top, and less below", (150, 0, 200, 400)),
    ] {
        let (left, top, width, height) = part;
        let offset = kept_offset(&cut(&astronaut, part), (width, height));
        let side = width.min(height);
        let (from, to) = if width > height {
            (left + offset, left + offset + side)
        } else {
            (top + offset, top + offset + side)
        };
        let (face_from, face_to) = if width > height { (180, 270) } else { (70, 165) };
        assert!(from <= face_from + 6 && to + 6 >= face_to, "{what}: kept {from}…{to}");
    }
}

#[test]
fn a_smart_crop_finds_a_subject_in_every_kind_of_source() {
    // The face is at the left of this part.
    let part = cut(&file("astronaut.png"), (160, 30, 352, 180));
    let png_offset = kept_offset(&part, (352, 180));
    assert!(png_offset.abs_diff(86) > 24, "the face is not in the middle");
    // As a JPEG's planes, as pixels with a profile, and as a WebP it is the same square.
    let rgb: Vec<u8> = {
        let whole = Recipe { fit: Fit::Contain, quality: 100, ..recipe(4096) };
        let seen = Seen::of(&made(&part, &whole).main.webp);
        (0..352 * 180).flat_map(|i| seen.at(i % 352, i / 352).into_iter().take(3)).collect()
    };
    let mut planes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut planes, 95);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.encode(&rgb, 352, 180, jpeg_encoder::ColorType::Rgb).unwrap();
    let pixels = with_profile(&planes, &profile("wide-gamma-1.8"), 60_000);
    let webp = made(&part, &Recipe { fit: Fit::Contain, quality: 100, ..recipe(4096) }).main.webp;
    for (what, bytes, near) in [("planes", planes, 6), ("pixels", pixels, 12), ("WebP", webp, 6)] {
        let offset = kept_offset(&bytes, (352, 180));
        assert!(offset.abs_diff(png_offset) <= near, "{what}: {offset}, not {png_offset}");
    }
}

#[test]
fn a_smart_crop_of_nothing_is_the_middle() {
    let smart = Recipe { gravity: CropGravity::Smart, ..recipe(64) };
    for bytes in [
        encode_png(90, 30, png::ColorType::Rgb, png::BitDepth::Eight, &[7, 90, 200].repeat(90 * 30)),
        encode_png(30, 90, png::ColorType::Rgba, png::BitDepth::Eight, &[0; 90 * 30 * 4]),
        encode_png(1, 200, png::ColorType::Grayscale, png::BitDepth::Eight, &[9; 200]),
        encode_png(64, 64, png::ColorType::Grayscale, png::BitDepth::Eight, &[9; 64 * 64]),
    ] {
        assert_eq!(made(&bytes, &smart).main, made(&bytes, &recipe(64)).main);
    }
}

#[test]
fn a_smart_crop_leaves_a_whole_picture_whole() {
    let rocket = file("rocket.jpg");
    let whole = Recipe { fit: Fit::Contain, ..recipe(256) };
    let smart = Recipe { gravity: CropGravity::Smart, ..whole.clone() };
    assert_eq!(made(&rocket, &smart).main, made(&rocket, &whole).main);
}

#[test]
fn a_smart_crop_turns_with_the_picture() {
    // A wide picture that is held upright: the subject is at its left, and at the top of what is seen.
    let subject = |x: usize, y: usize| {
        if x.abs_diff(30) + y.abs_diff(30) < 20 { [230, 30, 20] } else { [90, 90, 90] }
    };
    let pixels: Vec<u8> = (0..200 * 60).flat_map(|i| subject(i % 200, i / 200)).collect();
    let png = encode_png(200, 60, png::ColorType::Rgb, png::BitDepth::Eight, &pixels);
    let turned = with_chunk(&png, b"eXIf", &exif(6), b"IDAT");
    let smart = Recipe { gravity: CropGravity::Smart, ..recipe(64) };
    let seen = Seen::of(&made(&turned, &smart).main.webp);
    assert_near(seen.at(30, 30), [230, 30, 20], "the subject");
    let usual = Seen::of(&made(&turned, &recipe(64)).main.webp);
    assert_near(usual.at(30, 30), [90, 90, 90], "the middle");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_smart_crop_is_always_a_square_of_the_picture(
        width in 1_u32..300, height in 1_u32..300, edge in 16_u32..400, seed in any::<u64>(),
    ) {
        let mut state = seed;
        let pixels: Vec<u8> = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        let png = encode_png(width, height, png::ColorType::Rgb, png::BitDepth::Eight, &pixels);
        let smart = Recipe { gravity: CropGravity::Smart, ..recipe(edge) };
        let picture = transcode(&png, &smart, &Limits::default()).unwrap();
        let side = width.min(height).min(edge);
        prop_assert_eq!((picture.main.width, picture.main.height), (side, side));
    }
}

#[test]
fn a_whole_picture_fills_its_square_with_its_ground() {
    for (name, bytes) in [
        ("png", encode_png(80, 40, png::ColorType::Rgb, png::BitDepth::Eight, &[200, 30, 30].repeat(3200))),
        ("jpeg", file("made/orientation-6.jpg")),
    ] {
        for (ground, expected) in
            [(Ground::Transparent, [0, 0, 0, 0]), (Ground::Colour([10, 120, 240]), [10, 120, 240, 255])]
        {
            let on_ground = Recipe { fit: Fit::Contain, ground: Some(ground), ..recipe(64) };
            let picture = made(&bytes, &on_ground);
            assert_eq!((picture.main.width, picture.main.height), (64, 64), "{name}");
            let seen = Seen::of(&picture.main.webp);
            for (x, y) in [(2, 1), (61, 1), (32, 62)] {
                let pixel = seen.at(x, y);
                assert_eq!(pixel[3], expected[3], "{name} on {ground}");
                if expected[3] == 255 {
                    assert_near(pixel, [10, 120, 240], name);
                }
            }
            assert_eq!(seen.at(32, 32)[3], 255, "the picture itself is there");
            assert!(seen.at(20, 24)[0] > 150, "{name}: {:?}", seen.at(20, 24));
        }
    }
    // A picture smaller than the edge is not enlarged, and its square is as large as it needs.
    let small = encode_png(20, 10, png::ColorType::Rgb, png::BitDepth::Eight, &[200, 30, 30].repeat(200));
    let on_ground = Recipe { fit: Fit::Contain, ground: Some(Ground::Transparent), ..recipe(64) };
    let picture = made(&small, &on_ground);
    assert_eq!((picture.main.width, picture.main.height), (20, 20));
}

#[test]
fn a_colour_is_seen_through_a_transparent_picture() {
    let half = encode_png(16, 16, png::ColorType::Rgba, png::BitDepth::Eight, &[255, 0, 0, 51].repeat(256));
    let ground = Some(Ground::Colour([0, 0, 255]));
    let seen = Seen::of(&made(&half, &Recipe { ground, ..recipe(64) }).main.webp);
    assert_eq!(seen.at(8, 8), [51, 0, 204, 255], "a fifth of red on blue");
    let kept = Recipe { ground: Some(Ground::Transparent), ..recipe(64) };
    assert_eq!(Seen::of(&made(&half, &kept).main.webp).at(8, 8)[3], 51);
}

#[test]
fn an_animation_has_a_ground_too() {
    use gif::DisposalMethod::Background;
    // Nothing, then red, on blue.
    let bytes = encode_gif(&[full(3, 10, Background), full(0, 10, Background)], None);
    let ground = Some(Ground::Colour([0, 0, 255]));
    let (frames, _) = played(&made(&bytes, &Recipe { ground, ..recipe(64) }).main.webp);
    assert_eq!(frames.len(), 2);
    assert_near(frames[0].0[..4].try_into().unwrap(), [0, 0, 255], "the ground alone");
    assert_near(frames[1].0[..4].try_into().unwrap(), [255, 0, 0], "the picture");
    // A wide one in its square.
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 16, 8, &[255, 0, 0, 0, 255, 0]).unwrap();
    for index in [0, 1] {
        let buffer = vec![index; 16 * 8].into();
        encoder
            .write_frame(&gif::Frame { width: 16, height: 8, delay: 10, buffer, ..gif::Frame::default() })
            .unwrap();
    }
    drop(encoder);
    let whole = made(&bytes, &Recipe { fit: Fit::Contain, ground, ..recipe(64) });
    assert_eq!((whole.main.frames, whole.main.width, whole.main.height), (2, 16, 16));
    let (frames, _) = played(&whole.main.webp);
    assert_near(frames[1].0[..4].try_into().unwrap(), [0, 0, 255], "the ground");
    assert_near(frames[1].0[(8 * 16 + 8) * 4..][..4].try_into().unwrap(), [0, 255, 0], "the picture");
}

#[test]
fn a_watermark_stands_where_and_as_large_and_as_faint_as_configured() {
    let red = encode_png(40, 20, png::ColorType::Rgb, png::BitDepth::Eight, &[255, 0, 0].repeat(800));
    let gray = encode_png(200, 100, png::ColorType::Rgb, png::BitDepth::Eight, &[100; 200 * 100 * 3]);
    let mark = Watermark::decode(&red, &Limits::default()).unwrap();
    let sees = |gravity: Gravity, scale: f32, opacity: f32, edge: u32| {
        let mark = Watermark { gravity, scale, opacity, ..mark.clone() };
        let marked = Recipe { watermark: Some(mark), ..recipe(edge) };
        Seen::of(&made(&gray, &marked).main.webp)
    };
    let is_red = |seen: &Seen, x: usize, y: usize| seen.at(x, y)[0] > 200 && seen.at(x, y)[1] < 50;
    for (gravity, x, y) in [
        (Gravity::NorthWest, 2, 2),
        (Gravity::North, 50, 2),
        (Gravity::NorthEast, 97, 2),
        (Gravity::West, 2, 50),
        (Gravity::Centre, 50, 50),
        (Gravity::East, 97, 50),
        (Gravity::SouthWest, 2, 97),
        (Gravity::South, 50, 97),
        (Gravity::SouthEast, 97, 97),
    ] {
        let seen = sees(gravity, 0.2, 1.0, 100);
        assert!(is_red(&seen, x, y), "{gravity:?}");
        let reds = (0..100 * 100).filter(|i| is_red(&seen, i % 100, i / 100)).count();
        assert!((150..=250).contains(&reds), "{gravity:?}: 20 × 10 pixels, not {reds}");
    }
    // A part of the rendition's edge, at every edge.
    for (edge, width) in [(100, 40), (50, 20)] {
        let seen = sees(Gravity::NorthWest, 0.4, 1.0, edge);
        let reds = (0..seen.width).filter(|x| is_red(&seen, *x, 1)).count();
        assert!(reds.abs_diff(width) <= 1, "at {edge}: {reds}");
    }
    let faint = sees(Gravity::Centre, 0.4, 0.5, 100);
    assert_near(faint.at(50, 50), [178, 50, 50], "half of red on gray");
    assert_near(sees(Gravity::Centre, 0.4, 0.0, 100).at(50, 50), [100, 100, 100], "invisible");
}

#[test]
fn a_large_watermark_is_kept_as_large_as_it_is_needed_and_reckoned_with() {
    let mark = Watermark::decode(&file("astronaut.png"), &Limits::default()).unwrap();
    assert_eq!((mark.width, mark.height), (512, 512));
    let whole = Recipe { watermark: Some(mark.clone()), extra_edges: vec![100], ..recipe(200) };
    let kept = Recipe { watermark: None, ..whole.clone() }.with_watermark(mark);
    let size =
        |recipe: &Recipe| recipe.watermark.as_ref().map(|mark| (mark.width, mark.height, mark.rgba.len()));
    assert_eq!(size(&kept), Some((50, 50, 50 * 50 * 4)), "a quarter of the largest edge");
    let picture = file("chelsea.png");
    let (by_whole, by_kept) = (made(&picture, &whole), made(&picture, &kept));
    assert_eq!(by_whole.main, by_kept.main, "shrunk once, then or now");
    let [a, b] = [&by_whole, &by_kept].map(|picture| Seen::of(&picture.extras[0].webp));
    assert!(difference(&a, &b) < 1.0, "shrunk twice");
    let bytes = |recipe: &Recipe| estimate(&picture, recipe, &Limits::default()).unwrap().memory_bytes;
    assert!(bytes(&whole) >= bytes(&kept) + 512 * 512 * 4 - 50 * 50 * 4);
}

#[test]
fn a_watermark_that_is_no_picture_is_refused() {
    assert_eq!(Watermark::decode(b"<svg/>", &Limits::default()).unwrap_err().code, "unsupported-type");
    let cut_off = &file("astronaut.png")[..5000];
    assert_eq!(Watermark::decode(cut_off, &Limits::default()).unwrap_err().code, "undecodable");
}

#[test]
fn a_picture_of_its_size_already_does_not_become_larger() {
    // Compressed harder than it would be: at quality 80 each of these would grow.
    let hard = |quality, edge| made(&file("coffee.png"), &Recipe { quality, ..recipe(edge) }).main.webp;
    for (what, bytes) in [
        ("a WebP of quality 5", hard(5, 300)),
        ("a WebP of quality 30", hard(30, 200)),
        ("a small JPEG", file("made/sampling-420.jpg")),
        ("a gray JPEG", file("made/gray.jpg")),
        ("an orientation", file("made/orientation-6.jpg")),
        ("a dithered GIF", file("made/coffee-pan.gif")),
        ("one pixel of PNG", encode_png(1, 1, png::ColorType::Rgb, png::BitDepth::Eight, &[1, 2, 3])),
        ("a drawing of one bit", {
            let rows: Vec<u8> = (0..32 * 4).map(|i| if i / 16 % 2 == 0 { 0xf0 } else { 0x3c }).collect();
            encode_png(32, 32, png::ColorType::Grayscale, png::BitDepth::One, &rows)
        }),
    ] {
        for fit in [Fit::Cover, Fit::Contain] {
            let picture = made(&bytes, &Recipe { fit, extra_edges: vec![1024], ..recipe(512) });
            for rendition in [&picture.main, &picture.extras[0]] {
                let (from, to) = (bytes.len(), rendition.webp.len());
                assert!(to <= from, "{what}: from {from} to {to} bytes");
            }
        }
    }
}

#[test]
fn a_webp_that_is_right_already_keeps_its_pixels_and_loses_the_rest() {
    let hard = made(&file("coffee.png"), &Recipe { quality: 20, ..recipe(300) }).main.webp;
    let tagged = riff(&[
        vp8x(0x0c, 300, 300),
        hard[12..].to_vec(),
        chunk(b"EXIF", &exif(1)),
        chunk(b"XMP ", b"<x:xmpmeta GPS='here'/>"),
    ]);
    let picture = made(&tagged, &recipe(512));
    assert_eq!(Seen::of(&picture.main.webp).rgba, Seen::of(&hard).rgba);
    assert!(picture.main.webp.len() <= hard.len() + 18 + 8);
    assert!(!picture.main.webp.windows(4).any(|window| window == b"EXIF" || window == b"XMP "));
    // One that has to be turned, or has other colours, is not passed on as it is.
    let turned = riff(&[vp8x(0x08, 300, 300), hard[12..].to_vec(), chunk(b"EXIF", &exif(3))]);
    assert_ne!(Seen::of(&made(&turned, &recipe(512)).main.webp).rgba, Seen::of(&hard).rgba);
    let p3 = riff(&[vp8x(0x20, 300, 300), chunk(b"ICCP", &profile("display-p3")), hard[12..].to_vec()]);
    assert_ne!(Seen::of(&made(&p3, &recipe(512)).main.webp).rgba, Seen::of(&hard).rgba);
}

#[test]
fn the_thumbhash_is_the_one_that_its_author_computes() {
    // By thumbhash 0.1.1 of npm, from the same pixels. It counts in other precision, so a wave may be one step off.
    let pixels = |transparent: bool| -> Vec<u8> {
        (0..30 * 20)
            .flat_map(|i| match (u8::try_from(i % 30).unwrap(), u8::try_from(i / 30).unwrap()) {
                (x, _) if transparent && x < 15 => [10, 20, 30, 0],
                (x, y) => [x / 2 * 16, y / 2 * 24, 128, 255],
            })
            .collect()
    };
    for (transparent, expected) in [
        (false, "5d070a35987077777088788888788887708008f788"),
        (true, "6278861b8c58b675c06888b6c067fb83707a8888887888"),
    ] {
        let png = encode_png(30, 20, png::ColorType::Rgba, png::BitDepth::Eight, &pixels(transparent));
        let picture = made(&png, &Recipe { fit: Fit::Contain, ..recipe(64) });
        let (seen, expected) = (picture.thumbhash, hex::decode(expected).unwrap());
        assert_eq!((seen.len(), &seen[..5]), (expected.len(), &expected[..5]), "transparent: {transparent}");
        for (seen, expected) in seen.iter().zip(&expected).skip(5) {
            let near = (seen >> 4).abs_diff(expected >> 4) <= 1 && (seen & 15).abs_diff(expected & 15) <= 1;
            assert!(near, "transparent: {transparent}: {seen:#x}, not {expected:#x}");
        }
    }
}

#[test]
fn the_average_colour_is_weighted_by_what_is_seen() {
    // A quarter of (200, 40, 0), three quarters of (0, 80, 120); then the quarter half transparent, (1/2)/(1/2 + 3).
    let pixels =
        |alpha: u8| [[200, 40, 0, alpha], [0, 80, 120, 255], [0, 80, 120, 255], [0, 80, 120, 255]].concat();
    for (alpha, expected) in [(255, [50, 70, 90]), (128, [29, 74, 103]), (0, [0, 80, 120])] {
        let png = encode_png(8, 8, png::ColorType::Rgba, png::BitDepth::Eight, &pixels(alpha).repeat(16));
        let seen = made(&png, &recipe(64)).average_colour;
        let near = seen.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 1);
        assert!(near, "alpha {alpha}: {seen:?}");
    }
    let jpeg = made(&file("made/orientation-1.jpg"), &Recipe { fit: Fit::Contain, ..recipe(64) });
    // The four quarters' mean.
    let expected = [(220 + 20 + 20 + 240) / 4, (20 + 200 + 20 + 240) / 4, (20 + 20 + 220 + 240) / 4];
    assert!(
        jpeg.average_colour.iter().zip(expected).all(|(a, b): (&u8, u16)| u16::from(*a).abs_diff(b) <= 3)
    );
}
