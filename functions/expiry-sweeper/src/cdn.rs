//! Tells CDNs what was deleted, so that they stop serving it.
//!
//! Invalidation comes after the delete: before it, the CDN would fetch again what is about to go. Paths go
//! out in groups that stay under the CDN's limits, each with a caller reference that follows from the
//! sweep and the group alone: sent twice, it is one invalidation. The paths are a part of it, because
//! CloudFront refuses a reference that it knows with other paths.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use shared::outcome::{Reason, RetryClass};

mod cloudfront;
mod group;

pub use cloudfront::{CloudFront, CloudFrontConfig};
pub use group::{Grouping, MAX_PATHS, MAX_WILDCARDS, path_of};

use group::Group;

/// Attempts of a call, the first one included. The last waits take minutes, because what is in flight
/// takes minutes to be done.
const MAX_ATTEMPTS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a CDN can be asked.
pub trait Cdn: Send + Sync + 'static {
    /// Whether the distribution exists and may be reached.
    fn check(&self, distribution_id: &str) -> impl Future<Output = Result<(), CdnError>> + Send;

    /// Invalidates `paths`, which may end in `*`, and answers the invalidation's id. Twice with the same
    /// caller reference and paths is once.
    fn invalidate(
        &self,
        distribution_id: &str,
        caller_reference: &str,
        paths: &[String],
    ) -> impl Future<Output = Result<String, CdnError>> + Send;
}

/// What went wrong at a CDN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CdnErrorKind {
    /// No such distribution.
    NoSuchDistribution,
    /// Not permitted.
    AccessDenied,
    /// Asked to slow down.
    Throttled,
    /// As many invalidations are in flight as may be.
    TooManyInProgress,
    /// 5xx, no answer in time, no connection.
    Unavailable,
    /// Anything else that another try will not mend.
    Invalid,
}

/// A call to a CDN that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct CdnError {
    /// What went wrong.
    pub kind: CdnErrorKind,
    /// The distribution.
    pub distribution_id: String,
    /// The permission that the call needs.
    pub action: &'static str,
    /// The CDN's own code and message.
    pub detail: String,
    /// What caused it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CdnError {
    /// An error of `kind` in the call that needs `action`.
    pub fn new(
        kind: CdnErrorKind,
        distribution_id: &str,
        action: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            distribution_id: distribution_id.to_owned(),
            action,
            detail: detail.into(),
            source: None,
        }
    }

    /// There was no answer in the time that was left.
    fn late(distribution_id: &str, action: &'static str) -> Self {
        Self::new(CdnErrorKind::Unavailable, distribution_id, action, "no answer in the time that was left")
    }

    fn sentence(&self) -> String {
        let Self { distribution_id: id, action, detail, .. } = self;
        let sentence = match self.kind {
            CdnErrorKind::NoSuchDistribution => {
                format!("the distribution {id} does not exist; correct cdn[].distribution_id in the policy")
            }
            CdnErrorKind::AccessDenied => format!(
                "access denied: the function's role needs {action} on distribution/{id}, if there is such a distribution"
            ),
            CdnErrorKind::Throttled => format!("CloudFront asks to slow down at {action} on {id}"),
            CdnErrorKind::TooManyInProgress => {
                format!("as many invalidations of {id} are in flight as may be; the next run goes on")
            }
            CdnErrorKind::Unavailable => format!("CloudFront failed at {action} on {id}"),
            CdnErrorKind::Invalid => format!("CloudFront refused {action} on {id}"),
        };
        if detail.is_empty() { sentence } else { format!("{sentence} ({detail})") }
    }

    /// The reason that an outcome carries for this error.
    pub fn reason(&self) -> Reason {
        let code = match self.kind {
            CdnErrorKind::NoSuchDistribution => "no-such-distribution",
            CdnErrorKind::AccessDenied => "cdn-access-denied",
            CdnErrorKind::Throttled => "cdn-throttled",
            CdnErrorKind::TooManyInProgress => "cdn-too-many-invalidations",
            CdnErrorKind::Unavailable => "cdn-unavailable",
            CdnErrorKind::Invalid => "cdn-refused",
        };
        Reason::new(code, self.to_string())
    }

    /// Whether running again may help.
    pub fn retry_class(&self) -> RetryClass {
        match self.kind {
            CdnErrorKind::Throttled | CdnErrorKind::TooManyInProgress | CdnErrorKind::Unavailable => {
                RetryClass::Retryable
            }
            CdnErrorKind::NoSuchDistribution | CdnErrorKind::AccessDenied | CdnErrorKind::Invalid => {
                RetryClass::Permanent
            }
        }
    }
}

