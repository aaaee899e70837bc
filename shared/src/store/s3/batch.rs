//! Batch deletes: one result per object, and none of them a guess.

use aws_sdk_s3::Client;
use aws_sdk_s3::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::types::{Delete, DeletedObject, Error as S3Error, ObjectIdentifier};

use super::super::{Call, DeleteItem, DeleteItems, Operation, StoreErrorKind, StoreResult};
use super::config::Dialect;
use super::failure::{failure, item_failure};
use super::oss;
use crate::object_ref::ETagRef;

/// Deletes `items` in one request and answers a result for each, in their order.
pub(super) async fn delete<'n>(
    client: &Client,
    dialect: Dialect,
    bucket: &str,
    items: impl DeleteItems<'n>,
) -> StoreResult<Vec<StoreResult<()>>> {
    let call = Call::on_bucket(Operation::DeleteBatch, bucket);
    let objects = items.clone().map(|item| identifier(&call, &item)).collect::<StoreResult<Vec<_>>>()?;
    let delete = Delete::builder()
        .set_objects(Some(objects))
        // A quiet answer names failures only, and then a broken-off answer would read as success.
        .quiet(false)
        .build()
        .map_err(|error| call.error(StoreErrorKind::Invalid, "").caused_by(error))?;
    let mut request = client.delete_objects().bucket(bucket).delete(delete).customize();
    if items.clone().any(|item| item.version_id.is_none()) {
        // An attempt whose answer was lost may have had its effect, and a second one would delete what a client has
        // written since, also on a condition if that is the same once more. Whoever asks looks first, and then asks again.
        request = request.config_override(Config::builder().retry_config(RetryConfig::disabled()));
    }
    if dialect == Dialect::Oss {
        request = request.mutate_request(oss::digest_by_md5);
    }
    let answer = request.send().await.map_err(|error| failure(dialect, &call, error))?;

    // Sorted where they are: an index of a thousand objects would take more memory than their names.
    let (mut deleted, mut failed) = (answer.deleted.unwrap_or_default(), answer.errors.unwrap_or_default());
    deleted.sort_unstable_by(|one, other| of_deleted(one).cmp(&of_deleted(other)));
    failed.sort_unstable_by(|one, other| of_failed(one).cmp(&of_failed(other)));
    let result = |item: DeleteItem<'_>| {
        let wanted = identity(Some(item.key), item.version_id);
        // A failure outweighs a success, should an answer name an object twice. Some stores tell it without the version,
        // and then it is that of all versions of the key that nothing else is said of.
        let failure =
            |wanted: Identity<'_>| failed.binary_search_by(|error| of_failed(error).cmp(&wanted)).ok();
        let is_deleted = deleted.binary_search_by(|object| of_deleted(object).cmp(&wanted)).is_ok();
        let of_its_key = || failure(identity(Some(item.key), None)).filter(|_| !is_deleted);
        if let Some(error) = failure(wanted).or_else(of_its_key).and_then(|at| failed.get(at)) {
            return Err(item_failure(dialect, &Call::on_item(bucket, &item), error.code(), error.message()));
        }
        is_deleted.then_some(()).ok_or_else(|| {
            let detail = "the answer does not name this object";
            Call::on_item(bucket, &item).error(StoreErrorKind::Unavailable, detail)
        })
    };
    Ok(items.map(result).collect())
}

type Identity<'a> = (&'a str, &'a str);

/// By what a result is found. Some stores answer an empty version for none.
fn identity<'a>(key: Option<&'a str>, version_id: Option<&'a str>) -> Identity<'a> {
    (key.unwrap_or_default(), version_id.unwrap_or_default())
}

fn of_deleted(object: &DeletedObject) -> Identity<'_> {
    identity(object.key(), object.version_id())
}

fn of_failed(error: &S3Error) -> Identity<'_> {
    identity(error.key(), error.version_id())
}

fn identifier(call: &Call, item: &DeleteItem<'_>) -> StoreResult<ObjectIdentifier> {
    ObjectIdentifier::builder()
        .key(item.key)
        .set_version_id(item.version_id.map(str::to_owned))
        .set_e_tag(item.if_match.map(ETagRef::quoted))
        .build()
        .map_err(|error| call.error(StoreErrorKind::Invalid, "").caused_by(error))
}
