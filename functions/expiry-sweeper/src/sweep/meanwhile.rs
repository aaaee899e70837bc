//! Waits for one thing without standing in the way of others.

use std::collections::VecDeque;
use std::pin::pin;

use futures::future::{Either, select};
use futures::{Stream, StreamExt};

/// Waits for `first`, while `others` get on: what they bring is put into `ready`, as long as it holds less
/// than `most`.
pub(super) async fn meanwhile<F: Future, S: Stream + Unpin>(
    first: F,
    others: &mut S,
    ready: &mut VecDeque<S::Item>,
    most: usize,
) -> F::Output {
    let mut first = pin!(first);
    while ready.len() < most {
        match select(first.as_mut(), others.next()).await {
            Either::Left((answer, _)) => return answer,
            Either::Right((Some(item), _)) => ready.push_back(item),
            Either::Right((None, _)) => break,
        }
    }
    first.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn what_is_ready_first_is_kept_in_its_order_up_to_a_bound() {
        let mut others = stream::iter(1..=9);
        let mut ready = VecDeque::new();
        let slow = async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            "done"
        };
        assert_eq!(meanwhile(slow, &mut others, &mut ready, 3).await, "done");
        assert_eq!(ready, [1, 2, 3]);
        assert_eq!(meanwhile(async { 0 }, &mut others, &mut ready, 9).await, 0);
        assert_eq!(others.next().await, Some(4));
    }
}
