//! Makes avatars at a terminal: `transcode photo.jpg avatar.webp`, or at another quality by a third argument.
//! Without arguments it takes pairs of paths from its input, a pair a line with a tab between, and answers each with a
//! line of JSON: what was made and how long it took.
#![expect(clippy::print_stdout, reason = "a command talks to the person at its terminal")]

mod stages;

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use avatar_transcoder::pipeline::{Limits, Recipe, estimate, transcode};
use serde_json::{Value, json};

/// Wide enough for every picture that somebody wants to see; a function derives its own from its memory.
fn limits() -> Limits {
    Limits { bytes: 1 << 30, memory_bytes: 2 << 30, time: Duration::from_secs(60), ..Limits::default() }
}

fn one(from: &str, to: &str, recipe: &Recipe) -> Result<Value, Box<dyn Error>> {
    let upload = std::fs::read(from)?;
    let cost = estimate(&upload, recipe, &limits())
        .map_err(|reason| format!("{}: {}", reason.code, reason.message))?;
    stages::reset();
    let started = Instant::now();
    let picture = transcode(&upload, recipe, &limits())
        .map_err(|reason| format!("{}: {}", reason.code, reason.message))?;
    let elapsed = started.elapsed();
    std::fs::write(to, &picture.main.webp)?;
    Ok(json!({
        "ms": elapsed.as_secs_f64() * 1e3,
        "stages": stages::report(),
        "bytes": picture.main.webp.len(),
        "width": picture.main.width,
        "height": picture.main.height,
        "frames": picture.main.frames,
        "estimated_mib": cost.memory_bytes >> 20,
        "lossless": picture.main.lossless,
        "notes": picture.notes,
        "source": {
            "type": picture.source.media_type,
            "width": picture.source.width,
            "height": picture.source.height,
            "frames": picture.source.frames,
        },
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    stages::watch()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut recipe = Recipe::default();
    if let [from, to, rest @ ..] = arguments.as_slice() {
        if let [quality] = rest {
            recipe.quality = quality.parse()?;
        }
        println!("{}", one(from, to, &recipe)?);
        return Ok(());
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (from, to) = line.split_once('\t').ok_or("a line is two paths with a tab between")?;
        let answer = one(from, to, &recipe).unwrap_or_else(|error| json!({"error": error.to_string()}));
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}
