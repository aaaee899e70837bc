//! From an upload's bytes to renditions: a visible list of steps, each a function of values.
//!
//! read the header → check the limits → decode (which shrinks meanwhile) → crop and resize → orient → to sRGB
//! → ground → watermark → encode. Nothing but pixels passes, so nothing else has to be stripped.

mod animate;
mod colour;
mod cost;
mod encode;
mod geometry;
mod gif;
mod ground;
mod header;
mod jpeg;
mod limits;
mod orient;
mod placeholder;
mod png;
mod raster;
mod recipe;
mod resize;
mod shrink;
mod smart;
mod watermark;
mod webp;

use std::time::Duration;

use shared::outcome::Reason;

use animate::Run;
use colour::Conversion;
pub use cost::Cost;
use geometry::Crop;
use header::{Format, Header};
pub use limits::Limits;
use orient::Orientation;
use raster::{Channels, Finished, Image, Raster, opaque};
pub use recipe::{Animation, CropGravity, Fit, Gravity, Ground, Recipe, Watermark};

use crate::codec::turbojpeg::Subsampling;

/// Part of the recipe that is stored with every avatar: changes whenever the bytes of an avatar would.
pub const PIPELINE_VERSION: &str = "6";

/// What an upload turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// By content, never by name: `image/jpeg`, `image/png`, `image/gif` or `image/webp`.
    pub media_type: &'static str,
    /// Width in pixels as people see it, which is after EXIF orientation.
    pub width: u32,
    /// Height in pixels as people see it.
    pub height: u32,
    /// Frames in the upload; 1 for a still picture.
    pub frames: u32,
}

/// One finished WebP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// The edge that was asked for. A smaller source is not enlarged, so `width` may be less.
    pub edge: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The file.
    pub webp: Vec<u8>,
    /// Frames; 1 for a still picture.
    pub frames: u32,
    /// Whether the pixels are kept exactly.
    pub lossless: bool,
}

/// Everything that one upload becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The rendition at [`Recipe::edge`].
    pub main: Rendition,
    /// The renditions at [`Recipe::extra_edges`], in that order.
    pub extras: Vec<Rendition>,
    /// The ThumbHash of the main rendition, about 25 bytes.
    pub thumbhash: Vec<u8>,
    /// The average colour of the main rendition, as red, green and blue.
    pub average_colour: [u8; 3],
    /// What the upload was.
    pub source: SourceInfo,
    /// What had to be given up to stay inside the limits: `frames-dropped`, `edge-reduced`, `still`.
    pub notes: Vec<&'static str>,
    /// Whether more time would have given more: something was given up for the sake of [`Limits::time`].
    pub lacked_time: bool,
}

