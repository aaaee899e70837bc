//! One child process behind its own Runtime API: an execution environment.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::api::RuntimeApi;
use super::config::FunctionConfig;
use super::logs::Logs;
use super::phase::Said;

/// How long an internal extension has between SIGTERM and SIGKILL (Lambda Developer Guide, "Lambda execution
/// environment lifecycle").
const SHUTDOWN: Duration = Duration::from_millis(500);

/// How long an answer that was sent before an exit may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    api: RuntimeApi,
    said: UnboundedReceiver<Said>,
    logs: Logs,
}

/// What came from a process.
#[derive(Debug)]
pub(super) enum News {
    /// Something by the Runtime API.
    Said(Said),
    /// Its end, worded as Lambda words it; none for success.
    Exited(Option<String>),
}

impl Process {
    /// Starts the binary, and does not wait for it.
    pub(super) async fn spawn(config: &FunctionConfig) -> io::Result<Self> {
        let (api, said) = RuntimeApi::start(&config.name).await?;
        // It runs in its own folder, where a relative path would lead elsewhere.
        let binary = std::path::absolute(&config.binary)?;
        let mut command = Command::new(&binary);
        command
            .env_clear()
            .envs(config.variables(&api.authority()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal is for whoever runs the cloud.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = binary.parent().filter(|d| d.is_dir()) {
            command.current_dir(directory);
        }
        let mut child = command.spawn()?;
        let mut logs = Logs::new(config.echo.then(|| config.name.clone()));
        if let Some(stdout) = child.stdout.take() {
            logs.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            logs.follow(stderr);
        }
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, api, said, logs })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn api(&self) -> &RuntimeApi {
        &self.api
    }

    /// What comes next. What was said before an exit comes before it.
    pub(super) async fn news(&mut self) -> News {
        let status = tokio::select! {
            biased;
            Some(said) = self.said.recv() => return News::Said(said),
            status = self.child.wait() => status,
        };
        if let Ok(Some(said)) = timeout(LAST_WORDS, self.said.recv()).await {
            return News::Said(said);
        }
        News::Exited(status.map_or_else(|error| Some(error.to_string()), worded))
    }

    /// Whether it has ended since it last said something.
    pub(super) fn has_exited(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// The lines since the last call.
    pub(super) async fn take_logs(&self) -> Vec<String> {
        self.logs.take().await
    }

    /// Ends it at once, as at a time-out, and answers its last lines.
    pub(super) async fn kill(mut self) -> Vec<String> {
        // It may have ended by itself in between.
        let _ = self.child.kill().await;
        self.logs.take().await
    }

    /// Ends it as Lambda ends an idle environment: with a warning by SIGTERM where an extension is there to
    /// hear it, and by SIGKILL.
    pub(super) async fn shut_down(mut self, deadline_ms: i64) -> Vec<String> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if self.api.announce_shutdown("spindown", deadline_ms)
            && !self.has_exited()
            && let Some(pid) = pid
            && rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
        {
            // Whether it made use of the time or not, it ends below.
            let _ = timeout(SHUTDOWN, self.child.wait()).await;
        }
        self.kill().await
    }
}

fn worded(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(6)) => Some("signal: aborted".to_owned()),
        (None, Some(9)) => Some("signal: killed".to_owned()),
        (None, Some(11)) => Some("signal: segmentation fault".to_owned()),
        (None, Some(15)) => Some("signal: terminated".to_owned()),
        (None, signal) => Some(format!("signal: {}", signal.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_worded_as_lambda_words_it() {
        assert_eq!(worded(ExitStatus::from_raw(0)), None);
        assert_eq!(worded(ExitStatus::from_raw(3 << 8)), Some("exit status 3".into()));
        assert_eq!(worded(ExitStatus::from_raw(9)), Some("signal: killed".into()));
    }
}
