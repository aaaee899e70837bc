//! The local cloud: the embedded S3, and the three real functions behind a Lambda of this machine.
//!
//! What is uploaded to `uploads` reaches the avatar function, and what is uploaded to `files` the validator, by
//! the notification that S3 would send and by asynchronous invocation, with its retries and its failure
//! destination. Every function has an access key of its own, so that the request log tells who called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials as AwsCredentials;
use bytes::Bytes;
use serde_json::{Value, json};
use shared::event::{Content, normalize};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{ObjectStore, PutOptions, S3Config, S3Store, StoreError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::lambda::{self, Function, FunctionConfig, Report};
use crate::s3::{self, BucketOptions, Filter, Server};
use crate::ticket::Issuer;

/// Where pictures are uploaded.
pub const UPLOADS: &str = "uploads";
/// Where avatars stand.
pub const AVATARS: &str = "avatars";
/// Where files are uploaded.
pub const FILES: &str = "files";
/// Where rejected files go.
pub const QUARANTINE: &str = "quarantine";
/// Where records and reports go.
pub const AUDIT: &str = "audit";
/// Where in the audit bucket the sweeper's policy is.
pub const POLICY_KEY: &str = "policy.json";

/// The avatar function's name, which is also its binary's and its access key's.
pub const AVATAR_TRANSCODER: &str = "avatar-transcoder";
/// The validator's name.
pub const UPLOAD_VALIDATOR: &str = "upload-validator";
/// The sweeper's name.
pub const EXPIRY_SWEEPER: &str = "expiry-sweeper";

/// The access key of people and their clients.
const CLIENT: &str = "local-cloud";

/// How long [`LocalCloud::upload`] waits for an outcome.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a local cloud is started.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// The port of the embedded S3; 0 takes a free one.
    pub port: u16,
    /// Where the three binaries are.
    pub binaries: PathBuf,
    /// Variables of the functions, beside those that lead them to the embedded S3: function, name, value.
    pub variables: Vec<(String, String, String)>,
    /// Whether uploads reach the functions. Without, only what is invoked works.
    pub notifies: bool,
    /// Whether the files bucket keeps versions.
    pub versioned_files: bool,
    /// How many processes of each function run at the same time.
    pub instances: usize,
    /// How long one invocation of the avatar function and the validator may take.
    pub timeout: Duration,
    /// How long one invocation of the sweeper may take.
    pub sweep_timeout: Duration,
    /// What becomes of asynchronous invocations that fail.
    pub retry: lambda::Retry,
    /// Where invocations that failed for good are appended, one JSON line each.
    pub failure_file: Option<PathBuf>,
    /// Whether the functions' output is repeated on standard error.
    pub echo: bool,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            port: 0,
            binaries: built_binaries(),
            variables: Vec::new(),
            notifies: true,
            versioned_files: false,
            instances: 2,
            timeout: Duration::from_secs(60),
            sweep_timeout: Duration::from_secs(900),
            retry: lambda::Retry::soon(),
            failure_file: None,
            echo: false,
        }
    }
}

impl CloudOptions {
    /// The same, with `variable` set to `value` for `function`.
    #[must_use]
    pub fn with(mut self, function: &str, variable: &str, value: impl Into<String>) -> Self {
        self.variables.push((function.to_owned(), variable.to_owned(), value.into()));
        self
    }
}

/// Where cargo puts the binaries: beside the running one, or above it if that is a test.
pub fn built_binaries() -> PathBuf {
    let running = std::env::current_exe().unwrap_or_default();
    let directory = running.parent().unwrap_or(Path::new("."));
    let directory = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    directory.unwrap_or(Path::new(".")).to_owned()
}

/// A function's binary among `binaries`: the file of its name, or what is packed in a folder of its name to be deployed.
pub fn binary(binaries: &Path, name: &str) -> PathBuf {
    let found = binaries.join(name);
    if found.is_dir() { found.join("bootstrap") } else { found }
}

