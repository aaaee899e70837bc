//! A function that does what its event says, on the same runtime as the real ones.
//!
//! `{"do": "echo" | "environment" | "invocation" | "fail" | "log" | "exit" | "abort" | "sleep" | "allocate"}`;
//! with `ECHO_CONFIG=wrong` it refuses to start, with `ECHO_CONFIG=exit` it ends while it starts.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use shared::env::{ConfigError, Environment};
use shared::runtime::{Invocation, InvocationError};

fn main() -> ExitCode {
    shared::runtime::start("echo", build, async |deps, event, invocation| {
        handle(&deps.0, event, &invocation).await
    })
}

/// The variables, as the process found them.
struct Deps(Environment);

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("echo")
    }
}

async fn build(mut environment: Environment) -> Result<Deps, ConfigError> {
    match environment.get("ECHO_CONFIG") {
        Some("wrong") => environment.mistake("ECHO_CONFIG", false, "anything else"),
        Some("exit") => std::process::exit(7),
        _ => {}
    }
    environment.finish(Deps(Environment::of_process()))
}

async fn handle(
    environment: &Environment,
    event: Value,
    invocation: &Invocation,
) -> Result<Value, InvocationError> {
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    match event.get("do").and_then(Value::as_str).unwrap_or("echo") {
        "environment" => {
            let name = event.get("name").and_then(Value::as_str).unwrap_or_default();
            Ok(json!(environment.get(name)))
        }
        "invocation" => Ok(json!({
            "request_id": invocation.request_id,
            "deadline_ms": invocation.deadline.as_millisecond(),
            "pid": std::process::id(),
        })),
        "fail" => Err(InvocationError { error_type: "Retryable", message: "As it was told.".to_owned() }),
        "log" => {
            eprintln!("{}", event.get("line").and_then(Value::as_str).unwrap_or_default());
            Ok(Value::Null)
        }
        "exit" => std::process::exit(i32::try_from(number("status")).unwrap_or(1)),
        "abort" => std::process::abort(),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            Ok(json!({"pid": std::process::id()}))
        }
        "allocate" => {
            let bytes = usize::try_from(number("bytes")).unwrap_or_default();
            let held = std::hint::black_box(vec![1_u8; bytes]);
            Ok(json!(held.len()))
        }
        "answer" => Ok(Value::String("x".repeat(usize::try_from(number("bytes")).unwrap_or_default()))),
        _ => Ok(event),
    }
}
