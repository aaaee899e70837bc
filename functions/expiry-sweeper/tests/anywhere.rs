//! The sweeper is cut off at every request that it makes, in every way, and again while it goes on.
//!
//! Pages, batches, plans and parts of reports are so small that a few dozen objects need all of them several
//! times. In the end an independent look finds every expired object gone, nothing else gone, and every key
//! that went exactly once in the reports.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot do, fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use expiry_sweeper::cdn::RecordingCdn;
use expiry_sweeper::handler::{Deps, handle};
use expiry_sweeper::sweep::Sizes;
use futures::FutureExt;
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::object_ref::ObjectRef;
use shared::runtime::Invocation;
use shared::store::{Fault, FaultStore, ObjectStore, Operation, PutOptions};
use support::hooked::{Hook, Hooked};
use support::*;

/// How an invocation is cut off, at one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The process dies before the request reaches the store.
    Kill,
    /// The process dies, and what it asked for is done.
    KillAfter,
    /// From here on it is time to stop.
    Deadline,
    /// Time to stop, and some requests later the process dies all the same.
    DeadlineThenKill(u64),
}

/// What befalls an invocation.
#[derive(Debug, Clone, Copy, Default)]
struct Invoked {
    cut: Option<(u64, Cut)>,
    /// Some objects of each batch answer with errors.
    trouble: bool,
    /// So many of a hundred requests fail, as this seed has it.
    faults: Option<(u64, u8)>,
    /// From this request on the store fails; whether the first of them still has its effect.
    broken: Option<(u64, bool)>,
    /// This request is carried out, and its answer gets lost.
    unanswered: Option<u64>,
    /// Every call of this operation fails.
    fails: Option<Operation>,
    /// At this request another client writes an object.
    replaced: Option<(u64, usize)>,
}

const SECONDS: i64 = 900;

/// Three rules: one that is listed in ranges while it deletes, one whose plan has to be whole because a cap might stop
/// it, and one that is held against references.
struct Bucket {
    world: World,
    expired: BTreeSet<String>,
    live: BTreeSet<String>,
    replaced: Arc<Mutex<BTreeSet<String>>>,
    policy: String,
}

impl Bucket {
    async fn new() -> Self {
        let mut world = World::new();
        world.store = world.store.with_page_size(4);
        let (mut expired, mut live) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..26 {
            let capped = (n % 2 == 0).then(|| format!("c/{}/{n:02}", n % 3));
            for key in [format!("a/{}/{n:02}", n % 3), format!("b/{n:02}")].into_iter().chain(capped) {
                world.put(&key, &key).await;
                if key.starts_with('b') && n % 5 == 0 { &mut live } else { &mut expired }.insert(key);
            }
        }
        let references: String =
            live.iter().chain(&["b/99".to_owned()]).map(|key| format!("{key}\n")).collect();
        world.clock.advance(2 * DAY);
        for n in 0..4 {
            let key = format!("a/1/young{n}");
            world.put(&key, "young").await;
            live.insert(key);
        }
        let object = ObjectRef::new("audit", "references.txt");
        world.store.put(&object, Bytes::from(references), PutOptions::default()).await.unwrap();
        let policy = json!({
            "version": 1, "mode": "apply", "limits": {"max_delete_ratio": 1.0},
            "rules": [
                {"id": "aged", "bucket": "files", "prefix": "a/", "expire_after": "1d", "anomaly_factor": 0},
                {"id": "capped", "bucket": "files", "prefix": "c/", "expire_after": "1d", "max_deletes": 100},
                {"id": "orphans", "bucket": "files", "prefix": "b/", "unreferenced_in": "s3://audit/references.txt",
                 "grace": "1d", "references_max_age": "9d", "anomaly_factor": 0},
            ],
        });
        Self { world, expired, live, replaced: Arc::default(), policy: policy.to_string() }
    }

