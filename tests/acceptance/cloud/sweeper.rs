//! The sweeper end to end: the real binary, many objects, a bad day, and an independent look at the result.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::cloud::{AUDIT, AVATARS, CloudOptions, EXPIRY_SWEEPER, FILES, LocalCloud, POLICY_KEY, UPLOADS};
use harness::lambda::InvocationResult;
use harness::s3::{Fault, FaultRule, PutOptions, When};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::object_ref::ObjectRef;
use shared::store::ObjectStore;

fn ago(hours: i64) -> Timestamp {
    SystemClock.now() - SignedDuration::from_hours(hours)
}

fn put(cloud: &LocalCloud, bucket: &str, key: &str, body: &str, written: Timestamp) {
    let options = PutOptions { last_modified: Some(written), ..PutOptions::default() };
    cloud.s3.put(bucket, key, body.to_owned(), options).unwrap();
}

fn policy(cloud: &LocalCloud, policy: &Value) {
    put(cloud, AUDIT, POLICY_KEY, &policy.to_string(), SystemClock.now());
}

fn schedule() -> Value {
    serde_json::from_str(include_str!("../../../events/eventbridge-schedule.json")).unwrap()
}

/// The rows of every report in the audit bucket, as maps from column to cell.
fn rows(cloud: &LocalCloud) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    for key in cloud.s3.keys(AUDIT).iter().filter(|key| key.starts_with("sweeps/") && key.ends_with(".csv")) {
        if key.contains(".plan.") || key.contains(".missing.") {
            continue;
        }
        let body = cloud.s3.object(AUDIT, key).unwrap().body.bytes();
        let mut reader = csv::Reader::from_reader(&body[..]);
        rows.extend(reader.deserialize().map(|row| row.unwrap()));
    }
    rows
}

