//! The sweeper over a store in memory: what goes, what stays, and what the reports say.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use expiry_sweeper::cdn::RecordingCdn;
use expiry_sweeper::handler::{Deps, handle};
use expiry_sweeper::lease::{self, Acquisition, Claim};
use futures::FutureExt;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{Call, ObjectStore, Operation, PutOptions, RecordingStore};
use support::hooked::{Hook, Hooked};
use support::*;

fn keys(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{prefix}{n:06}")).collect()
}

// ------------------------------------------------------------------------------------------------ what goes

#[tokio::test]
async fn what_is_old_goes_and_what_is_young_or_of_another_prefix_stays() {
    let world = World::new();
    world.fill("a/old/", 2500).await;
    world.fill("b/", 3).await;
    world.clock.advance(DAY);
    world.fill("a/young/", 5).await;
    world.clock.advance(1);
    let answer = sweep(&world, &json!([daily()])).await;
    world.check(&keys("a/old/", 0..2500), &[keys("a/young/", 0..5), keys("b/", 0..3)].concat()).await;
    assert_eq!(answer["complete"], true);
    let outcome = &answer["outcomes"][0];
    assert_eq!(outcome["status"], "swept", "{outcome}");
    let sweep = &outcome["sweep"];
    for (name, expected) in
        [("scanned", 2505), ("expired", 2500), ("deleted", 2500), ("changed", 0), ("errors", 0)]
    {
        assert_eq!(sweep[name], expected, "{name}");
    }
    assert_eq!((&sweep["rule"], &sweep["complete"]), (&json!("temp"), &json!(true)));
    let bytes: usize = (0..2500).map(|n| format!("a/old/{n}").len()).sum();
    assert_eq!(sweep["deleted_bytes"], bytes);
    let id = sweep["id"].as_str().unwrap();
    assert_eq!(sweep["report"], format!("s3://audit/sweeps/2026-11-02/{id}/temp.csv"));
    let summary: Value =
        serde_json::from_str(&world.read("audit", &format!("sweeps/2026-11-02/{id}/summary.json")).await)
            .unwrap();
    assert_eq!((&summary["complete"], &summary["rules"][0]["deleted"]), (&json!(true), &json!(2500)));
}

#[tokio::test]
async fn a_row_says_what_went_when_and_why() {
    let world = World::new();
    let e_tag = world.put("a/=cmd()", "hello").await;
    world.clock.advance(2 * DAY);
    let answer = sweep(&world, &json!([daily()])).await;
    let rows = world.rows().await;
    let row = &rows[0];
    let id = answer["outcomes"][0]["sweep"]["id"].as_str().unwrap();
    for (name, expected) in [
        ("sweep_id", id),
        ("rule", "temp"),
        ("bucket", "files"),
        ("key", "a/=cmd()"),
        ("version_id", ""),
        ("e_tag", &e_tag),
        ("size_bytes", "5"),
        ("last_modified", "2026-11-01T00:00:00Z"),
        ("expired_at", "2026-11-02T00:00:00Z"),
        ("reason", "age"),
        ("action", "delete"),
        ("result", "deleted"),
        ("error", ""),
        ("deleted_at", "2026-11-03T00:00:00Z"),
    ] {
        assert_eq!(row[name], expected, "{name}");
    }
}

#[tokio::test]
async fn a_thousand_deletes_cost_about_one_listing_and_one_batch_and_a_fixed_rest() {
    let world = World::new();
    world.fill("a/", 40_000).await;
    world.clock.advance(DAY);
    let store = Arc::new(RecordingStore::new(world.store.clone()));
    sweep_in(&world, store.clone(), &json!([daily()])).await;
    // A page more for each place at which the listing is split.
    let lists = store.count(Operation::List);
    assert!((40..=60).contains(&lists), "{lists} pages");
    // The first and the last few thousand go in smaller batches, side by side.
    let is_delete = |call: &&Call| call.operation == Operation::DeleteBatch && call.bucket == "files";
    let deletes = store.calls().iter().filter(is_delete).count();
    assert!((40..=75).contains(&deletes), "{deletes} batches");
    let rest = store.calls().len() - lists - deletes;
    // Two for each object of the plan, which has several thousand rows, and what a sweep costs once.
    assert!(rest <= 30, "{rest} other requests: {:?}", store.operations());
    assert!(!store.calls().iter().any(|call| call.bucket == "files" && call.operation == Operation::Head));
}

