//! The summary of a sweep: `summary.json` beside its reports, one entry per rule.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::object_ref::ObjectRef;
use shared::outcome::Reason;
use shared::store::{
    GetOptions, Metadata, ObjectStore, PRODUCED_BY, Precondition, PutOptions, StoreError, StoreErrorKind,
};

use super::writer::folder;
use crate::retry::{MAX_ATTEMPTS, pause, retrying};

/// A summary is never longer: a few hundred bytes per rule.
const MAX_BYTES: u64 = 8 << 20;

/// What became of one rule in a sweep, all its invocations together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSummary {
    /// The rule's id.
    pub rule: String,
    /// The bucket.
    pub bucket: String,
    /// `plan` or `apply`.
    pub mode: String,
    /// Whether the rule was swept to its end.
    pub complete: bool,
    /// When the sweep of the rule began.
    pub started_at: Timestamp,
    /// When the last invocation ended it, or interrupted it.
    pub finished_at: Timestamp,
    /// How many objects were looked at.
    pub scanned: u64,
    /// How many of them were due.
    pub expired: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// How many had been replaced and were kept.
    pub changed: u64,
    /// How many were held and were kept.
    #[serde(default)]
    pub held: u64,
    /// How many could not be deleted.
    pub errors: u64,
    /// The size of what was deleted.
    pub deleted_bytes: u64,
    /// For how long the one that was due longest had been due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// How many references name an object that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_references: Option<u64>,
    /// The reports, as URIs.
    pub reports: Vec<String>,
    /// Why the rule was stopped, skipped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<SummaryReason>,
}

impl RuleSummary {
    /// Whether nothing was begun that there would be numbers of.
    fn is_unbegun(&self) -> bool {
        !self.complete && self.scanned == 0 && self.reports.is_empty()
    }
}

/// A reason, as a summary holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryReason {
    /// Stable, kebab-case.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl From<&Reason> for SummaryReason {
    fn from(reason: &Reason) -> Self {
        Self { code: reason.code.to_owned(), message: reason.message.clone() }
    }
}

/// The summary of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepSummary {
    /// The sweep.
    pub sweep_id: String,
    /// Whether every rule was swept to its end.
    pub complete: bool,
    /// The rules, in the order in which they were first swept.
    pub rules: Vec<RuleSummary>,
}

impl SweepSummary {
    /// The summary with these rules' entries new or in the place of their older ones.
    fn merged(before: Option<Self>, sweep_id: &str, rules: &[RuleSummary]) -> Self {
        let mut merged = before.map(|before| before.rules).unwrap_or_default();
        for rule in rules {
            match merged.iter_mut().find(|entry| entry.rule == rule.rule) {
                // What was done before stands; only why it did not go on is new.
                Some(entry) if rule.is_unbegun() => {
                    let RuleSummary { finished_at, reason, .. } = rule.clone();
                    (entry.complete, entry.finished_at, entry.reason) = (false, finished_at, reason);
                }
                Some(entry) => entry.clone_from(rule),
                None => merged.push(rule.clone()),
            }
        }
        let complete = merged.iter().all(|rule| rule.complete);
        Self { sweep_id: sweep_id.to_owned(), complete, rules: merged }
    }
}

/// Why a summary cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands there is no summary.
    #[error("{object} is not the summary of a sweep: {problem}")]
    Unreadable {
        /// Where.
        object: ObjectRef,
        /// What is wrong with it.
        problem: String,
    },
}

impl SummaryError {
    /// The reason that an outcome carries for this error.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) => error.reason(),
            Self::Unreadable { .. } => Reason::new("summary-unreadable", self.to_string()),
        }
    }
}

fn address(bucket: &str, started_at: Timestamp, sweep_id: &str) -> ObjectRef {
    ObjectRef::new(bucket, format!("{}summary.json", folder(started_at, sweep_id)))
}

/// Reads the summary of the sweep `sweep_id` that began at `started_at`; `None` if there is none yet.
///
/// # Errors
/// Where it cannot be read.
pub async fn read_summary(
    store: &impl ObjectStore,
    bucket: &str,
    started_at: Timestamp,
    sweep_id: &str,
) -> Result<Option<SweepSummary>, SummaryError> {
    let found = find(store, &address(bucket, started_at, sweep_id)).await?;
    Ok(found.map(|(summary, _)| summary))
}

