//! The verdict on an upload: a function of what is known about it, and nothing else.

use jiff::{SignedDuration, Timestamp};
use shared::event::{Change, Creation, ObjectEvent};
use shared::outcome::Reason;
use shared::store::ObjectMeta;
use shared::ticket::{self, Claims, Facts};

use crate::catalog::{Catalogs, Limits};
use crate::content::{self, Dimensions, Header, Names, Seen};
use crate::key;

/// The codes of all reasons, in the order in which they are reported.
pub const CODES: [&str; 22] = [
    "multipart-not-accepted",
    "bad-key",
    "unknown-catalog",
    "empty",
    "too-large",
    "too-small",
    "ticket-missing",
    "ticket-malformed",
    "ticket-algorithm",
    "ticket-unknown-key",
    "ticket-signature",
    "ticket-expired",
    "ticket-not-yet-valid",
    "ticket-wrong-bucket",
    "ticket-wrong-key",
    "ticket-wrong-size",
    "ticket-wrong-type",
    "ticket-wrong-digest",
    "type-mismatch",
    "active-content",
    "unsupported-type",
    "undecodable",
];

/// How far the event's time of an upload and the object's are apart at most.
const SAME_UPLOAD: SignedDuration = SignedDuration::from_secs(2);

/// What uploads are held against.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The catalogs and what is accepted in each.
    pub catalogs: Catalogs,
    /// Whether uploads may come in parts.
    pub accept_multipart: bool,
    /// Whether there are keys, so that a ticket is looked at.
    pub check_tickets: bool,
}

/// What came with an upload to show that it was promised.
#[derive(Debug, Clone, PartialEq)]
pub enum Ticket {
    /// Nothing.
    Absent,
    /// Something that nobody signed, or that cannot be read.
    Refused(Reason),
    /// What the app's backend promised.
    Authentic(Box<Claims>),
}

/// Everything that is known about an upload.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What the carrier says.
    pub event: &'a ObjectEvent,
    /// What the store says; `None` where the event alone decides.
    pub head: Option<&'a ObjectMeta>,
    /// What was read; `None` where nothing was.
    pub seen: Option<&'a Seen>,
    /// The ticket; `None` where it was not looked at.
    pub ticket: Option<&'a Ticket>,
    /// The content's MD5, or what the entity tag says it is.
    pub md5: Option<[u8; 16]>,
    /// The content's SHA-256, where it was computed.
    pub sha256: Option<[u8; 32]>,
}

/// The verdict, with everything that was found on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Every failure, in the order of [`CODES`]; none accepts the upload.
    pub reasons: Vec<Reason>,
    /// The catalog, if there is one.
    pub catalog: Option<String>,
    /// Whose upload it is, as the ticket says.
    pub owner: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it may be deleted: at the ticket's time or at the end of the catalog's retention, whichever is
    /// earlier.
    pub expires_at: Option<Timestamp>,
    /// Whether the catalog limits for how long uploads are kept.
    pub has_retention: bool,
    /// Its size in bytes, if it is known.
    pub size: Option<u64>,
    /// Its media type by content, if it is known.
    pub media_type: Option<String>,
    /// The picture's size, if it is one.
    pub dimensions: Option<Dimensions>,
}

impl Verdict {
    /// Whether nothing speaks against the upload.
    pub fn is_accepted(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The codes of its reasons, each once.
    pub fn codes(&self) -> Vec<&'static str> {
        let mut codes: Vec<_> = self.reasons.iter().map(|reason| reason.code).collect();
        codes.dedup();
        codes
    }
}

/// Whether the event alone shows that the upload is rejected, so that nothing needs to be read.
pub fn is_decided_by(event: &ObjectEvent, policy: &Policy) -> bool {
    let limits = limits(event, policy);
    event.object.key.len() > key::MAX_KEY_BYTES
        || !creation(event, None, policy).is_empty()
        || event.size.is_some_and(|size| size == 0 || size > limits.max_size)
}

