//! A store that lets a test step in before a call, hold a call for ever, or take abilities away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shared::object_ref::{ETag, ETagRef, ObjectRef};
use shared::store::{
    Call, Capabilities, CopyOptions, DeleteItem, DeleteItems, GetOptions, GetResult, ListOptions, ListPage,
    MemoryStore, ObjectMeta, ObjectStore, Operation, Outgoing, Precondition, PutOptions, PutResult,
    StoreErrorKind, StoreResult, Tags, UploadPage, VersionPage,
};

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// It is carried out.
    Go,
    /// It is not carried out, and never ends.
    Hang,
    /// It is carried out, and never ends.
    HangAfter,
    /// It is carried out after a while.
    Slow(Duration),
    /// It is carried out after a while, which is so long where no other such call is under way, and twice as long beside
    /// another: the store has one hand for all of them.
    Shared(Duration),
    /// It never ends, and is carried out after a while all the same, also when nobody waits for it any more: a write, such as
    /// a store still had in its queue. Other calls are not carried out.
    Late(Duration),
}

/// What is decided about a key of a batch.
type OfKey = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A store with a hook before each call.
#[derive(Clone)]
pub(crate) struct Hooked {
    pub(crate) inner: MemoryStore,
    hook: Arc<dyn Fn(&Call) -> Hook + Send + Sync>,
    conditional_delete: bool,
    silent_locks: bool,
    conditional_copy: bool,
    tree: Option<u16>,
    fails: Option<OfKey>,
    refuses: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// How many shared calls are under way.
    sharing: Arc<AtomicU32>,
}

/// In how many pieces a shared call is carried out.
const PIECES: u32 = 50;

/// A shared call, which is under way until this is dropped.
struct Sharing(Arc<AtomicU32>);

impl Sharing {
    fn begin(calls: &Arc<AtomicU32>) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hooked {
    pub(crate) fn new(inner: MemoryStore, hook: impl Fn(&Call) -> Hook + Send + Sync + 'static) -> Self {
        Self {
            inner,
            hook: Arc::new(hook),
            conditional_delete: true,
            silent_locks: false,
            conditional_copy: true,
            tree: None,
            fails: None,
            refuses: None,
            sharing: Arc::default(),
        }
    }

    pub(crate) fn without_conditions(mut self) -> Self {
        self.conditional_delete = false;
        self
    }

    /// Refuses to delete what is locked without saying why.
    pub(crate) fn with_silent_locks(mut self) -> Self {
        self.silent_locks = true;
        self
    }

    /// Lists as a store does that walks a tree of folders, in pages of so many keys.
    pub(crate) fn in_tree_order(mut self, page_size: u16) -> Self {
        self.tree = Some(page_size);
        self
    }

    /// A page in the order of a tree: what is in a folder comes before what is beside it and begins with its name. Behind the
    /// name of a folder without its slash all of the folder is passed over, as SeaweedFS does.
    async fn list_as_tree(
        &self,
        page_size: u16,
        bucket: &str,
        options: ListOptions,
    ) -> StoreResult<ListPage> {
        fn in_tree(key: &str) -> Vec<&str> {
            key.split_inclusive('/').map(|part| part.trim_end_matches('/')).collect()
        }
        let mut entries = Vec::new();
        let all = ListOptions { prefix: options.prefix.clone(), ..ListOptions::default() };
        let mut page = self.inner.list(bucket, all.clone()).await?;
        loop {
            entries.append(&mut page.objects);
            let Some(token) = page.continuation else { break };
            page = self.inner.list(bucket, ListOptions { continuation: Some(token), ..all.clone() }).await?;
        }
        entries.sort_by(|a, b| in_tree(&a.key).cmp(&in_tree(&b.key)));
        let after = options.continuation.or(options.start_after).unwrap_or_default();
        let folder = format!("{}/", after.trim_end_matches('/'));
        // Unless an object is called so, too.
        let is_name = !after.is_empty() && !after.ends_with('/');
        let is_name = is_name && entries.iter().all(|entry| entry.key != after);
        entries.retain(|entry| {
            let is_in_it = is_name && entry.key.starts_with(&folder);
            in_tree(&entry.key) > in_tree(&after) && !is_in_it
        });
        let mut page = ListPage::default();
        let most = usize::from(options.max_keys.unwrap_or(page_size).min(page_size));
        let mut last = None;
        for entry in entries {
            let inner = entry.key.get(options.prefix.len()..).unwrap_or_default();
            let folder = options
                .delimiter
                .as_deref()
                .and_then(|_| inner.find('/'))
                .map(|at| entry.key.get(..options.prefix.len() + at + 1).unwrap_or_default().to_owned());
            if folder.is_some() && page.common_prefixes.last() == folder.as_ref() {
                last = Some(entry.key);
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == most {
                page.continuation = last;
                break;
            }
            last = Some(entry.key.clone());
            match folder {
                Some(folder) => page.common_prefixes.push(folder),
                None => page.objects.push(entry),
            }
        }
        Ok(page)
    }

    /// Takes no notice of what has to hold at a copy's destination.
    pub(crate) fn without_conditional_copy(mut self) -> Self {
        self.conditional_copy = false;
        self
    }

    /// Answers an error of their own for these keys of a batch, and leaves them.
    pub(crate) fn with_errors_inside(mut self, fails: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.fails = Some(Arc::new(fails));
        self
    }

    /// Deletes these batches and refuses them all the same, as where an attempt was carried out that nobody heard of, and
    /// the next one was refused.
    pub(crate) fn refusing_what_it_did(mut self, refuses: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.refuses = Some(Arc::new(refuses));
        self
    }

    async fn around<T>(&self, call: Call, run: impl Future<Output = T>) -> T {
        self.take(call, run, |_| {}).await
    }

    /// The same for what may be carried out when nobody waits for it.
    async fn write<T: Send>(&self, call: Call, run: impl Future<Output = T> + Send + 'static) -> T {
        self.take(call, run, |(run, delay)| {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(run.await);
            });
        })
        .await
    }

