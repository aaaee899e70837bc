//! Reads a plan back, in groups of what one request deletes.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::object_ref::ObjectRef;
use shared::store::{ObjectStore, StoreErrorKind};

use super::pace::MOST_AT_ONCE;
use super::{Halt, Place, PlanFile, Sizes};
use crate::policy::{Rule, Target};
use crate::ranges::Ranges;
use crate::report::{ReportTarget, Row, RowDecoder};

/// The code of a plan that somebody has removed.
pub(super) const PLAN_MISSING: &str = "plan-missing";

/// Into how many groups the rest of a plan is shared out, within these bounds.
const SHARES: u64 = 8;

/// The most for rules each of whose deletes costs further requests, so that a group fits into the shortest
/// invocation.
const COSTLY_BATCH: usize = 100;

/// How many groups of such a rule are carried out at once.
const COSTLY_AT_ONCE: usize = 6;

/// Groups that wait for those before them to be reported, so that a slow one does not stop the others.
const WAITING: usize = 2;

/// What of a plan is fetched at once.
const FETCHED_BYTES: u64 = 1 << 20;

/// What of that becomes rows at once, which need a few times as much memory.
const DECODED_BYTES: usize = 64 << 10;

fn is_costly(rule: &Rule) -> bool {
    rule.quarantine || rule.hold_tag.is_some() || rule.target() == Target::Uploads
}

/// How many rows of the rule are carried out together at most.
pub(super) fn batch_of(rule: &Rule, sizes: Sizes) -> usize {
    if is_costly(rule) { COSTLY_BATCH.min(sizes.batch) } else { sizes.batch }
}

/// How many groups of the rule are under way.
pub(super) fn groups_at_once(rule: &Rule) -> usize {
    if is_costly(rule) { COSTLY_AT_ONCE } else { MOST_AT_ONCE + WAITING }
}

/// How many of `left` rows are carried out together: less than `most` where there would be less to do than can
/// be done at once, and towards the end, so that the last requests end together.
fn group_size(left: u64, (least, most): (usize, usize)) -> usize {
    let share = left.div_ceil(SHARES);
    usize::try_from(share).unwrap_or(usize::MAX).max(least).min(most)
}

/// A small object of a plan, which is not read again by whoever has just written it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Its number.
    pub(super) number: u32,
    /// What is in it.
    pub(super) content: Bytes,
}

/// A plan, from a place on.
pub(super) struct PlanReader<'s, S> {
    store: &'s S,
    target: ReportTarget,
    files: Vec<PlanFile>,
    /// The next row.
    place: Place,
    /// How many rows follow.
    left: u64,
    /// How many rows come together at least, while there are so many, and at most.
    bounds: (usize, usize),
    kept: Option<Kept>,
    open: Option<Open<'s, S>>,
}

struct Open<'s, S> {
    /// Where more bytes come from; `None` if all of them are there.
    ranges: Option<Ranges<'s, S>>,
    /// What was fetched, and is not decoded yet.
    bytes: Bytes,
    decoder: RowDecoder,
    rows: VecDeque<Row>,
    /// Rows that come before the place.
    to_skip: u64,
    ended: bool,
}

/// A group of rows.
pub(super) struct Group {
    pub(super) rows: Vec<Row>,
    /// The first row after it.
    pub(super) end: Place,
}

impl<'s, S: ObjectStore> PlanReader<'s, S> {
    pub(super) fn new(
        store: &'s S,
        target: ReportTarget,
        files: Vec<PlanFile>,
        place: Place,
        bounds: (usize, usize),
        kept: Option<Kept>,
    ) -> Self {
        let ahead: u64 = files.iter().skip(place.file).map(|file| file.rows).sum();
        let left = ahead.saturating_sub(place.row);
        Self { store, target, files, place, left, bounds, kept, open: None }
    }

    /// The next rows; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Group>, Halt> {
        loop {
            let Some(PlanFile { number, .. }) = self.files.get(self.place.file).copied() else {
                return Ok(None);
            };
            let size = group_size(self.left, self.bounds);
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let kept = self.kept.take_if(|kept| kept.number == number).map(|kept| kept.content);
                    let object = ObjectRef::new(&*self.target.bucket, self.target.key(number));
                    let opened = Open::new(self.store, &object, kept, self.place.row).await?;
                    self.open.insert(opened)
                }
            };
            open.read(size).await?;
            if open.rows.is_empty() {
                self.open = None;
                self.place = Place { file: self.place.file + 1, row: 0 };
                continue;
            }
            let rows: Vec<_> = open.rows.drain(..open.rows.len().min(size)).collect();
            self.place.row += rows.len() as u64;
            self.left = self.left.saturating_sub(rows.len() as u64);
            return Ok(Some(Group { rows, end: self.place }));
        }
    }
}

impl<'s, S: ObjectStore> Open<'s, S> {
    async fn new(store: &'s S, object: &ObjectRef, kept: Option<Bytes>, to_skip: u64) -> Result<Self, Halt> {
        let (ranges, bytes) = match kept {
            Some(bytes) => (None, bytes),
            None => {
                let opened = Ranges::open(store, object).await;
                let ranges = opened.map_err(|error| match error.kind {
                    StoreErrorKind::NotFound => {
                        Halt::permanent(PLAN_MISSING, format!("The plan of the sweep is gone: {error}."))
                    }
                    _ => error.into(),
                })?;
                (Some(ranges.by(FETCHED_BYTES)), Bytes::new())
            }
        };
        Ok(Self { ranges, bytes, decoder: RowDecoder::new(), rows: VecDeque::new(), to_skip, ended: false })
    }

    /// Reads until there are `size` rows, or no more.
    async fn read(&mut self, size: usize) -> Result<(), Halt> {
        while self.rows.len() < size && !self.ended {
            if self.bytes.is_empty() {
                // Even empty it holds on to the memory of what it was.
                self.bytes = Bytes::new();
                let fetched = match &mut self.ranges {
                    Some(ranges) => ranges.next().await?,
                    None => None,
                };
                let Some(bytes) = fetched else {
                    self.decoder.finish()?;
                    self.ended = true;
                    continue;
                };
                self.bytes = bytes;
            }
            let some = self.bytes.split_to(self.bytes.len().min(DECODED_BYTES));
            let rows = self.decoder.push(&some)?;
            let skipped = self.to_skip.min(rows.len() as u64);
            self.to_skip -= skipped;
            self.rows.extend(rows.into_iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)));
        }
        Ok(())
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
}
