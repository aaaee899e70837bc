//! Reads the upload, asks the core, writes the renditions: the only file of this function that awaits.
//!
//! The order of the calls is what makes a crash harmless. Extra renditions are written first and the main
//! one last, as the commit; every write is create-only, or replaces exactly the object that was seen; so
//! a second run finds what the first one left and goes on there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use shared::clock::Clock;
use shared::dispatch;
use shared::event::ObjectEvent;
use shared::media_type::{self, MediaType};
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::{Outcome, Reason, RetryClass, Source, Status};
use shared::runtime::{Invocation, InvocationError};
use shared::short_code::ShortCode;
use shared::store::{
    GetOptions, ObjectMeta, ObjectStore, PRODUCED_BY, Precondition, PutOptions, StoreError, StoreErrorKind,
};
use shared::ticket::{self, Claims, Facts, TicketKeys};
use tokio::sync::OnceCell;

use crate::address::Folder;
use crate::admission::{self, Refusal};
use crate::config::{Config, SourceAfter};
use crate::pipeline::{self, Picture, Recipe, Rendition, Watermark};
use crate::slot::{RECIPE, SOURCE_MD5, Slot};

/// This function's name in logs, metrics and the metadata of what it writes.
pub const FUNCTION: &str = "avatar-transcoder";

/// The last code of the chain: `code(0)` to `code(7)`.
const LAST_CODE: u8 = 7;

/// The metadata that holds the average colour of a rendition, as `#rrggbb`.
const AVERAGE_COLOUR: &str = "average-colour";

/// The tags by which a client learns that its upload was rejected, and why.
const STATUS_TAG: &str = "avatar-status";
const REASON_TAG: &str = "avatar-reason";

/// The tags that an object has at most.
const MAX_TAGS: usize = 10;

/// How often a write is tried again after somebody else wrote at the same time.
const WRITE_ATTEMPTS: usize = 4;

/// What is kept of an invocation's time for answering.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// What the handler works with, built once in the life of a process.
pub struct Deps<S, C> {
    store: S,
    clock: C,
    config: Config,
    keys: Option<TicketKeys>,
    /// The recipe and its text, which need the watermark; read when the first upload arrives.
    recipe: OnceCell<(Arc<Recipe>, String)>,
}

impl<S, C> Deps<S, C> {
    /// Puts the parts together; nothing is read yet.
    pub fn new(store: S, clock: C, config: Config) -> Self {
        let keys = config.ticket_keys.clone().map(TicketKeys::new);
        Self { store, clock, config, keys, recipe: OnceCell::new() }
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
    let turn = Turn { invocation, has_transcoded: AtomicBool::new(false) };
    dispatch::each_object(FUNCTION, &deps.clock, event, async |event| one(deps, event, &turn).await).await
}

/// An invocation while its records are gone through.
struct Turn<'a> {
    invocation: &'a Invocation,
    /// Whether one of them has taken some of its time already.
    has_transcoded: AtomicBool,
}

/// Why a record ends before its avatar stands.
enum Stop {
    /// Something that ends as it is.
    End(Outcome),
    Skip(Reason),
    /// With the tag of the upload that was read, where one was.
    Reject(Reason, Option<ETag>),
    Fail(Reason, RetryClass),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Fail(error.reason(), error.retry_class())
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Skip(reason) => Self::Skip(reason),
            Refusal::Reject(reason) => Self::Reject(reason, None),
            Refusal::Misconfigured(reason) => Self::Fail(reason, RetryClass::Permanent),
        }
    }
}

/// Where an avatar stands or is going to stand.
struct Place {
    /// Which code of the chain.
    n: u8,
    code: ShortCode,
    slot: Slot,
    /// What the store knows about what stands there.
    standing: Option<ObjectMeta>,
}

/// An upload that was read.
struct Upload {
    bytes: Bytes,
    digest: [u8; 16],
    e_tag: ETag,
    /// Whether it may have tags.
    has_tags: bool,
}

