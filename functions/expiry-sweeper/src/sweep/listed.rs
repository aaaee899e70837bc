//! Sweeps objects that somebody else has listed: a batch of a Distributed Map.
//!
//! Whoever lists delivers a batch again that did not end well. So no cursor and no plan is needed: what an
//! attempt deleted without reporting it is found to be gone by the next one, and the name of a batch's report
//! follows from its content, so that it is written once. What an attempt reported as failed for now is tried
//! again by the next one, in a report of its own.
//!
//! Where what is due shows at the objects themselves or in a list that may be replaced, an attempt would not find it
//! again once it is deleted: there a plan stands beside the report until that is written.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::StreamExt;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use shared::clock::Clock;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::store::{ListedEntry, ObjectStore, StoreError, StoreErrorKind};

use super::act::fates;
use super::gone::Gone;
use super::plan_reader::batch_of;
use super::run::outcome_of;
use super::verify::{Again, Standing, standing_alone};
use super::{Audit, Cursor, Halt, Intent, Request, RuleEnd, Sweep, Tally};
use crate::cdn::Cdn;
use crate::policy::{Criterion, Mode, Rule, Target};
use crate::report::{PackedRows, ReportTarget, ReportWriter, Row, RowResult, StoredReport};
use crate::retry::retrying;

/// So many of a batch may go although its list names nothing of it.
const FEW: u64 = 100;

const A_DAY: SignedDuration = SignedDuration::from_hours(24);

impl<'a, S: ObjectStore, C: Clock, D: Cdn> Request<'a, S, C, D> {
    /// Sweeps what of `entries` the rule is about.
    pub(crate) async fn run_listed(&'a self, rule: &'a Rule, entries: Vec<ListedEntry>) -> RuleEnd {
        self.in_time(Box::pin(self.listed(rule, entries))).await
    }

