//! How many batches are in flight: more while the store keeps up, half as many when it asks to slow down.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The most batches in flight. A store deletes the keys of a batch more or less one after the other, so that
/// it is batches side by side that keep it busy. Each of them takes about a megabyte, with its rows, its request
/// and its answer.
pub(super) const MOST_AT_ONCE: usize = 8;
/// After so many answers without a complaint, one more is tried.
const ANSWERS_PER_STEP: usize = 8;

/// Hands out the places.
pub(crate) struct Pace {
    places: Semaphore,
    /// Places that were taken away.
    away: AtomicUsize,
    /// Those of them that are still taken, and go when they are given back.
    owed: AtomicUsize,
    answers: AtomicUsize,
    /// How often places were taken away.
    halvings: AtomicUsize,
}

/// A place in flight, given back when it is dropped.
pub(super) struct InFlight<'p> {
    pace: &'p Pace,
    permit: Option<SemaphorePermit<'p>>,
    /// How often places had been taken away when the attempt began.
    halvings: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            places: Semaphore::new(MOST_AT_ONCE),
            away: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            halvings: AtomicUsize::new(0),
        }
    }
}

impl Pace {
    /// Waits for a place.
    pub(super) async fn place(&self) -> InFlight<'_> {
        // The semaphore is never closed.
        let permit = self.places.acquire().await.ok();
        InFlight { pace: self, permit, halvings: self.halvings.load(Ordering::Relaxed) }
    }
}

impl InFlight<'_> {
    /// Another attempt begins in this place.
    pub(super) fn begin_attempt(&mut self) {
        self.halvings = self.pace.halvings.load(Ordering::Relaxed);
    }

    /// The store asked to slow down: half of the places go, also those that are in use, as soon as they are given
    /// back. What was in flight when they went complains of the same, and does not count again.
    pub(super) fn slow_down(&self) {
        let Pace { places, away, owed, answers, halvings } = self.pace;
        answers.store(0, Ordering::Relaxed);
        if halvings.load(Ordering::Relaxed) != self.halvings {
            return;
        }
        halvings.fetch_add(1, Ordering::Relaxed);
        let left = MOST_AT_ONCE.saturating_sub(away.load(Ordering::Relaxed));
        let going = (left / 2).min(left.saturating_sub(1));
        let gone = places.forget_permits(going);
        owed.fetch_add(going - gone, Ordering::Relaxed);
        away.fetch_add(going, Ordering::Relaxed);
    }

    /// The store answered.
    pub(super) fn go_on(&self) {
        let Pace { places, away, owed, answers, .. } = self.pace;
        let count = answers.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= ANSWERS_PER_STEP && away.load(Ordering::Relaxed) > 0 {
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
        let owed = &self.pace.owed;
        if owed.load(Ordering::Relaxed) > 0
            && let Some(permit) = self.permit.take()
        {
            owed.fetch_sub(1, Ordering::Relaxed);
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_halved_down_to_one_and_come_back_one_by_one() {
        let pace = Pace::default();
        for left in [4, 2, 1, 1] {
            pace.place().await.slow_down();
            assert_eq!(pace.places.available_permits(), left);
        }
        let place = pace.place().await;
        for _ in 0..ANSWERS_PER_STEP {
            place.go_on();
        }
        assert_eq!(pace.places.available_permits(), 1);
        for _ in 0..100 * ANSWERS_PER_STEP {
            place.go_on();
        }
        drop(place);
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE);
    }

    #[tokio::test]
    async fn a_full_flight_is_halved_once_for_all_its_complaints_and_when_it_lands() {
        let pace = Pace::default();
        let mut flight = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            flight.push(pace.place().await);
        }
        flight.iter().for_each(InFlight::slow_down);
        flight.clear();
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE / 2);
        // One that tries again complains of what is new.
        let mut place = pace.place().await;
        place.slow_down();
        place.begin_attempt();
        place.slow_down();
        drop(place);
        assert_eq!(pace.places.available_permits(), 1);
    }
}
