//! Deletes: only of what was meant, with an answer for each.

use shared::store::{DeleteItem, ListOptions, ObjectStore, StoreErrorKind};

use super::{Ground, Verdict, ensure, ensure_eq, refused};

/// What a condition on something missing may answer.
const GONE: &[StoreErrorKind] = &[StoreErrorKind::NotFound, StoreErrorKind::PreconditionFailed];

/// Deleting twice is deleting.
pub async fn deleting_what_is_not_there_is_no_error<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let object = ground.object("o");
    ground.store.delete(&object, None).await?;
    ground.put(&object, b"o").await?;
    ground.store.delete(&object, None).await?;
    ground.store.delete(&object, None).await?;
    refused(ground.store.head(&object).await, &[StoreErrorKind::NotFound], "what is left")
}

/// An upload that came since is never lost.
pub async fn a_conditional_delete_spares_what_was_replaced<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    if !ground.store.capabilities().conditional_delete {
        return Ok(());
    }
    let object = ground.object("o");
    let first = ground.put(&object, b"first").await?.e_tag;
    let second = ground.put(&object, b"second").await?.e_tag;
    let stale = ground.store.delete(&object, Some(&first)).await;
    refused(stale, &[StoreErrorKind::PreconditionFailed], "a delete with a stale tag")?;
    ensure_eq!(ground.read(&object).await?, "second", "what stands there");
    ground.store.delete(&object, Some(&second)).await?;
    refused(ground.store.head(&object).await, &[StoreErrorKind::NotFound], "what is left")?;
    refused(ground.store.delete(&object, Some(&second)).await, GONE, "a conditional delete of nothing")
}

/// In the order of the items, those not there included.
pub async fn a_batch_answers_for_each_object_in_order<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    for name in ["a", "b", "keep"] {
        ground.put(&ground.object(name), b"o").await?;
    }
    let objects = ["b", "missing", "a", "b"].map(|name| ground.object(name));
    let items = objects.iter().map(|object| DeleteItem::any(&object.key));
    let results = ground.store.delete_batch(ground.plain, items).await?;
    ensure_eq!(results.len(), 4, "results");
    ensure!(results.iter().all(Result::is_ok), "{results:?}");
    ensure_eq!(ground.names(ListOptions::default()).await?, ["keep"], "what is left");
    Ok(())
}

/// Each object has its own condition, and one that fails does not stop the others.
pub async fn a_batch_spares_what_was_replaced<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    if !ground.store.capabilities().conditional_delete {
        return Ok(());
    }
    let mut written = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let object = ground.object(name);
        let e_tag = ground.put(&object, name.as_bytes()).await?.e_tag;
        written.push((object.key, e_tag));
    }
    let items = written
        .iter()
        .map(|(key, e_tag)| DeleteItem { if_match: Some(e_tag.borrowed()), ..DeleteItem::any(key) });
    ground.put(&ground.object("b"), b"replaced").await?;
    ground.store.delete(&ground.object("c"), None).await?;
    let mut results = ground.store.delete_batch(ground.plain, items).await?.into_iter();
    ensure!(matches!(results.next(), Some(Ok(()))), "what was not touched is deleted");
    let replaced = results.next().unwrap_or(Ok(()));
    refused(replaced, &[StoreErrorKind::PreconditionFailed], "what was replaced")?;
    match results.next().unwrap_or(Ok(())) {
        Ok(()) => {}
        gone => refused(gone, GONE, "what is gone")?,
    }
    ensure!(matches!(results.next(), Some(Ok(()))), "what comes behind is deleted");
    ensure_eq!(ground.names(ListOptions::default()).await?, ["b"], "what is left");
    Ok(())
}

/// The edges of 1 to 1,000.
pub async fn a_batch_of_none_is_nothing_and_of_too_many_is_refused<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    let none = ground.store.delete_batch(ground.plain, [].into_iter()).await?;
    ensure!(none.is_empty(), "{none:?}");
    let keys: Vec<_> = (0..1001).map(|n| ground.object(&n.to_string()).key).collect();
    let many = keys.iter().map(|key| DeleteItem::any(key));
    refused(
        ground.store.delete_batch(ground.plain, many.clone()).await,
        &[StoreErrorKind::Invalid],
        "1,001 objects",
    )?;
    let results = ground.store.delete_batch(ground.plain, many.take(1000)).await?;
    ensure_eq!(results.iter().filter(|result| result.is_ok()).count(), 1000, "1,000 objects");
    Ok(())
}
