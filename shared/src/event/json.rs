//! Reading fields of a carrier's JSON, where a missing one is named by its path.

use jiff::Timestamp;
use serde_json::Value;

use super::Malformed;
use crate::object_ref::ETag;

/// The value at `path` below `value`, field by field.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, field| value.get(field)).filter(|value| !value.is_null())
}

/// The text at `path`, if there is one.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path).and_then(Value::as_str)
}

/// The text at `path`.
pub(super) fn required<'a>(value: &'a Value, path: &[&str]) -> Result<&'a str, Malformed> {
    text(value, path).ok_or_else(|| Malformed(format!("the record has no text at {}", path.join("."))))
}

/// The bucket's name at `path`, which no store lets be empty.
pub(super) fn bucket<'a>(value: &'a Value, path: &[&str]) -> Result<&'a str, Malformed> {
    let name = required(value, path)?;
    if name.is_empty() {
        Err(Malformed(format!("the bucket name at {} is empty", path.join("."))))
    } else {
        Ok(name)
    }
}

/// The whole number at `path`, if there is one. It may come as text, as some emitters write it.
pub(super) fn size(value: &Value, path: &[&str]) -> Option<u64> {
    let found = at(value, path)?;
    found.as_u64().or_else(|| found.as_str()?.parse().ok())
}

/// The entity tag at `path`, if there is one.
pub(super) fn e_tag(value: &Value, path: &[&str]) -> Option<ETag> {
    text(value, path).and_then(ETag::parse)
}

/// The time at `path`, if it can be read. A time that cannot be read is as good as none: carriers are
/// known to append a zone's name to it.
pub(super) fn time(value: &Value, path: &[&str]) -> Option<Timestamp> {
    text(value, path)?.parse().ok()
}
