//! Reads what a verdict takes, asks for it, and carries it out: the only file of this function that awaits.
//!
//! The order of the calls is what makes a crash harmless. What an upload's fate leaves elsewhere (the copy in
//! quarantine, the record) is written first, and the upload itself is tagged or deleted last, as the commit;
//! so whatever was begun is begun again by the next delivery, and finds what stands there already.
//!
//! Every step names the very upload that was judged: its version, where there is one, and its entity tag
//! otherwise. Tags alone know no condition, so it is checked behind them on which upload they landed.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::clock::Clock;
use shared::dispatch;
use shared::event::{Change, Creation, ObjectEvent};
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::{Outcome, Reason, RetryClass, Source, Status};
use shared::runtime::{Invocation, InvocationError};
use shared::store::{
    CopyOptions, GetOptions, GetResult, ObjectMeta, ObjectStore, PRODUCED_BY, Precondition, PutOptions,
    StoreError, StoreErrorKind, Tags,
};
use shared::ticket::{self, Claims, Facts, TicketKeys};

use crate::config::{Config, RejectAction};
use crate::content::{self, BUDGET, HOP, Header, LEADING, MAX_HOPS, Seen};
use crate::key::MAX_KEY_BYTES;
use crate::quarantine::{self, MAX_COPY_BYTES};
use crate::record::{self, Record, SUBJECT};
use crate::verdict::{self, Evidence, Ticket, Verdict};

/// This function's name in logs, metrics and the metadata of what it writes.
pub const FUNCTION: &str = "upload-validator";

/// The names that [`PRODUCED_BY`] has on what these functions wrote.
const PRODUCERS: [&str; 3] = ["avatar-transcoder", FUNCTION, "expiry-sweeper"];

/// The tag that opens an accepted upload to its readers.
const STATUS_TAG: &str = "upload-status";
/// The tag with the first reason, where rejected uploads stay.
const REASON_TAG: &str = "upload-reason";
/// The tag by which the sweeper knows when an upload ends, where its catalog has a retention.
const EXPIRES_TAG: &str = "expires-at";

/// The tags that an object has at most.
const MAX_TAGS: usize = 10;

/// How often an upload that keeps being replaced is looked at again, and a record tried again.
const ATTEMPTS: usize = 4;

/// What is kept of an invocation's time for answering.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// What the handler works with, built once in the life of a process.
pub struct Deps<S, C> {
    store: S,
    clock: C,
    config: Config,
    keys: Option<TicketKeys>,
}

impl<S, C> Deps<S, C> {
    /// Puts the parts together; nothing is read yet.
    pub fn new(store: S, clock: C, config: Config) -> Self {
        let keys = config.ticket_keys.clone().map(TicketKeys::new);
        Self { store, clock, config, keys }
    }
}

impl<S, C> fmt::Debug for Deps<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// Answers one event.
///
/// # Errors
/// The event is not understood, or at least one record should be delivered again.
pub async fn handle<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &Value,
    invocation: &Invocation,
) -> Result<Value, InvocationError> {
    dispatch::each_object(FUNCTION, &deps.clock, event, async |event| one(deps, event, invocation).await)
        .await
}

/// Why a record ends before its verdict is carried out.
enum Stop {
    /// Something that ends as it is.
    End(Outcome),
    Skip(Reason),
    Fail(Reason, RetryClass),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Fail(error.reason(), error.retry_class())
    }
}

/// What is left to be said of an error that may mean that the upload is not there any more.
fn unless_gone(error: StoreError) -> Stop {
    match error.kind {
        StoreErrorKind::NotFound => gone(),
        StoreErrorKind::PreconditionFailed => superseded(),
        _ => error.into(),
    }
}

fn gone() -> Stop {
    Stop::Skip(Reason::new("gone", "The upload was removed before it was judged."))
}

fn superseded() -> Stop {
    Stop::Skip(Reason::new(
        "superseded",
        "The upload was replaced before it was judged; the newer one has its own event.",
    ))
}

/// How a look at an upload ends: with its outcome, or `None` where it was replaced while it was tagged, so
/// that the tags may stand on another upload.
type Settled = Option<Outcome>;

/// An upload, as far as it was looked at.
struct Upload {
    /// Which one, with its version where there is one.
    object: ObjectRef,
    e_tag: ETag,
    /// What the store knows; `None` where the event alone decides.
    head: Option<ObjectMeta>,
    seen: Option<Seen>,
    ticket: Option<Ticket>,
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    /// Whether it may have tags.
    has_tags: bool,
    /// How many requests it took to read.
    reads: u64,
}

