//! The roles against the handlers: every call that a handler makes is allowed, and nothing is allowed that no handler does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{MemoryStore, ObjectStore, PutOptions, RecordingStore};

use super::policy::{self, Grant};
use super::stack::{Stack, text};
use super::{STACKS, environment};

const SECRET: &[u8] = b"a secret that is long enough for HS256";

/// The buckets of a stack in memory, and what a function called there.
struct World {
    stack: Stack,
    memory: MemoryStore,
    store: std::sync::Arc<RecordingStore<MemoryStore>>,
}

impl World {
    fn new(parameters: &[(&str, &str)]) -> Self {
        let stack = Stack::with(parameters);
        let mut memory = MemoryStore::new();
        for bucket in stack.of_type("AWS::S3::Bucket") {
            let properties = stack.properties(&bucket);
            let name = text(&properties["BucketName"]);
            memory = match properties["VersioningConfiguration"]["Status"].as_str() {
                Some(_) => memory.with_versioned_bucket(&name),
                None => memory.with_bucket(&name),
            };
        }
        let store = std::sync::Arc::new(RecordingStore::new(memory.clone()));
        Self { stack, memory, store }
    }

    fn bucket(&self, name: &str) -> String {
        text(&self.stack.properties(name)["BucketName"])
    }

    /// Puts an object in without a trace in the recording; answers the notification's record.
    async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>, metadata: &[(&str, &str)]) -> Value {
        let (bucket, body) = (self.bucket(bucket), body.into());
        let size = body.len();
        let options = PutOptions {
            metadata: metadata.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..PutOptions::default()
        };
        let put = self.memory.put(&ObjectRef::new(&bucket, key), body, options).await.unwrap();
        let mut object = json!({"key": key, "size": size, "eTag": put.e_tag.as_str()});
        if let Some(version) = put.version_id {
            object["versionId"] = version.into();
        }
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "eventTime": SystemClock.now().to_string(),
            "s3": {"bucket": {"name": bucket}, "object": object}})
    }

    /// A ticket for an object, signed with the key that the audit bucket holds.
    fn ticket(&self, bucket: &str, key: &str) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(json!({"alg": "HS256", "kid": "one"}));
        let claims = encode(json!({"aud": self.bucket(bucket), "sub": key, "exp": 4_102_444_800_u64}));
        let message = format!("{header}.{claims}");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn put_keys(&self) {
        let key = json!({"kty": "oct", "alg": "HS256", "kid": "one", "k": URL_SAFE_NO_PAD.encode(SECRET)});
        self.put("AuditBucket", "config/ticket-keys.json", json!({"keys": [key]}).to_string(), &[]).await;
    }

    /// Holds what was called against what the role may do, in both directions.
    fn check(&self, role: &str, name: &str) {
        let grants = policy::grants(&self.stack, role);
        let needed = self.store.permissions();
        for (action, arn) in &needed {
            assert!(
                grants.iter().any(|grant| grant.covers(action, arn)),
                "{role} with {name} may not {action} on {arn}"
            );
        }
        let reads = |bucket: &str| {
            let inside = format!("{bucket}/");
            needed.iter().any(|(action, arn)| *action == "s3:GetObject" && arn.starts_with(&inside))
        };
        let idle: Vec<&Grant> = grants
            .iter()
            .filter(|grant| grant.action.starts_with("s3:"))
            .filter(|grant| !needed.iter().any(|(action, arn)| grant.covers(action, arn)))
            // Where objects are read by name, the right to list makes a missing one a 404 instead of a 403.
            .filter(|grant| !(grant.action == "s3:ListBucket" && reads(&grant.resource)))
            .collect();
        assert!(idle.is_empty(), "{role} with {name} may, and never does: {idle:#?}");
    }
}

fn invocation() -> Invocation {
    Invocation { request_id: "test".to_owned(), deadline: Timestamp::MAX }
}

fn picture() -> Bytes {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/images/astronaut.png");
    std::fs::read(path).unwrap().into()
}

/// How a handler ended each record.
fn statuses(answer: &Value) -> Vec<&str> {
    answer["outcomes"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_avatar_function_may_do_what_it_does_and_nothing_else() {
    use avatar_transcoder::config::Config;
    use avatar_transcoder::handler::{Deps, handle};

    for (name, parameters) in STACKS {
        let world = World::new(parameters);
        if world.stack.parameter("TicketKeysSource") == "ssm" {
            // The extension is asked instead of the store, and there is none here.
            continue;
        }
        world.put_keys().await;
        world.put("AuditBucket", "config/watermark.png", picture(), &[]).await;
        let ticket = |key| world.ticket("UploadBucket", key);
        let records = [
            world.put("UploadBucket", "u/me.png", picture(), &[("ticket", &ticket("u/me.png"))]).await,
            world.put("UploadBucket", "u/no.png", "no picture", &[("ticket", &ticket("u/no.png"))]).await,
        ];
        let deps = || {
            let mut environment = environment(&world.stack, "AvatarTranscoder");
            let config = Config::read(&mut environment);
            environment.finish(Deps::new(world.store.clone(), SystemClock, config)).unwrap()
        };
        let answer = handle(&deps(), &json!({"Records": records}), &invocation()).await.unwrap();
        assert_eq!(statuses(&answer), ["stored", "rejected"], "{name}: {answer}");
        world.check("AvatarTranscoderRole", name);
    }
}
