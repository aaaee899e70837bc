//! Animated GIF and WebP: what each frame shows and for how long, and what is given up where there is no time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use avatar_transcoder::pipeline::{Fit, Limits, Recipe, estimate, transcode, transcode_watched};
use gif::DisposalMethod::{Any, Background, Keep, Previous};

use super::support::*;

const RED: [u8; 4] = [255, 0, 0, 255];
const GREEN: [u8; 4] = [0, 255, 0, 255];
const BLUE: [u8; 4] = [0, 0, 255, 255];
const NOTHING: [u8; 4] = [0; 4];

/// A GIF of 8 × 8 with red, green, blue and a transparent entry, made of `frames`.
fn gif_of(screen: (u16, u16), frames: Vec<gif::Frame<'static>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let palette = [255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0];
    let mut encoder = gif::Encoder::new(&mut bytes, screen.0, screen.1, &palette).unwrap();
    encoder.set_repeat(gif::Repeat::Infinite).unwrap();
    for frame in frames {
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    bytes
}

fn part(area: (u16, u16, u16, u16), index: u8, dispose: gif::DisposalMethod) -> gif::Frame<'static> {
    let (left, top, width, height) = area;
    gif::Frame {
        left,
        top,
        width,
        height,
        delay: 10,
        dispose,
        transparent: Some(3),
        buffer: vec![index; usize::from(width) * usize::from(height)].into(),
        ..gif::Frame::default()
    }
}

/// What is seen at each of `points` in each frame.
fn seen_at<const N: usize>(bytes: &[u8], points: [(usize, usize); N]) -> Vec<[[u8; 4]; N]> {
    let picture = made(bytes, &Recipe { fit: Fit::Contain, quality: 100, ..recipe(64) });
    let width = picture.main.width as usize;
    let (frames, _) = played(&picture.main.webp);
    assert!(frames.len() <= picture.main.frames as usize, "what shows nothing new is no frame of its own");
    frames
        .iter()
        .map(|(rgba, _)| points.map(|(x, y)| rgba[(y * width + x) * 4..][..4].try_into().unwrap()))
        .collect()
}

fn assert_frames<const N: usize>(seen: &[[[u8; 4]; N]], expected: &[[[u8; 4]; N]]) {
    assert_eq!(seen.len(), expected.len());
    for (frame, (seen, expected)) in seen.iter().zip(expected).enumerate() {
        for (point, (seen, expected)) in seen.iter().zip(expected).enumerate() {
            let both_hidden = seen[3] == 0 && expected[3] == 0;
            let near = seen.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 40);
            assert!(both_hidden || near, "frame {frame}, point {point}: {seen:?}, not {expected:?}");
        }
    }
}

#[test]
fn every_disposal_leaves_what_browsers_leave() {
    let everything = (0, 0, 8, 8);
    let left = (0, 0, 4, 8);
    for (dispose, after) in [(Any, GREEN), (Keep, GREEN), (Background, NOTHING), (Previous, RED)] {
        let frames = vec![part(everything, 0, Keep), part(left, 1, dispose), part((7, 7, 1, 1), 2, Keep)];
        let seen = seen_at(&gif_of((8, 8), frames), [(1, 1), (6, 1)]);
        assert_frames(&seen, &[[RED, RED], [GREEN, RED], [after, RED]]);
    }
    // Before the first frame there was nothing, which is what comes back.
    let frames = vec![part(everything, 0, Previous), part((7, 7, 1, 1), 2, Keep)];
    assert_frames(&seen_at(&gif_of((8, 8), frames), [(1, 1), (7, 7)]), &[[RED, RED], [NOTHING, BLUE]]);
}

#[test]
fn transparent_pixels_show_the_frame_before() {
    let mut holes = part((0, 0, 8, 8), 1, Keep);
    let buffer: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 3 } else { 1 }).collect();
    holes.buffer = buffer.into();
    let seen = seen_at(&gif_of((8, 8), vec![part((0, 0, 8, 8), 0, Keep), holes]), [(1, 1), (6, 1)]);
    assert_frames(&seen, &[[RED, RED], [RED, GREEN]]);
}

