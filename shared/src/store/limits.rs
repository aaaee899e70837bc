//! What every store refuses, checked before a request is made, so that all adapters refuse alike and
//! nobody finds out in production.
//!
//! Source: S3 User Guide, "Naming Amazon S3 objects", "Working with object metadata" and "Categorizing
//! your objects using tags".

use std::ops::Range;

use super::{Call, CopyOptions, DeleteItems, Metadata, PutOptions, StoreErrorKind, StoreResult, Tags};
use crate::object_ref::ETag;

/// Bytes of a key.
const MAX_KEY_BYTES: usize = 1024;
/// Bytes of all names and values of user metadata together.
const MAX_METADATA_BYTES: usize = 2048;
/// Tags of an object.
const MAX_TAGS: usize = 10;
/// Characters of a tag's name.
const MAX_TAG_NAME_CHARS: usize = 128;
/// Characters of a tag's value.
const MAX_TAG_VALUE_CHARS: usize = 256;
/// Objects of a batch delete.
pub(super) const MAX_BATCH: usize = 1000;
/// Entries of a page.
pub(super) const MAX_PAGE: u16 = 1000;
/// The highest number of a part.
const MAX_PART_NUMBER: u16 = 10_000;

fn refuse(call: &Call, detail: impl Into<String>) -> StoreResult<()> {
    Err(call.error(StoreErrorKind::Invalid, detail))
}

/// A key: 1 to 1,024 bytes.
pub(super) fn check_key(call: &Call, key: &str) -> StoreResult<()> {
    match key.len() {
        0 => refuse(call, "a key has at least one byte"),
        1..=MAX_KEY_BYTES => Ok(()),
        length => refuse(call, format!("a key has at most {MAX_KEY_BYTES} bytes, this one has {length}")),
    }
}

/// What a write carries besides its bytes.
pub(super) fn check_put(call: &Call, options: &PutOptions) -> StoreResult<()> {
    if call.of_version() {
        return refuse(call, "a version is made by the store and cannot be written");
    }
    check_header(call, "Content-Type", options.content_type.as_deref())?;
    check_header(call, "Cache-Control", options.cache_control.as_deref())?;
    check_metadata(call, &options.metadata)?;
    check_tags(call, &options.tags)
}

/// What a copy carries.
pub(super) fn check_copy(call: &Call, options: &CopyOptions) -> StoreResult<()> {
    if call.of_version() {
        return refuse(call, "a version is made by the store and cannot be written");
    }
    options.metadata.as_ref().map_or(Ok(()), |metadata| check_metadata(call, metadata))?;
    options.tags.as_ref().map_or(Ok(()), |tags| check_tags(call, tags))
}

/// User metadata: header-safe names in lower case, printable ASCII values, 2 KB together.
fn check_metadata(call: &Call, metadata: &Metadata) -> StoreResult<()> {
    for (name, value) in metadata {
        let name_fits =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
        if !name_fits || name.contains(|c| "()<>@,;:\\\"/[]?={}".contains(c)) {
            return refuse(call, format!("{name:?} is no name of user metadata: lower-case ASCII is"));
        }
        check_header(call, name, Some(value))?;
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return refuse(call, format!("user metadata has at most {MAX_METADATA_BYTES} bytes, not {bytes}"));
    }
    Ok(())
}

/// A header's value: printable ASCII, and no space at either end, where HTTP would strip it.
fn check_header(call: &Call, name: &str, value: Option<&str>) -> StoreResult<()> {
    let Some(value) = value else { return Ok(()) };
    if value.bytes().any(|b| !(b == b' ' || b.is_ascii_graphic())) {
        return refuse(call, format!("the value of {name} is not printable ASCII"));
    }
    if value.trim() != value {
        return refuse(call, format!("the value of {name} begins or ends in a space"));
    }
    Ok(())
}

