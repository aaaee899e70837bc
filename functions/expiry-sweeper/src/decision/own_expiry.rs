//! The time at which an object says itself that it expires.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use crate::policy::parse_duration;

/// What an object says about its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnTime {
    /// Nothing.
    #[default]
    None,
    /// This.
    At(Timestamp),
    /// Something that cannot be read, so that it is kept.
    Unreadable,
}

/// Reads an object's user metadata: `expires-at` or `expires_at` (RFC 3339, or seconds since 1970; not before 2000), else
/// `ttl` (a duration, or seconds, from when it was written), else the claim `expires_at` of its `ticket`.
///
/// The ticket's signature is not checked again: the validator has removed what carried a false one.
pub fn in_metadata(metadata: &BTreeMap<String, String>, last_modified: Timestamp) -> OwnTime {
    match named(metadata, last_modified) {
        OwnTime::None => metadata.get("ticket").map_or(OwnTime::None, |ticket| claimed(ticket)),
        own => own,
    }
}

/// Reads an object's tags: `expires-at`, `expires_at` or `ttl`, written as in metadata.
pub fn in_tags(tags: &BTreeMap<String, String>, last_modified: Timestamp) -> OwnTime {
    named(tags, last_modified)
}

fn named(pairs: &BTreeMap<String, String>, last_modified: Timestamp) -> OwnTime {
    if let Some(text) = pairs.get("expires-at").or_else(|| pairs.get("expires_at")) {
        return instant(text.trim()).map_or(OwnTime::Unreadable, OwnTime::At);
    }
    match pairs.get("ttl") {
        Some(text) => lifetime(text.trim(), last_modified).map_or(OwnTime::Unreadable, OwnTime::At),
        None => OwnTime::None,
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let time = match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_second(seconds).ok(),
        Err(_) => text.parse().ok(),
    };
    time.filter(is_plausible)
}

/// No object of today was meant to expire before object stores were. What says so means something else: a 0 or -1 "never", a
/// small number a lifetime, 20261121 a day, and the year 1 that nothing was filled in.
fn is_plausible(time: &Timestamp) -> bool {
    const YEAR_2000: i64 = 946_684_800;
    time.as_second() >= YEAR_2000
}

fn lifetime(text: &str, start: Timestamp) -> Option<Timestamp> {
    let duration = match text.parse::<u32>() {
        Ok(0) => return None,
        Ok(seconds) => std::time::Duration::from_secs(seconds.into()),
        Err(_) => parse_duration(text).ok()?,
    };
    start.checked_add(duration).ok()
}

/// The claim of a JWT. What is no ticket says nothing; a claim that cannot be read is one.
fn claimed(ticket: &str) -> OwnTime {
    let claims = ticket
        .split('.')
        .nth(1)
        .and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok())
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    match claims.as_ref().and_then(|claims| claims.get("expires_at")) {
        None | Some(Value::Null) => OwnTime::None,
        Some(Value::Number(seconds)) => numeric_date(seconds).map_or(OwnTime::Unreadable, OwnTime::At),
        // The validator takes a date as well.
        Some(Value::String(text)) => {
            let time = text.parse().ok().filter(is_plausible);
            time.map_or(OwnTime::Unreadable, OwnTime::At)
        }
        Some(_) => OwnTime::Unreadable,
    }
}

/// A NumericDate (RFC 7519) may have a fraction, which is dropped upwards: nothing goes before its time.
fn numeric_date(seconds: &serde_json::Number) -> Option<Timestamp> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a date beyond the calendar saturates and is refused"
    )]
    let whole = seconds.as_i64().or_else(|| seconds.as_f64().map(|seconds| seconds.ceil() as i64))?;
    Timestamp::from_second(whole).ok().filter(is_plausible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: i64 = 1_000_000;

    fn read(pairs: &[(&str, &str)]) -> OwnTime {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        in_metadata(&pairs, Timestamp::from_second(WRITTEN).unwrap())
    }

    fn at(second: i64) -> OwnTime {
        OwnTime::At(Timestamp::from_second(second).unwrap())
    }

    fn ticket(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_time_is_read_as_date_as_seconds_and_as_a_lifetime() {
        assert_eq!(read(&[("expires-at", "2026-11-21T06:00:00Z")]), at(1_795_240_800));
        assert_eq!(read(&[("expires_at", "2026-11-21T07:00:00+01:00")]), at(1_795_240_800));
        assert_eq!(read(&[("expires-at", " 1795240800 ")]), at(1_795_240_800));
        assert_eq!(read(&[("ttl", "24h")]), at(WRITTEN + 86_400));
        assert_eq!(read(&[("ttl", "60")]), at(WRITTEN + 60));
        assert_eq!(read(&[("ttl", "60"), ("expires-at", "1700000007")]), at(1_700_000_007));
        assert_eq!(read(&[("expires-at", "2000-01-01T00:00:00Z")]), at(946_684_800));
    }

    #[test]
    fn the_tickets_own_claim_counts_where_nothing_else_is_said() {
        let dated = ticket(r#"{"sub":"a","expires_at":1795240800}"#);
        assert_eq!(read(&[("ticket", &dated)]), at(1_795_240_800));
        assert_eq!(read(&[("ticket", &dated), ("ttl", "1s")]), at(WRITTEN + 1));
        assert_eq!(read(&[("ticket", &ticket(r#"{"expires_at":1700000007.2}"#))]), at(1_700_000_008));
        let written = ticket(r#"{"expires_at":"2026-11-21T06:00:00Z"}"#);
        assert_eq!(read(&[("ticket", &written)]), at(1_795_240_800));
        assert_eq!(read(&[("ticket", &ticket(r#"{"exp":1}"#))]), OwnTime::None);
        assert_eq!(read(&[("ticket", "no.ticket")]), OwnTime::None);
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_nothing() {
        assert_eq!(read(&[]), OwnTime::None);
        for (name, value) in [
            ("expires-at", "tomorrow"),
            ("expires-at", ""),
            ("expires-at", "2026-11-21"),
            ("expires_at", "99999999999999999"),
            ("expires-at", "0"),
            ("expires-at", "-1"),
            ("expires-at", "3600"),
            ("expires-at", "20261121"),
            ("expires_at", "0001-01-01T00:00:00Z"),
            ("expires_at", "1999-12-31T23:59:59Z"),
            ("ticket", &ticket(r#"{"expires_at":0}"#)),
            ("ttl", "0"),
            ("ttl", "-1h"),
            ("ttl", "soon"),
            ("ticket", &ticket(r#"{"expires_at":"tomorrow"}"#)),
            ("ticket", &ticket(r#"{"expires_at":1e300}"#)),
        ] {
            assert_eq!(read(&[(name, value)]), OwnTime::Unreadable, "{name}: {value}");
        }
    }

    #[test]
    fn a_ticket_among_the_tags_says_nothing() {
        let tags = BTreeMap::from([("ticket".to_owned(), ticket(r#"{"expires_at":7}"#))]);
        assert_eq!(in_tags(&tags, Timestamp::UNIX_EPOCH), OwnTime::None);
    }
}
