//! Multipart uploads: parts, completion, giving up.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::object_ref::ETag;
use shared::store::{
    ListOptions, Metadata, ObjectStore, Outgoing, OutgoingFile, Precondition, PutOptions, StoreErrorKind,
    Tags,
};

use super::{Ground, Verdict, ensure, ensure_eq, refused};

/// The least that all parts but the last have.
const PART_BYTES: usize = 5 << 20;

/// The tag that no part has.
fn other_tag() -> Option<ETag> {
    ETag::parse("00000000000000000000000000000000")
}

/// In the order of their numbers, whatever order they came in, with the headers of the beginning.
pub async fn parts_are_put_together_in_order<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let options = PutOptions {
        content_type: Some("video/mp4".to_owned()),
        metadata: Metadata::from([("a".to_owned(), "1".to_owned())]),
        tags: Tags::from([("t".to_owned(), "x".to_owned())]),
        ..PutOptions::default()
    };
    let upload = ground.store.create_upload(&object, options.clone()).await?;
    let last = ground.store.upload_part(&object, &upload, 3, Bytes::from_static(b"end")).await?;
    ground.store.upload_part(&object, &upload, 1, Bytes::from_static(b"sent again below")).await?;
    let first = ground.store.upload_part(&object, &upload, 1, Bytes::from(vec![b'a'; PART_BYTES])).await?;
    refused(ground.store.head(&object).await, &[StoreErrorKind::NotFound], "the object before completion")?;
    let parts = [(1, first), (3, last)];
    let written = ground.store.complete_upload(&object, &upload, &parts, Precondition::None).await?;
    ensure!(written.e_tag.is_multipart(), "the tag {} does not tell the number of parts", written.e_tag);

    let head = ground.store.head(&object).await?;
    ensure_eq!(head.e_tag, written.e_tag, "tag");
    ensure_eq!(head.size, PART_BYTES as u64 + 3, "size");
    ensure_eq!(head.content_type, options.content_type, "Content-Type");
    ensure_eq!(head.metadata, options.metadata, "metadata");
    ensure_eq!(ground.store.get_tags(&object).await?, options.tags, "tags");
    let body = ground.read(&object).await?;
    ensure!(body.starts_with(b"aaa") && body.ends_with(b"aend"), "the parts are in another order");
    Ok(())
}

/// A whole object, and the last part of one. What follows in the file is not written.
pub async fn what_waits_in_a_file_is_written_as_it_is<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    // More than a connection takes at once.
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut file = tempfile::tempfile()?;
    file.write_all(&content)?;
    file.write_all(b"and more")?;
    let digest = Sha256::digest(&content).into();
    let waiting = Outgoing::File(OutgoingFile::new(Arc::new(file), content.len() as u64, digest));

    let whole = ground.object("whole");
    ground.store.put(&whole, waiting.clone(), PutOptions::default()).await?;
    ensure!(ground.read(&whole).await? == content, "the object is another than the file");
    let object = ground.object("part");
    let upload = ground.store.create_upload(&object, PutOptions::default()).await?;
    let part = ground.store.upload_part(&object, &upload, 1, waiting).await?;
    ground.store.complete_upload(&object, &upload, &[(1, part)], Precondition::None).await?;
    ensure!(ground.read(&object).await? == content, "the part is another than the file");
    Ok(())
}

/// Giving up twice is giving up.
pub async fn an_aborted_upload_leaves_nothing<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let upload = ground.store.create_upload(&object, PutOptions::default()).await?;
    let part = ground.store.upload_part(&object, &upload, 1, Bytes::from_static(b"o")).await?;
    ground.store.abort_upload(&object, &upload).await?;
    ground.store.abort_upload(&object, &upload).await?;
    let completed = ground.store.complete_upload(&object, &upload, &[(1, part)], Precondition::None).await;
    refused(completed, &[StoreErrorKind::NotFound], "a completion after giving up")?;
    refused(ground.store.head(&object).await, &[StoreErrorKind::NotFound], "the object")?;
    let left = ground.store.list_uploads(ground.plain, &ground.prefix, None).await?;
    ensure!(left.uploads.is_empty(), "{left:?}");
    Ok(())
}

/// With their keys as they are, until they are completed or given up.
pub async fn pending_uploads_are_listed<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let names = ["a b+c", "b", "头"];
    let mut uploads = Vec::new();
    for name in names {
        let object = ground.object(name);
        uploads.push(ground.store.create_upload(&object, PutOptions::default()).await?);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = ground.store.list_uploads(ground.plain, &ground.prefix, after).await?;
        seen.extend(page.uploads.into_iter().map(|upload| (ground.name(&upload.key), upload.upload_id)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = names.map(str::to_owned).into_iter().zip(uploads.iter().cloned()).collect();
    ensure_eq!(seen, expected, "pending uploads");
    ensure!(ground.names(ListOptions::default()).await?.is_empty(), "they are no objects yet");
    let other = ground.store.list_uploads(ground.plain, &format!("{}b", ground.prefix), None).await?;
    ensure_eq!(other.uploads.len(), 1, "pending uploads under a longer prefix");
    for (name, upload) in seen {
        ground.store.abort_upload(&ground.object(&name), &upload).await?;
    }
    Ok(())
}

/// `If-None-Match: *` holds when the parts are put together, not when the upload begins.
pub async fn a_completion_may_be_create_only<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let create_only = PutOptions { precondition: Precondition::IfAbsent, ..PutOptions::default() };
    let upload = ground.store.create_upload(&object, create_only).await?;
    let part = ground.store.upload_part(&object, &upload, 1, Bytes::from_static(b"part")).await?;
    ground.put(&object, b"came first").await?;
    let late = ground.store.complete_upload(&object, &upload, &[(1, part)], Precondition::IfAbsent).await;
    refused(late, &[StoreErrorKind::PreconditionFailed], "a late completion")?;
    ensure_eq!(ground.read(&object).await?, "came first", "what stands there");
    ground.store.abort_upload(&object, &upload).await?;

    let free = ground.object("free");
    let upload = ground.store.create_upload(&free, PutOptions::default()).await?;
    let part = ground.store.upload_part(&free, &upload, 1, Bytes::from_static(b"part")).await?;
    ground.store.complete_upload(&free, &upload, &[(1, part)], Precondition::IfAbsent).await?;
    ensure_eq!(ground.read(&free).await?, "part", "bytes");
    Ok(())
}

/// A part that was never sent, or whose tag is another, is not passed over.
pub async fn a_completion_needs_its_parts<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    let upload = ground.store.create_upload(&object, PutOptions::default()).await?;
    let part = ground.store.upload_part(&object, &upload, 1, Bytes::from_static(b"part")).await?;
    let Some(other) = other_tag() else { return Ok(()) };
    let invalid = &[StoreErrorKind::Invalid];
    for (parts, what) in [(vec![(2, part.clone())], "a part never sent"), (vec![(1, other)], "another tag")] {
        let result = ground.store.complete_upload(&object, &upload, &parts, Precondition::None).await;
        refused(result, invalid, what)?;
    }
    refused(ground.store.upload_part(&object, &upload, 0, Bytes::new()).await, invalid, "part 0")?;
    refused(ground.store.head(&object).await, &[StoreErrorKind::NotFound], "the object")?;
    ground.store.complete_upload(&object, &upload, &[(1, part)], Precondition::None).await?;
    ensure_eq!(ground.read(&object).await?, "part", "bytes");
    Ok(())
}