/// What a page shows before the avatar has come.
struct Placeholder {
    /// In base64.
    thumbhash: String,
    /// As `#rrggbb`.
    average_colour: String,
}

/// An avatar that stands.
struct Avatar {
    status: Status,
    n: u8,
    /// The tag of the upload that it was made of, where it is known.
    source: Option<ETag>,
    detail: Value,
}

async fn one<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent, turn: &Turn<'_>) -> Outcome {
    let mut event = event.clone();
    // What was written while versioning is suspended is overwritten like any other object.
    event.object.version_id = event.object.version_id.filter(|version| version != "null");
    let event = &event;
    let outcome = match avatar(deps, event, turn).await {
        Ok(avatar) => settle(deps, event, avatar).await,
        Err(Stop::End(outcome)) => outcome,
        Err(Stop::Skip(reason)) => Outcome::skipped(reason),
        Err(Stop::Fail(reason, retry)) => Outcome::failed(reason, retry),
        Err(Stop::Reject(reason, read)) => {
            let tags = [(STATUS_TAG, Status::Rejected.as_str()), (REASON_TAG, reason.code)];
            match tag(deps, event, read.as_ref().or(event.e_tag.as_ref()), &tags).await {
                Ok(()) => Outcome::rejected(reason),
                Err(error) => Outcome::failed(error.reason(), error.retry_class()),
            }
        }
    };
    outcome.from_source(Source::new(&event.object, event.e_tag.clone()))
}

/// What follows once an avatar stands: tells the client what it cannot compute, and ends the upload if so
/// configured.
async fn settle<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent, avatar: Avatar) -> Outcome {
    let e_tag = avatar.source.as_ref();
    let told = if avatar.n == 0 {
        Ok(())
    } else {
        let code = avatar.detail["code"].as_str().unwrap_or_default();
        tag(deps, event, e_tag, &[("avatar-code", code)]).await
    };
    let ended = match (told, deps.config.source_after) {
        (Ok(()), SourceAfter::Delete) => delete_source(deps, event, e_tag).await,
        (told, _) => told,
    };
    let outcome = match ended {
        Ok(()) => Outcome::of(avatar.status),
        Err(error) => Outcome::failed(error.reason(), error.retry_class()),
    };
    outcome.with("avatar", avatar.detail)
}

async fn avatar<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    turn: &Turn<'_>,
) -> Result<Avatar, Stop> {
    let config = &deps.config;
    let folder = admission::admit(event, config)?;
    let (recipe, recipe_text) = deps.recipe().await?;

    // The tag of a single-part upload is its MD5, so an avatar that stands already needs no download. With
    // tickets the upload itself has to be looked at: its metadata comes with its bytes.
    let hint = event.e_tag.as_ref().and_then(ETag::md5_hint).filter(|_| deps.keys.is_none());
    let mut hinted = None;
    if let Some(digest) = hint {
        let place = find_place(deps, &folder, digest, recipe_text, 0).await?;
        if place.slot == Slot::Unchanged {
            return Ok(unchanged(config, &folder, place, event.e_tag.clone()));
        }
        hinted = Some((digest, place));
    }

    let upload = read(deps, event).await?;
    let mut place = match hinted {
        Some((digest, place)) if digest == upload.digest => place,
        // The tag was no digest (KMS, SSE-C, parts): what it led to says nothing about this upload.
        _ => find_place(deps, &folder, upload.digest, recipe_text, 0).await?,
    };
    if place.slot == Slot::Unchanged {
        take_back(deps, event, &upload).await?;
        return Ok(unchanged(config, &folder, place, Some(upload.e_tag)));
    }

    let picture = deps.transcode(&upload, recipe, turn).await?;
    // Before the avatar stands: a second run that finds it there does not look at the upload any more.
    take_back(deps, event, &upload).await?;
    // What was uploaded is not needed any more, and large.
    let Upload { digest, e_tag, .. } = upload;
    let placeholder = Placeholder {
        thumbhash: BASE64.encode(&picture.thumbhash),
        average_colour: format!("#{}", hex::encode(picture.average_colour)),
    };
    loop {
        let written = write_all(deps, &folder, &place, digest, recipe_text, &picture, &placeholder).await?;
        let status = match written {
            Written::Ours => Status::Stored,
            Written::Already => Status::Unchanged,
            Written::Taken => {
                place = find_place(deps, &folder, digest, recipe_text, place.n + 1).await?;
                if place.slot == Slot::Unchanged {
                    return Ok(unchanged(config, &folder, place, Some(e_tag)));
                }
                continue;
            }
        };
        let mut detail = describe(config, &folder, place.n, place.code);
        detail.insert("width".into(), picture.main.width.into());
        detail.insert("height".into(), picture.main.height.into());
        detail.insert("size_bytes".into(), picture.main.webp.len().into());
        detail.insert("frames".into(), picture.main.frames.into());
        detail.insert("thumbhash".into(), placeholder.thumbhash.into());
        detail.insert("average_colour".into(), placeholder.average_colour.into());
        if !picture.notes.is_empty() {
            detail.insert("notes".into(), json!(picture.notes));
        }
        return Ok(Avatar { status, n: place.n, source: Some(e_tag), detail: detail.into() });
    }
}

