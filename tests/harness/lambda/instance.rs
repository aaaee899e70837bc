//! One place for a process, which is started for an invocation and started again after it has failed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use shared::clock::{Clock, SystemClock};
use tokio::time::timeout;

use super::config::FunctionConfig;
use super::phase::{Said, Work};
use super::process::{News, Process};
use super::result::{Answer, InvocationResult};
use super::{memory, new_id};

/// What a start that failed leaves for the invoker.
struct NotStarted {
    answer: Answer,
    logs: Vec<String>,
}

/// A place for one process; empty before the first invocation and after a failure.
#[derive(Debug, Default)]
pub(super) struct Instance {
    process: Option<Process>,
}

impl Instance {
    /// One synchronous invocation.
    pub(super) async fn invoke(
        &mut self,
        config: &FunctionConfig,
        request_id: &str,
        payload: Bytes,
    ) -> InvocationResult {
        let mut result = InvocationResult {
            request_id: request_id.to_owned(),
            answer: Answer::Exited { how: None },
            duration_ms: 0.0,
            init_ms: None,
            logs: Vec::new(),
            peak_rss_bytes: None,
        };
        let living = self.process.take().and_then(|mut process| (!process.has_exited()).then_some(process));
        let mut process = match living {
            Some(process) => process,
            None => {
                let started = Instant::now();
                match start(config).await {
                    Ok((process, logs)) => {
                        result.logs = logs;
                        result.init_ms = Some(milliseconds(started.elapsed()));
                        process
                    }
                    Err(not_started) => {
                        result.answer = not_started.answer;
                        result.logs = not_started.logs;
                        result.init_ms = Some(milliseconds(started.elapsed()));
                        return result;
                    }
                }
            }
        };

        memory::reset_peak(process.pid());
        let started = Instant::now();
        process.api().offer(work(config, request_id, payload));
        let answer = timeout(config.timeout, answer_of(&mut process, request_id)).await;
        result.duration_ms = milliseconds(started.elapsed());
        result.peak_rss_bytes = memory::peak_rss_bytes(process.pid());
        let (answer, logs) = match answer {
            Ok(answer @ Answer::Exited { .. }) => (answer, process.kill().await),
            Ok(answer) => {
                let logs = process.take_logs().await;
                self.process = Some(process);
                (answer, logs)
            }
            Err(_) => (Answer::TimedOut { limit: config.timeout }, process.kill().await),
        };
        result.answer = answer;
        result.logs.extend(logs);
        result
    }

    /// Ends the process, if there is one.
    pub(super) async fn shut_down(self) {
        if let Some(process) = self.process {
            let deadline = SystemClock.now().as_millisecond() + 500;
            process.shut_down(deadline).await;
        }
    }
}

/// A process that has asked for work. As Lambda does on demand, a start that failed is tried once more, then
/// under the invocation's own limit, and only the second failure is the invoker's.
async fn start(config: &FunctionConfig) -> Result<(Process, Vec<String>), NotStarted> {
    match start_within(config, config.init_timeout).await {
        Ok(process) => Ok((process, Vec::new())),
        Err(NotStarted { mut logs, .. }) => match start_within(config, config.timeout).await {
            Ok(process) => Ok((process, logs)),
            Err(second) => {
                logs.extend(second.logs);
                Err(NotStarted { answer: second.answer, logs })
            }
        },
    }
}

async fn start_within(config: &FunctionConfig, limit: Duration) -> Result<Process, NotStarted> {
    let mut process = Process::spawn(config).await.map_err(|error| NotStarted {
        answer: Answer::FunctionError {
            error_type: "Runtime.InvalidEntrypoint".to_owned(),
            message: format!("{} cannot be started: {error}", config.binary.display()),
        },
        logs: Vec::new(),
    })?;
    let answer = match timeout(limit, ready(&mut process)).await {
        Ok(Ok(())) => return Ok(process),
        Ok(Err(answer)) => answer,
        Err(_) => Answer::TimedOut { limit },
    };
    Err(NotStarted { answer, logs: process.kill().await })
}

async fn ready(process: &mut Process) -> Result<(), Answer> {
    match process.news().await {
        News::Said(Said::Ready) => Ok(()),
        News::Said(Said::InitError { error_type, message }) => {
            // The process has said what is wrong, and ends by itself; its last lines are worth a moment.
            let _ = timeout(Duration::from_secs(1), process.news()).await;
            Err(Answer::FunctionError { error_type, message })
        }
        // An answer to an invocation that was never handed over is refused by the API.
        News::Said(Said::Response { .. } | Said::Error { .. }) => Err(Answer::Exited { how: None }),
        News::Exited(how) => Err(Answer::Exited { how }),
    }
}

async fn answer_of(process: &mut Process, request_id: &str) -> Answer {
    loop {
        match process.news().await {
            News::Said(Said::Response { request_id: id, body }) if id == request_id => {
                return Answer::Ok(
                    serde_json::from_slice(&body)
                        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
                );
            }
            News::Said(Said::Error { request_id: id, error_type, message }) if id == request_id => {
                return Answer::FunctionError { error_type, message };
            }
            // It asks for the next one after each answer.
            News::Said(_) => {}
            News::Exited(how) => return Answer::Exited { how },
        }
    }
}

fn work(config: &FunctionConfig, request_id: &str, payload: Bytes) -> Work {
    let now = SystemClock.now();
    let limit = i64::try_from(config.timeout.as_millis()).unwrap_or(i64::MAX);
    Work {
        request_id: request_id.to_owned(),
        deadline_ms: now.as_millisecond().saturating_add(limit),
        arn: config.arn(),
        trace_id: trace_id(now.as_second()),
        payload,
    }
}

/// A header in X-Ray's format: the root carries the time, in hexadecimal seconds.
fn trace_id(seconds: i64) -> String {
    let random = new_id().simple().to_string();
    let parent = new_id().simple().to_string();
    format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", &random[..24], &parent[..16])
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_has_the_shape_of_x_rays() {
        let id = trace_id(0x6543_2100);
        let parts: Vec<&str> = id.split(';').collect();
        assert!(parts[0].starts_with("Root=1-65432100-") && parts[0].len() == "Root=1-65432100-".len() + 24);
        assert_eq!(parts[1].len(), "Parent=".len() + 16);
        assert_eq!(parts[2], "Sampled=0");
    }
}
