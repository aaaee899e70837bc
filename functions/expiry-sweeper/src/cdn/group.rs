//! Which paths are invalidated together, under the CDN's limits. Pure.
//!
//! CloudFront takes 3,000 paths in flight per distribution, and of these 15 that end in `*`
//! (CloudFront Developer Guide, quotas on invalidations). Up to 3,000 keys go one by one. More become
//! prefixes, of folders first: as narrow as 15 of them allow, and at last the rule's own prefix.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Paths in flight, at most.
pub const MAX_PATHS: usize = 3000;
/// Wildcards in flight, at most.
pub const MAX_WILDCARDS: usize = 15;
/// Of one sweeper beside others: as many of them as a Distributed Map has at once stay below the limits together.
const PATHS_BESIDE_OTHERS: usize = 100;
/// Folders that are told apart while keys are counted.
const MAX_FOLDERS: usize = 3000;

/// What is encoded in a path beside what is no ASCII: the unsafe characters of RFC 1738, and the question mark, which
/// would begin a query. CloudFront takes a path with anything else encoded for another one, and invalidates nothing
/// (CloudFront Developer Guide, what to know when invalidating paths). Of a path with a tilde it takes no notice in
/// either spelling.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'~');

/// The path of `key` behind `path_prefix`, which begins and ends in a slash. An asterisk at the end is encoded all the
/// same, as it would be a wildcard there; any other stands for itself.
pub fn path_of(path_prefix: &str, key: &str) -> String {
    match key.strip_suffix('*') {
        Some(start) => format!("{}%2A", start_of(path_prefix, start)),
        None => start_of(path_prefix, key),
    }
}

/// The path of everything that begins with `folder`. Asterisks at its end are left to the wildcard, which covers them.
fn wildcard_of(path_prefix: &str, folder: &str) -> String {
    format!("{}*", start_of(path_prefix, folder.trim_end_matches('*')))
}

fn start_of(path_prefix: &str, key: &str) -> String {
    format!("{}{}", utf8_percent_encode(path_prefix, UNSAFE), utf8_percent_encode(key, UNSAFE))
}

/// Collects what was deleted, in bounded memory.
#[derive(Debug, Clone)]
pub struct Grouping {
    path_prefix: String,
    /// The rule's prefix, under which all keys lie.
    prefix: String,
    keys: Keys,
    /// How many keys were added.
    count: u64,
    /// How many paths there may be, and how many wildcards.
    limits: (usize, usize),
}

#[derive(Debug, Clone)]
enum Keys {
    /// The keys themselves.
    Each(BTreeSet<String>),
    /// The folders that they lie in, each with its slash at the end.
    Folders(BTreeSet<String>),
    /// Too many even for that.
    All,
}

/// One invalidation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) paths: Vec<String>,
    pub(super) wildcards: u64,
}

impl Grouping {
    /// Nothing yet. `path_prefix` is what a path begins with, before the key; `prefix` the rule's.
    pub fn new(path_prefix: &str, prefix: &str) -> Self {
        let (path_prefix, prefix) = (path_prefix.to_owned(), prefix.to_owned());
        let limits = (MAX_PATHS, MAX_WILDCARDS);
        Self { path_prefix, prefix, keys: Keys::Each(BTreeSet::new()), count: 0, limits }
    }

    /// The same where others invalidate at the same time: beyond a few paths it is one wildcard.
    #[must_use]
    pub fn beside_others(self) -> Self {
        Self { limits: (PATHS_BESIDE_OTHERS, 1), ..self }
    }

    /// Adds a key that was deleted.
    pub fn add(&mut self, key: &str) {
        self.count += 1;
        match &mut self.keys {
            Keys::Each(keys) => {
                keys.insert(key.to_owned());
                if keys.len() > self.limits.0 {
                    let folders = keys.iter().map(|key| folder(key, &self.prefix).to_owned()).collect();
                    self.keys = Keys::Folders(folders);
                }
            }
            Keys::Folders(folders) => {
                let folder = folder(key, &self.prefix);
                if !folders.contains(folder) {
                    folders.insert(folder.to_owned());
                }
                if folders.len() > MAX_FOLDERS {
                    self.keys = Keys::All;
                }
            }
            Keys::All => {}
        }
    }

