//! `local-cloud sweep`: a sweep from a terminal, at any store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use expiry_sweeper::cdn::{CloudFront, CloudFrontConfig};
use expiry_sweeper::config::Config;
use expiry_sweeper::handler::{Deps, handle};
use expiry_sweeper::policy::Rule;
use expiry_sweeper::sweep::{Progress, Tally};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::env::Environment;
use shared::runtime::Invocation;
use shared::store::{S3Config, S3Store};

use super::{CommandResult, view};

/// What this process's environment says about the store, which is where AWS's own tools look.
const STORE_VARIABLES: [&str; 12] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_CLOUDFRONT",
    "STORE_DIALECT",
    "STORE_PATH_STYLE",
    "AUDIT_BUCKET",
];

/// What is swept.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file with the retention policy.
    policy: PathBuf,
    /// Deletes; without it, only a report of what would be deleted is written.
    #[arg(long)]
    apply: bool,
    /// Only this rule.
    #[arg(long)]
    rule: Option<String>,
    /// The sweep or the rule that the anomaly brake stopped, and that is right nevertheless.
    #[arg(long)]
    confirm: Option<String>,
    /// Where reports go; AUDIT_BUCKET if nothing is said.
    #[arg(long)]
    audit_bucket: Option<String>,
    /// The store, where it is not Amazon's own; AWS_ENDPOINT_URL_S3 if nothing is said.
    #[arg(long)]
    endpoint: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let policy = std::fs::read_to_string(&arguments.policy)
        .map_err(|error| format!("{} cannot be read: {error}", arguments.policy.display()))?;
    let mode = if arguments.apply { "apply" } else { "plan" };
    let mut environment = store_environment(
        arguments.endpoint,
        [
            ("SWEEP_POLICY", Some(policy)),
            ("SWEEP_MODE", Some(mode.to_owned())),
            ("SWEEP_CONFIRM", arguments.confirm),
            ("AUDIT_BUCKET", arguments.audit_bucket),
        ],
    );
    let config = Config::read(&mut environment);
    let store = S3Store::new(S3Config::read(&mut environment));
    let cdn = CloudFront::connect(&CloudFrontConfig::read(&mut environment)).await;
    let bar = Bar::new();
    let deps = environment.finish(Deps::new(store, SystemClock, cdn, config))?.watched_by(bar.clone());

    let event = match arguments.rule {
        None => json!({"sweep": {}}),
        Some(rule) => json!({"sweep": {"rule": rule}}),
    };
    loop {
        // A terminal has no deadline; a day is one that no lease outlives.
        let deadline = SystemClock.now() + SignedDuration::from_hours(24);
        let invocation = Invocation { request_id: format!("{:08x}-terminal", fastrand::u32(..)), deadline };
        let answer = Box::pin(handle(&deps, &event, &invocation)).await;
        bar.0.finish_and_clear();
        let answer = answer?;
        if answer["complete"] == true {
            return Ok(show(&answer));
        }
        if answer["outcomes"].as_array().into_iter().flatten().any(|outcome| outcome["status"] == "failed") {
            show(&answer);
            return Ok(ExitCode::FAILURE);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The environment of a function at the store that this process's environment leads to, with `more` in it.
fn store_environment<const N: usize>(
    endpoint: Option<String>,
    more: [(&str, Option<String>); N],
) -> Environment {
    let process = Environment::of_process();
    let mut variables: BTreeMap<String, String> = STORE_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), process.get(name)?.to_owned())))
        .collect();
    let given = more.into_iter().chain([("AWS_ENDPOINT_URL_S3", endpoint)]);
    variables.extend(given.filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if variables.contains_key("AWS_ENDPOINT_URL_S3") {
        // A server of one's own rarely has a name for each bucket.
        variables.entry("STORE_PATH_STYLE".to_owned()).or_insert_with(|| "true".to_owned());
    }
    variables.into_iter().collect()
}

