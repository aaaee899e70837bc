//! Lists a rule's objects in several ranges of keys at once.
//!
//! It begins with one range. One that turns out to be long is split where folders are or, where keys lie flat,
//! in the middle of what is left of them, as long as there are fewer ranges than may be listed at once; where
//! the store asks to slow down, fewer may. Rows of different ranges come in any order, which is why a rule
//! with a reference list is listed in one.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::store::{ListOptions, ListPage, ListedEntry, ObjectStore, StoreErrorKind, StoreResult};

use super::meanwhile::meanwhile;
use super::middle::Alphabet;
use super::plan::{Cut, Judged, Listed, Planning, Sink};
use super::source::page_size;
use super::{Halt, Sweep};
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
    /// The first key of the rule, from which it shows how far the listing has come.
    #[serde(default)]
    pub first: Option<String>,
    /// Whether no folder was found ahead, so that it is split between keys.
    #[serde(default)]
    pub flat: bool,
}

impl Default for KeyRange {
    fn default() -> Self {
        Self { from: None, until: None, after: None, pages: 0, split_at: LONG, first: None, flat: false }
    }
}

/// Where the rest of a range may be split.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Middle {
    /// Before this folder.
    Folder(String),
    /// Behind this key, which need not exist.
    Behind(String),
    /// Nowhere. Further on there may be a place.
    Nowhere,
}

impl KeyRange {
    fn contains(&self, key: &str) -> bool {
        self.from.as_deref().is_none_or(|from| key >= from) && !self.is_beyond(key)
    }

    fn is_beyond(&self, key: &str) -> bool {
        self.until.as_deref().is_some_and(|until| key >= until)
    }

    /// Gives what lies behind `middle` to a range of its own.
    fn split(&mut self, middle: Middle) -> Option<Self> {
        let (from, after) = match middle {
            // Whatever sorts between the two is passed over.
            Middle::Folder(folder) => {
                let after = just_before(&folder);
                (folder, after)
            }
            // No text sorts between a key and the same with this at its end.
            Middle::Behind(key) => (format!("{key}\0"), Some(key)),
            Middle::Nowhere => return None,
        };
        let until = self.until.replace(from.clone());
        let (first, flat) = (self.first.clone(), self.flat);
        Some(Self { from: Some(from), until, after, first, flat, ..Self::default() })
    }
}

/// The folder of a key, with its slash, and the name in it.
fn folder_and_name(key: &str) -> (&str, &str) {
    key.split_at(key.rfind('/').map_or(0, |slash| slash + 1))
}

/// A place between the keys that follow a page, if all of the page is in one folder.
fn between_keys(range: &KeyRange, page: &[ListedEntry]) -> Option<String> {
    let (folder, last) = folder_and_name(&page.last()?.key);
    let mut names = Vec::with_capacity(page.len());
    for entry in page {
        names.push(entry.key.strip_prefix(folder).filter(|name| !name.contains('/'))?);
    }
    let in_folder =
        |key: &Option<String>| key.as_deref().and_then(|key| key.strip_prefix(folder)).map(str::to_owned);
    let first = in_folder(&range.first);
    let first = first.as_deref().or(names.first().copied())?;
    let until = in_folder(&range.until);
    let name = Alphabet::of(names.iter().copied()).behind(first, last, until.as_deref())?;
    let key = format!("{folder}{name}");
    (!range.is_beyond(&key)).then_some(key)
}

/// A text that sorts before `key` and has little between itself and it: the key without its last character.
pub(super) fn just_before(key: &str) -> Option<String> {
    let mut shorter = key.to_owned();
    shorter.pop();
    (!shorter.is_empty()).then_some(shorter)
}

/// A page of a listing, which is empty only at the end: a store may answer a page without keys that says where
/// it goes on.
pub(super) async fn list_some<S: ObjectStore>(
    store: &S,
    bucket: &str,
    mut options: ListOptions,
) -> StoreResult<ListPage> {
    loop {
        let page = retrying(|| store.list(bucket, options.clone())).await?;
        if page.continuation.is_none() || !page.objects.is_empty() {
            return Ok(page);
        }
        options.continuation = page.continuation;
    }
}

/// A page of a range.
struct Step {
    judged: Judged,
    /// The last key of the page.
    last: Option<String>,
    more: bool,
    /// The first key of the page.
    first: Option<String>,
    /// Where the rest may be split, if that was asked for.
    middle: Option<Middle>,
    /// Whether no folder was found ahead.
    flat: bool,
}

