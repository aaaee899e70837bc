//! Listings: pages in the order of the keys' UTF-8 bytes, without looking at what a page does not show.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::model::{StoredObject, Version, Versions};

/// What a listing asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// Shows only what comes behind this.
    pub(super) after: Option<&'a str>,
    pub(super) limit: usize,
}

/// A page of a listing.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) prefixes: Vec<String>,
    /// What the next page comes behind, if there is more: a key or a common prefix.
    pub(super) next: Option<String>,
}

/// The prefix that `key` is folded into.
fn common_prefix<'a>(key: &'a str, query: &Query<'_>) -> Option<&'a str> {
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.get(query.prefix.len()..)?;
    let end = query.prefix.len() + rest.find(delimiter)? + delimiter.len();
    key.get(..end)
}

/// The first string that comes behind everything that starts with `prefix`, if there is one.
fn behind(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of UTF-8 is that of the code points; there is none between U+D7FF and U+E000.
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            other => char::from_u32(other as u32 + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Where the first key stands that a page can show.
fn start(query: &Query<'_>) -> Option<Bound<String>> {
    let prefix = query.prefix;
    match query.after {
        Some(after) if after >= prefix => {
            // A prefix that was shown folds all that starts with it.
            match common_prefix(after, query).filter(|common| *common == after && after.starts_with(prefix)) {
                Some(common) => behind(common).map(Bound::Included),
                None => Some(Bound::Excluded(after.to_owned())),
            }
        }
        _ => Some(Bound::Included(prefix.to_owned())),
    }
}

/// What stands at a key in a page.
enum Row<'a, V> {
    Folded(&'a str),
    Item(&'a str, &'a V),
}

/// Walks over the keys that a page may show; `visit` answers false when it is full.
fn walk<'a, V>(
    map: &'a BTreeMap<String, V>,
    query: &Query<'_>,
    shown: impl Fn(&V) -> bool,
    mut visit: impl FnMut(Row<'a, V>) -> bool,
) {
    let Some(mut from) = start(query) else { return };
    'fold: loop {
        for (key, value) in map.range::<String, _>((from, Bound::Unbounded)) {
            if !key.starts_with(query.prefix) {
                return;
            }
            if !shown(value) {
                continue;
            }
            match common_prefix(key, query) {
                None => {
                    if !visit(Row::Item(key, value)) {
                        return;
                    }
                }
                Some(common) => {
                    if !visit(Row::Folded(common)) {
                        return;
                    }
                    match behind(common) {
                        // Jumps over everything that is folded into this prefix.
                        Some(next) => from = Bound::Included(next),
                        None => return,
                    }
                    continue 'fold;
                }
            }
        }
        return;
    }
}

/// A page of the current objects.
pub(super) fn objects<'a>(
    map: &'a BTreeMap<String, Versions>,
    query: &Query<'_>,
) -> Page<(&'a str, &'a StoredObject)> {
    let mut page = Page { items: Vec::new(), prefixes: Vec::new(), next: None };
    let mut last: Option<String> = None;
    let current = |versions: &Versions| versions.last().is_some_and(|version| version.object().is_some());
    walk(map, query, current, |row| {
        if page.items.len() + page.prefixes.len() >= query.limit {
            page.next = last.take();
            return false;
        }
        match row {
            Row::Folded(prefix) => {
                last = Some(prefix.to_owned());
                page.prefixes.push(prefix.to_owned());
            }
            Row::Item(key, versions) => {
                last = Some(key.to_owned());
                page.items.extend(versions.last().and_then(Version::object).map(|object| (key, object)));
            }
        }
        true
    });
    page
}

/// A version in a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct VersionRow<'a> {
    pub(super) key: &'a str,
    pub(super) version: &'a Version,
    pub(super) is_latest: bool,
}

/// Where a listing of versions goes on: behind this version of this key, or behind all of the key's.
pub(super) type VersionMarker = (String, Option<String>);

