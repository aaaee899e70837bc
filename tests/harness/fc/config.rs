//! What a function is started with, and the environment that follows from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::lambda::Credentials;

/// A function's configuration, as an `s.yaml` would state it.
#[derive(Debug, Clone)]
pub struct FcConfig {
    /// The function's name.
    pub name: String,
    /// The binary that FC would call `/code/bootstrap`.
    pub binary: PathBuf,
    /// The function's own variables.
    pub environment: BTreeMap<String, String>,
    /// `memorySize`, in MB. It is told to the function and not enforced.
    pub memory_mb: u32,
    /// `timeout`.
    pub timeout: Duration,
    /// How long the port may take to be there: 120 s on FC, less where a test waits for it.
    pub start_timeout: Duration,
    /// The region.
    pub region: String,
    /// Who the function is.
    pub credentials: Credentials,
    /// Whether the calls `/initialize` and `/pre-stop` are configured.
    pub life_cycle: bool,
}

impl FcConfig {
    /// A function of 512 MB and 60 s, FC's default.
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            environment: BTreeMap::new(),
            memory_mb: 512,
            timeout: Duration::from_secs(60),
            start_timeout: Duration::from_secs(30),
            region: super::REGION.to_owned(),
            credentials: Credentials {
                access_key_id: "local".to_owned(),
                secret_access_key: "local-secret".to_owned(),
                session_token: Some("local-token".to_owned()),
            },
            life_cycle: true,
        }
    }

    /// The same, with `variable` set to `value` for the function.
    #[must_use]
    pub fn with(mut self, variable: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(variable.into(), value.into());
        self
    }

    /// What FC sets for its runtimes from Debian 11 on ("environment variables" of its manual), and the
    /// function's own. With `keys_in_environment` the role's keys stand here, as they do there.
    pub(super) fn variables(&self, port: u16, keys_in_environment: bool) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = [
            ("FC_ACCOUNT_ID", "1234567890123456"),
            ("FC_CUSTOM_LISTEN_PORT", &port.to_string()),
            ("FC_FUNCTION_HANDLER", "index.handler"),
            ("FC_FUNCTION_MEMORY_SIZE", &self.memory_mb.to_string()),
            ("FC_FUNCTION_NAME", &self.name),
            ("FC_FUNCTION_VERSION", "LATEST"),
            ("FC_FUNC_CODE_PATH", "/code"),
            ("FC_INSTANCE_ID", "c-local-00000000"),
            ("FC_REGION", &self.region),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ]
        .into_iter()
        .map(|(variable, value)| (variable.to_owned(), value.to_owned()))
        .collect();
        if keys_in_environment {
            let keys = &self.credentials;
            variables.insert("ALIBABA_CLOUD_ACCESS_KEY_ID".to_owned(), keys.access_key_id.clone());
            variables.insert("ALIBABA_CLOUD_ACCESS_KEY_SECRET".to_owned(), keys.secret_access_key.clone());
            if let Some(token) = &keys.session_token {
                variables.insert("ALIBABA_CLOUD_SECURITY_TOKEN".to_owned(), token.clone());
            }
        }
        variables.extend(self.environment.clone());
        variables
    }
}
