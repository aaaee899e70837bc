//! A function that can be invoked: synchronously, or asynchronously with retries and destinations.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;
use shared::clock::{Clock, SystemClock};
use tokio::sync::{Semaphore, mpsc, watch};

use super::config::FunctionConfig;
use super::destination;
use super::instance::Instance;
use super::result::InvocationResult;
use super::{locked, new_id};

/// Why a function cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no such binary.
    #[error("{} is not there; build it by: cargo build", .0.display())]
    NoBinary(PathBuf),
}

/// One attempt of an asynchronous invocation, as [`Function::reports`] tells it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The function's name.
    pub function: String,
    /// 1 for the first attempt.
    pub attempt: usize,
    /// Whether this was the last one.
    pub last: bool,
    /// The event.
    pub event: Arc<Value>,
    /// How it ended.
    pub result: InvocationResult,
}

/// A function. Clones are the same function; its processes end with the last of them.
#[derive(Debug, Clone)]
pub struct Function(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: FunctionConfig,
    permits: Semaphore,
    idle: Mutex<Vec<Instance>>,
    pending: watch::Sender<usize>,
    failures: Mutex<Vec<Value>>,
    successes: Mutex<Vec<Value>>,
    reports: Mutex<Vec<mpsc::UnboundedSender<Report>>>,
}

impl Function {
    /// Takes `config` for a function. The process starts with the first invocation.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn start(config: FunctionConfig) -> Result<Self, StartError> {
        if !config.binary.is_file() {
            return Err(StartError::NoBinary(config.binary));
        }
        Ok(Self(Arc::new(Inner {
            permits: Semaphore::new(config.instances.max(1)),
            config,
            idle: Mutex::default(),
            pending: watch::Sender::new(0),
            failures: Mutex::default(),
            successes: Mutex::default(),
            reports: Mutex::default(),
        })))
    }

    /// What the function was started with.
    pub fn config(&self) -> &FunctionConfig {
        &self.0.config
    }

    /// Invokes the function and waits for its answer. Where every instance is busy, waits for one.
    pub async fn invoke(&self, event: Value) -> InvocationResult {
        self.0.run(&new_id().to_string(), &event).await
    }

    /// Takes `event` in for an asynchronous invocation and answers its request id. A failed attempt is
    /// repeated as [`super::Retry`] says; what became of it at last stands in [`Function::failures`] or
    /// [`Function::successes`].
    pub fn send(&self, event: Value) -> String {
        let request_id = new_id().to_string();
        let (inner, id) = (self.0.clone(), request_id.clone());
        inner.pending.send_modify(|pending| *pending += 1);
        tokio::spawn(async move {
            inner.attend(&id, event).await;
            inner.pending.send_modify(|pending| *pending -= 1);
        });
        request_id
    }

    /// Waits until every event that was sent has come to its end.
    pub async fn idle(&self) {
        // The sender lives as long as this function.
        let _ = self.0.pending.subscribe().wait_for(|pending| *pending == 0).await;
    }

    /// The records of the failure destination, oldest first.
    pub fn failures(&self) -> Vec<Value> {
        locked(&self.0.failures).clone()
    }

    /// The records of the success destination, oldest first.
    pub fn successes(&self) -> Vec<Value> {
        locked(&self.0.successes).clone()
    }

    /// Every attempt of an asynchronous invocation from now on, as it ends.
    pub fn reports(&self) -> mpsc::UnboundedReceiver<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        locked(&self.0.reports).push(sender);
        receiver
    }

    /// Ends the processes that wait for work, as Lambda ends idle ones. The next invocation starts anew.
    pub async fn shut_down(&self) {
        let idle = std::mem::take(&mut *locked(&self.0.idle));
        for instance in idle {
            instance.shut_down().await;
        }
    }
}

impl Inner {
    async fn run(&self, request_id: &str, event: &Value) -> InvocationResult {
        // The semaphore is never closed, so that a permit always comes.
        let _permit = self.permits.acquire().await;
        let mut instance = locked(&self.idle).pop().unwrap_or_default();
        let result = instance.invoke(&self.config, request_id, Bytes::from(event.to_string())).await;
        locked(&self.idle).push(instance);
        result
    }

    /// All attempts of one asynchronous invocation.
    async fn attend(&self, request_id: &str, event: Value) {
        let event = Arc::new(event);
        let mut pauses = self.config.retry.backoff.iter();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result = self.run(request_id, &event).await;
            let pause = if result.ok().is_some() { None } else { pauses.next() };
            if pause.is_none() {
                self.keep(attempt, &event, &result);
            }
            self.report(&Report {
                function: self.config.name.clone(),
                attempt,
                last: pause.is_none(),
                event: event.clone(),
                result,
            });
            let Some(pause) = pause else { return };
            tokio::time::sleep(*pause).await;
        }
    }

    /// Sends what became of an invocation to its destination.
    fn keep(&self, attempts: usize, event: &Value, result: &InvocationResult) {
        let record = destination::record(SystemClock.now(), &self.config.arn(), attempts, event, result);
        if result.ok().is_some() {
            locked(&self.successes).push(record);
            return;
        }
        if let Some(path) = &self.config.failure_file
            && let Err(error) = append(path, &record)
        {
            tracing::warn!(path = %path.display(), %error, "the failure destination cannot be written");
        }
        locked(&self.failures).push(record);
    }

    fn report(&self, report: &Report) {
        locked(&self.reports).retain(|listener| listener.send(report.clone()).is_ok());
    }
}

fn append(path: &Path, record: &Value) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{record}")
}
