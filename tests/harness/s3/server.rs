//! The server as tests hold it: how it is started, and its doors that need no HTTP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::Value;
use shared::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::blob::Blob;
use super::events::Event;
use super::faults::{FaultId, FaultRule, Faults};
use super::model::{
    Attributes, Bucket, Ids, NewObject, StoredObject, Tags, Version, Versioning, World, WriteConditions,
};
use super::notify::{Filter, Subscriptions, send};
use super::requests::{Request, RequestLog};

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id; the request log names it as principal.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

impl Credentials {
    /// An access key.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into() }
    }
}

/// Whose ways the server follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// Amazon's.
    #[default]
    S3,
    /// Alibaba Cloud's, as its S3 dialect and its own dialect answer.
    Oss,
}

impl Dialect {
    /// A digest as an entity tag.
    pub(super) fn e_tag(self, md5: impl AsRef<[u8]>) -> String {
        match self {
            Self::S3 => hex::encode(md5),
            Self::Oss => hex::encode_upper(md5),
        }
    }
}

/// How a server is started.
#[derive(Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The access keys that are accepted. The first is the one that [`Server::credentials`] answers.
    pub credentials: Vec<Credentials>,
    /// The region that buckets say they are in.
    pub region: String,
    /// The account that owns the buckets.
    pub account: String,
    /// Decides which calls a fault with a probability hits.
    pub seed: u64,
    /// What objects' and events' times are taken from.
    pub clock: Arc<dyn Clock>,
    /// Whose ways the server follows.
    pub dialect: Dialect,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            credentials: vec![Credentials::new("local-cloud", "local-cloud-secret")],
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
            seed: 0,
            clock: Arc::new(SystemClock),
            dialect: Dialect::S3,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("port", &self.port)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// How a bucket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketOptions {
    /// Whether it keeps versions.
    pub versioned: bool,
    /// Whether its objects can be locked; such a bucket keeps versions.
    pub object_lock: bool,
    /// Whether anybody may read its objects without a signature.
    pub public_read: bool,
}

/// How an object is put in without HTTP.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// What stands beside the bytes.
    pub attributes: Attributes,
    /// The tags.
    pub tags: Tags,
    /// When it was written; now if nothing is said.
    pub last_modified: Option<Timestamp>,
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the embedded S3 cannot listen on 127.0.0.1:{port}; is the port taken?")]
pub struct StartError {
    port: u16,
    source: io::Error,
}

/// What the doors share.
pub(super) struct Shared {
    pub(super) options: Options,
    world: Mutex<World>,
    pub(super) subscriptions: Subscriptions,
    pub(super) log: RequestLog,
    pub(super) faults: Faults,
}

impl Shared {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }
}

