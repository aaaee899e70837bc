//! Holds this decoder against libjpeg-turbo.

use super::planes;
use crate::codec::turbojpeg::Decoder;

/// More pixels than this are not looked at, as one bit of a header can ask for gigabytes.
const PIXELS: u32 = 1 << 22;

/// The scales at which there are planes, in eighths. They have to be those of libjpeg-turbo, or it panics.
pub(crate) fn agree(bytes: &[u8]) -> Vec<u32> {
    let Some(mut decoder) = Decoder::new() else { return Vec::new() };
    let Ok(header) = decoder.header(bytes) else { return Vec::new() };
    let Some(subsampling) = header.subsampling else { return Vec::new() };
    if header.width.saturating_mul(header.height) > PIXELS {
        return Vec::new();
    }
    let mut scales = Vec::new();
    for eighths in 1..=8 {
        if let Some(ours) = planes(bytes, &header, eighths) {
            let theirs = decoder.planes(bytes, &header, subsampling, eighths);
            assert!(theirs.as_ref() == Ok(&ours), "at {eighths}/8 of {header:?}: {:?}", theirs.err());
            scales.push(eighths);
        }
    }
    scales
}
