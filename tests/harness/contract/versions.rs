//! Versions: what a bucket with versioning keeps, and how it is got rid of.

use bytes::Bytes;
use shared::object_ref::ObjectRef;
use shared::store::{
    CopyOptions, DeleteItem, GetOptions, ListedVersion, ObjectStore, Precondition, PutOptions,
    StoreErrorKind, StoreResult, Tags,
};

use super::{Ground, Verdict, Violation, ensure, ensure_eq, md5, refused};

async fn versions<S: ObjectStore>(ground: &Ground<'_, S>, bucket: &str) -> StoreResult<Vec<ListedVersion>> {
    let mut versions = Vec::new();
    let mut after = None;
    loop {
        let page = ground.store.list_versions(bucket, &ground.prefix, after).await?;
        versions.extend(page.versions);
        after = page.next;
        if after.is_none() {
            return Ok(versions);
        }
    }
}

/// Writes `body` and answers the version that it became.
async fn write<S: ObjectStore>(
    ground: &Ground<'_, S>,
    object: &ObjectRef,
    body: &[u8],
) -> Result<ObjectRef, Violation> {
    let version_id = ground.put(object, body).await?.version_id;
    ensure!(version_id.is_some(), "a write to a versioned bucket has a version");
    Ok(object.clone().at_version(version_id))
}

fn id(object: &ObjectRef) -> &str {
    object.version_id.as_deref().unwrap_or_default()
}

/// Newest first, each to be read on its own.
pub async fn every_write_is_a_version<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.versioned_object("o +");
    let first = write(ground, &object, b"first").await?;
    let second = write(ground, &object, b"second").await?;
    ensure!(id(&first) != id(&second), "two writes have two versions");
    ensure_eq!(ground.read(&object).await?, "second", "the current one");
    ensure_eq!(ground.store.head(&object).await?.version_id, second.version_id, "the current version");
    ensure_eq!(ground.read(&first).await?, "first", "the first one");
    ensure_eq!(ground.store.head(&first).await?.version_id, first.version_id, "the first version");
    let listed = versions(ground, ground.versioned).await?;
    ensure_eq!(listed.len(), 2, "versions");
    for (version, (written, body, is_latest)) in
        listed.iter().zip([(&second, "second", true), (&first, "first", false)])
    {
        ensure_eq!(version.key, object.key, "key");
        ensure_eq!(version.version_id, id(written), "version");
        ensure_eq!(version.is_latest, is_latest, "whether it is the current one");
        ensure!(!version.is_delete_marker, "it is no marker");
        ensure_eq!(version.size, body.len() as u64, "size");
        ensure_eq!(version.e_tag, md5(body.as_bytes()), "tag");
    }
    Ok(())
}

/// The object is gone, its versions are not, and without the marker it is back.
pub async fn a_delete_leaves_a_marker_that_can_be_taken_away<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let object = ground.versioned_object("o");
    let first = write(ground, &object, b"first").await?;
    ground.store.delete(&object, None).await?;
    let missing = &[StoreErrorKind::NotFound];
    refused(ground.store.head(&object).await, missing, "head")?;
    refused(ground.store.get(&object, GetOptions::default()).await, missing, "get")?;
    ensure_eq!(ground.read(&first).await?, "first", "the version below");
    let listed = versions(ground, ground.versioned).await?;
    let [marker, below] = listed.as_slice() else {
        return Err(Violation::new(format_args!("there are {listed:?}, not a marker and a version")));
    };
    ensure!(marker.is_delete_marker && marker.is_latest, "the marker: {marker:?}");
    ensure!(!below.is_delete_marker && !below.is_latest, "the version below: {below:?}");
    let marker = object.clone().at_version(Some(marker.version_id.clone()));
    refused(ground.store.head(&marker).await, missing, "head of the marker")?;
    refused(ground.store.get(&marker, GetOptions::default()).await, missing, "get of the marker")?;
    ground.store.delete(&marker, None).await?;
    ensure_eq!(ground.read(&object).await?, "first", "the object is back");
    Ok(())
}

