//! No bytes make the sniffer panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = shared::media_type::sniff(bytes);
});
