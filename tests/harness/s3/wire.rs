//! From what clients write to what the model holds, and back.

use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use s3s::dto::{self, EncodingType, Metadata, Tag, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::events::form_encode;
use super::model::{Attributes, Tags};

/// As many tags as an object has at most.
const MAX_TAGS: usize = 10;
/// As many bytes as the names and values of the metadata have at most.
const MAX_METADATA: usize = 2048;

/// A time as S3 shows it, in whole seconds.
pub(super) fn seconds(time: Timestamp) -> dto::Timestamp {
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    std::time::SystemTime::from(whole).into()
}

/// A time that a client sent.
pub(super) fn time(time: &dto::Timestamp) -> S3Result<Timestamp> {
    let mut text = Vec::new();
    let invalid = || s3_error!(InvalidArgument, "A time cannot be read.");
    time.format(TimestampFormat::DateTime, &mut text).map_err(|_| invalid())?;
    String::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)
}

/// A text of a listing, encoded if the client wants it so.
pub(super) fn encoded(text: &str, encoding: Option<&EncodingType>) -> String {
    match encoding {
        Some(kind) if kind.as_str() == EncodingType::URL => form_encode(text),
        _ => text.to_owned(),
    }
}

/// 400 with the code `BadRequest`, which is what too many tags get.
fn bad_request(message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom("BadRequest".into()), message);
    error.set_status_code(hyper::StatusCode::BAD_REQUEST);
    error
}

fn checked(tags: impl IntoIterator<Item = (String, String)>) -> S3Result<Tags> {
    let mut checked = Tags::new();
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > 128 {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > 256 {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if checked.insert(name, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    if checked.len() > MAX_TAGS {
        return Err(bad_request("Object tags cannot be greater than 10"));
    }
    Ok(checked)
}

/// Tags as `x-amz-tagging` carries them: a URL query.
pub(super) fn tags_of_header(header: Option<&str>) -> S3Result<Tags> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(String::from).map_err(|_| {
            s3_error!(InvalidArgument, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
        })
    };
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    checked(pairs.collect::<S3Result<Vec<_>>>()?)
}

/// Tags as an XML body carries them.
pub(super) fn tags_of_set(set: Vec<Tag>) -> S3Result<Tags> {
    checked(set.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())))
}

/// Tags as the field `tagging` of a form carries them: an XML document.
pub(super) fn tags_of_form(field: Option<&str>) -> S3Result<Tags> {
    use s3s::xml::{Deserialize, Deserializer};
    let Some(field) = field else { return Ok(Tags::new()) };
    let document = dto::Tagging::deserialize(&mut Deserializer::new(field.as_bytes()));
    tags_of_set(document.map_err(|error| s3_error!(error, MalformedXML))?.tag_set)
}

/// Tags for an XML body.
pub(super) fn tag_set(tags: &Tags) -> Vec<Tag> {
    let tag = |(name, value): (&String, &String)| Tag { key: Some(name.clone()), value: Some(value.clone()) };
    tags.iter().map(tag).collect()
}

/// The metadata of a write, if there is not too much of it.
pub(super) fn metadata(metadata: Option<Metadata>) -> S3Result<std::collections::BTreeMap<String, String>> {
    let metadata = metadata.unwrap_or_default();
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(metadata.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
}

/// The attributes that the input of a write carries; the inputs have the same fields, but no common type.
macro_rules! attributes {
    ($input:ident) => {
        $crate::s3::model::Attributes {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::s3::wire::content_encoding($input.content_encoding.as_deref()),
            content_language: $input.content_language.take(),
            expires: $input.expires.take(),
            redirect: $input.website_redirect_location.take(),
            storage_class: $input
                .storage_class
                .take()
                .map(|class| class.as_str().to_owned())
                .filter(|class| class != "STANDARD"),
            metadata: $crate::s3::wire::metadata($input.metadata.take())?,
        }
    };
}

/// The legal hold and the retention that the input of a write carries.
macro_rules! locks {
    ($input:ident) => {{
        let legal_hold =
            $input.object_lock_legal_hold_status.take().is_some_and(|status| status.as_str() == "ON");
        let mode = $input.object_lock_mode.take().map(|mode| mode.as_str().to_owned());
        let retention = match (mode, $input.object_lock_retain_until_date.take()) {
            (Some(mode), Some(until)) => Some((mode, $crate::s3::wire::time(&until)?)),
            _ => None,
        };
        (legal_hold, retention)
    }};
}

pub(super) use {attributes, locks};

/// `aws-chunked` is how the body travelled, not what it is.
pub(super) fn content_encoding(header: Option<&str>) -> Option<String> {
    let kept: Vec<_> = header?
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Shares attributes that are the same for most objects.
pub(super) fn shared(attributes: Attributes) -> Arc<Attributes> {
    Arc::new(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_a_header_are_decoded_like_a_query() {
        let tags = tags_of_header(Some("a=1&b%20c=d+e%2B&f=")).unwrap();
        let expected = [("a", "1"), ("b c", "d e+"), ("f", "")];
        assert_eq!(tags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(tags_of_header(None).unwrap(), Tags::new());
    }

    #[test]
    fn eleven_tags_or_the_same_twice_are_refused() {
        let many: Vec<_> = (0..11).map(|n| format!("t{n}=x")).collect();
        assert_eq!(tags_of_header(Some(&many.join("&"))).unwrap_err().code().as_str(), "BadRequest");
        assert_eq!(*tags_of_header(Some("a=1&a=2")).unwrap_err().code(), S3ErrorCode::InvalidTag);
    }

    #[test]
    fn metadata_may_have_two_kilobytes() {
        let with = |len: usize| Some(Metadata::from([("k".to_owned(), "v".repeat(len))]));
        assert!(metadata(with(2047)).is_ok());
        assert_eq!(*metadata(with(2048)).unwrap_err().code(), S3ErrorCode::MetadataTooLarge);
    }

    #[test]
    fn the_coding_of_the_transport_is_not_kept() {
        assert_eq!(content_encoding(Some("aws-chunked")), None);
        assert_eq!(content_encoding(Some("gzip,aws-chunked")).as_deref(), Some("gzip"));
    }
}
