//! The handler over a store in memory: what is written, in which order, and with how many requests.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use avatar_transcoder::config::Config;
use avatar_transcoder::handler::{Deps, handle};
use shared::clock::{Clock, SystemClock};
use shared::env::Environment;
use shared::object_ref::ObjectRef;
use shared::runtime::{Invocation, InvocationError};
use shared::short_code::ShortCode;
use shared::store::{
    Fault, FaultStore, GetOptions, ListOptions, MemoryStore, ObjectStore, Operation, Precondition,
    PutOptions, RecordingStore,
};

/// A square PNG of one colour, its content told apart by `shade`.
fn png(shade: u8) -> Bytes {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    let pixels: Vec<u8> = (0..64).flat_map(|y| (0..64).flat_map(move |x| [shade, x, y])).collect();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes.into()
}

fn code(content: &[u8], n: u8) -> String {
    ShortCode::of_digest(&Md5::digest(content).into(), n).to_string()
}

fn config(variables: &[(&str, &str)]) -> Config {
    let mut environment: Environment =
        variables.iter().copied().chain([("AVATAR_BUCKET", "avatars")]).collect();
    let config = Config::read(&mut environment);
    environment.finish(config).unwrap()
}

fn store() -> MemoryStore {
    MemoryStore::new().with_bucket("uploads").with_bucket("avatars")
}

async fn upload(store: &MemoryStore, key: &str, content: &Bytes) -> Value {
    let object = ObjectRef::new("uploads", key);
    let put = store.put(&object, content.clone(), PutOptions::default()).await.unwrap();
    event(key, content.len(), put.e_tag.as_str())
}

fn event(key: &str, size: usize, e_tag: &str) -> Value {
    json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-01T12:00:00.000Z",
        "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, "size": size, "eTag": e_tag}}}]})
}

async fn invoke<S: ObjectStore>(store: S, config: Config, event: &Value) -> Result<Value, InvocationError> {
    let invocation = Invocation { request_id: "test".into(), deadline: Timestamp::MAX };
    handle(&Deps::new(store, SystemClock, config), event, &invocation).await
}

