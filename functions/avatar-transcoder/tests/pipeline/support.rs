//! Files made at test time, and what is seen of a rendition.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use avatar_transcoder::pipeline::{Limits, Picture, Recipe, transcode};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use image_webp::WebPDecoder;
use shared::outcome::Reason;

pub(crate) fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images")
}

pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(images().join(name)).unwrap()
}

pub(crate) fn recipe(edge: u32) -> Recipe {
    Recipe { edge, ..Recipe::default() }
}

pub(crate) fn made(bytes: &[u8], recipe: &Recipe) -> Picture {
    transcode(bytes, recipe, &Limits::default()).unwrap_or_else(|reason| panic!("{reason:?}"))
}

pub(crate) fn refused(bytes: &[u8]) -> Reason {
    transcode(bytes, &Recipe::default(), &Limits::default()).unwrap_err()
}

/// A rendition as RGBA, by an independent decoder.
pub(crate) struct Seen {
    pub(crate) width: usize,
    pub(crate) rgba: Vec<u8>,
}

impl Seen {
    pub(crate) fn of(webp: &[u8]) -> Self {
        let mut decoder = WebPDecoder::new(Cursor::new(webp)).unwrap();
        let (width, _) = decoder.dimensions();
        let mut samples = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.read_image(&mut samples).unwrap();
        let rgba = if decoder.has_alpha() {
            samples
        } else {
            samples.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect()
        };
        Self { width: width as usize, rgba }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> [u8; 4] {
        let at = (y * self.width + x) * 4;
        self.rgba[at..at + 4].try_into().unwrap()
    }
}

pub(crate) fn assert_near(seen: [u8; 4], expected: [u8; 3], what: &str) {
    let near = seen.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 16);
    assert!(near, "{what}: saw {seen:?}, expected about {expected:?}");
}

/// The four quarters of the scene of the orientation files: red, green, blue, white.
pub(crate) fn assert_upright(picture: &Picture, what: &str) {
    let (w, h) = (picture.main.width as usize, picture.main.height as usize);
    let seen = Seen::of(&picture.main.webp);
    assert_near(seen.at(w / 4, h / 4), [220, 20, 20], what);
    assert_near(seen.at(3 * w / 4, h / 4), [20, 200, 20], what);
    assert_near(seen.at(w / 4, 3 * h / 4), [20, 20, 220], what);
    assert_near(seen.at(3 * w / 4, 3 * h / 4), [240, 240, 240], what);
}

pub(crate) fn encode_png(
    width: u32,
    height: u32,
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]);
        encoder.set_trns(vec![255, 255, 0]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A GIF of `frames`: palette indices of the whole 8×8 screen or of a part, with delay and disposal.
pub(crate) struct GifFrame {
    pub(crate) area: (u16, u16, u16, u16),
    pub(crate) index: u8,
    pub(crate) delay: u16,
    pub(crate) dispose: gif::DisposalMethod,
}

pub(crate) fn encode_gif(frames: &[GifFrame], repeat: Option<gif::Repeat>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let palette = [255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0];
    let mut encoder = gif::Encoder::new(&mut bytes, 8, 8, &palette).unwrap();
    if let Some(repeat) = repeat {
        encoder.set_repeat(repeat).unwrap();
    }
    for frame in frames {
        let (left, top, width, height) = frame.area;
        encoder
            .write_frame(&gif::Frame {
                left,
                top,
                width,
                height,
                delay: frame.delay,
                dispose: frame.dispose,
                transparent: Some(3),
                buffer: vec![frame.index; usize::from(width) * usize::from(height)].into(),
                ..gif::Frame::default()
            })
            .unwrap();
    }
    drop(encoder);
    bytes
}

pub(crate) fn full(index: u8, delay: u16, dispose: gif::DisposalMethod) -> GifFrame {
    GifFrame { area: (0, 0, 8, 8), index, delay, dispose }
}

/// Mean absolute difference over all colours.
pub(crate) fn difference(a: &Seen, b: &Seen) -> f64 {
    assert_eq!(a.rgba.len(), b.rgba.len());
    let sum: u64 = a.rgba.iter().zip(&b.rgba).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.rgba.len() as f64
}

pub(crate) fn profile(name: &str) -> Vec<u8> {
    fs::read(images().join("../profiles").join(format!("{name}.icc"))).unwrap()
}

/// `jpeg` with a segment behind its first two bytes.
pub(crate) fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, payload, &jpeg[2..]].concat()
}

