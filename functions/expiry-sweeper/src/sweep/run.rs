//! One rule in one invocation: lease, plan, brake, act, report, and the cursor for whoever goes on.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::store::{DeleteItem, ObjectStore};

use super::act::Acted;
use super::ahead::{OBJECT_BYTES, clock_behind};
use super::brake::{self, Circumstances};
use super::feed::{Fed, Feed, Kept};
use super::gone::Gone;
use super::ledger::Ledger;
use super::plan_reader::PLAN_MISSING;
use super::{
    ALREADY_RUNNING, Acting, Audit, CLOCK_BEHIND, Cursor, Earlier, Ended, Ending, Halt, Intent, KeyRange,
    Moment, Phase, Place, PlanFile, Progress, Sink, Sizes, Sweep, Tally,
};
use crate::cdn::Cdn;
use crate::lease::{self, Acquisition, Claim, End, LastSweep, Lease};
use crate::policy::{CdnTarget, Criterion, Mode, Rule, Target};
use crate::report::{ReportFile, ReportWriter, Row, RuleSummary, SummaryReason, UploadState, write_summary};
use crate::retry::retrying;

/// How long a lease is taken for at most; a sweep without a deadline extends it.
const LEASE: Duration = Duration::from_secs(3600);

/// How old a listing may be that is gone on with, where what it says may change although the objects do not.
const LONGEST_LISTING: i64 = 86_400;

/// And elsewhere, where each object is looked at again; as long as a sweep of several rules may take.
const LONGEST_SWEEP: i64 = 7 * 86_400;

/// The code of a listing that was too old to be gone on with.
const OUTDATED: &str = "listing-outdated";

/// What a sweep is asked for, and with what.
pub(crate) struct Request<'a, S, C, D> {
    pub(crate) store: &'a S,
    pub(crate) clock: &'a C,
    pub(crate) cdn: &'a D,
    /// The CDNs of the policy.
    pub(crate) cdn_targets: &'a [CdnTarget],
    pub(crate) progress: &'a dyn Progress,
    pub(crate) audit_bucket: &'a str,
    pub(crate) mode: Mode,
    /// What `SWEEP_CONFIRM` confirms.
    pub(crate) confirmed: &'a [String],
    /// The invocation's id, for people.
    pub(crate) request_id: &'a str,
    /// What no other invocation has, by which a writer knows its own objects.
    pub(crate) token: String,
    pub(crate) ending: Ending,
    /// When the platform ends the invocation.
    pub(crate) deadline: Timestamp,
    /// The id of a sweep that begins now.
    pub(crate) sweep_id: &'a str,
    /// When it begins.
    pub(crate) started_at: Timestamp,
    /// Whether this invocation has written to the sweep's summary.
    pub(crate) summarised: AtomicBool,
    pub(crate) sizes: Sizes,
}

/// How a rule ended in this invocation.
#[derive(Debug)]
pub(crate) struct RuleEnd {
    pub(crate) outcome: Outcome,
    /// Whether calling again brings it further.
    pub(crate) goes_on: bool,
    /// What this invocation added to the numbers.
    pub(crate) added: Tally,
    /// Whether the summary of the sweep tells it.
    pub(crate) is_told: bool,
}

impl RuleEnd {
    /// Ended before anything was done that a report would tell.
    pub(super) fn halted(halt: Halt) -> Self {
        let goes_on = halt.retry == RetryClass::Retryable;
        Self::without_sweep(Outcome::failed(halt.reason, halt.retry), goes_on)
    }

    pub(crate) fn without_sweep(outcome: Outcome, goes_on: bool) -> Self {
        Self { outcome, goes_on, added: Tally::default(), is_told: false }
    }
}

/// A rule whose lease is held.
struct Held<'a, S, C> {
    sweep: Sweep<'a, S, C>,
    cursor: Cursor,
    next_report: u32,
    /// The text of the rule that the cursor is good for, which may be another by now.
    fingerprint: String,
    /// By what the reports of the invocation before are known.
    writer: Option<String>,
    upload: Option<UploadState>,
    /// The last object of the plan, if it was written just now and is small.
    kept: Option<Kept>,
    /// Why a CDN goes on serving what this invocation deleted, if it does.
    refused: Option<Reason>,
    /// Whether another invocation began this sweep.
    resumed: bool,
    /// Whether what another invocation had listed was too old.
    anew: bool,
    /// The numbers when this invocation began.
    at_start: Tally,
}

/// What of a sweep stays the same while its cursor moves.
struct Origin {
    sweep_id: String,
    started_at: Timestamp,
    fingerprint: String,
    next_report: u32,
}

/// What was done before under a sweep's id, to which it adds.
struct Before {
    sweep_id: String,
    next_report: u32,
    done: Earlier,
}

