//! Looks again at what an older plan names, a page of the listing at a time.

use std::collections::VecDeque;

use jiff::Timestamp;
use shared::store::{ListOptions, ListedEntry, ObjectStore, StoreResult};

use super::ranges::{just_before, list_some};
use crate::report::Row;

/// What stands under a key that a plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// What was listed.
    Same,
    /// Nothing.
    Gone,
    /// Something else.
    Changed,
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
}

impl<'s, S: ObjectStore> Verifier<'s, S> {
    pub(super) fn new(store: &'s S, bucket: &str, prefix: &str) -> Self {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Self { store, bucket, prefix, page: VecDeque::new(), seen: None, ended: false, asked: String::new() }
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
    use shared::object_ref::ObjectRef;
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
