//! Reads what a verdict takes, and no more.

use bytes::Bytes;
use futures::StreamExt;
use md5::{Digest, Md5};
use sha2::Sha256;
use shared::clock::Clock;
use shared::event::ObjectEvent;
use shared::object_ref::ObjectRef;
use shared::outcome::Reason;
use shared::store::{
    GetOptions, GetResult, ObjectMeta, ObjectStore, PRODUCED_BY, StoreError, StoreErrorKind,
};
use shared::ticket::{self, Claims, Facts};

use super::consequences::is_open;
use super::{Deps, FUNCTION, Stop, Upload, unless_gone};
use crate::content::{self, BUDGET, HOP, Header, LEADING, MAX_HOPS, Seen};
use crate::verdict::{self, Ticket};

/// The names that [`PRODUCED_BY`] has on what these functions wrote.
const PRODUCERS: [&str; 3] = ["avatar-transcoder", FUNCTION, "expiry-sweeper"];

/// Reads what a verdict takes, of exactly the upload that the event tells of: its first bytes, which bring
/// everything that a HEAD would; of a large picture the last ones too; and all of it only where a digest was
/// promised that nothing else answers.
pub(super) async fn read<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
) -> Result<Upload, Stop> {
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
            return with_ticket(deps, event, head, None).await;
        }
        found => found.map_err(unless_gone)?,
    };
    let head = found.meta.clone();
    let is_ours = head.metadata.get(PRODUCED_BY).is_some_and(|name| PRODUCERS.contains(&name.as_str()));
    // Metadata are the client's words. What they protect from being judged must be read by nobody, whether the client
    // sent the tag along or the tag of an upload that was replaced landed on it.
    if is_ours && !(may_have_tags(deps, &head) && is_open(&deps.store, &event.object).await?) {
        return Err(Stop::Skip(Reason::new("own-output", "The object was written by these functions.")));
    }
    let mut seen = Seen { leading: found.bytes(leading).await?, size: head.size, ..Seen::default() };
    if !seen.is_whole() {
        // The event's size was another one; what is left of the budget is for the last bytes.
        seen.leading.truncate(usize::try_from(LEADING).unwrap_or(usize::MAX));
    }
    with_ticket(deps, event, head, Some(seen)).await
}

/// Whether an object that was read by a GET may have tags: a GET counts them, and says nothing where there are
/// none; OSS, which is known by the conditions that it lacks, need not.
fn may_have_tags<S: ObjectStore, C: Clock>(deps: &Deps<S, C>, head: &ObjectMeta) -> bool {
    !deps.store.capabilities().conditional_delete || head.tag_count.is_some_and(|count| count > 0)
}

async fn with_ticket<S: ObjectStore, C: Clock>(
    deps: &Deps<S, C>,
    event: &ObjectEvent,
    head: ObjectMeta,
    seen: Option<Seen>,
) -> Result<Upload, Stop> {
    let version = head.version_id.clone().filter(|version| version != "null");
    let mut upload = Upload {
        object: event.object.clone().at_version(event.object.version_id.clone().or(version)),
        e_tag: head.e_tag.clone(),
        // A HEAD counts no tags.
        has_tags: seen.is_none() || may_have_tags(deps, &head),
        ticket: Some(ticket_of(deps, &head).await?),
        md5: head.e_tag.md5_hint(),
        sha256: None,
        head: Some(head),
        seen: None,
    };
    if let Some(mut seen) = seen {
        see_further(&deps.store, &upload, &mut seen).await?;
        digest(deps, event, &mut upload, &seen).await?;
        upload.seen = Some(seen);
    }
    Ok(upload)
}

/// Reads further windows of an upload where its first bytes leave something open, within the budget.
async fn see_further<S: ObjectStore>(store: &S, upload: &Upload, seen: &mut Seen) -> Result<(), Stop> {
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
    }
    Ok(())
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
