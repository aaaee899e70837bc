//! From the PUT of a picture to its avatar.

use std::path::PathBuf;
use std::time::Duration;

use harness::cloud::{AVATAR_TRANSCODER, AVATARS, CloudOptions, LocalCloud, UPLOADS, Uploaded};
use harness::lambda::Answer;
use harness::pictures::{impostors, picture, samples};
use harness::s3::{Fault, FaultRule, When};
use harness::tls::TlsFront;
use md5::{Digest, Md5};
use serde_json::json;
use shared::object_ref::ObjectRef;
use shared::short_code::ShortCode;
use shared::store::{ObjectStore, PutOptions};

async fn cloud(options: CloudOptions) -> LocalCloud {
    LocalCloud::start(options).await.unwrap()
}

async fn upload(cloud: &LocalCloud, key: &str, file: &str) -> Uploaded {
    cloud.upload(UPLOADS, key, picture(file).unwrap(), PutOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_stands_at_the_address_that_its_client_computes() {
    let cloud = cloud(CloudOptions::default()).await;
    for sample in samples().unwrap() {
        let digest: [u8; 16] = Md5::digest(&sample.bytes).into();
        let folder = sample.key.split_once('/').map_or(String::new(), |(kind, _)| format!("{kind}/"));
        let address = format!("{folder}{}.webp", ShortCode::of_digest(&digest, 0));
        let uploaded =
            cloud.upload(UPLOADS, &sample.key, sample.bytes.clone(), PutOptions::default()).await.unwrap();
        let outcome = format!("{}: {:?}", sample.key, uploaded.outcome);
        // Under another kind the same content has another address.
        assert_eq!(uploaded.status(), "stored", "{outcome}");
        assert_eq!(uploaded.at("/avatar/key"), json!(address), "{outcome}");
        let avatar = cloud.s3.object(AVATARS, &address).unwrap();
        let bytes = avatar.body.bytes();
        assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"WEBP"[..]));
        assert_eq!(uploaded.at("/avatar/size_bytes"), json!(bytes.len()));
        assert_eq!(avatar.attributes.content_type.as_deref(), Some("image/webp"));
        let immutable = Some("public, max-age=31536000, immutable");
        assert_eq!(avatar.attributes.cache_control.as_deref(), immutable);
        assert_eq!(avatar.attributes.metadata["source-md5"], hex::encode(digest));
        assert_eq!(avatar.attributes.metadata["produced-by"], AVATAR_TRANSCODER);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_impostor_is_rejected_with_its_reason_and_leaves_nothing() {
    let cloud = cloud(CloudOptions::default()).await;
    let mut reasons = Vec::new();
    for sample in impostors().unwrap() {
        let uploaded =
            cloud.upload(UPLOADS, &sample.key, sample.bytes.clone(), PutOptions::default()).await.unwrap();
        assert_eq!(uploaded.status(), "rejected", "{:?}", uploaded.outcome);
        let reason = uploaded.reason().unwrap();
        let tags = cloud.s3.object(UPLOADS, &sample.key).unwrap().tags;
        assert_eq!(tags.get("avatar-status").map(String::as_str), Some("rejected"), "{}", sample.key);
        assert_eq!(tags.get("avatar-reason"), Some(&reason));
        reasons.push((sample.key, reason));
    }
    let reasons: Vec<_> = reasons.iter().map(|(key, reason)| (key.as_str(), reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("u/page.png", "unsupported-type"),
            ("u/drawing.png", "unsupported-type"),
            ("u/paper.png", "unsupported-type"),
            ("u/half.png", "undecodable"),
            ("u/bomb.png", "too-many-pixels"),
            ("u/empty.png", "empty"),
            ("u/2026/astronaut.png", "path-too-deep"),
            ("holiday/astronaut.png", "unknown-kind"),
        ]
    );
    assert_eq!(cloud.s3.keys(AVATARS), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_avatar_costs_the_requests_that_it_must() {
    let options = CloudOptions::default().with(AVATAR_TRANSCODER, "AVATAR_EXTRA_EDGES", "64,128");
    let cloud = cloud(options).await;
    assert_eq!(upload(&cloud, "u/a.png", "chelsea.png").await.status(), "stored");
    let mut new = cloud.calls_of(AVATAR_TRANSCODER);
    new.sort();
    // No tag is written, and each extra edge is one PUT more.
    assert_eq!(new, ["GetObject", "HeadObject", "PutObject", "PutObject", "PutObject"]);

    assert_eq!(upload(&cloud, "u/b.png", "chelsea.png").await.status(), "unchanged");
    assert_eq!(cloud.calls_of(AVATAR_TRANSCODER), ["HeadObject"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_delivered_again_until_the_avatar_stands() {
    let cloud = cloud(CloudOptions::default()).await;
    // More than the SDK itself tries again.
    let rule = FaultRule::new(Fault::Throttle).operation("GetObject").principal(AVATAR_TRANSCODER);
    cloud.s3.inject(FaultRule { when: When::First(4), ..rule });
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    assert_eq!(uploaded.status(), "stored", "{:?}", uploaded.report.result);
    assert!(uploaded.attempts > 1, "the first attempt should have failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_failing_ends_at_the_failure_destination_and_nowhere_else() {
    let cloud = cloud(CloudOptions::default()).await;
    let rule = FaultRule::new(Fault::ServerError).operation("PutObject").principal(AVATAR_TRANSCODER);
    cloud.s3.inject(rule);
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    assert_eq!(uploaded.outcome, None);
    assert_eq!(uploaded.attempts, 3);
    let Answer::FunctionError { error_type, message } = &uploaded.report.result.answer else {
        panic!("not a function's error: {:?}", uploaded.report.result.answer)
    };
    assert_eq!(error_type, "Retryable");
    assert!(message.contains("avatars"), "{message}");
    let failures = cloud.function(AVATAR_TRANSCODER).failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0]["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(failures[0]["requestPayload"]["Records"][0]["s3"]["object"]["key"], "u/a.png");
    assert_eq!(cloud.s3.keys(AVATARS), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_and_not_tried_again() {
    let cloud = cloud(CloudOptions::default()).await;
    let rule = FaultRule::new(Fault::AccessDenied).operation("PutObject").principal(AVATAR_TRANSCODER);
    cloud.s3.inject(rule);
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    assert_eq!((uploaded.status().as_str(), uploaded.attempts), ("failed", 1));
    assert_eq!(uploaded.at("/retry"), json!("permanent"));
    let message = uploaded.at("/reason/message").as_str().unwrap().to_owned();
    assert!(message.contains("s3:PutObject"), "{message}");
    assert!(message.contains("arn:aws:s3:::avatars/u/"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named() {
    let cloud = cloud(CloudOptions::default().with(AVATAR_TRANSCODER, "AVATAR_BUCKET", "nowhere")).await;
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    assert_eq!((uploaded.status().as_str(), uploaded.at("/retry")), ("failed", json!("permanent")));
    let message = uploaded.at("/reason/message").as_str().unwrap().to_owned();
    assert!(message.contains("nowhere"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_the_process_with_every_mistake() {
    let options = CloudOptions::default()
        .with(AVATAR_TRANSCODER, "AVATAR_EDGE", "huge")
        .with(AVATAR_TRANSCODER, "AVATAR_QUALITY", "101")
        .with(AVATAR_TRANSCODER, "AVATAR_BUCKET", "");
    let cloud = cloud(options).await;
    let result = cloud.function(AVATAR_TRANSCODER).invoke(json!({})).await;
    let Answer::FunctionError { error_type, message } = &result.answer else {
        panic!("not a function's error: {:?}", result.answer)
    };
    assert_eq!(error_type, "Configuration");
    for part in ["AVATAR_EDGE", "huge", "AVATAR_QUALITY", "101", "AVATAR_BUCKET"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_event_fails_with_what_was_seen() {
    let cloud = cloud(CloudOptions::default()).await;
    let result = cloud.function(AVATAR_TRANSCODER).invoke(json!({"hello": "world"})).await;
    let error = result.error().unwrap();
    assert!(error.contains("hello"), "{error}");
    assert_eq!(result.answer.error_type(), Some("MalformedEvent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_or_replaced_is_skipped() {
    let cloud = cloud(CloudOptions::default()).await;
    let event = |e_tag: &str| {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/s3-put.json")).unwrap();
        event["Records"][0]["s3"]["object"]["key"] = json!("u/a.png");
        event["Records"][0]["s3"]["object"]["eTag"] = json!(e_tag);
        event
    };
    let function = cloud.function(AVATAR_TRANSCODER);
    let gone = function.invoke(event("0123456789abcdef0123456789abcdef")).await;
    assert_eq!(gone.ok().unwrap()["outcomes"][0]["reason"]["code"], "gone");
    let object = ObjectRef::new(UPLOADS, "u/a.png");
    cloud.client().put(&object, picture("coffee.png").unwrap(), PutOptions::default()).await.unwrap();
    let superseded = function.invoke(event("0123456789abcdef0123456789abcdef")).await;
    assert_eq!(superseded.ok().unwrap()["outcomes"][0]["status"], "skipped");
    assert_eq!(superseded.ok().unwrap()["outcomes"][0]["reason"]["code"], "superseded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_in_the_middle_leaves_what_a_second_run_completes() {
    let cloud = cloud(CloudOptions { timeout: Duration::from_secs(2), ..CloudOptions::default() }).await;
    // The avatar is written, and the answer never comes: the time-out kills the process.
    let rule = FaultRule::new(Fault::HangAfterEffect).operation("PutObject").principal(AVATAR_TRANSCODER);
    cloud.s3.inject(FaultRule { when: When::First(1), ..rule });
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    assert_eq!((uploaded.status().as_str(), uploaded.attempts), ("unchanged", 2));
    assert_eq!(cloud.s3.keys(AVATARS).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_and_every_record_has_its_line() {
    let cloud = cloud(CloudOptions::default()).await;
    let uploaded = upload(&cloud, "u/a.png", "chelsea.png").await;
    let logs = uploaded.report.result.logs.join("\n");
    let line = uploaded.report.result.logs.iter().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line.to_string().contains("\"object.key\":\"u/a.png\"")).then_some(line)
    });
    let line = line.unwrap_or_else(|| panic!("no line for the record in:\n{logs}")).to_string();
    for field in ["object.bucket", "size_bytes", "duration_ms", "status"] {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    assert!(!logs.contains("-secret"), "{logs}");
}

/// What comes of an upload where the store is reached by TLS, and the authorities in the file that `trusted` names are.
async fn by_tls(trusted: impl Fn(&TlsFront) -> PathBuf) -> Uploaded {
    let front = TlsFront::start().await.unwrap();
    let options = CloudOptions::default()
        .with(AVATAR_TRANSCODER, "AWS_ENDPOINT_URL_S3", front.endpoint())
        .with(AVATAR_TRANSCODER, "SSL_CERT_FILE", trusted(&front).display().to_string());
    let cloud = cloud(options).await;
    front.lead_to(cloud.s3.address());
    upload(&cloud, "u/coffee.png", "coffee.png").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_reached_by_tls_where_its_authority_is_trusted_and_nowhere_else() {
    let trusted = by_tls(TlsFront::trusted).await;
    assert_eq!(trusted.status(), "stored", "{:?}", trusted.outcome);

    // Delivered again until somebody has put it right.
    let other = TlsFront::start().await.unwrap();
    let unknown = by_tls(|_| other.certificate()).await.report.result.error().unwrap();
    assert!(unknown.contains("invalid peer certificate"), "{unknown}");
    let none = by_tls(|_| "/nowhere.pem".into()).await.report.result.error().unwrap();
    assert!(none.contains("no certificate authorities can be read"), "{none}");
}
