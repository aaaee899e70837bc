//! The JSON Schema of `CATALOGS` and the parser say the same about every example.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests cannot do, fails the test")]

use regex_lite::Regex;
use serde_json::{Map, Value, json};
use upload_validator::catalog::{Catalogs, Limits, MAX_PIXELS, MAX_SIZE};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schemas/catalogs.schema.json")).unwrap()
}

/// Whether `value` is valid by `schema`, a part of `root`. It knows the keywords that are used there, and
/// nothing else: a keyword that is new fails the test instead of being passed over.
fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let empty = Map::new();
    let fields = value.as_object();
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "$id" | "$defs" | "title" | "description" | "then" => true,
        "$ref" => {
            is_valid(root, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value)
        }
        "const" => value == rule,
        "type" => match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("type {other}"),
        },
        "required" => {
            let names = rule.as_array().unwrap();
            fields.is_none_or(|fields| names.iter().all(|name| fields.contains_key(name.as_str().unwrap())))
        }
        "properties" => rule.as_object().unwrap().iter().all(|(name, rule)| {
            let field = fields.and_then(|fields| fields.get(name));
            field.is_none_or(|field| is_valid(root, rule, field))
        }),
        "additionalProperties" => {
            let known = schema["properties"].as_object().unwrap_or(&empty);
            let others = fields.into_iter().flatten().filter(|(name, _)| !known.contains_key(*name));
            others.into_iter().all(|(_, field)| rule.is_object() && is_valid(root, rule, field))
        }
        "propertyNames" => {
            fields.into_iter().flatten().all(|(name, _)| is_valid(root, rule, &name.as_str().into()))
        }
        "minProperties" => fields.is_none_or(|fields| fields.len() as u64 >= rule.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "items" => value.as_array().into_iter().flatten().all(|item| is_valid(root, rule, item)),
        "pattern" => {
            value.as_str().is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text))
        }
        "oneOf" => rule.as_array().unwrap().iter().filter(|rule| is_valid(root, rule, value)).count() == 1,
        "if" => !is_valid(root, rule, value) || is_valid(root, &schema["then"], value),
        other => panic!("the keyword {other} is not known here"),
    })
}

fn conforms(document: &Value) -> bool {
    let schema = schema();
    is_valid(&schema, &schema, document)
}

fn parses(document: &Value) -> bool {
    let limits = Limits {
        min_size: 1,
        max_size: MAX_SIZE,
        max_pixels: MAX_PIXELS,
        max_frames: 1,
        content_types: Vec::new(),
        ticket_required: true,
        retention: None,
    };
    Catalogs::parse(&document.to_string(), limits).is_ok()
}

#[test]
fn what_the_schema_takes_is_parsed() {
    for valid in [
        json!({"version": 1}),
        json!({"version": 1, "catalogs": {}}),
        json!({"version": 1, "catalogs": {"tempcato": {}, "bn0m0anw": {}, "a.b-c_d": {}}, "other_short_codes": true}),
        json!({"version": 1, "catalogs": {"docs": {}}, "other_short_codes": false}),
        json!({"version": 1, "other_short_codes": {"max_size": 1000, "retention": "90m"}}),
        json!({"version": 1, "catalogs": {"docs": {
            "min_size": 1, "max_size": 5_497_558_138_880_u64, "max_pixels": 4_294_967_296_u64,
            "content_types": ["image/*", "*/*", "application/vnd.ms-excel", "image/svg+xml"],
            "ticket_required": false, "retention": "99999w"}}}),
    ] {
        assert!(conforms(&valid), "{valid}");
        assert!(parses(&valid), "{valid}");
    }
}

#[test]
fn what_the_schema_refuses_is_refused() {
    let mut invalid = vec![
        json!([]),
        json!({}),
        json!({"version": 2}),
        json!({"version": "1"}),
        json!({"version": 1, "catalogues": {}}),
        json!({"version": 1, "catalogs": []}),
        json!({"version": 1, "other_short_codes": "no"}),
        json!({"version": 1, "other_short_codes": false}),
        json!({"version": 1, "other_short_codes": false, "catalogs": {}}),
        json!({"version": 1, "catalogs": {"Docs": {}}}),
        json!({"version": 1, "catalogs": {"": {}}}),
        json!({"version": 1, "catalogs": {"-docs": {}}}),
        json!({"version": 1, "catalogs": {"a".repeat(64): {}}}),
        json!({"version": 1, "catalogs": {"docs": true}}),
    ];
    for (name, value) in [
        ("min_size", json!(0)),
        ("min_size", json!(-1)),
        ("max_size", json!("1000")),
        ("max_size", json!(1.5)),
        ("max_size", json!(5_497_558_138_881_u64)),
        ("max_pixels", json!(0)),
        ("max_pixels", json!(4_294_967_297_u64)),
        ("content_types", json!([])),
        ("content_types", json!("image/png")),
        ("content_types", json!(["image"])),
        ("content_types", json!(["IMAGE/PNG"])),
        ("content_types", json!(["*/png"])),
        ("content_types", json!(["image/png; q=1"])),
        ("content_types", json!([7])),
        ("ticket_required", json!("yes")),
        ("retention", json!(24)),
        ("retention", json!("0d")),
        ("retention", json!("24 h")),
        ("retention", json!("1y")),
        ("retention", json!("100000d")),
        ("extra", json!(1)),
    ] {
        invalid.push(json!({"version": 1, "catalogs": {"docs": {name: value}}}));
        invalid.push(json!({"version": 1, "other_short_codes": {name: value}}));
    }
    for invalid in invalid {
        assert!(!conforms(&invalid), "{invalid}");
        assert!(!parses(&invalid), "{invalid}");
    }
}

/// What only the parser knows: how numbers relate to each other.
#[test]
fn the_parser_also_compares() {
    let crossed = json!({"version": 1, "catalogs": {"docs": {"min_size": 2, "max_size": 1}}});
    assert!(conforms(&crossed));
    assert!(!parses(&crossed));
}
