//! Reading: ranges, conditions, limits.

use bytes::Bytes;
use shared::store::{GetOptions, ObjectStore, StoreErrorKind, Tags};

use super::{Ground, READ_LIMIT, Verdict, ensure_eq, refused};

/// Whatever is asked about it.
pub async fn a_missing_object_is_not_found<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let missing = &[StoreErrorKind::NotFound];
    refused(ground.store.head(&object).await, missing, "head")?;
    refused(ground.store.get(&object, GetOptions::default()).await, missing, "get")?;
    refused(ground.store.get_tags(&object).await, missing, "tags")?;
    refused(ground.store.put_tags(&object, &Tags::new()).await, missing, "tagging")
}

/// A range is half-open here and may end past the object; the size told is the object's.
pub async fn a_range_reads_its_bytes_only<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    ground.put(&object, b"0123456789").await?;
    let read = |range| GetOptions { range: Some(range), if_match: None };
    for (range, expected) in [
        (0..4, "0123"),
        (3..4, "3"),
        (8..10, "89"),
        (6..1000, "6789"),
        (0..10, "0123456789"),
        (0..99, "0123456789"),
    ] {
        let result = ground.store.get(&object, read(range.clone())).await?;
        ensure_eq!(result.meta.size, 10, "the size at {range:?}");
        ensure_eq!(result.length, expected.len() as u64, "the body's length at {range:?}");
        ensure_eq!(result.bytes(READ_LIMIT).await?, expected, "bytes at {range:?}");
    }
    let invalid = &[StoreErrorKind::Invalid];
    refused(ground.store.get(&object, read(10..20)).await, invalid, "a range past the end")?;
    refused(ground.store.get(&object, read(4..4)).await, invalid, "a range of nothing")?;
    let empty = ground.object("empty");
    ground.put(&empty, b"").await?;
    refused(ground.store.get(&empty, read(0..4)).await, invalid, "a range of an empty object")
}

/// `If-Match`.
pub async fn a_read_may_insist_on_the_tag<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let insist = |e_tag| GetOptions { range: None, if_match: Some(e_tag) };
    let first = ground.put(&object, b"first").await?.e_tag;
    let read = ground.store.get(&object, insist(first.clone())).await?.bytes(READ_LIMIT).await?;
    ensure_eq!(read, "first", "bytes");
    ground.put(&object, b"second").await?;
    let stale = ground.store.get(&object, insist(first.clone())).await;
    refused(stale, &[StoreErrorKind::PreconditionFailed], "a read with a stale tag")?;
    ground.store.delete(&object, None).await?;
    refused(
        ground.store.get(&object, insist(first)).await,
        &[StoreErrorKind::NotFound],
        "a read of what is gone",
    )
}

/// Neither the declared nor the real length gets past the limit.
pub async fn a_body_beyond_the_limit_is_refused<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let body = Bytes::from((0..=255).cycle().take(300_000).collect::<Vec<u8>>());
    ground.put(&object, &body).await?;
    let whole = ground.store.get(&object, GetOptions::default()).await?.bytes(300_000).await?;
    ensure_eq!(whole, body, "bytes up to the limit");
    let beyond = ground.store.get(&object, GetOptions::default()).await?.bytes(299_999).await;
    refused(beyond, &[StoreErrorKind::TooLarge], "one byte more than the limit")
}
