//! The sweep of one rule: plan first, act second, and stop in time.
//!
//! 1. `plan` lists and decides. In mode `plan` its rows are the report. In mode `apply` they are written
//!    to the audit bucket before anything is deleted, as what the sweep intends.
//! 2. [`brake`] holds the plan against the rule's caps.
//! 3. `act` reads the plan back and deletes, on the condition that an object is still the one that was
//!    listed. Its report has one row for each row of the plan.
//!
//! Where no cap can stop a rule, 3. begins while 1. goes on, with one object of the plan after the other.
//!
//! The plan is what makes a kill at any moment harmless: whoever goes on knows which keys may have been
//! deleted without having been reported, and finds out. Nothing is kept in memory per key but the page and
//! the batches in flight.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::outcome::{Reason, RetryClass};
use shared::store::StoreError;

use crate::lease::LeaseError;
use crate::policy::Rule;
use crate::references::ReferenceError;
use crate::report::{PART_BYTES, ReadError, ReportTarget, StoredError, SummaryError, SummaryReason};

mod act;
mod ahead;
mod audit;
mod batch;
pub mod brake;
mod ending;
mod feed;
mod gone;
mod ledger;
mod listed;
mod meanwhile;
mod middle;
mod pace;
mod plan;
mod plan_reader;
mod ranges;
mod run;
mod source;
mod verify;

pub(crate) use act::{Ended, Intent};
pub(crate) use audit::Audit;
pub(crate) use ending::{Ending, Moment};
pub(crate) use plan::Sink;
pub use ranges::KeyRange;
pub(crate) use run::{Request, RuleEnd};
pub use source::Position;

/// How far an object's time may lie in the future before the clock is to blame: beyond this S3 itself
/// refuses every signature (`RequestTimeTooSkewed`).
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// The code of a rule that somebody else sweeps.
pub(crate) const ALREADY_RUNNING: &str = "already-running";

/// The code of a clock that is behind the store's.
const CLOCK_BEHIND: &str = "clock-behind";

/// How old a plan may be when it is acted upon without looking again.
const PLAN_IS_FRESH: Duration = Duration::from_secs(60);

/// With so little time left not much is begun before it is known how long it takes.
const SHORT: Duration = Duration::from_secs(30);

/// How large the pieces are in which a sweep works. Tests make them small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What one request deletes at most.
    pub batch: usize,
    /// The rows of one object of a plan: whoever goes on reads at most so many in vain.
    pub plan_rows: u64,
    /// The least bytes of a part of a report or a plan that is not the last.
    pub part_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        // What a store takes in one request.
        Self { batch: 1000, plan_rows: 100_000, part_bytes: PART_BYTES }
    }
}

/// Hears how a sweep gets on; for a person who is watching.
pub trait Progress: Send + Sync {
    /// A rule is begun, or gone on with.
    fn begun(&self, rule: &Rule) {
        let _ = rule;
    }
    /// Another page was listed: how much of the rule was looked at so far, and how much of it is due.
    fn scanned(&self, rule: &Rule, tally: &Tally) {
        let _ = (rule, tally);
    }
    /// Another batch was deleted.
    fn deleted(&self, rule: &Rule, tally: &Tally) {
        let _ = (rule, tally);
    }
}

/// Nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Progress for Unwatched {}

/// The numbers of one rule in one sweep, all its invocations together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many objects, uploads or versions were looked at.
    pub scanned: u64,
    /// How many of them are due.
    pub expired: u64,
    /// The size of those.
    pub expired_bytes: u64,
    /// For how long the one that is due longest has been due, in seconds.
    pub lag_seconds: Option<u64>,
    /// How many were written after now, by more than what clocks differ.
    pub from_the_future: u64,
    /// How many keys came where they do not belong, as the store lists in an order of its own.
    #[serde(default)]
    pub out_of_order: u64,
    /// How many of those that were looked at the reference list names, where there is one.
    #[serde(default)]
    pub referenced: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// The size of those.
    pub deleted_bytes: u64,
    /// How many had been replaced, and were kept.
    pub changed: u64,
    /// How many are held, and were kept.
    pub held: u64,
    /// How many could not be deleted.
    pub errors: u64,
    /// How many of those another run may delete.
    pub retryable_errors: u64,
}

