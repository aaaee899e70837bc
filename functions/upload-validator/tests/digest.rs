//! A promised digest of a gibibyte, in constant memory. Alone in its process, so that memory can be measured.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use shared::store::*;

use support::*;

const SIZE: u64 = 1 << 30;
const CHUNK: u64 = 1 << 20;
/// SHA-256 of that many zeros, as sha256sum says.
const SHA256: &str = "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";

/// The most memory that this process had so far, in KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

/// A store whose one object has a gibibyte of zeros, made while they are read.
fn endless(inner: MemoryStore) -> Meddled {
    Meddled::new(inner).replacing_bodies(|mut result| {
        // A range is answered as it stands; the whole is generated.
        let chunk = Bytes::from(vec![0; usize::try_from(CHUNK).unwrap()]);
        let is_whole = result.length == result.meta.size;
        result.meta.size = SIZE;
        if is_whole {
            result.length = SIZE;
            let chunks = (0..SIZE / CHUNK).map(move |_| Ok(chunk.clone()));
            result.body = futures::stream::iter(chunks).boxed();
        }
        result
    })
}

#[tokio::test]
async fn a_gibibyte_is_hashed_in_constant_memory() {
    for (sha256, expected) in [(SHA256.to_owned(), "accepted"), (SHA256.replace('4', "5"), "rejected")] {
        let memory = store();
        let key = "bn0m0anw/disk.img";
        let mut claims = claims(key);
        claims["sha256"] = json!(sha256);
        let event = upload(&memory, key, &Bytes::from(vec![0; 100 << 10]), Some(&ticket(&claims))).await;
        let mut event = event;
        event["Records"][0]["s3"]["object"]["size"] = SIZE.into();
        let before = peak_kib();
        let settings: &[(&str, &str)] = &[("MAX_UPLOAD_BYTES", "1073741824"), ("REJECT_ACTION", "tag")];
        let outcome = outcome(endless(memory), config(settings), &event).await;
        assert_eq!(outcome["status"], expected, "{outcome}");
        if expected == "rejected" {
            assert_eq!(codes(&outcome), ["ticket-wrong-digest"]);
        }
        let grown = peak_kib() - before;
        assert!(grown < 16 << 10, "{grown} KiB more than before");
    }
}
