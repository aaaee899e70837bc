//! What was planned before is not done where it has ceased to be right, and what was done stays accounted for.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use expiry_sweeper::cdn::{Cdn, CdnError, CdnErrorKind, RecordingCdn};
use expiry_sweeper::handler::{Deps, handle};
use futures::FutureExt;
use serde_json::{Value, json};
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{Fault, FaultStore, ObjectStore, Operation, PutOptions, Tags};
use support::hooked::{Hook, Hooked};
use support::*;

/// Begins a sweep that is killed at its first delete, of which it is not known whether it took place.
async fn killed_at_its_first_delete(world: &World, rules: &Value, hook: Hook) {
    let store = Hooked::new(world.store.clone(), move |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket != "audit";
        if is_delete { hook } else { Hook::Go }
    });
    let killed = tokio::time::timeout(Duration::from_secs(30), sweep_in(world, store, rules));
    assert!(Box::pin(killed).await.is_err());
    world.clock.advance(1000);
}

async fn until_complete(world: &World, rules: &Value) -> Value {
    for _ in 0..5 {
        let answer = sweep(world, rules).await;
        if answer["complete"] == true {
            return answer;
        }
    }
    unreachable!("it does not get on");
}

async fn state(world: &World) -> Value {
    serde_json::from_str(&world.read("audit", "sweeps/state/temp.json").await).unwrap()
}

// ------------------------------------------------------------------------------------------------------ rules

#[tokio::test(start_paused = true)]
async fn a_rule_that_was_changed_keeps_what_it_keeps_also_if_the_accounting_is_interrupted() {
    let world = World::new();
    world.fill("a/", 30).await;
    world.clock.advance(DAY);
    killed_at_its_first_delete(&world, &json!([daily()]), Hook::Hang).await;
    let later = json!([rule(&json!({"expire_after": "30d"}))]);
    for operation in [Operation::List, Operation::Put] {
        let hanging = Hooked::new(world.store.clone(), move |call| {
            let is_report = call.key.as_deref().is_some_and(|key| key.ends_with(".csv"));
            let is_meant = call.operation == operation && (call.bucket == "files" || is_report);
            if is_meant { Hook::Hang } else { Hook::Go }
        });
        let killed = tokio::time::timeout(Duration::from_secs(30), sweep_in(&world, hanging, &later));
        assert!(Box::pin(killed).await.is_err(), "{operation:?}");
        world.clock.advance(1000);
    }
    until_complete(&world, &later).await;
    assert_eq!(world.keys("files", "").await.len(), 30);
    assert!(world.reported("deleted").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_set_after_a_kill_holds_for_what_was_planned_before() {
    let world = World::new();
    world.fill("a/", 30).await;
    world.clock.advance(DAY);
    killed_at_its_first_delete(&world, &json!([daily()]), Hook::Hang).await;
    let capped = json!([rule(&json!({"expire_after": "1d", "max_deletes": 5}))]);
    let answer = until_complete(&world, &capped).await;
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "max-deletes");
    assert_eq!(world.keys("files", "").await.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_has_found_its_reference_is_kept_when_its_plan_is_a_day_old() {
    let world = World::new();
    world.fill("a/", 10).await;
    let references = ObjectRef::new("audit", "references/a.txt");
    let list = async |keys: &'static str| {
        world
            .store
            .put(&references, Bytes::from_static(keys.as_bytes()), PutOptions::default())
            .await
            .unwrap();
    };
    list("a/000000\n").await;
    world.clock.advance(DAY);
    let orphans = json!([rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "1h"}))]);
    killed_at_its_first_delete(&world, &orphans, Hook::Hang).await;
    world.clock.advance(DAY);
    list("a/000000\na/000005\n").await;
    until_complete(&world, &orphans).await;
    assert_eq!(world.keys("files", "").await, ["a/000000", "a/000005"]);
    assert_eq!(world.reported("deleted").await.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_names_a_later_time_by_now_keeps_its_object() {
    let world = World::new();
    for n in 0..4 {
        world.put_with(&format!("a/{n}"), "x", &[], &[("expires-at", "2026-11-01T12:00:00Z")]).await;
    }
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expires_at": "tag"}))]);
    killed_at_its_first_delete(&world, &rules, Hook::Hang).await;
    let later = Tags::from([("expires-at".to_owned(), "2027-01-01T00:00:00Z".to_owned())]);
    world.store.put_tags(&ObjectRef::new("files", "a/2"), &later).await.unwrap();
    until_complete(&world, &rules).await;
    assert_eq!(world.keys("files", "").await, ["a/2"]);
    assert_eq!(world.reported("changed").await, ["a/2"]);
}

// --------------------------------------------------------------------------------------------------- versions

#[tokio::test(start_paused = true)]
async fn a_version_that_is_current_again_is_kept_and_one_that_went_is_reported() {
    for (hook, changed) in [(Hook::Hang, false), (Hook::Hang, true), (Hook::HangAfter, true)] {
        let mut world = World::new();
        world.store = world.store.with_versioned_bucket("kept");
        for key in ["a/one", "a/two"] {
            let object = ObjectRef::new("kept", key);
            world.store.put(&object, Bytes::from(key), PutOptions::default()).await.unwrap();
            world.store.delete(&object, None).await.unwrap();
        }
        world.clock.advance(3 * DAY);
        let hard = |after: &str| json!([{"id": "temp", "bucket": "kept", "prefix": "a/", "noncurrent_after": after}]);
        killed_at_its_first_delete(&world, &hard("1d"), hook).await;
        let versions = world.store.list_versions("kept", "a/one", None).await.unwrap().versions;
        if hook == Hook::Hang {
            let marker = versions.iter().find(|version| version.is_delete_marker).unwrap();
            let marker = ObjectRef::new("kept", "a/one").at_version(Some(marker.version_id.clone()));
            world.store.delete(&marker, None).await.unwrap();
        }
        until_complete(&world, &hard(if changed { "2d" } else { "1d" })).await;
        let keys = world.keys("kept", "").await;
        let deleted = world.reported("deleted").await;
        if hook == Hook::Hang {
            assert_eq!(keys, ["a/one"], "undeleted, so that it stays");
            assert!(
                !deleted.contains(&"a/one".to_owned()) && deleted.contains(&"a/two".to_owned()),
                "{deleted:?}"
            );
        } else {
            // By the invocation that died; whoever finds it gone says so.
            let versions = deleted.iter().filter(|key| *key == "a/one").count();
            assert!(versions >= 1, "{deleted:?}");
        }
    }
}

// ------------------------------------------------------------------------------------------------- references

#[tokio::test]
async fn what_was_written_after_the_list_is_no_orphan() {
    let world = World::new();
    world.fill("a/old/", 3).await;
    world.clock.advance(HOUR);
    let references = ObjectRef::new("audit", "references/a.txt");
    let list = Bytes::from_static(b"a/old/000000\n");
    world.store.put(&references, list, PutOptions::default()).await.unwrap();
    world.clock.advance(1);
    world.put("a/young", "y").await;
    world.clock.advance(3 * DAY);
    let orphans = json!([rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "1d"}))]);
    let answer = sweep(&world, &orphans).await;
    assert_eq!(world.keys("files", "").await, ["a/old/000000", "a/young"], "{answer}");
}

