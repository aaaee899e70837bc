//! The real function and a Node function with sharp, each a process behind the local Lambda and at the embedded S3:
//! what an invocation needs of memory, and what a cold start takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use harness::cloud::AVATAR_TRANSCODER;
use harness::lambda::{self, Function, FunctionConfig, InvocationResult};
use harness::s3::{self, Attributes, BucketOptions, PutOptions, Server};
use harness::tls::TlsFront;
use serde::Serialize;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

use super::{Arguments, Failure};

const UPLOADS: &str = "bench-uploads";
const OURS: &str = "bench-avatars";
const THEIRS: &str = "bench-sharp";

/// How often each function is started.
const STARTS: usize = 9;
/// What both have, in MiB: one processor's worth on Lambda.
const MEMORY_MB: u32 = 1769;

/// Peaks of the resident memory over one invocation, in bytes, where the system tells them (Linux).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    pub(super) ours: Option<u64>,
    pub(super) sharp: Option<u64>,
}

/// Medians of cold starts, in milliseconds: to the first request for work, and from it to the first avatar.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Start {
    pub(super) ours_init: f64,
    pub(super) ours_first: f64,
    pub(super) sharp_init: f64,
    pub(super) sharp_first: f64,
}

/// Peaks over many invocations of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Flat {
    pub(super) invocations: usize,
    pub(super) largest_of_first_hundred: u64,
    pub(super) largest_of_last_hundred: u64,
}

/// A small photograph, with a profile.
pub(super) fn small_picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/rocket.jpg")
}

/// A tiny picture, which takes no time itself, so that what is measured is the start.
pub(super) fn tiny_picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/made/sampling-420.jpg")
}

/// Both functions, and the store between them.
pub(super) struct Pair {
    store: Server,
    ours: Function,
    sharp: Function,
    /// Holds the script that starts Node.
    _launcher: tempfile::TempDir,
    /// Stands between the functions and the store, if they are to use TLS.
    _tls: Option<TlsFront>,
}

/// How the functions reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
}

