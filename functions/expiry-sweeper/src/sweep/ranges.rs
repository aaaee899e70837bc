//! Lists a rule's objects in several ranges of keys at once.
//!
//! It begins with one range. One that turns out to be long is split where folders are, as long as there
//! are fewer ranges than may be listed at once; where the store asks to slow down, fewer may. Rows of
//! different ranges come in any order, which is why a rule with a reference list is listed in one.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::store::{ListOptions, ObjectStore, StoreErrorKind, StoreResult};

use super::plan::{Cut, Judged, Sink};
use super::source::page_size;
use super::{Cursor, Halt, Phase, PlanFile, Sweep};
use crate::retry::retrying;

/// Ranges that are listed at once, at most.
const MOST_AT_ONCE: usize = 8;
/// After so many pages a range is long enough to be split.
const LONG: u32 = 4;
/// How many folders deep a place to split at is looked for.
const LEVELS: usize = 3;

/// Keys that are listed one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key that belongs to it; `None` from the first on.
    pub from: Option<String>,
    /// The first key that does not; `None` to the last.
    pub until: Option<String>,
    /// The key that was listed last, or one before `from`.
    pub after: Option<String>,
    /// How many pages it had.
    pub pages: u32,
    /// After how many pages it is tried to split it.
    pub split_at: u32,
}

impl Default for KeyRange {
    fn default() -> Self {
        Self { from: None, until: None, after: None, pages: 0, split_at: LONG }
    }
}

impl KeyRange {
    fn contains(&self, key: &str) -> bool {
        self.from.as_deref().is_none_or(|from| key >= from) && !self.is_beyond(key)
    }

    fn is_beyond(&self, key: &str) -> bool {
        self.until.as_deref().is_some_and(|until| key >= until)
    }

    /// Gives what lies behind `middle` to a range of its own.
    fn split(&mut self, middle: String) -> Self {
        // Whatever sorts between this and the middle is passed over.
        let after = just_before(&middle);
        let until = self.until.replace(middle.clone());
        Self { from: Some(middle), until, after, ..Self::default() }
    }
}

/// A text that sorts before `key` and has little between itself and it: the key without its last character.
pub(super) fn just_before(key: &str) -> Option<String> {
    let mut shorter = key.to_owned();
    shorter.pop();
    (!shorter.is_empty()).then_some(shorter)
}

/// A page of a range.
struct Step {
    judged: Judged,
    /// The last key of the page.
    last: Option<String>,
    more: bool,
    /// Where the rest may be split; the inner `None` if nowhere.
    middle: Option<Option<String>>,
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// As [`Sweep::plan`], for objects whose order does not matter.
    pub(super) async fn plan_ranges(
        &self,
        cursor: &mut Cursor,
        sink: &mut Sink<'_, S>,
        save: &mut impl AsyncFnMut(&Cursor) -> Result<(), Halt>,
    ) -> Result<bool, Halt> {
        let Phase::Listing { ranges, .. } = &cursor.phase else { return Ok(true) };
        let ranges = if ranges.is_empty() { vec![KeyRange::default()] } else { ranges.clone() };
        let mut next_id = ranges.len();
        let mut open: BTreeMap<usize, KeyRange> = ranges.into_iter().enumerate().collect();
        let mut waiting: VecDeque<usize> = open.keys().copied().collect();
        let mut active = FuturesUnordered::new();
        let mut most = MOST_AT_ONCE;
        let mut over = false;
        loop {
            over |= self.is_over();
            while !over && active.len() < most {
                let Some(id) = waiting.pop_front() else { break };
                let Some(range) = open.get(&id).cloned() else { continue };
                let wants_split = range.pages >= range.split_at && open.len() < most;
                active.push(async move { (id, self.step(&range, wants_split).await) });
            }
            let Some((id, step)) = active.next().await else { return Ok(waiting.is_empty()) };
            let Step { judged, last, more, middle } = match step {
                Ok(step) => step,
                Err(Cut::Over) => {
                    over = true;
                    waiting.push_back(id);
                    continue;
                }
                Err(Cut::Halt(halt)) if halt.reason.code == "throttled" && most > 1 => {
                    most /= 2;
                    waiting.push_back(id);
                    continue;
                }
                Err(Cut::Halt(halt)) => return Err(halt),
            };
            let finished = sink.append(&judged.rows).await?;
            cursor.tally.add(&judged.tally);
            // The last range stays, so that a cursor at the end is told from one at the beginning.
            if !more && open.len() > 1 {
                open.remove(&id);
            } else if let Some(range) = open.get_mut(&id) {
                range.after = last.or(range.after.take());
                range.pages += 1;
                match middle {
                    Some(Some(middle)) => {
                        let other = range.split(middle);
                        open.insert(next_id, other);
                        waiting.push_back(next_id);
                        next_id += 1;
                    }
                    // No folder ahead; further on there may be some.
                    Some(None) => range.split_at = range.pages.saturating_mul(2),
                    None => {}
                }
                if more {
                    waiting.push_back(id);
                }
            }
            cursor.phase = Phase::Listing { after: None, ranges: open.values().cloned().collect() };
            if let Some(file) = finished {
                cursor.plan.push(PlanFile { number: file.number, rows: file.rows });
                save(cursor).await?;
            }
            self.progress.scanned(self.rule, &cursor.tally);
        }
    }