    /// How many keys were added.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The invalidations: at most one, as that is all that may be in flight.
    pub(super) fn into_groups(self) -> Vec<Group> {
        let Self { path_prefix, prefix, keys, count, limits } = self;
        if count == 0 {
            return Vec::new();
        }
        let (paths, wildcards) = match keys {
            Keys::Each(keys) => (keys.iter().map(|key| path_of(&path_prefix, key)).collect(), 0),
            Keys::Folders(folders) => {
                let folders = widened(folders, &prefix, limits.1);
                let paths: Vec<_> = folders.iter().map(|folder| wildcard_of(&path_prefix, folder)).collect();
                let wildcards = paths.len() as u64;
                (paths, wildcards)
            }
            Keys::All => (vec![wildcard_of(&path_prefix, &prefix)], 1),
        };
        vec![Group { paths, wildcards }]
    }
}

/// Up to and with the last slash of `key`, but never less than `prefix`.
fn folder<'k>(key: &'k str, prefix: &str) -> &'k str {
    let end = key.rfind('/').map_or(0, |slash| slash + 1).max(prefix.len().min(key.len()));
    key.get(..end).unwrap_or(key)
}

/// Folders that cover all of these and are few enough. The deepest become wider first, as they cover least.
///
/// It ends because every folder becomes `prefix` at last, which covers all others.
fn widened(folders: BTreeSet<String>, prefix: &str, most: usize) -> BTreeSet<String> {
    let mut folders = outermost(folders);
    while folders.len() > most {
        let deepest = folders.iter().map(|folder| depth(folder)).max();
        let widen = |folder: String| match Some(depth(&folder)) == deepest {
            true => parent(&folder, prefix).to_owned(),
            false => folder,
        };
        folders = outermost(folders.into_iter().map(widen).collect());
    }
    folders
}

fn depth(folder: &str) -> usize {
    folder.bytes().filter(|byte| *byte == b'/').count()
}

/// The folders without those that lie in another. In order, what contains a folder comes before it, and
/// nothing but its own content in between.
fn outermost(folders: BTreeSet<String>) -> BTreeSet<String> {
    let mut outer: Vec<String> = Vec::new();
    for folder in folders {
        if outer.last().is_none_or(|last| !folder.starts_with(last)) {
            outer.push(folder);
        }
    }
    outer.into_iter().collect()
}

