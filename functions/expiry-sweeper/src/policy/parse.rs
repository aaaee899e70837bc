//! From JSON to a policy, with every mistake listed by its path.

use std::collections::BTreeSet;
use std::time::Duration;

use globset::{GlobBuilder, GlobSetBuilder};
use serde_json::{Map, Value};
use shared::env::{BUCKET_NAME, bucket_name};

use super::{
    Caps, CdnTarget, Criterion, Globs, Location, Mistake, Mode, OwnExpiry, Policy, PolicyError, Rule,
    overlap, parse_duration, pattern, unique,
};

/// The age from which a reference list is too old, unless the rule says otherwise.
const REFERENCES_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many times the last sweep's deletes are an anomaly, unless the policy says otherwise.
const ANOMALY_FACTOR: f64 = 10.0;

/// How many deletes are no anomaly where the policy sets no factor.
const ANOMALY_FLOOR: u64 = 100;

/// What says when something expires; a rule has exactly one, but that `expire_after` may stand beside
/// `expires_at` as its default.
const CRITERIA: [&str; 5] =
    ["expire_after", "expires_at", "unreferenced_in", "abort_multipart_after", "noncurrent_after"];

impl Policy {
    /// Reads a policy. `audit_bucket` is where reports go, which no rule may sweep.
    ///
    /// # Errors
    /// Every mistake, with its path.
    pub fn parse(text: &str, audit_bucket: &str) -> Result<Self, PolicyError> {
        let (document, twice) = unique::parse(text).map_err(|error| {
            let message = format!("the policy is not JSON: {error}");
            PolicyError(vec![Mistake { path: String::new(), code: "not-json", message }])
        })?;
        let repeated = |path| {
            let message = "the field is given more than once; keep one of them".to_owned();
            Mistake { path, code: "duplicate-field", message }
        };
        let mut mistakes: Vec<_> = twice.into_iter().map(repeated).collect();
        match Self::from_value(&document, audit_bucket) {
            Ok(policy) if mistakes.is_empty() => Ok(policy),
            Ok(_) => Err(PolicyError(mistakes)),
            Err(PolicyError(others)) => {
                mistakes.extend(others);
                Err(PolicyError(mistakes))
            }
        }
    }

    /// Reads a policy from parsed JSON.
    ///
    /// # Errors
    /// Every mistake, with its path.
    pub fn from_value(document: &Value, audit_bucket: &str) -> Result<Self, PolicyError> {
        let mut mistakes = Vec::new();
        let policy = policy(document, audit_bucket, &mut mistakes);
        match policy {
            Some(policy) if mistakes.is_empty() => Ok(policy),
            _ => Err(PolicyError(mistakes)),
        }
    }
}

/// An object of the document that is being read, and what is wrong with it.
struct Fields<'a, 'm> {
    path: String,
    fields: &'a Map<String, Value>,
    read: BTreeSet<&'static str>,
    mistakes: &'m mut Vec<Mistake>,
}

