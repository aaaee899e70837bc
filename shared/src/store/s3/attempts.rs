//! How often a call was tried, since a condition that fails at a later attempt may fail because an
//! earlier one, whose answer was lost, was carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::super::{StoreError, StoreErrorKind};

/// Counts the attempts of one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Attempts {
    /// `error`, with a word about earlier attempts where it may be their doing.
    pub(super) fn explain(&self, mut error: StoreError) -> StoreError {
        let attempts = self.0.load(Ordering::Relaxed);
        if attempts > 1 && matches!(error.kind, StoreErrorKind::PreconditionFailed | StoreErrorKind::NotFound)
        {
            error.detail += &format!("; at attempt {attempts}, an earlier attempt may have been carried out");
        }
        error
    }
}
