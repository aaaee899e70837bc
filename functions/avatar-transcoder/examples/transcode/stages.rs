//! Adds up how long the pipeline spends in each of its spans: `decode`, `resize`, `colour`, `encode`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::span::{Attributes, Id};
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// The pipeline runs on one thread, and so do the spans in it.
    static SPENT: RefCell<BTreeMap<&'static str, Duration>> = const { RefCell::new(BTreeMap::new()) };
}

struct Stopwatch;

impl<S> Layer<S> for Stopwatch
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Instant::now());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        if let Some(started) = span.extensions().get::<Instant>() {
            let spent = started.elapsed();
            SPENT.with_borrow_mut(|all| *all.entry(span.name()).or_default() += spent);
        }
    }
}

/// Begins to watch.
///
/// # Errors
/// Somebody watches already.
pub(crate) fn watch() -> Result<(), SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(Registry::default().with(Stopwatch))
}

/// Forgets what was added up.
pub(crate) fn reset() {
    SPENT.with_borrow_mut(BTreeMap::clear);
}

/// Milliseconds by stage.
pub(crate) fn report() -> Value {
    SPENT.with_borrow(|all| {
        all.iter().map(|(stage, spent)| (*stage, Value::from(spent.as_secs_f64() * 1e3))).collect()
    })
}
