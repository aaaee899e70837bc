//! Looks again at what an older plan names, a page of the listing at a time.

use std::collections::VecDeque;

use jiff::Timestamp;
use shared::object_ref::ObjectRef;
use shared::outcome::RetryClass;
use shared::store::{ListOptions, ListedEntry, ListedVersion, ObjectStore, StoreErrorKind, StoreResult};

use super::ranges::{just_before, list_some};
use crate::decision::Cause;
use crate::policy::{Rule, Target};
use crate::report::{Action, Row};
use crate::retry::retrying;

/// After so many pages in which a row did not come, the object itself is asked about: what lies before it may be most of
/// the bucket.
const PAGES_FOR_A_ROW: u32 = 2;

/// What stands under a key that a plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// What was listed.
    Same,
    /// Nothing, as far as the listing shows.
    Gone,
    /// Something else.
    Changed,
}

/// Looks again at whatever a rule is about.
pub(super) enum Again<'s, S> {
    Objects(Verifier<'s, S>),
    Versions(Versions<'s, S>),
    Uploads(&'s S, u64),
}

impl<'s, S: ObjectStore> Again<'s, S> {
    pub(super) fn at(store: &'s S, rule: &Rule) -> Self {
        match rule.target() {
            Target::Objects => Self::Objects(Verifier::new(store, &rule.bucket, &rule.prefix)),
            Target::Versions => Self::Versions(Versions::new(store, &rule.bucket, &rule.prefix)),
            Target::Uploads => Self::Uploads(store, 0),
        }
    }

    /// The same for a row of a rule that was another then: of another bucket, prefix or kind.
    fn follow(&mut self, row: &Row) {
        let is_within = |bucket: &str, prefix: &str| bucket == &*row.bucket && row.key.starts_with(prefix);
        let target = target_of(row.action);
        let reaches = match self {
            Self::Objects(verifier) => {
                target == Target::Objects && is_within(&verifier.bucket, &verifier.prefix)
            }
            Self::Versions(versions) => {
                target == Target::Versions && is_within(&versions.bucket, &versions.prefix)
            }
            Self::Uploads(..) => target == Target::Uploads,
        };
        if reaches {
            return;
        }
        let store = match self {
            Self::Objects(verifier) => verifier.store,
            Self::Versions(versions) => versions.store,
            Self::Uploads(store, _) => store,
        };
        *self = match target {
            Target::Objects => Self::Objects(Verifier::new(store, &row.bucket, "")),
            Target::Versions => Self::Versions(Versions::new(store, &row.bucket, "")),
            Target::Uploads => Self::Uploads(store, 0),
        };
    }

    /// Whether what is not found is gone. Where listings are in an order of their own it may have been passed over.
    pub(super) fn is_sure(&self) -> bool {
        match self {
            Self::Objects(verifier) => verifier.store.capabilities().byte_order,
            Self::Versions(versions) => versions.store.capabilities().byte_order,
            Self::Uploads(..) => true,
        }
    }

    /// How many requests were made so far.
    pub(super) fn requests(&self) -> u64 {
        match self {
            Self::Objects(verifier) => verifier.requests,
            Self::Versions(versions) => versions.requests,
            Self::Uploads(_, requests) => *requests,
        }
    }

    /// What became of what the row names.
    pub(super) async fn standing(&mut self, row: &Row) -> StoreResult<Standing> {
        self.follow(row);
        match self {
            Self::Objects(verifier) => verifier.standing(row).await,
            Self::Versions(versions) => versions.standing(row).await,
            Self::Uploads(store, requests) => {
                *requests += 1;
                upload_standing(*store, row).await
            }
        }
    }
}

/// What of a bucket an action is about.
fn target_of(action: Action) -> Target {
    match action {
        Action::Delete | Action::Quarantine => Target::Objects,
        Action::DeleteVersion => Target::Versions,
        Action::AbortUpload => Target::Uploads,
    }
}

/// Compares rows about versions with the listing of versions, a page at a time.
pub(super) struct Versions<'s, S> {
    store: &'s S,
    bucket: String,
    prefix: String,
    page: VecDeque<ListedVersion>,
    /// Where the next page begins, if one was fetched before.
    next: Option<(String, Option<String>)>,
    ended: bool,
    asked: String,
    /// Whether versions of that key, which were behind us, were let go.
    let_go: bool,
    requests: u64,
}

impl<'s, S: ObjectStore> Versions<'s, S> {
    pub(super) fn new(store: &'s S, bucket: &str, prefix: &str) -> Self {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let (page, asked) = (VecDeque::new(), String::new());
        let (next, ended, let_go) = (None, false, false);
        Self { store, bucket, prefix, page, next, ended, asked, let_go, requests: 0 }
    }

    pub(super) async fn standing(&mut self, row: &Row) -> StoreResult<Standing> {
        if row.key < self.asked {
            (self.next, self.ended) = (None, false);
            self.page.clear();
        }
        if row.key != self.asked {
            self.asked.clone_from(&row.key);
            self.let_go = false;
        }
        let before = self.requests;
        loop {
            while self.page.front().is_some_and(|version| version.key < row.key) {
                self.page.pop_front();
            }
            let mut of_key = self.page.iter().take_while(|version| version.key == row.key);
            if let Some(at) = of_key.position(|version| Some(&version.version_id) == row.version_id.as_ref())
            {
                // Rows come as versions were listed, and of one key there may be more of them than memory holds.
                self.let_go |= at > 0;
                self.page.drain(..at);
                return Ok(self.page.front().map_or(Standing::Gone, |found| compare_version(row, found)));
            }
            if self.ended || self.page.back().is_some_and(|version| version.key > row.key) {
                if !self.let_go {
                    return Ok(Standing::Gone);
                }
                break;
            }
            if self.requests - before >= u64::from(PAGES_FOR_A_ROW) {
                break;
            }
            self.fetch(row).await?;
        }
        self.requests += 1;
        version_standing(self.store, row).await
    }

    async fn fetch(&mut self, row: &Row) -> StoreResult<()> {
        let before = just_before(&row.key).map(|key| (key, None));
        let after = match self.next.take() {
            Some(next) if before.as_ref().is_none_or(|before| next.0 >= before.0) => Some(next),
            _ => before,
        };
        self.requests += 1;
        let page = retrying(|| self.store.list_versions(&self.bucket, &self.prefix, after.clone())).await?;
        self.page.extend(page.versions);
        (self.ended, self.next) = (page.next.is_none(), page.next);
        Ok(())
    }
}

/// A version that is current again, as where a delete marker was removed, is not what was to go. Nor is what was written
/// over it: of a bucket whose versioning is suspended the version `null` may be an object today and a marker tomorrow.
fn compare_version(row: &Row, version: &ListedVersion) -> Standing {
    let is_idle_marker = row.reason == Cause::IdleMarker.as_str();
    let is_same = version.is_delete_marker == row.size_bytes.is_none()
        && is_same_time(row.last_modified, version.last_modified)
        && (row.e_tag.is_none() || version.e_tag.is_none() || row.e_tag == version.e_tag);
    if is_same && (is_idle_marker || !version.is_latest) { Standing::Same } else { Standing::Changed }
}

/// The version that may be written over.
pub(super) const NULL_VERSION: &str = "null";

/// What stands as the version `null`, right before it goes.
pub(super) async fn null_standing<S: ObjectStore>(store: &S, row: &Row) -> StoreResult<Standing> {
    let object = ObjectRef::new(&*row.bucket, &*row.key).at_version(Some(NULL_VERSION.to_owned()));
    match retrying(|| store.head(&object)).await {
        Ok(meta) => {
            let is_same = row.size_bytes.is_some()
                && is_same_time(row.last_modified, meta.last_modified)
                && row.e_tag.as_ref().is_none_or(|e_tag| *e_tag == meta.e_tag);
            Ok(if is_same { Standing::Same } else { Standing::Changed })
        }
        // A marker answers so as well.
        Err(error) if error.kind == StoreErrorKind::NotFound && row.size_bytes.is_none() => {
            Ok(Standing::Same)
        }
        Err(_) => version_standing(store, row).await,
    }
}

/// What became of a version, among all of its key.
async fn version_standing<S: ObjectStore>(store: &S, row: &Row) -> StoreResult<Standing> {
    let mut after = None;
    loop {
        let page = retrying(|| store.list_versions(&row.bucket, &row.key, after.clone())).await?;
        let is_meant = |version: &&ListedVersion| {
            version.key == row.key && Some(&version.version_id) == row.version_id.as_ref()
        };
        if let Some(version) = page.versions.iter().find(is_meant) {
            return Ok(compare_version(row, version));
        }
        // Keys that begin with this one come behind it.
        let is_past = page.versions.last().is_some_and(|version| version.key > row.key);
        match page.next {
            Some(next) if !is_past => after = Some(next),
            _ => return Ok(Standing::Gone),
        }
    }
}

async fn upload_standing<S: ObjectStore>(store: &S, row: &Row) -> StoreResult<Standing> {
    let mut after = None;
    loop {
        let page = retrying(|| store.list_uploads(&row.bucket, &row.key, after.clone())).await?;
        let is_meant = |id: &String| Some(id) == row.version_id.as_ref();
        if page.uploads.iter().any(|upload| upload.key == row.key && is_meant(&upload.upload_id)) {
            return Ok(Standing::Same);
        }
        let Some(next) = page.next else { return Ok(Standing::Gone) };
        after = Some(next);
    }
}

/// What stands where no listing names it: some stores list in an order of their own, so that it may have been passed
/// over. Asked of the object itself.
pub(super) async fn standing_alone<S: ObjectStore>(store: &S, row: &Row) -> StoreResult<Standing> {
    match target_of(row.action) {
        Target::Objects => {
            let object = ObjectRef::new(&*row.bucket, &*row.key);
            match retrying(|| store.head(&object)).await {
                Ok(meta) => {
                    let is_same = row.e_tag.as_ref().is_none_or(|e_tag| *e_tag == meta.e_tag)
                        && is_same_time(row.last_modified, meta.last_modified);
                    Ok(if is_same { Standing::Same } else { Standing::Changed })
                }
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Standing::Gone),
                Err(error) => Err(error),
            }
        }
        Target::Versions => version_standing(store, row).await,
        Target::Uploads => upload_standing(store, row).await,
    }
}