impl Upload {
    /// The condition that means this upload and no other; a version never changes, so that naming it is
    /// condition enough.
    fn condition(&self) -> Option<ETag> {
        self.object.version_id.is_none().then(|| self.e_tag.clone())
    }
}

async fn one<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    invocation: &Invocation,
) -> Outcome {
    let mut event = event.clone();
    // What was written while versioning is suspended is overwritten like any other object.
    event.object.version_id = event.object.version_id.filter(|version| version != "null");
    let time = invocation.remaining(deps.clock.now()).saturating_sub(ANSWER_TIME);
    let mut outcome = match tokio::time::timeout(time, Box::pin(settle(deps, &event))).await {
        Ok(Ok(outcome) | Err(Stop::End(outcome))) => outcome,
        Ok(Err(Stop::Skip(reason))) => Outcome::skipped(reason),
        Ok(Err(Stop::Fail(reason, retry))) => Outcome::failed(reason, retry),
        Err(_) => {
            let message =
                "The upload was not judged before the invocation's end; give the function more time.";
            Outcome::failed(Reason::new("out-of-time", message), RetryClass::Retryable)
        }
    };
    outcome.source.get_or_insert_with(|| Source::new(&event.object, event.e_tag.clone()));
    outcome
}

async fn settle<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent) -> Result<Outcome, Stop> {
    if let Some(reason) = event.skip_reason() {
        return Err(Stop::Skip(reason));
    }
    let config = &deps.config;
    let object = &event.object;
    if [&config.quarantine_bucket, &config.audit_bucket]
        .into_iter()
        .flatten()
        .any(|own| *own == object.bucket)
    {
        return Err(Stop::Fail(
            Reason::new(
                "source-is-destination",
                format!(
                    "The event comes from {}, where verdicts are written; let the notification name the files bucket.",
                    object.bucket
                ),
            ),
            RetryClass::Permanent,
        ));
    }
    match look(deps, event).await {
        Ok(Some(outcome)) => return Ok(outcome),
        Ok(None) => {}
        // An earlier run may have ended right after its tags landed on the newer upload. Where rejected
        // uploads stay, these tags might be the last word on it.
        Err(Stop::Skip(reason))
            if reason.code == "superseded" && config.reject_action == RejectAction::Tag => {}
        Err(stop) => return Err(stop),
    }
    // The verdict on one upload must not stand on another, so whatever stands there now is judged.
    let current = ObjectEvent {
        object: ObjectRef::new(&object.bucket, &object.key),
        change: Change::Created(Creation::Unknown),
        size: None,
        e_tag: None,
        time: None,
        metadata: None,
        sequencer: None,
    };
    for _ in 0..ATTEMPTS {
        match look(deps, &current).await? {
            Some(outcome) if outcome.status == Status::Failed => return Ok(outcome),
            Some(_) => return Err(superseded()),
            None => {}
        }
    }
    let message = format!("{object} is being replaced again and again.");
    Err(Stop::Fail(Reason::new("conflict", message), RetryClass::Retryable))
}

/// Judges one upload and carries the verdict out.
async fn look<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent) -> Result<Settled, Stop> {
    let policy = &deps.config.policy;
    let too_long = event.object.key.len() > MAX_KEY_BYTES;
    let upload = match &event.e_tag {
        Some(e_tag) if verdict::is_decided_by(event, policy) => unread(event, e_tag),
        // No store has such an object.
        None if too_long => unread(event, &no_tag()),
        _ => read(deps, event).await?,
    };
    let evidence = Evidence {
        event,
        head: upload.head.as_ref(),
        seen: upload.seen.as_ref(),
        ticket: upload.ticket.as_ref(),
        md5: upload.md5,
        sha256: upload.sha256,
    };
    let verdict = verdict::judge(&evidence, deps.clock.now(), policy);
    let Some(first) = verdict.reasons.first() else {
        return accept(deps, &upload, &verdict).await;
    };
    let outcome =
        describe(Outcome::rejected(first.clone()), &upload, &verdict).with("reasons", json!(verdict.reasons));
    if too_long {
        return Ok(Some(outcome));
    }
    reject(deps, &upload, &verdict, outcome).await
}

fn no_tag() -> ETag {
    ETag::parse("none").unwrap_or_else(|| unreachable!("the tag is not empty"))
}

