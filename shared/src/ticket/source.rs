//! Where the keys come from, and for how long they are remembered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use lambda_runtime_api_client::body::Body;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Claims, KeySet, authenticate};
use crate::clock::Clock;
use crate::env::Environment;
use crate::object_ref::ObjectRef;
use crate::outcome::{Outcome, Reason, RetryClass};
use crate::store::{GetOptions, ObjectStore, StoreError};

/// A JWKS is small; what is larger is something else.
const MAX_JWKS_BYTES: u64 = 64 << 10;

/// How often, at most, an unknown `kid` makes the keys be read again: a stranger can send any `kid`.
const REREAD_AFTER: Duration = Duration::from_secs(60);

/// How long the parameters extension may take.
const EXTENSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the keys stand.
#[derive(Clone)]
pub enum KeyReference {
    /// In the configuration itself.
    Inline(Arc<KeySet>),
    /// In an object: `s3://bucket/key`.
    Object(ObjectRef),
    /// At a path of Lambda's parameters-and-secrets extension, which answers over local HTTP and keeps what it
    /// read: no client to set up, nothing that a cold start has to load.
    Extension {
        /// Path and query.
        path: String,
        /// Where the text stands in the answer: `Parameter.Value` or `SecretString`.
        field: &'static [&'static str],
        /// The extension's port.
        port: u16,
        /// Shown to the extension, so that it answers to this function only.
        token: String,
    },
}

impl fmt::Debug for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(keys) => f.debug_tuple("Inline").field(keys).finish(),
            Self::Object(object) => f.debug_tuple("Object").field(object).finish(),
            Self::Extension { path, port, .. } => {
                f.debug_struct("Extension").field("path", path).field("port", port).finish_non_exhaustive()
            }
        }
    }
}

impl KeyReference {
    /// Reads `TICKET_KEYS`: a JWKS, or a reference that begins with `s3://`, `ssm:` or `secretsmanager:`.
    pub fn read(env: &mut Environment) -> Option<Self> {
        const EXPECTED: &str = "a JWKS, s3://bucket/key, ssm:/name or secretsmanager:name";
        let value = env.get("TICKET_KEYS")?.to_owned();
        if value.starts_with("s3://") {
            let object = ObjectRef::parse_uri(&value);
            if object.is_none() {
                env.mistake("TICKET_KEYS", false, EXPECTED);
            }
            return object.map(Self::Object);
        }
        let escaped = |name: &str| {
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let extension = |path, field| Self::Extension {
            path,
            field,
            port: env
                .get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT")
                .and_then(|port| port.parse().ok())
                .unwrap_or(2773),
            token: env.get("AWS_SESSION_TOKEN").unwrap_or_default().to_owned(),
        };
        if let Some(name) = value.strip_prefix("ssm:").filter(|name| !name.is_empty()) {
            let path = format!("/systemsmanager/parameters/get?name={}&withDecryption=true", escaped(name));
            return Some(extension(path, &["Parameter", "Value"]));
        }
        if let Some(name) = value.strip_prefix("secretsmanager:").filter(|name| !name.is_empty()) {
            return Some(extension(
                format!("/secretsmanager/get?secretId={}", escaped(name)),
                &["SecretString"],
            ));
        }
        if !value.trim_start().starts_with('{') {
            env.mistake("TICKET_KEYS", true, EXPECTED);
            return None;
        }
        match KeySet::parse(&value) {
            Ok(keys) => Some(Self::Inline(Arc::new(keys))),
            Err(expected) => {
                env.mistake("TICKET_KEYS", true, expected);
                None
            }
        }
    }

    async fn load<S: ObjectStore>(&self, store: &S) -> Result<Arc<KeySet>, KeysError> {
        let text = match self {
            Self::Inline(keys) => return Ok(Arc::clone(keys)),
            Self::Object(object) => {
                let found = store.get(object, GetOptions::default()).await?;
                String::from_utf8(found.bytes(MAX_JWKS_BYTES).await?.to_vec())
                    .map_err(|_| KeysError::Unusable("UTF-8".into()))?
            }
            Self::Extension { path, field, port, token } => {
                let asked = ask_extension(path, *port, token);
                let answer = tokio::time::timeout(EXTENSION_TIMEOUT, asked)
                    .await
                    .map_err(|_| KeysError::Extension("it gave no answer in time".into()))??;
                let text =
                    field.iter().try_fold(&answer, |value, name| value.get(name)).and_then(Value::as_str);
                text.ok_or_else(|| KeysError::Unusable(format!("a text at {}", field.join("."))))?.to_owned()
            }
        };
        KeySet::parse(&text).map(Arc::new).map_err(KeysError::Unusable)
    }
}

async fn ask_extension(path: &str, port: u16, token: &str) -> Result<Value, KeysError> {
    let failed = |what: String| KeysError::Extension(what);
    let endpoint = format!("http://localhost:{port}").parse().map_err(|error| failed(format!("{error}")))?;
    let client = lambda_runtime_api_client::Client::builder()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let request = Request::get(path)
        .header("X-Aws-Parameters-Secrets-Token", token)
        .body(Body::empty())
        .map_err(|error| failed(error.to_string()))?;
    let answer = client.call(request).await.map_err(|error| failed(error.to_string()))?;
    let status = answer.status();
    let body = http_body_util::BodyExt::collect(http_body_util::Limited::new(answer.into_body(), 128 << 10))
        .await
        .map_err(|error| failed(error.to_string()))?
        .to_bytes();
    if !status.is_success() {
        return Err(failed(format!("it answered {status}")));
    }
    serde_json::from_slice(&body).map_err(|_| KeysError::Unusable("JSON from the extension".into()))
}

/// Why there are no keys to verify with. No upload is judged without them.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The object cannot be read.
    #[error("the object that TICKET_KEYS names cannot be read")]
    Store(#[from] StoreError),
    /// The extension does not answer.
    #[error(
        "the parameters-and-secrets extension does not answer: {0}; add its layer, and permission to read the parameter"
    )]
    Extension(String),
    /// What stands there is no JWKS.
    #[error("what TICKET_KEYS names cannot be used: expected {0}")]
    Unusable(String),
}

