//! `local-cloud run`: the main job, end to end, to be looked at.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use harness::cloud::{
    AUDIT, AVATAR_TRANSCODER, AVATARS, CloudError, CloudOptions, EXPIRY_SWEEPER, FILES, LocalCloud,
    POLICY_KEY, QUARANTINE, UPLOADS, Uploaded,
};
use harness::forgeries;
use harness::pictures::{self, Sample};
use harness::s3;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::object_ref::ObjectRef;
use shared::store::{ObjectStore, Precondition, PutOptions, StoreError};

use super::{CommandResult, view};

/// Why the show ends early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A folder of your own pictures, instead of those that come with the source.
    #[arg(long)]
    images: Option<PathBuf>,
    /// Where what came out is written; what a run wrote there before is replaced.
    #[arg(long, default_value = "target/run")]
    out: PathBuf,
    /// Repeats the functions' own log lines on standard error.
    #[arg(long)]
    logs: bool,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let samples = match &arguments.images {
        None => pictures::samples()?,
        Some(folder) => pictures::of_folder(folder)
            .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?,
    };
    if samples.is_empty() {
        return Err("there is no file in that folder; name one with pictures by IMAGES=…".into());
    }
    let cloud = LocalCloud::start(CloudOptions { echo: arguments.logs, ..CloudOptions::default() }).await?;
    println!("The local cloud is up: S3 at {}, the three functions behind it.\n", cloud.s3.endpoint());

    let mut complete = avatars(&cloud, &samples).await?;
    if arguments.images.is_none() {
        complete &= Box::pin(rejections(&cloud)).await?;
        complete &= Box::pin(files(&cloud)).await?;
        complete &= Box::pin(sweep(&cloud)).await?;
        let reports = replace(&cloud, AUDIT, &arguments.out.join("audit"))?;
        println!("{} reports and records, in {}", reports, arguments.out.join("audit").display());
    }
    let written = replace(&cloud, AVATARS, &arguments.out.join("avatars"))?;
    println!("{written} avatars to open, in {}", arguments.out.join("avatars").display());
    if !complete {
        return Err("not every upload came out as it should; the tables above tell which".into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the objects of a bucket as files, in the place of those of an earlier run. Answers how many there are.
fn replace(cloud: &LocalCloud, bucket: &str, folder: &Path) -> std::io::Result<usize> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(cloud.s3.export(bucket, folder)?.len())
}

/// Uploads each sample and shows its avatar. Answers whether each has been decided.
async fn avatars(cloud: &LocalCloud, samples: &[Sample]) -> Result<bool, CloudError> {
    let mut rows = Vec::new();
    let progress = progress(samples.len());
    let started = Instant::now();
    for sample in samples {
        progress.set_message(sample.key.clone());
        rows.push((sample, upload(cloud, sample).await?));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();

    let mut table = view::table(
        &["upload", "kind", "avatar", "source", "avatar", "edge", "function ms", "PUT to avatar ms"],
        &[3, 4, 5, 6, 7],
    );
    let mut others = Vec::new();
    for (sample, uploaded) in &rows {
        let text = |pointer: &str| uploaded.at(pointer).as_str().unwrap_or_default().to_owned();
        if !["stored", "unchanged"].contains(&uploaded.status().as_str()) {
            others.push((*sample, uploaded));
            continue;
        }
        let pixels = |pointer: &str| uploaded.at(pointer).as_u64().unwrap_or_default();
        let edge = format!("{}×{}", pixels("/avatar/width"), pixels("/avatar/height"));
        let size = uploaded.at("/avatar/size_bytes").as_u64().unwrap_or_default();
        let frames = uploaded.at("/avatar/frames").as_u64().unwrap_or(1);
        let animated = if frames > 1 { format!(", {frames} frames") } else { String::new() };
        let kind = text("/avatar/kind");
        table.add_row([
            view::cut(&sample.key, 32),
            if kind.is_empty() { "-".to_owned() } else { kind },
            text("/avatar/key"),
            view::bytes(sample.bytes.len() as u64),
            format!("{}{animated}", view::bytes(size)),
            edge,
            format!("{:.0}", uploaded.at("/duration_ms").as_f64().unwrap_or_default()),
            format!("{:.0}", uploaded.elapsed.as_secs_f64() * 1e3),
        ]);
    }
    println!("{table}");
    let peak = rows.iter().filter_map(|(_, uploaded)| uploaded.report.result.peak_rss_bytes).max();
    println!(
        "{} uploads in {seconds:.1} s, {} as avatars; largest memory of {AVATAR_TRANSCODER}: {}\n",
        rows.len(),
        rows.len() - others.len(),
        peak.map_or("not known here".to_owned(), view::bytes)
    );
    if !others.is_empty() {
        show_refused(&others);
    }
    Ok(rows.iter().all(|(_, uploaded)| uploaded.outcome.is_some()))
}

/// Uploads what is no avatar, and shows why. Answers whether each was rejected.
async fn rejections(cloud: &LocalCloud) -> Result<bool, Failure> {
    let samples = pictures::impostors()?;
    let mut rows = Vec::new();
    for sample in &samples {
        rows.push((sample, upload(cloud, sample).await?));
    }
    let object = ObjectRef::new(UPLOADS, "u/in-parts.png");
    let parts = Sample {
        key: object.key.clone(),
        bytes: pictures::picture("astronaut.png")?,
        content_type: "image/png",
    };
    let upload = in_parts(cloud, &object, &parts);
    let uploaded = Box::pin(cloud.outcome_of(&object, upload)).await?;
    rows.push((&parts, uploaded));
    let rows: Vec<_> = rows.iter().map(|(sample, uploaded)| (*sample, uploaded)).collect();
    println!("And what is not taken:");
    show_refused(&rows);
    Ok(rows.iter().all(|(_, uploaded)| uploaded.status() == "rejected"))
}

/// Uploads honest and forged files under tickets, and shows the verdicts. Answers whether each is right.
async fn files(cloud: &LocalCloud) -> Result<bool, Failure> {
    let now = SystemClock.now();
    let mut attempts = forgeries::honest(&cloud.issuer, now)?;
    attempts.extend(forgeries::forged(&cloud.issuer, now)?);
    let mut table = view::table(&["upload under a ticket", "key", "source", "status", "reasons"], &[2]);
    let (mut accepted, mut right) = (0, 0);
    for attempt in &attempts {
        let uploaded =
            Box::pin(cloud.upload(FILES, &attempt.key, attempt.body.clone(), attempt.put_options())).await?;
        let mut reasons: Vec<_> =
            uploaded.at("/reasons").as_array().into_iter().flatten().filter_map(code).collect();
        reasons.dedup();
        let status = uploaded.status();
        accepted += usize::from(status == "accepted");
        right += usize::from(match attempt.expected {
            None => status == "accepted",
            Some(expected) => status == "rejected" && reasons.iter().any(|reason| reason == expected),
        });
        table.add_row([
            attempt.what.to_owned(),
            view::cut(&attempt.key.escape_debug().to_string(), 28),
            view::bytes(attempt.body.len() as u64),
            status,
            view::cut(&reasons.join(", "), 60),
        ]);
    }
    println!("Files under tickets:\n{table}");
    println!(
        "{accepted} accepted and readable, {} in quarantine with their reasons\n",
        cloud.s3.keys(QUARANTINE).len()
    );
    Ok(right == attempts.len())
}

/// A reason's code, whether it stands alone or beside its message.
fn code(reason: &Value) -> Option<String> {
    reason.as_str().or(reason.pointer("/code").and_then(Value::as_str)).map(str::to_owned)
}

/// Ages what was uploaded, and sweeps it: first as a plan, then for good. Answers whether both are complete.
async fn sweep(cloud: &LocalCloud) -> Result<bool, Failure> {
    let old = SystemClock.now() - SignedDuration::from_hours(9 * 24);
    for (bucket, keys) in [(FILES, cloud.s3.keys(FILES)), (UPLOADS, cloud.s3.keys(UPLOADS))] {
        for key in keys.iter().step_by(2) {
            cloud.s3.set_last_modified(bucket, key, old);
        }
    }
    println!("Nine days later, for every second object; a sweep as a plan, and for good:");
    let headings = ["rule", "mode", "status", "scanned", "expired", "deleted", "bytes", "report"];
    let mut table = view::table(&headings, &[3, 4, 5, 6]);
    let mut complete = true;
    for mode in ["plan", "apply"] {
        let policy = json!({
            "version": 1, "mode": mode, "limits": {"max_delete_ratio": 0.9},
            "rules": [
                {"id": "temp-catalog", "bucket": FILES, "prefix": "tempcato/", "expire_after": "24h"},
                {"id": "originals", "bucket": UPLOADS, "whole_bucket": true, "expire_after": "7d"},
            ],
        });
        cloud.s3.put(AUDIT, POLICY_KEY, policy.to_string(), s3::PutOptions::default());
        let event = json!({"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": {}});
        let result = cloud.function(EXPIRY_SWEEPER).invoke(event).await;
        let Some(answer) = result.ok() else {
            return Err(format!("the sweep failed: {}", result.error().unwrap_or_default()).into());
        };
        complete &= answer["complete"] == true;
        for outcome in answer["outcomes"].as_array().into_iter().flatten() {
            let text =
                |pointer: &str| outcome.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
            let count = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
            table.add_row([
                text("/sweep/rule"),
                mode.to_owned(),
                text("/status"),
                count("/sweep/scanned").to_string(),
                count("/sweep/expired").to_string(),
                count("/sweep/deleted").to_string(),
                view::bytes(count(if mode == "plan" {
                    "/sweep/expired_bytes"
                } else {
                    "/sweep/deleted_bytes"
                })),
                text("/sweep/report").rsplit('/').next().unwrap_or_default().to_owned(),
            ]);
            complete &= ["planned", "swept"].contains(&text("/status").as_str());
        }
    }
    println!("{table}\n");
    Ok(complete)
}

fn show_refused(rows: &[(&Sample, &Uploaded)]) {
    let mut table = view::table(&["upload", "source", "status", "reason", "in words"], &[1]);
    for (sample, uploaded) in rows {
        let message = uploaded.at("/reason/message").as_str().map(str::to_owned);
        table.add_row([
            view::cut(&sample.key, 32),
            view::bytes(sample.bytes.len() as u64),
            uploaded.status(),
            uploaded.reason().unwrap_or_default(),
            view::cut(&message.or_else(|| uploaded.report.result.error()).unwrap_or_default(), 80),
        ]);
    }
    println!("{table}\n");
}

async fn upload(cloud: &LocalCloud, sample: &Sample) -> Result<Uploaded, CloudError> {
    let content_type = Some(sample.content_type.to_owned());
    let options = PutOptions { content_type, ..PutOptions::default() };
    cloud.upload(UPLOADS, &sample.key, sample.bytes.clone(), options).await
}

async fn in_parts(
    cloud: &LocalCloud,
    object: &ObjectRef,
    sample: &Sample,
) -> Result<shared::object_ref::ETag, StoreError> {
    let client = cloud.client();
    let upload = client.create_upload(object, PutOptions::default()).await?;
    let part = client.upload_part(object, &upload, 1, sample.bytes.clone()).await?;
    Ok(client.complete_upload(object, &upload, &[(1, part)], Precondition::None).await?.e_tag)
}

/// A bar where it takes long and somebody looks.
fn progress(total: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style)
}