    async fn take<T, F: Future<Output = T>>(
        &self,
        call: Call,
        run: F,
        late: impl FnOnce((F, Duration)),
    ) -> T {
        match (self.hook)(&call) {
            Hook::Go => run.await,
            Hook::Hang => std::future::pending().await,
            Hook::Late(delay) => {
                late((run, delay));
                std::future::pending().await
            }
            Hook::Slow(time) => {
                tokio::time::sleep(time).await;
                run.await
            }
            Hook::Shared(time) => {
                let sharing = Sharing::begin(&self.sharing);
                for _ in 0..PIECES {
                    tokio::time::sleep(time * sharing.0.load(Ordering::Relaxed) / PIECES).await;
                }
                drop(sharing);
                run.await
            }
            Hook::HangAfter => {
                drop(run.await);
                std::future::pending().await
            }
        }
    }
}

impl ObjectStore for Hooked {
    fn capabilities(&self) -> Capabilities {
        let Capabilities { conditional_replace, byte_order, .. } = self.inner.capabilities();
        let byte_order = byte_order && self.tree.is_none();
        Capabilities { conditional_replace, conditional_delete: self.conditional_delete, byte_order }
    }

    async fn head(&self, object: &ObjectRef) -> StoreResult<ObjectMeta> {
        self.around(Call::on_object(Operation::Head, object), self.inner.head(object)).await
    }

    async fn get(&self, object: &ObjectRef, options: GetOptions) -> StoreResult<GetResult> {
        self.around(Call::on_object(Operation::Get, object), self.inner.get(object, options)).await
    }

    async fn put(
        &self,
        object: &ObjectRef,
        body: impl Into<Outgoing> + Send,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let (call, body) = (Call::on_object(Operation::Put, object), body.into());
        self.write(call, {
            let (store, object) = (self.inner.clone(), object.clone());
            async move { store.put(&object, body, options).await }
        })
        .await
    }

    async fn copy(
        &self,
        source: &ObjectRef,
        destination: &ObjectRef,
        mut options: CopyOptions,
    ) -> StoreResult<PutResult> {
        if !self.conditional_copy {
            options.precondition = Precondition::None;
        }
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
        assert!(self.conditional_delete || items.clone().all(|item| item.if_match.is_none()));
        let call = Call::on_bucket(Operation::DeleteBatch, bucket);
        let owned: Vec<_> = items
            .map(|DeleteItem { key, version_id, if_match }| {
                (key.to_owned(), version_id.map(str::to_owned), if_match.map(ETagRef::owned))
            })
            .collect();
        let (store, bucket, fails) = (self.inner.clone(), bucket.to_owned(), self.fails.clone());
        let delete = async move {
            let (failed, others): (Vec<_>, Vec<_>) = owned
                .into_iter()
                .enumerate()
                .partition(|(_, (key, ..))| fails.as_ref().is_some_and(|fails| fails(key)));
            let items = others.iter().map(|(_, (key, version_id, if_match))| DeleteItem {
                key,
                version_id: version_id.as_deref(),
                if_match: if_match.as_ref().map(ETag::borrowed),
            });
            let answers = store.delete_batch(&bucket, items).await?;
            let mut results: BTreeMap<usize, StoreResult<()>> =
                others.iter().map(|(index, _)| *index).zip(answers).collect();
            results.extend(failed.into_iter().map(|(index, (key, ..))| {
                let call = Call::on_object(Operation::DeleteBatch, &ObjectRef::new(&*bucket, key));
                (index, Err(call.error(StoreErrorKind::Unavailable, "InternalError")))
            }));
            Ok(results.into_values().collect::<Vec<_>>())
        };
        let refused = self.refuses.as_ref().is_some_and(|refuses| refuses());
        let refusal = call.error(StoreErrorKind::AccessDenied, "AccessDenied");
        let mut results = self.write(call, delete).await?;
        if refused {
            return Err(refusal);
        }
        for error in results.iter_mut().filter_map(|result| result.as_mut().err()) {
            if self.silent_locks && error.kind == StoreErrorKind::Locked {
                error.kind = StoreErrorKind::AccessDenied;
            }
        }
        Ok(results)
    }

    async fn list(&self, bucket: &str, options: ListOptions) -> StoreResult<ListPage> {
        let call = Call::on_bucket(Operation::List, bucket);
        match self.tree {
            Some(page_size) => self.around(call, self.list_as_tree(page_size, bucket, options)).await,
            None => self.around(call, self.inner.list(bucket, options)).await,
        }
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
        let (store, object, upload_id) = (self.inner.clone(), object.clone(), upload_id.to_owned());
        let parts = parts.to_vec();
        self.write(
            call,
            async move { store.complete_upload(&object, &upload_id, &parts, precondition).await },
        )
        .await
    }

    async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> StoreResult<()> {
        let call = Call::on_object(Operation::AbortUpload, object);
        self.around(call, self.inner.abort_upload(object, upload_id)).await
    }
}
