//! How keys, tags and metadata are spelled in requests and answers.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, ObjectLockLegalHoldStatus, Tag, Tagging};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::{Call, Metadata, StoreErrorKind, StoreResult, Tags};
use crate::object_ref::{ETag, ObjectRef};

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, with the slashes of a path kept.
const IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// A copy's source as `x-amz-copy-source` wants it.
pub(super) fn copy_source(source: &ObjectRef) -> String {
    let path = format!("{}/{}", source.bucket, utf8_percent_encode(&source.key, IN_PATH));
    match &source.version_id {
        Some(version) => format!("{path}?versionId={}", utf8_percent_encode(version, RESERVED)),
        None => path,
    }
}

/// Tags as `x-amz-tagging` wants them; `None` where there are none.
pub(super) fn tagging_header(tags: &Tags) -> Option<String> {
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let pairs: Vec<_> =
        tags.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// Tags as the body of PutObjectTagging.
pub(super) fn tag_set(call: &Call, tags: &Tags) -> StoreResult<Tagging> {
    let built = tags
        .iter()
        .map(|(name, value)| Tag::builder().key(name).value(value).build())
        .collect::<Result<Vec<_>, _>>()
        .and_then(|tags| Tagging::builder().set_tag_set(Some(tags)).build());
    built.map_err(|error| call.error(StoreErrorKind::Invalid, "").caused_by(error))
}

/// Tags as an answer lists them.
pub(super) fn tags(listed: Vec<Tag>) -> Tags {
    listed.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

/// User metadata of an answer. HTTP knows no case in names, so neither do we.
pub(super) fn metadata(headers: Option<HashMap<String, String>>) -> Metadata {
    headers.unwrap_or_default().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// User metadata of a request.
pub(super) fn headers(metadata: Metadata) -> Option<HashMap<String, String>> {
    (!metadata.is_empty()).then(|| metadata.into_iter().collect())
}

/// A listing's text: form-encoded where the answer says so, which is what makes keys survive that XML
/// cannot carry.
pub(super) fn listed(call: &Call, text: &str, encoding: Option<&EncodingType>) -> StoreResult<String> {
    if encoding != Some(&EncodingType::Url) {
        return Ok(text.to_owned());
    }
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|error| {
        let detail = "a key of the listing is not UTF-8; it has to be deleted or renamed by other means";
        call.error(StoreErrorKind::Invalid, detail).caused_by(error)
    })
}

/// The same for what may be missing.
pub(super) fn listed_option(
    call: &Call,
    text: Option<String>,
    encoding: Option<&EncodingType>,
) -> StoreResult<Option<String>> {
    text.map(|text| listed(call, &text, encoding)).transpose()
}

/// Whether XML 1.0 carries `key` unharmed. Control characters it cannot carry at all, or not without
/// turning a carriage return into something else.
pub(super) fn survives_xml(key: &str) -> bool {
    !key.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// An answer's time.
pub(super) fn timestamp(call: &Call, time: Option<DateTime>) -> StoreResult<Timestamp> {
    let time = present(call, time, "Last-Modified")?;
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or_default();
    Timestamp::new(time.secs(), nanos)
        .map_err(|error| call.error(StoreErrorKind::Unavailable, "the answer's time").caused_by(error))
}

/// An answer's entity tag.
pub(super) fn e_tag(call: &Call, text: Option<&str>) -> StoreResult<ETag> {
    present(call, text.and_then(ETag::parse), "ETag")
}

/// An answer's size.
pub(super) fn size(call: &Call, size: Option<i64>) -> StoreResult<u64> {
    present(call, size.and_then(|size| u64::try_from(size).ok()), "Content-Length")
}

/// An answer's count of something.
pub(super) fn count(count: Option<i32>) -> Option<u32> {
    count.and_then(|count| u32::try_from(count).ok())
}

/// Until when object lock holds what an answer is about.
pub(super) fn locked_until(
    legal_hold: Option<&ObjectLockLegalHoldStatus>,
    retained_until: Option<DateTime>,
) -> Option<Timestamp> {
    if legal_hold == Some(&ObjectLockLegalHoldStatus::On) {
        return Some(Timestamp::MAX);
    }
    retained_until.and_then(|until| Timestamp::from_second(until.secs()).ok())
}

/// What an answer must have. One that lacks it did not come whole, and is no success.
pub(super) fn present<T>(call: &Call, value: Option<T>, name: &str) -> StoreResult<T> {
    value.ok_or_else(|| call.error(StoreErrorKind::Unavailable, format!("the answer lacks {name}")))
}

/// The whole size of `bytes 0-9/1234`.
pub(super) fn size_of_content_range(text: &str) -> Option<u64> {
    text.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::Operation;
    use super::*;
    use proptest::prelude::*;

    fn call() -> Call {
        Call::on_bucket(Operation::List, "b")
    }

    #[test]
    fn a_copy_source_keeps_slashes_and_nothing_else() {
        let source = ObjectRef::new("b", "/a//../b c+d?e#ü%").at_version(Some("3/L4=".into()));
        assert_eq!(copy_source(&source), "b//a//../b%20c%2Bd%3Fe%23%C3%BC%25?versionId=3%2FL4%3D");
    }

    #[test]
    fn tags_are_encoded_as_a_query() {
        let tags = Tags::from([("a b".into(), "1+1=2".into()), ("ü".into(), "&".into())]);
        assert_eq!(tagging_header(&tags).as_deref(), Some("a%20b=1%2B1%3D2&%C3%BC=%26"));
        assert_eq!(tagging_header(&Tags::new()), None);
    }

    #[test]
    fn a_plus_is_a_space_only_where_the_answer_is_encoded() {
        assert_eq!(listed(&call(), "a+b%2B", Some(&EncodingType::Url)).unwrap(), "a b+");
        assert_eq!(listed(&call(), "a+b%2B", None).unwrap(), "a+b%2B");
        assert!(listed(&call(), "%ff", Some(&EncodingType::Url)).is_err());
    }

    #[test]
    fn the_whole_size_is_behind_the_slash() {
        assert_eq!(size_of_content_range("bytes 0-9/1234"), Some(1234));
        assert_eq!(size_of_content_range("bytes 0-9/*"), None);
    }

    proptest! {
        #[test]
        fn any_key_survives_a_listing(key in any::<String>()) {
            let encoded = utf8_percent_encode(&key, RESERVED).to_string();
            prop_assert_eq!(listed(&call(), &encoded, Some(&EncodingType::Url)).unwrap(), key);
        }
    }
}