/// The summary that a person reads.
fn show(answer: &Value) -> ExitCode {
    let headings = ["rule", "status", "scanned", "expired", "deleted", "kept", "errors", "bytes", "in words"];
    let mut table = view::table(&headings, &[2, 3, 4, 5, 6, 7]);
    let mut reports = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for outcome in answer["outcomes"].as_array().into_iter().flatten() {
        let text = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        let count =
            |name: &str| outcome.pointer(&format!("/sweep/{name}")).and_then(Value::as_u64).unwrap_or(0);
        let is_plan = text("/status") == "planned";
        table.add_row([
            text("/sweep/rule"),
            text("/status"),
            HumanCount(count("scanned")).to_string(),
            HumanCount(count("expired")).to_string(),
            HumanCount(count("deleted")).to_string(),
            HumanCount(count("changed") + count("held")).to_string(),
            HumanCount(count("errors")).to_string(),
            view::bytes(count(if is_plan { "expired_bytes" } else { "deleted_bytes" })),
            view::cut(&text("/reason/message"), 70),
        ]);
        reports.push(text("/sweep/report"));
        if text("/status") == "failed" {
            code = ExitCode::FAILURE;
        }
    }
    println!("{table}");
    for report in reports.iter().filter(|report| !report.is_empty()) {
        println!("{report}");
    }
    code
}

/// Shows whoever watches how a rule gets on: how much was listed, and a bar once something is deleted of what is due.
#[derive(Clone)]
struct Bar(ProgressBar);

impl Bar {
    const LISTING: &str = "{spinner} {prefix}: {msg} [{elapsed}]";
    const DELETING: &str = "{spinner} {prefix}: {bar:30} {msg} [{elapsed}]";

    fn new() -> Self {
        Self(ProgressBar::no_length().with_style(Self::style(Self::LISTING)))
    }

    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_spinner())
    }

    fn tell(&self, tally: &Tally) {
        let Tally { scanned, expired, deleted, deleted_bytes, .. } = *tally;
        let [scanned, due, gone] = [scanned, expired, deleted].map(HumanCount);
        self.0.set_message(if self.0.length().is_none() {
            format!("{scanned} scanned, {due} due")
        } else {
            self.0.set_length(expired);
            format!("{gone} of {due} deleted, {}", view::bytes(deleted_bytes))
        });
        self.0.tick();
    }
}

impl Progress for Bar {
    fn begun(&self, rule: &Rule) {
        self.0.set_message("");
        self.0.set_style(Self::style(Self::LISTING));
        self.0.unset_length();
        self.0.set_prefix(rule.id.clone());
        self.0.reset();
    }

    fn scanned(&self, _: &Rule, tally: &Tally) {
        self.tell(tally);
    }

    fn deleted(&self, _: &Rule, tally: &Tally) {
        if self.0.length().is_none() {
            self.0.set_style(Self::style(Self::DELETING));
            self.0.set_length(tally.expired);
        }
        self.0.set_position(tally.deleted + tally.changed + tally.held + tally.errors);
        self.tell(tally);
    }
}

#[cfg(test)]
mod tests {
    use expiry_sweeper::policy::Policy;

    use super::*;

    #[test]
    fn a_rule_has_a_bar_once_something_of_it_is_deleted() {
        let rules = r#"{"version": 1, "rules": [{"id": "temp", "bucket": "files", "prefix": "a/", "expire_after": "1d"}]}"#;
        let policy = Policy::parse(rules, "audit").unwrap();
        let rule = &policy.rules[0];
        let bar = Bar::new();
        let shown = || (bar.0.message(), bar.0.position(), bar.0.length());
        let mut tally = Tally { scanned: 2000, expired: 1500, ..Tally::default() };
        bar.begun(rule);
        bar.scanned(rule, &tally);
        assert_eq!(bar.0.prefix(), "temp");
        assert_eq!(shown(), ("2,000 scanned, 1,500 due".to_owned(), 0, None));
        (tally.deleted, tally.deleted_bytes, tally.changed) = (740, 81_000, 10);
        bar.deleted(rule, &tally);
        assert_eq!(shown(), ("740 of 1,500 deleted, 81.0 kB".to_owned(), 750, Some(1500)));
        // More is found while it deletes.
        bar.scanned(rule, &Tally { expired: 1600, ..tally });
        assert_eq!(shown(), ("740 of 1,600 deleted, 81.0 kB".to_owned(), 750, Some(1600)));
        bar.begun(rule);
        assert_eq!(shown(), (String::new(), 0, None));
    }
}
