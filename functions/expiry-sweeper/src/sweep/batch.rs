//! Deletes one group of rows, and says of each what became of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;
use jiff::Timestamp;
use shared::clock::Clock;
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::{Reason, RetryClass};
use shared::store::{CopyOptions, DeleteItem, ObjectStore, StoreError, StoreErrorKind, StoreResult};
use tokio::time::Instant;

use super::pace::{InFlight, RowsHeld};
use super::plan::{HOLD_TAG, LOOKUPS_AT_ONCE};
use super::verify::{Again, NULL_VERSION, Standing, is_same_time, null_standing, standing_alone};
use super::{Halt, Intent, Moment, Sweep, Tally};
use crate::decision::{Decision, Facts, decide, in_tags};
use crate::policy::{Criterion, OwnExpiry, Target};
use crate::report::{Action, PackedRows, Row, RowResult};
use crate::restore::quarantine_key;
use crate::retry::{MAX_ATTEMPTS, pause, retrying};

/// The error of a row whose object was gone when it was to be deleted, as it is after a time-out whose effect
/// took place.
const GONE: &str = "already-gone";

/// The error of a row that was kept because its rule is another by now.
const RULE_CHANGED: &str = "rule-changed";

/// What is to become of a row. There is one for each row in flight, so that it has to be small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be deleted.
    Delete,
    /// No listing names it; whether it is gone is still to be found out.
    Missing(Intent),
    /// Gone before, by an attempt or an invocation whose end nobody saw.
    Gone,
    /// Kept, because something else stands there.
    Changed,
    /// Kept, because its rule is another by now.
    RuleChanged,
    /// Kept, because it is held.
    Held(Hold),
    /// Kept, because it could not be deleted.
    Failed(StoreErrorKind),
    /// It may be gone, as no answer came; whoever looks again finds out.
    Unknown(StoreErrorKind),
    /// Deleted just now.
    Deleted,
}

/// By what a row is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// By its tag, when it was planned.
    Tag,
    /// By its tag, which it had not when it was planned.
    TagSince,
    /// By the store's own lock.
    Lock,
}

impl Hold {
    /// The error of the row.
    fn code(self) -> &'static str {
        match self {
            Self::Tag => HOLD_TAG,
            Self::TagSince => "hold-tag-since",
            Self::Lock => "locked",
        }
    }
}

impl Fate {
    /// Why an invocation ends that does not know what became of a row.
    fn unknown(&self) -> Option<Halt> {
        let Self::Unknown(kind) = self else { return None };
        let message = "It is not known whether deletes took place, as their answers did not come.";
        Some(Halt { reason: Reason::new(kind.code(), message), retry: RetryClass::Retryable })
    }
}

/// Rows and what is to become of each.
pub(super) struct Items {
    rows: PackedRows,
    /// One for each row, but for those at the end for which time was over.
    fates: Vec<Fate>,
    /// The tags of rows that were listed without one, by their keys.
    tags: BTreeMap<String, ETag>,
}

impl Items {
    /// `fates` has one for each row.
    pub(super) fn new(rows: PackedRows, fates: Vec<Fate>) -> Self {
        Self { rows, fates, tags: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Which rows are to be deleted.
    fn waiting(&self) -> impl Iterator<Item = usize> + Clone {
        let waiting = |(index, fate): (usize, &Fate)| matches!(fate, Fate::Delete).then_some(index);
        self.fates.iter().enumerate().filter_map(waiting)
    }

    /// Whether time was over for some of the rows.
    fn is_cut_short(&self) -> bool {
        self.fates.len() < self.rows.len()
    }

    /// What a request says of a row.
    fn named(&self, index: usize, conditional: bool) -> DeleteItem<'_> {
        let is_version = self.rows.action(index) == Some(Action::DeleteVersion);
        let version_id = self.rows.version_id(index).filter(|_| is_version);
        let key = self.rows.key(index);
        let e_tag = self.rows.e_tag(index).or_else(|| self.tags.get(key).map(ETag::borrowed));
        let if_match = e_tag.filter(|_| conditional && version_id.is_none());
        DeleteItem { key, version_id, if_match }
    }
}

/// What became of a group of rows.
pub(super) struct Done<'p> {
    items: Items,
    _memory: RowsHeld<'p>,
    /// The error of rows that are still to be deleted.
    left_alone: &'static str,
    /// When.
    at: Timestamp,
    /// Whether it is known of every row what became of it. If not, the rows must not be reported.
    pub(super) settled: bool,
    /// Whether time was over for the rest of the group. Nothing is said of that, nor of what follows it.
    pub(super) cut_short: bool,
    /// Why it makes no sense to go on.
    pub(super) halt: Option<Halt>,
}