#[test]
fn a_frame_has_its_own_palette() {
    let mut local = part((0, 0, 8, 8), 0, Keep);
    local.palette = Some(vec![0, 0, 255, 255, 255, 255]);
    local.transparent = None;
    let frames = vec![part((0, 0, 8, 8), 0, Keep), local, part((0, 0, 8, 8), 1, Keep)];
    assert_frames(&seen_at(&gif_of((8, 8), frames), [(4, 4)]), &[[RED], [BLUE], [GREEN]]);
}

#[test]
fn an_interlaced_frame_is_put_in_order() {
    // Rows 0…3 are red and 4…7 blue; stored as every eighth, every eighth from 4, every fourth from 2, every second.
    let mut interlaced = part((0, 0, 8, 8), 0, Keep);
    interlaced.interlaced = true;
    let order = [0_u8, 4, 2, 6, 1, 3, 5, 7];
    interlaced.buffer =
        order.iter().flat_map(|row| [if *row < 4 { 0 } else { 2 }; 8]).collect::<Vec<_>>().into();
    let rows = [(1, 0), (1, 3), (1, 4), (1, 7)];
    let still = vec![interlaced.clone()];
    let both = [[RED, RED, BLUE, BLUE]; 1];
    assert_frames(&seen_at(&gif_of((8, 8), vec![interlaced, part((0, 0, 8, 8), 1, Keep)]), rows)[..1], &both);
    // And as a still.
    let picture = made(&gif_of((8, 8), still), &recipe(64));
    let seen = Seen::of(&picture.main.webp);
    assert_eq!(rows.map(|(x, y)| seen.at(x, y)), both[0]);
}

#[test]
fn a_frame_is_reckoned_with_whole_however_small_the_screen_is() {
    let cost = |side| {
        let frames = vec![part((0, 0, 8, 8), 0, Keep), part((0, 0, side, side), 1, Keep)];
        estimate(&gif_of((8, 8), frames), &recipe(64), &Limits::default()).unwrap()
    };
    let (small, large) = (cost(8), cost(4000));
    assert!(large.memory_bytes - small.memory_bytes >= 16_000_000, "{small:?} {large:?}");
    assert!(large.time - small.time >= Duration::from_millis(100), "{small:?} {large:?}");
}

#[test]
fn a_frame_beyond_the_screen_is_cut_off_but_for_the_first() {
    let beyond = part((6, 6, 8, 8), 1, Keep);
    let outside = part((20, 20, 4, 4), 2, Keep);
    let frames = vec![part((0, 0, 8, 8), 0, Keep), beyond, outside, part((0, 0, 2, 2), 1, Keep)];
    let bytes = gif_of((8, 8), frames);
    let picture = made(&bytes, &recipe(64));
    assert_eq!((picture.source.width, picture.source.height), (8, 8));
    let seen = seen_at(&bytes, [(1, 1), (7, 7)]);
    assert_frames(&seen, &[[RED, RED], [RED, GREEN], [GREEN, GREEN]]);
    // A screen that is smaller than its first frame, or nothing at all, is nonsense.
    for screen in [(4, 4), (0, 0)] {
        let frames = vec![part((0, 0, 8, 8), 0, Keep), part((0, 0, 2, 2), 1, Keep)];
        let bytes = gif_of(screen, frames);
        assert_eq!(made(&bytes, &recipe(64)).source.width, 8, "{screen:?}");
        assert_frames(&seen_at(&bytes, [(1, 1), (7, 7)]), &[[RED, RED], [GREEN, RED]]);
    }
}

