//! `local-cloud sweep`: a sweep from a terminal, at any store.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use expiry_sweeper::cdn::{Cdn, CloudFront, CloudFrontConfig};
use expiry_sweeper::config::Config;
use expiry_sweeper::handler::{Deps, outcomes};
use expiry_sweeper::lease::{State, state_object};
use expiry_sweeper::policy::Rule;
use expiry_sweeper::sweep::{Progress, Tally};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::env::Environment;
use shared::outcome::{Outcome, Status};
use shared::runtime::{Invocation, InvocationError};
use shared::store::{GetOptions, ObjectStore, S3Config, S3Store};

use super::{CommandResult, view};

/// What this process's environment says about the store, which is where AWS's own tools look.
const STORE_VARIABLES: [&str; 15] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_CLOUDFRONT",
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
    "STORE_DIALECT",
    "STORE_PATH_STYLE",
    "AUDIT_BUCKET",
];

/// The exit code of what Ctrl-C ends, as shells have it.
const INTERRUPTED: u8 = 130;

/// How long somebody waits who pressed Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lease's document is never longer.
const LONGEST_STATE: u64 = 8 << 20;

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
    let (bar, audit_bucket) = (Bar::new(), config.audit_bucket.clone());
    let deps = Deps::new(store.clone(), SystemClock, cdn, config);
    let deps = environment.finish(deps)?.watched_by(bar.clone());

    let event = match arguments.rule {
        None => json!({"sweep": {}}),
        Some(rule) => json!({"sweep": {"rule": rule}}),
    };
    let mut ends = Ends::default();
    let ended = tokio::select! {
        ended = Box::pin(sweep(&deps, &event, &bar, &mut ends)) => Some(ended),
        () = interrupt() => None,
    };
    bar.0.finish_and_clear();
    ends.show();
    let Some(ended) = ended else {
        let rule = bar.0.prefix();
        // The store may be what is waited for.
        let lease = tokio::time::timeout(PATIENCE, leased_until(&store, &audit_bucket, &rule)).await;
        eprintln!("{}", farewell(&rule, lease.ok().flatten()));
        return Ok(ExitCode::from(INTERRUPTED));
    };
    ended?;
    ends.failures().map_or(Ok(ExitCode::SUCCESS), |failures| Err(failures.into()))
}