/// The first place of the chain, from `code(n)` on, that is not taken by other content.
async fn find_place<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    folder: &Folder,
    digest: [u8; 16],
    recipe: &str,
    first: u8,
) -> Result<Place, Stop> {
    for n in first..=LAST_CODE {
        let code = ShortCode::of_digest(&digest, n);
        let standing = stat(deps, &folder.main_key(code)).await?;
        let slot = Slot::judge(standing.as_ref(), digest, recipe);
        if slot != Slot::Taken {
            return Ok(Place { n, code, slot, standing });
        }
    }
    Err(Stop::Fail(
        Reason::new(
            "codes-exhausted",
            "All eight short codes of this content are taken by other pictures; somebody is forcing collisions.",
        ),
        RetryClass::Permanent,
    ))
}

/// What the avatar bucket knows about `key`; `None` if nothing stands there.
async fn stat<S: ObjectStore, C>(deps: &Deps<S, C>, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
    match deps.store.head(&ObjectRef::new(&deps.config.avatar_bucket, key)).await {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads exactly the upload that the event tells of.
async fn read<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, event: &ObjectEvent) -> Result<Upload, Stop> {
    let limit = deps.config.limits.bytes;
    // A version never changes, so naming it is condition enough.
    let if_match = event.e_tag.clone().filter(|_| event.object.version_id.is_none());
    let result = deps.store.get(&event.object, GetOptions { range: None, if_match }).await;
    let found = result.map_err(|error| match error.kind {
        StoreErrorKind::NotFound => {
            Stop::Skip(Reason::new("gone", "The upload was removed before it was read."))
        }
        StoreErrorKind::PreconditionFailed => Stop::Skip(Reason::new(
            "superseded",
            "The upload was replaced before it was read; the newer one has its own event.",
        )),
        _ => Stop::from(error),
    })?;
    if found.meta.metadata.contains_key(PRODUCED_BY) {
        return Err(Stop::Skip(Reason::new("own-output", "The object was written by these functions.")));
    }
    let e_tag = found.meta.e_tag.clone();
    let reject = |reason| Stop::Reject(reason, Some(e_tag.clone()));
    admission::check_parts(&e_tag, &deps.config).map_err(reject)?;
    admission::check_size(found.meta.size, limit).map_err(reject)?;
    let claims = authenticate(deps, &found.meta).await?;
    let created_at = event.time.unwrap_or(found.meta.last_modified);
    let has_tags = found.meta.tag_count.is_some_and(|count| count > 0);
    let bytes = found.bytes(limit).await?;
    let digest = Md5::digest(&bytes).into();
    if let Some(claims) = claims {
        let facts = Facts {
            object: &event.object,
            created_at,
            size: bytes.len() as u64,
            media_type: media_type::sniff(&bytes).map(MediaType::essence),
            md5: Some(digest),
            sha256: claims.sha256.is_some().then(|| Sha256::digest(&bytes).into()),
        };
        if let Some(reason) = claims.failures(&facts).into_iter().next() {
            return Err(reject(reason));
        }
    }
    Ok(Upload { bytes, digest, e_tag, has_tags })
}

/// The claims of the ticket that came with an upload; `None` where no ticket is needed and none came.
async fn authenticate<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    meta: &ObjectMeta,
) -> Result<Option<Claims>, Stop> {
    let Some(keys) = &deps.keys else { return Ok(None) };
    let reject = |reason| Stop::Reject(reason, Some(meta.e_tag.clone()));
    let Some(token) = meta.metadata.get(ticket::METADATA) else {
        return if deps.config.ticket_required { Err(reject(ticket::missing())) } else { Ok(None) };
    };
    let verdict = keys.authenticate(token, &deps.store, &deps.clock).await;
    verdict.map_err(|error| Stop::End(error.outcome()))?.map(Some).map_err(reject)
}

