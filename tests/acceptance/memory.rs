//! The cost model against the real function: what an upload was said to take of memory, and what it took.

use avatar_transcoder::pipeline::{Limits, Recipe, estimate};
use bytes::Bytes;
use gif::{DisposalMethod, Frame};
use harness::cloud::{AVATAR_TRANSCODER, AVATARS, CloudOptions, LocalCloud, UPLOADS};
use harness::lambda::Function;
use harness::pictures::picture;
use harness::s3::PutOptions;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use serde_json::{Value, json};

const MEBIBYTE: f64 = 1_048_576.0;

/// How much over the measured peak the model may be.
const MOST_OVER: f64 = 1.5;
/// The same with transparency: what compressing it takes depends on what the picture shows, which no header tells.
const MOST_OVER_WITH_ALPHA: f64 = 2.2;

/// A landscape that compresses like one: slopes, waves, and grain from a counter.
fn pixel(x: u32, y: u32) -> [u8; 3] {
    let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(0x9e37_79b1) >> 28;
    let wave = ((f64::from(x) / 97.0).sin() * 40.0 + (f64::from(y) / 61.0).cos() * 40.0 + 100.0).abs();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 20 and 200")]
    let wave = wave as u32 + grain;
    [wave, x % 4096 / 16, y % 4096 / 16].map(|value| u8::try_from(value & 255).unwrap())
}

fn rgb(width: u32, height: u32) -> Vec<u8> {
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

fn jpeg(width: u16, height: u16, sampling: SamplingFactor, progressive: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 88);
    encoder.set_sampling_factor(sampling);
    encoder.set_progressive(progressive);
    encoder.encode(&rgb(width.into(), height.into()), width, height, ColorType::Rgb).unwrap();
    file
}

fn png(width: u32, height: u32, color: png::ColorType, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    file
}

fn rgba(width: u32, height: u32) -> Vec<u8> {
    let alpha = |x: u32, y: u32| u8::try_from((x + y) * 255 / (width + height)).unwrap();
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    pixels
        .flat_map(|(x, y)| {
            let [r, g, b] = pixel(x, y);
            [r, g, b, alpha(x, y)]
        })
        .collect()
}

/// A logo: flat shapes, few colours, no transparency.
fn logo(side: u32) -> Vec<u8> {
    let shape = |x: u32, y: u32| match (x / (side / 8) + y / (side / 6)) % 5 {
        0 => [220, 30, 40],
        1 | 2 => [255, 255, 255],
        3 => [20, 60, 160],
        _ => [10, 10, 10],
    };
    (0..side).flat_map(|y| (0..side).flat_map(move |x| shape(x, y))).collect()
}

fn gif(side: u16, frames: u16, dispose: DisposalMethod) -> Vec<u8> {
    let mut file = Vec::new();
    let palette: Vec<u8> = (0..=255).flat_map(|i| [i, 255 - i, i / 2]).collect();
    let mut encoder = gif::Encoder::new(&mut file, side, side, &palette).unwrap();
    for n in 0..frames {
        let indices: Vec<u8> = (0..u32::from(side) * u32::from(side))
            .map(|i| {
                let (x, y) = (i % u32::from(side), i / u32::from(side));
                pixel(x + y / 3 + u32::from(n) * 90, y)[1]
            })
            .collect();
        let mut frame = Frame::from_indexed_pixels(side, side, indices, (n > 0).then_some(3));
        frame.dispose = dispose;
        frame.delay = 8;
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    file
}

struct Case {
    name: &'static str,
    upload: Vec<u8>,
    /// What the issue of memory is about for this kind, in MiB.
    most: Option<f64>,
    most_over: f64,
}

fn cases() -> Vec<Case> {
    let case = |name, upload: Vec<u8>| Case { name, upload, most: None, most_over: MOST_OVER };
    let within = |name, upload: Vec<u8>, most| Case { name, upload, most: Some(most), most_over: MOST_OVER };
    let file = |name| picture(name).unwrap().to_vec();
    let sampling = SamplingFactor::F_2_2;
    let mut cases = vec![
        case("a small photograph", file("rocket.jpg")),
        case("a photograph as PNG", file("astronaut.png")),
        case("a photograph in four inks", file("made/cmyk-adobe.jpg")),
        within("12 megapixels, baseline", jpeg(4000, 3000, sampling, false), 48.0),
        case("12 megapixels, 4:4:4", jpeg(4000, 3000, SamplingFactor::F_1_1, false)),
        within("12 megapixels, progressive", jpeg(4000, 3000, sampling, true), 64.0),
        within("2000² PNG", png(2000, 2000, png::ColorType::Rgb, &rgb(2000, 2000)), 64.0),
        case("a logo", png(512, 512, png::ColorType::Rgb, &logo(512))),
        case("a still GIF of 12 megapixels", gif(3500, 1, DisposalMethod::Keep)),
        case("an animation", file("made/coffee-pan.gif")),
        case("an animation that restores", gif(800, 12, DisposalMethod::Previous)),
        within("nearly the largest animation", gif(1650, 4, DisposalMethod::Previous), 96.0),
        within("an animation as large, of more frames", gif(1650, 12, DisposalMethod::Previous), 96.0),
    ];
    cases.extend(
        [
            ("transparency", file("made/round-alpha.png")),
            ("2000² PNG with transparency", png(2000, 2000, png::ColorType::Rgba, &rgba(2000, 2000))),
            ("an animation too large to be kept", gif(3400, 3, DisposalMethod::Previous)),
            ("a small one with transparency", png(600, 600, png::ColorType::Rgba, &rgba(600, 600))),
        ]
        .map(|(name, upload)| Case {
            name,
            upload,
            most: Some(64.0),
            most_over: MOST_OVER_WITH_ALPHA,
        }),
    );
    cases
}

async fn peak(cloud: &LocalCloud, function: &Function, key: &str, upload: &[u8]) -> (Value, f64) {
    let body = Bytes::copy_from_slice(upload);
    let object = cloud.s3.put(UPLOADS, key, body, PutOptions::default()).unwrap();
    let event = json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-11-21T12:00:00.000Z", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": UPLOADS}, "object": {"key": key, "size": upload.len(), "eTag": object.e_tag}},
    }]});
    let result = function.invoke(event).await;
    let answer = result.ok().cloned().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let peak = result.peak_rss_bytes.expect("this system tells no peak of memory") as f64 / MEBIBYTE;
    (answer.pointer("/outcomes/0").cloned().unwrap_or(answer), peak)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "some megabytes")]
