//! The sweeper is stopped at any moment: by its deadline, by a kill, by whatever a store can do wrong.
//!
//! Whatever happens, the sweeps that follow complete it, and an independent look finds every expired object
//! gone, no other one gone, and every key that is gone exactly once in the reports.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use expiry_sweeper::cdn::RecordingCdn;
use expiry_sweeper::handler::{Deps, handle};
use expiry_sweeper::sweep::Sizes;
use futures::FutureExt;
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{Call, FaultStore, ObjectStore, Operation, PutOptions, RecordingStore};
use support::hooked::{Hook, Hooked};
use support::*;

/// Old and young objects under `a/`, and their keys.
async fn filled(world: &World, old: usize, young: usize) -> (Vec<String>, Vec<String>) {
    world.fill("a/old/", old).await;
    world.clock.advance(DAY);
    world.fill("a/young/", young).await;
    world.clock.advance(1);
    let keys = |prefix: &str, count| (0..count).map(|n| format!("{prefix}{n:06}")).collect();
    (keys("a/old/", old), keys("a/young/", young))
}

/// Sweeps until it says that it is complete. What fails for now is called again, as a schedule does.
async fn until_complete(world: &World, rules: &Value) {
    for _ in 0..20 {
        let policy = policy(rules);
        let variables = [("SWEEP_POLICY", &*policy)];
        if let Ok(answer) = invoke(world.store.clone(), &world.clock, &variables, &json!({}), 900).await
            && answer["complete"] == true
        {
            return;
        }
        world.clock.advance(1000);
    }
    unreachable!("not complete after 20 invocations");
}

