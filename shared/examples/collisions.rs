//! How long the chains of short codes get: puts random contents at the first code of theirs that is free.
//!
//! `cargo run --release -p shared --example collisions` prints the table of docs/scale.md. Beyond what fits in memory,
//! fewer bits with as many contents per code show the same chances.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::HashSet;

use md5::{Digest, Md5};
use shared::short_code::ShortCode;

/// The codes of a chain, from `code(0)` to `code(7)`.
const CODES: u8 = 8;

/// How many of `contents` stand at each code of their chain, and last, how many found none free.
fn simulate(contents: u64, bits: u32) -> [u64; CODES as usize + 1] {
    let mut taken = HashSet::new();
    let mut at = [0; CODES as usize + 1];
    for content in 0..contents {
        let digest = Md5::digest(content.to_le_bytes()).into();
        let n =
            (0..CODES).find(|n| taken.insert(u64::from(ShortCode::of_digest(&digest, *n)) >> (40 - bits)));
        at[usize::from(n.unwrap_or(CODES))] += 1;
    }
    at
}

fn main() {
    println!(
        "contents in 2^40 | simulated in | at code(0) | code(1) | code(2) | code(3) | code(4) and on | none free"
    );
    let sizes: [(u32, u32); 7] = [(6, 40), (7, 40), (8, 36), (9, 33), (10, 27), (11, 24), (12, 21)];
    for (exponent, bits) in sizes {
        let scaled = 10_u64.pow(exponent) >> (40 - bits);
        let at = simulate(scaled, bits);
        let later: u64 = at[4..usize::from(CODES)].iter().sum();
        println!(
            "10^{exponent} | {scaled} in 2^{bits} | {} | {} | {} | {} | {later} | {}",
            at[0], at[1], at[2], at[3], at[8]
        );
    }
}

#[test]
fn chains_are_as_long_as_theory_says() {
    // A quarter of the places taken: on average an eighth of the contents find their first code taken, since the
    // share that is taken grows evenly.
    let (contents, bits) = (1 << 18, 20);
    let at = simulate(contents, bits);
    assert_eq!(at.iter().sum::<u64>(), contents);
    let expected = contents / 8;
    let displaced = contents - at[0];
    assert!(displaced.abs_diff(expected) < expected / 20, "{displaced} instead of about {expected}");
    assert!(at[1] > at[2] && at[2] > at[3], "{at:?}");
}
