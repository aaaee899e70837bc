//! The three tools, each as its users run it, on the same bucket through the same proxy.

use std::error::Error;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::cloud::EXPIRY_SWEEPER;
use harness::contract::Endpoint;
use harness::lambda::{Credentials, Function, FunctionConfig};
use serde_json::{Value, json};
use tokio::process::Command;

use super::Arguments;
use super::buckets::PREFIX;

/// Where our reports go.
pub(super) const AUDIT: &str = "sweep-audit";
/// How often a peer's memory is read.
const GLANCE: Duration = Duration::from_millis(5);

type Failure = Box<dyn Error + Send + Sync>;

/// Who sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Tool {
    /// Ours: age, a condition on every delete, a report.
    ExpirySweeper,
    /// `rclone delete --min-age`: age.
    Rclone,
    /// The same, by the server's time: without a question about each object.
    RcloneServerTime,
    /// `s5cmd rm`: all that is there.
    #[value(name = "s5cmd")]
    S5cmd,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// From the start of the process to its end; ours to its answer.
    pub(super) elapsed: Duration,
    /// The largest resident memory, where the system tells it (Linux).
    pub(super) peak_rss_bytes: Option<u64>,
}

impl Tool {
    /// In names of buckets.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::ExpirySweeper => EXPIRY_SWEEPER,
            Self::Rclone => "rclone",
            Self::RcloneServerTime => "rclone-server-time",
            Self::S5cmd => "s5cmd",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ExpirySweeper => EXPIRY_SWEEPER,
            Self::Rclone => "rclone delete --min-age",
            Self::RcloneServerTime => "rclone … --use-server-modtime",
            Self::S5cmd => "s5cmd rm",
        }
    }

    /// Deletes all `objects` of `bucket`.
    pub(super) async fn run(
        self,
        arguments: &Arguments,
        endpoint: &Endpoint,
        bucket: &str,
        objects: usize,
    ) -> Result<Measured, Failure> {
        match self {
            Self::ExpirySweeper => sweep(arguments, endpoint, bucket, objects).await,
            Self::Rclone | Self::RcloneServerTime => {
                let mut command = Command::new(&arguments.rclone);
                command
                    .args(["delete", "--min-age", "1s", "--config", ""])
                    .args((self == Self::RcloneServerTime).then_some("--use-server-modtime"))
                    .arg(format!("bench:{bucket}/{PREFIX}"))
                    .env("RCLONE_CONFIG_BENCH_TYPE", "s3")
                    .env("RCLONE_CONFIG_BENCH_PROVIDER", "SeaweedFS")
                    .env("RCLONE_CONFIG_BENCH_ENDPOINT", &endpoint.url)
                    .env("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", &endpoint.access_key_id)
                    .env("RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY", &endpoint.secret_access_key)
                    .env("RCLONE_CONFIG_BENCH_REGION", "us-east-1");
                watch(self, command).await
            }
            Self::S5cmd => {
                let mut command = Command::new(&arguments.s5cmd);
                command
                    .args(["--endpoint-url", &endpoint.url, "--log", "error", "rm"])
                    .arg(format!("s3://{bucket}/{PREFIX}*"))
                    .env("AWS_ACCESS_KEY_ID", &endpoint.access_key_id)
                    .env("AWS_SECRET_ACCESS_KEY", &endpoint.secret_access_key)
                    .env("AWS_REGION", "us-east-1");
                watch(self, command).await
            }
        }
    }
}

/// The real binary as Lambda runs it, with its cold start.
async fn sweep(
    arguments: &Arguments,
    endpoint: &Endpoint,
    bucket: &str,
    objects: usize,
) -> Result<Measured, Failure> {
    // No cap is set, and the first sweep of a rule has nothing to be an anomaly beside.
    let rule = json!({"id": bucket, "bucket": bucket, "prefix": PREFIX, "expire_after": "1s"});
    let policy = json!({"version": 1, "mode": "apply", "rules": [rule]}).to_string();
    let mut config = FunctionConfig::new(EXPIRY_SWEEPER, arguments.binaries.join(EXPIRY_SWEEPER))
        .with("AWS_ENDPOINT_URL_S3", &endpoint.url)
        .with("STORE_PATH_STYLE", "true")
        .with("AUDIT_BUCKET", AUDIT)
        .with("SWEEP_POLICY", policy);
    config.credentials = Credentials {
        access_key_id: endpoint.access_key_id.clone(),
        secret_access_key: endpoint.secret_access_key.clone(),
        session_token: None,
    };
    // As in template.yaml.
    config.memory_mb = 512;
    config.timeout = Duration::from_secs(900);
    let function = Function::start(config)?;
    let started = Instant::now();
    let (mut deleted, mut peak) = (0, None);
    loop {
        let result = function.invoke(json!({})).await;
        peak = peak.max(result.peak_rss_bytes);
        let answer = result.ok().ok_or_else(|| result.error().unwrap_or_default())?;
        let outcome = answer.pointer("/outcomes/0").cloned().unwrap_or_default();
        if outcome["status"] != "swept" {
            return Err(format!("the sweeper did not sweep: {answer}").into());
        }
        deleted += outcome.pointer("/sweep/deleted").and_then(Value::as_u64).unwrap_or(0);
        if answer["complete"] == true {
            break;
        }
    }
    let elapsed = started.elapsed();
    function.shut_down().await;
    if usize::try_from(deleted).ok() != Some(objects) {
        return Err(format!("the sweeper says that it deleted {deleted} of {objects} objects").into());
    }
    Ok(Measured { elapsed, peak_rss_bytes: peak })
}

/// Runs a peer to its end.
async fn watch(tool: Tool, mut command: Command) -> Result<Measured, Failure> {
    let started = Instant::now();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", tool.name()))?;
    let pid = process.id();
    let mut peak_rss_bytes = None;
    let mut glances = tokio::time::interval(GLANCE);
    let status = loop {
        tokio::select! {
            status = process.wait() => break status?,
            _ = glances.tick() => peak_rss_bytes = peak_rss_bytes.max(pid.and_then(peak_of)),
        }
    };
    let elapsed = started.elapsed();
    if !status.success() {
        return Err(format!("{} ended with {status}; what it said stands above", tool.name()).into());
    }
    Ok(Measured { elapsed, peak_rss_bytes })
}

/// The peak of a process's resident memory so far (proc(5), `VmHWM`).
fn peak_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
