//! What a rule is about, page by page.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::store::{ListOptions, ListedEntry, ListedVersion, ObjectStore, PendingUpload, StoreResult};

use crate::policy::{Criterion, Rule, Target};

/// The last thing that was decided, from which another invocation can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// An object.
    Object {
        /// The raw key.
        key: String,
    },
    /// A multipart upload.
    Upload {
        /// The raw key.
        key: String,
        /// Its id.
        upload_id: String,
    },
    /// A version.
    Version {
        /// The raw key.
        key: String,
        /// Its id.
        version_id: String,
        /// When it was written, which is when the one before it ceased to be current.
        written: Timestamp,
    },
}

/// One page.
#[derive(Debug)]
pub(crate) enum Page {
    Objects(Vec<ListedEntry>),
    Uploads(Vec<PendingUpload>),
    Versions(Vec<ListedVersion>),
}

/// Where the next page begins.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// After this position.
    After(Option<Position>),
    /// Where the store says that objects go on.
    Token(String),
    /// Where the store says that uploads or versions go on.
    Marker((String, Option<String>)),
    /// Nowhere.
    End,
}

/// Objects of a page where each of them may cost a request: a page is decided about as a whole, and that has
/// to fit into the shortest invocation.
const LOOKUPS_PER_PAGE: u16 = 200;

/// How many objects a page of the rule has; `None` for as many as the store gives.
pub(super) fn page_size(rule: &Rule) -> Option<u16> {
    let costs_lookups = matches!(rule.criterion, Criterion::Own { .. }) || rule.hold_tag.is_some();
    costs_lookups.then_some(LOOKUPS_PER_PAGE)
}

/// Reads one page; `None` at the end.
pub(crate) async fn page<S: ObjectStore>(
    store: &S,
    rule: &Rule,
    next: Next,
) -> StoreResult<Option<(Page, Next)>> {
    let (bucket, prefix) = (&rule.bucket, &rule.prefix);
    let read = match rule.target() {
        Target::Objects => {
            let max_keys = page_size(rule);
            let mut options = ListOptions { prefix: prefix.clone(), max_keys, ..ListOptions::default() };
            match next {
                Next::After(Some(Position::Object { key })) => options.start_after = Some(key),
                Next::Token(token) => options.continuation = Some(token),
                Next::End => return Ok(None),
                Next::After(_) | Next::Marker(_) => {}
            }
            let page = store.list(bucket, options).await?;
            (Page::Objects(page.objects), page.continuation.map_or(Next::End, Next::Token))
        }
        Target::Uploads => {
            let after = match next {
                Next::After(Some(Position::Upload { key, upload_id })) => Some((key, Some(upload_id))),
                Next::Marker(marker) => Some(marker),
                Next::End => return Ok(None),
                Next::After(_) | Next::Token(_) => None,
            };
            let page = store.list_uploads(bucket, prefix, after).await?;
            (Page::Uploads(page.uploads), page.next.map_or(Next::End, Next::Marker))
        }
        Target::Versions => {
            let after = match next {
                Next::After(Some(Position::Version { key, version_id, .. })) => Some((key, Some(version_id))),
                Next::Marker(marker) => Some(marker),
                Next::End => return Ok(None),
                Next::After(_) | Next::Token(_) => None,
            };
            let page = store.list_versions(bucket, prefix, after).await?;
            (Page::Versions(page.versions), page.next.map_or(Next::End, Next::Marker))
        }
    };
    Ok(Some(read))
}
