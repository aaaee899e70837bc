//! What other rules, earlier attempts and earlier days have left behind is looked at before it is believed.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use shared::object_ref::ObjectRef;
use shared::store::{ListOptions, ListedEntry, ObjectStore, Operation, PutOptions};
use support::hooked::{Hook, Hooked};
use support::*;

/// Lets an invocation die at its first delete, which has its effect or not.
async fn killed(world: &World, event: &Value, rules: &Value, hook: Hook) {
    let store = Hooked::new(world.store.clone(), move |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket != "audit";
        if is_delete { hook } else { Hook::Go }
    });
    let policy = policy(rules);
    let variables = [("SWEEP_POLICY", &*policy)];
    let invoked = Box::pin(invoke(store, &world.clock, &variables, event, 900));
    assert!(tokio::time::timeout(Duration::from_millis(500), invoked).await.is_err());
    world.clock.advance(1000);
}

async fn until_complete(world: &World, rules: &Value) -> Value {
    for _ in 0..40 {
        let answer = sweep(world, rules).await;
        if answer["complete"] == true {
            return answer;
        }
        world.clock.advance(60);
    }
    unreachable!("it does not get on");
}

async fn refer_to(world: &World, keys: &str) {
    let references = ObjectRef::new("audit", "references/a.txt");
    world.store.put(&references, Bytes::from(keys.to_owned()), PutOptions::default()).await.unwrap();
}

fn orphans() -> Value {
    rule(&json!({"unreferenced_in": "s3://audit/references/a.txt", "grace": "1h"}))
}

// -------------------------------------------------------------------------------------------------- other rules

#[tokio::test]
async fn what_a_rule_planned_elsewhere_is_accounted_for_where_it_is() {
    for (hook, gone) in [(Hook::Hang, false), (Hook::HangAfter, true)] {
        for other in [json!({"prefix": "b/"}), json!({"bucket": "elsewhere"})] {
            let mut world = World::new();
            world.store = world.store.with_bucket("elsewhere");
            world.fill("a/", 30).await;
            world.clock.advance(DAY);
            killed(&world, &json!({}), &json!([daily()]), hook).await;
            let mut changed = daily();
            changed.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            until_complete(&world, &json!([changed])).await;
            assert_eq!(world.keys("files", "").await.is_empty(), gone, "{other}");
            let (deleted, kept) =
                (world.reported("deleted").await.len(), world.reported("changed").await.len());
            assert_eq!((deleted, kept), if gone { (30, 0) } else { (0, 30) }, "{other}");
        }
    }
}

#[tokio::test]
async fn a_field_that_a_policy_gives_twice_is_a_mistake() {
    let policy = r#"{"version": 1, "rules": [{"id": "t", "bucket": "files", "prefix": "a/", "expire_after": "1d",
        "exclude": ["a/keep/**"], "exclude": ["a/tmp/**"]}]}"#;
    let mut environment: shared::env::Environment =
        [("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", policy)].into_iter().collect();
    let config = expiry_sweeper::config::Config::read(&mut environment);
    let error = environment.finish(config).unwrap_err().to_string();
    assert!(error.contains("rules[0].exclude") && error.contains("duplicate-field"), "{error}");
}

#[tokio::test]
async fn an_event_that_seems_to_ask_for_less_than_everything_sweeps_nothing() {
    let world = World::new();
    world.fill("a/", 3).await;
    world.clock.advance(DAY);
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    for payload in
        [json!({"rules": ["temp"]}), json!({"rule": "temp", "mode": "plan"}), json!("{\"rule\": \"temp\",}")]
    {
        let event = json!({"sweep": payload});
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["reason"]["code"], "bad-sweep-input", "{answer}");
        assert_eq!(world.keys("files", "").await.len(), 3);
    }
    for payload in [json!({"Comment": "Insert your JSON here"}), json!({"rule": "temp"}), json!("")] {
        let event = json!({"sweep": payload});
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["status"], "swept", "{answer}");
    }
}

// ------------------------------------------------------------------------------------------------------ batches

async fn batch(world: &World, id: &str) -> Value {
    let listed = world.store.list("files", ListOptions::default()).await.unwrap().objects;
    let item = |entry: &ListedEntry| {
        json!({"Key": entry.key, "Size": entry.size, "LastModified": entry.last_modified.as_second(),
               "Etag": entry.e_tag.as_ref().unwrap().quoted()})
    };
    let items: Vec<_> = listed.iter().map(item).collect();
    json!({"BatchInput": {"rule": "temp", "sweep_id": id}, "Items": items})
}

