//! WebP by libwebp: encoding of stills and animations, decoding of both, and the metadata chunks of a file.
//!
//! Safety rests on three things: every C object has one owner that frees it once, the buffers that libwebp
//! reads are as large as it was told, and what it hands out is copied before its owner goes.
#![expect(unsafe_code, reason = "this module wraps a C library")]

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;
use std::slice;

use libwebp_sys as ffi;

/// What the library says is wrong.
pub(crate) type Refused = &'static str;

/// The longest side of a WebP, in pixels.
pub(crate) const MAX_SIDE: u32 = 16383;

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// Whether the pixels are kept exactly.
    pub(crate) lossless: bool,
    /// 1 to 100, for lossy.
    pub(crate) quality: u8,
}

/// Pixels to encode.
pub(crate) enum Pixels<'a> {
    /// Interleaved red, green, blue.
    Rgb(&'a [u8]),
    /// Interleaved red, green, blue and straight alpha.
    Rgba(&'a [u8]),
    /// Luma, and chroma at half its width and height (rounded up), in video range (16 to 235 and 240).
    Yuv420 { y: &'a [u8], u: &'a [u8], v: &'a [u8] },
}

fn c(side: u32) -> Result<c_int, Refused> {
    if side == 0 || side > MAX_SIDE {
        return Err("a side is outside 1 to 16383 pixels");
    }
    c_int::try_from(side).map_err(|_| "a side is too long")
}

fn config(settings: Settings, has_alpha: bool) -> Result<ffi::WebPConfig, Refused> {
    let mut config = ffi::WebPConfig::new().map_err(|()| "the encoder's version does not fit")?;
    config.quality = f32::from(settings.quality);
    config.method = 4;
    if settings.lossless {
        config.lossless = 1;
        // For lossless this is effort and not loss. At the library's 75 files are about 1 % smaller and take a
        // quarter longer.
        config.quality = 50.0;
    }
    // The alpha plane is compressed beside the colours; nothing else gains from a second thread.
    config.thread_level = c_int::from(has_alpha);
    // SAFETY: the configuration was initialised by the library.
    if unsafe { ffi::WebPValidateConfig(&config) } == 0 {
        return Err("the encoder's settings do not fit");
    }
    Ok(config)
}

/// A picture that libwebp can read, which frees what it allocated.
struct Picture(ffi::WebPPicture);

impl Drop for Picture {
    fn drop(&mut self) {
        // SAFETY: initialised by the library; frees only what the library allocated itself.
        unsafe { ffi::WebPPictureFree(&mut self.0) };
    }
}

impl Picture {
    fn new(width: u32, height: u32, pixels: &Pixels<'_>, argb: bool) -> Result<Self, Refused> {
        let (w, h) = (c(width)?, c(height)?);
        let area = width as usize * height as usize;
        let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
        let mut picture = Self(ffi::WebPPicture::new().map_err(|()| "the encoder's version does not fit")?);
        picture.0.width = w;
        picture.0.height = h;
        picture.0.use_argb = c_int::from(argb);
        let done = match pixels {
            Pixels::Rgb(rgb) => {
                assert_len(rgb, area * 3)?;
                // SAFETY: `height` rows of `width` pixels of 3 bytes, as just checked.
                unsafe { ffi::WebPPictureImportRGB(&mut picture.0, rgb.as_ptr(), w * 3) }
            }
            Pixels::Rgba(rgba) => {
                assert_len(rgba, area * 4)?;
                // SAFETY: `height` rows of `width` pixels of 4 bytes, as just checked.
                unsafe { ffi::WebPPictureImportRGBA(&mut picture.0, rgba.as_ptr(), w * 4) }
            }
            Pixels::Yuv420 { y, u, v } => {
                assert_len(y, area)?;
                assert_len(u, chroma)?;
                assert_len(v, chroma)?;
                picture.0.colorspace = ffi::WebPEncCSP::WEBP_YUV420;
                // The encoder reads these planes and never writes or frees them: `memory_` stays null, and
                // only the clean-up of transparent areas, which needs an alpha plane, would write.
                picture.0.y = y.as_ptr().cast_mut();
                picture.0.u = u.as_ptr().cast_mut();
                picture.0.v = v.as_ptr().cast_mut();
                picture.0.y_stride = w;
                picture.0.uv_stride = (w + 1) / 2;
                1
            }
        };
        if done == 0 { Err("the encoder has no memory") } else { Ok(picture) }
    }
}

fn assert_len(samples: &[u8], expected: usize) -> Result<(), Refused> {
    if samples.len() == expected { Ok(()) } else { Err("a buffer does not fit its picture") }
}

/// Encodes a still picture.
pub(crate) fn encode(
    width: u32,
    height: u32,
    pixels: &Pixels<'_>,
    settings: Settings,
) -> Result<Vec<u8>, Refused> {
    let config = config(settings, matches!(pixels, Pixels::Rgba(_)))?;
    let mut picture = Picture::new(width, height, pixels, settings.lossless)?;
    // SAFETY: an all-zero writer is what the initialisation writes over.
    let mut writer: ffi::WebPMemoryWriter = unsafe { std::mem::zeroed() };
    // SAFETY: the writer outlives the encoding and is cleared below; the picture is complete.
    let (ok, webp) = unsafe {
        ffi::WebPMemoryWriterInit(&mut writer);
        picture.0.writer = Some(ffi::WebPMemoryWrite);
        picture.0.custom_ptr = (&raw mut writer).cast();
        let ok = ffi::WebPEncode(&config, &mut picture.0) != 0;
        let webp = if writer.mem.is_null() {
            Vec::new()
        } else {
            slice::from_raw_parts(writer.mem, writer.size).to_vec()
        };
        ffi::WebPMemoryWriterClear(&mut writer);
        (ok, webp)
    };
    if ok && !webp.is_empty() { Ok(webp) } else { Err("the encoder failed") }
}

/// Puts frames together to an animation.
pub(crate) struct AnimationEncoder {
    encoder: NonNull<ffi::WebPAnimEncoder>,
    width: u32,
    height: u32,
    config: ffi::WebPConfig,
    end_ms: c_int,
}

impl Drop for AnimationEncoder {
    fn drop(&mut self) {
        // SAFETY: made by the library, and nobody else has it.
        unsafe { ffi::WebPAnimEncoderDelete(self.encoder.as_ptr()) };
    }
}

impl AnimationEncoder {
    /// An animation that is played `loops` times, for ever if 0.
    pub(crate) fn new(width: u32, height: u32, loops: u32, settings: Settings) -> Result<Self, Refused> {
        // SAFETY: an all-zero value is what the initialisation writes over.
        let mut options: ffi::WebPAnimEncoderOptions = unsafe { std::mem::zeroed() };
        let version = ffi::WebPGetMuxABIVersion();
        // SAFETY: the options are initialised by the library before they are used.
        let encoder = unsafe {
            if ffi::WebPAnimEncoderOptionsInitInternal(&mut options, version) == 0 {
                return Err("the encoder's version does not fit");
            }
            options.anim_params.loop_count = c_int::try_from(loops.min(65535)).unwrap_or_default();
            options.anim_params.bgcolor = 0;
            ffi::WebPAnimEncoderNewInternal(c(width)?, c(height)?, &options, version)
        };
        let encoder = NonNull::new(encoder).ok_or("the encoder has no memory")?;
        Ok(Self { encoder, width, height, config: config(settings, true)?, end_ms: 0 })
    }

    /// Adds a frame that is shown for `duration_ms`.
    pub(crate) fn add(&mut self, rgba: &[u8], duration_ms: u32) -> Result<(), Refused> {
        let mut picture = Picture::new(self.width, self.height, &Pixels::Rgba(rgba), true)?;
        // SAFETY: the encoder is valid, the picture complete and of the canvas's size.
        let ok = unsafe {
            ffi::WebPAnimEncoderAdd(self.encoder.as_ptr(), &mut picture.0, self.end_ms, &self.config)
        };
        if ok == 0 {
            return Err("the encoder failed at a frame");
        }
        let duration = c_int::try_from(duration_ms).unwrap_or(c_int::MAX);
        self.end_ms = self.end_ms.saturating_add(duration);
        Ok(())
    }

    /// The finished file.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Refused> {
        let mut data = ffi::WebPData::default();
        // SAFETY: a null frame marks the end; the data is copied, then cleared once.
        let webp = unsafe {
            let encoder = self.encoder.as_ptr();
            let ended =
                ffi::WebPAnimEncoderAdd(encoder, std::ptr::null_mut(), self.end_ms, std::ptr::null()) != 0;
            if !ended || ffi::WebPAnimEncoderAssemble(encoder, &mut data) == 0 || data.bytes.is_null() {
                ffi::WebPDataClear(&mut data);
                return Err("the encoder failed at the end");
            }
            let webp = slice::from_raw_parts(data.bytes, data.size).to_vec();
            ffi::WebPDataClear(&mut data);
            webp
        };
        Ok(webp)
    }
}

/// A file in the making, of chunks that are there already.
struct Mux(NonNull<ffi::WebPMux>);

impl Drop for Mux {
    fn drop(&mut self) {
        // SAFETY: made by the library, and nobody else has it.
        unsafe { ffi::WebPMuxDelete(self.0.as_ptr()) };
    }
}

impl Mux {
    /// An animation without frames.
    fn new(width: u32, height: u32, loops: u32) -> Result<Self, Refused> {
        let mux = Self(NonNull::new(ffi::WebPMuxNew()).ok_or("the encoder has no memory")?);
        let loop_count = c_int::try_from(loops.min(65535)).unwrap_or_default();
        let params = ffi::WebPMuxAnimParams { bgcolor: 0, loop_count };
        // SAFETY: the mux is valid, and the parameters are copied.
        let done = unsafe {
            [
                ffi::WebPMuxSetCanvasSize(mux.0.as_ptr(), c(width)?, c(height)?),
                ffi::WebPMuxSetAnimationParams(mux.0.as_ptr(), &params),
            ]
        };
        if done == [ffi::WebPMuxError::WEBP_MUX_OK; 2] { Ok(mux) } else { Err("the canvas does not fit") }
    }

    /// Adds the frames of `webp`; a still picture becomes a frame that is shown for `duration_ms`.
    fn push_all(&mut self, webp: &[u8], duration_ms: u32) -> Result<(), Refused> {
        let data = ffi::WebPData { bytes: webp.as_ptr(), size: webp.len() };
        // SAFETY: the data outlives the mux that reads it, as both end with this function.
        let read = unsafe { ffi::WebPMuxCreateInternal(&data, 0, ffi::WebPGetMuxABIVersion()) };
        let read = Self(NonNull::new(read).ok_or("a part cannot be read")?);
        for nth in 1.. {
            // SAFETY: an all-zero value is what is written over; zero is a value of each of its enumerations.
            let mut frame: ffi::WebPMuxFrameInfo = unsafe { std::mem::zeroed() };
            // SAFETY: both muxes are valid; what the library allocated for the frame is copied, then freed once.
            let pushed = unsafe {
                if ffi::WebPMuxGetFrame(read.0.as_ptr(), nth, &mut frame) != ffi::WebPMuxError::WEBP_MUX_OK {
                    return if nth > 1 { Ok(()) } else { Err("a part has no frame") };
                }
                if frame.id == ffi::WebPChunkId::WEBP_CHUNK_IMAGE {
                    frame.id = ffi::WebPChunkId::WEBP_CHUNK_ANMF;
                    frame.duration = c_int::try_from(duration_ms).unwrap_or(c_int::MAX);
                    frame.blend_method = ffi::WebPMuxAnimBlend::WEBP_MUX_NO_BLEND;
                }
                let pushed = ffi::WebPMuxPushFrame(self.0.as_ptr(), &frame, 1);
                ffi::WebPDataClear(&mut frame.bitstream);
                pushed
            };
            if pushed != ffi::WebPMuxError::WEBP_MUX_OK {
                return Err("a part does not fit");
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Refused> {
        let mut data = ffi::WebPData::default();
        // SAFETY: the mux is valid; the data is copied, then cleared once.
        unsafe {
            let done = ffi::WebPMuxAssemble(self.0.as_ptr(), &mut data) == ffi::WebPMuxError::WEBP_MUX_OK;
            if !done || data.bytes.is_null() {
                ffi::WebPDataClear(&mut data);
                return Err("the parts cannot be put together");
            }
            let webp = slice::from_raw_parts(data.bytes, data.size).to_vec();
            ffi::WebPDataClear(&mut data);
            Ok(webp)
        }
    }
}

/// One animation that shows `parts` one after the other, played `loops` times. Each part covers the canvas when it
/// begins, and comes with how long it is shown, in milliseconds.
pub(crate) fn joined(
    (width, height): (u32, u32),
    loops: u32,
    parts: &[(Vec<u8>, u32)],
) -> Result<Vec<u8>, Refused> {
    let mut mux = Mux::new(width, height, loops)?;
    parts.iter().try_for_each(|(webp, duration_ms)| mux.push_all(webp, *duration_ms))?;
    mux.finish()
}

/// What a file's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: u32,
    pub(crate) has_alpha: bool,
    /// Whether the file is an animation, if only of one frame.
    pub(crate) is_animation: bool,
    /// How often an animation is played; 0 is for ever.
    pub(crate) loops: u32,
}

/// A file taken apart into its chunks. It borrows the file.
pub(crate) struct Demuxer<'a> {
    demuxer: NonNull<ffi::WebPDemuxer>,
    bytes: &'a [u8],
}

impl Drop for Demuxer<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the library, and nobody else has it.
        unsafe { ffi::WebPDemuxDelete(self.demuxer.as_ptr()) };
    }
}

