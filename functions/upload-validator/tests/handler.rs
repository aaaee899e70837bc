//! The handler over a store in memory: what it asks for, what it leaves, and what a crash or a rival does to it.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use md5::{Digest, Md5};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;
use shared::object_ref::ObjectRef;
use shared::store::*;

use support::*;

async fn ticketed(store: &MemoryStore, key: &str, content: &Bytes) -> Value {
    upload(store, key, content, Some(&ticket(&claims(key)))).await
}

fn operations(store: &RecordingStore<MemoryStore>) -> Vec<Operation> {
    store.take().into_iter().map(|call| call.operation).collect()
}

async fn exists(store: &MemoryStore, bucket: &str, key: &str) -> bool {
    store.head(&ObjectRef::new(bucket, key)).await.is_ok()
}

// --------------------------------------------------------------------------------------------- accepting

#[tokio::test]
async fn an_accepted_upload_is_tagged_and_described() {
    let memory = store();
    let event = ticketed(&memory, KEY, &png(1)).await;
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!(outcome["status"], "accepted");
    assert_eq!(outcome["owner"], "user-7");
    assert_eq!(outcome["catalog"], "bn0m0anw");
    assert_eq!(outcome["media_type"], "image/png");
    assert_eq!(outcome["picture"], json!({"width": 1, "height": 1}));
    assert!(outcome.get("reasons").is_none() && outcome.get("reason").is_none());
    assert_eq!(tags(&memory, KEY).await, Tags::from([("upload-status".into(), "accepted".into())]));
    assert_eq!(state(&memory).await.len(), 1);
}

#[tokio::test]
async fn an_accept_costs_three_requests_or_four_and_reads_at_most_64_kib() {
    let small = png(1);
    let large = fixture("rocket.jpg");
    let document = Bytes::from([b"%PDF-1.7\n".as_slice(), &vec![b' '; 1 << 20]].concat());
    use Operation::{Get, Head, PutTags};
    for (key, content, expected) in [
        (KEY, &small, vec![Get, PutTags, Head]),
        ("bn0m0anw/me.jpg", &large, vec![Get, Get, PutTags, Head]),
        ("bn0m0anw/cv.pdf", &document, vec![Get, PutTags, Head]),
    ] {
        let memory = store();
        let event = ticketed(&memory, key, content).await;
        let recording = RecordingStore::new(memory);
        let outcome = outcome(recording.clone(), config(&[]), &event).await;
        assert_eq!(outcome["status"], "accepted", "{outcome}");
        let read = recording.bytes_read();
        assert!(read <= 64 << 10 && read >= (content.len() as u64).min(48 << 10), "{key}: {read} bytes");
        assert_eq!(operations(&recording), expected, "{key}");
    }
}

#[tokio::test]
async fn of_a_version_no_look_behind_the_tags_is_needed() {
    let memory = store().with_versioned_bucket("files");
    let event = ticketed(&memory, KEY, &png(1)).await;
    let recording = RecordingStore::new(memory);
    outcome(recording.clone(), config(&[]), &event).await;
    assert_eq!(operations(&recording), [Operation::Get, Operation::PutTags]);
}

#[tokio::test]
async fn tags_that_are_there_are_kept_and_a_duplicate_writes_nothing() {
    let memory = store();
    let ticket = ticket(&claims(KEY));
    let event = upload_with(&memory, KEY, &png(1), Some(&ticket), &[("team", "red")]).await;
    outcome(memory.clone(), config(&[]), &event).await;
    let expected = Tags::from([("team".into(), "red".into()), ("upload-status".into(), "accepted".into())]);
    assert_eq!(tags(&memory, KEY).await, expected);
    let recording = RecordingStore::new(memory);
    assert_eq!(outcome(recording.clone(), config(&[]), &event).await["status"], "accepted");
    assert_eq!(recording.count(Operation::PutTags), 0);
}

#[tokio::test]
async fn with_ten_tags_of_its_own_an_upload_stays_closed_and_the_outcome_says_why() {
    let memory = store();
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let ten: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let ticket = ticket(&claims(KEY));
    let event = upload_with(&memory, KEY, &png(1), Some(&ticket), &ten).await;
    let refused = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!((&refused["status"], &refused["retry"]), (&json!("failed"), &json!("permanent")));
    assert_eq!(refused["reason"]["code"], "too-many-tags");
    assert_eq!(tags(&memory, KEY).await.len(), 10);
    // One of the ten is the verdict itself, which a client may have forged: it is replaced.
    let mut forged = ten[..9].to_vec();
    forged.push(("upload-status", "accepted"));
    let event = upload_with(&memory, KEY, &png(2), None, &forged).await;
    let rejected = outcome(memory.clone(), config(&[("REJECT_ACTION", "tag")]), &event).await;
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(tags(&memory, KEY).await["upload-status"], "rejected");
}

#[tokio::test]
async fn a_catalogs_retention_and_a_tickets_end_become_a_tag_for_the_sweeper() {
    let catalogs = r#"{"version": 1, "catalogs": {"tempcato": {"retention": "24h"}}}"#;
    for (expires_at, expected) in [(None, "2026-11-02T12:00:00Z"), (Some(3600), "2026-11-01T13:00:00Z")] {
        let memory = store();
        let mut claims = claims("tempcato/me.png");
        if let Some(seconds) = expires_at {
            claims["expires_at"] = (now().as_second() + seconds).into();
        }
        let event = upload(&memory, "tempcato/me.png", &png(1), Some(&ticket(&claims))).await;
        let outcome = outcome(memory.clone(), config(&[("CATALOGS", catalogs)]), &event).await;
        assert_eq!(outcome["expires_at"], expected);
        assert_eq!(tags(&memory, "tempcato/me.png").await["expires-at"], expected);
    }
}

// -------------------------------------------------------------------------------------------- bad uploads

/// What is wrong with an upload: its key, its content, its ticket; and the codes that it gets.
struct Case {
    what: &'static str,
    key: String,
    content: Bytes,
    ticket: Option<String>,
    codes: Vec<&'static str>,
}

fn case(what: &'static str, codes: &[&'static str], ticket: Option<String>) -> Case {
    Case { what, key: KEY.to_owned(), content: png(1), ticket, codes: codes.to_vec() }
}

/// A ticket for [`KEY`] with one claim changed.
fn with(name: &str, value: Value) -> Option<String> {
    let mut claims = claims(KEY);
    claims[name] = value;
    Some(ticket(&claims))
}

