//! `local-cloud contract`: would the functions be at home at this S3 server?

use std::process::ExitCode;

use aws_credential_types::Credentials;
use harness::contract::{Endpoint, Subject, run_all, subject_at};
use shared::clock::{Clock, SystemClock};
use shared::store::{S3Config, S3Store};

use super::{CommandResult, view};

/// Which server.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where it is: http://127.0.0.1:9000
    #[arg(long)]
    endpoint: String,
    /// The access key's id.
    #[arg(long)]
    access_key_id: String,
    /// The access key's secret.
    #[arg(long)]
    secret_access_key: String,
    /// Which dialect it speaks. At OSS no buckets are made: name two that are there.
    #[arg(long, default_value = "s3")]
    dialect: Dialect,
    /// At OSS: a bucket without versioning, to write into.
    #[arg(long, required_if_eq("dialect", "oss"))]
    plain: Option<String>,
    /// At OSS: a bucket with versioning, to write into.
    #[arg(long, required_if_eq("dialect", "oss"))]
    versioned: Option<String>,
    /// At OSS: the buckets' region.
    #[arg(long, required_if_eq("dialect", "oss"))]
    region: Option<String>,
}

/// Which dialect a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Dialect {
    S3,
    Oss,
}

/// The ground at OSS.
fn at_oss(arguments: Arguments, run: &str) -> Subject<S3Store> {
    let config = S3Config {
        dialect: shared::store::Dialect::Oss,
        endpoint: Some(arguments.endpoint),
        region: arguments.region,
        ..S3Config::default()
    };
    let key = Credentials::new(arguments.access_key_id, arguments.secret_access_key, None, None, "contract");
    Subject {
        store: S3Store::with_credentials(config, key),
        plain: arguments.plain.unwrap_or_default(),
        versioned: arguments.versioned.unwrap_or_default(),
        run: format!("{run}/"),
    }
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let run = format!("contract-{}", SystemClock.now().as_second());
    let subject = if arguments.dialect == Dialect::Oss {
        at_oss(arguments, &run)
    } else {
        let endpoint = Endpoint {
            url: arguments.endpoint,
            access_key_id: arguments.access_key_id,
            secret_access_key: arguments.secret_access_key,
        };
        subject_at(&endpoint, &run).await?
    };
    let verdicts = run_all(&subject).await;
    let mut table = view::table(&["property", "holds"], &[]);
    let mut violated = 0;
    for (property, verdict) in &verdicts {
        let words = property.replace('_', " ");
        match verdict {
            Ok(()) => table.add_row([words, "yes".to_owned()]),
            Err(violation) => {
                violated += 1;
                table.add_row([words, format!("no: {}", view::cut(&violation.to_string(), 120))])
            }
        };
    }
    println!("{table}");
    println!("{} of {} properties hold.", verdicts.len() - violated, verdicts.len());
    Ok(if violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
