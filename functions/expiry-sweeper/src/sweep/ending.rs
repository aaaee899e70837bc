//! How an invocation comes to its end: what is begun no more, waited for no more, and when it answers whatever happens.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

/// What is kept of an invocation's time for finishing reports and cursors: a fifth, within these bounds.
const FINISHING_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// How much time there is where there is no deadline.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Moments before a deadline, each later than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing is begun from now on, and nothing more is asked about single objects.
    Stop,
    /// Nor is a page of a listing waited for, nor a last look at an object, where a delete can have no condition.
    Check,
    /// Nor are deletes and listings in flight.
    Flight,
    /// Nor are CDNs, which another invocation tells.
    Told,
    /// Nor is a rule, whatever it is doing.
    Rule,
    /// Nor is a note of how far all rules came.
    Note,
    /// Nor is anything else.
    Answer,
}

impl Moment {
    /// How long before the deadline it is, in tenths of what is kept for finishing.
    fn tenths(self) -> u32 {
        match self {
            Self::Stop => 10,
            Self::Check => 8,
            Self::Flight => 6,
            Self::Told => 5,
            Self::Rule => 3,
            Self::Note => 2,
            Self::Answer => 1,
        }
    }
}

/// The end of an invocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// From when on nothing is begun.
    pub(crate) stop_at: Timestamp,
    /// The deadline as this process measures time; `None` if it is too far to be told.
    deadline: Option<Instant>,
    /// What is kept of the time for finishing.
    finishing: Duration,
}

impl Ending {
    /// Of an invocation that ends at `deadline`, which is in `remaining`.
    pub(crate) fn of(deadline: Timestamp, remaining: Duration) -> Self {
        let (least, most) = FINISHING_TIME;
        let finishing = (remaining / 5).clamp(least, most);
        let stop_at = deadline.checked_sub(finishing).unwrap_or(Timestamp::MIN);
        Self { stop_at, deadline: Instant::now().checked_add(remaining), finishing }
    }

    /// What `awaited` comes to; `None` if that is not there at `moment`.
    pub(crate) async fn before<T>(&self, moment: Moment, awaited: impl Future<Output = T>) -> Option<T> {
        match self.instant(moment) {
            Some(instant) => timeout_at(instant, awaited).await.ok(),
            None => Some(awaited.await),
        }
    }

    /// How long it is until `moment`.
    pub(super) fn left(&self, moment: Moment) -> Duration {
        self.instant(moment).map_or(LONGEST, |instant| instant.saturating_duration_since(Instant::now()))
    }

    fn instant(&self, moment: Moment) -> Option<Instant> {
        let early = self.finishing * moment.tenths() / 10;
        self.deadline.map(|deadline| deadline.checked_sub(early).unwrap_or(deadline))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_moment_comes_after_the_one_before_and_all_before_the_deadline() {
        for (seconds, stops) in [(3, 2.0), (60, 48.0), (900, 880.0)] {
            let remaining = Duration::from_secs(seconds);
            let deadline = Timestamp::UNIX_EPOCH.checked_add(remaining).unwrap();
            let (began, ending) = (Instant::now(), Ending::of(deadline, remaining));
            assert_eq!(ending.stop_at.as_second() as f64, stops);
            let mut moments = vec![Duration::ZERO];
            use Moment::{Answer, Check, Flight, Note, Rule, Stop, Told};
            for moment in [Stop, Check, Flight, Told, Rule, Note, Answer] {
                assert_eq!(ending.before(moment, pending::<()>()).await, None);
                moments.push(began.elapsed());
            }
            assert!(moments.is_sorted_by(|a, b| a < b) && moments[7] < remaining, "{moments:?}");
            assert!((moments[1].as_secs_f64() - stops).abs() < 0.01, "{moments:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_taken_also_when_time_is_over_and_without_a_deadline_all_is_waited_for() {
        let over = Ending::of(Timestamp::UNIX_EPOCH, Duration::ZERO);
        assert_eq!(over.before(Moment::Stop, async { 1 }).await, Some(1));
        let never = Ending::of(Timestamp::MAX, Duration::MAX);
        let late = async {
            tokio::time::sleep(Duration::from_secs(1_000_000)).await;
            2
        };
        assert_eq!(never.before(Moment::Stop, late).await, Some(2));
    }
}