#[tokio::test]
async fn a_batch_that_is_delivered_again_is_judged_by_the_list_and_the_rule_of_today() {
    for by_list in [true, false] {
        let world = World::new();
        world.fill("a/", 10).await;
        world.clock.advance(DAY);
        refer_to(&world, "a/000000\n").await;
        let event = batch(&world, "map").await;
        killed(&world, &event, &json!([orphans()]), Hook::Hang).await;
        let mut rules = json!([orphans()]);
        if by_list {
            refer_to(&world, "a/000000\na/000005\n").await;
        } else {
            rules[0]["exclude"] = json!(["a/000005"]);
        }
        let policy = policy(&rules);
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 8, "{answer}");
        assert_eq!(world.keys("files", "").await, ["a/000000", "a/000005"]);
        assert_eq!(world.reported("deleted").await.len(), 8);
    }
}

#[tokio::test]
async fn what_a_killed_batch_deleted_is_reported_also_where_its_rule_is_another_by_now() {
    let world = World::new();
    world.fill("a/", 10).await;
    world.clock.advance(DAY);
    refer_to(&world, "a/000000\n").await;
    let event = batch(&world, "map").await;
    killed(&world, &event, &json!([orphans()]), Hook::HangAfter).await;
    assert_eq!(world.keys("files", "").await, ["a/000000"]);
    refer_to(&world, "a/000000\na/000001\na/000005\n").await;
    let policy = policy(&json!([orphans()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    for _ in 0..2 {
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 9, "{answer}");
    }
    assert_eq!(world.reported("deleted").await.len(), 9);
    let plans = world.keys("audit", "sweeps/").await.into_iter().filter(|key| key.contains(".plan"));
    assert_eq!(plans.collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_names_nothing_of_a_batch_stops_it_until_that_is_confirmed() {
    let world = World::new();
    world.fill("a/", 150).await;
    world.clock.advance(DAY);
    refer_to(&world, "a/of-another-bucket\n").await;
    let event = batch(&world, "map").await;
    let policy = policy(&json!([orphans()]));
    for (confirmed, left) in [("none", 150), ("temp", 0)] {
        let variables = [("SWEEP_POLICY", &*policy), ("SWEEP_CONFIRM", confirmed)];
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(world.keys("files", "").await.len(), left, "{answer}");
    }
}

#[tokio::test]
async fn a_batch_without_tags_is_deleted_on_the_condition_that_it_is_what_was_looked_at() {
    let world = World::new();
    world.fill("a/", 20).await;
    world.clock.advance(DAY);
    let mut event = batch(&world, "map").await;
    for item in event["Items"].as_array_mut().unwrap() {
        item["Etag"] = Value::Null;
    }
    let inner = world.store.clone();
    let put = AtomicU64::new(0);
    // A client writes one anew between the look and the delete.
    let store = Hooked::new(world.store.clone(), move |call| {
        if call.operation == Operation::DeleteBatch && put.fetch_add(1, Ordering::SeqCst) == 0 {
            let (inner, object) = (inner.clone(), ObjectRef::new("files", "a/000007"));
            let body = Bytes::from_static(b"new");
            futures::executor::block_on(inner.put(&object, body, PutOptions::default())).unwrap();
        }
        Hook::Go
    });
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    invoke(store, &world.clock, &variables, &event, 900).await.unwrap();
    assert_eq!(world.keys("files", "").await, ["a/000007"]);
    assert_eq!(world.reported("changed").await, ["a/000007"]);
}

#[tokio::test]
async fn the_name_of_an_execution_may_have_any_letters_and_stays_the_same() {
    let world = World::new();
    world.fill("a/", 5).await;
    world.clock.advance(DAY);
    let event = batch(&world, "nightly.2026-11-01+é").await;
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    for _ in 0..2 {
        let answer = invoke(world.store.clone(), &world.clock, &variables, &event, 900).await.unwrap();
        assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], 5, "{answer}");
    }
    assert_eq!(world.reported("deleted").await.len(), 5);
    let mut odd = event.clone();
    odd["BatchInput"]["started_at"] = json!("yesterday");
    let answer = invoke(world.store.clone(), &world.clock, &variables, &odd, 900).await.unwrap();
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "bad-started-at");
}

// --------------------------------------------------------------------------------------------------------- days

#[tokio::test]
async fn what_is_carried_out_minutes_after_it_was_listed_is_looked_at_again() {
    let world = World::new();
    world.fill("a/", 3000).await;
    world.clock.advance(DAY);
    let (inner, clock) = (world.store.clone(), world.clock.clone());
    let batches = AtomicU64::new(0);
    let store = Hooked::new(world.store.clone(), move |call| {
        if call.operation == Operation::DeleteBatch
            && call.bucket == "files"
            && batches.fetch_add(1, Ordering::SeqCst) == 0
        {
            clock.advance(120);
            // The same content once more, which no condition on its tag tells apart.
            let object = ObjectRef::new("files", "a/002999");
            let body = Bytes::from_static(b"a/2999");
            futures::executor::block_on(inner.put(&object, body, PutOptions::default())).unwrap();
        }
        Hook::Go
    });
    let capped =
        json!([rule(&json!({"expire_after": "1d", "max_deletes": 1_000_000, "hold_tag": "hold=true"}))]);
    sweep_in(&world, store, &capped).await;
    assert_eq!(world.keys("files", "").await, ["a/002999"]);
    assert_eq!(world.reported("changed").await, ["a/002999"]);
}

#[tokio::test]
async fn a_listing_of_several_days_comes_to_its_end() {
    let mut world = World::new();
    world.store = world.store.with_page_size(100);
    world.fill("a/", 1000).await;
    world.clock.advance(DAY);
    let capped = json!([rule(&json!({"expire_after": "1d", "max_deletes": 1_000_000}))]);
    for day in 0..20 {
        let clock = world.clock.clone();
        let lists = AtomicU64::new(0);
        let store = Hooked::new(world.store.clone(), move |call| {
            let is_list = call.operation == Operation::List && call.bucket == "files";
            if is_list && lists.fetch_add(1, Ordering::SeqCst) == 2 {
                clock.advance(890);
            }
            Hook::Go
        });
        let answer = sweep_in(&world, store, &capped).await;
        if answer["complete"] == true {
            assert!(day >= 3, "{day}");
            assert!(world.keys("files", "").await.is_empty());
            assert_eq!(world.reported("deleted").await.len(), 1000);
            return;
        }
        world.clock.advance(DAY);
    }
    unreachable!("it does not get on");
}

#[tokio::test]
async fn a_sweep_that_is_begun_anew_under_its_id_keeps_its_reports() {
    let world = World::new();
    world.fill("a/", 3000).await;
    world.clock.advance(DAY);
    refer_to(&world, "a/000000\n").await;
    let mut rules = json!([orphans()]);
    // In small groups, so that the time is over between two of them.
    rules[0]["quarantine_before_delete"] = true.into();
    let clock = world.clock.clone();
    let batches = AtomicU64::new(0);
    let store = Hooked::new(world.store.clone(), move |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket == "files";
        if is_delete && batches.fetch_add(1, Ordering::SeqCst) == 0 {
            clock.advance(890);
        }
        Hook::Go
    });
    let answer = sweep_in(&world, store, &rules).await;
    assert_eq!(answer["complete"], false);
    let gone = 3000 - world.keys("files", "").await.len();
    assert!(gone > 0 && gone < 2999, "{gone}");
    // A day later the list is another's, and the rule is stopped; what was deleted is told all the same.
    world.clock.advance(2 * DAY);
    refer_to(&world, "a/of-another-bucket\n").await;
    let answer = sweep(&world, &rules).await;
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "references-match-nothing", "{answer}");
    assert_eq!(world.reported("deleted").await.len(), gone);
}

#[tokio::test]
async fn what_is_held_and_what_lost_its_reference_just_now_is_not_late() {
    let world = World::new();
    world.put_with("a/held", "x", &[], &[("hold", "true")]).await;
    world.put("a/orphan", "y").await;
    world.clock.advance(20 * DAY);
    refer_to(&world, "a/other\n").await;
    world.clock.advance(HOUR);
    let mut rules = json!([orphans()]);
    rules[0]["hold_tag"] = json!("hold=true");
    sweep(&world, &rules).await;
    let keys = world.keys("audit", "sweeps/2026").await;
    let summary = keys.iter().find(|key| key.ends_with("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&world.read("audit", summary).await).unwrap();
    let entry = &summary["rules"][0];
    assert_eq!(
        (&entry["held"], &entry["deleted"], &entry["lag_seconds"]),
        (&json!(1), &json!(1), &json!(HOUR))
    );
}
