//! Reads a plan back, in groups of what one request deletes, as far as it is known.

use std::mem::take;

use bytes::Bytes;
use jiff::Timestamp;
use shared::object_ref::ObjectRef;
use shared::outcome::{Reason, RetryClass};
use shared::store::{Capabilities, ObjectStore, Outgoing, StoreErrorKind};

use super::feed::Feed;
use super::pace::MOST_AT_ONCE;
use super::{Halt, Place, Sizes};
use crate::policy::{Rule, Target};
use crate::ranges::Ranges;
use crate::report::{DECODED_BYTES, FETCHED_BYTES, PackedRows, ReportTarget, Row, RowDecoder};

/// The code of a plan that somebody has removed.
pub(super) const PLAN_MISSING: &str = "plan-missing";

/// The code of a plan that cannot be read from where it was kept. At the store it stands all the same.
const PLAN_UNREADABLE: &str = "plan-unreadable";

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

/// How many rows are carried out together, of at most `most`, while `in_flight` other groups are: as many as can be. Only
/// the end of a plan that would be alone in flight goes in two halves, side by side, since a store works through a group
/// key by key. `left` is how many rows there are, if that is known.
fn group_size(left: Option<u64>, in_flight: usize, most: usize) -> usize {
    match left.map(usize::try_from) {
        Some(Ok(left)) if in_flight == 0 && left > most / 2 => left.div_ceil(2).min(most),
        _ => most,
    }
}

/// A plan, from a place on.
pub(super) struct PlanReader<'s, S> {
    store: &'s S,
    target: ReportTarget,
    feed: &'s Feed,
    /// The next row.
    place: Place,
    /// How many rows come together at most.
    most: usize,
    /// Whether what was listed at that time is fresh.
    is_fresh: &'s dyn Fn(Timestamp) -> bool,
    open: Option<Open<'s, S>>,
}

struct Open<'s, S> {
    /// Since when its rows have been listed; `None` if by an earlier invocation.
    listed_since: Option<Timestamp>,
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
        most: usize,
        is_fresh: &'s dyn Fn(Timestamp) -> bool,
    ) -> Self {
        Self { store, target, feed, place, most, is_fresh, open: None }
    }

    /// The next rows, which are waited for, while `in_flight` groups of the rows before are not done; `None` at the end.
    pub(super) async fn next(&mut self, in_flight: impl Fn() -> usize) -> Result<Option<Group>, Halt> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let Some((fed, kept)) = self.feed.open(self.place.file).await else { return Ok(None) };
                    let object = ObjectRef::new(&*self.target.bucket, self.target.key(fed.file.number));
                    let opened =
                        Open::new(self.store, &object, fed.listed_since, kept, self.place.row).await?;
                    self.open.insert(opened)
                }
            };
            let size = group_size(self.feed.left(self.place), in_flight(), self.most);
            let rows = open.read(size).await?;
            // A large object of a plan may take long to be carried out.
            let fresh = open.listed_since.is_some_and(self.is_fresh);
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
        listed_since: Option<Timestamp>,
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
        Ok(Self { listed_since, source, bytes, decoder, rows, to_skip, ended: false })
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
    use proptest::prelude::*;

    use super::*;

    /// The sizes of the groups into which rows fall, none of which is done before the last has begun.
    fn sizes(mut left: u64, mut in_flight: usize, most: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        while left > 0 {
            let size = group_size(Some(left), in_flight, most).min(usize::try_from(left).unwrap());
            sizes.push(size);
            left -= size as u64;
            in_flight += 1;
        }
        sizes
    }

    #[test]
    fn rows_go_by_the_thousand() {
        assert_eq!(sizes(100_000, 0, 1000), [1000; 100]);
        assert_eq!(sizes(2500, 0, 1000), [1000, 1000, 500]);
        assert_eq!(sizes(250, 0, COSTLY_BATCH), [100, 100, 50]);
        assert_eq!(group_size(Some(u64::MAX), 0, 1000), 1000);
        // More may be coming.
        assert_eq!(group_size(None, 0, 1000), 1000);
        assert!(sizes(0, 0, 1000).is_empty());
    }

    #[test]
    fn only_an_end_that_would_be_alone_goes_in_two_halves() {
        assert_eq!(sizes(1000, 0, 1000), [500; 2]);
        assert_eq!(sizes(1501, 0, 1000), [751, 750]);
        assert_eq!(sizes(1000, 1, 1000), [1000]);
        assert_eq!(sizes(500, 0, 1000), [500]);
    }

    proptest! {
        #[test]
        fn of_any_rows_all_are_in_groups_of_at_most_a_thousand_and_never_more_groups_than_that_takes_but_one(
            left in 0..100_000_u64, in_flight in 0..3_usize,
        ) {
            let sizes = sizes(left, in_flight, 1000);
            prop_assert_eq!(sizes.iter().sum::<usize>() as u64, left);
            prop_assert!(sizes.iter().all(|size| (1..=1000).contains(size)));
            let halves = if in_flight == 0 { 2 } else { 1 };
            prop_assert!(sizes.len() as u64 <= left.div_ceil(1000).max(halves));
        }
    }
}