fn unread(event: &ObjectEvent, e_tag: &ETag) -> Upload {
    Upload {
        object: event.object.clone(),
        e_tag: e_tag.clone(),
        head: None,
        seen: None,
        ticket: None,
        md5: None,
        sha256: None,
        has_tags: true,
        reads: 0,
    }
}

/// What every answer about a judged upload says, so that an app can act on it.
fn describe(outcome: Outcome, upload: &Upload, verdict: &Verdict) -> Outcome {
    let picture = verdict.dimensions.map(|found| json!({"width": found.width, "height": found.height}));
    outcome
        .from_source(Source::new(&upload.object, Some(upload.e_tag.clone())))
        .with("catalog", json!(verdict.catalog))
        .with("owner", json!(verdict.owner))
        .with("size_bytes", json!(verdict.size))
        .with("media_type", json!(verdict.media_type))
        .with("picture", json!(picture))
        .with("created_at", json!(verdict.created_at))
        .with("expires_at", json!(verdict.expires_at))
}

// ---------------------------------------------------------------------------------------------- reading

/// Reads what a verdict takes, of exactly the upload that the event tells of: its first bytes, which bring
/// everything that a HEAD would; of a large picture the last ones too; and all of it only where a digest was
/// promised that nothing else answers.
async fn read<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent) -> Result<Upload, Stop> {
    let store = &deps.store;
    let if_match = event.e_tag.clone().filter(|_| event.object.version_id.is_none());
    let leading = if event.size.is_some_and(|size| size <= BUDGET) { BUDGET } else { LEADING };
    let options = GetOptions { range: Some(0..leading), if_match };
    let found = match store.get(&event.object, options).await {
        // Of nothing no range can be read.
        Err(error) if error.kind == StoreErrorKind::Invalid && event.size.is_none_or(|size| size == 0) => {
            let head = store.head(&event.object).await.map_err(unless_gone)?;
            if head.size > 0 {
                return Err(error.into());
            }
            return with_ticket(deps, event, head, None, 2).await;
        }
        found => found.map_err(unless_gone)?,
    };
    let head = found.meta.clone();
    let producer = head.metadata.get(PRODUCED_BY);
    if producer.is_some_and(|name| PRODUCERS.contains(&name.as_str())) {
        return Err(Stop::Skip(Reason::new("own-output", "The object was written by these functions.")));
    }
    let mut seen = Seen { leading: found.bytes(leading).await?, size: head.size, ..Seen::default() };
    if !seen.is_whole() {
        // The event's size was another one; what is left of the budget is for the last bytes.
        seen.leading.truncate(usize::try_from(LEADING).unwrap_or(usize::MAX));
    }
    with_ticket(deps, event, head, Some(seen), 1).await
}

async fn with_ticket<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    head: ObjectMeta,
    seen: Option<Seen>,
    reads: u64,
) -> Result<Upload, Stop> {
    let version = head.version_id.clone().filter(|version| version != "null");
    let mut upload = Upload {
        object: event.object.clone().at_version(event.object.version_id.clone().or(version)),
        e_tag: head.e_tag.clone(),
        // A GET counts the tags, and says nothing where there are none; a HEAD need not.
        has_tags: seen.is_none() || head.tag_count.is_some_and(|count| count > 0),
        ticket: Some(ticket_of(deps, &head).await?),
        md5: head.e_tag.md5_hint(),
        sha256: None,
        head: Some(head),
        seen: None,
        reads,
    };
    if let Some(mut seen) = seen {
        let further = see_further(&deps.store, &upload, &mut seen).await?;
        upload.reads += further;
        digest(deps, event, &mut upload, &seen).await?;
        upload.seen = Some(seen);
    }
    Ok(upload)
}

/// Reads further windows of an upload where its first bytes leave something open, within the budget, and answers how
/// many requests that took.
async fn see_further<S: ObjectStore>(store: &S, upload: &Upload, seen: &mut Seen) -> Result<u64, Stop> {
    let mut reads = 0;
    while let (Header::Beyond(at), true) = (seen.header(), reads < MAX_HOPS) {
        let window = window(store, upload, at..(at + HOP).min(seen.size)).await?;
        seen.further = Some(content::further_header(&window, at, seen.size));
        reads += 1;
    }
    if seen.needs_tail() {
        let left = BUDGET - seen.leading.len() as u64 - reads * HOP;
        let start = seen.size.saturating_sub(left).max(seen.leading.len() as u64);
        seen.tail = window(store, upload, start..seen.size).await?;
        reads += 1;
    }
    Ok(reads)
}

