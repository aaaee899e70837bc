//! Every envelope is a file that can be replayed; what each is read as is kept as a snapshot.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn files() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap())
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

#[test]
fn every_event_file_is_read_as_its_snapshot_says() {
    let files = files();
    assert!(files.len() >= 20, "the folder of events was found");
    for (name, event) in files {
        insta::assert_debug_snapshot!(name, normalize(&event));
    }
}

#[test]
fn what_is_not_understood_is_named_without_its_values() {
    for (event, named) in [
        (json!({"secret": "hunter2"}), "an object with secret"),
        (json!({}), "an empty object"),
        (json!("hunter2"), "a text"),
        (json!(null), "null"),
        (json!([]), "an array of 0 elements"),
        (json!({"Records": []}), "an object with Records"),
        (json!({"Records": [{"eventSource": "aws:dynamodb"}]}), "aws:dynamodb"),
        (json!({"events": [{"eventSource": "acs:mns"}]}), "acs:mns"),
    ] {
        let message = normalize(&event).unwrap_err().0;
        assert!(message.contains(named), "{message}");
        assert!(message.contains("understood are S3 notifications"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn one_bad_record_does_not_stop_the_others() {
    let good = |key: &str| {
        json!({"eventVersion": "2.6", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": "uploads"}, "object": {"key": key}}})
    };
    let event = json!({"Records": [
        good("a"), good("%zz"), {"eventSource": "aws:s3"}, {"eventSource": "aws:dynamodb"}, 7, good("b")]});
    let delivery = normalize(&event).unwrap();
    let fates: Vec<bool> = delivery.records.iter().map(|record| record.content.is_ok()).collect();
    assert_eq!(fates, [true, false, false, false, false, true]);
}

#[test]
fn an_sqs_message_that_is_no_event_is_malformed_under_its_own_id() {
    let event = json!({"Records": [{"messageId": "m1", "eventSource": "aws:sqs", "body": "hello"}]});
    let delivery = normalize(&event).unwrap();
    assert_eq!(delivery.records[0].delivery_id.as_deref(), Some("m1"));
    assert!(delivery.records[0].content.is_err());
}

#[test]
fn removals_folder_markers_and_parts_have_nothing_to_do() {
    let skipped = |event_name: &str, key: &str, size: u64| {
        let event = json!({"Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event_name,
            "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, "size": size}}}]});
        let delivery = normalize(&event).unwrap();
        let Ok(Content::Object(event)) = &delivery.records[0].content else { panic!("an object") };
        event.skip_reason().map(|reason| reason.code)
    };
    assert_eq!(skipped("ObjectRemoved:Delete", "u/a.png", 1), Some("removal-event"));
    assert_eq!(skipped("ObjectTagging:Put", "u/a.png", 1), Some("not-a-creation"));
    assert_eq!(skipped("ObjectCreated:UploadPart", "u/a.png", 1), Some("not-a-creation"));
    assert_eq!(skipped("ObjectCreated:Put", "u/", 0), Some("folder-marker"));
    assert_eq!(skipped("ObjectCreated:Put", "u/", 5), None);
    assert_eq!(skipped("ObjectCreated:Put", "u/a.png", 0), None);
}

/// JSON of any shape, with the field names that envelopes are recognised by.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("Records".to_owned()),
        Just("events".to_owned()),
        Just("body".to_owned()),
        Just("s3".to_owned()),
        Just("oss".to_owned()),
        Just("object".to_owned()),
        Just("bucket".to_owned()),
        Just("key".to_owned()),
        Just("name".to_owned()),
        Just("eventSource".to_owned()),
        Just("detail-type".to_owned()),
        Just("tasks".to_owned()),
        Just("Items".to_owned()),
        "[a-z]{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just("aws:s3".to_owned()),
            Just("aws:sqs".to_owned()),
            Just("acs:oss".to_owned()),
            ".{0,20}"
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Replaces the `n`-th node of a tree, counted from its root.
fn replace_node(value: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        *value = with.clone();
    }
    *n = n.wrapping_sub(1);
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace_node(element, n, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_node(field, n, with)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(event in any_json()) {
        let _ = normalize(&event);
    }

    #[test]
    fn no_damage_to_a_real_event_makes_it_panic(file in 0_usize..100, node in 0_usize..60, with in any_json()) {
        let files = files();
        let mut event = files[file % files.len()].1.clone();
        replace_node(&mut event, &mut node.clone(), &with);
        let _ = normalize(&event);
    }
}