/// Tags: ten, of letters, digits, spaces and `+ - = . _ : / @`.
pub(super) fn check_tags(call: &Call, tags: &Tags) -> StoreResult<()> {
    if tags.len() > MAX_TAGS {
        return refuse(call, format!("an object has at most {MAX_TAGS} tags, not {}", tags.len()));
    }
    let fits = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() && !c.is_control() || "+-=._:/@".contains(c))
    };
    for (name, value) in tags {
        if !(1..=MAX_TAG_NAME_CHARS).contains(&name.chars().count()) || !fits(name) {
            return refuse(call, format!("{name:?} is no name of a tag"));
        }
        if value.chars().count() > MAX_TAG_VALUE_CHARS || !fits(value) {
            return refuse(call, format!("the value of the tag {name:?} is not one that a store takes"));
        }
    }
    Ok(())
}

/// A batch: 1,000 objects, a condition only on current ones.
pub(super) fn check_batch<'n>(call: &Call, mut items: impl DeleteItems<'n>) -> StoreResult<()> {
    let count = items.clone().count();
    if count > MAX_BATCH {
        return refuse(call, format!("a batch has at most {MAX_BATCH} objects, not {count}"));
    }
    match items.clone().find(|item| item.version_id.is_some() && item.if_match.is_some()) {
        Some(item) => refuse(call, format!("{:?}: a version is deleted without a condition", item.key)),
        None => items.try_for_each(|item| check_key(call, item.key)),
    }
}

/// A conditional delete: of a current object only.
pub(super) fn check_condition(call: &Call, if_match: Option<&ETag>) -> StoreResult<()> {
    if call.of_version() && if_match.is_some() {
        return refuse(call, "a version is deleted without a condition");
    }
    Ok(())
}

/// A range: of at least one byte, as HTTP cannot ask for less.
pub(super) fn check_range(call: &Call, range: &Range<u64>) -> StoreResult<()> {
    if range.is_empty() { refuse(call, "a range has at least one byte") } else { Ok(()) }
}

/// A part's number: 1 to 10,000.
pub(super) fn check_part_number(call: &Call, number: u16) -> StoreResult<()> {
    if (1..=MAX_PART_NUMBER).contains(&number) {
        return Ok(());
    }
    refuse(call, format!("parts are numbered from 1 to {MAX_PART_NUMBER}, not {number}"))
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;
    use crate::object_ref::ObjectRef;

    fn call() -> Call {
        Call::on_object(Operation::Put, &ObjectRef::new("b", "k"))
    }

    fn metadata(name: &str, value: &str) -> PutOptions {
        PutOptions { metadata: Metadata::from([(name.into(), value.into())]), ..PutOptions::default() }
    }

    #[test]
    fn metadata_that_http_cannot_carry_is_refused() {
        assert!(check_put(&call(), &metadata("source-md5", "d41d 8cd9")).is_ok());
        for (name, value) in
            [("name", "naïve"), ("name", "a\nb"), ("name", " a"), ("Name", "a"), ("na me", "a"), ("", "a")]
        {
            let error = check_put(&call(), &metadata(name, value)).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Invalid, "{name:?}={value:?}");
        }
        assert!(check_put(&call(), &metadata("a", &"x".repeat(2047))).is_ok());
        assert!(check_put(&call(), &metadata("a", &"x".repeat(2048))).is_err());
    }

    #[test]
    fn an_eleventh_tag_is_refused() {
        let tags = |n: u8| (0..n).map(|i| (format!("t{i}"), "ä ö/@+".to_owned())).collect::<Tags>();
        assert!(check_tags(&call(), &tags(10)).is_ok());
        assert!(check_tags(&call(), &tags(11)).is_err());
        assert!(check_tags(&call(), &Tags::from([("a".into(), "b;c".into())])).is_err());
        assert!(check_tags(&call(), &Tags::from([(String::new(), "b".into())])).is_err());
    }

    #[test]
    fn a_key_is_measured_in_bytes() {
        assert!(check_key(&call(), &"é".repeat(512)).is_ok());
        assert!(check_key(&call(), &"é".repeat(513)).is_err());
        assert!(check_key(&call(), "").is_err());
    }
}