#[tokio::test]
async fn five_rules_are_swept_over_many_short_invocations_and_each_key_is_reported_once() {
    let mut world = World::new();
    world.store = world.store.with_page_size(100);
    let rules: Vec<_> = (0..5)
        .map(|n| json!({"id": format!("r{n}"), "bucket": "files", "prefix": format!("{n}/"), "expire_after": "1d"}))
        .collect();
    let (mut expired, mut live) = (Vec::new(), Vec::new());
    for n in 0..5 {
        world.fill(&format!("{n}/old/"), 2600).await;
        expired.extend((0..2600).map(|i| format!("{n}/old/{i:06}")));
    }
    world.clock.advance(DAY);
    for n in 0..5 {
        world.fill(&format!("{n}/young/"), 50).await;
        live.extend((0..50).map(|i| format!("{n}/young/{i:06}")));
    }
    let policy = policy(&json!(rules));
    // Each look at the clock takes 60 ms, so that an invocation comes to its end somewhere.
    let ticking = world.clock.stepping(60);
    let mut invocations = 0;
    loop {
        invocations += 1;
        assert!(invocations < 200, "it does not get on");
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(world.store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
        assert_eq!(answer["outcomes"].as_array().unwrap().len(), 5);
        if answer["complete"] == true {
            break;
        }
    }
    assert!(invocations > 5, "{invocations} invocations");
    world.check(&expired, &live).await;
    // All of it is one sweep, with one folder and one summary.
    let folders: std::collections::BTreeSet<_> = world
        .keys("audit", "sweeps/2026")
        .await
        .iter()
        .map(|key| key.rsplit_once('/').unwrap().0.to_owned())
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let folder = folders.first().unwrap();
    let summary: Value =
        serde_json::from_str(&world.read("audit", &format!("{folder}/summary.json")).await).unwrap();
    assert_eq!(summary["complete"], true);
    for rule in summary["rules"].as_array().unwrap() {
        assert_eq!((&rule["deleted"], &rule["scanned"]), (&json!(2600), &json!(2650)), "{rule}");
    }
    assert!(world.keys("audit", &format!("{folder}/r0.plan")).await.is_empty(), "no plan is left over");
}

#[tokio::test]
async fn a_plan_too_goes_on_where_it_had_to_stop() {
    let mut world = World::new();
    world.store = world.store.with_page_size(50);
    let (old, _) = filled(&world, 3000, 10).await;
    let policy = json!({"version": 1, "rules": [daily()]}).to_string();
    let ticking = world.clock.stepping(100);
    for invocation in 1.. {
        assert!(invocation < 100, "it does not get on");
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(world.store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
        if answer["complete"] == true {
            assert!(invocation > 1);
            assert_eq!(answer["outcomes"][0]["sweep"]["expired"], 3000);
            break;
        }
    }
    assert_eq!(world.reported("planned").await, old);
    assert_eq!(world.keys("files", "").await.len(), 3010);
}

/// Sweeps `rules` in invocations of three seconds, in which each look at the clock takes 100 ms, and calls `between` after
/// each with its number. The answers.
async fn in_short_invocations(world: &World, rules: &Value, between: impl Fn(usize)) -> Vec<Value> {
    let policy = policy(rules);
    let ticking = world.clock.stepping(100);
    let mut answers = Vec::new();
    loop {
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(world.store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
        let complete = answer["complete"] == true;
        answers.push(answer);
        if complete {
            return answers;
        }
        assert!(answers.len() < 100, "it does not get on");
        between(answers.len());
    }
}

#[tokio::test]
async fn what_failed_for_good_is_not_called_swept_later_in_the_sweep() {
    let mut world = World::new();
    world.store = world.store.with_page_size(50);
    world.fill("capped/", 60).await;
    let (old, young) = filled(&world, 3000, 10).await;
    let capped = json!({"id": "capped", "bucket": "files", "prefix": "capped/", "expire_after": "1d", "max_deletes": 5});
    let answers = in_short_invocations(&world, &json!([capped, daily()]), |_| {}).await;
    assert!(answers.len() > 2, "{} invocations", answers.len());
    for (number, answer) in answers.iter().enumerate() {
        let outcome = &answer["outcomes"][0];
        let reason = &outcome["reason"];
        assert_eq!(outcome["status"], "failed", "{outcome}");
        if number == 0 {
            assert_eq!(reason["code"], "max-deletes");
        } else {
            assert_eq!(reason["code"], "already-failed");
            let message = reason["message"].as_str().unwrap();
            assert!(message.contains("max-deletes: 60 would be deleted"), "{message}");
        }
    }
    let capped: Vec<_> = (0..60).map(|n| format!("capped/{n:06}")).collect();
    world.check(&old, &[young, capped].concat()).await;
}

#[tokio::test]
async fn a_rule_whose_turn_comes_a_day_after_the_sweep_began_is_listed_to_its_end() {
    let mut world = World::new();
    world.store = world.store.with_page_size(50);
    world.fill("b/", 3000).await;
    let (old, young) = filled(&world, 3000, 10).await;
    let first = json!({"id": "first", "bucket": "files", "prefix": "b/", "expire_after": "1d"});
    let advance = |invocation| world.clock.advance(if invocation == 1 { 25 * HOUR } else { 1 });
    // A cap makes it list before it deletes.
    let second = rule(&json!({"expire_after": "1d", "max_deletes": 100_000}));
    let answers = in_short_invocations(&world, &json!([first, second]), advance).await;
    let listings = answers.iter().filter(|answer| answer["outcomes"][1]["sweep"]["deleted"] == 0);
    assert!(listings.count() > 1, "the listing takes several invocations");
    let expired: Vec<_> = (0..3000).map(|n| format!("b/{n:06}")).chain(old).collect();
    // What was young when the sweep began is left to the next one.
    world.check(&expired, &young).await;
}

/// A world in which 1,200 of 1,220 objects are due, seen in pages of 500.
async fn due() -> (World, Vec<String>, Vec<String>) {
    let mut world = World::new();
    world.store = world.store.with_page_size(500);
    let (expired, live) = filled(&world, 1200, 20).await;
    (world, expired, live)
}

/// The rules of these tests; the second one costs a request per object.
fn rules() -> Value {
    json!([rule(&json!({"expire_after": "1d", "quarantine_before_delete": false}))])
}

async fn number_of_calls() -> u64 {
    let (world, ..) = due().await;
    let store = Arc::new(RecordingStore::new(world.store.clone()));
    sweep_in(&world, store.clone(), &rules()).await;
    store.calls().len() as u64
}

#[tokio::test]
async fn after_a_kill_at_any_call_the_next_sweep_completes_it() {
    let calls = number_of_calls().await;
    let killed = async |n: u64, hook: Hook| {
        let (world, expired, live) = due().await;
        let made = AtomicU64::new(0);
        let store = Hooked::new(world.store.clone(), move |_| {
            if made.fetch_add(1, Ordering::SeqCst) + 1 == n { hook } else { Hook::Go }
        });
        // The call never ends, and the process with it.
        let first = rules();
        let killed = tokio::time::timeout(Duration::from_millis(300), sweep_in(&world, store, &first));
        let ended = Box::pin(killed).await;
        assert!(ended.is_err() || n > calls, "call {n} was never made");
        // Until its deadline nobody else begins.
        if world.store.head(&ObjectRef::new("audit", "sweeps/state/temp.json")).await.is_ok()
            && ended.is_err()
        {
            let state = world.read("audit", "sweeps/state/temp.json").await;
            if !serde_json::from_str::<Value>(&state).unwrap()["lease"].is_null() {
                let answer = sweep(&world, &rules()).await;
                assert_eq!(answer["outcomes"][0]["reason"]["code"], "already-running", "call {n}");
            }
        }
        world.clock.advance(1000);
        until_complete(&world, &rules()).await;
        until_complete(&world, &rules()).await;
        world.check(&expired, &live).await;
    };
    let all = (1..=calls).flat_map(|n| [(n, Hook::Hang), (n, Hook::HangAfter)]);
    join_all(all.map(|(n, hook)| killed(n, hook))).await;
}

#[tokio::test]
async fn after_a_store_that_fails_from_any_call_on_the_next_sweep_completes_it() {
    let calls = number_of_calls().await;
    let cut = async |n: u64, after_effect: bool| {
        let (world, expired, live) = due().await;
        let store = FaultStore::new(world.store.clone());
        let store = if after_effect { store.cut_after_effect(n) } else { store.cut_after(n) };
        let policy = policy(&rules());
        let variables = [("SWEEP_POLICY", &*policy)];
        let ended = invoke(store, &world.clock, &variables, &json!({}), 900).await;
        if let Err(error) = ended {
            assert_eq!(error.error_type, "Retryable", "{error}");
        }
        world.clock.advance(1000);
        until_complete(&world, &rules()).await;
        world.check(&expired, &live).await;
    };
    let all = (1..calls).flat_map(|n| [(n, true), (n, false)]);
    join_all(all.map(|(n, after_effect)| cut(n, after_effect))).await;
}

#[tokio::test]
async fn with_every_twentieth_call_failing_in_every_way_the_sweeps_complete() {
    let faulty = async |seed: u64| {
        let mut world = World::new();
        world.store = world.store.with_page_size(200);
        let (expired, live) = filled(&world, 4000, 30).await;
        let store = FaultStore::new(world.store.clone()).random(seed, 5);
        let policy = policy(&json!([daily()]));
        let variables = [("SWEEP_POLICY", &*policy)];
        for _ in 0..30 {
            let answer = invoke(store.clone(), &world.clock, &variables, &json!({}), 900).await;
            world.clock.advance(1000);
            if answer.is_ok_and(|answer| answer["complete"] == true)
                && world.keys("files", "a/old/").await.is_empty()
            {
                break;
            }
        }
        world.check(&expired, &live).await;
        store.faults()
    };
    let faults = join_all((0..24).map(faulty)).await;
    assert!(faults.iter().filter(|count| **count > 0).count() > 12, "{faults:?}");
}

#[tokio::test]
async fn two_faults_at_any_two_calls_are_overcome() {
    use shared::store::Fault;
    let calls = number_of_calls().await;
    let pair = async |a: u64, b: u64, first: Fault, second: Fault| {
        let (world, expired, live) = due().await;
        let store = FaultStore::new(world.store.clone()).at_call(a, first).at_call(b, second);
        let policy = policy(&rules());
        let variables = [("SWEEP_POLICY", &*policy)];
        drop(invoke(store, &world.clock, &variables, &json!({}), 900).await);
        world.clock.advance(1000);
        until_complete(&world, &rules()).await;
        world.check(&expired, &live).await;
    };
    // Every kind of fault at every call, together with another kind somewhere behind it.
    let kinds = Fault::ALL.into_iter().zip(Fault::ALL.into_iter().cycle().skip(1));
    let all = kinds.enumerate().flat_map(|(k, (first, second))| {
        (1..=calls).map(move |n| (n, n + 1 + (n + k as u64) % calls, first, second))
    });
    for chunk in all.collect::<Vec<_>>().chunks(40) {
        join_all(chunk.iter().map(|(a, b, first, second)| pair(*a, *b, *first, *second))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_appears_when_another_invocation_has_gone_on_is_none() {
    for event in ["schedule", "batch"] {
        let (world, expired, live) = due().await;
        let written = world.clock.now().as_second() - DAY - 1;
        let item = |key| json!({"Key": key, "Size": 1, "LastModified": written, "Etag": null});
        let items: Vec<_> = expired.iter().map(item).collect();
        let event = match event {
            "batch" => json!({"BatchInput": {"rule": "temp", "sweep_id": "map"}, "Items": items}),
            _ => json!({}),
        };
        let policy = policy(&rules());
        let variables = [("SWEEP_POLICY", &*policy)];
        let late = Hooked::new(world.store.clone(), |call| {
            let is_report = call.operation == Operation::Put
                && call.key.as_deref().is_some_and(|key| key.ends_with(".csv") && !key.contains(".plan"));
            if is_report { Hook::Late(Duration::from_secs(5)) } else { Hook::Go }
        });
        let first = Box::pin(invoke(late, &world.clock, &variables, &event, 900));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), first).await.is_err(),
            "its report does not come"
        );
        assert!(world.keys("files", "a/old").await.is_empty());
        world.clock.advance(1000);
        // Whoever goes on has looked for a report, and is not at its end when there is one.
        let slow = Hooked::new(world.store.clone(), |call| {
            let is_look = call.operation == Operation::List && call.bucket == "files";
            if is_look { Hook::Slow(Duration::from_secs(8)) } else { Hook::Go }
        });
        for _ in 0..3 {
            let answer = invoke(slow.clone(), &world.clock, &variables, &event, 900).await;
            if answer.is_ok_and(|answer| answer["outcomes"][0]["status"] == "swept") {
                break;
            }
        }
        world.check(&expired, &live).await;
    }
}

#[tokio::test]
async fn what_was_refused_and_is_gone_all_the_same_is_in_the_reports() {
    let (world, expired, live) = due().await;
    let batches = AtomicU64::new(0);
    let store = Hooked::new(world.store.clone(), |_| Hook::Go)
        .refusing_what_it_did(move || batches.fetch_add(1, Ordering::SeqCst) == 1);
    let answer = sweep_in(&world, store, &rules()).await;
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("failed"), &json!("access-denied")));
    world.clock.advance(1000);
    until_complete(&world, &rules()).await;
    world.check(&expired, &live).await;
}

#[tokio::test]
async fn an_object_that_is_written_again_with_the_same_content_before_the_sweep_goes_on_is_kept() {
    let (world, mut expired, mut live) = due().await;
    // Killed before its first delete: the plan stands.
    let store = Hooked::new(world.store.clone(), |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket == "files";
        if is_delete { Hook::Hang } else { Hook::Go }
    });
    let first = rules();
    let killed = tokio::time::timeout(Duration::from_millis(200), sweep_in(&world, store, &first));
    assert!(Box::pin(killed).await.is_err());
    world.clock.advance(1000);
    let touched = expired.remove(7);
    world.put(&touched, "a/old/7").await;
    live.push(touched.clone());
    until_complete(&world, &rules()).await;
    world.check(&expired, &live).await;
    assert_eq!(world.reported("changed").await, [touched]);
}