#[test]
fn a_gif_without_frames_is_refused_and_one_with_a_local_palette_is_not() {
    let reason = refused(&gif_of((8, 8), Vec::new()));
    assert_eq!((reason.code, reason.message.contains("no frame")), ("undecodable", true), "{reason:?}");
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 8, 8, &[]).unwrap();
    let still = gif::Frame { palette: Some(vec![1, 2, 3]), ..part((0, 0, 8, 8), 0, Keep) };
    encoder.write_frame(&still).unwrap();
    drop(encoder);
    assert_near(flat_colour(&bytes), [1, 2, 3], "a local palette is enough");
    // With neither there is no colour to show.
    let screen = [1, 0, 1, 0, 0, 0, 0];
    let frame = [0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b];
    let reason = refused(&[&b"GIF89a"[..], &screen, &frame].concat());
    assert_eq!((reason.code, reason.message.contains("color table")), ("undecodable", true), "{reason:?}");
}

#[test]
fn delays_and_loops_are_those_that_browsers_play() {
    let with_delay =
        |delay| gif::Frame { delay, ..part((0, 0, 8, 8), u8::try_from(delay % 3).unwrap(), Keep) };
    // 0 and 1 hundredths read as ten; from 2 on they are meant.
    let delays = [0, 1, 2, 3, 10, 250, 65_535];
    for (repeat, times) in [
        (None, 1),
        (Some(gif::Repeat::Infinite), 0),
        (Some(gif::Repeat::Finite(1)), 2),
        (Some(gif::Repeat::Finite(7)), 8),
        (Some(gif::Repeat::Finite(65_535)), 65_535),
    ] {
        let mut bytes = Vec::new();
        let mut encoder =
            gif::Encoder::new(&mut bytes, 8, 8, &[255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]).unwrap();
        if let Some(repeat) = repeat {
            encoder.set_repeat(repeat).unwrap();
        }
        // Between frames of equal colours there would be nothing to see, and one frame less.
        for (i, delay) in (0_u8..).zip(delays) {
            let mut frame = with_delay(delay);
            frame.buffer = vec![i % 3; 64].into();
            encoder.write_frame(&frame).unwrap();
        }
        drop(encoder);
        let (frames, loops) = played(&made(&bytes, &recipe(64)).main.webp);
        let durations: Vec<u32> = frames.iter().map(|(_, duration)| *duration).collect();
        assert_eq!(durations, [100, 100, 20, 30, 100, 2_500, 655_350], "{repeat:?}");
        assert_eq!(loops, times, "{repeat:?}");
    }
}

/// The pixels of a WebP of one colour, as the chunks of a frame.
fn coded(width: u32, height: u32, colour: [u8; 4]) -> Vec<u8> {
    let area = (width * height) as usize;
    let png = encode_png(width, height, png::ColorType::Rgba, png::BitDepth::Eight, &colour.repeat(area));
    let webp = made(&png, &Recipe { fit: Fit::Contain, ..recipe(64) }).main.webp;
    assert_eq!(&webp[12..16], b"VP8L", "one colour is kept without loss");
    webp[12..].to_vec()
}

/// A frame of an animated WebP: where, how large, how long, whether it replaces what is below it, and whether it is
/// cleared after it was shown.
fn anmf(at: (u32, u32), size: (u32, u32), ms: u32, replaces: bool, clears: bool, colour: [u8; 4]) -> Vec<u8> {
    let three = |value: u32| value.to_le_bytes()[..3].to_vec();
    let flags = (u8::from(replaces) << 1) | u8::from(clears);
    let place = [three(at.0 / 2), three(at.1 / 2), three(size.0 - 1), three(size.1 - 1), three(ms)].concat();
    chunk(b"ANMF", &[&place[..], &[flags], &coded(size.0, size.1, colour)].concat())
}

fn animated_webp(loops: u16, frames: &[Vec<u8>]) -> Vec<u8> {
    let anim = chunk(b"ANIM", &[&[0xff, 0xff, 0xff, 0xff][..], &loops.to_le_bytes()].concat());
    riff(&[&[vp8x(0x12, 8, 8), anim][..], frames].concat())
}

