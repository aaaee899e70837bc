//! The caps of a rule, held against its plan before the first delete.

use shared::outcome::Reason;

use super::Tally;
use crate::lease::LastSweep;
use crate::policy::{Criterion, Rule, Target};

/// What is known when a plan is held against the caps.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The last complete sweep of the rule.
    pub last: Option<&'a LastSweep>,
    /// The sweep that the anomaly brake stopped, if the last one was stopped.
    pub braked: Option<&'a str>,
    /// What `SWEEP_CONFIRM` confirms: ids of sweeps or of rules.
    pub confirmed: &'a [String],
    /// What the next one has to confirm, should this one be stopped: this sweep, or in `plan`, which nobody can go on with,
    /// the rule.
    pub sweep_id: &'a str,
}

/// Why the plan must not be carried out; `None` if it may.
pub fn stops(rule: &Rule, tally: &Tally, circumstances: Circumstances<'_>) -> Option<Reason> {
    let caps = &rule.caps;
    let planned = tally.expired.saturating_sub(tally.held);
    if let Some(most) = caps.max_deletes.filter(|most| planned > *most) {
        let message = format!("{planned} would be deleted, more than max_deletes, {most}; nothing was.");
        return Some(Reason::new("max-deletes", message));
    }
    if let Some(ratio) = caps.max_delete_ratio
        && rule.target() == Target::Objects
        && share(planned, tally.scanned) > ratio
    {
        let scanned = tally.scanned;
        let message = format!(
            "{planned} of {scanned} would be deleted, more than max_delete_ratio, {ratio}; nothing was."
        );
        return Some(Reason::new("max-delete-ratio", message));
    }
    let Circumstances { last, braked, confirmed, sweep_id } = circumstances;
    let name = braked.unwrap_or(sweep_id);
    let is_confirmed = |confirmed: &String| Some(confirmed.as_str()) == braked || *confirmed == rule.id;
    let is_confirmed = confirmed.iter().any(is_confirmed);
    if let Criterion::Unreferenced { references, .. } = &rule.criterion
        && caps.anomaly_factor.is_some()
        && planned > caps.anomaly_floor
        && tally.referenced == 0
        && !is_confirmed
    {
        let message = format!(
            "{planned} would be deleted, and of all that is there {references} names nothing: it may be another bucket's \
             list, or not one of raw keys; nothing was deleted. If it is right, set SWEEP_CONFIRM={name} and sweep again."
        );
        return Some(Reason::new("references-match-nothing", message));
    }
    if let Some(factor) = caps.anomaly_factor
        && let Some(last) = last
        && planned > caps.anomaly_floor
        && exceeds(planned, factor, last.deleted.max(1))
        && !is_confirmed
    {
        let message = format!(
            "{planned} would be deleted, more than {factor} times the {} of the last sweep, {}; nothing was. \
             If that is right, set SWEEP_CONFIRM={name} and sweep again.",
            last.deleted, last.sweep_id
        );
        return Some(Reason::new("anomaly", message));
    }
    None
}

/// Whether anything that a plan may turn out to be would be stopped. If not, it need not be whole before it is acted
/// upon.
pub fn may_stop(rule: &Rule, circumstances: Circumstances<'_>) -> bool {
    let worst = Tally { scanned: u64::MAX, expired: u64::MAX, ..Tally::default() };
    stops(rule, &worst, circumstances).is_some()
}