/// Sweeps until no rule has to be gone on with, or until one fails.
async fn sweep<S: ObjectStore, C: Clock, D: Cdn>(
    deps: &Deps<S, C, D>,
    event: &Value,
    bar: &Bar,
    ends: &mut Ends,
) -> Result<(), InvocationError> {
    let mut told = BTreeSet::new();
    loop {
        // A terminal has no deadline; a day is one that no lease outlives.
        let deadline = SystemClock.now() + SignedDuration::from_hours(24);
        let invocation = Invocation { request_id: format!("{:08x}-terminal", fastrand::u32(..)), deadline };
        let (outcomes, complete) = Box::pin(outcomes(deps, event, &invocation)).await?;
        let mut taken = outcomes.iter().filter(|outcome| is(outcome, "already-running")).peekable();
        if let Some(outcome) = taken.peek() {
            bar.waits(rule(outcome), message(outcome));
        }
        for outcome in taken.filter(|outcome| told.insert(rule(outcome).to_owned())) {
            bar.0.suspend(|| eprintln!("{}", wait(outcome)));
        }
        outcomes.into_iter().for_each(|outcome| ends.add(outcome));
        if complete || ends.failures().is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// For whom a rule waits, and for how long.
fn wait(outcome: &Outcome) -> String {
    let (rule, message) = (rule(outcome), message(outcome));
    format!("The rule {rule} waits: {message} A sweep that was stopped or killed also has it until then.")
}

/// Ends when somebody presses Ctrl-C.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}

/// Until when the lease on `rule` lasts by itself, if one is held. A plan takes none.
async fn leased_until(store: &impl ObjectStore, audit_bucket: &str, rule: &str) -> Option<Timestamp> {
    let found = store.get(&state_object(audit_bucket, rule), GetOptions::default()).await.ok()?;
    let text = found.bytes(LONGEST_STATE).await.ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    state.lease.map(|lease| lease.until).filter(|until| *until > SystemClock.now())
}

/// What a person has to know who stops a sweep.
fn farewell(rule: &str, leased_until: Option<Timestamp>) -> String {
    let next = "Stopped. The next sweep finds out what this one did.";
    match leased_until {
        None => next.to_owned(),
        Some(until) => {
            format!("{next} It waits for the rule {rule}, which stays taken until {until} at the latest.")
        }
    }
}

/// How every rule ended, over all invocations so far.
#[derive(Default)]
struct Ends {
    rules: Vec<Outcome>,
    /// Their reports, as URIs.
    reports: Vec<String>,
}

impl Ends {
    fn add(&mut self, outcome: Outcome) {
        let report = text(&outcome, "report");
        if !report.is_empty() && !self.reports.iter().any(|known| known == report) {
            self.reports.push(report.to_owned());
        }
        match self.rules.iter_mut().find(|known| rule(known) == rule(&outcome)) {
            // What an earlier invocation showed says more.
            Some(_) if is(&outcome, "already-swept") || is(&outcome, "already-failed") => {}
            Some(known) => *known = outcome,
            None => self.rules.push(outcome),
        }
    }

    /// Which rules failed, and why, whole; `None` if none did.
    fn failures(&self) -> Option<String> {
        let failed: Vec<_> =
            self.rules.iter().filter(|outcome| outcome.status == Status::Failed).map(failure).collect();
        let count = failed.len();
        (count > 0).then(|| format!("{count} of {} rules failed\n{}", self.rules.len(), failed.join("\n")))
    }

    /// The summary that a person reads.
    fn show(&self) {
        if self.rules.is_empty() {
            return;
        }
        let headings =
            ["rule", "status", "scanned", "expired", "deleted", "kept", "errors", "bytes", "in words"];
        let mut table = view::table(&headings, &[2, 3, 4, 5, 6, 7]);
        for outcome in &self.rules {
            let count = |name: &str| figures(outcome, name).and_then(Value::as_u64).unwrap_or(0);
            let is_plan = outcome.status == Status::Planned;
            table.add_row([
                rule(outcome).to_owned(),
                outcome.status.as_str().to_owned(),
                HumanCount(count("scanned")).to_string(),
                HumanCount(count("expired")).to_string(),
                HumanCount(count("deleted")).to_string(),
                HumanCount(count("changed") + count("held")).to_string(),
                HumanCount(count("errors")).to_string(),
                view::bytes(count(if is_plan { "expired_bytes" } else { "deleted_bytes" })),
                view::cut(message(outcome), 70),
            ]);
        }
        println!("{table}");
        for report in &self.reports {
            println!("{report}");
        }
    }
}

/// A rule that failed, in a line.
fn failure(outcome: &Outcome) -> String {
    let code = outcome.reason.as_ref().map_or("", |reason| reason.code);
    let again = if outcome.is_retryable() { " (another sweep may succeed)" } else { "" };
    let rule = Some(rule(outcome)).filter(|rule| !rule.is_empty()).map(|rule| format!("{rule}: "));
    format!("  {}{code}: {}{again}", rule.unwrap_or_default(), message(outcome))
}

fn is(outcome: &Outcome, code: &str) -> bool {
    outcome.reason.as_ref().is_some_and(|reason| reason.code == code)
}

fn message(outcome: &Outcome) -> &str {
    outcome.reason.as_ref().map_or("", |reason| &reason.message)
}

fn rule(outcome: &Outcome) -> &str {
    text(outcome, "rule")
}

fn text<'o>(outcome: &'o Outcome, name: &str) -> &'o str {
    figures(outcome, name).and_then(Value::as_str).unwrap_or("")
}

fn figures<'o>(outcome: &'o Outcome, name: &str) -> Option<&'o Value> {
    outcome.detail.get("sweep")?.get(name)
}

/// The environment of a function at the store that this process's environment leads to, with `more` in it.
pub(super) fn store_environment<const N: usize>(
    endpoint: Option<String>,
    more: [(&str, Option<String>); N],
) -> Environment {
    let process = Environment::of_process();
    let variables =
        STORE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), process.get(name)?.to_owned())));
    let given = more.into_iter().chain([("AWS_ENDPOINT_URL_S3", endpoint)]);
    let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    completed(variables.chain(given).collect()).into_iter().collect()
}