fn statuses(result: &InvocationResult) -> Vec<(String, String)> {
    let answer = result.ok().unwrap_or_else(|| panic!("{:?}", result.error()));
    let text = |outcome: &Value, pointer: &str| {
        outcome.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let outcomes = answer["outcomes"].as_array().unwrap().iter();
    outcomes.map(|outcome| (text(outcome, "/sweep/rule"), text(outcome, "/status"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_touches_nothing_but_its_report_and_an_apply_what_was_planned() {
    let cloud = LocalCloud::start(CloudOptions::default()).await.unwrap();
    for n in 0..30 {
        put(&cloud, FILES, &format!("tempcato/{n:02}"), "x", ago(if n % 3 == 0 { 48 } else { 1 }));
    }
    put(&cloud, FILES, "other/old", "x", ago(9000));
    let rules = json!([{"id": "temp", "bucket": FILES, "prefix": "tempcato/", "expire_after": "24h"}]);
    policy(&cloud, &json!({"version": 1, "rules": rules}));
    cloud.s3.take_requests();
    let result = cloud.function(EXPIRY_SWEEPER).invoke(schedule()).await;
    assert_eq!(statuses(&result), [("temp".to_owned(), "planned".to_owned())]);
    assert_eq!(cloud.s3.keys(FILES).len(), 31);
    for request in cloud.s3.take_requests() {
        let writes = ["Put", "Delete", "Copy", "Create", "Upload", "Complete"];
        let is_write = writes.iter().any(|verb| request.operation.starts_with(verb));
        assert!(!is_write || request.bucket == AUDIT, "{request:?}");
    }
    let planned: BTreeSet<_> =
        rows(&cloud).iter().map(|row| (row["key"].clone(), row["result"].clone())).collect();
    assert_eq!(planned.len(), 10);
    assert!(planned.iter().all(|(_, result)| result == "planned"));

    policy(&cloud, &json!({"version": 1, "mode": "apply", "rules": rules}));
    let result = cloud.function(EXPIRY_SWEEPER).invoke(schedule()).await;
    assert_eq!(statuses(&result), [("temp".to_owned(), "swept".to_owned())]);
    assert_eq!(result.ok().unwrap()["complete"], true);
    assert_eq!(cloud.s3.keys(FILES).len(), 21);
    let deleted = rows(&cloud).iter().filter(|row| row["result"] == "deleted").count();
    assert_eq!(deleted, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_wrong_ends_before_the_first_delete() {
    let cloud = LocalCloud::start(CloudOptions::default()).await.unwrap();
    put(&cloud, FILES, "tempcato/a", "x", ago(48));
    for (document, part) in [
        (None, "policy-missing"),
        (Some("{".to_owned()), "not JSON"),
        (Some(json!({"version": 1, "rules": [{"id": "a", "bucket": FILES, "prefix": "", "expire_after": "1h"}]}).to_string()), "whole_bucket"),
        (Some(json!({"version": 1, "rules": [{"id": "a", "prefix": "a/", "expire_after": "-1h"}]}).to_string()), "rules[0].bucket"),
        (Some(json!({"version": 1, "rules": [{"id": "a", "bucket": AUDIT, "whole_bucket": true, "expire_after": "1h"}]}).to_string()), "audit"),
    ] {
        cloud.s3.delete(AUDIT, POLICY_KEY);
        if let Some(text) = document {
            put(&cloud, AUDIT, POLICY_KEY, &text, SystemClock.now());
        }
        let result = cloud.function(EXPIRY_SWEEPER).invoke(schedule()).await;
        let error = result.error().unwrap_or_else(|| panic!("{part}: {result:?}"));
        assert!(error.contains(part), "{part} is not in {error}");
        assert_eq!(cloud.s3.keys(FILES), ["tempcato/a"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_that_are_missing_empty_or_stale_never_make_orphans_of_everything() {
    let cloud = LocalCloud::start(CloudOptions::default()).await.unwrap();
    for n in 0..5 {
        put(&cloud, AVATARS, &format!("u/{n}.webp"), "x", ago(900));
    }
    let rule = json!({
        "id": "orphans", "bucket": AVATARS, "prefix": "u/", "unreferenced_in": format!("s3://{AUDIT}/references.txt"),
        "grace": "7d", "references_max_age": "24h",
    });
    policy(
        &cloud,
        &json!({"version": 1, "mode": "apply", "limits": {"max_delete_ratio": 1.0}, "rules": [rule]}),
    );
    let sweep = async || cloud.function(EXPIRY_SWEEPER).invoke(schedule()).await;
    assert_eq!(statuses(&sweep().await)[0].1, "failed");
    put(&cloud, AUDIT, "references.txt", "", SystemClock.now());
    assert_eq!(statuses(&sweep().await)[0].1, "failed");
    put(&cloud, AUDIT, "references.txt", "u/1.webp\n", ago(25));
    assert_eq!(statuses(&sweep().await)[0].1, "failed");
    assert_eq!(cloud.s3.keys(AVATARS).len(), 5);
    // Unsorted, and fresh at last; the last line names what is not there.
    put(&cloud, AUDIT, "references.txt", "u/3.webp\nu/1.webp\nu/9.webp\n", SystemClock.now());
    let result = sweep().await;
    assert_eq!(statuses(&result)[0].1, "swept", "{:?}", result.ok());
    assert_eq!(cloud.s3.keys(AVATARS), ["u/1.webp", "u/3.webp"]);
    assert_eq!(result.ok().unwrap()["outcomes"][0]["sweep"]["missing_references"], 1);
}

/// What the bad day is about: how many objects in each of the places.
const PER_RULE: usize = 66_000;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_objects_on_a_bad_day() {
    // The validator would take what the other client writes for uploads without a ticket.
    let options =
        CloudOptions { sweep_timeout: Duration::from_secs(14), notifies: false, ..CloudOptions::default() };
    let cloud = Arc::new(LocalCloud::start(options).await.unwrap());
    let (mut expired, mut live) = (BTreeSet::new(), BTreeSet::new());
    let mut add = |bucket: &str, key: String, is_expired: bool, hours: i64| {
        put(&cloud, bucket, &key, "old", ago(hours));
        if is_expired { &mut expired } else { &mut live }.insert((bucket.to_owned(), key));
    };
    let mut references = GzEncoder::new(Vec::new(), Compression::fast());
    for n in 0..PER_RULE {
        let due = n % 3 != 0;
        add(FILES, format!("tempcato/{n:06} ä"), due, if due { 25 } else { 23 });
        add(UPLOADS, format!("u/{n:06}.png"), due, if due { 24 * 8 } else { 24 * 6 });
        add(AVATARS, format!("u/{n:06}.webp"), due, 24 * 30);
        if !due {
            writeln!(references, "u/{n:06}.webp").unwrap();
        }
    }
    for n in 0..2_000 {
        let due = n % 2 == 0;
        add(FILES, format!("share/{n:04}"), due, if due { 24 * 31 } else { 24 });
    }
    add(FILES, "kept/precious".to_owned(), false, 9_000);
    let gz = references.finish().unwrap();
    cloud.s3.put(AUDIT, "references.gz", gz, PutOptions::default()).unwrap();
    for n in 0..20 {
        let object = ObjectRef::new(FILES, format!("parts/{n}"));
        let id = cloud.client().create_upload(&object, Default::default()).await.unwrap();
        let hours = if n % 2 == 0 { 48 } else { 1 };
        assert!(cloud.s3.set_initiated(FILES, &object.key, &id, ago(hours)));
    }
    policy(
        &cloud,
        &json!({
            "version": 1, "mode": "apply", "limits": {"max_deletes": 1_000_000, "max_delete_ratio": 0.9},
            "rules": [
                {"id": "temp-catalog", "bucket": FILES, "prefix": "tempcato/", "expire_after": "24h"},
                {"id": "per-object", "bucket": FILES, "prefix": "share/", "expires_at": "metadata", "expire_after": "30d"},
                {"id": "orphans", "bucket": AVATARS, "prefix": "u/", "unreferenced_in": format!("s3://{AUDIT}/references.gz"), "grace": "7d"},
                {"id": "originals", "bucket": UPLOADS, "whole_bucket": true, "expire_after": "7d"},
                {"id": "multipart", "bucket": FILES, "abort_multipart_after": "24h"},
            ],
        }),
    );

    // The bad day.
    let hit = |fault, operation: Option<&str>, probability| {
        let rule = FaultRule::new(fault).principal(EXPIRY_SWEEPER);
        let rule = match operation {
            Some(operation) => rule.operation(operation),
            None => rule,
        };
        cloud.s3.inject(FaultRule { when: When::Probability(probability), ..rule });
    };
    hit(Fault::Throttle, None, 0.05);
    hit(Fault::ErrorInside200, Some("DeleteObjects"), 0.02);
    // So many that the SDK's own attempts come to an end.
    hit(Fault::CloseAfterEffect, Some("DeleteObjects"), 0.08);
    let replaced = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let over = Arc::new(AtomicBool::new(false));
    let replacer = tokio::spawn({
        let (cloud, over, replaced) = (cloud.clone(), over.clone(), replaced.clone());
        let keys: Vec<_> = expired.iter().filter(|(bucket, _)| bucket != AVATARS).cloned().collect();
        async move {
            while !over.load(Ordering::Relaxed) {
                let (bucket, key) = &keys[fastrand::usize(..keys.len())];
                let object = ObjectRef::new(&**bucket, &**key);
                let put =
                    cloud.client().put(&object, bytes::Bytes::from_static(b"new"), Default::default()).await;
                if put.is_ok() {
                    replaced.lock().unwrap().insert((bucket.clone(), key.clone()));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });

    let function = cloud.function(EXPIRY_SWEEPER);
    let (mut peaks, mut killed, mut invocations) = (Vec::new(), 0, 0);
    let mut last = None;
    while invocations < 120 {
        invocations += 1;
        if invocations == 3 || invocations == 6 {
            // The machine dies: nothing is said, nothing is released.
            let _ = tokio::time::timeout(Duration::from_millis(2_500), function.invoke(schedule())).await;
            killed += 1;
            continue;
        }
        let result = function.invoke(schedule()).await;
        peaks.extend(result.peak_rss_bytes);
        if result.ok().is_some_and(|answer| answer["complete"] == true) {
            let failed = statuses(&result).iter().any(|(_, status)| status == "failed");
            last = Some(result);
            if !failed {
                break;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    replacer.await.unwrap();
    let last = last.expect("the sweep came to its end");
    let replaced = std::mem::take(&mut *replaced.lock().unwrap());
    println!(
        "{invocations} invocations, {killed} of them killed; {} objects replaced meanwhile; peaks in bytes {peaks:?}",
        replaced.len()
    );

    // The independent look.
    let standing: BTreeSet<_> = [FILES, UPLOADS, AVATARS]
        .iter()
        .flat_map(|bucket| cloud.s3.keys(bucket).into_iter().map(|key| ((*bucket).to_owned(), key)))
        .collect();
    let lost: Vec<_> = live.union(&replaced).filter(|object| !standing.contains(object)).collect();
    assert!(lost.is_empty(), "lost: {} such as {:?}", lost.len(), lost.first());
    for (bucket, key) in &replaced {
        assert_eq!(cloud.s3.object(bucket, key).unwrap().body.bytes(), "new", "{key}");
    }
    let left: Vec<_> = expired.difference(&replaced).filter(|object| standing.contains(object)).collect();
    assert!(left.is_empty(), "left: {} such as {:?}; {:?}", left.len(), left.first(), last.ok());
    let mut reported = BTreeMap::new();
    for row in rows(&cloud).iter().filter(|row| row["result"] == "deleted" && row["rule"] != "multipart") {
        *reported.entry((row["bucket"].clone(), row["key"].clone())).or_insert(0) += 1;
    }
    let amiss: Vec<_> = expired
        .difference(&replaced)
        .filter_map(|object| match reported.get(object).copied().unwrap_or_default() {
            1 => None,
            count => Some((object, count)),
        })
        .collect();
    if let (Some(first), Some(last)) = (amiss.first(), amiss.last()) {
        // What else there is to know, since it is rare and cannot be had again.
        let of_those = |row: &&BTreeMap<String, String>| amiss.iter().any(|((_, key), _)| *key == row["key"]);
        let rows = rows(&cloud);
        let others: Vec<_> = rows.iter().filter(of_those).take(5).collect();
        let audit: Vec<_> = cloud.s3.keys(AUDIT);
        panic!("{} not reported once, from {first:?} to {last:?}; rows: {others:?}; {audit:?}", amiss.len());
    }
    assert!(reported.keys().all(|object| expired.contains(object)), "something live stands in the reports");
    assert!(reported.values().all(|count| *count == 1));
    assert_eq!(cloud.s3.uploads(FILES).len(), 10);
    // Constant memory: whatever the number of objects, and however many invocations.
    let most = peaks.iter().max().copied().unwrap_or_default();
    assert!(most < 48 << 20, "{peaks:?} bytes");
}
