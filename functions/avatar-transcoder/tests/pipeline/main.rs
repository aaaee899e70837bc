//! The pipeline on real files: what is seen, what is refused, and that no damage makes it panic. What comes out is
//! judged by another decoder than the one that wrote it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests cannot do, fails the test")]

mod animations;
mod colours;
mod jpegs;
mod looks;
mod pngs;
mod support;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use avatar_transcoder::pipeline::{Animation, Fit, Limits, Recipe, Watermark, transcode};
use image_webp::WebPDecoder;
use moxcms::ColorProfile;
use proptest::prelude::*;

use support::*;

/// All Rust below a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_line_of_the_document_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let document = fs::read_to_string(root.join("../../docs/pictures.md")).unwrap();
    let lines = document.lines().filter(|line| line.starts_with("| ") && !line.contains("| --- |"));
    let mut seen = 0;
    for line in lines.filter(|line| !line.starts_with("| what |")) {
        let (_, tests) = line.trim_end_matches(" |").rsplit_once("| ").unwrap();
        let names: Vec<_> = tests.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in &names {
            assert!(code.contains(&format!("fn {name}(")), "{name} is named by: {line}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} tests are named");
}

#[test]
fn every_exif_orientation_is_turned_upright() {
    for orientation in 1..=8 {
        let bytes = file(&format!("made/orientation-{orientation}.jpg"));
        let picture = made(&bytes, &Recipe { fit: Fit::Contain, ..recipe(512) });
        assert_eq!((picture.main.width, picture.main.height), (64, 48), "orientation {orientation}");
        assert_eq!((picture.source.width, picture.source.height), (64, 48));
        assert_upright(&picture, &format!("orientation {orientation}"));
    }
    for name in ["made/orientation-6.png", "made/orientation-6.webp"] {
        let picture = made(&file(name), &Recipe { fit: Fit::Contain, ..recipe(512) });
        assert_eq!((picture.main.width, picture.main.height), (64, 48), "{name}");
        assert_upright(&picture, name);
    }
}

#[test]
fn process_colours_are_the_right_way_up() {
    for name in ["made/cmyk-adobe.jpg", "made/ycck-adobe.jpg"] {
        assert_upright(&made(&file(name), &Recipe { fit: Fit::Contain, ..recipe(512) }), name);
    }
}

#[test]
fn every_jpeg_coding_and_sampling_shows_the_same_picture() {
    let reference = Seen::of(&made(&file("made/sampling-444.jpg"), &recipe(64)).main.webp);
    for sampling in ["422", "420", "440", "411"] {
        let seen = Seen::of(&made(&file(&format!("made/sampling-{sampling}.jpg")), &recipe(64)).main.webp);
        assert!(difference(&reference, &seen) < 4.0, "{sampling}: {}", difference(&reference, &seen));
    }
    let astronaut = Seen::of(&made(&file("astronaut.png"), &recipe(64)).main.webp);
    for name in ["progressive", "arithmetic", "restart"] {
        let seen = Seen::of(&made(&file(&format!("made/{name}.jpg")), &recipe(64)).main.webp);
        assert!(difference(&astronaut, &seen) < 6.0, "{name}: {}", difference(&astronaut, &seen));
    }
    let gray = Seen::of(&made(&file("made/gray.jpg"), &recipe(64)).main.webp);
    assert!(gray.rgba.chunks_exact(4).all(|p| p[0].abs_diff(p[1]) <= 2 && p[1].abs_diff(p[2]) <= 2));
}

#[test]
fn a_profile_is_applied_on_every_path() {
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    let plain = file("made/orientation-1.jpg");
    let payload = [&b"ICC_PROFILE\0\x01\x01"[..], &p3].concat();
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    let tagged = [&plain[..2], &[0xff, 0xe2], &length, &payload, &plain[2..]].concat();
    let recipe = Recipe { fit: Fit::Contain, ..recipe(512) };
    let (before, after) = (made(&plain, &recipe), made(&tagged, &recipe));
    let (before, after) = (Seen::of(&before.main.webp), Seen::of(&after.main.webp));
    // Display P3's green is more saturated than sRGB's, so its red falls.
    assert!(after.at(48, 10)[0] + 8 < before.at(48, 10)[0], "{:?} {:?}", before.at(48, 10), after.at(48, 10));
    let srgb = ColorProfile::new_srgb().encode().unwrap();
    let payload = [&b"ICC_PROFILE\0\x01\x01"[..], &srgb].concat();
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    let named = [&plain[..2], &[0xff, 0xe2], &length, &payload, &plain[2..]].concat();
    assert_eq!(made(&named, &recipe).main.webp, made(&plain, &recipe).main.webp, "sRGB needs no conversion");
}

#[test]
fn all_png_colour_types_and_depths_are_read() {
    use png::{BitDepth as D, ColorType as C};
    let rgb8: Vec<u8> = [200, 100, 50].repeat(64);
    let rgb16: Vec<u8> = [200, 200, 100, 100, 50, 50].repeat(64);
    let rgba8: Vec<u8> = [200, 100, 50, 255].repeat(64);
    let rgba16: Vec<u8> = [200, 200, 100, 100, 50, 50, 255, 255].repeat(64);
    for (what, bytes, expected) in [
        ("rgb8", encode_png(8, 8, C::Rgb, D::Eight, &rgb8), [200, 100, 50]),
        ("rgb16", encode_png(8, 8, C::Rgb, D::Sixteen, &rgb16), [200, 100, 50]),
        ("rgba8", encode_png(8, 8, C::Rgba, D::Eight, &rgba8), [200, 100, 50]),
        ("rgba16", encode_png(8, 8, C::Rgba, D::Sixteen, &rgba16), [200, 100, 50]),
        ("gray1", encode_png(8, 8, C::Grayscale, D::One, &[255; 8]), [255, 255, 255]),
        ("gray2", encode_png(8, 8, C::Grayscale, D::Two, &[0b0101_0101; 16]), [85, 85, 85]),
        ("gray4", encode_png(8, 8, C::Grayscale, D::Four, &[0x88; 32]), [136, 136, 136]),
        ("gray8", encode_png(8, 8, C::Grayscale, D::Eight, &[77; 64]), [77, 77, 77]),
        ("gray16", encode_png(8, 8, C::Grayscale, D::Sixteen, &[77; 128]), [77, 77, 77]),
        ("gray-alpha8", encode_png(8, 8, C::GrayscaleAlpha, D::Eight, &[77, 255].repeat(64)), [77, 77, 77]),
        (
            "gray-alpha16",
            encode_png(8, 8, C::GrayscaleAlpha, D::Sixteen, &[77, 77, 255, 255].repeat(64)),
            [77, 77, 77],
        ),
        ("indexed8", encode_png(8, 8, C::Indexed, D::Eight, &[1; 64]), [0, 255, 0]),
        ("indexed4", encode_png(8, 8, C::Indexed, D::Four, &[0x11; 32]), [0, 255, 0]),
        ("indexed2", encode_png(8, 8, C::Indexed, D::Two, &[0b0101_0101; 16]), [0, 255, 0]),
        ("indexed1", encode_png(8, 8, C::Indexed, D::One, &[255; 8]), [0, 255, 0]),
    ] {
        let picture = made(&bytes, &recipe(64));
        assert_eq!((picture.main.width, picture.main.height), (8, 8), "{what}");
        assert_near(Seen::of(&picture.main.webp).at(4, 4), expected, what);
        assert_eq!(Seen::of(&picture.main.webp).at(4, 4)[3], 255, "{what}");
    }
    let transparent = made(&encode_png(8, 8, C::Indexed, D::Eight, &[2; 64]), &recipe(64));
    assert_eq!(Seen::of(&transparent.main.webp).at(4, 4)[3], 0, "a palette entry can be transparent");
}

#[test]
fn transparent_edges_have_no_dark_fringes() {
    // A white disc on transparent black.
    let side = 256_i32;
    let data: Vec<u8> = (0..side * side)
        .flat_map(|i| {
            let (x, y) = (i % side - side / 2, i / side - side / 2);
            if x * x + y * y < 100 * 100 { [255, 255, 255, 255] } else { [0, 0, 0, 0] }
        })
        .collect();
    let bytes = encode_png(256, 256, png::ColorType::Rgba, png::BitDepth::Eight, &data);
    let picture = made(&bytes, &recipe(64));
    assert!(picture.main.lossless, "a flat graphic is kept without loss");
    let seen = Seen::of(&picture.main.webp);
    for pixel in seen.rgba.chunks_exact(4).filter(|pixel| pixel[3] > 8) {
        assert!(pixel[0] > 240, "a fringe: {pixel:?}");
    }
}

#[test]
fn photographs_are_lossy_and_graphics_lossless_and_smaller() {
    assert!(!made(&file("coffee.png"), &recipe(256)).main.lossless);
    let logo: Vec<u8> = (0..128_u32 * 128)
        .flat_map(|i| if (i / 16 + i / 2048) % 2 == 0 { [9, 9, 9] } else { [240, 200, 20] })
        .collect();
    let bytes = encode_png(128, 128, png::ColorType::Rgb, png::BitDepth::Eight, &logo);
    let picture = made(&bytes, &recipe(128));
    assert!(picture.main.lossless);
    assert!(picture.main.webp.len() <= bytes.len(), "{} > {}", picture.main.webp.len(), bytes.len());
    assert_eq!(Seen::of(&picture.main.webp).at(0, 0), [9, 9, 9, 255]);
}

#[test]
fn nothing_but_pixels_passes() {
    for name in ["made/orientation-6.jpg", "made/orientation-6.png", "made/orientation-6.webp"] {
        let webp = made(&file(name), &recipe(512)).main.webp;
        for chunk in [&b"EXIF"[..], b"Exif", b"XMP ", b"ICCP", b"Fixture"] {
            let found = webp.windows(chunk.len()).any(|window| window == chunk);
            assert!(!found, "{name} still has {}", String::from_utf8_lossy(chunk));
        }
    }
}

#[test]
fn renditions_are_square_or_whole_and_never_enlarged() {
    let rocket = file("rocket.jpg");
    let all = Recipe { extra_edges: vec![64, 128], ..recipe(256) };
    let picture = made(&rocket, &all);
    assert_eq!((picture.main.width, picture.main.height), (256, 256));
    assert_eq!(
        picture.extras.iter().map(|r| (r.edge, r.width, r.height)).collect::<Vec<_>>(),
        [(64, 64, 64), (128, 128, 128)]
    );
    let whole = made(&rocket, &Recipe { fit: Fit::Contain, ..recipe(256) });
    assert_eq!((whole.main.width, whole.main.height), (256, 171));
    assert_eq!(made(&rocket, &recipe(4096)).main.width, 427);
    assert!(!picture.thumbhash.is_empty() && picture.thumbhash.len() < 40);
}

#[test]
fn shrinking_while_decoding_shows_the_same_picture() {
    // The same scene, decoded at a fraction of its size and in full.
    let hubble = file("hubble_deep_field.jpg");
    let small = Seen::of(&made(&hubble, &recipe(64)).main.webp);
    let large = made(&hubble, &recipe(872));
    let again = made(&large.main.webp, &recipe(64));
    let difference = difference(&small, &Seen::of(&again.main.webp));
    assert!(difference < 6.0, "{difference}");
}

#[test]
fn a_gif_stays_animated_with_its_delays_and_loops() {
    use gif::DisposalMethod::Keep;
    let frames = [full(0, 20, Keep), full(1, 0, Keep), full(2, 7, Keep)];
    for (repeat, loops) in
        [(Some(gif::Repeat::Infinite), None), (Some(gif::Repeat::Finite(2)), Some(3)), (None, Some(1))]
    {
        let picture = made(&encode_gif(&frames, repeat), &recipe(64));
        assert_eq!((picture.main.frames, picture.source.frames), (3, 3));
        let mut decoder = WebPDecoder::new(Cursor::new(&picture.main.webp)).unwrap();
        assert!(decoder.is_animated());
        match decoder.loop_count() {
            image_webp::LoopCount::Forever => assert_eq!(loops, None),
            image_webp::LoopCount::Times(times) => assert_eq!(Some(times.get()), loops),
        }
        let mut buffer = vec![0; decoder.output_buffer_size().unwrap()];
        let mut durations = Vec::new();
        while let Ok(duration) = decoder.read_frame(&mut buffer) {
            durations.push(duration);
        }
        // No delay at all is shown for a tenth of a second, as browsers do.
        assert_eq!(durations, [200, 100, 70]);
    }
}

#[test]
fn frames_are_laid_over_each_other_as_browsers_do() {
    use gif::DisposalMethod::{Background, Keep, Previous};
    let part = |index, dispose| GifFrame { area: (0, 0, 4, 8), index, delay: 10, dispose };
    let frames = [full(0, 10, Keep), part(1, Previous), part(3, Keep), part(2, Background), part(3, Keep)];
    let picture = made(&encode_gif(&frames, None), &recipe(64));
    let mut decoder = WebPDecoder::new(Cursor::new(&picture.main.webp)).unwrap();
    // Browsers ignore the background colour; this decoder does so only if told.
    decoder.set_background_color([0; 4]).unwrap();
    let bytes = decoder.output_buffer_size().unwrap();
    let mut seen = Vec::new();
    let mut buffer = vec![0; bytes];
    while decoder.read_frame(&mut buffer).is_ok() {
        let channels = bytes / 64;
        let pixel = |x: usize| buffer[x * channels..(x + 1) * channels].to_vec();
        seen.push((pixel(1), pixel(6)));
    }
    let left: Vec<_> = seen.iter().map(|(left, _)| left.clone()).collect();
    let dominant = |pixel: &[u8]| (0..3).max_by_key(|i| pixel[*i]).unwrap();
    assert_eq!(dominant(&left[0]), 0, "red covers everything");
    assert_eq!(dominant(&left[1]), 1, "green lies over the left half");
    assert_eq!(dominant(&left[2]), 0, "what was there before green comes back");
    assert_eq!(dominant(&left[3]), 2, "blue lies over the left half");
    assert_eq!(left[4].get(3).copied(), Some(0), "blue is cleared to nothing");
    assert!(seen.iter().all(|(_, right)| dominant(right) == 0), "the right half stays red");
}

#[test]
fn a_budget_drops_frames_evenly_then_shrinks_then_stops() {
    let frames: Vec<_> = (0..60).map(|i| full(i % 3, 5, gif::DisposalMethod::Keep)).collect();
    let bytes = encode_gif(&frames, Some(gif::Repeat::Infinite));
    let within = |nanos| {
        let limits = Limits { time: std::time::Duration::from_nanos(nanos), ..Limits::default() };
        transcode(&bytes, &recipe(64), &limits).unwrap()
    };
    let all = within(1_000_000_000);
    assert_eq!((all.main.frames, all.notes.len()), (60, 0));
    let fewer = within(300_000);
    assert!(fewer.main.frames < 60 && fewer.main.frames > 1, "{}", fewer.main.frames);
    assert_eq!(fewer.notes, ["frames-dropped"]);
    let mut decoder = WebPDecoder::new(Cursor::new(&fewer.main.webp)).unwrap();
    let mut buffer = vec![0; decoder.output_buffer_size().unwrap()];
    let mut total = 0;
    while let Ok(duration) = decoder.read_frame(&mut buffer) {
        total += duration;
    }
    assert_eq!(total, 60 * 50, "the whole time is kept");
    let still = within(1);
    assert_eq!((still.main.frames, still.notes), (1, vec!["still"]));
    let wanted = Recipe { animation: Animation::Still, ..recipe(64) };
    assert_eq!(made(&bytes, &wanted).main.frames, 1);
}

#[test]
fn an_animated_webp_stays_animated() {
    let frames = [full(0, 20, gif::DisposalMethod::Keep), full(1, 30, gif::DisposalMethod::Keep)];
    let first = made(&encode_gif(&frames, Some(gif::Repeat::Infinite)), &recipe(64));
    let second = made(&first.main.webp, &recipe(64));
    assert_eq!((second.main.frames, second.source.media_type), (2, "image/webp"));
}

#[test]
fn an_apng_gives_its_default_image() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[255, 0, 0].repeat(64)).unwrap();
    writer.write_image_data(&[0, 0, 255].repeat(64)).unwrap();
    writer.finish().unwrap();
    let picture = made(&bytes, &recipe(64));
    assert_eq!(picture.main.frames, 1);
    assert_near(Seen::of(&picture.main.webp).at(4, 4), [255, 0, 0], "the first frame");
}

