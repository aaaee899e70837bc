//! The roles against the handlers: every call that a handler makes is allowed, and nothing is allowed that no handler does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::env::Environment;
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{MemoryStore, ObjectStore, Permission, PutOptions, RecordingStore};

use super::extension::Extension;
use super::policy::{self, Grant};
use super::stack::{ACCOUNT, Stack, text};
use super::{STACKS, environment};

const SECRET: &[u8] = b"a secret that is long enough for HS256";

/// What no scenario here does, and a function has to be allowed all the same.
struct Rare {
    action: &'static str,
    /// The end of the resource.
    place: &'static str,
    /// Only with this parameter.
    with: Option<(&'static str, &'static str)>,
    #[expect(dead_code, reason = "it is for who reads the list")]
    when: &'static str,
}

impl Rare {
    fn excuses(&self, grant: &Grant, stack: &Stack) -> bool {
        grant.action == self.action
            && grant.resource.ends_with(self.place)
            && self.with.is_none_or(|(name, value)| stack.parameter(name) == value)
    }
}

const BEFORE_VERSIONS: &str =
    "an object from before versioning was turned on, which has no version to be named by";

const RARELY: [Rare; 4] = [
    Rare {
        action: "s3:AbortMultipartUpload",
        place: "/sweeps/*",
        with: None,
        when: "a report so long that it is written in parts, and that cannot be finished",
    },
    Rare {
        action: "s3:GetObjectTagging",
        place: "-files-123456789012-eu-central-1/*",
        with: Some(("FilesVersioning", "true")),
        when: BEFORE_VERSIONS,
    },
    Rare {
        action: "s3:PutObjectTagging",
        place: "-files-123456789012-eu-central-1/*",
        with: Some(("FilesVersioning", "true")),
        when: BEFORE_VERSIONS,
    },
    Rare {
        action: "s3:DeleteObject",
        place: "-files-123456789012-eu-central-1/*",
        with: Some(("FilesVersioning", "true")),
        when: BEFORE_VERSIONS,
    },
];

/// What a function's code calls itself, and what is therefore held against what it was seen to call.
const OWN: [&str; 4] = ["s3:", "cloudfront:", "ssm:", "secretsmanager:"];

/// What Lambda does in a function's name, which no test here sees: its log and traces, events from its queue, outcomes and failures
/// to where they are sent, and the key of what is encrypted.
const LAMBDAS: [&str; 11] = [
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:SendMessage",
    "events:PutEvents",
    "kms:Decrypt",
    "kms:GenerateDataKey",
];

/// A clock that the test sets.
#[derive(Debug, Clone)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Default for Hands {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(SystemClock.now())))
    }
}

