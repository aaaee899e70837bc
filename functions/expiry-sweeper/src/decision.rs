//! The decision about one object: a function of (rule, facts, referenced, now).
//!
//! In doubt an object is kept: where it names a time that cannot be read, where nobody has looked for its
//! references, and where it was written after `now`, as happens when a clock jumps back.

use std::time::Duration;

use jiff::Timestamp;

use crate::policy::{Criterion, Rule};

mod own_expiry;

pub use own_expiry::{OwnTime, in_metadata, in_tags};

/// What is known about what a rule may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facts<'a> {
    /// A current object.
    Object {
        /// The raw key.
        key: &'a str,
        /// Size in bytes.
        size: u64,
        /// When it was written.
        last_modified: Timestamp,
        /// The time at which it says itself that it expires; only rules of that kind ask.
        own: OwnTime,
    },
    /// A multipart upload that was begun and neither completed nor given up.
    Upload {
        /// The raw key.
        key: &'a str,
        /// When it was begun.
        initiated: Timestamp,
    },
    /// A version or a delete marker.
    Version {
        /// The raw key.
        key: &'a str,
        /// Size in bytes; of a delete marker 0.
        size: u64,
        /// When it was written.
        last_modified: Timestamp,
        /// When the version after it was written; `None` for the current one.
        superseded: Option<Timestamp>,
        /// Whether it is a delete marker.
        is_delete_marker: bool,
        /// Whether it is the only one under its key.
        is_alone: bool,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep(Keep),
    /// It goes.
    Delete {
        /// Why.
        cause: Cause,
        /// Since when it has been due.
        expired_at: Timestamp,
    },
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The rule is not about it: another prefix, excluded, or of another kind.
    NotMeant,
    /// It is smaller or larger than what the rule is about.
    Size,
    /// Its time has not come.
    NotYet,
    /// It names no time, and the rule has no default.
    NoTime,
    /// It names a time that cannot be read.
    UnreadableTime,
    /// It is referenced, or nobody knows.
    Referenced,
    /// It is the current version.
    Current,
    /// It was written after `now`.
    FromTheFuture,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its age.
    Age,
    /// The time that it names itself.
    OwnTime,
    /// Its age, as it names no time itself.
    DefaultAge,
    /// Nothing references it.
    Unreferenced,
    /// The upload was never completed.
    StaleUpload,
    /// The version ceased to be current.
    Noncurrent,
    /// The delete marker marks nothing any more.
    IdleMarker,
}

impl Cause {
    /// The code in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::OwnTime => "expires-at",
            Self::DefaultAge => "default-age",
            Self::Unreferenced => "unreferenced",
            Self::StaleUpload => "stale-upload",
            Self::Noncurrent => "noncurrent",
            Self::IdleMarker => "delete-marker",
        }
    }

    /// The cause of that code.
    pub fn parse(code: &str) -> Option<Self> {
        [
            Self::Age,
            Self::OwnTime,
            Self::DefaultAge,
            Self::Unreferenced,
            Self::StaleUpload,
            Self::Noncurrent,
            Self::IdleMarker,
        ]
        .into_iter()
        .find(|cause| cause.as_str() == code)
    }
}

/// Decides. `referenced` is what the rule's reference list says about the key; `None` if nobody has asked, or the list cannot
/// know.
pub fn decide(rule: &Rule, facts: Facts<'_>, referenced: Option<bool>, now: Timestamp) -> Decision {
    match due(rule, facts, referenced, now) {
        Err(keep) => Decision::Keep(keep),
        Ok((_, None)) => Decision::Keep(Keep::NotYet),
        Ok((cause, Some(expired_at))) if expired_at <= now => Decision::Delete { cause, expired_at },
        Ok(_) => Decision::Keep(Keep::NotYet),
    }
}

/// Whether the decision about this object needs the time that it names itself, which costs a request: what
/// is kept whatever it names is not asked.
pub fn needs_own_time(rule: &Rule, key: &str, size: u64, last_modified: Timestamp, now: Timestamp) -> bool {
    matches!(rule.criterion, Criterion::Own { .. })
        && meant(rule, key, Some(size)).is_ok()
        && last_modified <= now
}

