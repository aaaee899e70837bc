//! Animations: frame by frame from decoder to encoder, inside a budget of time.
//!
//! The way down, when an animation would take longer than allowed: frames are dropped evenly, at most three of
//! four, while the total time stays; then the edge is halved, at most twice; then the first frame is
//! kept as a still picture. One whose canvas would take too much memory is a still at once. What was done stands in the
//! picture's notes. The header foretells how long it takes; where the watch says otherwise, the rest of the time is
//! planned anew.

mod steady;

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use shared::outcome::Reason;

use super::colour::Conversion;
use super::encode::{self, failed};
use super::geometry::{self, Crop};
use super::gif;
use super::header::{Format, Header, undecodable};
use super::raster::{Channels, Finished, Image, with_alpha};
use super::recipe::Recipe;
use super::shrink::{self, Shrinker};
use super::{Picture, Rendition, SourceInfo, centre, cost, placeholder, resize, smart, webp};
use crate::codec::webp::{AnimationDecoder, AnimationEncoder, Settings, joined};
use steady::Steady;

/// Frames that are looked at before a pace is believed.
const FRAMES_OF_A_PACE: u32 = 3;

/// An animation of so many frames is coded in two halves, which two cores can do side by side. The second half begins with
/// a whole frame, of which a shorter animation would grow too much. Whether it is two cores does not change a byte.
const FRAMES_WITH_HALVES: usize = 12;

/// Whether an animation of so many frames is coded in two halves.
pub(super) fn has_halves(frames: usize) -> bool {
    frames >= FRAMES_WITH_HALVES
}

/// The frame at which the second half of those that are kept begins.
fn middle(kept: &[Option<u32>]) -> usize {
    let places: Vec<usize> = (0..kept.len()).filter(|i| kept[*i].is_some()).collect();
    places.get(places.len() / 2).copied().unwrap_or(kept.len())
}

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
    pub(super) gone: &'a (dyn Fn() -> Duration + Sync),
    /// Whether memory allows for both halves at the same time.
    pub(super) side_by_side: bool,
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
        // Frames and size are given up for nothing but time.
        let lacked_time = !notes.is_empty();
        Ok(Picture { main, extras, thumbhash, average_colour, source, notes, lacked_time })
    }
}

/// How one pass over all frames ends.
enum Pass {
    Done(Animated),
    /// It takes so many times as long as foretold, which is too long.
    TooSlow(f64),
}

/// How every frame is made, decided on the first one.
struct Manner {
    /// One part for all frames, or the picture would jump.
    part: Crop,
    to_srgb: Option<Conversion>,
    /// The edge of each rendition as it was asked for, and how it is coded.
    edges: Vec<(u32, Settings)>,
}

/// Consecutive frames of every rendition, coded, main one first; or by how much they take too long.
enum Stretch {
    Done(Vec<Vec<u8>>),
    TooSlow(f64),
}

/// Sees whether frames are made at the pace that was foretold.
struct Watch<'a> {
    gone: &'a (dyn Fn() -> Duration + Sync),
    /// What is left for the frames from `start` on.
    left: Duration,
    start: Duration,
    /// What all of them were foretold to take.
    foretold: Duration,
    count: u32,
    done: u32,
}