impl Pair {
    pub(super) async fn start(arguments: &Arguments, transport: Transport) -> Result<Self, Failure> {
        let store = Server::start(s3::Options::default()).await?;
        let tls = match transport {
            Transport::Plain => None,
            Transport::Tls => Some(TlsFront::start().await?),
        };
        tls.iter().for_each(|tls| tls.lead_to(store.address()));
        for bucket in [UPLOADS, OURS, THEIRS] {
            store.create_bucket(bucket, BucketOptions::default());
        }
        let launcher = tempfile::tempdir()?;
        let bootstrap = launcher.path().join("bootstrap");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/stack/sharp_peer.cjs");
        let modules = std::path::absolute(&arguments.modules)?.join("node_modules");
        let node = which(&arguments.node)?;
        let lines =
            format!("#!/bin/sh\nNODE_PATH='{}' exec '{}' '{script}'\n", modules.display(), node.display());
        std::fs::write(&bootstrap, lines)?;
        std::fs::set_permissions(&bootstrap, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let function = |name: &str, binary: PathBuf, bucket: &str| {
            let key = store.credentials();
            let mut config = FunctionConfig::new(name, binary)
                .with(
                    "AWS_ENDPOINT_URL_S3",
                    tls.as_ref().map_or_else(|| store.endpoint(), TlsFront::endpoint),
                )
                .with("STORE_PATH_STYLE", "true")
                .with("AVATAR_BUCKET", bucket)
                .with("MAX_UPLOAD_BYTES", (1 << 30).to_string());
            if let Some(tls) = &tls {
                // Node has its authorities built in, ours reads those of the system.
                config = config
                    .with("SSL_CERT_FILE", tls.trusted().display().to_string())
                    .with("NODE_EXTRA_CA_CERTS", tls.certificate().display().to_string());
            }
            config.memory_mb = MEMORY_MB;
            config.timeout = Duration::from_secs(60);
            config.credentials = lambda::Credentials {
                access_key_id: key.access_key_id,
                secret_access_key: key.secret_access_key,
                session_token: None,
            };
            Function::start(config)
        };
        let ours = function("ours", std::path::absolute(arguments.binaries.join(AVATAR_TRANSCODER))?, OURS)?;
        let sharp = function("sharp", bootstrap, THEIRS)?;
        Ok(Self { store, ours, sharp, _launcher: launcher, _tls: tls })
    }

    /// Uploads `upload` with a few bytes behind its end, which make it another upload of the same work.
    fn event(&self, key: &str, upload: &[u8]) -> Result<Value, Failure> {
        let mut body = upload.to_vec();
        body.extend(fastrand::u128(..).to_le_bytes());
        let size = body.len();
        let options = PutOptions { attributes: Attributes::of_type("image/*"), ..PutOptions::default() };
        let object =
            self.store.put(UPLOADS, key, Bytes::from(body), options).ok_or("the bucket is missing")?;
        Ok(json!({"Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": SystemClock.now().to_string(), "eventName": "ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": UPLOADS, "arn": format!("arn:aws:s3:::{UPLOADS}")},
                   "object": {"key": key, "size": size, "eTag": object.e_tag, "sequencer": "00"}},
        }]}))
    }

    /// The peaks of one invocation each, of processes that have made other pictures before.
    pub(super) async fn peaks(&self, name: &str, upload: &[u8]) -> Result<Memory, Failure> {
        let key = format!("u/{name}");
        let ours = stored(&self.ours, self.ours.invoke(self.event(&key, upload)?).await)?;
        let sharp = stored(&self.sharp, self.sharp.invoke(self.event(&key, upload)?).await)?;
        Ok(Memory { ours: ours.peak_rss_bytes, sharp: sharp.peak_rss_bytes })
    }

    pub(super) async fn starts(&self, upload: &[u8]) -> Result<Start, Failure> {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..STARTS {
            for (i, function) in [&self.ours, &self.sharp].into_iter().enumerate() {
                function.shut_down().await;
                let result = stored(function, function.invoke(self.event("u/start", upload)?).await)?;
                times[2 * i].push(result.init_ms.unwrap_or_default());
                times[2 * i + 1].push(result.duration_ms);
            }
        }
        let [ours_init, ours_first, sharp_init, sharp_first] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        });
        Ok(Start { ours_init, ours_first, sharp_init, sharp_first })
    }

    pub(super) async fn flat(&self, upload: &[u8], invocations: usize) -> Result<Flat, Failure> {
        self.ours.shut_down().await;
        let mut peaks = Vec::new();
        for _ in 0..invocations {
            let result = stored(&self.ours, self.ours.invoke(self.event("u/flat", upload)?).await)?;
            peaks.push(result.peak_rss_bytes.unwrap_or_default());
        }
        let largest = |peaks: &[u64]| peaks.iter().copied().max().unwrap_or_default();
        let hundred = peaks.len().min(100);
        Ok(Flat {
            invocations,
            largest_of_first_hundred: largest(&peaks[..hundred]),
            largest_of_last_hundred: largest(&peaks[peaks.len() - hundred..]),
        })
    }
}

/// The path of a command, because a function starts with a cleared environment.
#[expect(clippy::disallowed_methods, reason = "PATH is no configuration of ours")]
fn which(command: &Path) -> Result<PathBuf, Failure> {
    if command.components().count() > 1 {
        return Ok(std::path::absolute(command)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(command))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{} is not there", command.display()).into())
}

fn stored(function: &Function, result: InvocationResult) -> Result<InvocationResult, Failure> {
    let status = result.ok().and_then(|answer| answer.pointer("/outcomes/0/status")).cloned();
    if status != Some(json!("stored")) {
        return Err(format!("{} stored no avatar: {:?}", function.config().name, result.answer).into());
    }
    Ok(result)
}