/// How far the sweep of a rule has come: what the next invocation needs in order to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// What comes next.
    pub phase: Phase,
    /// When the listing of the rule was begun.
    #[serde(default)]
    pub listed_since: Option<Timestamp>,
    /// The objects that the plan consists of.
    #[serde(with = "plan_text")]
    pub plan: Vec<PlanFile>,
    /// The numbers so far.
    pub tally: Tally,
    /// The reports so far, as URIs.
    pub reports: Vec<String>,
    /// How many references name an object that does not exist, where there is a list.
    pub missing_references: Option<u64>,
    /// The tag of the reference list that was found whole and in order.
    pub verified: Option<String>,
    /// Whether the rule is listed once more in one range, since the store lists in an order of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undivided: bool,
    /// Why a CDN goes on serving what was deleted, if one refused to hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<SummaryReason>,
    /// The stopped sweep that this one makes anew, which is what `SWEEP_CONFIRM` names until the plan is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub braked: Option<String>,
    /// What was done before under the same id, where a sweep that was finished with failures begins once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// What a finished sweep of a rule did, to which another one under the same id adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// How many were deleted.
    pub deleted: u64,
    /// The size of those.
    pub deleted_bytes: u64,
    /// The reports, as URIs.
    pub reports: Vec<String>,
}

/// An object of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanFile {
    /// The number in its name.
    pub number: u32,
    /// How many rows it has.
    pub rows: u64,
}

/// A plan in a cursor: `1:8000 2:8000`, numbers with their rows. The plan of ten million objects has more than a thousand
/// files, the cursor is written once for each, and as JSON objects they would take hundreds of times as much memory.
mod plan_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::PlanFile;

    pub(super) fn serialize<S: Serializer>(files: &[PlanFile], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(files.len() * "1000:8000 ".len());
        for PlanFile { number, rows } in files {
            let space = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{space}{number}:{rows}"));
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PlanFile>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let file = |file: &str| {
            let (number, rows) = file.split_once(':')?;
            Some(PlanFile { number: number.parse().ok()?, rows: rows.parse().ok()? })
        };
        let known =
            |text: &str| file(text).ok_or_else(|| D::Error::custom(format!("{text:?} is no file of a plan")));
        text.split_ascii_whitespace().map(known).collect()
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// To list, after this position.
    Listing {
        /// What was decided last; `None` at the beginning.
        after: Option<Position>,
        /// The ranges of keys that are not at their end, where they are listed at once.
        #[serde(default)]
        ranges: Vec<KeyRange>,
    },
    /// To delete.
    Acting(Acting),
    /// To begin afresh: the sweep was stopped before its first delete.
    Stopped {
        /// What `SWEEP_CONFIRM` has to name, should the anomaly brake have been the reason.
        sweep_id: String,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Listing { after: None, ranges: Vec::new() }
    }
}

/// How far a plan was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// Where the report in the writing begins.
    pub begun: Place,
    /// The numbers before that.
    pub before: Tally,
    /// The next row of the plan whose result is not safe at the store.
    pub place: Place,
    /// Whether the invocation before stopped of itself. If not, rows from `place` on may have been
    /// deleted without having been reported.
    pub clean: bool,
    /// Where the rule is listed at the same time, the ranges of keys that are not at their end; empty once
    /// the plan is whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listing: Vec<KeyRange>,
}

impl Acting {
    /// Before the first row, with these numbers and what is still to be listed.
    pub(crate) fn begin(before: Tally, listing: Vec<KeyRange>) -> Self {
        Self { begun: Place::FIRST, before, place: Place::FIRST, clean: true, listing }
    }
}

/// A row of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Which object of the plan, from 0.
    pub file: usize,
    /// Which row of it, from 0.
    pub row: u64,
}

impl Place {
    /// The first row of a plan.
    pub const FIRST: Self = Self { file: 0, row: 0 };
}

impl Cursor {
    /// Where the plan goes on after `count` rows from `place` on.
    pub(crate) fn after(&self, mut place: Place, mut count: u64) -> Place {
        while let Some(file) = self.plan.get(place.file) {
            let left = file.rows.saturating_sub(place.row);
            if count < left {
                return Place { row: place.row + count, ..place };
            }
            count -= left;
            place = Place { file: place.file + 1, row: 0 };
        }
        place
    }

    /// Whether nothing was begun.
    pub(crate) fn is_untouched(&self) -> bool {
        let Self { earlier, braked, .. } = self.clone();
        *self == Self { earlier, braked, ..Self::default() }
    }

    /// What `SWEEP_CONFIRM` has to name, if the sweep was stopped.
    pub(crate) fn stopped(self) -> Option<String> {
        match self.phase {
            Phase::Stopped { sweep_id } => Some(sweep_id),
            Phase::Listing { .. } | Phase::Acting(_) => None,
        }
    }

    /// Whether keys may have been missed between ranges, so that the rule has to be listed in one.
    pub(crate) fn has_gaps(&self) -> bool {
        self.tally.out_of_order > 0 && !self.undivided
    }

    /// Whether the rule is not listed to its end.
    pub(crate) fn is_listing(&self) -> bool {
        match &self.phase {
            Phase::Listing { .. } => true,
            Phase::Acting(acting) => !acting.listing.is_empty(),
            Phase::Stopped { .. } => false,
        }
    }

    /// How many rows the plan has.
    pub(crate) fn planned(&self) -> u64 {
        self.plan.iter().map(|file| file.rows).sum()
    }
}