#[test]
fn a_watermark_lies_over_every_kind_of_source() {
    let red = encode_png(4, 4, png::ColorType::Rgb, png::BitDepth::Eight, &[255, 0, 0].repeat(16));
    let mark = Watermark::decode(&red, &Limits::default()).unwrap();
    let marked = Recipe { watermark: Some(mark), ..recipe(64) };
    for name in ["rocket.jpg", "chelsea.png", "made/gray.jpg"] {
        let seen = Seen::of(&made(&file(name), &marked).main.webp);
        assert_near(seen.at(62, 62), [255, 0, 0], name);
    }
}

#[test]
fn what_is_not_a_picture_is_refused_by_name() {
    for (bytes, name) in [
        (&b"<!doctype html><script>alert(1)</script>"[..], "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "AVIF"),
        (b"II*\0\x08\0\0\0\0\0\0\0", "TIFF"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "BMP"),
        (b"8BPS\0\x01\0\0\0\0\0\0\0\x03", "PSD"),
    ] {
        let reason = refused(bytes);
        assert_eq!(reason.code, "unsupported-type");
        assert!(reason.message.contains(name), "{}", reason.message);
    }
    assert_eq!(refused(b"just words").code, "unsupported-type");
    assert_eq!(refused(b"").code, "empty");
}

#[test]
fn limits_are_held_from_the_header_alone() {
    assert_eq!(refused(&file("made/bomb-50000.png")).code, "too-many-pixels");
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let code = |bytes: &[u8], limits: Limits| transcode(bytes, &Recipe::default(), &limits).unwrap_err().code;
    let rocket = file("rocket.jpg");
    assert_eq!(code(&rocket, limits(|l| l.bytes = 1000)), "too-large");
    assert_eq!(code(&rocket, limits(|l| l.pixels = 1000)), "too-many-pixels");
    assert_eq!(code(&rocket, limits(|l| l.memory_bytes = 1 << 20)), "too-much-memory");
    let frames: Vec<_> = (0..5).map(|i| full(i % 3, 5, gif::DisposalMethod::Keep)).collect();
    assert_eq!(code(&encode_gif(&frames, None), limits(|l| l.frames = 4)), "too-many-frames");
    // A GIF whose screen is as large as the format can say, in a few bytes.
    let mut screen = encode_gif(&frames, None);
    screen[6..10].copy_from_slice(&[0xff; 4]);
    assert_eq!(refused(&screen).code, "too-many-pixels");
}

/// Files of every format, small, for damage.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let frames = [full(0, 20, gif::DisposalMethod::Keep), full(1, 30, gif::DisposalMethod::Previous)];
    let animated = encode_gif(&frames, Some(gif::Repeat::Infinite));
    vec![
        ("animated.webp", made(&animated, &recipe(64)).main.webp),
        ("animated.gif", animated),
        ("still.gif", encode_gif(&[full(0, 0, gif::DisposalMethod::Keep)], None)),
        ("indexed.png", encode_png(8, 8, png::ColorType::Indexed, png::BitDepth::Two, &[0b0001_1011; 16])),
        ("turned.png", file("made/orientation-6.png")),
        ("baseline.jpg", file("made/orientation-6.jpg")),
        ("progressive.jpg", file("made/progressive.jpg")),
        ("cmyk.jpg", file("made/cmyk-adobe.jpg")),
        ("lossless.webp", file("made/orientation-6.webp")),
        ("lossy.webp", made(&file("chelsea.png"), &recipe(64)).main.webp),
    ]
}

