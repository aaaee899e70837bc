//! Lists what a rule is about, decides about each, and writes what is due to a plan.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::RetryClass;
use shared::store::{
    ListedEntry, ListedVersion, ObjectStore, PendingUpload, StoreError, StoreErrorKind, StoreResult,
};

use super::audit::Audit;
use super::source::{Next, Page, page};
use super::{
    CLOCK_TOLERANCE, Cursor, Halt, KeyRange, Moment, Phase, PlanFile, Position, Progress, Sizes, Sweep, Tally,
};
use crate::decision::{Decision, Facts, Keep, OwnTime, decide, in_metadata, in_tags, needs_own_time};
use crate::policy::{Criterion, OwnExpiry, Rule, Target};
use crate::report::{Action, PackedRows, ReportFile, ReportTarget, ReportWriter, Row, RowResult};
use crate::retry::retrying;

/// Requests about single objects in flight.
pub(super) const LOOKUPS_AT_ONCE: usize = 32;

/// Where the rows of a plan go.
pub(crate) struct Sink<'s, S> {
    store: &'s S,
    target: ReportTarget,
    token: &'s str,
    number: u32,
    writer: Option<ReportWriter<'s, S>>,
    rows_per_file: u64,
    part_bytes: usize,
    object_bytes: usize,
    /// Whether rows may have got lost, or are there although nobody counted them.
    broken: bool,
}

impl<'s, S: ObjectStore> Sink<'s, S> {
    /// A plan of several objects, of which `number` is the next one.
    pub(crate) fn plan(
        store: &'s S,
        target: ReportTarget,
        token: &'s str,
        number: u32,
        Sizes { plan_rows: rows_per_file, part_bytes, .. }: Sizes,
    ) -> Self {
        let (writer, object_bytes, broken) = (None, usize::MAX, false);
        Self { store, target, token, number, writer, rows_per_file, part_bytes, object_bytes, broken }
    }

    /// One report, written also if it has no rows.
    pub(crate) fn report(store: &'s S, target: ReportTarget, token: &'s str, number: u32) -> Self {
        let writer = Some(ReportWriter::open(store, target.clone(), number, token));
        let part_bytes = Sizes::default().part_bytes;
        let (rows_per_file, object_bytes, broken) = (u64::MAX, usize::MAX, false);
        Self { store, target, token, number, writer, rows_per_file, part_bytes, object_bytes, broken }
    }

    /// The same with objects of about so many bytes each.
    pub(super) fn of_about(self, object_bytes: usize) -> Self {
        Self { object_bytes, ..self }
    }

    /// Appends rows; answers the object that is finished by them, if one is.
    pub(super) async fn append(&mut self, rows: &PackedRows) -> StoreResult<Option<ReportFile>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let (store, target, number, token) = (self.store, &self.target, self.number, self.token);
        let writer = self.writer.get_or_insert_with(|| {
            let writer = ReportWriter::open(store, target.clone(), number, token);
            writer.in_parts_of(self.part_bytes).of_about(self.object_bytes)
        });
        // Until it is known to have succeeded.
        self.broken = true;
        writer.append(rows.iter()).await?;
        let finished = if writer.rows() < self.rows_per_file { None } else { self.finish().await? };
        self.broken = false;
        Ok(finished)
    }

    /// Whether what was written does not agree with what was counted, because writing failed. It must not be
    /// finished then: who goes on begins where the cursor was saved last.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many rows the object in the writing has.
    pub(super) fn rows(&self) -> u64 {
        self.writer.as_ref().map_or(0, ReportWriter::rows)
    }

    /// How many bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, ReportWriter::bytes)
    }

    /// Finishes the object in the writing, so that the next row begins another.
    pub(super) async fn flush(&mut self) -> StoreResult<Option<ReportFile>> {
        // Until it is known to have succeeded.
        self.broken = true;
        let finished = self.finish().await?;
        self.broken = false;
        Ok(finished)
    }

    /// Finishes what was begun.
    pub(crate) async fn finish(&mut self) -> StoreResult<Option<ReportFile>> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let file = writer.finish().await?;
        if let Some(file) = &file {
            self.number = file.number + 1;
        }
        Ok(file)
    }
}

