//! The retention policy: what expires, how much of it may go at once, and which CDN has to hear of it.
//!
//! A policy is read from JSON by [`Policy::parse`], which lists every mistake with its path. What has
//! been parsed is consistent: no rule can reach a whole bucket by an oversight, and no two rules say
//! different things about the same object.

use std::fmt;
use std::time::Duration;

use globset::GlobSet;

mod overlap;
mod parse;
mod pattern;
mod span;
mod unique;

pub use span::{MAX_DURATION, parse_duration};

/// What a sweep does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Reports what it would do, and touches nothing.
    #[default]
    Plan,
    /// Deletes.
    Apply,
}

impl Mode {
    /// `plan` or `apply`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "plan" => Some(Self::Plan),
            "apply" => Some(Self::Apply),
            _ => None,
        }
    }

    /// The name in policies and summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
        }
    }
}

/// A parsed policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What a sweep does, unless the environment says otherwise.
    pub mode: Mode,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// The CDNs to be told.
    pub cdn: Vec<CdnTarget>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name: lower-case letters, digits, `-` and `_`.
    pub id: String,
    /// The bucket.
    pub bucket: String,
    /// Only keys that start so; empty for a whole bucket.
    pub prefix: String,
    /// What expires, and when.
    pub criterion: Criterion,
    /// Keys that are never touched.
    pub exclude: Globs,
    /// Only objects of at least this many bytes.
    pub min_size: Option<u64>,
    /// Only objects of at most this many bytes.
    pub max_size: Option<u64>,
    /// An object with this tag (name and value) is never touched.
    pub hold_tag: Option<(String, String)>,
    /// Whether the rule refuses to run where the store cannot delete on a condition.
    pub require_conditional: bool,
    /// Whether a copy goes to the audit bucket before an object is deleted.
    pub quarantine: bool,
    /// How much may go at once.
    pub caps: Caps,
}

/// What expires, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Criterion {
    /// Objects of this age.
    Age(Duration),
    /// Objects at the time that they name themselves; without one, at the default age, or never.
    Own {
        /// Where the object says so.
        at: OwnExpiry,
        /// The age of those that say nothing.
        default: Option<Duration>,
    },
    /// Objects of this age that a list of references does not name.
    Unreferenced {
        /// The list, one key a line, plain or gzip.
        references: Location,
        /// The age below which an object is kept, because its reference may still be on its way.
        grace: Duration,
        /// The age from which the list is too old to be believed.
        max_age: Duration,
    },
    /// Multipart uploads that were begun so long ago.
    StaleUpload(Duration),
    /// Versions that ceased to be current so long ago, and delete markers that mark nothing any more.
    Noncurrent(Duration),
}

/// Where an object names the time at which it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnExpiry {
    /// In its user metadata: `expires-at`, `expires_at`, `ttl`, or the claim `expires_at` of its ticket.
    Metadata,
    /// In its tags: `expires-at`, `expires_at` or `ttl`.
    Tag,
}

/// An object, as `s3://bucket/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The raw key.
    pub key: String,
}

impl Location {
    /// Reads `s3://bucket/key`.
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, key) = text.strip_prefix("s3://")?.split_once('/')?;
        let bucket = shared::env::bucket_name(bucket)?;
        (!key.is_empty()).then(|| Self { bucket, key: key.to_owned() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// How much may go in one sweep of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caps {
    /// At most so many deletes.
    pub max_deletes: Option<u64>,
    /// At most this share of what was scanned, 0 to 1. Only for rules on current objects: of stale uploads
    /// and noncurrent versions, all of them is the normal share.
    pub max_delete_ratio: Option<f64>,
    /// More than so many times what the last sweep of the rule deleted is an anomaly; `None` for never.
    pub anomaly_factor: Option<f64>,
    /// So many are never an anomaly: 0 where the policy sets the factor, so that it is taken at its word.
    pub anomaly_floor: u64,
}

/// Patterns of keys, with the text that they were written as.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    /// As they stand in the policy. `*` and `?` stop at `/`, `**` does not.
    pub patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Whether one of the patterns fits the whole of `key`.
    pub fn fits(&self, key: &str) -> bool {
        !self.patterns.is_empty() && self.set.is_match(key)
    }
}

/// A CDN in front of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdnTarget {
    /// The bucket.
    pub bucket: String,
    /// CloudFront's id of the distribution.
    pub distribution_id: String,
    /// What a path starts with before the key; begins and ends in `/`.
    pub path_prefix: String,
}

/// One mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `rules[2].expire_after`; empty for the document itself.
    pub path: String,
    /// A stable code in kebab-case.
    pub code: &'static str,
    /// What is wrong and what is expected, in one sentence.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{} ({})", self.message, self.code)
        } else {
            write!(f, "{}: {} ({})", self.path, self.message, self.code)
        }
    }
}

/// Everything that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(pub Vec<Mistake>);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the retention policy has {} mistake(s)", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "; {mistake}"))
    }
}

impl std::error::Error for PolicyError {}

impl Rule {
    /// What of a bucket the rule is about.
    pub fn target(&self) -> Target {
        match self.criterion {
            Criterion::Age(_) | Criterion::Own { .. } | Criterion::Unreferenced { .. } => Target::Objects,
            Criterion::StaleUpload(_) => Target::Uploads,
            Criterion::Noncurrent(_) => Target::Versions,
        }
    }

    /// Whether the rule is about `key` at all.
    pub fn covers(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && !self.exclude.fits(key)
    }

    /// Whether what the rule says of an object may become another although the object stays as it is: its reference may
    /// appear, and its tag be written anew.
    pub fn may_change_its_mind(&self) -> bool {
        matches!(self.criterion, Criterion::Unreferenced { .. } | Criterion::Own { at: OwnExpiry::Tag, .. })
    }

    /// What decides what is done, as text: rules with the same text never disagree, and a cursor is only good for the
    /// rule that it was written for, with the same caps and the same way back.
    pub fn fingerprint(&self) -> String {
        let Self { bucket, prefix, criterion, exclude, min_size, max_size, hold_tag, .. } = self;
        let Self { require_conditional, quarantine, caps, .. } = self;
        format!(
            "{bucket} {prefix:?} {criterion:?} {:?} {min_size:?} {max_size:?} {hold_tag:?} \
             {require_conditional} {quarantine} {caps:?}",
            exclude.patterns
        )
    }
}

/// What of a bucket a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Current objects.
    Objects,
    /// Pending multipart uploads.
    Uploads,
    /// Noncurrent versions and delete markers.
    Versions,
}