/// Why a local cloud cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The embedded S3 does not start.
    #[error(transparent)]
    S3(#[from] s3::StartError),
    /// A binary is missing.
    #[error(transparent)]
    Function(#[from] lambda::StartError),
    /// The upload was refused.
    #[error("the upload was refused: {0}")]
    Upload(#[from] StoreError),
    /// No function answered in time.
    #[error("no outcome for {object} within {} s", PATIENCE.as_secs())]
    NoOutcome {
        /// What was uploaded.
        object: ObjectRef,
    },
}

/// An upload that came to its end.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The object.
    pub object: ObjectRef,
    /// Its outcome; none where the invocation failed for good.
    pub outcome: Option<Value>,
    /// The last attempt.
    pub report: Report,
    /// How many attempts there were.
    pub attempts: usize,
    /// From the first byte sent to the outcome.
    pub elapsed: Duration,
}

impl Uploaded {
    /// A field of the outcome, named by a JSON pointer; null where there is none.
    pub fn at(&self, pointer: &str) -> Value {
        self.outcome.as_ref().and_then(|outcome| outcome.pointer(pointer)).cloned().unwrap_or_default()
    }

    /// The outcome's status.
    pub fn status(&self) -> String {
        self.at("/status").as_str().unwrap_or("failed").to_owned()
    }

    /// The outcome's reason code, if there is one.
    pub fn reason(&self) -> Option<String> {
        self.at("/reason/code").as_str().map(str::to_owned)
    }
}

/// A local cloud. It ends when it is dropped.
#[derive(Debug)]
pub struct LocalCloud {
    /// The embedded S3.
    pub s3: Server,
    /// Who issues tickets that the functions of this cloud accept.
    pub issuer: Issuer,
    functions: BTreeMap<&'static str, Function>,
    client: S3Store,
}

impl LocalCloud {
    /// Starts a local cloud within the current Tokio runtime. The functions' processes start with their
    /// first invocation.
    ///
    /// # Errors
    /// The port is taken, or a binary is missing.
    pub async fn start(options: CloudOptions) -> Result<Self, CloudError> {
        let names = [CLIENT, AVATAR_TRANSCODER, UPLOAD_VALIDATOR, EXPIRY_SWEEPER];
        let keys = names.map(|name| s3::Credentials::new(name, format!("{name}-secret")));
        let s3 = Server::start(s3::Options {
            port: options.port,
            credentials: keys.to_vec(),
            ..s3::Options::default()
        })
        .await?;
        let versioned = BucketOptions { versioned: true, ..BucketOptions::default() };
        let plain = BucketOptions::default();
        s3.create_bucket(UPLOADS, plain);
        s3.create_bucket(AVATARS, BucketOptions { public_read: true, ..plain });
        s3.create_bucket(FILES, if options.versioned_files { versioned } else { plain });
        s3.create_bucket(QUARANTINE, versioned);
        s3.create_bucket(AUDIT, plain);

        s3.put(AUDIT, POLICY_KEY, policy(), s3::PutOptions::default());

        let issuer = Issuer::new("local-cloud");
        let mut functions = BTreeMap::new();
        for name in [AVATAR_TRANSCODER, UPLOAD_VALIDATOR, EXPIRY_SWEEPER] {
            functions.insert(name, Function::start(config_of(name, &options, &s3, &issuer))?);
        }
        let triggers = [(UPLOADS, AVATAR_TRANSCODER), (FILES, UPLOAD_VALIDATOR)];
        for (bucket, name) in triggers.into_iter().filter(|_| options.notifies) {
            if let Some(function) = functions.get(name).cloned() {
                s3.notify(bucket, Filter::created(name), move |_, event| {
                    function.send(event);
                });
            }
        }
        let client = client_of(&s3);
        Ok(Self { s3, issuer, functions, client })
    }

    /// A function by its name.
    ///
    /// # Panics
    /// There is no function of this name.
    pub fn function(&self, name: &str) -> &Function {
        &self.functions[name]
    }

    /// The functions.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.values()
    }

    /// S3, as a client of this cloud reaches it.
    pub fn client(&self) -> &S3Store {
        &self.client
    }

    /// Puts an object, and waits for what the function behind its bucket makes of it.
    ///
    /// # Errors
    /// The upload was refused, or nothing was heard of it in time.
    pub async fn upload(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Uploaded, CloudError> {
        let object = ObjectRef::new(bucket, key);
        let put = self.client.put(&object, Into::<Bytes>::into(body), options);
        Box::pin(self.outcome_of(&object, async { Ok(put.await?.e_tag) })).await
    }

    /// Uploads `object` by `upload`, which answers its entity tag, and waits for what becomes of it.
    ///
    /// # Errors
    /// The upload was refused, or nothing was heard of it in time.
    pub async fn outcome_of(
        &self,
        object: &ObjectRef,
        upload: impl Future<Output = Result<ETag, StoreError>>,
    ) -> Result<Uploaded, CloudError> {
        let object = object.clone();
        let name = if object.bucket == FILES { UPLOAD_VALIDATOR } else { AVATAR_TRANSCODER };
        let mut reports = self.function(name).reports();
        let started = Instant::now();
        let e_tag = upload.await?;
        let report = report_about(&mut reports, &object, &e_tag);
        let Ok(Some(report)) = timeout(PATIENCE, report).await else {
            return Err(CloudError::NoOutcome { object });
        };
        let elapsed = started.elapsed();
        let outcome = report.result.ok().and_then(|answer| answer.pointer("/outcomes/0")).cloned();
        Ok(Uploaded { object, outcome, attempts: report.attempt, report, elapsed })
    }

    /// What `function` has asked of S3 since the log was last taken, by operation; empties the log.
    pub fn calls_of(&self, function: &str) -> Vec<String> {
        let requests = self.s3.take_requests().into_iter();
        requests.filter(|request| request.principal == function).map(|request| request.operation).collect()
    }

    /// Waits until every event has come to its end.
    pub async fn idle(&self) {
        for function in self.functions.values() {
            function.idle().await;
        }
    }
}

/// The retention policy that a local cloud starts with: a plan of what any app would let go.
pub(crate) fn policy() -> String {
    let policy = json!({
        "version": 1,
        "mode": "plan",
        "rules": [
            {"id": "temp-catalog", "bucket": FILES, "prefix": "tempcato/", "expire_after": "24h"},
            {"id": "originals", "bucket": UPLOADS, "whole_bucket": true, "expire_after": "7d"},
        ],
    });
    policy.to_string()
}

/// Waits for the last attempt at the event of this upload.
async fn report_about(
    reports: &mut UnboundedReceiver<Report>,
    object: &ObjectRef,
    e_tag: &ETag,
) -> Option<Report> {
    loop {
        let report = reports.recv().await?;
        if report.last && is_about(&report.event, object, e_tag) {
            return Some(report);
        }
    }
}

fn is_about(event: &Value, object: &ObjectRef, e_tag: &ETag) -> bool {
    let Ok(delivery) = normalize(event) else { return false };
    delivery.records.iter().any(|record| match &record.content {
        Ok(Content::Object(event)) => {
            event.object.bucket == object.bucket
                && event.object.key == object.key
                && event.e_tag.as_ref() == Some(e_tag)
        }
        _ => false,
    })
}

fn client_of(s3: &Server) -> S3Store {
    let key = s3.credentials();
    let credentials =
        AwsCredentials::new(key.access_key_id, key.secret_access_key, None, None, "local-cloud");
    let config = S3Config {
        path_style: true,
        endpoint: Some(s3.endpoint()),
        region: Some(s3.region().to_owned()),
        ..S3Config::default()
    };
    S3Store::with_credentials(config, credentials)
}

/// What a function is told of this cloud's buckets and tickets, whichever runtime calls it.
pub(crate) fn own_variables(name: &str, issuer: &Issuer) -> Vec<(&'static str, String)> {
    match name {
        AVATAR_TRANSCODER => {
            vec![("AVATAR_BUCKET", AVATARS.to_owned()), ("UPLOAD_BUCKET", UPLOADS.to_owned())]
        }
        UPLOAD_VALIDATOR => vec![
            ("FILES_BUCKET", FILES.to_owned()),
            ("CATALOGS", r#"{"version": 1, "catalogs": {"tempcato": {"retention": "24h"}}}"#.to_owned()),
            ("QUARANTINE_BUCKET", QUARANTINE.to_owned()),
            ("AUDIT_BUCKET", AUDIT.to_owned()),
            ("RECORDS", "on".to_owned()),
            ("TICKET_KEYS", issuer.jwks()),
        ],
        _ => vec![
            ("AUDIT_BUCKET", AUDIT.to_owned()),
            ("SWEEP_POLICY_URI", format!("s3://{AUDIT}/{POLICY_KEY}")),
        ],
    }
}

fn config_of(name: &str, options: &CloudOptions, s3: &Server, issuer: &Issuer) -> FunctionConfig {
    let mut config = FunctionConfig::new(name, binary(&options.binaries, name))
        .with("AWS_ENDPOINT_URL_S3", s3.endpoint())
        .with("STORE_PATH_STYLE", "true");
    config.credentials = lambda::Credentials {
        access_key_id: name.to_owned(),
        secret_access_key: format!("{name}-secret"),
        session_token: None,
    };
    config.memory_mb = 512;
    config.timeout = options.timeout;
    config.instances = options.instances;
    config.retry = options.retry.clone();
    config.failure_file.clone_from(&options.failure_file);
    config.echo = options.echo;
    let own = own_variables(name, issuer).into_iter();
    config.environment.extend(own.map(|(variable, value)| (variable.to_owned(), value)));
    if name == EXPIRY_SWEEPER {
        config.timeout = options.sweep_timeout;
        // Reserved concurrency, as in the template.
        config.instances = 1;
    }
    let own = options.variables.iter().filter(|(function, ..)| function == name);
    config.environment.extend(own.map(|(_, variable, value)| (variable.clone(), value.clone())));
    config
}
