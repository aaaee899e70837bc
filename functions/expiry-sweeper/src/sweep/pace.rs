//! How much is under way: more batches while the store keeps up, half as many when it asks to slow down, and never more
//! rows than there is memory for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The most batches in flight. A store deletes the keys of a batch more or less one after the other, so that
/// it is batches side by side that keep it busy. Only those of few rows come to so many.
pub(super) const MOST_AT_ONCE: usize = 32;

/// The most rows under way, which is what takes memory: in flight, with their request, about a quarter of a megabyte for a
/// thousand, and half of that while they wait to be reported behind a slower batch. Of full batches these are twenty.
const ROWS_AT_ONCE: usize = 20_000;

/// How many batches are in flight where nobody knows yet how long one takes, and that matters.
const FIRST_AT_ONCE: usize = 2;

/// Hands out the places.
pub(crate) struct Pace {
    places: Semaphore,
    rows: Semaphore,
    /// Places that were taken away.
    away: AtomicUsize,
    /// Those of them that are still taken, and go when they are given back.
    owed: AtomicUsize,
    /// How many batches are in flight. A place is taken before that, as its rows have to be read.
    in_flight: AtomicUsize,
    answers: AtomicUsize,
    /// How often places were taken away.
    halvings: AtomicUsize,
    /// How long the slowest batch of late took for each that was in flight meanwhile, in microseconds; 0 while none has
    /// ended.
    slowest: AtomicU64,
    /// How long the quickest took, in microseconds.
    quickest: AtomicU64,
    /// A place was given back.
    ended: Notify,
}

/// A place in flight, with memory for its rows, given back when it is dropped.
pub(super) struct InFlight<'p> {
    pace: &'p Pace,
    permit: Option<SemaphorePermit<'p>>,
    rows: Option<SemaphorePermit<'p>>,
    /// Whether the batch has begun.
    begun: bool,
    /// How often places had been taken away when the attempt began.
    halvings: usize,
}

/// Memory for rows that are still needed, given back when it is dropped.
pub(super) struct RowsHeld<'p> {
    _rows: Option<SemaphorePermit<'p>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            places: Semaphore::new(MOST_AT_ONCE),
            rows: Semaphore::new(ROWS_AT_ONCE),
            away: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            halvings: AtomicUsize::new(0),
            slowest: AtomicU64::new(0),
            quickest: AtomicU64::new(u64::MAX),
            ended: Notify::new(),
        }
    }
}

impl Pace {
    /// Waits for a place, and for memory for a batch of `rows` rows.
    pub(super) async fn place(&self, rows: usize) -> InFlight<'_> {
        let rows = u32::try_from(rows.min(ROWS_AT_ONCE)).unwrap_or(u32::MAX);
        // The semaphores are never closed.
        let permit = self.places.acquire().await.ok();
        let rows = self.rows.acquire_many(rows).await.ok();
        InFlight { pace: self, permit, rows, begun: false, halvings: self.halvings.load(Ordering::Relaxed) }
    }

    /// How many batches are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A batch took so long while so many were in flight at most, itself included. One that was slow counts for less with
    /// each that follows.
    pub(super) fn took(&self, time: Duration, in_flight: usize) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let in_flight = u64::try_from(in_flight.max(1)).unwrap_or(u64::MAX);
        let before = self.slowest.load(Ordering::Relaxed);
        self.slowest.store(time.div_ceil(in_flight).max(before - before / 8), Ordering::Relaxed);
        self.quickest.fetch_min(time, Ordering::Relaxed);
    }

    /// How long a batch may take that is begun now: at a store that takes the longer, the more it is asked at once, by how
    /// many are in flight; and since others take as long for one as for many, no less than half of what any took. Nothing
    /// while none has ended.
    pub(super) fn expected(&self) -> Duration {
        let slowest = self.slowest.load(Ordering::Relaxed);
        if slowest == 0 {
            return Duration::ZERO;
        }
        let in_flight = u64::try_from(self.in_flight() + 1).unwrap_or(u64::MAX);
        let quickest = self.quickest.load(Ordering::Relaxed);
        Duration::from_micros(slowest.saturating_mul(in_flight).max(quickest / 2))
    }

    /// Whether it is not known how long a batch takes, while those are in flight that will show it.
    pub(super) fn is_to_be_shown(&self) -> bool {
        self.slowest.load(Ordering::Relaxed) == 0 && self.in_flight() >= FIRST_AT_ONCE
    }

    /// Waits until another batch may begin, which is asked again whenever a place was given back; or until none is in flight.
    pub(super) async fn until(&self, may_begin: impl Fn() -> bool) {
        loop {
            // It hears also of what happens before it is waited for.
            let ended = self.ended.notified();
            if self.in_flight() == 0 || may_begin() {
                return;
            }
            ended.await;
        }
    }

    /// How many places there are, also those that are taken.
    fn left(&self) -> usize {
        MOST_AT_ONCE.saturating_sub(self.away.load(Ordering::Relaxed))
    }

    /// How many places are taken.
    fn taken(&self) -> usize {
        let owed = self.owed.load(Ordering::Relaxed);
        (self.left() + owed).saturating_sub(self.places.available_permits())
    }
}

