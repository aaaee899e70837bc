//! Pages of a bucket's objects, versions and uploads.

use std::ops::Bound;

use super::super::{
    ListOptions, ListPage, ListedEntry, ListedVersion, PendingUpload, UploadPage, VersionPage,
};
use super::bucket::Bucket;

/// Where a page ended: after a key, or after everything under a folded prefix.
enum Position<'a> {
    Key(&'a str),
    Folded(&'a str),
}

impl Position<'_> {
    fn token(&self) -> String {
        match self {
            Self::Key(key) => format!("k{key}"),
            Self::Folded(prefix) => format!("p{prefix}"),
        }
    }
}

/// One page of at most `entries` objects and folded prefixes.
pub(super) fn objects(bucket: &Bucket, options: &ListOptions, entries: usize) -> ListPage {
    let mut page = ListPage::default();
    if entries == 0 {
        return page;
    }
    let token = options.continuation.as_deref();
    let folded = token.and_then(|token| token.strip_prefix('p'));
    let after = token.and_then(|token| token.strip_prefix('k')).or(folded).or(options.start_after.as_deref());
    let prefix = options.prefix.as_str();
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut position = None;
    let mut folded = folded.filter(|_| options.delimiter.is_some());
    let keys = bucket.keys.range::<str, _>((start, Bound::Unbounded));
    for (key, versions) in keys.take_while(|(key, _)| key.starts_with(prefix)) {
        let Some((version, content)) = versions.last().and_then(|v| Some((v, v.content.as_ref()?))) else {
            continue;
        };
        if folded.is_some_and(|folded| key.starts_with(folded)) {
            continue;
        }
        if page.objects.len() + page.common_prefixes.len() == entries {
            page.continuation = position.as_ref().map(Position::token);
            return page;
        }
        match fold(key, prefix, options.delimiter.as_deref()) {
            Some(common) => {
                page.common_prefixes.push(common.to_owned());
                folded = Some(common);
                position = Some(Position::Folded(common));
            }
            None => {
                page.objects.push(ListedEntry {
                    key: key.clone(),
                    size: content.body.len() as u64,
                    e_tag: Some(content.e_tag.clone()),
                    last_modified: version.last_modified,
                    storage_class: Some("STANDARD".to_owned()),
                });
                position = Some(Position::Key(key));
            }
        }
    }
    page
}

/// The part of `key` up to the first delimiter after the prefix.
fn fold<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

/// One page of at most `entries` versions after the key and version of `after`.
pub(super) fn versions(
    bucket: &Bucket,
    prefix: &str,
    after: Option<(String, Option<String>)>,
    entries: usize,
) -> VersionPage {
    let mut page = VersionPage::default();
    let (after_key, after_version) = after.unwrap_or_default();
    for (key, versions) in
        bucket.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
    {
        let newest_first = versions.iter().rev();
        // A marker names the last version that was listed: older ones of the same key are still to come.
        let skipped = match (key.cmp(&after_key), &after_version) {
            (std::cmp::Ordering::Less, _) => continue,
            (std::cmp::Ordering::Equal, None) if !after_key.is_empty() => continue,
            (std::cmp::Ordering::Equal, Some(id)) => {
                versions.iter().rev().position(|version| version.id() == id).map_or(versions.len(), |i| i + 1)
            }
            _ => 0,
        };
        for (index, version) in newest_first.enumerate().skip(skipped) {
            if page.versions.len() == entries {
                page.next =
                    page.versions.last().map(|last| (last.key.clone(), Some(last.version_id.clone())));
                return page;
            }
            page.versions.push(ListedVersion {
                key: key.clone(),
                version_id: version.id().to_owned(),
                is_latest: index == 0,
                is_delete_marker: version.content.is_none(),
                size: version.content.as_ref().map_or(0, |content| content.body.len() as u64),
                e_tag: version.content.as_ref().map(|content| content.e_tag.clone()),
                last_modified: version.last_modified,
            });
        }
    }
    page
}

