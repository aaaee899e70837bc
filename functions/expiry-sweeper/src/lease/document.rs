//! Reads and writes the document of a rule, and tells one's own writes from others'.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    GetOptions, Metadata, ObjectStore, PRODUCED_BY, Precondition, PutOptions, StoreErrorKind,
};

use super::{LeaseError, State};
use crate::retry::{MAX_ATTEMPTS, pause, retrying};

/// The format's version.
pub(super) const VERSION: u32 = 1;

/// A document is never longer: cursors are small, and so are lists of parts.
const MAX_BYTES: u64 = 16 << 20;

/// Whether a document was written.
#[derive(Debug)]
pub(super) enum Written {
    /// It was, and has this tag.
    Yes(ETag),
    /// Something else stands there.
    No,
}

/// The document and its tag; `None` where there is none.
pub(super) async fn read(
    store: &impl ObjectStore,
    object: &ObjectRef,
) -> Result<Option<(State, ETag)>, LeaseError> {
    let Some((state, e_tag)) = read_json::<State>(store, object).await? else { return Ok(None) };
    if state.version != VERSION {
        let problem = format!("its version is {}, and {VERSION} is understood", state.version);
        return Err(LeaseError::Unreadable { object: object.clone(), problem });
    }
    Ok(Some((state, e_tag)))
}

/// A JSON document and its tag; `None` where there is none.
pub(super) async fn read_json<T: DeserializeOwned>(
    store: &impl ObjectStore,
    object: &ObjectRef,
) -> Result<Option<(T, ETag)>, LeaseError> {
    let whole = retrying(async || {
        let result = store.get(object, GetOptions::default()).await?;
        let e_tag = result.meta.e_tag.clone();
        Ok((result.bytes(MAX_BYTES).await?, e_tag))
    });
    let (bytes, e_tag) = match whole.await {
        Ok(found) => found,
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match serde_json::from_slice(&bytes) {
        Ok(document) => Ok(Some((document, e_tag))),
        Err(error) => Err(LeaseError::Unreadable { object: object.clone(), problem: error.to_string() }),
    }
}

/// Writes the document on a condition.
///
/// Where an answer is lost, or a condition fails that an earlier attempt of this very call may have
/// broken, what stands there decides: every document of a holder differs from all others by the holder's
/// token and the time.
pub(super) async fn write(
    store: &impl ObjectStore,
    object: &ObjectRef,
    document: &(impl Serialize + Sync),
    precondition: Precondition,
) -> Result<Written, LeaseError> {
    let body = serde_json::to_vec_pretty(document)
        .map(Bytes::from)
        .map_err(|error| LeaseError::Unreadable { object: object.clone(), problem: error.to_string() })?;
    let options = PutOptions {
        precondition,
        content_type: Some("application/json".to_owned()),
        metadata: Metadata::from([(PRODUCED_BY.to_owned(), "expiry-sweeper".to_owned())]),
        ..PutOptions::default()
    };
    let mut attempt = 1;
    loop {
        let error = match store.put(object, body.clone(), options.clone()).await {
            Ok(result) => return Ok(Written::Yes(result.e_tag)),
            Err(error) => error,
        };
        match error.kind {
            StoreErrorKind::PreconditionFailed | StoreErrorKind::NotFound => {
                return Ok(match stands(store, object, &body).await? {
                    Some(e_tag) => Written::Yes(e_tag),
                    None => Written::No,
                });
            }
            // A conflict may be with oneself; a time-out may have had its effect.
            StoreErrorKind::Conflict
            | StoreErrorKind::Timeout
            | StoreErrorKind::Unavailable
            | StoreErrorKind::Throttled
                if attempt < MAX_ATTEMPTS =>
            {
                pause(attempt).await;
                attempt += 1;
                if let Some(e_tag) = stands(store, object, &body).await? {
                    return Ok(Written::Yes(e_tag));
                }
            }
            _ => return Err(error.into()),
        }
    }
}

/// The tag of what stands there, if it is `body`.
async fn stands(
    store: &impl ObjectStore,
    object: &ObjectRef,
    body: &Bytes,
) -> Result<Option<ETag>, LeaseError> {
    let whole = retrying(async || {
        let result = store.get(object, GetOptions::default()).await?;
        let e_tag = result.meta.e_tag.clone();
        Ok((result.bytes(MAX_BYTES).await?, e_tag))
    });
    match whole.await {
        Ok((bytes, e_tag)) => Ok((bytes == *body).then_some(e_tag)),
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::TooLarge) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