/// What a listing in ranges has come to, after a page.
pub(super) struct Listed {
    /// Where it goes on.
    pub(super) ranges: Vec<KeyRange>,
    /// The object of the plan that was finished by it.
    pub(super) finished: Option<ReportFile>,
}

/// Takes what a listing in ranges brings, page by page.
pub(super) trait Planning {
    /// Whether the object of the plan in the writing, of so many rows and bytes, should be finished.
    fn ends_object(&self, rows: u64, bytes: u64) -> bool {
        let _ = (rows, bytes);
        false
    }

    /// How many of at most `most` pages are fetched at once.
    fn at_once(&self, most: usize) -> usize {
        most
    }

    /// Whether there is no use in going on.
    fn is_stopped(&self) -> bool {
        false
    }

    /// The numbers of a page that was asked for at `asked_at`, whose rows were appended.
    fn scanned(&mut self, tally: &Tally, asked_at: Timestamp) -> Result<(), Halt>;

    /// And how far the listing has come with it.
    async fn listed(&mut self, listed: Listed) -> Result<(), Halt>;
}

/// Plans first; what is listed is acted upon when all of it is.
struct First<'c, F> {
    cursor: &'c mut Cursor,
    save: F,
    watcher: (&'c dyn Progress, &'c Rule),
}

impl<F: AsyncFnMut(Option<&Cursor>) -> Result<(), Halt>> Planning for First<'_, F> {
    fn scanned(&mut self, tally: &Tally, _: Timestamp) -> Result<(), Halt> {
        self.cursor.tally.add(tally);
        let (progress, rule) = self.watcher;
        progress.scanned(rule, &self.cursor.tally);
        Ok(())
    }

    async fn listed(&mut self, Listed { ranges, finished }: Listed) -> Result<(), Halt> {
        self.cursor.phase = Phase::Listing { after: None, ranges };
        let Some(ReportFile { number, rows, .. }) = finished else { return (self.save)(None).await };
        self.cursor.plan.push(PlanFile { number, rows });
        (self.save)(Some(self.cursor)).await
    }
}

/// What is remembered from page to page.
#[derive(Default)]
pub(crate) struct Walk {
    /// The version that was decided last.
    previous: Option<(String, Timestamp)>,
    /// The last version of a page, which cannot be judged before the next one is known.
    carried: Option<ListedVersion>,
}

/// What was decided about a page.
#[derive(Default)]
pub(crate) struct Judged {
    pub(crate) rows: PackedRows,
    pub(crate) tally: Tally,
    position: Option<Position>,
    /// Since when it can be known that something is due, where not from the beginning.
    known_since: Option<Timestamp>,
}

/// Why a page is not judged to its end.
pub(super) enum Cut {
    /// Time is over.
    Over,
    Halt(Halt),
}