/// One page of at most `entries` uploads after the key and upload of `after`.
pub(super) fn uploads(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&(String, Option<String>)>,
    entries: usize,
) -> UploadPage {
    let mut page = UploadPage::default();
    let is_after = |key: &str, id: &str| match after {
        None => true,
        Some((after_key, Some(after_id))) => (key, id) > (after_key, after_id),
        Some((after_key, None)) => key > after_key.as_str(),
    };
    let from = (prefix.to_owned(), String::new());
    for ((key, id), upload) in
        bucket.uploads.range(from..).take_while(|((key, _), _)| key.starts_with(prefix))
    {
        if !is_after(key, id) {
            continue;
        }
        if page.uploads.len() == entries {
            page.next = page.uploads.last().map(|last| (last.key.clone(), Some(last.upload_id.clone())));
            return page;
        }
        let (key, upload_id) = (key.clone(), id.clone());
        page.uploads.push(PendingUpload { key, upload_id, initiated: upload.initiated });
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use jiff::Timestamp;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::super::super::{Call, Operation, PutOptions};
    use super::super::bucket::Content;
    use super::*;
    use crate::object_ref::ObjectRef;

    fn bucket(writes: &[String], versioned: bool) -> Bucket {
        let mut bucket = Bucket { versioned, ..Bucket::default() };
        for (n, key) in writes.iter().enumerate() {
            let call = Call::on_object(Operation::Put, &ObjectRef::new("b", key));
            let content = Content::new(Bytes::new(), PutOptions::default());
            bucket.push(&call, key, n.to_string(), Some(content), Timestamp::UNIX_EPOCH).unwrap();
        }
        bucket
    }

    /// The objects and prefixes of all pages of `entries`.
    fn walk(bucket: &Bucket, mut options: ListOptions, entries: usize) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
        loop {
            let page = objects(bucket, &options, entries);
            assert!(page.objects.len() + page.common_prefixes.len() <= entries);
            keys.extend(page.objects.into_iter().map(|object| object.key));
            prefixes.extend(page.common_prefixes);
            options.continuation = page.continuation;
            if options.continuation.is_none() {
                return (keys, prefixes);
            }
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_make_the_same_listing(
            keys in btree_set("[ab/é]{1,5}", 0..20),
            prefix in "[ab/é]{0,2}",
            start_after in proptest::option::of("[ab/é]{0,3}"),
            delimiter in proptest::option::of(Just("/".to_owned())),
            entries in 1..6_usize,
        ) {
            let bucket = bucket(&keys.iter().cloned().collect::<Vec<_>>(), false);
            let options = ListOptions { prefix: prefix.clone(), delimiter, start_after, ..ListOptions::default() };
            let after = |key: &&String| options.start_after.as_ref().is_none_or(|after| *key > after);
            let (mut expected, mut folded) = (Vec::new(), BTreeSet::new());
            for key in keys.iter().filter(|key| key.starts_with(&prefix)).filter(after) {
                match options.delimiter.as_ref().and_then(|_| key[prefix.len()..].split_once('/')) {
                    Some((head, _)) => drop(folded.insert(format!("{prefix}{head}/"))),
                    None => expected.push(key.clone()),
                }
            }
            let folded: Vec<_> = folded.into_iter().collect();
            prop_assert_eq!(walk(&bucket, options, entries), (expected, folded));
        }

        #[test]
        fn pages_of_versions_leave_none_out(writes in vec("[ab]{1,2}", 0..15), entries in 1..5_usize) {
            let bucket = bucket(&writes, true);
            let whole = versions(&bucket, "", None, 1000).versions;
            prop_assert_eq!(whole.len(), writes.len());
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = versions(&bucket, "", after, entries);
                prop_assert!(page.versions.len() <= entries);
                paged.extend(page.versions);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(paged, whole);
        }
    }
}