// --------------------------------------------------------------------------------------------------- plan

#[tokio::test]
async fn a_plan_is_the_default_and_writes_nothing_but_its_report() {
    let world = World::new();
    world.fill("a/", 1500).await;
    world.clock.advance(DAY);
    let policy = json!({"version": 1, "rules": [daily()]}).to_string();
    let store = Arc::new(RecordingStore::new(world.store.clone()));
    let answer =
        invoke(store.clone(), &world.clock, &[("SWEEP_POLICY", &policy)], &json!({}), 900).await.unwrap();
    assert_eq!((&answer["outcomes"][0]["status"], &answer["complete"]), (&json!("planned"), &json!(true)));
    assert_eq!(answer["outcomes"][0]["sweep"]["expired"], 1500);
    assert_eq!(world.keys("files", "").await.len(), 1500);
    assert_eq!(world.reported("planned").await, keys("a/", 0..1500));
    let id = answer["outcomes"][0]["sweep"]["id"].as_str().unwrap();
    let folder = format!("sweeps/2026-11-02/{id}/");
    let written = world.keys("audit", "").await;
    assert_eq!(written, [format!("{folder}summary.json"), format!("{folder}temp.csv")]);
    for operation in [Operation::Delete, Operation::DeleteBatch, Operation::Copy, Operation::PutTags] {
        assert_eq!(store.count(operation), 0, "{operation}");
    }
}

// --------------------------------------------------------------------------------------------- what stays

/// Replaces `key` by other content when the first batch is about to be deleted.
fn replacing(world: &World, key: &str, content: &'static str) -> Hooked {
    let (store, key, done) = (world.store.clone(), key.to_owned(), AtomicBool::new(false));
    Hooked::new(world.store.clone(), move |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket == "files";
        if is_delete && !done.swap(true, Ordering::SeqCst) {
            let object = ObjectRef::new("files", &*key);
            let put = store.put(&object, Bytes::from_static(content.as_bytes()), PutOptions::default());
            put.now_or_never().unwrap().unwrap();
        }
        Hook::Go
    })
}

#[tokio::test]
async fn what_is_replaced_between_listing_and_deleting_is_kept() {
    let world = World::new();
    world.fill("a/", 10).await;
    world.clock.advance(DAY);
    let answer = sweep_in(&world, replacing(&world, "a/000003", "fresh"), &json!([daily()])).await;
    assert_eq!(world.keys("files", "").await, ["a/000003"]);
    assert_eq!(world.read("files", "a/000003").await, "fresh");
    let sweep = &answer["outcomes"][0]["sweep"];
    assert_eq!((&sweep["deleted"], &sweep["changed"]), (&json!(9), &json!(1)));
    assert_eq!(world.reported("changed").await, ["a/000003"]);
    assert_eq!(answer["outcomes"][0]["status"], "swept");
}

#[tokio::test]
async fn without_conditions_each_object_is_looked_at_just_before() {
    let world = World::new();
    world.fill("a/", 10).await;
    world.clock.advance(DAY);
    let (store, done) = (world.store.clone(), AtomicBool::new(false));
    let hooked = Hooked::new(world.store.clone(), move |call| {
        if call.operation == Operation::Head && call.bucket == "files" && !done.swap(true, Ordering::SeqCst) {
            let object = ObjectRef::new("files", "a/000003");
            let put = store.put(&object, Bytes::from_static(b"fresh"), PutOptions::default());
            put.now_or_never().unwrap().unwrap();
        }
        Hook::Go
    });
    let answer = sweep_in(&world, hooked.without_conditions(), &json!([daily()])).await;
    assert_eq!(world.keys("files", "").await, ["a/000003"]);
    assert_eq!(answer["outcomes"][0]["sweep"]["changed"], 1);
}

