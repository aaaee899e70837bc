//! Puts back what a sweep quarantined before it deleted it, from the sweep's own reports.
//!
//! Only rules with `quarantine_before_delete` leave copies to restore. An object is put back only where
//! nothing stands by now: what was uploaded since is never replaced. A restored object was written just
//! now, so that a rule by age gives it another full term; one that names its own expiry is due at once,
//! unless its rule is changed first. The copies stay where they are.

use std::future::ready;
use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use shared::object_ref::ObjectRef;
use shared::outcome::Reason;
use shared::store::{
    CopyOptions, ListOptions, ObjectStore, Precondition, StoreError, StoreErrorKind, StoreResult,
};

use crate::report::{Action, ReadError, Row, RowResult, StoredError, StoredReport};
use crate::retry::retrying;

/// Objects that are put back at once.
const AT_ONCE: usize = 16;

/// What became of a row of the report.
#[derive(Debug)]
pub enum Restored {
    /// It would be put back; nothing was done.
    Planned,
    /// It stands where it stood.
    Restored,
    /// It stood there already, by an earlier restoring.
    Unchanged,
    /// Something else stands there, which was kept.
    Newer,
    /// No copy was kept, as its rule does not quarantine, or the copy is gone by now.
    NoCopy,
    /// The store failed.
    Failed(StoreError),
}

impl Restored {
    /// The name in what a person reads.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Restored => "restored",
            Self::Unchanged => "unchanged",
            Self::Newer => "newer",
            Self::NoCopy => "no-copy",
            Self::Failed(_) => "failed",
        }
    }
}

/// What became of all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreTotals {
    /// Would be put back.
    pub planned: u64,
    /// Were put back.
    pub restored: u64,
    /// Stood there already.
    pub unchanged: u64,
    /// Were kept, because something else stands there.
    pub newer: u64,
    /// Left no copy.
    pub no_copy: u64,
    /// Could not be put back.
    pub failed: u64,
}

impl RestoreTotals {
    fn count(&mut self, restored: &Restored) {
        let counter = match restored {
            Restored::Planned => &mut self.planned,
            Restored::Restored => &mut self.restored,
            Restored::Unchanged => &mut self.unchanged,
            Restored::Newer => &mut self.newer,
            Restored::NoCopy => &mut self.no_copy,
            Restored::Failed(_) => &mut self.failed,
        };
        *counter += 1;
    }
}

/// Why a sweep cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A report cannot be read.
    #[error("{report}: {problem}")]
    Report {
        /// The report.
        report: ObjectRef,
        /// What is wrong with it.
        problem: ReadError,
    },
    /// There is no report there.
    #[error(
        "there is no report at {0}; name a report (….csv) or the folder of a sweep (s3://bucket/sweeps/date/id/)"
    )]
    NoReports(ObjectRef),
}

impl RestoreError {
    /// The reason for a person.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) => error.reason(),
            Self::Report { problem, .. } => Reason::new(problem.code(), self.to_string()),
            Self::NoReports(_) => Reason::new("no-reports", self.to_string()),
        }
    }
}

/// Where the copy of what a report's row names stands: in the sweep's folder of the audit bucket.
pub fn quarantine_key(sweep_folder: &str, row: &Row) -> String {
    let version = row.version_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
    format!("{sweep_folder}quarantine/{}/{}{version}", row.rule, row.key)
}

/// Restores what a report names, or all reports of a sweep where `report` is its folder and ends in a
/// slash. Without `apply` it only tells what it would do. `each` hears of every deleted row, in the
/// order of the reports.
///
/// # Errors
/// Where a report cannot be read. What was put back until then stays; doing it again is harmless.
pub async fn restore(
    store: &impl ObjectStore,
    report: &ObjectRef,
    apply: bool,
    mut each: impl FnMut(&Row, &Restored),
) -> Result<RestoreTotals, RestoreError> {
    let mut totals = RestoreTotals::default();
    for report in reports(store, report).await? {
        restore_report(store, &report, apply, &mut totals, &mut each).await?;
    }
    Ok(totals)
}

/// The report itself, or those that lie in a folder.
async fn reports(store: &impl ObjectStore, report: &ObjectRef) -> Result<Vec<ObjectRef>, RestoreError> {
    if !report.key.ends_with('/') {
        return Ok(vec![report.clone()]);
    }
    let mut options =
        ListOptions { prefix: report.key.clone(), delimiter: Some("/".to_owned()), ..ListOptions::default() };
    let mut found = Vec::new();
    loop {
        let page = retrying(|| store.list(&report.bucket, options.clone())).await?;
        let reports = page.objects.into_iter().filter(|entry| entry.key.ends_with(".csv"));
        found.extend(reports.map(|entry| ObjectRef::new(&*report.bucket, entry.key)));
        options.continuation = page.continuation;
        if options.continuation.is_none() {
            break;
        }
    }
    if found.is_empty() { Err(RestoreError::NoReports(report.clone())) } else { Ok(found) }
}

