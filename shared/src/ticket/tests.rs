//! Tickets minted here with ring, and every way to forge one that has been seen elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use proptest::prelude::*;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::env::Environment;
use crate::object_ref::ObjectRef;
use crate::store::{MemoryStore, ObjectStore, Operation, PutOptions, RecordingStore};

const SECRET: &[u8] = b"an app's secret of 32 bytes, or so";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks() -> String {
    json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": b64(pair().public_key())},
        {"kty": "oct", "kid": "mac", "alg": "HS256", "k": b64(SECRET)}]})
    .to_string()
}

fn keys() -> KeySet {
    KeySet::parse(&jwks()).unwrap()
}

fn hs256(secret: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
}

fn token(header: &Value, payload: &str, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(payload));
    let signature = sign(&message);
    format!("{message}.{}", b64(signature))
}

fn ed(payload: &Value) -> String {
    token(&json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}), &payload.to_string(), |message| {
        pair().sign(message.as_bytes()).as_ref().to_vec()
    })
}

fn claims() -> Value {
    json!({"aud": "files", "sub": "bn0m0anw/cv.pdf", "exp": 2000})
}

fn refused(token: &str) -> &'static str {
    authenticate(token, &keys()).unwrap_err().code
}

#[test]
fn both_algorithms_are_accepted_with_their_own_key() {
    let mac = token(&json!({"alg": "HS256", "kid": "mac"}), &claims().to_string(), |m| hs256(SECRET, m));
    for token in [ed(&claims()), mac] {
        assert_eq!(authenticate(&token, &keys()).unwrap().sub, "bn0m0anw/cv.pdf");
    }
}

#[test]
fn forgeries_are_called_by_name() {
    let payload = claims().to_string();
    let public = pair().public_key().as_ref().to_vec();
    let good = ed(&claims());
    let (message, _) = good.rsplit_once('.').unwrap();
    for (what, forged, code) in [
        (
            "alg none",
            token(&json!({"alg": "none", "kid": "ed"}), &payload, |_| Vec::new()),
            "ticket-algorithm",
        ),
        (
            "alg None",
            token(&json!({"alg": "None", "kid": "ed"}), &payload, |_| Vec::new()),
            "ticket-algorithm",
        ),
        (
            "HS256 with the public key as its secret",
            token(&json!({"alg": "HS256", "kid": "ed"}), &payload, |m| hs256(&public, m)),
            "ticket-algorithm",
        ),
        (
            "EdDSA with the secret's kid",
            token(&json!({"alg": "EdDSA", "kid": "mac"}), &payload, |m| {
                pair().sign(m.as_bytes()).as_ref().to_vec()
            }),
            "ticket-algorithm",
        ),
        ("RS256", token(&json!({"alg": "RS256", "kid": "ed"}), &payload, |_| vec![1]), "ticket-algorithm"),
        (
            "unknown kid",
            token(&json!({"alg": "EdDSA", "kid": "who"}), &payload, |_| vec![1]),
            "ticket-unknown-key",
        ),
        ("no kid", token(&json!({"alg": "EdDSA"}), &payload, |_| vec![1]), "ticket-unknown-key"),
        (
            "another key's signature",
            token(&json!({"alg": "HS256", "kid": "mac"}), &payload, |m| hs256(&[9; 32], m)),
            "ticket-signature",
        ),
        ("no signature", format!("{message}."), "ticket-signature"),
        (
            "a crit that nobody knows",
            token(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"]}), &payload, |_| vec![1]),
            "ticket-malformed",
        ),
        ("words", "garbage".to_owned(), "ticket-malformed"),
        ("nothing", String::new(), "ticket-malformed"),
        ("two headers, joined as HTTP joins them", format!("{good}, {good}"), "ticket-malformed"),
        ("longer than metadata", format!("{good}{}", "A".repeat(MAX_BYTES)), "ticket-malformed"),
        ("a fourth part", format!("{good}.x"), "ticket-malformed"),
        ("padding", format!("{good}="), "ticket-malformed"),
    ] {
        assert_eq!(refused(&forged), code, "{what}");
    }
    // Claims that do not read, although they are signed.
    for payload in [
        r#"{"aud": "files", "sub": "k"}"#,
        r#"{"aud": "files", "exp": 1}"#,
        r#"{"sub": "k", "exp": 1}"#,
        r#"{"aud": "files", "sub": "k", "exp": "soon"}"#,
        r#"{"aud": "files", "sub": "k", "exp": 1e300}"#,
        r#"{"aud": "files", "sub": "a", "sub": "b", "exp": 1}"#,
        r#"{"aud": "files", "sub": "k", "exp": 1, "max_size": -1}"#,
        "[]",
    ] {
        let signed = token(&json!({"alg": "EdDSA", "kid": "ed"}), payload, |m| {
            pair().sign(m.as_bytes()).as_ref().to_vec()
        });
        assert_eq!(refused(&signed), "ticket-malformed", "{payload}");
    }
}

#[test]
fn every_bit_of_a_signed_ticket_counts() {
    let good = ed(&claims());
    for i in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(bytes).unwrap();
        assert!(altered == good || authenticate(&altered, &keys()).is_err(), "byte {i}");
    }
}