#[tokio::test]
async fn a_rule_that_requires_conditions_refuses_a_store_without() {
    let world = World::new();
    world.fill("a/", 10).await;
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "require_conditional": true}))]);
    let hooked = Hooked::new(world.store.clone(), |_| Hook::Go).without_conditions();
    let answer = sweep_in(&world, hooked, &rules).await;
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "conditional-delete-unsupported");
    // Calling again would not help.
    assert_eq!(answer["complete"], true);
    assert_eq!(world.keys("files", "").await.len(), 10);
}

#[tokio::test]
async fn what_is_held_by_a_tag_or_by_object_lock_is_kept_and_reported() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.put_with("a/tagged", "x", &[], &[("hold", "true"), ("other", "x")]).await;
    world.put_with("a/other", "y", &[], &[("hold", "false")]).await;
    world.store.set_locked(&ObjectRef::new("files", "a/000001"), true).unwrap();
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "hold_tag": "hold=true"}))]);
    let answer = sweep(&world, &rules).await;
    assert_eq!(world.keys("files", "").await, ["a/000001", "a/tagged"]);
    assert_eq!(world.reported("held").await, ["a/000001", "a/tagged"]);
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["sweep"]["held"], &outcome["sweep"]["deleted"]), (&json!(2), &json!(3)));
    assert_eq!(outcome["status"], "swept", "{outcome}");
}

#[tokio::test]
async fn a_lock_is_found_where_the_store_only_says_no() {
    let world = World::new();
    world.fill("a/", 60).await;
    for n in [1, 2, 40] {
        world.store.set_locked(&ObjectRef::new("files", format!("a/{n:06}")), true).unwrap();
    }
    world.clock.advance(DAY);
    let store = Hooked::new(world.store.clone(), |_| Hook::Go).with_silent_locks();
    let answer = sweep_in(&world, store, &json!([rule(&json!({"expire_after": "1d"}))])).await;
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["sweep"]["held"], &outcome["sweep"]["errors"]), (&json!(3), &json!(0)), "{outcome}");
    assert_eq!(world.reported("held").await, ["a/000001", "a/000002", "a/000040"]);
    assert_eq!(world.keys("files", "").await, ["a/000001", "a/000002", "a/000040"]);
}

#[tokio::test]
async fn exclusions_and_sizes_limit_a_rule() {
    let world = World::new();
    for (key, content) in
        [("a/1", "1"), ("a/22", "22"), ("a/333", "333"), ("a/keep/x", "22"), ("a/x.keep", "22"), ("ab", "22")]
    {
        world.put(key, content).await;
    }
    world.clock.advance(DAY);
    let fields =
        json!({"expire_after": "1d", "min_size": 2, "max_size": 2, "exclude": ["a/keep/**", "a/*.keep"]});
    sweep(&world, &json!([rule(&fields)])).await;
    assert_eq!(world.keys("files", "").await, ["a/1", "a/333", "a/keep/x", "a/x.keep", "ab"]);
}

