//! Reads a plan back, in groups of what one request deletes, as far as it is known.

use std::mem::take;

use bytes::Bytes;
use jiff::Timestamp;
use shared::object_ref::ObjectRef;
use shared::outcome::{Reason, RetryClass};
use shared::store::{Capabilities, ObjectStore, Outgoing, StoreErrorKind};

use super::feed::{Fed, Feed};
use super::pace::MOST_AT_ONCE;
use super::{Halt, Place, Sizes};
use crate::policy::{Rule, Target};
use crate::ranges::Ranges;
use crate::report::{DECODED_BYTES, FETCHED_BYTES, PackedRows, ReportTarget, Row, RowDecoder};

/// The code of a plan that somebody has removed.
pub(super) const PLAN_MISSING: &str = "plan-missing";

/// The code of a plan that cannot be read from where it was kept. At the store it stands all the same.
const PLAN_UNREADABLE: &str = "plan-unreadable";

/// Into how many groups the rest of a plan is shared out, within these bounds, and an object of it that has more behind it:
/// a short one was handed on because somebody waits, and the store deletes side by side.
const SHARES: u64 = 8;

/// The most for rules each of whose deletes costs further requests, so that a group fits into the shortest
/// invocation, and little time passes between a last look at an object and its delete.
const COSTLY_BATCH: usize = 100;

/// How many groups of such a rule are carried out at once; each has many requests in flight, and a process about a thousand
/// connections at most.
const COSTLY_AT_ONCE: usize = 6;

fn is_costly(rule: &Rule, store: Capabilities) -> bool {
    let is_checked = rule.target() == Target::Objects && !store.conditional_delete;
    is_checked || rule.quarantine || rule.hold_tag.is_some() || rule.target() == Target::Uploads
}

/// How many rows of the rule are carried out together at most.
pub(super) fn batch_of(rule: &Rule, sizes: Sizes, store: Capabilities) -> usize {
    if is_costly(rule, store) { COSTLY_BATCH.min(sizes.batch) } else { sizes.batch }
}

/// How many groups of the rule are under way. Some of them are done and wait for those before them to be reported: large
/// ones, of which fewer are in flight, so that a slow one does not stop the others.
pub(super) fn groups_at_once(rule: &Rule, store: Capabilities) -> usize {
    if is_costly(rule, store) { COSTLY_AT_ONCE } else { MOST_AT_ONCE }
}

/// How many of `left` rows are carried out together: less than `most` where there would be less to do than can
/// be done at once, and towards the end, so that the last requests end together.
fn group_size(left: u64, (least, most): (usize, usize)) -> usize {
    let share = left.div_ceil(SHARES);
    usize::try_from(share).unwrap_or(usize::MAX).max(least).min(most)
}

/// The same where more follows than the `left` of the `rows` rows of an object of the plan: these are shared out evenly.
fn even_size(left: u64, rows: u64, (least, most): (usize, usize)) -> usize {
    let share = usize::try_from(rows.div_ceil(SHARES)).unwrap_or(usize::MAX).max(least).min(most);
    let groups = left.div_ceil(share.max(1) as u64).max(1);
    usize::try_from(left.div_ceil(groups)).unwrap_or(most).max(1)
}

/// A plan, from a place on.
pub(super) struct PlanReader<'s, S> {
    store: &'s S,
    target: ReportTarget,
    feed: &'s Feed,
    /// The next row.
    place: Place,
    /// How many rows come together at least, while there are so many, and at most.
    bounds: (usize, usize),
    /// Whether what was listed at that time is fresh.
    is_fresh: &'s dyn Fn(Timestamp) -> bool,
    open: Option<Open<'s, S>>,
}

struct Open<'s, S> {
    fed: Fed,
    fresh: bool,
    source: Source<'s, S>,
    /// What was fetched, and is not decoded yet.
    bytes: Bytes,
    decoder: RowDecoder,
    /// What was decoded of it, and is in no group yet.
    rows: std::vec::IntoIter<Row>,
    /// Rows that come before the place.
    to_skip: u64,
    ended: bool,
}

/// Where the bytes of an object come from.
enum Source<'s, S> {
    /// The store.
    Ranges(Box<Ranges<'s, S>>),
    /// What this invocation has written; the next byte.
    Kept(Outgoing, u64),
}

impl<S: ObjectStore> Source<'_, S> {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Halt> {
        let (kept, at) = match self {
            Self::Ranges(ranges) => return Ok(ranges.next().await?),
            Self::Kept(kept, at) => (kept, at),
        };
        let bytes = match kept {
            Outgoing::Memory(bytes) => take(bytes),
            Outgoing::File(file) => file.read(*at, DECODED_BYTES).map_err(|error| {
                let message =
                    format!("The plan of the sweep cannot be read from its temporary file: {error}.");
                Halt { reason: Reason::new(PLAN_UNREADABLE, message), retry: RetryClass::Retryable }
            })?,
        };
        *at += bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// A group of rows.
pub(super) struct Group {
    pub(super) rows: PackedRows,
    /// The first row after it.
    pub(super) end: Place,
    /// Whether they were listed just now.
    pub(super) fresh: bool,
}

