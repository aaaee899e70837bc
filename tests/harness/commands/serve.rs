//! `local-cloud serve`: the objects that an event names, behind an endpoint, for a function that runs elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use harness::cloud::{AUDIT, AVATARS, CloudOptions, FILES, LocalCloud, QUARANTINE, UPLOADS};
use harness::replay;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, stdin};

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

/// Prints how it is reached as one line of JSON, stays until its standard input ends, and then prints as JSON
/// lines which requests came.
pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let text = std::fs::read_to_string(&arguments.event)
        .map_err(|error| format!("{} cannot be read: {error}", arguments.event.display()))?;
    let event: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not JSON: {error}", arguments.event.display()))?;
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
    stdin().read_to_end(&mut Vec::new()).await?;
    for request in cloud.s3.take_requests() {
        let target = format!("{}/{}", request.bucket, request.key);
        println!("{}", json!({"operation": request.operation, "target": target, "status": request.status}));
    }
    Ok(ExitCode::SUCCESS)
}
