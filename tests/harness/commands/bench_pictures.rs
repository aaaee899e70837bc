//! `local-cloud bench-pictures`: what an avatar costs and how it looks, beside sharp in the same run.

mod functions;
mod report;
mod worker;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CommandResult;
use functions::{Memory, Pair, Transport};
use worker::{Made, Worker};

/// Why nothing is measured.
type Failure = Box<dyn Error + Send + Sync>;

/// What is measured, and with what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The folder that pictures.py has filled.
    #[arg(long)]
    pictures: PathBuf,
    /// Where outputs, scores and figures go.
    #[arg(long)]
    outputs: PathBuf,
    /// The release build of the example `transcode`.
    #[arg(long)]
    worker: PathBuf,
    /// Where the functions' release binaries are.
    #[arg(long)]
    binaries: PathBuf,
    /// Node's command.
    #[arg(long, default_value = "node")]
    node: PathBuf,
    /// The folder in which npm has put sharp and @aws-sdk/client-s3.
    #[arg(long)]
    modules: PathBuf,
    /// A Python with Pillow and NumPy.
    #[arg(long)]
    python: PathBuf,
    /// The folder with ssimulacra2_rs and dssim.
    #[arg(long)]
    tools: PathBuf,
    /// How often each picture is made by both, after one round that is not counted.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How many invocations show whether memory stays flat.
    #[arg(long, default_value_t = 1000)]
    invocations: usize,
    /// Only the pictures whose name or kind begins so.
    #[arg(long)]
    only: Vec<String>,
}

/// A line of pictures.json.
#[derive(Debug, Clone, Deserialize)]
struct Picture {
    name: String,
    kind: String,
    file: String,
}

/// Everything about one picture.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    kind: String,
    ours: Made,
    sharp: Made,
    memory: Memory,
    /// By pictures.py: `ours` and `sharp`, each with `ssimulacra2` and `dssim`.
    scores: Value,
}

pub(super) async fn run(arguments: Arguments) -> CommandResult {
    let pictures = pictures(&arguments)?;
    for side in ["ours", "sharp"] {
        std::fs::create_dir_all(arguments.outputs.join(side))?;
    }
    println!("{} pictures, {} rounds each.", pictures.len(), arguments.rounds);
    let times = race(&arguments, &pictures)?;
    let pair = Pair::start(&arguments, Transport::Plain).await?;
    let mut rows = Vec::new();
    for (picture, (ours, sharp)) in pictures.iter().zip(times) {
        let upload = std::fs::read(arguments.pictures.join(&picture.file))?;
        let memory = pair.peaks(&picture.name, &upload).await?;
        let (name, kind) = (picture.name.clone(), picture.kind.clone());
        rows.push(Row { name, kind, ours, sharp, memory, scores: Value::Null });
    }
    println!("Starting both functions, in turns.");
    let small = std::fs::read(functions::small_picture())?;
    let tiny = std::fs::read(functions::tiny_picture())?;
    let (start, start_of_tiny) = (pair.starts(&small).await?, pair.starts(&tiny).await?);
    let with_tls = Pair::start(&arguments, Transport::Tls).await?;
    let (start_with_tls, start_with_tls_of_tiny) =
        (with_tls.starts(&small).await?, with_tls.starts(&tiny).await?);
    println!("Invoking ours {} times.", arguments.invocations);
    let flat = pair.flat(&small, arguments.invocations).await?;
    println!("Scoring what was made.");
    let scores = score(&arguments, rows.iter().map(|row| row.name.as_str()))?;
    for row in &mut rows {
        row.scores = scores.get(&row.name).cloned().unwrap_or_default();
    }
    let starts = [
        ("", "a photograph of 640 × 427", start),
        ("", "a picture of 120 × 80", start_of_tiny),
        (" with TLS", "a photograph of 640 × 427", start_with_tls),
        (" with TLS", "a picture of 120 × 80", start_with_tls_of_tiny),
    ];
    let figures = json!({
        "pictures": rows,
        "start": start,
        "start_of_tiny": start_of_tiny,
        "start_with_tls": start_with_tls,
        "start_with_tls_of_tiny": start_with_tls_of_tiny,
        "flat": flat,
    });
    std::fs::write(arguments.outputs.join("pictures.json"), serde_json::to_string_pretty(&figures)?)?;
    println!("{}", report::text(&rows, &starts, &flat));
    Ok(ExitCode::SUCCESS)
}

fn pictures(arguments: &Arguments) -> Result<Vec<Picture>, Failure> {
    let file = arguments.pictures.join("pictures.json");
    let all: Vec<Picture> = serde_json::from_slice(&std::fs::read(file)?)?;
    let wanted = |picture: &Picture| {
        let begins = |only: &String| picture.name.starts_with(only) || picture.kind == *only;
        arguments.only.is_empty() || arguments.only.iter().any(begins)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// What the other has left behind, such as memory to be freed, is not done beside a picture that is measured.
const PAUSE: Duration = Duration::from_millis(40);

/// Both make each picture in turns, ours first, which tells sharp how large.
fn race(arguments: &Arguments, pictures: &[Picture]) -> Result<Vec<(Made, Made)>, Failure> {
    let mut ours = Worker::ours(&arguments.worker)?;
    let mut sharp = Worker::sharp(&arguments.node, &arguments.modules)?;
    let mut all = Vec::new();
    for picture in pictures {
        let from = arguments.pictures.join(&picture.file);
        let to = |side: &str| arguments.outputs.join(side).join(format!("{}.webp", picture.name));
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=arguments.rounds {
            std::thread::sleep(PAUSE);
            let made = ours.make_ours(&from, &to("ours"))?;
            std::thread::sleep(PAUSE);
            let peer = sharp.make_sharp(&from, &to("sharp"), &made)?;
            // The first round pays for pages and caches.
            if round > 0 {
                mine.push(made);
                theirs.push(peer);
            }
        }
        all.push((worker::median(mine)?, worker::median(theirs)?));
    }
    Ok(all)
}

/// Scores the pictures of these names, as those of an earlier run may stand beside them.
fn score<'a>(arguments: &Arguments, names: impl Iterator<Item = &'a str>) -> Result<Value, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pictures.py");
    let status = std::process::Command::new(&arguments.python)
        .arg(script)
        .arg("score")
        .args([&arguments.pictures, &arguments.outputs])
        .arg(std::path::absolute(&arguments.tools)?)
        .args(names)
        .status()?;
    if !status.success() {
        return Err("the pictures could not be scored".into());
    }
    Ok(serde_json::from_slice(&std::fs::read(arguments.outputs.join("scores.json"))?)?)
}
