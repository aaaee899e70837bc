//! What the tests of the handler have in common: tickets, pictures, and a store that others meddle with.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use shared::clock::FixedClock;
use shared::env::Environment;
use shared::object_ref::{ETag, ObjectRef};
use shared::runtime::{Invocation, InvocationError};
use shared::store::*;
use upload_validator::config::Config;
use upload_validator::handler::{Deps, handle};

pub const KEY: &str = "bn0m0anw/me.png";
/// When everything in these tests happens.
pub const NOW: &str = "2026-11-01T12:00:00Z";
const SECRET: [u8; 32] = [7; 32];

pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap()
}

pub fn public_key() -> Vec<u8> {
    pair().public_key().as_ref().to_vec()
}

pub fn jwks() -> String {
    json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(public_key())},
        {"kty": "oct", "kid": "mac", "k": b64(SECRET)}]})
    .to_string()
}

pub fn hs256(secret: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
}

/// A token of these parts, signed by `sign`.
pub fn token(header: &Value, payload: &Value, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(payload.to_string()));
    let signature = sign(&message);
    format!("{message}.{}", b64(signature))
}

/// A ticket with these claims.
pub fn ticket(claims: &Value) -> String {
    token(&json!({"alg": "EdDSA", "kid": "ed"}), claims, |message| {
        pair().sign(message.as_bytes()).as_ref().to_vec()
    })
}

/// Claims that hold for an upload at `key`.
pub fn claims(key: &str) -> Value {
    json!({"aud": "files", "sub": key, "exp": now().as_second() + 60, "owner": "user-7"})
}

pub fn fixture(name: &str) -> Bytes {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/images/");
    std::fs::read(format!("{folder}{name}")).unwrap().into()
}

/// A PNG that is as small as its header allows, told apart by `shade`.
pub fn png(shade: u8) -> Bytes {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8], data: &[u8]| {
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let from = bytes.len();
        bytes.extend(name);
        bytes.extend(data);
        let crc = !bytes[from..].iter().fold(!0_u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        bytes.extend(crc.to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    chunk(b"tEXt", &[shade; 16]);
    chunk(b"IEND", &[]);
    bytes.into()
}

/// The buckets of a stack.
pub fn store() -> MemoryStore {
    MemoryStore::with_clock(FixedClock(now()))
        .with_bucket("files")
        .with_bucket("quarantine")
        .with_bucket("audit")
}

pub fn config(variables: &[(&str, &str)]) -> Config {
    let jwks = jwks();
    let defaults =
        [("TICKET_KEYS", jwks.as_str()), ("QUARANTINE_BUCKET", "quarantine"), ("AUDIT_BUCKET", "audit")];
    let mut environment: Environment = defaults.into_iter().chain(variables.iter().copied()).collect();
    let config = Config::read(&mut environment);
    environment.finish(config).unwrap()
}

/// An upload under a ticket, and its event.
pub async fn upload(store: &MemoryStore, key: &str, content: &Bytes, ticket: Option<&str>) -> Value {
    upload_with(store, key, content, ticket, &[]).await
}

pub async fn upload_with(
    store: &MemoryStore,
    key: &str,
    content: &Bytes,
    ticket: Option<&str>,
    tags: &[(&str, &str)],
) -> Value {
    let options = PutOptions {
        metadata: ticket.map(|ticket| ("ticket".to_owned(), ticket.to_owned())).into_iter().collect(),
        tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..PutOptions::default()
    };
    let put = store.put(&ObjectRef::new("files", key), content.clone(), options).await.unwrap();
    let mut event = event(key, content.len() as u64, put.e_tag.as_str());
    if let Some(version) = put.version_id {
        event["Records"][0]["s3"]["object"]["versionId"] = version.into();
    }
    event
}

/// The notification of an upload.
pub fn event(key: &str, size: u64, e_tag: &str) -> Value {
    // Form-encoding, byte by byte.
    let encoded: String = key.bytes().map(|b| format!("%{b:02X}")).collect();
    json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": NOW,
        "s3": {"bucket": {"name": "files"}, "object": {"key": encoded, "size": size, "eTag": e_tag}}}]})
}

pub async fn invoke<S: ObjectStore>(
    store: S,
    config: Config,
    event: &Value,
) -> Result<Value, InvocationError> {
    let invocation = Invocation { request_id: "test".into(), deadline: Timestamp::MAX };
    handle(&Deps::new(store, FixedClock(now()), config), event, &invocation).await
}

