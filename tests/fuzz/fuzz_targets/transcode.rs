//! No upload makes the pipeline, or the C codecs behind it, crash or read out of bounds; what it makes can be
//! read again.
#![no_main]

use avatar_transcoder::pipeline::{Limits, Recipe, transcode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let recipe = Recipe { edge: 64, extra_edges: vec![16], ..Recipe::default() };
    let limits = Limits { pixels: 1 << 20, frames: 16, ..Limits::default() };
    if let Ok(picture) = transcode(bytes, &recipe, &limits) {
        assert!(transcode(&picture.main.webp, &recipe, &limits).is_ok());
    }
});