impl<'s, S: ObjectStore> PlanReader<'s, S> {
    pub(super) fn new(
        store: &'s S,
        target: ReportTarget,
        feed: &'s Feed,
        place: Place,
        bounds: (usize, usize),
        is_fresh: &'s dyn Fn(Timestamp) -> bool,
    ) -> Self {
        Self { store, target, feed, place, bounds, is_fresh, open: None }
    }

    /// The next rows, which are waited for; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Group>, Halt> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let Some((fed, kept)) = self.feed.open(self.place.file).await else { return Ok(None) };
                    let fresh = fed.listed_since.is_some_and(self.is_fresh);
                    let object = ObjectRef::new(&*self.target.bucket, self.target.key(fed.file.number));
                    let opened = Open::new(self.store, &object, (fed, fresh), kept, self.place.row).await?;
                    self.open.insert(opened)
                }
            };
            let size = match self.feed.left(self.place) {
                Some(left) => group_size(left, self.bounds),
                None => {
                    let rows = open.fed.file.rows;
                    even_size(rows.saturating_sub(self.place.row), rows, self.bounds)
                }
            };
            let rows = open.read(size).await?;
            let fresh = open.fresh;
            if rows.is_empty() {
                self.open = None;
                self.place = Place { file: self.place.file + 1, row: 0 };
                continue;
            }
            self.place.row += rows.len() as u64;
            return Ok(Some(Group { rows, end: self.place, fresh }));
        }
    }
}

impl<'s, S: ObjectStore> Open<'s, S> {
    async fn new(
        store: &'s S,
        object: &ObjectRef,
        (fed, fresh): (Fed, bool),
        kept: Option<Outgoing>,
        to_skip: u64,
    ) -> Result<Self, Halt> {
        let source = match kept {
            Some(kept) => Source::Kept(kept, 0),
            None => {
                let opened = Ranges::open(store, object).await;
                let ranges = opened.map_err(|error| match error.kind {
                    StoreErrorKind::NotFound => {
                        Halt::permanent(PLAN_MISSING, format!("The plan of the sweep is gone: {error}."))
                    }
                    _ => error.into(),
                })?;
                Source::Ranges(Box::new(ranges.by(FETCHED_BYTES)))
            }
        };
        let (bytes, decoder, rows) = (Bytes::new(), RowDecoder::new(), Vec::new().into_iter());
        Ok(Self { fed, fresh, source, bytes, decoder, rows, to_skip, ended: false })
    }

    /// The next `size` rows, or as many as there are.
    async fn read(&mut self, size: usize) -> Result<PackedRows, Halt> {
        let mut group = PackedRows::with_capacity(size);
        loop {
            let wanted = size - group.len();
            self.rows.by_ref().take(wanted).for_each(|row| group.push(&row));
            if group.len() == size || self.ended {
                group.shrink_to_fit();
                return Ok(group);
            }
            if self.bytes.is_empty() {
                // Even empty it holds on to the memory of what it was.
                self.bytes = Bytes::new();
                let Some(bytes) = self.source.next().await? else {
                    self.decoder.finish()?;
                    self.ended = true;
                    continue;
                };
                self.bytes = bytes;
            }
            let some = self.bytes.split_to(self.bytes.len().min(DECODED_BYTES));
            self.rows = self.decoder.push(&some)?.into_iter();
            let skipped = self.to_skip.min(self.rows.len() as u64);
            self.to_skip -= skipped;
            let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
            self.rows.by_ref().take(skipped).for_each(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the groups into which a plan falls.
    fn sizes(mut left: u64, bounds: (usize, usize)) -> Vec<usize> {
        let mut sizes = Vec::new();
        while left > 0 {
            let size = group_size(left, bounds).min(usize::try_from(left).unwrap());
            sizes.push(size);
            left -= size as u64;
        }
        sizes
    }

    #[test]
    fn a_large_plan_is_carried_out_in_large_groups_and_only_its_end_in_smaller_ones() {
        let sizes = sizes(100_000, (125, 1000));
        assert!(sizes[..90].iter().all(|size| *size == 1000), "{sizes:?}");
        assert!(sizes.len() < 120, "{}", sizes.len());
        assert_eq!(*sizes.iter().rev().nth(1).unwrap(), 125);
    }

    #[test]
    fn a_small_plan_is_shared_out() {
        assert_eq!(sizes(1000, (125, 1000)), [125; 8]);
        assert_eq!(sizes(100, (125, 1000)), [100]);
        assert_eq!(sizes(250, (125, COSTLY_BATCH)), [100, 100, 50]);
        assert!(sizes(10_000, (125, 1000)).len() < 30);
    }

    #[test]
    fn an_object_with_more_behind_it_is_shared_out_evenly() {
        let sizes =
            [(1000, 125), (1001, 126), (2000, 250), (8000, 1000), (8001, 889), (130, 65), (1, 1), (0, 1)];
        for (rows, size) in sizes {
            assert_eq!(even_size(rows, rows, (125, 1000)), size, "{rows}");
        }
        assert_eq!(even_size(600, 8000, (125, 1000)), 600);
        assert_eq!(even_size(250, 250, (125, COSTLY_BATCH)), 84);
    }
}
