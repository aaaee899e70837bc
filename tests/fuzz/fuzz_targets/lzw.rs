//! What the decoder of GIF's LZW answers is what the format's description and `weezl` answer, whatever the data.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| avatar_transcoder::lzw_agrees(bytes));
