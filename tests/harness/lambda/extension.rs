//! The extensions that a process registers, among them the one behind lambda_runtime's graceful shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The extensions of one execution environment.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    by_id: BTreeMap<String, Extension>,
}

#[derive(Debug)]
struct Extension {
    name: String,
    events: Vec<String>,
    sender: UnboundedSender<Value>,
    receiver: Arc<AsyncMutex<UnboundedReceiver<Value>>>,
}

/// Why a call of an extension is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtensionRefusal {
    MissingName,
    AlreadyRegistered,
    MissingIdentifier,
    UnknownIdentifier,
}

impl ExtensionRefusal {
    /// Status and body, as the real API has them.
    pub(super) fn answer(self) -> (u16, Value) {
        let (error_type, message) = match self {
            Self::MissingName => ("Extension.InvalidExtensionName", "Empty extension name"),
            Self::AlreadyRegistered => {
                ("Extension.AlreadyRegistered", "Extension with this name is registered")
            }
            Self::MissingIdentifier => {
                ("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
            }
            Self::UnknownIdentifier => {
                ("Extension.UnknownExtensionIdentifier", "Unknown extension identifier")
            }
        };
        (403, json!({"errorMessage": message, "errorType": error_type}))
    }
}

impl Extensions {
    /// Registers `name` for `events` (`INVOKE`, `SHUTDOWN`) under `id`.
    pub(super) fn register(
        &mut self,
        id: &str,
        name: &str,
        events: Vec<String>,
    ) -> Result<(), ExtensionRefusal> {
        if name.is_empty() {
            return Err(ExtensionRefusal::MissingName);
        }
        if self.by_id.values().any(|extension| extension.name == name) {
            return Err(ExtensionRefusal::AlreadyRegistered);
        }
        let (sender, receiver) = unbounded_channel();
        let receiver = Arc::new(AsyncMutex::new(receiver));
        self.by_id.insert(id.to_owned(), Extension { name: name.to_owned(), events, sender, receiver });
        Ok(())
    }

    /// Where the next events of extension `id` come from.
    pub(super) fn events(
        &self,
        id: Option<&str>,
    ) -> Result<Arc<AsyncMutex<UnboundedReceiver<Value>>>, ExtensionRefusal> {
        let id = id.ok_or(ExtensionRefusal::MissingIdentifier)?;
        let extension = self.by_id.get(id).ok_or(ExtensionRefusal::UnknownIdentifier)?;
        Ok(extension.receiver.clone())
    }

    /// Tells `event` to those that asked for events of this `kind`.
    pub(super) fn tell(&self, kind: &str, event: &Value) {
        for extension in self.by_id.values().filter(|extension| extension.events.iter().any(|e| e == kind)) {
            // An extension that is gone hears nothing.
            let _ = extension.sender.send(event.clone());
        }
    }

    /// Whether there is any; only then does Lambda announce the end by SIGTERM.
    pub(super) fn any(&self) -> bool {
        !self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_hears_what_it_asked_for() {
        let mut extensions = Extensions::default();
        extensions.register("1", "listens", vec!["INVOKE".into()]).unwrap();
        extensions.register("2", "does-not", Vec::new()).unwrap();
        assert_eq!(extensions.register("3", "listens", Vec::new()), Err(ExtensionRefusal::AlreadyRegistered));
        extensions.tell("INVOKE", &json!({"eventType": "INVOKE"}));
        let heard = |id| extensions.events(Some(id)).unwrap().try_lock().unwrap().try_recv().ok();
        assert_eq!(heard("1"), Some(json!({"eventType": "INVOKE"})));
        assert_eq!(heard("2"), None);
        assert_eq!(extensions.events(None).unwrap_err(), ExtensionRefusal::MissingIdentifier);
        assert_eq!(extensions.events(Some("9")).unwrap_err(), ExtensionRefusal::UnknownIdentifier);
    }
}
