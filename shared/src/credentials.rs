//! The keys that requests are signed with, where the platform hands new ones to a running process.
//!
//! Function Compute sends fresh keys with each request, or sets them once in the environment. Either way
//! they are one set: an id from one source never meets a secret or a token from another.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::env::Environment;

/// One set of keys, from one source.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The token that temporary keys come with.
    pub token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of the function's role as Function Compute puts them into the environment.
    pub fn of_alibaba_cloud(environment: &Environment) -> Option<Self> {
        let value = |name| environment.get(name).map(str::to_owned);
        Some(Self {
            id: value("ALIBABA_CLOUD_ACCESS_KEY_ID")?,
            secret: value("ALIBABA_CLOUD_ACCESS_KEY_SECRET")?,
            token: value("ALIBABA_CLOUD_SECURITY_TOKEN"),
        })
    }

    /// Keys that stand in the variables of the AWS SDKs, as they do on a person's machine.
    pub fn of_sdk(environment: &Environment) -> Option<Self> {
        let value = |name| environment.get(name).map(str::to_owned);
        Some(Self {
            id: value("AWS_ACCESS_KEY_ID")?,
            secret: value("AWS_SECRET_ACCESS_KEY")?,
            token: value("AWS_SESSION_TOKEN"),
        })
    }
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Keys>,
    expired: bool,
}

/// The keys that hold at the moment. Clones are the same slot: the runtime fills it, a store reads it.
#[derive(Debug, Clone, Default)]
pub struct KeySlot(Arc<Mutex<State>>);

impl PartialEq for KeySlot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KeySlot {}

impl KeySlot {
    /// A slot that holds `keys`.
    pub fn new(keys: Option<Keys>) -> Self {
        Self(Arc::new(Mutex::new(State { keys, expired: false })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that hold now.
    pub fn current(&self) -> Option<Keys> {
        self.lock().keys.clone()
    }

    /// Puts newer keys in place of those that were there.
    pub fn replace(&self, keys: Keys) {
        let mut state = self.lock();
        if state.keys.as_ref() != Some(&keys) {
            *state = State { keys: Some(keys), expired: false };
        }
    }

    /// Notes that the store no longer takes these keys.
    pub fn expire(&self) {
        self.lock().expired = true;
    }

    /// Whether the store no longer takes the keys that are here.
    pub fn is_expired(&self) -> bool {
        self.lock().expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(id: &str) -> Keys {
        Keys { id: id.to_owned(), secret: "hunter2".to_owned(), token: Some("t0ken".to_owned()) }
    }

    #[test]
    fn keys_are_expired_until_others_come() {
        let slot = KeySlot::new(Some(keys("1")));
        slot.expire();
        slot.replace(keys("1"));
        assert!(slot.is_expired(), "the same keys again are as old as before");
        slot.clone().replace(keys("2"));
        assert!(!slot.is_expired());
        assert_eq!(slot.current(), Some(keys("2")));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let shown = format!("{:?}", KeySlot::new(Some(keys("1"))));
        assert!(!shown.contains("hunter2") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn an_id_without_its_secret_is_no_set_of_keys() {
        let read = |variables: &[(&str, &str)]| Keys::of_alibaba_cloud(&variables.iter().copied().collect());
        assert_eq!(read(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "1")]), None);
        let long_lived =
            read(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "1"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "2")]);
        assert_eq!(long_lived.and_then(|keys| keys.token), None);
    }
}