/// Compares rows, best in the order of their keys, with the listing.
///
/// Of what lies between two rows a page or two is listed, so that a sparse plan costs a few requests per row and a dense
/// one a request per page.
pub(super) struct Verifier<'s, S> {
    store: &'s S,
    bucket: String,
    prefix: String,
    page: VecDeque<ListedEntry>,
    /// The last key of the pages so far.
    seen: Option<String>,
    /// Whether nothing follows the page.
    ended: bool,
    /// The key that was asked for last.
    asked: String,
    requests: u64,
}

impl<'s, S: ObjectStore> Verifier<'s, S> {
    pub(super) fn new(store: &'s S, bucket: &str, prefix: &str) -> Self {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let (page, asked) = (VecDeque::new(), String::new());
        Self { store, bucket, prefix, page, seen: None, ended: false, asked, requests: 0 }
    }

    /// What stands under the row's key.
    pub(super) async fn standing(&mut self, row: &Row) -> StoreResult<Standing> {
        // The plan of a rule that was listed in ranges is in order only here and there.
        if row.key < self.asked {
            (self.seen, self.ended) = (None, false);
            self.page.clear();
        }
        self.asked.clone_from(&row.key);
        let mut before = self.requests;
        loop {
            while self.page.front().is_some_and(|entry| entry.key < row.key) {
                self.page.pop_front();
            }
            match self.page.front() {
                Some(entry) if entry.key == row.key => return Ok(compare(row, entry)),
                Some(_) => return Ok(Standing::Gone),
                None if self.ended => return Ok(Standing::Gone),
                None if self.requests - before >= u64::from(PAGES_FOR_A_ROW) => {
                    self.requests += 1;
                    match standing_alone(self.store, row).await {
                        // Who may not look at objects goes through what lies before this one.
                        Err(error) if error.retry_class() == RetryClass::Permanent => {
                            before = self.requests;
                        }
                        standing => return standing,
                    }
                }
                None => self.fetch(&row.key).await?,
            }
        }
    }

