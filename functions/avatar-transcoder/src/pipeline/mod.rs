//! From an upload's bytes to renditions: a visible list of steps, each a function of values.
//!
//! read the header → check the limits → decode (JPEG shrinks meanwhile) → crop and resize → orient → to sRGB
//! → watermark → encode. Nothing but pixels passes, so nothing else has to be stripped.

mod animate;
mod colour;
mod cost;
mod encode;
mod geometry;
mod gif;
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
mod watermark;
mod webp;

use shared::outcome::Reason;

pub use cost::Cost;
use header::{Format, Header};
pub use limits::Limits;
use raster::{Finished, Image, Raster, opaque};
pub use recipe::{Animation, Fit, Gravity, Recipe, Watermark};

/// Part of the recipe that is stored with every avatar: changes whenever the bytes of an avatar would.
pub const PIPELINE_VERSION: &str = "1";

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
}

/// Turns an upload into its renditions, or says why it cannot be an avatar.
///
/// The upload's header is held against `limits` before anything is allocated for its pixels.
///
/// # Errors
/// `empty`, `too-large`, `unsupported-type`, `undecodable`, `too-many-pixels`, `too-many-frames`,
/// `too-much-memory`, `unencodable`.
pub fn transcode(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Picture, Reason> {
    limits.check_bytes(bytes.len())?;
    let mut header = header::read(bytes, recipe, limits)?;
    header::check(&header, bytes.len(), recipe, limits)?;
    let frames = u32::try_from(header.durations_ms.len()).unwrap_or(u32::MAX);

    let mut notes = Vec::new();
    if frames > 1 && recipe.animation == Animation::Keep {
        let fits = cost::animated(&header, bytes.len(), recipe, limits).is_some();
        if let Some(plan) = fits.then(|| animate::plan(&header, recipe, limits.time)).flatten() {
            if plan.keep_every > 1 {
                notes.push("frames-dropped");
            }
            if plan.shrink > 1 {
                notes.push("edge-reduced");
            }
            let animated = animate::animate(bytes, &header, recipe, plan)?;
            let mut renditions = animated.renditions.into_iter();
            let main = renditions.next().ok_or_else(|| header::undecodable("it has no frame"))?;
            return Ok(Picture {
                main,
                extras: renditions.collect(),
                thumbhash: animated.thumbhash,
                average_colour: animated.average_colour,
                source: source(&header, frames),
                notes,
            });
        }
        notes.push("still");
    }

    let raster = decode(bytes, &mut header, recipe)?;
    let edges = [recipe.edge].into_iter().chain(recipe.extra_edges.iter().copied());
    let finished: Vec<(u32, Finished)> = edges
        .map(|edge| Ok((edge, finish(&raster, &header, recipe, edge)?)))
        .collect::<Result<_, Reason>>()?;
    // The decoded picture is the largest thing there is, and encoding the next largest: not both at once.
    drop(raster);
    let (thumbhash, average_colour) = match finished.first() {
        Some((_, main)) => tracing::debug_span!("placeholder").in_scope(|| placeholder::of(main)),
        None => Default::default(),
    };
    let mut renditions = finished.into_iter().map(|(edge, finished)| encode(&finished, recipe, edge));
    let main = renditions.next().unwrap_or_else(|| Err(header::undecodable("it has no picture")))?;
    let extras = renditions.collect::<Result<_, _>>()?;
    Ok(Picture { main, extras, thumbhash, average_colour, source: source(&header, frames), notes })
}

/// What [`transcode`] would take, told from the upload's header as it is decided there.
///
/// # Errors
/// The upload has no header that can be read.
pub fn estimate(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Cost, Reason> {
    header::read(bytes, recipe, limits).map(|header| cost::decided(&header, bytes.len(), recipe, limits))
}

fn decode(bytes: &[u8], header: &mut Header, recipe: &Recipe) -> Result<Raster, Reason> {
    let _stage = tracing::debug_span!("decode").entered();
    match header.format {
        Format::Jpeg => jpeg::decode(bytes, header, recipe),
        Format::Png => png::decode(bytes, header, recipe),
        Format::Webp if header.durations_ms.len() == 1 => webp::decode(bytes, header, recipe),
        Format::Gif => gif::first_frame(bytes, header, recipe).map(|image| Raster::Image(opaque(image))),
        Format::Webp => animate::first_frame(bytes, header).map(|image| Raster::Image(opaque(image))),
    }
}

fn encode(finished: &Finished, recipe: &Recipe, edge: u32) -> Result<Rendition, Reason> {
    let encoded = tracing::debug_span!("encode").in_scope(|| encode::encode(finished, recipe.quality))?;
    let (width, height) = finished.size();
    Ok(Rendition { edge, width, height, webp: encoded.webp, frames: 1, lossless: encoded.lossless })
}

/// Everything between decoding and encoding.
fn finish(raster: &Raster, header: &Header, recipe: &Recipe, edge: u32) -> Result<Finished, Reason> {
    let (width, height) = raster.size();
    let crop = geometry::crop(width, height, recipe.fit);
    let to = geometry::target(width, height, recipe.fit, edge);
    match raster {
        Raster::Planes { subsampling, planes, .. } => tracing::debug_span!("resize")
            .in_scope(|| resize::planes(planes, *subsampling, crop, to, header.orientation))
            .map_err(header::undecodable),
        Raster::Image(image) => {
            let resized = tracing::debug_span!("resize")
                .in_scope(|| resize::image(image, crop, to))
                .map_err(header::undecodable)?;
            let channels = resized.channels;
            let (samples, width, height) =
                header.orientation.apply(resized.samples, to.0, to.1, channels.count());
            let upright = Image { width, height, channels, samples };
            let mut image = tracing::debug_span!("colour")
                .in_scope(|| colour::to_srgb(upright, header.colour.profile(channels).as_ref()));
            if let Some(mark) = &recipe.watermark {
                image = watermark::lay_over(image, mark);
            }
            Ok(Finished::Image(image))
        }
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
    let raster = decode(bytes, &mut header, &recipe)?;
    let finished = finish(&raster, &header, &recipe, u32::MAX)?;
    let (width, height) = finished.size();
    Ok((width, height, finished.to_rgba()))
}