#[test]
fn a_jwks_with_a_mistake_is_refused_without_quoting_it() {
    let secret = b64(SECRET);
    for jwks in [
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": secret}]}),
        json!({"keys": [{"kty": "oct", "kid": "a", "k": b64([1; 16])}]}),
        json!({"keys": [{"kty": "oct", "kid": "a", "k": secret, "alg": "HS512"}]}),
        json!({"keys": [{"kty": "RSA", "kid": "a", "n": secret, "e": "AQAB"}]}),
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": secret, "d": secret}]}),
        json!({"keys": [{"kty": "oct", "kid": "a", "k": secret}, {"kty": "oct", "kid": "a", "k": secret}]}),
        json!({"keys": [{"kty": "OKP", "crv": "X25519", "kid": "a", "x": secret}]}),
        json!({"keys": [{"kid": "a", "k": secret}]}),
        json!({"keys": [{"kty": "oct", "kid": 7, "k": secret}]}),
        json!({"keys": [secret]}),
        json!({"keys": secret}),
    ] {
        let mut env = Environment::from_iter([("TICKET_KEYS", jwks.to_string())]);
        assert!(KeyReference::read(&mut env).is_none(), "{jwks}");
        let message = env.finish(()).unwrap_err().to_string();
        assert!(message.contains("TICKET_KEYS") && !message.contains(&secret), "{message}");
    }
}

#[test]
fn keys_that_sign_no_ticket_may_stand_in_the_same_set() {
    let mut jwks: Value = serde_json::from_str(&jwks()).unwrap();
    for other in [
        json!({"kty": "RSA", "kid": "ed", "n": "AQAB", "e": "AQAB", "oth": [{"r": "AQ"}]}),
        json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "d": "AQ"}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": "AQ"}),
        json!({"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "k": 7}),
    ] {
        jwks["keys"].as_array_mut().unwrap().insert(0, other);
    }
    let keys = KeySet::parse(&jwks.to_string()).unwrap();
    assert!(authenticate(&ed(&claims()), &keys).is_ok());
    let other = token(&json!({"alg": "HS256", "kid": "exchange"}), &claims().to_string(), |m| hs256(&[1], m));
    assert_eq!(authenticate(&other, &keys).unwrap_err().code, "ticket-unknown-key");
}

fn facts(object: &ObjectRef) -> Facts<'_> {
    Facts {
        object,
        created_at: Timestamp::from_second(1000).unwrap(),
        size: 100,
        media_type: Some("image/png"),
        md5: Some([1; 16]),
        sha256: Some([2; 32]),
    }
}