    async fn listed(&'a self, rule: &'a Rule, mut entries: Vec<ListedEntry>) -> Result<RuleEnd, Halt> {
        if rule.target() != Target::Objects {
            let message = "The rule is about uploads or versions, which nobody can list for it; sweep it by a schedule.";
            return Err(Halt::permanent("not-for-batches", message));
        }
        if self.mode == Mode::Apply {
            self.probe().await?;
        }
        self.check_conditions(rule)?;
        let report_name = format!("{}.{}", rule.id, name_of(&entries, self.mode));
        let mut sweep = self.sweep(rule, (self.sweep_id, self.started_at));
        let mut target = sweep.target(report_name.clone());
        let needs_plan = self.mode == Mode::Apply
            && matches!(rule.criterion, Criterion::Own { .. } | Criterion::Unreferenced { .. });
        let mut gone = Gone::of(self.cdn_targets, rule).beside_others();
        let plans_of = |sweep: &Sweep<'_, S, C>, reports: u32| {
            sweep.target(format!(
                "{report_name}.plan{}",
                if reports == 0 { String::new() } else { reports.to_string() }
            ))
        };
        let mut reported = self.reported(&target, &mut gone).await?;
        let mut plans = plans_of(&sweep, reported.reports);
        let mut planned =
            if needs_plan { planned_before(self.store, &plans).await? } else { Planned::default() };
        if reported.reports == 0 && planned.plans == 0 {
            // An attempt before midnight reported among those of its day.
            let day_before = self.started_at.checked_sub(A_DAY).unwrap_or(self.started_at);
            let earlier = self.sweep(rule, (self.sweep_id, day_before));
            let its_target = earlier.target(report_name.clone());
            let found = self.reported(&its_target, &mut gone).await?;
            let its_plans = plans_of(&earlier, found.reports);
            let found_plan =
                if needs_plan { planned_before(self.store, &its_plans).await? } else { Planned::default() };
            if found.reports > 0 || found_plan.plans > 0 {
                (sweep, target, reported) = (earlier, its_target, found);
                (plans, planned) = (its_plans, found_plan);
            }
        }
        let Reported { reports, mut tally, settled } = reported;
        let at_start = tally.clone();
        if reports > 0 {
            if tally.retryable_errors == 0 {
                let report = target.object(reports).to_string();
                let mut end = self.listed_end(&sweep, &tally, &at_start, &report);
                // Whoever reported it may not have come to tell it.
                gone.invalidate_as(self, &format!("{}/{}", self.sweep_id, report_name)).await?;
                end.outcome.reason = end.outcome.reason.or(gone.refused.take());
                return Ok(end);
            }
            entries.retain(|entry| !settled.contains(&entry.key));
            tally.errors = tally.errors.saturating_sub(tally.retryable_errors);
            tally.retryable_errors = 0;
        }
        let over = || Halt {
            reason: Reason::new("deadline", "The batch was not finished before the deadline."),
            retry: RetryClass::Retryable,
        };
        // What the batch does not list is not missing, so that no list of the missing is written.
        let mut references = Audit::open(&sweep, &Cursor::default(), &self.token).await?;
        let mut judged = sweep.judge_listed(entries, references.as_mut()).await?.ok_or_else(over)?;
        if let (Some(reason), Mode::Apply) = (self.mismatch(rule, &judged.tally), self.mode) {
            return Err(Halt { reason, retry: RetryClass::Permanent });
        }
        let due: BTreeSet<String> = judged.rows.iter().map(|row| row.key).collect();
        let is_new = due.iter().any(|key| !planned.keys.contains(key));
        // What an earlier attempt meant to delete and is gone went by its doing; what stands is due again, or is not.
        let mut again = Again::at(self.store, rule);
        for row in planned.rows.iter().filter(|row| !due.contains(&row.key) && !settled.contains(&row.key)) {
            if row.result != RowResult::Planned || again.standing(&row).await? != Standing::Gone {
                continue;
            }
            if again.is_sure() || standing_alone(self.store, &row).await? == Standing::Gone {
                judged.tally.expired += 1;
                judged.tally.expired_bytes += row.size_bytes.unwrap_or_default();
                judged.rows.push(&row);
            }
        }
        let mut halted = None;
        let to_go = judged.tally.expired.saturating_sub(judged.tally.held);
        if reports == 0 {
            tally = judged.tally;
        }
        let report = ReportWriter::open(self.store, target, reports + 1, &self.token);
        // The report of an attempt that was given up may still appear there.
        let mut report = report.only_here();
        if self.mode == Mode::Plan {
            report.append(judged.rows.iter()).await.map_err(overtaken)?;
        } else {
            if let Some(most) = rule.caps.max_deletes.filter(|most| to_go > *most) {
                let message =
                    format!("{to_go} of one batch would be deleted, more than max_deletes, {most}.");
                return Err(Halt::permanent("max-deletes", message));
            }
            gone.check(self).await?;
            if needs_plan && is_new {
                let writer = ReportWriter::open(self.store, plans.clone(), planned.plans + 1, &self.token);
                let mut writer = writer.only_here();
                writer.append(judged.rows.iter()).await.map_err(overtaken)?;
                writer.finish().await.map_err(overtaken)?;
                planned.plans += 1;
            }
            // Between the listing and now there may be a day.
            let mut verifier = Again::at(self.store, rule);
            let mut rows = judged.rows.iter().peekable();
            while rows.peek().is_some() {
                if sweep.is_over_for_a_batch() {
                    return Err(over());
                }
                let batch = batch_of(rule, self.sizes, self.store.capabilities());
                let group = rows.by_ref().take(batch).collect();
                let items = fates(group, Some(&mut verifier), Intent::Delete, || sweep.is_over()).await?;
                let done = sweep.carry_out(items, true, sweep.pace.place(batch).await).await;
                if let (false, Some(halt)) = (done.settled, &done.halt) {
                    // Another attempt finds out.
                    return Err(halt.clone());
                }
                if done.cut_short {
                    return Err(over());
                }
                let reported = done.rows().map(|(row, added)| {
                    tally.add(&added);
                    if row.result == RowResult::Deleted {
                        gone.add(&row);
                    }
                    row
                });
                report.append(reported).await.map_err(overtaken)?;
                if done.halt.is_some() {
                    halted = done.halt;
                    break;
                }
            }
            if let Some(halt) = &halted {
                // What was not come to is told as well: another attempt at the batch would not look for it.
                let rest = rows.map(|row| {
                    if row.result == RowResult::Held {
                        return row;
                    }
                    let row =
                        Row { result: RowResult::Failed, error: Some(halt.reason.code.to_owned()), ..row };
                    tally.add(&Tally::of_result(&row));
                    row
                });
                report.append(rest).await.map_err(overtaken)?;
            }
        }
        let file = report.finish().await.map_err(overtaken)?;
        for number in 1..=planned.plans {
            let plan = plans.object(number);
            if let Err(error) = retrying(|| self.store.delete(&plan, None)).await {
                tracing::warn!(rule = rule.id, %error, "the plan of a batch is left over");
            }
        }
        if self.mode == Mode::Apply {
            // After the report, from which another attempt tells it once more.
            gone.invalidate_as(self, &format!("{}/{}", self.sweep_id, report_name)).await?;
        }
        let refused = gone.refused.take();
        let report = file.map(|file| file.object.to_string()).unwrap_or_default();
        let mut end = self.listed_end(&sweep, &tally, &at_start, &report);
        end.outcome.reason = end.outcome.reason.or(refused);
        Ok(match halted {
            Some(halt) => RuleEnd {
                outcome: Outcome {
                    retry: Some(halt.retry),
                    reason: Some(halt.reason),
                    status: Status::Failed,
                    ..end.outcome
                },
                ..end
            },
            None => end,
        })
    }

    /// Why the rule's list seems to be another's: it names nothing of a batch of which much is to go.
    fn mismatch(&self, rule: &Rule, tally: &Tally) -> Option<Reason> {
        let is_confirmed = self.confirmed.iter().any(|id| *id == rule.id || *id == self.sweep_id);
        let due = tally.expired.saturating_sub(tally.held);
        let is_audited = matches!(rule.criterion, Criterion::Unreferenced { .. });
        let is_odd = is_audited
            && tally.referenced == 0
            && due > rule.caps.anomaly_floor.max(FEW)
            && rule.caps.anomaly_factor.is_some()
            && !is_confirmed;
        is_odd.then(|| {
            let message = format!(
                "The reference list names nothing of the batch, of which {due} would go; if that is right, set \
                 SWEEP_CONFIRM to {}.",
                rule.id
            );
            Reason::new("references-match-nothing", message)
        })
    }

    fn listed_end(&self, sweep: &Sweep<'_, S, C>, tally: &Tally, at_start: &Tally, report: &str) -> RuleEnd {
        let outcome = match self.mode {
            Mode::Plan => Outcome::of(Status::Planned),
            Mode::Apply => outcome_of(tally),
        };
        sweep.end(outcome, tally, tally.since(at_start), (true, false), None, Some(report))
    }

    /// What earlier attempts have reported.
    async fn reported(&self, target: &ReportTarget, gone: &mut Gone<'_>) -> Result<Reported, Halt> {
        let mut reported = Reported::default();
        loop {
            let object = target.object(reported.reports + 1);
            let mut rows = match StoredReport::open(self.store, &object).await {
                Ok(report) => pin!(report.rows()),
                Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(reported),
                Err(error) => return Err(error.into()),
            };
            let Reported { reports, tally, settled } = &mut reported;
            // What was due before and failed for now stands in this report again.
            let again = std::mem::take(&mut tally.retryable_errors);
            tally.errors = tally.errors.saturating_sub(again);
            while let Some(row) = rows.next().await {
                let row = row?;
                let result = Tally::of_result(&row);
                if *reports == 0 {
                    tally.expired += 1;
                    tally.expired_bytes += row.size_bytes.unwrap_or_default();
                }
                tally.add(&result);
                if row.result == RowResult::Deleted {
                    gone.add(&row);
                }
                if result.retryable_errors == 0 {
                    settled.insert(row.key);
                }
            }
            tally.scanned = tally.expired;
            *reports += 1;
        }
    }
}