impl From<&lease::Progress> for Before {
    fn from(progress: &lease::Progress) -> Self {
        let RuleSummary { deleted, deleted_bytes, ref reports, .. } = progress.summary;
        let done = Earlier { deleted, deleted_bytes, reports: reports.clone() };
        Self { sweep_id: progress.sweep_id.clone(), next_report: progress.next_report, done }
    }
}

impl From<&LastSweep> for Before {
    fn from(last: &LastSweep) -> Self {
        let LastSweep { sweep_id, next_report, .. } = last;
        Self { sweep_id: sweep_id.clone(), next_report: *next_report, done: last.as_earlier() }
    }
}

/// How far one went with a rule.
enum Reached {
    /// To the end.
    End,
    /// To the deadline.
    Deadline,
    /// The caps forbid it.
    Stopped(Reason),
    /// It makes no sense to go on; what was done is safe.
    Halted(Halt),
}

impl<'a, S: ObjectStore, C: Clock, D: Cdn> Request<'a, S, C, D> {
    /// Sweeps `rule`, or goes on with the sweep that another invocation had to leave.
    pub(crate) async fn run(&self, rule: &'a Rule) -> RuleEnd {
        match self.mode {
            Mode::Plan => self.in_time(Box::pin(self.plan(rule))).await,
            Mode::Apply => self.in_time(Box::pin(self.apply(rule))).await,
        }
    }

    /// How a rule ended, or that it did not. Then what was saved last stands, as after a kill.
    pub(super) async fn in_time(&self, ended: impl Future<Output = Result<RuleEnd, Halt>>) -> RuleEnd {
        let ended = self.ending.before(Moment::Rule, ended).await;
        ended.unwrap_or_else(|| Err(Halt::late())).unwrap_or_else(RuleEnd::halted)
    }

