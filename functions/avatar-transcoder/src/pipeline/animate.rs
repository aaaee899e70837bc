//! Animations: frame by frame from decoder to encoder, inside a budget of time.
//!
//! The way down, when an animation would take longer than allowed: frames are dropped evenly, at most three of
//! four, while the total time stays; then the edge is halved, at most twice; then the first frame is
//! kept as a still picture. One whose canvas would take too much memory is a still at once. What was done stands in the
//! picture's notes. The header foretells how long it takes; where the watch says otherwise, the rest of the time is
//! planned anew.

use std::time::Duration;

use shared::outcome::Reason;

use super::encode::{self, failed};
use super::geometry::{self, Crop};
use super::gif;
use super::header::{Format, Header, undecodable};
use super::raster::{Channels, Finished, Image, with_alpha};
use super::recipe::Recipe;
use super::shrink::{self, Shrinker};
use super::{Picture, Rendition, SourceInfo, centre, cost, placeholder, resize, smart, webp};
use crate::codec::webp::{AnimationDecoder, AnimationEncoder, Settings};

/// Frames that are looked at before a pace is believed.
const FRAMES_OF_A_PACE: u32 = 3;

/// How often an animation that is too slow is begun again, further down.
const BEGINNINGS: usize = 3;

/// What an animation becomes inside the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// One frame of so many is kept.
    pub(super) keep_every: usize,
    /// The edge is divided by so much.
    pub(super) shrink: u32,
    /// How long it takes, as far as the header can tell.
    foretold: Duration,
}

impl Plan {
    /// What is given up.
    pub(super) fn notes(self) -> Vec<&'static str> {
        let dropped = (self.keep_every > 1).then_some("frames-dropped");
        let reduced = (self.shrink > 1).then_some("edge-reduced");
        dropped.into_iter().chain(reduced).collect()
    }
}

/// An animated upload, and what is to become of it.
pub(super) struct Run<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) header: &'a Header,
    pub(super) recipe: &'a Recipe,
    /// The time that it may take.
    pub(super) budget: Duration,
    /// The time that it has taken.
    pub(super) gone: &'a dyn Fn() -> Duration,
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

/// The highest rung of the ladder that fits the budget on a machine that takes `slowness` times as long as
/// foretold; `None` where only a still picture does.
fn plan(header: &Header, recipe: &Recipe, budget: Duration, slowness: f64) -> Option<Plan> {
    let rung = |(keep_every, shrink): (usize, u32)| Plan {
        keep_every,
        shrink,
        foretold: cost::time(header, recipe, keep_every, shrink),
    };
    [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (4, 4)]
        .into_iter()
        .map(rung)
        .find(|plan| plan.foretold.as_secs_f64() * slowness <= budget.as_secs_f64())
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
        _ => webp::frames(bytes).map(Frames::Webp),
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
    renditions: Vec<Rendition>,
    thumbhash: Vec<u8>,
    average_colour: [u8; 3],
}

impl Animated {
    /// As a picture of `source`.
    pub(super) fn into_picture(
        self,
        source: SourceInfo,
        notes: Vec<&'static str>,
    ) -> Result<Picture, Reason> {
        let mut renditions = self.renditions.into_iter();
        let main = renditions.next().ok_or_else(|| undecodable("it has no frame"))?;
        let (extras, thumbhash, average_colour) = (renditions.collect(), self.thumbhash, self.average_colour);
        Ok(Picture { main, extras, thumbhash, average_colour, source, notes })
    }
}

/// How one pass over all frames ends.
enum Pass {
    Done(Animated),
    /// It takes so many times as long as foretold, which is too long.
    TooSlow(f64),
}

/// A rendition in the making.
struct Making {
    edge: u32,
    size: (u32, u32),
    lossless: bool,
    encoder: AnimationEncoder,
}

