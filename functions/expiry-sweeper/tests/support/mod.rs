//! A bucket with a past, and an independent look at what a sweep left of it.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod hooked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::env::Environment;
use shared::object_ref::ObjectRef;
use shared::runtime::{Invocation, InvocationError};
use shared::store::{GetOptions, ListOptions, MemoryStore, Metadata, ObjectStore, PutOptions, Tags};

use expiry_sweeper::cdn::RecordingCdn;
use expiry_sweeper::config::Config;
use expiry_sweeper::handler::{Deps, handle};

/// When the tests begin.
pub(crate) const START: &str = "2026-11-01T00:00:00Z";
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A clock that tests set, and that moves on a little whenever it is asked, if so told.
#[derive(Debug, Clone)]
pub(crate) struct TestClock {
    millisecond: Arc<AtomicI64>,
    step: i64,
}

impl Default for TestClock {
    fn default() -> Self {
        let start = START.parse::<Timestamp>().unwrap().as_millisecond();
        Self { millisecond: Arc::new(AtomicI64::new(start)), step: 0 }
    }
}

impl TestClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.millisecond.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn advance_by(&self, milliseconds: i64) {
        self.millisecond.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// The same time, which moves on by `milliseconds` with each question.
    pub(crate) fn stepping(&self, milliseconds: i64) -> Self {
        Self { millisecond: self.millisecond.clone(), step: milliseconds }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.millisecond.fetch_add(self.step, Ordering::SeqCst)).unwrap()
    }
}

/// A store and its clock.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) store: MemoryStore,
}

impl World {
    /// The buckets `files` and `audit`.
    pub(crate) fn new() -> Self {
        let clock = TestClock::default();
        let store = MemoryStore::with_clock(clock.clone()).with_bucket("files").with_bucket("audit");
        Self { clock, store }
    }

    pub(crate) async fn put(&self, key: &str, content: &str) -> String {
        self.put_with(key, content, &[], &[]).await
    }

    pub(crate) async fn put_with(
        &self,
        key: &str,
        content: &str,
        metadata: &[(&str, &str)],
        tags: &[(&str, &str)],
    ) -> String {
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (metadata, tags): (Metadata, Tags) = (pairs(metadata), pairs(tags));
        let options = PutOptions { metadata, tags, ..PutOptions::default() };
        let body = Bytes::from(content.to_owned());
        self.store.put(&ObjectRef::new("files", key), body, options).await.unwrap().e_tag.to_string()
    }

    /// `count` objects under `prefix`, each with its own content.
    pub(crate) async fn fill(&self, prefix: &str, count: usize) {
        for n in 0..count {
            self.put(&format!("{prefix}{n:06}"), &format!("{prefix}{n}")).await;
        }
    }

    pub(crate) async fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
        let mut keys = Vec::new();
        loop {
            let page = self.store.list(bucket, options.clone()).await.unwrap();
            keys.extend(page.objects.into_iter().map(|entry| entry.key));
            options.continuation = page.continuation;
            if options.continuation.is_none() {
                return keys;
            }
        }
    }

    pub(crate) async fn read(&self, bucket: &str, key: &str) -> String {
        let found = self.store.get(&ObjectRef::new(bucket, key), GetOptions::default()).await.unwrap();
        String::from_utf8(found.bytes(1 << 30).await.unwrap().to_vec()).unwrap()
    }

    /// Every row of every report, by the names of its columns.
    pub(crate) async fn rows(&self) -> Vec<BTreeMap<String, String>> {
        let mut rows = Vec::new();
        for key in self.keys("audit", "sweeps/").await {
            if key.ends_with(".csv") && !key.contains(".plan") {
                rows.extend(rows_of(&self.read("audit", &key).await));
            }
        }
        rows
    }

    /// The keys that the reports call `result`, as often as they do.
    pub(crate) async fn reported(&self, result: &str) -> Vec<String> {
        let rows = self.rows().await.into_iter();
        let mut keys: Vec<_> =
            rows.filter(|row| row["result"] == result).map(|row| row["key"].clone()).collect();
        keys.sort();
        keys
    }

    /// Holds what is left against what was there: all of `expired` is gone, all of `live` stands, and every
    /// key that is gone is reported as deleted exactly once.
    pub(crate) async fn check(&self, expired: &[String], live: &[String]) {
        let left: BTreeSet<_> = self.keys("files", "").await.into_iter().collect();
        let not_gone: Vec<_> = expired.iter().filter(|key| left.contains(*key)).take(3).collect();
        assert!(not_gone.is_empty(), "expired and not gone: {not_gone:?}");
        let lost: Vec<_> = live.iter().filter(|key| !left.contains(*key)).take(3).collect();
        assert!(lost.is_empty(), "live and gone: {lost:?}");
        let mut expected = expired.to_vec();
        expected.sort();
        let reported = self.reported("deleted").await;
        let differs = reported.iter().zip(&expected).find(|(a, b)| a != b);
        assert_eq!((reported.len(), differs), (expected.len(), None), "deleted exactly once in the reports");
    }
}

pub(crate) fn rows_of(report: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(report.as_bytes());
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

pub(crate) fn config(variables: &[(&str, &str)]) -> Config {
    let mut environment: Environment =
        [("AUDIT_BUCKET", "audit")].into_iter().chain(variables.iter().copied()).collect();
    let config = Config::read(&mut environment);
    environment.finish(config).unwrap()
}

/// A policy with these rules, in mode `apply`.
pub(crate) fn policy(rules: &Value) -> String {
    json!({"version": 1, "mode": "apply", "rules": rules}).to_string()
}

/// A rule on `a/` in `files`: objects go after a day.
pub(crate) fn daily() -> Value {
    rule(&json!({"expire_after": "1d"}))
}

/// A rule on `a/` in `files` with these fields.
pub(crate) fn rule(fields: &Value) -> Value {
    let mut rule = json!({"id": "temp", "bucket": "files", "prefix": "a/"});
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    rule
}

/// One invocation of `seconds` at the most.
pub(crate) async fn invoke<S: ObjectStore>(
    store: S,
    clock: &TestClock,
    variables: &[(&str, &str)],
    event: &Value,
    seconds: i64,
) -> Result<Value, InvocationError> {
    let deadline = clock.stepping(0).now() + jiff::SignedDuration::from_secs(seconds);
    let invocation = Invocation { request_id: format!("{:032x}", fastrand::u128(..)), deadline };
    let deps = Deps::new(store, clock.clone(), RecordingCdn::default(), config(variables));
    Box::pin(handle(&deps, event, &invocation)).await
}

/// One sweep of all rules, with time enough.
pub(crate) async fn sweep(world: &World, rules: &Value) -> Value {
    sweep_in(world, world.store.clone(), rules).await
}

/// The same over another store.
pub(crate) async fn sweep_in<S: ObjectStore>(world: &World, store: S, rules: &Value) -> Value {
    let policy = policy(rules);
    invoke(store, &world.clock, &[("SWEEP_POLICY", &policy)], &json!({}), 900).await.unwrap()
}
