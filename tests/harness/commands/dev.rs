//! `local-cloud dev`: stays, and says what the functions make of what any client uploads.

use std::path::PathBuf;
use std::process::ExitCode;

use harness::cloud::{AVATARS, CloudOptions, FILES, LocalCloud, UPLOADS};
use harness::lambda::Report;
use harness::replay;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{CommandResult, ticket, view};

/// How it is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// A variable of a function: avatar-transcoder.AVATAR_EDGE=256
    #[arg(long = "set", value_name = "FUNCTION.VARIABLE=VALUE")]
    variables: Vec<String>,
    /// A file with an event: the objects that it names are put in first, and no function hears of it. So it can be
    /// given to a function that runs elsewhere, such as by cargo lambda or in a debugger.
    #[arg(long)]
    event: Option<PathBuf>,
    /// Repeats the functions' own log lines on standard error.
    #[arg(long)]
    logs: bool,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let mut options = CloudOptions { port: arguments.port, echo: arguments.logs, ..CloudOptions::default() };
    for variable in &arguments.variables {
        let parts = variable.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
        let Some(((function, name), value)) = parts else {
            return Err(format!("{variable} is not FUNCTION.VARIABLE=VALUE").into());
        };
        options = options.with(function, name, value);
    }
    let cloud = LocalCloud::start(options).await?;
    if let Some(path) = &arguments.event {
        for object in replay::seed(&cloud.s3, &super::event(path)?)? {
            println!("put {object}");
        }
    }
    let key = cloud.s3.credentials();
    let endpoint = cloud.s3.endpoint();
    println!("S3 is at {endpoint}, region {}, path style, with these credentials:\n", cloud.s3.region());
    println!("  export AWS_ENDPOINT_URL_S3={endpoint} AWS_REGION={}", cloud.s3.region());
    println!(
        "  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}\n",
        key.access_key_id, key.secret_access_key
    );
    println!(
        "What is put into {UPLOADS} becomes an avatar in {AVATARS}; {FILES} is watched by the validator."
    );
    println!("  aws s3 cp me.png s3://{UPLOADS}/u/me.png");
    println!("  curl {endpoint}/{AVATARS}/u/<code>.webp\n");
    ticket::leave_key(&cloud.issuer)?;
    println!("Tickets for {FILES} are issued with the key in {}:", ticket::DEV_KEY);
    println!("  make ticket ARGS='presign --bucket {FILES} --key tempcato/me.png --file me.png'\n");
    println!("Ctrl-C ends it, and everything in it.");

    let (sender, mut reports) = mpsc::unbounded_channel();
    for function in cloud.functions() {
        let (mut from, sender) = (function.reports(), sender.clone());
        tokio::spawn(async move {
            while let Some(report) = from.recv().await {
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
    }
    loop {
        tokio::select! {
            Some(report) = reports.recv() => show(&report),
            signal = tokio::signal::ctrl_c() => {
                signal?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn show(report: &Report) {
    let Some(answer) = report.result.ok() else {
        let next = if report.last { "given up" } else { "tried again" };
        let error = report.result.error().unwrap_or_default();
        println!("{}: attempt {} failed, {next}: {error}", report.function, report.attempt);
        return;
    };
    for outcome in answer.pointer("/outcomes").and_then(Value::as_array).into_iter().flatten() {
        let text = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let result = match (text("/avatar/key"), text("/reason/code")) {
            ("", "") => String::new(),
            ("", code) => format!("{code}: {}", view::cut(text("/reason/message"), 100)),
            (key, _) => format!("{}/{key}", text("/avatar/bucket")),
        };
        println!(
            "{}/{}  {}  {result}  {:.0} ms",
            text("/source/bucket"),
            text("/source/key"),
            text("/status"),
            report.result.duration_ms
        );
    }
}