/// The one outcome of an invocation that succeeds.
async fn outcome<S: ObjectStore>(store: S, config: Config, event: &Value) -> Value {
    let mut answer = invoke(store, config, event).await.unwrap();
    let outcomes = answer["outcomes"].as_array_mut().unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn calls(store: &RecordingStore<MemoryStore>) -> Vec<Operation> {
    store.take().into_iter().map(|call| call.operation).collect()
}

#[tokio::test]
async fn a_new_avatar_takes_one_head_one_get_and_one_put() {
    let memory = store();
    let content = png(1);
    let event = upload(&memory, "u/me.png", &content).await;
    let recording = std::sync::Arc::new(RecordingStore::new(memory.clone()));
    let outcome = outcome(recording.clone(), config(&[]), &event).await;
    assert_eq!(outcome["status"], "stored");
    assert_eq!(calls(&recording), [Operation::Head, Operation::Get, Operation::Put]);
    let key = format!("u/{}.webp", code(&content, 0));
    assert_eq!(outcome["avatar"]["key"], key.as_str());
    let meta = memory.head(&ObjectRef::new("avatars", key)).await.unwrap();
    assert_eq!(meta.content_type.as_deref(), Some("image/webp"));
    assert_eq!(meta.cache_control.as_deref(), Some("public, max-age=31536000, immutable"));
    assert_eq!(meta.metadata["source-md5"], hex::encode(Md5::digest(&content)));
    assert_eq!(meta.metadata["width"], "64");
    for name in ["recipe", "height", "thumbhash", "produced-by"] {
        assert!(meta.metadata.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_duplicate_takes_one_head_only() {
    let memory = store();
    let event = upload(&memory, "u/me.png", &png(1)).await;
    let first = outcome(memory.clone(), config(&[]), &event).await;
    let recording = std::sync::Arc::new(RecordingStore::new(memory));
    let second = outcome(recording.clone(), config(&[]), &event).await;
    assert_eq!(second["status"], "unchanged");
    assert_eq!(calls(&recording), [Operation::Head]);
    for name in ["key", "code", "n", "width", "height", "thumbhash", "size_bytes"] {
        assert_eq!(first["avatar"][name], second["avatar"][name], "{name}");
    }
}

#[tokio::test]
async fn extra_edges_take_one_put_each_and_the_main_one_comes_last() {
    let memory = store();
    let content = png(1);
    let event = upload(&memory, "me.png", &content).await;
    let recording = std::sync::Arc::new(RecordingStore::new(memory));
    outcome(recording.clone(), config(&[("AVATAR_EXTRA_EDGES", "32,16")]), &event).await;
    let puts: Vec<_> = recording
        .take()
        .into_iter()
        .filter(|call| call.operation == Operation::Put)
        .map(|call| call.key.unwrap_or_default())
        .collect();
    let code = code(&content, 0);
    assert_eq!(puts, [format!("{code}@16.webp"), format!("{code}@32.webp"), format!("{code}.webp")]);
}

#[tokio::test]
async fn another_recipe_replaces_the_avatar_of_the_same_upload() {
    let memory = store();
    let event = upload(&memory, "u/me.png", &png(1)).await;
    outcome(memory.clone(), config(&[]), &event).await;
    let again = outcome(memory.clone(), config(&[("AVATAR_EDGE", "32")]), &event).await;
    assert_eq!((again["status"].as_str(), again["avatar"]["width"].as_u64()), (Some("stored"), Some(32)));
    let back = outcome(memory, config(&[("AVATAR_EDGE", "32")]), &event).await;
    assert_eq!(back["status"], "unchanged");
}

#[tokio::test]
async fn other_content_at_the_address_is_kept_and_the_next_code_is_used_and_told() {
    let memory = store();
    let content = png(1);
    let event = upload(&memory, "u/me.png", &content).await;
    for n in 0..3 {
        let foreign = ObjectRef::new("avatars", format!("u/{}.webp", code(&content, n)));
        memory.put(&foreign, Bytes::from_static(b"theirs"), PutOptions::default()).await.unwrap();
    }
    let outcome = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!((outcome["status"].as_str(), outcome["avatar"]["n"].as_u64()), (Some("stored"), Some(3)));
    let tags = memory.get_tags(&ObjectRef::new("uploads", "u/me.png")).await.unwrap();
    assert_eq!(tags["avatar-code"], code(&content, 3));
    let first = ObjectRef::new("avatars", format!("u/{}.webp", code(&content, 0)));
    let kept = memory.get(&first, Default::default()).await.unwrap().bytes(100).await.unwrap();
    assert_eq!(kept, "theirs");
}

#[tokio::test]
async fn a_chain_with_no_code_left_fails_for_good_and_overwrites_nothing() {
    let memory = store();
    let content = png(1);
    let event = upload(&memory, "u/me.png", &content).await;
    for n in 0..8 {
        let foreign = ObjectRef::new("avatars", format!("u/{}.webp", code(&content, n)));
        memory.put(&foreign, Bytes::from_static(b"theirs"), PutOptions::default()).await.unwrap();
    }
    let outcome = outcome(memory, config(&[]), &event).await;
    assert_eq!(outcome["status"], "failed");
    assert_eq!(outcome["retry"], "permanent");
    assert_eq!(outcome["reason"]["code"], "codes-exhausted");
}

#[tokio::test]
async fn a_tag_that_is_no_digest_leads_nobody_astray() {
    let memory = MemoryStore::new().with_versioned_bucket("uploads").with_bucket("avatars");
    let content = png(1);
    let object = ObjectRef::new("uploads", "u/me.png");
    let version = memory.put(&object, content.clone(), PutOptions::default()).await.unwrap().version_id;
    // Somebody's avatar stands at the code of what KMS gave as a tag.
    let kms_tag = [0; 16];
    let other = ObjectRef::new("avatars", format!("u/{}.webp", ShortCode::of_digest(&kms_tag, 0)));
    memory.put(&other, Bytes::from_static(b"theirs"), PutOptions::default()).await.unwrap();
    let mut event = event("u/me.png", content.len(), &hex::encode(kms_tag));
    event["Records"][0]["s3"]["object"]["versionId"] = json!(version);
    let outcome = outcome(memory, config(&[]), &event).await;
    assert_eq!(outcome["status"], "stored");
    assert_eq!((&outcome["avatar"]["code"], &outcome["avatar"]["n"]), (&json!(code(&content, 0)), &json!(0)));
}

/// Two pictures with the same `code(0)`, found by trying what may stand behind the end of a PNG: a million tries, as
/// forty bits promise.
fn colliding_pictures() -> (Bytes, Bytes) {
    let base = png(7);
    let started = Md5::new().chain_update(&base);
    let mut seen = std::collections::HashMap::new();
    for n in 0_u64.. {
        let digest = started.clone().chain_update(n.to_le_bytes()).finalize();
        if let Some(other) = seen.insert(<[u8; 5]>::try_from(&digest[..5]).unwrap(), n) {
            let picture = |n: u64| Bytes::from([&base[..], &n.to_le_bytes()].concat());
            return (picture(other), picture(n));
        }
    }
    unreachable!("numbers run out later than codes")
}

#[tokio::test]
async fn two_pictures_whose_codes_collide_both_stand() {
    let (first, second) = colliding_pictures();
    assert_ne!(first, second);
    assert_eq!(code(&first, 0), code(&second, 0));
    let memory = store();
    let first_event = upload(&memory, "u/first.png", &first).await;
    let second_event = upload(&memory, "u/second.png", &second).await;
    let first_outcome = outcome(memory.clone(), config(&[]), &first_event).await;
    let second_outcome = outcome(memory.clone(), config(&[]), &second_event).await;
    assert_eq!(first_outcome["avatar"]["code"], code(&first, 0).as_str());
    assert_eq!(second_outcome["avatar"]["code"], code(&second, 1).as_str());
    // Whoever resolves an address goes by the digest that the avatar carries.
    for (content, n) in [(&first, 0), (&second, 1)] {
        let avatar = ObjectRef::new("avatars", format!("u/{}.webp", code(content, n)));
        let meta = memory.head(&avatar).await.unwrap();
        assert_eq!(meta.metadata["source-md5"], hex::encode(Md5::digest(content)));
    }
    for event in [first_event, second_event] {
        assert_eq!(outcome(memory.clone(), config(&[]), &event).await["status"], "unchanged");
    }
}

#[tokio::test]
async fn a_store_that_fails_makes_the_invocation_fail_and_the_next_one_finds_its_way() {
    for operation in [Operation::Head, Operation::Get, Operation::Put] {
        for fault in [Fault::Throttle, Fault::Unavailable, Fault::TimeoutBefore, Fault::TimeoutAfter] {
            let memory = store();
            let event = upload(&memory, "u/me.png", &png(1)).await;
            let error = invoke(FaultStore::new(memory.clone()).on(operation, fault), config(&[]), &event)
                .await
                .unwrap_err();
            assert_eq!(error.error_type, "Retryable", "{operation:?} {fault:?}");
            let again = outcome(memory, config(&[]), &event).await;
            assert!(
                ["stored", "unchanged"].contains(&again["status"].as_str().unwrap()),
                "{operation:?} {fault:?}"
            );
        }
    }
    let memory = store();
    let event = upload(&memory, "u/me.png", &png(1)).await;
    let cut = FaultStore::new(memory).on(Operation::Get, Fault::TruncatedBody);
    assert_eq!(invoke(cut, config(&[]), &event).await.unwrap_err().error_type, "Retryable");
}

#[tokio::test]
async fn an_upload_that_is_gone_or_replaced_is_skipped() {
    let memory = store();
    let old = upload(&memory, "u/me.png", &png(1)).await;
    upload(&memory, "u/me.png", &png(2)).await;
    let superseded = outcome(memory.clone(), config(&[]), &old).await;
    assert_eq!(
        (superseded["status"].as_str(), superseded["reason"]["code"].as_str()),
        (Some("skipped"), Some("superseded"))
    );
    memory.delete(&ObjectRef::new("uploads", "u/me.png"), None).await.unwrap();
    let gone = outcome(memory, config(&[]), &old).await;
    assert_eq!(gone["reason"]["code"], "gone");
}

#[tokio::test]
async fn a_rejected_upload_is_tagged_beside_the_tags_that_it_has() {
    let memory = store();
    let object = ObjectRef::new("uploads", "u/page.png");
    let page = Bytes::from_static(b"<!doctype html><html><body>hello</body></html>");
    let put = PutOptions { tags: [("team".into(), "red".into())].into(), ..PutOptions::default() };
    let tag = memory.put(&object, page.clone(), put).await.unwrap().e_tag;
    let outcome = outcome(memory.clone(), config(&[]), &event("u/page.png", page.len(), tag.as_str())).await;
    assert_eq!(
        (outcome["status"].as_str(), outcome["reason"]["code"].as_str()),
        (Some("rejected"), Some("unsupported-type"))
    );
    let tags = memory.get_tags(&object).await.unwrap();
    assert_eq!(tags["team"], "red");
    assert_eq!(tags["avatar-status"], "rejected");
    assert_eq!(tags["avatar-reason"], "unsupported-type");
}

#[tokio::test]
async fn an_old_verdict_is_not_written_on_a_fresh_upload() {
    let memory = store();
    let old = upload(&memory, "x/me.png", &png(1)).await;
    upload(&memory, "x/me.png", &png(2)).await;
    let outcome = outcome(memory.clone(), config(&[]), &old).await;
    assert_eq!(outcome["reason"]["code"], "unknown-kind");
    assert!(memory.get_tags(&ObjectRef::new("uploads", "x/me.png")).await.unwrap().is_empty());
}

/// A clock whose owner uploads something else as soon as the first upload was read.
struct Meanwhile {
    store: std::sync::Arc<RecordingStore<MemoryStore>>,
    object: ObjectRef,
    content: Bytes,
    once: std::sync::Once,
}

impl Clock for Meanwhile {
    fn now(&self) -> Timestamp {
        if self.store.count(Operation::Get) > 0 {
            self.once.call_once(|| {
                let put = self.store.inner().put(&self.object, self.content.clone(), PutOptions::default());
                futures::executor::block_on(put).unwrap();
            });
        }
        Timestamp::UNIX_EPOCH
    }
}

#[tokio::test]
async fn a_verdict_on_what_was_read_is_not_written_on_what_came_after_though_the_event_named_no_tag() {
    let memory = store();
    let object = ObjectRef::new("uploads", "u/me.png");
    memory.put(&object, Bytes::from_static(b"<html>"), PutOptions::default()).await.unwrap();
    let recording = std::sync::Arc::new(RecordingStore::new(memory.clone()));
    let (store, once) = (recording.clone(), std::sync::Once::new());
    let clock = Meanwhile { store, object: object.clone(), content: png(2), once };
    let by_hand = json!({"bucket": "uploads", "key": "u/me.png"});
    let invocation = Invocation { request_id: "test".into(), deadline: Timestamp::MAX };
    let answer = handle(&Deps::new(recording, clock, config(&[])), &by_hand, &invocation).await.unwrap();
    assert_eq!(answer["outcomes"][0]["reason"]["code"], "unsupported-type");
    assert!(memory.get_tags(&object).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_an_event_without_a_tag_says_of_its_size_is_not_believed() {
    let memory = store();
    upload(&memory, "u/me.png", &png(1)).await;
    let mut event = event("u/me.png", 99_000_000, "");
    event["Records"][0]["s3"]["object"].as_object_mut().unwrap().remove("eTag");
    assert_eq!(outcome(memory, config(&[]), &event).await["status"], "stored");
}

#[tokio::test]
async fn a_verdict_by_narrower_limits_is_taken_back_once_the_avatar_stands() {
    let content = png(1);
    let object = ObjectRef::new("uploads", "u/me.png");
    for already in [false, true] {
        let memory = store();
        if already {
            let other = upload(&memory, "u/other.png", &content).await;
            outcome(memory.clone(), config(&[]), &other).await;
        }
        let team = PutOptions { tags: [("team".into(), "red".into())].into(), ..PutOptions::default() };
        memory.put(&object, content.clone(), team).await.unwrap();
        let by_hand = json!({"bucket": "uploads", "key": "u/me.png"});
        let narrow = outcome(memory.clone(), config(&[("MAX_UPLOAD_BYTES", "100")]), &by_hand).await;
        assert_eq!(narrow["reason"]["code"], "too-large");
        assert_eq!(memory.get_tags(&object).await.unwrap().len(), 3);
        let wide = outcome(memory.clone(), config(&[]), &by_hand).await;
        assert_eq!(wide["status"], if already { "unchanged" } else { "stored" });
        let tags = memory.get_tags(&object).await.unwrap();
        assert_eq!(tags.into_iter().collect::<Vec<_>>(), [("team".to_owned(), "red".to_owned())]);
    }
}

#[tokio::test]
async fn an_upload_with_many_tags_is_rejected_all_the_same_and_told_what_fits() {
    let page = Bytes::from_static(b"<!doctype html><html></html>");
    let object = ObjectRef::new("uploads", "u/page.png");
    for (own, stale, told) in [
        (8, None, ["rejected", "unsupported-type"].as_slice()),
        (9, None, &["rejected"]),
        (9, Some(("avatar-reason", "empty")), &["rejected"]),
        (8, Some(("avatar-status", "rejected")), &["rejected", "unsupported-type"]),
        (10, None, &[]),
    ] {
        let memory = store();
        let own_tags = (0..own).map(|n| (format!("team-{n}"), "red".to_owned()));
        let stale = stale.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let put = PutOptions { tags: own_tags.chain(stale).collect(), ..PutOptions::default() };
        let tag = memory.put(&object, page.clone(), put).await.unwrap().e_tag;
        let event = event("u/page.png", page.len(), tag.as_str());
        let outcome = outcome(memory.clone(), config(&[]), &event).await;
        assert_eq!(
            (outcome["status"].as_str(), outcome["reason"]["code"].as_str()),
            (Some("rejected"), Some("unsupported-type")),
            "{own} tags"
        );
        let tags = memory.get_tags(&object).await.unwrap();
        let seen: Vec<&str> = ["avatar-status", "avatar-reason"]
            .iter()
            .filter_map(|name| Some(tags.get(*name)?.as_str()))
            .collect();
        assert_eq!(seen, told, "{own} tags");
        assert_eq!(tags.len(), own + told.len(), "all of its own stay");
    }
}

#[tokio::test]
async fn its_own_output_and_its_own_bucket_are_left_alone() {
    let memory = store();
    let object = ObjectRef::new("uploads", "u/copy.webp");
    let own = PutOptions {
        metadata: [("produced-by".to_owned(), "avatar-transcoder".to_owned())].into(),
        precondition: Precondition::IfAbsent,
        ..PutOptions::default()
    };
    let tag = memory.put(&object, png(1), own).await.unwrap().e_tag;
    let copied =
        outcome(memory.clone(), config(&[]), &event("u/copy.webp", png(1).len(), tag.as_str())).await;
    assert_eq!(copied["reason"]["code"], "own-output");
    let looped = json!({"bucket": "avatars", "key": "u/bn0m0anw.webp"});
    let refused = outcome(memory, config(&[]), &looped).await;
    assert_eq!(
        (refused["status"].as_str(), refused["reason"]["code"].as_str()),
        (Some("failed"), Some("source-is-destination"))
    );
}

#[tokio::test]
async fn the_source_is_deleted_only_if_it_is_still_the_one_that_was_read() {
    let memory = store();
    let event = upload(&memory, "u/me.png", &png(1)).await;
    outcome(memory.clone(), config(&[("SOURCE_AFTER", "delete")]), &event).await;
    assert!(memory.head(&ObjectRef::new("uploads", "u/me.png")).await.is_err());
    // The duplicate of the event comes after a fresh upload under the same key.
    upload(&memory, "u/me.png", &png(2)).await;
    let again = outcome(memory.clone(), config(&[("SOURCE_AFTER", "delete")]), &event).await;
    assert_eq!(again["status"], "unchanged");
    assert!(memory.head(&ObjectRef::new("uploads", "u/me.png")).await.is_ok());
}

#[tokio::test]
async fn a_null_version_is_taken_for_no_version_since_it_is_written_over() {
    let memory = store();
    let mut event = upload(&memory, "u/me.png", &png(1)).await;
    event["Records"][0]["s3"]["object"]["versionId"] = json!("null");
    let first = outcome(memory.clone(), config(&[]), &event).await;
    assert_eq!(first["status"], "stored");
    // The duplicate of the event comes after a fresh upload under the same key.
    upload(&memory, "u/me.png", &png(2)).await;
    let again = outcome(memory.clone(), config(&[("SOURCE_AFTER", "delete")]), &event).await;
    assert_eq!(again["status"], "unchanged");
    assert!(memory.head(&ObjectRef::new("uploads", "u/me.png")).await.is_ok());
}

#[tokio::test]
async fn multipart_empty_and_oversized_uploads_are_rejected_without_a_read() {
    let tag = "5d41402abc4b2a76b9719d911017c592";
    for (event, reason) in [
        (event("u/a.png", 5, &format!("{tag}-2")), "multipart-not-accepted"),
        (event("u/a.png", 0, tag), "empty"),
        (event("u/a.png", 99_000_000, tag), "too-large"),
        (event("u/deep/a.png", 5, tag), "path-too-deep"),
    ] {
        let recording = std::sync::Arc::new(RecordingStore::new(store()));
        let outcome = outcome(recording.clone(), config(&[]), &event).await;
        assert_eq!(
            (outcome["status"].as_str(), outcome["reason"]["code"].as_str()),
            (Some("rejected"), Some(reason))
        );
        assert!(!calls(&recording).contains(&Operation::Get), "{reason}");
    }
}

#[tokio::test]
async fn a_missing_bucket_fails_for_good_and_names_it() {
    let memory = MemoryStore::new().with_bucket("uploads");
    let event = upload(&memory, "u/me.png", &png(1)).await;
    let outcome = outcome(memory, config(&[]), &event).await;
    assert_eq!((outcome["status"].as_str(), outcome["retry"].as_str()), (Some("failed"), Some("permanent")));
    assert!(outcome["reason"]["message"].as_str().unwrap().contains("avatars"), "{outcome}");
}

#[tokio::test]
async fn with_keys_a_ticket_is_checked_before_anything_is_decoded() {
    let secret = [7; 32];
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwks = json!({"keys": [{"kty": "oct", "kid": "mac", "k": b64(&secret)}]}).to_string();
    let mint = |sub: &str| {
        let payload =
            json!({"aud": "uploads", "sub": sub, "exp": 4_000_000_000_u32, "content_type": "image/*"});
        let message =
            format!("{}.{}", b64(br#"{"alg":"HS256","kid":"mac"}"#), b64(payload.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        format!("{message}.{}", b64(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
    };
    let settings: &[(&str, &str)] = &[("TICKET_KEYS", &jwks), ("TICKET_REQUIRED", "true")];
    for (ticket, content, expected) in [
        (None, png(1), "ticket-missing"),
        (Some(mint("u/other.png")), png(1), "ticket-wrong-key"),
        (Some("garbage".to_owned()), png(1), "ticket-malformed"),
        (Some(mint("u/me.png")), Bytes::from_static(b"<html>"), "ticket-wrong-type"),
        (Some(mint("u/me.png")), png(1), "stored"),
    ] {
        let memory = store();
        let put = PutOptions {
            metadata: ticket.map(|ticket| ("ticket".to_owned(), ticket)).into_iter().collect(),
            ..PutOptions::default()
        };
        let tag =
            memory.put(&ObjectRef::new("uploads", "u/me.png"), content.clone(), put).await.unwrap().e_tag;
        let outcome =
            outcome(memory.clone(), config(settings), &event("u/me.png", content.len(), tag.as_str())).await;
        let said = outcome["reason"]["code"].as_str().or(outcome["status"].as_str());
        assert_eq!(said, Some(expected));
        let written = memory.list("avatars", ListOptions::default()).await.unwrap().objects.len();
        assert_eq!(written, usize::from(expected == "stored"));
    }
}

/// Everything that stands in both buckets: key, tag, metadata and tags.
async fn state(store: &MemoryStore) -> Vec<String> {
    let mut state = Vec::new();
    for bucket in ["uploads", "avatars"] {
        for entry in store.list(bucket, ListOptions::default()).await.unwrap().objects {
            let object = ObjectRef::new(bucket, entry.key);
            let meta = store.head(&object).await.unwrap();
            let tags = store.get_tags(&object).await.unwrap();
            state.push(format!("{object} {} {:?} {tags:?}", meta.e_tag, meta.metadata));
        }
    }
    state
}

/// A crash between any two calls, before or after the effect of the one it hits, leaves what one clean run
/// leaves once the event is delivered again.
#[tokio::test]
async fn a_second_run_mends_whatever_a_crash_left() {
    let settings: &[(&str, &str)] = &[("AVATAR_EXTRA_EDGES", "32"), ("SOURCE_AFTER", "delete")];
    let content = png(1);
    let clean = store();
    let taken = ObjectRef::new("avatars", format!("u/{}.webp", code(&content, 0)));
    clean.put(&taken, Bytes::from_static(b"theirs"), PutOptions::default()).await.unwrap();
    let event = upload(&clean, "u/me.png", &content).await;
    outcome(clean.clone(), config(settings), &event).await;
    let expected = state(&clean).await;
    for cut in 0..12 {
        for after_effect in [false, true] {
            let memory = store();
            memory.put(&taken, Bytes::from_static(b"theirs"), PutOptions::default()).await.unwrap();
            let event = upload(&memory, "u/me.png", &content).await;
            let faulty = FaultStore::new(memory.clone());
            let faulty = if after_effect { faulty.cut_after_effect(cut) } else { faulty.cut_after(cut) };
            let _ = invoke(faulty, config(settings), &event).await;
            let _ = invoke(memory.clone(), config(settings), &event).await;
            assert_eq!(state(&memory).await, expected, "cut after {cut} calls, effect {after_effect}");
        }
    }
}

/// The colour in the lower right corner of an avatar.
async fn corner(store: &MemoryStore, key: &str) -> [u8; 3] {
    let found = store.get(&ObjectRef::new("avatars", key), GetOptions::default()).await.unwrap();
    let webp = found.bytes(1 << 20).await.unwrap();
    let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(&webp[..])).unwrap();
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut pixels).unwrap();
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    pixels[pixels.len() - channels..][..3].try_into().unwrap()
}

#[tokio::test]
async fn a_watermark_is_read_once_and_laid_over_every_avatar() {
    let memory = store().with_bucket("config");
    let object = ObjectRef::new("config", "mark.png");
    memory.put(&object, png(250), PutOptions::default()).await.unwrap();
    let recording = std::sync::Arc::new(RecordingStore::new(memory.clone()));
    let config = config(&[
        ("WATERMARK_URI", "s3://config/mark.png"),
        ("WATERMARK_SCALE", "0.5"),
        ("WATERMARK_OPACITY", "1"),
    ]);
    let deps = Deps::new(recording.clone(), SystemClock, config);
    let invocation = Invocation { request_id: "test".into(), deadline: Timestamp::MAX };
    for shade in [10, 20] {
        let content = png(shade);
        let event = upload(&memory, "u/me.png", &content).await;
        let answer = handle(&deps, &event, &invocation).await.unwrap();
        let key = answer["outcomes"][0]["avatar"]["key"].as_str().unwrap().to_owned();
        let seen = corner(&memory, &key).await;
        assert!(seen[0] > 200, "the mark, which is red, and not the picture: {seen:?}");
    }
    assert_eq!(recording.count(Operation::Get), 3, "two uploads and one watermark");
}

/// A clock that stands still.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

#[tokio::test]
async fn an_animation_is_not_kept_as_what_its_neighbours_left_time_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/images/made/coffee-pan.gif");
    let animation = Bytes::from(std::fs::read(path).unwrap());
    for (is_alone, milliseconds, status) in
        [(false, 502, "failed"), (true, 502, "stored"), (false, 60_000, "stored")]
    {
        let memory = store();
        let mut event = upload(&memory, "u/a.png", &png(1)).await;
        let mut last = upload(&memory, "u/b.gif", &animation).await["Records"][0].take();
        let records = event["Records"].as_array_mut().unwrap();
        if is_alone {
            records.clear();
        }
        records.push(last.take());
        let body = event.to_string();
        let batch = json!({"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": body}]});
        let deadline = Timestamp::from_millisecond(milliseconds).unwrap();
        let invocation = Invocation { request_id: "test".into(), deadline };
        let deps = Deps::new(memory.clone(), Standing, config(&[]));
        let answer = handle(&deps, &batch, &invocation).await.unwrap();
        let outcome = answer["outcomes"].as_array().unwrap().last().unwrap();
        assert_eq!(outcome["status"], status, "{is_alone} {milliseconds}: {answer}");
        if status == "failed" {
            assert_eq!(
                (&outcome["reason"]["code"], &outcome["retry"]),
                (&json!("out-of-time"), &json!("retryable"))
            );
        }
    }
}

#[tokio::test]
async fn without_its_watermark_no_avatar_is_made() {
    let memory = store().with_bucket("config");
    let deps = Deps::new(memory.clone(), SystemClock, config(&[("WATERMARK_URI", "s3://config/mark.png")]));
    let invocation = Invocation { request_id: "test".into(), deadline: Timestamp::MAX };
    let event = upload(&memory, "u/me.png", &png(1)).await;
    let object = ObjectRef::new("config", "mark.png");
    for (content, code) in [(None, "not-found"), (Some(&b"<svg/>"[..]), "watermark-unusable")] {
        if let Some(content) = content {
            memory.put(&object, Bytes::from_static(content), PutOptions::default()).await.unwrap();
        }
        let answer = handle(&deps, &event, &invocation).await.unwrap();
        let outcome = &answer["outcomes"][0];
        assert_eq!((&outcome["status"], &outcome["reason"]["code"]), (&json!("failed"), &json!(code)));
        assert!(outcome["reason"]["message"].as_str().unwrap().contains("mark.png"), "{outcome}");
        let listed = memory.list("avatars", ListOptions::default()).await.unwrap();
        assert!(listed.objects.is_empty());
    }
    // What failed is not kept: once the picture is there, the next upload has it.
    memory.put(&object, png(250), PutOptions::default()).await.unwrap();
    let answer = handle(&deps, &event, &invocation).await.unwrap();
    assert_eq!(answer["outcomes"][0]["status"], "stored");
}