/// A server of one's own rarely has a name for each bucket. OSS has, and takes buckets in no other place.
fn completed(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_oss = variables.get("STORE_DIALECT").is_some_and(|dialect| dialect == "oss");
    if variables.contains_key("AWS_ENDPOINT_URL_S3") && !is_oss {
        variables.entry("STORE_PATH_STYLE".to_owned()).or_insert_with(|| "true".to_owned());
    }
    variables
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

    /// Shows `rule` from its beginning.
    fn begin(&self, rule: &str) {
        self.0.set_message("");
        self.0.set_style(Self::style(Self::LISTING));
        self.0.unset_length();
        self.0.set_prefix(rule.to_owned());
        self.0.reset();
    }

    /// Shows why `rule` waits, until it is begun.
    fn waits(&self, rule: &str, message: &str) {
        if self.0.prefix() != rule || self.0.length().is_some() || self.0.is_finished() {
            self.begin(rule);
        }
        self.0.set_message(message.to_owned());
        self.0.tick();
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
        self.begin(&rule.id);
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
    use std::time::Instant;

    use bytes::Bytes;
    use expiry_sweeper::cdn::RecordingCdn;
    use expiry_sweeper::lease::{self, Acquisition, Claim};
    use expiry_sweeper::policy::Policy;
    use shared::object_ref::ObjectRef;
    use shared::outcome::{Reason, RetryClass};
    use shared::store::{Fault, FaultStore, MemoryStore, Operation, PutOptions};

    use super::*;

    /// Two days ago, when everything in the store was written.
    #[derive(Debug)]
    struct Before;

    impl Clock for Before {
        fn now(&self) -> Timestamp {
            SystemClock.now() - SignedDuration::from_hours(48)
        }
    }

    /// A store with an old object, and what sweeps it by a rule on versions and one on objects.
    async fn stand(store: FaultStore<MemoryStore>, rules: Value) -> impl AsyncFnMut(&Bar, &mut Ends) {
        let old = ObjectRef::new("files", "a/old");
        store.inner().put(&old, Bytes::from("x"), PutOptions::default()).await.unwrap();
        let policy = json!({"version": 1, "mode": "apply", "rules": rules}).to_string();
        let mut environment: Environment =
            [("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", &*policy)].into_iter().collect();
        let config = Config::read(&mut environment);
        let deps = Deps::new(store, SystemClock, RecordingCdn::new(["unused"]), config);
        let deps = environment.finish(deps).unwrap();
        async move |bar: &Bar, ends: &mut Ends| sweep(&deps, &json!({"sweep": {}}), bar, ends).await.unwrap()
    }

    fn memory() -> MemoryStore {
        MemoryStore::with_clock(Before).with_bucket("files").with_bucket("audit")
    }

    fn ended(ends: &Ends) -> Vec<(&str, &str, u64)> {
        let deleted = |outcome| figures(outcome, "deleted").and_then(Value::as_u64).unwrap_or(0);
        ends.rules.iter().map(|end| (rule(end), end.status.as_str(), deleted(end))).collect()
    }

    #[tokio::test]
    async fn where_a_rule_fails_for_now_the_others_are_shown_and_it_is_named() {
        let store = FaultStore::new(memory()).on(Operation::ListVersions, Fault::Unavailable);
        let rules = json!([
            {"id": "versions", "bucket": "files", "prefix": "a/", "noncurrent_after": "1d"},
            {"id": "temp", "bucket": "files", "prefix": "a/", "expire_after": "1d"}]);
        let mut ends = Ends::default();
        stand(store, rules).await(&Bar::new(), &mut ends).await;
        assert_eq!(ended(&ends), [("versions", "failed", 0), ("temp", "swept", 1)]);
        assert!(matches!(&ends.reports[..], [report] if report.ends_with("/temp.csv")), "{:?}", ends.reports);
        let failures = ends.failures().unwrap();
        for part in ["1 of 2 rules failed", "  versions: store-unavailable: ", "another sweep may succeed"] {
            assert!(failures.contains(part), "{part} is not in {failures}");
        }
    }

    #[tokio::test]
    async fn a_rule_that_is_taken_is_waited_for_and_what_was_swept_before_is_shown() {
        let memory = memory();
        let now = SystemClock.now();
        let claim = Claim { holder: "somebody".into(), now, until: now + SignedDuration::from_millis(1500) };
        let leased = lease::acquire(&memory, "audit", "taken", &claim).await.unwrap();
        assert!(matches!(leased, Acquisition::Acquired(_)));
        assert_eq!(leased_until(&memory, "audit", "taken").await, Some(claim.until));
        assert_eq!(leased_until(&memory, "audit", "temp").await, None);
        let rules = json!([
            {"id": "temp", "bucket": "files", "prefix": "a/", "expire_after": "1d"},
            {"id": "taken", "bucket": "files", "prefix": "b/", "expire_after": "1d"}]);
        let (bar, mut ends, began) = (Bar::new(), Ends::default(), Instant::now());
        stand(FaultStore::new(memory), rules).await(&bar, &mut ends).await;
        assert!(began.elapsed() > Duration::from_secs(1));
        assert_eq!(ended(&ends), [("temp", "swept", 1), ("taken", "swept", 0)]);
        assert!(ends.reports.iter().any(|report| report.ends_with("/temp.csv")), "{:?}", ends.reports);
        assert_eq!(ends.failures(), None);
    }

    #[test]
    fn who_is_waited_for_and_until_when_is_told() {
        let reason = Reason::new("already-running", "me is sweeping the rule, until noon at the latest.");
        let outcome = Outcome::skipped(reason).with("sweep", json!({"rule": "temp"}));
        let told = wait(&outcome);
        assert!(told.starts_with("The rule temp waits: me is sweeping the rule, until noon"), "{told}");
        let bar = Bar::new();
        bar.waits(rule(&outcome), message(&outcome));
        assert_eq!((bar.0.prefix(), bar.0.message()), ("temp".to_owned(), message(&outcome).to_owned()));
        assert!(!bar.0.is_finished());
        assert!(!farewell("temp", None).contains("temp"));
        let told = farewell("temp", Some(Timestamp::UNIX_EPOCH));
        assert!(told.contains("the rule temp, which stays taken until 1970-01-01T00:00:00Z"), "{told}");
    }

    #[test]
    fn an_invocation_that_finds_a_rule_behind_it_hides_nothing_of_what_became_of_it() {
        let of = |outcome: Outcome, report: Value| {
            outcome.with("sweep", json!({"rule": "temp", "deleted": 7, "report": report}))
        };
        let skipped = Outcome::skipped(Reason::new("already-swept", "before"));
        let mut ends = Ends::default();
        ends.add(of(Outcome::of(Status::Swept), json!("s3://audit/temp.csv")));
        ends.add(of(Outcome::of(Status::Swept), json!("s3://audit/temp.2.csv")));
        ends.add(skipped.with("sweep", json!({"rule": "temp"})));
        assert_eq!(ended(&ends), [("temp", "swept", 7)]);
        assert_eq!(ends.reports, ["s3://audit/temp.csv", "s3://audit/temp.2.csv"]);
        ends.add(of(Outcome::failed(Reason::new("locked", "why"), RetryClass::Permanent), Value::Null));
        assert_eq!(ends.failures().unwrap(), "1 of 1 rules failed\n  temp: locked: why");
    }

    #[test]
    fn a_store_of_ones_own_has_its_buckets_in_the_path_unless_it_is_oss_or_something_is_said() {
        let endpoint = ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000");
        let path_style = |variables: &[(&str, &str)]| {
            let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            completed(given.collect()).remove("STORE_PATH_STYLE")
        };
        assert_eq!(path_style(&[endpoint]).as_deref(), Some("true"));
        assert_eq!(path_style(&[endpoint, ("STORE_PATH_STYLE", "false")]).as_deref(), Some("false"));
        assert_eq!(path_style(&[endpoint, ("STORE_DIALECT", "oss")]), None);
        assert_eq!(path_style(&[]), None);
    }

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
