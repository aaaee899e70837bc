//! Copies: what they keep, what they replace, what they insist on.

use bytes::Bytes;
use shared::object_ref::ObjectRef;
use shared::store::{
    CopyOptions, Metadata, ObjectStore, Precondition, PutOptions, PutResult, StoreErrorKind, StoreResult,
    Tags,
};

use super::{Ground, Verdict, ensure_eq, md5, refused};

fn options() -> PutOptions {
    PutOptions {
        content_type: Some("image/png".to_owned()),
        cache_control: Some("no-cache".to_owned()),
        metadata: Metadata::from([("a".to_owned(), "1".to_owned())]),
        tags: Tags::from([("t".to_owned(), "x".to_owned())]),
        ..PutOptions::default()
    }
}

async fn source<S: ObjectStore>(ground: &Ground<'_, S>) -> StoreResult<(ObjectRef, PutResult)> {
    let source = ground.object("source");
    let written = ground.store.put(&source, Bytes::from_static(b"source"), options()).await?;
    Ok((source, written))
}

/// A plain copy is the same object in another place.
pub async fn a_copy_keeps_bytes_type_metadata_and_tags<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let (source, _) = source(ground).await?;
    for copy in [ground.object("copy"), ground.versioned_object("copy")] {
        let written = ground.store.copy(&source, &copy, CopyOptions::default()).await?;
        ensure_eq!(Some(&written.e_tag), md5(b"source").as_ref(), "the copy's tag");
        ensure_eq!(written.version_id.is_some(), copy.bucket == ground.versioned, "whether it has a version");
        let head = ground.store.head(&copy).await?;
        ensure_eq!(ground.read(&copy).await?, "source", "bytes");
        ensure_eq!(head.content_type, options().content_type, "Content-Type");
        ensure_eq!(head.cache_control, options().cache_control, "Cache-Control");
        ensure_eq!(head.metadata, options().metadata, "metadata");
        ensure_eq!(ground.store.get_tags(&copy).await?, options().tags, "tags");
    }
    ensure_eq!(ground.read(&source).await?, "source", "the source stays");
    Ok(())
}

/// Metadata and tags are replaced apart from each other, and neither touches what the bytes are.
pub async fn a_copy_may_replace_metadata_and_tags<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let (source, _) = source(ground).await?;
    let metadata = Metadata::from([("reasons".to_owned(), "empty,bad-key".to_owned())]);
    let tags = Tags::from([("status".to_owned(), "rejected".to_owned())]);
    for (new_metadata, new_tags) in [
        (Some(metadata.clone()), None),
        (None, Some(tags.clone())),
        (Some(metadata), Some(tags)),
        (Some(Metadata::new()), Some(Tags::new())),
    ] {
        let copy = ground.object("copy");
        let wanted =
            CopyOptions { metadata: new_metadata.clone(), tags: new_tags.clone(), ..CopyOptions::default() };
        ground.store.copy(&source, &copy, wanted).await?;
        let head = ground.store.head(&copy).await?;
        ensure_eq!(head.metadata, new_metadata.unwrap_or(options().metadata), "metadata");
        ensure_eq!(head.content_type, options().content_type, "Content-Type");
        ensure_eq!(head.cache_control, options().cache_control, "Cache-Control");
        ensure_eq!(ground.store.get_tags(&copy).await?, new_tags.unwrap_or(options().tags), "tags");
        ensure_eq!(ground.read(&copy).await?, "source", "bytes");
    }
    Ok(())
}

/// `x-amz-copy-source-if-match`, with metadata kept and replaced.
pub async fn a_copy_may_insist_on_the_sources_tag<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let (source, first) = source(ground).await?;
    let copy = ground.object("copy");
    for metadata in [None, Some(Metadata::new())] {
        let insist = |e_tag| CopyOptions {
            source_if_match: Some(e_tag),
            metadata: metadata.clone(),
            ..CopyOptions::default()
        };
        ground.put(&source, b"replaced").await?;
        let stale = ground.store.copy(&source, &copy, insist(first.e_tag.clone())).await;
        refused(stale, &[StoreErrorKind::PreconditionFailed], "a copy of what was replaced")?;
        refused(ground.store.head(&copy).await, &[StoreErrorKind::NotFound], "the copy")?;
        ground.put(&source, b"source").await?;
        ground.store.copy(&source, &copy, insist(first.e_tag.clone())).await?;
        ensure_eq!(ground.read(&copy).await?, "source", "bytes");
        ground.store.delete(&copy, None).await?;
    }
    Ok(())
}

/// `If-None-Match: *` at the destination.
pub async fn a_copy_may_be_create_only<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let (source, _) = source(ground).await?;
    let copy = ground.object("copy");
    let create_only = CopyOptions { precondition: Precondition::IfAbsent, ..CopyOptions::default() };
    ground.put(&copy, b"stands there").await?;
    let second = ground.store.copy(&source, &copy, create_only.clone()).await;
    refused(second, &[StoreErrorKind::PreconditionFailed], "a create-only copy")?;
    ensure_eq!(ground.read(&copy).await?, "stands there", "what stands there");
    ground.store.delete(&copy, None).await?;
    ground.store.copy(&source, &copy, create_only).await?;
    ensure_eq!(ground.read(&copy).await?, "source", "bytes");
    Ok(())
}

/// `If-Match` at the destination.
pub async fn a_copy_may_replace_only_what_was_seen<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    if !ground.store.capabilities().conditional_replace {
        return Ok(());
    }
    let (source, _) = source(ground).await?;
    let copy = ground.object("copy");
    let seen = ground.put(&copy, b"seen").await?.e_tag;
    let replace = CopyOptions { precondition: Precondition::IfMatch(seen), ..CopyOptions::default() };
    ground.put(&copy, b"written since").await?;
    let stale = ground.store.copy(&source, &copy, replace.clone()).await;
    refused(stale, &[StoreErrorKind::PreconditionFailed], "a copy over what was written since")?;
    ensure_eq!(ground.read(&copy).await?, "written since", "what stands there");
    ground.put(&copy, b"seen").await?;
    ground.store.copy(&source, &copy, replace).await?;
    ensure_eq!(ground.read(&copy).await?, "source", "bytes");
    Ok(())
}

/// Whether or not metadata is replaced.
pub async fn a_copy_of_nothing_is_not_found<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let (missing, copy) = (ground.object("missing"), ground.object("copy"));
    for metadata in [None, Some(Metadata::new())] {
        let options = CopyOptions { metadata, ..CopyOptions::default() };
        let result = ground.store.copy(&missing, &copy, options).await;
        refused(result, &[StoreErrorKind::NotFound], "a copy of nothing")?;
    }
    refused(ground.store.head(&copy).await, &[StoreErrorKind::NotFound], "the copy")
}
