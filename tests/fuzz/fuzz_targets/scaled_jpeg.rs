//! What the decoder of shrunk JPEGs answers is what libjpeg-turbo answers, whatever the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| avatar_transcoder::scaled_jpeg_agrees(bytes));