fn bad_uploads() -> Vec<Case> {
    let seconds = now().as_second();
    let good = ticket(&claims(KEY));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let flipped = format!("{message}.{}A", &signature[..signature.len() - 1]);
    let flipped =
        if flipped == good { format!("{message}.{}Q", &signature[..signature.len() - 1]) } else { flipped };
    let alg = |alg: &str, kid: &str, secret: &[u8]| {
        Some(token(&json!({"alg": alg, "kid": kid}), &claims(KEY), |message| hs256(secret, message)))
    };
    let mut cases = vec![
        case("no ticket", &["ticket-missing"], None),
        case("garbage ticket", &["ticket-malformed"], Some("garbage".into())),
        case("two tickets", &["ticket-malformed"], Some(format!("{good},{good}"))),
        case("alg none", &["ticket-algorithm"], alg("none", "ed", b"")),
        case(
            "alg none, unsigned",
            &["ticket-algorithm"],
            alg("none", "ed", b"").map(|t| t[..=t.rfind('.').unwrap()].to_owned()),
        ),
        case("HS256 by the public key", &["ticket-algorithm"], alg("HS256", "ed", &public_key())),
        case("unknown kid", &["ticket-unknown-key"], alg("HS256", "who", &[7; 32])),
        case("another secret", &["ticket-signature"], alg("HS256", "mac", &[8; 32])),
        case("flipped signature", &["ticket-signature"], Some(flipped)),
        case("expired", &["ticket-expired"], with("exp", json!(seconds))),
        case("not yet valid", &["ticket-not-yet-valid"], with("nbf", json!(seconds + 1))),
        case("wrong bucket", &["ticket-wrong-bucket"], with("aud", json!("file"))),
        case("too small for it", &["ticket-wrong-size"], with("min_size", json!(1000))),
        case("too large for it", &["ticket-wrong-size"], with("max_size", json!(10))),
        case("wrong type", &["ticket-wrong-type"], with("content_type", json!("image/jpeg"))),
        case("wrong md5", &["ticket-wrong-digest"], with("md5", json!(hex::encode([1; 16])))),
        case("wrong sha256", &["ticket-wrong-digest"], with("sha256", json!(b64([1; 32])))),
    ];
    // A ticket is for one key, byte by byte.
    for (what, promised, key) in [
        ("another catalog", "bn0m0anw/me.png", "00000000/me.png"),
        ("another case", "bn0m0anw/me.png", "bn0m0anw/Me.png"),
        ("percent-encoded", "bn0m0anw/my me.png", "bn0m0anw/my%20me.png"),
        ("a plus", "bn0m0anw/my me.png", "bn0m0anw/my+me.png"),
        ("another normal form", "bn0m0anw/m\u{e9}.png", "bn0m0anw/me\u{301}.png"),
        ("a trailing slash", "bn0m0anw/me.png", "bn0m0anw/me.png/"),
        ("a missing slash", "bn0m0anw/me.png/", "bn0m0anw/me.png"),
    ] {
        let ticket = Some(ticket(&claims(promised)));
        cases.push(Case { key: key.into(), ..case(what, &["ticket-wrong-key"], ticket) });
    }
    for (what, key) in [
        ("another case of the catalog", "BN0M0ANW/me.png"),
        ("another spelling of the code", "bnom0anw/me.png"),
    ] {
        let codes = &["unknown-catalog", "ticket-wrong-key"];
        cases.push(Case { key: key.into(), ..case(what, codes, Some(ticket(&claims(KEY)))) });
    }
    for (what, key, code) in [
        ("a way up", "bn0m0anw/../me.png", "bad-key"),
        ("a NUL", "bn0m0anw/m\0e.png", "bad-key"),
        ("a control character", "bn0m0anw/m\x1be.png", "bad-key"),
        ("a slash first", "/bn0m0anw/me.png", "bad-key"),
        ("an empty segment", "bn0m0anw//me.png", "bad-key"),
        ("no catalog", "me.png", "bad-key"),
        ("no short code", "user/me.png", "unknown-catalog"),
    ] {
        cases.push(Case { key: key.into(), ..case(what, &[code], Some(ticket(&claims(key)))) });
    }
    let zipped =
        [&fixture("rocket.jpg")[..], b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x40\0\0\0\x40\0\0\0\0\0"].concat();
    let bombed = fixture("made/bomb-50000.png");
    for (what, key, content, codes) in [
        ("a PNG called JPEG", "bn0m0anw/me.jpg", &png(1)[..], &["type-mismatch"][..]),
        ("HTML called PNG", KEY, b"<html><script>1</script>", &["type-mismatch", "active-content"]),
        ("an SVG with a script", "bn0m0anw/a.svg", b"<svg onload='x()'/>", &["active-content"]),
        (
            "a GIF that is a script",
            "bn0m0anw/a.gif",
            b"GIF89a/*\x01\0.....*/=1;alert(1)",
            &["active-content"],
        ),
        ("a script that begins like a GIF", "bn0m0anw/a.gif", b"GIF=1;alert(1)//", &["type-mismatch"]),
        ("a script that begins like a BMP", "bn0m0anw/a.bmp", b"BM=1;alert(1);", &["type-mismatch"]),
        ("a script that begins like a PNG", KEY, b"\x89PNG=1;alert(1)//", &["type-mismatch"]),
        ("a script with WEBP in it", "bn0m0anw/a.webp", b"alert(1)WEBP;", &["type-mismatch"]),
        ("a JPEG with a ZIP behind", "bn0m0anw/a.jpg", &zipped, &["active-content"]),
        ("a bomb", "bn0m0anw/a.png", &bombed, &["undecodable"]),
        ("half a header", KEY, &png(1)[..20], &["undecodable"]),
    ] {
        let ticket = Some(ticket(&claims(key)));
        cases.push(Case {
            key: key.into(),
            content: Bytes::copy_from_slice(content),
            ..case(what, codes, ticket)
        });
    }
    cases
}

#[tokio::test]
async fn every_bad_upload_is_called_by_its_code_and_ends_in_quarantine() {
    for case in bad_uploads() {
        let memory = store();
        let event = upload(&memory, &case.key, &case.content, case.ticket.as_deref()).await;
        let tag = memory.head(&ObjectRef::new("files", &case.key)).await.unwrap().e_tag;
        let outcome = outcome(memory.clone(), config(&[]), &event).await;
        assert_eq!(outcome["status"], "rejected", "{}: {outcome}", case.what);
        assert_eq!(codes(&outcome), case.codes, "{}: {outcome}", case.what);
        assert_eq!(outcome["reason"], outcome["reasons"][0]);
        let key = format!("files/{}.{tag}", case.key);
        assert_eq!(outcome["quarantine"], json!({"bucket": "quarantine", "key": key}), "{}", case.what);
        let copy = ObjectRef::new("quarantine", key);
        let meta = memory.head(&copy).await.unwrap();
        assert_eq!(meta.metadata["reasons"], case.codes.join(","), "{}", case.what);
        assert_eq!(meta.metadata["source-bucket"], "files");
        assert_eq!(meta.metadata["rejected-at"], NOW);
        let body = memory.get(&copy, GetOptions::default()).await.unwrap().bytes(1 << 20).await.unwrap();
        assert_eq!(body, case.content, "{}", case.what);
        assert!(!exists(&memory, "files", &case.key).await, "{}", case.what);
        let told = format!("{outcome}{:?}", meta.metadata);
        if let Some(ticket) = &case.ticket {
            assert!(!told.contains(ticket.as_str()), "{}: the ticket is told", case.what);
        }
    }
}

#[tokio::test]
async fn all_failures_are_reported_together_in_the_order_of_the_contract() {
    let memory = store();
    let mut claims = claims("bn0m0anw/other.png");
    claims["aud"] = json!("elsewhere");
    claims["exp"] = json!(now().as_second() - 1);
    claims["max_size"] = json!(3);
    claims["content_type"] = json!("image/png");
    claims["md5"] = json!(hex::encode([0; 16]));
    let catalogs =
        r#"{"version": 1, "other_short_codes": {"min_size": 1000, "content_types": ["application/pdf"]}}"#;
    let content = Bytes::from_static(b"<html>");
    let event = upload(&memory, "bn0m0anw/me.png", &content, Some(&ticket(&claims))).await;
    let outcome = outcome(memory, config(&[("CATALOGS", catalogs)]), &event).await;
    assert_eq!(
        codes(&outcome),
        [
            "too-small",
            "ticket-expired",
            "ticket-wrong-bucket",
            "ticket-wrong-key",
            "ticket-wrong-size",
            "ticket-wrong-type",
            "ticket-wrong-digest",
            "type-mismatch",
            "active-content",
            "unsupported-type"
        ]
    );
}

#[tokio::test]
async fn a_declared_type_that_lies_has_its_own_sentence() {
    let memory = store();
    let object = ObjectRef::new("files", "bn0m0anw/me.jpg");
    let options = PutOptions { content_type: Some("text/html".into()), ..PutOptions::default() };
    let put = memory.put(&object, png(1), options).await.unwrap();
    let event = event(&object.key, png(1).len() as u64, put.e_tag.as_str());
    let outcome = outcome(memory, config(&[("TICKET_REQUIRED", "false")]), &event).await;
    assert_eq!(codes(&outcome), ["type-mismatch", "type-mismatch"]);
    let sentence = |n: usize| outcome["reasons"][n]["message"].as_str().unwrap().to_owned();
    assert!(sentence(0).contains(".jpg") && sentence(1).contains("text/html"), "{outcome}");
}

#[tokio::test]
async fn honest_text_is_accepted_whatever_it_begins_with() {
    for (key, text) in [
        ("bn0m0anw/hosts.csv", "MAC address,host\n00:00:5e:00:53:01,gate\n"),
        ("bn0m0anw/notes.txt", "BM, MZ and ID3: what a file begins with. A PDF has %PDF-1.7.\n"),
        ("bn0m0anw/dates.txt", "070701 070702\n"),
    ] {
        let memory = store();
        let event = ticketed(&memory, key, &Bytes::from_static(text.as_bytes())).await;
        assert_eq!(outcome(memory, config(&[]), &event).await["status"], "accepted", "{key}");
    }
}

#[tokio::test]
async fn an_old_office_file_is_held_against_catalogs_by_its_name_and_an_installer_is_none() {
    let content = Bytes::from([&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1][..], &[0; 1000]].concat());
    let catalogs = r#"{"version": 1, "other_short_codes":
        {"content_types": ["application/msword", "application/vnd.ms-excel"]}}"#;
    for (key, promised, expected) in [
        ("bn0m0anw/sheet.xls", "application/vnd.ms-excel", &[][..]),
        ("bn0m0anw/cv.doc", "application/msword", &[]),
        ("bn0m0anw/sheet.xls", "application/msword", &["ticket-wrong-type"]),
        ("bn0m0anw/setup.msi", "application/msword", &["ticket-wrong-type", "unsupported-type"]),
        ("bn0m0anw/setup", "application/msword", &["ticket-wrong-type", "unsupported-type"]),
    ] {
        let memory = store();
        let mut claims = claims(key);
        claims["content_type"] = promised.into();
        let event = upload(&memory, key, &content, Some(&ticket(&claims))).await;
        let outcome = outcome(memory, config(&[("CATALOGS", catalogs)]), &event).await;
        assert_eq!(codes(&outcome), expected, "{key} {promised}: {outcome}");
    }
}