#[tokio::test]
async fn an_object_goes_at_the_time_that_its_metadata_its_ticket_or_its_tag_names() {
    let world = World::new();
    let ticket = |claims: &Value| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let start = world.clock.now().as_second();
    let soon = ticket(&json!({"sub": "a/t", "expires_at": start + HOUR}));
    let late = ticket(&json!({"sub": "a/t", "expires_at": start + 9 * DAY}));
    for (key, metadata) in [
        ("a/dated", [("expires-at", "2026-11-01T06:00:00Z")]),
        ("a/late", [("expires-at", "2027-01-01T00:00:00Z")]),
        ("a/ttl", [("ttl", "2h")]),
        ("a/ticket", [("ticket", soon.as_str())]),
        ("a/ticket-late", [("ticket", late.as_str())]),
        ("a/unreadable", [("expires-at", "soon")]),
        ("a/nothing", [("other", "1")]),
    ] {
        world.put_with(key, key, &metadata, &[]).await;
    }
    world.put_with("t/tagged", "x", &[], &[("ttl", "1h")]).await;
    world.put_with("t/later", "x", &[], &[("expires-at", "2027-01-01T00:00:00Z")]).await;
    let rules = json!([
        rule(&json!({"expires_at": "metadata", "expire_after": "5d"})),
        {"id": "tags", "bucket": "files", "prefix": "t/", "expires_at": "tag"}
    ]);
    world.clock.advance(12 * HOUR);
    sweep(&world, &rules).await;
    let left = ["a/late", "a/nothing", "a/ticket-late", "a/unreadable", "t/later"];
    assert_eq!(world.keys("files", "").await, left);
    world.clock.advance(5 * DAY);
    sweep(&world, &rules).await;
    assert_eq!(world.keys("files", "").await, ["a/late", "a/ticket-late", "a/unreadable", "t/later"]);
    assert!(world.rows().await.iter().any(|row| row["key"] == "a/nothing" && row["reason"] == "default-age"));
}

#[tokio::test]
async fn a_clock_that_is_behind_the_stores_stops_a_rule() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.clock.advance(2 * DAY);
    world.put("a/future", "x").await;
    world.clock.advance(-HOUR);
    let answer = sweep(&world, &json!([daily()])).await;
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("failed"), &json!("clock-behind")));
    assert_eq!(world.keys("files", "").await.len(), 4);
    world.clock.advance(2 * HOUR);
    sweep(&world, &json!([daily()])).await;
    assert_eq!(world.keys("files", "").await, ["a/future"]);
}

// ------------------------------------------------------------------------------------- uploads and versions

#[tokio::test]
async fn stale_uploads_are_given_up() {
    let world = World::new();
    let begin = async |key: &str| {
        world.store.create_upload(&ObjectRef::new("files", key), PutOptions::default()).await.unwrap()
    };
    for n in 0..5 {
        begin(&format!("a/{n}")).await;
    }
    world.clock.advance(DAY);
    begin("a/young").await;
    let rules = json!([{"id": "multipart", "bucket": "files", "abort_multipart_after": "24h"}]);
    let answer = sweep(&world, &rules).await;
    assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 5);
    let left = world.store.list_uploads("files", "", None).await.unwrap().uploads;
    assert_eq!(left.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), ["a/young"]);
    assert!(
        world.rows().await.iter().all(|row| row["action"] == "abort-upload" && !row["version_id"].is_empty())
    );
}

#[tokio::test]
async fn noncurrent_versions_go_and_so_does_a_marker_that_marks_nothing() {
    for page_size in [1, 2, 3, 1000] {
        let mut world = World::new();
        world.store = world.store.with_versioned_bucket("kept").with_page_size(page_size);
        let object = |key: &str| ObjectRef::new("kept", key);
        let put = async |key: &str, content: &str| {
            let body = Bytes::from(content.to_owned());
            world.store.put(&object(key), body, PutOptions::default()).await.unwrap();
        };
        for content in ["1", "2", "3"] {
            put("a/replaced", content).await;
            put("a/deleted", content).await;
        }
        world.store.delete(&object("a/deleted"), None).await.unwrap();
        put("a/single", "1").await;
        world.clock.advance(DAY);
        put("a/replaced", "4").await;
        let rules = json!([{"id": "hard", "bucket": "kept", "prefix": "a/", "noncurrent_after": "1d"}]);
        let versions = async || {
            let (mut after, mut all) = (None, Vec::new());
            loop {
                let page = world.store.list_versions("kept", "", after).await.unwrap();
                all.extend(page.versions.into_iter().map(|v| (v.key, v.is_latest, v.is_delete_marker)));
                after = page.next;
                if after.is_none() {
                    return all;
                }
            }
        };
        // "3" ceased to be current only now.
        let answer = sweep(&world, &rules).await;
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 5, "{page_size} {answer}");
        let entry = |key: &str, latest, marker| (key.to_owned(), latest, marker);
        let left = [
            entry("a/deleted", true, true),
            entry("a/replaced", true, false),
            entry("a/replaced", false, false),
            entry("a/single", true, false),
        ];
        assert_eq!(versions().await, left, "{page_size}");
        world.clock.advance(DAY);
        sweep(&world, &rules).await;
        assert_eq!(
            versions().await,
            [entry("a/replaced", true, false), entry("a/single", true, false)],
            "{page_size}"
        );
    }
}