#[expect(clippy::cast_precision_loss, reason = "a share does not need more than 53 bits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "an anomaly is not a matter of the 54th bit")]
fn exceeds(planned: u64, factor: f64, last: u64) -> bool {
    planned as f64 > factor * last as f64
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Policy;

    fn rule(fields: &Value) -> Rule {
        let mut rule = json!({"id": "temp", "bucket": "files", "prefix": "a/"});
        rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let policy = Policy::from_value(&json!({"version": 1, "rules": [rule]}), "audit");
        policy.unwrap().rules.remove(0)
    }

    fn last(deleted: u64) -> LastSweep {
        LastSweep {
            sweep_id: "before".into(),
            finished_at: Timestamp::UNIX_EPOCH,
            scanned: deleted,
            deleted,
            deleted_bytes: 0,
            next_report: 2,
            reports: Vec::new(),
        }
    }

    fn code(
        rule: &Rule,
        scanned: u64,
        expired: u64,
        held: u64,
        last: Option<&LastSweep>,
        confirmed: &[&str],
    ) -> &'static str {
        let tally = Tally { scanned, expired, held, ..Tally::default() };
        let confirmed: Vec<_> = confirmed.iter().map(|text| (*text).to_owned()).collect();
        let circumstances =
            Circumstances { last, braked: Some("stopped"), confirmed: &confirmed, sweep_id: "this" };
        stops(rule, &tally, circumstances).map_or("", |reason| reason.code)
    }

    #[test]
    fn a_plan_at_its_cap_may_and_one_beyond_may_not() {
        let rule = rule(&json!({"expire_after": "1d", "max_deletes": 10, "max_delete_ratio": 0.5}));
        assert_eq!(code(&rule, 20, 10, 0, None, &[]), "");
        assert_eq!(code(&rule, 40, 11, 0, None, &[]), "max-deletes");
        assert_eq!(code(&rule, 40, 11, 1, None, &[]), "");
        assert_eq!(code(&rule, 19, 10, 0, None, &[]), "max-delete-ratio");
        assert_eq!(code(&rule, 0, 0, 0, None, &[]), "");
    }

    #[test]
    fn of_uploads_and_versions_all_is_the_normal_share() {
        let rule = rule(&json!({"noncurrent_after": "1d", "max_delete_ratio": 0.5}));
        assert_eq!(code(&rule, 10, 10, 0, None, &[]), "");
    }

    #[test]
    fn many_more_than_the_last_time_need_a_confirmation_that_names_the_stopped_sweep_or_the_rule() {
        let rule = rule(&json!({"expire_after": "1d", "anomaly_factor": 3}));
        assert_eq!(code(&rule, 100, 30, 0, Some(&last(10)), &[]), "");
        assert_eq!(code(&rule, 100, 31, 0, Some(&last(10)), &[]), "anomaly");
        assert_eq!(code(&rule, 100, 31, 0, None, &[]), "");
        assert_eq!(code(&rule, 100, 3, 0, Some(&last(0)), &[]), "");
        assert_eq!(code(&rule, 100, 4, 0, Some(&last(0)), &[]), "anomaly");
        for (confirmed, code_) in [("stopped", ""), ("temp", ""), ("this", "anomaly"), ("other", "anomaly")] {
            assert_eq!(code(&rule, 100, 31, 0, Some(&last(10)), &[confirmed]), code_, "{confirmed}");
        }
    }

    #[test]
    fn a_list_that_names_nothing_of_what_is_there_makes_no_orphans_of_many() {
        let orphans = json!({"unreferenced_in": "s3://audit/u.txt", "grace": "1d"});
        let code = |fields: &Value, expired: u64, referenced: u64, confirmed: &[&str]| {
            let mut rule = orphans.clone();
            rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let tally = Tally { scanned: 1000, expired, referenced, ..Tally::default() };
            let confirmed: Vec<_> = confirmed.iter().map(|text| (*text).to_owned()).collect();
            let circumstances = Circumstances {
                last: None,
                braked: Some("stopped"),
                confirmed: &confirmed,
                sweep_id: "this",
            };
            stops(&self::rule(&rule), &tally, circumstances).map_or("", |reason| reason.code)
        };
        let plain = json!({});
        assert_eq!(code(&plain, 101, 0, &[]), "references-match-nothing");
        assert_eq!(code(&plain, 101, 1, &[]), "");
        assert_eq!(code(&plain, 100, 0, &[]), "");
        assert_eq!(code(&plain, 101, 0, &["stopped"]), "");
        assert_eq!(code(&json!({"anomaly_factor": 2}), 1, 0, &[]), "references-match-nothing");
        assert_eq!(code(&json!({"anomaly_factor": 0}), 101, 0, &[]), "");
    }

    #[test]
    fn what_may_stop_a_plan_is_known_before_there_is_one() {
        let may = |fields: Value, last: Option<&LastSweep>, confirmed: &[&str]| {
            let confirmed: Vec<_> = confirmed.iter().map(|text| (*text).to_owned()).collect();
            let circumstances = Circumstances { last, braked: None, confirmed: &confirmed, sweep_id: "this" };
            may_stop(&rule(&fields), circumstances)
        };
        let daily = json!({"expire_after": "1d"});
        assert!(!may(daily.clone(), None, &[]));
        assert!(may(daily.clone(), Some(&last(10)), &[]));
        assert!(!may(daily, Some(&last(10)), &["temp"]));
        assert!(!may(json!({"expire_after": "1d", "anomaly_factor": 0}), Some(&last(10)), &[]));
        for (cap, stops) in [
            (json!({"max_deletes": 1_000_000_000}), true),
            (json!({"max_delete_ratio": 0.99}), true),
            (json!({"max_delete_ratio": 1.0}), false),
        ] {
            let mut fields = json!({"expire_after": "1d"});
            fields.as_object_mut().unwrap().extend(cap.as_object().unwrap().clone());
            assert_eq!(may(fields, None, &[]), stops, "{cap}");
        }
    }

    #[test]
    fn without_a_factor_of_its_own_a_rule_may_always_delete_a_few() {
        let rule = rule(&json!({"expire_after": "1d"}));
        assert_eq!(code(&rule, 5000, 100, 0, Some(&last(0)), &[]), "");
        assert_eq!(code(&rule, 5000, 101, 0, Some(&last(0)), &[]), "anomaly");
        let off = self::rule(&json!({"expire_after": "1d", "anomaly_factor": 0}));
        assert_eq!(code(&off, 5000, 5000, 0, Some(&last(0)), &[]), "");
    }
}