async fn find(
    store: &impl ObjectStore,
    object: &ObjectRef,
) -> Result<Option<(SweepSummary, Precondition)>, SummaryError> {
    let read = retrying(async || {
        let result = store.get(object, GetOptions::default()).await?;
        let e_tag = result.meta.e_tag.clone();
        Ok((result.bytes(MAX_BYTES).await?, e_tag))
    });
    let (bytes, e_tag) = match read.await {
        Ok(found) => found,
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let summary = serde_json::from_slice(&bytes)
        .map_err(|error| SummaryError::Unreadable { object: object.clone(), problem: error.to_string() })?;
    Ok(Some((summary, Precondition::IfMatch(e_tag))))
}

/// Writes these rules' entries to the sweep's summary. Entries of other rules stay, also where two
/// invocations write at once. With `is_first`, none is expected to be there, and nothing is read unless
/// there is.
///
/// # Errors
/// Where it cannot be read or written.
pub async fn write_summary(
    store: &impl ObjectStore,
    bucket: &str,
    started_at: Timestamp,
    sweep_id: &str,
    rules: &[RuleSummary],
    is_first: bool,
) -> Result<ObjectRef, SummaryError> {
    let object = address(bucket, started_at, sweep_id);
    let conditional = store.capabilities().conditional_replace;
    let mut attempt = 1;
    let mut unseen = is_first && conditional;
    loop {
        let found = if unseen { None } else { find(store, &object).await? };
        let (before, precondition) = match found {
            Some((before, if_match)) => (Some(before), if_match),
            None => (None, Precondition::IfAbsent),
        };
        let summary = SweepSummary::merged(before, sweep_id, rules);
        let bytes = serde_json::to_vec_pretty(&summary).map_err(|error| SummaryError::Unreadable {
            object: object.clone(),
            problem: error.to_string(),
        })?;
        let options = PutOptions {
            // Without conditions the last writer wins, who has seen all that was there a moment before.
            precondition: if conditional { precondition } else { Precondition::None },
            content_type: Some("application/json".to_owned()),
            metadata: Metadata::from([(PRODUCED_BY.to_owned(), "expiry-sweeper".to_owned())]),
            ..PutOptions::default()
        };
        let body = Bytes::from(bytes);
        let written = retrying(|| store.put(&object, body.clone(), options.clone())).await;
        match written {
            Ok(_) => return Ok(object),
            Err(error) if unseen && error.kind == StoreErrorKind::PreconditionFailed => unseen = false,
            // Somebody else wrote, or an attempt whose answer was lost; merging once more settles both.
            Err(error)
                if attempt < MAX_ATTEMPTS
                    && matches!(
                        error.kind,
                        StoreErrorKind::PreconditionFailed
                            | StoreErrorKind::Conflict
                            | StoreErrorKind::NotFound
                    ) =>
            {
                unseen = false;
                pause(attempt).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::{Fault, FaultStore, MemoryStore};

    fn started() -> Timestamp {
        "2026-11-21T07:00:00Z".parse().unwrap()
    }

    fn rule(id: &str, complete: bool, deleted: u64) -> RuleSummary {
        RuleSummary {
            rule: id.to_owned(),
            bucket: "files".to_owned(),
            mode: "apply".to_owned(),
            complete,
            started_at: started(),
            finished_at: started(),
            scanned: 10,
            expired: deleted,
            deleted,
            changed: 0,
            held: 0,
            errors: 0,
            deleted_bytes: 5 * deleted,
            lag_seconds: None,
            missing_references: None,
            reports: vec![],
            reason: None,
        }
    }

    async fn read(store: &impl ObjectStore) -> Option<SweepSummary> {
        read_summary(store, "audit", started(), "s1").await.unwrap()
    }

    #[tokio::test]
    async fn entries_of_a_sweep_come_together_whichever_call_fails() {
        for fault in Fault::ALL {
            for (call, is_first) in (1..=4).flat_map(|call| [(call, false), (call, true)]) {
                let store = FaultStore::new(MemoryStore::new().with_bucket("audit")).at_call(call, fault);
                assert_eq!(read(store.inner()).await, None);
                let first = [rule("a", false, 1), rule("b", true, 2)];
                let object = write_summary(&store, "audit", started(), "s1", &first, is_first).await.unwrap();
                assert_eq!(object.key, "sweeps/2026-11-21/s1/summary.json");
                assert!(!read(store.inner()).await.unwrap().complete);
                write_summary(&store, "audit", started(), "s1", &[rule("a", true, 7)], is_first)
                    .await
                    .unwrap();
                let summary = read(store.inner()).await.unwrap();
                assert!(summary.complete);
                assert_eq!(
                    summary.rules,
                    [rule("a", true, 7), rule("b", true, 2)],
                    "{fault:?} at call {call}"
                );
            }
        }
    }

    #[tokio::test]
    async fn two_who_write_at_once_lose_nothing() {
        let store = MemoryStore::new().with_bucket("audit");
        let rules = ["a", "b", "c"].map(|id| rule(id, true, 1));
        let writes = rules
            .iter()
            .map(|entry| write_summary(&store, "audit", started(), "s1", std::slice::from_ref(entry), true));
        for written in futures::future::join_all(writes).await {
            written.unwrap();
        }
        assert_eq!(read(&store).await.unwrap().rules.len(), 3);
    }

    #[tokio::test]
    async fn a_rule_that_was_not_begun_keeps_the_sweep_from_being_complete_and_its_numbers() {
        let store = MemoryStore::new().with_bucket("audit");
        let reason = SummaryReason { code: "deadline".into(), message: "later".into() };
        let unbegun =
            |id: &str| RuleSummary { scanned: 0, reason: Some(reason.clone()), ..rule(id, false, 0) };
        let begun = RuleSummary { reports: vec!["s3://audit/r.csv".into()], ..rule("a", false, 3) };
        write_summary(&store, "audit", started(), "s1", std::slice::from_ref(&begun), true).await.unwrap();
        let entries = [unbegun("a"), unbegun("b")];
        write_summary(&store, "audit", started(), "s1", &entries, false).await.unwrap();
        let summary = read(&store).await.unwrap();
        assert!(!summary.complete);
        assert_eq!(summary.rules, [RuleSummary { reason: Some(reason.clone()), ..begun }, unbegun("b")]);
        let swept = [rule("a", true, 4), rule("b", true, 0)];
        write_summary(&store, "audit", started(), "s1", &swept, false).await.unwrap();
        assert_eq!(read(&store).await.unwrap().rules, swept);
    }

    #[tokio::test]
    async fn something_else_is_not_overwritten() {
        let store = MemoryStore::new().with_bucket("audit");
        let object = address("audit", started(), "s1");
        store.put(&object, Bytes::from_static(b"hello"), PutOptions::default()).await.unwrap();
        let error =
            write_summary(&store, "audit", started(), "s1", &[rule("a", true, 1)], true).await.unwrap_err();
        assert_eq!(error.reason().code, "summary-unreadable");
    }
}
