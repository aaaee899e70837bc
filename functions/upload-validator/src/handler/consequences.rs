//! Carries a verdict out: what is left elsewhere first, the upload itself last.

use bytes::Bytes;
use md5::{Digest, Md5};
use serde_json::json;
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::store::{CopyOptions, ObjectStore, PRODUCED_BY, Precondition, PutOptions, StoreErrorKind, Tags};

use super::{ATTEMPTS, Deps, FUNCTION, Settled, Stop, Upload, describe, superseded, unless_gone};
use crate::config::RejectAction;
use crate::quarantine::{self, MAX_COPY_BYTES};
use crate::record::{self, Record, SUBJECT};
use crate::verdict::Verdict;

/// The tag that opens an accepted upload to its readers.
const STATUS_TAG: &str = "upload-status";
/// The tag with the first reason, where rejected uploads stay.
const REASON_TAG: &str = "upload-reason";
/// The tag by which the sweeper knows when an upload ends, where its catalog has a retention.
const EXPIRES_TAG: &str = "expires-at";

/// The tags that an object has at most.
const MAX_TAGS: usize = 10;

pub(super) async fn accept<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    verdict: &Verdict,
) -> Result<Settled, Stop> {
    let record = write_record(deps, upload, verdict).await?;
    let mut tags = vec![(STATUS_TAG, Status::Accepted.as_str().to_owned())];
    if let Some(expires_at) = verdict.expires_at.filter(|_| verdict.has_retention) {
        tags.push((EXPIRES_TAG, expires_at.to_string()));
    }
    if tag(deps, upload, &tags, None).await? {
        return Ok(None);
    }
    let outcome = describe(Outcome::of(Status::Accepted), upload, verdict).with("record", json!(record));
    Ok(Some(outcome))
}

pub(super) async fn reject<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    verdict: &Verdict,
    outcome: Outcome,
) -> Result<Settled, Stop> {
    // More than one request can copy is not worth a copy in parts: it stays, and nobody can read it.
    let is_too_large = verdict.size.is_some_and(|size| size > MAX_COPY_BYTES);
    let (action, bucket) = match (deps.config.reject_action, &deps.config.quarantine_bucket) {
        (RejectAction::Quarantine, Some(bucket)) if !is_too_large => (RejectAction::Quarantine, Some(bucket)),
        (RejectAction::Quarantine, _) => (RejectAction::Tag, None),
        (action, _) => (action, None),
    };
    let mut outcome = outcome.with("action", json!(action.name()));
    if let Some(bucket) = bucket {
        let copy = quarantine(deps, upload, verdict, bucket).await?;
        outcome = outcome.with("quarantine", json!({"bucket": copy.bucket, "key": copy.key}));
    }
    outcome = outcome.with("record", json!(write_record(deps, upload, verdict).await?));
    if action == RejectAction::Tag {
        let code = verdict.reasons.first().map(|reason| reason.code.to_owned());
        let tags = [(STATUS_TAG, Status::Rejected.as_str().to_owned())];
        if tag(deps, upload, &tags, code).await? {
            return Ok(None);
        }
    } else {
        delete(deps, upload).await?;
    }
    Ok(Some(outcome))
}

/// Copies an upload to where nobody but people look at it, unless the copy stands there already.
async fn quarantine<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    verdict: &Verdict,
    bucket: &str,
) -> Result<ObjectRef, Stop> {
    let source = &upload.object;
    let copy = ObjectRef::new(bucket, quarantine::key_of(source, &upload.e_tag));
    let options = CopyOptions {
        source_if_match: upload.condition(),
        precondition: Precondition::IfAbsent,
        metadata: Some(quarantine::metadata(source, &verdict.codes(), deps.clock.now(), FUNCTION)),
        // A tag that the client chose must not say that it was accepted.
        tags: Some([(STATUS_TAG.to_owned(), Status::Rejected.as_str().to_owned())].into()),
    };
    match deps.store.copy(source, &copy, options).await {
        Ok(_) => Ok(copy),
        // Either the copy of an earlier run stands there, or the upload was replaced meanwhile.
        Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
            let standing = deps.store.head(source).await.map_err(unless_gone)?;
            if standing.e_tag == upload.e_tag { Ok(copy) } else { Err(superseded()) }
        }
        Err(error) => Err(unless_gone(error)),
    }
}

