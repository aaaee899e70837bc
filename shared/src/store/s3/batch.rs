//! Batch deletes: one result per object, and none of them a guess.

use std::collections::HashMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::super::{Call, DeleteItem, Operation, StoreErrorKind, StoreResult};
use super::config::Dialect;
use super::failure::{failure, item_failure};
use super::oss;
use crate::object_ref::ETagRef;

/// Deletes `items` in one request and answers a result for each, in their order.
pub(super) async fn delete(
    client: &Client,
    dialect: Dialect,
    bucket: &str,
    items: &[&DeleteItem<'_>],
) -> StoreResult<Vec<StoreResult<()>>> {
    let call = Call::on_bucket(Operation::DeleteBatch, bucket);
    let objects = items.iter().map(|item| identifier(&call, item)).collect::<StoreResult<Vec<_>>>()?;
    let delete = Delete::builder()
        .set_objects(Some(objects))
        // A quiet answer names failures only, and then a broken-off answer would read as success.
        .quiet(false)
        .build()
        .map_err(|error| call.error(StoreErrorKind::Invalid, "").caused_by(error))?;
    let mut request = client.delete_objects().bucket(bucket).delete(delete).customize();
    if dialect == Dialect::Oss {
        request = request.mutate_request(oss::digest_by_md5);
    }
    let answer = request.send().await.map_err(|error| failure(dialect, &call, error))?;

    let deleted = answer.deleted().iter().map(|object| (identity(object.key(), object.version_id()), None));
    let failed = answer
        .errors()
        .iter()
        .map(|error| (identity(error.key(), error.version_id()), Some((error.code(), error.message()))));
    // A failure outweighs a success, should an answer name an object twice.
    let told: HashMap<_, _> = deleted.chain(failed).collect();
    let result = |item: &&DeleteItem<'_>| {
        let call = Call::on_item(bucket, item);
        let identity = identity(Some(item.key), item.version_id);
        match told.get(&identity) {
            Some(None) => Ok(()),
            Some(Some((code, message))) => Err(item_failure(dialect, &call, *code, *message)),
            None => Err(call.error(StoreErrorKind::Unavailable, "the answer does not name this object")),
        }
    };
    Ok(items.iter().map(result).collect())
}

type Identity<'a> = (&'a str, &'a str);

/// By what a result is found. Some stores answer an empty version for none.
fn identity<'a>(key: Option<&'a str>, version_id: Option<&'a str>) -> Identity<'a> {
    (key.unwrap_or_default(), version_id.unwrap_or_default())
}

fn identifier(call: &Call, item: &DeleteItem<'_>) -> StoreResult<ObjectIdentifier> {
    ObjectIdentifier::builder()
        .key(item.key)
        .set_version_id(item.version_id.map(str::to_owned))
        .set_e_tag(item.if_match.map(ETagRef::quoted))
        .build()
        .map_err(|error| call.error(StoreErrorKind::Invalid, "").caused_by(error))
}
