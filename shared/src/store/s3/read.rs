//! Reading: what is known about an object, and its bytes with their length watched.

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::super::limits;
use super::super::{Call, GetOptions, GetResult, ObjectMeta, Operation, StoreErrorKind, StoreResult};
use super::config::Dialect;
use super::failure::{body_failure, failure};
use super::wire;
use crate::object_ref::ObjectRef;

pub(super) fn meta_of_head(call: &Call, head: HeadObjectOutput) -> StoreResult<ObjectMeta> {
    Ok(ObjectMeta {
        size: wire::size(call, head.content_length)?,
        e_tag: wire::e_tag(call, head.e_tag.as_deref())?,
        last_modified: wire::timestamp(call, head.last_modified)?,
        version_id: head.version_id.filter(|version| !version.is_empty()),
        content_type: head.content_type,
        cache_control: head.cache_control,
        metadata: wire::metadata(head.metadata),
        tag_count: wire::count(head.tag_count),
        locked_until: wire::locked_until(
            head.object_lock_legal_hold_status.as_ref(),
            head.object_lock_retain_until_date,
        ),
    })
}

pub(super) async fn get(
    client: &Client,
    dialect: Dialect,
    object: &ObjectRef,
    options: GetOptions,
) -> StoreResult<GetResult> {
    let call = Call::on_object(Operation::Get, object);
    limits::check_key(&call, &object.key)?;
    if let Some(range) = &options.range {
        limits::check_range(&call, range)?;
    }
    let range = options.range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1));
    let request = client
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .set_range(range)
        .set_if_match(options.if_match.as_ref().map(|e_tag| dialect.quoted(e_tag)));
    let answer = request.send().await.map_err(|error| failure(dialect, &call, error))?;
    let length = wire::size(&call, answer.content_length)?;
    let whole = answer.content_range.as_deref().and_then(wire::size_of_content_range);
    if let (Some(range), None) = (&options.range, whole) {
        // A store that answers with everything did what was asked only if everything was asked for.
        if range.start > 0 || range.end < length {
            return Err(call.error(StoreErrorKind::Unsupported, "the store does not read ranges"));
        }
    }
    let meta = ObjectMeta {
        size: whole.unwrap_or(length),
        e_tag: wire::e_tag(&call, answer.e_tag.as_deref())?,
        last_modified: wire::timestamp(&call, answer.last_modified)?,
        version_id: answer.version_id.filter(|version| !version.is_empty()),
        content_type: answer.content_type,
        cache_control: answer.cache_control,
        metadata: wire::metadata(answer.metadata),
        tag_count: wire::count(answer.tag_count),
        locked_until: wire::locked_until(
            answer.object_lock_legal_hold_status.as_ref(),
            answer.object_lock_retain_until_date,
        ),
    };
    let body = watched(call.clone(), answer.body, length);
    Ok(GetResult::new(call, meta, length, body))
}

/// `body`, which fails unless exactly `length` bytes come.
fn watched(call: Call, body: ByteStream, length: u64) -> BoxStream<'static, StoreResult<Bytes>> {
    stream::unfold(Some((call, body, length)), move |state| async move {
        let (call, mut body, missing) = state?;
        match body.next().await {
            Some(Ok(chunk)) => {
                let received = chunk.len() as u64;
                match missing.checked_sub(received) {
                    Some(missing) => Some((Ok(chunk), Some((call, body, missing)))),
                    None => {
                        Some((Err(call.error(StoreErrorKind::Truncated, "the body goes on too long")), None))
                    }
                }
            }
            Some(Err(error)) => Some((Err(body_failure(&call, error)), None)),
            None if missing == 0 => None,
            None => {
                let detail = format!("{missing} of {length} bytes did not come");
                Some((Err(call.error(StoreErrorKind::Truncated, detail)), None))
            }
        }
    })
    .boxed()
}
