//! Lists a rule's objects in several ranges of keys at once.
//!
//! It begins with one range. One that turns out to be long is split where folders are or, where keys lie flat,
//! in the middle of what is left of them, as long as there are fewer ranges than may be listed at once; where
//! the store asks to slow down, fewer may. Rows of different ranges come in any order, which is why a rule
//! with a reference list is listed in one.
//!
//! Not every store lists in byte order: some walk a tree of folders, so that `temp/1` comes before `temp-1`, although a
//! slash is more than a dash. There a range may end before a key that belongs to it, which the next range meets where it
//! does not belong. Such keys are counted, so that the rule is listed once more, in one range.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::store::{ListOptions, ListPage, ListedEntry, ObjectStore, StoreResult};

use super::meanwhile::meanwhile;
use super::middle::Alphabet;
use super::plan::{Cut, Judged, Listed, Planning, Sink};
use super::source::page_size;
use super::{Halt, Moment, Sweep};
use crate::retry::retrying;

/// Ranges that are listed at once, at most.
const MOST_AT_ONCE: usize = 8;
/// After so many pages a range is long enough to be split.
const LONG: u32 = 4;
/// How many folders deep a place to split at is looked for.
const LEVELS: usize = 3;
/// The longest key that there is.
const MAX_KEY_BYTES: usize = 1024;
/// After so many pages without being asked to slow down twice as many may be fetched at once again.
const CALM: u32 = 32;

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
    /// Whether the first key that belongs to it was met.
    #[serde(default)]
    pub begun: bool,
}

impl Default for KeyRange {
    fn default() -> Self {
        let (from, until, after, first) = (None, None, None, None);
        Self { from, until, after, pages: 0, split_at: LONG, first, flat: false, begun: false }
    }
}

/// Where the rest of a range may be split.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Middle {
    /// Behind the key of this folder, with its slash at the end: before all that is in it.
    Folder(String),
    /// Behind this key, which need not exist.
    Behind(String),
    /// Nowhere. Further on there may be a place.
    Nowhere,
}

impl KeyRange {
    /// All keys in one, never to be split.
    pub(super) fn undivided() -> Self {
        Self { split_at: u32::MAX, ..Self::default() }
    }

    /// Leaves of a page what belongs to the range, and answers how many keys of others came after its first one.
    fn retain(&self, entries: &mut Vec<ListedEntry>) -> u64 {
        let (mut begun, mut strays) = (self.begun, 0);
        entries.retain(|entry| {
            let is_before = self.from.as_deref().is_some_and(|from| entry.key.as_str() < from);
            strays += u64::from(is_before && begun);
            begun |= !is_before;
            !is_before && !self.is_beyond(&entry.key)
        });
        strays
    }

    fn is_beyond(&self, key: &str) -> bool {
        self.until.as_deref().is_some_and(|until| key >= until)
    }