    pub(super) fn sweep(&'a self, rule: &'a Rule, (id, started_at): (&str, Timestamp)) -> Sweep<'a, S, C> {
        Sweep::new(
            self.store,
            self.clock,
            self.audit_bucket,
            self.progress,
            self.ending,
            (rule, self.sizes),
            (id, started_at),
        )
    }

    // ------------------------------------------------------------------------------------------- plan

    async fn plan(&'a self, rule: &'a Rule) -> Result<RuleEnd, Halt> {
        let state = format!("{}.plan", rule.id);
        let found = lease::interrupted(self.store, self.audit_bucket, &state).await?;
        let left = found.filter(|progress| progress.fingerprint == rule.fingerprint());
        let was_left = left.is_some();
        let interrupted = left.filter(|progress| {
            let cursor = serde_json::from_value(progress.cursor.clone()).unwrap_or_default();
            !self.is_outdated(rule, progress, &cursor)
        });
        let resumed = interrupted.is_some();
        let mut held = self.begin(rule, interrupted, None);
        held.anew = was_left && !resumed;
        let target = held.sweep.report();
        let mut sink = Sink::report(self.store, target, &self.token, held.next_report);
        let planned = self.list(&mut held, &mut sink, async |_| Ok(())).await;
        if let (true, Err(halt)) = (sink.is_broken(), &planned) {
            return Err(halt.clone());
        }
        let file = sink.finish().await?;
        held.note(file.as_ref());
        let (complete, halt) = match planned {
            Ok(complete) => (complete, None),
            Err(halt) => (false, Some(halt)),
        };
        let reason = if complete {
            let last = lease::last_sweep(self.store, self.audit_bucket, &rule.id).await?;
            let stopped = lease::interrupted(self.store, self.audit_bucket, &rule.id).await?;
            let braked = stopped
                .and_then(|progress| serde_json::from_value::<Cursor>(progress.cursor).ok()?.stopped());
            // Nobody goes on with a plan, so that what it would have to confirm is the rule.
            let circumstances = Circumstances {
                last: last.as_ref(),
                braked: braked.as_deref(),
                confirmed: self.confirmed,
                sweep_id: &rule.id,
            };
            brake::stops(rule, &held.cursor.tally, circumstances).or_else(|| {
                held.cursor.has_gaps().then(|| {
                    let message = "The store lists in an order of its own, and more may be due than is planned; \
                                   in apply the rule is listed once more.";
                    Reason::new("listing-out-of-order", message)
                })
            })
        } else {
            None
        };
        self.summarise(&held, complete, halt.as_ref().map(|halt| &halt.reason).or(reason.as_ref())).await?;
        if resumed || (!complete && halt.is_none()) {
            let claim = self.claim();
            if let Acquisition::Acquired(lease) =
                lease::acquire(self.store, self.audit_bucket, &state, &claim).await?
            {
                let end = if complete {
                    End::Finished(self.last_of(&held))
                } else {
                    End::Interrupted(Box::new(self.saved(&held, None)))
                };
                lease.release(self.store, self.clock.now(), end).await?;
            }
        }
        Ok(match halt {
            Some(halt) => {
                let goes_on = halt.retry == RetryClass::Retryable;
                held.end(Outcome::failed(halt.reason, halt.retry), false, goes_on)
            }
            None => {
                let outcome = Outcome { reason, ..Outcome::of(Status::Planned) };
                let outcome = if complete { outcome } else { held.explained(outcome) };
                held.end(outcome, complete, !complete)
            }
        })
    }

    // ------------------------------------------------------------------------------------------ apply

    async fn apply(&'a self, rule: &'a Rule) -> Result<RuleEnd, Halt> {
        let claim = self.claim();
        let (probed, acquired) =
            futures::join!(self.probe(), lease::acquire(self.store, self.audit_bucket, &rule.id, &claim));
        let mut lease = match acquired? {
            Acquisition::Acquired(lease) => lease,
            Acquisition::AlreadyRunning { holder, until } => {
                let message = format!("{holder} is sweeping the rule, until {until} at the latest.");
                let outcome = Outcome::skipped(Reason::new(ALREADY_RUNNING, message));
                return Ok(RuleEnd::without_sweep(outcome, true));
            }
        };
        let allowed = probed.and_then(|()| self.check_conditions(rule));
        let applied = match allowed {
            Ok(()) => self.apply_with(rule, &mut lease).await,
            Err(halt) => Err(halt),
        };
        match applied {
            Ok((held, reached)) => self.conclude(held, reached, *lease).await,
            Err(halt) => {
                // What was saved last stands, so that the next one finds out what this one did.
                let released = lease.release(self.store, self.clock.now(), End::Untouched).await;
                if let Err(error) = released {
                    tracing::warn!(rule = rule.id, %error, "the lease ends by itself");
                }
                Err(halt)
            }
        }
    }

    /// Finds out whether the store deletes on a condition, where that is not known of it.
    pub(super) async fn probe(&self) -> Result<(), Halt> {
        let key = format!("sweeps/state/_probe.{:016x}", fastrand::u64(..));
        Ok(retrying(|| self.store.probe(self.audit_bucket, &key)).await?)
    }

    /// Refuses a rule that needs conditions where there are none, and says so where it does without.
    pub(super) fn check_conditions(&self, rule: &Rule) -> Result<(), Halt> {
        if self.mode == Mode::Plan
            || rule.target() != Target::Objects
            || self.store.capabilities().conditional_delete
        {
            return Ok(());
        }
        if rule.require_conditional {
            return Err(Halt::permanent(
                "conditional-delete-unsupported",
                "This store cannot delete on a condition, which the rule requires.",
            ));
        }
        tracing::warn!(
            rule = rule.id,
            "this store cannot delete on a condition; each object is looked at just before"
        );
        Ok(())
    }

    async fn apply_with(
        &'a self,
        rule: &'a Rule,
        lease: &mut Lease,
    ) -> Result<(Held<'a, S, C>, Reached), Halt> {
        let (mut braked, mut anew) = (None, false);
        let mut before = lease.last().map(Before::from);
        let interrupted = match lease.progress().cloned() {
            None => None,
            Some(progress) => match serde_json::from_value::<Cursor>(progress.cursor.clone()) {
                Err(error) => {
                    tracing::warn!(rule = rule.id, %error, "the cursor cannot be read; the rule is swept from its beginning");
                    before = Some(Before::from(&progress));
                    None
                }
                Ok(cursor @ Cursor { phase: Phase::Stopped { .. }, .. }) => {
                    before = Some(Before::from(&progress));
                    // Who stopped it may have come no further than that.
                    self.drop_plan(rule, &progress, &cursor).await;
                    braked = cursor.stopped();
                    None
                }
                Ok(cursor)
                    if progress.fingerprint == rule.fingerprint()
                        && !((cursor.is_listing() || rule.may_change_its_mind())
                            && self.is_outdated(rule, &progress, &cursor)) =>
                {
                    braked = cursor.braked;
                    Some(progress)
                }
                Ok(Cursor { phase: Phase::Acting(Acting { clean: false, .. }), .. }) => {
                    anew = progress.fingerprint == rule.fingerprint();
                    let mut held = self.begin(rule, Some(progress), None);
                    let reached = self.delete(&mut held, lease, Intent::Settle).await?;
                    self.summarise(&held, true, None).await?;
                    match reached {
                        Reached::End => self.clear_plan(&held.sweep, &held.cursor).await,
                        reached => return Ok((held, reached)),
                    }
                    before = Some(Before::from(&self.saved(&held, None)));
                    None
                }
                Ok(cursor) => {
                    anew = progress.fingerprint == rule.fingerprint();
                    before = Some(Before::from(&progress));
                    self.drop_plan(rule, &progress, &cursor).await;
                    None
                }
            },
        };
        let mut held = self.begin(rule, interrupted, before);
        held.anew = anew;
        held.cursor.braked.clone_from(&braked);
        if held.cursor.is_untouched() && self.may_act_at_once(rule, braked.as_deref(), lease.last()) {
            Gone::of(self.cdn_targets, rule).check(self).await?;
            held.cursor.listed_since = Some(self.clock.now());
            held.cursor.phase = Phase::Acting(Acting::begin(Tally::default(), vec![KeyRange::default()]));
        }
        if matches!(held.cursor.phase, Phase::Listing { .. }) {
            let number = held.cursor.plan.last().map_or(1, |file| file.number + 1);
            let target = held.sweep.plan_target();
            let mut sink = Sink::plan(self.store, target, &self.token, number, self.sizes);
            let origin = held.origin();
            let save = async |cursor: Option<&Cursor>| match cursor {
                Some(cursor) => self.save(lease, self.saved_as(rule, cursor, &origin, None)).await,
                None => self.keep(lease).await,
            };
            let planned = self.list(&mut held, &mut sink, save).await;
            if let (true, Err(halt)) = (sink.is_broken(), &planned) {
                return Err(halt.clone());
            }
            if let Some(file) = sink.finish().await? {
                held.cursor.plan.push(PlanFile { number: file.number, rows: file.rows });
                held.kept = file.content.map(|content| Kept { number: file.number, content });
            }
            match planned {
                Err(halt) if halt.reason.code == CLOCK_BEHIND => {
                    let sweep_id = braked.unwrap_or_else(|| held.sweep.id.to_string());
                    held.cursor.phase = Phase::Stopped { sweep_id };
                    return Ok((held, Reached::Stopped(halt.reason)));
                }
                Err(halt) => return Ok((held, Reached::Halted(halt))),
                Ok(false) => return Ok((held, Reached::Deadline)),
                Ok(true) => {}
            }
            if held.cursor.has_gaps() {
                // Nothing was done by this plan, and the next invocation makes another.
                self.clear_plan(&held.sweep, &held.cursor).await;
                let phase = Phase::Listing { after: None, ranges: vec![KeyRange::undivided()] };
                let earlier = held.cursor.earlier.take();
                let listed_since = Some(self.clock.now());
                held.cursor =
                    Cursor { phase, listed_since, earlier, braked, undivided: true, ..Cursor::default() };
                return Ok((held, Reached::Deadline));
            }
            if let Some(reason) = held.refusal(braked.as_deref(), lease.last(), self.confirmed) {
                let sweep_id = braked.unwrap_or_else(|| held.sweep.id.to_string());
                self.publish_plan(&mut held).await?;
                held.cursor.phase = Phase::Stopped { sweep_id };
                return Ok((held, Reached::Stopped(reason)));
            }
            Gone::of(self.cdn_targets, rule).check(self).await?;
            let before = held.cursor.tally.clone();
            held.cursor.phase = Phase::Acting(Acting::begin(before, Vec::new()));
        }
        let reached = self.delete(&mut held, lease, Intent::Delete).await?;
        if let (Reached::End, true, Phase::Acting(acting)) =
            (&reached, held.cursor.has_gaps(), &mut held.cursor.phase)
        {
            // What was found is done and reported; the next invocation looks for what was missed.
            acting.listing = vec![KeyRange::undivided()];
            held.cursor.undivided = true;
            return Ok((held, Reached::Deadline));
        }
        Ok((held, reached))
    }

    /// Whether what is due may be deleted before all of it is known: no cap can stop the rule, and no row of its
    /// plan is held before it is acted upon.
    fn may_act_at_once(&self, rule: &Rule, braked: Option<&str>, last: Option<&LastSweep>) -> bool {
        let circumstances =
            Circumstances { last, braked, confirmed: self.confirmed, sweep_id: self.sweep_id };
        rule.target() == Target::Objects
            && !matches!(rule.criterion, Criterion::Unreferenced { .. })
            && rule.hold_tag.is_none()
            && !brake::may_stop(rule, circumstances)
    }

    /// Lists and decides; a clock that is behind is found out here, before anything is deleted.
    async fn list(
        &self,
        held: &mut Held<'_, S, C>,
        sink: &mut Sink<'_, S>,
        save: impl AsyncFnMut(Option<&Cursor>) -> Result<(), Halt>,
    ) -> Result<bool, Halt> {
        held.cursor.listed_since.get_or_insert(self.clock.now());
        let mut audit = Audit::open(&held.sweep, &held.cursor, &self.token).await?;
        let planned = held.sweep.plan(&mut held.cursor, audit.as_mut(), sink, save).await;
        if let Some(audit) = audit {
            audit.finish(&mut held.cursor).await?;
        }
        let complete = planned?;
        if held.cursor.tally.from_the_future > 0 {
            return Err(clock_behind(&held.cursor.tally, self.clock.now()));
        }
        Ok(complete)
    }

    /// Carries the plan out, as far as time allows.
    async fn delete(
        &self,
        held: &mut Held<'_, S, C>,
        lease: &mut Lease,
        intent: Intent,
    ) -> Result<Reached, Halt> {
        let Phase::Acting(acting) = held.cursor.phase.clone() else { return Ok(Reached::End) };
        let rule = held.sweep.rule;
        let (writer, upload) = (held.writer.take(), held.upload.take());
        let mut gone = match intent {
            Intent::Delete => Gone::of(self.cdn_targets, rule),
            Intent::Settle => Gone::of_any(self.cdn_targets),
        };
        if !acting.clean {
            let left = (writer.as_deref(), upload.as_ref());
            let taken_over = held
                .sweep
                .take_over(&mut held.cursor, held.next_report, left, &self.token, |row| gone.add(row))
                .await?;
            if let Some(number) = taken_over.report {
                // Whoever wrote it may not have come so far.
                gone.invalidate(self, &held.sweep, number).await?;
            }
            held.next_report = taken_over.next_report;
        }
        if held.sweep.is_over() {
            return Ok(Reached::Deadline);
        }
        let end_of_plan = held.cursor.after(Place::FIRST, held.cursor.planned());
        let Phase::Acting(acting) = &mut held.cursor.phase else { return Ok(Reached::End) };
        let (place, is_planned) = (acting.place, acting.place != end_of_plan);
        let mut listing = acting.listing.clone();
        if intent == Intent::Settle {
            listing.clear();
        }
        if !is_planned && listing.is_empty() && held.next_report > 1 {
            return Ok(Reached::End);
        }
        if is_planned {
            acting.clean = false;
            // From here on a plan is all that tells what may be gone.
            self.save(lease, self.saved(held, None)).await?;
        }
        let mut report = ReportWriter::open(self.store, held.sweep.report(), held.next_report, &self.token)
            .in_parts_of(self.sizes.part_bytes);
        let listed_since = held.cursor.listed_since.filter(|_| !held.resumed);
        let files = held.cursor.plan.iter().map(|file| Fed { file: *file, listed_since });
        let feed = Feed::new(files, place.file, held.kept.take());
        if listing.is_empty() {
            // Known before the first group is taken, so that a small plan is shared out.
            feed.end();
        }
        let origin = held.origin();
        let next_report = origin.next_report;
        let ledger =
            Ledger::new(held.cursor.clone(), (self.progress, rule), async |cursor: &Cursor, upload| {
                self.save(lease, self.saved_as(rule, cursor, &origin, upload)).await
            });
        let number = held.cursor.plan.last().map_or(1, |file| file.number + 1);
        let target = held.sweep.plan_target();
        let sink = Sink::plan(self.store, target, &self.token, number, self.sizes);
        let mut sink = sink.of_about(OBJECT_BYTES);
        let list = async {
            if listing.is_empty() {
                return Ok(Ok(true));
            }
            let listed = pin!(held.sweep.list_ahead(listing, &mut sink, &feed, &ledger));
            // What is left out by that is listed again.
            self.ending.before(Moment::Flight, listed).await.unwrap_or_else(|| {
                feed.end();
                Ok(Ok(false))
            })
        };
        let before = (held.cursor.tally.clone(), place);
        let act = async {
            let told = |row: &Row| gone.add(row);
            let acted = held.sweep.act(&feed, before, intent, &mut report, &ledger, told).await;
            feed.stop();
            acted
        };
        // Whoever deletes comes first, so that it is known to wait.
        let (Acted { ended, place, results, settled }, listed) = futures::try_join!(act, list)?;
        held.cursor = ledger.into_cursor();
        held.cursor.tally = held.cursor.tally.with_results_of(&results);
        if let Err(halt) = &listed
            && held.cursor.plan.is_empty()
            && (halt.reason.code == CLOCK_BEHIND || held.cursor.tally.scanned == held.at_start.scanned)
        {
            // Nothing was begun.
            held.cursor = Cursor::default();
            return Ok(Reached::Halted(halt.clone()));
        }
        // A report of what is listed only in part has something to tell, or is not written.
        if listed == Ok(true) || report.rows() > 0 {
            let file = report.finish().await?;
            // What is not told to a CDN now is told by whoever takes this report over.
            gone.invalidate(self, &held.sweep, file.as_ref().map_or(next_report, |file| file.number)).await?;
            held.note(file.as_ref());
        }
        if let Some(refused) = gone.refused.take() {
            held.cursor.refused = Some(SummaryReason::from(&refused));
            held.refused = Some(refused);
        }
        if let Phase::Acting(acting) = &mut held.cursor.phase {
            (acting.begun, acting.before) = (place, held.cursor.tally.clone());
            (acting.place, acting.clean) = (place, settled);
        }
        Ok(match (ended, listed) {
            (Ended::Complete, Ok(true)) => Reached::End,
            (Ended::Complete | Ended::Over, Err(halt)) => Reached::Halted(halt),
            (Ended::Complete | Ended::Over, Ok(_)) => Reached::Deadline,
            (Ended::Halted(halt), _) => {
                if halt.reason.code == PLAN_MISSING {
                    // There is nothing to go on with.
                    held.cursor.phase = Phase::Stopped { sweep_id: held.sweep.id.to_string() };
                }
                Reached::Halted(halt)
            }
        })
    }

    /// Writes the summary, gives the lease back, and says how the rule ended.
    async fn conclude(&self, held: Held<'_, S, C>, reached: Reached, lease: Lease) -> Result<RuleEnd, Halt> {
        let complete = matches!(reached, Reached::End);
        let reason = match &reached {
            Reached::End | Reached::Deadline => None,
            Reached::Stopped(reason) => Some(reason),
            Reached::Halted(halt) => Some(&halt.reason),
        };
        if let Err(halt) = self.summarise(&held, complete, reason).await {
            lease.release(self.store, self.clock.now(), End::Untouched).await?;
            return Err(halt);
        }
        let end = match &reached {
            Reached::End => End::Finished(self.last_of(&held)),
            // Nothing was begun that would have to be gone on with.
            Reached::Halted(_) if held.cursor.phase == Phase::default() => End::Untouched,
            // What is known is reported, so that nobody has to look for a report.
            _ => End::Interrupted(Box::new(lease::Progress { writer: None, ..self.saved(&held, None) })),
        };
        lease.release(self.store, self.clock.now(), end).await?;
        // Not before it is written down that nobody needs it any more.
        if complete || matches!(reached, Reached::Stopped(_)) {
            self.clear_plan(&held.sweep, &held.cursor).await;
        }
        Ok(match reached {
            Reached::End => {
                let mut outcome = outcome_of(&held.cursor.tally);
                outcome.reason = outcome.reason.or_else(|| held.refused.clone());
                held.end(outcome, true, false)
            }
            Reached::Deadline => {
                let outcome = Outcome { reason: held.refused.clone(), ..Outcome::of(Status::Swept) };
                let outcome = held.explained(outcome);
                held.end(outcome, false, true)
            }
            Reached::Stopped(reason) => {
                held.end(Outcome::failed(reason, RetryClass::Permanent), false, false)
            }
            Reached::Halted(halt) => {
                let goes_on = halt.retry == RetryClass::Retryable;
                held.end(Outcome::failed(halt.reason, halt.retry), false, goes_on)
            }
        })
    }

    // ------------------------------------------------------------------------------------------ state

    fn begin(
        &'a self,
        rule: &'a Rule,
        interrupted: Option<lease::Progress>,
        before: Option<Before>,
    ) -> Held<'a, S, C> {
        let resumed = interrupted.is_some();
        let (sweep, cursor, next_report, fingerprint, (writer, upload)) = match interrupted {
            Some(progress) => {
                let lease::Progress { sweep_id, started_at, cursor, next_report, fingerprint, .. } = progress;
                let cursor = serde_json::from_value(cursor).unwrap_or_default();
                let sweep = self.sweep(rule, (&sweep_id, started_at));
                (sweep, cursor, next_report, fingerprint, (progress.writer, progress.upload))
            }
            None => {
                // What failed in a sweep of several rules, or was begun anew, is swept again under the same id.
                let again = before.filter(|before| before.sweep_id == self.sweep_id);
                let next_report = again.as_ref().map_or(1, |before| before.next_report.max(1));
                let sweep = self.sweep(rule, (self.sweep_id, self.started_at));
                let cursor = Cursor { earlier: again.map(|before| before.done), ..Cursor::default() };
                (sweep, cursor, next_report, rule.fingerprint(), (None, None))
            }
        };
        self.progress.begun(rule);
        let at_start = cursor.tally.clone();
        Held {
            sweep,
            cursor,
            next_report,
            fingerprint,
            writer,
            upload,
            kept: None,
            refused: None,
            resumed,
            anew: false,
            at_start,
        }
    }

    /// A rule's turn may come long after the sweep began.
    fn is_outdated(&self, rule: &Rule, progress: &lease::Progress, cursor: &Cursor) -> bool {
        let since = cursor.listed_since.unwrap_or(progress.started_at);
        let longest = if rule.may_change_its_mind() { LONGEST_LISTING } else { LONGEST_SWEEP };
        self.clock.now().duration_since(since).as_secs() > longest
    }

    fn claim(&self) -> Claim {
        let now = self.clock.now();
        let longest = now.checked_add(LEASE).unwrap_or(Timestamp::MAX);
        Claim { holder: self.request_id.to_owned(), now, until: self.deadline.min(longest) }
    }

    async fn save(&self, lease: &mut Lease, progress: lease::Progress) -> Result<(), Halt> {
        self.keep(lease).await?;
        Ok(lease.save(self.store, self.clock.now(), progress).await?)
    }

    /// Extends the lease in time, where it ends before the invocation.
    async fn keep(&self, lease: &mut Lease) -> Result<(), Halt> {
        let now = self.clock.now();
        let ending = lease.until().is_some_and(|until| {
            until < self.deadline && until.duration_since(now).as_secs() < LEASE.as_secs().cast_signed() / 2
        });
        if ending {
            lease.extend(self.store, now, self.claim().until).await?;
        }
        Ok(())
    }

    fn saved(&self, held: &Held<'_, S, C>, upload: Option<UploadState>) -> lease::Progress {
        self.saved_as(held.sweep.rule, &held.cursor, &held.origin(), upload)
    }

    fn saved_as(
        &self,
        rule: &Rule,
        cursor: &Cursor,
        origin: &Origin,
        upload: Option<UploadState>,
    ) -> lease::Progress {
        let Origin { sweep_id, started_at, fingerprint, next_report } = origin;
        lease::Progress {
            sweep_id: sweep_id.clone(),
            started_at: *started_at,
            fingerprint: fingerprint.clone(),
            cursor: json!(cursor),
            summary: self.summary_of(rule, cursor, *started_at, false, None),
            next_report: *next_report,
            writer: Some(self.token.clone()),
            upload,
        }
    }

    fn last_of(&self, held: &Held<'_, S, C>) -> LastSweep {
        LastSweep::of(&held.sweep.id, &self.summary(held, true, None), held.next_report)
    }

    fn summary(&self, held: &Held<'_, S, C>, complete: bool, reason: Option<&Reason>) -> RuleSummary {
        self.summary_of(held.sweep.rule, &held.cursor, held.sweep.started_at, complete, reason)
    }

    fn summary_of(
        &self,
        rule: &Rule,
        cursor: &Cursor,
        started_at: Timestamp,
        complete: bool,
        reason: Option<&Reason>,
    ) -> RuleSummary {
        let tally = &cursor.tally;
        let Earlier { deleted, deleted_bytes, mut reports } = cursor.earlier.clone().unwrap_or_default();
        reports.extend(cursor.reports.iter().cloned());
        RuleSummary {
            rule: rule.id.clone(),
            bucket: rule.bucket.clone(),
            mode: self.mode.as_str().to_owned(),
            complete,
            started_at,
            finished_at: self.clock.now(),
            scanned: tally.scanned,
            expired: tally.expired + deleted,
            deleted: tally.deleted + deleted,
            changed: tally.changed,
            held: tally.held,
            errors: tally.errors,
            deleted_bytes: tally.deleted_bytes + deleted_bytes,
            lag_seconds: tally.lag_seconds,
            missing_references: cursor.missing_references,
            reports,
            reason: reason.map(SummaryReason::from).or_else(|| cursor.refused.clone()),
        }
    }

    async fn summarise(
        &self,
        held: &Held<'_, S, C>,
        complete: bool,
        reason: Option<&Reason>,
    ) -> Result<(), Halt> {
        let summary = self.summary(held, complete, reason);
        let is_first = !self.summarised.swap(true, Ordering::Relaxed) && !held.resumed;
        let Sweep { started_at, id, .. } = &held.sweep;
        write_summary(self.store, self.audit_bucket, *started_at, id, &[summary], is_first).await?;
        Ok(())
    }

    /// Adds to the summary the rules that this invocation did not come to, or could not begin: a sweep is not complete
    /// because nobody speaks of what is missing.
    pub(crate) async fn summarise_unbegun(&self, ends: &[(&Rule, &Outcome)]) {
        let entries: Vec<_> = ends
            .iter()
            .map(|(rule, outcome)| {
                let reason = outcome.reason.as_ref();
                self.summary_of(rule, &Cursor::default(), self.started_at, false, reason)
            })
            .collect();
        let (id, started_at) = (self.sweep_id, self.started_at);
        let written = write_summary(self.store, self.audit_bucket, started_at, id, &entries, false).await;
        if let Err(error) = written {
            tracing::warn!(%error, "the summary does not name the rules that were not begun");
        }
    }

    // ------------------------------------------------------------------------------------------- plans

    /// Leaves the plan of a sweep that was stopped as its report, so that a person sees what it was about.
    async fn publish_plan(&self, held: &mut Held<'_, S, C>) -> Result<(), Halt> {
        let (from, to) = (held.sweep.plan_target(), held.sweep.report());
        // Behind the reports of what the sweep did before, should it have begun more than once.
        for (number, file) in (held.next_report..).zip(&held.cursor.plan) {
            let source = ObjectRef::new(&*from.bucket, from.key(file.number));
            let report = ObjectRef::new(&*to.bucket, to.key(number));
            retrying(|| self.store.copy(&source, &report, shared::store::CopyOptions::default())).await?;
            held.cursor.reports.push(report.to_string());
            held.next_report = number + 1;
        }
        Ok(())
    }

    /// Removes the plan of a sweep that is done with, of which its reports have every row that matters. Left over, it does
    /// no harm.
    async fn clear_plan(&self, sweep: &Sweep<'_, S, C>, cursor: &Cursor) {
        let target = sweep.plan_target();
        // Behind the last one there may be one of an invocation that was killed before it noted it.
        let last = cursor.plan.last().map_or(0, |file| file.number + 1);
        let keys: Vec<_> = (1..=last).map(|number| target.key(number)).collect();
        for keys in keys.chunks(1000) {
            let items = keys.iter().map(|key| DeleteItem::any(key));
            if let Err(error) = retrying(|| self.store.delete_batch(self.audit_bucket, items.clone())).await {
                tracing::warn!(rule = sweep.rule.id, %error, "the plan is left over");
            }
        }
    }

    /// The same for one that another invocation made, and that is not gone on with.
    async fn drop_plan(&self, rule: &Rule, progress: &lease::Progress, cursor: &Cursor) {
        let sweep = self.sweep(rule, (&progress.sweep_id, progress.started_at));
        self.clear_plan(&sweep, cursor).await;
    }
}