impl<'a, 'm> Fields<'a, 'm> {
    fn of(path: String, value: &'a Value, mistakes: &'m mut Vec<Mistake>) -> Option<Self> {
        let Some(fields) = value.as_object() else {
            let message = format!("{} stands where an object is expected", kind(value));
            mistakes.push(Mistake { path, code: "wrong-type", message });
            return None;
        };
        Some(Self { path, fields, read: BTreeSet::new(), mistakes })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn mistake(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        let path = if name.is_empty() { self.path.clone() } else { self.path_of(name) };
        self.mistakes.push(Mistake { path, code, message: message.into() });
    }

    /// A field's value; null counts as not there.
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.insert(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn wrong_type(&mut self, name: &'static str, value: &Value, expected: &str) {
        self.mistake(name, "wrong-type", format!("{} stands where {expected} is expected", kind(value)));
    }

    fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.get(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(name, value, "a text");
        }
        text
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let Some(value) = self.get(name) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.wrong_type(name, value, "true or false");
            false
        })
    }

    fn whole(&mut self, name: &'static str) -> Option<u64> {
        let value = self.get(name)?;
        let number = value.as_u64();
        if number.is_none() {
            self.wrong_type(name, value, "a whole number from 0 up");
        }
        number
    }

    fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let value = self.get(name)?;
        let Some(text) = value.as_str() else {
            self.wrong_type(name, value, "a duration such as \"24h\"");
            return None;
        };
        parse_duration(text).map_err(|message| self.mistake(name, "bad-duration", message)).ok()
    }

    fn bucket(&mut self, name: &'static str) -> Option<String> {
        let Some(value) = self.get(name) else {
            self.mistake(name, "bucket-missing", format!("the bucket is missing; expected {BUCKET_NAME}"));
            return None;
        };
        let bucket = value.as_str().and_then(bucket_name);
        if bucket.is_none() {
            self.mistake(name, "bad-bucket", format!("{value} is no bucket; expected {BUCKET_NAME}"));
        }
        bucket
    }

    fn location(&mut self, name: &'static str) -> Option<Location> {
        let text = self.text(name)?;
        let location = Location::parse(text);
        if location.is_none() {
            self.mistake(name, "bad-uri", format!("{text:?} is no object; expected s3://bucket/key"));
        }
        location
    }

    /// Notes every field that nobody asked for: a misspelt safeguard must not pass unnoticed.
    fn finish(mut self) {
        let unknown: Vec<_> =
            self.fields.keys().filter(|name| !self.read.contains(name.as_str())).cloned().collect();
        for name in unknown {
            let known = self.read.iter().copied().collect::<Vec<_>>().join(", ");
            self.mistake(&name, "unknown-field", format!("there is no such field; there are {known}"));
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn policy(document: &Value, audit_bucket: &str, mistakes: &mut Vec<Mistake>) -> Option<Policy> {
    let mut fields = Fields::of(String::new(), document, mistakes)?;
    match fields.get("version") {
        Some(version) if version.as_u64() == Some(1) => {}
        Some(version) => {
            fields.mistake("version", "bad-version", format!("{version} is unknown; expected 1"));
        }
        None => fields.mistake("version", "bad-version", "the version is missing; expected 1"),
    }
    let mode = match fields.text("mode") {
        None => Mode::Plan,
        Some(text) => Mode::parse(text).unwrap_or_else(|| {
            fields.mistake("mode", "bad-mode", format!("{text:?} is no mode; expected plan or apply"));
            Mode::Plan
        }),
    };
    let defaults = Caps {
        max_deletes: None,
        max_delete_ratio: None,
        anomaly_factor: Some(ANOMALY_FACTOR),
        anomaly_floor: ANOMALY_FLOOR,
    };
    let limits = fields.get("limits");
    let list = |fields: &mut Fields<'_, '_>, name: &'static str, value: Option<&Value>| match value {
        Some(Value::Array(elements)) => elements.clone(),
        Some(other) => {
            fields.wrong_type(name, other, "an array");
            Vec::new()
        }
        None => Vec::new(),
    };
    let rules = fields.get("rules");
    if rules.is_none() || rules.and_then(Value::as_array).is_some_and(Vec::is_empty) {
        fields.mistake("rules", "no-rules", "there is no rule; expected at least one");
    }
    let rules = list(&mut fields, "rules", rules);
    let cdn = fields.get("cdn");
    let cdn = list(&mut fields, "cdn", cdn);
    // A note for people; JSON has no comments.
    fields.get("$schema");
    fields.get("description");
    fields.finish();

    let caps = match limits {
        None => defaults,
        Some(limits) => match Fields::of("limits".to_owned(), limits, mistakes) {
            None => defaults,
            Some(mut fields) => {
                let caps = caps(&mut fields, defaults);
                fields.finish();
                caps
            }
        },
    };
    let parsed: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(index, value)| rule(index, value, caps, audit_bucket, mistakes))
        .collect();
    let cdn = cdn.iter().enumerate().filter_map(|(index, value)| target(index, value, mistakes)).collect();
    duplicate_ids(&rules, mistakes);
    overlap::check(&parsed, mistakes);
    let complete = parsed.iter().all(Option::is_some);
    complete.then(|| Policy { mode, rules: parsed.into_iter().flatten().collect(), cdn })
}

/// Notes rules of the same name, also where something else is wrong with them.
fn duplicate_ids(rules: &[Value], mistakes: &mut Vec<Mistake>) {
    let ids: Vec<_> = rules.iter().map(|rule| rule.get("id").and_then(Value::as_str)).collect();
    for (index, id) in ids.iter().enumerate() {
        let earlier = ids.iter().take(index).position(|earlier| earlier == id);
        if let (Some(id), Some(earlier)) = (id, earlier) {
            let message = format!("the id {id:?} is also that of rules[{earlier}]");
            mistakes.push(Mistake { path: format!("rules[{index}].id"), code: "duplicate-id", message });
        }
    }
}