    /// Gives what lies behind `middle` to a range of its own.
    fn split(&mut self, middle: Middle) -> Option<Self> {
        // A folder's own name without its slash would not do: some stores take it for the folder, and go on behind that.
        let (Middle::Folder(key) | Middle::Behind(key)) = middle else { return None };
        // No text sorts between a key and the same with this at its end.
        let (from, after) = (format!("{key}\0"), Some(key));
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
    let common = name.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    // No folder is called so: a store might take its name for all that is in it, and go on behind that.
    let key = format!("{folder}{name}~~");
    if key.len() > MAX_KEY_BYTES {
        return None;
    }
    // There might be a folder of that name's beginning.
    (!range.is_beyond(&key) && !name.bytes().skip(common + 1).any(|byte| byte < b'/')).then_some(key)
}

/// Whether a store that walks a tree has been through `other` when it comes to `folder`, although that is less in bytes.
fn comes_late(folder: &str, other: &str) -> bool {
    let [folder, other] = [folder, other].map(|folder| folder.trim_end_matches('/'));
    folder.strip_prefix(other).and_then(|rest| rest.bytes().next()).is_some_and(|byte| byte < b'/')
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
    /// When it was asked for.
    asked_at: Timestamp,
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
        let (mut most, mut calm) = (MOST_AT_ONCE, 0);
        let (mut over, mut answered) = (false, false);
        loop {
            over |= self.is_over() || planning.is_stopped();
            let at_once = planning.at_once(most);
            while !over && active.len() + ready.len() < at_once {
                let Some(id) = waiting.pop_front() else { break };
                let Some(range) = open.get(&id).cloned() else { continue };
                // Before its first key there may be many that are not its own, and the next place to split at is where it begins.
                let is_begun = range.begun || range.from.is_none();
                let wants_split = is_begun && range.pages >= range.split_at && open.len() < most;
                active.push(async move { (id, most, self.step(&range, wants_split).await) });
            }
            let next = match ready.pop_front() {
                Some(next) => Some(next),
                None => match self.ending.before(Moment::Check, active.next()).await {
                    Some(next) => next,
                    // What is on its way is listed again.
                    None if answered => return Ok(false),
                    None => return Err(Halt::late()),
                },
            };
            let Some((id, asked_beside, step)) = next else { return Ok(waiting.is_empty()) };
            let Step { asked_at, judged, last, more, first, middle, flat } = match step {
                Ok(step) => {
                    answered = true;
                    calm += 1;
                    if calm >= CALM {
                        (most, calm) = ((most * 2).min(MOST_AT_ONCE), 0);
                    }
                    step
                }
                Err(Cut::Over) => {
                    over = true;
                    waiting.push_back(id);
                    continue;
                }
                Err(Cut::Halt(halt)) if halt.reason.code == "throttled" && asked_beside > 1 => {
                    // Others that were asked for at the same time tell the same.
                    if asked_beside <= most {
                        most = (most / 2).max(1);
                    }
                    calm = 0;
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
            planning.scanned(&judged.tally, asked_at)?;
            // The last range stays, so that a cursor at the end is told from one at the beginning.
            if !more && open.len() > 1 {
                open.remove(&id);
            } else if let Some(range) = open.get_mut(&id) {
                range.after = last.or(range.after.take());
                range.pages += 1;
                range.flat = flat;
                range.begun |= first.is_some();
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
        let asked_at = self.clock.now();
        let page = list_some(self.store, &self.rule.bucket, options).await?;
        let last = page.objects.last().map(|entry| entry.key.clone());
        let mut entries = page.objects;
        let is_behind = last.as_deref().is_some_and(|last| range.is_beyond(last));
        let out_of_order = range.retain(&mut entries);
        let mut judged = self.judge_objects(&entries, None).await?;
        judged.tally.out_of_order = out_of_order;
        let more = page.continuation.is_some() && last.is_some() && !is_behind;
        let last = if is_behind { entries.last().map(|entry| entry.key.clone()) } else { last };
        let (mut middle, mut flat) = (None, range.flat);
        if let Some(last) = last.as_deref().filter(|_| wants_split && more) {
            let between = |flat: bool| flat.then(|| between_keys(range, &entries)).flatten();
            middle = Some(match between(flat) {
                Some(key) => Middle::Behind(key),
                None => match self.folder_ahead(last, range.until.as_deref()).await {
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
        Ok(Step { asked_at, judged, last, more, first, middle, flat })
    }

    /// The folder in the middle of those between two keys.
    async fn folder_ahead(&self, after: &str, until: Option<&str>) -> Option<String> {
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
                Err(_) => return None,
            };
            let mut folders = page.common_prefixes;
            folders.retain(|folder| {
                folder.as_str() > after && until.is_none_or(|until| folder.as_str() < until)
            });
            let middle = folders.len() / 2;
            let (ahead, behind) = folders.split_at(middle);
            let mut by_distance = behind.iter().chain(ahead.iter().rev());
            let folder = by_distance.find(|folder| !folders.iter().any(|other| comes_late(folder, other)));
            if let Some(folder) = folder {
                return Some(folder.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: &[&str]) -> Vec<ListedEntry> {
        let entry = |key: &&str| ListedEntry {
            key: (*key).to_owned(),
            size: 1,
            e_tag: None,
            last_modified: Timestamp::UNIX_EPOCH,
            storage_class: None,
        };
        keys.iter().map(entry).collect()
    }

    fn own(range: &KeyRange, keys: &[&str]) -> (Vec<String>, u64) {
        let mut entries = entries(keys);
        let strays = range.retain(&mut entries);
        (entries.into_iter().map(|entry| entry.key).collect(), strays)
    }

    #[test]
    fn a_range_and_what_is_split_off_have_every_key_once() {
        let mut left = KeyRange { until: Some("m/".into()), ..KeyRange::default() };
        let right = left.split(Middle::Folder("f/".into())).unwrap();
        let keys = ["a", "e/9", "f", "f-1", "f/", "f/0", "l/9", "m/", "z"];
        assert_eq!(own(&left, &keys), (keys[..5].iter().map(|key| (*key).to_owned()).collect(), 0));
        assert_eq!(right.after.as_deref(), Some("f/"));
        assert_eq!(own(&right, &keys[3..]), (keys[5..7].iter().map(|key| (*key).to_owned()).collect(), 0));
    }

    #[test]
    fn a_key_that_a_tree_has_in_another_place_is_noticed() {
        let right = KeyRange::default().split(Middle::Folder("f/".into())).unwrap();
        let expected = ["f/0", "g"].map(str::to_owned).to_vec();
        assert_eq!(own(&right, &["f/0", "f-1", "g"]), (expected, 1));
        let begun = KeyRange { begun: true, ..right };
        assert_eq!(own(&begun, &["f-1", "f-2", "g"]), (vec!["g".to_owned()], 2));
        assert!(comes_late("a/f-1/", "a/f/") && comes_late("f.x/", "f/"));
        assert!(!comes_late("f/", "f-1/") && !comes_late("f0/", "f/") && !comes_late("g-1/", "f/"));
    }

    #[test]
    fn a_key_at_which_a_range_is_split_belongs_to_the_left() {
        let mut left = KeyRange::default();
        let right = left.split(Middle::Behind("a/5".into())).unwrap();
        assert_eq!(right.after.as_deref(), Some("a/5"));
        let keys = ["a/", "a/4~", "a/5", "a/5!", "a/50", "a/6"];
        assert_eq!(own(&left, &keys).0, keys[..3]);
        assert_eq!(own(&right, &keys[3..]).0, keys[3..]);
    }
}
