//! Writing: what comes back, and what conditions guard.

use bytes::Bytes;
use futures::future::join_all;
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    DeleteItem, GetOptions, ListOptions, Metadata, ObjectStore, Precondition, PutOptions, StoreErrorKind,
    Tags,
};

use super::{Ground, READ_LIMIT, Verdict, ensure, ensure_eq, md5, refused};

/// Bytes, size, tag, headers and metadata.
pub async fn what_is_written_is_read_back<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let body = Bytes::from_static(b"what is written");
    let metadata = Metadata::from([
        ("source-md5".to_owned(), "5d41402abc4b2a76b9719d911017c592".to_owned()),
        ("ticket".to_owned(), "a.b-c_d=, e;\"f\"".to_owned()),
    ]);
    let options = PutOptions {
        content_type: Some("image/webp".to_owned()),
        cache_control: Some("public, max-age=31536000, immutable".to_owned()),
        metadata,
        ..PutOptions::default()
    };
    let written = ground.store.put(&object, body.clone(), options.clone()).await?;
    ensure_eq!(Some(written.e_tag), md5(&body), "the tag of a plain write is its MD5");

    let head = ground.store.head(&object).await?;
    let result = ground.store.get(&object, GetOptions::default()).await?;
    for meta in [&head, &result.meta] {
        ensure_eq!(meta.size, body.len() as u64, "size");
        ensure_eq!(Some(&meta.e_tag), md5(&body).as_ref(), "tag");
        ensure_eq!(meta.content_type, options.content_type, "Content-Type");
        ensure_eq!(meta.cache_control, options.cache_control, "Cache-Control");
        ensure_eq!(meta.metadata, options.metadata, "metadata");
    }
    ensure_eq!(head.last_modified, result.meta.last_modified, "HEAD and GET agree on the time");
    ensure_eq!(result.length, body.len() as u64, "the body's length");
    ensure_eq!(result.bytes(READ_LIMIT).await?, body, "bytes");

    ground.put(&object, b"other").await?;
    ensure_eq!(ground.read(&object).await?, "other", "a plain write replaces");
    let head = ground.store.head(&object).await?;
    ensure!(head.metadata.is_empty(), "a replaced object keeps no metadata: {:?}", head.metadata);
    Ok(())
}

/// Zero bytes are an object like any other.
pub async fn an_object_may_be_empty<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("folder/");
    let written = ground.put(&object, b"").await?;
    ensure_eq!(Some(written.e_tag), md5(b""), "the tag of nothing");
    ensure_eq!(ground.store.head(&object).await?.size, 0, "size");
    ensure_eq!(ground.read(&object).await?, "", "bytes");
    ensure_eq!(ground.names(ListOptions::default()).await?, ["folder/"], "a listing");
    Ok(())
}

/// A bucket that is not there is a mistake in the configuration; an object that is not there is daily life.
pub async fn a_missing_bucket_is_told_from_a_missing_object<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let bucket = "no-such-bucket-4f1c9e";
    let object = ObjectRef::new(bucket, "o");
    let missing = &[StoreErrorKind::NoSuchBucket];
    refused(ground.store.get(&object, GetOptions::default()).await, missing, "get")?;
    refused(ground.put(&object, b"").await, missing, "put")?;
    refused(ground.store.list(bucket, ListOptions::default()).await, missing, "list")?;
    refused(ground.store.list_versions(bucket, "", None).await, missing, "list of versions")?;
    refused(ground.store.delete_batch(bucket, [DeleteItem::any("o")].into_iter()).await, missing, "batch")?;
    // The answer to HEAD has no body in which it could say more than 404.
    refused(
        ground.store.head(&object).await,
        &[StoreErrorKind::NoSuchBucket, StoreErrorKind::NotFound],
        "head",
    )
}

fn create_only() -> PutOptions {
    PutOptions { precondition: Precondition::IfAbsent, ..PutOptions::default() }
}

/// `If-None-Match: *`.
pub async fn a_create_only_write_never_overwrites<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    ground.store.put(&object, Bytes::from_static(b"first"), create_only()).await?;
    let second = ground.store.put(&object, Bytes::from_static(b"second"), create_only()).await;
    refused(second, &[StoreErrorKind::PreconditionFailed], "a second create-only write")?;
    let same = ground.store.put(&object, Bytes::from_static(b"first"), create_only()).await;
    refused(same, &[StoreErrorKind::PreconditionFailed], "a create-only write of the same bytes")?;
    ensure_eq!(ground.read(&object).await?, "first", "what stands there");
    ground.store.delete(&object, None).await?;
    ground.store.put(&object, Bytes::from_static(b"third"), create_only()).await?;
    ensure_eq!(ground.read(&object).await?, "third", "what stands there after a delete");
    Ok(())
}