async fn window<S: ObjectStore>(
    store: &S,
    upload: &Upload,
    range: std::ops::Range<u64>,
) -> Result<Bytes, Stop> {
    let length = range.end - range.start;
    let options = GetOptions { range: Some(range), if_match: upload.condition() };
    let found = store.get(&upload.object, options).await.map_err(unless_gone)?;
    Ok(found.bytes(length).await?)
}

/// What came with an upload to show that it was promised.
async fn ticket_of<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, head: &ObjectMeta) -> Result<Ticket, Stop> {
    let (Some(keys), Some(token)) = (&deps.keys, head.metadata.get(ticket::METADATA)) else {
        return Ok(Ticket::Absent);
    };
    let verdict = keys.authenticate(token, &deps.store, &deps.clock).await;
    Ok(match verdict.map_err(|error| Stop::End(error.outcome()))? {
        Ok(claims) => Ticket::Authentic(Box::new(claims)),
        Err(reason) => Ticket::Refused(reason),
    })
}

/// Finds the digests that a ticket promised: of what was read, if that is all; from the entity tag, if it is the
/// promised one; else of the whole upload, as it streams by.
async fn digest<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    upload: &mut Upload,
    seen: &Seen,
) -> Result<(), Stop> {
    let Some(Ticket::Authentic(claims)) = &upload.ticket else { return Ok(()) };
    if claims.md5.is_none() && claims.sha256.is_none() {
        return Ok(());
    }
    if seen.is_whole() {
        upload.md5 = Some(Md5::digest(&seen.leading).into());
        upload.sha256 = Some(Sha256::digest(&seen.leading).into());
        return Ok(());
    }
    // What is rejected for its size anyway is not read for its digest.
    let too_large = seen.size > verdict::limits(event, &deps.config.policy).max_size;
    if too_large || is_answered(claims, upload.md5, &upload.object) {
        return Ok(());
    }
    let options = GetOptions { range: None, if_match: upload.condition() };
    let whole = deps.store.get(&upload.object, options).await.map_err(unless_gone)?;
    let (md5, sha256) = hash(whole).await?;
    upload.reads += 1;
    (upload.md5, upload.sha256) = (Some(md5), Some(sha256));
    Ok(())
}

/// Whether the digest that the entity tag may be is the promised one. If it is not, it may be none at all.
fn is_answered(claims: &Claims, hint: Option<[u8; 16]>, object: &ObjectRef) -> bool {
    if claims.sha256.is_some() {
        return false;
    }
    let facts = Facts { object, created_at: claims.exp, size: 0, media_type: None, md5: hint, sha256: None };
    claims.failures(&facts).iter().all(|reason| reason.code != "ticket-wrong-digest")
}

/// Both digests of a body, in constant memory.
async fn hash(whole: GetResult) -> Result<([u8; 16], [u8; 32]), StoreError> {
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut body = whole.body;
    while let Some(chunk) = body.next().await.transpose()? {
        md5.update(&chunk);
        sha256.update(&chunk);
    }
    Ok((md5.finalize().into(), sha256.finalize().into()))
}

// ----------------------------------------------------------------------------------------- consequences

async fn accept<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    verdict: &Verdict,
) -> Result<Settled, Stop> {
    let record = write_record(deps, upload, verdict).await?;
    let mut tags = vec![(STATUS_TAG, Status::Accepted.as_str().to_owned())];
    if let Some(expires_at) = verdict.expires_at.filter(|_| verdict.has_retention) {
        tags.push((EXPIRES_TAG, expires_at.to_string()));
    }
    // Three requests are what an accept may cost. With a large picture's last bytes they are spent; its tags
    // can then land on an upload that replaced it in the last moment, whose own event puts that right.
    let is_checked = upload.reads <= 1 || deps.config.reject_action == RejectAction::Tag;
    if tag(deps, upload, &tags, None, is_checked).await? {
        return Ok(None);
    }
    let outcome = describe(Outcome::of(Status::Accepted), upload, verdict).with("record", json!(record));
    Ok(Some(outcome))
}

async fn reject<S: ObjectStore, C: Clock>(
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
        if tag(deps, upload, &tags, code, true).await? {
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

/// Adds tags to those that the upload has; `reason` only where there is room. Answers whether the upload was
/// replaced before they landed, as far as that is checked.
async fn tag<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    upload: &Upload,
    ours: &[(&str, String)],
    reason: Option<String>,
    is_checked: bool,
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
    if upload.object.version_id.is_some() || !is_checked {
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