fn caps(fields: &mut Fields<'_, '_>, defaults: Caps) -> Caps {
    let max_deletes = fields.whole("max_deletes").or(defaults.max_deletes);
    let max_delete_ratio = match fields.get("max_delete_ratio") {
        None => defaults.max_delete_ratio,
        Some(value) => {
            let ratio = value.as_f64().filter(|ratio| (0.0..=1.0).contains(ratio));
            if ratio.is_none() {
                fields.mistake(
                    "max_delete_ratio",
                    "bad-ratio",
                    format!("{value} is no share; expected 0 to 1"),
                );
            }
            ratio
        }
    };
    let anomaly_factor = match fields.get("anomaly_factor") {
        None => defaults.anomaly_factor,
        Some(value) => match value.as_f64() {
            Some(0.0) => None,
            Some(factor) if factor >= 1.0 => Some(factor),
            _ => {
                let message = format!("{value} is no factor; expected 1 or more, or 0 for no brake");
                fields.mistake("anomaly_factor", "bad-factor", message);
                None
            }
        },
    };
    let anomaly_floor = if fields.get("anomaly_factor").is_some() { 0 } else { defaults.anomaly_floor };
    Caps { max_deletes, max_delete_ratio, anomaly_factor, anomaly_floor }
}

fn rule(
    index: usize,
    value: &Value,
    defaults: Caps,
    audit_bucket: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Rule> {
    let before = mistakes.len();
    let mut fields = Fields::of(format!("rules[{index}]"), value, mistakes)?;
    let id = rule_id(&mut fields);
    let bucket = fields.bucket("bucket");
    if bucket.as_deref() == Some(audit_bucket) {
        let message = "this is the audit bucket; a sweep must not delete its own reports and cursors";
        fields.mistake("bucket", "audit-bucket-swept", message);
    }
    let criterion = criterion(&mut fields);
    let prefix = prefix(&mut fields, criterion.as_ref());
    if let (Some(Criterion::Unreferenced { references, .. }), Some(bucket)) = (&criterion, &bucket)
        && references.bucket == *bucket
        && references.key.starts_with(&prefix)
    {
        let message = "the reference list lies within what the rule sweeps; keep it elsewhere";
        fields.mistake("unreferenced_in", "references-swept", message);
    }
    let exclude = exclude(&mut fields);
    let (min_size, max_size) = (fields.whole("min_size"), fields.whole("max_size"));
    if let (Some(min), Some(max)) = (min_size, max_size)
        && min > max
    {
        fields.mistake("min_size", "bad-size", format!("{min} is more than max_size, {max}"));
    }
    let hold_tag = hold_tag(&mut fields);
    let require_conditional = fields.flag("require_conditional");
    let quarantine = fields.flag("quarantine_before_delete");
    if matches!(criterion, Some(Criterion::StaleUpload(_))) {
        let unusable = [
            ("min_size", min_size.is_some()),
            ("max_size", max_size.is_some()),
            ("hold_tag", hold_tag.is_some()),
            ("quarantine_before_delete", quarantine),
        ];
        for (name, _) in unusable.into_iter().filter(|(_, set)| *set) {
            fields.mistake(
                name,
                "not-for-uploads",
                "a pending upload has no size, no tags and no bytes to keep",
            );
        }
    }
    let caps = caps(&mut fields, defaults);
    fields.get("description");
    fields.finish();
    if mistakes.len() > before {
        return None;
    }
    Some(Rule {
        id: id?,
        bucket: bucket?,
        prefix,
        criterion: criterion?,
        exclude,
        min_size,
        max_size,
        hold_tag,
        require_conditional,
        quarantine,
        caps,
    })
}

/// A rule's id becomes part of keys, so that it is held to what every store and shell takes.
fn rule_id(fields: &mut Fields<'_, '_>) -> Option<String> {
    let Some(id) = fields.text("id") else {
        if fields.fields.get("id").is_none_or(Value::is_null) {
            fields.mistake("id", "id-missing", "the rule has no id");
        }
        return None;
    };
    let fits = (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !fits {
        let message = format!("{id:?} is no id; expected up to 64 lower-case letters, digits, '-' and '_'");
        fields.mistake("id", "bad-id", message);
    }
    fits.then(|| id.to_owned())
}

/// A rule reaches a whole bucket only where it says so. Stale uploads are no objects yet, so that a rule on
/// them may leave the prefix out.
fn prefix(fields: &mut Fields<'_, '_>, criterion: Option<&Criterion>) -> String {
    let prefix = fields.text("prefix");
    let whole_bucket = fields.flag("whole_bucket");
    let uploads = matches!(criterion, Some(Criterion::StaleUpload(_)));
    match prefix {
        Some(prefix) if !prefix.is_empty() && whole_bucket => {
            fields.mistake(
                "whole_bucket",
                "prefix-and-whole-bucket",
                format!("the rule also has the prefix {prefix:?}"),
            );
        }
        Some("") if !whole_bucket => {
            let message = "the prefix is empty; write \"whole_bucket\": true if the whole bucket is meant";
            fields.mistake("prefix", "prefix-empty", message);
        }
        None if !whole_bucket && !uploads && fields.fields.get("prefix").is_none_or(Value::is_null) => {
            let message = "the prefix is missing; write \"whole_bucket\": true if the whole bucket is meant";
            fields.mistake("prefix", "prefix-missing", message);
        }
        _ => {}
    }
    prefix.unwrap_or_default().to_owned()
}

fn criterion(fields: &mut Fields<'_, '_>) -> Option<Criterion> {
    let before = fields.mistakes.len();
    let expire_after = fields.duration("expire_after");
    let own = fields.text("expires_at").and_then(|text| match text {
        "metadata" => Some(OwnExpiry::Metadata),
        "tag" => Some(OwnExpiry::Tag),
        _ => {
            let message = format!("{text:?} is no place; expected metadata or tag");
            fields.mistake("expires_at", "bad-expires-at", message);
            None
        }
    });
    let references = fields.location("unreferenced_in");
    let grace = fields.duration("grace");
    let max_age = fields.duration("references_max_age");
    let uploads = fields.duration("abort_multipart_after");
    let noncurrent = fields.duration("noncurrent_after");

    let given: Vec<_> = CRITERIA
        .into_iter()
        .filter(|name| fields.fields.get(*name).is_some_and(|value| !value.is_null()))
        .collect();
    let with_default = given == ["expire_after", "expires_at"];
    if given.is_empty() {
        let message = format!("the rule does not say what expires; expected one of {}", CRITERIA.join(", "));
        fields.mistake("", "criterion-missing", message);
    } else if given.len() > 1 && !with_default {
        let message = format!("{} exclude one another; write a rule for each", given.join(" and "));
        fields.mistake("", "criteria-exclusive", message);
    }
    let unreferenced = given.contains(&"unreferenced_in");
    if unreferenced && fields.fields.get("grace").is_none_or(Value::is_null) {
        let message = "the grace period is missing; what was just written is referenced by nobody yet, so write one such as \"7d\"";
        fields.mistake("grace", "grace-missing", message);
    }
    for name in ["grace", "references_max_age"] {
        if !unreferenced && fields.fields.get(name).is_some_and(|value| !value.is_null()) {
            fields.mistake(
                name,
                "without-references",
                "the rule has no unreferenced_in that this belongs to",
            );
        }
    }
    if fields.mistakes.len() > before {
        return None;
    }
    match (own, references, uploads, noncurrent) {
        (Some(at), ..) => Some(Criterion::Own { at, default: expire_after }),
        (_, Some(references), ..) => Some(Criterion::Unreferenced {
            references,
            grace: grace?,
            max_age: max_age.unwrap_or(REFERENCES_MAX_AGE),
        }),
        (_, _, Some(after), _) => Some(Criterion::StaleUpload(after)),
        (_, _, _, Some(after)) => Some(Criterion::Noncurrent(after)),
        _ => expire_after.map(Criterion::Age),
    }
}

fn exclude(fields: &mut Fields<'_, '_>) -> Globs {
    let Some(value) = fields.get("exclude") else { return Globs::default() };
    let Some(patterns) = value.as_array() else {
        fields.wrong_type("exclude", value, "an array of patterns");
        return Globs::default();
    };
    let mut builder = GlobSetBuilder::new();
    let mut texts = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let Some(text) = pattern.as_str() else {
            fields.mistake(
                &format!("exclude[{index}]"),
                "wrong-type",
                format!("{} stands where a pattern is expected", kind(pattern)),
            );
            continue;
        };
        let built = pattern::spelled_out(text).map_err(str::to_owned).and_then(|spelled| {
            let glob = GlobBuilder::new(&spelled).literal_separator(true).build();
            glob.map_err(|error| error.kind().to_string())
        });
        match built {
            Ok(glob) => {
                builder.add(glob);
                texts.push(text.to_owned());
            }
            Err(problem) => {
                let message = format!("{text:?} is no pattern: {problem}");
                fields.mistake(&format!("exclude[{index}]"), "bad-pattern", message);
            }
        }
    }
    match builder.build() {
        Ok(set) => Globs { patterns: texts, set },
        Err(error) => {
            fields.mistake("exclude", "bad-pattern", format!("the patterns are too much together: {error}"));
            Globs::default()
        }
    }
}

fn hold_tag(fields: &mut Fields<'_, '_>) -> Option<(String, String)> {
    let text = fields.text("hold_tag")?;
    let tag = text.split_once('=').filter(|(name, _)| !name.is_empty());
    if tag.is_none() {
        fields.mistake("hold_tag", "bad-tag", format!("{text:?} is no tag; expected name=value"));
    }
    tag.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn target(index: usize, value: &Value, mistakes: &mut Vec<Mistake>) -> Option<CdnTarget> {
    let mut fields = Fields::of(format!("cdn[{index}]"), value, mistakes)?;
    let bucket = fields.bucket("bucket");
    let distribution_id = fields
        .text("distribution_id")
        .filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    if distribution_id.is_none() {
        let message = "the distribution is missing; expected its id, such as \"E2QWRUHAPOMQZL\"";
        fields.mistake("distribution_id", "bad-distribution", message);
    }
    let path_prefix = fields.text("path_prefix").unwrap_or("/");
    if !path_prefix.starts_with('/') || !path_prefix.ends_with('/') || path_prefix.contains('*') {
        let message =
            format!("{path_prefix:?} is no path; expected one that begins and ends in '/', without '*'");
        fields.mistake("path_prefix", "bad-path", message);
    }
    fields.finish();
    Some(CdnTarget {
        bucket: bucket?,
        distribution_id: distribution_id?.to_owned(),
        path_prefix: path_prefix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes(document: &Value) -> Vec<(String, &'static str)> {
        let error = Policy::from_value(document, "audit").unwrap_err();
        error.0.into_iter().map(|mistake| (mistake.path, mistake.code)).collect()
    }

    fn with_rule(rule: &Value) -> Value {
        json!({"version": 1, "rules": [rule]})
    }

    #[test]
    fn rules_of_the_same_name_are_told_even_where_something_else_is_wrong_with_them() {
        let rules = json!([
            {"id": "temp", "bucket": "files", "expire_after": "-3d"},
            {"id": "temp", "bucket": "files", "prefix": "a/", "expire_after": "1d"},
            {"id": "other", "bucket": "files", "prefix": "b/", "expire_after": "1d"},
            {"id": "temp", "bucket": "files", "prefix": "c/", "expire_after": "1d"},
        ]);
        let mut told = mistakes(&json!({"version": 1, "rules": rules}));
        told.retain(|(_, code)| *code == "duplicate-id");
        let expected = ["rules[1].id", "rules[3].id"].map(|path| (path.to_owned(), "duplicate-id"));
        assert_eq!(told, expected);
    }

    #[test]
    fn the_contracts_own_policy_is_read() {
        let policy = Policy::from_value(
            &json!({"version": 1, "mode": "apply",
             "limits": {"max_deletes": 100_000, "max_delete_ratio": 0.5},
             "rules": [
              {"id": "temp-catalog", "bucket": "files", "prefix": "tempcato/", "expire_after": "24h"},
              {"id": "per-object",   "bucket": "files", "prefix": "share/", "expires_at": "metadata", "expire_after": "30d"},
              {"id": "orphans",      "bucket": "avatar", "prefix": "u/", "unreferenced_in": "s3://audit/references/u.txt.gz", "grace": "7d"},
              {"id": "originals",    "bucket": "upload", "whole_bucket": true, "expire_after": "7d"},
              {"id": "multipart",    "bucket": "files", "abort_multipart_after": "24h"},
              {"id": "hard-delete",  "bucket": "files", "prefix": "tempcato/", "noncurrent_after": "1d"}],
             "cdn": [{"bucket": "avatar", "distribution_id": "E2QWRUHAPOMQZL", "path_prefix": "/"}]}),
            "audit",
        )
        .unwrap();
        assert_eq!(policy.mode, Mode::Apply);
        assert_eq!(policy.rules.len(), 6);
        assert_eq!(policy.rules[0].caps.max_deletes, Some(100_000));
        assert_eq!(
            policy.rules[1].criterion,
            Criterion::Own { at: OwnExpiry::Metadata, default: Some(Duration::from_secs(30 * 86_400)) }
        );
        assert!(matches!(&policy.rules[2].criterion,
            Criterion::Unreferenced { references, .. } if references.to_string() == "s3://audit/references/u.txt.gz"));
        assert_eq!(policy.cdn[0].path_prefix, "/");
    }

    #[test]
    fn plan_is_the_default_mode() {
        let rule = json!({"id": "a", "bucket": "files", "prefix": "a/", "expire_after": "1h"});
        assert_eq!(Policy::from_value(&with_rule(&rule), "audit").unwrap().mode, Mode::Plan);
    }

    #[test]
    fn every_mistake_is_listed_with_its_path() {
        let found = mistakes(
            &json!({"version": 2, "mode": "delete", "limits": {"max_delete_ratio": 50, "max_delets": 3},
            "rules": [
                {"id": "No Id", "bucket": "files", "prefix": "", "expire_after": "0h"},
                {"prefix": "a/", "expire_after": "-1d"},
                {"id": "c", "bucket": "files", "expire_after": 24, "exclude": ["a{"], "min_size": 9, "max_size": 1},
                {"id": "d", "bucket": "audit", "prefix": "sweeps/", "expire_after": "1d"},
                {"id": "e", "bucket": "files", "prefix": "x/", "unreferenced_in": "refs.txt"},
                {"id": "f", "bucket": "files", "prefix": "y/"},
                {"id": "g", "bucket": "files", "prefix": "z/", "expire_after": "1d", "noncurrent_after": "1d"},
                {"id": "h", "bucket": "files", "prefix": "w/", "expires_at": "header", "hold_tag": "hold"},
                {"id": "i", "bucket": "files", "prefix": "r/", "unreferenced_in": "s3://files/r/list", "grace": "1d"},
                7],
            "cdn": [{"bucket": "files", "distribution_id": "", "path_prefix": "files"}]}),
        );
        for expected in [
            ("version", "bad-version"),
            ("mode", "bad-mode"),
            ("limits.max_delete_ratio", "bad-ratio"),
            ("limits.max_delets", "unknown-field"),
            ("rules[0].id", "bad-id"),
            ("rules[0].prefix", "prefix-empty"),
            ("rules[0].expire_after", "bad-duration"),
            ("rules[1].id", "id-missing"),
            ("rules[1].bucket", "bucket-missing"),
            ("rules[1].expire_after", "bad-duration"),
            ("rules[2].prefix", "prefix-missing"),
            ("rules[2].expire_after", "wrong-type"),
            ("rules[2].exclude[0]", "bad-pattern"),
            ("rules[2].min_size", "bad-size"),
            ("rules[3].bucket", "audit-bucket-swept"),
            ("rules[4].unreferenced_in", "bad-uri"),
            ("rules[4].grace", "grace-missing"),
            ("rules[5]", "criterion-missing"),
            ("rules[6]", "criteria-exclusive"),
            ("rules[7].expires_at", "bad-expires-at"),
            ("rules[7].hold_tag", "bad-tag"),
            ("rules[8].unreferenced_in", "references-swept"),
            ("rules[9]", "wrong-type"),
            ("cdn[0].distribution_id", "bad-distribution"),
            ("cdn[0].path_prefix", "bad-path"),
        ] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn a_policy_that_is_no_json_or_no_object_is_refused() {
        assert_eq!(Policy::parse("{", "audit").unwrap_err().0[0].code, "not-json");
        assert_eq!(mistakes(&json!([])), [(String::new(), "wrong-type")]);
        assert!(mistakes(&json!({"version": 1})).contains(&("rules".to_owned(), "no-rules")));
    }

    #[test]
    fn an_exclusion_stops_at_a_slash_unless_it_says_otherwise() {
        let rule = json!({"id": "a", "bucket": "files", "prefix": "a/", "expire_after": "1h",
                          "exclude": ["a/*.keep", "a/docs/**"]});
        let policy = Policy::from_value(&with_rule(&rule), "audit").unwrap();
        let rule = &policy.rules[0];
        assert!(!rule.covers("a/x.keep") && !rule.covers("a/docs/b/c"));
        assert!(rule.covers("a/b/x.keep") && rule.covers("a/x") && !rule.covers("b/x"));
    }
}