/// What became of the renditions at a place.
enum Written {
    /// They stand, written by this call.
    Ours,
    /// Somebody wrote the same ones meanwhile: a duplicate of this event, or this call's own first try.
    Already,
    /// Other content took the place meanwhile.
    Taken,
}

async fn write_all<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    folder: &Folder,
    place: &Place,
    digest: [u8; 16],
    recipe: &str,
    picture: &Picture,
    placeholder: &Placeholder,
) -> Result<Written, Stop> {
    for rendition in &picture.extras {
        let key = folder.extra_key(place.code, rendition.edge);
        // Beside a vacant main address an extra one is vacant too, but for a crash; beside a stale one
        // it usually stands.
        let seen = match place.slot {
            Slot::Vacant => Slot::Vacant,
            _ => Slot::judge(stat(deps, &key).await?.as_ref(), digest, recipe),
        };
        if let Written::Taken = write(deps, &key, seen, digest, recipe, rendition, placeholder).await? {
            return Ok(Written::Taken);
        }
    }
    let key = folder.main_key(place.code);
    write(deps, &key, place.slot.clone(), digest, recipe, &picture.main, placeholder).await
}

/// Writes one rendition where `slot` was seen, without ever replacing other content.
async fn write<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    key: &str,
    mut slot: Slot,
    digest: [u8; 16],
    recipe: &str,
    rendition: &Rendition,
    placeholder: &Placeholder,
) -> Result<Written, Stop> {
    let object = ObjectRef::new(&deps.config.avatar_bucket, key);
    let mut last = None;
    for _ in 0..WRITE_ATTEMPTS {
        let precondition = match slot {
            Slot::Vacant => Precondition::IfAbsent,
            // A store that cannot replace on condition (OSS) has just shown our own older rendition there.
            Slot::Stale(_) if !deps.store.capabilities().conditional_replace => Precondition::None,
            Slot::Stale(ref e_tag) => Precondition::IfMatch(e_tag.clone()),
            Slot::Unchanged => return Ok(Written::Already),
            Slot::Taken => return Ok(Written::Taken),
        };
        let options = PutOptions {
            precondition,
            content_type: Some("image/webp".to_owned()),
            cache_control: Some("public, max-age=31536000, immutable".to_owned()),
            metadata: [
                (SOURCE_MD5, hex::encode(digest)),
                (RECIPE, recipe.to_owned()),
                ("width", rendition.width.to_string()),
                ("height", rendition.height.to_string()),
                ("thumbhash", placeholder.thumbhash.clone()),
                (AVERAGE_COLOUR, placeholder.average_colour.clone()),
                (PRODUCED_BY, FUNCTION.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            ..PutOptions::default()
        };
        match deps.store.put(&object, Bytes::copy_from_slice(&rendition.webp), options).await {
            Ok(_) => return Ok(Written::Ours),
            Err(error) => match error.kind {
                // What stands there now may be our own write, whose answer was lost, so look again.
                StoreErrorKind::PreconditionFailed | StoreErrorKind::NotFound | StoreErrorKind::Conflict => {
                    slot = Slot::judge(stat(deps, key).await?.as_ref(), digest, recipe);
                    last = Some(error);
                }
                _ => return Err(error.into()),
            },
        }
    }
    let reason = last.map_or_else(
        || Reason::new("conflict", format!("{object} could not be written.")),
        |error| Reason::new("conflict", error.to_string()),
    );
    Err(Stop::Fail(reason, RetryClass::Retryable))
}

fn unchanged(config: &Config, folder: &Folder, place: Place, source: Option<ETag>) -> Avatar {
    let mut detail = describe(config, folder, place.n, place.code);
    if let Some(meta) = place.standing {
        for name in ["width", "height"] {
            if let Some(pixels) = meta.metadata.get(name).and_then(|value| value.parse::<u32>().ok()) {
                detail.insert(name.into(), pixels.into());
            }
        }
        detail.insert("size_bytes".into(), meta.size.into());
        for (name, metadata) in [("thumbhash", "thumbhash"), ("average_colour", AVERAGE_COLOUR)] {
            if let Some(value) = meta.metadata.get(metadata) {
                detail.insert(name.into(), value.as_str().into());
            }
        }
    }
    Avatar { status: Status::Unchanged, n: place.n, source, detail: detail.into() }
}

fn describe(config: &Config, folder: &Folder, n: u8, code: ShortCode) -> Map<String, Value> {
    let key = folder.main_key(code);
    let mut detail = Map::new();
    detail.insert("bucket".into(), config.avatar_bucket.as_str().into());
    if let Some(base) = &config.base_url {
        detail.insert("url".into(), format!("{base}/{key}").into());
    }
    detail.insert("key".into(), key.into());
    detail.insert("code".into(), code.to_string().into());
    detail.insert("n".into(), n.into());
    detail.insert("kind".into(), folder.kind().into());
    detail.insert("edge".into(), config.edge.into());
    if !config.extra_edges.is_empty() {
        let extras: Vec<_> = config
            .extra_edges
            .iter()
            .map(|edge| json!({"edge": edge, "key": folder.extra_key(code, *edge)}))
            .collect();
        detail.insert("extras".into(), extras.into());
    }
    detail
}

/// Adds `tags` to those that the upload has, unless it was replaced since: a fresh upload must not
/// carry the verdict on an older one. An upload that is gone needs no tags. Where the client has left no room for all of
/// them, the first ones are written: that they are missing does not change what became of the upload.
async fn tag<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    e_tag: Option<&ETag>,
    tags: &[(&str, &str)],
) -> Result<(), StoreError> {
    let object = &event.object;
    let tagged = async {
        if object.version_id.is_none()
            && let Some(seen) = e_tag
            && deps.store.head(object).await?.e_tag != *seen
        {
            return Ok(());
        }
        let standing = deps.store.get_tags(object).await?;
        let mut all = standing.clone();
        all.retain(|standing, _| tags.iter().all(|(name, _)| standing != name));
        let (written, left_out) = tags.split_at(tags.len().min(MAX_TAGS.saturating_sub(all.len())));
        all.extend(written.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if let Some((name, value)) = left_out.first() {
            tracing::warn!(%object, tag = name, value, "the upload has no room for a tag");
        }
        if all == standing { Ok(()) } else { deps.store.put_tags(object, &all).await }
    };
    match tagged.await {
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Takes an earlier verdict off an upload that turns out to be one for an avatar: it may have been rejected by
/// narrower limits, and a client that reads its tags would go by them.
async fn take_back<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    upload: &Upload,
) -> Result<(), StoreError> {
    if !upload.has_tags || deps.config.source_after == SourceAfter::Delete {
        return Ok(());
    }
    let object = &event.object;
    let taken_back = async {
        let mut tags = deps.store.get_tags(object).await?;
        let standing = tags.len();
        tags.retain(|name, _| name != STATUS_TAG && name != REASON_TAG);
        let is_replaced = async || Ok(deps.store.head(object).await?.e_tag != upload.e_tag);
        if tags.len() == standing || (object.version_id.is_none() && is_replaced().await?) {
            return Ok(());
        }
        deps.store.put_tags(object, &tags).await
    };
    match taken_back.await {
        // Who may not read tags has not written any.
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::AccessDenied) => Ok(()),
        result => result,
    }
}

/// Deletes the upload, if it is still the one that was read.
async fn delete_source<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    e_tag: Option<&ETag>,
) -> Result<(), StoreError> {
    let condition = e_tag.filter(|_| event.object.version_id.is_none());
    match deps.store.delete(&event.object, condition).await {
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed) => {
            Ok(())
        }
        result => result,
    }
}

