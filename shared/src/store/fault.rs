//! A decorator that injects faults, so that a test can ask what is left behind when a call fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream;

use super::{
    Call, Capabilities, CopyOptions, DeleteItem, DeleteItems, GetOptions, GetResult, ListOptions, ListPage,
    ObjectMeta, ObjectStore, Operation, Outgoing, Precondition, PutOptions, PutResult, StoreErrorKind,
    StoreResult, Tags, UploadPage, VersionPage,
};
use crate::object_ref::{ETag, ObjectRef};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The store asks to slow down; nothing was done.
    Throttle,
    /// A 5xx; nothing was done.
    Unavailable,
    /// No answer came and nothing was done.
    TimeoutBefore,
    /// No answer came, but what was asked was done.
    TimeoutAfter,
    /// 200 with an error in the body. Copies and completions did nothing; of a batch delete the first and
    /// every second object after it stayed, each with an error of its own; with other calls as [`Fault::Unavailable`].
    ErrorInBody,
    /// The body ends half-way. Other calls than GET did what was asked, and their answer is lost.
    TruncatedBody,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Throttle,
        Self::Unavailable,
        Self::TimeoutBefore,
        Self::TimeoutAfter,
        Self::ErrorInBody,
        Self::TruncatedBody,
    ];

    fn kind(self) -> StoreErrorKind {
        match self {
            Self::Throttle => StoreErrorKind::Throttled,
            Self::TimeoutBefore | Self::TimeoutAfter => StoreErrorKind::Timeout,
            Self::Unavailable | Self::ErrorInBody | Self::TruncatedBody => StoreErrorKind::Unavailable,
        }
    }

    fn has_effect(self) -> bool {
        matches!(self, Self::TimeoutAfter | Self::TruncatedBody)
    }
}

/// A store some of whose calls fail. Clones share their plan and their count.
///
/// Calls are counted from 1, in the order in which they are made.
#[derive(Debug, Clone)]
pub struct FaultStore<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    faults: u64,
    by_number: BTreeMap<u64, Fault>,
    by_operation: Vec<(Operation, Fault)>,
    random: Option<Random>,
    /// The last call that is answered, and whether the one after it still takes effect.
    cut: Option<(u64, bool)>,
}

impl Plan {
    fn next(&mut self, operation: Operation) -> Option<Fault> {
        self.calls += 1;
        let cut = self.cut.and_then(|(answered, effect)| {
            let beyond = self.calls.checked_sub(answered)?;
            match beyond {
                0 => None,
                1 if effect => Some(Fault::TimeoutAfter),
                _ => Some(Fault::Unavailable),
            }
        });
        let fault = cut
            .or_else(|| self.by_number.remove(&self.calls))
            .or_else(|| self.by_operation.iter().find(|(of, _)| *of == operation).map(|(_, fault)| *fault))
            .or_else(|| self.random.as_mut()?.next());
        self.faults += u64::from(fault.is_some());
        fault
    }
}

#[derive(Debug)]
struct Random {
    state: u64,
    percent: u8,
}

impl Random {
    /// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same faults.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next(&mut self) -> Option<Fault> {
        let strikes = self.number() % 100 < u64::from(self.percent);
        let choice = usize::try_from(self.number() % Fault::ALL.len() as u64).unwrap_or_default();
        if strikes { Fault::ALL.get(choice).copied() } else { None }
    }
}

impl<S> FaultStore<S> {
    /// `inner`, without any fault so far.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Call number `n` fails so.
    #[must_use]
    pub fn at_call(self, n: u64, fault: Fault) -> Self {
        self.lock().by_number.insert(n, fault);
        self
    }

    /// Every call of `operation` fails so.
    #[must_use]
    pub fn on(self, operation: Operation, fault: Fault) -> Self {
        self.lock().by_operation.push((operation, fault));
        self
    }

    /// That many calls of a hundred fail, each in one of all ways; which ones follows from `seed`.
    #[must_use]
    pub fn random(self, seed: u64, percent: u8) -> Self {
        self.lock().random = Some(Random { state: seed, percent });
        self
    }

    /// Every call after the `n`-th fails and does nothing, as if the process had ended there.
    #[must_use]
    pub fn cut_after(self, n: u64) -> Self {
        self.lock().cut = Some((n, false));
        self
    }

