//! What a function is started with, and the environment that follows from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who a function is when it calls S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`; Lambda always sets one, a local store may not know it.
    pub session_token: Option<String>,
}

/// How often and when a failed asynchronous invocation is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The pause before each further attempt; its length is their number.
    pub backoff: Vec<Duration>,
}

impl Retry {
    /// Two more attempts, after one and two minutes (Lambda Developer Guide, "How Lambda handles errors and
    /// retries with asynchronous invocation").
    pub fn as_lambda() -> Self {
        Self { backoff: vec![Duration::from_secs(60), Duration::from_secs(120)] }
    }

    /// Two more attempts, soon.
    pub fn soon() -> Self {
        Self { backoff: vec![Duration::from_millis(50), Duration::from_millis(100)] }
    }
}

/// A function's configuration, as a template would state it.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// The function's name.
    pub name: String,
    /// The binary that Lambda would call `bootstrap`.
    pub binary: PathBuf,
    /// The function's own variables.
    pub environment: BTreeMap<String, String>,
    /// `MemorySize`, in MiB. It is told to the function and not enforced; results carry the real peak.
    pub memory_mb: u32,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// How long a cold start may take.
    pub init_timeout: Duration,
    /// Reserved concurrency: as many processes at most.
    pub instances: usize,
    /// `AWS_REGION`, also in the function's ARN.
    pub region: String,
    /// The account in the function's ARN.
    pub account: String,
    /// Who the function is.
    pub credentials: Credentials,
    /// What becomes of asynchronous invocations that fail.
    pub retry: Retry,
    /// Where the records of the failure destination are appended, one JSON line each, besides being kept in
    /// memory.
    pub failure_file: Option<PathBuf>,
    /// Whether the function's output is repeated on this process's standard error.
    pub echo: bool,
}

impl FunctionConfig {
    /// A function of 128 MiB and 3 s, Lambda's defaults, with one instance and short retries.
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            environment: BTreeMap::new(),
            memory_mb: 128,
            timeout: Duration::from_secs(3),
            init_timeout: Duration::from_secs(10),
            instances: 1,
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            credentials: Credentials {
                access_key_id: "local".to_owned(),
                secret_access_key: "local-secret".to_owned(),
                session_token: None,
            },
            retry: Retry::soon(),
            failure_file: None,
            echo: false,
        }
    }

    /// The same, with `variable` set to `value` for the function.
    #[must_use]
    pub fn with(mut self, variable: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(variable.into(), value.into());
        self
    }

    /// The ARN under which the function is invoked.
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.region, self.account, self.name)
    }

    /// Everything that the process finds in its environment: what Lambda sets for the `provided` runtimes
    /// (Lambda Developer Guide, "Defined runtime environment variables"), and the function's own.
    ///
    /// `_X_AMZN_TRACE_ID` is not among them: for these runtimes it is the runtime that sets it, from the
    /// header of each invocation.
    pub(super) fn variables(&self, runtime_api: &str) -> BTreeMap<String, String> {
        let task_root = self.binary.parent().unwrap_or(Path::new("/var/task"));
        let handler = self.binary.file_name().unwrap_or_default();
        let mut variables: BTreeMap<String, String> = [
            ("_HANDLER", handler.to_string_lossy().as_ref()),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", &self.credentials.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.credentials.secret_access_key),
            ("AWS_LAMBDA_FUNCTION_NAME", &self.name),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &self.memory_mb.to_string()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{}", self.name)),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local/[$LATEST]"),
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("LAMBDA_TASK_ROOT", task_root.to_string_lossy().as_ref()),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
            ("TZ", ":UTC"),
        ]
        .into_iter()
        .map(|(variable, value)| (variable.to_owned(), value.to_owned()))
        .collect();
        if let Some(token) = &self.credentials.session_token {
            variables.insert("AWS_SESSION_TOKEN".to_owned(), token.clone());
        }
        variables.extend(self.environment.clone());
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_own_variables_stand_beside_lambdas() {
        let config = FunctionConfig::new("f", "/opt/here/f").with("AVATAR_BUCKET", "avatars");
        let variables = config.variables("127.0.0.1:9001");
        assert_eq!(variables["AVATAR_BUCKET"], "avatars");
        assert_eq!(variables["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001");
        assert_eq!(variables["LAMBDA_TASK_ROOT"], "/opt/here");
        assert!(!variables.contains_key("AWS_SESSION_TOKEN"));
        assert_eq!(config.arn(), "arn:aws:lambda:us-east-1:000000000000:function:f");
    }
}