async fn memory_is_what_the_header_said() {
    let options = CloudOptions { notifies: false, ..CloudOptions::default() };
    let cloud = LocalCloud::start(options).await.unwrap();
    let function = cloud.function(AVATAR_TRANSCODER);
    let mut report = String::from("MiB: idle, estimated, peak\n");
    let mut wrong = Vec::new();
    for case in cases() {
        // A process of its own for each, warmed by an upload of a few pixels; what it holds then is its own affair.
        function.shut_down().await;
        let (_, idle) = peak(&cloud, function, "u/warm", &picture("made/gray.jpg").unwrap()).await;
        let (outcome, mut most) = peak(&cloud, function, "u/case", &case.upload).await;
        assert_eq!(outcome["status"], "stored", "{}: {outcome}", case.name);
        let is_animation = case.name.contains("animation") && !case.name.contains("too large");
        assert_eq!(outcome["avatar"]["frames"].as_u64() > Some(1), is_animation, "{}: {outcome}", case.name);
        let cost = estimate(&case.upload, &Recipe::default(), &Limits::default()).unwrap();
        let estimated = idle + (cost.memory_bytes - cost.process_bytes) as f64 / MEBIBYTE;
        // What is estimated is needed when the two halves of an animation are at work at once. On a busy machine one may be
        // done before the other begins.
        for again in ["u/again", "u/once-more"] {
            if estimated / most > case.most_over {
                most = most.max(peak(&cloud, function, again, &case.upload).await.1);
            }
        }
        let over = estimated / most;
        report += &format!("{}: {idle:.1}, {estimated:.1}, {most:.1}: {over:.2}\n", case.name);
        if over < 1.0 || over > case.most_over || case.most.is_some_and(|bound| most > bound) {
            wrong.push(case.name);
        }
    }
    println!("{report}");
    assert!(wrong.is_empty(), "{wrong:?}\n{report}");
    assert!(!cloud.s3.keys(AVATARS).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn memory_stays_flat_over_a_thousand_invocations() {
    let options = CloudOptions { notifies: false, ..CloudOptions::default() };
    let cloud = LocalCloud::start(options).await.unwrap();
    let function = cloud.function(AVATAR_TRANSCODER);
    let mut peaks = Vec::new();
    let upload = picture("made/round-alpha.png").unwrap();
    let small = picture("made/progressive.jpg").unwrap();
    for n in 0_u32..1000 {
        // Junk behind the end of a picture makes another upload of the same work; now and then a larger one.
        let mut bytes = if n % 50 == 0 { upload.to_vec() } else { small.to_vec() };
        bytes.extend(n.to_be_bytes());
        let (outcome, peak) = peak(&cloud, function, &format!("u/{n}"), &bytes).await;
        assert_eq!(outcome["status"], "stored", "{outcome}");
        peaks.push(peak);
    }
    let largest = |peaks: &[f64]| peaks.iter().copied().fold(0.0, f64::max);
    let (first, last) = (largest(&peaks[..100]), largest(&peaks[900..]));
    println!("peak over the first hundred {first:.1} MiB, over the last {last:.1} MiB");
    assert!(last <= first * 1.05 + 1.0, "{first:.1} MiB at first, {last:.1} MiB at last");
}
