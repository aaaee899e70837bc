//! `local-cloud restore`: puts back what a sweep quarantined before it deleted it.

use std::process::ExitCode;

use expiry_sweeper::report::Row;
use expiry_sweeper::restore::{Restored, restore};
use shared::object_ref::ObjectRef;
use shared::store::{S3Config, S3Store};

use super::CommandResult;
use super::sweep::store_environment;

/// Which sweep, at which store.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A report, or the folder of a sweep with all of them: s3://audit/sweeps/2026-11-21/ID/
    report: String,
    /// Puts back; without it, only tells what would be.
    #[arg(long)]
    apply: bool,
    /// The store, where it is not Amazon's own; AWS_ENDPOINT_URL_S3 if nothing is said.
    #[arg(long)]
    endpoint: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let report = ObjectRef::parse_uri(&arguments.report).ok_or(
        "a report is named as s3://bucket/sweeps/date/id/rule.csv, or its folder with a slash at the end",
    )?;
    let mut environment = store_environment(arguments.endpoint, []);
    let config = S3Config::read(&mut environment);
    let store = S3Store::new(environment.finish(config)?);
    let tell = |row: &Row, restored: &Restored| {
        let what = restored.as_str();
        // Keys may hold line feeds, and what a terminal would obey.
        let object = format!("s3://{}/{}", row.bucket, row.key.escape_debug());
        match restored {
            Restored::Failed(error) => println!("{what:<10} {object}: {error}"),
            _ => println!("{what:<10} {object}"),
        }
    };
    let totals = restore(&store, &report, arguments.apply, tell).await?;
    println!(
        "{} restored, {} would be, {} stood there already, {} were replaced since and kept, {} left no copy, \
         {} failed.",
        totals.restored, totals.planned, totals.unchanged, totals.newer, totals.no_copy, totals.failed
    );
    if !arguments.apply && totals.planned > 0 {
        println!("Nothing was changed; add APPLY=1 (--apply) to put them back.");
    }
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
