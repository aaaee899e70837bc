//! Answers schedules and batches: reads the policy, sweeps rule by rule, and says whether to call again.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::clock::Clock;
use shared::event::{self, Content, Delivery, Envelope};
use shared::outcome::{Outcome, Reason, RetryClass, Status};
use shared::runtime::{Invocation, InvocationError};
use shared::store::{GetOptions, ListedEntry, ObjectStore, StoreErrorKind};
use shared::telemetry::{self, Metric};

use crate::cdn::Cdn;
use crate::config::{Config, PolicySource};
use crate::policy::{Mode, Policy, Rule, Target};
use crate::retry::retrying;
use crate::sweep::{ALREADY_RUNNING, Ending, Moment, Progress, Request, RuleEnd, Sizes, Tally, Unwatched};

mod pass;

use pass::Pass;

/// This function's name in logs, metrics and the metadata of what it writes.
pub const FUNCTION: &str = "expiry-sweeper";

/// The longest policy that is read.
const MAX_POLICY_BYTES: u64 = 1 << 20;

/// What the handler works with, built once in the life of a process.
pub struct Deps<S, C, D> {
    store: S,
    clock: C,
    cdn: D,
    config: Config,
    progress: Box<dyn Progress>,
    sizes: Sizes,
}

impl<S, C, D> Deps<S, C, D> {
    /// Puts the parts together; nothing is read yet.
    pub fn new(store: S, clock: C, cdn: D, config: Config) -> Self {
        Self { store, clock, cdn, config, progress: Box::new(Unwatched), sizes: Sizes::default() }
    }

    /// The same, working in pieces of other sizes.
    #[must_use]
    pub fn in_pieces_of(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// The same, watched by `progress`.
    #[must_use]
    pub fn watched_by(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }
}

impl<S, C, D> fmt::Debug for Deps<S, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// Answers one event. An empty one, `{}` or null, sweeps every rule, as a schedule does.
///
/// # Errors
/// The event is not understood; the policy cannot be used (`Policy`); or calling again may help (`Retryable`).
pub async fn handle<S: ObjectStore, C: Clock, D: Cdn>(
    deps: &Deps<S, C, D>,
    event: &Value,
    invocation: &Invocation,
) -> Result<Value, InvocationError> {
    let delivery = delivered(event)?;
    let (outcomes, complete) = swept(deps, &delivery, invocation).await?;
    let mut answer = delivery.answer(&outcomes)?;
    answer["complete"] = complete.into();
    Ok(answer)
}

/// How every rule ended, and whether none has to be gone on with: what [`handle`] answers, for whoever has no carrier
/// that would call again. There a rule that failed for now fails the invocation, and takes what is known of all others
/// with it.
///
/// # Errors
/// As for [`handle`], where no rule was swept.
pub async fn outcomes<S: ObjectStore, C: Clock, D: Cdn>(
    deps: &Deps<S, C, D>,
    event: &Value,
    invocation: &Invocation,
) -> Result<(Vec<Outcome>, bool), InvocationError> {
    swept(deps, &delivered(event)?, invocation).await
}

fn delivered(event: &Value) -> Result<Delivery, InvocationError> {
    let is_empty = event.is_null() || event.as_object().is_some_and(serde_json::Map::is_empty);
    let empty = json!({"sweep": {}});
    Ok(event::normalize(if is_empty { &empty } else { event })?)
}

async fn swept<S: ObjectStore, C: Clock, D: Cdn>(
    deps: &Deps<S, C, D>,
    delivery: &Delivery,
    invocation: &Invocation,
) -> Result<(Vec<Outcome>, bool), InvocationError> {
    let ending = Ending::of(invocation.deadline, invocation.remaining(deps.clock.now()));
    let answer = ending.before(Moment::Answer, Box::pin(deps.answer(delivery, invocation, ending))).await;
    let ends = match answer.unwrap_or_else(|| Err(Unusable::late())) {
        Err(Unusable::Invocation(error)) => return Err(error),
        Err(Unusable::Event(outcome)) => vec![RuleEnd::without_sweep(*outcome, false)],
        Ok(ends) => ends,
    };
    deps.tell(&ends);
    let complete = ends.iter().all(|end| !end.goes_on);
    Ok((ends.into_iter().map(|end| end.outcome).collect(), complete))
}

/// Why no rule is swept.
enum Unusable {
    Event(Box<Outcome>),
    Invocation(InvocationError),
}

impl Unusable {
    fn event(code: &'static str, message: impl Into<String>) -> Self {
        Self::Event(Box::new(Outcome::failed(Reason::new(code, message), RetryClass::Permanent)))
    }