#[tokio::test]
async fn a_list_that_names_nothing_of_many_stops_its_rule_until_that_is_confirmed() {
    let world = World::new();
    world.fill("a/", 120).await;
    let references = ObjectRef::new("audit", "references/a.txt");
    let list: String = (0..120).map(|n| format!("a/other/{n}\n")).collect();
    world.store.put(&references, Bytes::from(list), PutOptions::default()).await.unwrap();
    world.clock.advance(2 * DAY);
    let orphans = json!([rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "1d"}))]);
    let answer = sweep(&world, &orphans).await;
    let reason = &answer["outcomes"][0]["reason"];
    assert_eq!(reason["code"], "references-match-nothing");
    assert_eq!(world.keys("files", "").await.len(), 120);
    let message = reason["message"].as_str().unwrap();
    let id = message.split("SWEEP_CONFIRM=").nth(1).unwrap().split_whitespace().next().unwrap();
    let policy = policy(&orphans);
    let variables = [("SWEEP_POLICY", &*policy), ("SWEEP_CONFIRM", id)];
    invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap();
    assert!(world.keys("files", "").await.is_empty());
}

#[tokio::test]
async fn what_was_confirmed_holds_until_the_plan_is_whole_however_many_invocations_that_takes() {
    let mut world = World::new();
    world.store = world.store.with_page_size(50);
    world.fill("a/", 2).await;
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "anomaly_factor": 2, "max_deletes": 100_000}))]);
    sweep(&world, &rules).await;
    world.fill("a/", 3000).await;
    world.clock.advance(DAY);
    let (policy, ticking) = (policy(&rules), world.clock.stepping(100));
    let in_short_invocations = async |confirm: &str| {
        for invocation in 1..100 {
            let variables = [("SWEEP_POLICY", &*policy), ("SWEEP_CONFIRM", confirm)];
            let answer = invoke(world.store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
            if answer["complete"] == true {
                return (invocation, answer);
            }
        }
        unreachable!("it does not get on");
    };
    let (invocations, answer) = in_short_invocations("none").await;
    assert!(invocations > 1, "the listing takes several invocations");
    let message = answer["outcomes"][0]["reason"]["message"].as_str().unwrap();
    let id = message.split("SWEEP_CONFIRM=").nth(1).unwrap().split_whitespace().next().unwrap();
    let (_, answer) = in_short_invocations(id).await;
    assert!(world.keys("files", "").await.is_empty(), "{answer}");
}