#[tokio::test]
async fn a_list_of_declared_types_is_no_declared_type() {
    for declared in ["image/png;, text/html", "image/png, text/html", "png"] {
        let memory = store();
        let object = ObjectRef::new("files", KEY);
        let options = PutOptions { content_type: Some(declared.into()), ..PutOptions::default() };
        let put = memory.put(&object, png(1), options).await.unwrap();
        let event = event(&object.key, png(1).len() as u64, put.e_tag.as_str());
        let outcome = outcome(memory, config(&[("TICKET_REQUIRED", "false")]), &event).await;
        assert_eq!(codes(&outcome), ["type-mismatch"], "{declared}");
    }
}

#[tokio::test]
async fn what_the_event_alone_decides_is_not_read() {
    let tag = "5d41402abc4b2a76b9719d911017c592";
    let catalogs = r#"{"version": 1, "catalogs": {"tempcato": {"max_size": 10}}}"#;
    for (key, size, e_tag, code) in [
        (KEY, 6_000_000_000, tag, "too-large"),
        ("tempcato/me.png", 11, tag, "too-large"),
        (KEY, 0, tag, "empty"),
        (KEY, 5, "5d41402abc4b2a76b9719d911017c592-2", "multipart-not-accepted"),
    ] {
        let memory = store();
        // What stands there is another upload already: nothing happens to it.
        ticketed(&memory, key, &png(1)).await;
        let before = state(&memory).await;
        let recording = RecordingStore::new(memory.clone());
        let event = event(key, size, e_tag);
        let settings: &[(&str, &str)] = &[("CATALOGS", catalogs), ("REJECT_ACTION", "delete")];
        let outcome = outcome(recording.clone(), config(settings), &event).await;
        assert_eq!((&outcome["status"], codes(&outcome)), (&json!("rejected"), vec![code]), "{outcome}");
        assert_eq!(operations(&recording), [Operation::Delete], "{code}");
        assert_eq!(state(&memory).await, before, "{code}");
    }
}

#[tokio::test]
async fn what_the_event_alone_decides_is_quarantined_all_the_same() {
    let memory = store();
    let id = memory.create_upload(&ObjectRef::new("files", KEY), PutOptions::default()).await.unwrap();
    let part = memory.upload_part(&ObjectRef::new("files", KEY), &id, 1, png(1)).await.unwrap();
    let whole = memory
        .complete_upload(&ObjectRef::new("files", KEY), &id, &[(1, part)], Precondition::None)
        .await
        .unwrap();
    let mut event = event(KEY, png(1).len() as u64, whole.e_tag.as_str());
    event["Records"][0]["eventName"] = json!("ObjectCreated:CompleteMultipartUpload");
    let recording = RecordingStore::new(memory.clone());
    let outcome = outcome(recording.clone(), config(&[]), &event).await;
    assert_eq!(codes(&outcome), ["multipart-not-accepted"]);
    assert_eq!(operations(&recording), [Operation::Copy, Operation::Delete]);
    assert!(exists(&memory, "quarantine", &format!("files/{KEY}.{}", whole.e_tag)).await);
    assert!(!exists(&memory, "files", KEY).await);
}

#[tokio::test]
async fn a_key_that_no_store_has_is_rejected_without_a_request() {
    let key = format!("bn0m0anw/{}", "a".repeat(1016));
    let recording = RecordingStore::new(store());
    let event = event(&key, 5, "5d41402abc4b2a76b9719d911017c592");
    let outcome = outcome(recording.clone(), config(&[("RECORDS", "on")]), &event).await;
    assert_eq!((&outcome["status"], codes(&outcome)), (&json!("rejected"), vec!["bad-key"]));
    assert_eq!(operations(&recording), []);
}

#[tokio::test]
async fn the_longest_key_is_quarantined_under_a_shorter_one_that_says_all_of_it() {
    let memory = store();
    let key = format!("bn0m0anw/{}", "語".repeat(338));
    let event = upload(&memory, &key, &png(1), None).await;
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!(codes(&outcome), ["ticket-missing"], "{outcome}");
    let copy = ObjectRef::new("quarantine", outcome["quarantine"]["key"].as_str().unwrap());
    assert_eq!(memory.head(&copy).await.unwrap().metadata["source-key-base64"], b64(&key));
    assert!(!exists(&memory, "files", &key).await);
}

#[tokio::test]
async fn what_is_more_than_one_request_copies_stays_tagged_and_closed() {
    let memory = store();
    let content = png(1);
    let put = memory.put(&ObjectRef::new("files", KEY), content, PutOptions::default()).await.unwrap();
    let event = event(KEY, (5 << 30) + 1, put.e_tag.as_str());
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!((&outcome["status"], &outcome["action"]), (&json!("rejected"), &json!("tag")), "{outcome}");
    assert_eq!(tags(&memory, KEY).await["upload-status"], "rejected");
}

