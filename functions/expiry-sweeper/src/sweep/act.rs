//! Deletes what a plan says, and writes the report.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::RetryClass;
use shared::store::{ObjectStore, StoreErrorKind};

use super::batch::{Fate, Hold, Items};
use super::feed::Feed;
use super::ledger::Ledger;
use super::meanwhile::meanwhile;
use super::pace::InFlight;
use super::plan::HOLD_TAG;
use super::plan_reader::{Group, PlanReader, batch_of, groups_at_once};
use super::verify::{Again, Standing};
use super::{Acting, Cursor, Halt, Moment, PLAN_IS_FRESH, Phase, Place, Sweep, Tally};
use crate::policy::Target;
use crate::report::{Left, PackedRows, ReportWriter, Row, RowResult, StoredReport, UploadState};

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

/// Groups that are done and wait while a part of the report is on its way.
const DONE_AT_ONCE: usize = 2;

/// How far an invocation has come with a plan.
pub(super) struct Acted {
    pub(super) ended: Ended,
    /// The first row that is not in its report.
    pub(super) place: Place,
    /// The results of all rows before that, of earlier invocations too.
    pub(super) results: Tally,
    /// Whether it is known what became of everything that was asked for; if not, `place` stands before it.
    pub(super) settled: bool,
}

/// What an invocation that died has left.
pub(super) struct TakenOver {
    /// The number of its report.
    pub(super) report: Option<u32>,
    /// The number of the report that comes next.
    pub(super) next_report: u32,
}

