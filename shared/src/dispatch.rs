//! From an event to an answer, for the functions that decide object by object.

use std::time::Instant;

use serde_json::Value;

use crate::clock::Clock;
use crate::event::{self, Content, ObjectEvent};
use crate::outcome::{Outcome, Reason, RetryClass, Status};
use crate::runtime::InvocationError;
use crate::telemetry;

/// Takes `event` apart, lets `decide` say how each of its objects ends, logs and counts every outcome, and
/// answers as the carrier demands. A record that is no object, or no record at all, has its own outcome and
/// does not stop the others.
///
/// # Errors
/// The event is not understood, or at least one record should be delivered again.
pub async fn each_object<C: Clock>(
    function: &'static str,
    clock: &C,
    event: &Value,
    decide: impl AsyncFn(&ObjectEvent) -> Outcome,
) -> Result<Value, InvocationError> {
    let delivery = event::normalize(event)?;
    let mut outcomes = Vec::with_capacity(delivery.records.len());
    for record in &delivery.records {
        let started = Instant::now();
        let (outcome, size) = match &record.content {
            Ok(Content::Object(event)) => (decide(event).await, event.size),
            Ok(Content::Test) => (Outcome::of(Status::Accepted), None),
            Ok(Content::Listed(_) | Content::Tick(_)) => {
                let reason = Reason::new(
                    "not-an-object-event",
                    format!(
                        "{function} answers to events about single objects; this one is a schedule or a listing."
                    ),
                );
                (Outcome::failed(reason, RetryClass::Permanent), None)
            }
            Err(malformed) => (malformed.outcome(), None),
        };
        let outcome = outcome.took(started.elapsed());
        telemetry::record(&outcome, size);
        outcomes.push(outcome);
    }
    telemetry::count_outcomes(clock.now(), function, &outcomes);
    delivery.answer(&outcomes)
}