    async fn fetch(&mut self, key: &str) -> StoreResult<()> {
        let start_after = self.seen.clone().max(just_before(key));
        let options = ListOptions { prefix: self.prefix.clone(), start_after, ..ListOptions::default() };
        self.requests += 1;
        let page = list_some(self.store, &self.bucket, options).await?;
        self.ended = page.continuation.is_none();
        self.seen = page.objects.last().map(|entry| entry.key.clone()).or(self.seen.take());
        self.page = page.objects.into();
        Ok(())
    }
}

/// Listings of different origin give times in seconds or finer.
pub(super) fn is_same_time(a: Option<Timestamp>, b: Timestamp) -> bool {
    a.is_none_or(|a| a.as_second() == b.as_second())
}

fn compare(row: &Row, entry: &ListedEntry) -> Standing {
    let is_same = row.e_tag.is_none() || entry.e_tag.is_none() || row.e_tag == entry.e_tag;
    if is_same && is_same_time(row.last_modified, entry.last_modified) {
        Standing::Same
    } else {
        Standing::Changed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use shared::store::{MemoryStore, Operation, PutOptions, RecordingStore};

    use super::*;
    use crate::report::{Action, RowResult};

    async fn row(store: &MemoryStore, key: &str) -> Row {
        let object = ObjectRef::new("files", key);
        let body = Bytes::from(key.to_owned());
        let e_tag = store.put(&object, body, PutOptions::default()).await.unwrap().e_tag;
        let last_modified = store.head(&object).await.unwrap().last_modified;
        Row {
            sweep_id: Arc::from("s"),
            rule: Arc::from("r"),
            bucket: Arc::from("files"),
            key: key.to_owned(),
            version_id: None,
            e_tag: Some(e_tag),
            size_bytes: Some(1),
            last_modified: Some(last_modified),
            expired_at: None,
            reason: "age".into(),
            action: Action::Delete,
            result: RowResult::Planned,
            error: None,
            deleted_at: None,
        }
    }

    #[tokio::test]
    async fn what_went_and_what_changed_is_told_apart_from_what_stands() {
        for page_size in [1, 2, 3, 1000] {
            let store = MemoryStore::new().with_bucket("files").with_page_size(page_size);
            let mut rows = Vec::new();
            for key in ["a/0", "a/1", "a/10", "a/11", "a/2", "a/é", "b"] {
                rows.push(row(&store, key).await);
            }
            for other in ["a/", "a/100", "a/101", "a/102", "a/1020", "a/19"] {
                row(&store, other).await;
            }
            store.delete(&ObjectRef::new("files", "a/10"), None).await.unwrap();
            store.delete(&ObjectRef::new("files", "b"), None).await.unwrap();
            let changed = ObjectRef::new("files", "a/2");
            store.put(&changed, Bytes::from_static(b"other"), PutOptions::default()).await.unwrap();
            let mut touched = rows[3].clone();
            touched.last_modified = Some(Timestamp::UNIX_EPOCH);
            rows[3] = touched;
            use Standing::{Changed, Gone, Same};
            let expected = [Same, Same, Gone, Changed, Changed, Same, Gone];
            for order in [[0, 1, 2, 3, 4, 5, 6], [3, 4, 0, 6, 1, 2, 5], [6, 5, 4, 3, 2, 1, 0]] {
                let mut verifier = Verifier::new(&store, "files", "");
                for index in order {
                    let found = verifier.standing(&rows[index]).await.unwrap();
                    assert_eq!(found, expected[index], "pages of {page_size}, {}", rows[index].key);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_dense_plan_costs_a_request_per_page() {
        let memory = MemoryStore::new().with_bucket("files").with_page_size(10);
        let mut rows = Vec::new();
        for n in 0..100 {
            rows.push(row(&memory, &format!("a/{n:03}")).await);
        }
        let store = RecordingStore::new(memory);
        let mut verifier = Verifier::new(&store, "files", "a/");
        for row in &rows {
            assert_eq!(verifier.standing(row).await.unwrap(), Standing::Same);
        }
        assert!(store.count(Operation::List) <= 11, "{}", store.count(Operation::List));
    }

    #[tokio::test]
    async fn one_row_does_not_cost_the_listing_of_what_lies_before_it() {
        let memory = MemoryStore::new().with_bucket("files").with_page_size(10);
        for n in 1..=8 {
            for m in 0..20 {
                row(&memory, &format!("u/{n}{m:02}")).await;
            }
        }
        let (last, gone) = (row(&memory, "u/9").await, row(&memory, "u/95").await);
        memory.delete(&ObjectRef::new("files", "u/95"), None).await.unwrap();
        let store = RecordingStore::new(memory);
        let mut verifier = Verifier::new(&store, "files", "u/");
        assert_eq!(verifier.standing(&last).await.unwrap(), Standing::Same);
        assert!(store.count(Operation::List) <= 2, "{}", store.count(Operation::List));
        assert_eq!(verifier.standing(&gone).await.unwrap(), Standing::Gone);
    }

    #[tokio::test]
    async fn of_a_key_with_many_versions_each_is_told_and_few_are_kept_in_mind() {
        let store = MemoryStore::new().with_versioned_bucket("files").with_page_size(10);
        let mut rows = Vec::new();
        for n in 0..100 {
            let object = ObjectRef::new("files", "a/one");
            let written =
                store.put(&object, Bytes::from(n.to_string()), PutOptions::default()).await.unwrap();
            let last_modified = Some(store.head(&object).await.unwrap().last_modified);
            let e_tag = Some(written.e_tag);
            let version_id = written.version_id;
            let action = Action::DeleteVersion;
            let (bucket, key) = (Arc::from("files"), "a/one".to_owned());
            let (sweep_id, rule, reason) = (Arc::from("s"), Arc::from("r"), "noncurrent".into());
            let (size_bytes, expired_at, result) = (Some(1), None, RowResult::Planned);
            let (error, deleted_at) = (None, None);
            rows.push(Row {
                sweep_id,
                rule,
                bucket,
                key,
                version_id,
                e_tag,
                size_bytes,
                last_modified,
                expired_at,
                reason,
                action,
                result,
                error,
                deleted_at,
            });
        }
        // As versions are listed: the newest first.
        rows.reverse();
        let went = rows[40].clone();
        let version = ObjectRef::new("files", "a/one").at_version(went.version_id.clone());
        store.delete(&version, None).await.unwrap();
        let mut versions = Versions::new(&store, "files", "a/");
        for (n, row) in rows.iter().enumerate() {
            let expected = match n {
                0 => Standing::Changed,
                40 => Standing::Gone,
                _ => Standing::Same,
            };
            assert_eq!(versions.standing(row).await.unwrap(), expected, "{n}");
            assert!(versions.page.len() <= 30, "{}", versions.page.len());
        }
    }

    #[test]
    fn a_version_that_was_written_over_is_not_what_was_to_go() {
        let time = Timestamp::UNIX_EPOCH;
        let marker = ListedVersion {
            key: "k".to_owned(),
            version_id: NULL_VERSION.to_owned(),
            is_latest: true,
            is_delete_marker: true,
            size: 0,
            e_tag: None,
            last_modified: time,
        };
        let row = Row {
            sweep_id: Arc::from("s"),
            rule: Arc::from("r"),
            bucket: Arc::from("files"),
            key: "k".to_owned(),
            version_id: Some(NULL_VERSION.to_owned()),
            e_tag: None,
            size_bytes: None,
            last_modified: Some(time),
            expired_at: None,
            reason: Cause::IdleMarker.as_str().into(),
            action: Action::DeleteVersion,
            result: RowResult::Planned,
            error: None,
            deleted_at: None,
        };
        assert_eq!(compare_version(&row, &marker), Standing::Same);
        let object = ListedVersion { is_delete_marker: false, size: 5, ..marker.clone() };
        assert_eq!(compare_version(&row, &object), Standing::Changed);
        let later = time.checked_add(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(
            compare_version(&row, &ListedVersion { last_modified: later, ..marker }),
            Standing::Changed
        );
    }
}
