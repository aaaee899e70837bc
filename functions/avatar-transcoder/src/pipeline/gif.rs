//! GIF: frames laid over each other as browsers do, with all ways of disposal.

use gif::{ColorOutput, DecodeOptions, DisposalMethod, Frame, MemoryLimit, Repeat};
use shared::outcome::Reason;

use super::colour::ColourInfo;
use super::cost::Parts;
use super::header::{Format, Header, cursor, undecodable};
use super::limits::Limits;
use super::orient::Orientation;
use super::raster::{Channels, Image};
use super::recipe::Recipe;
use super::shrink::{self, Shrinker};

mod indices;

use indices::Indices;

/// What a `gif` decoder is told. Frames are left as they are packed, for [`Indices`].
fn options() -> DecodeOptions {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // A frame has at most 65535² pixels by its format; the header's check has refused what is too large.
    options.set_memory_limit(MemoryLimit::Unlimited);
    options.skip_frame_decoding(true);
    options
}

/// How long browsers show a frame, in milliseconds, given hundredths of a second: up to one hundredth reads
/// as ten.
fn duration_ms(delay: u16) -> u32 {
    if delay <= 1 { 100 } else { u32::from(delay) * 10 }
}

pub(super) fn header(bytes: &[u8], recipe: &Recipe, limits: &Limits) -> Result<Header, Reason> {
    let mut decoder = options().read_info(cursor(bytes)).map_err(undecodable)?;
    let mut durations_ms = Vec::new();
    let global = decoder.global_palette().map_or(0, <[u8]>::len);
    let (mut restores, mut first, mut largest, mut decoded_pixels) = (false, First::Opaque, 0, 0);
    let (mut width, mut height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    while let Some(frame) = decoder.next_frame_info().map_err(undecodable)? {
        restores |= frame.dispose == DisposalMethod::Previous;
        // Browsers cut off what lies beyond the screen, but for the first frame, which makes the screen larger: so are
        // files shown whose screen is zero or nonsense.
        if durations_ms.is_empty() {
            width = width.max(u32::from(frame.left) + u32::from(frame.width));
            height = height.max(u32::from(frame.top) + u32::from(frame.height));
            let covers = (u32::from(frame.width), u32::from(frame.height)) == (width, height);
            let palette = frame.palette.as_ref().map_or(global, Vec::len);
            first = match (frame.transparent, covers, palette / 3) {
                (None, true, 256) => First::Opaque,
                (None, true, _) => First::MayHide,
                _ => First::Hides,
            };
        }
        durations_ms.push(duration_ms(frame.delay));
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        largest = largest.max(pixels);
        // A frame is decoded whole, whatever of it lies beyond the screen.
        decoded_pixels += pixels.max(u64::from(width) * u64::from(height));
        if pixels > limits.pixels {
            return Err(Reason::new(
                "too-many-pixels",
                format!(
                    "A frame has {} × {} pixels; at most {} are accepted.",
                    frame.width, frame.height, limits.pixels
                ),
            ));
        }
        // One more than allowed is enough to know.
        if durations_ms.len() as u64 > u64::from(limits.frames) {
            break;
        }
    }
    if durations_ms.is_empty() {
        return Err(undecodable("it has no frame"));
    }
    let loops = match decoder.repeat() {
        Repeat::Infinite => 0,
        // The file counts repetitions, WebP counts times.
        Repeat::Finite(repetitions) => u32::from(repetitions) + 1,
    };
    let animated = (durations_ms.len() > 1)
        .then(|| animated_parts(width, height, (largest, bytes.len()), restores, recipe));
    Ok(Header {
        format: Format::Gif,
        width,
        height,
        durations_ms,
        delays_changed: false,
        decoded_pixels,
        loops,
        orientation: Orientation::default(),
        colour: ColourInfo::Srgb,
        animated,
        otherwise: None,
        parts: still_parts(width, height, bytes.len() as u64, first, recipe),
    })
}

/// What the first frame leaves to be seen through.
#[derive(Clone, Copy)]
enum First {
    /// Nothing: it covers the screen, and every index has a colour.
    Opaque,
    /// What its indices tell, which may be beyond its palette.
    MayHide,
    Hides,
}

/// A still is shrunk while its rows are drawn from the frame's indices, beside which the `packed` bytes stay.
fn still_parts(width: u32, height: u32, packed: u64, first: First, recipe: &Recipe) -> Parts {
    let factor = shrink::factor(width, height, recipe);
    let (kept_width, rows) = (shrink::shrunk(width, factor), u64::from(shrink::shrunk(height, factor)));
    let kept = u64::from(kept_width) * rows;
    let indices = packed + u64::from(width) * u64::from(height) + u64::from(width) * 20;
    let (channels, decoding) = match first {
        First::Opaque => (3, indices),
        // A copy without alpha, if nothing hides.
        First::MayHide | First::Hides => (4, indices.max(kept * 3)),
    };
    let has_alpha = matches!(first, First::Hides);
    Parts { raster: kept * channels, decoding, rows, channels, has_alpha }
}

/// An animation has a canvas, another to restore if a frame asks for it, and a frame's indices, packed and not, all of
/// them although some may lie beyond the screen; each frame is shrunk. An index is packed into twelve bits at most.
fn animated_parts(
    width: u32,
    height: u32,
    (largest, bytes): (u64, usize),
    restores: bool,
    recipe: &Recipe,
) -> Parts {
    let packed = (largest * 3 / 2).min(bytes as u64);
    let still = still_parts(width, height, packed, First::Hides, recipe);
    let pixels = u64::from(width) * u64::from(height);
    let canvases = pixels * if restores { 8 } else { 4 };
    Parts { decoding: packed + canvases + largest.max(pixels), ..still }
}

/// The frames of a GIF, each as it is seen on the whole screen.
pub(super) struct Frames<'a> {
    decoder: gif::Decoder<std::io::Cursor<&'a [u8]>>,
    width: usize,
    height: usize,
    canvas: Vec<u8>,
    /// What the frame before leaves to be done before the next one.
    pending: Option<Disposal>,
}

