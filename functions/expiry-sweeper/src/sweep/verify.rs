//! Looks again at what an older plan names, a page of the listing at a time.

use std::collections::VecDeque;

use jiff::Timestamp;
use shared::object_ref::ObjectRef;
use shared::store::{ListOptions, ListedEntry, ListedVersion, ObjectStore, StoreErrorKind, StoreResult};

use super::ranges::{just_before, list_some};
use crate::decision::Cause;
use crate::policy::{Rule, Target};
use crate::report::Row;
use crate::retry::retrying;

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
            Target::Versions => Self::Versions(Versions::new(store, &rule.prefix)),
            Target::Uploads => Self::Uploads(store, 0),
        }
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

/// Compares rows about versions with the listing of versions, a page at a time.
pub(super) struct Versions<'s, S> {
    store: &'s S,
    prefix: String,
    page: VecDeque<ListedVersion>,
    /// Where the next page begins, if one was fetched before.
    next: Option<(String, Option<String>)>,
    ended: bool,
    asked: String,
    requests: u64,
}

impl<'s, S: ObjectStore> Versions<'s, S> {
    pub(super) fn new(store: &'s S, prefix: &str) -> Self {
        let (page, asked) = (VecDeque::new(), String::new());
        Self { store, prefix: prefix.to_owned(), page, next: None, ended: false, asked, requests: 0 }
    }

    pub(super) async fn standing(&mut self, row: &Row) -> StoreResult<Standing> {
        if row.key < self.asked {
            (self.next, self.ended) = (None, false);
            self.page.clear();
        }
        self.asked.clone_from(&row.key);
        loop {
            while self.page.front().is_some_and(|version| version.key < row.key) {
                self.page.pop_front();
            }
            let mut of_key = self.page.iter().take_while(|version| version.key == row.key);
            if let Some(version) = of_key.find(|version| Some(&version.version_id) == row.version_id.as_ref())
            {
                return Ok(compare_version(row, version));
            }
            if self.ended || self.page.back().is_some_and(|version| version.key > row.key) {
                return Ok(Standing::Gone);
            }
            self.fetch(row).await?;
        }
    }

    async fn fetch(&mut self, row: &Row) -> StoreResult<()> {
        let before = just_before(&row.key).map(|key| (key, None));
        let after = match self.next.take() {
            Some(next) if before.as_ref().is_none_or(|before| next.0 >= before.0) => Some(next),
            _ => before,
        };
        self.requests += 1;
        let page = retrying(|| self.store.list_versions(&row.bucket, &self.prefix, after.clone())).await?;
        self.page.extend(page.versions);
        (self.ended, self.next) = (page.next.is_none(), page.next);
        Ok(())
    }
}

/// A version that is current again, as where a delete marker was removed, is not what was to go.
fn compare_version(row: &Row, version: &ListedVersion) -> Standing {
    let is_idle_marker = row.reason == Cause::IdleMarker.as_str();
    if version.is_latest && !is_idle_marker { Standing::Changed } else { Standing::Same }
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
pub(super) async fn standing_alone<S: ObjectStore>(
    store: &S,
    target: Target,
    row: &Row,
) -> StoreResult<Standing> {
    match target {
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
        Target::Versions => Versions::new(store, &row.key).standing(row).await,
        Target::Uploads => upload_standing(store, row).await,
    }
}

/// Compares rows, best in the order of their keys, with the listing.
///
/// Of what lies between two rows at most a page is listed, so that a sparse plan costs a request per row and
/// a dense one a request per page.
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
        loop {
            while self.page.front().is_some_and(|entry| entry.key < row.key) {
                self.page.pop_front();
            }
            match self.page.front() {
                Some(entry) if entry.key == row.key => return Ok(compare(row, entry)),
                Some(_) => return Ok(Standing::Gone),
                None if self.ended => return Ok(Standing::Gone),
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
}
