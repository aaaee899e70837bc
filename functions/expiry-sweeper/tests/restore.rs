//! The way back: what a sweep quarantined stands again, from the sweep's own report.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use expiry_sweeper::restore::restore;
use serde_json::json;
use shared::object_ref::ObjectRef;
use shared::store::ObjectStore;

use support::hooked::{Hook, Hooked};
use support::{DAY, World, rule, sweep};

#[tokio::test]
async fn nothing_newer_is_replaced_where_the_store_copies_without_conditions() {
    let world = World::new();
    for key in ["a/1", "a/2"] {
        world.put(key, "old").await;
    }
    world.clock.advance(2 * DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "quarantine_before_delete": true}))]);
    let answer = sweep(&world, &rules).await;
    world.put("a/2", "new").await;
    let report = answer["outcomes"][0]["sweep"]["report"].as_str().unwrap();
    let store = Hooked::new(world.store.clone(), |_| Hook::Go).without_conditional_copy();
    let report = ObjectRef::parse_uri(report).unwrap();
    let totals = restore(&store, &report, true, |_, _| ()).await.unwrap();
    assert_eq!((totals.restored, totals.newer), (1, 1));
    assert_eq!(
        (world.read("files", "a/1").await, world.read("files", "a/2").await),
        ("old".into(), "new".into())
    );
}

#[tokio::test]
async fn a_sweep_that_quarantined_can_be_undone_from_its_report() {
    let world = World::new();
    let keys = ["a/plain", "a/ü +;=1", "a/replaced"];
    for key in keys {
        world
            .put_with(key, &format!("old {key}"), &[("owner", "me")], &[("upload-status", "accepted")])
            .await;
    }
    world.clock.advance(2 * DAY);
    let rules = json!([rule(&json!({"expire_after": "1d", "quarantine_before_delete": true}))]);
    let answer = sweep(&world, &rules).await;
    assert!(world.keys("files", "").await.is_empty(), "{answer}");
    world.put("a/replaced", "new").await;

    let report = answer["outcomes"][0]["sweep"]["report"].as_str().unwrap();
    let folder = ObjectRef::parse_uri(&report[..=report.rfind('/').unwrap()]).unwrap();
    let mut told = Vec::new();
    let each = |row: &expiry_sweeper::report::Row, restored: &expiry_sweeper::restore::Restored| {
        told.push((row.key.clone(), restored.as_str()));
    };
    let totals = restore(&world.store, &folder, true, each).await.unwrap();
    told.sort();
    let expected = [("a/plain", "restored"), ("a/replaced", "newer"), ("a/ü +;=1", "restored")];
    assert_eq!(told, expected.map(|(key, what)| (key.to_owned(), what)), "{totals:?}");
    for (key, content) in [(keys[0], "old a/plain"), (keys[1], "old a/ü +;=1"), (keys[2], "new")] {
        assert_eq!(world.read("files", key).await, content);
    }
    let restored = ObjectRef::new("files", "a/plain");
    assert_eq!(world.store.head(&restored).await.unwrap().metadata["owner"], "me");
    assert_eq!(world.store.get_tags(&restored).await.unwrap()["upload-status"], "accepted");
    // Written just now, it has another full term.
    sweep(&world, &rules).await;
    assert_eq!(world.read("files", "a/plain").await, "old a/plain");
}
