//! Reads a plan back, in groups of what one request deletes.

use std::collections::VecDeque;

use shared::object_ref::ObjectRef;
use shared::store::{ObjectStore, StoreErrorKind};

use super::{Halt, Place, PlanFile};
use crate::policy::{Rule, Target};
use crate::ranges::Ranges;
use crate::report::{ReportTarget, Row, RowDecoder};

/// The code of a plan that somebody has removed.
pub(super) const PLAN_MISSING: &str = "plan-missing";

/// What one request deletes.
pub(super) const BATCH: usize = 1000;

/// The same for rules each of whose deletes costs further requests, so that a group fits into the shortest
/// invocation.
const COSTLY_BATCH: usize = 100;

/// How many rows of the rule are carried out together.
pub(super) fn batch_of(rule: &Rule) -> usize {
    let is_costly = rule.quarantine || rule.hold_tag.is_some() || rule.target() == Target::Uploads;
    if is_costly { COSTLY_BATCH } else { BATCH }
}

/// A plan, from a place on.
pub(super) struct PlanReader<'s, S> {
    store: &'s S,
    target: ReportTarget,
    files: Vec<PlanFile>,
    /// The next row.
    place: Place,
    /// How many rows come together.
    batch: usize,
    open: Option<Open<'s, S>>,
}

struct Open<'s, S> {
    bytes: Ranges<'s, S>,
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
        batch: usize,
    ) -> Self {
        Self { store, target, files, place, batch, open: None }
    }

    /// The next rows; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Group>, Halt> {
        loop {
            let Some(PlanFile { number, .. }) = self.files.get(self.place.file).copied() else {
                return Ok(None);
            };
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let object = ObjectRef::new(&*self.target.bucket, self.target.key(number));
                    let bytes =
                        Ranges::open(self.store, &object).await.map_err(|error| match error.kind {
                            StoreErrorKind::NotFound => Halt::permanent(
                                PLAN_MISSING,
                                format!("The plan of the sweep is gone: {error}."),
                            ),
                            _ => error.into(),
                        })?;
                    self.open.insert(Open {
                        bytes,
                        decoder: RowDecoder::new(),
                        rows: VecDeque::new(),
                        to_skip: self.place.row,
                        ended: false,
                    })
                }
            };
            while open.rows.len() < self.batch && !open.ended {
                match open.bytes.next().await? {
                    None => {
                        open.decoder.finish()?;
                        open.ended = true;
                    }
                    Some(bytes) => {
                        let rows = open.decoder.push(&bytes)?;
                        let skipped = open.to_skip.min(rows.len() as u64);
                        open.to_skip -= skipped;
                        open.rows
                            .extend(rows.into_iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)));
                    }
                }
            }
            if open.rows.is_empty() {
                self.open = None;
                self.place = Place { file: self.place.file + 1, row: 0 };
                continue;
            }
            let rows: Vec<_> = open.rows.drain(..open.rows.len().min(self.batch)).collect();
            self.place.row += rows.len() as u64;
            return Ok(Some(Group { rows, end: self.place }));
        }
    }
}
