//! What an upload will take, told from its header: the peak of memory, and the time.
//!
//! The model is the sum of what is held at the same time. Each format says what it holds ([`Parts`]); the rest is the
//! same for all. It is held against the measured peaks of the real function by `tests/acceptance/memory.rs`: never
//! under them, and at most half over.

use std::time::Duration;

use super::animate;
use super::geometry;
use super::header::Header;
use super::limits::Limits;
use super::recipe::{Animation, Recipe};

/// What the process holds when it is idle, in bytes: code, runtime, TLS and connections, as measured.
const PROCESS: u64 = 12 << 20;

/// What renditions take per pixel while one is encoded: its samples, the encoder's planes, and its state.
const LOSSY_PER_PIXEL: u64 = 16;
/// The same with alpha, which is compressed on its own, without loss.
const ALPHA_PER_PIXEL: u64 = 24;
/// What compressing alpha takes for its statistics. They depend on what the picture shows; this is nearly the most.
const ALPHA_STATISTICS: u64 = 14 << 20;
/// The same for each rendition of an animation: three canvases, a picture to encode, and its state.
const ANIMATED_PER_PIXEL: u64 = 56;
/// What encoders and the allocator take however small a picture is.
const ENCODER: u64 = 6 << 20;

/// What decoding costs per pixel of the upload and what encoding costs per pixel of a rendition, measured on one core of
/// 2.5 GHz; for choosing a rung of the ladder, not for promises.
const DECODE_NS_PER_PIXEL: u64 = 12;
const ENCODE_NS_PER_PIXEL: u64 = 130;

/// What a format holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The decoded picture, which stays while renditions are made of it.
    pub(super) raster: u64,
    /// What decoding takes besides, and gives back.
    pub(super) decoding: u64,
    /// Rows of the decoded picture.
    pub(super) rows: u64,
    /// Bytes per pixel of the decoded picture.
    pub(super) channels: u64,
    /// Whether transparency is possible.
    pub(super) has_alpha: bool,
}

/// What one upload takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The peak of the memory that the whole process has resident, in bytes.
    pub memory_bytes: u64,
    /// The part of it that the process has when it is idle.
    pub process_bytes: u64,
    /// The time on one core, roughly.
    pub time: Duration,
}

/// What an animation may take of memory, in bytes, whatever the function has: a larger one becomes a still.
const ANIMATION: u64 = 88 << 20;

/// An animation that fits into memory.
pub(super) struct Animated {
    pub(super) cost: Cost,
    /// Whether two halves of it fit side by side.
    pub(super) side_by_side: bool,
}

/// What the upload takes as an animation, if it is one that is kept: nothing where only a still fits into memory.
pub(super) fn animated(
    header: &Header,
    upload_bytes: usize,
    recipe: &Recipe,
    limits: &Limits,
) -> Option<Animated> {
    if recipe.animation == Animation::Still {
        return None;
    }
    let parts = header.animated?;
    // A canvas of which each frame is shrunk and resized before it is encoded, and renditions that grow side by side.
    let frame = parts.raster + resizing(header, recipe, parts);
    let renditions = all_edges(header, recipe, 1) * ANIMATED_PER_PIXEL;
    let working = parts.decoding + frame + renditions + recipe.watermark_bytes();
    let fitting = |working| {
        let cost = cost(working, recipe, upload_bytes, time(header, recipe, 1, 1));
        (cost.memory_bytes <= limits.memory_bytes.min(ANIMATION)).then_some(cost)
    };
    let halves = animate::has_halves(header.durations_ms.len()).then(|| fitting(2 * working)).flatten();
    let side_by_side = halves.is_some();
    halves.or_else(|| fitting(working)).map(|cost| Animated { cost, side_by_side })
}

/// What the upload takes as it is decided: as an animation, or as a still.
pub(super) fn decided(header: &Header, upload_bytes: usize, recipe: &Recipe, limits: &Limits) -> Cost {
    if let Some(animated) = animated(header, upload_bytes, recipe, limits) {
        return animated.cost;
    }
    let parts = header.parts;
    let finished = all_edges(header, recipe, 1);
    let encoding = if parts.has_alpha {
        finished * ALPHA_PER_PIXEL + ALPHA_STATISTICS
    } else {
        finished * LOSSY_PER_PIXEL
    };
    // The decoded picture is gone before anything is encoded.
    let dressing = resizing(header, recipe, parts) + recipe.watermark_bytes();
    let working = (parts.raster + parts.decoding.max(dressing)).max(encoding);
    cost(working, recipe, upload_bytes, time(header, recipe, 1, 1))
}

/// Beside what is worked with there are the upload and the watermark, of which each rendition takes a copy in its size.
fn cost(working: u64, recipe: &Recipe, upload_bytes: usize, time: Duration) -> Cost {
    let memory_bytes = PROCESS + ENCODER + upload_bytes as u64 + recipe.watermark_bytes() + working;
    Cost { memory_bytes, process_bytes: PROCESS, time }
}

/// The resizer narrows the rows of the decoded picture first, and multiplies colours by alpha in a copy.
fn resizing(header: &Header, recipe: &Recipe, parts: Parts) -> u64 {
    let (width, _) = geometry::target(header.width, header.height, recipe.fit, recipe.largest_edge());
    let narrowed = parts.rows * u64::from(width) * parts.channels;
    narrowed.min(parts.raster) + if parts.has_alpha { parts.raster } else { 0 }
}

fn all_edges(header: &Header, recipe: &Recipe, shrink: u32) -> u64 {
    let edges = recipe.extra_edges.iter().chain([&recipe.edge]);
    edges
        .map(|edge| {
            let (w, h) = recipe.size(header.width, header.height, (edge / shrink).max(1));
            u64::from(w) * u64::from(h)
        })
        .sum()
}

/// The time with one frame of `keep_every` kept and edges divided by `shrink`.
pub(super) fn time(header: &Header, recipe: &Recipe, keep_every: usize, shrink: u32) -> Duration {
    let (frames, decoded) = match recipe.animation {
        Animation::Keep => (header.durations_ms.len() as u64, header.decoded_pixels),
        Animation::Still => (1, u64::from(header.width) * u64::from(header.height)),
    };
    let kept = frames.div_ceil(keep_every as u64);
    let pixels = all_edges(header, recipe, shrink);
    Duration::from_nanos(decoded * DECODE_NS_PER_PIXEL + kept * pixels * ENCODE_NS_PER_PIXEL)
}