#[tokio::test]
async fn quarantine_copies_before_it_deletes() {
    let world = World::new();
    world.put_with("a/x y", "content", &[("owner", "7")], &[]).await;
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "quarantine_before_delete": true}))]);
    let answer = sweep(&world, &rules).await;
    assert!(world.keys("files", "").await.is_empty());
    let id = answer["outcomes"][0]["sweep"]["id"].as_str().unwrap();
    let copy = format!("sweeps/2026-11-02/{id}/quarantine/temp/a/x y");
    assert_eq!(world.read("audit", &copy).await, "content");
    let meta = world.store.head(&ObjectRef::new("audit", copy)).await.unwrap();
    assert_eq!(meta.metadata["owner"], "7");
    assert_eq!(world.rows().await[0]["action"], "quarantine");
}

// ----------------------------------------------------------------------------------------------------- caps

#[tokio::test]
async fn a_cap_stops_a_rule_before_its_first_delete_and_leaves_the_plan_to_look_at() {
    for (fields, code) in [
        (json!({"expire_after": "1d", "max_deletes": 1499}), "max-deletes"),
        (json!({"expire_after": "1d", "max_delete_ratio": 0.7}), "max-delete-ratio"),
    ] {
        let world = World::new();
        world.fill("a/old/", 1500).await;
        world.clock.advance(DAY);
        world.fill("a/young/", 500).await;
        let store = Arc::new(RecordingStore::new(world.store.clone()));
        let answer = sweep_in(&world, store.clone(), &json!([rule(&fields)])).await;
        let outcome = &answer["outcomes"][0];
        assert_eq!((&outcome["status"], &outcome["retry"]), (&json!("failed"), &json!("permanent")));
        assert_eq!((&outcome["reason"]["code"], &answer["complete"]), (&json!(code), &json!(true)));
        assert_eq!(world.keys("files", "").await.len(), 2000);
        assert!(!store.calls().iter().any(|c| c.operation == Operation::DeleteBatch && c.bucket == "files"));
        assert_eq!(world.reported("planned").await, keys("a/old/", 0..1500));
        let key = outcome["sweep"]["report"].as_str().unwrap().strip_prefix("s3://audit/").unwrap();
        assert_eq!(rows_of(&world.read("audit", key).await).len(), 1500);
    }
}

