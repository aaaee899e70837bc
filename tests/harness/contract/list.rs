//! Listings: complete, in order, in pages.

use shared::store::{ListOptions, ObjectStore};

use super::{Ground, Verdict, ensure, ensure_eq, md5};

async fn fill<S: ObjectStore>(ground: &Ground<'_, S>, names: &[&str]) -> Verdict {
    for name in names {
        ground.put(&ground.object(name), name.as_bytes()).await?;
    }
    Ok(())
}

/// In UTF-8 byte order, which is neither UTF-16's nor a dictionary's.
pub async fn a_listing_is_complete_and_in_byte_order_over_pages<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let ordered = ["-", "10", "2", "B", "a", "a!", "a/", "a/b", "a0", "b", "é", "～", "😀"];
    let mut shuffled = ordered;
    shuffled.reverse();
    fill(ground, &shuffled).await?;
    for max_keys in [1, 3, 12, 13, 14, 1000] {
        let options = ListOptions { max_keys: Some(max_keys), ..ListOptions::default() };
        let pages = ground.pages(options).await?;
        let longest = pages.iter().map(|page| page.objects.len()).max();
        ensure!(longest <= Some(max_keys.into()), "a page of {longest:?} where {max_keys} were asked for");
        let names: Vec<_> = pages.iter().flat_map(|p| &p.objects).map(|o| ground.name(&o.key)).collect();
        ensure_eq!(names, ordered, "all pages of {max_keys}");
    }
    let pages = ground.pages(ListOptions::default()).await?;
    for object in pages.iter().flat_map(|page| &page.objects) {
        let name = ground.name(&object.key);
        ensure_eq!(object.size, name.len() as u64, "the size of {name:?}");
        ensure_eq!(object.e_tag, md5(name.as_bytes()), "the tag of {name:?}");
        let head = ground.store.head(&ground.object(&name)).await?;
        let apart = object.last_modified.duration_since(head.last_modified).abs();
        // HTTP tells whole seconds, listings milliseconds.
        ensure!(apart.as_secs() < 2, "listing and HEAD are {apart} apart on {name:?}");
    }
    Ok(())
}

/// A sweep goes on where the last one stopped.
pub async fn a_listing_starts_after_a_key<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    fill(ground, &["a", "b", "c+ d", "e"]).await?;
    for (after, expected) in [
        ("", &["a", "b", "c+ d", "e"] as &[_]),
        ("a", &["b", "c+ d", "e"]),
        ("aa", &["b", "c+ d", "e"]),
        ("c+ d", &["e"]),
        ("e", &[]),
    ] {
        let start_after = Some(ground.object(after).key);
        let options = ListOptions { start_after, max_keys: Some(2), ..ListOptions::default() };
        ensure_eq!(ground.names(options).await?, expected, "after {after:?}");
    }
    Ok(())
}

/// Whatever the page size.
pub async fn a_delimiter_folds_each_prefix_once_over_pages<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    fill(ground, &["a", "b/1", "b/2", "b/3/4", "b0", "c d/1", "c d/2", "e", "头/1"]).await?;
    for max_keys in [1, 2, 3, 1000] {
        let delimiter = Some("/".to_owned());
        let options = ListOptions { delimiter, max_keys: Some(max_keys), ..ListOptions::default() };
        let pages = ground.pages(options.clone()).await?;
        let objects: Vec<_> = pages.iter().flat_map(|p| &p.objects).map(|o| ground.name(&o.key)).collect();
        let folded: Vec<_> = pages.iter().flat_map(|p| &p.common_prefixes).map(|p| ground.name(p)).collect();
        ensure_eq!(objects, ["a", "b0", "e"], "objects in pages of {max_keys}");
        ensure_eq!(folded, ["b/", "c d/", "头/"], "prefixes in pages of {max_keys}");
        let longest = pages.iter().map(|page| page.objects.len() + page.common_prefixes.len()).max();
        ensure!(longest <= Some(max_keys.into()), "a page of {longest:?} where {max_keys} were asked for");

        let below = ground.pages(ListOptions { prefix: "b/".to_owned(), ..options }).await?;
        let objects: Vec<_> = below.iter().flat_map(|p| &p.objects).map(|o| ground.name(&o.key)).collect();
        let folded: Vec<_> = below.iter().flat_map(|p| &p.common_prefixes).map(|p| ground.name(p)).collect();
        ensure_eq!((objects, folded), (vec!["b/1".into(), "b/2".into()], vec!["b/3/".into()]), "below b/");
    }
    Ok(())
}

/// A prefix is not a folder and not a pattern.
pub async fn a_prefix_is_taken_literally<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    fill(ground, &["a+b/1", "a b/1", "a*", "ab", "a%2Bb/1", "temp/1", "temp-other/1", "tempcato"]).await?;
    for (prefix, expected) in [
        ("a+b/", &["a+b/1"] as &[_]),
        ("a b", &["a b/1"]),
        ("a*", &["a*"]),
        ("a%2B", &["a%2Bb/1"]),
        ("temp/", &["temp/1"]),
        ("temp", &["temp-other/1", "temp/1", "tempcato"]),
    ] {
        let options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
        ensure_eq!(ground.names(options).await?, expected, "under {prefix:?}");
    }
    Ok(())
}

/// One page, and no next one.
pub async fn a_listing_of_nothing_is_empty<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let pages = ground.pages(ListOptions::default()).await?;
    ensure_eq!(pages.len(), 1, "pages");
    ensure!(pages.iter().all(|page| page.objects.is_empty() && page.common_prefixes.is_empty()), "{pages:?}");
    let versions = ground.store.list_versions(ground.plain, &ground.prefix, None).await?;
    ensure!(versions.versions.is_empty() && versions.next.is_none(), "{versions:?}");
    let uploads = ground.store.list_uploads(ground.plain, &ground.prefix, None).await?;
    ensure!(uploads.uploads.is_empty() && uploads.next.is_none(), "{uploads:?}");
    Ok(())
}
