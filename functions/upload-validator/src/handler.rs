//! Reads what a verdict takes, asks for it, and carries it out: nothing else in this function awaits.
//!
//! The order of the calls is what makes a crash harmless. What an upload's fate leaves elsewhere (the copy in
//! quarantine, the record) is written first, and the upload itself is tagged or deleted last, as the commit;
//! so whatever was begun is begun again by the next delivery, and finds what stands there already.
//!
//! Every step names the very upload that was judged: its version, where there is one, and its entity tag
//! otherwise. Tags alone know no condition, so it is checked behind them on which upload they landed.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use shared::clock::Clock;
use shared::dispatch;
use shared::event::{Change, Creation, ObjectEvent};
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::{Outcome, Reason, RetryClass, Source, Status};
use shared::runtime::{Invocation, InvocationError};
use shared::store::{ObjectMeta, ObjectStore, StoreError, StoreErrorKind};
use shared::ticket::TicketKeys;

use crate::config::{Config, RejectAction};
use crate::content::Seen;
use crate::key::MAX_KEY_BYTES;
use crate::verdict::{self, Evidence, Ticket, Verdict};

mod consequences;
mod reading;

use consequences::{accept, is_open, reject};
use reading::read;

/// This function's name in logs, metrics and the metadata of what it writes.
pub const FUNCTION: &str = "upload-validator";

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
        // uploads stay, or the newer one's own event was over by then, these tags would be the last word on it.
        Err(Stop::Skip(reason))
            if reason.code == "superseded"
                && object.version_id.is_none()
                && (config.reject_action == RejectAction::Tag || is_open(&deps.store, object).await?) => {}
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
        match look(deps, &current).await {
            // What is rejected may be gone when its own event comes, so that it is told of here or nowhere.
            Ok(Some(outcome)) if matches!(outcome.status, Status::Failed | Status::Rejected) => {
                return Ok(outcome);
            }
            Ok(Some(_)) | Err(Stop::Skip(_)) => return Err(superseded()),
            Ok(None) => {}
            Err(stop) => return Err(stop),
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