impl Hands {
    fn advance(&self, days: i64) {
        let mut now = self.0.lock().unwrap();
        *now = Timestamp::from_second(now.as_second() + days * 86_400).unwrap();
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The buckets of a stack in memory, and what a function called there.
struct World {
    stack: Stack,
    clock: Hands,
    memory: MemoryStore,
    store: Arc<RecordingStore<MemoryStore>>,
    extension: Extension,
}

impl World {
    async fn new(parameters: &[(&str, &str)]) -> Self {
        let stack = Stack::with(parameters);
        let clock = Hands::default();
        let mut memory = MemoryStore::with_clock(clock.clone());
        for bucket in stack.of_type("AWS::S3::Bucket") {
            let properties = stack.properties(&bucket);
            let name = text(&properties["BucketName"]);
            memory = match properties["VersioningConfiguration"]["Status"].as_str() {
                Some(_) => memory.with_versioned_bucket(&name),
                None => memory.with_bucket(&name),
            };
        }
        let store = Arc::new(RecordingStore::new(memory.clone()));
        let extension = Extension::start(key_set()).await;
        Self { stack, memory, store, extension, clock }
    }

    /// The environment of a function, with the extension where its layer would be.
    fn environment(&self, function: &str) -> Environment {
        let port = ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT".to_owned(), self.extension.port.to_string());
        environment(&self.stack, function, [port])
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
        self.put("AuditBucket", "config/ticket-keys.json", key_set(), &[]).await;
    }

    /// Holds what was called, and `more`, against what the role may do, in both directions.
    fn check(&self, role: &str, name: &str, more: BTreeSet<Permission>) {
        let grants = policy::grants(&self.stack, role);
        let mut needed = self.store.permissions();
        needed.extend(self.extension.permissions());
        needed.extend(more);
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
        for grant in &grants {
            let own = OWN.iter().any(|own| grant.action.starts_with(own));
            assert!(
                own || LAMBDAS.contains(&grant.action.as_str()),
                "{role}: nobody knows who needs {grant:?}"
            );
        }
        let idle: Vec<&Grant> = grants
            .iter()
            .filter(|grant| !LAMBDAS.contains(&grant.action.as_str()))
            .filter(|grant| !needed.iter().any(|(action, arn)| grant.covers(action, arn)))
            // Where objects are read by name, the right to list makes a missing one a 404 instead of a 403.
            .filter(|grant| !(grant.action == "s3:ListBucket" && reads(&grant.resource)))
            .filter(|grant| !RARELY.iter().any(|rare| rare.excuses(grant, &self.stack)))
            .collect();
        assert!(idle.is_empty(), "{role} with {name} may, and never does: {idle:#?}");
    }
}

/// The key set that tickets are checked with.
fn key_set() -> String {
    let key = json!({"kty": "oct", "alg": "HS256", "kid": "one", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    json!({"keys": [key]}).to_string()
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
        let world = World::new(parameters).await;
        world.put_keys().await;
        world.put("AuditBucket", "config/watermark.png", picture(), &[]).await;
        let ticket = |key| world.ticket("UploadBucket", key);
        let records = [
            world.put("UploadBucket", "u/me.png", picture(), &[("ticket", &ticket("u/me.png"))]).await,
            world.put("UploadBucket", "u/no.png", "no picture", &[("ticket", &ticket("u/no.png"))]).await,
        ];
        let deps = || {
            let mut environment = world.environment("AvatarTranscoder");
            let config = Config::read(&mut environment);
            environment.finish(Deps::new(world.store.clone(), SystemClock, config)).unwrap()
        };
        let answer = handle(&deps(), &json!({"Records": records}), &invocation()).await.unwrap();
        assert_eq!(statuses(&answer), ["stored", "rejected"], "{name}: {answer}");
        world.check("AvatarTranscoderRole", name, BTreeSet::new());
    }
}

#[tokio::test]
async fn the_validator_may_do_what_it_does_and_nothing_else() {
    use upload_validator::config::Config;
    use upload_validator::handler::{Deps, handle};

    for (name, parameters) in STACKS {
        let world = World::new(parameters).await;
        world.put_keys().await;
        let deps = || {
            let mut environment = world.environment("UploadValidator");
            let config = Config::read(&mut environment);
            environment.finish(Deps::new(world.store.clone(), SystemClock, config)).unwrap()
        };
        // By its notification, and by hand, where no version is named.
        for by_hand in [false, true] {
            let catalog = if by_hand { "bn0m0anw" } else { "jw36w2mb" };
            for (file, body, expected) in
                [("me.png", picture(), "accepted"), ("no.png", Bytes::from_static(b"no picture"), "rejected")]
            {
                let key = format!("{catalog}/{file}");
                let ticket = world.ticket("FilesBucket", &key);
                let record = world.put("FilesBucket", &key, body, &[("ticket", &ticket)]).await;
                let event = match by_hand {
                    true => json!({"bucket": world.bucket("FilesBucket"), "key": key}),
                    false => json!({"Records": [record]}),
                };
                let answer = handle(&deps(), &event, &invocation()).await.unwrap();
                assert_eq!(statuses(&answer), [expected], "{name}: {answer}");
                // Once more, as notifications may be: an accepted upload carries the verdict's tag by then.
                handle(&deps(), &event, &invocation()).await.unwrap();
            }
        }
        world.check("UploadValidatorRole", name, BTreeSet::new());
    }
}

/// A policy with every kind of rule, over the buckets of a stack.
fn every_kind_of_rule(world: &World) -> Value {
    let [upload, avatar, files, audit] =
        ["UploadBucket", "AvatarBucket", "FilesBucket", "AuditBucket"].map(|name| world.bucket(name));
    json!({"version": 1, "mode": "apply", "limits": {"max_deletes": 1000, "max_delete_ratio": 1}, "rules": [
        {"id": "temp-catalog", "bucket": files, "prefix": "tempcato/", "expire_after": "24h", "hold_tag": "hold=true"},
        {"id": "per-object", "bucket": files, "prefix": "share/", "expires_at": "metadata", "expire_after": "30d"},
        {"id": "kept-awhile", "bucket": files, "prefix": "kept/", "expire_after": "24h", "quarantine_before_delete": true},
        {"id": "hard-delete", "bucket": files, "prefix": "old/", "noncurrent_after": "1d", "hold_tag": "hold=true",
         "quarantine_before_delete": true},
        {"id": "orphans", "bucket": avatar, "prefix": "u/", "grace": "7d",
         "unreferenced_in": format!("s3://{audit}/references/u.txt")},
        {"id": "held-avatars", "bucket": avatar, "prefix": "c/", "expires_at": "metadata", "expire_after": "24h",
         "hold_tag": "hold=true"},
        {"id": "originals", "bucket": upload, "whole_bucket": true, "expires_at": "metadata", "expire_after": "7d",
         "hold_tag": "hold=true"},
        {"id": "multipart", "bucket": files, "abort_multipart_after": "24h"},
        {"id": "multipart-uploads", "bucket": upload, "abort_multipart_after": "24h"},
        {"id": "multipart-avatars", "bucket": avatar, "abort_multipart_after": "24h"}],
        "cdn": [{"bucket": avatar, "distribution_id": "Distribution", "path_prefix": "/"}]})
}

#[tokio::test]
async fn the_sweeper_may_do_what_it_does_and_nothing_else() {
    use expiry_sweeper::cdn::RecordingCdn;
    use expiry_sweeper::config::Config;
    use expiry_sweeper::handler::{Deps, handle};

    for (name, parameters) in STACKS {
        let world = World::new(parameters).await;
        let policy = every_kind_of_rule(&world);
        world.put("AuditBucket", "config/sweep.json", policy.to_string(), &[]).await;
        for bucket in ["UploadBucket", "AvatarBucket", "FilesBucket"] {
            for key in ["u/a", "c/a", "tempcato/a", "share/a", "kept/a", "old/a", "old/a"] {
                world.put(bucket, key, "x", &[]).await;
            }
            let object = ObjectRef::new(world.bucket(bucket), "u/parts");
            world.memory.create_upload(&object, PutOptions::default()).await.unwrap();
        }
        world.clock.advance(100);
        let cdn = RecordingCdn::new(["Distribution"]);
        let deps = || {
            let mut environment = world.environment("ExpirySweeper");
            let config = Config::read(&mut environment);
            let deps = Deps::new(world.store.clone(), world.clock.clone(), cdn.clone(), config);
            environment.finish(deps).unwrap()
        };
        // As the schedule calls it: first with so little time that the next call has to go on, and again after a while, when it cleans up behind itself.
        let soon = Timestamp::from_second(world.clock.now().as_second() + 1).unwrap();
        let hasty = Invocation { request_id: "hasty".to_owned(), deadline: soon };
        let answer = handle(&deps(), &json!({}), &hasty).await.unwrap();
        assert_eq!(answer["complete"], false, "{name}: {answer}");
        for _ in 0..2 {
            world.put("AuditBucket", "references/u.txt", "u/referenced.webp\n", &[]).await;
            let answer = handle(&deps(), &json!({}), &invocation()).await.unwrap();
            assert_eq!(answer["complete"], true, "{name}: {answer}");
            assert!(!statuses(&answer).contains(&"failed"), "{name}: {answer}");
            world.clock.advance(100);
        }
        // As the Distributed Map calls it.
        let entry = world.put("FilesBucket", "tempcato/late", "x", &[]).await;
        world.clock.advance(100);
        let batch = json!({
            "BatchInput": {"rule": "temp-catalog", "sweep_id": "map"},
            "Items": [{"Key": "tempcato/late", "Size": 1, "LastModified": 1_668_699_881,
                       "Etag": entry["s3"]["object"]["eTag"]}]});
        let answer = handle(&deps(), &batch, &invocation()).await.unwrap();
        assert!(!statuses(&answer).contains(&"failed"), "{name}: {answer}");
        let distribution = |id| format!("arn:aws:cloudfront::{ACCOUNT}:distribution/{id}");
        let asked = cdn.permissions().into_iter().map(|(action, id)| (action, distribution(id)));
        world.check("ExpirySweeperRole", name, asked.collect());
    }
}