// -------------------------------------------------------------------------------------------- several attempts

#[tokio::test]
async fn what_is_swept_again_under_the_same_id_adds_to_what_was_done() {
    let world = World::new();
    world.fill("a/", 50).await;
    world.clock.advance(DAY);
    let fails = std::sync::Arc::new(AtomicU64::new(0));
    let counter = fails.clone();
    let store = Hooked::new(world.store.clone(), |_| Hook::Go)
        .with_errors_inside(move |key| key == "a/000007" && counter.fetch_add(1, Ordering::SeqCst) < 5);
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let error = invoke(store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap_err();
    assert_eq!(error.error_type, "Retryable");
    assert_eq!(state(&world).await["last"]["deleted"], 49);
    world.clock.advance(60);
    invoke(store, &world.clock, &variables, &json!({}), 900).await.unwrap();
    let state = state(&world).await;
    assert_eq!(state["last"]["deleted"], 50, "what the next sweep is measured by: {state}");
    let summaries: Vec<_> = world
        .keys("audit", "sweeps/2026")
        .await
        .into_iter()
        .filter(|key| key.ends_with("summary.json"))
        .collect();
    assert_eq!(summaries.len(), 1, "{summaries:?}");
    let summary: Value = serde_json::from_str(&world.read("audit", &summaries[0]).await).unwrap();
    let entry = &summary["rules"][0];
    assert_eq!((&entry["deleted"], &entry["complete"]), (&json!(50), &json!(true)), "{summary}");
    assert_eq!(entry["reports"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_rule_that_fails_for_hours_does_not_keep_the_others_from_their_turn() {
    let world = World::new();
    let other = json!({"id": "other", "bucket": "elsewhere", "prefix": "x/", "expire_after": "1d"});
    let policy = policy(&json!([daily(), other]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let store = Hooked::new(world.store.clone().with_bucket("elsewhere"), |_| Hook::Go);
    let failing = store.with_errors_inside(|key| key.starts_with("x/"));
    let object = ObjectRef::new("elsewhere", "x/1");
    world.store.put(&object, Bytes::from_static(b"x"), PutOptions::default()).await.unwrap();
    world.clock.advance(DAY);
    for hour in 0..3 {
        world.put(&format!("a/{hour}"), "a").await;
        world.clock.advance(DAY + HOUR);
        let error = invoke(failing.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap_err();
        assert_eq!(error.error_type, "Retryable");
        assert!(world.keys("files", "").await.is_empty(), "swept at {hour}");
    }
}

#[tokio::test]
async fn a_summary_is_not_complete_where_a_rule_could_not_be_begun() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.clock.advance(DAY);
    let other = json!({"id": "other", "bucket": "audit-of-others", "prefix": "x/", "expire_after": "1d"});
    let policy = json!({"version": 1, "mode": "apply", "rules": [daily(), other],
        "cdn": [{"bucket": "audit-of-others", "distribution_id": "E9"}]});
    let config = config(&[("SWEEP_POLICY", &policy.to_string())]);
    let invocation = Invocation { request_id: "r".into(), deadline: jiff::Timestamp::MAX };
    let deps = Deps::new(world.store.clone(), world.clock.clone(), RecordingCdn::default(), config);
    let answer = handle(&deps, &json!({}), &invocation).await.unwrap();
    assert_eq!(answer["outcomes"][1]["reason"]["code"], "no-such-distribution");
    let keys = world.keys("audit", "sweeps/2026").await;
    let summary = keys.iter().find(|key| key.ends_with("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&world.read("audit", summary).await).unwrap();
    assert_eq!(summary["complete"], false, "{summary}");
    assert_eq!(summary["rules"][1]["reason"]["code"], "no-such-distribution", "{summary}");
}

/// A CDN that has the distribution and will not invalidate.
struct Refusing;

impl Cdn for Refusing {
    async fn check(&self, _: &str) -> Result<(), CdnError> {
        Ok(())
    }

    async fn invalidate(&self, id: &str, _: &str, _: &[String]) -> Result<String, CdnError> {
        Err(CdnError::new(CdnErrorKind::Invalid, id, "cloudfront:CreateInvalidation", "invalid paths"))
    }
}

#[tokio::test]
async fn a_cdn_that_refuses_to_hear_of_what_went_is_told_of() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.clock.advance(DAY);
    let policy = json!({"version": 1, "mode": "apply", "rules": [daily()],
        "cdn": [{"bucket": "files", "distribution_id": "E1"}]});
    let config = config(&[("SWEEP_POLICY", &policy.to_string())]);
    let invocation = Invocation { request_id: "r".into(), deadline: jiff::Timestamp::MAX };
    let deps = Deps::new(world.store.clone(), world.clock.clone(), Refusing, config);
    let answer = handle(&deps, &json!({}), &invocation).await.unwrap();
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("swept"), &json!("cdn-refused")));
    assert_eq!(answer["complete"], true);
}

#[tokio::test]
async fn without_conditions_a_second_attempt_looks_again() {
    let world = World::new();
    world.fill("a/", 10).await;
    world.clock.advance(DAY);
    let (store, calls) = (world.store.clone(), AtomicU64::new(0));
    let hooked = Hooked::new(world.store.clone(), move |call| {
        // While the store is asked a second time, a client has written anew what the first attempt deleted.
        if call.operation == Operation::Head
            && call.bucket == "files"
            && calls.fetch_add(1, Ordering::SeqCst) == 10
        {
            let object = ObjectRef::new("files", "a/000003");
            let put = store.put(&object, Bytes::from_static(b"fresh"), PutOptions::default());
            put.now_or_never().unwrap().unwrap();
        }
        Hook::Go
    });
    let faulty = FaultStore::new(hooked.without_conditions()).on(Operation::DeleteBatch, Fault::TimeoutAfter);
    drop(sweep_in(&world, faulty, &json!([daily()])).await);
    assert_eq!(world.keys("files", "").await, ["a/000003"]);
}

// ---------------------------------------------------------------------------------------------------- batches

fn batch(items: &Value) -> Value {
    json!({"BatchInput": {"rule": "temp", "sweep_id": "map-1"}, "Items": items})
}

async fn items(world: &World) -> Value {
    let listed = world.store.list("files", shared::store::ListOptions::default()).await.unwrap().objects;
    let item = |entry: &shared::store::ListedEntry| {
        json!({"Key": entry.key, "Size": entry.size, "LastModified": entry.last_modified.as_second(),
               "Etag": entry.e_tag.as_ref().unwrap().quoted()})
    };
    listed.iter().map(item).collect()
}

#[tokio::test]
async fn a_batch_whose_report_got_lost_is_reported_by_the_next_attempt_also_where_objects_name_their_time() {
    let world = World::new();
    for n in 0..20 {
        world.put_with(&format!("a/{n:02}"), "x", &[("ttl", "1h")], &[]).await;
    }
    let event = batch(&items(&world).await);
    world.clock.advance(DAY);
    let policy = policy(&json!([rule(&json!({"expires_at": "metadata"}))]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let lost = Hooked::new(world.store.clone(), |call| {
        let is_report = call.operation == Operation::Put
            && call.key.as_deref().is_some_and(|key| key.ends_with(".csv") && !key.contains(".plan"));
        if is_report { Hook::Hang } else { Hook::Go }
    });
    let killed = Box::pin(invoke(lost, &world.clock, &variables, &event, 900));
    assert!(tokio::time::timeout(Duration::from_millis(300), killed).await.is_err());
    assert!(world.keys("files", "").await.is_empty());
    for _ in 0..2 {
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 20, "{answer}");
    }
    assert_eq!(world.reported("deleted").await.len(), 20);
    let left: Vec<_> =
        world.keys("audit", "").await.into_iter().filter(|key| key.contains(".plan")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_batch_that_is_delivered_again_after_midnight_is_reported_once() {
    let world = World::new();
    world.fill("a/", 10).await;
    let items = items(&world).await;
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    world.clock.advance(2 * DAY - 5);
    for (seconds, event) in [(0, batch(&items)), (10, batch(&items)), (10, batch(&items))] {
        world.clock.advance(seconds);
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 10, "{answer}");
    }
    assert_eq!(world.reported("deleted").await.len(), 10);
}

#[tokio::test]
async fn a_batch_is_decided_by_the_time_at_which_its_execution_began() {
    let world = World::new();
    world.fill("a/", 10).await;
    let items = items(&world).await;
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    world.clock.advance(2 * DAY);
    // Before anything was due, and after now, which is taken for now.
    for (started_at, deleted) in [("2026-11-01T12:00:00Z", 0), ("2027-01-01T00:00:00Z", 10)] {
        let event = json!({"BatchInput": {"rule": "temp", "sweep_id": started_at.replace(':', "-"),
            "started_at": started_at}, "Items": items});
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], deleted, "{answer}");
    }
    assert_eq!(world.keys("audit", "sweeps/2026-11-01/").await.len(), 1);
}

#[tokio::test]
async fn a_batch_that_was_only_planned_is_carried_out_under_the_same_id() {
    let world = World::new();
    world.fill("a/", 10).await;
    let event = batch(&items(&world).await);
    let policy = policy(&json!([daily()]));
    world.clock.advance(DAY);
    for (mode, left) in [("plan", 10), ("apply", 0)] {
        let variables = [("SWEEP_POLICY", &*policy), ("SWEEP_MODE", mode)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(world.keys("files", "").await.len(), left, "{answer}");
    }
}

// --------------------------------------------------------------------------------------------------- policies

#[tokio::test]
async fn a_policy_that_is_not_utf_8_is_refused() {
    let world = World::new();
    world.put("a/Vertr\u{e4}ge/1", "x").await;
    world.clock.advance(DAY);
    let text = policy(&json!([rule(&json!({"expire_after": "1d", "exclude": ["a/Vertr@ge/**"]}))]));
    let latin: Vec<u8> = text.bytes().map(|byte| if byte == b'@' { 0xe4 } else { byte }).collect();
    let object = ObjectRef::new("files", "policy.json");
    world.store.put(&object, Bytes::from(latin), PutOptions::default()).await.unwrap();
    let variables = [("SWEEP_POLICY_URI", "s3://files/policy.json")];
    let error = invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap_err();
    assert!(error.message.contains("UTF-8"), "{error}");
    assert_eq!(world.keys("files", "a/").await.len(), 1);
}

#[tokio::test]
async fn two_stars_in_an_exclusion_cross_slashes_wherever_they_stand() {
    let world = World::new();
    for key in ["a/legal/x", "a/legal", "a/x/y.pdf", "a/x/y.png"] {
        world.put(key, "x").await;
    }
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "exclude": ["a/legal**", "**.pdf"]}))]);
    sweep(&world, &rules).await;
    assert_eq!(world.keys("files", "").await, ["a/legal", "a/legal/x", "a/x/y.pdf"]);
}

#[tokio::test]
async fn a_plan_that_would_be_braked_says_what_confirms_it() {
    let world = World::new();
    world.fill("a/", 2).await;
    world.clock.advance(DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "anomaly_factor": 2}))]);
    sweep(&world, &rules).await;
    world.fill("a/", 20).await;
    world.clock.advance(DAY);
    let policy = policy(&rules);
    let answer = |mode: &'static str, confirm: String| {
        let (world, policy) = (world.clone(), policy.clone());
        async move {
            let variables = [("SWEEP_POLICY", &*policy), ("SWEEP_MODE", mode), ("SWEEP_CONFIRM", &*confirm)];
            invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap()
        }
    };
    let named = |answer: &Value| {
        let message = answer["outcomes"][0]["reason"]["message"].as_str().unwrap().to_owned();
        message.split("SWEEP_CONFIRM=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let planned = answer("plan", "none".into()).await;
    assert_eq!(named(&planned), "temp");
    let stopped = named(&answer("apply", "none".into()).await);
    assert_eq!(named(&answer("plan", "none".into()).await), stopped);
    assert!(answer("plan", stopped).await["outcomes"][0]["reason"].is_null());
    answer("apply", named(&planned)).await;
    assert!(world.keys("files", "").await.is_empty());
}
