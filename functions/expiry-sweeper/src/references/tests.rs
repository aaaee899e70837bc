use super::*;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use shared::clock::FixedClock;
use shared::store::{Fault, FaultStore, MemoryStore, Operation, PutOptions, RecordingStore};
use std::io::Write;

fn now() -> Timestamp {
    "2026-11-21T07:00:00Z".parse().unwrap()
}

fn list() -> ObjectRef {
    ObjectRef::new("audit", "references/u.txt")
}

fn options() -> ReferenceOptions {
    ReferenceOptions {
        prefix: "u/".to_owned(),
        start_after: None,
        now: now(),
        max_age: Duration::from_secs(3600),
        limits: SortLimits { memory_bytes: 4096, ..SortLimits::default() },
        verified: None,
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn audit(content: impl Into<Bytes>) -> MemoryStore {
    let store = MemoryStore::with_clock(FixedClock(now())).with_bucket("audit");
    store.put(&list(), Into::<Bytes>::into(content), PutOptions::default()).await.unwrap();
    store
}

async fn code(content: impl Into<Bytes>, options: ReferenceOptions) -> String {
    let store = audit(content).await;
    match References::open(&store, &list(), options).await {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.reason().code.to_owned(),
    }
}

/// Marks and missing references of `keys`.
async fn join(store: &impl ObjectStore, keys: &[&str]) -> Result<(Vec<bool>, Vec<String>), ReferenceError> {
    let mut references = References::open(store, &list(), options()).await?;
    let marks = references.mark(keys).await?;
    let mut missing = references.take_missing();
    while let Some(more) = references.rest().await? {
        missing.extend(more);
    }
    Ok((marks, missing))
}

#[tokio::test]
async fn plain_and_gzip_sorted_and_unsorted_lists_say_the_same() {
    let sorted = "t/x\nu/a\nu/b\nu/b\nu/d\nv/y\n";
    let unsorted = "u/d\r\nu/b\r\nv/y\r\n\r\nu/a\r\nu/b\r\nt/x";
    let mut two_members = gzip(b"t/x\nu/a\nu/");
    two_members.extend(gzip(b"b\nu/d\n"));
    let with_mark = format!("\u{feff}{sorted}");
    for content in [
        Bytes::from(sorted),
        Bytes::from(unsorted),
        Bytes::from(gzip(sorted.as_bytes())),
        Bytes::from(gzip(unsorted.as_bytes())),
        Bytes::from(two_members),
        Bytes::from(with_mark),
    ] {
        let store = audit(content).await;
        let (marks, missing) = join(&store, &["u/a", "u/c", "u/d"]).await.unwrap();
        assert_eq!(marks, [true, false, true]);
        assert_eq!(missing, ["u/b"]);
    }
}

#[tokio::test]
async fn a_list_that_is_missing_empty_or_stale_stops_the_rule() {
    let store = MemoryStore::new().with_bucket("audit");
    let error = References::open(&store, &list(), options()).await.err().unwrap();
    assert_eq!(error.reason().code, "references-missing");
    assert_eq!(error.retry_class(), RetryClass::Permanent);
    for content in ["", "\n\r\n", "\u{feff}", "t/a\nv/b\n", "v/b\nt/a\n"] {
        assert_eq!(code(content, options()).await, "references-empty", "{content:?}");
    }
    assert_eq!(code(gzip(b""), options()).await, "references-empty");
    let later = |seconds| ReferenceOptions { now: now() + SignedDuration::from_secs(seconds), ..options() };
    assert_eq!(code("u/a", later(3600)).await, "opened");
    assert_eq!(code("u/a", later(3601)).await, "references-stale");
}

#[tokio::test]
async fn a_list_that_is_cut_off_or_damaged_decides_nothing() {
    let text: String = (0..5000).map(|n| format!("u/{n:05}\n")).collect();
    let whole = gzip(text.as_bytes());
    assert_eq!(code(whole.clone(), options()).await, "opened");
    for length in [3, 11, whole.len() / 2, whole.len() - 1, whole.len() - 8] {
        assert_eq!(code(whole[..length].to_vec(), options()).await, "references-damaged", "{length}");
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    assert_ne!(code(flipped, options()).await, "opened");
    let mut trailing = whole;
    trailing.extend_from_slice(b"rubbish");
    assert_eq!(code(trailing, options()).await, "references-damaged");
    assert_eq!(code(&b"u/a\n\xff\xfe\n"[..], options()).await, "references-not-keys");
    assert_eq!(code("x".repeat(1025), options()).await, "references-not-keys");
    assert_eq!(code(format!("{}\r\nu/a", "u".repeat(1024)), options()).await, "opened");
}

#[tokio::test]
async fn disorder_at_the_very_end_is_noticed_before_the_first_decision() {
    let mut text: String = (1..3000).map(|n| format!("u/{n:05}\n")).collect();
    text.push_str("u/00000\n");
    let store = audit(text).await;
    let mut references = References::open(&store, &list(), options()).await.unwrap();
    assert!(!references.was_sorted());
    assert_eq!(references.keys(), Some(3000));
    assert_eq!(references.mark(&["u/00000", "u/00000x", "u/02999"]).await.unwrap(), [true, false, true]);
}

#[tokio::test]
async fn a_run_that_goes_on_starts_behind_its_cursor_and_reads_the_list_once() {
    let store = RecordingStore::new(audit("u/a\nu/b\nu/c\nu/e\n").await);
    let first = References::open(&store, &list(), options()).await.unwrap();
    assert!(first.was_sorted());
    let e_tag = first.e_tag().clone();
    store.take();
    let options =
        ReferenceOptions { start_after: Some("u/b".to_owned()), verified: Some(e_tag), ..options() };
    let mut references = References::open(&store, &list(), options).await.unwrap();
    assert_eq!(references.mark(&["u/c", "u/d"]).await.unwrap(), [true, false]);
    assert!(references.take_missing().is_empty());
    assert_eq!(references.rest().await.unwrap(), Some(vec!["u/e".to_owned()]));
    assert_eq!(references.rest().await.unwrap(), None);
    assert_eq!(store.operations(), [Operation::Head, Operation::Get]);
}

#[tokio::test]
async fn a_list_that_is_replaced_meanwhile_is_not_mixed_with_its_successor() {
    let text: String = (0..400_000).map(|n| format!("u/{n:09}\n")).collect();
    let store = audit(text).await;
    let mut references = References::open(&store, &list(), options()).await.unwrap();
    references.mark(&["u/000000001"]).await.unwrap();
    store.put(&list(), Bytes::from_static(b"u/a"), PutOptions::default()).await.unwrap();
    let error = references.mark(&["u/000399999"]).await.unwrap_err();
    assert_eq!((error.reason().code, error.retry_class()), ("references-changed", RetryClass::Retryable));
}

#[tokio::test]
async fn faults_of_the_store_change_nothing() {
    for fault in Fault::ALL {
        for call in 1..=3 {
            let store = FaultStore::new(audit("u/b\nu/a\n").await).at_call(call, fault);
            let (marks, missing) = join(&store, &["u/a", "u/c"]).await.unwrap();
            assert_eq!(
                (marks, missing),
                (vec![true, false], vec!["u/b".to_owned()]),
                "{fault:?} at call {call}"
            );
        }
    }
}