impl Watch<'_> {
    /// Begins with the frames: what came before is no part of their pace.
    fn begin(&mut self) {
        let now = (self.gone)();
        self.left = self.left.saturating_sub(now.saturating_sub(self.start));
        self.start = now;
    }

    /// Notes another frame. How many times as long as foretold it takes, where that is beyond the time.
    fn too_slow(&mut self) -> Option<f64> {
        self.done += 1;
        let Self { left, done, count, .. } = *self;
        let gone = (self.gone)().saturating_sub(self.start);
        if done == count || done < FRAMES_OF_A_PACE || gone * count <= left * done {
            return None;
        }
        Some(self.slowness(gone, done))
    }

    /// How many times as long as foretold it takes, where the time is over: for the frames before a stretch, which are
    /// decoded and not kept, and of which there may be any number.
    fn is_over(&self) -> Option<f64> {
        let gone = (self.gone)().saturating_sub(self.start);
        (gone > self.left).then(|| self.slowness(gone, self.done.max(1)))
    }

    fn slowness(&self, gone: Duration, done: u32) -> f64 {
        let foretold = self.foretold.as_secs_f64() * f64::from(done) / f64::from(self.count.max(1));
        gone.as_secs_f64() / foretold.max(1e-9)
    }
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
        let kept = kept(&self.header.durations_ms, plan.keep_every);
        let count = kept.iter().flatten().count();
        let start = (self.gone)();
        let watch = |frames| Watch {
            gone: self.gone,
            start,
            left,
            foretold: plan.foretold,
            count: u32::try_from(frames).unwrap_or(u32::MAX),
            done: 0,
        };
        let (firsts, manner) = self.manner(plan, edges, wanted)?;
        let middle = if has_halves(count) { middle(&kept) } else { kept.len() };
        let (one, other) = (0..middle, middle..kept.len());
        let half = |frames: Range<usize>| {
            let count = kept[frames.clone()].iter().flatten().count();
            self.stretch(plan, &manner, &kept, frames, &mut watch(count))
        };
        let stretches = if other.is_empty() {
            vec![half(one)?]
        } else if self.side_by_side {
            thread::scope(|scope| {
                let later = thread::Builder::new().spawn_scoped(scope, || half(other.clone()));
                let one = half(one.clone())?;
                let other = match later.map(ScopedJoinHandle::join) {
                    Ok(Ok(done)) => done?,
                    Ok(Err(panic)) => resume_unwind(panic),
                    // No thread is to be had.
                    Err(_) => half(other.clone())?,
                };
                Ok(vec![one, other])
            })?
        } else {
            let mut watch = watch(count);
            let one = self.stretch(plan, &manner, &kept, one, &mut watch)?;
            match one {
                Stretch::Done(_) => vec![one, self.stretch(plan, &manner, &kept, other, &mut watch)?],
                Stretch::TooSlow(_) => vec![one],
            }
        };
        self.joined(&manner, &kept, middle, firsts, stretches)
    }

    /// How frames are made, told by the first one, and that frame at the size of each rendition.
    fn manner(
        &self,
        plan: Plan,
        edges: &[u32],
        wanted: Option<Settings>,
    ) -> Result<(Vec<Image>, Manner), Reason> {
        let Self { header, recipe, .. } = *self;
        let mut frames = frames(self.bytes, header)?;
        let rgba = tracing::debug_span!("decode").in_scope(|| frames.next_frame())?;
        let source = self.shrunk(rgba.ok_or_else(|| undecodable("frames are missing"))?)?;
        let found = if recipe.looks_for_a_square() { smart::square_of_image(&source) } else { None };
        let scale = shrink::scale(header.width, header.height, recipe);
        let part = found.unwrap_or_else(|| centre(header, recipe, scale, (source.width, source.height)));
        let to_srgb = header.colour.conversion(Channels::Rgba);
        let mut manner = Manner { part, to_srgb, edges: Vec::new() };
        let mut images = Vec::new();
        for edge in edges {
            let image = self.finished(&source, plan, &manner, *edge)?;
            let lossless = match wanted {
                Some(settings) => settings.lossless,
                None => encode::frame_is_smaller_without_loss(&image, recipe.quality)?,
            };
            let quality = wanted.map_or(recipe.quality, |settings| settings.quality);
            manner.edges.push((*edge, Settings { lossless, quality }));
            images.push(image);
        }
        Ok((images, manner))
    }

    fn shrunk(&self, rgba: &[u8]) -> Result<Image, Reason> {
        let Header { width, height, .. } = *self.header;
        let factor = shrink::factor(width, height, self.recipe);
        let mut shrinker = Shrinker::new(width, height, Channels::Rgba, factor);
        shrinker.push(rgba);
        shrinker.finish().ok_or_else(|| undecodable("a frame is incomplete"))
    }

    fn finished(&self, source: &Image, plan: Plan, manner: &Manner, edge: u32) -> Result<Image, Reason> {
        let Self { header, recipe, .. } = *self;
        let edge = (edge / plan.shrink).max(1);
        let to = geometry::target(header.width, header.height, recipe.fit, edge);
        let resized = tracing::debug_span!("resize")
            .in_scope(|| resize::image(source, manner.part, to))
            .map_err(undecodable)?;
        Ok(with_alpha(recipe.dress(resized, header.orientation, manner.to_srgb.as_ref())))
    }

    /// The frames in `range`, from decoder to encoder.
    fn stretch(
        &self,
        plan: Plan,
        manner: &Manner,
        kept: &[Option<u32>],
        range: Range<usize>,
        watch: &mut Watch<'_>,
    ) -> Result<Stretch, Reason> {
        let mut frames = frames(self.bytes, self.header)?;
        let mut encoders: Vec<(AnimationEncoder, Option<Steady>)> = Vec::new();
        for (i, duration) in kept.iter().enumerate().take(range.end) {
            let Some(rgba) = tracing::debug_span!("decode").in_scope(|| frames.next_frame())? else {
                return Err(undecodable("frames are missing"));
            };
            let Some(duration) = duration.filter(|_| range.contains(&i)) else {
                // Frames that are dropped have a kept one soon behind them, after which the watch is looked at anyway.
                if i < range.start
                    && let Some(slowness) = watch.is_over()
                {
                    return Ok(Stretch::TooSlow(slowness));
                }
                continue;
            };
            if watch.done == 0 {
                watch.begin();
            }
            let source = self.shrunk(rgba)?;
            for (edge, (asked, settings)) in manner.edges.iter().enumerate() {
                let image = self.finished(&source, plan, manner, *asked)?;
                if encoders.len() <= edge {
                    let Header { loops, .. } = *self.header;
                    let encoder = AnimationEncoder::new(image.width, image.height, loops, *settings);
                    let steady = (!settings.lossless).then(|| Steady::new(image.width, settings.quality));
                    encoders.push((encoder.map_err(failed)?, steady));
                }
                let (encoder, steady) = &mut encoders[edge];
                let rgba = steady.as_mut().map_or(&*image.samples, |steady| steady.next(&image.samples));
                tracing::debug_span!("encode").in_scope(|| encoder.add(rgba, duration)).map_err(failed)?;
            }
            if let Some(slowness) = watch.too_slow() {
                return Ok(Stretch::TooSlow(slowness));
            }
        }
        let files = encoders
            .into_iter()
            .map(|(encoder, _)| tracing::debug_span!("encode").in_scope(|| encoder.finish()).map_err(failed));
        files.collect::<Result<_, _>>().map(Stretch::Done)
    }

    /// Puts stretches together, the second of which begins at the frame `middle`.
    fn joined(
        &self,
        manner: &Manner,
        kept: &[Option<u32>],
        middle: usize,
        firsts: Vec<Image>,
        stretches: Vec<Stretch>,
    ) -> Result<Pass, Reason> {
        let mut parts = Vec::new();
        for stretch in stretches {
            match stretch {
                Stretch::Done(files) => parts.push(files.into_iter()),
                Stretch::TooSlow(slowness) => return Ok(Pass::TooSlow(slowness)),
            }
        }
        let total = |frames: &[Option<u32>]| {
            frames.iter().flatten().fold(0_u32, |total, duration| total.saturating_add(*duration))
        };
        let durations = [total(&kept[..middle]), total(&kept[middle..])];
        let frames = u32::try_from(kept.iter().flatten().count()).unwrap_or(u32::MAX);
        let mut renditions = Vec::new();
        for ((edge, settings), first) in manner.edges.iter().zip(&firsts) {
            let mut files: Vec<(Vec<u8>, u32)> =
                parts.iter_mut().filter_map(Iterator::next).zip(durations).collect();
            let (width, height) = (first.width, first.height);
            let webp = match files.len() {
                1 => files.remove(0).0,
                _ => joined((width, height), self.header.loops, &files).map_err(failed)?,
            };
            renditions.push(Rendition {
                edge: *edge,
                width,
                height,
                webp,
                frames,
                lossless: settings.lossless,
            });
        }
        let first = firsts.into_iter().next().map(Finished::Image);
        let (thumbhash, average_colour) = first.as_ref().map(placeholder::of).unwrap_or_default();
        Ok(Pass::Done(Animated { renditions, thumbhash, average_colour }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Limits, header};
    use proptest::prelude::*;

    #[test]
    fn it_does_not_show_whether_halves_were_made_side_by_side() {
        let bytes = include_bytes!("../../../../tests/fixtures/images/made/coffee-pan.gif");
        let recipe = Recipe { edge: 64, ..Recipe::default() };
        let header = header::read(bytes, &recipe, &Limits::default()).unwrap();
        let [together, apart] = [true, false].map(|side_by_side| {
            let gone = || Duration::ZERO;
            let budget = Duration::from_secs(60);
            let run = Run { bytes, header: &header, recipe: &recipe, budget, gone: &gone, side_by_side };
            run.animated().unwrap().unwrap().0.renditions
        });
        assert!(has_halves(header.durations_ms.len()));
        assert_eq!(together, apart);
    }

    #[test]
    fn frames_before_a_stretch_are_not_decoded_beyond_the_time() {
        let bytes = include_bytes!("../../../../tests/fixtures/images/made/coffee-pan.gif");
        let recipe = Recipe { edge: 64, ..Recipe::default() };
        let header = header::read(bytes, &recipe, &Limits::default()).unwrap();
        // Whoever goes on decoding comes to where the file is cut off.
        let cut = &bytes[..bytes.len() / 2];
        let (budget, gone) = (Duration::from_secs(1), || Duration::from_secs(2));
        let run =
            Run { bytes: cut, header: &header, recipe: &recipe, budget, gone: &gone, side_by_side: false };
        let plan = Plan { keep_every: 1, shrink: 1, foretold: budget };
        let (_, manner) = run.manner(plan, &[64], None).unwrap();
        let kept = kept(&header.durations_ms, 1);
        let (start, count) = (Duration::ZERO, 1);
        let mut watch = Watch { gone: &gone, start, left: budget, foretold: budget, count, done: 0 };
        let stretch = run.stretch(plan, &manner, &kept, kept.len() - 1..kept.len(), &mut watch).unwrap();
        assert!(matches!(stretch, Stretch::TooSlow(_)));
    }

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