/// What was invalidated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invalidated {
    /// The ids of the invalidations.
    pub ids: Vec<String>,
    /// How many paths they had.
    pub paths: u64,
    /// How many of these were wildcards.
    pub wildcards: u64,
}

/// Checks a distribution, before the first delete.
///
/// # Errors
/// [`CdnErrorKind::NoSuchDistribution`], [`CdnErrorKind::AccessDenied`], and what remains after several attempts.
pub async fn check(cdn: &impl Cdn, distribution_id: &str, time_left: Duration) -> Result<(), CdnError> {
    let late = || CdnError::late(distribution_id, cloudfront::READ);
    patiently(time_left, || cdn.check(distribution_id), late).await
}

/// Invalidates what was grouped. `sweep` makes the caller references: the sweep's id, the rule's, and the
/// report's number say which keys these are.
///
/// A call is tried again while it is throttled or too many invalidations are in flight, for at most
/// `time_left`.
///
/// # Errors
/// The first call that fails for good, with what was done before it. Doing it all again with the same
/// grouping and `sweep` repeats nothing.
pub async fn invalidate(
    cdn: &impl Cdn,
    distribution_id: &str,
    sweep: &str,
    grouping: Grouping,
    time_left: Duration,
) -> Result<Invalidated, (Invalidated, CdnError)> {
    let deadline = tokio::time::Instant::now() + time_left;
    let mut done = Invalidated::default();
    for (number, Group { paths, wildcards }) in (1..).zip(grouping.into_groups()) {
        let caller_reference = format!("{sweep}/{number}/{}", digest_of(&paths));
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let late = || CdnError::late(distribution_id, cloudfront::INVALIDATE);
        let invalidate = || cdn.invalidate(distribution_id, &caller_reference, &paths);
        match patiently(left, invalidate, late).await {
            Ok(id) => {
                done.ids.push(id);
                done.paths += paths.len() as u64;
                done.wildcards += wildcards;
            }
            Err(error) => return Err((done, error)),
        }
    }
    Ok(done)
}

/// Eight characters that differ where the paths do.
fn digest_of(paths: &[String]) -> String {
    let mut digest = Sha256::new();
    for path in paths {
        digest.update(path.as_bytes());
        digest.update(b"\n");
    }
    hex::encode(digest.finalize().get(..4).unwrap_or_default())
}

async fn patiently<T, F>(
    time_left: Duration,
    mut call: impl FnMut() -> F,
    late: impl FnOnce() -> CdnError,
) -> Result<T, CdnError>
where
    F: Future<Output = Result<T, CdnError>>,
{
    let deadline = tokio::time::Instant::now() + time_left;
    let (mut attempt, mut last) = (1, None);
    loop {
        let Ok(answer) = tokio::time::timeout_at(deadline, call()).await else {
            return Err(last.unwrap_or_else(late));
        };
        match answer {
            Err(error) if attempt < MAX_ATTEMPTS && error.retry_class() == RetryClass::Retryable => {
                let longest = FIRST_WAIT.saturating_mul(1 << attempt.min(16)).min(LONGEST_WAIT);
                // Between a half and the whole of it.
                let wait = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
                if tokio::time::Instant::now() + wait >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(wait).await;
                attempt += 1;
                last = Some(error);
            }
            answer => return answer,
        }
    }
}

/// An invalidation, as [`RecordingCdn`] holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// The distribution.
    pub distribution_id: String,
    /// The caller reference.
    pub caller_reference: String,
    /// The paths.
    pub paths: Vec<String>,
}

/// A CDN in memory, for tests. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct RecordingCdn {
    distributions: Vec<String>,
    state: Arc<Mutex<Recorded>>,
}

#[derive(Debug, Default)]
struct Recorded {
    invalidations: Vec<Invalidation>,
    failures: Vec<CdnErrorKind>,
    permissions: BTreeSet<(&'static str, String)>,
}

impl RecordingCdn {
    /// A CDN with these distributions.
    pub fn new<I: Into<String>>(distributions: impl IntoIterator<Item = I>) -> Self {
        let distributions = distributions.into_iter().map(Into::into).collect();
        Self { distributions, state: Arc::default() }
    }

    /// The next calls fail so, the last of them first.
    #[must_use]
    pub fn failing(self, kinds: impl IntoIterator<Item = CdnErrorKind>) -> Self {
        self.with(|recorded| recorded.failures.extend(kinds));
        self
    }

    /// The invalidations so far, each caller reference once.
    pub fn invalidations(&self) -> Vec<Invalidation> {
        self.with(|recorded| recorded.invalidations.clone())
    }