/// Since when the object has been due, and why; a time beyond the calendar is `None`.
fn due(
    rule: &Rule,
    facts: Facts<'_>,
    referenced: Option<bool>,
    now: Timestamp,
) -> Result<(Cause, Option<Timestamp>), Keep> {
    let (key, size, written) = match facts {
        Facts::Object { key, size, last_modified, .. } => (key, Some(size), last_modified),
        Facts::Upload { key, initiated } => (key, None, initiated),
        Facts::Version { key, size, last_modified, is_delete_marker, .. } => {
            (key, (!is_delete_marker).then_some(size), last_modified)
        }
    };
    meant(rule, key, size)?;
    if written > now {
        return Err(Keep::FromTheFuture);
    }
    match (&rule.criterion, facts) {
        (Criterion::Age(age), Facts::Object { .. }) => Ok((Cause::Age, after(written, *age))),
        (Criterion::Own { default, .. }, Facts::Object { own, .. }) => match (own, default) {
            (OwnTime::At(time), _) => Ok((Cause::OwnTime, Some(time))),
            (OwnTime::Unreadable, _) => Err(Keep::UnreadableTime),
            (OwnTime::None, None) => Err(Keep::NoTime),
            (OwnTime::None, Some(age)) => Ok((Cause::DefaultAge, after(written, *age))),
        },
        (Criterion::Unreferenced { grace, .. }, Facts::Object { .. }) => match referenced {
            Some(false) => Ok((Cause::Unreferenced, after(written, *grace))),
            Some(true) | None => Err(Keep::Referenced),
        },
        (Criterion::StaleUpload(age), Facts::Upload { .. }) => Ok((Cause::StaleUpload, after(written, *age))),
        (Criterion::Noncurrent(age), Facts::Version { superseded, is_delete_marker, is_alone, .. }) => {
            match superseded {
                Some(since) if since > now => Err(Keep::FromTheFuture),
                Some(since) => Ok((Cause::Noncurrent, after(since, *age))),
                None if is_delete_marker && is_alone => Ok((Cause::IdleMarker, after(written, *age))),
                None => Err(Keep::Current),
            }
        }
        _ => Err(Keep::NotMeant),
    }
}

fn meant(rule: &Rule, key: &str, size: Option<u64>) -> Result<(), Keep> {
    if !rule.covers(key) {
        return Err(Keep::NotMeant);
    }
    let fits = size.is_none_or(|size| {
        rule.min_size.is_none_or(|min| size >= min) && rule.max_size.is_none_or(|max| size <= max)
    });
    if fits { Ok(()) } else { Err(Keep::Size) }
}

