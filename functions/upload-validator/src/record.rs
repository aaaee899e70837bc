//! The row that other systems keep in a table, written as an object.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use md5::{Digest, Md5};
use serde::Serialize;
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::Status;
use shared::short_code::ShortCode;

use crate::verdict::Verdict;

/// The metadata name by which a record is known to be about one upload.
pub const SUBJECT: &str = "subject";

/// What a record says.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    etag: &'a ETag,
    owner: Option<&'a str>,
    key: &'a str,
    status: &'static str,
    reasons: Vec<&'static str>,
    time: Timestamp,
}

impl<'a> Record<'a> {
    /// The record of `verdict` on `object`, whose tag is `e_tag`.
    pub fn new(object: &'a ObjectRef, e_tag: &'a ETag, verdict: &'a Verdict) -> Self {
        let status = if verdict.is_accepted() { Status::Accepted } else { Status::Rejected };
        Self {
            etag: e_tag,
            owner: verdict.owner.as_deref(),
            key: &object.key,
            status: status.as_str(),
            reasons: verdict.codes(),
            time: verdict.created_at,
        }
    }

    /// Its bytes, the same for the same verdict.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("texts and a time are JSON"))
    }
}

/// What distinguishes one upload from all others.
pub fn subject(object: &ObjectRef, e_tag: &ETag) -> String {
    let version = object.version_id.as_deref().unwrap_or_default();
    hex::encode(digest_of(&[&object.bucket, &object.key, version, e_tag.as_str()]))
}

/// The keys under which the record may stand, in the order in which they are tried: under the short code of the
/// content first, then, where another upload of the same content was first, under codes of its own.
pub fn keys(object: &ObjectRef, e_tag: &ETag, verdict: &Verdict) -> impl Iterator<Item = String> {
    // No stranger's text becomes a folder.
    let catalog = verdict.catalog.clone().unwrap_or_else(|| "_".to_owned());
    let day = verdict.created_at.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
    let content = e_tag.md5_hint().unwrap_or_else(|| digest_of(&[e_tag.as_str()]));
    let mut own = [0; 16];
    own.copy_from_slice(&Md5::digest(subject(object, e_tag)));
    let codes = std::iter::once(ShortCode::of_digest(&content, 0))
        .chain((0..=7).map(move |n| ShortCode::of_digest(&own, n)));
    codes.map(move |code| format!("records/{catalog}/{day}/{code}.json"))
}

fn digest_of(parts: &[&str]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        // Lengths keep the parts apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::outcome::Reason;

    fn verdict(catalog: Option<&str>, reasons: &[&'static str]) -> Verdict {
        Verdict {
            reasons: reasons.iter().map(|code| Reason::new(code, "")).collect(),
            catalog: catalog.map(str::to_owned),
            owner: Some("user-7".into()),
            created_at: "2026-11-01T23:59:59.5Z".parse().unwrap(),
            expires_at: None,
            has_retention: false,
            size: Some(5),
            media_type: None,
            dimensions: None,
        }
    }

    #[test]
    fn a_record_reads_as_the_contract_says() {
        let object = ObjectRef::new("files", "bn0m0anw/cv.pdf");
        let e_tag = ETag::parse("5d41402abc4b2a76b9719d911017c592").unwrap();
        let rejected = verdict(Some("bn0m0anw"), &["empty", "type-mismatch", "type-mismatch"]);
        let json = String::from_utf8(Record::new(&object, &e_tag, &rejected).json()).unwrap();
        assert_eq!(
            json,
            r#"{"etag":"5d41402abc4b2a76b9719d911017c592","owner":"user-7","key":"bn0m0anw/cv.pdf","status":"rejected","reasons":["empty","type-mismatch"],"time":"2026-11-01T23:59:59.5Z"}"#
        );
        let first = keys(&object, &e_tag, &rejected).next().unwrap();
        assert_eq!(first, "records/bn0m0anw/2026/11/01/bn0m0anw.json");
    }

    #[test]
    fn each_upload_has_its_own_place_and_no_stranger_names_a_folder() {
        let e_tag = ETag::parse("5d41402abc4b2a76b9719d911017c592-2").unwrap();
        let place = |key: &str| -> Vec<String> {
            keys(&ObjectRef::new("files", key), &e_tag, &verdict(None, &[])).collect()
        };
        let (one, other) = (place("../a"), place("../b"));
        assert_eq!(one.len(), 9);
        assert_eq!(one[0], other[0]);
        assert!(one[1..].iter().all(|key| !other.contains(key)));
        assert!(one.iter().all(|key| key.starts_with("records/_/2026/11/01/")));
        assert_ne!(subject(&ObjectRef::new("a", "bc"), &e_tag), subject(&ObjectRef::new("ab", "c"), &e_tag));
    }
}