/// Why the sweep of a rule ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The reason that the outcome carries.
    pub reason: Reason,
    /// Whether another run may fare better.
    pub retry: RetryClass,
}

impl Halt {
    /// A person has to act.
    pub fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Reason::new(code, message), retry: RetryClass::Permanent }
    }

    /// The time was over before anything was answered.
    fn late() -> Self {
        let message =
            "The time was over before the store answered; the next invocation finds out what was done.";
        Self { reason: Reason::new("deadline", message), retry: RetryClass::Retryable }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self { reason: error.reason(), retry: error.retry_class() }
    }
}

impl From<ReadError> for Halt {
    fn from(error: ReadError) -> Self {
        Self::permanent(error.code(), format!("What the sweep wrote cannot be read back: {error}."))
    }
}

impl From<StoredError> for Halt {
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::Store(error) => error.into(),
            StoredError::Report(error) => error.into(),
        }
    }
}

impl From<LeaseError> for Halt {
    fn from(error: LeaseError) -> Self {
        Self { reason: error.reason(), retry: error.retry_class() }
    }
}

impl From<ReferenceError> for Halt {
    fn from(error: ReferenceError) -> Self {
        Self { reason: error.reason(), retry: error.retry_class() }
    }
}

impl From<SummaryError> for Halt {
    fn from(error: SummaryError) -> Self {
        match error {
            SummaryError::Store(error) => error.into(),
            unreadable @ SummaryError::Unreadable { .. } => {
                Self { reason: unreadable.reason(), retry: RetryClass::Permanent }
            }
        }
    }
}

/// The sweep of one rule in one invocation.
pub(crate) struct Sweep<'a, S, C> {
    pub(crate) store: &'a S,
    pub(crate) clock: &'a C,
    pub(crate) audit_bucket: &'a str,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) ending: Ending,
    pub(crate) rule: &'a Rule,
    pub(crate) sizes: Sizes,
    /// The sweep.
    pub(crate) id: Arc<str>,
    /// When it began.
    pub(crate) started_at: Timestamp,
    /// The rule's id and its bucket, as rows share them.
    names: (Arc<str>, Arc<str>),
    pace: pace::Pace,
}

impl<'a, S, C: Clock> Sweep<'a, S, C> {
    pub(crate) fn new(
        store: &'a S,
        clock: &'a C,
        audit_bucket: &'a str,
        progress: &'a dyn Progress,
        ending: Ending,
        (rule, sizes): (&'a Rule, Sizes),
        (id, started_at): (&str, Timestamp),
    ) -> Self {
        let (id, pace) = (Arc::from(id), pace::Pace::default());
        let names = (Arc::from(&*rule.id), Arc::from(&*rule.bucket));
        Self { store, clock, audit_bucket, progress, ending, rule, sizes, id, started_at, names, pace }
    }

    /// Whether it is time to stop.
    pub(crate) fn is_over(&self) -> bool {
        self.clock.now() >= self.ending.stop_at
    }

    /// Whether a batch that is begun now would end after that.
    pub(crate) fn is_over_for_a_batch(&self) -> bool {
        self.clock.now().checked_add(self.pace.expected()).ok().is_none_or(|end| end >= self.ending.stop_at)
    }

    /// Whether a batch may be begun that has its place.
    pub(crate) fn is_time_for_a_batch(&self) -> bool {
        let is_in_plenty = || self.ending.left(Moment::Stop) >= SHORT;
        !self.is_over_for_a_batch() && (is_in_plenty() || !self.pace.is_to_be_shown())
    }

    /// The reports of the rule.
    pub(crate) fn report(&self) -> ReportTarget {
        self.target(self.rule.id.clone())
    }

    /// The objects that a plan consists of, which are of no use once it has been acted upon.
    pub(crate) fn plan_target(&self) -> ReportTarget {
        self.target(format!("{}.plan", self.rule.id))
    }

    /// Another series of reports in the sweep's folder.
    pub(crate) fn target(&self, rule: String) -> ReportTarget {
        ReportTarget {
            bucket: self.audit_bucket.to_owned(),
            started_at: self.started_at,
            sweep_id: self.id.to_string(),
            rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_many_files_is_a_short_text_in_a_cursor() {
        for files in [0, 1, 2, 1250] {
            let plan: Vec<_> = (1..=files).map(|number| PlanFile { number, rows: 8000 }).collect();
            let cursor = Cursor { plan, ..Cursor::default() };
            let text = serde_json::to_string(&cursor).unwrap();
            assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
            assert!(text.len() < 500 + 10 * files as usize, "{}", text.len());
        }
        for damaged in ["1", "1:", ":8000", "1:8000,2:8000", "-1:8000"] {
            let mut cursor = serde_json::to_value(Cursor::default()).unwrap();
            cursor["plan"] = damaged.into();
            assert!(serde_json::from_value::<Cursor>(cursor).is_err(), "{damaged}");
        }
    }
}