    /// One invocation; what it answers, unless it was killed, and how many requests it made.
    async fn invoke(&self, invoked: Invoked) -> (Option<Value>, u64) {
        let Invoked { cut, trouble, faults, broken, unanswered, fails, replaced } = invoked;
        let (made, hung) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
        let counter = made.clone();
        let (notify, clock, other) = (hung.clone(), self.world.clock.clone(), self.world.store.clone());
        let keys: Vec<_> = self.expired.iter().cloned().collect();
        let noted = self.replaced.clone();
        let store = Hooked::new(self.world.store.clone(), move |_| {
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some((at, which)) = replaced
                && at == number
                && let Some(key) = keys.get(which % keys.len())
            {
                let object = ObjectRef::new("files", &**key);
                let put = other.put(&object, Bytes::from_static(b"fresh"), PutOptions::default());
                put.now_or_never().unwrap().unwrap();
                noted.lock().unwrap().insert(key.clone());
            }
            let Some((at, cut)) = cut else { return Hook::Go };
            if at == number && matches!(cut, Cut::Deadline | Cut::DeadlineThenKill(_)) {
                clock.advance(SECONDS - 15);
            }
            let hook = match cut {
                Cut::Kill if number >= at => Hook::Hang,
                Cut::KillAfter if number >= at => Hook::HangAfter,
                Cut::DeadlineThenKill(later) if number >= at + later => Hook::HangAfter,
                _ => Hook::Go,
            };
            if hook != Hook::Go {
                notify.notify_one();
            }
            // Whatever else is in flight ends with the process.
            if number > at && hook == Hook::HangAfter { Hook::Hang } else { hook }
        });
        let mut store = FaultStore::new(store);
        if trouble {
            store = store.on(Operation::DeleteBatch, Fault::ErrorInBody);
        }
        if let Some((seed, percent)) = faults {
            store = store.random(seed, percent);
        }
        if let Some((at, has_effect)) = broken {
            store = if has_effect { store.cut_after_effect(at) } else { store.cut_after(at) };
        }
        if let Some(at) = unanswered {
            store = store.at_call(at, Fault::TimeoutAfter);
        }
        if let Some(operation) = fails {
            store = store.on(operation, Fault::Unavailable);
        }
        let deadline = self.world.clock.now() + SignedDuration::from_secs(SECONDS);
        let invocation = Invocation { request_id: format!("{:032x}", fastrand::u128(..)), deadline };
        let sizes = Sizes { batch: 4, plan_rows: 9, part_bytes: 1200 };
        let config = config(&[("SWEEP_POLICY", &*self.policy)]);
        let deps = Deps::new(store, self.world.clock.clone(), RecordingCdn::default(), config);
        let deps = deps.in_pieces_of(sizes);
        let schedule = json!({});
        let answer = tokio::select! {
            biased;
            answer = Box::pin(handle(&deps, &schedule, &invocation)) => answer.ok(),
            () = hung.notified() => None,
        };
        drop(deps);
        self.world.clock.advance(1000);
        (answer, made.load(Ordering::SeqCst))
    }

    /// These invocations, and then as many as it takes.
    async fn sweep(&self, invocations: &[Invoked]) {
        let mut left = invocations.iter().copied();
        for _ in 0..invocations.len() + 12 {
            let (answer, _) = self.invoke(left.next().unwrap_or_default()).await;
            if answer.is_some_and(|answer| is_done(&answer)) {
                return;
            }
        }
        unreachable!("it does not come to its end after {invocations:?}");
    }

    async fn check(&self, what: &[Invoked]) {
        let left: BTreeSet<_> = self.world.keys("files", "").await.into_iter().collect();
        let replaced = self.replaced.lock().unwrap().clone();
        let not_gone: Vec<_> = self.expired.difference(&replaced).filter(|key| left.contains(*key)).collect();
        assert!(not_gone.is_empty(), "expired and not gone: {not_gone:?} after {what:?}");
        let lost: Vec<_> = self.live.union(&replaced).filter(|key| !left.contains(*key)).collect();
        assert!(lost.is_empty(), "live and gone: {lost:?} after {what:?}");
        let mut reported: BTreeMap<String, u32> = BTreeMap::new();
        for key in self.world.reported("deleted").await {
            *reported.entry(key).or_default() += 1;
        }
        for key in self.expired.difference(&replaced) {
            assert_eq!(reported.get(key), Some(&1), "{key} in the reports after {what:?}");
        }
        for (key, count) in &reported {
            assert!(self.expired.contains(key) && *count == 1, "{key}, {count} times, after {what:?}");
        }
    }
}

fn is_done(answer: &Value) -> bool {
    let outcomes = answer["outcomes"].as_array().unwrap();
    answer["complete"] == true && outcomes.iter().all(|outcome| outcome["status"] != "failed")
}

async fn survives(invocations: Vec<Invoked>) {
    let bucket = Bucket::new().await;
    Box::pin(bucket.sweep(&invocations)).await;
    bucket.check(&invocations).await;
}

/// Side by side, as they spend most of their time waiting.
async fn all_survive(scenarios: Vec<Vec<Invoked>>) {
    for some in scenarios.chunks(400) {
        join_all(some.iter().cloned().map(survives)).await;
    }
}