impl<E: Into<Halt>> From<E> for Cut {
    fn from(error: E) -> Self {
        Self::Halt(error.into())
    }
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Lists from the cursor on, and answers whether the end was reached. The cursor moves with what is
    /// safe; `save` is called with it whenever an object of the plan was finished, and without it after other pages.
    pub(crate) async fn plan(
        &self,
        cursor: &mut Cursor,
        mut references: Option<&mut Audit<'_, S>>,
        sink: &mut Sink<'_, S>,
        mut save: impl AsyncFnMut(Option<&Cursor>) -> Result<(), Halt>,
    ) -> Result<bool, Halt> {
        let Phase::Listing { after, .. } = cursor.phase.clone() else { return Ok(true) };
        if references.is_none() && self.rule.target() == Target::Objects {
            let Phase::Listing { ranges, .. } = &cursor.phase else { return Ok(true) };
            let ranges = if ranges.is_empty() { vec![KeyRange::default()] } else { ranges.clone() };
            let watcher = (self.progress, self.rule);
            return self.plan_ranges(ranges, sink, &mut First { cursor, save, watcher }).await;
        }
        let mut walk = Walk::default();
        if let Some(Position::Version { key, written, .. }) = &after {
            walk.previous = Some((key.clone(), *written));
        }
        if self.is_over() {
            return Ok(false);
        }
        let mut current = self.fetch(Next::After(after)).await.ok_or_else(Halt::late)??;
        while let Some((page, next)) = current {
            let is_last = matches!(next, Next::End);
            let judging = self.judge(page, is_last, &mut walk, references.as_deref_mut());
            let (judged, following) = futures::join!(judging, self.fetch(next));
            let judged = match judged {
                Ok(judged) => judged,
                Err(Cut::Over) => return Ok(false),
                Err(Cut::Halt(halt)) => return Err(halt),
            };
            let finished = sink.append(&judged.rows).await?;
            cursor.tally.add(&judged.tally);
            if let Some(position) = judged.position {
                cursor.phase = Phase::Listing { after: Some(position), ranges: Vec::new() };
            }
            if let Some(file) = finished {
                cursor.plan.push(PlanFile { number: file.number, rows: file.rows });
                save(Some(cursor)).await?;
            } else {
                save(None).await?;
            }
            self.progress.scanned(self.rule, &cursor.tally);
            let Some(following) = following else { return Ok(false) };
            current = following?;
            if current.is_some() && self.is_over() {
                return Ok(false);
            }
        }
        if let Some(references) = references {
            references.end().await?;
        }
        Ok(true)
    }

    /// A page; `None` if it does not come before the end.
    async fn fetch(&self, next: Next) -> Option<StoreResult<Option<(Page, Next)>>> {
        self.ending.before(Moment::Check, retrying(|| page(self.store, self.rule, next.clone()))).await
    }

    async fn judge(
        &self,
        page: Page,
        is_last: bool,
        walk: &mut Walk,
        references: Option<&mut Audit<'_, S>>,
    ) -> Result<Judged, Cut> {
        match page {
            Page::Objects(entries) => self.judge_objects(&entries, references).await,
            Page::Uploads(uploads) => Ok(self.judge_uploads(&uploads)),
            Page::Versions(versions) => self.judge_versions(versions, is_last, walk).await,
        }
    }

    pub(super) async fn judge_objects(
        &self,
        entries: &[ListedEntry],
        references: Option<&mut Audit<'_, S>>,
    ) -> Result<Judged, Cut> {
        let own_times = self.own_times(entries).await?;
        let mut references = references;
        let referenced = match &mut references {
            Some(references) => references.mark(entries).await?,
            None => vec![None; entries.len()],
        };
        // An orphan is late from when its list could tell, not from when it was written.
        let known_since = references.as_ref().map(|references| references.written());
        let mut judged = Judged { known_since, ..Judged::default() };
        for ((entry, own), referenced) in entries.iter().zip(own_times).zip(referenced) {
            judged.tally.referenced += u64::from(referenced == Some(true));
            // What went or was replaced since it was listed is another sweep's concern.
            let Some(own) = own else { continue };
            let ListedEntry { key, size, last_modified, .. } = entry;
            let facts = Facts::Object { key, size: *size, last_modified: *last_modified, own };
            if let Some(row) = self.decided(&mut judged, facts, referenced) {
                judged.rows.push(&Row { e_tag: entry.e_tag.clone(), ..row });
            }
        }
        judged.position = entries.last().map(|entry| Position::Object { key: entry.key.clone() });
        self.hold(&mut judged).await?;
        Ok(judged)
    }

    fn judge_uploads(&self, uploads: &[PendingUpload]) -> Judged {
        let mut judged = Judged::default();
        for PendingUpload { key, upload_id, initiated } in uploads {
            let facts = Facts::Upload { key, initiated: *initiated };
            if let Some(row) = self.decided(&mut judged, facts, None) {
                judged.rows.push(&Row { version_id: Some(upload_id.clone()), ..row });
            }
        }
        judged.position = uploads
            .last()
            .map(|upload| Position::Upload { key: upload.key.clone(), upload_id: upload.upload_id.clone() });
        judged
    }

