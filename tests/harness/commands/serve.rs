//! `local-cloud serve`: the objects that an event names, behind an endpoint, for a function that runs elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use harness::cloud::{AUDIT, AVATARS, CloudOptions, FILES, LocalCloud, QUARANTINE, UPLOADS};
use harness::replay;
use harness::s3::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

use super::CommandResult;

/// For which event.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file with the event.
    event: PathBuf,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Prints how it is reached as one line of JSON, and stays until its standard input ends. For each line that comes
/// there, and at the end, it prints which requests came since: an array of JSON on one line.
pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let event = super::event(&arguments.event)?;
    let cloud = LocalCloud::start(CloudOptions { port: arguments.port, ..CloudOptions::default() }).await?;
    let put = replay::seed(&cloud.s3, &event)?;
    let key = cloud.s3.credentials();
    println!(
        "{}",
        json!({
            "endpoint": cloud.s3.endpoint(),
            "region": cloud.s3.region(),
            "access_key_id": key.access_key_id,
            "secret_access_key": key.secret_access_key,
            "buckets": {
                "UPLOAD_BUCKET": UPLOADS, "AVATAR_BUCKET": AVATARS, "FILES_BUCKET": FILES,
                "QUARANTINE_BUCKET": QUARANTINE, "AUDIT_BUCKET": AUDIT,
            },
            "objects": put.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    );
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        let line = lines.next_line().await?;
        println!("{}", requests(&cloud));
        if line.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The requests since the last time.
fn requests(cloud: &LocalCloud) -> Value {
    let told = |request: Request| {
        json!({
            "operation": request.operation, "target": format!("{}/{}", request.bucket, request.key),
            "status": request.status, "user_agent": request.user_agent,
        })
    };
    cloud.s3.take_requests().into_iter().map(told).collect()
}