async fn restore_report(
    store: &impl ObjectStore,
    report: &ObjectRef,
    apply: bool,
    totals: &mut RestoreTotals,
    each: &mut impl FnMut(&Row, &Restored),
) -> Result<(), RestoreError> {
    let folder = report.key.get(..report.key.rfind('/').map_or(0, |slash| slash + 1)).unwrap_or_default();
    let rows = match StoredReport::open(store, report).await {
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            return Err(RestoreError::NoReports(report.clone()));
        }
        opened => opened?.rows(),
    };
    let deleted = rows.try_filter(|row| ready(row.result == RowResult::Deleted));
    let restoring = deleted.map(|row| async {
        let row = row?;
        let restored = put_back(store, &report.bucket, folder, &row, apply).await;
        Ok::<_, StoredError>((row, restored.unwrap_or_else(Restored::Failed)))
    });
    // What is damaged comes to light behind what was put back before it, which is told.
    let mut restored = pin!(restoring.buffered(AT_ONCE));
    while let Some(restored) = restored.next().await {
        let (row, restored) = restored.map_err(|error| match error {
            StoredError::Store(error) => error.into(),
            StoredError::Report(problem) => RestoreError::Report { report: report.clone(), problem },
        })?;
        totals.count(&restored);
        each(&row, &restored);
    }
    Ok(())
}

async fn put_back(
    store: &impl ObjectStore,
    audit_bucket: &str,
    folder: &str,
    row: &Row,
    apply: bool,
) -> StoreResult<Restored> {
    // A version that was not current must not become it, and an upload has no content.
    if row.action != Action::Quarantine {
        return Ok(Restored::NoCopy);
    }
    let copy = ObjectRef::new(audit_bucket, quarantine_key(folder, row));
    let object = ObjectRef::new(&*row.bucket, &*row.key);
    // The copy has the same condition, which some stores take no notice of.
    if let Some(standing) = found(retrying(|| store.head(&object)).await)? {
        return compared(store, &copy, &standing).await;
    }
    if !apply {
        let is_there = found(retrying(|| store.head(&copy)).await)?.is_some();
        return Ok(if is_there { Restored::Planned } else { Restored::NoCopy });
    }
    let options = CopyOptions { precondition: Precondition::IfAbsent, ..CopyOptions::default() };
    let error = match retrying(|| store.copy(&copy, &object, options.clone())).await {
        Ok(_) => return Ok(Restored::Restored),
        Err(error) => error,
    };
    match error.kind {
        StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict => {
            match found(retrying(|| store.head(&object)).await)? {
                Some(meta) => compared(store, &copy, &meta).await,
                None => Err(error),
            }
        }
        StoreErrorKind::NotFound => Ok(Restored::NoCopy),
        _ => Err(error),
    }
}

/// What stands there already: the copy's content, or something else.
async fn compared(
    store: &impl ObjectStore,
    copy: &ObjectRef,
    standing: &shared::store::ObjectMeta,
) -> StoreResult<Restored> {
    let same = found(retrying(|| store.head(copy)).await)?
        .is_some_and(|copy| copy.e_tag == standing.e_tag && copy.size == standing.size);
    Ok(if same { Restored::Unchanged } else { Restored::Newer })
}