/// Turns an upload into its renditions, or says why it cannot be an avatar.
///
/// The upload's header is held against `limits` before anything is allocated for its pixels.
///
/// # Errors
/// `empty`, `too-large`, `unsupported-type`, `undecodable`, `too-many-pixels`, `too-many-frames`,
/// `too-much-memory`, `unencodable`.
pub fn transcode(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Picture, Reason> {
    transcode_watched(bytes, recipe, limits, &|| Duration::ZERO)
}

/// The same by a watch: `gone` is how much of the limits' time has passed. An animation that takes longer than
/// was foreseen goes further down the ladder, instead of beyond the limit.
///
/// # Errors
/// As [`transcode`].
pub fn transcode_watched(
    bytes: &[u8],
    recipe: &Recipe,
    limits: &Limits,
    gone: &(dyn Fn() -> Duration + Sync),
) -> Result<Picture, Reason> {
    limits.check_bytes(bytes.len())?;
    let mut header = header::read(bytes, recipe, limits)?;
    header::check(&header, bytes.len(), recipe, limits)?;
    let frames = u32::try_from(header.durations_ms.len()).unwrap_or(u32::MAX);

    let (mut notes, mut lacked_time) = (Vec::new(), false);
    if frames > 1 && recipe.animation == Animation::Keep {
        if let Some(cost::Animated { side_by_side, .. }) =
            cost::animated(&header, bytes.len(), recipe, limits)
        {
            let run = Run { bytes, header: &header, recipe, budget: limits.time, gone, side_by_side };
            if let Some((animated, plan)) = run.animated()? {
                return animated.into_picture(source(&header, frames), plan.notes());
            }
            lacked_time = true;
        }
        notes.push("still");
    }

    let decoded = decode(bytes, &mut header, recipe, limits)?;
    let upload = Upload { bytes, header: &header, recipe, is_srgb: decoded.to_srgb.is_none() };
    let edges = [recipe.edge].into_iter().chain(recipe.extra_edges.iter().copied());
    let finished: Vec<(u32, Finished)> = upload.finish(&decoded, edges)?;
    // The decoded picture is the largest thing there is, and encoding the next largest: not both at once.
    drop(decoded);
    let (thumbhash, average_colour) = match finished.first() {
        Some((_, main)) => tracing::debug_span!("placeholder").in_scope(|| placeholder::of(main)),
        None => Default::default(),
    };
    let mut renditions = finished.into_iter().map(|(edge, finished)| upload.encode(&finished, edge));
    let main = renditions.next().unwrap_or_else(|| Err(header::undecodable("it has no picture")))?;
    let extras = renditions.collect::<Result<_, _>>()?;
    Ok(Picture {
        main,
        extras,
        thumbhash,
        average_colour,
        source: source(&header, frames),
        notes,
        lacked_time,
    })
}

/// What [`transcode`] would take, told from the upload's header as it is decided there.
///
/// # Errors
/// The upload has no header that can be read.
pub fn estimate(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Cost, Reason> {
    header::read(bytes, recipe, limits).map(|header| cost::decided(&header, bytes.len(), recipe, limits))
}

/// A decoded picture, and how its colours become sRGB.
struct Decoded {
    raster: Raster,
    /// Pixels of the raster for each of the upload's, across and down: 1 where it was not shrunk.
    scale: (f64, f64),
    to_srgb: Option<Conversion>,
}

impl Decoded {
    /// With grays converted already, where that is a matter of replacing each by another. Resized first, they would be
    /// rounded to the levels of their own space and then to those of sRGB, which shows where its steps are wider; and
    /// a gray JPEG in sRGB can stay in its plane.
    fn with_grays_converted(mut self) -> Self {
        let samples = match &mut self.raster {
            Raster::Image(image) if image.channels == Channels::Gray => &mut image.samples,
            Raster::Planes { subsampling: Subsampling::Gray, planes, .. } if planes.len() == 1 => {
                &mut planes[0].samples
            }
            _ => return self,
        };
        if let Some(levels) = self.to_srgb.as_ref().and_then(Conversion::of_gray) {
            samples.iter_mut().for_each(|sample| *sample = levels[usize::from(*sample)]);
            self.to_srgb = None;
        }
        self
    }
}

fn decode(bytes: &[u8], header: &mut Header, recipe: &Recipe, limits: &Limits) -> Result<Decoded, Reason> {
    let _stage = tracing::debug_span!("decode").entered();
    let raster = match header.format {
        Format::Jpeg => {
            return jpeg::decode(bytes, header, recipe, limits).map(Decoded::with_grays_converted);
        }
        Format::Png => png::decode(bytes, header, recipe)?,
        Format::Webp if header.durations_ms.len() == 1 => webp::decode(bytes, header, recipe)?,
        Format::Gif => gif::first_frame(bytes, header, recipe).map(|image| Raster::Image(opaque(image)))?,
        Format::Webp => animate::first_frame(bytes, header).map(|image| Raster::Image(opaque(image)))?,
    };
    let to_srgb = match &raster {
        Raster::Image(image) => header.colour.conversion(image.channels),
        Raster::Planes { .. } => None,
    };
    let (width, height) = raster.size();
    let scale = match header.format {
        Format::Png | Format::Gif => shrink::scale(header.width, header.height, recipe),
        _ => (f64::from(width) / f64::from(header.width), f64::from(height) / f64::from(header.height)),
    };
    Ok(Decoded { raster, scale, to_srgb }.with_grays_converted())
}

/// Which part of a raster is kept, where nothing else was found: the one about the centre of the upload, which may
/// lie between the raster's pixels.
fn centre(header: &Header, recipe: &Recipe, scale: (f64, f64), size: (u32, u32)) -> Crop {
    geometry::crop(header.width, header.height, recipe.fit).scaled(scale, size)
}

/// A still upload, and what is to become of it.
struct Upload<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    recipe: &'a Recipe,
    /// Whether its colours need no conversion.
    is_srgb: bool,
}

impl Upload<'_> {
    /// Everything between decoding and encoding, for each of `edges`.
    fn finish(
        &self,
        decoded: &Decoded,
        edges: impl Iterator<Item = u32>,
    ) -> Result<Vec<(u32, Finished)>, Reason> {
        let Self { header, recipe, .. } = self;
        let found = if recipe.looks_for_a_square() { smart::square(&decoded.raster) } else { None };
        let crop = found.unwrap_or_else(|| centre(header, recipe, decoded.scale, decoded.raster.size()));
        let finish = |edge| {
            let to = geometry::target(header.width, header.height, recipe.fit, edge);
            let resizing = tracing::debug_span!("resize");
            let resized = match &decoded.raster {
                Raster::Planes { subsampling, planes, .. } if self.is_srgb && recipe.keeps_planes() => {
                    return resizing
                        .in_scope(|| resize::planes(planes, *subsampling, crop, to, header.orientation))
                        .map_err(header::undecodable);
                }
                Raster::Planes { subsampling, planes, .. } => {
                    resizing.in_scope(|| resize::pixels(planes, *subsampling, crop, to))
                }
                Raster::Image(image) => resizing.in_scope(|| resize::image(image, crop, to)),
            };
            let resized = resized.map_err(header::undecodable)?;
            let dressed = tracing::debug_span!("colour")
                .in_scope(|| recipe.dress(resized, header.orientation, decoded.to_srgb.as_ref()));
            Ok(Finished::Image(dressed))
        };
        edges.map(|edge| Ok((edge, finish(edge)?))).collect()
    }

    fn encode(&self, finished: &Finished, edge: u32) -> Result<Rendition, Reason> {
        let (width, height) = finished.size();
        let leaves_size = self.recipe.leaves_size(self.header, edge);
        let is_untouched = leaves_size && self.is_untouched();
        let at_most = (leaves_size && !is_untouched).then_some(self.bytes.len());
        let has_no_loss_yet = self.header.format != Format::Jpeg;
        let encoded = tracing::debug_span!("encode")
            .in_scope(|| encode::encode(finished, self.recipe.quality, at_most, has_no_loss_yet))?;
        let kept = if is_untouched { webp::stripped(self.bytes) } else { None };
        let (webp, lossless) = match kept {
            Some(kept) if kept.len() <= encoded.webp.len() => (kept, true),
            _ => (encoded.webp, encoded.lossless),
        };
        Ok(Rendition { edge, width, height, webp, frames: 1, lossless })
    }

    /// Whether the upload is a WebP whose pixels go through every step as they are.
    fn is_untouched(&self) -> bool {
        let is_still = self.header.durations_ms.len() == 1;
        self.header.format == Format::Webp
            && is_still
            && self.is_srgb
            && self.recipe.keeps_pixels(self.header)
    }
}