    async fn judge_versions(
        &self,
        versions: Vec<ListedVersion>,
        is_last: bool,
        walk: &mut Walk,
    ) -> Result<Judged, Cut> {
        let mut versions: Vec<_> = walk.carried.take().into_iter().chain(versions).collect();
        // Whether a version is alone under its key shows at the one after it.
        walk.carried = if is_last { None } else { versions.pop() };
        let mut judged = Judged::default();
        for (index, version) in versions.iter().enumerate() {
            let before =
                walk.previous.as_ref().filter(|(key, _)| *key == version.key).map(|(_, written)| *written);
            let following = versions.get(index + 1).or(walk.carried.as_ref());
            let is_alone = before.is_none() && following.is_none_or(|next| next.key != version.key);
            let ListedVersion { key, size, last_modified, is_delete_marker, .. } = version;
            let facts = Facts::Version {
                key,
                size: *size,
                last_modified: *last_modified,
                superseded: before.filter(|_| !version.is_latest),
                is_delete_marker: *is_delete_marker,
                is_alone: is_alone && version.is_latest,
            };
            if let Some(row) = self.decided(&mut judged, facts, None) {
                let version_id = Some(version.version_id.clone());
                judged.rows.push(&Row { version_id, e_tag: version.e_tag.clone(), ..row });
            }
            walk.previous = Some((version.key.clone(), version.last_modified));
        }
        judged.position = versions.last().map(|version| Position::Version {
            key: version.key.clone(),
            version_id: version.version_id.clone(),
            written: version.last_modified,
        });
        self.hold(&mut judged).await?;
        Ok(judged)
    }

    /// Counts what was looked at, and answers the row of what is due.
    fn decided(&self, judged: &mut Judged, facts: Facts<'_>, referenced: Option<bool>) -> Option<Row> {
        let tally = &mut judged.tally;
        tally.scanned += 1;
        let (key, size_bytes, written) = match facts {
            Facts::Object { key, size, last_modified, .. } => (key, Some(size), last_modified),
            Facts::Upload { key, initiated } => (key, None, initiated),
            Facts::Version { key, size, last_modified, is_delete_marker, .. } => {
                (key, (!is_delete_marker).then_some(size), last_modified)
            }
        };
        let (cause, expired_at) = match decide(self.rule, facts, referenced, self.started_at) {
            Decision::Delete { cause, expired_at } => (cause, expired_at),
            Decision::Keep(keep) => {
                // A long sweep meets objects that are younger than itself.
                let beyond =
                    || self.clock.now().checked_add(CLOCK_TOLERANCE).is_ok_and(|limit| written > limit);
                tally.from_the_future += u64::from(keep == Keep::FromTheFuture && beyond());
                return None;
            }
        };
        tally.expired += 1;
        tally.expired_bytes += size_bytes.unwrap_or_default();
        if self.rule.hold_tag.is_none() {
            tally.note_lag(
                self.started_at,
                judged.known_since.map_or(expired_at, |since| since.max(expired_at)),
            );
        }
        Some(Row {
            sweep_id: Arc::clone(&self.id),
            rule: self.names.0.clone(),
            bucket: self.names.1.clone(),
            key: key.to_owned(),
            version_id: None,
            e_tag: None,
            size_bytes,
            last_modified: Some(written),
            expired_at: Some(expired_at),
            reason: cause.as_str().into(),
            action: action(self.rule),
            result: RowResult::Planned,
            error: None,
            deleted_at: None,
        })
    }

