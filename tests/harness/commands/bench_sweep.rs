//! `local-cloud bench-sweep`: what a sweep costs, beside rclone and s5cmd on the same server in the same run.

mod buckets;
mod proxy;
mod seaweedfs;
mod tools;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use harness::contract::Endpoint;

use super::{CommandResult, view};
use buckets::Buckets;
use proxy::{Counts, Proxy};
use seaweedfs::SeaweedFs;
use tools::{Measured, Tool};

/// What is measured, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// SeaweedFS's `weed`; it is started for each round, in a temporary folder.
    #[arg(long, required_unless_present = "endpoint")]
    weed: Option<PathBuf>,
    /// An S3 server of yours in its place. Buckets named sweep-OBJECTS-TOOL are made there, filled unless
    /// they are full already, and emptied.
    #[arg(long, conflicts_with = "weed", requires = "access_key_id", requires = "secret_access_key")]
    endpoint: Option<String>,
    /// The server's access key's id.
    #[arg(long)]
    access_key_id: Option<String>,
    /// The server's access key's secret.
    #[arg(long)]
    secret_access_key: Option<String>,
    /// The peer rclone.
    #[arg(long)]
    rclone: PathBuf,
    /// The peer s5cmd.
    #[arg(long)]
    s5cmd: PathBuf,
    /// Where the sweeper's binary is, as it is deployed.
    #[arg(long)]
    binaries: PathBuf,
    /// How many objects are deleted, one run after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    objects: Vec<usize>,
    /// Who sweeps.
    #[arg(long, value_delimiter = ',', default_value = "expiry-sweeper,rclone,rclone-server-time,s5cmd", num_args = 1..)]
    tools: Vec<Tool>,
    /// How often each tool sweeps each number of objects; the middle one counts, of two the slower. By default once, and
    /// up to five times until that has taken a minute.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: Option<u8>,
}

/// How often a tool sweeps a number of objects at most, unless it is told.
const MOST_ROUNDS: usize = 5;

/// How long a tool has to have swept a number of objects in all, so that it does not once more, unless it is told.
const ENOUGH: Duration = Duration::from_secs(60);

/// How old every object is at least: an S3 server dates an object at its upload, in whole seconds.
const WAIT: Duration = Duration::from_millis(2_500);

/// What one sweep of a tool took.
type Run = (Tool, Measured, Counts);