#[tokio::test]
async fn a_client_that_keeps_replacing_objects_never_loses_one() {
    let world = World::new();
    let (expired, live) = filled(&world, 3000, 10).await;
    let (store, replaced) = (world.store.clone(), Arc::new(AtomicU64::new(0)));
    let counter = replaced.clone();
    let hooked = Hooked::new(world.store.clone(), move |call| {
        if call.bucket == "files" || call.operation == Operation::Put {
            // Some that are gone, some that are about to go.
            for _ in 0..7 {
                let n = counter.fetch_add(1, Ordering::SeqCst);
                let object = ObjectRef::new("files", format!("a/old/{:06}", (n * 13) % 3000));
                let body = Bytes::from(format!("fresh {n}"));
                store.put(&object, body, PutOptions::default()).now_or_never().unwrap().unwrap();
            }
        }
        Hook::Go
    });
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    invoke(hooked, &world.clock, &variables, &json!({}), 900).await.unwrap();
    let count = replaced.load(Ordering::SeqCst);
    assert!(count > 20);
    let fresh: Vec<_> = (0..count).map(|n| format!("a/old/{:06}", (n * 13) % 3000)).collect();
    let left = world.keys("files", "").await;
    for key in fresh.iter().chain(&live) {
        assert!(left.contains(key), "{key} was lost");
    }
    for key in expired.iter().filter(|key| !fresh.contains(key)) {
        assert!(!left.contains(key), "{key} is left");
    }
    // What was replaced first and was kept is not called deleted, and nothing is called deleted twice.
    let deleted = world.reported("deleted").await;
    let unique: std::collections::BTreeSet<_> = deleted.iter().collect();
    assert_eq!(unique.len(), deleted.len());
    let accounted = deleted.len() + world.reported("changed").await.len();
    assert!(accounted >= expired.iter().filter(|key| !fresh.contains(key)).count());
}

