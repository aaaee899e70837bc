//! Reads a plan back, in groups of what one request deletes.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::BoxStream;
use shared::object_ref::ObjectRef;
use shared::store::{GetOptions, ObjectStore, StoreError, StoreErrorKind, StoreResult};

use super::{Halt, Place, PlanFile};
use crate::report::{ReportTarget, Row, RowDecoder};
use crate::retry::{MAX_ATTEMPTS, pause, retrying};

/// The code of a plan that somebody has removed.
pub(super) const PLAN_MISSING: &str = "plan-missing";

/// What one request deletes.
pub(super) const BATCH: usize = 1000;

/// A plan, from a place on.
pub(super) struct PlanReader<'s, S> {
    store: &'s S,
    target: ReportTarget,
    files: Vec<PlanFile>,
    /// The next row.
    place: Place,
    open: Option<Open>,
}

struct Open {
    body: BoxStream<'static, StoreResult<bytes::Bytes>>,
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
    pub(super) fn new(store: &'s S, target: ReportTarget, files: Vec<PlanFile>, place: Place) -> Self {
        Self { store, target, files, place, open: None }
    }

    /// The next rows; `None` at the end. Only rows of one bucket and one sweep come together.
    pub(super) async fn next(&mut self) -> Result<Option<Group>, Halt> {
        let mut attempt = 1;
        loop {
            match self.read().await {
                Ok(group) => return Ok(group),
                // A body that broke off is opened again, at the place that was reached.
                Err(Broken::Store(error)) if is_broken_off(&error) && attempt < MAX_ATTEMPTS => {
                    self.open = None;
                    pause(attempt).await;
                    attempt += 1;
                }
                Err(Broken::Store(error)) if error.kind == StoreErrorKind::NotFound => {
                    return Err(Halt::permanent(
                        PLAN_MISSING,
                        format!("The plan of the sweep is gone: {error}."),
                    ));
                }
                Err(Broken::Store(error)) => return Err(error.into()),
                Err(Broken::Halt(halt)) => return Err(halt),
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Group>, Broken> {
        loop {
            let Some(PlanFile { number, .. }) = self.files.get(self.place.file).copied() else {
                return Ok(None);
            };
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let object = ObjectRef::new(&*self.target.bucket, self.target.key(number));
                    let found = retrying(|| self.store.get(&object, GetOptions::default())).await?;
                    self.open.insert(Open {
                        body: found.body,
                        decoder: RowDecoder::new(),
                        rows: VecDeque::new(),
                        to_skip: self.place.row,
                        ended: false,
                    })
                }
            };
            while open.rows.len() < BATCH && !open.ended {
                match open.body.next().await {
                    None => {
                        open.decoder.finish().map_err(|error| Broken::Halt(error.into()))?;
                        open.ended = true;
                    }
                    Some(bytes) => {
                        let rows = open.decoder.push(&bytes?).map_err(|error| Broken::Halt(error.into()))?;
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
            let rows: Vec<_> = open.rows.drain(..open.rows.len().min(BATCH)).collect();
            self.place.row += rows.len() as u64;
            return Ok(Some(Group { rows, end: self.place }));
        }
    }
}

enum Broken {
    Store(StoreError),
    Halt(Halt),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn is_broken_off(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Truncated | StoreErrorKind::Timeout | StoreErrorKind::Unavailable)
}
