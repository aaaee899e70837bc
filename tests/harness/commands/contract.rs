//! `local-cloud contract`: would the functions be at home at this S3 server?

use std::process::ExitCode;

use harness::contract::{Endpoint, run_all, subject_at};
use shared::clock::{Clock, SystemClock};

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
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let endpoint = Endpoint {
        url: arguments.endpoint,
        access_key_id: arguments.access_key_id,
        secret_access_key: arguments.secret_access_key,
    };
    let run = format!("contract-{}", SystemClock.now().as_second());
    let subject = subject_at(&endpoint, &run).await?;
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