impl<S: ObjectStore, C: Clock> Deps<S, C> {
    /// What is made of an upload, and the text that identifies it.
    async fn recipe(&self) -> Result<&(Arc<Recipe>, String), Stop> {
        self.recipe
            .get_or_try_init(async || {
                let config = &self.config;
                let recipe = Recipe {
                    edge: config.edge,
                    extra_edges: config.extra_edges.clone(),
                    fit: config.fit,
                    gravity: config.gravity,
                    ground: config.ground,
                    quality: config.quality,
                    animation: config.animation,
                    watermark: None,
                };
                let Some(watermark) = &config.watermark else {
                    return Ok((Arc::new(recipe), config.recipe(None)));
                };
                let found = self.store.get(&watermark.object, GetOptions::default()).await?;
                let tag = found.meta.e_tag.clone();
                let bytes = found.bytes(config.limits.bytes).await?;
                // An avatar without its watermark would be kept for good, so none is made.
                let mut picture = Watermark::decode(&bytes, &config.limits).map_err(|reason| {
                    let message =
                        format!("The watermark {} cannot be used: {}", watermark.object, reason.message);
                    Stop::Fail(Reason::new("watermark-unusable", message), RetryClass::Permanent)
                })?;
                picture.gravity = watermark.gravity;
                picture.opacity = watermark.opacity;
                picture.scale = watermark.scale;
                Ok((Arc::new(recipe.with_watermark(picture)), config.recipe(Some(&tag))))
            })
            .await
    }