/// Alone and in a batch.
pub async fn a_version_is_deleted_for_good<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.versioned_object("o");
    let mut written = Vec::new();
    for body in ["1", "2", "3", "4"] {
        written.push(write(ground, &object, body.as_bytes()).await?);
    }
    let [first, second, third, fourth] = written.as_slice() else { return Ok(()) };
    ground.store.delete(second, None).await?;
    ensure_eq!(ground.read(&object).await?, "4", "the current one");
    let items = [fourth, first].map(|version| DeleteItem {
        version_id: version.version_id.as_deref(),
        ..DeleteItem::any(&version.key)
    });
    for result in ground.store.delete_batch(ground.versioned, items.into_iter()).await? {
        result?;
    }
    ensure_eq!(ground.read(&object).await?, "3", "the newest of those left");
    let listed: Vec<_> =
        versions(ground, ground.versioned).await?.into_iter().map(|version| version.version_id).collect();
    ensure_eq!(listed, [id(third)], "versions");
    refused(ground.read(first).await, &[StoreErrorKind::NotFound], "a deleted version")
}

/// The source's version goes where the source goes.
pub async fn a_copy_reads_the_version_that_it_names<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.versioned_object("o +&?");
    let first = write(ground, &object, b"first").await?;
    write(ground, &object, b"second").await?;
    let copy = ground.object("copy");
    for (source, body) in [(&first, "first"), (&object, "second")] {
        ground.store.copy(source, &copy, CopyOptions::default()).await?;
        ensure_eq!(ground.read(&copy).await?, body, "the copy of {source}");
    }
    Ok(())
}

/// A marker is nothing to stand in the way.
pub async fn a_create_only_write_succeeds_above_a_marker<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.versioned_object("o");
    let create_only = || PutOptions { precondition: Precondition::IfAbsent, ..PutOptions::default() };
    let first = ground.store.put(&object, Bytes::from_static(b"first"), create_only()).await;
    if !ground.store.capabilities().conditional_replace {
        // Such a store does not hold the condition here either, and must say so before it overwrites.
        return match first {
            Err(_) => refused(first, &[StoreErrorKind::Invalid], "a create-only write in a versioned bucket"),
            Ok(_) => Ok(()),
        };
    }
    first?;
    let second = ground.store.put(&object, Bytes::from_static(b"second"), create_only()).await;
    refused(second, &[StoreErrorKind::PreconditionFailed], "a second create-only write")?;
    ground.store.delete(&object, None).await?;
    ground.store.put(&object, Bytes::from_static(b"third"), create_only()).await?;
    ensure_eq!(ground.read(&object).await?, "third", "the current one");
    Ok(())
}

/// Not to the key.
pub async fn tags_belong_to_a_version<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.versioned_object("o");
    let first = write(ground, &object, b"first").await?;
    write(ground, &object, b"second").await?;
    let tags = Tags::from([("of".to_owned(), "the first".to_owned())]);
    ground.store.put_tags(&first, &tags).await?;
    ensure_eq!(ground.store.get_tags(&first).await?, tags, "tags of the first version");
    ensure_eq!(ground.store.get_tags(&object).await?, Tags::new(), "tags of the current one");
    Ok(())
}

/// A bucket that never kept versions lists what it has as `null`.
pub async fn without_versioning_there_is_the_null_version<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    ground.put(&object, b"first").await?;
    let written = ground.put(&object, b"second").await?;
    ensure!(written.version_id.as_deref().is_none_or(|id| id == "null"), "{written:?}");
    let listed = versions(ground, ground.plain).await?;
    let [only] = listed.as_slice() else {
        return Err(Violation::new(format_args!("there are {listed:?}, not one version")));
    };
    ensure_eq!(only.version_id, "null", "version");
    ensure!(only.is_latest && !only.is_delete_marker, "{only:?}");
    Ok(())
}
