//! The template against the binaries: what it sets is what they read, and what it allows is what they do.

pub(crate) mod document;
mod extension;
mod permissions;
mod policy;
mod stack;

use std::collections::BTreeSet;

use serde_json::Value;
use shared::env::{ConfigError, Environment};
use shared::store::S3Config;

use policy::texts;
use stack::{REGION, Stack, text};

/// Sets of parameters that between them take every branch of the template.
const STACKS: [(&str, &[(&str, &str)]); 7] = [
    ("the defaults", &[]),
    (
        "everything on",
        &[
            ("Trigger", "queue"),
            ("KmsKeyArn", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
            ("CorsOrigins", "https://app.example.com,https://www.example.com"),
            ("FilesVersioning", "true"),
            ("AccessLogBucket", "logs-of-everything"),
            ("AvatarExtraEdges", "64,128"),
            ("AvatarTickets", "required"),
            ("WatermarkKey", "config/watermark.png"),
            ("WatermarkOpacity", "0.5"),
            ("WatermarkScale", "0.4"),
            ("AvatarGravity", "smart"),
            ("AvatarGround", "#ffffff"),
            ("SourceAfter", "delete"),
            ("AcceptMultipart", "true"),
            ("Records", "on"),
            ("SweepMode", "apply"),
            ("SweepPolicyKey", "config/sweep.json"),
            ("SweepConfirm", "2026-11-01:originals"),
            ("AvatarDomain", "avatars.example.com"),
            (
                "CertificateArn",
                "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
            ),
            ("AlarmTopicArn", "arn:aws:sns:eu-central-1:123456789012:alarms"),
            ("OutcomeBusArn", "arn:aws:events:eu-central-1:123456789012:event-bus/outcomes"),
        ],
    ),
    (
        "keys in Parameter Store",
        &[
            ("AvatarTickets", "optional"),
            ("TicketKeysSource", "ssm"),
            ("TicketKeysName", "/bucket-functions/ticket-keys"),
            (
                "ParametersExtensionArn",
                "arn:aws:lambda:eu-central-1:187925254637:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:12",
            ),
        ],
    ),
    (
        "keys in Secrets Manager",
        &[
            ("AvatarTickets", "required"),
            ("TicketKeysSource", "secretsmanager"),
            ("TicketKeysName", "bucket-functions/ticket-keys"),
            (
                "ParametersExtensionArn",
                "arn:aws:lambda:eu-central-1:187925254637:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:12",
            ),
        ],
    ),
    ("versions in plan mode", &[("FilesVersioning", "true"), ("SweepPolicyKey", "config/sweep.json")]),
    ("rejected files stay", &[("RejectAction", "tag"), ("Records", "on")]),
    (
        "no keys and no delivery",
        &[
            ("TicketKeysSource", "none"),
            ("TicketRequired", "false"),
            ("RejectAction", "delete"),
            ("Cdn", "false"),
            ("ReserveSweepConcurrency", "false"),
            ("StorePathStyle", "true"),
        ],
    ),
];

/// A function of the template, and how its binary reads its configuration.
struct Function {
    name: &'static str,
    read: fn(Environment) -> Read,
}

/// What reading the configuration showed.
struct Read {
    asked: BTreeSet<String>,
    result: Result<(), ConfigError>,
}

/// Reads a configuration as the functions' `main` does.
macro_rules! reads {
    ($config:path) => {
        |mut environment: Environment| {
            let _ = <$config>::read(&mut environment);
            let _ = S3Config::read(&mut environment);
            Read { asked: environment.asked(), result: environment.finish(()) }
        }
    };
}

const FUNCTIONS: [Function; 4] = [
    Function { name: "AvatarTranscoder", read: reads!(avatar_transcoder::config::Config) },
    Function { name: "UploadValidator", read: reads!(upload_validator::config::Config) },
    Function { name: "ExpirySweeper", read: reads!(expiry_sweeper::config::Config) },
    Function { name: "ExpirySweeperMap", read: reads!(expiry_sweeper::config::Config) },
];

/// Whether a variable is the platform's or the SDK's: no template may set the first, and none needs to set the second.
fn is_given(variable: &str) -> bool {
    ["AWS_", "FC_", "ALIBABA_CLOUD_"].iter().any(|prefix| variable.starts_with(prefix))
        // The port of the extension's layer, which sets it itself.
        || variable == "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"
}

/// The variables that the template sets for a function.
fn variables(stack: &Stack, function: &str) -> Vec<(String, String)> {
    let properties = stack.properties(function);
    let variables = properties["Environment"]["Variables"].as_object().unwrap();
    variables.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The environment of a function, with what Lambda adds to it, and `more`.
fn environment<const N: usize>(stack: &Stack, function: &str, more: [(String, String); N]) -> Environment {
    let memory = text(&stack.properties(function)["MemorySize"]);
    let platform = [
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "ASIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
    ];
    variables(stack, function)
        .into_iter()
        .chain(platform.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .chain(more)
        .collect()
}

#[test]
fn every_variable_that_a_function_reads_is_set_and_every_one_that_is_set_is_read() {
    for function in &FUNCTIONS {
        let (mut set, mut read) = (BTreeSet::new(), BTreeSet::new());
        for (_, parameters) in STACKS {
            let stack = Stack::with(parameters);
            set.extend(variables(&stack, function.name).into_iter().map(|(name, _)| name));
            read.extend((function.read)(environment(&stack, function.name, [])).asked);
        }
        set.retain(|variable| !is_given(variable));
        read.retain(|variable| !is_given(variable));
        assert_eq!(set, read, "{}: set (left) and read (right)", function.name);
    }
}

#[test]
fn every_binary_accepts_what_the_template_sets() {
    for (name, parameters) in STACKS {
        let stack = Stack::with(parameters);
        for function in &FUNCTIONS {
            let read = (function.read)(environment(&stack, function.name, []));
            assert_eq!(read.result, Ok(()), "{} with {name}", function.name);
        }
    }
}

#[test]
fn every_function_of_the_template_is_one_that_these_tests_know() {
    let stack = Stack::with(&[]);
    assert_eq!(stack.of_type("AWS::Serverless::Function"), FUNCTIONS.map(|function| function.name));
}

#[test]
fn nothing_can_be_swept_until_somebody_says_apply() {
    for (name, parameters) in STACKS {
        let stack = Stack::with(parameters);
        let may_delete = policy::grants(&stack, "ExpirySweeperRole")
            .iter()
            .any(|grant| grant.action.starts_with("s3:Delete") && !grant.resource.contains("-audit-"));
        assert_eq!(may_delete, stack.parameter("SweepMode") == "apply", "{name}");
    }
}

#[test]
fn no_function_is_called_for_what_it_writes_itself() {
    for (name, parameters) in STACKS {
        let stack = Stack::with(parameters);
        for (bucket, role) in subscriptions(&stack) {
            let arn = format!("{bucket}/any/key");
            let own = policy::grants(&stack, &role);
            assert!(!own.iter().any(|grant| grant.covers("s3:PutObject", &arn)), "{role} with {name}");
        }
    }
}

/// The ARN of each bucket that calls a function, and the role of that function.
fn subscriptions(stack: &Stack) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for bucket in stack.of_type("AWS::S3::Bucket") {
        let properties = stack.properties(&bucket);
        let notifications = &properties["NotificationConfiguration"];
        for (kind, target) in [("LambdaConfigurations", "Function"), ("QueueConfigurations", "Queue")] {
            for one in notifications[kind].as_array().into_iter().flatten() {
                assert_eq!(one["Event"], "s3:ObjectCreated:*", "{bucket}");
                let arn = format!("arn:aws:s3:::{}", text(&properties["BucketName"]));
                found.push((arn, role_behind(stack, &one[target])));
            }
        }
    }
    assert_eq!(found.len(), 2);
    found
}

/// The role of the function behind a notification's target, which may be a queue.
fn role_behind(stack: &Stack, target: &Value) -> String {
    let target = text(target);
    let mappings = stack.of_type("AWS::Lambda::EventSourceMapping");
    let function = mappings
        .iter()
        .map(|mapping| stack.properties(mapping))
        .find(|mapping| text(&mapping["EventSourceArn"]) == target)
        .map_or_else(
            || target.rsplit(':').next().unwrap().to_owned(),
            |mapping| text(&mapping["FunctionName"]),
        );
    format!("{function}Role")
}

#[test]
fn every_bucket_is_private_encrypted_owned_and_spoken_to_over_tls_only() {
    for (name, parameters) in STACKS {
        let stack = Stack::with(parameters);
        let buckets = stack.of_type("AWS::S3::Bucket");
        assert_eq!(buckets.len(), 5);
        for bucket in buckets {
            let properties = stack.properties(&bucket);
            let block = properties["PublicAccessBlockConfiguration"].as_object().unwrap();
            assert!(block.len() == 4 && block.values().all(|value| value == true), "{bucket} with {name}");
            assert_eq!(
                properties["OwnershipControls"]["Rules"][0]["ObjectOwnership"], "BucketOwnerEnforced",
                "{bucket}"
            );
            let encryption = &properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
            let expected = if stack.parameter("KmsKeyArn").is_empty() { "AES256" } else { "aws:kms" };
            assert_eq!(encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"], expected, "{bucket}");
            let rules = properties["LifecycleConfiguration"]["Rules"].as_array().unwrap();
            assert!(
                rules.iter().any(|rule| !rule["AbortIncompleteMultipartUpload"].is_null()),
                "{bucket} keeps stale multipart uploads"
            );
            let statements = bucket_policy(&stack, &bucket);
            let tls = statements.iter().find(|one| one["Sid"] == "OnlyTls").unwrap();
            assert_eq!(tls["Effect"], "Deny", "{bucket}");
            assert_eq!(tls["Condition"]["Bool"]["aws:SecureTransport"], "false", "{bucket}");
        }
    }
}

fn bucket_policy(stack: &Stack, bucket: &str) -> Vec<Value> {
    let policy = stack.properties(&format!("{bucket}Policy"));
    policy["PolicyDocument"]["Statement"].as_array().unwrap().clone()
}

#[test]
fn what_is_not_tagged_as_accepted_is_read_by_the_functions_only_and_only_the_validator_tags() {
    let stack = Stack::with(&[("FilesVersioning", "true")]);
    let statements = bucket_policy(&stack, "FilesBucket");
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    let stranger = "arn:aws:iam::123456789012:role/SomeApp".to_owned();
    // (who, what, the tag, whether the bucket's policy refuses it)
    for (principal, action, tag, refused) in [
        (&stranger, "s3:GetObject", None, true),
        (&stranger, "s3:GetObject", Some("rejected"), true),
        (&stranger, "s3:GetObjectVersion", None, true),
        (&stranger, "s3:GetObject", Some("accepted"), false),
        (&stranger, "s3:PutObjectTagging", None, true),
        (&stranger, "s3:DeleteObjectTagging", Some("rejected"), true),
        (&stranger, "s3:PutObject", None, false),
        (&role("UploadValidatorRole"), "s3:GetObject", None, false),
        (&role("UploadValidatorRole"), "s3:PutObjectTagging", None, false),
        (&role("ExpirySweeperRole"), "s3:GetObject", None, false),
        (&role("ExpirySweeperRole"), "s3:PutObjectTagging", None, true),
    ] {
        let denies = |statement: &Value| {
            let condition = &statement["Condition"];
            let except = &condition["ArnNotEquals"]["aws:PrincipalArn"];
            let wanted = condition["StringNotEquals"]["s3:ExistingObjectTag/upload-status"].as_str();
            statement["Effect"] == "Deny"
                && statement["Sid"] != "OnlyTls"
                && texts(&statement["Action"]).iter().any(|one| one == action)
                && texts(&statement["Resource"]).iter().any(|one| one.ends_with("/*"))
                && !texts(except).contains(principal)
                // A tag that is missing does not equal any.
                && wanted.is_none_or(|wanted| tag != Some(wanted))
        };
        assert_eq!(statements.iter().any(denies), refused, "{principal} {action} {tag:?}");
    }
}

#[test]
fn clients_find_what_they_need_in_the_outputs() {
    let outputs = Stack::with(&[]).outputs();
    for name in [
        "UploadBucketName",
        "AvatarBucketName",
        "FilesBucketName",
        "QuarantineBucketName",
        "AuditBucketName",
        "FailureQueueUrl",
        "AvatarBaseUrl",
    ] {
        assert!(outputs.get(name).is_some_and(|value| !value.is_empty()), "{name}");
    }
    assert!(outputs["AvatarBaseUrl"].starts_with("https://"));
}