#[tokio::test]
async fn far_more_than_the_last_time_needs_a_confirmation_which_holds_once() {
    let world = World::new();
    let rules = policy(&json!([rule(&json!({"expire_after": "1d", "anomaly_factor": 3}))]));
    let sweep = async |confirm: &str| {
        let variables = [("SWEEP_POLICY", &*rules), ("SWEEP_CONFIRM", confirm)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap();
        answer["outcomes"][0].clone()
    };
    world.fill("a/one/", 10).await;
    world.clock.advance(DAY);
    assert_eq!(sweep("").await["status"], "swept");
    world.fill("a/two/", 31).await;
    world.clock.advance(DAY);
    let stopped = sweep("").await;
    assert_eq!(stopped["reason"]["code"], "anomaly");
    assert_eq!(world.keys("files", "").await.len(), 31);
    let id = stopped["sweep"]["id"].as_str().unwrap();
    assert!(stopped["reason"]["message"].as_str().unwrap().contains(&format!("SWEEP_CONFIRM={id}")));
    assert_eq!(sweep("another").await["reason"]["code"], "anomaly");
    let again = sweep("").await;
    assert!(again["reason"]["message"].as_str().unwrap().contains(&format!("SWEEP_CONFIRM={id}")));
    assert_eq!(sweep(id).await["status"], "swept");
    assert!(world.keys("files", "").await.is_empty());
    world.fill("a/three/", 94).await;
    world.clock.advance(DAY);
    assert_eq!(sweep(id).await["reason"]["code"], "anomaly");
    assert_eq!(sweep("temp").await["status"], "swept");
}

// ----------------------------------------------------------------------------------------------- references

#[tokio::test]
async fn orphans_go_and_references_without_an_object_are_listed() {
    let world = World::new();
    for key in ["a/1", "a/2", "a/3", "a/5"] {
        world.put(key, key).await;
    }
    world.clock.advance(8 * DAY);
    world.put("a/young", "x").await;
    let list = "a/0\na/2\na/4\na/5\na/9\nb/1\n";
    let references = ObjectRef::new("audit", "references/a.txt");
    world.store.put(&references, Bytes::from_static(list.as_bytes()), PutOptions::default()).await.unwrap();
    let rules = json!([rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "7d"}))]);
    let answer = sweep(&world, &rules).await;
    assert_eq!(world.keys("files", "").await, ["a/2", "a/5", "a/young"]);
    let sweep = &answer["outcomes"][0]["sweep"];
    assert_eq!((&sweep["deleted"], &sweep["missing_references"]), (&json!(2), &json!(3)), "{answer}");
    let id = sweep["id"].as_str().unwrap();
    let missing = world.read("audit", &format!("sweeps/2026-11-09/{id}/temp.missing.txt")).await;
    assert_eq!(missing, "a/0\na/4\na/9\n");
}

#[tokio::test]
async fn a_reference_list_that_is_missing_empty_or_stale_stops_its_rule() {
    for (list, code) in
        [(None, "references-missing"), (Some(""), "references-empty"), (Some("a/1\n"), "references-stale")]
    {
        let world = World::new();
        world.fill("a/", 5).await;
        if let Some(list) = list {
            let references = ObjectRef::new("audit", "references/a.txt");
            let body = Bytes::from_static(list.as_bytes());
            world.store.put(&references, body, PutOptions::default()).await.unwrap();
        }
        world.clock.advance(if code == "references-stale" { 8 * DAY } else { DAY });
        let rules = json!([rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "1h"}))]);
        let answer = sweep(&world, &rules).await;
        let outcome = &answer["outcomes"][0];
        assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("failed"), &json!(code)));
        assert_eq!((&outcome["retry"], &answer["complete"]), (&json!("permanent"), &json!(true)));
        assert_eq!(world.keys("files", "").await.len(), 5);
    }
}

// ------------------------------------------------------------------------------------------------------- CDN