/// The folder around `folder`, but never wider than `prefix`.
fn parent<'f>(folder: &'f str, prefix: &str) -> &'f str {
    let inner = folder.strip_suffix('/').unwrap_or(folder);
    let end = inner.rfind('/').map_or(0, |slash| slash + 1).max(prefix.len().min(folder.len()));
    folder.get(..end).unwrap_or(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(prefix: &str, keys: impl IntoIterator<Item = String>) -> Group {
        let mut grouping = Grouping::new("/", prefix);
        keys.into_iter().for_each(|key| grouping.add(&key));
        grouping.into_groups().remove(0)
    }

    #[test]
    fn beside_others_more_than_a_few_are_one_wildcard() {
        let group = |keys: usize| {
            let mut grouping = Grouping::new("/", "u/").beside_others();
            (0..keys).for_each(|n| grouping.add(&format!("u/{}/x/{n}", n % 2)));
            grouping.into_groups().remove(0)
        };
        assert_eq!((group(100).paths.len(), group(100).wildcards), (100, 0));
        assert_eq!(group(101), Group { paths: vec!["/u/*".into()], wildcards: 1 });
    }

    #[test]
    fn nothing_deleted_is_nothing_to_invalidate() {
        assert!(Grouping::new("/", "u/").into_groups().is_empty());
    }

    #[test]
    fn what_is_unsafe_in_a_path_is_encoded_and_nothing_else() {
        assert_eq!(path_of("/", "u/abc@96.webp"), "/u/abc@96.webp");
        assert_eq!(path_of("/img/", "u/a b+ü.webp"), "/img/u/a%20b+%C3%BC.webp");
        let encoded: String =
            (0..128).map(char::from).filter(|c| path_of("/", &format!("{c}x")) != format!("/{c}x")).collect();
        let controls: String = (0..32).map(char::from).collect();
        assert_eq!(encoded, controls + " \"#%<>?[\\]^`{|}~\u{7f}");
    }

    #[test]
    fn an_asterisk_of_a_key_is_never_a_wildcard() {
        assert_eq!(path_of("/", "u/a*b.webp"), "/u/a*b.webp");
        assert_eq!(path_of("/", "u/a*"), "/u/a%2A");
        assert_eq!(path_of("/", "u/a**"), "/u/a*%2A");
        assert_eq!(group("u/*", (0..=MAX_PATHS).map(|n| format!("u/*{n}"))).paths, ["/u/*"]);
        assert_eq!(group("u/", (0..=MAX_PATHS).map(|n| format!("u/*/{n}"))).paths, ["/u/*/*"]);
    }

    #[test]
    fn up_to_the_limit_each_key_has_its_path() {
        let at_limit = group("u/", (0..MAX_PATHS).map(|n| format!("u/{n}")));
        assert_eq!((at_limit.paths.len(), at_limit.wildcards), (MAX_PATHS, 0));
    }

    #[test]
    fn more_become_the_folders_that_they_lie_in() {
        let keys = (0..=MAX_PATHS).map(|n| format!("u/{}/{n}", n % 3));
        let beyond = group("u/", keys);
        assert_eq!(beyond.paths, ["/u/0/*", "/u/1/*", "/u/2/*"]);
        assert_eq!(beyond.wildcards, 3);
        assert_eq!(group("u/", (0..=MAX_PATHS).map(|n| format!("u/{n}"))).paths, ["/u/*"]);
        assert_eq!(group("", (0..=MAX_PATHS).map(|n| n.to_string())).paths, ["/*"]);
    }

    #[test]
    fn too_many_folders_become_wider_ones() {
        let keys = (0..=MAX_PATHS).map(|n| format!("u/{}/{}/{n}", n % 4, n % 40));
        assert_eq!(group("u/", keys).paths, ["/u/0/*", "/u/1/*", "/u/2/*", "/u/3/*"]);
        let keys = (0..2 * MAX_PATHS).map(|n| format!("u/{n}/x"));
        assert_eq!(group("u/", keys).paths, ["/u/*"]);
        // A prefix need not end in a slash.
        let keys = (0..=MAX_PATHS).map(|n| format!("u/tmp-{}/{n}", n % 100));
        assert_eq!(group("u/tmp-", keys).paths, ["/u/tmp-*"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_key_is_covered_nothing_outside_the_rule_is_and_the_limits_hold(
            keys in proptest::collection::vec("[a-c]{1,2}(/[a-d]{1,2}){0,4}(/)?", 1..60),
            many in any::<bool>(),
        ) {
            let mut grouping = Grouping::new("/", "p");
            let keys: Vec<_> = keys.into_iter().map(|key| format!("p{key}")).collect();
            if many {
                (0..=MAX_PATHS).for_each(|n| grouping.add(&format!("pa/{n}")));
            }
            keys.iter().for_each(|key| grouping.add(key));
            for Group { paths, wildcards } in grouping.into_groups() {
                prop_assert!(paths.len() <= MAX_PATHS && wildcards <= MAX_WILDCARDS as u64);
                for key in &keys {
                    let path = path_of("/", key);
                    let covers = |covering: &String| match covering.strip_suffix('*') {
                        Some(start) => path.starts_with(start),
                        None => *covering == path,
                    };
                    prop_assert!(paths.iter().any(covers), "{path} by {paths:?}");
                }
                for path in paths {
                    prop_assert!(path.starts_with("/p"), "{path}");
                }
            }
        }
    }
}
