//! Lists and decides while what was planned before is being deleted.
//!
//! Only where no cap can stop the rule. A row is handed on when the object of the plan that it is in stands at the
//! store and the cursor that names that object is safe: what is deleted has been written down, here as elsewhere.

use std::mem::take;

use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::store::{ObjectStore, Outgoing};

use super::feed::{Fed, Feed};
use super::ledger::Ledger;
use super::plan::{Listed, Planning, Sink};
use super::{CLOCK_BEHIND, Cursor, Halt, KeyRange, PLAN_IS_FRESH, Phase, PlanFile, Sizes, Sweep, Tally};
use crate::report::{ReportFile, UploadState};

/// Rows of an object of the plan, at most: so few that it is small, and need not be fetched again.
const MOST_ROWS: u64 = 8000;

/// And bytes, about.
pub(super) const OBJECT_BYTES: usize = 1 << 20;

/// One of so many objects is due where deleting takes longer than listing.
const DENSE: u64 = 10;

/// Pages that are fetched at once there.
const PAGES_WHERE_DENSE: usize = 2;

/// How long rows wait for others, so that they are still fresh when they are acted upon.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(PLAN_IS_FRESH.as_secs().cast_signed() / 2);

/// Takes what a listing brings, and hands it on.
struct Ahead<'f, 'p, F, C> {
    feed: &'f Feed,
    ledger: &'f Ledger<'p, F>,
    clock: &'f C,
    sizes: Sizes,
    /// What is not in the ledger, because its rows are not at the store.
    pending: Tally,
    /// All that was listed by this invocation.
    listed: Tally,
    /// Where the listing goes on after those rows.
    ranges: Vec<KeyRange>,
    /// When the first of those rows was listed.
    since: Timestamp,
    /// How many rows are handed on at least, where somebody waits for them.
    least: u64,
    /// Whether the ledger could not be written.
    lost: bool,
}

impl<F, C: Clock> Ahead<'_, '_, F, C>
where
    F: AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
{
    /// What was listed so far is safe.
    fn note(&mut self, file: Option<PlanFile>) {
        let (pending, ranges) = (take(&mut self.pending), self.ranges.clone());
        self.ledger.change(|cursor, _| {
            cursor.tally.add(&pending);
            cursor.plan.extend(file);
            if let Phase::Acting(acting) = &mut cursor.phase {
                (acting.listing, acting.clean) = (ranges, acting.clean && file.is_none());
            }
        });
    }

    async fn hand_on(&mut self, file: PlanFile, content: Option<Outgoing>) -> Result<(), Halt> {
        let listed_since = Some(self.since);
        self.least = self.least.saturating_mul(2);
        self.note(Some(file));
        self.lost = true;
        self.ledger.save().await?;
        self.lost = false;
        self.feed.push(Fed { file, listed_since }, content);
        Ok(())
    }
}

impl<F, C: Clock> Planning for Ahead<'_, '_, F, C>
where
    F: AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
{
    fn ends_object(&self, rows: u64, bytes: u64) -> bool {
        let most = self.sizes.plan_rows.min(MOST_ROWS);
        let is_old = || self.clock.now().duration_since(self.since) > LONGEST_WAIT;
        let is_worth_it = || rows >= self.least || (rows > 0 && is_old());
        rows >= most || bytes >= OBJECT_BYTES as u64 || (self.feed.is_wanted() && is_worth_it())
    }

    fn at_once(&self, most: usize) -> usize {
        // A page is listed in a fraction of the time in which its objects are deleted, and takes a megabyte and more.
        let is_dense = self.listed.expired.saturating_mul(DENSE) >= self.listed.scanned;
        if self.feed.is_ahead() {
            1
        } else if is_dense {
            most.min(PAGES_WHERE_DENSE)
        } else {
            most
        }
    }

    fn is_stopped(&self) -> bool {
        self.feed.is_stopped()
    }

    fn scanned(&mut self, tally: &Tally, asked_at: Timestamp) -> Result<(), Halt> {
        self.ledger.scanned(tally);
        if self.pending.expired == 0 {
            self.since = asked_at;
        }
        // A page may have waited for its turn.
        self.since = self.since.min(asked_at);
        self.pending.add(tally);
        self.listed.add(tally);
        if tally.from_the_future == 0 { Ok(()) } else { Err(clock_behind(tally, self.clock.now())) }
    }

    async fn listed(&mut self, Listed { ranges, finished }: Listed) -> Result<(), Halt> {
        self.ranges = ranges;
        if let Some(ReportFile { number, rows, content, .. }) = finished {
            self.hand_on(PlanFile { number, rows }, content).await?;
            self.feed.room().await;
        }
        self.ledger.keep().await
    }
}

/// Objects were written later than it is.
pub(super) fn clock_behind(tally: &Tally, now: Timestamp) -> Halt {
    let message = format!(
        "{} objects were written after {now}, so that this clock is behind the store's; nothing of that was deleted.",
        tally.from_the_future
    );
    Halt::permanent(CLOCK_BEHIND, message)
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// Lists these ranges, and feeds what is due. Answers whether the end was reached, or why not.
    ///
    /// # Errors
    /// What was listed cannot be kept, or the rule is somebody else's by now.
    pub(super) async fn list_ahead<F>(
        &self,
        ranges: Vec<KeyRange>,
        sink: &mut Sink<'_, S>,
        feed: &Feed,
        ledger: &Ledger<'_, F>,
    ) -> Result<Result<bool, Halt>, Halt>
    where
        F: AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
    {
        let (clock, sizes, least) = (self.clock, self.sizes, self.sizes.batch as u64);
        let (pending, listed, since) = (Tally::default(), Tally::default(), clock.now());
        let mut ahead = Ahead {
            feed,
            ledger,
            clock,
            sizes,
            pending,
            listed,
            ranges: ranges.clone(),
            since,
            least,
            lost: false,
        };
        let mut ended = self.plan_ranges(ranges, sink, &mut ahead).await;
        if let Err(halt) = ended {
            if ahead.lost || sink.is_broken() {
                return Err(halt);
            }
            if halt.reason.code == CLOCK_BEHIND {
                // What came on that page was not decided about; it is listed again.
                feed.end();
                return Ok(Err(halt));
            }
            ended = Err(halt);
        }
        if ended == Ok(true) {
            ahead.ranges.clear();
        }
        match sink.finish().await? {
            Some(ReportFile { number, rows, content, .. }) => {
                ahead.hand_on(PlanFile { number, rows }, content).await?;
            }
            None => ahead.note(None),
        }
        feed.end();
        Ok(ended)
    }
}