/// How a frame's area is left.
struct Disposal {
    method: DisposalMethod,
    area: Area,
    saved: Vec<u8>,
}

/// A part of the canvas, inside of it.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8], header: &Header) -> Result<Self, Reason> {
        let (width, height) = (header.width as usize, header.height as usize);
        Ok(Self {
            decoder: options().read_info(cursor(bytes)).map_err(undecodable)?,
            width,
            height,
            canvas: vec![0; width * height * 4],
            pending: None,
        })
    }

    /// The next frame's RGBA canvas; `None` after the last one.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, Reason> {
        self.dispose();
        let global = self.decoder.global_palette().map(<[u8]>::to_vec);
        let Some(frame) = self.decoder.read_next_frame().map_err(undecodable)? else { return Ok(None) };
        let palette = palette(frame, global.as_deref())?;
        let colours = colours(palette, frame.transparent);
        let indices = Indices::of(frame)?;
        let area = area(frame, self.width, self.height);
        let saved = match frame.dispose {
            DisposalMethod::Previous => rows(&self.canvas, self.width, area),
            _ => Vec::new(),
        };
        for row in 0..area.height {
            let indices = indices.row(row);
            let start = ((area.top + row) * self.width + area.left) * 4;
            for (pixel, index) in
                self.canvas[start..start + area.width * 4].as_chunks_mut::<4>().0.iter_mut().zip(indices)
            {
                let colour = colours[usize::from(*index)];
                *pixel = if colour[3] == 0 { *pixel } else { colour };
            }
        }
        self.pending = Some(Disposal { method: frame.dispose, area, saved });
        Ok(Some(&self.canvas))
    }

    fn dispose(&mut self) {
        let Some(Disposal { method, area, saved }) = self.pending.take() else { return };
        match method {
            DisposalMethod::Any | DisposalMethod::Keep => {}
            // Browsers clear to transparent, whatever background colour the file names.
            DisposalMethod::Background => self.fill(area, &[]),
            DisposalMethod::Previous => self.fill(area, &saved),
        }
    }

    /// Puts `saved` rows back, or nothing where there are none.
    fn fill(&mut self, area: Area, saved: &[u8]) {
        for row in 0..area.height {
            let start = ((area.top + row) * self.width + area.left) * 4;
            let line = &mut self.canvas[start..start + area.width * 4];
            match saved.get(row * area.width * 4..(row + 1) * area.width * 4) {
                Some(saved) => line.copy_from_slice(saved),
                None => line.fill(0),
            }
        }
    }
}