/// `jpeg` with a profile, in segments of at most `part` bytes.
pub(crate) fn with_profile(jpeg: &[u8], profile: &[u8], part: usize) -> Vec<u8> {
    let parts: Vec<_> = profile.chunks(part).collect();
    let count = u8::try_from(parts.len()).unwrap();
    (1..=count).rev().zip(parts.iter().rev()).fold(jpeg.to_vec(), |jpeg, (number, part)| {
        with_segment(&jpeg, 0xe2, &[b"ICC_PROFILE\0", &[number, count][..], part].concat())
    })
}

/// `png` with a chunk before its first chunk of the name `before`.
pub(crate) fn with_chunk(png: &[u8], name: &[u8; 4], data: &[u8], before: &[u8; 4]) -> Vec<u8> {
    let at = png.windows(4).position(|window| window == before).unwrap() - 4;
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let named = [&name[..], data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&named);
    [&png[..at], &length, &named, &crc.sum().to_be_bytes(), &png[at..]].concat()
}

/// `png` with a profile.
pub(crate) fn with_iccp(png: &[u8], profile: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(profile).unwrap();
    with_chunk(png, b"iCCP", &[b"profile\0\0", &encoder.finish().unwrap()[..]].concat(), b"IDAT")
}

/// A block that says nothing but how a picture is turned.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff
}

/// A PNG of one colour, 8 × 8.
pub(crate) fn flat_png(colour: [u8; 3]) -> Vec<u8> {
    encode_png(8, 8, png::ColorType::Rgb, png::BitDepth::Eight, &colour.repeat(64))
}

/// The colour of a picture of one colour, which is kept without loss.
pub(crate) fn flat_colour(bytes: &[u8]) -> [u8; 4] {
    let picture = made(bytes, &recipe(64));
    assert!(picture.main.lossless, "one colour is kept without loss");
    Seen::of(&picture.main.webp).at(4, 4)
}

/// A chunk of a WebP.
pub(crate) fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    let padding = &[0][..data.len() % 2];
    [&name[..], &length, data, padding].concat()
}

/// A WebP of these chunks.
pub(crate) fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"RIFF", &[b"WEBP", &chunks.concat()[..]].concat())
}

/// The header of an extended WebP.
pub(crate) fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    chunk(b"VP8X", &[&[flags, 0, 0, 0][..], &side(width), &side(height)].concat())
}

/// The frames of an animated WebP as they are seen, each as RGBA with its duration, and how often it is played (0 is
/// for ever).
pub(crate) fn played(webp: &[u8]) -> (Vec<(Vec<u8>, u32)>, u16) {
    let mut decoder = WebPDecoder::new(Cursor::new(webp)).unwrap();
    assert!(decoder.is_animated());
    // Browsers ignore the background colour; this decoder does so only if told.
    decoder.set_background_color([0; 4]).unwrap();
    let mut buffer = vec![0; decoder.output_buffer_size().unwrap()];
    let has_alpha = decoder.has_alpha();
    let mut frames = Vec::new();
    while let Ok(duration) = decoder.read_frame(&mut buffer) {
        let rgba = if has_alpha {
            buffer.clone()
        } else {
            buffer.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect()
        };
        frames.push((rgba, duration));
    }
    let loops = match decoder.loop_count() {
        image_webp::LoopCount::Forever => 0,
        image_webp::LoopCount::Times(times) => times.get(),
    };
    (frames, loops)
}