fn failing(change: &Value) -> Vec<&'static str> {
    let object = ObjectRef::new("files", "bn0m0anw/cv.pdf");
    let mut all = claims();
    for (name, value) in change.as_object().unwrap() {
        all[name] = value.clone();
    }
    let claims: Claims = serde_json::from_value(all).unwrap();
    claims.failures(&facts(&object)).into_iter().map(|reason| reason.code).collect()
}

#[test]
fn each_claim_that_does_not_hold_is_named_and_all_of_them_together() {
    for (change, codes) in [
        (json!({}), vec![]),
        (json!({"aud": ["other", "files"]}), vec![]),
        (json!({"aud": "Files"}), vec!["ticket-wrong-bucket"]),
        (json!({"aud": []}), vec!["ticket-wrong-bucket"]),
        (json!({"sub": "bn0m0anw/CV.pdf"}), vec!["ticket-wrong-key"]),
        (json!({"sub": "bn0m0anw%2Fcv.pdf"}), vec!["ticket-wrong-key"]),
        (json!({"sub": "bn0m0anw/cv.pdf/"}), vec!["ticket-wrong-key"]),
        (json!({"exp": 1000}), vec!["ticket-expired"]),
        (json!({"exp": 1000.5}), vec![]),
        (json!({"nbf": 1001}), vec!["ticket-not-yet-valid"]),
        (json!({"nbf": 1000}), vec![]),
        (json!({"min_size": 101}), vec!["ticket-wrong-size"]),
        (json!({"max_size": 99}), vec!["ticket-wrong-size"]),
        (json!({"min_size": 100, "max_size": 100}), vec![]),
        (json!({"content_type": "image/*"}), vec![]),
        (json!({"content_type": "IMAGE/PNG"}), vec![]),
        (json!({"content_type": "image/jpeg"}), vec!["ticket-wrong-type"]),
        (json!({"content_type": "imag/*"}), vec!["ticket-wrong-type"]),
        (json!({"md5": hex::encode([1; 16])}), vec![]),
        (json!({"md5": "AQEBAQEBAQEBAQEBAQEBAQ=="}), vec![]),
        (json!({"md5": hex::encode([9; 16])}), vec!["ticket-wrong-digest"]),
        (json!({"md5": "short"}), vec!["ticket-wrong-digest"]),
        (json!({"sha256": hex::encode([2; 32])}), vec![]),
        (json!({"sha256": hex::encode([1; 32])}), vec!["ticket-wrong-digest"]),
        (
            json!({"aud": "x", "sub": "y", "exp": 1, "nbf": 2000, "max_size": 1, "content_type": "text/*", "md5": ""}),
            vec![
                "ticket-wrong-bucket",
                "ticket-wrong-key",
                "ticket-expired",
                "ticket-not-yet-valid",
                "ticket-wrong-size",
                "ticket-wrong-type",
                "ticket-wrong-digest",
            ],
        ),
    ] {
        assert_eq!(failing(&change), codes, "{change}");
    }
}

#[test]
fn another_normal_form_is_another_key() {
    let object = ObjectRef::new("files", "bn0m0anw/caf\u{e9}.pdf");
    let mut all = claims();
    all["sub"] = json!("bn0m0anw/cafe\u{301}.pdf");
    let claims: Claims = serde_json::from_value(all).unwrap();
    assert_eq!(claims.failures(&facts(&object))[0].code, "ticket-wrong-key");
}

/// A clock that a test moves.
#[derive(Default)]
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