/// How many requests an invocation makes that is not cut off.
async fn requests(trouble: bool) -> u64 {
    let bucket = Bucket::new().await;
    let (answer, made) = Box::pin(bucket.invoke(Invoked { trouble, ..Invoked::default() })).await;
    assert!(trouble || is_done(&answer.unwrap()));
    made
}

#[tokio::test]
async fn cut_off_at_any_request_it_goes_on_and_leaves_nothing() {
    let mut scenarios = Vec::new();
    for trouble in [false, true] {
        let made = requests(trouble).await;
        assert!(made > 60, "{made}");
        for at in 1..=made {
            for cut in [Cut::Kill, Cut::KillAfter, Cut::Deadline] {
                scenarios.push(vec![Invoked { cut: Some((at, cut)), trouble, ..Invoked::default() }]);
            }
            for later in [1, 3, 6, 10] {
                let cut = Some((at, Cut::DeadlineThenKill(later)));
                scenarios.push(vec![Invoked { cut, trouble, ..Invoked::default() }]);
            }
        }
    }
    all_survive(scenarios).await;
}

#[tokio::test]
async fn what_was_deleted_without_an_answer_and_then_answers_with_errors_is_reported() {
    let made = requests(true).await;
    let scenarios = (1..=made).flat_map(|at| {
        [None, Some((at + 1, Cut::Deadline)), Some((at, Cut::Deadline))]
            .map(|cut| vec![Invoked { cut, trouble: true, unanswered: Some(at), ..Invoked::default() }])
    });
    all_survive(scenarios.collect()).await;
}

#[tokio::test]
async fn with_a_store_that_fails_from_any_request_on_or_at_one_operation_it_leaves_nothing() {
    let made = requests(false).await;
    let broken = (1..=made).flat_map(|at| [(at, false), (at, true)]);
    let mut scenarios: Vec<_> =
        broken.map(|broken| vec![Invoked { broken: Some(broken), ..Invoked::default() }]).collect();
    for operation in [
        Operation::Head,
        Operation::Get,
        Operation::Put,
        Operation::List,
        Operation::Delete,
        Operation::DeleteBatch,
        Operation::CreateUpload,
        Operation::UploadPart,
        Operation::CompleteUpload,
    ] {
        let fails = Invoked { fails: Some(operation), ..Invoked::default() };
        for at in [20, 40, 60, 80] {
            let before = Invoked { cut: Some((at, Cut::KillAfter)), ..Invoked::default() };
            scenarios.push(vec![before, fails, fails]);
            let before = Invoked { cut: Some((at, Cut::Deadline)), ..Invoked::default() };
            scenarios.push(vec![before, fails]);
        }
        scenarios.push(vec![fails]);
    }
    all_survive(scenarios).await;
}

#[tokio::test]
async fn cut_off_once_more_while_it_tries_again_what_failed_it_leaves_nothing() {
    // The first invocation comes to its end with objects that failed for now.
    let made = requests(true).await;
    let firsts = [None, Some((made / 2, Cut::Deadline)), Some((made / 4, Cut::Deadline))];
    let mut scenarios = Vec::new();
    for first in firsts {
        for at in 1..=70 {
            for cut in [Cut::Kill, Cut::KillAfter, Cut::Deadline] {
                let first = Invoked { cut: first, trouble: true, ..Invoked::default() };
                let again = Invoked { cut: Some((at, cut)), trouble: at % 2 == 0, ..Invoked::default() };
                scenarios.push(vec![first, again]);
                scenarios.push(vec![first, first, again]);
            }
        }
    }
    all_survive(scenarios).await;
}

#[tokio::test]
async fn whatever_befalls_several_invocations_in_a_row_nothing_is_left_and_nothing_lost() {
    let mut random = fastrand::Rng::with_seed(4);
    let scenarios = (0..400).map(|_| {
        let invocation = |random: &mut fastrand::Rng| Invoked {
            cut: random.bool().then(|| {
                let cuts =
                    [Cut::Kill, Cut::KillAfter, Cut::Deadline, Cut::DeadlineThenKill(random.u64(1..10))];
                (random.u64(1..100), cuts[random.usize(..cuts.len())])
            }),
            trouble: random.u8(..3) == 0,
            faults: random.bool().then(|| (random.u64(..), 6)),
            broken: None,
            unanswered: random.bool().then(|| random.u64(30..100)),
            fails: None,
            replaced: random.bool().then(|| (random.u64(1..100), random.usize(..))),
        };
        (0..random.usize(1..6)).map(|_| invocation(&mut random)).collect()
    });
    all_survive(scenarios.collect()).await;
}