/// The one outcome of an invocation that succeeds.
pub async fn outcome<S: ObjectStore>(store: S, config: Config, event: &Value) -> Value {
    let mut answer = invoke(store, config, event).await.unwrap();
    let outcomes = answer["outcomes"].as_array_mut().unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// The codes of an outcome's reasons.
pub fn codes(outcome: &Value) -> Vec<&str> {
    let reasons = outcome["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

/// Everything that stands in all buckets: key, tag, metadata and tags of the current objects.
pub async fn state(store: &MemoryStore) -> Vec<String> {
    let mut state = Vec::new();
    for bucket in ["files", "quarantine", "audit"] {
        for entry in store.list(bucket, ListOptions::default()).await.unwrap().objects {
            let object = ObjectRef::new(bucket, entry.key);
            let meta = store.head(&object).await.unwrap();
            let tags = store.get_tags(&object).await.unwrap();
            state.push(format!("{object} {} {:?} {tags:?}", meta.e_tag, meta.metadata));
        }
    }
    state
}

pub async fn tags(store: &MemoryStore, key: &str) -> Tags {
    store.get_tags(&ObjectRef::new("files", key)).await.unwrap()
}

type Meddle = dyn Fn(Operation, u64) -> BoxFuture<'static, Option<StoreErrorKind>> + Send + Sync;
type Replace = dyn Fn(GetResult) -> GetResult + Send + Sync;

/// A store before each of whose calls something happens: somebody else writes, or the call is refused. Calls are
/// counted from 1.
#[derive(Clone)]
pub struct Meddled {
    inner: MemoryStore,
    calls: Arc<AtomicU64>,
    before: Arc<Meddle>,
    replace: Arc<Replace>,
    capabilities: Capabilities,
}

impl Meddled {
    pub fn new(inner: MemoryStore) -> Self {
        let capabilities = inner.capabilities();
        Self {
            inner,
            calls: Arc::default(),
            before: Arc::new(|_, _| Box::pin(async { None })),
            replace: Arc::new(|result| result),
            capabilities,
        }
    }

    pub fn before(
        self,
        what: impl Fn(Operation, u64) -> BoxFuture<'static, Option<StoreErrorKind>> + Send + Sync + 'static,
    ) -> Self {
        Self { before: Arc::new(what), ..self }
    }

    pub fn replacing_bodies(self, what: impl Fn(GetResult) -> GetResult + Send + Sync + 'static) -> Self {
        Self { replace: Arc::new(what), ..self }
    }

    pub fn without_conditions(self) -> Self {
        Self {
            capabilities: Capabilities {
                conditional_replace: false,
                conditional_delete: false,
                byte_order: true,
            },
            ..self
        }
    }

    async fn on(&self, operation: Operation, object: &ObjectRef) -> StoreResult<()> {
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.before)(operation, n).await {
            Some(kind) => Err(Call::on_object(operation, object).error(kind, "")),
            None => Ok(()),
        }
    }

    async fn on_bucket(&self, operation: Operation, bucket: &str) -> StoreResult<()> {
        self.on(operation, &ObjectRef::new(bucket, "")).await
    }
}

impl ObjectStore for Meddled {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        self.on(Operation::Head, object).await?;
        self.inner.head(object).await
    }
    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        self.on(Operation::Get, object).await?;
        Ok((self.replace)(self.inner.get(object, options).await?))
    }
    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.on(Operation::Put, object).await?;
        self.inner.put(object, body, options).await
    }
    async fn copy(&self, from: &ObjectRef, to: &ObjectRef, options: CopyOptions) -> StoreResult<PutResult> {
        self.on(Operation::Copy, to).await?;
        self.inner.copy(from, to, options).await
    }
    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        self.on(Operation::Delete, object).await?;
        assert!(self.capabilities.conditional_delete || if_match.is_none(), "the store knows no condition");
        self.inner.delete(object, if_match).await
    }
    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        self.on_bucket(Operation::DeleteBatch, bucket).await?;
        self.inner.delete_batch(bucket, items).await
    }
    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        self.on_bucket(Operation::List, bucket).await?;
        self.inner.list(bucket, options).await
    }
    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        self.on_bucket(Operation::ListVersions, bucket).await?;
        self.inner.list_versions(bucket, prefix, after).await
    }
    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        self.on_bucket(Operation::ListUploads, bucket).await?;
        self.inner.list_uploads(bucket, prefix, after).await
    }
    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        self.on(Operation::GetTags, object).await?;
        self.inner.get_tags(object).await
    }
    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        self.on(Operation::PutTags, object).await?;
        self.inner.put_tags(object, tags).await
    }
    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        self.inner.create_upload(object, options).await
    }
    async fn upload_part(
        &self,
        object: &ObjectRef,
        id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        self.inner.upload_part(object, id, number, body).await
    }
    async fn complete_upload(
        &self,
        object: &ObjectRef,
        id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        self.inner.complete_upload(object, id, parts, precondition).await
    }
    async fn abort_upload(&self, object: &ObjectRef, id: &str) -> StoreResult<()> {
        self.inner.abort_upload(object, id).await
    }
}