/// One tool at one size: the run that took the middle of the times.
struct Row {
    objects: usize,
    tool: Tool,
    measured: Measured,
    counts: Counts,
    /// What the fastest and the slowest run took.
    between: (Duration, Duration),
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let mut rows = Vec::new();
    let mut turn = 0;
    for &objects in &arguments.objects {
        let rounds = arguments.rounds.map_or(MOST_ROUNDS, usize::from);
        let mut runs = Vec::new();
        for round in 1..=rounds {
            // Nobody is always the first, or the last.
            let mut order = arguments.tools.clone();
            order.rotate_left(turn % arguments.tools.len());
            turn += 1;
            order.retain(|tool| arguments.rounds.is_some() || swept_for(*tool, &runs) < ENOUGH);
            if order.is_empty() {
                break;
            }
            runs.extend(sweep_once(&arguments, objects, order, round).await?);
        }
        rows.extend(arguments.tools.iter().filter_map(|tool| middle(objects, *tool, &runs)));
        // The next size takes ten times as long; nobody has to wait for it to see this one.
        rows.sort_by_key(|row: &Row| (row.objects, row.tool));
        let own: Vec<&Row> = rows.iter().filter(|row| row.objects == objects).collect();
        println!("{}", table(&own));
    }
    for tool in arguments.tools {
        let own: Vec<&Row> = rows.iter().filter(|row| row.tool == tool).collect();
        for pair in own.windows(2) {
            let [small, large] = pair else { continue };
            println!("{}", growth(small, large));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One round: every tool of `order` sweeps `objects` objects, on one server. That is a new one, as far as we start it, so that
/// no round depends on what earlier ones have left behind.
async fn sweep_once(
    arguments: &Arguments,
    objects: usize,
    order: Vec<Tool>,
    round: usize,
) -> Result<Vec<Run>, Box<dyn Error + Send + Sync>> {
    // It ends when it is dropped.
    let server = match &arguments.weed {
        Some(weed) => Some(SeaweedFs::start(weed).await?),
        None => None,
    };
    let endpoint = server.as_ref().map_or_else(
        || Endpoint {
            url: arguments.endpoint.clone().unwrap_or_default(),
            access_key_id: arguments.access_key_id.clone().unwrap_or_default(),
            secret_access_key: arguments.secret_access_key.clone().unwrap_or_default(),
        },
        SeaweedFs::endpoint,
    );
    let proxy = Proxy::start(&endpoint.url).await?;
    let buckets = Buckets::at(&endpoint);
    buckets.make_used(tools::AUDIT).await?;
    let through = Endpoint { url: proxy.url(), ..endpoint };
    let mut runs = Vec::new();
    for tool in order {
        let bucket = format!("sweep-{objects}-{}", tool.id());
        eprintln!("{objects} objects are put for {}, round {round}.", tool.name());
        buckets.fill(&bucket, objects).await?;
        tokio::time::sleep(WAIT).await;
        proxy.take();
        let measured = tool.run(arguments, &through, &bucket, objects).await?;
        let counts = proxy.take();
        let left = buckets.count(&bucket).await?;
        if left != 0 {
            return Err(format!("{} left {left} of {objects} objects", tool.name()).into());
        }
        eprintln!("{} took {:.2} s.", tool.name(), measured.elapsed.as_secs_f64());
        runs.push((tool, measured, counts));
    }
    Ok(runs)
}

/// How long a tool has swept in all its runs.
fn swept_for(tool: Tool, runs: &[Run]) -> Duration {
    runs.iter().filter(|run| run.0 == tool).map(|run| run.1.elapsed).sum()
}

/// The run of a tool that took the middle of the times, with the most memory of all.
fn middle(objects: usize, tool: Tool, runs: &[Run]) -> Option<Row> {
    let mut own: Vec<_> = runs.iter().filter(|run| run.0 == tool).collect();
    own.sort_by_key(|run| run.1.elapsed);
    let (_, measured, counts) = *own.get(own.len() / 2)?;
    let between = (own.first()?.1.elapsed, own.last()?.1.elapsed);
    let peak_rss_bytes = own.iter().filter_map(|run| run.1.peak_rss_bytes).max();
    Some(Row { objects, tool, measured: Measured { peak_rss_bytes, ..*measured }, counts: *counts, between })
}

fn table(rows: &[&Row]) -> comfy_table::Table {
    let headings = [
        "objects",
        "tool",
        "seconds",
        "from – to",
        "objects/s",
        "requests",
        "per 1,000",
        "list",
        "delete",
        "head",
        "other",
        "peak",
        "of s5cmd's time",
    ];
    let mut table = view::table(&headings, &[0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for row in rows {
        let seconds = row.seconds();
        let peer = rows.iter().find(|peer| peer.tool == Tool::S5cmd);
        let counts = row.counts;
        table.add_row([
            row.objects.to_string(),
            row.tool.name().to_owned(),
            format!("{seconds:.2}"),
            format!("{:.2} – {:.2}", row.between.0.as_secs_f64(), row.between.1.as_secs_f64()),
            format!("{:.0}", float(row.objects) / seconds),
            counts.total().to_string(),
            format!("{:.1}", float(counts.total()) * 1e3 / float(row.objects)),
            counts.list.to_string(),
            counts.delete.to_string(),
            counts.head.to_string(),
            counts.other.to_string(),
            row.measured.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), view::bytes),
            peer.map_or_else(String::new, |peer| format!("{:.2}", seconds / peer.seconds())),
        ]);
    }
    table
}

/// What more objects cost one tool. A tool is linear where the time grows as the objects do.
fn growth(small: &Row, large: &Row) -> String {
    let objects = float(large.objects) / float(small.objects);
    let seconds = large.seconds() / small.seconds();
    let memory = match (small.measured.peak_rss_bytes, large.measured.peak_rss_bytes) {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        (Some(small), Some(large)) => format!(", the memory {:.2} times", large as f64 / small as f64),
        _ => String::new(),
    };
    let verdict = if seconds <= objects { "no worse than linear" } else { "worse than linear" };
    format!(
        "{}, {} to {} objects: {objects:.1} times the objects take {seconds:.1} times the time ({verdict}){memory}.",
        small.tool.name(),
        small.objects,
        large.objects
    )
}

impl Row {
    fn seconds(&self) -> f64 {
        self.measured.elapsed.as_secs_f64()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests and objects are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}