    /// The `n`-th call is carried out but not answered, and every later one fails.
    #[must_use]
    pub fn cut_after_effect(self, n: u64) -> Self {
        self.lock().cut = Some((n.saturating_sub(1), true));
        self
    }

    /// No call fails from here on; counting goes on.
    pub fn heal(&self) {
        let mut plan = self.lock();
        *plan = Plan { calls: plan.calls, faults: plan.faults, ..Plan::default() };
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many of them failed by plan.
    pub fn faults(&self) -> u64 {
        self.lock().faults
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn around<T>(&self, call: Call, run: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let Some(fault) = self.lock().next(call.operation) else { return run.await };
        if fault.has_effect() {
            drop(run.await);
        }
        Err(injected(&call, fault))
    }
}

fn injected(call: &Call, fault: Fault) -> super::StoreError {
    call.error(fault.kind(), "injected")
}

/// The first half of a body, then an error.
fn truncated(call: &Call, result: GetResult) -> GetResult {
    let GetResult { meta, length, body, call: of } = result;
    let error = call.error(StoreErrorKind::Truncated, "injected");
    let half = length / 2;
    let first_half = body.scan(half, |left, chunk| {
        let cut = chunk.map(|mut chunk| {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
            chunk
        });
        futures::future::ready(match &cut {
            Ok(chunk) if chunk.is_empty() => None,
            _ => Some(cut),
        })
    });
    let body = first_half.chain(stream::once(futures::future::ready(Err(error)))).boxed();
    GetResult::new(of, meta, length, body)
}

impl<S: ObjectStore> ObjectStore for FaultStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn probe(&self, bucket: &str, key: &str) -> StoreResult<()> {
        self.inner.probe(bucket, key).await
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        self.around(Call::on_object(Operation::Head, object), self.inner.head(object)).await
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        let call = Call::on_object(Operation::Get, object);
        let fault = self.lock().next(call.operation);
        match fault {
            None => self.inner.get(object, options).await,
            Some(Fault::TruncatedBody) => Ok(truncated(&call, self.inner.get(object, options).await?)),
            Some(fault) => Err(injected(&call, fault)),
        }
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.around(Call::on_object(Operation::Put, object), self.inner.put(object, body, options)).await
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        options: CopyOptions,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::Copy, destination);
        self.around(call, self.inner.copy(source, destination, options)).await
    }

    async fn delete(&self, object: &ObjectRef, if_match: Option<&ETag>) -> StoreResult<()> {
        self.around(Call::on_object(Operation::Delete, object), self.inner.delete(object, if_match)).await
    }

