//! Faults on demand: what a store does to its clients on a bad day.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use globset::GlobMatcher;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503 `SlowDown`; nothing is done.
    Throttle,
    /// 500 `InternalError`; nothing is done.
    ServerError,
    /// 403 `AccessDenied`; nothing is done.
    AccessDenied,
    /// 400 `ExpiredToken`, or as OSS says it 403 `SecurityTokenExpired`; nothing is done.
    ExpiredToken,
    /// 409 `ConditionalRequestConflict`, as two conditional writes that meet; nothing is done.
    Conflict,
    /// The connection is closed without an answer; nothing is done.
    CloseBeforeEffect,
    /// The connection stays silent until the client gives up; nothing is done.
    HangBeforeEffect,
    /// What was asked is done, and the connection is closed without an answer.
    CloseAfterEffect,
    /// What was asked is done, and the connection stays silent until the client gives up.
    HangAfterEffect,
    /// 200 with an error in the body; nothing is done. In DeleteObjects every key that matches the rule
    /// gets an error of its own, and the other keys are deleted.
    ErrorInside200,
    /// The answer's body ends half-way and the connection is closed.
    TruncatedBody,
    /// The call waits this long and then goes on as usual.
    Delay(Duration),
}

/// Which of the calls that a rule fits are hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// The first n.
    First(u64),
    /// Only the nth, counted from 1.
    Nth(u64),
    /// All from the nth on, counted from 1.
    From(u64),
    /// Each with this probability, 0 to 1, as the server's seed has it.
    Probability(f64),
}

/// A fault, and which calls it hits. An empty rule fits every call.
#[derive(Debug, Clone)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// S3's name of the operation, such as `PutObject`.
    pub operation: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// A pattern for the key; `*` also stands for `/`.
    pub key: Option<GlobMatcher>,
    /// The access key's id.
    pub principal: Option<String>,
    /// Which of the calls that fit.
    pub when: When,
}

impl FaultRule {
    /// A rule that hits every call.
    pub fn new(fault: Fault) -> Self {
        Self { fault, operation: None, bucket: None, key: None, principal: None, when: When::Always }
    }

    /// Only calls of this operation, such as `PutObject`.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Only calls to this bucket.
    #[must_use]
    pub fn bucket(mut self, bucket: impl Into<String>) -> Self {
        self.bucket = Some(bucket.into());
        self
    }

    /// Only calls whose key fits a pattern such as `users/*`.
    ///
    /// # Errors
    /// Where the pattern is none.
    pub fn key(mut self, pattern: &str) -> Result<Self, globset::Error> {
        self.key = Some(globset::Glob::new(pattern)?.compile_matcher());
        Ok(self)
    }

    /// Only calls that this access key signed.
    #[must_use]
    pub fn principal(mut self, access_key_id: impl Into<String>) -> Self {
        self.principal = Some(access_key_id.into());
        self
    }

    /// Only these of the calls that fit.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    fn fits(&self, call: &Target<'_>) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&self.operation, call.operation)
            && same(&self.bucket, call.bucket)
            && same(&self.principal, call.principal)
            && self.key.as_ref().is_none_or(|key| call.key.is_some_and(|is| key.is_match(is)))
    }

    /// Whether the rule is about keys within a batch, which have their own answers.
    fn is_per_key(&self) -> bool {
        self.fault == Fault::ErrorInside200
    }
}

/// A call, as far as a rule looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) operation: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) principal: &'a str,
}

/// Names a rule, to take it back or to ask how often it hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Entry {
    id: FaultId,
    rule: FaultRule,
    seen: u64,
    hits: u64,
}

#[derive(Debug)]
struct State {
    rules: Vec<Entry>,
    gone: HashMap<FaultId, u64>,
    next_id: u64,
    random: fastrand::Rng,
}