/// Rows, each with what is to become of it.
struct Taken {
    items: Items,
    /// The first row after them.
    end: Place,
    /// Whether they were listed just now.
    fresh: bool,
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Goes on with the plan from `place` on, reporting to `report`. What is safe of that is written to `ledger`;
    /// `deleted` is called with each row that is gone.
    ///
    /// # Errors
    /// The report cannot be written. What was deleted since the cursor was saved is then found out by whoever
    /// goes on.
    pub(super) async fn act<F>(
        &self,
        feed: &Feed,
        (before, mut place): (Tally, Place),
        intent: Intent,
        report: &mut ReportWriter<'_, S>,
        ledger: &Ledger<'_, F>,
        mut deleted: impl FnMut(&Row),
    ) -> Result<Acted, Halt>
    where
        F: AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
    {
        // An upload that is given up twice is given up once; of the others something may have become that is not meant.
        let verifier = (self.rule.target() != Target::Uploads || intent == Intent::Settle)
            .then(|| Again::at(self.store, self.rule));
        let capabilities = self.store.capabilities();
        let (target, most) = (self.plan_target(), batch_of(self.rule, self.sizes, capabilities));
        let is_fresh = |listed_since: Timestamp| {
            let age = self.clock.now().duration_since(listed_since);
            intent == Intent::Delete && age.as_secs() <= PLAN_IS_FRESH.as_secs().cast_signed()
        };
        let reader = PlanReader::new(self.store, target, feed, place, most, &is_fresh);
        let (exhausted, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        let groups = stream::unfold(Some((reader, verifier)), |state| async {
            let (mut reader, mut verifier) = state?;
            // What is not begun yet needs no memory.
            let mut place = self.pace.place(most).await;
            // What would end too late beside others may be in time when some of them have ended.
            self.pace.until(|| self.is_time_for_a_batch()).await;
            if self.is_over_for_a_batch() || stopping.load(Ordering::Relaxed) {
                return None;
            }
            let taken =
                take(&mut reader, || self.pace.in_flight(), verifier.as_mut(), intent, || self.is_over());
            match taken.await {
                Ok(Some(taken)) => {
                    place.holds(taken.items.len());
                    // The next is asked for before this one is carried out.
                    place.begin();
                    Some((Ok((taken, place)), Some((reader, verifier))))
                }
                Ok(None) => {
                    exhausted.store(true, Ordering::Relaxed);
                    None
                }
                Err(halt) => Some((Err(halt), None)),
            }
        });
        let carried_out = groups.map(|taken: Result<(Taken, InFlight<'_>), Halt>| async {
            let (Taken { items, end, fresh }, place) = taken?;
            Ok::<_, Halt>((self.carry_out(items, !fresh, place).await, end))
        });
        let most = groups_at_once(self.rule, capabilities);
        let mut carried_out = pin!(carried_out.buffered(most));
        let (mut ready, mut halted, mut all_settled) = (VecDeque::new(), None, true);
        let mut cut_short = false;
        let mut results = before;
        loop {
            let next = match ready.pop_front() {
                Some(done) => Some(done),
                None => match self.ending.before(Moment::Flight, carried_out.next()).await {
                    Some(next) => next,
                    // What of that took place is found out by whoever goes on.
                    None => {
                        (all_settled, cut_short) = (false, true);
                        None
                    }
                },
            };
            let Some(done) = next else { break };
            let (mut done, end) = match done {
                Ok(done) => done,
                Err(halt) => {
                    feed.stop();
                    halted.get_or_insert(halt);
                    continue;
                }
            };
            // What is in flight is waited for, so that its rows are reported.
            if let Some(halt) = done.halt.take() {
                stopping.store(true, Ordering::Relaxed);
                feed.stop();
                halted.get_or_insert(halt);
            }
            // Rows are reported in the order of the plan, so that what follows waits with what is not settled.
            all_settled &= done.settled;
            let mut tally = Tally::default();
            let rows = done.rows().map(|(row, added)| {
                tally.add(&added);
                if row.result == RowResult::Deleted {
                    deleted(&row);
                }
                row
            });
            if !all_settled {
                rows.for_each(drop);
                continue;
            }
            let safe_before = report.state().map_or(0, |state| state.rows);
            // While a part of the report is on its way, the deleting goes on.
            meanwhile(report.append(rows), &mut carried_out, &mut ready, DONE_AT_ONCE).await?;
            results.add(&tally);
            if done.cut_short {
                // What follows may have been begun all the same.
                (all_settled, cut_short) = (false, true);
                stopping.store(true, Ordering::Relaxed);
                place = ledger.after(place, done.len());
            } else {
                place = end;
            }
            if let Some(state) = report.state().filter(|state| state.rows > safe_before) {
                ledger.change(|cursor, upload| {
                    cursor.tally = cursor.tally.with_results_of(&results);
                    if let Phase::Acting(acting) = &mut cursor.phase {
                        (acting.place, acting.clean) = (place, false);
                    }
                    *upload = Some(state);
                });
                ledger.save().await?;
            }
            ledger.keep().await?;
            ledger.deleted(&tally);
        }
        let ended = match halted {
            // Time was over, and there was no other attempt for that reason.
            Some(halt) if halt.retry == RetryClass::Retryable && self.is_over() => Ended::Over,
            Some(halt) => Ended::Halted(halt),
            None if cut_short => Ended::Over,
            None if exhausted.load(Ordering::Relaxed) => Ended::Complete,
            None => Ended::Over,
        };
        Ok(Acted { ended, place, results, settled: all_settled })
    }

    /// Takes over the report of an invocation that died, as far as it is safe at the store: moves the cursor
    /// behind its rows. `number` is where that invocation began to look for a free name, `writer` is by what its reports
    /// are known, and `token` by what ours are.
    pub(super) async fn take_over(
        &self,
        cursor: &mut Cursor,
        number: u32,
        (writer, upload): (Option<&str>, Option<&UploadState>),
        token: &str,
        mut deleted: impl FnMut(&Row),
    ) -> Result<TakenOver, Halt> {
        let nothing = TakenOver { report: None, next_report: number };
        let Phase::Acting(acting) = cursor.phase.clone() else { return Ok(nothing) };
        let (number, object) = match (upload, writer) {
            (Some(state), _) => {
                if !ReportWriter::salvage(self.store, self.audit_bucket, state).await? {
                    // Its parts are gone, so that the rows are written once more from where it began.
                    cursor.tally = cursor.tally.with_results_of(&acting.before);
                    cursor.phase = Phase::Acting(Acting { place: acting.begun, clean: false, ..acting });
                    return Ok(nothing);
                }
                let mut numbers = number..;
                let number = numbers.find(|number| self.report().key(*number) == state.key);
                (number.unwrap_or_default(), ObjectRef::new(self.audit_bucket, &*state.key))
            }
            (None, Some(writer)) => {
                match ReportWriter::find_or_close(self.store, &self.report(), number, (writer, token)).await?
                {
                    Left::Report(number, object) => (number, object),
                    Left::Closed(number) => return Ok(TakenOver { report: None, next_report: number + 1 }),
                }
            }
            // Whoever it was has reported what it knew.
            (None, None) => return Ok(nothing),
        };
        let mut tally = cursor.tally.with_results_of(&acting.before);
        let mut rows = 0;
        let mut reported = match StoredReport::open(self.store, &object).await {
            Ok(report) => pin!(report.rows()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(error.into()),
        };
        while let Some(row) = reported.next().await {
            let row = row?;
            rows += 1;
            // What the plan held has been counted there.
            if row.error.as_deref() != Some(HOLD_TAG) {
                tally.add(&Tally::of_result(&row));
            }
            if row.result == RowResult::Deleted {
                deleted(&row);
            }
        }
        let place = cursor.after(acting.begun, rows);
        let before = tally.clone();
        cursor.phase = Phase::Acting(Acting { begun: place, before, place, clean: false, ..acting });
        cursor.tally = tally;
        cursor.reports.push(object.to_string());
        Ok(TakenOver { report: Some(number), next_report: number + 1 })
    }
}

/// The next rows of a plan. What was listed just now is not looked at again.
async fn take<S: ObjectStore>(
    reader: &mut PlanReader<'_, S>,
    in_flight: impl Fn() -> usize,
    verifier: Option<&mut Again<'_, S>>,
    intent: Intent,
    is_over: impl Fn() -> bool,
) -> Result<Option<Taken>, Halt> {
    let Some(Group { rows, end, fresh }) = reader.next(in_flight).await? else { return Ok(None) };
    let items = fates(rows, verifier.filter(|_| !fresh), intent, is_over).await?;
    Ok(Some(Taken { items, end, fresh }))
}

/// What is to become of rows, by what stands under their keys now. Rows that are far from one another cost a request
/// each; those for which time is over are left out.
pub(super) async fn fates<S: ObjectStore>(
    rows: PackedRows,
    mut verifier: Option<&mut Again<'_, S>>,
    intent: Intent,
    is_over: impl Fn() -> bool,
) -> Result<Items, Halt> {
    let mut fates = Vec::with_capacity(rows.len());
    let is_sure = verifier.as_ref().is_some_and(|verifier| verifier.is_sure());
    let mut requests = 0;
    for index in 0..rows.len() {
        let standing = match (&mut verifier, rows.get(index)) {
            (Some(verifier), Some(row)) => {
                // One row is looked at however late it is, so that it gets on.
                let is_slow = verifier.requests() > requests;
                if index > 0 && is_slow && is_over() {
                    break;
                }
                requests = verifier.requests();
                verifier.standing(&row).await?
            }
            _ => Standing::Same,
        };
        let fate = match (standing, intent) {
            _ if rows.result(index) == Some(RowResult::Held) => Fate::Held(Hold::Tag),
            (Standing::Gone, _) if is_sure => Fate::Gone,
            (Standing::Gone, _) => Fate::Missing(intent),
            (Standing::Changed, _) => Fate::Changed,
            (Standing::Same, Intent::Delete) => Fate::Delete,
            (Standing::Same, Intent::Settle) => Fate::RuleChanged,
        };
        fates.push(fate);
    }
    Ok(Items::new(rows, fates))
}