impl Done<'_> {
    /// How many rows something is said of.
    pub(super) fn len(&self) -> u64 {
        self.items.fates.len() as u64
    }

    /// The rows as a report says them, one by one, each with what it adds to the numbers.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Row, Tally)> {
        let Items { rows, fates, .. } = &self.items;
        rows.iter().zip(fates).map(|(row, fate)| {
            let (result, error) = match fate {
                Fate::Deleted => (RowResult::Deleted, None),
                Fate::Gone => (RowResult::Deleted, Some(GONE)),
                Fate::Changed => (RowResult::Changed, None),
                Fate::RuleChanged => (RowResult::Changed, Some(RULE_CHANGED)),
                Fate::Held(hold) => (RowResult::Held, Some(hold.code())),
                Fate::Failed(kind) | Fate::Unknown(kind) => (RowResult::Failed, Some(kind.code())),
                Fate::Delete | Fate::Missing(_) => (RowResult::Failed, Some(self.left_alone)),
            };
            let was_held = row.result == RowResult::Held;
            let deleted_at = (result == RowResult::Deleted).then_some(self.at);
            let row = Row { result, error: error.map(str::to_owned), deleted_at, ..row };
            // What the plan held has been counted there.
            let tally = if was_held { Tally::default() } else { Tally::of_result(&row) };
            (row, tally)
        })
    }
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Deletes what is to be deleted, in its place in flight. Every row comes back with its result.
    pub(super) async fn carry_out<'p>(
        &self,
        mut items: Items,
        look_again: bool,
        mut place: InFlight<'p>,
    ) -> Done<'p> {
        place.begin();
        let (began, in_flight) = (Instant::now(), self.pace.in_flight());
        let halt = self.delete_all(&mut items, look_again, &mut place).await.err();
        self.pace.took(began.elapsed(), in_flight.max(self.pace.in_flight()));
        let memory = place.land();
        let halt = halt.or_else(|| items.fates.iter().find_map(Fate::unknown));
        let settled = !items.fates.iter().any(|fate| matches!(fate, Fate::Unknown(_)));
        // The whole request was refused, which `halt` tells.
        let left_alone = halt.as_ref().map_or("not-attempted", |halt| halt.reason.code);
        let cut_short = items.is_cut_short();
        Done { items, _memory: memory, left_alone, at: self.clock.now(), settled, cut_short, halt }
    }

    async fn delete_all(
        &self,
        items: &mut Items,
        look_again: bool,
        place: &mut InFlight<'_>,
    ) -> Result<(), Halt> {
        let by_tag = matches!(self.rule.criterion, Criterion::Own { at: OwnExpiry::Tag, .. });
        let look_again = look_again && (self.rule.hold_tag.is_some() || by_tag);
        let all = look_again || self.rule.quarantine;
        // Where each is looked at before its delete, what is missing is looked for then.
        let missing = self.store.capabilities().conditional_delete || self.rule.target() != Target::Objects;
        let looked_up = async |row: &Row, fate: Fate| {
            let fate = if let Fate::Missing(intent) = fate { self.look_for(row, intent).await } else { fate };
            if fate != Fate::Delete {
                return Ok(fate);
            }
            if look_again && self.is_held(row).await? {
                return Ok(Fate::Held(Hold::TagSince));
            }
            // The tag may name another time by now, which no listing shows.
            if look_again && by_tag && !self.is_due_by_tag(row).await? {
                return Ok(Fate::Changed);
            }
            if self.rule.quarantine { self.quarantine(row).await } else { Ok(fate) }
        };
        let which = |_: &PackedRows, _, fate: &Fate| match fate {
            Fate::Delete => all,
            Fate::Missing(_) => all || missing,
            _ => false,
        };
        self.each(items, which, looked_up, Moment::Stop).await;
        if items.rows.action(0) == Some(Action::AbortUpload) {
            let abort = async |row: &Row, _| self.abort(row).await;
            self.each(items, to_be_deleted, abort, Moment::Stop).await;
            return Ok(());
        }
        let deleted = self.delete_batch(items, place).await;
        self.look_at_failures(items, deleted.is_err()).await;
        self.look_for_locks(items).await;
        deleted
    }

    /// What becomes of a row that no listing names.
    async fn look_for(&self, row: &Row, intent: Intent) -> Fate {
        match standing_alone(self.store, row).await {
            Ok(Standing::Gone) => Fate::Gone,
            Ok(Standing::Changed) => Fate::Changed,
            Ok(Standing::Same) if intent == Intent::Settle => Fate::RuleChanged,
            Ok(Standing::Same) => Fate::Delete,
            Err(error) if error.retry_class() == RetryClass::Retryable => Fate::Unknown(error.kind),
            // Who may not look at the object has the listing's word.
            Err(_) => Fate::Gone,
        }
    }

    /// Whether what a row names is due by the tag that it has now.
    async fn is_due_by_tag(&self, row: &Row) -> StoreResult<bool> {
        let object = ObjectRef::new(&*row.bucket, &*row.key);
        let tags = match retrying(|| self.store.get_tags(&object)).await {
            Ok(tags) => tags,
            // Shows at the delete.
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let last_modified = row.last_modified.unwrap_or(Timestamp::MAX);
        let own = in_tags(&tags, last_modified);
        let facts =
            Facts::Object { key: &row.key, size: row.size_bytes.unwrap_or_default(), last_modified, own };
        Ok(matches!(decide(self.rule, facts, None, self.started_at), Decision::Delete { .. }))
    }

    /// Finds out whether what the store refused to delete is under object lock, since some stores give no reason. Where
    /// the first is not, a permission is missing, and nobody asks about the others.
    async fn look_for_locks(&self, items: &mut Items) {
        let Items { rows, fates, .. } = items;
        let rows = &*rows;
        let is_locked = async |index: usize| {
            let is_version = rows.action(index) == Some(Action::DeleteVersion);
            let version_id = rows.version_id(index).filter(|_| is_version).map(str::to_owned);
            let object = ObjectRef::new(&*self.rule.bucket, rows.key(index)).at_version(version_id);
            let meta = retrying(|| self.store.head(&object)).await;
            meta.is_ok_and(|meta| meta.locked_until.is_some_and(|until| until > self.clock.now()))
        };
        let mut denied = fates
            .iter_mut()
            .enumerate()
            .filter(|(_, fate)| matches!(fate, Fate::Failed(StoreErrorKind::AccessDenied)));
        let Some((first, fate)) = denied.next() else { return };
        if !is_locked(first).await {
            return;
        }
        *fate = Fate::Held(Hold::Lock);
        let is_locked = &is_locked;
        let others = denied.map(|(index, fate)| async move {
            if is_locked(index).await {
                *fate = Fate::Held(Hold::Lock);
            }
        });
        futures::stream::iter(others).buffered(LOOKUPS_AT_ONCE).collect::<()>().await;
    }

    /// Finds out whether what answered with an error is gone all the same: an attempt before, of this loop or
    /// of the store's own, may have had its effect without an answer. What failed and is gone would be missing from
    /// the reports, as no listing names it again. `refused` is whether that was the answer to the whole request.
    async fn look_at_failures(&self, items: &mut Items, refused: bool) {
        let objects = self.rule.target() == Target::Objects;
        let mut verifier = objects.then(|| Again::at(self.store, self.rule));
        for (index, fate) in items.fates.iter_mut().enumerate() {
            let kind = match *fate {
                Fate::Failed(kind) if kind.retry_class() == RetryClass::Retryable => kind,
                // Of versions each would be a request.
                Fate::Delete if refused && objects => StoreErrorKind::Unavailable,
                _ => continue,
            };
            let Some(row) = items.rows.get(index) else { continue };
            let standing = match &mut verifier {
                Some(Again::Objects(verifier)) => match verifier.standing(&row).await {
                    Ok(Standing::Gone) => standing_alone(self.store, &row).await,
                    standing => standing,
                },
                _ => standing_alone(self.store, &row).await,
            };
            *fate = match standing {
                Ok(Standing::Same) => *fate,
                Ok(Standing::Gone) => Fate::Gone,
                Ok(Standing::Changed) => Fate::Changed,
                Err(_) => Fate::Unknown(kind),
            };
        }
    }

    /// Asks `what` becomes of each row that is one of `which`, several at once. An error is that
    /// row's alone. Mostly there is none to ask about, and then nothing is set aside for asking. What is not answered at
    /// `moment` is left out, with all that follows: of a slow store a part is done, instead of all in vain.
    async fn each(
        &self,
        items: &mut Items,
        which: impl Fn(&PackedRows, usize, &Fate) -> bool,
        what: impl AsyncFn(&Row, Fate) -> StoreResult<Fate>,
        moment: Moment,
    ) {
        let (what, Items { rows, fates, .. }) = (&what, items);
        let rows = &*rows;
        // Nothing to ask about needs no time.
        if !fates.iter().enumerate().any(|(index, fate)| which(rows, index, fate)) {
            return;
        }
        let asked = fates.iter_mut().enumerate().filter(|(index, fate)| which(rows, *index, fate)).map(
            |(index, fate)| async move {
                let Some(row) = rows.get(index) else { return index };
                *fate = what(&row, *fate).await.unwrap_or_else(|error| failed(&error));
                index
            },
        );
        let answered = {
            let mut asked = pin!(futures::stream::iter(asked).buffered(LOOKUPS_AT_ONCE));
            let mut answered = 0;
            while let Some(next) = self.ending.before(moment, asked.next()).await {
                let Some(index) = next else { return };
                answered = index + 1;
            }
            answered
        };
        let waits = |(index, fate): (usize, &Fate)| which(rows, index, fate).then_some(index);
        let first = fates.iter().enumerate().skip(answered).find_map(waits);
        fates.truncate(first.unwrap_or(fates.len()));
    }

    /// Copies to the audit bucket what is about to be deleted.
    async fn quarantine(&self, row: &Row) -> StoreResult<Fate> {
        // A delete marker has no content.
        if row.size_bytes.is_none() {
            return Ok(Fate::Delete);
        }
        let version_id = row.version_id.clone();
        let options = CopyOptions { source_if_match: row.e_tag.clone(), ..CopyOptions::default() };
        let destination = ObjectRef::new(self.audit_bucket, self.quarantine_key(row));
        let source = ObjectRef::new(&*row.bucket, &*row.key).at_version(version_id);
        match retrying(|| self.store.copy(&source, &destination, options.clone())).await {
            Ok(_) => Ok(Fate::Delete),
            Err(error) => match error.kind {
                StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict => Ok(Fate::Changed),
                // Whether it is gone by our doing shows at the delete.
                StoreErrorKind::NotFound => Ok(Fate::Delete),
                _ => Err(error),
            },
        }
    }

    async fn abort(&self, row: &Row) -> StoreResult<Fate> {
        let object = ObjectRef::new(&*row.bucket, &*row.key);
        let upload_id = row.version_id.as_deref().unwrap_or_default();
        match retrying(|| self.store.abort_upload(&object, upload_id)).await {
            Ok(()) => Ok(Fate::Deleted),
            Err(error) if may_have_had_effect(&error) => Ok(Fate::Unknown(error.kind)),
            Err(error) => Err(error),
        }
    }

    /// Where a delete cannot have a condition, looks at the object just before: not the same, but the best.
    async fn check_where_no_condition_can(&self, items: &mut Items) {
        let conditional = self.store.capabilities().conditional_delete;
        let tags = RefCell::new(BTreeMap::new());
        let unconditional = |rows: &PackedRows, index: usize, fate: &Fate| match fate {
            Fate::Missing(_) => true,
            Fate::Delete if rows.action(index) == Some(Action::DeleteVersion) => {
                rows.version_id(index) == Some(NULL_VERSION)
            }
            Fate::Delete => !conditional || rows.e_tag(index).is_none(),
            _ => false,
        };
        let look = async |row: &Row, fate: Fate| {
            if let Fate::Missing(intent) = fate {
                return Ok(self.look_for(row, intent).await);
            }
            let standing = match row.action {
                Action::DeleteVersion => null_standing(self.store, row).await?,
                _ if conditional => {
                    return Ok(match self.tag_of(row).await? {
                        Ok(e_tag) => {
                            tags.borrow_mut().insert(row.key.clone(), e_tag);
                            Fate::Delete
                        }
                        Err(fate) => fate,
                    });
                }
                _ => standing_alone(self.store, row).await?,
            };
            Ok(match standing {
                Standing::Same => Fate::Delete,
                Standing::Gone => Fate::Gone,
                Standing::Changed => Fate::Changed,
            })
        };
        self.each(items, unconditional, look, Moment::Check).await;
        items.tags.append(&mut tags.take());
    }

    /// The tag of what was listed without one, so that it can be deleted on its condition; or what became of it.
    async fn tag_of(&self, row: &Row) -> StoreResult<Result<ETag, Fate>> {
        let object = ObjectRef::new(&*row.bucket, &*row.key);
        match retrying(|| self.store.head(&object)).await {
            Ok(meta) if is_same_time(row.last_modified, meta.last_modified) => Ok(Ok(meta.e_tag)),
            Ok(_) => Ok(Err(Fate::Changed)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Err(Fate::Gone)),
            Err(error) => Err(error),
        }
    }

    /// Finds out what became of what is to be deleted, where an attempt may have had its effect: since then a client may have
    /// written the same once more, which another attempt would take for what was listed.
    async fn look_at_doubtful(&self, items: &mut Items) {
        if self.rule.target() != Target::Objects {
            return;
        }
        let mut verifier = Again::at(self.store, self.rule);
        // A store that does not answer is not asked about each.
        let mut silent = None;
        for (index, fate) in items.fates.iter_mut().enumerate().filter(|(_, fate)| **fate == Fate::Delete) {
            let Some(row) = items.rows.get(index) else { continue };
            if let Some(kind) = silent {
                *fate = Fate::Unknown(kind);
                continue;
            }
            let standing = match verifier.standing(&row).await {
                Ok(Standing::Gone) => standing_alone(self.store, &row).await,
                standing => standing,
            };
            *fate = match standing {
                Ok(Standing::Same) => Fate::Delete,
                Ok(Standing::Gone) => Fate::Gone,
                Ok(Standing::Changed) => Fate::Changed,
                Err(error) => {
                    silent = Some(error.kind);
                    Fate::Unknown(error.kind)
                }
            };
        }
    }

    async fn delete_batch(&self, items: &mut Items, place: &mut InFlight<'_>) -> Result<(), Halt> {
        let conditional = self.store.capabilities().conditional_delete;
        let bucket = &self.rule.bucket;
        // Whether an attempt may have had an effect that no answer told of.
        let mut doubtful = false;
        for attempt in 1..=MAX_ATTEMPTS {
            // Before each attempt: since the one before, a client may have written anew what that one deleted.
            if doubtful && conditional {
                self.look_at_doubtful(items).await;
                doubtful = false;
            }
            self.check_where_no_condition_can(items).await;
            if items.waiting().next().is_none() {
                return Ok(());
            }
            let is_last = attempt == MAX_ATTEMPTS || self.is_over();
            place.begin_attempt();
            let batch = items.waiting().map(|index| items.named(index, conditional));
            match self.store.delete_batch(bucket, batch).await {
                Ok(results) => {
                    doubtful = false;
                    let mut throttled = false;
                    let waiting: Vec<_> = items.waiting().collect();
                    for (index, result) in waiting.into_iter().zip(results) {
                        throttled |=
                            result.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Throttled);
                        let settled = self.settle(items.rows.key(index), result, is_last).await;
                        if let (Some(fate), Some(settled)) = (items.fates.get_mut(index), settled) {
                            *fate = settled;
                        }
                    }
                    if throttled { place.slow_down() } else { place.go_on() }
                }
                Err(error) if error.retry_class() == RetryClass::Retryable && !is_last => {
                    doubtful |= may_have_had_effect(&error);
                    if error.kind == StoreErrorKind::Throttled {
                        place.slow_down();
                    }
                }
                Err(error) => {
                    doubtful |= may_have_had_effect(&error);
                    let is_final = error.retry_class() == RetryClass::Permanent;
                    if is_final && !doubtful {
                        return Err(error.into());
                    }
                    for fate in items.fates.iter_mut().filter(|fate| matches!(fate, Fate::Delete)) {
                        *fate = if doubtful { Fate::Unknown(error.kind) } else { Fate::Failed(error.kind) };
                    }
                    if is_final || doubtful {
                        return Err(error.into());
                    }
                }
            }
            if items.waiting().next().is_some() {
                pause(attempt).await;
            }
        }
        Ok(())
    }

    /// What one result of a batch means; `None` if it is to be tried again.
    async fn settle(&self, key: &str, result: StoreResult<()>, is_last: bool) -> Option<Fate> {
        let Err(error) = result else { return Some(Fate::Deleted) };
        match error.kind {
            // It was there when it was planned, and the answer to an earlier attempt may have got lost.
            StoreErrorKind::NotFound => Some(Fate::Gone),
            StoreErrorKind::PreconditionFailed => {
                // Some stores say so of what is not there at all.
                let object = ObjectRef::new(&*self.rule.bucket, key);
                match retrying(|| self.store.head(&object)).await {
                    Ok(_) => Some(Fate::Changed),
                    Err(error) if error.kind == StoreErrorKind::NotFound => Some(Fate::Gone),
                    Err(error) if error.retry_class() == RetryClass::Retryable => {
                        Some(Fate::Unknown(error.kind))
                    }
                    Err(_) => Some(Fate::Changed),
                }
            }
            StoreErrorKind::Locked => Some(Fate::Held(Hold::Lock)),
            _ if error.retry_class() == RetryClass::Retryable && !is_last => None,
            _ => Some(failed(&error)),
        }
    }

    /// Where the copy of what a row names stands, in the sweep's folder of the audit bucket.
    fn quarantine_key(&self, row: &Row) -> String {
        let report = self.report().key(1);
        let folder = report.get(..report.rfind('/').map_or(0, |slash| slash + 1)).unwrap_or_default();
        quarantine_key(folder, row)
    }
}

/// Whether what was asked for may have been done although the answer is this.
fn may_have_had_effect(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Timeout | StoreErrorKind::Unavailable | StoreErrorKind::Truncated)
}

/// Which rows are to be deleted.
fn to_be_deleted(_: &PackedRows, _: usize, fate: &Fate) -> bool {
    matches!(fate, Fate::Delete)
}

fn failed(error: &StoreError) -> Fate {
    Fate::Failed(error.kind)
}