/// The rules of a server. The first one that hits decides.
#[derive(Debug)]
pub(super) struct Faults(Mutex<State>);

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self(Mutex::new(State { rules: Vec::new(), gone: HashMap::new(), next_id: 0, random }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, rule: FaultRule) -> FaultId {
        let mut state = self.lock();
        let id = FaultId(state.next_id);
        state.next_id += 1;
        state.rules.push(Entry { id, rule, seen: 0, hits: 0 });
        id
    }

    pub(super) fn remove(&self, id: FaultId) {
        let mut state = self.lock();
        if let Some(at) = state.rules.iter().position(|entry| entry.id == id) {
            let entry = state.rules.remove(at);
            state.gone.insert(id, entry.hits);
        }
    }

    pub(super) fn clear(&self) {
        let ids: Vec<_> = self.lock().rules.iter().map(|entry| entry.id).collect();
        ids.into_iter().for_each(|id| self.remove(id));
    }

    pub(super) fn hits(&self, id: FaultId) -> u64 {
        let state = self.lock();
        let here = state.rules.iter().find(|entry| entry.id == id).map(|entry| entry.hits);
        here.or_else(|| state.gone.get(&id).copied()).unwrap_or_default()
    }

    /// The fault that hits the call as a whole.
    pub(super) fn strike(&self, call: &Target<'_>) -> Option<Fault> {
        let is_batch = call.operation == "DeleteObjects";
        self.first(call, |rule| !(is_batch && rule.is_per_key()))
    }

    /// Whether a key within a batch gets an error of its own.
    pub(super) fn strikes_key(&self, call: &Target<'_>) -> bool {
        self.first(call, FaultRule::is_per_key).is_some()
    }

    fn first(&self, call: &Target<'_>, concerns: impl Fn(&FaultRule) -> bool) -> Option<Fault> {
        let state = &mut *self.lock();
        for entry in &mut state.rules {
            if !concerns(&entry.rule) || !entry.rule.fits(call) {
                continue;
            }
            entry.seen += 1;
            let hit = match entry.rule.when {
                When::Always => true,
                When::First(n) => entry.seen <= n,
                When::Nth(n) => entry.seen == n,
                When::From(n) => entry.seen >= n,
                When::Probability(p) => state.random.f64() < p,
            };
            if hit {
                entry.hits += 1;
                return Some(entry.rule.fault);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Target<'_> {
        Target { operation: "PutObject", bucket: "b", key: Some(key), principal: "test" }
    }

    #[test]
    fn a_rule_hits_what_it_names() {
        let faults = Faults::new(0);
        let rule = FaultRule::new(Fault::Throttle).operation("PutObject").key("users/*").unwrap();
        let id = faults.add(rule.when(When::Nth(2)));
        assert_eq!(faults.strike(&put("other")), None);
        assert_eq!(faults.strike(&put("users/1")), None);
        assert_eq!(faults.strike(&put("users/a/b")), Some(Fault::Throttle));
        assert_eq!(faults.strike(&put("users/1")), None);
        assert_eq!(faults.hits(id), 1);
        faults.clear();
        assert_eq!(faults.hits(id), 1);
    }

    #[test]
    fn the_same_seed_hits_the_same_calls() {
        let run = |seed| {
            let faults = Faults::new(seed);
            faults.add(FaultRule::new(Fault::ServerError).when(When::Probability(0.5)));
            (0..64).map(|_| faults.strike(&put("k")).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).contains(&true) && run(7).contains(&false));
    }

    #[test]
    fn an_error_inside_a_batch_is_about_its_keys() {
        let faults = Faults::new(0);
        faults.add(FaultRule::new(Fault::ErrorInside200).operation("DeleteObjects").key("b*").unwrap());
        let call = Target { operation: "DeleteObjects", bucket: "b", key: None, principal: "test" };
        assert_eq!(faults.strike(&call), None);
        assert!(faults.strikes_key(&Target { key: Some("b1"), ..call }));
        assert!(!faults.strikes_key(&Target { key: Some("a1"), ..call }));
    }
}