impl<S: ObjectStore, C: Clock> Held<'_, S, C> {
    fn origin(&self) -> Origin {
        Origin {
            sweep_id: self.sweep.id.to_string(),
            started_at: self.sweep.started_at,
            fingerprint: self.fingerprint.clone(),
            next_report: self.next_report,
        }
    }

    fn note(&mut self, file: Option<&ReportFile>) {
        if let Some(file) = file {
            self.cursor.reports.push(file.object.to_string());
            self.next_report = file.number + 1;
        }
    }

    /// The same with the reason why it takes longer than it should, where there is one.
    fn explained(&self, outcome: Outcome) -> Outcome {
        let outdated = || {
            let message = "What an earlier invocation had listed was more than a day old, so that it was listed anew; let \
                           the sweep go on sooner, as it does every few minutes by a loop or a denser schedule.";
            Reason::new(OUTDATED, message)
        };
        Outcome { reason: outcome.reason.or_else(|| self.anew.then(outdated)), ..outcome }
    }

    /// Why the plan must not be carried out.
    fn refusal(
        &self,
        braked: Option<&str>,
        last: Option<&LastSweep>,
        confirmed: &[String],
    ) -> Option<Reason> {
        let circumstances = Circumstances { last, braked, confirmed, sweep_id: &self.sweep.id };
        brake::stops(self.sweep.rule, &self.cursor.tally, circumstances)
    }

    fn end(self, outcome: Outcome, complete: bool, goes_on: bool) -> RuleEnd {
        let Self { sweep, cursor, at_start, .. } = &self;
        let added = cursor.tally.since(at_start);
        let report = cursor.reports.last().map(String::as_str);
        sweep.end(outcome, &cursor.tally, added, (complete, goes_on), cursor.missing_references, report)
    }
}