#[tokio::test]
async fn a_rule_that_is_changed_after_a_kill_first_accounts_for_what_went() {
    let (world, expired, live) = due().await;
    let batches = AtomicU64::new(0);
    let store = Hooked::new(world.store.clone(), move |call| {
        let is_delete = call.operation == Operation::DeleteBatch && call.bucket == "files";
        match is_delete.then(|| batches.fetch_add(1, Ordering::SeqCst)) {
            Some(0) => Hook::HangAfter,
            Some(_) => Hook::Hang,
            _ => Hook::Go,
        }
    });
    let first = rules();
    let killed = tokio::time::timeout(Duration::from_millis(300), sweep_in(&world, store, &first));
    assert!(Box::pin(killed).await.is_err());
    let gone: Vec<_> = {
        let left = world.keys("files", "").await;
        expired.iter().filter(|key| !left.contains(key)).cloned().collect()
    };
    assert!(!gone.is_empty() && gone.len() < expired.len());
    world.clock.advance(1000);
    let later = json!([rule(&json!({"expire_after": "30d"}))]);
    until_complete(&world, &later).await;
    let kept: Vec<_> = expired.into_iter().filter(|key| !gone.contains(key)).chain(live).collect();
    world.check(&gone, &kept).await;
}

/// Lists in ranges, in invocations of a few seconds. `ranges` is where the cursor has the ranges that are not at their end.
async fn lists_in_ranges(rule: &Value, ranges: &str, step: i64) {
    let mut world = World::new();
    world.store = world.store.with_page_size(200);
    let (mut expired, mut live) = (Vec::new(), Vec::new());
    for folder in 0..40 {
        for n in 0..(folder % 7) * 40 {
            // Folders within folders, keys beside them, and keys that differ from a folder in their last character.
            for key in [
                format!("a/{folder:02}/{n:03}"),
                format!("a/{folder:02}/x/{n}"),
                format!("a/{folder:02}0{n}"),
            ] {
                world.put(&key, &key).await;
                expired.push(key);
            }
        }
    }
    world.clock.advance(DAY);
    for folder in 0..40 {
        let key = format!("a/{folder:02}/young");
        world.put(&key, "y").await;
        live.push(key);
    }
    let policy = policy(&json!([rule]));
    let ticking = world.clock.stepping(step);
    let mut most_ranges = 0;
    for invocation in 1.. {
        assert!(invocation < 60, "it does not get on");
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(world.store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
        let state = world.read("audit", "sweeps/state/temp.json").await;
        let state = serde_json::from_str::<Value>(&state).unwrap();
        let open = state.pointer("/progress/cursor/phase").and_then(|phase| phase.pointer(ranges));
        most_ranges = most_ranges.max(open.and_then(Value::as_array).map_or(0, Vec::len));
        if answer["complete"] == true {
            assert!(invocation > 2, "{invocation}");
            assert!(most_ranges > 1, "{most_ranges} ranges at once");
            assert_eq!(answer["outcomes"][0]["sweep"]["scanned"], expired.len() + live.len(), "{answer}");
            break;
        }
    }
    world.check(&expired, &live).await;
}

#[tokio::test]
async fn a_listing_in_ranges_sees_every_key_once_also_when_it_is_interrupted() {
    Box::pin(lists_in_ranges(
        &rule(&json!({"expire_after": "1d", "max_deletes": 100_000})),
        "/listing/ranges",
        70,
    ))
    .await;
}

#[tokio::test]
async fn a_listing_beside_its_deletes_sees_every_key_once_also_when_it_is_interrupted() {
    Box::pin(lists_in_ranges(&daily(), "/acting/listing", 55)).await;
}

#[tokio::test]
async fn after_a_kill_the_parts_of_the_report_that_are_safe_are_taken_over() {
    // Long keys fill the parts of a report with few rows.
    let folder = format!("a/{}", "x".repeat(900));
    let is_of_report = |call: &Call| call.key.as_deref().is_some_and(|key| key.ends_with("/temp.csv"));
    let is_batch = |call: &Call| call.operation == Operation::DeleteBatch && call.bucket == "files";
    let kills: [(&str, u64, Hook); 5] = [
        ("batch", 7, Hook::HangAfter),
        ("batch", 10, Hook::Hang),
        ("part", 1, Hook::HangAfter),
        ("part", 2, Hook::Hang),
        ("complete", 1, Hook::HangAfter),
    ];
    for (what, number, hook) in kills {
        let world = World::new();
        let mut expired = Vec::new();
        for n in 0..11_000 {
            let key = format!("{folder}{n:05}");
            world.put(&key, "x").await;
            expired.push(key);
        }
        world.clock.advance(DAY);
        let (met, hung) = (AtomicU64::new(0), Arc::new(tokio::sync::Notify::new()));
        let notify = hung.clone();
        let store = Hooked::new(world.store.clone(), move |call| {
            let is_meant = match what {
                "batch" => is_batch(call),
                "part" => call.operation == Operation::UploadPart && is_of_report(call),
                _ => call.operation == Operation::CompleteUpload && is_of_report(call),
            };
            if is_meant && met.fetch_add(1, Ordering::SeqCst) + 1 == number {
                notify.notify_one();
                return hook;
            }
            Hook::Go
        });
        let first = rules();
        let killed = Box::pin(sweep_in(&world, store, &first));
        tokio::select! {
            biased;
            answer = killed => unreachable!("{what} {number} was never met: {answer}"),
            () = hung.notified() => {}
        }
        world.clock.advance(1000);
        until_complete(&world, &rules()).await;
        world.check(&expired, &[]).await;
    }
}

#[tokio::test]
async fn a_clock_that_turns_out_to_be_behind_while_it_deletes_stops_the_rule_and_loses_nothing() {
    let mut world = World::new();
    world.store = world.store.with_page_size(500);
    let (mut expired, _) = filled(&world, 4000, 0).await;
    world.clock.advance(HOUR);
    world.put("a/zz", "from the future").await;
    world.clock.advance(-HOUR);
    let answer = sweep(&world, &rules()).await;
    let outcome = &answer["outcomes"][0];
    assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("failed"), &json!("clock-behind")));
    assert!(outcome["sweep"]["deleted"].as_u64().is_some_and(|deleted| deleted > 0), "{answer}");
    // Once it is right, the sweep goes on, and by then the object from the future is due as well.
    world.clock.advance(HOUR + 1000);
    until_complete(&world, &rules()).await;
    world.check(&expired, &["a/zz".to_owned()]).await;
    world.clock.advance(2 * DAY);
    until_complete(&world, &rules()).await;
    expired.push("a/zz".to_owned());
    world.check(&expired, &[]).await;
}

