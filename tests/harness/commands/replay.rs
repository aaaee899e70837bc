//! `local-cloud replay`: one event against one function.

use std::path::PathBuf;
use std::process::ExitCode;

use harness::cloud::{CloudOptions, LocalCloud, built_binaries};
use harness::fc::FcCloud;
use harness::lambda::InvocationResult;
use harness::replay;
use harness::s3::Server;

use super::CommandResult;

/// Which event, to which function.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file with the event.
    event: PathBuf,
    /// avatar-transcoder, upload-validator or expiry-sweeper.
    #[arg(long, default_value = "avatar-transcoder")]
    function: String,
    /// Which runtime calls the function: lambda with the embedded S3, or fc with OSS's stand-in.
    #[arg(long, default_value = "lambda")]
    runtime: Runtime,
    /// Does not put the objects that the event names in first.
    #[arg(long)]
    empty: bool,
    /// Where the functions' binaries are, such as the target/fc that `make build-fc` fills; those beside this
    /// command if not named.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

/// Whose stand-in calls the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Runtime {
    Lambda,
    Fc,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let event = super::event(&arguments.event)?;
    let binaries = arguments.binaries.unwrap_or_else(built_binaries);
    if arguments.runtime == Runtime::Fc {
        let cloud = FcCloud::start(binaries, &[]).await?;
        let result = cloud.replay(&arguments.function, &event, !arguments.empty).await?;
        return show(&result, &cloud.oss);
    }
    let cloud = LocalCloud::start(CloudOptions { binaries, ..CloudOptions::default() }).await?;
    let Some(function) = cloud.functions().find(|function| function.config().name == arguments.function)
    else {
        let names: Vec<_> = cloud.functions().map(|function| function.config().name.as_str()).collect();
        return Err(
            format!("there is no function {}; there are {}", arguments.function, names.join(", ")).into()
        );
    };
    if !arguments.empty {
        for object in replay::seed(&cloud.s3, &event)? {
            eprintln!("put {object}");
        }
    }
    let result = function.invoke(event).await;
    show(&result, &cloud.s3)
}

fn show(result: &InvocationResult, store: &Server) -> CommandResult {
    for line in &result.logs {
        eprintln!("{line}");
    }
    for request in store.take_requests() {
        eprintln!("{} {}/{} → {}", request.operation, request.bucket, request.key, request.status);
    }
    println!("{}", serde_json::to_string_pretty(&result.payload())?);
    match result.error() {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(format!("the invocation failed: {error}").into()),
    }
}
