//! Uploads to the files bucket: honest ones, and every way in which one can be other than what was promised.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::store::PutOptions;

use crate::cloud::FILES;
use crate::pictures::picture;
use crate::ticket::Issuer;

/// One upload, and what has to become of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What is tried, in words.
    pub what: &'static str,
    /// The key.
    pub key: String,
    /// The content.
    pub body: Bytes,
    /// What the client says that it is.
    pub content_type: &'static str,
    /// The ticket, if there is one.
    pub ticket: Option<String>,
    /// The reason that has to be among those for its rejection; none where it has to be accepted.
    pub expected: Option<&'static str>,
}

impl Attempt {
    /// How it is put.
    pub fn put_options(&self) -> PutOptions {
        let ticket = self.ticket.clone().map(|ticket| (shared::ticket::METADATA.to_owned(), ticket));
        PutOptions {
            content_type: Some(self.content_type.to_owned()),
            metadata: ticket.into_iter().collect::<BTreeMap<_, _>>(),
            ..PutOptions::default()
        }
    }
}

/// What tickets of one run are made of.
struct Desk<'a> {
    issuer: &'a Issuer,
    now: Timestamp,
}

impl Desk<'_> {
    fn seconds(&self, from_now: i64) -> i64 {
        (self.now + SignedDuration::from_secs(from_now)).as_second()
    }

    /// The claims of an honest ticket for `key`, with `changes` laid over them.
    fn claims(&self, key: &str, changes: &Value) -> Value {
        let mut claims = json!({
            "aud": FILES, "sub": key, "iat": self.seconds(0), "exp": self.seconds(900), "owner": "user-7",
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims
    }

    fn ticket(&self, key: &str, changes: &Value) -> Option<String> {
        Some(self.issuer.issue(&self.claims(key, changes)))
    }
}

/// Honest uploads.
///
/// # Errors
/// A picture cannot be read.
pub fn honest(issuer: &Issuer, now: Timestamp) -> std::io::Result<Vec<Attempt>> {
    let desk = Desk { issuer, now };
    let (cat, rocket) = (picture("chelsea.png")?, picture("rocket.jpg")?);
    let md5 = hex::encode(Md5::digest(&cat));
    let sha256 = hex::encode(Sha256::digest(&rocket));
    let text =
        Bytes::from_static(b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n");
    let attempt = |what, key: &str, body: &Bytes, content_type, changes: Value| Attempt {
        what,
        key: key.to_owned(),
        body: body.clone(),
        content_type,
        ticket: desk.ticket(key, &changes),
        expected: None,
    };
    Ok(vec![
        attempt(
            "a picture, bound by its MD5",
            "tempcato/cat.png",
            &cat,
            "image/png",
            json!({
                "md5": md5, "min_size": 1, "max_size": 1_000_000, "content_type": "image/png",
            }),
        ),
        attempt(
            "a picture, bound by its SHA-256",
            "bn0m0anw/rocket.jpg",
            &rocket,
            "image/jpeg",
            json!({
                "sha256": sha256, "content_type": "image/*", "expires_at": desk.seconds(86_400),
            }),
        ),
        attempt(
            "a document",
            "bn0m0anw/paper.pdf",
            &text,
            "application/pdf",
            json!({
                "nbf": desk.seconds(-60), "content_type": "application/pdf",
            }),
        ),
        attempt("a name in all scripts", "tempcato/a+b %41 头 é 🦀.png", &cat, "image/png", json!({})),
    ])
}

/// Forged uploads, and honest ones of what is not accepted. Each has its own key.
///
/// # Errors
/// A picture cannot be read.
pub fn forged(issuer: &Issuer, now: Timestamp) -> std::io::Result<Vec<Attempt>> {
    let desk = Desk { issuer, now };
    let cat = picture("chelsea.png")?;
    let mut attempts = Vec::new();
    let mut push = |what, key: &str, body: &Bytes, ticket: Option<String>, expected| {
        let content_type = "image/png";
        let (key, body) = (key.to_owned(), body.clone());
        attempts.push(Attempt { what, key, body, content_type, ticket, expected: Some(expected) });
    };

    push("no ticket", "tempcato/01.png", &cat, None, "ticket-missing");
    push("a ticket that is none", "tempcato/02.png", &cat, Some("let-me-in".into()), "ticket-malformed");
    let key = "tempcato/03.png";
    let unsigned = [json!({"typ": "JWT", "alg": "none", "kid": "local-cloud"}), desk.claims(key, &json!({}))]
        .map(|part| BASE64URL.encode(part.to_string()));
    push("algorithm none", key, &cat, Some(format!("{}.", unsigned.join("."))), "ticket-algorithm");
    let key = "tempcato/04.png";
    let public = issuer.public_jwk();
    let secret = BASE64URL.decode(public["x"].as_str().unwrap_or_default()).unwrap_or_default();
    let swapped = Issuer::hmac("local-cloud", secret).issue(&desk.claims(key, &json!({})));
    push("the public key as a secret", key, &cat, Some(swapped), "ticket-algorithm");
    let key = "tempcato/05.png";
    let stranger = Issuer::new("stranger").issue(&desk.claims(key, &json!({})));
    push("a key that nobody knows", key, &cat, Some(stranger), "ticket-unknown-key");
    let key = "tempcato/06.png";
    let forger = Issuer::new("local-cloud").issue(&desk.claims(key, &json!({})));
    push("another key under a known name", key, &cat, Some(forger), "ticket-signature");
    let key = "tempcato/07.png";
    let genuine = issuer.issue(&desk.claims("tempcato/cat.png", &json!({})));
    let mut parts: Vec<_> = genuine.split('.').map(str::to_owned).collect();
    if let Some(payload) = parts.get_mut(1) {
        *payload = BASE64URL.encode(desk.claims(key, &json!({})).to_string());
    }
    push("claims changed after signing", key, &cat, Some(parts.join(".")), "ticket-signature");
    push(
        "two tickets in one header",
        "tempcato/08.png",
        &cat,
        Some(format!("{genuine},{genuine}")),
        "ticket-malformed",
    );

    let mut with = |what, key: &str, body: &Bytes, changes: Value, expected| {
        push(what, key, body, desk.ticket(key, &changes), expected);
    };
    let (past, future) = (desk.seconds(-1), desk.seconds(600));
    with("expired", "tempcato/09.png", &cat, json!({"exp": past}), "ticket-expired");
    with("not yet valid", "tempcato/10.png", &cat, json!({"nbf": future}), "ticket-not-yet-valid");
    with("for another bucket", "tempcato/11.png", &cat, json!({"aud": "uploads"}), "ticket-wrong-bucket");
    for (what, key, sub) in [
        ("for another catalog", "bn0m0anw/12.png", "tempcato/12.png"),
        ("for another key", "tempcato/13.png", "tempcato/cat.png"),
        ("for another case", "tempcato/14.png", "tempcato/14.PNG"),
        ("for the key percent-encoded", "tempcato/15 a.png", "tempcato/15%20a.png"),
        ("for another normal form", "tempcato/16 \u{e9}.png", "tempcato/16 e\u{301}.png"),
        ("for the key with a slash at its end", "tempcato/17.png", "tempcato/17.png/"),
    ] {
        with(what, key, &cat, json!({"sub": sub}), "ticket-wrong-key");
    }
    with("too large for its ticket", "tempcato/18.png", &cat, json!({"max_size": 1000}), "ticket-wrong-size");
    with(
        "too small for its ticket",
        "tempcato/19.png",
        &cat,
        json!({"min_size": 1 << 20}),
        "ticket-wrong-size",
    );
    with(
        "of another type",
        "tempcato/20.png",
        &cat,
        json!({"content_type": "image/jpeg"}),
        "ticket-wrong-type",
    );
    let (md5, sha256) = (hex::encode(Md5::digest(b"other")), hex::encode(Sha256::digest(b"other")));
    with("of another MD5", "tempcato/21.png", &cat, json!({"md5": md5}), "ticket-wrong-digest");
    with("of another SHA-256", "tempcato/22.png", &cat, json!({"sha256": sha256}), "ticket-wrong-digest");

    for (what, key, expected) in [
        ("a way out of the catalog", "tempcato/../23.png", "bad-key"),
        ("a slash at the beginning", "/tempcato/24.png", "bad-key"),
        ("no catalog", "25.png", "bad-key"),
        ("a control character", "tempcato/26\u{7}.png", "bad-key"),
        ("a catalog that is no short code", "holiday/27.png", "unknown-catalog"),
        ("a name for a JPEG", "tempcato/28.jpg", "type-mismatch"),
    ] {
        with(what, key, &cat, json!({}), expected);
    }
    let of = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let svg =
        of(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>");
    let html = of(b"<!doctype html><html><script>alert(document.cookie)</script></html>");
    let gif = of(b"GIF89a=/*\x00\x01\x00\x01\x00*/1;alert(document.domain)//");
    let polyglot: Bytes = [&cat[..200], b"<script>alert(1)</script><html>", &cat[200..]].concat().into();
    let mut jar = picture("rocket.jpg")?.to_vec();
    jar.extend_from_slice(&zip_of_one_class());
    with("a drawing with a script", "tempcato/29.svg", &svg, json!({}), "active-content");
    with("a page that says it is a picture", "tempcato/30.png", &html, json!({}), "active-content");
    with("a GIF that is a script", "tempcato/31.gif", &gif, json!({}), "active-content");
    with("a page inside a picture", "tempcato/32.png", &polyglot, json!({}), "active-content");
    with("an archive behind a picture", "tempcato/33.jpg", &jar.into(), json!({}), "active-content");
    with("nothing", "tempcato/34.png", &Bytes::new(), json!({}), "empty");
    with("half a header", "tempcato/35.png", &cat.slice(..20), json!({}), "undecodable");
    let large = Bytes::from(vec![0x20; (10 << 20) + 1]);
    with("larger than any limit", "tempcato/36.png", &large, json!({}), "too-large");
    Ok(attempts)
}

/// A ZIP archive with one stored file, as a JAR has it.
fn zip_of_one_class() -> Vec<u8> {
    let (name, body) = (b"A.class", b"\xca\xfe\xba\xbe");
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    let common: Vec<u8> =
        [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 4], &size(body), &size(body), &length(name), &[0, 0]]
            .concat();
    let local = [b"PK\x03\x04", &common[..], name, body].concat();
    let central = [b"PK\x01\x02", &[20, 0][..], &common, &[0; 14], name].concat();
    let end = [b"PK\x05\x06", &[0; 4][..], &[1, 0, 1, 0], &size(&central), &size(&local), &[0, 0]].concat();
    [local, central, end].concat()
}
