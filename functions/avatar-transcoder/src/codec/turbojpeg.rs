//! JPEG decoding by libjpeg-turbo's own C interface (`turbojpeg.h`, version 2), as built from source by
//! `mozjpeg-sys`. It reports errors by return value and never unwinds through Rust.
//!
//! Safety rests on three things: a handle is used by one owner and destroyed once, every buffer is as large
//! as the library was told, and the library is told the length of its input.
#![expect(unsafe_code, reason = "this module wraps a C library")]

use std::ffi::{CStr, c_char, c_int, c_uchar, c_ulong, c_void};
use std::ptr::{NonNull, null_mut};

// The library itself is linked by this crate.
use mozjpeg_sys as _;

/// Samples of the chroma planes in relation to luma (`enum TJSAMP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subsampling {
    S444,
    S422,
    S420,
    Gray,
    S440,
    S411,
}

/// How the components are to be read (`enum TJCS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColourSpace {
    Rgb,
    YCbCr,
    Gray,
    Cmyk,
    Ycck,
}

/// Pixel formats that are decoded to (`enum TJPF`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelFormat {
    Rgb = 0,
    Gray = 6,
    Cmyk = 11,
}

impl PixelFormat {
    pub(crate) fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Gray => 1,
            Self::Cmyk => 4,
        }
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `None` where the samplings are unusual: such pictures are decoded to pixels only.
    pub(crate) subsampling: Option<Subsampling>,
    pub(crate) colour_space: ColourSpace,
}

/// One plane of samples, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) samples: Vec<u8>,
}

impl Plane {
    /// Repeats the last column and row that are decoded of this plane of luma, at `eighths`/8, where it was
    /// made wider or higher than they are: libjpeg-turbo leaves there what stands in its memory.
    pub(crate) fn repeat_beyond(&mut self, header: &Header, eighths: u32) {
        let (columns, rows) = (header.width.div_ceil(8) * eighths, header.height.div_ceil(8) * eighths);
        let (width, columns, rows) = (self.width as usize, columns as usize, rows as usize);
        if columns < width {
            for row in self.samples.chunks_exact_mut(width) {
                let last = row[columns - 1];
                row[columns..].fill(last);
            }
        }
        if rows < self.height as usize {
            let (decoded, beyond) = self.samples.split_at_mut(rows * width);
            let last = &decoded[(rows - 1) * width..];
            beyond.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(last));
        }
    }
}

/// What the library says is wrong.
pub(crate) type Refused = String;

/// What the library says where it has no name for something.
const UNKNOWN: c_int = -1;

const FLAG_ACCURATE_DCT: c_int = 4096;
/// Stops at 500 scans, which no real picture has, so that a few kilobytes cannot cost minutes.
const FLAG_LIMIT_SCANS: c_int = 32768;
const FLAGS: c_int = FLAG_ACCURATE_DCT | FLAG_LIMIT_SCANS;

unsafe extern "C" {
    fn tjInitDecompress() -> *mut c_void;
    fn tjDestroy(handle: *mut c_void) -> c_int;
    fn tjDecompressHeader3(
        handle: *mut c_void,
        jpeg: *const c_uchar,
        jpeg_size: c_ulong,
        width: *mut c_int,
        height: *mut c_int,
        subsampling: *mut c_int,
        colour_space: *mut c_int,
    ) -> c_int;
    fn tjDecompress2(
        handle: *mut c_void,
        jpeg: *const c_uchar,
        jpeg_size: c_ulong,
        destination: *mut c_uchar,
        width: c_int,
        pitch: c_int,
        height: c_int,
        pixel_format: c_int,
        flags: c_int,
    ) -> c_int;
    fn tjDecompressToYUVPlanes(
        handle: *mut c_void,
        jpeg: *const c_uchar,
        jpeg_size: c_ulong,
        planes: *mut *mut c_uchar,
        width: c_int,
        strides: *mut c_int,
        height: c_int,
        flags: c_int,
    ) -> c_int;
    fn tjPlaneWidth(component: c_int, width: c_int, subsampling: c_int) -> c_int;
    fn tjPlaneHeight(component: c_int, height: c_int, subsampling: c_int) -> c_int;
    fn tjGetErrorStr2(handle: *mut c_void) -> *mut c_char;
    fn tjGetErrorCode(handle: *mut c_void) -> c_int;
}

