//! No upload makes the pipeline, or the C codecs behind it, crash or read out of bounds; what it makes can be
//! read again.
#![no_main]

use avatar_transcoder::pipeline::{CropGravity, Fit, Ground, Limits, Recipe, transcode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let usual = Recipe { edge: 64, extra_edges: vec![16], ..Recipe::default() };
    // The length chooses the recipe, so that real files can be the corpus as they are.
    let recipe = match bytes.len() % 3 {
        0 => usual,
        1 => Recipe { gravity: CropGravity::Smart, ground: Some(Ground::Colour([9, 9, 9])), ..usual },
        _ => Recipe { fit: Fit::Contain, ground: Some(Ground::Transparent), ..usual },
    };
    let limits = Limits { pixels: 1 << 20, frames: 16, ..Limits::default() };
    if let Ok(picture) = transcode(bytes, &recipe, &limits) {
        assert!(transcode(&picture.main.webp, &recipe, &limits).is_ok());
    }
});
