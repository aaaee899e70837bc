//! A function that can be invoked; its process starts with the first invocation.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use super::config::FcConfig;
use super::instance::{Instance, KeysBy};
use crate::lambda::{InvocationResult, StartError};

/// How long a process has between SIGTERM and SIGKILL.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A function with one instance, which takes several requests at once.
#[derive(Debug)]
pub struct FcFunction {
    config: FcConfig,
    instance: Mutex<Option<Arc<Instance>>>,
}

impl FcFunction {
    /// Takes `config` for a function.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn new(config: FcConfig) -> Result<Self, StartError> {
        if !config.binary.is_file() {
            return Err(StartError::NoBinary(config.binary));
        }
        Ok(Self { config, instance: Mutex::default() })
    }

    /// What the function was started with.
    pub fn config(&self) -> &FcConfig {
        &self.config
    }

    /// Invokes the function and waits for its answer.
    pub async fn invoke(&self, event: &Value) -> InvocationResult {
        let (instance, init_ms) = {
            let mut place = self.instance.lock().await;
            match &*place {
                Some(instance) => (instance.clone(), None),
                None => match Instance::start(&self.config, KeysBy::Environment).await {
                    Ok(instance) => {
                        let instance = Arc::new(instance);
                        *place = Some(instance.clone());
                        let init_ms = instance.init_ms();
                        (instance, Some(init_ms))
                    }
                    Err((answer, logs)) => {
                        return InvocationResult {
                            request_id: String::new(),
                            answer,
                            duration_ms: 0.0,
                            init_ms: None,
                            logs,
                            peak_rss_bytes: None,
                        };
                    }
                },
            }
        };
        InvocationResult { init_ms, ..instance.invoke(event).await }
    }

    /// Ends the process, if there is one that nobody uses, and answers its last lines.
    pub async fn shut_down(&self) -> Vec<String> {
        match self.instance.lock().await.take().and_then(Arc::into_inner) {
            Some(instance) => instance.shut_down(SHUTDOWN).await.1,
            None => Vec::new(),
        }
    }
}