#[test]
fn a_file_that_was_cut_off_is_never_taken_for_whole() {
    for (name, bytes) in samples() {
        assert!(transcode(&bytes, &recipe(32), &Limits::default()).is_ok(), "{name} is sound");
        let step = (bytes.len() / 40).max(1);
        // The last byte of a GIF is its trailer, without which nothing is missing.
        let last = bytes.len() - if name.ends_with("gif") { 2 } else { 1 };
        for length in (0..last).step_by(step).chain([last]) {
            let reason = transcode(&bytes[..length], &recipe(32), &Limits::default());
            assert!(reason.is_err(), "{name} cut to {length} of {} bytes was accepted", bytes.len());
        }
    }
}

#[test]
fn junk_behind_the_end_of_a_picture_is_no_damage() {
    for (name, bytes) in samples() {
        let longer = [&bytes[..], b"\0\0junk"].concat();
        assert!(transcode(&longer, &recipe(32), &Limits::default()).is_ok(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damage_makes_it_panic(sample in 0_usize..10, flips in prop::collection::vec((0_usize..6000, any::<u8>()), 1..8)) {
        let (_, mut bytes) = samples().swap_remove(sample);
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let limits = Limits { pixels: 1 << 22, frames: 50, ..Limits::default() };
        let _ = transcode(&bytes, &recipe(32), &limits);
    }
}
