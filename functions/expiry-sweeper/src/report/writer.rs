//! Writes a report while the sweep goes on, in constant memory.

use std::borrow::Borrow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use shared::object_ref::ObjectRef;
use shared::store::{ObjectMeta, ObjectStore, Outgoing, StoreError, StoreErrorKind, StoreResult};

use super::parts::{self, PartWriter, UploadState};
use super::{Row, encode, header};
use crate::retry::retrying;

const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// Rows that become text together.
const ROWS_AT_ONCE: usize = 100;

/// How many names are tried before a report's writer gives up.
const MAX_NAMES: u32 = 100;

/// Which reports are meant: those of one rule in one sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTarget {
    /// The audit bucket.
    pub bucket: String,
    /// When the sweep began, which decides its folder, also for a continuation on the day after.
    pub started_at: Timestamp,
    /// The sweep.
    pub sweep_id: String,
    /// The rule's id.
    pub rule: String,
}

impl ReportTarget {
    /// Report `number`, from 1.
    pub fn object(&self, number: u32) -> ObjectRef {
        ObjectRef::new(&*self.bucket, self.key(number))
    }

    /// The key of report `number`, from 1.
    pub fn key(&self, number: u32) -> String {
        let folder = folder(self.started_at, &self.sweep_id);
        match number {
            0 | 1 => format!("{folder}{}.csv", self.rule),
            _ => format!("{folder}{}.{number}.csv", self.rule),
        }
    }
}

/// Where everything of a sweep stands in the audit bucket: `sweeps/{yyyy-mm-dd}/{sweep_id}/`.
pub(super) fn folder(started_at: Timestamp, sweep_id: &str) -> String {
    format!("sweeps/{}/{sweep_id}/", started_at.to_zoned(TimeZone::UTC).date())
}

/// A report that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    /// Where it stands.
    pub object: ObjectRef,
    /// Its number, from 1; the next one of the same rule and sweep continues from here.
    pub number: u32,
    /// How many rows it has below the header row.
    pub rows: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What is in it, where that can be had back without a request.
    pub content: Option<Outgoing>,
}

/// What a writer has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// The report of this number.
    Report(u32, ObjectRef),
    /// Nothing, and nothing comes any more: the name of this number, the first that was free, is taken now.
    Closed(u32),
}

/// A report in the writing.
///
/// Rows are appended in groups, and a group never ends up in two parts: what [`ReportWriter::state`] tells
/// counts whole groups.
pub struct ReportWriter<'s, S> {
    store: &'s S,
    target: ReportTarget,
    number: u32,
    parts: PartWriter,
    /// What is not appended yet: at first the header row.
    scratch: Vec<u8>,
    rows: u64,
    rows_sent: u64,
    /// Whether it takes no other name than its first.
    only_here: bool,
}

impl<'s, S: ObjectStore> ReportWriter<'s, S> {
    /// Begins report `number` (1 for a sweep's first). If that name is taken, the next free one is used.
    /// `token` is unique to this invocation; by it the writer knows its own object.
    pub fn open(store: &'s S, target: ReportTarget, number: u32, token: &str) -> Self {
        let number = number.max(1);
        let object = ObjectRef::new(&*target.bucket, target.key(number));
        let parts = PartWriter::new(object, token, CONTENT_TYPE);
        let scratch = header();
        Self { store, target, number, parts, scratch, rows: 0, rows_sent: 0, only_here: false }
    }

    /// The same under its first name or not at all: if that is taken, it is not written, and the error is of kind
    /// [`StoreErrorKind::PreconditionFailed`].
    #[must_use]
    pub fn only_here(mut self) -> Self {
        self.only_here = true;
        self
    }

    /// The same in parts of at least `bytes` bytes, which not every store takes.
    #[must_use]
    pub fn in_parts_of(mut self, bytes: usize) -> Self {
        (self.parts.part_bytes, self.parts.expected_bytes) = (bytes, bytes);
        self
    }

    /// The same for a report that ends at about so many bytes.
    #[must_use]
    pub(crate) fn of_about(mut self, bytes: usize) -> Self {
        self.parts.expected_bytes = bytes.min(self.parts.part_bytes);
        self
    }

    /// Appends a group of rows, and sends a part where there is enough for one.
    ///
    /// # Errors
    /// What the store says after several attempts. The report is then best given up; the rows that are
    /// in [`ReportWriter::state`] are safe.
    pub async fn append<R: Borrow<Row>>(&mut self, rows: impl IntoIterator<Item = R>) -> StoreResult<()> {
        let count = self.push_rows(rows)?;
        self.appended(count).await
    }