    fn late() -> Self {
        let message = "the time was over before the store answered; another invocation goes on".to_owned();
        Self::Invocation(InvocationError { error_type: "Retryable", message })
    }

    fn policy(message: impl Into<String>) -> Self {
        Self::Invocation(InvocationError { error_type: "Policy", message: message.into() })
    }
}

impl<S: ObjectStore, C: Clock, D: Cdn> Deps<S, C, D> {
    async fn answer(
        &self,
        delivery: &Delivery,
        invocation: &Invocation,
        ending: Ending,
    ) -> Result<Vec<RuleEnd>, Unusable> {
        if let Envelope::DistributedMap { batch_input } = &delivery.envelope {
            return Ok(vec![self.sweep_batch(delivery, batch_input, (invocation, ending)).await?]);
        }
        match delivery.records.first().map(|record| &record.content) {
            Some(Ok(Content::Tick(tick))) => self.sweep_rules(&tick.payload, (invocation, ending)).await,
            Some(Ok(Content::Test)) => Ok(vec![RuleEnd::without_sweep(Outcome::of(Status::Accepted), false)]),
            _ => Err(Unusable::event(
                "not-a-schedule",
                "The sweeper answers to schedules and to batches of a Distributed Map; this event is about single objects.",
            )),
        }
    }

    // ------------------------------------------------------------------------------------------ rules

    async fn sweep_rules(
        &self,
        payload: &Value,
        (invocation, ending): (&Invocation, Ending),
    ) -> Result<Vec<RuleEnd>, Unusable> {
        let wanted = wanted(payload)?;
        let policy = self.policy().await?;
        let mode = self.mode(&policy);
        let rules: Vec<&Rule> = match &wanted {
            None => policy.rules.iter().collect(),
            Some(name) => vec![known(&policy, name)?],
        };
        let is_whole = rules.len() == policy.rules.len();
        let now = self.clock.now();
        let mut pass = Pass::new(&sweep_id(now, invocation), now);
        if is_whole {
            let found = Pass::interrupted(&self.store, &self.config.audit_bucket, mode, &policy, now).await;
            pass = found.map_err(Unusable::Invocation)?.unwrap_or(pass);
        }
        let sweep_id = pass.sweep_id.clone();
        let request = self.request(&policy, (&sweep_id, pass.started_at), (invocation, ending));
        let mut ends = Vec::with_capacity(rules.len());
        let mut only_failures = true;
        for rule in &rules {
            let started = Instant::now();
            let mut end = if let Some(outcome) = pass.earlier(&rule.id) {
                RuleEnd { is_told: true, ..RuleEnd::without_sweep(outcome, false) }
            } else if self.clock.now() >= request.ending.stop_at {
                let message = "The invocation's time is over; the next one sweeps the rule.";
                RuleEnd::without_sweep(Outcome::skipped(Reason::new("deadline", message)), true)
            } else {
                request.run(rule).await
            };
            end.outcome = named(end.outcome, &sweep_id, rule).took(started.elapsed());
            if !end.goes_on && !end.outcome.is_retryable() {
                pass.note(&rule.id, &end.outcome);
            } else {
                // Who sweeps a rule for long does not keep the others from their turn.
                let is_busy =
                    end.outcome.reason.as_ref().is_some_and(|reason| reason.code == ALREADY_RUNNING);
                only_failures &= end.outcome.is_retryable() || is_busy;
            }
            ends.push(end);
        }
        let untold = rules.iter().zip(&ends).filter(|(_, end)| !end.is_told);
        let untold: Vec<_> = untold.map(|(rule, end)| (*rule, &end.outcome)).collect();
        // Where there is no summary, none says that all is done.
        if !untold.is_empty() && request.summarised.load(Ordering::Relaxed) {
            ending.before(Moment::Note, request.summarise_unbegun(&untold)).await;
        }
        if is_whole {
            pass.left(only_failures, self.clock.now());
            let is_done = pass.done.len() == policy.rules.len();
            let kept = pass.keep(&self.store, &self.config.audit_bucket, mode, &policy, is_done);
            if ending.before(Moment::Note, kept).await.is_none() {
                tracing::warn!("the store does not answer; the next invocation begins with the first rule");
            }
        }
        Ok(ends)
    }