#[tokio::test]
async fn a_cdn_hears_of_what_is_gone_and_a_missing_one_stops_the_rule_before_its_first_delete() {
    let world = World::new();
    world.fill("a/", 2).await;
    world.put("a/x y", "x").await;
    world.clock.advance(DAY);
    let policy = json!({"version": 1, "mode": "apply", "rules": [daily()],
        "cdn": [{"bucket": "files", "distribution_id": "E1", "path_prefix": "/files/"},
                {"bucket": "other", "distribution_id": "E2"}]});
    let config = config(&[("SWEEP_POLICY", &policy.to_string())]);
    let invocation = Invocation { request_id: "r".into(), deadline: jiff::Timestamp::MAX };
    let sweep = async |cdn: &RecordingCdn| {
        let deps = Deps::new(world.store.clone(), world.clock.clone(), cdn.clone(), config.clone());
        handle(&deps, &json!({}), &invocation).await.unwrap()
    };
    let answer = sweep(&RecordingCdn::new(["E2"])).await;
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "no-such-distribution");
    assert_eq!(answer["complete"], true);
    assert_eq!(world.keys("files", "").await.len(), 3);
    let cdn = RecordingCdn::new(["E1", "E2"]);
    let answer = sweep(&cdn).await;
    assert!(world.keys("files", "").await.is_empty(), "{answer}");
    let told = cdn.invalidations();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].paths, ["/files/a/000000", "/files/a/000001", "/files/a/x%20y"]);
    let id = answer["outcomes"][0]["sweep"]["id"].as_str().unwrap();
    assert!(told[0].caller_reference.starts_with(id), "{}", told[0].caller_reference);
}

// ----------------------------------------------------------------------------------------------- one at a time

#[tokio::test]
async fn a_second_sweep_of_a_rule_is_skipped_until_the_firsts_deadline() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.clock.advance(DAY);
    let now = world.clock.now();
    let claim = Claim { holder: "other".into(), now, until: now + jiff::SignedDuration::from_secs(60) };
    let lease = lease::acquire(&world.store, "audit", "temp", &claim).await.unwrap();
    assert!(matches!(lease, Acquisition::Acquired(_)));
    let answer = sweep(&world, &json!([daily()])).await;
    let outcome = &answer["outcomes"][0];
    assert_eq!(
        (&outcome["status"], &outcome["reason"]["code"]),
        (&json!("skipped"), &json!("already-running"))
    );
    assert_eq!((&answer["complete"], world.keys("files", "").await.len()), (&json!(false), 3));
    world.clock.advance(61);
    assert_eq!(sweep(&world, &json!([daily()])).await["outcomes"][0]["status"], "swept");
}

// ---------------------------------------------------------------------------------------------------- events

#[tokio::test]
async fn schedules_timers_state_machines_and_empty_events_sweep() {
    let event = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let originals = rule(&json!({"id": "originals", "expire_after": "1d"}));
    let other = json!({"id": "other", "bucket": "files", "prefix": "b/", "expire_after": "1d"});
    let variables = policy(&json!([originals, other]));
    for (event, rules) in [
        (Value::Null, 2),
        (json!({}), 2),
        (event(include_str!("../../../events/eventbridge-schedule.json")), 2),
        (event(include_str!("../../../events/scheduler-default.json")), 2),
        (event(include_str!("../../../events/fc-timer.json")), 1),
        (event(include_str!("../../../events/state-machine-sweep.json")), 1),
    ] {
        let world = World::new();
        world.fill("a/", 1).await;
        world.clock.advance(DAY);
        let variables = [("SWEEP_POLICY", &*variables)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"].as_array().unwrap().len(), rules, "{event}");
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 1, "{event}");
    }
}