    fn push_rows<R: Borrow<Row>>(&mut self, rows: impl IntoIterator<Item = R>) -> StoreResult<u64> {
        let mut rows = rows.into_iter();
        let mut count = 0;
        loop {
            let some = encode(rows.by_ref().take(ROWS_AT_ONCE), &mut self.scratch);
            self.push_scratch()?;
            count += some;
            if some < ROWS_AT_ONCE as u64 {
                return Ok(count);
            }
        }
    }

    fn push_scratch(&mut self) -> StoreResult<()> {
        self.parts.push(&self.scratch)?;
        self.scratch.clear();
        Ok(())
    }

    async fn appended(&mut self, rows: u64) -> StoreResult<()> {
        self.rows += rows;
        if self.parts.is_full() {
            self.choose_name().await?;
            self.parts.send(self.store).await?;
            self.rows_sent = self.rows;
        }
        Ok(())
    }

    /// How many rows were appended.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many bytes they have.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.bytes() + self.scratch.len() as u64
    }

    /// What is safe at the store although the report is not finished: keep this beside the cursor, and
    /// [`ReportWriter::salvage`] can finish the report after a crash. `None` while nothing was sent.
    pub fn state(&self) -> Option<UploadState> {
        self.parts.state(self.rows_sent)
    }

    /// An upload is bound to its key, so the name has to be free when it begins.
    async fn choose_name(&mut self) -> StoreResult<()> {
        if self.parts.is_begun() {
            return Ok(());
        }
        for _ in 0..MAX_NAMES {
            match retrying(|| self.store.head(&self.parts.object)).await {
                Ok(_) if self.only_here => return Err(self.no_name()),
                Ok(_) => self.next_name(),
                // Who may not list is told 403 of what is not there; the completion's condition decides then.
                Err(error)
                    if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::AccessDenied) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.no_name())
    }

    fn no_name(&self) -> StoreError {
        let resource = self.parts.object.to_string();
        let detail = "every name that was tried is taken";
        StoreError::new(StoreErrorKind::PreconditionFailed, "s3:PutObject", resource, detail)
    }

    fn next_name(&mut self) {
        self.number += 1;
        self.parts.object.key = self.target.key(self.number);
    }

    /// Makes the report visible, also where the sweep was cut short. A continuation without rows is not
    /// written; a sweep's first report is, as a proof that nothing was due.
    ///
    /// # Errors
    /// What the store says after several attempts.
    pub async fn finish(mut self) -> StoreResult<Option<ReportFile>> {
        if self.rows == 0 && self.number > 1 {
            return Ok(None);
        }
        self.push_scratch()?;
        let mut names = 1;
        while let Err(error) = self.parts.finish(self.store).await {
            if error.kind != StoreErrorKind::PreconditionFailed || self.parts.is_begun() {
                return Err(error);
            }
            if self.only_here || names == MAX_NAMES {
                return Err(self.no_name());
            }
            names += 1;
            self.next_name();
        }
        let size_bytes = self.parts.bytes();
        let PartWriter { object, kept: content, .. } = self.parts;
        Ok(Some(ReportFile { object, number: self.number, rows: self.rows, size_bytes, content }))
    }

    /// What `writer` has finished from `number` on. Names may be taken by an earlier sweep of the rule under the same id.
    /// Where there is nothing, the name that it would have is taken by `token`: its report may still be on its way, and
    /// cannot appear any more.
    ///
    /// # Errors
    /// What the store says after several attempts; of kind [`StoreErrorKind::PreconditionFailed`] where no name is free.
    pub async fn find_or_close(
        store: &'s S,
        target: &ReportTarget,
        number: u32,
        (writer, token): (&str, &str),
    ) -> StoreResult<Left> {
        let first = number.max(1);
        for number in (first..).take(MAX_NAMES as usize) {
            let mut closing = Self::open(store, target.clone(), number, token);
            let mut standing = closing.standing().await?;
            if standing.is_none() {
                closing.push_scratch()?;
                match closing.parts.finish(store).await {
                    Ok(()) => return Ok(Left::Closed(number)),
                    Err(error) if error.kind != StoreErrorKind::PreconditionFailed => return Err(error),
                    // It arrived in this moment, whosever it is.
                    Err(error) => standing = Some(closing.standing().await?.ok_or(error)?),
                }
            }
            if standing.is_some_and(|meta| PartWriter::is_by(&meta.metadata, writer)) {
                return Ok(Left::Report(number, closing.parts.object));
            }
        }
        Err(Self::open(store, target.clone(), first, token).no_name())
    }

    /// What stands under the report's name.
    async fn standing(&self) -> StoreResult<Option<ObjectMeta>> {
        match retrying(|| self.store.head(&self.parts.object)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finishes the report of an invocation that died, as far as it had come. `false` where its upload is
    /// gone, and its rows with it.
    ///
    /// # Errors
    /// What the store says after several attempts.
    pub async fn salvage(store: &S, bucket: &str, state: &UploadState) -> StoreResult<bool> {
        parts::complete(store, bucket, state).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::super::{RowDecoder, read_rows};
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt;
    use shared::store::{Fault, FaultStore, GetOptions, MemoryStore, Operation, RecordingStore};

    fn target() -> ReportTarget {
        ReportTarget {
            bucket: "audit".to_owned(),
            started_at: "2026-11-21T23:59:59.9Z".parse().unwrap(),
            sweep_id: "s1".to_owned(),
            rule: "temp".to_owned(),
        }
    }

    fn audit() -> MemoryStore {
        MemoryStore::new().with_bucket("audit")
    }

    async fn content(store: &impl ObjectStore, key: &str) -> Bytes {
        let object = ObjectRef::new("audit", key);
        store.get(&object, GetOptions::default()).await.unwrap().bytes(1 << 30).await.unwrap()
    }

    async fn keys(store: &impl ObjectStore, key: &str) -> Vec<String> {
        read_rows(&*content(store, key).await).map(|row| row.unwrap().key).collect()
    }

    /// About 6 MB, in 16 groups of 60 rows.
    fn groups() -> Vec<Vec<Row>> {
        let error = Some("x".repeat(6000));
        let group = |g: usize| {
            (0..60).map(|n| Row { error: error.clone(), ..row(&format!("{g:02}/{n:02}")) }).collect()
        };
        (0..16).map(group).collect()
    }

    fn names(groups: &[Vec<Row>]) -> Vec<String> {
        groups.iter().flatten().map(|row| row.key.clone()).collect()
    }

    #[test]
    fn reports_stand_where_the_contract_says() {
        assert_eq!(target().key(1), "sweeps/2026-11-21/s1/temp.csv");
        assert_eq!(target().key(2), "sweeps/2026-11-21/s1/temp.2.csv");
    }

    #[tokio::test]
    async fn a_small_report_is_one_put() {
        let store = RecordingStore::new(audit());
        let mut writer = ReportWriter::open(&store, target(), 1, "t");
        writer.append(&[row("a"), row("b")]).await.unwrap();
        assert_eq!(writer.state(), None);
        let file = writer.finish().await.unwrap().unwrap();
        assert_eq!(store.operations(), [Operation::Put]);
        assert_eq!(
            (file.rows, file.number, file.object.key.as_str()),
            (2, 1, "sweeps/2026-11-21/s1/temp.csv")
        );
        assert_eq!(file.size_bytes, store.head(&file.object).await.unwrap().size);
        assert_eq!(keys(&store, &file.object.key).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_first_report_is_written_even_without_rows_and_a_continuation_is_not() {
        let store = audit();
        let file = ReportWriter::open(&store, target(), 1, "t").finish().await.unwrap().unwrap();
        assert!(keys(&store, &file.object.key).await.is_empty());
        assert_eq!(ReportWriter::open(&store, target(), 2, "t").finish().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nothing_is_overwritten() {
        let store = audit();
        for (token, keys) in [("t1", ["a"]), ("t2", ["b"])] {
            let mut writer = ReportWriter::open(&store, target(), 1, token);
            writer.append(&keys.map(row)).await.unwrap();
            writer.finish().await.unwrap();
        }
        assert_eq!(keys(&store, "sweeps/2026-11-21/s1/temp.csv").await, ["a"]);
        assert_eq!(keys(&store, "sweeps/2026-11-21/s1/temp.2.csv").await, ["b"]);
        // A large one looks for a free name before it begins.
        let mut writer = ReportWriter::open(&store, target(), 1, "t3");
        for group in &groups() {
            writer.append(group).await.unwrap();
        }
        assert_eq!(writer.finish().await.unwrap().unwrap().number, 3);
        assert_eq!(keys(&store, "sweeps/2026-11-21/s1/temp.csv").await, ["a"]);
    }

    #[tokio::test]
    async fn a_report_that_may_only_stand_here_does_not_stand_elsewhere() {
        for rows in [groups(), vec![vec![row("b")]]] {
            let store = audit();
            let mut writer = ReportWriter::open(&store, target(), 1, "t2").only_here();
            let mut written = Ok(());
            for (n, group) in rows.iter().enumerate() {
                if n == 0 {
                    let left = ReportWriter::find_or_close(&store, &target(), 1, ("t2", "t1")).await;
                    assert_eq!(left.unwrap(), Left::Closed(1));
                }
                written = written.and(writer.append(group).await);
            }
            let error = match written {
                Ok(()) => writer.finish().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind, StoreErrorKind::PreconditionFailed);
            assert!(keys(&store, &target().key(1)).await.is_empty());
            assert!(store.head(&ObjectRef::new("audit", target().key(2))).await.is_err());
        }
    }

    #[tokio::test]
    async fn where_a_name_is_closed_a_report_that_was_on_its_way_does_not_appear() {
        let store = audit();
        let target = target();
        let found = async |tokens| ReportWriter::find_or_close(&store, &target, 1, tokens).await.unwrap();
        assert_eq!(found(("t1", "t2")).await, Left::Closed(1));
        let mut late = ReportWriter::open(&store, target.clone(), 1, "t1").only_here();
        late.append(&[row("a")]).await.unwrap();
        late.finish().await.unwrap_err();
        assert_eq!(found(("t1", "t3")).await, Left::Closed(2));
        for (writer, number) in [("t2", 1), ("t3", 2)] {
            let own = Left::Report(number, ObjectRef::new("audit", target.key(number)));
            assert_eq!(found((writer, "t4")).await, own);
        }
    }

    #[tokio::test]
    async fn where_every_name_is_taken_by_others_that_is_an_error() {
        let store = audit();
        let target = target();
        let found = async || ReportWriter::find_or_close(&store, &target, 1, ("t1", "t2")).await;
        for number in 1..=MAX_NAMES {
            assert_eq!(found().await.unwrap(), Left::Closed(number));
        }
        assert_eq!(found().await.unwrap_err().kind, StoreErrorKind::PreconditionFailed);
    }

    #[tokio::test]
    async fn a_large_report_streams_in_parts_and_bounded_memory() {
        let store = RecordingStore::new(audit());
        let mut writer = ReportWriter::open(&store, target(), 1, "t");
        let groups = groups();
        let mut most = 0;
        for group in &groups {
            writer.append(group).await.unwrap();
            most = most.max(writer.parts.spool.capacity());
        }
        assert!(most < parts::PART_BYTES / 4, "{most}");
        let file = writer.finish().await.unwrap().unwrap();
        assert!(store.count(Operation::UploadPart) > 1);
        assert_eq!(keys(&store, &file.object.key).await, names(&groups));
        assert_eq!(file.size_bytes, store.head(&file.object).await.unwrap().size);
    }

    #[tokio::test]
    async fn every_row_is_there_once_whichever_call_fails_and_however() {
        let groups = groups();
        let mut expected = header();
        for group in &groups {
            encode(group, &mut expected);
        }
        for fault in Fault::ALL {
            for call in 1..=5 {
                let store = FaultStore::new(audit()).at_call(call, fault);
                let mut writer = ReportWriter::open(&store, target(), 1, "t");
                for group in &groups {
                    writer.append(group).await.unwrap();
                }
                let file = writer.finish().await.unwrap().unwrap();
                assert_eq!(file.number, 1, "{fault:?} at call {call}");
                let written = content(store.inner(), &file.object.key).await;
                assert!(written == expected, "{fault:?} at call {call}");
            }
            // The same for one that is a single PUT.
            let store = FaultStore::new(audit()).at_call(1, fault);
            let mut writer = ReportWriter::open(&store, target(), 1, "t");
            writer.append(&[row("a")]).await.unwrap();
            let file = writer.finish().await.unwrap().unwrap();
            assert_eq!(file.number, 1, "{fault:?}");
            assert_eq!(keys(store.inner(), &file.object.key).await, ["a"]);
        }
    }

    #[tokio::test]
    async fn what_was_sent_before_a_crash_can_be_salvaged() {
        let store = audit();
        let mut writer = ReportWriter::open(&store, target(), 1, "t");
        let groups = groups();
        for group in &groups {
            writer.append(group).await.unwrap();
        }
        let state = writer.state().unwrap();
        drop(writer);
        let state: UploadState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        // Twice, because the one who salvages may crash as well.
        for _ in 0..2 {
            assert!(ReportWriter::salvage(&store, "audit", &state).await.unwrap());
        }
        let salvaged = keys(&store, &state.key).await;
        assert_eq!(salvaged.len() as u64, state.rows);
        assert!(state.rows > 0 && state.rows.is_multiple_of(60));
        assert_eq!(salvaged, names(&groups)[..salvaged.len()]);
        let gone = UploadState { key: "elsewhere.csv".to_owned(), upload_id: "none".to_owned(), ..state };
        assert!(!ReportWriter::salvage(&store, "audit", &gone).await.unwrap());
    }

    #[tokio::test]
    async fn a_report_that_arrives_in_chunks_is_decoded_as_it_comes() {
        let store = audit();
        let mut writer = ReportWriter::open(&store, target(), 1, "t");
        let groups = groups();
        for group in &groups {
            writer.append(group).await.unwrap();
        }
        let file = writer.finish().await.unwrap().unwrap();
        let mut result = store.get(&file.object, GetOptions::default()).await.unwrap();
        let (mut decoder, mut rows) = (RowDecoder::new(), 0);
        while let Some(chunk) = result.body.next().await {
            rows += decoder.push(&chunk.unwrap()).unwrap().len();
        }
        decoder.finish().unwrap();
        assert_eq!(rows as u64, file.rows);
    }
}