impl<'a> Demuxer<'a> {
    /// Reads the chunks of a whole file; a file that ends early is refused.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        let data = ffi::WebPData { bytes: bytes.as_ptr(), size: bytes.len() };
        // SAFETY: the input is as long as is said and outlives the demuxer by the lifetime above.
        let demuxer =
            unsafe { ffi::WebPDemuxInternal(&data, 0, std::ptr::null_mut(), ffi::WebPGetDemuxABIVersion()) };
        let demuxer = NonNull::new(demuxer).ok_or("the file is incomplete or damaged")?;
        Ok(Self { demuxer, bytes })
    }

    fn feature(&self, feature: ffi::WebPFormatFeature) -> u32 {
        // SAFETY: the demuxer is valid.
        unsafe { ffi::WebPDemuxGetI(self.demuxer.as_ptr(), feature) }
    }

    /// What the headers say.
    pub(crate) fn info(&self) -> Info {
        use ffi::WebPFormatFeature as F;
        let flags = self.feature(F::WEBP_FF_FORMAT_FLAGS);
        Info {
            width: self.feature(F::WEBP_FF_CANVAS_WIDTH),
            height: self.feature(F::WEBP_FF_CANVAS_HEIGHT),
            frames: self.feature(F::WEBP_FF_FRAME_COUNT),
            has_alpha: flags & ffi::WebPFeatureFlags::ALPHA_FLAG as u32 != 0,
            is_animation: flags & ffi::WebPFeatureFlags::ANIMATION_FLAG as u32 != 0,
            loops: self.feature(F::WEBP_FF_LOOP_COUNT),
        }
    }

    /// Whether a still is coded without loss: its first chunk of pixels is `VP8L`.
    pub(crate) fn is_lossless(&self) -> bool {
        // SAFETY: an all-zero value is what the library writes over.
        let mut features: ffi::WebPBitstreamFeatures = unsafe { std::mem::zeroed() };
        // SAFETY: the input is as long as is said.
        let status = unsafe { ffi::WebPGetFeatures(self.bytes.as_ptr(), self.bytes.len(), &mut features) };
        status == ffi::VP8StatusCode::VP8_STATUS_OK && features.format == 2
    }

    /// How long each frame is shown, in milliseconds.
    pub(crate) fn durations(&self) -> Vec<u32> {
        // SAFETY: an all-zero iterator is what the library writes over; it is released after its last use.
        unsafe {
            let mut iterator: ffi::WebPIterator = std::mem::zeroed();
            let mut durations = Vec::new();
            let mut more = ffi::WebPDemuxGetFrame(self.demuxer.as_ptr(), 1, &mut iterator);
            while more != 0 {
                durations.push(u32::try_from(iterator.duration).unwrap_or_default());
                more = ffi::WebPDemuxNextFrame(&mut iterator);
            }
            ffi::WebPDemuxReleaseIterator(&mut iterator);
            durations
        }
    }

    /// The first chunk of that name: `ICCP`, `EXIF`.
    pub(crate) fn chunk(&self, name: &[u8; 4]) -> Option<Vec<u8>> {
        // SAFETY: the name has the four bytes that are read; the chunk lies in the file and is copied before
        // the iterator is released.
        unsafe {
            let mut iterator: ffi::WebPChunkIterator = std::mem::zeroed();
            let found = ffi::WebPDemuxGetChunk(
                self.demuxer.as_ptr(),
                name.as_ptr().cast::<c_char>(),
                1,
                &mut iterator,
            ) != 0;
            let chunk = (found && !iterator.chunk.bytes.is_null())
                .then(|| slice::from_raw_parts(iterator.chunk.bytes, iterator.chunk.size).to_vec());
            ffi::WebPDemuxReleaseChunkIterator(&mut iterator);
            chunk
        }
    }

    /// Decodes a still to RGBA at `width` × `height`, which may be smaller than the file's own size.
    pub(crate) fn still(&self, width: u32, height: u32) -> Result<Vec<u8>, Refused> {
        let mut config = ffi::WebPDecoderConfig::new().map_err(|()| "the decoder's version does not fit")?;
        let info = self.info();
        if (width, height) != (info.width, info.height) {
            config.options.use_scaling = 1;
            config.options.scaled_width = c(width)?;
            config.options.scaled_height = c(height)?;
        }
        let stride = c(width)? * 4;
        let mut rgba = vec![0; width as usize * height as usize * 4];
        config.output.colorspace = ffi::WEBP_CSP_MODE::MODE_RGBA;
        config.output.is_external_memory = 1;
        config.output.u.RGBA = ffi::WebPRGBABuffer { rgba: rgba.as_mut_ptr(), stride, size: rgba.len() };
        // SAFETY: the output is the buffer above, with its true stride and size, which the library checks
        // against the picture's; external memory is never freed by it.
        let status = unsafe { ffi::WebPDecode(self.bytes.as_ptr(), self.bytes.len(), &mut config) };
        if status == ffi::VP8StatusCode::VP8_STATUS_OK { Ok(rgba) } else { Err("the picture is damaged") }
    }
}