/// A page of all versions, newest first within a key.
pub(super) fn versions<'a>(
    map: &'a BTreeMap<String, Versions>,
    query: &Query<'_>,
    version_marker: Option<&str>,
) -> (Page<VersionRow<'a>>, Option<VersionMarker>) {
    let mut page = Page { items: Vec::new(), prefixes: Vec::new(), next: None };
    let mut last: Option<VersionMarker> = None;
    let mut next = None;
    let mut visit = |row: Row<'a, Versions>, behind: Option<&str>| {
        let (key, versions) = match row {
            Row::Item(key, versions) => (key, versions),
            Row::Folded(prefix) => {
                if page.items.len() + page.prefixes.len() >= query.limit {
                    next = last.take();
                    return false;
                }
                last = Some((prefix.to_owned(), None));
                page.prefixes.push(prefix.to_owned());
                return true;
            }
        };
        let newest = versions.len().saturating_sub(1);
        let mut rows = versions.iter().enumerate().rev().collect::<Vec<_>>();
        if let Some(id) = behind {
            let shown = rows.iter().position(|(_, version)| version.id() == id).map_or(0, |at| at + 1);
            rows.drain(..shown);
        }
        for (at, version) in rows {
            if page.items.len() + page.prefixes.len() >= query.limit {
                next = last.take();
                return false;
            }
            last = Some((key.to_owned(), Some(version.id().to_owned())));
            page.items.push(VersionRow { key, version, is_latest: at == newest });
        }
        true
    };
    // The key that the last page ended in may have more versions.
    let mut more = true;
    if let (Some(key), Some(version)) = (query.after, version_marker)
        && key.starts_with(query.prefix)
        && common_prefix(key, query).is_none()
        && let Some((key, versions)) = map.get_key_value(key)
    {
        more = visit(Row::Item(key, versions), Some(version));
    }
    if more {
        walk(map, query, |_| true, |row| visit(row, None));
    }
    page.next = next.as_ref().map(|(key, _)| key.clone());
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, Versions> {
        let marker = |key: &str| Version::Marker {
            version_id: format!("v-{key}"),
            last_modified: jiff::Timestamp::UNIX_EPOCH,
        };
        keys.iter().map(|key| ((*key).to_owned(), vec![marker(key)])).collect()
    }

    fn rows(keys: &[&str], query: &Query<'_>) -> (Vec<String>, Vec<String>, Option<String>) {
        let map = map(keys);
        let (page, _) = versions(&map, query, None);
        (page.items.iter().map(|row| row.key.to_owned()).collect(), page.prefixes, page.next)
    }

    fn query(limit: usize) -> Query<'static> {
        Query { prefix: "", delimiter: Some("/"), after: None, limit }
    }

    #[test]
    fn keys_behind_a_delimiter_are_folded() {
        let keys = ["a", "b/1", "b/2", "b/c/3", "b0", "c//x", "d"];
        let (items, prefixes, next) = rows(&keys, &query(10));
        assert_eq!(items, ["a", "b0", "d"]);
        assert_eq!(prefixes, ["b/", "c/"]);
        assert_eq!(next, None);
        let inside = Query { prefix: "b/", ..query(10) };
        let (items, prefixes, _) = rows(&keys, &inside);
        assert_eq!((items, prefixes), (vec!["b/1".into(), "b/2".into()], vec!["b/c/".into()]));
    }

    #[test]
    fn pages_neither_lose_nor_repeat_anything() {
        let keys = ["a", "b/1", "b/2", "c", "d/1", "d/2", "e", "\u{10FFFF}/x", "\u{10FFFF}y"];
        let all = rows(&keys, &query(100));
        for limit in 1..=keys.len() {
            let (mut items, mut prefixes, mut after) = (Vec::new(), Vec::new(), None::<String>);
            loop {
                let page = rows(&keys, &Query { after: after.as_deref(), ..query(limit) });
                assert!(page.0.len() + page.1.len() <= limit);
                items.extend(page.0);
                prefixes.extend(page.1);
                after = page.2;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!((&items, &prefixes), (&all.0, &all.1), "limit {limit}");
        }
    }

    #[test]
    fn what_comes_behind_a_prefix_skips_the_surrogates() {
        assert_eq!(behind("a/").as_deref(), Some("a0"));
        assert_eq!(behind("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(behind("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(behind("\u{10FFFF}"), None);
    }
}
