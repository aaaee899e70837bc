//! `local-cloud bench-validator`: what a check costs, beside a peer in the same run.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::cloud::{CloudOptions, FILES, LocalCloud, UPLOAD_VALIDATOR};
use harness::lambda::{self, Function, FunctionConfig};
use harness::pictures::picture;
use harness::s3::{Attributes, PutOptions};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

use super::{CommandResult, view};

/// Why nothing is measured.
type Failure = Box<dyn Error + Send + Sync>;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A Python with boto3, PyJWT, cryptography and filetype.
    #[arg(long)]
    python: PathBuf,
    /// Where the functions' binaries are, as they are deployed.
    #[arg(long)]
    binaries: PathBuf,
    /// How many uploads are checked by each.
    #[arg(long, default_value_t = 300)]
    uploads: usize,
}

/// The access key under which the peer calls, so that its requests can be told from ours.
const PEER: &str = "local-cloud";

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let options = CloudOptions { binaries: arguments.binaries.clone(), ..CloudOptions::default() };
    let options = options.with(UPLOAD_VALIDATOR, "RECORDS", "off");
    let cloud = LocalCloud::start(options).await?;
    let folder = tempfile::tempdir()?;
    let peer = peer(&cloud, &arguments.python, &folder.path().join("bootstrap"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first of each pays for connections and caches, and is not counted.
    for n in 0..=arguments.uploads {
        let event = upload(&cloud, &format!("tempcato/ours-{n}.png"))?;
        ours.push(check(cloud.function(UPLOAD_VALIDATOR), event).await?);
        let event = upload(&cloud, &format!("tempcato/theirs-{n}.png"))?;
        theirs.push(check(&peer, event).await?);
        if n == 0 {
            ours.clear();
            theirs.clear();
            cloud.s3.take_requests();
        }
    }
    let requests = cloud.s3.take_requests();
    let of = |principal: &str| requests.iter().filter(|request| request.principal == principal).count();
    let mut table = view::table(&["", "requests", "median ms", "p95 ms"], &[1, 2, 3]);
    for (name, principal, times) in [
        ("upload-validator", UPLOAD_VALIDATOR, &mut ours),
        ("Python: boto3, PyJWT, filetype", PEER, &mut theirs),
    ] {
        times.sort_by(f64::total_cmp);
        table.add_row([
            name.to_owned(),
            format!("{:.2}", ratio(of(principal), arguments.uploads)),
            format!("{:.2}", quantile(times, 50)),
            format!("{:.2}", quantile(times, 95)),
        ]);
    }
    println!(
        "{} accepted uploads each, one after the other, in turns; requests per upload:\n{table}",
        arguments.uploads
    );
    println!("ratio of the medians: {:.2}", quantile(&ours, 50) / quantile(&theirs, 50));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are small")]
fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}

fn quantile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN)
}

/// Puts an upload under an honest ticket, without an event, and answers the event.
fn upload(cloud: &LocalCloud, key: &str) -> Result<Value, Failure> {
    let exp = SystemClock.now().as_second() + 900;
    let claims =
        json!({"aud": FILES, "sub": key, "exp": exp, "max_size": 1 << 20, "content_type": "image/png"});
    let mut attributes = Attributes::of_type("image/png");
    attributes.metadata.insert(shared::ticket::METADATA.to_owned(), cloud.issuer.issue(&claims));
    let options = PutOptions { attributes, ..PutOptions::default() };
    let body = picture("chelsea.png")?;
    let size = body.len();
    let object = cloud.s3.put(FILES, key, body, options).ok_or("the files bucket is missing")?;
    Ok(json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": SystemClock.now().to_string(), "eventName": "ObjectCreated:Put",
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": FILES, "arn": format!("arn:aws:s3:::{FILES}")},
               "object": {"key": key, "size": size, "eTag": object.e_tag, "sequencer": "00"}},
    }]}))
}

/// The peer as a function of the same Lambda, started by `launcher`.
fn peer(cloud: &LocalCloud, python: &Path, launcher: &Path) -> Result<Function, Failure> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/validator.py");
    let python = std::path::absolute(python)?;
    std::fs::write(launcher, format!("#!/bin/sh\nexec '{}' '{script}'\n", python.display()))?;
    std::fs::set_permissions(launcher, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let key = cloud.s3.credentials();
    let mut config = FunctionConfig::new("python-validator", launcher)
        .with("AWS_ENDPOINT_URL_S3", cloud.s3.endpoint())
        .with("TICKET_KEYS", cloud.issuer.jwks());
    config.timeout = Duration::from_secs(60);
    config.credentials = lambda::Credentials {
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key,
        session_token: None,
    };
    Ok(Function::start(config)?)
}

/// One upload, checked: how long it took, in milliseconds.
async fn check(function: &Function, event: Value) -> Result<f64, Failure> {
    let started = Instant::now();
    let result = function.invoke(event).await;
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    let status = result.ok().and_then(|answer| answer.pointer("/outcomes/0/status")).cloned();
    if status != Some(json!("accepted")) {
        return Err(format!("{} did not accept: {result:?}", function.config().name).into());
    }
    Ok(elapsed)
}