    /// Runs the pipeline beside the executor, so that a store call of another invocation can go on.
    async fn transcode(
        &self,
        upload: &Upload,
        recipe: &Arc<Recipe>,
        turn: &Turn<'_>,
    ) -> Result<Picture, Stop> {
        let mut limits = self.config.limits.clone();
        let remaining = turn.invocation.remaining(self.clock.now()).saturating_sub(ANSWER_TIME);
        let is_cut_by_others = turn.has_transcoded.swap(true, Ordering::Relaxed) && remaining < limits.time;
        limits.time = limits.time.min(remaining);
        let (recipe, bytes) = (Arc::clone(recipe), upload.bytes.clone());
        let work = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            pipeline::transcode_watched(&bytes, &recipe, &limits, &|| start.elapsed())
        });
        match work.await {
            // An avatar is kept for good, and what its neighbours in a batch have left over is chance. Whoever is the
            // first of an invocation has what there is, and keeps what comes of it.
            Ok(Ok(picture)) if picture.lacked_time && is_cut_by_others => Err(Stop::Fail(
                Reason::new(
                    "out-of-time",
                    "The records before it have left too little time for the whole animation; it is tried again.",
                ),
                RetryClass::Retryable,
            )),
            Ok(result) => result.map_err(|reason| Stop::Reject(reason, Some(upload.e_tag.clone()))),
            // A defect in a decoder, met by one upload, must not be met again and again.
            Err(panic) => Err(Stop::Fail(
                Reason::new("internal-error", format!("The picture made the decoder fail: {panic}")),
                RetryClass::Permanent,
            )),
        }
    }
}