/// The first frame alone, shrunk as far as `recipe` allows while its rows are drawn: a large one is never held in
/// colours. A still picture has to be whole: what follows it is the end of the file, or damage.
pub(super) fn first_frame(bytes: &[u8], header: &Header, recipe: &Recipe) -> Result<Image, Reason> {
    let mut decoder = options().read_info(cursor(bytes)).map_err(undecodable)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (width, height) = (header.width as usize, header.height as usize);
    let factor = shrink::factor(header.width, header.height, recipe);
    let shrinker = |channels| Shrinker::new(header.width, header.height, channels, factor);
    let image = {
        let frame = decoder.read_next_frame().map_err(undecodable)?;
        let frame = frame.ok_or_else(|| undecodable("it has no frame"))?;
        let palette = palette(frame, global.as_deref())?;
        let colours = colours(palette, frame.transparent);
        let area = area(frame, width, height);
        let covers = (area.width, area.height) == (width, height);
        let indices = Indices::of(frame)?;
        if covers && frame.transparent.is_none() && indices.largest() < palette.len() / 3 {
            let colours = colours.map(|[red, green, blue, _]| [red, green, blue]);
            whole_frame(&indices, (width, height), &colours, shrinker(Channels::Rgb))
        } else {
            let mut shrinker = shrinker(Channels::Rgba);
            let mut line = vec![0; width * 4];
            for row in 0..height {
                line.fill(0);
                if let Some(row) = row.checked_sub(area.top).filter(|row| *row < area.height) {
                    let seen = &mut line[area.left * 4..][..area.width * 4];
                    draw(indices.row(row), &colours, seen.as_chunks_mut().0);
                }
                shrinker.push(&line);
            }
            shrinker.finish()
        }
    };
    if header.durations_ms.len() == 1 {
        decoder.read_next_frame().map_err(undecodable)?;
    }
    image.ok_or_else(|| undecodable("rows are missing"))
}

/// The image of a frame that is as large as the screen and hides nothing of itself.
fn whole_frame(
    indices: &Indices,
    (width, height): (usize, usize),
    colours: &[[u8; 3]; 256],
    mut shrinker: Shrinker,
) -> Option<Image> {
    let mut line = vec![0; width * 3];
    for row in 0..height {
        draw(indices.row(row), colours, line.as_chunks_mut().0);
        shrinker.push(&line);
    }
    shrinker.finish()
}

/// Draws as many indices as there are pixels.
fn draw<const N: usize>(indices: &[u8], colours: &[[u8; N]; 256], pixels: &mut [[u8; N]]) {
    for (pixel, index) in pixels.iter_mut().zip(indices) {
        *pixel = colours[usize::from(*index)];
    }
}

/// A frame's own palette, or that of the whole file.
fn palette<'a>(frame: &'a Frame<'_>, global: Option<&'a [u8]>) -> Result<&'a [u8], Reason> {
    let palette = frame.palette.as_deref().or(global).filter(|palette| !palette.is_empty());
    palette.ok_or_else(|| undecodable("it has no palette"))
}

/// What each index draws, in RGBA. The transparent one draws nothing, and so does, as in browsers, an index beyond
/// the palette.
fn colours(palette: &[u8], transparent: Option<u8>) -> [[u8; 4]; 256] {
    let mut colours = [[0; 4]; 256];
    for (colour, rgb) in colours.iter_mut().zip(palette.as_chunks::<3>().0) {
        *colour = [rgb[0], rgb[1], rgb[2], 255];
    }
    if let Some(index) = transparent {
        colours[usize::from(index)] = [0; 4];
    }
    colours
}

fn area(frame: &Frame<'_>, width: usize, height: usize) -> Area {
    let (left, top) = (usize::from(frame.left).min(width), usize::from(frame.top).min(height));
    Area {
        left,
        top,
        width: usize::from(frame.width).min(width - left),
        height: usize::from(frame.height).min(height - top),
    }
}

fn rows(canvas: &[u8], width: usize, area: Area) -> Vec<u8> {
    (0..area.height)
        .flat_map(|row| {
            let start = ((area.top + row) * width + area.left) * 4;
            &canvas[start..start + area.width * 4]
        })
        .copied()
        .collect()
}
