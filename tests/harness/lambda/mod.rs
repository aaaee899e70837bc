//! Lambda on this machine: the Runtime API, and the real binaries as its child processes.
//!
//! A [`Function`] starts its binary when it is first invoked, exactly as Lambda does: with a cleared
//! environment, behind a [`RuntimeApi`] of its own, under a deadline that kills. [`Function::invoke`] is a
//! synchronous invocation, [`Function::send`] an asynchronous one with its retries and destinations.

mod api;
mod config;
mod destination;
mod extension;
mod function;
mod instance;
mod logs;
mod memory;
mod phase;
mod process;
mod result;

pub use api::{MAX_PAYLOAD_BYTES, RuntimeApi};
pub use config::{Credentials, FunctionConfig, Retry};
pub use function::{Function, Report, StartError};
pub(crate) use logs::Logs;
pub use phase::{Said, Work};
pub use result::{Answer, InvocationResult};

use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The guarded value; what a panicking holder left is as good as any other state here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An id that no other has.
pub(crate) fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
}
