//! The validator end to end: honest uploads open, forged ones in quarantine.

use std::collections::BTreeMap;

use harness::cloud::{AUDIT, CloudOptions, FILES, LocalCloud, QUARANTINE, UPLOAD_VALIDATOR, Uploaded};
use harness::forgeries::{Attempt, forged, honest};
use harness::pictures::picture;
use harness::presign::{Signer, Upload};
use harness::s3::{Attributes, Fault, FaultRule, When};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{ObjectStore, Precondition, PutOptions};

async fn cloud(options: CloudOptions) -> LocalCloud {
    LocalCloud::start(options).await.unwrap()
}

async fn attempt(cloud: &LocalCloud, attempt: &Attempt) -> Uploaded {
    let uploaded = cloud.upload(FILES, &attempt.key, attempt.body.clone(), attempt.put_options()).await;
    uploaded.unwrap_or_else(|error| panic!("{}: {error}", attempt.what))
}

fn reasons(uploaded: &Uploaded) -> Vec<String> {
    let reasons = uploaded.at("/reasons");
    let codes = reasons.as_array().into_iter().flatten().filter_map(|reason| reason["code"].as_str());
    let mut codes: Vec<_> = codes.map(str::to_owned).collect();
    // Two things can be wrong in the same way, each with its own sentence.
    codes.dedup();
    codes
}