/// What earlier attempts at a batch have reported.
#[derive(Default)]
struct Reported {
    /// How many reports there are.
    reports: u32,
    /// Their numbers.
    tally: Tally,
    /// The keys that need no other attempt.
    settled: BTreeSet<String>,
}

/// Where another attempt has reported meanwhile, the next one begins with what that says.
fn overtaken(error: StoreError) -> Halt {
    if error.kind != StoreErrorKind::PreconditionFailed {
        return error.into();
    }
    let message = "Another attempt at the batch has reported meanwhile.";
    Halt { reason: Reason::new("overtaken", message), retry: RetryClass::Retryable }
}

/// What earlier attempts were about to delete that did not come to their reports.
#[derive(Default)]
struct Planned {
    /// How many plans there are.
    plans: u32,
    rows: PackedRows,
    keys: BTreeSet<String>,
}

async fn planned_before<S: ObjectStore>(store: &S, target: &ReportTarget) -> Result<Planned, Halt> {
    let mut planned = Planned::default();
    loop {
        let mut rows = match StoredReport::open(store, &target.object(planned.plans + 1)).await {
            Ok(plan) => pin!(plan.rows()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(planned),
            Err(error) => return Err(error.into()),
        };
        while let Some(row) = rows.next().await {
            let row = row?;
            if planned.keys.insert(row.key.clone()) {
                planned.rows.push(&row);
            }
        }
        planned.plans += 1;
    }
}

/// What tells batches apart: the digest of what is in them, and whether it is only planned.
fn name_of(entries: &[ListedEntry], mode: Mode) -> String {
    let mut digest = Sha256::new();
    if mode == Mode::Plan {
        digest.update(mode.as_str());
    }
    for entry in entries {
        digest.update(entry.key.as_bytes());
        digest.update([0]);
        digest.update(entry.last_modified.as_second().to_be_bytes());
    }
    hex::encode(digest.finalize()).chars().take(16).collect()
}