/// A race has one winner, and what stands there is the winner's.
pub async fn of_many_create_only_writes_one_wins<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let writes = (0..8_u8).map(|n| ground.store.put(&object, Bytes::from(vec![n; 4096]), create_only()));
    let mut winners = Vec::new();
    for (n, result) in (0_u8..).zip(join_all(writes).await) {
        match result {
            Ok(_) => winners.push(n),
            lost => {
                refused(lost, &[StoreErrorKind::PreconditionFailed, StoreErrorKind::Conflict], "a loser")?;
            }
        }
    }
    ensure_eq!(winners.len(), 1, "winners {winners:?}");
    ensure_eq!(ground.read(&object).await?.first(), winners.first(), "what stands there is the winner's");
    Ok(())
}

/// `If-Match`.
pub async fn a_replacement_needs_the_tag_that_stands_there<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    if !ground.store.capabilities().conditional_replace {
        return Ok(());
    }
    let object = ground.object("o");
    let replace = |e_tag: &ETag| PutOptions {
        precondition: Precondition::IfMatch(e_tag.clone()),
        ..PutOptions::default()
    };
    let first = ground.put(&object, b"first").await?.e_tag;
    let second = ground.store.put(&object, Bytes::from_static(b"second"), replace(&first)).await?.e_tag;
    let stale = ground.store.put(&object, Bytes::from_static(b"third"), replace(&first)).await;
    refused(stale, &[StoreErrorKind::PreconditionFailed], "a write with a stale tag")?;
    ensure_eq!(ground.read(&object).await?, "second", "what stands there");
    ground.store.delete(&object, None).await?;
    let gone = ground.store.put(&object, Bytes::from_static(b"fourth"), replace(&second)).await;
    let kinds = [StoreErrorKind::NotFound, StoreErrorKind::PreconditionFailed];
    refused(gone, &kinds, "a replacement of nothing")?;
    refused(ground.read(&object).await, &[StoreErrorKind::NotFound], "what stands there")
}

/// Metadata beyond ASCII, an eleventh tag, a key that is too long: the same refusal everywhere.
pub async fn what_no_store_takes_is_refused_before_it_is_sent<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let object = ground.object("o");
    let invalid = &[StoreErrorKind::Invalid];
    let metadata = |name: &str, value: &str| PutOptions {
        metadata: Metadata::from([(name.to_owned(), value.to_owned())]),
        ..PutOptions::default()
    };
    let tags: Tags = (0..11).map(|n| (format!("t{n}"), String::new())).collect();
    for (options, what) in [
        (metadata("name", "头"), "metadata beyond ASCII"),
        (metadata("name", "a\r\nx-amz-acl: public-read"), "metadata with a line break"),
        (metadata("Name", "a"), "metadata with an upper-case name"),
        (metadata("name", &"x".repeat(2048)), "metadata of more than 2 KB"),
        (PutOptions { tags: tags.clone(), ..PutOptions::default() }, "eleven tags"),
    ] {
        refused(ground.store.put(&object, Bytes::new(), options).await, invalid, what)?;
    }
    refused(ground.put(&ObjectRef::new(ground.plain, ""), b"").await, invalid, "an empty key")?;
    let long = ObjectRef::new(ground.plain, "x".repeat(1025));
    refused(ground.put(&long, b"").await, invalid, "a key of 1,025 bytes")?;
    let version = object.clone().at_version(Some("null".to_owned()));
    refused(ground.put(&version, b"").await, invalid, "a write to a version")?;
    ground.put(&object, b"").await?;
    refused(ground.store.put_tags(&object, &tags).await, invalid, "eleven tags later on")
}

/// Tags come with the write, are counted at a GET or not at all, and are replaced as a whole.
pub async fn tags_are_written_with_the_object_and_replaced_as_a_whole<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let object = ground.object("o");
    let tags = Tags::from([
        ("upload-status".to_owned(), "accepted".to_owned()),
        ("a b".to_owned(), "1+1=2 / c@d:e".to_owned()),
        ("empty".to_owned(), String::new()),
    ]);
    let options = PutOptions { tags: tags.clone(), ..PutOptions::default() };
    ground.store.put(&object, Bytes::from_static(b"o"), options).await?;
    ensure_eq!(ground.store.get_tags(&object).await?, tags, "tags written with the object");
    let counted = ground.store.get(&object, GetOptions::default()).await?.meta.tag_count;
    ensure!(counted.is_none_or(|count| count == 3), "a GET counts {counted:?} of 3 tags");

    let before = ground.store.head(&object).await?;
    let other = Tags::from([("only".to_owned(), "this".to_owned())]);
    ground.store.put_tags(&object, &other).await?;
    ensure_eq!(ground.store.get_tags(&object).await?, other, "tags replaced");
    ensure_eq!(ground.store.head(&object).await?.e_tag, before.e_tag, "tagging leaves the object's tag");
    ground.store.put_tags(&object, &Tags::new()).await?;
    ensure_eq!(ground.store.get_tags(&object).await?, Tags::new(), "no tags");
    ground.put(&object, b"again").await?;
    ensure_eq!(ground.store.get_tags(&object).await?, Tags::new(), "a new object has none");
    Ok(())
}
