//! Tries a store call again where another try may help, with growing, jittered waits.

use std::future::Future;
use std::time::Duration;

use shared::outcome::RetryClass;
use shared::store::StoreResult;

/// Attempts of a call, the first one included. The store's adapter has tried a few times of its own in each.
pub const MAX_ATTEMPTS: u32 = 5;
/// The longest first wait; the bound doubles from attempt to attempt.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Calls until the answer is a success, an error that another try will not mend, or the attempts are used up.
///
/// Only for calls that may be carried out twice: an attempt that timed out may have had its effect.
///
/// # Errors
/// That of the last attempt.
pub async fn retrying<T, F>(mut call: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if attempt < MAX_ATTEMPTS && error.retry_class() == RetryClass::Retryable => {
                pause(attempt).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

/// Waits before the attempt that follows the `attempt`-th, from 1.
pub async fn pause(attempt: u32) {
    tokio::time::sleep(wait_after(attempt, fastrand::f64())).await;
}

/// Full jitter: anything between nothing and a bound that doubles, so that those who were throttled together
/// do not come back together.
fn wait_after(attempt: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    doubled.min(LONGEST_WAIT).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::{StoreError, StoreErrorKind};
    use std::cell::Cell;

    fn error(kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, "s3:PutObject", "arn:aws:s3:::b/k", "")
    }

    #[test]
    fn waits_grow_up_to_a_bound() {
        assert_eq!(wait_after(1, 1.0), FIRST_WAIT);
        assert_eq!(wait_after(3, 1.0), FIRST_WAIT * 4);
        assert_eq!(wait_after(3, 0.5), FIRST_WAIT * 2);
        assert_eq!(wait_after(u32::MAX, 1.0), LONGEST_WAIT);
    }

    #[tokio::test]
    async fn what_another_try_may_mend_is_tried_again() {
        for (kind, calls) in [(StoreErrorKind::Throttled, MAX_ATTEMPTS), (StoreErrorKind::AccessDenied, 1)] {
            let made = Cell::new(0);
            let answer: StoreResult<()> = retrying(|| {
                made.set(made.get() + 1);
                async { Err(error(kind)) }
            })
            .await;
            assert_eq!(answer.unwrap_err().kind, kind);
            assert_eq!(made.get(), calls);
        }
    }

    #[tokio::test]
    async fn a_success_ends_the_trying() {
        let made = Cell::new(0);
        let answer = retrying(|| {
            made.set(made.get() + 1);
            let answer = if made.get() < 3 { Err(error(StoreErrorKind::Timeout)) } else { Ok(7) };
            async { answer }
        })
        .await;
        assert_eq!((answer.unwrap(), made.get()), (7, 3));
    }
}