#[tokio::test]
async fn what_is_no_schedule_and_a_rule_that_there_is_not_change_nothing() {
    let world = World::new();
    world.fill("a/", 1).await;
    world.clock.advance(DAY);
    let variables = policy(&json!([daily()]));
    for (event, code) in [
        (json!({"sweep": {"rule": "none"}}), "unknown-rule"),
        (json!({"bucket": "files", "key": "a/000000"}), "not-a-schedule"),
        (json!({"BatchInput": {}, "Items": []}), "rule-missing"),
    ] {
        let variables = [("SWEEP_POLICY", &*variables)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["reason"]["code"], code);
        assert_eq!(world.keys("files", "").await.len(), 1);
    }
    assert!(
        invoke(world.store.clone(), &world.clock, &[("SWEEP_POLICY", &*variables)], &json!({"x": 1}), 900)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_policy_object_that_is_missing_no_json_wrong_or_swept_is_refused() {
    for (text, part) in [
        (None, "policy-missing"),
        (Some("{".to_owned()), "not-json"),
        (Some(policy(&json!([rule(&json!({"expire_after": "0s"}))]))), "rules[0].expire_after"),
        (Some(policy(&json!([daily()]))), "policy-swept"),
    ] {
        let world = World::new();
        world.fill("a/", 1).await;
        world.clock.advance(DAY);
        if let Some(text) = text {
            world.put("a/policy.json", &text).await;
        }
        let variables = [("SWEEP_POLICY_URI", "s3://files/a/policy.json")];
        let error = invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap_err();
        assert_eq!(error.error_type, "Policy");
        assert!(error.message.contains(part), "{error}");
        assert!(world.keys("files", "a/0").await.len() == 1);
    }
    let world = World::new();
    world.fill("a/", 1).await;
    world.clock.advance(DAY);
    world.put("policy.json", &policy(&json!([daily()]))).await;
    let variables = [("SWEEP_POLICY_URI", "s3://files/policy.json"), ("SWEEP_MODE", "plan")];
    let answer = invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap();
    assert_eq!(answer["outcomes"][0]["status"], "planned");
}

// --------------------------------------------------------------------------------------------------- batches

#[tokio::test]
async fn a_batch_of_a_distributed_map_is_swept_once_however_often_it_is_delivered() {
    let world = World::new();
    world.fill("a/", 50).await;
    let listed = world.store.list("files", shared::store::ListOptions::default()).await.unwrap().objects;
    world.clock.advance(DAY);
    world.put("a/000007", "fresh").await;
    let items: Vec<_> = listed
        .iter()
        .map(|entry| {
            json!({"Key": entry.key, "Size": entry.size, "LastModified": entry.last_modified.as_second(),
                   "Etag": entry.e_tag.as_ref().unwrap().quoted()})
        })
        .collect();
    let event = json!({"BatchInput": {"rule": "temp", "sweep_id": "execution-1"}, "Items": items});
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    for _ in 0..2 {
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        let sweep = &answer["outcomes"][0]["sweep"];
        assert_eq!((&sweep["deleted"], &sweep["changed"]), (&json!(49), &json!(1)), "{answer}");
        assert_eq!((&sweep["id"], &answer["complete"]), (&json!("execution-1"), &json!(true)));
        assert_eq!(world.keys("files", "").await, ["a/000007"]);
        assert_eq!(world.reported("deleted").await.len(), 49);
    }
}

#[tokio::test]
async fn what_failed_for_now_in_a_batch_is_tried_again_when_it_is_delivered_again() {
    use shared::store::{Fault, FaultStore, Operation};
    let world = World::new();
    world.fill("a/", 50).await;
    let listed = world.store.list("files", shared::store::ListOptions::default()).await.unwrap().objects;
    world.clock.advance(DAY);
    let items: Vec<_> = listed
        .iter()
        .map(|entry| {
            json!({"Key": entry.key, "Size": entry.size, "LastModified": entry.last_modified.as_second(),
                   "Etag": entry.e_tag.as_ref().unwrap().quoted()})
        })
        .collect();
    let event = json!({"BatchInput": {"rule": "temp", "sweep_id": "execution-1"}, "Items": items});
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let store = FaultStore::new(world.store.clone()).on(Operation::DeleteBatch, Fault::ErrorInBody);
    let answer = invoke(store, &world.clock, &variables, &event, 900).await;
    let failed = world.reported("failed").await;
    assert!((1..50).contains(&failed.len()), "{failed:?}, {answer:?}");
    for _ in 0..2 {
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        let outcome = &answer["outcomes"][0];
        assert_eq!(
            (&outcome["status"], &outcome["sweep"]["deleted"]),
            (&json!("swept"), &json!(50)),
            "{answer}"
        );
        assert_eq!(outcome["sweep"]["errors"], 0, "{answer}");
    }
    world.check(&listed.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), &[]).await;
}
