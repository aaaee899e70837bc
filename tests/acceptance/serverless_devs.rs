//! `s.yaml` and the RAM policies against the binaries: what they set is what the functions read.

use std::collections::BTreeSet;

use expiry_sweeper::policy::Policy;
use serde_json::Value;
use shared::env::Environment;
use shared::store::{Dialect, S3Config};

use crate::template::document;

const FUNCTIONS: [&str; 3] = ["avatar-transcoder", "upload-validator", "expiry-sweeper"];

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The file with its variables put in.
fn stack() -> Value {
    let text = read("s.yaml");
    let vars = document::parse(&text)["vars"].clone();
    let text = vars.as_object().unwrap().iter().fold(text, |text, (name, value)| {
        text.replace(&format!("${{vars.{name}}}"), value.as_str().unwrap())
    });
    document::parse(&text.replace("${config(\"AccountID\")}", "1234567890123456"))
}

fn variables(props: &Value) -> Vec<(String, String)> {
    let variables = props["environmentVariables"].as_object().unwrap();
    variables.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[test]
fn every_function_is_there_as_function_compute_takes_it() {
    let stack = stack();
    let resources = stack["resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), FUNCTIONS);
    for (name, resource) in resources {
        let props = &resource["props"];
        assert_eq!(resource["component"], "fc3");
        assert_eq!(props["runtime"], "custom.debian12");
        assert_eq!(props["code"], format!("./target/fc/{name}"));
        assert_eq!(props["customRuntimeConfig"]["command"][0], "/code/bootstrap");
        assert_eq!(props["customRuntimeConfig"]["port"], 9000);
        // 1:1 to 1:4, in vCPU to GB (quotas of Function Compute).
        let (cpu, memory) = (props["cpu"].as_f64().unwrap(), props["memorySize"].as_f64().unwrap() / 1024.0);
        assert!((1.0..=4.0).contains(&(memory / cpu)), "{name}: {cpu} vCPU and {memory} GB");
        let timeout = variables(props).into_iter().find(|(name, _)| name == "FUNCTION_TIMEOUT_SECONDS");
        assert_eq!(timeout.unwrap().1, props["timeout"].to_string(), "{name}");
    }
}

#[test]
fn triggers_name_the_events_that_make_an_object_and_no_parts() {
    let stack = stack();
    for (name, bucket) in [("avatar-transcoder", "uploads"), ("upload-validator", "files")] {
        let trigger = &stack["resources"][name]["props"]["triggers"][0];
        let events: Vec<_> = trigger["triggerConfig"]["events"].as_array().unwrap().iter().collect();
        assert_eq!(
            events,
            [
                "oss:ObjectCreated:PutObject",
                "oss:ObjectCreated:PostObject",
                "oss:ObjectCreated:CompleteMultipartUpload",
                "oss:ObjectCreated:CopyObject"
            ]
        );
        let source = trigger["sourceArn"].as_str().unwrap();
        assert_eq!(source, format!("acs:oss:cn-hangzhou:1234567890123456:bucket-functions-{bucket}"));
    }
    assert_eq!(stack["resources"]["expiry-sweeper"]["props"]["triggers"][0]["triggerType"], "timer");
}

#[test]
fn the_functions_understand_what_is_set_for_them() {
    let stack = stack();
    for name in FUNCTIONS {
        let own = variables(&stack["resources"][name]["props"]);
        let given = [("FC_REGION", "cn-hangzhou"), ("FC_FUNCTION_MEMORY_SIZE", "512")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: Environment = own.into_iter().chain(given).collect();
        let store = S3Config::read(&mut environment);
        assert_eq!(store.dialect, Dialect::Oss);
        match name {
            "avatar-transcoder" => drop(avatar_transcoder::config::Config::read(&mut environment)),
            "upload-validator" => drop(upload_validator::config::Config::read(&mut environment)),
            _ => drop(expiry_sweeper::config::Config::read(&mut environment)),
        }
        environment.finish(()).unwrap();
    }
}

#[test]
fn every_bucket_of_a_function_is_in_its_policy_and_no_policy_is_for_all() {
    let stack = stack();
    for name in FUNCTIONS {
        let props = &stack["resources"][name]["props"];
        assert_eq!(props["role"], format!("acs:ram::1234567890123456:role/bucket-functions-{name}"));
        let policy = read(&format!("docs/ram/{name}.json"));
        let document: Value = serde_json::from_str(&policy).unwrap();
        for statement in document["Statement"].as_array().unwrap() {
            let actions = statement["Action"].to_string();
            assert!(!actions.contains('*'), "{name}: {actions}");
            assert!(actions.contains("oss:"), "{name}: {actions}");
        }
        for (variable, bucket) in variables(props) {
            if variable.ends_with("_BUCKET") {
                assert!(policy.contains(&format!("acs:oss:*:*:{bucket}/")), "{name}: {variable}={bucket}");
            }
        }
    }
}

/// The actions that a role's policy allows on `resource`.
fn allowed(name: &str, resource: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&read(&format!("docs/ram/{name}.json"))).unwrap();
    let texts = |value: &Value| match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    let statements = policy["Statement"].as_array().unwrap().iter();
    let about = statements.filter(|one| texts(&one["Resource"]).iter().any(|known| known == resource));
    about.flat_map(|one| texts(&one["Action"])).collect()
}

#[test]
fn a_role_that_copies_with_tags_may_read_these_and_write_them() {
    let sweeper = allowed("expiry-sweeper", "acs:oss:*:*:bucket-functions-files/*");
    for action in ["GetObject", "GetObjectTagging", "GetObjectVersion", "GetObjectVersionTagging"] {
        assert!(sweeper.contains(&format!("oss:{action}")), "{action}");
    }
    for (name, place) in [("expiry-sweeper", "audit/sweeps"), ("upload-validator", "quarantine")] {
        let written = allowed(name, &format!("acs:oss:*:*:bucket-functions-{place}/*"));
        for action in ["PutObject", "PutObjectTagging"] {
            assert!(written.contains(&format!("oss:{action}")), "{name}: {action}");
        }
    }
}

#[test]
fn the_policy_that_the_pages_start_with_is_one_and_its_buckets_are_those_of_the_roles() {
    let role = read("docs/ram/expiry-sweeper.json");
    for page in ["docs/alibaba-cloud.md", "docs/alibaba-cloud.zh.md"] {
        let page = read(page);
        let (_, text) = page.split_once("<<'EOF'\n").unwrap();
        let (text, _) = text.split_once("EOF\n").unwrap();
        let policy = Policy::parse(text, "bucket-functions-audit").unwrap();
        assert_eq!(policy.rules.len(), 3);
        for rule in policy.rules {
            assert!(role.contains(&format!("acs:oss:*:*:{}/*", rule.bucket)), "{}", rule.id);
        }
    }
}