impl<S, C> Sweep<'_, S, C> {
    /// How the rule ended, with its numbers.
    pub(super) fn end(
        &self,
        outcome: Outcome,
        tally: &Tally,
        added: Tally,
        (complete, goes_on): (bool, bool),
        missing_references: Option<u64>,
        report: Option<&str>,
    ) -> RuleEnd {
        let Tally { scanned, expired, expired_bytes, deleted, deleted_bytes, changed, held, errors, .. } =
            tally;
        let sweep = json!({
            "id": &*self.id,
            "rule": self.rule.id,
            "complete": complete,
            "scanned": scanned,
            "expired": expired,
            "expired_bytes": expired_bytes,
            "deleted": deleted,
            "changed": changed,
            "held": held,
            "errors": errors,
            "deleted_bytes": deleted_bytes,
            "missing_references": missing_references,
            "report": report,
        });
        RuleEnd { outcome: outcome.with("sweep", without_nulls(sweep)), goes_on, added, is_told: true }
    }
}

/// How a sweep that came to its end ended.
pub(super) fn outcome_of(tally: &Tally) -> Outcome {
    let (errors, again) = (tally.errors, tally.retryable_errors);
    if again > 0 {
        let message = format!("{errors} deletes failed, {again} of which may succeed in another sweep.");
        Outcome::failed(Reason::new("deletes-failed", message), RetryClass::Retryable)
    } else if errors > 0 {
        let message = format!("{errors} deletes failed, for the reasons in the report.");
        Outcome { reason: Some(Reason::new("deletes-failed", message)), ..Outcome::of(Status::Swept) }
    } else {
        Outcome::of(Status::Swept)
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}
