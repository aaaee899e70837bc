//! What the event alone says about an upload: whether it is looked at, before anything is read.

use shared::event::{Change, Creation, ObjectEvent};
use shared::object_ref::ETag;
use shared::outcome::Reason;

use crate::address::Folder;
use crate::config::Config;

/// How a record ends before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to do.
    Skip(Reason),
    /// The upload is refused for good.
    Reject(Reason),
    /// A person has to change the configuration.
    Misconfigured(Reason),
}

/// The folder for the avatar of the upload that `event` tells of.
///
/// # Errors
/// How the record ends instead.
pub fn admit(event: &ObjectEvent, config: &Config) -> Result<Folder, Refusal> {
    if let Some(reason) = event.skip_reason() {
        return Err(Refusal::Skip(reason));
    }
    if event.object.bucket == config.avatar_bucket {
        return Err(Refusal::Misconfigured(Reason::new(
            "source-is-destination",
            format!(
                "The event comes from {}, where avatars are written; let the notification name the upload bucket.",
                config.avatar_bucket
            ),
        )));
    }
    let folder = Folder::of_upload(&event.object.key, &config.kinds).map_err(Refusal::Reject)?;
    // An event that names no tag may be about an upload that was replaced; what is read then tells its own size.
    if event.e_tag.is_none() {
        return Ok(folder);
    }
    if event.change == Change::Created(Creation::Multipart) && !config.accept_multipart {
        return Err(Refusal::Reject(multipart_not_accepted()));
    }
    if let Some(e_tag) = &event.e_tag {
        check_parts(e_tag, config).map_err(Refusal::Reject)?;
    }
    if let Some(size) = event.size {
        check_size(size, config.limits.bytes).map_err(Refusal::Reject)?;
    }
    Ok(folder)
}

/// Tells by its tag whether an upload came in parts, where the event did not say how it came.
///
/// # Errors
/// `multipart-not-accepted`.
pub fn check_parts(e_tag: &ETag, config: &Config) -> Result<(), Reason> {
    if e_tag.is_multipart() && !config.accept_multipart { Err(multipart_not_accepted()) } else { Ok(()) }
}

fn multipart_not_accepted() -> Reason {
    Reason::new(
        "multipart-not-accepted",
        "The upload came in parts; upload avatars with a single PUT or POST.",
    )
}

/// Holds an upload's size against the limit.
///
/// # Errors
/// `empty` or `too-large`.
pub fn check_size(size: u64, limit: u64) -> Result<(), Reason> {
    if size == 0 {
        return Err(Reason::new("empty", "The upload has no bytes."));
    }
    if size > limit {
        return Err(Reason::new(
            "too-large",
            format!("The upload has {size} bytes; at most {limit} are accepted."),
        ));
    }
    Ok(())
}