#[tokio::test]
async fn an_event_that_says_nothing_but_the_key_is_judged_by_what_stands_there() {
    for (content, expected) in [(png(1), "accepted"), (Bytes::new(), "rejected")] {
        let memory = store();
        ticketed(&memory, KEY, &content).await;
        let event = json!({"bucket": "files", "key": KEY});
        let outcome = outcome(memory.clone(), config(&[]), &event).await;
        assert_eq!(outcome["status"], expected, "{outcome}");
        assert_eq!(exists(&memory, "files", KEY).await, expected == "accepted");
        assert!(outcome["source"]["e_tag"].is_string());
    }
}

#[tokio::test]
async fn a_frame_header_behind_long_metadata_costs_a_small_read_per_segment() {
    let mut content = vec![0xff, 0xd8];
    for _ in 0..9 {
        content.extend([0xff, 0xe2, 0xff, 0xff]);
        content.resize(content.len() + 65_533, 7);
    }
    content.extend(b"\xff\xc2\0\x0b\x08\x01\0\x02\0\x01\x01\x11\0");
    content.resize(content.len() + 100_000, 9);
    let memory = store();
    let key = "bn0m0anw/print.jpg";
    let event = ticketed(&memory, key, &content.into()).await;
    let recording = RecordingStore::new(memory);
    let outcome = outcome(recording.clone(), config(&[]), &event).await;
    assert_eq!(outcome["picture"], json!({"width": 512, "height": 256}), "{outcome}");
    assert!(recording.bytes_read() <= 64 << 10);
    assert_eq!(recording.count(Operation::Get), 11);
}

