//! Which rules a sweep of several invocations has behind it, so that each of them has its turn.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::object_ref::ObjectRef;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::runtime::InvocationError;
use shared::store::{GetOptions, ObjectStore, PutOptions, StoreErrorKind};

use crate::policy::{Mode, Policy};
use crate::retry::retrying;

/// What was interrupted longer ago is begun afresh.
const LONGEST: i64 = 7 * 86_400;
/// For so long a sweep waits for rules that fail and may succeed, in seconds: until whoever called has tried again. Then all
/// rules have their turn once more, since one that fails for days must not keep the others from theirs.
const TRIED_AGAIN: i64 = 15 * 60;
const MAX_BYTES: u64 = 1 << 20;

/// A sweep of all rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pass {
    pub(super) sweep_id: String,
    pub(super) started_at: Timestamp,
    /// The rules that it has behind it.
    pub(super) done: Vec<String>,
    /// Why some of those failed for good: the code of the reason and its sentence, by rule.
    #[serde(default)]
    failed: BTreeMap<String, (String, String)>,
    /// Since when nothing is left but rules that failed and may succeed in another attempt.
    #[serde(default)]
    failing_since: Option<Timestamp>,
    /// The rules as they were.
    #[serde(default)]
    rules: Vec<String>,
    /// Whether it stands in the bucket.
    #[serde(skip)]
    is_kept: bool,
}

impl Pass {
    pub(super) fn new(sweep_id: &str, started_at: Timestamp) -> Self {
        let sweep_id = sweep_id.to_owned();
        Self {
            sweep_id,
            started_at,
            done: Vec::new(),
            failed: BTreeMap::new(),
            failing_since: None,
            rules: Vec::new(),
            is_kept: false,
        }
    }

    /// What an invocation answers about a rule that the sweep has behind it.
    pub(super) fn earlier(&self, rule: &str) -> Option<Outcome> {
        if !self.done.iter().any(|done| done == rule) {
            return None;
        }
        let before = format!("an earlier invocation of the sweep {}", self.sweep_id);
        Some(match self.failed.get(rule) {
            None => {
                Outcome::skipped(Reason::new("already-swept", format!("The rule was swept by {before}.")))
            }
            Some((code, message)) => {
                let message = format!("The rule failed for good in {before}, {code}: {message}");
                Outcome::failed(Reason::new("already-failed", message), RetryClass::Permanent)
            }
        })
    }

    /// Notes that the sweep has `rule` behind it, and how it ended.
    pub(super) fn note(&mut self, rule: &str, outcome: &Outcome) {
        if self.done.iter().any(|done| done == rule) {
            return;
        }
        self.done.push(rule.to_owned());
        if let (Status::Failed, Some(reason)) = (outcome.status, &outcome.reason) {
            self.failed.insert(rule.to_owned(), (reason.code.to_owned(), reason.message.clone()));
        }
    }

    /// Notes whether all that is left failed.
    pub(super) fn left(&mut self, only_failures: bool, now: Timestamp) {
        self.failing_since = only_failures.then(|| self.failing_since.unwrap_or(now));
    }

    /// Whether another invocation goes on with it, instead of beginning with the first rule.
    fn goes_on(&self, policy: &Policy, now: Timestamp) -> bool {
        let age = |since: Timestamp| now.duration_since(since).as_secs();
        self.rules == fingerprints(policy)
            && (0..LONGEST).contains(&age(self.started_at))
            && self.failing_since.is_none_or(|since| age(since) < TRIED_AGAIN)
    }

    /// The sweep that the invocation before had to leave, if the policy is still the same.
    pub(super) async fn interrupted<S: ObjectStore>(
        store: &S,
        audit_bucket: &str,
        mode: Mode,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Option<Self>, InvocationError> {
        let object = object(audit_bucket, mode);
        let text = retrying(async || store.get(&object, GetOptions::default()).await?.bytes(MAX_BYTES).await);
        let text = match text.await {
            Ok(text) => text,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let error_type = match error.retry_class() {
                    RetryClass::Retryable => "Retryable",
                    RetryClass::Permanent => "Store",
                };
                return Err(InvocationError { error_type, message: format!("nothing was swept: {error}") });
            }
        };
        // What cannot be read says nothing: the rules are swept from the first one on.
        let pass = serde_json::from_slice(&text).ok().map(|pass| Self { is_kept: true, ..pass });
        Ok(pass.filter(|pass| pass.goes_on(policy, now)))
    }

    /// Notes how far the sweep came, or that it is over. Should that fail, rules are swept once more.
    pub(super) async fn keep<S: ObjectStore>(
        mut self,
        store: &S,
        audit_bucket: &str,
        mode: Mode,
        policy: &Policy,
        is_done: bool,
    ) {
        let object = object(audit_bucket, mode);
        let kept = if is_done {
            if !self.is_kept {
                return;
            }
            retrying(|| store.delete(&object, None)).await
        } else {
            self.rules = fingerprints(policy);
            let text = Bytes::from(serde_json::to_vec_pretty(&self).unwrap_or_default());
            let content_type = Some("application/json".to_owned());
            let options = PutOptions { content_type, ..PutOptions::default() };
            retrying(|| store.put(&object, text.clone(), options.clone())).await.map(drop)
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the next invocation begins with the first rule");
        }
    }
}

/// No rule's id begins so.
fn object(audit_bucket: &str, mode: Mode) -> ObjectRef {
    ObjectRef::new(audit_bucket, format!("sweeps/state/_pass.{}.json", mode.as_str()))
}

fn fingerprints(policy: &Policy) -> Vec<String> {
    policy.rules.iter().map(|rule| format!("{} {}", rule.id, rule.fingerprint())).collect()
}
