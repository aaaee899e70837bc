//! Who wants to know what happens in a bucket.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::events::Event;

/// Which events of a bucket are wanted, as S3's notification configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The notification's id, which its records name as `configurationId`: a name for the target.
    pub target: String,
    /// Patterns such as `s3:ObjectCreated:*`, `s3:ObjectRemoved:Delete`, `s3:ObjectCreated:Put`.
    pub events: Vec<String>,
    /// What a key starts with.
    pub prefix: String,
    /// What a key ends with.
    pub suffix: String,
}

impl Filter {
    /// Everything that is created.
    pub fn created(target: impl Into<String>) -> Self {
        Self::of(target, "s3:ObjectCreated:*")
    }

    /// Everything that is removed.
    pub fn removed(target: impl Into<String>) -> Self {
        Self::of(target, "s3:ObjectRemoved:*")
    }

    /// Everything that matches `pattern`.
    pub fn of(target: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            events: vec![pattern.into()],
            prefix: String::new(),
            suffix: String::new(),
        }
    }

    /// The same, for keys that start with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The same, for keys that end with `suffix`.
    #[must_use]
    pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
        self.suffix = suffix.into();
        self
    }

    /// Whether the event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let name = event.cause.name();
        let matches = |pattern: &String| {
            let pattern = pattern.strip_prefix("s3:").unwrap_or(pattern);
            match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            }
        };
        self.events.iter().any(matches)
            && event.key.starts_with(&self.prefix)
            && event.key.ends_with(&self.suffix)
    }
}

type Callback = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// The subscriptions of all buckets.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: Mutex<Vec<(Option<String>, Callback)>>,
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").finish_non_exhaustive()
    }
}

impl Subscriptions {
    /// Calls `callback` with every event of `bucket` (of all if there is none) until it answers false.
    pub(super) fn add(
        &self,
        bucket: Option<String>,
        callback: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push((bucket, Box::new(callback)));
    }

    /// A channel of what `render` makes of the events that `filter` wants.
    pub(super) fn channel(
        &self,
        bucket: &str,
        filter: Filter,
        render: fn(&Event, &Filter) -> Value,
    ) -> UnboundedReceiver<Value> {
        let (sender, receiver) = unbounded_channel();
        self.add(Some(bucket.to_owned()), move |event| {
            if filter.wants(event) { send(&sender, render(event, &filter)) } else { !sender.is_closed() }
        });
        receiver
    }

    pub(super) fn publish(&self, event: &Event) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|(bucket, callback)| {
            let concerned = bucket.as_ref().is_none_or(|bucket| *bucket == event.bucket);
            !concerned || callback(event)
        });
    }
}

/// Whether somebody still listens.
pub(super) fn send<T>(sender: &UnboundedSender<T>, value: T) -> bool {
    sender.send(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::events::Cause;
    use super::*;

    fn event(cause: Cause, key: &str) -> Event {
        Event {
            cause,
            time: jiff::Timestamp::UNIX_EPOCH,
            bucket: "b".to_owned(),
            key: key.to_owned(),
            size: None,
            e_tag: None,
            version_id: None,
            sequencer: "00".to_owned(),
            principal: String::new(),
            request_id: String::new(),
            region: String::new(),
            account: String::new(),
        }
    }

    #[test]
    fn a_filter_looks_at_type_prefix_and_suffix() {
        let filter = Filter::created("t").prefix("users/").suffix(".png");
        assert!(filter.wants(&event(Cause::Post, "users/1.png")));
        assert!(!filter.wants(&event(Cause::Delete, "users/1.png")));
        assert!(!filter.wants(&event(Cause::Put, "groups/1.png")));
        assert!(!filter.wants(&event(Cause::Put, "users/1.jpg")));
        assert!(Filter::of("t", "s3:ObjectCreated:Put").wants(&event(Cause::Put, "k")));
        assert!(!Filter::of("t", "s3:ObjectCreated:Put").wants(&event(Cause::Copy, "k")));
        assert!(Filter::removed("t").wants(&event(Cause::DeleteMarkerCreated, "k")));
    }

    #[test]
    fn a_subscription_ends_when_nobody_listens() {
        let subscriptions = Subscriptions::default();
        let receiver = subscriptions.channel("b", Filter::created("t"), |event, _| event.key.clone().into());
        drop(receiver);
        subscriptions.publish(&event(Cause::Put, "k"));
        assert!(subscriptions.all.lock().unwrap().is_empty());
    }
}
