//! A listing in several ranges at once sees every key exactly once, wherever it is split.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use shared::store::{ObjectStore, Operation, RecordingStore};
use support::hooked::{Hook, Hooked};
use support::*;

/// A day, and nothing is too much at once, so that it deletes while it lists.
fn rules() -> Value {
    json!([rule(&json!({"expire_after": "1d", "anomaly_factor": 0}))])
}

/// The same with a cap, so that it lists before it deletes.
fn capped() -> Value {
    json!([rule(&json!({"expire_after": "1d", "max_deletes": 100_000, "anomaly_factor": 0}))])
}

/// Sweeps until it is done, by invocations of three seconds, and answers how many there were and how many
/// ranges were open at once.
async fn sweep(world: &World, rules: &Value, step: i64) -> (usize, usize) {
    sweep_at(world, world.store.clone(), rules, step).await
}

/// The same over another store.
async fn sweep_at<S: ObjectStore + Clone>(
    world: &World,
    store: S,
    rules: &Value,
    step: i64,
) -> (usize, usize) {
    let policy = policy(rules);
    let (ticking, mut most) = (world.clock.stepping(step), 0);
    for invocation in 1..200 {
        let variables = [("SWEEP_POLICY", &*policy)];
        let answer = invoke(store.clone(), &ticking, &variables, &json!({}), 3).await.unwrap();
        if answer["complete"] == true {
            return (invocation, most);
        }
        let state = world.read("audit", "sweeps/state/temp.json").await;
        let state: Value = serde_json::from_str(&state).unwrap();
        let phase = &state["progress"]["cursor"]["phase"];
        let ranges = [&phase["listing"]["ranges"], &phase["acting"]["listing"]];
        most = most.max(ranges.iter().filter_map(|open| open.as_array()).map(Vec::len).sum());
    }
    unreachable!("it does not get on");
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..20_000_u32).prop_map(|n| format!("a/{n:06}")),
        2 => any::<u32>().prop_map(|n| format!("a/{n:08x}-{n:04x}")),
        2 => (0..4_u8, 0..3000_u32).prop_map(|(folder, n)| format!("a/f{folder}/{n}")),
        2 => "a/[a-c0-1é~! +]{1,6}(/[a-c0-1]{1,3})?",
        2 => (0..40_u8, prop_oneof![Just("/"), Just("-/"), Just("-"), Just("-x/"), Just("/y/")], 0..100_u8)
            .prop_map(|(folder, between, n)| format!("a/{folder:02}{between}{n}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_key_is_swept_once_wherever_the_listing_is_split_and_interrupted(
        keys in proptest::collection::btree_set(key(), 1..500),
        page_size in 1_u16..12,
        step in prop_oneof![Just(0_i64), Just(7)],
        is_capped: bool,
        is_tree: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            world.store = world.store.with_page_size(page_size);
            for key in &keys {
                world.put(key, key).await;
            }
            world.clock.advance(DAY);
            let rules = if is_capped { capped() } else { rules() };
            if is_tree {
                let store = Hooked::new(world.store.clone(), |_| Hook::Go).in_tree_order(page_size);
                sweep_at(&world, store, &rules, step).await;
            } else {
                sweep(&world, &rules, step).await;
            }
            world.check(&keys.into_iter().collect::<Vec<_>>(), &[]).await;
        });
    }
}

#[tokio::test]
async fn keys_without_folders_are_listed_in_several_ranges_at_once() {
    // Numbers one after the other, and names that are all over the place.
    let numbers: BTreeSet<String> = (0..8000).map(|n| format!("a/{n:07}")).collect();
    let names = (0..8000_u32).map(|n| format!("a/{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    // Where it deletes at the same time, the listing is in no hurry.
    let at_once = [(rules(), 3), (capped(), 5)];
    for (keys, (rules, ranges)) in
        [&numbers, &names].into_iter().flat_map(|keys| at_once.clone().map(|how| (keys, how)))
    {
        let mut world = World::new();
        world.store = world.store.with_page_size(100);
        for key in keys {
            world.put(key, "x").await;
        }
        let store = Arc::new(RecordingStore::new(world.store.clone()));
        sweep_in(&world, store.clone(), &rules).await;
        let lists = store.count(Operation::List);
        assert!((80..=110).contains(&lists), "{lists} pages instead of 80");

        world.clock.advance(DAY);
        let (invocations, most) = sweep(&world, &rules, 60).await;
        assert!(invocations > 1 && most >= ranges, "{most} ranges at once in {invocations} invocations");
        world.check(&keys.iter().cloned().collect::<Vec<_>>(), &[]).await;
    }
}

/// The operations on the bucket that is swept, in their order.
async fn order(objects: usize, rules: &Value) -> Vec<Operation> {
    let mut world = World::new();
    world.store = world.store.with_page_size(500);
    for n in 0..objects {
        world.put(&format!("a/{n:05}"), "x").await;
    }
    world.clock.advance(DAY);
    let store = Arc::new(RecordingStore::new(world.store.clone()));
    let answer = sweep_in(&world, store.clone(), rules).await;
    assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], objects, "{answer}");
    let calls = store.calls().into_iter().filter(|call| call.bucket == "files");
    calls.map(|call| call.operation).collect()
}

#[tokio::test]
async fn deletes_overlap_the_listing_unless_a_cap_might_stop_them() {
    let is_listed_first = |order: &[Operation]| {
        let last_list = order.iter().rposition(|operation| *operation == Operation::List);
        last_list < order.iter().position(|operation| *operation == Operation::DeleteBatch)
    };
    assert!(!is_listed_first(&order(6000, &rules()).await));
    assert!(is_listed_first(&order(6000, &capped()).await));
}

#[tokio::test]
async fn deletes_go_by_the_thousand_and_an_end_that_would_be_alone_in_two_halves() {
    for rules in [rules(), capped()] {
        let mut deletes = Vec::new();
        for objects in [400, 1000, 2500, 10_000] {
            let order = order(objects, &rules).await;
            deletes.push(order.iter().filter(|operation| **operation == Operation::DeleteBatch).count());
        }
        // The end of the last is alone or not, as it happens.
        let last = deletes.pop();
        assert!(matches!(last, Some(10 | 11)), "{last:?}: {rules}");
        assert_eq!(deletes, [1, 2, 3], "{rules}");
    }
}

#[tokio::test]
async fn many_keys_between_a_folder_and_its_name_do_not_keep_a_range_from_its_beginning() {
    let mut world = World::new();
    world.store = world.store.with_page_size(2);
    let mut keys: Vec<_> = (0..40).map(|n| format!("a/b-{n:02}")).collect();
    keys.extend((0..40).map(|n| format!("a/b/{n:02}")));
    keys.extend((0..40).map(|n| format!("a/a/{n:02}")));
    keys.extend((0..5).flat_map(|folder| (0..5).map(move |n| format!("a/c{folder}/{n}"))));
    for key in &keys {
        world.put(key, key).await;
    }
    world.clock.advance(DAY);
    for rules in [rules(), capped()] {
        sweep(&world, &rules, 7).await;
    }
    world.check(&keys, &[]).await;
}