    async fn step(&self, range: &KeyRange, wants_split: bool) -> Result<Step, Cut> {
        let options = ListOptions {
            prefix: self.rule.prefix.clone(),
            start_after: range.after.clone(),
            max_keys: page_size(self.rule),
            ..ListOptions::default()
        };
        let page = retrying(|| self.store.list(&self.rule.bucket, options.clone())).await?;
        let last = page.objects.last().map(|entry| entry.key.clone());
        let is_behind = last.as_deref().is_some_and(|last| range.is_beyond(last));
        let mut entries = page.objects;
        entries.retain(|entry| range.contains(&entry.key));
        let judged = self.judge_objects(&entries, None).await?;
        let more = page.continuation.is_some() && last.is_some() && !is_behind;
        let last = if is_behind { entries.last().map(|entry| entry.key.clone()) } else { last };
        let middle = match &last {
            Some(last) if wants_split && more => Some(self.middle(last, range.until.as_deref()).await?),
            _ => None,
        };
        Ok(Step { judged, last, more, middle })
    }

    /// The folder in the middle of those between two keys.
    async fn middle(&self, after: &str, until: Option<&str>) -> StoreResult<Option<String>> {
        let inner = after.get(self.rule.prefix.len()..).unwrap_or_default();
        let slashes = inner.match_indices('/').map(|(at, _)| self.rule.prefix.len() + at + 1);
        let levels = std::iter::once(self.rule.prefix.len()).chain(slashes).take(LEVELS);
        for prefix in levels.filter_map(|end| after.get(..end)) {
            let options = ListOptions {
                prefix: prefix.to_owned(),
                delimiter: Some("/".to_owned()),
                start_after: Some(after.to_owned()),
                ..ListOptions::default()
            };
            let page = match retrying(|| self.store.list(&self.rule.bucket, options.clone())).await {
                Ok(page) => page,
                // A guess is not worth a failure.
                Err(error) if error.kind == StoreErrorKind::Throttled => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut folders = page.common_prefixes;
            folders.retain(|folder| {
                folder.as_str() > after && until.is_none_or(|until| folder.as_str() < until)
            });
            let middle = folders.len() / 2;
            if let Some(folder) = folders.into_iter().nth(middle) {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_and_what_is_split_off_have_every_key_once() {
        let mut left = KeyRange { until: Some("m/".into()), ..KeyRange::default() };
        let right = left.split("f/".into());
        for (key, range) in
            [("a", 0), ("e/9", 0), ("f", 0), ("f/", 1), ("f/0", 1), ("l/9", 1), ("m/", 2), ("z", 2)]
        {
            assert_eq!((left.contains(key), right.contains(key)), (range == 0, range == 1), "{key}");
        }
        assert!(right.after.unwrap().as_str() < "f/");
    }
}