/// Warnings that are no damage: bytes between segments; an Adobe transform or a JFIF version that nobody knows; and
/// progressive parameters in a baseline scan, which some cameras write. Every other warning means that the
/// picture was decoded with something made up.
const HARMLESS: [&str; 4] =
    ["extraneous bytes", "Adobe color transform", "JFIF revision", "Invalid SOS parameters"];

/// A decompressor.
pub(crate) struct Decoder(NonNull<c_void>);

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the handle is the one that was made, and nobody else has it.
        unsafe { tjDestroy(self.0.as_ptr()) };
    }
}

/// The length of `side` after scaling by `eighths`/8, as the library rounds it.
pub(crate) fn scaled(side: u32, eighths: u32) -> u32 {
    (side * eighths).div_ceil(8)
}

fn c_len(len: usize) -> Result<c_ulong, Refused> {
    c_ulong::try_from(len).map_err(|_| "the file is too long".to_owned())
}

fn c_side(side: u32) -> Result<c_int, Refused> {
    c_int::try_from(side).map_err(|_| "a side is too long".to_owned())
}

fn rust_side(side: c_int) -> Result<u32, Refused> {
    u32::try_from(side).ok().filter(|side| *side > 0).ok_or_else(|| "a side has no pixels".to_owned())
}

/// Whether the end of the picture is there: a marker that stands neither in a segment nor in a scan.
fn has_end(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    while let Some(start) = rest.iter().position(|byte| *byte == 0xff) {
        rest = &rest[start..];
        rest = match *rest {
            [_, 0xd9, ..] => return true,
            [_, 0xff, ..] => &rest[1..],
            // An escaped byte, a restart, or another marker that stands alone.
            [_, 0x00 | 0x01 | 0xd0..=0xd8, ..] => &rest[2..],
            [_, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                rest.get(2 + length..).unwrap_or_default()
            }
            _ => return false,
        };
    }
    false
}

