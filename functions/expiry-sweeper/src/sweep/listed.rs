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
use shared::object_ref::ObjectRef;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::store::{ListedEntry, ObjectStore, StoreError, StoreErrorKind};

use super::act::fates;
use super::gone::Gone;
use super::plan::Judged;
use super::plan_reader::batch_of;
use super::run::outcome_of;
use super::verify::Again;
use super::{Audit, Cursor, Halt, Intent, Request, RuleEnd, Sweep, Tally};
use crate::cdn::Cdn;
use crate::policy::{Criterion, Mode, Rule, Target};
use crate::report::{ReportTarget, ReportWriter, RowResult, StoredReport};
use crate::retry::retrying;

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
        let mut reported = self.reported(&target).await?;
        if reported.reports == 0 {
            // An attempt before midnight reported among those of its day.
            let day_before = self.started_at.checked_sub(A_DAY).unwrap_or(self.started_at);
            let earlier = self.sweep(rule, (self.sweep_id, day_before));
            let its_target = earlier.target(report_name.clone());
            let found = self.reported(&its_target).await?;
            if found.reports > 0 {
                (sweep, target, reported) = (earlier, its_target, found);
            }
        }
        let Reported { reports, mut tally, settled } = reported;
        if reports > 0 {
            if tally.retryable_errors == 0 {
                let report = target.object(reports).to_string();
                return Ok(self.listed_end(&sweep, &tally, &report));
            }
            entries.retain(|entry| !settled.contains(&entry.key));
            tally.errors = tally.errors.saturating_sub(tally.retryable_errors);
            tally.retryable_errors = 0;
        }
        let over = || Halt {
            reason: Reason::new("deadline", "The batch was not finished before the deadline."),
            retry: RetryClass::Retryable,
        };
        let plan = sweep.target(format!("{report_name}.plan")).object(reports + 1);
        let needs_plan = self.mode == Mode::Apply
            && matches!(rule.criterion, Criterion::Own { .. } | Criterion::Unreferenced { .. });
        let planned = if needs_plan { planned_before(self.store, &plan).await? } else { None };
        let is_planned = planned.is_some();
        let judged = match planned {
            Some(judged) => judged,
            None => {
                // What the batch does not list is not missing, so that no list of the missing is written.
                let mut references = Audit::open(&sweep, &Cursor::default(), &self.token).await?;
                sweep.judge_listed(entries, references.as_mut()).await?.ok_or_else(over)?
            }
        };
        let (mut halted, mut refused) = (None, None);
        let planned = judged.tally.expired.saturating_sub(judged.tally.held);
        if reports == 0 {
            tally = judged.tally;
        }
        let report = ReportWriter::open(self.store, target, reports + 1, &self.token);
        // The report of an attempt that was given up may still appear there.
        let mut report = report.only_here();
        if self.mode == Mode::Plan {
            report.append(judged.rows.iter()).await.map_err(overtaken)?;
        } else {
            if let Some(most) = rule.caps.max_deletes.filter(|most| planned > *most) {
                let message =
                    format!("{planned} of one batch would be deleted, more than max_deletes, {most}.");
                return Err(Halt::permanent("max-deletes", message));
            }
            let mut gone = Gone::of(self.cdn_targets, rule).beside_others();
            gone.check(self).await?;
            if needs_plan && !is_planned {
                let target = sweep.target(format!("{report_name}.plan"));
                let writer = ReportWriter::open(self.store, target, reports + 1, &self.token);
                let mut writer = writer.only_here();
                writer.append(judged.rows.iter()).await.map_err(overtaken)?;
                writer.finish().await.map_err(overtaken)?;
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
            // Before the report, whose existence says that the batch is done.
            gone.invalidate_as(self, &format!("{}/{}", self.sweep_id, report_name)).await?;
            refused = gone.refused.take();
        }
        let file = report.finish().await.map_err(overtaken)?;
        if needs_plan && let Err(error) = retrying(|| self.store.delete(&plan, None)).await {
            tracing::warn!(rule = rule.id, %error, "the plan of a batch is left over");
        }
        let report = file.map(|file| file.object.to_string()).unwrap_or_default();
        let mut end = self.listed_end(&sweep, &tally, &report);
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

    fn listed_end(&self, sweep: &Sweep<'_, S, C>, tally: &Tally, report: &str) -> RuleEnd {
        let outcome = match self.mode {
            Mode::Plan => Outcome::of(Status::Planned),
            Mode::Apply => outcome_of(tally),
        };
        sweep.end(outcome, tally, tally.clone(), (true, false), None, Some(report))
    }

    /// What earlier attempts have reported.
    async fn reported(&self, target: &ReportTarget) -> Result<Reported, Halt> {
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

/// What an attempt was about to delete that did not come to its report.
async fn planned_before<S: ObjectStore>(store: &S, plan: &ObjectRef) -> Result<Option<Judged>, Halt> {
    let mut rows = match StoredReport::open(store, plan).await {
        Ok(plan) => pin!(plan.rows()),
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut judged = Judged::default();
    while let Some(row) = rows.next().await {
        let row = row?;
        judged.tally.expired += 1;
        judged.tally.expired_bytes += row.size_bytes.unwrap_or_default();
        judged.tally.held += u64::from(row.result == RowResult::Held);
        judged.rows.push(&row);
    }
    judged.tally.scanned = judged.tally.expired;
    Ok(Some(judged))
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
