//! Reads template.yaml: CloudFormation's short tags become the long functions that they stand for.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// The template as JSON, in CloudFormation's long form.
pub(super) fn load() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
    parse(&std::fs::read_to_string(path).unwrap())
}

/// A YAML document as JSON, in CloudFormation's long form.
pub(crate) fn parse(text: &str) -> Value {
    let documents = Yaml::load_from_str(text).unwrap();
    assert_eq!(documents.len(), 1, "a template is one document");
    json_of(&documents[0])
}

fn json_of(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(scalar) => scalar_of(scalar),
        Yaml::Representation(text, ..) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let key = match json_of(key) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                assert!(map.insert(key.clone(), json_of(value)).is_none(), "{key} is there twice");
            }
            map.into()
        }
        Yaml::Tagged(tag, inner) => {
            let inner = json_of(inner);
            match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => json!({ name: inner }),
                "GetAtt" => {
                    let text = inner.as_str().unwrap();
                    let (resource, attribute) = text.split_once('.').unwrap();
                    json!({"Fn::GetAtt": [resource, attribute]})
                }
                name => json!({ format!("Fn::{name}"): inner }),
            }
        }
        Yaml::Alias(_) | Yaml::BadValue => panic!("not understood: {node:?}"),
    }
}

fn scalar_of(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => (*value).into(),
        Scalar::Integer(value) => (*value).into(),
        Scalar::FloatingPoint(value) => value.into_inner().into(),
        Scalar::String(value) => value.as_ref().into(),
    }
}

#[test]
fn short_tags_become_the_functions_that_they_stand_for() {
    let document = parse(
        "a: !Ref B\nc: !GetAtt D.E.F\ng: !If [H, !Sub '${I}-x', !Ref AWS::NoValue]\nj: !Equals [!Ref K, '']\nl: '012'\n",
    );
    assert_eq!(
        document,
        json!({
            "a": {"Ref": "B"},
            "c": {"Fn::GetAtt": ["D", "E.F"]},
            "g": {"Fn::If": ["H", {"Fn::Sub": "${I}-x"}, {"Ref": "AWS::NoValue"}]},
            "j": {"Fn::Equals": [{"Ref": "K"}, ""]},
            "l": "012",
        })
    );
}