impl<S: ObjectStore, C: Clock> Sweep<'_, S, C> {
    /// As [`Sweep::plan`], for objects whose order does not matter.
    pub(super) async fn plan_ranges(
        &self,
        ranges: Vec<KeyRange>,
        sink: &mut Sink<'_, S>,
        planning: &mut impl Planning,
    ) -> Result<bool, Halt> {
        let mut next_id = ranges.len();
        let mut open: BTreeMap<usize, KeyRange> = ranges.into_iter().enumerate().collect();
        let mut waiting: VecDeque<usize> = open.keys().copied().collect();
        let mut active = FuturesUnordered::new();
        let mut ready = VecDeque::new();
        let mut most = MOST_AT_ONCE;
        let mut over = false;
        loop {
            over |= self.is_over() || planning.is_stopped();
            let at_once = planning.at_once(most);
            while !over && active.len() + ready.len() < at_once {
                let Some(id) = waiting.pop_front() else { break };
                let Some(range) = open.get(&id).cloned() else { continue };
                let wants_split = range.pages >= range.split_at && open.len() < most;
                active.push(async move { (id, self.step(&range, wants_split).await) });
            }
            let next = match ready.pop_front() {
                Some(next) => Some(next),
                None => active.next().await,
            };
            let Some((id, step)) = next else { return Ok(waiting.is_empty()) };
            let Step { judged, last, more, first, middle, flat } = match step {
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
            let is_last = !more && open.len() == 1;
            let appending = async {
                match sink.append(&judged.rows).await? {
                    None if !is_last && planning.ends_object(sink.rows(), sink.bytes()) => sink.flush().await,
                    finished => Ok(finished),
                }
            };
            let finished = meanwhile(appending, &mut active, &mut ready, MOST_AT_ONCE).await?;
            planning.scanned(&judged.tally)?;
            // The last range stays, so that a cursor at the end is told from one at the beginning.
            if !more && open.len() > 1 {
                open.remove(&id);
            } else if let Some(range) = open.get_mut(&id) {
                range.after = last.or(range.after.take());
                range.pages += 1;
                range.flat = flat;
                range.first = range.first.take().or(first);
                if let Some(middle) = middle {
                    range.split_at = match middle {
                        Middle::Folder(_) => range.split_at,
                        // A guess: what is still there after as many pages again is still long.
                        Middle::Behind(_) => range.pages.saturating_add(LONG),
                        Middle::Nowhere => range.pages.saturating_mul(2),
                    };
                    if let Some(other) = range.split(middle) {
                        open.insert(next_id, other);
                        waiting.push_back(next_id);
                        next_id += 1;
                    }
                }
                if more {
                    waiting.push_back(id);
                }
            }
            let listed = planning.listed(Listed { ranges: open.values().cloned().collect(), finished });
            meanwhile(listed, &mut active, &mut ready, MOST_AT_ONCE).await?;
        }
    }

    async fn step(&self, range: &KeyRange, wants_split: bool) -> Result<Step, Cut> {
        let options = ListOptions {
            prefix: self.rule.prefix.clone(),
            start_after: range.after.clone(),
            max_keys: page_size(self.rule),
            ..ListOptions::default()
        };
        let page = list_some(self.store, &self.rule.bucket, options).await?;
        let last = page.objects.last().map(|entry| entry.key.clone());
        let is_behind = last.as_deref().is_some_and(|last| range.is_beyond(last));
        let mut entries = page.objects;
        entries.retain(|entry| range.contains(&entry.key));
        let judged = self.judge_objects(&entries, None).await?;
        let more = page.continuation.is_some() && last.is_some() && !is_behind;
        let last = if is_behind { entries.last().map(|entry| entry.key.clone()) } else { last };
        let (mut middle, mut flat) = (None, range.flat);
        if let Some(last) = last.as_deref().filter(|_| wants_split && more) {
            let between = |flat: bool| flat.then(|| between_keys(range, &entries)).flatten();
            middle = Some(match between(flat) {
                Some(key) => Middle::Behind(key),
                None => match self.folder_ahead(last, range.until.as_deref()).await? {
                    Some(folder) => {
                        flat = false;
                        Middle::Folder(folder)
                    }
                    None => {
                        flat = true;
                        between(flat).map_or(Middle::Nowhere, Middle::Behind)
                    }
                },
            });
        }
        let first = entries.into_iter().next().map(|entry| entry.key);
        Ok(Step { judged, last, more, first, middle, flat })
    }

    /// The folder in the middle of those between two keys.
    async fn folder_ahead(&self, after: &str, until: Option<&str>) -> StoreResult<Option<String>> {
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
        let right = left.split(Middle::Folder("f/".into())).unwrap();
        for (key, range) in
            [("a", 0), ("e/9", 0), ("f", 0), ("f/", 1), ("f/0", 1), ("l/9", 1), ("m/", 2), ("z", 2)]
        {
            assert_eq!((left.contains(key), right.contains(key)), (range == 0, range == 1), "{key}");
        }
        assert!(right.after.unwrap().as_str() < "f/");
    }

    #[test]
    fn a_key_at_which_a_range_is_split_belongs_to_the_left() {
        let mut left = KeyRange::default();
        let right = left.split(Middle::Behind("a/5".into())).unwrap();
        for (key, is_left) in
            [("a/", true), ("a/4~", true), ("a/5", true), ("a/5!", false), ("a/50", false), ("a/6", false)]
        {
            assert_eq!((left.contains(key), right.contains(key)), (is_left, !is_left), "{key}");
        }
        assert_eq!(right.after.as_deref(), Some("a/5"));
    }
}