    async fn sweep_batch(
        &self,
        delivery: &Delivery,
        input: &Value,
        (invocation, ending): (&Invocation, Ending),
    ) -> Result<RuleEnd, Unusable> {
        let started = Instant::now();
        let policy = self.policy().await?;
        let Some(name) = input.get("rule") else {
            return Err(Unusable::event(
                "rule-missing",
                "The BatchInput names no rule; expected {\"rule\": \"…\"}.",
            ));
        };
        let rule = known(&policy, name)?;
        let entries = delivery.records.iter().filter_map(|record| match &record.content {
            Ok(Content::Listed(listed)) => Some(ListedEntry {
                key: listed.key.clone(),
                size: listed.size,
                e_tag: listed.e_tag.clone(),
                last_modified: listed.last_modified,
                storage_class: listed.storage_class.clone(),
            }),
            _ => None,
        });
        let entries: Vec<_> = entries.collect();
        let malformed = delivery.records.len() - entries.len();
        let now = self.clock.now();
        let sweep_id = match input.get("sweep_id") {
            None | Some(Value::Null) => sweep_id(now, invocation),
            Some(given) => plain(given).ok_or_else(|| {
                Unusable::event("bad-sweep-id", "The sweep_id of the BatchInput is no text, or an empty one.")
            })?,
        };
        // The day is part of where reports stand, and the time decides what is due; both are those of all attempts.
        let started_at = match input.get("started_at") {
            None | Some(Value::Null) => now,
            Some(given) => given
                .as_str()
                .and_then(|time| time.parse::<Timestamp>().ok())
                .ok_or_else(|| {
                    let message = format!(
                        "The started_at of the BatchInput is {given}; expected a time as RFC 3339 writes it."
                    );
                    Unusable::event("bad-started-at", message)
                })?
                .min(now),
        };
        let request = self.request(&policy, (&sweep_id, started_at), (invocation, ending));
        let mut end = request.run_listed(rule, entries).await;
        end.outcome = named(end.outcome, &sweep_id, rule).took(started.elapsed());
        if malformed > 0 {
            end.outcome = end.outcome.with("malformed", malformed.into());
        }
        Ok(end)
    }

    fn request<'a>(
        &'a self,
        policy: &'a Policy,
        (sweep_id, started_at): (&'a str, Timestamp),
        (invocation, ending): (&'a Invocation, Ending),
    ) -> Request<'a, S, C, D> {
        Request {
            store: &self.store,
            clock: &self.clock,
            cdn: &self.cdn,
            cdn_targets: &policy.cdn,
            progress: &*self.progress,
            audit_bucket: &self.config.audit_bucket,
            mode: self.mode(policy),
            confirmed: &self.config.confirmed,
            request_id: &invocation.request_id,
            token: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            ending,
            deadline: invocation.deadline,
            sweep_id,
            started_at,
            summarised: AtomicBool::new(false),
            sizes: self.sizes,
        }
    }

    // ----------------------------------------------------------------------------------------- policy

    fn mode(&self, policy: &Policy) -> Mode {
        self.config.mode.unwrap_or(policy.mode)
    }

