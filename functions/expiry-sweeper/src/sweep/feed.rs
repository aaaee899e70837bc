//! The plan between whoever lists and whoever deletes: at once where no cap can stop the rule, one after the other
//! where one might.

use std::cell::RefCell;
use std::collections::VecDeque;

use jiff::Timestamp;
use shared::store::Outgoing;
use tokio::sync::Notify;

use super::{Place, PlanFile};

/// Objects of a plan that may wait for whoever deletes, so that what is deleted was listed just now, and need not be
/// fetched again.
const MOST_UNREAD: usize = 1;

/// An object of a plan that is not fetched by whoever has just written it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Its number.
    pub(super) number: u32,
    /// What is in it.
    pub(super) content: Outgoing,
}

/// What is known of an object of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fed {
    pub(super) file: PlanFile,
    /// Since when its rows have been listed; `None` if by an earlier invocation.
    pub(super) listed_since: Option<Timestamp>,
}

/// A plan that may still be growing.
#[derive(Default)]
pub(super) struct Feed {
    state: RefCell<State>,
    /// There is more of the plan, or there will be no more.
    grown: Notify,
    /// Something was read, or nobody reads any more.
    read: Notify,
}

#[derive(Default)]
struct State {
    files: Vec<Fed>,
    kept: VecDeque<Kept>,
    /// How many objects were opened.
    opened: usize,
    /// Whether somebody waits for more.
    wanted: bool,
    /// Whether there will be no more.
    ended: bool,
    /// Whether nobody reads any more.
    stopped: bool,
}

impl Feed {
    /// A plan, as far as it is known, of which the first `opened` objects are not needed any more.
    pub(super) fn new(files: impl IntoIterator<Item = Fed>, opened: usize, kept: Option<Kept>) -> Self {
        let (files, kept) = (files.into_iter().collect(), kept.into_iter().collect());
        let state = State { files, kept, opened, ..State::default() };
        Self { state: state.into(), ..Self::default() }
    }

    // ------------------------------------------------------------------------------------ who lists

    /// Adds an object that stands at the store.
    pub(super) fn push(&self, fed: Fed, content: Option<Outgoing>) {
        let mut state = self.state.borrow_mut();
        state.files.push(fed);
        state.kept.extend(content.map(|content| Kept { number: fed.file.number, content }));
        state.wanted = false;
        self.grown.notify_one();
    }

    /// There will be no more.
    pub(super) fn end(&self) {
        self.state.borrow_mut().ended = true;
        self.grown.notify_one();
    }

    /// Whether somebody waits for more.
    pub(super) fn is_wanted(&self) -> bool {
        self.state.borrow().wanted
    }

    /// Whether more has been planned than is being read.
    pub(super) fn is_ahead(&self) -> bool {
        let state = self.state.borrow();
        state.files.len().saturating_sub(state.opened) >= MOST_UNREAD
    }

    /// Whether nobody reads any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.borrow().stopped
    }

    /// Waits until more may be planned.
    pub(super) async fn room(&self) {
        while self.is_ahead() && !self.is_stopped() {
            self.read.notified().await;
        }
    }

    // ----------------------------------------------------------------------------------- who deletes

    /// The object `index`, counted from 0. Waits for it; `None` if there is none, and will not be.
    pub(super) async fn open(&self, index: usize) -> Option<(Fed, Option<Outgoing>)> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if let Some(fed) = state.files.get(index).copied() {
                    state.opened = state.opened.max(index + 1);
                    self.read.notify_one();
                    let kept = state.kept.iter().position(|kept| kept.number == fed.file.number);
                    let kept = kept.and_then(|at| state.kept.remove(at));
                    return Some((fed, kept.map(|kept| kept.content)));
                }
                if state.ended {
                    return None;
                }
                state.wanted = true;
            }
            self.grown.notified().await;
        }
    }

    /// How many rows follow `place` in all, if that is known.
    pub(super) fn left(&self, place: Place) -> Option<u64> {
        let state = self.state.borrow();
        let ahead = state.files.iter().skip(place.file).map(|fed| fed.file.rows).sum::<u64>();
        state.ended.then_some(ahead.saturating_sub(place.row))
    }

    /// Nobody reads any more.
    pub(super) fn stop(&self) {
        self.state.borrow_mut().stopped = true;
        self.read.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;

    fn fed(number: u32, rows: u64) -> Fed {
        Fed { file: PlanFile { number, rows }, listed_since: None }
    }

    #[tokio::test]
    async fn whoever_deletes_waits_for_more_and_hears_of_the_end() {
        let feed = Feed::new([fed(1, 10)], 0, None);
        assert_eq!(feed.open(0).await.unwrap().0.file.number, 1);
        let mut second = Box::pin(feed.open(1));
        assert!(second.as_mut().now_or_never().is_none() && feed.is_wanted());
        let rows = Outgoing::from(Bytes::from_static(b"rows"));
        feed.push(fed(2, 5), Some(rows.clone()));
        assert_eq!(second.await.unwrap().1, Some(rows));
        assert_eq!(feed.left(Place { file: 0, row: 3 }), None);
        feed.end();
        assert_eq!(feed.left(Place { file: 0, row: 3 }), Some(12));
        assert!(feed.open(2).await.is_none());
    }

    #[tokio::test]
    async fn whoever_lists_waits_until_what_is_planned_is_being_deleted_or_nobody_deletes() {
        let feed = Feed::default();
        feed.room().await;
        feed.push(fed(1, 10), None);
        let mut room = Box::pin(feed.room());
        assert!(room.as_mut().now_or_never().is_none() && feed.is_ahead());
        feed.open(0).await.unwrap();
        room.await;
        feed.push(fed(2, 10), None);
        let mut room = Box::pin(feed.room());
        assert!(room.as_mut().now_or_never().is_none());
        feed.stop();
        room.await;
    }
}