/// Decodes an animation, frame by frame, each as it is seen on the whole canvas.
pub(crate) struct AnimationDecoder<'a> {
    decoder: NonNull<ffi::WebPAnimDecoder>,
    canvas_bytes: usize,
    bytes: std::marker::PhantomData<&'a [u8]>,
}

impl Drop for AnimationDecoder<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the library, and nobody else has it.
        unsafe { ffi::WebPAnimDecoderDelete(self.decoder.as_ptr()) };
    }
}

impl<'a> AnimationDecoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        let data = ffi::WebPData { bytes: bytes.as_ptr(), size: bytes.len() };
        // SAFETY: the options are initialised by the library; the input outlives the decoder by the
        // lifetime above.
        let decoder = unsafe {
            let mut options: ffi::WebPAnimDecoderOptions = std::mem::zeroed();
            if ffi::WebPAnimDecoderOptionsInit(&mut options) == 0 {
                return Err("the decoder's version does not fit");
            }
            options.color_mode = ffi::WEBP_CSP_MODE::MODE_RGBA;
            ffi::WebPAnimDecoderNew(&data, &options)
        };
        let decoder = NonNull::new(decoder).ok_or("the animation is damaged")?;
        let mut made = Self { decoder, canvas_bytes: 0, bytes: std::marker::PhantomData };
        // SAFETY: the decoder is valid; an all-zero value is what the library writes over.
        let info = unsafe {
            let mut info: ffi::WebPAnimInfo = std::mem::zeroed();
            if ffi::WebPAnimDecoderGetInfo(made.decoder.as_ptr(), &mut info) == 0 {
                return Err("the animation is damaged");
            }
            info
        };
        made.canvas_bytes = info.canvas_width as usize * info.canvas_height as usize * 4;
        Ok(made)
    }

    /// The next frame's RGBA canvas; `None` after the last one.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&[u8]>, Refused> {
        // SAFETY: the decoder is valid; the canvas it hands out is its own, of the size that it
        // said, and stays until the next call, which the borrow of `self` forbids meanwhile.
        unsafe {
            if ffi::WebPAnimDecoderHasMoreFrames(self.decoder.as_ptr()) == 0 {
                return Ok(None);
            }
            let (mut canvas, mut timestamp) = (std::ptr::null_mut(), 0);
            if ffi::WebPAnimDecoderGetNext(self.decoder.as_ptr(), &mut canvas, &mut timestamp) == 0
                || canvas.is_null()
            {
                return Err("a frame is damaged");
            }
            Ok(Some(slice::from_raw_parts(canvas, self.canvas_bytes)))
        }
    }
}
