//! What each stage of the pipeline takes, over the pictures of the tests: `make bench-stages`.
#![expect(clippy::expect_used, reason = "a benchmark without its pictures has nothing to go on with")]

#[path = "../examples/transcode/stages.rs"]
mod stages;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use avatar_transcoder::pipeline::{Limits, Recipe, transcode};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// A photograph, one to shrink, one with transparency, and an animation.
const PICTURES: [&str; 4] =
    ["rocket.jpg", "hubble_deep_field.jpg", "made/round-alpha.png", "made/coffee-pan.gif"];

/// `whole` is from the upload to the WebP; the others are the pipeline's spans.
const STAGES: [&str; 6] = ["whole", "decode", "resize", "colour", "encode", "placeholder"];

fn bench(criterion: &mut Criterion) {
    stages::watch().expect("nobody watches yet");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images");
    for name in PICTURES {
        let upload = std::fs::read(folder.join(name)).expect("the picture comes with the source");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        for stage in STAGES {
            group.bench_function(BenchmarkId::from_parameter(stage), |bencher| {
                bencher.iter_custom(|rounds| {
                    stages::reset();
                    let started = std::time::Instant::now();
                    for _ in 0..rounds {
                        black_box(
                            transcode(black_box(&upload), &Recipe::default(), &Limits::default()).is_ok(),
                        );
                    }
                    let whole = started.elapsed();
                    if stage == "whole" {
                        return whole;
                    }
                    let spent = stages::report()[stage].as_f64().unwrap_or_default();
                    // A stage that this picture does not need takes no time, which criterion cannot divide by.
                    Duration::from_secs_f64(spent / 1e3).max(Duration::from_nanos(1))
                });
            });
        }
        // Extra edges cost their encode only: the picture is decoded once.
        let recipe = Recipe { extra_edges: vec![128, 64], ..Recipe::default() };
        group.bench_function("whole, with two extra edges", |bencher| {
            bencher.iter(|| black_box(transcode(black_box(&upload), &recipe, &Limits::default()).is_ok()));
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
