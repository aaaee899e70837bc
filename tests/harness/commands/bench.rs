//! `local-cloud bench-validator`: what a check costs, beside a peer in the same run.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use harness::cloud::{CloudOptions, FILES, LocalCloud, UPLOAD_VALIDATOR};
use harness::pictures::picture;
use harness::s3::{Attributes, PutOptions};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{CommandResult, view};

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
    let mut peer = Peer::start(&arguments.python, &cloud).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first of each pays for connections and caches, and is not counted.
    for n in 0..=arguments.uploads {
        let event = upload(&cloud, &format!("tempcato/ours-{n}.png"))?;
        let started = Instant::now();
        let result = cloud.function(UPLOAD_VALIDATOR).invoke(event).await;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        let status = result.ok().and_then(|answer| answer.pointer("/outcomes/0/status")).cloned();
        if status != Some(json!("accepted")) {
            return Err(format!("the validator did not accept: {result:?}").into());
        }
        ours.push(elapsed);

        let event = upload(&cloud, &format!("tempcato/theirs-{n}.png"))?;
        let started = Instant::now();
        let answer = peer.check(&event).await?;
        theirs.push(started.elapsed().as_secs_f64() * 1e3);
        if answer != "accepted" {
            return Err(format!("the peer did not accept: {answer}").into());
        }
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
fn upload(cloud: &LocalCloud, key: &str) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
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

/// The peer's process.
struct Peer {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    async fn start(
        python: &PathBuf,
        cloud: &LocalCloud,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/validator.py");
        let mut process = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", python.display()))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the peer has no input and output".into());
        };
        let mut peer = Self { _process: process, input, output: BufReader::new(output).lines() };
        let key = cloud.s3.credentials();
        let config = json!({
            "endpoint": cloud.s3.endpoint(), "region": cloud.s3.region(), "jwks": cloud.issuer.jwks(),
            "access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key,
            "max_size": 10 << 20,
        });
        peer.check(&config).await?;
        Ok(peer)
    }

    /// One line in, one line out.
    async fn check(&mut self, line: &Value) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.input.flush().await?;
        Ok(self.output.next_line().await?.ok_or("the peer ended; its error stands above")?)
    }
}
