//! The request log: what was asked of the server, and what it answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::Fault;

/// A call that was answered, or whose connection was cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// S3's name of the operation, such as `GetObject`; `Unknown` where the request was refused before
    /// it was understood, for example because of its signature.
    pub operation: String,
    /// The bucket, if the call names one.
    pub bucket: String,
    /// The raw key, if the call names one.
    pub key: String,
    /// HTTP's status; 0 where the connection was cut before an answer.
    pub status: u16,
    /// Bytes of the body that came in, as they were on the wire.
    pub bytes_in: u64,
    /// Bytes of the body that went out.
    pub bytes_out: u64,
    /// The access key's id; empty for an anonymous call.
    pub principal: String,
    /// The header `User-Agent`.
    pub user_agent: String,
    /// The header `X-Amzn-Trace-Id`: the invocation in which an AWS SDK made the call.
    pub trace_id: String,
    /// The id that the answer carries.
    pub request_id: String,
    /// The fault that was injected.
    pub fault: Option<Fault>,
}

/// What is known about a call while it runs.
#[derive(Debug, Clone)]
pub(super) struct Call(Arc<Mutex<Request>>);

impl Call {
    pub(super) fn new(request: Request) -> Self {
        Self(Arc::new(Mutex::new(request)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Request> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls in the order of their beginning.
#[derive(Debug, Default)]
pub(super) struct RequestLog(Mutex<Vec<Call>>);

impl RequestLog {
    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, call: Call) {
        self.lock().push(call);
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.lock().iter().map(|call| call.lock().clone()).collect()
    }

    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.lock()).iter().map(|call| call.lock().clone()).collect()
    }
}
