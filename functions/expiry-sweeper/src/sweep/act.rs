//! Deletes what a plan says, and writes the report.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::RetryClass;
use shared::store::{ObjectStore, StoreErrorKind};

use super::batch::{Done, Fate, Item};
use super::meanwhile::meanwhile;
use super::plan::HOLD_TAG;
use super::plan_reader::{Group, Kept, PlanReader, batch_of, groups_at_once};
use super::verify::{Standing, Verifier};
use super::{Acting, Cursor, Halt, Phase, Place, Sweep, Tally};
use crate::policy::Target;
use crate::ranges::Ranges;
use crate::report::{ReportWriter, Row, RowDecoder, RowResult, UploadState};

/// How the deleting of an invocation ended.
pub(crate) enum Ended {
    /// The plan was carried out to its end.
    Complete,
    /// Time is over.
    Over,
    /// It makes no sense to go on.
    Halted(Halt),
}

/// What is done with what an older plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Deletes it.
    Delete,
    /// Only finds out what became of it; what stands is kept.
    Settle,
}

/// The error of a row that was kept because its rule is another by now.
const RULE_CHANGED: &str = "rule-changed";

/// Groups that are done and wait while a part of the report is on its way.
const DONE_AT_ONCE: usize = 2;

/// A row on its way, or why there is none.
type Taken = Result<(Vec<Item>, Place), Halt>;

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Goes on with the plan from the cursor's place, reporting to `report`. `kept` is what the caller still has
    /// of the plan. `save` is called with the cursor and what is safe of the report, whenever that has grown;
    /// `deleted` with each row that is gone. Also answers whether it is known what became of everything that was
    /// asked for; if not, the cursor stands before it.
    ///
    /// # Errors
    /// The report cannot be written. What was deleted since the cursor was saved is then found out by whoever
    /// goes on.
    pub(super) async fn act(
        &self,
        cursor: &mut Cursor,
        (intent, look_again): (Intent, bool),
        kept: Option<Kept>,
        report: &mut ReportWriter<'_, S>,
        mut save: impl AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
        mut deleted: impl FnMut(&Row),
    ) -> Result<(Ended, bool), Halt> {
        let Phase::Acting(Acting { place, .. }) = cursor.phase.clone() else {
            return Ok((Ended::Complete, true));
        };
        let verifier = (look_again && self.rule.target() == Target::Objects)
            .then(|| Verifier::new(self.store, &self.rule.bucket, &self.rule.prefix));
        let (target, files, most) =
            (self.plan_target(), cursor.plan.clone(), batch_of(self.rule, self.sizes));
        let reader = PlanReader::new(self.store, target, files, place, (self.sizes.least_batch, most), kept);
        let (exhausted, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        let groups = stream::unfold(Some((reader, verifier)), |state| async {
            let (mut reader, mut verifier) = state?;
            if self.is_over() || stopping.load(Ordering::Relaxed) {
                return None;
            }
            match take(&mut reader, verifier.as_mut(), intent).await {
                Ok(Some(group)) => Some((Ok(group), Some((reader, verifier)))),
                Ok(None) => {
                    exhausted.store(true, Ordering::Relaxed);
                    None
                }
                Err(halt) => Some((Err(halt), None)),
            }
        });
        let carried_out = groups.map(|taken: Taken| async {
            let (items, end) = taken?;
            Ok::<_, Halt>((self.carry_out(items, look_again).await, end))
        });
        let most = groups_at_once(self.rule);
        let mut carried_out = pin!(carried_out.buffered(most));
        let (mut ready, mut halted, mut all_settled) = (VecDeque::new(), None, true);
        loop {
            let next = match ready.pop_front() {
                Some(done) => Some(done),
                None => carried_out.next().await,
            };
            let Some(done) = next else { break };
            let (Done { rows, tally, settled, halt }, end) = match done {
                Ok(done) => done,
                Err(halt) => {
                    halted.get_or_insert(halt);
                    continue;
                }
            };
            // What is in flight is waited for, so that its rows are reported.
            if let Some(halt) = halt {
                stopping.store(true, Ordering::Relaxed);
                halted.get_or_insert(halt);
            }
            // Rows are reported in the order of the plan, so that what follows waits with what is not settled.
            all_settled &= settled;
            if !all_settled {
                continue;
            }
            let safe_before = report.state().map_or(0, |state| state.rows);
            // While a part of the report is on its way, the deleting goes on.
            meanwhile(report.append(&rows), &mut carried_out, &mut ready, DONE_AT_ONCE).await?;
            rows.iter().filter(|row| row.result == RowResult::Deleted).for_each(&mut deleted);
            cursor.tally.add(&tally);
            if let Phase::Acting(acting) = &mut cursor.phase {
                acting.place = end;
                acting.clean = false;
            }
            if let Some(state) = report.state().filter(|state| state.rows > safe_before) {
                save(cursor, Some(state)).await?;
            }
            self.progress.deleted(self.rule, &cursor.tally);
        }
        let ended = match halted {
            // Time was over, and there was no other attempt for that reason.
            Some(halt) if halt.retry == RetryClass::Retryable && self.is_over() => Ended::Over,
            Some(halt) => Ended::Halted(halt),
            None if exhausted.load(Ordering::Relaxed) => Ended::Complete,
            None => Ended::Over,
        };
        Ok((ended, all_settled))
    }

    /// Takes over the report of an invocation that died, as far as it is safe at the store: moves the cursor
    /// behind its rows, and answers its number. `None` where there is none. `number` is where that invocation
    /// began to look for a free name, `writer` is by what its reports are known.
    pub(crate) async fn take_over(
        &self,
        cursor: &mut Cursor,
        number: u32,
        (writer, upload): (Option<&str>, Option<&UploadState>),
        mut deleted: impl FnMut(&Row),
    ) -> Result<Option<u32>, Halt> {
        let Phase::Acting(acting) = cursor.phase.clone() else { return Ok(None) };
        let (number, object) = match (upload, writer) {
            (Some(state), _) => {
                if !ReportWriter::salvage(self.store, self.audit_bucket, state).await? {
                    // Its parts are gone, so that the rows are written once more from where it began.
                    cursor.phase =
                        Phase::Acting(Acting { place: acting.begun, clean: false, ..acting.clone() });
                    cursor.tally = acting.before;
                    return Ok(None);
                }
                let mut numbers = number..;
                let number = numbers.find(|number| self.report().key(*number) == state.key);
                (number.unwrap_or_default(), ObjectRef::new(self.audit_bucket, &*state.key))
            }
            (None, Some(writer)) => {
                match ReportWriter::find(self.store, &self.report(), number, writer).await? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            }
            (None, None) => (number, ObjectRef::new(self.audit_bucket, self.report().key(number))),
        };
        let mut tally = acting.before.clone();
        let mut rows = 0;
        let mut bytes = match Ranges::open(self.store, &object).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut decoder = RowDecoder::new();
        while let Some(bytes) = bytes.next().await? {
            for row in decoder.push(&bytes)? {
                rows += 1;
                // What the plan held has been counted there.
                if row.error.as_deref() != Some(HOLD_TAG) {
                    tally.add(&Tally::of_result(&row));
                }
                if row.result == RowResult::Deleted {
                    deleted(&row);
                }
            }
        }
        decoder.finish()?;
        let place = cursor.after(acting.begun, rows);
        cursor.phase = Phase::Acting(Acting { begun: place, before: tally.clone(), place, clean: false });
        cursor.tally = tally;
        cursor.reports.push(object.to_string());
        Ok(Some(number))
    }
}