#[tokio::test]
async fn a_listing_that_was_left_while_it_deleted_is_gone_on_with_for_a_week() {
    for (days, is_killed) in [(2, false), (2, true), (8, false), (8, true)] {
        let mut world = World::new();
        world.store = world.store.with_page_size(500);
        let (expired, live) = filled(&world, 4000, 3).await;
        let batches = AtomicU64::new(0);
        let clock = world.clock.clone();
        let store = Hooked::new(world.store.clone(), move |call| {
            let is_delete = call.operation == Operation::DeleteBatch && call.bucket == "files";
            let earlier = batches.fetch_add(u64::from(is_delete), Ordering::SeqCst);
            match (is_delete, earlier > 0) {
                (true, false) if is_killed => Hook::HangAfter,
                // Nothing more is done, nor listed.
                (_, true) if is_killed => Hook::Hang,
                (true, false) => {
                    clock.advance(890);
                    Hook::Go
                }
                _ => Hook::Go,
            }
        });
        let first = rules();
        let left = tokio::time::timeout(Duration::from_millis(500), sweep_in(&world, store, &first));
        let answer = Box::pin(left).await;
        assert_eq!(answer.is_err(), is_killed);
        let gone = expired.len() + live.len() - world.keys("files", "").await.len();
        assert!(gone > 0 && gone < expired.len(), "{gone}");
        world.clock.advance(days * DAY);
        until_complete(&world, &rules()).await;
        if days < 7 {
            // The sweep goes on, and is about what was due when it began.
            world.check(&expired, &live).await;
            until_complete(&world, &rules()).await;
        }
        // What is as old by now goes as well.
        world.check(&[expired, live].concat(), &[]).await;
    }
}