#[test]
fn an_animated_webp_blends_and_disposes_as_browsers_do() {
    let half_green = [0, 255, 0, 128];
    let bytes = animated_webp(
        3,
        &[
            anmf((0, 0), (8, 8), 50, true, false, RED),
            anmf((0, 0), (4, 8), 60, false, false, half_green),
            anmf((0, 0), (4, 4), 70, true, true, half_green),
            anmf((4, 4), (4, 4), 5, false, false, BLUE),
        ],
    );
    let mixed = [127, 128, 0, 255];
    let seen = seen_at(&bytes, [(1, 1), (1, 6), (6, 6)]);
    assert_frames(
        &seen,
        &[[RED, RED, RED], [mixed, mixed, RED], [half_green, mixed, RED], [NOTHING, mixed, BLUE]],
    );
    let (frames, loops) = played(&made(&bytes, &recipe(64)).main.webp);
    let durations: Vec<u32> = frames.iter().map(|(_, duration)| *duration).collect();
    assert_eq!((durations, loops), (vec![50, 60, 70, 100], 3), "what is too short to be meant is a tenth");
}

#[test]
fn an_animation_of_one_frame_is_a_still() {
    // The only frame covers a quarter; the rest is nothing, whatever background the file names.
    let bytes = animated_webp(0, &[anmf((4, 4), (4, 4), 100, true, false, BLUE)]);
    let picture = made(&bytes, &recipe(64));
    assert_eq!((picture.main.frames, picture.source.frames), (1, 1));
    let seen = Seen::of(&picture.main.webp);
    assert_eq!((seen.at(6, 6), seen.at(1, 1)[3]), (BLUE, 0));
}

#[test]
fn the_ladder_is_gone_down_rung_by_rung() {
    // A point more in each frame, so that none is like another.
    let point = |i: u16| GifFrame { area: (i % 8, i / 8, 1, 1), index: 1, delay: 5, dispose: Keep };
    let frames: Vec<_> = std::iter::once(full(0, 5, Keep)).chain((0_u16..59).map(point)).collect();
    let bytes = encode_gif(&frames, Some(gif::Repeat::Infinite));
    let within = |nanos| {
        let limits = Limits { time: Duration::from_nanos(nanos), ..Limits::default() };
        transcode(&bytes, &recipe(8), &limits).unwrap()
    };
    let mut rungs = Vec::new();
    // From more time than is needed to none at all.
    for nanos in (0..700_000).rev().step_by(5_000) {
        let picture = within(nanos);
        let rung = (picture.main.frames, picture.main.width, picture.notes.clone());
        if picture.main.frames > 1 {
            let total: u32 = played(&picture.main.webp).0.iter().map(|(_, duration)| duration).sum();
            assert_eq!(total, 60 * 50, "the whole time is kept");
        }
        if rungs.last() != Some(&rung) {
            rungs.push(rung);
        }
    }
    assert_eq!(
        rungs,
        [
            (60, 8, vec![]),
            (30, 8, vec!["frames-dropped"]),
            (20, 8, vec!["frames-dropped"]),
            (15, 8, vec!["frames-dropped"]),
            (15, 4, vec!["frames-dropped", "edge-reduced"]),
            (15, 2, vec!["frames-dropped", "edge-reduced"]),
            (1, 8, vec!["still"]),
        ]
    );
}

#[test]
fn an_animation_that_takes_longer_than_foretold_goes_further_down_and_not_beyond_its_time() {
    // So few that one core makes them all, so that the clock below is looked at in order.
    let frames: Vec<_> = (0..11).map(|i| full(i % 3, 5, Keep)).collect();
    let bytes = encode_gif(&frames, Some(gif::Repeat::Infinite));
    // All frames are foretold to take 100 µs, and there are 400. A clock goes on each time that it is looked at, which
    // is before the first frame and after every one.
    let limits = Limits { time: Duration::from_micros(400), ..Limits::default() };
    for (per_look, frames, notes) in [
        (5, 11, vec![]),
        (34, 4, vec!["frames-dropped"]),
        (38, 3, vec!["frames-dropped"]),
        (50, 3, vec!["frames-dropped", "edge-reduced"]),
        (1000, 1, vec!["still"]),
    ] {
        let clock = AtomicU64::new(0);
        let gone = || Duration::from_micros(clock.fetch_add(per_look, Ordering::Relaxed));
        let picture = transcode_watched(&bytes, &recipe(8), &limits, &gone).unwrap();
        assert_eq!((picture.main.frames, picture.notes), (frames, notes), "{per_look} µs a frame");
    }
}