/// The next rows of a plan, each with what is to become of it.
async fn take<S: ObjectStore>(
    reader: &mut PlanReader<'_, S>,
    verifier: Option<&mut Verifier<'_, S>>,
    intent: Intent,
) -> Result<Option<(Vec<Item>, Place)>, Halt> {
    let Some(Group { rows, end }) = reader.next().await? else { return Ok(None) };
    Ok(Some((fates(rows, verifier, intent).await?, end)))
}

/// What is to become of rows, by what stands under their keys now.
pub(super) async fn fates<S: ObjectStore>(
    rows: Vec<Row>,
    mut verifier: Option<&mut Verifier<'_, S>>,
    intent: Intent,
) -> Result<Vec<Item>, Halt> {
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let standing = match &mut verifier {
            Some(verifier) => verifier.standing(&row).await?,
            None => Standing::Same,
        };
        let fate = match (standing, intent) {
            _ if row.result == RowResult::Held => Fate::Held(HOLD_TAG),
            (Standing::Gone, _) => Fate::Gone,
            (Standing::Changed, _) => Fate::Changed(None),
            (Standing::Same, Intent::Delete) => Fate::Delete,
            (Standing::Same, Intent::Settle) => Fate::Changed(Some(RULE_CHANGED)),
        };
        items.push(Item { row, fate });
    }
    Ok(items)
}
