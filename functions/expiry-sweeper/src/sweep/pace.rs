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
    answers: AtomicUsize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { places: Semaphore::new(MOST_AT_ONCE), away: AtomicUsize::new(0), answers: AtomicUsize::new(0) }
    }
}

impl Pace {
    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.places.acquire().await.ok()
    }

    /// The store asked to slow down: half of the places go.
    pub(super) fn slow_down(&self) {
        self.answers.store(0, Ordering::Relaxed);
        let left = MOST_AT_ONCE - self.away.load(Ordering::Relaxed).min(MOST_AT_ONCE);
        let gone = self.places.forget_permits((left / 2).min(left.saturating_sub(1)));
        self.away.fetch_add(gone, Ordering::Relaxed);
    }

    /// The store answered.
    pub(super) fn go_on(&self) {
        let answers = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        if answers >= ANSWERS_PER_STEP && self.away.load(Ordering::Relaxed) > 0 {
            self.answers.store(0, Ordering::Relaxed);
            self.away.fetch_sub(1, Ordering::Relaxed);
            self.places.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_halved_down_to_one_and_come_back_one_by_one() {
        let pace = Pace::default();
        for left in [4, 2, 1, 1] {
            pace.slow_down();
            assert_eq!(pace.places.available_permits(), left);
        }
        for _ in 0..ANSWERS_PER_STEP {
            pace.go_on();
        }
        assert_eq!(pace.places.available_permits(), 2);
        for _ in 0..100 * ANSWERS_PER_STEP {
            pace.go_on();
        }
        assert_eq!(pace.places.available_permits(), MOST_AT_ONCE);
    }
}