    async fn policy(&self) -> Result<Cow<'_, Policy>, Unusable> {
        let object = match &self.config.policy {
            PolicySource::Inline(policy) => return Ok(Cow::Borrowed(&**policy)),
            PolicySource::Stored(object) => object,
        };
        let text = retrying(async || {
            self.store.get(object, GetOptions::default()).await?.bytes(MAX_POLICY_BYTES).await
        });
        let text = match text.await {
            Ok(text) => text,
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                let message =
                    format!("policy-missing: there is no retention policy at {object}; nothing was swept");
                return Err(Unusable::policy(message));
            }
            Err(error) if error.retry_class() == RetryClass::Retryable => {
                let message = format!("the retention policy at {object} cannot be read now: {error}");
                return Err(Unusable::Invocation(InvocationError { error_type: "Retryable", message }));
            }
            Err(error) => {
                let message =
                    format!("policy-unreadable: the retention policy at {object} cannot be read: {error}");
                return Err(Unusable::policy(message));
            }
        };
        let invalid = |problem: &dyn fmt::Display| {
            Unusable::policy(format!("policy-invalid: {object}: {problem}; nothing was swept"))
        };
        // A letter that is replaced by a sign would make another pattern of it, and what it protects would go.
        let text = str::from_utf8(&text).map_err(|error| {
            invalid(&format_args!("the document is not UTF-8 ({error}); save it as UTF-8"))
        })?;
        let policy = Policy::parse(text, &self.config.audit_bucket).map_err(|error| invalid(&error))?;
        if let Some(rule) = policy.rules.iter().find(|rule| {
            rule.target() == Target::Objects && rule.bucket == object.bucket && rule.covers(&object.key)
        }) {
            let message =
                format!("policy-swept: the rule {} would delete the policy itself, {object}", rule.id);
            return Err(Unusable::policy(message));
        }
        Ok(Cow::Owned(policy))
    }

    // ------------------------------------------------------------------------------------------- seen

    /// Writes the lines and the metrics of an invocation.
    fn tell(&self, ends: &[RuleEnd]) {
        let mut sum = Tally::default();
        let mut failures = 0;
        for RuleEnd { outcome, added, .. } in ends {
            telemetry::record(outcome, Some(added.deleted_bytes));
            if let Some(sweep) = outcome.detail.get("sweep") {
                tracing::info!(
                    rule = sweep["rule"].as_str(),
                    sweep_id = sweep["id"].as_str(),
                    complete = sweep["complete"].as_bool(),
                    scanned = added.scanned,
                    expired = added.expired,
                    deleted = added.deleted,
                    changed = added.changed,
                    held = added.held,
                    errors = added.errors,
                    deleted_bytes = added.deleted_bytes,
                    status = outcome.status.as_str(),
                    duration_ms = outcome.duration_ms,
                    "rule"
                );
            }
            sum.add(added);
            failures += u64::from(outcome.status == Status::Failed);
        }
        let metrics = [
            Metric::count("SweptObjects", sum.deleted),
            Metric { unit: "Bytes", ..Metric::count("SweptBytes", sum.deleted_bytes) },
            Metric::count("SweepErrors", sum.errors + failures),
            Metric {
                unit: "Seconds",
                ..Metric::count("SweepLagSeconds", sum.lag_seconds.unwrap_or_default())
            },
        ];
        telemetry::emit(self.clock.now(), &[("FunctionName", FUNCTION)], &metrics);
    }
}

/// Every outcome names its rule and its sweep, also where none was begun.
fn named(mut outcome: Outcome, sweep_id: &str, rule: &Rule) -> Outcome {
    if !outcome.detail.contains_key("sweep") {
        let sweep = json!({"id": sweep_id, "rule": rule.id, "complete": false});
        outcome = outcome.with("sweep", sweep);
    }
    outcome
}

fn known<'p>(policy: &'p Policy, name: &Value) -> Result<&'p Rule, Unusable> {
    policy.rules.iter().find(|rule| name.as_str() == Some(&*rule.id)).ok_or_else(|| {
        let ids: Vec<_> = policy.rules.iter().map(|rule| rule.id.as_str()).collect();
        Unusable::event("unknown-rule", format!("There is no rule {name}; there are {}.", ids.join(", ")))
    })
}

/// Sorts by time, and tells two of one second apart.
fn sweep_id(now: Timestamp, invocation: &Invocation) -> String {
    let unique: String = invocation.request_id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{}-{unique}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// The rule that is to be swept; `None` for all. What seems to ask for less than everything, and cannot be understood, does
/// not sweep everything.
fn wanted(payload: &Value) -> Result<Option<Value>, Unusable> {
    let bad = |problem: &dyn fmt::Display| {
        let message = format!("{problem}; expected {{}} for all rules, or {{\"rule\": \"…\"}} for one.");
        Unusable::event("bad-sweep-input", message)
    };
    // EventBridge Scheduler writes its detail as text, and a timer may say whatever a person wrote.
    let parsed = match payload.as_str().map(str::trim) {
        Some(text) if text.starts_with('{') => serde_json::from_str(text)
            .map_err(|error| bad(&format_args!("What the event says is not JSON ({error})")))?,
        Some(_) => Value::Null,
        None => payload.clone(),
    };
    let Some(fields) = parsed.as_object() else { return Ok(None) };
    let is_known = |name: &str| name == "rule" || name.eq_ignore_ascii_case("comment");
    if let Some(name) = fields.keys().find(|name| !is_known(name)) {
        return Err(bad(&format_args!("The event asks for {name:?}, which a sweep does not know")));
    }
    Ok(fields.get("rule").filter(|rule| !rule.is_null()).cloned())
}

/// A text as it may become part of a key: with a digest behind it where anything had to go, so that two stay two.
fn plain(given: &Value) -> Option<String> {
    let id = given.as_str().filter(|id| !id.is_empty())?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if id.len() <= 80 && id.bytes().all(is_plain) {
        return Some(id.to_owned());
    }
    let start = id.bytes().filter(|byte| is_plain(*byte)).take(60).map(char::from);
    let digest: String = hex::encode(Sha256::digest(id.as_bytes())).chars().take(16).collect();
    Some(start.chain(['-']).chain(digest.chars()).collect())
}