impl KeysError {
    /// How a record ends that needs keys which cannot be had: undecided, to be delivered again. A person may have to
    /// act, but nothing is wrong with the upload, and the carrier keeps it, at last at the failure destination,
    /// until the keys are there.
    pub fn outcome(&self) -> Outcome {
        let detail = match self {
            Self::Store(error) => format!("{self}: {error}"),
            Self::Extension(_) | Self::Unusable(_) => self.to_string(),
        };
        Outcome::failed(Reason::new("ticket-keys-unavailable", detail), RetryClass::Retryable)
    }
}

/// The keys, read when they are first needed and remembered for the life of the process.
pub struct TicketKeys {
    reference: KeyReference,
    loaded: Mutex<Option<(Arc<KeySet>, Timestamp)>>,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

impl TicketKeys {
    /// Keys that stand at `reference`. Nothing is read yet.
    pub fn new(reference: KeyReference) -> Self {
        Self { reference, loaded: Mutex::new(None) }
    }

    /// Authenticates `token`. A `kid` that nobody knows makes the keys be read again, at most once a minute,
    /// because they may have been rotated.
    ///
    /// # Errors
    /// The outer error: there are no keys to judge by. The inner one: the ticket is not authentic.
    pub async fn authenticate<S: ObjectStore, C: Clock>(
        &self,
        token: &str,
        store: &S,
        clock: &C,
    ) -> Result<Result<Claims, Reason>, KeysError> {
        let mut loaded = self.loaded.lock().await;
        let (keys, read_at) = match &*loaded {
            Some((keys, read_at)) => (Arc::clone(keys), *read_at),
            None => {
                let keys = self.reference.load(store).await?;
                let now = clock.now();
                *loaded = Some((Arc::clone(&keys), now));
                (keys, now)
            }
        };
        let verdict = authenticate(token, &keys);
        let unknown = verdict.as_ref().is_err_and(|reason| reason.code == "ticket-unknown-key");
        let age = Duration::try_from(clock.now().duration_since(read_at)).unwrap_or_default();
        if !unknown || age < REREAD_AFTER || matches!(self.reference, KeyReference::Inline(_)) {
            return Ok(verdict);
        }
        let keys = self.reference.load(store).await?;
        *loaded = Some((Arc::clone(&keys), clock.now()));
        Ok(authenticate(token, &keys))
    }
}
