//! Keys are raw: no part of a request or an answer may change one.

use shared::store::{CopyOptions, DeleteItem, ListOptions, ObjectStore, StoreErrorKind, Tags};

use super::{Ground, Verdict, ensure, ensure_eq, refused};

/// Puts, reads, tags, copies, lists and deletes under each of `names`.
async fn come_back<S: ObjectStore>(ground: &Ground<'_, S>, names: &[&str]) -> Verdict {
    let tags = Tags::from([("a".to_owned(), "b".to_owned())]);
    for name in names {
        let object = ground.object(name);
        ground.put(&object, name.as_bytes()).await?;
        ensure_eq!(ground.store.head(&object).await?.size, name.len() as u64, "size under {name:?}");
        ground.store.put_tags(&object, &tags).await?;
        ensure_eq!(ground.store.get_tags(&object).await?, tags, "tags under {name:?}");
    }
    // All are there at the same time, so that two keys that were taken for one show.
    let mut expected: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    expected.sort();
    ensure_eq!(ground.names(ListOptions::default()).await?, expected, "a listing");
    for name in names {
        let object = ground.object(name);
        ensure_eq!(ground.read(&object).await?, name.as_bytes(), "bytes under {name:?}");
        let copy = ground.object("copy");
        ground.store.copy(&object, &copy, CopyOptions::default()).await?;
        ensure_eq!(ground.read(&copy).await?, name.as_bytes(), "a copy of {name:?}");
        ground.store.copy(&copy, &object, CopyOptions::default()).await?;
        ensure_eq!(ground.read(&object).await?, name.as_bytes(), "a copy back to {name:?}");
        ground.store.delete(&copy, None).await?;
    }
    let (alone, batch) = names.split_at(names.len() / 2);
    for name in alone {
        ground.store.delete(&ground.object(name), None).await?;
        refused(ground.store.head(&ground.object(name)).await, &[StoreErrorKind::NotFound], name)?;
    }
    let keys: Vec<_> = batch.iter().map(|name| ground.object(name).key).collect();
    let items = keys.iter().map(|key| DeleteItem::any(key));
    let results = ground.store.delete_batch(ground.plain, items).await?;
    ensure_eq!(results.len(), keys.len(), "results of a batch");
    for result in results {
        result?;
    }
    let left = ground.names(ListOptions::default()).await?;
    ensure!(left.is_empty(), "after deleting all there are {left:?}");
    Ok(())
}

/// What URLs, forms, XML and shells treat in a way of their own.
pub async fn keys_with_signs_come_back_as_they_went_in<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let names = [
        "a b",
        "a+b",
        "a%2Bb",
        "a%20b",
        "100%",
        "a&b=c",
        "a?b",
        "a#b",
        "<a>&amp;'\"",
        "a\\b",
        "a;b,c",
        "a:b@c$d!",
        "(a)*[b]{c}|^`~",
        "a=b",
        " a",
        "a ",
    ];
    come_back(ground, &names).await
}

/// `a//b` and `a/b` are two objects, and `..` is a name.
pub async fn keys_with_slashes_and_dots_are_not_cleaned_up<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    come_back(ground, &["a//b", "a/b", "/a/b", "//", "a/./b", "a/x/../b", "a/.b", "a..b", "c/", "c"]).await
}

/// UTF-8, in more than one normal form.
pub async fn keys_in_any_script_come_back_as_they_went_in<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    come_back(ground, &["头像.png", "é", "e\u{301}", "😀/🖼️", "ﾊ", "\u{10ffff}", "שלום", "ß", "İ"]).await
}

/// XML 1.0 has no way to write most of these.
pub async fn keys_with_control_characters_come_back_as_they_went_in<S: ObjectStore>(
    ground: &Ground<'_, S>,
) -> Verdict {
    come_back(ground, &["a\tb", "a\nb", "a\rb", "a\r\nb", "a\u{1}b", "a\u{1f}b", "a\u{7f}b", "a\u{85}b"])
        .await
}

/// The longest key there is.
pub async fn a_key_may_have_1024_bytes<S: ObjectStore>(ground: &Ground<'_, S>) -> Verdict {
    let left = 1024 - ground.prefix.len();
    let long = "é".repeat(left / 2) + &"x".repeat(left % 2);
    ensure_eq!(ground.object(&long).key.len(), 1024, "bytes of the key");
    ground.put(&ground.object(&long), b"long").await?;
    ensure_eq!(ground.read(&ground.object(&long)).await?, "long", "bytes");
    ensure_eq!(ground.names(ListOptions::default()).await?, std::slice::from_ref(&long), "a listing");
    ground.store.delete(&ground.object(&long), None).await?;
    Ok(())
}