fn found<T>(answer: StoreResult<T>) -> StoreResult<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{encode, header};
    use bytes::Bytes;
    use shared::store::{Fault, FaultStore, GetOptions, MemoryStore, Metadata, PutOptions, Tags};

    const FOLDER: &str = "sweeps/2026-11-21/s1/";

    fn row(key: &str, action: Action, result: RowResult) -> Row {
        Row { action, result, ..crate::report::tests::row(key) }
    }

    async fn put(store: &impl ObjectStore, bucket: &str, key: &str, content: &str) {
        let options = PutOptions {
            metadata: Metadata::from([("owner".to_owned(), "me".to_owned())]),
            tags: Tags::from([("upload-status".to_owned(), "accepted".to_owned())]),
            ..PutOptions::default()
        };
        store.put(&ObjectRef::new(bucket, key), Bytes::from(content.to_owned()), options).await.unwrap();
    }

    async fn content(store: &impl ObjectStore, key: &str) -> String {
        let result = store.get(&ObjectRef::new("files", key), GetOptions::default()).await.unwrap();
        String::from_utf8(result.bytes(1000).await.unwrap().to_vec()).unwrap()
    }

    /// A sweep with two reports: `a` and `b` are restorable, `newer` was uploaded again, and so on.
    async fn swept() -> MemoryStore {
        let store = MemoryStore::new().with_bucket("files").with_bucket("audit");
        let quarantined = |key| row(key, Action::Quarantine, RowResult::Deleted);
        let first = [
            quarantined("a"),
            quarantined("newer"),
            quarantined("lost"),
            row("gone", Action::Delete, RowResult::Deleted),
            row("changed", Action::Quarantine, RowResult::Changed),
        ];
        for (name, rows) in
            [("temp-catalog.csv", &first[..]), ("temp-catalog.2.csv", &[quarantined("b\n,;=")])]
        {
            let mut bytes = header();
            encode(rows, &mut bytes);
            put(&store, "audit", &format!("{FOLDER}{name}"), str::from_utf8(&bytes).unwrap()).await;
        }
        for key in ["a", "newer", "b\n,;="] {
            let copy = quarantine_key(FOLDER, &quarantined(key));
            put(&store, "audit", &copy, &format!("old {key}")).await;
        }
        put(&store, "files", "newer", "new").await;
        put(&store, "audit", &format!("{FOLDER}temp-catalog.missing.txt"), "u/a\n").await;
        put(&store, "audit", &format!("{FOLDER}summary.json"), "{}").await;
        store
    }

    async fn run(
        store: &impl ObjectStore,
        key: &str,
        apply: bool,
    ) -> (RestoreTotals, Vec<(String, &'static str)>) {
        let mut told = Vec::new();
        let each = |row: &Row, restored: &Restored| told.push((row.key.clone(), restored.as_str()));
        let totals = restore(store, &ObjectRef::new("audit", key), apply, each).await.unwrap();
        told.sort();
        (totals, told)
    }

    fn told(results: [&'static str; 5]) -> Vec<(String, &'static str)> {
        ["a", "b\n,;=", "gone", "lost", "newer"].map(str::to_owned).into_iter().zip(results).collect()
    }

    #[tokio::test]
    async fn what_was_quarantined_stands_again_and_nothing_newer_is_replaced() {
        let store = swept().await;
        let (totals, results) = run(&store, FOLDER, false).await;
        assert_eq!(results, told(["planned", "planned", "no-copy", "no-copy", "newer"]));
        assert_eq!((totals.planned, totals.restored), (2, 0));
        assert!(store.head(&ObjectRef::new("files", "a")).await.is_err());

        let (totals, results) = run(&store, FOLDER, true).await;
        assert_eq!(results, told(["restored", "restored", "no-copy", "no-copy", "newer"]));
        assert_eq!((totals.restored, totals.newer, totals.no_copy, totals.failed), (2, 1, 2, 0));
        assert_eq!(content(&store, "a").await, "old a");
        assert_eq!(content(&store, "newer").await, "new");
        let restored = ObjectRef::new("files", "a");
        assert_eq!(store.head(&restored).await.unwrap().metadata["owner"], "me");
        assert_eq!(store.get_tags(&restored).await.unwrap()["upload-status"], "accepted");

        let (totals, _) = run(&store, FOLDER, true).await;
        assert_eq!((totals.restored, totals.unchanged, totals.newer), (0, 2, 1));
    }

    #[tokio::test]
    async fn one_report_of_several_can_be_restored() {
        let store = swept().await;
        let (totals, results) = run(&store, &format!("{FOLDER}temp-catalog.2.csv"), true).await;
        assert_eq!(results, [("b\n,;=".to_owned(), "restored")]);
        assert_eq!(totals.restored, 1);
    }

    #[tokio::test]
    async fn faults_of_the_store_lose_and_replace_nothing() {
        for fault in Fault::ALL {
            for call in 1..=9 {
                let store = FaultStore::new(swept().await).at_call(call, fault);
                run(&store, FOLDER, true).await;
                assert_eq!(content(store.inner(), "a").await, "old a", "{fault:?} at call {call}");
                assert_eq!(content(store.inner(), "newer").await, "new");
                let (totals, _) = run(store.inner(), FOLDER, true).await;
                assert_eq!(
                    (totals.unchanged, totals.newer, totals.failed),
                    (2, 1, 0),
                    "{fault:?} at call {call}"
                );
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_report_is_a_clear_error() {
        let store = swept().await;
        for (key, code) in [
            ("sweeps/2026-11-21/other/", "no-reports"),
            ("sweeps/2026-11-21/s1/none.csv", "no-reports"),
            ("sweeps/2026-11-21/s1/summary.json", "not-a-report"),
        ] {
            let error = restore(&store, &ObjectRef::new("audit", key), true, |_, _| ()).await.unwrap_err();
            assert_eq!(error.reason().code, code, "{key}: {error}");
        }
    }
}