#[tokio::test]
async fn keys_are_read_once_and_again_for_an_unknown_kid_once_a_minute_at_most() {
    let memory = MemoryStore::new().with_bucket("config");
    let object = ObjectRef::new("config", "jwks.json");
    let old = json!({"keys": [{"kty": "oct", "kid": "old", "k": b64(SECRET)}]}).to_string();
    memory.put(&object, Bytes::from(old), PutOptions::default()).await.unwrap();
    let store = Arc::new(RecordingStore::new(memory.clone()));
    let keys = TicketKeys::new(KeyReference::Object(object.clone()));
    let clock = Moved::default();
    let reads = || store.count(Operation::Get);
    let code =
        async || keys.authenticate(&ed(&claims()), &store, &clock).await.unwrap().map_err(|r| r.code).err();
    assert_eq!(code().await, Some("ticket-unknown-key"));
    assert_eq!(reads(), 1, "what was just read is not read again");
    memory.put(&object, Bytes::from(jwks()), PutOptions::default()).await.unwrap();
    clock.0.store(59, Ordering::Relaxed);
    assert_eq!(code().await, Some("ticket-unknown-key"));
    assert_eq!(reads(), 1);
    clock.0.store(60, Ordering::Relaxed);
    assert_eq!(code().await, None);
    assert_eq!(reads(), 2);
    clock.0.store(6000, Ordering::Relaxed);
    assert_eq!(code().await, None);
    assert_eq!(reads(), 2, "a kid that is known needs no reading");
}

#[tokio::test]
async fn without_keys_nothing_is_judged() {
    let store = MemoryStore::new().with_bucket("config");
    let object = ObjectRef::new("config", "jwks.json");
    for (bucket, content) in
        [("nowhere", None), ("config", None), ("config", Some("no JWKS")), ("config", Some("{}"))]
    {
        let object = ObjectRef::new(bucket, &object.key);
        if let Some(content) = content {
            store.put(&object, Bytes::from(content), PutOptions::default()).await.unwrap();
        }
        let keys = TicketKeys::new(KeyReference::Object(object));
        let error = keys.authenticate("x", &store, &Moved::default()).await.unwrap_err();
        let outcome = error.outcome();
        // Nothing is wrong with the upload, which would be forgotten if it were not delivered again.
        assert!(outcome.is_retryable(), "{bucket} {content:?}");
        assert_eq!(outcome.reason.unwrap().code, "ticket-keys-unavailable");
    }
}

proptest! {
    #[test]
    fn a_ticket_is_accepted_exactly_when_every_claim_holds(
        bucket in "[ab]", aud in "[ab]", key in "[ab]{1,2}", sub in "[ab]{1,2}",
        created in 0_i64..6, exp in 0_i64..6, nbf in prop::option::of(0_i64..6),
        size in 0_u64..6, min in prop::option::of(0_u64..6), max in prop::option::of(0_u64..6),
        media in prop::option::of(prop_oneof![Just("image/png"), Just("text/html")]),
        promised in prop::option::of(prop_oneof![Just("image/png"), Just("image/*"), Just("text/html")]),
        md5 in prop::option::of(0_u8..2), content in prop::option::of(0_u8..2),
    ) {
        let object = ObjectRef::new(bucket.clone(), key.clone());
        let mut payload = json!({"aud": aud, "sub": sub, "exp": exp});
        let mut set = |name: &str, value: Option<Value>| if let Some(value) = value { payload[name] = value };
        set("nbf", nbf.map(Value::from));
        set("min_size", min.map(Value::from));
        set("max_size", max.map(Value::from));
        set("content_type", promised.map(Value::from));
        set("md5", md5.map(|b| hex::encode([b; 16]).into()));
        let claims = authenticate(&ed(&payload), &keys()).unwrap();
        let facts = Facts {
            object: &object,
            created_at: Timestamp::from_second(created).unwrap(),
            size,
            media_type: media,
            md5: content.map(|b| [b; 16]),
            sha256: None,
        };
        let type_holds = match (promised, media) {
            (None, _) | (Some("image/*" | "image/png"), Some("image/png")) => true,
            (promised, media) => promised == media,
        };
        let holds = bucket == aud && key == sub && created < exp && nbf.is_none_or(|nbf| nbf <= created)
            && min.is_none_or(|min| min <= size) && max.is_none_or(|max| size <= max)
            && type_holds && md5.is_none_or(|md5| content == Some(md5));
        prop_assert_eq!(claims.failures(&facts).is_empty(), holds);
    }

    #[test]
    fn no_text_makes_it_panic(token in ".{0,200}") {
        let _ = authenticate(&token, &keys());
    }
}