/// Lets the sweep's clock go as fast as tokio's.
fn tick(world: &World) -> tokio::task::JoinHandle<()> {
    let clock = world.clock.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance_by(5);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn batches_that_take_long_end_before_the_deadline_all_the_same() {
    const BATCH: Duration = Duration::from_millis(2200);
    const SECONDS: i64 = 6;
    let world = World::new();
    world.fill("a/", 40_000).await;
    world.clock.advance(DAY);
    let store = Hooked::new(world.store.clone(), |call| {
        let is_batch = call.operation == Operation::DeleteBatch && call.bucket == "files";
        if is_batch { Hook::Slow(BATCH) } else { Hook::Go }
    });
    let ticking = tick(&world);
    let policy = policy(&json!([rule(&json!({"expire_after": "1d"}))]));
    let variables = [("SWEEP_POLICY", &*policy)];
    for invocation in 1.. {
        assert!(invocation < 30, "it does not get on");
        let before = world.clock.now();
        let answer = invoke(store.clone(), &world.clock, &variables, &json!({}), SECONDS).await.unwrap();
        let took = world.clock.now().duration_since(before);
        assert!(took.as_secs() < SECONDS, "invocation {invocation} took {took:?}");
        if answer["complete"] == true {
            assert!(invocation > 1);
            break;
        }
    }
    ticking.abort();
    let gone: Vec<_> = (0..40_000).map(|n| format!("a/{n:06}")).collect();
    world.check(&gone, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn every_invocation_gets_on_at_a_store_that_takes_the_longer_the_more_it_is_asked_at_once() {
    const OBJECTS: usize = 30_000;
    let world = World::new();
    world.fill("a/", OBJECTS).await;
    world.clock.advance(DAY);
    // All that there is memory for, begun at once, would take seven seconds.
    let store = Hooked::new(world.store.clone(), |call| {
        let is_batch = call.operation == Operation::DeleteBatch && call.bucket == "files";
        if is_batch { Hook::Shared(Duration::from_millis(350)) } else { Hook::Go }
    });
    let ticking = tick(&world);
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let mut reported = 0;
    for invocation in 1.. {
        let before = world.clock.now();
        let answer = invoke(store.clone(), &world.clock, &variables, &json!({}), 3).await.unwrap();
        let took = world.clock.now().duration_since(before);
        assert!(took.as_secs() < 3, "invocation {invocation} took {took:?}");
        let by_now = world.reported("deleted").await.len();
        assert!(by_now >= (reported + 5000).min(OBJECTS), "{reported} and then {by_now}: {answer}");
        reported = by_now;
        if answer["complete"] == true {
            break;
        }
    }
    ticking.abort();
    let gone: Vec<_> = (0..OBJECTS).map(|n| format!("a/{n:06}")).collect();
    world.check(&gone, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_few_slow_batches_those_that_follow_are_fewer_at_once_and_the_sweep_goes_on() {
    let world = World::new();
    world.fill("a/", 40_000).await;
    world.clock.advance(DAY);
    let begun = AtomicU64::new(0);
    let store = Hooked::new(world.store.clone(), move |call| {
        if call.operation != Operation::DeleteBatch || call.bucket != "files" {
            return Hook::Go;
        }
        let is_slow = begun.fetch_add(1, Ordering::Relaxed) < 2;
        Hook::Slow(Duration::from_millis(if is_slow { 10_000 } else { 100 }))
    });
    let ticking = tick(&world);
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    // At the pace of the first two, three at once would not end in the time that is left then.
    let answer = invoke(store, &world.clock, &variables, &json!({}), 30).await.unwrap();
    ticking.abort();
    assert_eq!(answer["complete"], true, "{answer}");
    let gone: Vec<_> = (0..40_000).map(|n| format!("a/{n:06}")).collect();
    world.check(&gone, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn batches_have_a_thousand_keys_however_long_the_store_takes_for_one() {
    let mut batches = Vec::new();
    for time in [Duration::from_millis(100), Duration::from_millis(1500)] {
        let world = World::new();
        world.fill("a/", 40_000).await;
        world.clock.advance(DAY);
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let store = Hooked::new(world.store.clone(), move |call| {
            if call.operation != Operation::DeleteBatch || call.bucket != "files" {
                return Hook::Go;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Hook::Slow(time)
        });
        // The plan is whole before the first batch, so that nothing is handed on early.
        let policy = policy(&json!([rule(&json!({"expire_after": "1d", "max_deletes": 100_000}))]));
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(store, &world.clock, &variables, &json!({}), 900).await.unwrap();
        assert_eq!(answer["complete"], true, "{answer}");
        let gone: Vec<_> = (0..40_000).map(|n| format!("a/{n:06}")).collect();
        world.check(&gone, &[]).await;
        batches.push(calls.load(Ordering::Relaxed));
    }
    // The last is not alone in flight, so that it is not halved.
    assert_eq!(batches, [40, 40]);
}

#[tokio::test(start_paused = true)]
async fn whatever_does_not_answer_the_invocation_does_and_the_next_one_goes_on() {
    const SECONDS: i64 = 6;
    let plain = json!({"expire_after": "1d"});
    let held = json!({"expire_after": "1d", "hold_tag": "hold=true"});
    let moved = json!({"expire_after": "1d", "quarantine_before_delete": true});
    let capped = json!({"expire_after": "1d", "max_deletes": 100_000});
    let own = json!({"expires_at": "metadata", "expire_after": "1d"});
    // What is not answered from which call on, with which rule, on a store with conditions or without.
    let cases = [
        (Operation::List, 0, &plain, true),
        (Operation::List, 2, &plain, true),
        (Operation::List, 1, &capped, true),
        (Operation::DeleteBatch, 0, &plain, true),
        (Operation::DeleteBatch, 1, &plain, true),
        (Operation::DeleteBatch, 1, &capped, true),
        (Operation::Head, 0, &plain, false),
        (Operation::Head, 700, &plain, false),
        (Operation::Head, 300, &own, true),
        (Operation::GetTags, 0, &held, true),
        (Operation::GetTags, 450, &held, true),
        (Operation::Copy, 0, &moved, true),
        (Operation::Copy, 250, &moved, true),
        (Operation::Copy, 250, &moved, false),
        (Operation::Head, 250, &moved, false),
        (Operation::Put, 0, &plain, true),
        (Operation::Put, 2, &plain, true),
        (Operation::Put, 5, &plain, true),
        (Operation::Get, 1, &plain, true),
    ];
    for ((operation, answered, fields, conditional), hook) in
        cases.into_iter().flat_map(|case| [(case, Hook::Hang), (case, Hook::HangAfter)])
    {
        let what = format!("{operation:?} {answered} {hook:?} {fields} {conditional}");
        let mut world = World::new();
        world.store = world.store.with_page_size(500);
        let (expired, live) = filled(&world, 1200, 20).await;
        let made = AtomicU64::new(0);
        let hanging = Hooked::new(world.store.clone(), move |call| {
            let is_meant = call.operation == operation && made.fetch_add(1, Ordering::SeqCst) >= answered;
            if is_meant { hook } else { Hook::Go }
        });
        let hooked = Hooked::new(world.store.clone(), |_| Hook::Go);
        let (hanging, working) = if conditional {
            (hanging, hooked)
        } else {
            (hanging.without_conditions(), hooked.without_conditions())
        };
        let policy = policy(&json!([rule(fields)]));
        let variables = [("SWEEP_POLICY", &*policy)];
        let ticking = tick(&world);
        let before = world.clock.now();
        let event = json!({});
        let invoked = Box::pin(invoke(hanging, &world.clock, &variables, &event, SECONDS));
        let Ok(answer) = tokio::time::timeout(Duration::from_secs(60), invoked).await else {
            unreachable!("{what} is waited for without end");
        };
        let took = world.clock.now().duration_since(before);
        assert!(took.as_millis() < i128::from(SECONDS) * 1000, "{what} took {took:?}");
        match answer {
            Ok(answer) => assert_eq!(answer["complete"], false, "{what}: {answer}"),
            Err(error) => assert_eq!(error.error_type, "Retryable", "{what}: {error}"),
        }
        ticking.abort();
        world.clock.advance(1000);
        for invocation in 0.. {
            assert!(invocation < 5, "{what} does not get on");
            let answer = invoke(working.clone(), &world.clock, &variables, &json!({}), 900).await.unwrap();
            if answer["complete"] == true {
                break;
            }
        }
        world.check(&expired, &live).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_an_invocation_gets_on_all_the_same() {
    let moved = json!({"expire_after": "1d", "quarantine_before_delete": true});
    let plain = json!({"expire_after": "1d"});
    for (slow, fields, conditional) in
        [(Operation::Copy, &moved, true), (Operation::Copy, &moved, false), (Operation::Head, &plain, false)]
    {
        let world = World::new();
        world.fill("a/", 400).await;
        world.clock.advance(DAY);
        let store = Hooked::new(world.store.clone(), move |call| {
            let is_meant = call.operation == slow && (slow == Operation::Copy || call.bucket == "files");
            if is_meant { Hook::Slow(Duration::from_millis(1900)) } else { Hook::Go }
        });
        let store = if conditional { store } else { store.without_conditions() };
        let policy = policy(&json!([rule(fields)]));
        let variables = [("SWEEP_POLICY", &*policy)];
        let ticking = tick(&world);
        for invocation in 1.. {
            assert!(invocation < 30, "it does not get on");
            let before = world.clock.now();
            // Of each group of a hundred, 32 at once, not half can be asked about in that time.
            let answer = invoke(store.clone(), &world.clock, &variables, &json!({}), 4).await.unwrap();
            let took = world.clock.now().duration_since(before);
            assert!(took.as_millis() < 4000, "invocation {invocation} took {took:?}");
            if answer["complete"] == true {
                assert!(invocation > 2, "{invocation}");
                break;
            }
        }
        ticking.abort();
        let gone: Vec<_> = (0..400).map(|n| format!("a/{n:06}")).collect();
        world.check(&gone, &[]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_and_a_batch_of_a_map_too_answer_whatever_hangs() {
    let world = World::new();
    let (expired, live) = filled(&world, 300, 3).await;
    let written = world.clock.now().as_second() - DAY - 1;
    let items: Vec<_> = expired
        .iter()
        .map(|key| json!({"Key": key, "Size": 1, "LastModified": written, "Etag": null}))
        .collect();
    let batch = json!({"BatchInput": {"rule": "temp", "sweep_id": "map"}, "Items": items});
    for (mode, event, operation) in [
        ("plan", json!({}), Operation::List),
        ("plan", json!({}), Operation::Put),
        ("apply", batch.clone(), Operation::List),
        ("apply", batch.clone(), Operation::DeleteBatch),
        ("apply", batch.clone(), Operation::Put),
    ] {
        let store = Hooked::new(world.store.clone(), move |call| {
            if call.operation == operation { Hook::HangAfter } else { Hook::Go }
        });
        let policy = json!({"version": 1, "mode": mode, "rules": [daily()]}).to_string();
        let variables = [("SWEEP_POLICY", &*policy)];
        let invoked = Box::pin(invoke(store, &world.clock, &variables, &event, 6));
        let Ok(answer) = tokio::time::timeout(Duration::from_secs(6), invoked).await else {
            unreachable!("{mode} {operation:?} is not answered");
        };
        match answer {
            Ok(answer) => {
                let outcome = &answer["outcomes"][0];
                let reason = &outcome["reason"]["code"];
                assert_eq!(
                    (&outcome["status"], reason),
                    (&json!("failed"), &json!("deadline")),
                    "{mode} {operation:?}"
                );
                assert_eq!(answer["complete"], false);
            }
            Err(error) => assert_eq!(error.error_type, "Retryable", "{mode} {operation:?}: {error}"),
        }
    }
    let policy = policy(&json!([daily()]));
    let variables = [("SWEEP_POLICY", &*policy)];
    let answer = invoke(world.store.clone(), &world.clock, &variables, &batch, 900).await.unwrap();
    assert_eq!(answer["outcomes"][0]["status"], "swept");
    world.check(&expired, &live).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_store_that_is_slow_faulty_and_late_all_is_in_the_reports_once() {
    for seed in 0..24 {
        let cap = if seed % 3 == 0 { Value::Null } else { json!(100_000) };
        // Reports and plans in one piece, and in many.
        let sizes = if seed % 2 == 0 {
            Sizes { batch: 100, plan_rows: 700, part_bytes: 20_000 }
        } else {
            Sizes::default()
        };
        let mut world = World::new();
        world.store = world.store.with_page_size(200);
        let (expired, live) = filled(&world, 2500, 20).await;
        let mut rule = rule(&json!({"expire_after": "1d", "max_deletes": cap}));
        rule.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let policy = policy(&json!([rule]));
        let mut chance = fastrand::Rng::with_seed(seed);
        let calls = Mutex::new(chance.fork());
        let store = Hooked::new(world.store.clone(), move |_| {
            let mut chance = calls.lock().unwrap();
            match chance.u32(..100) {
                0..2 => Hook::Late(Duration::from_millis(chance.u64(..9000))),
                2 => Hook::HangAfter,
                3..30 => Hook::Slow(Duration::from_millis(chance.u64(..400))),
                _ => Hook::Go,
            }
        });
        let keys = Mutex::new(chance.fork());
        let store = store.with_errors_inside(move |_| keys.lock().unwrap().u32(..50) == 0);
        let ticking = tick(&world);
        for invocation in 0.. {
            assert!(invocation < 200, "{seed} does not get on");
            let deadline = world.clock.now() + SignedDuration::from_secs(6);
            let invocation = Invocation { request_id: format!("{:032x}", chance.u128(..)), deadline };
            let faulty = FaultStore::new(store.clone()).random(chance.u64(..), 5);
            let config = config(&[("SWEEP_POLICY", &*policy)]);
            let deps =
                Deps::new(faulty, world.clock.clone(), RecordingCdn::default(), config).in_pieces_of(sizes);
            // One of five is killed.
            let life =
                Duration::from_millis(if chance.u32(..5) == 0 { chance.u64(200..5000) } else { 60_000 });
            let schedule = json!({});
            let handled = Box::pin(handle(&deps, &schedule, &invocation));
            if let Ok(Ok(answer)) = tokio::time::timeout(life, handled).await
                && answer["complete"] == true
                && answer["outcomes"][0]["status"] == "swept"
            {
                break;
            }
        }
        ticking.abort();
        world.check(&expired, &live).await;
    }
}
