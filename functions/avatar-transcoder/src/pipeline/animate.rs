//! Animations: frame by frame from decoder to encoder, inside a budget of time.
//!
//! The way down, when an animation would take longer than allowed: frames are dropped evenly, at most three of
//! four, while the total time stays; then the edge is halved, at most twice; then the first frame is
//! kept as a still picture. One whose canvas would take too much memory is a still at once. What was done stands in the
//! picture's notes.

use std::time::Duration;

use shared::outcome::Reason;

use super::encode::{self, failed};
use super::gif;
use super::header::{Format, Header, undecodable};
use super::raster::{Channels, Finished, Image};
use super::recipe::Recipe;
use super::shrink::{self, Shrinker};
use super::{Rendition, colour, cost, geometry, placeholder, resize, watermark, webp};
use crate::codec::webp::{AnimationDecoder, AnimationEncoder, Settings};

/// What an animation becomes inside the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// One frame of so many is kept.
    pub(super) keep_every: usize,
    /// The edge is divided by so much.
    pub(super) shrink: u32,
}

/// Frames of one animation, whatever its format.
enum Frames<'a> {
    Gif(Box<gif::Frames<'a>>),
    Webp(AnimationDecoder<'a>),
}

impl Frames<'_> {
    fn next_frame(&mut self) -> Result<Option<&[u8]>, Reason> {
        match self {
            Self::Gif(frames) => frames.next_frame(),
            Self::Webp(frames) => frames.next_frame().map_err(undecodable),
        }
    }
}

/// The highest rung of the ladder that fits the budget; `None` where only a still picture does.
pub(super) fn plan(header: &Header, recipe: &Recipe, budget: Duration) -> Option<Plan> {
    let rungs = [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (4, 4)];
    rungs
        .map(|(keep_every, shrink)| Plan { keep_every, shrink })
        .into_iter()
        .find(|plan| cost::time(header, recipe, plan.keep_every, plan.shrink) <= budget)
}

/// Which frames are kept and how long each is shown then: the time of a dropped frame goes to the one before.
pub(super) fn kept(durations_ms: &[u32], keep_every: usize) -> Vec<Option<u32>> {
    let mut kept = vec![None; durations_ms.len()];
    for (group, durations) in durations_ms.chunks(keep_every.max(1)).enumerate() {
        let total = durations.iter().fold(0_u32, |sum, ms| sum.saturating_add(*ms));
        kept[group * keep_every.max(1)] = Some(total);
    }
    kept
}

fn frames<'a>(bytes: &'a [u8], header: &Header) -> Result<Frames<'a>, Reason> {
    match header.format {
        Format::Gif => gif::Frames::new(bytes, header).map(|frames| Frames::Gif(Box::new(frames))),
        _ => webp::frames(bytes, header).map(Frames::Webp),
    }
}

fn canvas(header: &Header, rgba: &[u8]) -> Image {
    Image { width: header.width, height: header.height, channels: Channels::Rgba, samples: rgba.to_vec() }
}

/// The first frame alone.
pub(super) fn first_frame(bytes: &[u8], header: &Header) -> Result<Image, Reason> {
    let mut frames = frames(bytes, header)?;
    let first = frames.next_frame()?.ok_or_else(|| undecodable("it has no frame"))?;
    let image = canvas(header, first);
    if header.durations_ms.len() == 1 {
        // A still picture has to be whole: what follows is the end of the file, or damage.
        frames.next_frame()?;
    }
    Ok(image)
}

/// An animation's renditions, main one first, with the placeholder of its first frame.
pub(super) struct Animated {
    pub(super) renditions: Vec<Rendition>,
    pub(super) thumbhash: Vec<u8>,
    pub(super) average_colour: [u8; 3],
}

pub(super) fn animate(
    bytes: &[u8],
    header: &Header,
    recipe: &Recipe,
    plan: Plan,
) -> Result<Animated, Reason> {
    let mut frames = frames(bytes, header)?;
    let profile = header.colour.profile(Channels::Rgba);
    let kept = kept(&header.durations_ms, plan.keep_every);
    let factor = shrink::factor(header.width, header.height, recipe);
    let (width, height) = (shrink::shrunk(header.width, factor), shrink::shrunk(header.height, factor));
    let crop = geometry::crop(width, height, recipe.fit);
    let edges: Vec<u32> = [recipe.edge].into_iter().chain(recipe.extra_edges.iter().copied()).collect();
    let mut encoders: Vec<(u32, (u32, u32), AnimationEncoder, bool)> = Vec::new();
    let mut placeholder = None;
    for duration in &kept {
        let Some(rgba) = tracing::debug_span!("decode").in_scope(|| frames.next_frame())? else {
            return Err(undecodable("frames are missing"));
        };
        let Some(duration) = duration else { continue };
        let mut shrinker = Shrinker::new(header.width, header.height, Channels::Rgba, factor);
        shrinker.push(rgba);
        let source = shrinker.finish().ok_or_else(|| undecodable("a frame is incomplete"))?;
        for (i, edge) in edges.iter().enumerate() {
            let to = geometry::target(header.width, header.height, recipe.fit, (edge / plan.shrink).max(1));
            let resized = tracing::debug_span!("resize")
                .in_scope(|| resize::image(&source, crop, to))
                .map_err(undecodable)?;
            let (samples, width, height) = header.orientation.apply(resized.samples, to.0, to.1, 4);
            let mut image = Image { width, height, channels: Channels::Rgba, samples };
            image = colour::to_srgb(image, profile.as_ref());
            if let Some(mark) = &recipe.watermark {
                image = watermark::lay_over(image, mark);
            }
            if encoders.len() <= i {
                let lossless = encode::frame_is_smaller_without_loss(&image, recipe.quality)?;
                let settings = Settings { lossless, quality: recipe.quality };
                let encoder = AnimationEncoder::new(width, height, header.loops, settings).map_err(failed)?;
                encoders.push((*edge, (width, height), encoder, lossless));
            }
            tracing::debug_span!("encode")
                .in_scope(|| encoders[i].2.add(&image.samples, *duration))
                .map_err(failed)?;
            if placeholder.is_none() {
                placeholder = Some(placeholder::of(&Finished::Image(image)));
            }
        }
    }
    let count = u32::try_from(kept.iter().flatten().count()).unwrap_or(u32::MAX);
    let renditions = encoders
        .into_iter()
        .map(|(edge, (width, height), encoder, lossless)| {
            let webp = tracing::debug_span!("encode").in_scope(|| encoder.finish()).map_err(failed)?;
            Ok(Rendition { edge, width, height, webp, frames: count, lossless })
        })
        .collect::<Result<_, Reason>>()?;
    let (thumbhash, average_colour) = placeholder.unwrap_or_default();
    Ok(Animated { renditions, thumbhash, average_colour })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dropping_frames_keeps_the_total_time(
            durations in prop::collection::vec(1_u32..1000, 1..60), keep_every in 1_usize..5,
        ) {
            let kept = kept(&durations, keep_every);
            prop_assert_eq!(kept.len(), durations.len());
            prop_assert!(kept[0].is_some());
            let total: u32 = kept.iter().flatten().sum();
            prop_assert_eq!(total, durations.iter().sum::<u32>());
        }
    }
}