    async fn delete_batch<'n>(
        &self,
        bucket: &str,
        items: impl DeleteItems<'n>,
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        let fault = self.lock().next(call.operation);
        match fault {
            None => self.inner.delete_batch(bucket, items).await,
            Some(Fault::ErrorInBody) => {
                let deleted = items.clone().skip(1).step_by(2);
                let mut results = self.inner.delete_batch(bucket, deleted).await?.into_iter();
                let result = |(index, item): (usize, DeleteItem<'_>)| match index % 2 {
                    1 => results.next().unwrap_or(Ok(())),
                    _ => Err(Call::on_item(bucket, &item).error(StoreErrorKind::Throttled, "injected")),
                };
                Ok(items.enumerate().map(result).collect())
            }
            Some(fault) => {
                if fault.has_effect() {
                    drop(self.inner.delete_batch(bucket, items).await);
                }
                Err(injected(&call, fault))
            }
        }
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        self.around(Call::on_bucket(Operation::List, bucket), self.inner.list(bucket, options)).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<VersionPage> {
        let call = Call::on_bucket(Operation::ListVersions, bucket);
        self.around(call, self.inner.list_versions(bucket, prefix, after)).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, Option<String>)>,
    ) -> StoreResult<UploadPage> {
        let call = Call::on_bucket(Operation::ListUploads, bucket);
        self.around(call, self.inner.list_uploads(bucket, prefix, after)).await
    }

    async fn get_tags(&self, object: &ObjectRef) -> StoreResult<Tags> {
        self.around(Call::on_object(Operation::GetTags, object), self.inner.get_tags(object)).await
    }

    async fn put_tags(&self, object: &ObjectRef, tags: &Tags) -> StoreResult<()> {
        self.around(Call::on_object(Operation::PutTags, object), self.inner.put_tags(object, tags)).await
    }

    async fn create_upload(&self, object: &ObjectRef, options: PutOptions) -> StoreResult<String> {
        let call = Call::on_object(Operation::CreateUpload, object);
        self.around(call, self.inner.create_upload(object, options)).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u16,
        body: impl Into<Outgoing> + Send,
    ) -> StoreResult<ETag> {
        let call = Call::on_object(Operation::UploadPart, object);
        self.around(call, self.inner.upload_part(object, upload_id, number, body)).await
    }

    async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u16, ETag)],
        precondition: Precondition,
    ) -> StoreResult<PutResult> {
        let call = Call::on_object(Operation::CompleteUpload, object);
        self.around(call, self.inner.complete_upload(object, upload_id, parts, precondition)).await
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        let call = Call::on_object(Operation::AbortUpload, object);
        self.around(call, self.inner.abort_upload(object, upload_id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use bytes::Bytes;

    use super::*;

    fn store() -> FaultStore<MemoryStore> {
        FaultStore::new(MemoryStore::new().with_bucket("b"))
    }

    fn object(key: &str) -> ObjectRef {
        ObjectRef::new("b", key)
    }

    async fn put(store: &impl ObjectStore, key: &str) -> StoreResult<PutResult> {
        store.put(&object(key), Bytes::from_static(b"0123456789"), PutOptions::default()).await
    }

    #[tokio::test]
    async fn a_time_out_after_the_effect_leaves_the_effect() {
        let store = store().at_call(1, Fault::TimeoutBefore).at_call(2, Fault::TimeoutAfter);
        assert_eq!(put(&store, "a").await.unwrap_err().kind, StoreErrorKind::Timeout);
        assert!(store.inner().head(&object("a")).await.is_err());
        assert_eq!(put(&store, "a").await.unwrap_err().kind, StoreErrorKind::Timeout);
        assert!(store.inner().head(&object("a")).await.is_ok());
        assert!(put(&store, "a").await.is_ok());
        assert_eq!((store.calls(), store.faults()), (3, 2));
    }

    #[tokio::test]
    async fn a_cut_lets_nothing_through_behind_it() {
        for (cut, stored) in
            [(store().cut_after(2), 2), (store().cut_after_effect(2), 2), (store().cut_after(0), 0)]
        {
            let mut answered = 0;
            for key in ["a", "b", "c", "d"] {
                answered += u32::from(put(&cut, key).await.is_ok());
            }
            let page = cut.inner().list("b", ListOptions::default()).await.unwrap();
            assert_eq!(page.objects.len(), stored);
            assert!(answered <= 2);
            cut.heal();
            assert!(put(&cut, "e").await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_truncated_body_is_an_error_behind_its_first_half() {
        let store = store().on(Operation::Get, Fault::TruncatedBody);
        put(&store, "a").await.unwrap();
        let mut result = store.get(&object("a"), GetOptions::default()).await.unwrap();
        assert_eq!(result.body.next().await.unwrap().unwrap(), Bytes::from_static(b"01234"));
        assert_eq!(result.body.next().await.unwrap().unwrap_err().kind, StoreErrorKind::Truncated);
        let result = store.get(&object("a"), GetOptions::default()).await.unwrap();
        assert_eq!(result.bytes(100).await.unwrap_err().kind, StoreErrorKind::Truncated);
    }

    #[tokio::test]
    async fn an_error_in_the_body_of_a_batch_spares_every_second_object() {
        let store = store().on(Operation::DeleteBatch, Fault::ErrorInBody);
        let mut items = Vec::new();
        for key in ["a", "b", "c"] {
            put(&store, key).await.unwrap();
            items.push(DeleteItem::any(key));
        }
        let results = store.delete_batch("b", items.into_iter()).await.unwrap();
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
        let left = store.list("b", ListOptions::default()).await.unwrap();
        assert_eq!(left.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let store = store().random(7, 30);
            let mut failed = Vec::new();
            for n in 0..200 {
                failed.push(put(&store, &n.to_string()).await.is_err());
            }
            assert!((30..90).contains(&store.faults()), "{}", store.faults());
            runs.push(failed);
        }
        assert_eq!(runs[0], runs[1]);
    }
}
