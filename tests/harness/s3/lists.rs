//! Listings as clients ask for them.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::backend::{Backend, owner};
use super::listing::{self, Query};
use super::model::{StoredObject, Version};
use super::wire::{self, encoded};

/// As many rows as a page has at most.
const PAGE: usize = 1000;

fn limit(asked: Option<i32>) -> S3Result<usize> {
    let Some(asked) = asked else { return Ok(PAGE) };
    usize::try_from(asked).map(|asked| asked.min(PAGE)).map_err(|_| {
        s3_error!(InvalidArgument, "Argument maxKeys must be an integer between 0 and 2147483647")
    })
}

/// A continuation token says where a listing goes on, in characters that survive any client.
fn token(after: &str) -> String {
    utf8_percent_encode(after, NON_ALPHANUMERIC).to_string().replace('%', "_")
}

fn after_of(token: &str) -> S3Result<String> {
    let decoded = token.replace('_', "%");
    let decoded = percent_decode_str(&decoded).decode_utf8().map(String::from);
    decoded.map_err(|_| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

fn class(object: &StoredObject) -> String {
    object.attributes.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned())
}

impl Backend {
    /// The current objects that a query finds, with where the next page starts.
    fn page(
        &self,
        bucket: &str,
        query: &Query<'_>,
        encoding: Option<&EncodingType>,
        with_owner: bool,
    ) -> S3Result<(Vec<Object>, Vec<CommonPrefix>, Option<String>)> {
        let world = self.shared.world();
        let bucket = world.bucket(bucket)?;
        if query.limit == 0 {
            return Ok((Vec::new(), Vec::new(), None));
        }
        let page = listing::objects(&bucket.objects, query);
        let objects = page.items.into_iter().map(|(key, object)| Object {
            key: Some(encoded(key, encoding)),
            size: i64::try_from(object.body.len()).ok(),
            e_tag: Some(ETag::Strong(object.e_tag.clone())),
            last_modified: Some(wire::seconds(object.last_modified)),
            storage_class: Some(ObjectStorageClass::from(class(object))),
            owner: with_owner.then(|| owner(&self.shared.options.account)),
            ..Object::default()
        });
        let objects = objects.collect();
        let prefixes = page.prefixes.iter();
        let prefixes =
            prefixes.map(|prefix| CommonPrefix { prefix: Some(encoded(prefix, encoding)) }).collect();
        Ok((objects, prefixes, page.next))
    }

    pub(super) fn list_v1(&self, input: &ListObjectsInput) -> S3Result<ListObjectsOutput> {
        let limit = limit(input.max_keys)?;
        let encoding = input.encoding_type.as_ref();
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: input.marker.as_deref().filter(|marker| !marker.is_empty()),
            limit,
        };
        let (objects, prefixes, next) = self.page(&input.bucket, &query, encoding, true)?;
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        Ok(ListObjectsOutput {
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            is_truncated: Some(next.is_some()),
            // Without a delimiter the last key is the next marker, and S3 does not repeat it.
            next_marker: next.filter(|_| delimiter.is_some()).map(|next| encoded(&next, encoding)),
            delimiter: delimiter.map(|delimiter| encoded(delimiter, encoding)),
            marker: Some(encoded(input.marker.as_deref().unwrap_or_default(), encoding)),
            prefix: Some(encoded(query.prefix, encoding)),
            max_keys: i32::try_from(limit).ok(),
            name: Some(input.bucket.clone()),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsOutput::default()
        })
    }

    pub(super) fn list_v2(&self, input: &ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let limit = limit(input.max_keys)?;
        let encoding = input.encoding_type.as_ref();
        let token_after = input.continuation_token.as_deref().map(after_of).transpose()?;
        let start_after = input.start_after.as_deref().filter(|after| !after.is_empty());
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: token_after.as_deref().or(start_after),
            limit,
        };
        let with_owner = input.fetch_owner == Some(true);
        let (objects, prefixes, next) = self.page(&input.bucket, &query, encoding, with_owner)?;
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        Ok(ListObjectsV2Output {
            key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.as_deref().map(token),
            delimiter: delimiter.map(|delimiter| encoded(delimiter, encoding)),
            start_after: start_after.map(|after| encoded(after, encoding)),
            prefix: Some(encoded(query.prefix, encoding)),
            max_keys: i32::try_from(limit).ok(),
            name: Some(input.bucket.clone()),
            continuation_token: input.continuation_token.clone(),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsV2Output::default()
        })
    }

    pub(super) fn list_versions(
        &self,
        input: &ListObjectVersionsInput,
    ) -> S3Result<ListObjectVersionsOutput> {
        let limit = limit(input.max_keys)?;
        let encoding = input.encoding_type.as_ref();
        let version_marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: input.key_marker.as_deref().filter(|marker| !marker.is_empty()),
            limit,
        };
        if version_marker.is_some() && query.after.is_none() {
            return Err(s3_error!(
                InvalidArgument,
                "A version-id marker cannot be specified without a key marker."
            ));
        }
        let world = self.shared.world();
        let bucket = world.bucket(&input.bucket)?;
        let (page, next) = match limit {
            0 => (listing::Page { items: Vec::new(), prefixes: Vec::new(), next: None }, None),
            _ => listing::versions(&bucket.objects, &query, version_marker),
        };
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for row in page.items {
            let key = Some(encoded(row.key, encoding));
            let is_latest = Some(row.is_latest);
            let owner = Some(owner(&self.shared.options.account));
            match row.version {
                Version::Object(object) => versions.push(ObjectVersion {
                    key,
                    is_latest,
                    owner,
                    version_id: Some(object.version_id.clone()),
                    size: i64::try_from(object.body.len()).ok(),
                    e_tag: Some(ETag::Strong(object.e_tag.clone())),
                    last_modified: Some(wire::seconds(object.last_modified)),
                    storage_class: Some(ObjectVersionStorageClass::from(class(object))),
                    ..ObjectVersion::default()
                }),
                Version::Marker { version_id, last_modified } => markers.push(DeleteMarkerEntry {
                    key,
                    is_latest,
                    owner,
                    version_id: Some(version_id.clone()),
                    last_modified: Some(wire::seconds(*last_modified)),
                }),
            }
        }
        let prefixes = page.prefixes.iter();
        let prefixes =
            prefixes.map(|prefix| CommonPrefix { prefix: Some(encoded(prefix, encoding)) }).collect();
        Ok(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(prefixes),
            is_truncated: Some(next.is_some()),
            next_key_marker: next.as_ref().map(|(key, _)| encoded(key, encoding)),
            next_version_id_marker: next.and_then(|(_, version)| version),
            delimiter: input.delimiter.as_deref().map(|delimiter| encoded(delimiter, encoding)),
            key_marker: Some(encoded(input.key_marker.as_deref().unwrap_or_default(), encoding)),
            version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
            prefix: Some(encoded(query.prefix, encoding)),
            max_keys: i32::try_from(limit).ok(),
            name: Some(input.bucket.clone()),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectVersionsOutput::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_any_key() {
        for key in ["a", "a_b%c", "ä/头\n\u{1}", "users/1/"] {
            assert_eq!(after_of(&token(key)).unwrap(), key);
            assert!(token(key).chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        }
    }
}
