//! Holds the published JSON Schema and the parser of policies together.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

use std::collections::BTreeSet;

use expiry_sweeper::policy::Policy;
use serde_json::{Map, Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schemas/sweep-policy.schema.json")).unwrap()
}

/// The names that the schema knows in the object at `pointer`.
fn named(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let object = schema.pointer(pointer).unwrap();
    assert_eq!(object["additionalProperties"], false, "{pointer}");
    object["properties"].as_object().unwrap().keys().cloned().collect()
}

/// The names that the parser knows in the object at `path`, as its message about an unknown one lists them.
fn understood(document: &Value, path: &str) -> BTreeSet<String> {
    let error = Policy::from_value(document, "audit").unwrap_err();
    let mistake = error.0.iter().find(|mistake| mistake.path == path).unwrap();
    assert_eq!(mistake.code, "unknown-field");
    mistake.message.split_once("there are ").unwrap().1.split(", ").map(str::to_owned).collect()
}

fn example() -> Value {
    schema()["examples"][0].clone()
}

fn codes(document: &Value) -> Vec<&'static str> {
    Policy::from_value(document, "audit")
        .map_or_else(|error| error.0.into_iter().map(|m| m.code).collect(), |_| Vec::new())
}

#[test]
fn schema_and_parser_know_the_same_fields() {
    let schema = schema();
    let stranger = json!({"stranger": 1});
    let mut document = example();
    document["stranger"] = json!(1);
    assert_eq!(named(&schema, ""), understood(&document, "stranger"));
    let mut document = example();
    document["limits"] = stranger.clone();
    assert_eq!(named(&schema, "/$defs/limits"), understood(&document, "limits.stranger"));
    document["rules"] = json!([stranger]);
    assert_eq!(named(&schema, "/$defs/rule"), understood(&document, "rules[0].stranger"));
    document["cdn"] = json!([stranger]);
    assert_eq!(named(&schema, "/$defs/cdn"), understood(&document, "cdn[0].stranger"));
}

#[test]
fn the_schemas_examples_are_policies() {
    for example in schema()["examples"].as_array().unwrap() {
        assert_eq!(codes(example), [""; 0]);
    }
}

#[test]
fn what_the_schema_requires_the_parser_misses() {
    let schema = schema();
    for (pointer, place) in [("", ""), ("/$defs/rule", "/rules/0"), ("/$defs/cdn", "/cdn/0")] {
        for name in schema.pointer(pointer).unwrap()["required"].as_array().unwrap() {
            let mut document = example();
            let object = document.pointer_mut(place).unwrap().as_object_mut().unwrap();
            object.remove(name.as_str().unwrap()).unwrap();
            assert!(!codes(&document).is_empty(), "{pointer} without {name}");
        }
    }
}

#[test]
fn the_parser_takes_every_name_of_an_enumeration_and_no_other() {
    let schema = schema();
    let rule = |place: &Value| json!({"id": "a", "bucket": "files", "prefix": "a/", "expires_at": place});
    for place in schema["$defs"]["rule"]["properties"]["expires_at"]["enum"].as_array().unwrap() {
        assert!(codes(&json!({"version": 1, "rules": [rule(place)]})).is_empty(), "{place}");
    }
    assert_eq!(codes(&json!({"version": 1, "rules": [rule(&json!("header"))]})), ["bad-expires-at"]);
    let mut document = example();
    for mode in schema["properties"]["mode"]["enum"].as_array().unwrap() {
        document["mode"] = mode.clone();
        assert!(codes(&document).is_empty(), "{mode}");
    }
    document["mode"] = json!("dry");
    assert_eq!(codes(&document), ["bad-mode"]);
}

#[test]
fn the_parser_refuses_what_is_beyond_the_schemas_bounds() {
    let with = |name: &str, value: Value| {
        let mut rule = Map::new();
        for (name, value) in [("id", "a"), ("bucket", "files"), ("prefix", "a/"), ("expire_after", "1d")] {
            rule.insert(name.to_owned(), json!(value));
        }
        rule.insert(name.to_owned(), value);
        json!({"version": 1, "rules": [rule]})
    };
    for (name, value) in [
        ("id", json!("")),
        ("id", json!("A")),
        ("id", json!("a".repeat(65))),
        ("bucket", json!("a")),
        ("prefix", json!("")),
        ("expire_after", json!(24)),
        ("min_size", json!(-1)),
        ("max_deletes", json!(-1)),
        ("max_delete_ratio", json!(1.5)),
        ("anomaly_factor", json!(0.5)),
        ("hold_tag", json!("hold")),
        ("exclude", json!("a/**")),
        ("require_conditional", json!("yes")),
        ("grace", json!("1d")),
        ("unreferenced_in", json!("s3://audit")),
        ("noncurrent_after", json!("1d")),
    ] {
        assert!(!codes(&with(name, value.clone())).is_empty(), "{name}: {value}");
    }
}