#[test]
fn more_frames_than_allowed_are_refused_and_never_cut_off() {
    let frames: Vec<_> = (0..21).map(|i| full(i % 3, 5, Keep)).collect();
    let bytes = encode_gif(&frames, None);
    let with = |frames| transcode(&bytes, &recipe(8), &Limits { frames, ..Limits::default() });
    assert_eq!(with(21).unwrap().main.frames, 21);
    assert_eq!(with(20).unwrap_err().code, "too-many-frames");
}

#[test]
fn an_animation_of_its_size_already_does_not_become_larger() {
    let bytes = file("made/coffee-pan.gif");
    let picture = made(&bytes, &Recipe { quality: 100, ..recipe(160) });
    assert_eq!((picture.main.frames, picture.main.width), (12, 160));
    assert!(picture.main.webp.len() <= bytes.len(), "{} > {}", picture.main.webp.len(), bytes.len());
    // An animated WebP that is coded harder keeps its frames as they are, without what stands beside them.
    let hard = made(&file("made/coffee-pan.gif"), &Recipe { quality: 5, ..recipe(100) }).main.webp;
    let tagged = [&hard[..], &chunk(b"EXIF", &exif(1))].concat();
    let length = u32::try_from(tagged.len() - 8).unwrap().to_le_bytes();
    let tagged = [&tagged[..4], &length, &tagged[8..]].concat();
    let again = made(&tagged, &recipe(100)).main;
    assert!(again.webp.len() <= hard.len());
    assert_eq!(played(&again.webp), played(&hard));
}

#[test]
fn what_hides_in_a_frame_does_not_pass_either() {
    let mut frames =
        vec![anmf((0, 0), (8, 8), 50, true, false, RED), anmf((0, 0), (8, 8), 50, true, false, BLUE)];
    let secret = chunk(b"EXIF", b"GPS 52.5 13.4");
    let length = u32::try_from(frames[1].len() - 8 + secret.len()).unwrap();
    frames[1].splice(4..8, length.to_le_bytes());
    frames[1].extend(secret);
    let bytes = animated_webp(0, &frames);
    let picture = made(&bytes, &recipe(64));
    assert_eq!(picture.main.frames, 2);
    assert!(!picture.main.webp.windows(3).any(|window| window == b"GPS"));
}

#[test]
fn an_animation_in_two_halves_plays_as_one() {
    // The colour changes with every frame, so that a frame too many, too few or out of order is seen.
    let frames: Vec<_> = (0..13).map(|i| full(i % 3, 5 + u16::from(i), Keep)).collect();
    let picture = made(&encode_gif(&frames, Some(gif::Repeat::Finite(3))), &recipe(8));
    let (seen, loops) = played(&picture.main.webp);
    let delays: Vec<u32> = (0..13).map(|i| 50 + i * 10).collect();
    assert_eq!(seen.iter().map(|frame| frame.1).collect::<Vec<_>>(), delays);
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    for (i, (frame, _)) in seen.iter().enumerate() {
        assert!(apart(frame, &seen[i % 3].0) < 8, "every third frame is the same");
        assert!(apart(frame, &seen[(i + 1) % 3].0) > 100, "and no other");
    }
    assert_eq!(loops, 4);
}

#[test]
fn halves_that_stand_still_are_played_as_long() {
    // Each half is a single picture to the encoder; nothing of its time is lost.
    let frames: Vec<_> = (0..12).map(|i| full(i / 6, 5, Keep)).collect();
    let (seen, _) = played(&made(&encode_gif(&frames, None), &recipe(8)).main.webp);
    assert_eq!(seen.iter().map(|frame| frame.1).collect::<Vec<_>>(), [300, 300]);
}