    /// What all calls since the start needed to be allowed: IAM's action, and the distribution's id.
    pub fn permissions(&self) -> BTreeSet<(&'static str, String)> {
        self.with(|recorded| recorded.permissions.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Recorded) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call(&self, distribution_id: &str, action: &'static str) -> Result<(), CdnError> {
        let failure = self.with(|recorded| {
            recorded.permissions.insert((action, distribution_id.to_owned()));
            recorded.failures.pop()
        });
        if let Some(kind) = failure {
            return Err(CdnError::new(kind, distribution_id, action, "injected"));
        }
        if self.distributions.iter().any(|known| known == distribution_id) {
            return Ok(());
        }
        Err(CdnError::new(CdnErrorKind::NoSuchDistribution, distribution_id, action, ""))
    }
}

impl Cdn for RecordingCdn {
    async fn check(&self, distribution_id: &str) -> Result<(), CdnError> {
        self.call(distribution_id, cloudfront::READ)
    }

    async fn invalidate(
        &self,
        distribution_id: &str,
        caller_reference: &str,
        paths: &[String],
    ) -> Result<String, CdnError> {
        self.call(distribution_id, cloudfront::INVALIDATE)?;
        let invalidation = Invalidation {
            distribution_id: distribution_id.to_owned(),
            caller_reference: caller_reference.to_owned(),
            paths: paths.to_vec(),
        };
        Ok(self.with(|Recorded { invalidations, .. }| {
            let known = invalidations.iter().position(|known| known.caller_reference == caller_reference);
            let number = known.unwrap_or_else(|| {
                invalidations.push(invalidation);
                invalidations.len() - 1
            });
            format!("I{number}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn grouping(keys: u32) -> Grouping {
        let mut grouping = Grouping::new("/", "u/");
        (0..keys).for_each(|n| grouping.add(&format!("u/{n}.webp")));
        grouping
    }

    #[tokio::test]
    async fn a_distribution_that_does_not_exist_is_a_clear_error() {
        let cdn = RecordingCdn::new(["E1"]);
        check(&cdn, "E1", MINUTE).await.unwrap();
        let error = check(&cdn, "E2", MINUTE).await.unwrap_err();
        assert_eq!(
            (error.reason().code, error.retry_class()),
            ("no-such-distribution", RetryClass::Permanent)
        );
        assert!(error.to_string().contains("cdn[].distribution_id"), "{error}");
    }

    #[tokio::test]
    async fn what_is_throttled_is_tried_again() {
        let cdn = RecordingCdn::new(["E1"]).failing([CdnErrorKind::TooManyInProgress]);
        let done = invalidate(&cdn, "E1", "s1/temp/1", grouping(3), MINUTE).await.unwrap();
        assert_eq!((done.ids.len(), done.paths, done.wildcards), (1, 3, 0));
        assert_eq!(cdn.invalidations().len(), 1);
        let reference = &cdn.invalidations()[0].caller_reference;
        assert!(reference.starts_with("s1/temp/1/1/"), "{reference}");
    }

    #[tokio::test]
    async fn trying_ends_with_the_time_that_is_left() {
        let cdn = RecordingCdn::new(["E1"]).failing([CdnErrorKind::Throttled; 9]);
        let (done, error) =
            invalidate(&cdn, "E1", "s1", grouping(1), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((done, error.reason().code), (Invalidated::default(), "cdn-throttled"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_waited_for_as_long_as_there_is_time() {
        for (before, code) in [(None, "cdn-unavailable"), (Some(CdnErrorKind::Throttled), "cdn-throttled")] {
            let (began, mut before) = (tokio::time::Instant::now(), before);
            let call = || {
                let failure = before.take().map(|kind| CdnError::new(kind, "E1", cloudfront::READ, ""));
                async { if let Some(error) = failure { Err(error) } else { std::future::pending().await } }
            };
            let answer: Result<(), _> =
                patiently(MINUTE, call, || CdnError::late("E1", cloudfront::READ)).await;
            assert_eq!(answer.unwrap_err().reason().code, code);
            assert_eq!(began.elapsed().as_secs(), 60);
        }
    }

    #[tokio::test]
    async fn the_same_group_twice_is_one_invalidation() {
        let cdn = RecordingCdn::new(["E1"]);
        for _ in 0..2 {
            invalidate(&cdn, "E1", "s1", grouping(3), MINUTE).await.unwrap();
        }
        assert_eq!(cdn.invalidations().len(), 1);
        invalidate(&cdn, "E1", "s1", grouping(4), MINUTE).await.unwrap();
        assert_eq!(cdn.invalidations().len(), 2);
    }
}
