//! What the app's backend promised about an upload, verified without a database.
//!
//! A ticket is a compact JWT (RFC 7519) that the client sends as `x-amz-meta-ticket`. Its algorithm is the one of
//! the key that its `kid` names, never the one that it names itself: that is what makes `none`, and a
//! public key used as a shared secret, impossible. The signature is checked by `ring`, which TLS brings anyway; a
//! JWT library would bring a second set of ciphers for the forty lines that stand in [`authenticate`].
//!
//! Times are compared with the instant at which the object was created, without leeway: the issuer chooses
//! how long its tickets live.

use jiff::Timestamp;
use serde::Deserialize;

use crate::outcome::Reason;

mod claims;
mod keys;
mod source;

pub use claims::{Audience, Claims, Facts, matches_type};
pub use keys::{Algorithm, KeySet};
pub use source::{KeyReference, TicketKeys};

/// The name of the user metadata that carries the ticket.
pub const METADATA: &str = "ticket";

/// The longest ticket, in bytes: all user metadata of an object together has at most 2 KB.
pub const MAX_BYTES: usize = 2048;

/// The protected header.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, 4.1.11). None is.
    crit: Option<serde_json::Value>,
}

/// Checks that `token` was signed by one of `keys`, and reads its claims. Whether they hold is asked of
/// [`Claims::failures`].
///
/// # Errors
/// `ticket-malformed`, `ticket-algorithm`, `ticket-unknown-key` or `ticket-signature`. Nothing that an
/// unauthentic ticket says is looked at any further.
pub fn authenticate(token: &str, keys: &KeySet) -> Result<Claims, Reason> {
    if token.len() > MAX_BYTES {
        return Err(malformed(format!(
            "it has {} bytes, and object metadata holds {MAX_BYTES}",
            token.len()
        )));
    }
    if token.contains(',') {
        // What a store makes of a header that was sent twice.
        return Err(malformed("there are several; send x-amz-meta-ticket once"));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("it is not three parts with dots between"));
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let header: Header = parsed(header, "header")?;
    if header.crit.is_some() {
        return Err(malformed("it demands an extension (crit) that is not understood"));
    }
    let named = Algorithm::parse(&header.alg).ok_or_else(|| {
        Reason::new(
            "ticket-algorithm",
            format!("The ticket is signed by {}; EdDSA and HS256 are accepted.", shown(&header.alg)),
        )
    })?;
    let kid = header.kid.ok_or_else(|| {
        Reason::new(
            "ticket-unknown-key",
            "The ticket names no key (kid); put the kid of the signing key in its header.",
        )
    })?;
    let key = keys.get(&kid).ok_or_else(|| {
        Reason::new(
            "ticket-unknown-key",
            format!("The ticket is signed with the key {}, which is not configured.", shown(&kid)),
        )
    })?;
    if key.algorithm() != named {
        return Err(Reason::new(
            "ticket-algorithm",
            format!(
                "The ticket says {}, but the key {} is for {}.",
                named.name(),
                shown(&kid),
                key.algorithm().name()
            ),
        ));
    }
    let signature = keys::base64url(signature).ok_or_else(|| malformed("its signature is no base64url"))?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(Reason::new(
            "ticket-signature",
            "The ticket's signature does not fit; it was altered, or signed with another key.",
        ));
    }
    parsed(payload, "payload")
}

/// A part of the token, from base64url to JSON to its type.
fn parsed<T: for<'de> Deserialize<'de>>(part: &str, name: &str) -> Result<T, Reason> {
    let bytes = keys::base64url(part).ok_or_else(|| malformed(format!("its {name} is no base64url")))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // The error names fields and places, never values of other fields.
        malformed(format!("its {name} does not fit ({error})"))
    })
}

fn malformed(what: impl std::fmt::Display) -> Reason {
    Reason::new("ticket-malformed", format!("The ticket cannot be read: {what}."))
}

/// A name out of a ticket, abridged for a message.
fn shown(name: &str) -> String {
    let abridged: String = name.chars().take(40).collect();
    format!("{abridged:?}")
}

/// The reason for an upload without the ticket that it needs.
pub fn missing() -> Reason {
    Reason::new("ticket-missing", "The upload carries no ticket; send it as x-amz-meta-ticket.")
}

/// A NumericDate (RFC 7519): seconds since the epoch, with or without a fraction.
fn numeric_date(seconds: f64) -> Option<Timestamp> {
    if !seconds.is_finite() || seconds.abs() > 253_402_207_200.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    Timestamp::from_millisecond((seconds * 1000.0).floor() as i64).ok()
}

#[cfg(test)]
mod tests;