impl<'p> InFlight<'p> {
    /// It turned out to be so many rows: memory for more is given back.
    pub(super) fn holds(&mut self, rows: usize) {
        if let Some(permit) = &mut self.rows {
            drop(permit.split(permit.num_permits().saturating_sub(rows)));
        }
    }

    /// The batch begins.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.pace.in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is in flight no more: the place is given back, and what keeps the memory for its rows is answered.
    pub(super) fn land(mut self) -> RowsHeld<'p> {
        RowsHeld { _rows: self.rows.take() }
    }

    /// Another attempt begins in this place.
    pub(super) fn begin_attempt(&mut self) {
        self.halvings = self.pace.halvings.load(Ordering::Relaxed);
    }

    /// The store asked to slow down: there are to be half as many batches as were in flight; places go also while they
    /// are taken, as soon as they are given back. What was in flight when they went complains of the same, and does not
    /// count again.
    pub(super) fn slow_down(&self) {
        let Pace { places, away, owed, answers, halvings, .. } = self.pace;
        answers.store(0, Ordering::Relaxed);
        if halvings.load(Ordering::Relaxed) != self.halvings {
            return;
        }
        halvings.fetch_add(1, Ordering::Relaxed);
        let left = self.pace.left();
        let staying = (self.pace.taken().min(left) / 2).max(1);
        let going = left.saturating_sub(staying);
        let gone = places.forget_permits(going);
        owed.fetch_add(going - gone, Ordering::Relaxed);
        away.fetch_add(going, Ordering::Relaxed);
    }

    /// The store answered. When all that fits in flight was answered without a complaint, one more is tried.
    pub(super) fn go_on(&self) {
        let Pace { places, away, owed, answers, .. } = self.pace;
        let count = answers.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= self.pace.left() && away.load(Ordering::Relaxed) > 0 {
            answers.store(0, Ordering::Relaxed);
            away.fetch_sub(1, Ordering::Relaxed);
            if owed.load(Ordering::Relaxed) > 0 {
                owed.fetch_sub(1, Ordering::Relaxed);
            } else {
                places.add_permits(1);
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Pace { owed, in_flight, ended, .. } = self.pace;
        if self.begun {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        match self.permit.take() {
            Some(permit) if owed.load(Ordering::Relaxed) > 0 => {
                owed.fetch_sub(1, Ordering::Relaxed);
                permit.forget();
            }
            permit => drop(permit),
        }
        ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// So many batches of one row.
    async fn flight(pace: &Pace, batches: usize) -> Vec<InFlight<'_>> {
        let mut flight = Vec::new();
        for _ in 0..batches {
            let mut place = pace.place(1).await;
            place.begin();
            flight.push(place);
        }
        flight
    }

    #[tokio::test]
    async fn half_of_what_is_in_flight_stays_at_least_one_and_places_come_back_one_by_one() {
        let pace = Pace::default();
        for (batches, left) in [(12, 6), (6, 3), (3, 1), (1, 1)] {
            flight(&pace, batches).await[0].slow_down();
            assert_eq!(pace.places.available_permits(), left);
        }
        for places in 1..MOST_AT_ONCE {
            assert_eq!(pace.places.available_permits(), places);
            flight(&pace, places).await.iter().for_each(InFlight::go_on);
        }
        flight(&pace, MOST_AT_ONCE).await.iter().for_each(InFlight::go_on);
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE);
    }

    #[tokio::test]
    async fn a_full_flight_is_halved_once_for_all_its_complaints_and_when_it_lands() {
        let pace = Pace::default();
        let mut flight = flight(&pace, MOST_AT_ONCE).await;
        flight.iter().for_each(InFlight::slow_down);
        flight.clear();
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE / 2);
        // One that tries again complains of what is new.
        let mut place = pace.place(1).await;
        place.slow_down();
        place.begin_attempt();
        place.slow_down();
        drop(place);
        assert_eq!(pace.places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_batch_is_expected_to_take_what_the_slowest_took_of_late_for_each_that_is_in_flight() {
        let pace = Pace::default();
        assert_eq!(pace.expected(), Duration::ZERO);
        let expected = |milliseconds: u64| {
            pace.took(Duration::from_millis(milliseconds), 1);
            pace.expected().as_millis()
        };
        assert_eq!([200, 800, 100].map(expected), [200, 800, 700]);
        assert_eq!([100; 40].map(expected)[39], 100);
        let flight = flight(&pace, 4).await;
        // A place is no batch yet.
        let _place = pace.place(1).await;
        assert_eq!(pace.expected().as_millis(), 500);
        pace.took(Duration::from_secs(2), 10);
        assert_eq!(pace.expected().as_millis(), 1000);
        drop(flight);
        assert_eq!(pace.expected().as_millis(), 200);
    }

    #[tokio::test]
    async fn alone_a_batch_is_expected_to_take_no_less_than_half_of_what_the_quickest_took() {
        let pace = Pace::default();
        pace.took(Duration::from_secs(3), 20);
        pace.took(Duration::from_secs(2), 20);
        assert_eq!(pace.expected(), Duration::from_secs(1));
        let _flight = flight(&pace, 19).await;
        assert!(pace.expected() > Duration::from_secs(2));
    }

    #[tokio::test]
    async fn the_third_batch_is_to_wait_until_one_of_the_first_two_has_ended() {
        let pace = Pace::default();
        let mut first = flight(&pace, 1).await;
        assert!(!pace.is_to_be_shown());
        first.extend(flight(&pace, 1).await);
        assert!(pace.is_to_be_shown());
        pace.took(Duration::ZERO, 2);
        assert!(!pace.is_to_be_shown());
    }

    #[tokio::test]
    async fn what_may_not_begin_waits_until_it_may_or_is_alone() {
        let pace = Pace::default();
        let mut flight = flight(&pace, 4).await;
        let mut next = Box::pin(pace.until(|| pace.in_flight() < 4));
        assert!(next.as_mut().now_or_never().is_none());
        flight.pop();
        next.now_or_never().unwrap();
        let mut next = Box::pin(pace.until(|| false));
        while let Some(mut place) = flight.pop() {
            assert!(next.as_mut().now_or_never().is_none());
            // Begun twice, it is in flight once.
            place.begin();
            drop(place.land());
        }
        next.now_or_never().unwrap();
    }

    #[tokio::test]
    async fn large_batches_wait_for_memory_and_small_ones_do_not() {
        let pace = Pace::default();
        let mut flight = Vec::new();
        for _ in 0..ROWS_AT_ONCE / 1000 {
            flight.push(pace.place(1000).await);
        }
        assert!(pace.place(1000).now_or_never().is_none());
        // It is not known before how large a batch becomes.
        flight.iter_mut().for_each(|place| place.holds(125));
        for _ in flight.len()..MOST_AT_ONCE {
            flight.push(pace.place(125).now_or_never().unwrap());
        }
        assert!(pace.place(1).now_or_never().is_none());
        flight.clear();
        assert_eq!(pace.rows.available_permits(), ROWS_AT_ONCE);
        // One that is larger than all there is has all of it, instead of waiting for ever.
        assert!(pace.place(ROWS_AT_ONCE + 1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_has_landed_leaves_its_place_to_others_and_keeps_its_memory_until_it_is_reported() {
        let pace = Pace::default();
        let mut landed = Vec::new();
        for _ in 0..ROWS_AT_ONCE / 1000 {
            landed.push(pace.place(1000).await.land());
        }
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE);
        assert!(pace.place(1).now_or_never().is_none());
        landed.pop();
        assert!(pace.place(1000).now_or_never().is_some());
        // One that goes when it is given back goes when it lands, too.
        let mut flight = flight(&pace, 2).await;
        flight[0].slow_down();
        flight.drain(..).for_each(|place| drop(place.land()));
        assert_eq!(pace.places.available_permits(), 1);
    }
}