/// Holds an upload against everything that is asked of it. All failures are listed, not only the first.
pub fn judge(evidence: &Evidence<'_>, now: Timestamp, policy: &Policy) -> Verdict {
    let Evidence { event, head, seen, .. } = *evidence;
    let (placed, limits) = place(event, policy);
    let size = head.map(|head| head.size).or(event.size);
    let created_at = created_at(event, head).unwrap_or(now);
    let claims = match evidence.ticket {
        Some(Ticket::Authentic(claims)) => Some(claims.as_ref()),
        _ => None,
    };

    let mut reasons = creation(event, head, policy);
    let catalog = placed.map_err(|reason| reasons.push(reason)).ok();
    reasons.extend(size.and_then(|size| check_size(size, limits)));

    let extension = key::extension(&event.object.key);
    let names = Names {
        extension: extension.as_deref(),
        declared: head.and_then(|head| head.content_type.as_deref()),
        ticket: claims.and_then(|claims| claims.content_type.as_deref()),
    };
    let media_type = seen.and_then(|seen| content::effective_type(seen.content(), &names));
    if let (true, Some(ticket)) = (policy.check_tickets, evidence.ticket) {
        let facts = Facts {
            object: &event.object,
            created_at,
            size: size.unwrap_or_default(),
            media_type: media_type.as_deref(),
            md5: evidence.md5,
            sha256: evidence.sha256,
        };
        reasons.extend(check_ticket(ticket, &facts, limits));
    }
    let mut dimensions = None;
    if let Some(seen) = seen.filter(|seen| seen.size > 0) {
        let content = seen.content();
        reasons.extend(content::mismatches(content, &names));
        reasons.extend(content::active(seen, &names));
        if !limits.accepts(media_type.as_deref()) {
            let accepted = limits.content_types.join(", ");
            let name = content.name();
            let message = format!("The upload is {name}; the catalog accepts {accepted}.");
            reasons.push(Reason::new("unsupported-type", message));
        }
        let (found, reason) = check_header(seen.header(), limits);
        dimensions = found;
        reasons.extend(reason);
        let (frames, most) = (seen.frames(), limits.max_frames);
        if frames > most {
            let message = format!("The picture has {frames} frames or more; at most {most} are accepted.");
            reasons.push(Reason::new("undecodable", message));
        }
    }

    reasons.sort_by_key(|reason| CODES.iter().position(|code| *code == reason.code));
    let kept_until = limits.retention.and_then(|kept| created_at.checked_add(kept).ok());
    Verdict {
        reasons,
        catalog,
        owner: claims.and_then(|claims| claims.owner.clone()),
        created_at,
        expires_at: claims.and_then(|claims| claims.expires_at).into_iter().chain(kept_until).min(),
        has_retention: kept_until.is_some(),
        size,
        media_type,
        dimensions,
    }
}

/// When what is judged was created. That is the event's time, because a store may say when an upload in parts began.
/// But the same bytes can be uploaded again before their first event comes: nothing but its time tells the newer
/// object then, and its ticket is held against that. Both times are the store's, and within two seconds of one another
/// for one upload: an object's is in whole seconds, and an event is written a moment before or after.
fn created_at(event: &ObjectEvent, head: Option<&ObjectMeta>) -> Option<Timestamp> {
    let standing = head.map(|head| head.last_modified);
    let is_newer = |told: Timestamp| {
        event.object.version_id.is_none()
            && standing.is_some_and(|standing| standing.duration_since(told) > SAME_UPLOAD)
    };
    event.time.filter(|told| !is_newer(*told)).or(standing)
}

/// The catalog of the upload, and what is accepted there, or at least anywhere.
fn place<'a>(event: &ObjectEvent, policy: &'a Policy) -> (Result<String, Reason>, &'a Limits) {
    match key::catalog_of(&event.object.key, &policy.catalogs) {
        Ok((catalog, limits)) => (Ok(catalog), limits),
        Err(reason) => (Err(reason), policy.catalogs.defaults()),
    }
}

/// What is accepted where the upload belongs.
pub fn limits<'a>(event: &ObjectEvent, policy: &'a Policy) -> &'a Limits {
    place(event, policy).1
}

/// Whether the upload came in parts, by the event's name or by its entity tag.
fn creation(event: &ObjectEvent, head: Option<&ObjectMeta>, policy: &Policy) -> Vec<Reason> {
    let tags = event.e_tag.iter().chain(head.map(|head| &head.e_tag));
    let in_parts = event.change == Change::Created(Creation::Multipart)
        || tags.into_iter().any(|tag| tag.is_multipart());
    if !in_parts || policy.accept_multipart {
        return Vec::new();
    }
    vec![Reason::new("multipart-not-accepted", "The upload came in parts; upload with a single PUT or POST.")]
}

fn check_size(size: u64, limits: &Limits) -> Option<Reason> {
    if size == 0 {
        return Some(Reason::new("empty", "The upload has no bytes."));
    }
    if size > limits.max_size {
        let most = limits.max_size;
        return Some(Reason::new(
            "too-large",
            format!("The upload has {size} bytes; at most {most} are accepted."),
        ));
    }
    (size < limits.min_size).then(|| {
        let least = limits.min_size;
        Reason::new("too-small", format!("The upload has {size} bytes; at least {least} are accepted."))
    })
}

fn check_ticket(ticket: &Ticket, facts: &Facts<'_>, limits: &Limits) -> Vec<Reason> {
    match ticket {
        Ticket::Absent if limits.ticket_required => vec![ticket::missing()],
        Ticket::Absent => Vec::new(),
        Ticket::Refused(reason) => vec![reason.clone()],
        Ticket::Authentic(claims) => claims.failures(facts),
    }
}

fn check_header(header: Header, limits: &Limits) -> (Option<Dimensions>, Option<Reason>) {
    let undecodable =
        |what: &str| Reason::new("undecodable", format!("The picture is truncated or damaged: {what}."));
    match header {
        Header::None => (None, None),
        Header::Broken(what) => (None, Some(undecodable(what))),
        Header::Beyond(_) => {
            let reason = undecodable("its frame header stands behind more metadata than is read");
            (None, Some(reason))
        }
        Header::Sane(found) => {
            let pixels = u64::from(found.width) * u64::from(found.height);
            let reason = (pixels > limits.max_pixels).then(|| {
                let (Dimensions { width, height }, most) = (found, limits.max_pixels);
                let message =
                    format!("The picture has {width} × {height} pixels; at most {most} are accepted.");
                Reason::new("undecodable", message)
            });
            (Some(found), reason)
        }
    }
}
