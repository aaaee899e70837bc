//! The figures as a table that a person can read.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Row;
use super::functions::{Flat, Start};
use crate::commands::view;

const MEBIBYTE: f64 = 1_048_576.0;

/// The stages of the floor: what any program with the same codecs would spend.
const FLOOR: [&str; 2] = ["decode", "encode"];

impl Row {
    fn ratio(&self) -> f64 {
        self.ours.ms / self.sharp.ms
    }

    #[expect(clippy::cast_precision_loss, reason = "files of some kilobytes")]
    fn bytes_ratio(&self) -> f64 {
        self.ours.bytes as f64 / self.sharp.bytes as f64
    }

    /// Our time by the time of bare decoding and encoding.
    fn over_floor(&self) -> f64 {
        let floor: f64 = FLOOR.iter().filter_map(|stage| self.ours.stages.get(*stage)).sum();
        self.ours.ms / floor
    }

    fn score(&self, side: &str, metric: &str) -> f64 {
        self.scores[side][metric].as_f64().unwrap_or(f64::NAN)
    }
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    (sum / count).exp()
}

fn megabytes(bytes: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / MEBIBYTE))
}

/// All tables.
pub(super) fn text(rows: &[Row], starts: &[(&str, &str, Start)], flat: &Flat) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(text, "{}", pictures(rows));
    let _ = writeln!(
        text,
        "By kind: geometric means of the ratios to sharp, and the worst of each.\n{}",
        kinds(rows)
    );
    for (how, what, start) in starts {
        let (ours, sharp) = (start.ours_init + start.ours_first, start.sharp_init + start.sharp_first);
        let _ = writeln!(
            text,
            "Cold start{how} to the first avatar, of {what}, medians: ours {ours:.1} ms ({:.1} to the first request for work, {:.1} \
             from it), sharp {sharp:.1} ms ({:.1}, {:.1}); ratio {:.3}.",
            start.ours_init,
            start.ours_first,
            start.sharp_init,
            start.sharp_first,
            ours / sharp,
        );
    }
    let _ = write!(
        text,
        "Peak memory over {} invocations of one process: {} MiB in the first hundred, {} MiB in the last.",
        flat.invocations,
        megabytes(Some(flat.largest_of_first_hundred)),
        megabytes(Some(flat.largest_of_last_hundred)),
    );
    text
}

fn pictures(rows: &[Row]) -> comfy_table::Table {
    let headings = [
        "picture",
        "kind",
        "source",
        "edge",
        "ms",
        "sharp",
        "ratio",
        "floor",
        "decode",
        "resize",
        "encode",
        "bytes",
        "sharp",
        "ratio",
        "SSIMULACRA2",
        "sharp",
        "DSSIM",
        "sharp",
        "peak MiB",
        "sharp",
    ];
    let right: Vec<usize> = (3..headings.len()).collect();
    let mut table = view::table(&headings, &right);
    for row in rows {
        let source = &row.ours.source;
        let frames = if source.frames > 1 { format!(" ×{}", source.frames) } else { String::new() };
        let stage = |name: &str| format!("{:.1}", row.ours.stages.get(name).copied().unwrap_or_default());
        table.add_row([
            row.name.clone(),
            row.kind.clone(),
            format!("{}×{}{frames}", source.width, source.height),
            row.ours.width.to_string(),
            format!("{:.1}", row.ours.ms),
            format!("{:.1}", row.sharp.ms),
            format!("{:.2}", row.ratio()),
            format!("{:.2}", row.over_floor()),
            stage("decode"),
            stage("resize"),
            stage("encode"),
            format!("{}{}", row.ours.bytes, if row.ours.lossless { " exact" } else { "" }),
            row.sharp.bytes.to_string(),
            format!("{:.2}", row.bytes_ratio()),
            format!("{:.1}", row.score("ours", "ssimulacra2")),
            format!("{:.1}", row.score("sharp", "ssimulacra2")),
            format!("{:.5}", row.score("ours", "dssim")),
            format!("{:.5}", row.score("sharp", "dssim")),
            megabytes(row.memory.ours),
            megabytes(row.memory.sharp),
        ]);
    }
    table
}

fn kinds(rows: &[Row]) -> comfy_table::Table {
    let headings = [
        "kind",
        "pictures",
        "time",
        "worst",
        "over floor",
        "worst",
        "bytes",
        "worst",
        "SSIMULACRA2 less sharp's, mean",
        "worst",
        "peak MiB, worst",
        "sharp",
    ];
    let mut table = view::table(&headings, &(1..headings.len()).collect::<Vec<_>>());
    let mut by_kind: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_kind.entry(&row.kind).or_default().push(row);
    }
    by_kind.insert("all", rows.iter().collect());
    if let (Some(large), Some(others)) = (by_kind.get("jpeg-12mp").cloned(), by_kind.get("jpeg").cloned()) {
        by_kind.insert("jpeg, with 12mp", large.into_iter().chain(others).collect());
    }
    for (kind, rows) in by_kind {
        let mean = |of: fn(&Row) -> f64| geometric_mean(rows.iter().map(|row| of(row)));
        let most = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).fold(f64::MIN, f64::max);
        let better: Vec<f64> = rows
            .iter()
            .map(|row| row.score("ours", "ssimulacra2") - row.score("sharp", "ssimulacra2"))
            .filter(|difference| difference.is_finite())
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "some dozens of pictures")]
        let average = better.iter().sum::<f64>() / better.len().max(1) as f64;
        let peak = |of: fn(&Row) -> Option<u64>| megabytes(rows.iter().filter_map(|row| of(row)).max());
        table.add_row([
            kind.to_owned(),
            rows.len().to_string(),
            format!("{:.3}", mean(Row::ratio)),
            format!("{:.2}", most(Row::ratio)),
            format!("{:.3}", mean(Row::over_floor)),
            format!("{:.2}", most(Row::over_floor)),
            format!("{:.3}", mean(Row::bytes_ratio)),
            format!("{:.2}", most(Row::bytes_ratio)),
            format!("{average:+.2}"),
            format!("{:+.2}", better.iter().copied().fold(f64::MAX, f64::min)),
            peak(|row| row.memory.ours),
            peak(|row| row.memory.sharp),
        ]);
    }
    table
}