impl Run<'_> {
    /// The animation as high up the ladder as the time allows; `None` where only a still picture is possible.
    pub(super) fn animated(&self) -> Result<Option<(Animated, Plan)>, Reason> {
        let edges: Vec<u32> =
            [self.recipe.edge].into_iter().chain(self.recipe.extra_edges.iter().copied()).collect();
        let mut slowness: f64 = 1.0;
        for _ in 0..BEGINNINGS {
            let left = self.budget.saturating_sub((self.gone)());
            let Some(plan) = plan(self.header, self.recipe, left, slowness) else { return Ok(None) };
            match self.pass(plan, &edges, None, left)? {
                Pass::Done(mut animated) => {
                    self.make_no_larger(&mut animated, plan)?;
                    return Ok(Some((animated, plan)));
                }
                Pass::TooSlow(measured) => slowness = measured,
            }
        }
        Ok(None)
    }

    /// Where an animation has the size of its source, it does not have more bytes, if that can be had in time:
    /// as it is coded already, without loss, or at a lower quality.
    fn make_no_larger(&self, animated: &mut Animated, plan: Plan) -> Result<(), Reason> {
        let (at_most, quality) = (self.bytes.len(), self.recipe.quality);
        for rendition in &mut animated.renditions {
            let comparable = plan.shrink == 1 && self.recipe.leaves_size(self.header, rendition.edge);
            if !comparable || rendition.webp.len() <= at_most {
                continue;
            }
            if plan.keep_every == 1
                && self.is_untouched()
                && let Some(webp) = webp::stripped(self.bytes)
            {
                *rendition = Rendition { webp, lossless: true, ..rendition.clone() };
                continue;
            }
            let lossless = Settings { lossless: true, quality };
            let lower = |percent| Settings { lossless: false, quality: encode::part_of(quality, percent) };
            for settings in [lossless, lower(60), lower(30), lower(10)] {
                let left = self.budget.saturating_sub((self.gone)());
                if rendition.webp.len() <= at_most || left < plan.foretold {
                    break;
                }
                let Pass::Done(again) = self.pass(plan, &[rendition.edge], Some(settings), left)? else {
                    break;
                };
                if let Some(again) = again.renditions.into_iter().next()
                    && again.webp.len() < rendition.webp.len()
                {
                    *rendition = again;
                }
            }
        }
        Ok(())
    }

    /// Whether the upload is a WebP whose frames go through every step as they are.
    fn is_untouched(&self) -> bool {
        self.header.format == Format::Webp
            && !self.header.delays_changed
            && self.header.colour.conversion(Channels::Rgba).is_none()
            && self.recipe.keeps_pixels(self.header)
    }

    /// All frames once, by the `wanted` settings, or as the first frame is coded best.
    fn pass(
        &self,
        plan: Plan,
        edges: &[u32],
        wanted: Option<Settings>,
        left: Duration,
    ) -> Result<Pass, Reason> {
        let Self { header, recipe, .. } = *self;
        let start = (self.gone)();
        let mut frames = frames(self.bytes, header)?;
        let to_srgb = header.colour.conversion(Channels::Rgba);
        let kept = kept(&header.durations_ms, plan.keep_every);
        let count = u32::try_from(kept.iter().flatten().count()).unwrap_or(u32::MAX);
        let factor = shrink::factor(header.width, header.height, recipe);
        let mut part: Option<Crop> = None;
        let mut makings: Vec<Making> = Vec::new();
        let mut first = None;
        let mut done = 0;
        for duration in &kept {
            let Some(rgba) = tracing::debug_span!("decode").in_scope(|| frames.next_frame())? else {
                return Err(undecodable("frames are missing"));
            };
            let Some(duration) = duration else { continue };
            let mut shrinker = Shrinker::new(header.width, header.height, Channels::Rgba, factor);
            shrinker.push(rgba);
            let source = shrinker.finish().ok_or_else(|| undecodable("a frame is incomplete"))?;
            // One part for all frames, or the picture would jump.
            let part = *part.get_or_insert_with(|| {
                let found = if recipe.looks_for_a_square() { smart::square_of_image(&source) } else { None };
                let scale = shrink::scale(header.width, header.height, recipe);
                found.unwrap_or_else(|| centre(header, recipe, scale, (source.width, source.height)))
            });
            for (i, edge) in edges.iter().enumerate() {
                let edge_now = (edge / plan.shrink).max(1);
                let to = geometry::target(header.width, header.height, recipe.fit, edge_now);
                let resized = tracing::debug_span!("resize")
                    .in_scope(|| resize::image(&source, part, to))
                    .map_err(undecodable)?;
                let image = with_alpha(recipe.dress(resized, header.orientation, to_srgb.as_ref()));
                if makings.len() <= i {
                    let (width, height) = (image.width, image.height);
                    let lossless = match wanted {
                        Some(settings) => settings.lossless,
                        None => encode::frame_is_smaller_without_loss(&image, recipe.quality)?,
                    };
                    let quality = wanted.map_or(recipe.quality, |settings| settings.quality);
                    let encoder =
                        AnimationEncoder::new(width, height, header.loops, Settings { lossless, quality })
                            .map_err(failed)?;
                    makings.push(Making { edge: *edge, size: (width, height), lossless, encoder });
                }
                tracing::debug_span!("encode")
                    .in_scope(|| makings[i].encoder.add(&image.samples, *duration))
                    .map_err(failed)?;
                if first.is_none() {
                    first = Some(Finished::Image(image));
                }
            }
            done += 1;
            let gone = (self.gone)().saturating_sub(start);
            if done < count && done >= FRAMES_OF_A_PACE && gone * count > left * done {
                let foretold = plan.foretold.as_secs_f64() * f64::from(done) / f64::from(count);
                return Ok(Pass::TooSlow(gone.as_secs_f64() / foretold.max(1e-9)));
            }
        }
        let renditions = makings
            .into_iter()
            .map(|Making { edge, size: (width, height), lossless, encoder }| {
                let webp = tracing::debug_span!("encode").in_scope(|| encoder.finish()).map_err(failed)?;
                Ok(Rendition { edge, width, height, webp, frames: count, lossless })
            })
            .collect::<Result<_, Reason>>()?;
        let (thumbhash, average_colour) = first.as_ref().map(placeholder::of).unwrap_or_default();
        Ok(Pass::Done(Animated { renditions, thumbhash, average_colour }))
    }
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