/// Every attempt of both kinds, and where it ended.
async fn all_attempts(options: CloudOptions) {
    let cloud = cloud(options).await;
    let now = SystemClock.now();
    let (honest, forged) = (honest(&cloud.issuer, now).unwrap(), forged(&cloud.issuer, now).unwrap());
    for upload in &honest {
        let uploaded = attempt(&cloud, upload).await;
        assert_eq!(uploaded.status(), "accepted", "{}: {:?}", upload.what, uploaded.outcome);
        let object = cloud.s3.object(FILES, &upload.key).unwrap();
        assert_eq!(object.tags.get("upload-status").map(String::as_str), Some("accepted"), "{}", upload.what);
        assert_eq!(object.body.bytes(), upload.body, "{}", upload.what);
    }
    let mut quarantined = 0;
    for upload in &forged {
        let uploaded = attempt(&cloud, upload).await;
        let (what, outcome) = (upload.what, format!("{:?}", uploaded.outcome));
        assert_eq!(uploaded.status(), "rejected", "{what}: {outcome}");
        let expected = upload.expected.unwrap();
        assert!(reasons(&uploaded).iter().any(|code| code == expected), "{what}: {expected} in {outcome}");
        assert_eq!(uploaded.reason(), reasons(&uploaded).first().cloned(), "{what}");
        assert!(cloud.s3.object(FILES, &upload.key).is_none(), "{what}: still in the files bucket");
        let e_tag = uploaded.at("/source/e_tag").as_str().unwrap().to_owned();
        let key = format!("{FILES}/{}.{e_tag}", upload.key);
        let copy = cloud.s3.object(QUARANTINE, &key).unwrap_or_else(|| panic!("{what}: no copy at {key}"));
        assert_eq!(copy.body.bytes(), upload.body, "{what}");
        let metadata = &copy.attributes.metadata;
        assert_eq!(metadata["reasons"], reasons(&uploaded).join(","), "{what}");
        assert_eq!(metadata["source-bucket"], FILES);
        assert!(
            metadata["source-key"].is_ascii() && metadata.contains_key("rejected-at"),
            "{what}: {metadata:?}"
        );
        quarantined += 1;
    }
    let records = cloud.s3.keys(AUDIT).into_iter().filter(|key| key.starts_with("records/")).count();
    println!(
        "{} honest uploads accepted, {quarantined} forged ones in quarantine, {records} records",
        honest.len()
    );
    assert_eq!(records, honest.len() + forged.len());
    assert_eq!(cloud.s3.keys(FILES).len(), honest.len());
    assert_eq!(cloud.function(UPLOAD_VALIDATOR).failures(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_honest_upload_is_accepted_and_every_forged_one_in_quarantine() {
    all_attempts(CloudOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_where_the_bucket_keeps_versions() {
    all_attempts(CloudOptions { versioned_files: true, ..CloudOptions::default() }).await;
}

/// A ticket for `key`, with `changes` over the claims of an honest one.
fn ticket(cloud: &LocalCloud, key: &str, changes: &Value) -> String {
    let mut claims = json!({"aud": FILES, "sub": key, "exp": SystemClock.now().as_second() + 900});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    cloud.issuer.issue(&claims)
}

fn under(ticket: String) -> PutOptions {
    PutOptions {
        content_type: Some("image/png".into()),
        metadata: BTreeMap::from([("ticket".to_owned(), ticket)]),
        ..PutOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_is_rejected_without_being_read() {
    let cloud = cloud(CloudOptions::default()).await;
    let object = ObjectRef::new(FILES, "tempcato/parts.png");
    let client = cloud.client();
    let options = under(ticket(&cloud, &object.key, &json!({})));
    let upload = async {
        let id = client.create_upload(&object, options).await?;
        let part = client.upload_part(&object, &id, 1, picture("chelsea.png").unwrap()).await?;
        Ok(client.complete_upload(&object, &id, &[(1, part)], Precondition::None).await?.e_tag)
    };
    let uploaded = Box::pin(cloud.outcome_of(&object, upload)).await.unwrap();
    assert_eq!(uploaded.reason().as_deref(), Some("multipart-not-accepted"), "{:?}", uploaded.outcome);
    assert_eq!(cloud.s3.keys(QUARANTINE).len(), 1);
    assert_eq!(cloud.s3.keys(FILES), Vec::<String>::new());
    let calls = cloud.calls_of(UPLOAD_VALIDATOR);
    assert!(!calls.iter().any(|call| call == "GetObject"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_upload_costs_three_requests_and_64_kib_at_most() {
    let cloud = cloud(CloudOptions::default().with(UPLOAD_VALIDATOR, "RECORDS", "off")).await;
    // Nine megabytes of picture: the size is allowed, and hardly any of it is read.
    let mut picture = picture("astronaut.png").unwrap().to_vec();
    let end = picture.len() - 12;
    let chunk = [&9_000_000_u32.to_be_bytes()[..], b"teSt", &vec![0; 9_000_000], &[0; 4]].concat();
    picture.splice(end..end, chunk);
    let key = "tempcato/large.png";
    let uploaded = cloud.upload(FILES, key, picture, under(ticket(&cloud, key, &json!({})))).await.unwrap();
    assert_eq!(uploaded.status(), "accepted", "{:?}", uploaded.outcome);
    let requests: Vec<_> = cloud
        .s3
        .take_requests()
        .into_iter()
        .filter(|request| request.principal == UPLOAD_VALIDATOR)
        .collect();
    let read: u64 = requests.iter().map(|request| request.bytes_out).sum();
    assert!(read <= 64 << 10, "{read} bytes were read");
    let operations: Vec<_> = requests.iter().map(|request| request.operation.as_str()).collect();
    let puts = operations.iter().filter(|operation| operation.starts_with("Put")).count();
    let gets = operations.iter().filter(|operation| **operation == "GetObject").count();
    println!("{operations:?}, {read} bytes");
    assert!(puts <= 1 && gets <= 2, "{operations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_browser_is_an_upload_like_any_other() {
    let cloud = cloud(CloudOptions::default()).await;
    let key = cloud.s3.credentials();
    let signer = Signer {
        endpoint: Some(cloud.s3.endpoint()),
        path_style: true,
        region: "us-east-1".into(),
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key,
        session_token: None,
    };
    let object = ObjectRef::new(FILES, "tempcato/form.png");
    let upload = Upload {
        object: object.clone(),
        ticket: ticket(&cloud, &object.key, &json!({})),
        content_type: Some("image/png".into()),
        min_size: 1,
        max_size: 300_000,
        expires_in: std::time::Duration::from_secs(60),
    };
    let form = signer.post(&upload, SystemClock.now());
    let body = picture("chelsea.png").unwrap();
    let posted = async {
        let (status, text) = post(&form.url, &form.fields, &body).await;
        assert!((200..300).contains(&status), "{status}: {text}");
        Ok(ETag::parse(&cloud.s3.object(FILES, &object.key).unwrap().e_tag).unwrap())
    };
    let uploaded = Box::pin(cloud.outcome_of(&object, posted)).await.unwrap();
    assert_eq!(uploaded.status(), "accepted", "{:?}", uploaded.outcome);
    let (status, text) = post(&form.url, &form.fields, &picture("astronaut.png").unwrap()).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("EntityTooLarge"), "{text}");

    let put = signer.put(&upload).await.unwrap();
    let sent = async {
        let headers: Vec<_> =
            put.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (status, text) = send("PUT", &put.url, &headers, &body).await;
        assert_eq!(status, 200, "{text}");
        Ok(ETag::parse(&cloud.s3.object(FILES, &object.key).unwrap().e_tag).unwrap())
    };
    let uploaded = Box::pin(cloud.outcome_of(&object, sent)).await.unwrap();
    assert_eq!(uploaded.status(), "accepted", "{:?}", uploaded.outcome);
    // Without the ticket that was signed, the signature does not hold.
    let (status, _) = send("PUT", &put.url, &[("content-type", "image/png")], &body).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ticket_headers_are_no_ticket() {
    let cloud = cloud(CloudOptions::default()).await;
    let key = cloud.s3.credentials();
    let object = ObjectRef::new(FILES, "tempcato/two.png");
    let (first, second) = (ticket(&cloud, &object.key, &json!({})), ticket(&cloud, "tempcato/x", &json!({})));
    let signer = Signer {
        endpoint: Some(cloud.s3.endpoint()),
        path_style: true,
        region: "us-east-1".into(),
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key,
        session_token: None,
    };
    let upload = Upload {
        object: object.clone(),
        // HTTP joins headers of one name by commas, and so does the signature.
        ticket: format!("{first},{second}"),
        content_type: None,
        min_size: 1,
        max_size: 1 << 20,
        expires_in: std::time::Duration::from_secs(60),
    };
    let put = signer.put(&upload).await.unwrap();
    let sent = async {
        let headers = [("x-amz-meta-ticket", first.as_str()), ("x-amz-meta-ticket", second.as_str())];
        let (status, text) = send("PUT", &put.url, &headers, &picture("chelsea.png").unwrap()).await;
        assert_eq!(status, 200, "{text}");
        Ok(ETag::parse(&cloud.s3.object(FILES, &object.key).unwrap().e_tag).unwrap())
    };
    let uploaded = Box::pin(cloud.outcome_of(&object, sent)).await.unwrap();
    assert_eq!(uploaded.reason().as_deref(), Some("ticket-malformed"), "{:?}", uploaded.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_longer_than_metadata_may_be_is_malformed() {
    let cloud = cloud(CloudOptions::default()).await;
    let key = "tempcato/long.png";
    let long = ticket(&cloud, key, &json!({"owner": "x".repeat(3000)}));
    // S3 itself does not take it; another store may, and then the function does not.
    let object = ObjectRef::new(FILES, key);
    let refused = cloud.client().put(&object, picture("chelsea.png").unwrap(), under(long.clone())).await;
    assert!(refused.is_err());
    let body = picture("chelsea.png").unwrap();
    let mut attributes = Attributes::of_type("image/png");
    attributes.metadata.insert("ticket".into(), long);
    let put = harness::s3::PutOptions { attributes, ..Default::default() };
    let stored = cloud.s3.put(FILES, key, body, put).unwrap();
    let event = json!({"bucket": FILES, "key": key, "e_tag": stored.e_tag});
    let result = cloud.function(UPLOAD_VALIDATOR).invoke(event).await;
    assert_eq!(result.ok().unwrap()["outcomes"][0]["reason"]["code"], "ticket-malformed", "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_reject_actions_do_what_they_say() {
    for (action, in_files, in_quarantine) in [("quarantine", 0, 1), ("tag", 1, 0), ("delete", 0, 0)] {
        let cloud = cloud(CloudOptions::default().with(UPLOAD_VALIDATOR, "REJECT_ACTION", action)).await;
        let body = picture("chelsea.png").unwrap();
        let uploaded = cloud.upload(FILES, "tempcato/a.png", body, PutOptions::default()).await.unwrap();
        assert_eq!(uploaded.status(), "rejected", "{action}");
        assert_eq!(cloud.s3.keys(FILES).len(), in_files, "{action}");
        assert_eq!(cloud.s3.keys(QUARANTINE).len(), in_quarantine, "{action}");
        if action == "tag" {
            let tags = cloud.s3.object(FILES, "tempcato/a.png").unwrap().tags;
            assert_eq!(tags.get("upload-status").map(String::as_str), Some("rejected"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decided_now_stays_closed_and_is_decided_later() {
    let cloud = cloud(CloudOptions::default()).await;
    let rule = FaultRule::new(Fault::Throttle).principal(UPLOAD_VALIDATOR);
    cloud.s3.inject(FaultRule { when: When::First(6), ..rule });
    let key = "tempcato/late.png";
    let put = under(ticket(&cloud, key, &json!({})));
    let uploaded = cloud.upload(FILES, key, picture("chelsea.png").unwrap(), put).await.unwrap();
    assert_eq!(uploaded.status(), "accepted", "{:?}", uploaded.report.result);
    assert!(uploaded.attempts > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_reaches_the_success_destination() {
    let cloud = cloud(CloudOptions::default()).await;
    let body = picture("chelsea.png").unwrap();
    cloud.upload(FILES, "tempcato/a.png", body, PutOptions::default()).await.unwrap();
    cloud.idle().await;
    let successes = cloud.function(UPLOAD_VALIDATOR).successes();
    assert_eq!(successes.len(), 1);
    let outcome = &successes[0]["responsePayload"]["outcomes"][0];
    assert_eq!(
        (&outcome["status"], &outcome["source"]["key"]),
        (&json!("rejected"), &json!("tempcato/a.png"))
    );
}

/// A form upload, as a browser sends it.
async fn post(url: &str, fields: &[(String, String)], file: &[u8]) -> (u16, String) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.png\"\r\n\
                Content-Type: image/png\r\n\r\n";
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--limit--\r\n");
    send("POST", url, &[("content-type", "multipart/form-data; boundary=limit")], &body).await
}

/// One HTTP request, exactly as it is said here.
async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let uri: hyper::Uri = url.parse().unwrap();
    let authority = uri.authority().unwrap().to_string();
    let stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = uri.path_and_query().unwrap().as_str();
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", &authority);
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(bytes::Bytes::copy_from_slice(body))).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let text = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
    (parts.status.as_u16(), text)
}
