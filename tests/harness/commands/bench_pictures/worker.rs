//! The two processes that make pictures, one of ours and one of sharp's: a line in, a line out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;

/// What a worker answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Made {
    /// From the upload in memory to the WebP in memory, milliseconds.
    pub(super) ms: f64,
    /// Bytes of the WebP.
    pub(super) bytes: u64,
    /// Its width in pixels.
    pub(super) width: u32,
    /// Its height in pixels.
    pub(super) height: u32,
    /// Its frames.
    pub(super) frames: u32,
    /// Whether it is without loss; ours alone tells.
    #[serde(default)]
    pub(super) lossless: bool,
    /// Milliseconds by stage; ours alone tells.
    #[serde(default)]
    pub(super) stages: BTreeMap<String, f64>,
    /// The upload; ours alone tells.
    #[serde(default)]
    pub(super) source: Source,
}

/// What an upload was.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u32,
}

/// A process that takes one picture after the other.
#[derive(Debug)]
pub(super) struct Worker {
    name: &'static str,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    fn start(name: &'static str, command: &mut Command) -> Result<Self, Failure> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let input = process.stdin.take().ok_or("a worker has no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("a worker has no output")?);
        Ok(Self { name, process, input, output })
    }

    pub(super) fn ours(binary: &Path) -> Result<Self, Failure> {
        Self::start("our worker", &mut Command::new(binary))
    }

    pub(super) fn sharp(node: &Path, modules: &Path) -> Result<Self, Failure> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/sharp_worker.cjs");
        let modules = std::path::absolute(modules)?.join("node_modules");
        Self::start("sharp", Command::new(node).arg(script).env("NODE_PATH", modules))
    }

    fn ask(&mut self, line: &str) -> Result<Made, Failure> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        serde_json::from_str(&answer)
            .map_err(|_| format!("{} did not make it: {} (asked: {line})", self.name, answer.trim()).into())
    }

    pub(super) fn make_ours(&mut self, from: &Path, to: &Path) -> Result<Made, Failure> {
        self.ask(&format!("{}\t{}", from.display(), to.display()))
    }

    /// Makes `from` as large as `ours` came out.
    pub(super) fn make_sharp(&mut self, from: &Path, to: &Path, ours: &Made) -> Result<Made, Failure> {
        let task = json!({
            "from": from, "to": to, "edge": ours.width, "animated": ours.source.frames > 1,
        });
        self.ask(&task.to_string())
    }
}

/// The answer with the median time, and the medians of its stages.
pub(super) fn median(mut made: Vec<Made>) -> Result<Made, Failure> {
    made.sort_by(|a, b| a.ms.total_cmp(&b.ms));
    let mut middle = made.get(made.len() / 2).cloned().ok_or("a picture needs a round at least")?;
    for (stage, ms) in &mut middle.stages {
        let mut all: Vec<f64> = made.iter().filter_map(|made| made.stages.get(stage).copied()).collect();
        all.sort_by(f64::total_cmp);
        *ms = all.get(all.len() / 2).copied().unwrap_or(*ms);
    }
    Ok(middle)
}