impl Decoder {
    /// A decompressor, or `None` where memory has run out.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: no arguments; null means failure.
        NonNull::new(unsafe { tjInitDecompress() }).map(Self)
    }

    /// Whether the library says that all went well, or warned of something harmless. It tells the first warning
    /// only, so that a file it has warned of is also looked at for its end.
    fn check(&mut self, status: c_int, jpeg: &[u8]) -> Result<(), Refused> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid; the library answers with a text that ends in NUL and stays until the
        // next call.
        let (code, message) = unsafe {
            let text = tjGetErrorStr2(self.0.as_ptr());
            let message = if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            (tjGetErrorCode(self.0.as_ptr()), message)
        };
        if code != 0 || !HARMLESS.iter().any(|harmless| message.contains(harmless)) {
            return Err(message);
        }
        if has_end(jpeg) { Ok(()) } else { Err("the file ends before the picture does".to_owned()) }
    }

    /// Reads the header of `jpeg`.
    pub(crate) fn header(&mut self, jpeg: &[u8]) -> Result<Header, Refused> {
        let (mut width, mut height, mut subsampling, mut colour_space) = (0, 0, 0, UNKNOWN);
        // SAFETY: the input is as long as is said, and the outputs are four integers.
        let status = unsafe {
            tjDecompressHeader3(
                self.0.as_ptr(),
                jpeg.as_ptr(),
                c_len(jpeg.len())?,
                &mut width,
                &mut height,
                &mut subsampling,
                &mut colour_space,
            )
        };
        // The library calls it an error not to have a name for the samplings, and decodes them all the same.
        if subsampling != UNKNOWN || colour_space == UNKNOWN {
            self.check(status, jpeg)?;
        }
        Ok(Header {
            width: rust_side(width)?,
            height: rust_side(height)?,
            subsampling: match subsampling {
                0 => Some(Subsampling::S444),
                1 => Some(Subsampling::S422),
                2 => Some(Subsampling::S420),
                3 => Some(Subsampling::Gray),
                4 => Some(Subsampling::S440),
                5 => Some(Subsampling::S411),
                _ => None,
            },
            colour_space: match colour_space {
                0 => ColourSpace::Rgb,
                1 => ColourSpace::YCbCr,
                2 => ColourSpace::Gray,
                3 => ColourSpace::Cmyk,
                4 => ColourSpace::Ycck,
                _ => return Err("the colour space is unknown".to_owned()),
            },
        })
    }

    /// Decodes `jpeg`, whose header was read, at `eighths`/8 of its size, to interleaved pixels.
    pub(crate) fn pixels(
        &mut self,
        jpeg: &[u8],
        header: &Header,
        eighths: u32,
        format: PixelFormat,
    ) -> Result<(u32, u32, Vec<u8>), Refused> {
        let (width, height) = (scaled(header.width, eighths), scaled(header.height, eighths));
        let pitch = width as usize * format.channels();
        let mut pixels = vec![0; pitch * height as usize];
        // SAFETY: the destination has `height` rows of `pitch` bytes, which is what `width` pixels of this
        // format take.
        let status = unsafe {
            tjDecompress2(
                self.0.as_ptr(),
                jpeg.as_ptr(),
                c_len(jpeg.len())?,
                pixels.as_mut_ptr(),
                c_side(width)?,
                c_int::try_from(pitch).map_err(|_| "a row is too long".to_owned())?,
                c_side(height)?,
                format as c_int,
                FLAGS,
            )
        };
        self.check(status, jpeg)?;
        Ok((width, height, pixels))
    }

    /// Decodes `jpeg`, whose header was read, at `eighths`/8 of its size, to its own planes, sampled as the header
    /// says: luma alone for gray pictures, luma and two of chroma otherwise. The planes may be wider and higher than the
    /// scaled picture, by less than one block.
    pub(crate) fn planes(
        &mut self,
        jpeg: &[u8],
        header: &Header,
        subsampling: Subsampling,
        eighths: u32,
    ) -> Result<Vec<Plane>, Refused> {
        let (width, height) =
            (c_side(scaled(header.width, eighths))?, c_side(scaled(header.height, eighths))?);
        if header.subsampling != Some(subsampling) {
            return Err("the planes are sampled otherwise".to_owned());
        }
        let count = if subsampling == Subsampling::Gray { 1 } else { 3 };
        let subsampling = subsampling as c_int;
        let mut planes = Vec::with_capacity(count);
        for component in 0..count {
            let component = c_int::try_from(component).unwrap_or_default();
            // SAFETY: pure functions of their arguments.
            let (w, h) = unsafe {
                (tjPlaneWidth(component, width, subsampling), tjPlaneHeight(component, height, subsampling))
            };
            let (width, height) = (rust_side(w)?, rust_side(h)?);
            planes.push(Plane { width, height, samples: vec![0; width as usize * height as usize] });
        }
        let mut pointers = [null_mut(); 3];
        let mut strides = [0; 3];
        for (i, plane) in planes.iter_mut().enumerate() {
            pointers[i] = plane.samples.as_mut_ptr();
            strides[i] = c_side(plane.width)?;
        }
        // SAFETY: every plane is as large as the library says that it must be for this size and sampling.
        let status = unsafe {
            tjDecompressToYUVPlanes(
                self.0.as_ptr(),
                jpeg.as_ptr(),
                c_len(jpeg.len())?,
                pointers.as_mut_ptr(),
                width,
                strides.as_mut_ptr(),
                height,
                FLAGS,
            )
        };
        self.check(status, jpeg)?;
        planes[0].repeat_beyond(header, eighths);
        Ok(planes)
    }
}
