//! The real binaries on Function Compute's stand-in, with OSS's stand-in for a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::cloud::{
    AUDIT, AVATAR_TRANSCODER, AVATARS, CloudOptions, EXPIRY_SWEEPER, FILES, LocalCloud, POLICY_KEY,
    QUARANTINE, UPLOADS, built_binaries,
};
use harness::fc::{FcCloud, FcConfig, FcFunction, Instance, KeysBy};
use harness::forgeries::{forged, honest};
use harness::lambda::{Answer, Credentials, InvocationResult};
use harness::pictures::{impostors, picture, samples};
use harness::replay;
use harness::s3::{Attributes, Fault, FaultRule, PutOptions, Versioning};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::object_ref::ObjectRef;
use shared::store::{ObjectStore, Precondition};

fn event(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

async fn cloud() -> FcCloud {
    FcCloud::start(built_binaries(), &[]).await.unwrap()
}

/// The avatar function's configuration in `cloud`.
fn avatar(cloud: &FcCloud) -> FcConfig {
    cloud.function(AVATAR_TRANSCODER).unwrap().config().clone()
}

/// Puts a picture, and answers the event that OSS would send of it.
fn uploaded(cloud: &FcCloud, key: &str, file: &str) -> Value {
    let mut event = event("oss-put-object.json");
    let attributes = Attributes::of_type("image/png");
    let options = PutOptions { attributes, ..PutOptions::default() };
    let object = cloud.oss.put(UPLOADS, key, picture(file).unwrap(), options).unwrap();
    let named = &mut event["events"][0]["oss"]["object"];
    named["key"] = key.into();
    named["eTag"] = object.e_tag.into();
    named["size"] = object.body.len().into();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn every_oss_event_ends_as_it_should() {
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("oss-eventbridge-array.json", &["stored", "stored"][..]),
        ("oss-eventbridge-raw.json", &["stored"]),
        ("oss-eventbridge.json", &["stored"]),
        ("oss-multipart-complete.json", &["rejected multipart-not-accepted"]),
        ("oss-multipart-part.json", &["skipped not-a-creation"]),
        ("oss-put-object-minimal.json", &["stored"]),
        ("oss-put-object.json", &["stored"]),
    ]);
    let events = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")).unwrap();
    let names = events.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("oss-")).collect();
    names.sort();
    assert_eq!(names, expected.keys().copied().collect::<Vec<_>>(), "every file has its expectation");
    for (name, expected) in expected {
        let cloud = cloud().await;
        let result = cloud.replay(AVATAR_TRANSCODER, &event(name), true).await.unwrap();
        let answer = result.ok().unwrap_or_else(|| panic!("{name}: {:?}, {:#?}", result.answer, result.logs));
        let outcomes: Vec<_> = answer["outcomes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|outcome| {
                let part = |pointer| outcome.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                format!("{} {}", part("/status"), part("/reason/code")).trim().to_owned()
            })
            .collect();
        assert_eq!(outcomes, expected, "{name}: {answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_avatar_is_the_same_on_both_clouds() {
    let lambda = LocalCloud::start(CloudOptions::default()).await.unwrap();
    let fc = cloud().await;
    for (key, file) in [("u/astronaut.png", "astronaut.png"), ("p/rocket.jpg", "rocket.jpg")] {
        let body = picture(file).unwrap();
        let there = lambda.upload(UPLOADS, key, body, Default::default()).await.unwrap();
        let function = fc.function(AVATAR_TRANSCODER).unwrap();
        let result = function.invoke(&uploaded(&fc, key, file)).await;
        let here = result.ok().unwrap_or_else(|| panic!("{:?} {:#?}", result.answer, result.logs));
        let (here, there) = (&here["outcomes"][0]["avatar"], there.at("/avatar"));
        assert_eq!(*here, there, "{key}");
        let address = here["key"].as_str().unwrap();
        let avatars = [&fc.oss, &lambda.s3].map(|store| store.object(AVATARS, address).unwrap());
        let [here, there] = &avatars;
        assert_eq!(here.body.bytes(), there.body.bytes());
        assert_eq!(here.attributes, there.attributes);
        assert_eq!(here.e_tag, there.e_tag.to_uppercase());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_twice_changes_nothing_and_a_rejection_is_tagged() {
    let cloud = cloud().await;
    let function = cloud.function(AVATAR_TRANSCODER).unwrap();
    let event = uploaded(&cloud, "u/a.png", "chelsea.png");
    assert_eq!(function.invoke(&event).await.payload()["outcomes"][0]["status"], "stored");
    assert_eq!(function.invoke(&event).await.payload()["outcomes"][0]["status"], "unchanged");
    let event = uploaded(&cloud, "u/2026/a.png", "chelsea.png");
    let answer = function.invoke(&event).await.payload();
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "path-too-deep", "{answer:#}");
    let tags = cloud.oss.object(UPLOADS, "u/2026/a.png").unwrap().tags;
    assert_eq!(tags["avatar-reason"], "path-too-deep");
}

/// The only outcome of an invocation that succeeded.
fn outcome(result: &InvocationResult) -> Value {
    let answer = result.ok().unwrap_or_else(|| panic!("{:?} {:#?}", result.answer, result.logs));
    assert_eq!(answer["outcomes"].as_array().map(Vec::len), Some(1), "{answer:#}");
    answer["outcomes"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_upload_to_the_avatar_everything_ends_as_it_does_on_s3() {
    let s3 = LocalCloud::start(CloudOptions::default()).await.unwrap();
    let oss = cloud().await;
    for sample in samples().unwrap().into_iter().chain(impostors().unwrap()) {
        let there = s3.upload(UPLOADS, &sample.key, sample.bytes.clone(), Default::default()).await.unwrap();
        let here = oss.upload(UPLOADS, &sample.key, sample.bytes, Default::default()).await.unwrap();
        let here = outcome(&here);
        assert_eq!(here["status"], there.at("/status"), "{}: {here:#}", sample.key);
        assert_eq!(here["reason"], there.at("/reason"), "{}", sample.key);
        assert_eq!(here["avatar"], there.at("/avatar"), "{}", sample.key);
        let tags = [&oss.oss, &s3.s3].map(|store| store.object(UPLOADS, &sample.key).unwrap().tags);
        assert_eq!(tags[0], tags[1], "{}", sample.key);
    }
    assert_eq!(oss.oss.keys(AVATARS), s3.s3.keys(AVATARS));
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_files_are_accepted_and_forged_ones_in_quarantine_as_on_s3() {
    let cloud = cloud().await;
    let now = SystemClock.now();
    for attempt in honest(&cloud.issuer, now).unwrap() {
        let result = cloud.upload(FILES, &attempt.key, attempt.body.clone(), attempt.put_options()).await;
        let outcome = outcome(&result.unwrap());
        assert_eq!(outcome["status"], "accepted", "{}: {outcome:#}", attempt.what);
        let tags = cloud.oss.object(FILES, &attempt.key).unwrap().tags;
        assert_eq!(tags["upload-status"], "accepted", "{}", attempt.what);
    }
    for attempt in forged(&cloud.issuer, now).unwrap() {
        let result = cloud.upload(FILES, &attempt.key, attempt.body.clone(), attempt.put_options()).await;
        let outcome = outcome(&result.unwrap());
        assert_eq!(outcome["status"], "rejected", "{}: {outcome:#}", attempt.what);
        let expected = attempt.expected.unwrap();
        assert!(outcome["reasons"].to_string().contains(expected), "{}: {outcome:#}", attempt.what);
        assert!(cloud.oss.object(FILES, &attempt.key).is_none(), "{}: still there", attempt.what);
        let e_tag = outcome["source"]["e_tag"].as_str().unwrap();
        let copy = cloud.oss.object(QUARANTINE, &format!("{FILES}/{}.{e_tag}", attempt.key)).unwrap();
        assert_eq!(copy.body.bytes(), attempt.body, "{}", attempt.what);
        assert_eq!(copy.attributes.metadata["source-bucket"], FILES, "{}", attempt.what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timer_starts_a_sweep_that_deletes_what_has_expired_and_reports_it() {
    let cloud = cloud().await;
    let policy = json!({
        "version": 1, "mode": "apply", "limits": {"max_deletes": 100, "max_delete_ratio": 1},
        "rules": [{"id": "originals", "bucket": UPLOADS, "whole_bucket": true, "expire_after": "7d"}],
    });
    cloud.oss.put(AUDIT, POLICY_KEY, policy.to_string(), PutOptions::default()).unwrap();
    for key in ["u/new.png", "u/old 1.png", "u/old+2.png"] {
        cloud.oss.put(UPLOADS, key, key.as_bytes().to_vec(), PutOptions::default()).unwrap();
        if key.contains("old") {
            let long_ago = "2026-01-01T00:00:00Z".parse().unwrap();
            assert!(cloud.oss.set_last_modified(UPLOADS, key, long_ago));
        }
    }
    let result = cloud.replay(EXPIRY_SWEEPER, &event("fc-timer.json"), false).await.unwrap();
    let outcome = outcome(&result);
    assert_eq!(outcome["status"], "swept", "{outcome:#} {:#?}", result.logs);
    assert_eq!(outcome["sweep"]["deleted"], 2, "{outcome:#}");
    assert_eq!(cloud.oss.keys(UPLOADS), ["u/new.png"]);
    let report = outcome["sweep"]["report"].as_str().unwrap().strip_prefix("s3://audit/").unwrap();
    let report = cloud.oss.object(AUDIT, report).unwrap().body.bytes();
    let report = String::from_utf8(report.to_vec()).unwrap();
    assert!(report.contains("u/old 1.png") && report.contains("u/old+2.png"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_is_one_event_and_rejected() {
    let cloud = cloud().await;
    let object = ObjectRef::new(UPLOADS, "u/parts.png");
    let in_parts = async {
        let store = cloud.client();
        let id = store.create_upload(&object, Default::default()).await?;
        let tag = store.upload_part(&object, &id, 1, picture("chelsea.png").unwrap()).await?;
        store.complete_upload(&object, &id, &[(1, tag)], Precondition::None).await
    };
    let result = outcome(&Box::pin(cloud.outcome_of(UPLOADS, in_parts)).await.unwrap());
    assert_eq!(result["reason"]["code"], "multipart-not-accepted", "{result:#}");
    let tags = cloud.oss.object(UPLOADS, "u/parts.png").unwrap().tags;
    assert_eq!(tags["avatar-status"], "rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_ends_with_its_avatar_where_that_is_wanted() {
    let variables = [(AVATAR_TRANSCODER, "SOURCE_AFTER", "delete")];
    let cloud = FcCloud::start(built_binaries(), &variables).await.unwrap();
    let body = picture("chelsea.png").unwrap();
    let result = cloud.upload(UPLOADS, "u/a.png", body, Default::default()).await.unwrap();
    assert_eq!(outcome(&result)["status"], "stored");
    assert_eq!(cloud.oss.keys(UPLOADS), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_recipe_replaces_the_avatar_at_its_address() {
    let cloud = cloud().await;
    let event = uploaded(&cloud, "u/a.png", "chelsea.png");
    let first = outcome(&cloud.function(AVATAR_TRANSCODER).unwrap().invoke(&event).await);
    let key = first["avatar"]["key"].as_str().unwrap();
    let before = cloud.oss.object(AVATARS, key).unwrap();
    let smaller = FcFunction::new(avatar(&cloud).with("AVATAR_EDGE", "128")).unwrap();
    let second = outcome(&smaller.invoke(&event).await);
    assert_eq!((&second["status"], &second["avatar"]["key"]), (&json!("stored"), &json!(key)));
    let after = cloud.oss.object(AVATARS, key).unwrap();
    assert_ne!(before.e_tag, after.e_tag);
    assert_eq!(after.attributes.metadata["width"], "128");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_of_an_instance() {
    let cloud = cloud().await;
    let instance = Instance::start(&avatar(&cloud), KeysBy::Environment).await.unwrap();
    let events = [("u/a.png", "astronaut.png"), ("u/b.png", "chelsea.png"), ("u/c.png", "coffee.png")]
        .map(|(key, file)| uploaded(&cloud, key, file));
    // One after the other over one connection, then three at once, then again over one that was idle.
    let results = [instance.invoke(&events[0]).await];
    assert_eq!(instance.idle_connections().await, 1);
    let [first, second, third] = &events;
    let at_once = tokio::join!(instance.invoke(first), instance.invoke(second), instance.invoke(third));
    assert_eq!(instance.idle_connections().await, 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = instance.invoke(second).await;
    assert_eq!(instance.idle_connections().await, 3);
    let statuses: Vec<_> = results
        .iter()
        .chain([&at_once.0, &at_once.1, &at_once.2, &last])
        .map(|result| result.payload()["outcomes"][0]["status"].clone())
        .collect();
    assert_eq!(statuses, ["stored", "unchanged", "stored", "stored", "unchanged"]);

    let id = &last.request_id;
    assert!(last.logs.contains(&format!("FC Invoke Start RequestId: {id}")), "{:#?}", last.logs);
    assert!(last.logs.contains(&format!("FC Invoke End RequestId: {id}")), "{:#?}", last.logs);
    let records: Vec<Value> = last.logs.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(records.iter().any(|line| line["message"] == "record"), "{records:#?}");
    let of_request = |line: &Value| line["span"]["request_id"] == *id || line["request_id"] == *id;
    assert!(records.iter().all(of_request), "{records:#?}");

    let (status, logs) = instance.shut_down(Duration::from_secs(10)).await;
    assert!(status.is_some_and(|status| status.success()), "{status:?} {logs:#?}");
    assert!(logs.iter().any(|line| line.starts_with("FC PreStop Start RequestId: ")), "{logs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_told_to_fc() {
    let cloud = cloud().await;
    cloud.oss.inject(FaultRule::new(Fault::ServerError).operation("PutObject"));
    let event = uploaded(&cloud, "u/a.png", "chelsea.png");
    let result = cloud.function(AVATAR_TRANSCODER).unwrap().invoke(&event).await;
    let Answer::FunctionError { error_type, message } = &result.answer else {
        panic!("not a failure: {:?}", result.answer)
    };
    assert_eq!(error_type, "Retryable");
    assert!(message.contains("oss:PutObject on acs:oss:*:*:avatars/u/"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_headers_are_used_and_renewed() {
    let cloud = cloud().await;
    let instance = Instance::start(&avatar(&cloud), KeysBy::Headers).await.unwrap();
    let event = uploaded(&cloud, "u/a.png", "chelsea.png");
    assert_eq!(instance.invoke(&event).await.payload()["outcomes"][0]["status"], "stored");
    let principals = |cloud: &FcCloud| {
        let requests = cloud.oss.take_requests();
        assert!(!requests.is_empty());
        requests.into_iter().map(|request| request.principal).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(principals(&cloud), [AVATAR_TRANSCODER.to_owned()].into());
    let of_another_session = Credentials {
        access_key_id: "local-cloud".to_owned(),
        secret_access_key: "local-cloud-secret".to_owned(),
        session_token: Some("another".to_owned()),
    };
    instance.renew_keys(of_another_session);
    assert_eq!(instance.invoke(&event).await.payload()["outcomes"][0]["status"], "unchanged");
    assert_eq!(principals(&cloud), ["local-cloud".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_keys_end_the_instance_cleanly() {
    let cloud = cloud().await;
    let mut instance = Instance::start(&avatar(&cloud), KeysBy::Environment).await.unwrap();
    cloud.oss.inject(FaultRule::new(Fault::ExpiredToken));
    let result = instance.invoke(&uploaded(&cloud, "u/a.png", "chelsea.png")).await;
    assert_eq!(result.answer.error_type(), Some("Retryable"), "{:?} {:#?}", result.answer, result.logs);
    let status = instance.wait(Duration::from_secs(10)).await.unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?} {:#?}", instance.take_logs().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_versioned_avatar_bucket_is_refused_at_the_start() {
    let cloud = cloud().await;
    cloud.oss.set_versioning(AVATARS, Versioning::Enabled);
    let Err((answer, logs)) = Instance::start(&avatar(&cloud), KeysBy::Environment).await else {
        panic!("it started")
    };
    assert!(matches!(answer, Answer::Exited { .. }), "{answer:?}");
    let told = logs.join("\n");
    assert!(told.contains("AVATAR_BUCKET") && told.contains("without versioning"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_s3_dialect_lacks_is_asked_there() {
    // The stand-in refuses what OSS refuses; here is shown that nothing is even tried.
    let cloud = cloud().await;
    let event = uploaded(&cloud, "u/2026/a.png", "chelsea.png");
    replay::seed(&cloud.oss, &event).unwrap();
    cloud.function(AVATAR_TRANSCODER).unwrap().invoke(&event).await;
    let requests = cloud.oss.take_requests();
    assert!(requests.iter().any(|request| request.operation == "PutObjectTagging"), "{requests:#?}");
    assert!(requests.iter().all(|request| request.status < 400), "{requests:#?}");
}

#[test]
fn outside_of_both_clouds_one_sentence_says_so() {
    let binary = built_binaries().join(AVATAR_TRANSCODER);
    let output = Command::new(binary).env_clear().output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("AWS_LAMBDA_RUNTIME_API") && told.contains("FC_CUSTOM_LISTEN_PORT"), "{told}");
}