/// Every event file of the files bucket, over a store in which there stands what it tells of.
#[tokio::test]
async fn every_event_file_ends_as_its_name_says() {
    const FILES: [(&str, &[&str]); 14] = [
        ("put", &[]),
        ("put-named-catalog", &[]),
        ("put-version", &[]),
        ("post", &[]),
        ("multipart", &["multipart-not-accepted", "too-large"]),
        ("empty", &["empty"]),
        ("too-large", &["too-large"]),
        ("way-up", &["bad-key"]),
        ("control-character", &["bad-key"]),
        ("long-key", &["bad-key"]),
        ("no-catalog", &["bad-key"]),
        ("unknown-catalog", &["unknown-catalog"]),
        ("trailing-slash", &["ticket-wrong-key"]),
        ("other-normal-form", &["ticket-wrong-key"]),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events");
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("s3-files-")).count(), FILES.len());
    for (name, expected) in FILES {
        let text = std::fs::read_to_string(format!("{folder}/s3-files-{name}.json")).unwrap();
        let mut event: Value = serde_json::from_str(&text).unwrap();
        let delivery = shared::event::normalize(&event).unwrap();
        let Ok(shared::event::Content::Object(told)) = &delivery.records[0].content else { panic!("{name}") };
        let memory = if name == "put-version" { store().with_versioned_bucket("files") } else { store() };
        let key = &told.object.key;
        if key.len() <= 1024 {
            // The ticket of the last two is for the key as people would write it.
            let promised = key.trim_end_matches('/').replace("e\u{301}", "\u{e9}");
            let stored =
                upload(&memory, key, &fixture("astronaut.png"), Some(&ticket(&claims(&promised)))).await;
            if let Some(version) = stored["Records"][0]["s3"]["object"].get("versionId") {
                event["Records"][0]["s3"]["object"]["versionId"] = version.clone();
            }
        }
        let settings: &[(&str, &str)] = &[("CATALOGS", r#"{"version": 1, "catalogs": {"tempcato": {}}}"#)];
        let outcome = outcome(memory, config(settings), &event).await;
        if name == "empty" || name == "multipart" {
            // Nothing so small or so large stands there: what does is another upload, and stays.
            assert_eq!(outcome["reason"]["code"], "superseded", "{name}: {outcome}");
            continue;
        }
        let status = if expected.is_empty() { "accepted" } else { "rejected" };
        assert_eq!(
            (&outcome["status"], codes(&outcome)),
            (&json!(status), expected.to_vec()),
            "{name}: {outcome}"
        );
    }
}

// ------------------------------------------------------------------------------------------- consequences

#[tokio::test]
async fn a_rejected_upload_is_quarantined_tagged_or_deleted_as_configured() {
    for action in ["quarantine", "tag", "delete"] {
        let memory = store();
        let event = upload_with(&memory, KEY, &png(1), None, &[("team", "red")]).await;
        let outcome = outcome(memory.clone(), config(&[("REJECT_ACTION", action)]), &event).await;
        assert_eq!((&outcome["status"], &outcome["action"]), (&json!("rejected"), &json!(action)));
        let copies = memory.list("quarantine", ListOptions::default()).await.unwrap().objects.len();
        assert_eq!(copies, usize::from(action == "quarantine"));
        assert_eq!(exists(&memory, "files", KEY).await, action == "tag");
        assert_eq!(outcome.get("quarantine").is_some(), action == "quarantine");
        if action == "tag" {
            let tags = tags(&memory, KEY).await;
            assert_eq!(tags["team"], "red");
            assert_eq!(
                (tags["upload-status"].as_str(), tags["upload-reason"].as_str()),
                ("rejected", "ticket-missing")
            );
        }
    }
}

#[tokio::test]
async fn a_copy_in_quarantine_does_not_say_that_it_was_accepted() {
    let memory = store();
    let event = upload_with(&memory, KEY, &png(1), None, &[("upload-status", "accepted")]).await;
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    let copy = ObjectRef::new("quarantine", outcome["quarantine"]["key"].as_str().unwrap());
    let tags = memory.get_tags(&copy).await.unwrap();
    assert_eq!(tags, Tags::from([("upload-status".into(), "rejected".into())]));
}

#[tokio::test]
async fn records_are_the_rows_of_a_table() {
    let memory = store();
    let content = png(1);
    let good = ticketed(&memory, KEY, &content).await;
    let twin = upload(&memory, "bn0m0anw/twin.png", &content, None).await;
    let settings: &[(&str, &str)] = &[("RECORDS", "on")];
    let first = outcome(memory.clone(), config(settings), &good).await;
    let second = outcome(memory.clone(), config(settings), &twin).await;
    let read = async |outcome: &Value| -> Value {
        let record = ObjectRef::new("audit", outcome["record"].as_str().unwrap());
        let bytes = memory.get(&record, GetOptions::default()).await.unwrap().bytes(1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let e_tag = hex::encode(Md5::digest(&content));
    let code = shared::short_code::ShortCode::of_digest(&Md5::digest(&content).into(), 0);
    assert_eq!(first["record"], format!("records/bn0m0anw/2026/11/01/{code}.json"));
    assert_eq!(
        read(&first).await,
        json!({"etag": e_tag, "owner": "user-7", "key": KEY, "status": "accepted", "reasons": [], "time": NOW})
    );
    assert_ne!(first["record"], second["record"]);
    assert_eq!(
        read(&second).await,
        json!({"etag": e_tag, "owner": null, "key": "bn0m0anw/twin.png", "status": "rejected",
               "reasons": ["ticket-missing"], "time": NOW})
    );
    // A duplicate finds its record; another verdict on the same upload replaces it.
    let before = memory.list("audit", ListOptions::default()).await.unwrap().objects.len();
    assert_eq!(outcome(memory.clone(), config(settings), &good).await["record"], first["record"]);
    let strict = [("RECORDS", "on"), ("MAX_UPLOAD_BYTES", "10")];
    assert_eq!(outcome(memory.clone(), config(&strict), &good).await["record"], first["record"]);
    assert_eq!(read(&first).await["reasons"], json!(["too-large"]));
    assert_eq!(memory.list("audit", ListOptions::default()).await.unwrap().objects.len(), before);
}

#[tokio::test]
async fn in_a_versioned_bucket_exactly_the_named_version_is_judged() {
    let memory = store().with_versioned_bucket("files");
    let good = ticketed(&memory, KEY, &png(1)).await;
    let bad = upload(&memory, KEY, &png(2), None).await;
    let newest = ticketed(&memory, KEY, &png(3)).await;
    let version =
        |event: &Value| event["Records"][0]["s3"]["object"]["versionId"].as_str().unwrap().to_owned();
    let at = |event: &Value| ObjectRef::new("files", KEY).at_version(Some(version(event)));
    assert_eq!(outcome(memory.clone(), config(&[]), &good).await["status"], "accepted");
    let rejected = outcome(memory.clone(), config(&[]), &bad).await;
    assert_eq!(
        (&rejected["status"], &rejected["source"]["version_id"]),
        (&json!("rejected"), &json!(version(&bad)))
    );
    // That version is gone for good, without a marker; the others stand, and only the judged one is tagged.
    let left = memory.list_versions("files", "", None).await.unwrap().versions;
    let left: Vec<_> = left.into_iter().map(|v| v.version_id).collect();
    assert_eq!(left, [version(&newest), version(&good)]);
    assert_eq!(memory.get_tags(&at(&good)).await.unwrap()["upload-status"], "accepted");
    assert!(memory.get_tags(&at(&newest)).await.unwrap().is_empty());
    // Without a version in the event, the one that was read is named from there on.
    let direct = outcome(memory.clone(), config(&[]), &json!({"bucket": "files", "key": KEY})).await;
    assert_eq!(direct["source"]["version_id"], version(&newest));
    assert_eq!(outcome(memory, config(&[]), &bad).await["reason"]["code"], "gone");
}

#[tokio::test]
async fn an_upload_that_is_gone_or_replaced_is_skipped() {
    let memory = store();
    let old = upload(&memory, KEY, &png(1), None).await;
    ticketed(&memory, KEY, &png(2)).await;
    let superseded = outcome(memory.clone(), config(&[]), &old).await;
    assert_eq!(
        (&superseded["status"], &superseded["reason"]["code"]),
        (&json!("skipped"), &json!("superseded"))
    );
    assert!(exists(&memory, "files", KEY).await);
    memory.delete(&ObjectRef::new("files", KEY), None).await.unwrap();
    let gone = outcome(memory, config(&[]), &old).await;
    assert_eq!((&gone["status"], &gone["reason"]["code"]), (&json!("skipped"), &json!("gone")));
}

#[tokio::test]
async fn its_own_copies_and_buckets_are_left_alone() {
    let memory = store();
    let own = PutOptions {
        metadata: [("produced-by".to_owned(), "upload-validator".to_owned())].into(),
        ..PutOptions::default()
    };
    let tag = memory.put(&ObjectRef::new("files", KEY), png(1), own).await.unwrap().e_tag;
    let copied = outcome(memory.clone(), config(&[]), &event(KEY, png(1).len() as u64, tag.as_str())).await;
    assert_eq!(copied["reason"]["code"], "own-output");
    for bucket in ["quarantine", "audit"] {
        let looped = outcome(memory.clone(), config(&[]), &json!({"bucket": bucket, "key": KEY})).await;
        assert_eq!(
            (&looped["status"], &looped["reason"]["code"]),
            (&json!("failed"), &json!("source-is-destination"))
        );
    }
    // Nor does the name help whoever sends the tag along that opens an upload.
    let opened = PutOptions {
        metadata: [("produced-by".to_owned(), "upload-validator".to_owned())].into(),
        tags: [("upload-status".to_owned(), "accepted".to_owned())].into(),
        ..PutOptions::default()
    };
    let tag = memory.put(&ObjectRef::new("files", KEY), png(1), opened).await.unwrap().e_tag;
    let judged = outcome(memory.clone(), config(&[]), &event(KEY, png(1).len() as u64, tag.as_str())).await;
    assert_eq!(codes(&judged), ["ticket-missing"]);
    assert!(!exists(&memory, "files", KEY).await);
    // Whoever claims to be somebody else's output is judged like everybody.
    let forged = PutOptions {
        metadata: [("produced-by".to_owned(), "me".to_owned())].into(),
        ..PutOptions::default()
    };
    let tag = memory.put(&ObjectRef::new("files", KEY), png(1), forged).await.unwrap().e_tag;
    let judged = outcome(memory, config(&[]), &event(KEY, png(1).len() as u64, tag.as_str())).await;
    assert_eq!(codes(&judged), ["ticket-missing"]);
}

// --------------------------------------------------------------------------------------- rivals and faults

/// Somebody uploads something else under the same key right before the validator's `n`-th call. Whatever stands
/// there afterwards is not open unless it was judged, and the newer upload is never lost.
#[tokio::test]
async fn a_fresh_upload_under_the_same_key_is_neither_lost_nor_opened_by_an_old_verdict() {
    for action in ["quarantine", "tag", "delete"] {
        for (old_is_good, new_is_good) in [(true, false), (false, true), (true, true), (false, false)] {
            for n in 1..=6 {
                let memory = store();
                let (old, new) = (png(1), png(2));
                let promised = ticket(&claims(KEY));
                let ticket_if = |good: bool| good.then_some(promised.clone());
                let old_event = upload(&memory, KEY, &old, ticket_if(old_is_good).as_deref()).await;
                let (rival, fresh, new_ticket) = (memory.clone(), new.clone(), ticket_if(new_is_good));
                let meddled = Meddled::new(memory.clone()).before(move |_, call| {
                    let (rival, fresh, ticket) = (rival.clone(), fresh.clone(), new_ticket.clone());
                    Box::pin(async move {
                        if call == n {
                            upload(&rival, KEY, &fresh, ticket.as_deref()).await;
                        }
                        None
                    })
                });
                let settings: &[(&str, &str)] = &[("REJECT_ACTION", action)];
                let first = invoke(meddled.clone(), config(settings), &old_event).await;
                let what = format!("{action}, old {old_is_good}, new {new_is_good}, call {n}: {first:?}");
                let standing = memory.head(&ObjectRef::new("files", KEY)).await.ok();
                let is_new = standing
                    .as_ref()
                    .is_some_and(|meta| meta.e_tag.md5_hint() == Some(Md5::digest(&new).into()));
                if is_new && !new_is_good {
                    assert_ne!(
                        tags(&memory, KEY).await.get("upload-status").map(String::as_str),
                        Some("accepted"),
                        "{what}"
                    );
                }
                // Its own event then decides on it as if nothing had been.
                let put_at_all = meddled_happened(&memory, &new, is_new).await;
                let new_event = event(KEY, new.len() as u64, &hex::encode(Md5::digest(&new)));
                let second = outcome(memory.clone(), config(settings), &new_event).await;
                let stands = exists(&memory, "files", KEY).await;
                if put_at_all && new_is_good {
                    assert_eq!(second["status"], "accepted", "{what}: {second}");
                    assert_eq!(tags(&memory, KEY).await["upload-status"], "accepted", "{what}");
                }
                if put_at_all && !new_is_good {
                    assert_eq!(stands, action == "tag", "{what}: {second}");
                    if action == "quarantine" {
                        let copy = format!("files/{KEY}.{}", hex::encode(Md5::digest(&new)));
                        assert!(exists(&memory, "quarantine", &copy).await, "{what}");
                    }
                }
            }
        }
    }
}

/// The same bytes come again under a newer ticket, and then the event of the first upload, late.
#[tokio::test]
async fn a_late_event_of_the_same_bytes_does_not_condemn_the_newer_upload() {
    let seconds = now().as_second();
    let mut claims = claims(KEY);
    claims["nbf"] = json!(seconds - 1);
    let memory = store();
    let newer = upload(&memory, KEY, &png(1), Some(&ticket(&claims))).await;
    assert_eq!(outcome(memory.clone(), config(&[]), &newer).await["status"], "accepted");
    for (late, created_at) in [
        ("2026-11-01T11:00:00Z", NOW),
        ("2026-11-01T11:59:57.999Z", NOW),
        // The same upload: a store's times are not that exact.
        ("2026-11-01T11:59:59Z", "2026-11-01T11:59:59Z"),
    ] {
        let mut event = newer.clone();
        event["Records"][0]["eventTime"] = json!(late);
        let outcome = outcome(memory.clone(), config(&[]), &event).await;
        assert_eq!((&outcome["status"], &outcome["created_at"]), (&json!("accepted"), &json!(created_at)));
        assert!(is_open(&memory, KEY).await);
    }
    // A ticket that was over by the time of what stands there does not hold for it.
    claims["exp"] = json!(seconds);
    let memory = store();
    let mut event = upload(&memory, KEY, &png(1), Some(&ticket(&claims))).await;
    event["Records"][0]["eventTime"] = json!("2026-11-01T11:00:00Z");
    assert_eq!(codes(&outcome(memory, config(&[]), &event).await), ["ticket-expired"]);
}

#[tokio::test]
async fn a_version_is_as_old_as_its_event_says() {
    let memory = store().with_versioned_bucket("files");
    let mut event = ticketed(&memory, KEY, &png(1)).await;
    event["Records"][0]["eventTime"] = json!("2026-11-01T11:00:00Z");
    let outcome = outcome(memory, config(&[]), &event).await;
    assert_eq!(outcome["created_at"], "2026-11-01T11:00:00Z");
}

const BAD: Bytes = Bytes::from_static(b"<html><script>1</script>");

/// An upload without a ticket that calls itself the work of these functions, or of nobody.
async fn put_bad(memory: &MemoryStore, key: &str, produced_by: Option<&str>, tags: Tags) {
    let metadata = produced_by.map(|name| ("produced-by".to_owned(), name.to_owned()));
    let options = PutOptions { metadata: metadata.into_iter().collect(), tags, ..PutOptions::default() };
    memory.put(&ObjectRef::new("files", key), BAD, options).await.unwrap();
}

async fn is_open(memory: &MemoryStore, key: &str) -> bool {
    let tags = memory.get_tags(&ObjectRef::new("files", key)).await.unwrap_or_default();
    tags.get("upload-status").is_some_and(|status| status == "accepted")
}

#[tokio::test]
async fn tags_do_not_stay_on_an_upload_that_came_right_before_them() {
    for (key, old) in [(KEY, png(1)), ("bn0m0anw/me.jpg", fixture("rocket.jpg"))] {
        for produced_by in [None, Some("upload-validator")] {
            let memory = store();
            let old_event = ticketed(&memory, key, &old).await;
            let rival = memory.clone();
            // Its own event may be over by the time the tags land: nothing is delivered for it here.
            let meddled = Meddled::new(memory.clone()).before(move |operation, _| {
                let rival = rival.clone();
                Box::pin(async move {
                    if operation == Operation::PutTags {
                        put_bad(&rival, key, produced_by, Tags::new()).await;
                    }
                    None
                })
            });
            let outcome = outcome(meddled, config(&[]), &old_event).await;
            assert!(!is_open(&memory, key).await, "{key} {produced_by:?}: {outcome}");
            // It is in quarantine before its event can tell of it, so that this outcome does.
            assert_eq!(outcome["status"], "rejected", "{key} {produced_by:?}: {outcome}");
            assert_eq!(outcome["source"]["e_tag"], hex::encode(Md5::digest(BAD)));
        }
    }
}

#[tokio::test]
async fn tags_that_a_crash_left_on_a_newer_upload_are_found_by_the_next_delivery() {
    for action in ["quarantine", "tag", "delete"] {
        for produced_by in [None, Some("upload-validator")] {
            let memory = store();
            let old_event = ticketed(&memory, KEY, &png(1)).await;
            let tags = Tags::from([("upload-status".into(), "accepted".into())]);
            put_bad(&memory, KEY, produced_by, tags).await;
            let outcome = outcome(memory.clone(), config(&[("REJECT_ACTION", action)]), &old_event).await;
            assert!(!is_open(&memory, KEY).await, "{action} {produced_by:?}: {outcome}");
            assert_eq!(outcome["status"], "rejected", "{action} {produced_by:?}: {outcome}");
        }
    }
}

/// Whether the rival's upload arrived at all: it stands, or was judged already.
async fn meddled_happened(memory: &MemoryStore, new: &Bytes, stands: bool) -> bool {
    let copy = format!("files/{KEY}.{}", hex::encode(Md5::digest(new)));
    stands || exists(memory, "quarantine", &copy).await
}

/// What a scenario starts from: a store with an upload, its event, and how the validator is configured.
async fn scenarios() -> Vec<(&'static str, bool, Vec<(&'static str, &'static str)>, bool)> {
    let mut scenarios = Vec::new();
    for versioned in [false, true] {
        for good in [true, false] {
            for action in ["quarantine", "tag", "delete"] {
                for records in ["on", "off"] {
                    let settings = vec![("REJECT_ACTION", action), ("RECORDS", records)];
                    scenarios.push((action, good, settings, versioned));
                }
            }
        }
    }
    scenarios
}

/// A picture and the tickets for it, made once.
static PICTURE: LazyLock<(Bytes, [String; 2])> = LazyLock::new(|| {
    let content = fixture("rocket.jpg");
    let ticket = |bucket: &str| {
        let mut claims = claims("bn0m0anw/me.jpg");
        claims["sha256"] = json!(hex::encode(Sha256::digest(&content)));
        claims["aud"] = bucket.into();
        ticket(&claims)
    };
    let tickets = [ticket("elsewhere"), ticket("files")];
    (content, tickets)
});

async fn scene(good: bool, versioned: bool, size: u64) -> (MemoryStore, Value) {
    let memory = if versioned { store().with_versioned_bucket("files") } else { store() };
    let (content, tickets) = &*PICTURE;
    // Another upload of the same content took the record's first place.
    let twin = upload(&memory, "bn0m0anw/twin.jpg", content, None).await;
    let settings = [("REJECT_ACTION", "delete"), ("RECORDS", "on")];
    outcome(memory.clone(), config(&settings), &twin).await;
    let ticket = &tickets[usize::from(good)];
    let mut event = upload_with(&memory, "bn0m0anw/me.jpg", content, Some(ticket), &[("team", "red")]).await;
    if size > 0 {
        event["Records"][0]["s3"]["object"]["size"] = size.into();
    }
    (memory, event)
}

/// A fault at any call of a first run and at any call of a second one leaves, after a third, what one clean run
/// leaves.
#[tokio::test]
async fn whatever_fails_once_or_twice_the_next_run_ends_as_a_clean_one() {
    let mut pairs = 0;
    for (action, good, settings, versioned) in scenarios().await {
        for size in [0, 99_000_000] {
            let (clean, event) = scene(good, versioned, size).await;
            let counted = FaultStore::new(clean.clone());
            outcome(counted.clone(), config(&settings), &event).await;
            let (expected, calls) = (state(&clean).await, counted.calls());
            assert!(calls >= 1);
            for first in 1..=calls {
                for fault in Fault::ALL {
                    let (memory, event) = scene(good, versioned, size).await;
                    let faulty = FaultStore::new(memory.clone()).at_call(first, fault);
                    let broken = invoke(faulty, config(&settings), &event).await;
                    let what =
                        format!("{action}, good {good}, versioned {versioned}, call {first}, {fault:?}");
                    assert_eq!(broken.map_err(|error| error.error_type).unwrap_err(), "Retryable", "{what}");
                    assert_unopened(&memory, good, size).await;
                    let again = invoke(memory.clone(), config(&settings), &event).await;
                    assert!(again.is_ok(), "{what}: {again:?}");
                    assert_eq!(state(&memory).await, expected, "{what}");
                    pairs += 1;
                }
                for second in 1..=calls + 1 {
                    let (memory, event) = scene(good, versioned, size).await;
                    for (run, cut) in [(first, true), (second, false)] {
                        let faulty = FaultStore::new(memory.clone());
                        let faulty =
                            if cut { faulty.cut_after_effect(run) } else { faulty.cut_after(run - 1) };
                        let _ = invoke(faulty, config(&settings), &event).await;
                        assert_unopened(&memory, good, size).await;
                    }
                    invoke(memory.clone(), config(&settings), &event).await.unwrap();
                    assert_eq!(
                        state(&memory).await,
                        expected,
                        "{action} {good} {versioned} cuts {first} {second}"
                    );
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 500, "{pairs} pairs");
}

/// Nothing that would be rejected is open at any time.
async fn assert_unopened(memory: &MemoryStore, good: bool, size: u64) {
    let object = ObjectRef::new("files", "bn0m0anw/me.jpg");
    if let Ok(tags) = memory.get_tags(&object).await {
        let open = tags.get("upload-status").is_some_and(|status| status == "accepted");
        assert!(!open || (good && size == 0));
    }
}

#[tokio::test]
async fn throttling_is_delivered_again_and_a_missing_permission_is_named() {
    for (kind, retried) in [(StoreErrorKind::Throttled, true), (StoreErrorKind::AccessDenied, false)] {
        for (refused, bad, permission) in [
            (Operation::Get, false, "s3:GetObject on arn:aws:s3:::files/bn0m0anw/me.png"),
            (Operation::PutTags, false, "s3:PutObjectTagging on arn:aws:s3:::files/bn0m0anw/me.png"),
            (Operation::Copy, true, "s3:PutObject on arn:aws:s3:::quarantine/files/bn0m0anw/me.png"),
            (Operation::Put, true, "s3:PutObject on arn:aws:s3:::audit/records/bn0m0anw/2026/11/01/"),
            (Operation::Delete, true, "s3:DeleteObject on arn:aws:s3:::files/bn0m0anw/me.png"),
        ] {
            let memory = store();
            let event = match bad {
                true => upload(&memory, KEY, &png(1), None).await,
                false => ticketed(&memory, KEY, &png(1)).await,
            };
            let meddled = Meddled::new(memory.clone())
                .before(move |operation, _| Box::pin(async move { (operation == refused).then_some(kind) }));
            let settings: &[(&str, &str)] = if bad { &[("RECORDS", "on")] } else { &[] };
            match invoke(meddled, config(settings), &event).await {
                Err(error) => {
                    assert!(retried, "{refused}: {error}");
                    assert_eq!(error.error_type, "Retryable");
                }
                Ok(answer) => {
                    assert!(!retried, "{refused}: {answer}");
                    let outcome = &answer["outcomes"][0];
                    assert_eq!(
                        (&outcome["status"], &outcome["retry"]),
                        (&json!("failed"), &json!("permanent"))
                    );
                    let message = outcome["reason"]["message"].as_str().unwrap();
                    assert!(message.contains(permission), "{message}");
                }
            }
            assert!(exists(&memory, "files", KEY).await, "{refused}: nothing is lost");
        }
    }
}

#[tokio::test]
async fn a_quarantine_that_is_missing_fails_for_good_and_loses_nothing() {
    let memory = MemoryStore::new().with_bucket("files");
    let event = upload(&memory, KEY, &png(1), None).await;
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!(
        (&outcome["status"], &outcome["reason"]["code"]),
        (&json!("failed"), &json!("no-such-bucket"))
    );
    assert!(exists(&memory, "files", KEY).await);
}

#[tokio::test]
async fn a_store_without_conditions_is_looked_at_right_before_a_delete() {
    for replaced in [false, true] {
        let memory = store();
        let event = upload(&memory, KEY, &png(1), None).await;
        let rival = memory.clone();
        let meddled = Meddled::new(memory.clone()).without_conditions().before(move |operation, _| {
            let rival = rival.clone();
            Box::pin(async move {
                if replaced && operation == Operation::Copy {
                    // Right behind the copy's own check.
                    return None;
                }
                if replaced && operation == Operation::Head {
                    upload(&rival, KEY, &png(2), None).await;
                }
                None
            })
        });
        outcome(meddled, config(&[]), &event).await;
        assert_eq!(exists(&memory, "files", KEY).await, replaced);
    }
}

#[tokio::test]
async fn a_store_that_counts_no_tags_is_asked_for_them() {
    let memory = store();
    let ticket = ticket(&claims(KEY));
    let event = upload_with(&memory, KEY, &png(1), Some(&ticket), &[("team", "red")]).await;
    let silent = Meddled::new(memory.clone()).without_conditions().replacing_bodies(|mut result| {
        result.meta.tag_count = None;
        result
    });
    assert_eq!(outcome(silent, config(&[]), &event).await["status"], "accepted");
    assert_eq!(tags(&memory, KEY).await["team"], "red");
}

#[tokio::test]
async fn one_bad_record_does_not_stop_the_others_of_its_batch() {
    let memory = store();
    let good = ticketed(&memory, KEY, &png(1)).await;
    let bad = upload(&memory, "bn0m0anw/bad.png", &png(2), None).await;
    let event = json!({"Records": [bad["Records"][0], {"eventSource": "aws:s3"}, good["Records"][0]]});
    let answer = invoke(memory, config(&[]), &event).await.unwrap();
    let statuses: Vec<_> =
        answer["outcomes"].as_array().unwrap().iter().map(|o| o["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["rejected", "failed", "accepted"]);
}

#[tokio::test]
async fn an_invocation_that_runs_out_of_time_says_so_and_is_delivered_again() {
    let memory = store();
    let event = ticketed(&memory, KEY, &png(1)).await;
    let slow = Meddled::new(memory).before(|_, _| {
        Box::pin(async {
            std::future::pending::<()>().await;
            None
        })
    });
    let invocation = shared::runtime::Invocation { request_id: "test".into(), deadline: now() };
    let deps = upload_validator::handler::Deps::new(slow, shared::clock::FixedClock(now()), config(&[]));
    let error = upload_validator::handler::handle(&deps, &event, &invocation).await.unwrap_err();
    assert!(error.error_type == "Retryable" && error.message.contains("out-of-time"), "{error}");
}

#[tokio::test]
async fn keys_that_cannot_be_read_decide_nothing() {
    let memory = store();
    let event = upload(&memory, KEY, &png(1), Some(&ticket(&claims(KEY)))).await;
    let settings: &[(&str, &str)] = &[("TICKET_KEYS", "s3://audit/config/ticket-keys.json")];
    let undecided = invoke(memory.clone(), config(settings), &event).await.unwrap_err();
    assert_eq!(undecided.error_type, "Retryable");
    assert!(undecided.message.contains("ticket-keys-unavailable"), "{undecided}");
    assert!(tags(&memory, KEY).await.is_empty());
    let place = ObjectRef::new("audit", "config/ticket-keys.json");
    memory.put(&place, Bytes::from(jwks()), PutOptions::default()).await.unwrap();
    assert_eq!(outcome(memory, config(settings), &event).await["status"], "accepted");
}

// ----------------------------------------------------------------------------------------------- digests

#[tokio::test]
async fn a_promised_md5_is_answered_by_the_tag_and_computed_where_the_tag_is_none() {
    let content = fixture("rocket.jpg");
    let key = "bn0m0anw/me.jpg";
    let mut claims = claims(key);
    claims["md5"] = json!(hex::encode(Md5::digest(&content)));
    let ticket = ticket(&claims);
    let memory = store();
    let event = upload(&memory, key, &content, Some(&ticket)).await;
    let recording = RecordingStore::new(memory);
    assert_eq!(outcome(recording.clone(), config(&[]), &event).await["status"], "accepted");
    assert!(recording.bytes_read() <= 64 << 10, "the tag answered");
    // In parts the tag is no digest of the content.
    let memory = store();
    let object = ObjectRef::new("files", key);
    let options = PutOptions { metadata: [("ticket".to_owned(), ticket)].into(), ..PutOptions::default() };
    let id = memory.create_upload(&object, options).await.unwrap();
    let part = memory.upload_part(&object, &id, 1, content.clone()).await.unwrap();
    let whole = memory.complete_upload(&object, &id, &[(1, part)], Precondition::None).await.unwrap();
    let event = support::event(key, content.len() as u64, whole.e_tag.as_str());
    let recording = Arc::new(RecordingStore::new(memory));
    let outcome = outcome(recording.clone(), config(&[("ACCEPT_MULTIPART", "true")]), &event).await;
    assert_eq!(outcome["status"], "accepted", "{outcome}");
    assert!(recording.bytes_read() >= content.len() as u64);
}

#[tokio::test]
async fn a_tag_that_looks_like_a_digest_and_is_none_does_not_condemn_an_upload() {
    let content = fixture("rocket.jpg");
    let key = "bn0m0anw/me.jpg";
    for (promised, expected) in [(Md5::digest(&content), "accepted"), (Md5::digest([1]), "rejected")] {
        let memory = store().with_versioned_bucket("files");
        let mut claims = claims(key);
        claims["md5"] = json!(hex::encode(promised));
        let event = upload(&memory, key, &content, Some(&ticket(&claims))).await;
        // Under KMS the tag is as long as an MD5.
        let encrypted = Meddled::new(memory).replacing_bodies(|mut result| {
            result.meta.e_tag = shared::object_ref::ETag::parse(&"7".repeat(32)).unwrap();
            result
        });
        assert_eq!(outcome(encrypted, config(&[]), &event).await["status"], expected);
    }
}

#[tokio::test]
async fn a_ticket_longer_than_metadata_allows_is_malformed() {
    let memory = store();
    let event = ticketed(&memory, KEY, &png(1)).await;
    let long = format!("{}{}", ticket(&claims(KEY)), "A".repeat(2048));
    // S3 takes no such metadata; other stores have other limits.
    let generous = Meddled::new(memory).replacing_bodies(move |mut result| {
        result.meta.metadata.insert("ticket".into(), long.clone());
        result
    });
    assert_eq!(codes(&outcome(generous, config(&[]), &event).await), ["ticket-malformed"]);
}

#[tokio::test]
async fn what_is_larger_than_its_event_says_is_searched_to_its_end_all_the_same() {
    let zipped =
        [&fixture("rocket.jpg")[..], b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x40\0\0\0\x40\0\0\0\0\0"].concat();
    let memory = store().with_versioned_bucket("files");
    let key = "bn0m0anw/me.jpg";
    let mut event = ticketed(&memory, key, &zipped.into()).await;
    event["Records"][0]["s3"]["object"]["size"] = json!(1000);
    assert_eq!(codes(&outcome(memory, config(&[]), &event).await), ["active-content"]);
}

#[test]
fn every_code_is_explained_in_the_manual() {
    let manual = include_str!("../../../docs/validator.md");
    for code in upload_validator::verdict::CODES {
        assert!(manual.contains(&format!("| `{code}` |")), "{code}");
    }
}

// ---------------------------------------------------------------------------------------------- property

/// What a ticket may say about one thing: nothing, what is so, or something else.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    Nothing,
    True,
    False,
}

fn said() -> impl Strategy<Value = Said> {
    // True is likeliest, so that tickets with every claim true come up.
    prop_oneof![1 => Just(Said::Nothing), 6 => Just(Said::True), 1 => Just(Said::False)]
}

/// What must be said.
fn must() -> impl Strategy<Value = Said> {
    prop_oneof![8 => Just(Said::True), 1 => Just(Said::False)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_ticket_is_accepted_exactly_when_every_claim_holds(
        required in [must(), must(), must()],
        optional in [said(), said(), said(), said(), said(), said()],
        margin in 0_i64..1_000_000,
        shade: u8,
        signed in prop_oneof![9 => Just(true), 1 => Just(false)],
    ) {
        let content = png(shade);
        let (size, seconds) = (content.len() as u64, now().as_second());
        let [aud, sub, exp] = required;
        let [nbf, min, max, content_type, md5, sha256] = optional;
        let mut claims = serde_json::Map::new();
        let mut say = |name: &str, said: Said, truth: Value, lie: Value| match said {
            Said::Nothing => {}
            Said::True => drop(claims.insert(name.into(), truth)),
            Said::False => drop(claims.insert(name.into(), lie)),
        };
        say("aud", aud, json!("files"), json!("files2"));
        say("sub", sub, json!(KEY), json!("bn0m0anw/me.pn"));
        say("exp", exp, json!(seconds + 1 + margin), json!(seconds - margin));
        say("nbf", nbf, json!(seconds - margin), json!(seconds + 1 + margin));
        say("min_size", min, json!(size - margin.unsigned_abs().min(size)), json!(size + 1 + margin.unsigned_abs()));
        say("max_size", max, json!(size + margin.unsigned_abs()), json!(size - 1 - margin.unsigned_abs().min(size - 1)));
        let family = if margin % 2 == 0 { "image/*" } else { "image/png" };
        say("content_type", content_type, json!(family), json!("image/webp"));
        let (md5_now, sha_now) = (Md5::digest(&content), Sha256::digest(&content));
        say("md5", md5, json!(hex::encode(md5_now)), json!(hex::encode(Md5::digest([shade]))));
        say("sha256", sha256, json!(hex::encode(sha_now)), json!(hex::encode(Sha256::digest([shade]))));
        let mut ticket = ticket(&claims.into());
        if !signed {
            // The claims of one ticket under the signature of another.
            let other = support::ticket(&support::claims("bn0m0anw/other.png"));
            let claims = ticket.rsplit_once('.').unwrap().0.to_owned();
            ticket = format!("{claims}.{}", other.rsplit_once('.').unwrap().1);
        }
        let holds = signed && required.iter().chain(&optional).all(|said| *said != Said::False);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = runtime.block_on(async {
            let memory = store();
            let event = upload(&memory, KEY, &content, Some(&ticket)).await;
            outcome(memory, config(&[]), &event).await
        });
        prop_assert_eq!(outcome["status"].as_str(), Some(if holds { "accepted" } else { "rejected" }), "{}", outcome);
    }
}