/// The embedded S3. Clones are the same server; it ends with the last of them.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    _task: Arc<Task>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Ends the server when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Starts a server, empty, within the current Tokio runtime.
    ///
    /// # Errors
    /// Where the port cannot be had.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let port = options.port;
        let failed = |source| StartError { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ids = Ids::new(options.seed, options.clock.now());
        let shared = Arc::new(Shared {
            faults: Faults::new(options.seed),
            world: Mutex::new(World { buckets: Default::default(), ids }),
            subscriptions: Subscriptions::default(),
            log: RequestLog::default(),
            options,
        });
        let task = tokio::spawn(super::serve::accept(listener, shared.clone()));
        Ok(Self { shared, address, _task: Arc::new(Task(task)) })
    }

    /// The address that it listens at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:9000`, or as OSS has it `http://s3.localhost:9000`, where buckets stand in the
    /// host's name.
    pub fn endpoint(&self) -> String {
        match self.shared.options.dialect {
            Dialect::S3 => format!("http://{}", self.address),
            Dialect::Oss => format!("http://s3.localhost:{}", self.address.port()),
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// An access key that is accepted.
    pub fn credentials(&self) -> Credentials {
        self.shared.options.credentials.first().cloned().unwrap_or_else(|| Credentials::new("", ""))
    }

    /// The region that buckets say they are in.
    pub fn region(&self) -> &str {
        &self.shared.options.region
    }

    /// Makes a bucket; one that is there stays as it is.
    pub fn create_bucket(&self, name: &str, options: BucketOptions) {
        let now = self.shared.now();
        let mut world = self.shared.world();
        world.buckets.entry(name.to_owned()).or_insert_with(|| {
            let mut bucket = Bucket::new(now);
            if options.versioned || options.object_lock {
                bucket.versioning = Versioning::Enabled;
            }
            bucket.object_lock = options.object_lock;
            bucket.public_read = options.public_read;
            bucket
        });
    }

    /// Changes whether a bucket keeps versions.
    pub fn set_versioning(&self, bucket: &str, versioning: Versioning) {
        if let Ok((bucket, _)) = self.shared.world().bucket_mut(bucket) {
            bucket.versioning = versioning;
        }
    }

    /// The buckets' names.
    pub fn buckets(&self) -> Vec<String> {
        self.shared.world().buckets.keys().cloned().collect()
    }

    /// S3's notifications, one record each, of the events in `bucket` that `filter` wants.
    pub fn subscribe(&self, bucket: &str, filter: Filter) -> UnboundedReceiver<Value> {
        self.shared.subscriptions.channel(bucket, filter, |event, filter| event.notification(&filter.target))
    }

    /// The same as EventBridge carries it.
    pub fn subscribe_event_bridge(&self, bucket: &str, filter: Filter) -> UnboundedReceiver<Value> {
        self.shared.subscriptions.channel(bucket, filter, |event, _| event.event_bridge())
    }

    /// The same as OSS's native trigger carries it.
    pub fn subscribe_oss(&self, bucket: &str, filter: Filter) -> UnboundedReceiver<Value> {
        self.shared.subscriptions.channel(bucket, filter, |event, _| event.oss())
    }

    /// Calls `deliver` with the notification's target and each S3 notification that `filter` wants,
    /// as long as the server runs. It is called while the server holds its state: it hands over and returns.
    pub fn notify(
        &self,
        bucket: &str,
        filter: Filter,
        deliver: impl Fn(&str, Value) + Send + Sync + 'static,
    ) {
        self.shared.subscriptions.add(Some(bucket.to_owned()), move |event| {
            if filter.wants(event) {
                deliver(&filter.target, event.notification(&filter.target));
            }
            true
        });
    }

    /// Every event of every bucket, from now on.
    pub fn events(&self) -> UnboundedReceiver<Event> {
        let (sender, receiver) = unbounded_channel();
        self.shared.subscriptions.add(None, move |event| send(&sender, event.clone()));
        receiver
    }

    /// The calls so far, in the order of their beginning.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.all()
    }

    /// The calls so far; the log is empty afterwards.
    pub fn take_requests(&self) -> Vec<Request> {
        self.shared.log.take()
    }

    /// Lets calls go wrong from now on.
    pub fn inject(&self, rule: FaultRule) -> FaultId {
        self.shared.faults.add(rule)
    }

    /// Takes a rule back.
    pub fn heal(&self, id: FaultId) {
        self.shared.faults.remove(id);
    }

    /// Takes all rules back.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// How often a rule hit.
    pub fn fault_hits(&self, id: FaultId) -> u64 {
        self.shared.faults.hits(id)
    }

    /// The current object at a key.
    pub fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        self.shared.world().bucket(bucket).ok()?.current(key).cloned()
    }

    /// All versions of a key that are objects, oldest first.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<StoredObject> {
        let world = self.shared.world();
        let versions = world.bucket(bucket).ok().and_then(|bucket| bucket.objects.get(key));
        versions.into_iter().flatten().filter_map(Version::object).cloned().collect()
    }

    /// The keys at which there is an object, in the order of their bytes.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let world = self.shared.world();
        let objects = world.bucket(bucket).ok().map(|bucket| &bucket.objects);
        let current = objects
            .into_iter()
            .flatten()
            .filter(|(_, versions)| versions.last().is_some_and(|version| version.object().is_some()));
        current.map(|(key, _)| key.clone()).collect()
    }

    /// The key and the id of each multipart upload under way.
    pub fn uploads(&self, bucket: &str) -> Vec<(String, String)> {
        let world = self.shared.world();
        world.bucket(bucket).map(|bucket| bucket.uploads.keys().cloned().collect()).unwrap_or_default()
    }

    /// Puts an object in without a call, a log entry or an event. Answers it, or nothing where there is
    /// no such bucket.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<Bytes>,
        options: PutOptions,
    ) -> Option<StoredObject> {
        let body: Bytes = body.into();
        let new = NewObject {
            e_tag: self.shared.options.dialect.e_tag(Md5::digest(&body)),
            body: Blob::from(body),
            attributes: Arc::new(options.attributes),
            tags: options.tags,
            ..NewObject::default()
        };
        let when = options.last_modified.unwrap_or_else(|| self.shared.now());
        let mut world = self.shared.world();
        let (bucket, ids) = world.bucket_mut(bucket).ok()?;
        bucket.write(key, new, &WriteConditions::default(), when, ids).ok()
    }

    /// Deletes an object without a call, a log entry or an event, as a DELETE would.
    pub fn delete(&self, bucket: &str, key: &str) {
        let now = self.shared.now();
        if let Ok((bucket, ids)) = self.shared.world().bucket_mut(bucket) {
            let _ = bucket.delete(key, None, None, now, ids);
        }
    }

    /// Changes the current object's age. Answers whether there is one.
    pub fn set_last_modified(&self, bucket: &str, key: &str, when: Timestamp) -> bool {
        self.change(bucket, key, |object| object.last_modified = when)
    }

    /// Changes the age of a multipart upload. Answers whether there is one.
    pub fn set_initiated(&self, bucket: &str, key: &str, upload_id: &str, when: Timestamp) -> bool {
        let mut world = self.shared.world();
        let Ok((bucket, _)) = world.bucket_mut(bucket) else { return false };
        bucket.upload_mut(key, upload_id).map(|upload| upload.initiated = when).is_ok()
    }

    /// Lays a legal hold on the current object. Answers whether there is one.
    pub fn lock(&self, bucket: &str, key: &str) -> bool {
        self.change(bucket, key, |object| object.legal_hold = true)
    }

    /// Takes the legal hold away. Answers whether there is an object.
    pub fn unlock(&self, bucket: &str, key: &str) -> bool {
        self.change(bucket, key, |object| object.legal_hold = false)
    }

    fn change(&self, bucket: &str, key: &str, how: impl FnOnce(&mut StoredObject)) -> bool {
        let mut world = self.shared.world();
        let Ok((bucket, _)) = world.bucket_mut(bucket) else { return false };
        bucket.find_mut(key, None).map(how).is_ok()
    }

    /// Writes the current objects of a bucket as files under `directory` and answers their paths. What a
    /// file system would take for a way out (`..`, a leading `/`) is written as `_`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn export(&self, bucket: &str, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for key in self.keys(bucket) {
            let Some(object) = self.object(bucket, &key) else { continue };
            let path = directory.join(file_path(&key));
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, object.body.bytes())?;
            written.push(path);
        }
        Ok(written)
    }
}

/// A key as a path that stays below where it is put.
fn file_path(key: &str) -> PathBuf {
    let name = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.replace(|c: char| c.is_control() || c == '\\' || c == ':', "_"),
    };
    key.split('/').map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_below_the_directory_it_is_exported_to() {
        assert_eq!(file_path("users/1.png"), Path::new("users/1.png"));
        assert_eq!(file_path("/../a//b"), Path::new("_/_/a/_/b"));
    }
}