fn after(start: Timestamp, age: Duration) -> Option<Timestamp> {
    start.checked_add(age).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Policy;

    const DAY: i64 = 86_400;

    fn rule(fields: &Value) -> Rule {
        let mut rule = json!({"id": "r", "bucket": "files", "prefix": "a/"});
        rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let policy = Policy::from_value(&json!({"version": 1, "rules": [rule]}), "audit");
        policy.unwrap().rules.remove(0)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn object(key: &str, written: i64) -> Facts<'_> {
        Facts::Object { key, size: 10, last_modified: at(written), own: OwnTime::None }
    }

    fn version(
        written: i64,
        superseded: Option<i64>,
        is_delete_marker: bool,
        is_alone: bool,
    ) -> Facts<'static> {
        let superseded = superseded.map(at);
        Facts::Version {
            key: "a/x",
            size: 10,
            last_modified: at(written),
            superseded,
            is_delete_marker,
            is_alone,
        }
    }

    fn deleted(decision: Decision) -> Option<(Cause, i64)> {
        match decision {
            Decision::Delete { cause, expired_at } => Some((cause, expired_at.as_second())),
            Decision::Keep(_) => None,
        }
    }

    #[test]
    fn an_object_goes_exactly_at_its_age() {
        let rule = rule(&json!({"expire_after": "1d"}));
        let decide = |now| decide(&rule, object("a/x", 1000), None, at(now));
        assert_eq!(decide(1000 + DAY - 1), Decision::Keep(Keep::NotYet));
        assert_eq!(deleted(decide(1000 + DAY)), Some((Cause::Age, 1000 + DAY)));
    }

    #[test]
    fn an_object_goes_at_the_time_that_it_names_or_else_at_the_default_age() {
        let with = rule(&json!({"expires_at": "metadata", "expire_after": "30d"}));
        let without = rule(&json!({"expires_at": "metadata"}));
        let named = |own| Facts::Object { key: "a/x", size: 1, last_modified: at(0), own };
        let now = at(2 * DAY);
        assert_eq!(
            deleted(decide(&with, named(OwnTime::At(at(DAY))), None, now)),
            Some((Cause::OwnTime, DAY))
        );
        let later = named(OwnTime::At(at(99 * DAY)));
        assert_eq!(decide(&with, later, None, at(40 * DAY)), Decision::Keep(Keep::NotYet));
        assert_eq!(decide(&with, named(OwnTime::None), None, now), Decision::Keep(Keep::NotYet));
        let old = decide(&with, named(OwnTime::None), None, at(31 * DAY));
        assert_eq!(deleted(old), Some((Cause::DefaultAge, 30 * DAY)));
        assert_eq!(
            decide(&without, named(OwnTime::None), None, Timestamp::MAX),
            Decision::Keep(Keep::NoTime)
        );
        let unreadable = decide(&with, named(OwnTime::Unreadable), None, Timestamp::MAX);
        assert_eq!(unreadable, Decision::Keep(Keep::UnreadableTime));
    }

    #[test]
    fn only_what_is_known_to_be_unreferenced_and_past_its_grace_goes() {
        let rule = rule(&json!({"unreferenced_in": "s3://audit/refs", "grace": "7d"}));
        let decide = |referenced, now| decide(&rule, object("a/x", 0), referenced, at(now));
        assert_eq!(deleted(decide(Some(false), 7 * DAY)), Some((Cause::Unreferenced, 7 * DAY)));
        assert_eq!(decide(Some(false), 7 * DAY - 1), Decision::Keep(Keep::NotYet));
        assert_eq!(decide(Some(true), 99 * DAY), Decision::Keep(Keep::Referenced));
        assert_eq!(decide(None, 99 * DAY), Decision::Keep(Keep::Referenced));
    }

    #[test]
    fn the_current_version_stays_and_an_idle_delete_marker_goes() {
        let rule = rule(&json!({"noncurrent_after": "1d"}));
        let decide = |facts| decide(&rule, facts, None, at(10 * DAY));
        assert_eq!(decide(version(0, None, false, true)), Decision::Keep(Keep::Current));
        assert_eq!(decide(version(0, None, true, false)), Decision::Keep(Keep::Current));
        assert_eq!(deleted(decide(version(0, None, true, true))), Some((Cause::IdleMarker, DAY)));
        assert_eq!(deleted(decide(version(0, Some(DAY), false, false))), Some((Cause::Noncurrent, 2 * DAY)));
        assert_eq!(deleted(decide(version(0, Some(DAY), true, false))), Some((Cause::Noncurrent, 2 * DAY)));
        assert_eq!(decide(version(0, Some(10 * DAY), false, false)), Decision::Keep(Keep::NotYet));
    }

    #[test]
    fn a_rule_decides_only_about_what_it_means() {
        let uploads = rule(&json!({"abort_multipart_after": "1d"}));
        let upload = Facts::Upload { key: "a/x", initiated: at(0) };
        assert_eq!(deleted(decide(&uploads, upload, None, at(DAY))), Some((Cause::StaleUpload, DAY)));
        assert_eq!(decide(&uploads, object("a/x", 0), None, at(DAY)), Decision::Keep(Keep::NotMeant));
        let age =
            rule(&json!({"expire_after": "1d", "exclude": ["a/keep/**"], "min_size": 5, "max_size": 15}));
        let now = at(99 * DAY);
        for key in ["b/x", "a/keep/x", ""] {
            assert_eq!(decide(&age, object(key, 0), None, now), Decision::Keep(Keep::NotMeant), "{key}");
        }
        for (size, goes) in [(4, false), (5, true), (15, true), (16, false)] {
            let facts = Facts::Object { key: "a/x", size, last_modified: at(0), own: OwnTime::None };
            assert_eq!(deleted(decide(&age, facts, None, now)).is_some(), goes, "{size}");
        }
    }

    #[test]
    fn every_cause_is_read_back_from_its_code() {
        for code in [
            "age",
            "expires-at",
            "default-age",
            "unreferenced",
            "stale-upload",
            "noncurrent",
            "delete-marker",
        ] {
            assert_eq!(Cause::parse(code).unwrap().as_str(), code);
        }
        assert_eq!(Cause::parse("whim"), None);
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        prop_oneof![
            Just(json!({"expire_after": "1d"})),
            Just(json!({"expire_after": "1d", "min_size": 5, "max_size": 15, "exclude": ["a/k*"]})),
            Just(json!({"expires_at": "metadata"})),
            Just(json!({"expires_at": "tag", "expire_after": "36500d"})),
            Just(json!({"unreferenced_in": "s3://audit/refs", "grace": "1h"})),
            Just(json!({"abort_multipart_after": "24h"})),
            Just(json!({"noncurrent_after": "1s"})),
        ]
        .prop_map(|fields| rule(&fields))
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            3 => (0..10 * DAY).prop_map(at),
            1 => (Timestamp::MIN.as_second()..=Timestamp::MAX.as_second()).prop_map(at),
        ]
    }

    prop_compose! {
        fn any_facts()(
            kind in 0..3, key in "(a/)?[a-l/]{0,3}", size in 0..20_u64, last_modified in any_time(),
            own in prop_oneof![Just(OwnTime::None), Just(OwnTime::Unreadable), any_time().prop_map(OwnTime::At)],
            superseded in proptest::option::of(any_time()), is_delete_marker: bool, is_alone: bool,
        ) -> Facts<'static> {
            let key = Box::leak(key.into_boxed_str());
            match kind {
                0 => Facts::Object { key, size, last_modified, own },
                1 => Facts::Upload { key, initiated: last_modified },
                _ => Facts::Version { key, size, last_modified, superseded, is_delete_marker, is_alone },
            }
        }
    }

    fn key_and_time(facts: Facts<'_>) -> (&str, Timestamp) {
        match facts {
            Facts::Object { key, last_modified, .. } | Facts::Version { key, last_modified, .. } => {
                (key, last_modified)
            }
            Facts::Upload { key, initiated } => (key, initiated),
        }
    }

    proptest! {
        #[test]
        fn what_goes_is_meant_is_due_and_was_written_before_now(
            rule in any_rule(), facts in any_facts(), referenced: Option<bool>, now in any_time(),
        ) {
            let (key, written) = key_and_time(facts);
            if let Decision::Delete { expired_at, .. } = decide(&rule, facts, referenced, now) {
                prop_assert!(expired_at <= now && written <= now);
                prop_assert!(rule.covers(key));
                if let Criterion::Unreferenced { .. } = rule.criterion {
                    prop_assert_eq!(referenced, Some(false));
                }
            }
        }

        #[test]
        fn what_is_due_once_stays_due_and_what_is_kept_at_a_later_time_was_kept_before(
            rule in any_rule(), facts in any_facts(), referenced: Option<bool>, a in any_time(), b in any_time(),
        ) {
            let (earlier, later) = (a.min(b), a.max(b));
            if let Some(then) = deleted(decide(&rule, facts, referenced, earlier)) {
                prop_assert_eq!(deleted(decide(&rule, facts, referenced, later)), Some(then));
            }
        }

        #[test]
        fn a_clock_that_jumps_back_before_an_objects_birth_never_deletes_it(
            rule in any_rule(), facts in any_facts(), referenced: Option<bool>, back in 1..100_i64,
        ) {
            let (_, written) = key_and_time(facts);
            if let Ok(now) = Timestamp::from_second(written.as_second() - back) {
                prop_assert_eq!(deleted(decide(&rule, facts, referenced, now)), None);
            }
        }
    }
}