impl Recipe {
    /// What is done to an image that has its size: turned upright, to sRGB, laid on its ground, marked.
    fn dress(&self, image: Image, orientation: Orientation, to_srgb: Option<&Conversion>) -> Image {
        let channels = image.channels;
        let (samples, width, height) =
            orientation.apply(image.samples, image.width, image.height, channels.count());
        let mut image = colour::to_srgb(Image { width, height, channels, samples }, to_srgb);
        if let Some(ground) = self.ground {
            image = ground::lay_on(image, ground, self.fit);
        }
        match &self.watermark {
            Some(mark) => watermark::lay_over(image, mark),
            None => image,
        }
    }

    /// Whether an upload is at `edge` as large as it was, but for what is cut off.
    fn leaves_size(&self, header: &Header, edge: u32) -> bool {
        geometry::measured_side(header.width, header.height, self.fit) <= edge
    }

    /// Whether an upload that has its size already has its colours and its shape, too.
    fn keeps_pixels(&self, header: &Header) -> bool {
        let whole = self.fit == Fit::Contain || header.width == header.height;
        let grounded = self.ground.is_some_and(|ground| ground != Ground::Transparent)
            || (self.ground.is_some() && header.width != header.height);
        whole && !grounded && self.watermark.is_none() && header.orientation == Orientation::default()
    }
}

fn source(header: &Header, frames: u32) -> SourceInfo {
    let (width, height) = if header.orientation.swaps_sides() {
        (header.height, header.width)
    } else {
        (header.width, header.height)
    };
    SourceInfo { media_type: header.format.media_type(), width, height, frames }
}

/// Decodes a picture whole, for a watermark: RGBA, upright, in sRGB.
fn whole_picture(bytes: &[u8], limits: &Limits) -> Result<(u32, u32, Vec<u8>), Reason> {
    let recipe =
        Recipe { edge: u32::MAX, fit: Fit::Contain, animation: Animation::Still, ..Recipe::default() };
    limits.check_bytes(bytes.len())?;
    let mut header = header::read(bytes, &recipe, limits)?;
    header::check(&header, bytes.len(), &recipe, limits)?;
    let decoded = decode(bytes, &mut header, &recipe, limits)?;
    let upload = Upload { bytes, header: &header, recipe: &recipe, is_srgb: decoded.to_srgb.is_none() };
    let finished = upload.finish(&decoded, [u32::MAX].into_iter())?;
    let (_, finished) = finished.first().ok_or_else(|| header::undecodable("it has no picture"))?;
    let (width, height) = finished.size();
    Ok((width, height, finished.to_rgba()))
}
