//! No JSON, however strange, makes the normaliser panic, and whatever it takes for an event can be answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::event::normalize;
use shared::outcome::{Outcome, Status};

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = serde_json::from_slice(bytes) else { return };
    if let Ok(delivery) = normalize(&event) {
        let outcomes: Vec<_> = delivery.records.iter().map(|_| Outcome::of(Status::Stored)).collect();
        let _ = delivery.answer(&outcomes);
    }
});
