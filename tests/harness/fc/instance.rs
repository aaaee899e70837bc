//! One process as FC's custom runtime: an HTTP server that is called over connections that stay open.

use std::io;
use std::net::{Ipv4Addr, TcpListener as PortFinder};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::config::FcConfig;
use crate::lambda::{Answer, Credentials, InvocationResult, Logs, new_id};

/// How often the port is looked at while a process starts.
const LOOK: Duration = Duration::from_millis(5);

/// How the function's keys come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeysBy {
    /// In the environment; the headers carry them without the token, as from Debian 11 on.
    #[default]
    Environment,
    /// In the headers of each call, as on Debian 10.
    Headers,
}

type Connection = SendRequest<Full<Bytes>>;

/// A running process.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    port: u16,
    keys_by: KeysBy,
    keys: std::sync::Mutex<Credentials>,
    timeout: Duration,
    logs: Logs,
    /// Connections that wait for the next call, as FC keeps them.
    idle: Mutex<Vec<Connection>>,
    /// How long the process took to listen, in milliseconds.
    init_ms: f64,
}

impl Instance {
    /// Starts the binary and waits until it listens; `/initialize` follows where it is configured.
    ///
    /// # Errors
    /// It does not start, ends, or does not listen in time; the answer has its last lines.
    pub async fn start(config: &FcConfig, keys_by: KeysBy) -> Result<Self, (Answer, Vec<String>)> {
        let failed = |error: io::Error| {
            let message = format!("{} cannot be started: {error}", config.binary.display());
            (Answer::FunctionError { error_type: "FunctionNotStarted".to_owned(), message }, Vec::new())
        };
        let port = free_port().map_err(failed)?;
        let started = Instant::now();
        let mut command = Command::new(&config.binary);
        command
            .env_clear()
            .envs(config.variables(port, keys_by == KeysBy::Environment))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let mut logs = Logs::new(None);
        if let Some(stdout) = child.stdout.take() {
            logs.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            logs.follow(stderr);
        }
        let listening = timeout(config.start_timeout, async {
            loop {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(Answer::Exited { how: Some(status.to_string()) });
                }
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    return Ok(());
                }
                sleep(LOOK).await;
            }
        })
        .await;
        match listening {
            Ok(Ok(())) => {}
            Ok(Err(answer)) => return Err((answer, logs.take().await)),
            Err(_) => {
                let _ = child.kill().await;
                return Err((Answer::TimedOut { limit: config.start_timeout }, logs.take().await));
            }
        }
        let instance = Self {
            child,
            port,
            keys_by,
            keys: std::sync::Mutex::new(config.credentials.clone()),
            timeout: config.timeout,
            logs,
            idle: Mutex::default(),
            init_ms: started.elapsed().as_secs_f64() * 1000.0,
        };
        if config.life_cycle {
            let status =
                instance.call(Method::POST, "/initialize", Bytes::new(), &new_id().to_string()).await;
            if !status.as_ref().is_ok_and(|(status, ..)| (200..300).contains(status)) {
                let message = format!("/initialize answered {status:?}");
                let answer = Answer::FunctionError { error_type: "InitializeFailed".to_owned(), message };
                return Err((answer, instance.logs.take().await));
            }
        }
        Ok(instance)
    }

    /// How long the process took to listen, in milliseconds.
    pub fn init_ms(&self) -> f64 {
        self.init_ms
    }

    /// Replaces the keys that the headers carry from now on.
    pub fn renew_keys(&self, keys: Credentials) {
        *self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = keys;
    }

    /// Calls `/invoke` with `event`, over a connection that was idle if there is one.
    pub async fn invoke(&self, event: &Value) -> InvocationResult {
        let request_id = new_id().to_string();
        let started = Instant::now();
        let body = Bytes::from(event.to_string());
        let called = timeout(self.timeout, self.call(Method::POST, "/invoke", body, &request_id)).await;
        let answer = match called {
            Err(_) => Answer::TimedOut { limit: self.timeout },
            Ok(Err(error)) => Answer::FunctionError {
                // What FC answers where an instance closes a connection under a call.
                error_type: "502".to_owned(),
                message: error.to_string(),
            },
            Ok(Ok((status, fc_status, body))) => answer_of(status, fc_status.as_deref(), &body),
        };
        InvocationResult {
            request_id,
            answer,
            duration_ms: started.elapsed().as_secs_f64() * 1000.0,
            init_ms: None,
            logs: self.logs.take().await,
            peak_rss_bytes: None,
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        request_id: &str,
    ) -> Result<(u16, Option<String>, Bytes), hyper::Error> {
        let idle = self.idle.lock().await.pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let keys = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/octet-stream")
            .header("x-fc-request-id", request_id)
            .header("x-fc-control-path", path)
            .header("x-fc-access-key-id", &keys.access_key_id)
            .header("x-fc-access-key-secret", &keys.secret_access_key)
            .header("x-fc-function-timeout", self.timeout.as_secs().max(1).to_string());
        if let (KeysBy::Headers, Some(token)) = (self.keys_by, &keys.session_token) {
            request = request.header("x-fc-security-token", token);
        }
        #[expect(clippy::expect_used, reason = "the names are literals, and the values are this file's")]
        let request = request.body(Full::new(body)).expect("a request that can be sent");
        let answer = connection.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let fc_status = head.headers.get("x-fc-status").and_then(|value| value.to_str().ok());
        let answer = (head.status.as_u16(), fc_status.map(str::to_owned), body);
        if connection.ready().await.is_ok() {
            self.idle.lock().await.push(connection);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, hyper::Error> {
        // A listener that is gone shows at the handshake's first use.
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        #[expect(clippy::expect_used, reason = "only a test asks a process that has ended")]
        let stream = stream.expect("the process listens");
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// How many connections wait for the next call.
    pub async fn idle_connections(&self) -> usize {
        self.idle.lock().await.len()
    }

    /// The lines since they were last asked for.
    pub async fn take_logs(&self) -> Vec<String> {
        self.logs.take().await
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Errors
    /// The system does not tell.
    pub async fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Sends SIGTERM, as FC does before it takes an instance away.
    pub fn terminate(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Ends the process as FC does: `/pre-stop`, SIGTERM, and SIGKILL after `limit`. Answers how it ended,
    /// if it ended by itself, and its last lines.
    pub async fn shut_down(mut self, limit: Duration) -> (Option<ExitStatus>, Vec<String>) {
        let _ = self.call(Method::GET, "/pre-stop", Bytes::new(), &new_id().to_string()).await;
        self.terminate();
        let status = self.wait(limit).await.ok().flatten();
        let _ = self.child.kill().await;
        (status, self.logs.take().await)
    }
}

/// A port that is free at the moment.
fn free_port() -> io::Result<u16> {
    PortFinder::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

/// What FC makes of an answer: its header decides, and without it everything is a success.
fn answer_of(status: u16, fc_status: Option<&str>, body: &[u8]) -> Answer {
    let value = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
    match fc_status {
        None | Some("200") => Answer::Ok(value),
        Some(told) => {
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let error_type = match field("errorType") {
                none if none.is_empty() => format!("status {status}, x-fc-status {told}"),
                some => some,
            };
            Answer::FunctionError { error_type, message: field("errorMessage") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_header_fc_takes_any_answer_for_a_success() {
        assert_eq!(answer_of(404, None, b"{}"), Answer::Ok(serde_json::json!({})));
        let failed = answer_of(404, Some("404"), br#"{"errorType": "Retryable", "errorMessage": "m"}"#);
        assert_eq!(failed.error_type(), Some("Retryable"));
    }
}