/// Deletes exactly the upload that was judged. One that is gone or replaced meanwhile needs no deletion.
async fn delete<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, upload: &Upload) -> Result<(), Stop> {
    let mut condition = upload.condition();
    if condition.is_some() && !deps.store.capabilities().conditional_delete {
        // The next best: look right before.
        match deps.store.head(&upload.object).await {
            Ok(standing) if standing.e_tag == upload.e_tag => condition = None,
            Ok(_) => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    match deps.store.delete(&upload.object, condition.as_ref()).await {
        Err(error)
            if !matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed) =>
        {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// Whether the tag that opens an accepted upload stands on an object, whoever wrote it.
pub(super) async fn is_open<S: ObjectStore>(store: &S, object: &ObjectRef) -> Result<bool, Stop> {
    let tags = store.get_tags(object).await.map_err(unless_gone)?;
    Ok(tags.get(STATUS_TAG).is_some_and(|status| status == Status::Accepted.as_str()))
}

/// Adds tags to those that the upload has; `reason` only where there is room. Answers whether the upload was
/// replaced before they landed: the event of the newer one may be over by then, so that nobody else would look.
async fn tag<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    ours: &[(&str, String)],
    reason: Option<String>,
) -> Result<bool, Stop> {
    let standing = if upload.has_tags {
        deps.store.get_tags(&upload.object).await.map_err(unless_gone)?
    } else {
        Tags::new()
    };
    let mut tags = standing.clone();
    tags.remove(REASON_TAG);
    tags.extend(ours.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    if tags.len() > MAX_TAGS {
        let message = format!(
            "{} has {} tags of its own, and the verdict needs {} of {MAX_TAGS}; it stays unreadable. Upload it with fewer tags.",
            upload.object,
            standing.len(),
            ours.len()
        );
        return Err(Stop::Fail(Reason::new("too-many-tags", message), RetryClass::Permanent));
    }
    if let Some(reason) = reason.filter(|_| tags.len() < MAX_TAGS) {
        tags.insert(REASON_TAG.to_owned(), reason);
    }
    if tags != standing {
        deps.store.put_tags(&upload.object, &tags).await.map_err(unless_gone)?;
    }
    if upload.object.version_id.is_some() {
        return Ok(false);
    }
    let standing = deps.store.head(&upload.object).await.map_err(unless_gone)?;
    Ok(standing.e_tag != upload.e_tag)
}

/// Writes the record, if records are on, and answers its key.
async fn write_record<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    verdict: &Verdict,
) -> Result<Option<String>, Stop> {
    let (true, Some(bucket)) = (deps.config.records, &deps.config.audit_bucket) else { return Ok(None) };
    let (object, e_tag) = (&upload.object, &upload.e_tag);
    let json = Bytes::from(Record::new(object, e_tag, verdict).json());
    let digest: [u8; 16] = Md5::digest(&json).into();
    let subject = record::subject(object, e_tag);
    for key in record::keys(object, e_tag, verdict) {
        let place = ObjectRef::new(bucket, &key);
        let mut precondition = Precondition::IfAbsent;
        for _ in 0..ATTEMPTS {
            let options = PutOptions {
                precondition: precondition.clone(),
                content_type: Some("application/json".to_owned()),
                metadata: [(SUBJECT, subject.as_str()), (PRODUCED_BY, FUNCTION)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                ..PutOptions::default()
            };
            match deps.store.put(&place, json.clone(), options).await {
                Ok(_) => return Ok(Some(key)),
                Err(error)
                    if matches!(
                        error.kind,
                        StoreErrorKind::PreconditionFailed
                            | StoreErrorKind::Conflict
                            | StoreErrorKind::NotFound
                    ) => {}
                Err(error) => return Err(error.into()),
            }
            // What stands there is the record of an earlier run, perhaps of this very call, or that of another
            // upload of the same content.
            match deps.store.head(&place).await {
                Ok(standing) if standing.metadata.get(SUBJECT) != Some(&subject) => break,
                Ok(standing) if standing.e_tag.md5_hint() == Some(digest) => return Ok(Some(key)),
                Ok(standing) if deps.store.capabilities().conditional_replace => {
                    precondition = Precondition::IfMatch(standing.e_tag);
                }
                Ok(_) => precondition = Precondition::None,
                Err(error) if error.kind == StoreErrorKind::NotFound => precondition = Precondition::IfAbsent,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let message = format!("No place was found for the record of {object}.");
    Err(Stop::Fail(Reason::new("conflict", message), RetryClass::Retryable))
}
