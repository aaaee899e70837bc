//! Deletes one group of rows, and says of each what became of it.

use std::mem::take;

use futures::StreamExt;
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::{Reason, RetryClass};
use shared::store::{CopyOptions, DeleteItem, ObjectStore, StoreError, StoreErrorKind, StoreResult};

use super::pace::InFlight;
use super::plan::LOOKUPS_AT_ONCE;
use super::verify::{Standing, Verifier, is_same_time};
use super::{Halt, Sweep, Tally};
use crate::policy::Target;
use crate::report::{Action, Row, RowResult};
use crate::restore::quarantine_key;
use crate::retry::{MAX_ATTEMPTS, pause, retrying};

/// The error of a row whose object was gone when it was to be deleted, as it is after a time-out whose effect
/// took place.
const GONE: &str = "already-gone";

/// The error of a row that was not held when it was planned.
const HELD_SINCE: &str = "hold-tag-since";

/// What is to become of a row.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// To be deleted.
    Delete,
    /// Gone before, by an attempt or an invocation whose end nobody saw.
    Gone,
    /// Kept, because something else stands there, or for the reason given.
    Changed(Option<&'static str>),
    /// Kept, because it is held.
    Held(&'static str),
    /// Kept, because it could not be deleted, for the reason of this stable code.
    Failed(&'static str),
    /// It may be gone, as no answer came; whoever looks again finds out.
    Unknown(&'static str),
    /// Deleted just now.
    Deleted,
}

impl Fate {
    /// Why an invocation ends that does not know what became of a row.
    fn unknown(&self) -> Option<Halt> {
        let Self::Unknown(code) = self else { return None };
        let message = "It is not known whether deletes took place, as their answers did not come.";
        Some(Halt { reason: Reason::new(code, message), retry: RetryClass::Retryable })
    }
}

/// A row and what is to become of it.
pub(super) struct Item {
    pub(super) row: Row,
    pub(super) fate: Fate,
}

/// What became of a group of rows.
pub(super) struct Done {
    pub(super) rows: Vec<Row>,
    pub(super) tally: Tally,
    /// Whether it is known of every row what became of it. If not, the rows must not be reported.
    pub(super) settled: bool,
    /// Why it makes no sense to go on.
    pub(super) halt: Option<Halt>,
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Deletes what is to be deleted, in its place in flight. Every row comes back with its result.
    pub(super) async fn carry_out(
        &self,
        mut items: Vec<Item>,
        look_again: bool,
        mut place: InFlight<'_>,
    ) -> Done {
        let halt = self.delete_all(&mut items, look_again, &mut place).await.err();
        drop(place);
        let halt = halt.or_else(|| items.iter().find_map(|item| item.fate.unknown()));
        let now = self.clock.now();
        let mut tally = Tally::default();
        let settled = !items.iter().any(|item| matches!(item.fate, Fate::Unknown(_)));
        let rows = items
            .into_iter()
            .map(|Item { mut row, fate }| {
                let (result, error) = match &fate {
                    Fate::Deleted => (RowResult::Deleted, None),
                    Fate::Gone => (RowResult::Deleted, Some(GONE)),
                    Fate::Changed(why) => (RowResult::Changed, *why),
                    Fate::Held(why) => (RowResult::Held, Some(*why)),
                    Fate::Failed(code) | Fate::Unknown(code) => (RowResult::Failed, Some(*code)),
                    // The whole request was refused, which `halt` tells.
                    Fate::Delete => {
                        let code = halt.as_ref().map_or("not-attempted", |halt| halt.reason.code);
                        (RowResult::Failed, Some(code))
                    }
                };
                let was_held = row.result == RowResult::Held;
                row.deleted_at = (result == RowResult::Deleted).then_some(now);
                row.result = result;
                row.error = error.map(str::to_owned);
                // What the plan held has been counted there.
                if !was_held {
                    tally.add(&Tally::of_result(&row));
                }
                row
            })
            .collect();
        Done { rows, tally, settled, halt }
    }

    async fn delete_all(
        &self,
        items: &mut [Item],
        look_again: bool,
        place: &mut InFlight<'_>,
    ) -> Result<(), Halt> {
        if look_again && self.rule.hold_tag.is_some() {
            let held = async |row: &Row| Ok(self.is_held(row).await?.then_some(Fate::Held(HELD_SINCE)));
            self.each(items, |_| true, held).await;
        }
        if self.rule.quarantine {
            self.each(items, |_| true, async |row| self.quarantine(row).await).await;
        }
        if items.first().is_some_and(|item| item.row.action == Action::AbortUpload) {
            self.each(items, |_| true, async |row| self.abort(row).await).await;
            return Ok(());
        }
        self.check_where_no_condition_can(items).await;
        self.delete_batch(items, place).await?;
        self.look_at_failures(items).await;
        Ok(())
    }

    /// Finds out whether what answered with an error is gone all the same: an attempt before, of this loop or
    /// of the store's own, may have had its effect without an answer. What failed and is gone would be missing from
    /// the reports, as no listing names it again.
    async fn look_at_failures(&self, items: &mut [Item]) {
        let mut verifier = (self.rule.target() == Target::Objects)
            .then(|| Verifier::new(self.store, &self.rule.bucket, &self.rule.prefix));
        for Item { row, fate } in items {
            let Fate::Failed(code) = *fate else { continue };
            if StoreErrorKind::of_code(code).is_none_or(|kind| kind.retry_class() == RetryClass::Permanent) {
                continue;
            }
            let standing = match &mut verifier {
                Some(verifier) => verifier.standing(row).await,
                // A delete marker cannot be looked at.
                None if row.size_bytes.is_none() => continue,
                None => {
                    let object = ObjectRef::new(&*row.bucket, &*row.key).at_version(row.version_id.clone());
                    match retrying(|| self.store.head(&object)).await {
                        Ok(_) => Ok(Standing::Same),
                        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Standing::Gone),
                        Err(error) => Err(error),
                    }
                }
            };
            *fate = match standing {
                Ok(Standing::Same) => Fate::Failed(code),
                Ok(Standing::Gone) => Fate::Gone,
                Ok(Standing::Changed) => Fate::Changed(None),
                Err(_) => Fate::Unknown(code),
            };
        }
    }

    /// Asks `what` becomes of each row that is to be deleted and is one of `which`, several at once. An error is that
    /// row's alone. Mostly there is none to ask about, and then nothing is set aside for asking.
    async fn each(
        &self,
        items: &mut [Item],
        which: impl Fn(&Row) -> bool,
        what: impl AsyncFn(&Row) -> StoreResult<Option<Fate>>,
    ) {
        let what = &what;
        let asked = items
            .iter_mut()
            .filter(|item| matches!(item.fate, Fate::Delete) && which(&item.row))
            .map(|item| async move {
                let fate = what(&item.row).await.unwrap_or_else(|error| Some(failed(&error)));
                if let Some(fate) = fate {
                    item.fate = fate;
                }
            });
        futures::stream::iter(asked).buffered(LOOKUPS_AT_ONCE).collect::<()>().await;
    }

    /// Copies to the audit bucket what is about to be deleted.
    async fn quarantine(&self, row: &Row) -> StoreResult<Option<Fate>> {
        // A delete marker has no content.
        if row.size_bytes.is_none() {
            return Ok(None);
        }
        let version_id = row.version_id.clone();
        let options = CopyOptions { source_if_match: row.e_tag.clone(), ..CopyOptions::default() };
        let destination = ObjectRef::new(self.audit_bucket, self.quarantine_key(row));
        let source = ObjectRef::new(&*row.bucket, &*row.key).at_version(version_id);
        match retrying(|| self.store.copy(&source, &destination, options.clone())).await {
            Ok(_) => Ok(None),
            Err(error) => match error.kind {
                StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict => {
                    Ok(Some(Fate::Changed(None)))
                }
                // Whether it is gone by our doing shows at the delete.
                StoreErrorKind::NotFound => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn abort(&self, row: &Row) -> StoreResult<Option<Fate>> {
        let object = ObjectRef::new(&*row.bucket, &*row.key);
        let upload_id = row.version_id.as_deref().unwrap_or_default();
        match retrying(|| self.store.abort_upload(&object, upload_id)).await {
            Ok(()) => Ok(Some(Fate::Deleted)),
            Err(error) if may_have_had_effect(&error) => Ok(Some(Fate::Unknown(error.kind.code()))),
            Err(error) => Err(error),
        }
    }

    /// Where a delete cannot have a condition, looks at the object just before: not the same, but the best.
    async fn check_where_no_condition_can(&self, items: &mut [Item]) {
        let conditional = self.store.capabilities().conditional_delete;
        let unconditional =
            |row: &Row| row.action != Action::DeleteVersion && (!conditional || row.e_tag.is_none());
        self.each(items, unconditional, async |row| {
            let object = ObjectRef::new(&*row.bucket, &*row.key);
            match retrying(|| self.store.head(&object)).await {
                Ok(meta) => {
                    let is_same = row.e_tag.as_ref().is_none_or(|e_tag| *e_tag == meta.e_tag)
                        && is_same_time(row.last_modified, meta.last_modified);
                    Ok((!is_same).then_some(Fate::Changed(None)))
                }
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Some(Fate::Gone)),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    async fn delete_batch(&self, items: &mut [Item], place: &mut InFlight<'_>) -> Result<(), Halt> {
        let conditional = self.store.capabilities().conditional_delete;
        let bucket = &self.rule.bucket;
        // Whether an attempt may have had an effect that no answer told of.
        let mut doubtful = false;
        for attempt in 1..=MAX_ATTEMPTS {
            let waiting: Vec<usize> = (0..items.len())
                .filter(|index| items.get(*index).is_some_and(|item| matches!(item.fate, Fate::Delete)))
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let mut batch = Vec::with_capacity(waiting.len());
            for index in &waiting {
                batch.extend(items.get_mut(*index).map(|item| lend(&mut item.row, conditional)));
            }
            let is_last = attempt == MAX_ATTEMPTS || self.is_over();
            place.begin_attempt();
            let answer = self.store.delete_batch(bucket, &batch).await;
            for (index, lent) in waiting.iter().zip(batch) {
                if let Some(item) = items.get_mut(*index) {
                    give_back(&mut item.row, lent);
                }
            }
            match answer {
                Ok(results) => {
                    doubtful = false;
                    let mut throttled = false;
                    for (index, result) in waiting.into_iter().zip(results) {
                        let Some(item) = items.get_mut(index) else { continue };
                        throttled |=
                            result.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Throttled);
                        if let Some(fate) = self.settle(&item.row, result, is_last).await {
                            item.fate = fate;
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
                    let code = error.kind.code();
                    for item in items.iter_mut().filter(|item| matches!(item.fate, Fate::Delete)) {
                        item.fate = if doubtful { Fate::Unknown(code) } else { Fate::Failed(code) };
                    }
                    if is_final || doubtful {
                        return Err(error.into());
                    }
                }
            }
            if items.iter().any(|item| matches!(item.fate, Fate::Delete)) {
                pause(attempt).await;
            }
        }
        Ok(())
    }

    /// What one result of a batch means; `None` if it is to be tried again.
    async fn settle(&self, row: &Row, result: StoreResult<()>, is_last: bool) -> Option<Fate> {
        let Err(error) = result else { return Some(Fate::Deleted) };
        match error.kind {
            // It was there when it was planned, and the answer to an earlier attempt may have got lost.
            StoreErrorKind::NotFound => Some(Fate::Gone),
            StoreErrorKind::PreconditionFailed => {
                // Some stores say so of what is not there at all.
                let object = ObjectRef::new(&*row.bucket, &*row.key);
                match retrying(|| self.store.head(&object)).await {
                    Ok(_) => Some(Fate::Changed(None)),
                    Err(error) if error.kind == StoreErrorKind::NotFound => Some(Fate::Gone),
                    Err(error) if error.retry_class() == RetryClass::Retryable => {
                        Some(Fate::Unknown(error.kind.code()))
                    }
                    Err(_) => Some(Fate::Changed(None)),
                }
            }
            StoreErrorKind::Locked => Some(Fate::Held("locked")),
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

/// What a request says of a row, for as long as it is under way: with copies, each batch in flight would have its keys
/// twice.
fn lend(row: &mut Row, conditional: bool) -> DeleteItem {
    let version_id = row.version_id.take_if(|_| row.action == Action::DeleteVersion);
    let if_match = row.e_tag.take_if(|_| conditional && version_id.is_none());
    DeleteItem { key: take(&mut row.key), version_id, if_match }
}

/// The row has again what it lent.
fn give_back(row: &mut Row, DeleteItem { key, version_id, if_match }: DeleteItem) {
    row.key = key;
    row.version_id = version_id.or_else(|| row.version_id.take());
    row.e_tag = if_match.or_else(|| row.e_tag.take());
}

/// Whether what was asked for may have been done although the answer is this.
fn may_have_had_effect(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Timeout | StoreErrorKind::Unavailable | StoreErrorKind::Truncated)
}

fn failed(error: &StoreError) -> Fate {
    Fate::Failed(error.kind.code())
}
