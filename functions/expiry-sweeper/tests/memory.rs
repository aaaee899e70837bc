//! A sweep needs the same memory however many objects it sweeps, and whatever befalls it.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]
#![expect(unsafe_code, reason = "an allocator that counts cannot be written without")]
#![expect(clippy::print_stdout, reason = "what was measured is printed for whoever looks")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::pending;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use expiry_sweeper::cdn::RecordingCdn;
use expiry_sweeper::config::Config;
use expiry_sweeper::handler::{Deps, handle};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::clock::FixedClock;
use shared::env::Environment;
use shared::object_ref::{ETag, ObjectRef};
use shared::runtime::Invocation;
use shared::store::{
    Capabilities, CopyOptions, DeleteItems, GetOptions, GetResult, ListOptions, ListPage, ListedEntry,
    MemoryStore, ObjectMeta, ObjectStore, Outgoing, Precondition, PutOptions, PutResult, StoreResult, Tags,
    UploadPage, VersionPage,
};

/// Bytes before each allocation, which say whose it is.
const HEADER: usize = 16;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// Whether what is allocated now belongs to the store, which stands for a service elsewhere.
    static IN_STORE: Cell<bool> = const { Cell::new(false) };
}

/// Counts what the function holds, and leaves out what the store holds.
struct Counting;

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call is passed on to the system's allocator, with a layout that has room for a header in front
// of what the caller asked for; the header is as large as the alignment, so that what follows is aligned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let offset = layout.align().max(HEADER);
        let Ok(whole) = Layout::from_size_align(layout.size() + offset, offset) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the layout is not empty.
        let start = unsafe { System.alloc(whole) };
        if start.is_null() {
            return start;
        }
        let in_store = IN_STORE.try_with(Cell::get).unwrap_or(false);
        // SAFETY: there are `offset` bytes before what is handed out.
        unsafe { start.write(u8::from(in_store)) };
        if !in_store {
            let live = LIVE.fetch_add(signed(layout.size()), Ordering::Relaxed) + signed(layout.size());
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
        // SAFETY: `offset` bytes lie within the allocation.
        unsafe { start.add(offset) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let offset = layout.align().max(HEADER);
        // SAFETY: `alloc` handed out what lies `offset` bytes behind the start, which holds whose it is.
        let start = unsafe { pointer.sub(offset) };
        // SAFETY: as above.
        if unsafe { start.read() } == 0 {
            LIVE.fetch_sub(signed(layout.size()), Ordering::Relaxed);
        }
        if let Ok(whole) = Layout::from_size_align(layout.size() + offset, offset) {
            // SAFETY: this is the layout that it was allocated with.
            unsafe { System.dealloc(start, whole) };
        }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `run` allocates belongs to the store. Calls of the store in memory never wait.
async fn in_store<T>(run: impl Future<Output = T>) -> T {
    let mut run = Box::pin(run);
    std::future::poll_fn(move |context| {
        IN_STORE.set(true);
        let polled = run.as_mut().poll(context);
        IN_STORE.set(false);
        polled
    })
    .await
}

/// The bytes of a write as the store keeps them.
fn copied(body: &Outgoing) -> Bytes {
    match body {
        Outgoing::Memory(bytes) => Bytes::copy_from_slice(bytes),
        file => file.bytes().unwrap(),
    }
}

/// A bucket `files` with any number of objects that nobody has to hold, and an audit bucket.
struct Endless {
    count: u64,
    /// How many objects it was asked to delete.
    deleted: AtomicU64,
    /// Requests that begin there in all that it was asked for are never answered.
    silent: Range<u64>,
    audit: MemoryStore,
}

impl ObjectStore for Endless {
    fn capabilities(&self) -> Capabilities {
        self.audit.capabilities()
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        if bucket != "files" {
            return self.audit.list(bucket, options).await;
        }
        // The first number that sorts behind a text, which need not be a number of theirs.
        let after = options.continuation.or(options.start_after).unwrap_or_default();
        let digits: String =
            after.chars().skip("a/".len()).take_while(char::is_ascii_digit).take(10).collect();
        let number = format!("{digits:0<10}").parse::<u64>().unwrap();
        let first = if format!("a/{number:010}") > after { number } else { number + 1 };
        let end = (first + 1000).min(self.count);
        let entry = |n| ListedEntry {
            key: format!("a/{n:010}"),
            size: 10,
            e_tag: ETag::parse(&format!("{n:032x}")),
            last_modified: NOW - SignedDuration::from_hours(48),
            storage_class: None,
        };
        let objects: Vec<_> =
            if options.delimiter.is_some() { Vec::new() } else { (first..end).map(entry).collect() };
        let continuation = (end < self.count).then(|| format!("a/{:010}", end - 1));
        Ok(ListPage { objects, common_prefixes: Vec::new(), continuation })
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        if bucket != "files" {
            return self.audit.delete_batch(bucket, items).await;
        }
        let before = self.deleted.fetch_add(items.clone().count() as u64, Ordering::Relaxed);
        if self.silent.contains(&before) {
            return pending().await;
        }
        Ok(items.map(|_| Ok(())).collect())
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        self.audit.head(object).await
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        self.audit.get(object, options).await
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let body = body.into();
        in_store(async { self.audit.put(object, copied(&body), options.clone()).await }).await
    }

    async fn copy(&self, from: &ObjectRef, to: &ObjectRef, options: CopyOptions) -> StoreResult<PutResult> {
        in_store(self.audit.copy(from, to, options)).await
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        self.audit.delete(object, if_match).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        self.audit.list_versions(bucket, prefix, after).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        self.audit.list_uploads(bucket, prefix, after).await
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        self.audit.get_tags(object).await
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        self.audit.put_tags(object, tags).await
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        self.audit.create_upload(object, options).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        let body = body.into();
        in_store(async { self.audit.upload_part(object, id, number, copied(&body)).await }).await
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        in_store(self.audit.complete_upload(object, upload_id, parts, precondition)).await
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        self.audit.abort_upload(object, upload_id).await
    }
}

/// When the objects are swept, two days after they were written.
const NOW: Timestamp = Timestamp::constant(1_793_577_600, 0);

/// When a process dies that has not answered yet, before its deadline: the time of these tests passes when nothing else can
/// happen.
const LONG: Duration = Duration::from_secs(600);

fn endless(count: u64, silent: Range<u64>) -> Arc<Endless> {
    let audit = MemoryStore::with_clock(FixedClock(NOW)).with_bucket("audit");
    Arc::new(Endless { count, silent, deleted: AtomicU64::new(0), audit })
}

/// One invocation at that time: its answer, `None` if it does not come to an end and is killed, and the most that the
/// function holds at once, in bytes.
async fn invoke(store: &Arc<Endless>, now: Timestamp) -> (Option<Value>, isize) {
    let policy = json!({"version": 1, "mode": "apply",
        "rules": [{"id": "temp", "bucket": "files", "prefix": "a/", "expire_after": "1d"}]});
    let mut environment: Environment =
        [("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", &*policy.to_string())].into_iter().collect();
    let config = Config::read(&mut environment);
    let config = environment.finish(config).unwrap();
    let deps = Deps::new(store.clone(), FixedClock(now), RecordingCdn::default(), config);
    let deadline = now + SignedDuration::from_mins(15);
    let invocation = Invocation { request_id: now.to_string(), deadline };
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = tokio::time::timeout(LONG, Box::pin(handle(&deps, &json!({}), &invocation))).await;
    (answer.ok().map(Result::unwrap), PEAK.load(Ordering::Relaxed) - before)
}

/// The most that the function holds at once while it sweeps `count` objects, in bytes.
async fn peak(count: u64) -> isize {
    let store = endless(count, 0..0);
    let (answer, peak) = invoke(&store, NOW).await;
    let answer = answer.unwrap();
    assert_eq!(answer["outcomes"][0]["sweep"]["deleted"], count, "{answer}");
    assert_eq!(store.deleted.load(Ordering::Relaxed), count);
    peak
}

// One test after the other, because all of them count what there is.
#[tokio::test(start_paused = true)]
async fn a_sweep_needs_the_same_memory() {
    forty_times_the_objects().await;
    behind_a_batch_without_an_answer().await;
    after_a_dead_one().await;
}

async fn forty_times_the_objects() {
    let [small, few, many] = [peak(10_000).await, peak(100_000).await, peak(400_000).await];
    println!("{small} bytes for 10,000 objects, {few} for 100,000, {many} for 400,000");
    // The smallest is deleted in batches that leave the store something to do side by side, which are not full.
    assert!(many < small + (1 << 19), "{small} bytes for the smallest, {many} for many");
    // The others fill every buffer; in which moment buffers grow makes some difference.
    assert!(many < few + few / 10, "{few} bytes for few, {many} for many");
    // The packed rows of full batches, and what is listed meanwhile.
    assert!(many < 5 << 18, "{many} bytes");
}

/// A batch without an answer keeps those behind it from being reported, and so from being forgotten: there are not to be
/// more and more of them.
async fn behind_a_batch_without_an_answer() {
    let store = endless(100_000, 0..1);
    let (answer, peak) = invoke(&store, NOW).await;
    assert_eq!(answer, None);
    let asked = store.deleted.load(Ordering::Relaxed);
    println!("{peak} bytes, {asked} objects behind a batch without an answer");
    assert!((10_000..=20_000).contains(&asked), "{asked} objects");
    assert!(peak < 5 << 19, "{peak} bytes");
}

/// Who goes on after a dead invocation reads its report, of several parts.
async fn after_a_dead_one() {
    let store = endless(100_000, 90_000..91_000);
    let (answer, died) = invoke(&store, NOW).await;
    assert_eq!(answer, None);
    let (answer, peak) = invoke(&store, NOW + SignedDuration::from_hours(1)).await;
    let answer = answer.unwrap();
    assert_eq!(
        (&answer["outcomes"][0]["sweep"]["deleted"], &answer["complete"]),
        (&json!(100_000), &json!(true))
    );
    let listed = store.audit.list("audit", ListOptions::default()).await.unwrap();
    let reports: Vec<_> = listed.objects.iter().filter(|entry| entry.key.ends_with(".csv")).collect();
    let sizes: Vec<_> = reports.iter().map(|report| report.size).collect();
    println!("{died} bytes, then {peak} bytes, with reports of {sizes:?} bytes");
    assert_eq!(reports.len(), 2);
    assert!(sizes.iter().any(|size| *size > 10 << 20), "{sizes:?}");
    // It looks again at what the plan names as well, a page of the listing at a time.
    assert!(peak < 3 << 20, "{peak} bytes");
}
