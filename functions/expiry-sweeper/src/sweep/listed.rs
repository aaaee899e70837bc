//! Sweeps objects that somebody else has listed: a batch of a Distributed Map.
//!
//! Whoever lists delivers a batch again that did not end well. So no cursor and no plan is needed: what an
//! attempt deleted without reporting it is found to be gone by the next one, and the name of a batch's report
//! follows from its content, so that it is written once. What an attempt reported as failed for now is tried
//! again by the next one, in a report of its own.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::StreamExt;
use sha2::{Digest, Sha256};
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::store::{ListedEntry, ObjectStore, StoreError, StoreErrorKind};

use super::act::fates;
use super::gone::Gone;
use super::plan_reader::batch_of;
use super::run::outcome_of;
use super::verify::Verifier;
use super::{Audit, Cursor, Halt, Intent, Request, RuleEnd, Sweep, Tally};
use crate::cdn::Cdn;
use crate::policy::{Mode, Rule, Target};
use crate::report::{ReportTarget, ReportWriter, RowResult, StoredReport};

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
        self.check_conditions(rule)?;
        let sweep = self.sweep(rule, (self.sweep_id, self.started_at));
        let report_name = format!("{}.{}", rule.id, name_of(&entries));
        let target = sweep.target(report_name.clone());
        let Reported { reports, mut tally, settled } = self.reported(&target).await?;
        if reports > 0 {
            if tally.retryable_errors == 0 {
                let report = ObjectRef::new(self.audit_bucket, target.key(reports)).to_string();
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
        // What the batch does not list is not missing, so that no list of the missing is written.
        let mut references = Audit::open(&sweep, &Cursor::default(), &self.token).await?;
        let Some(judged) = sweep.judge_listed(entries, references.as_mut()).await? else {
            return Err(over());
        };
        drop(references);
        let mut halted = None;
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
            let mut gone = Gone::of(self.cdn_targets, rule);
            gone.check(self).await?;
            // Between the listing and now there may be a day.
            let mut verifier = Verifier::new(self.store, &rule.bucket, &rule.prefix);
            let mut rows = judged.rows.iter().peekable();
            while rows.peek().is_some() {
                if sweep.is_over_for_a_batch() {
                    return Err(over());
                }
                let batch = batch_of(rule, self.sizes, self.store.capabilities());
                let group = rows.by_ref().take(batch).collect();
                let items = fates(group, Some(&mut verifier), Intent::Delete).await?;
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
        }
        let file = report.finish().await.map_err(overtaken)?;
        let report = file.map(|file| file.object.to_string()).unwrap_or_default();
        let end = self.listed_end(&sweep, &tally, &report);
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
            let object = ObjectRef::new(self.audit_bucket, target.key(reported.reports + 1));
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

/// What tells batches apart: the digest of what is in them.
fn name_of(entries: &[ListedEntry]) -> String {
    let mut digest = Sha256::new();
    for entry in entries {
        digest.update(entry.key.as_bytes());
        digest.update([0]);
        digest.update(entry.last_modified.as_second().to_be_bytes());
    }
    hex::encode(digest.finalize()).chars().take(16).collect()
}