    /// The times that objects name themselves; `None` for what is no longer there as it was listed.
    async fn own_times(&self, entries: &[ListedEntry]) -> Result<Vec<Option<OwnTime>>, Cut> {
        let Criterion::Own { at, .. } = self.rule.criterion else {
            return Ok(vec![Some(OwnTime::None); entries.len()]);
        };
        let (asked, refused) = (Cell::new(0), RefCell::new(Vec::new()));
        let lookups = entries.iter().map(async |entry| {
            let ListedEntry { key, size, last_modified, .. } = entry;
            if !needs_own_time(self.rule, key, *size, *last_modified, self.started_at) {
                return Ok(Some(OwnTime::None));
            }
            asked.set(asked.get() + 1);
            if self.is_over() {
                return Err(Cut::Over);
            }
            let object = ObjectRef::new(&*self.rule.bucket, &**key);
            let own = match at {
                OwnExpiry::Metadata => retrying(|| self.store.head(&object)).await.map(|meta| {
                    let is_listed = entry.e_tag.as_ref().is_none_or(|e_tag| *e_tag == meta.e_tag);
                    is_listed.then(|| in_metadata(&meta.metadata, *last_modified))
                }),
                OwnExpiry::Tag => retrying(|| self.store.get_tags(&object))
                    .await
                    .map(|tags| Some(in_tags(&tags, *last_modified))),
            };
            match own {
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) if error.retry_class() == RetryClass::Permanent => {
                    refused.borrow_mut().push(error);
                    Ok(Some(OwnTime::Unreadable))
                }
                own => Ok(own?),
            }
        });
        let looked_up = futures::stream::iter(lookups).buffered(LOOKUPS_AT_ONCE).try_collect().await?;
        self.is_single(asked.get(), refused.into_inner())?;
        Ok(looked_up)
    }

    /// That a store refuses to speak of one object is that object's matter, and it is kept; that it speaks of none is a missing
    /// permission.
    fn is_single(&self, asked: usize, refused: Vec<StoreError>) -> Result<(), Cut> {
        let all = refused.len() == asked;
        for error in refused {
            if all && error.kind != StoreErrorKind::Invalid {
                return Err(Cut::Halt(error.into()));
            }
            tracing::warn!(rule = self.rule.id, %error, "an object is kept, as nothing can be known of it");
        }
        Ok(())
    }

    /// Marks what carries the tag that holds it.
    async fn hold(&self, judged: &mut Judged) -> Result<(), Cut> {
        if self.rule.hold_tag.is_none() {
            return Ok(());
        }
        let rows = std::mem::take(&mut judged.rows);
        let refused = RefCell::new(Vec::new());
        let lookups = rows.iter().map(async |row| {
            if self.is_over() {
                return Err(Cut::Over);
            }
            let is_held = match self.is_held(&row).await {
                // It may carry the tag.
                Err(error) if error.retry_class() == RetryClass::Permanent => {
                    refused.borrow_mut().push(error);
                    true
                }
                is_held => is_held?,
            };
            Ok::<_, Cut>(if is_held { held(row) } else { row })
        });
        let mut looked_up = std::pin::pin!(futures::stream::iter(lookups).buffered(LOOKUPS_AT_ONCE));
        while let Some(row) = looked_up.try_next().await? {
            match (row.result, row.expired_at) {
                (RowResult::Held, _) => judged.tally.held += 1,
                // What is held is not late.
                (_, Some(expired_at)) => {
                    let since = judged.known_since.map_or(expired_at, |since| since.max(expired_at));
                    judged.tally.note_lag(self.started_at, since);
                }
                _ => {}
            }
            judged.rows.push(&row);
        }
        let asked = judged.rows.len();
        self.is_single(asked, refused.take())
    }

    /// Whether what a row names carries the tag that holds it.
    pub(super) async fn is_held(&self, row: &Row) -> StoreResult<bool> {
        let Some((name, value)) = &self.rule.hold_tag else { return Ok(false) };
        // A delete marker has no tags.
        if row.size_bytes.is_none() {
            return Ok(false);
        }
        let version_id = row.version_id.clone().filter(|_| row.action == Action::DeleteVersion);
        let object = ObjectRef::new(&*row.bucket, &*row.key).at_version(version_id);
        match retrying(|| self.store.get_tags(&object)).await {
            Ok(tags) => Ok(tags.get(name) == Some(value)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Decides about objects that somebody else has listed, in any order. `None` if time is over.
    pub(crate) async fn judge_listed(
        &self,
        mut entries: Vec<ListedEntry>,
        references: Option<&mut Audit<'_, S>>,
    ) -> Result<Option<Judged>, Halt> {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        match self.judge_objects(&entries, references).await {
            Ok(judged) => Ok(Some(judged)),
            Err(Cut::Over) => Ok(None),
            Err(Cut::Halt(halt)) => Err(halt),
        }
    }
}

/// The code of what is held by a tag.
pub(super) const HOLD_TAG: &str = "hold-tag";

fn held(row: Row) -> Row {
    Row { result: RowResult::Held, error: Some(HOLD_TAG.to_owned()), ..row }
}

fn action(rule: &Rule) -> Action {
    match rule.criterion {
        Criterion::StaleUpload(_) => Action::AbortUpload,
        Criterion::Noncurrent(_) => Action::DeleteVersion,
        _ if rule.quarantine => Action::Quarantine,
        _ => Action::Delete,
    }
}

impl Tally {
    /// Something is due since `since`.
    fn note_lag(&mut self, now: Timestamp, since: Timestamp) {
        let lag = now.duration_since(since).as_secs();
        self.lag_seconds = self.lag_seconds.max(u64::try_from(lag).ok());
    }

    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            scanned: self.scanned.saturating_sub(before.scanned),
            expired: self.expired.saturating_sub(before.expired),
            expired_bytes: self.expired_bytes.saturating_sub(before.expired_bytes),
            lag_seconds: self.lag_seconds,
            from_the_future: self.from_the_future.saturating_sub(before.from_the_future),
            out_of_order: self.out_of_order.saturating_sub(before.out_of_order),
            referenced: self.referenced.saturating_sub(before.referenced),
            deleted: self.deleted.saturating_sub(before.deleted),
            deleted_bytes: self.deleted_bytes.saturating_sub(before.deleted_bytes),
            changed: self.changed.saturating_sub(before.changed),
            held: self.held.saturating_sub(before.held),
            errors: self.errors.saturating_sub(before.errors),
            retryable_errors: self.retryable_errors.saturating_sub(before.retryable_errors),
        }
    }

    /// The same with what was done taken from `other`, and what is due left as it is.
    pub(super) fn with_results_of(&self, other: &Self) -> Self {
        Self {
            scanned: self.scanned,
            expired: self.expired,
            expired_bytes: self.expired_bytes,
            lag_seconds: self.lag_seconds,
            from_the_future: self.from_the_future,
            out_of_order: self.out_of_order,
            referenced: self.referenced,
            ..other.clone()
        }
    }

    /// What one row adds.
    pub(super) fn of_result(row: &Row) -> Self {
        let mut tally = Self::default();
        match row.result {
            RowResult::Planned => {}
            RowResult::Deleted => {
                (tally.deleted, tally.deleted_bytes) = (1, row.size_bytes.unwrap_or_default());
            }
            RowResult::Changed => tally.changed = 1,
            RowResult::Held => tally.held = 1,
            RowResult::Failed => {
                tally.errors = 1;
                // Read from the row, so that whoever takes a report over counts as its writer did. A code
                // that is not a store's is no final answer.
                let kind = row.error.as_deref().and_then(StoreErrorKind::of_code);
                let again = kind.is_none_or(|kind| kind.retry_class() == RetryClass::Retryable);
                tally.retryable_errors = again.into();
            }
        }
        tally
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            scanned,
            expired,
            expired_bytes,
            lag_seconds,
            from_the_future,
            out_of_order,
            referenced,
            deleted,
            deleted_bytes,
            changed,
            held,
            errors,
            retryable_errors,
        } = other;
        self.scanned += scanned;
        self.expired += expired;
        self.expired_bytes += expired_bytes;
        self.lag_seconds = self.lag_seconds.max(*lag_seconds);
        self.from_the_future += from_the_future;
        self.out_of_order += out_of_order;
        self.referenced += referenced;
        self.deleted += deleted;
        self.deleted_bytes += deleted_bytes;
        self.changed += changed;
        self.held += held;
        self.errors += errors;
        self.retryable_errors += retryable_errors;
    }
}
