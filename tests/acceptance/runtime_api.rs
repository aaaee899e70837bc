//! The emulator of Lambda itself: its HTTP API as a runtime sees it, and its functions as an invoker does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::lambda::{Answer, Function, FunctionConfig, MAX_PAYLOAD_BYTES, Retry, RuntimeApi, Said, Work};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

/// A runtime that speaks HTTP by hand, so that it can also say what no good runtime says.
struct Client(String);

impl Client {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
        let stream = tokio::net::TcpStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.0);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    async fn next(&self) -> Response<Bytes> {
        self.send("GET", "/2018-06-01/runtime/invocation/next", &[], "").await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let answer = self.send("POST", path, &[], body).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }
}

fn work(request_id: &str) -> Work {
    Work {
        request_id: request_id.into(),
        deadline_ms: 1_800_000_000_123,
        arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        trace_id: "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0".into(),
        payload: Bytes::from_static(br#"{"a":1}"#),
    }
}

fn echo_config() -> FunctionConfig {
    FunctionConfig {
        timeout: Duration::from_secs(20),
        ..FunctionConfig::new("echo", PathBuf::from(env!("CARGO_BIN_EXE_echo-function")))
    }
}

fn echo() -> Function {
    Function::start(echo_config()).unwrap()
}

fn error_of(answer: &Answer) -> (&str, &str) {
    match answer {
        Answer::FunctionError { error_type, message } => (error_type, message),
        other => panic!("not a function's error: {other:?}"),
    }
}

#[tokio::test]
async fn next_waits_for_work_and_hands_it_over_with_its_headers() {
    let (api, mut said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    let waiting = tokio::spawn(async move { client.next().await });
    assert_eq!(said.recv().await, Some(Said::Ready));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "next answers before there is work");
    api.offer(work("one"));
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body().as_ref(), br#"{"a":1}"#);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("Lambda-Runtime-Aws-Request-Id"), "one");
    assert_eq!(header("Lambda-Runtime-Deadline-Ms"), "1800000000123");
    assert_eq!(header("Lambda-Runtime-Invoked-Function-Arn"), work("").arn);
    assert_eq!(header("Lambda-Runtime-Trace-Id"), work("").trace_id);
    assert_eq!(header("Content-Type"), "application/json");
}

#[tokio::test]
async fn an_id_that_is_not_under_way_is_refused_and_an_answer_is_taken_once() {
    let (api, mut said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    let (status, body) = client.post("/2018-06-01/runtime/invocation/one/response", "{}").await;
    assert_eq!((status, body["errorType"].as_str()), (400, Some("InvalidRequestID")));

    api.offer(work("one"));
    client.next().await;
    let (status, _) = client.post("/2018-06-01/runtime/invocation/two/response", "{}").await;
    assert_eq!(status, 400);
    let while_working = client.next().await;
    assert_eq!(while_working.status(), 403);
    let (status, body) = client.post("/2018-06-01/runtime/invocation/one/response", "{\"b\":2}").await;
    assert_eq!((status, body), (202, json!({"status": "OK"})));
    let (status, body) = client.post("/2018-06-01/runtime/invocation/one/response", "{}").await;
    assert_eq!((status, body["errorType"].as_str()), (403, Some("InvalidStateTransition")));
    assert_eq!(said.recv().await, Some(Said::Ready));
    let response = Said::Response { request_id: "one".into(), body: Bytes::from_static(b"{\"b\":2}") };
    assert_eq!(said.recv().await, Some(response));
    assert!(said.try_recv().is_err(), "what was refused must not be heard");
}

#[tokio::test]
async fn an_error_is_heard_with_its_type_and_message() {
    let (api, mut said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    api.offer(work("one"));
    client.next().await;
    let body = r#"{"errorType": "Retryable", "errorMessage": "Slow down."}"#;
    let (status, _) = client.post("/2018-06-01/runtime/invocation/one/error", body).await;
    assert_eq!(status, 202);
    assert_eq!(said.recv().await, Some(Said::Ready));
    assert_eq!(
        said.recv().await,
        Some(Said::Error {
            request_id: "one".into(),
            error_type: "Retryable".into(),
            message: "Slow down.".into()
        })
    );
}

#[tokio::test]
async fn an_init_error_is_taken_before_the_first_next_only() {
    let (api, mut said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    let path = "/2018-06-01/runtime/init/error";
    let headers = [("Lambda-Runtime-Function-Error-Type", "Runtime.Odd")];
    assert_eq!(client.send("POST", path, &headers, "no JSON").await.status(), 202);
    assert_eq!(
        said.recv().await,
        Some(Said::InitError { error_type: "Runtime.Odd".into(), message: String::new() })
    );
    assert_eq!(client.next().await.status(), 403);

    let (api, _said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    api.offer(work("one"));
    client.next().await;
    assert_eq!(client.post(path, "{}").await.0, 403);
}

#[tokio::test]
async fn an_extension_registers_and_hears_of_invocations() {
    let (api, _said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    let register = "/2020-01-01/extension/register";
    let next = "/2020-01-01/extension/event/next";
    let named = [("Lambda-Extension-Name", "watcher")];
    let registered = client.send("POST", register, &named, r#"{"events": ["INVOKE"]}"#).await;
    assert_eq!(registered.status(), 200);
    let about: Value = serde_json::from_slice(registered.body()).unwrap();
    assert_eq!(about["functionName"], "f");
    let id = registered.headers()["Lambda-Extension-Identifier"].to_str().unwrap();

    assert_eq!(client.send("POST", register, &named, "{}").await.status(), 403);
    assert_eq!(client.send("GET", next, &[], "").await.status(), 403);
    api.offer(work("one"));
    let heard = client.send("GET", next, &[("Lambda-Extension-Identifier", id)], "").await;
    let heard: Value = serde_json::from_slice(heard.body()).unwrap();
    assert_eq!((&heard["eventType"], &heard["requestId"]), (&json!("INVOKE"), &json!("one")));
}

#[tokio::test]
async fn what_the_api_does_not_know_is_not_found() {
    let (api, _said) = RuntimeApi::start("f").await.unwrap();
    let client = Client(api.authority());
    assert_eq!(client.send("GET", "/2018-06-01/runtime", &[], "").await.status(), 404);
    assert_eq!(client.send("GET", "/2018-06-01/ping", &[], "").await.body().as_ref(), b"pong");
}

#[tokio::test]
async fn a_function_answers_and_its_process_lives_on() {
    let function = echo();
    let first = function.invoke(json!({"do": "invocation"})).await;
    let now = SystemClock.now().as_millisecond();
    let second = function.invoke(json!({"do": "invocation"})).await;
    let (one, two) = (first.ok().unwrap(), second.ok().unwrap());
    assert_eq!(one["request_id"], json!(first.request_id));
    assert_ne!(first.request_id, second.request_id);
    assert_eq!(one["pid"], two["pid"]);
    assert!(first.init_ms.is_some() && second.init_ms.is_none());
    let left = one["deadline_ms"].as_i64().unwrap() - now;
    assert!((0..=20_000).contains(&left), "{left} ms before the deadline");
}

#[tokio::test]
async fn the_environment_is_lambdas_and_the_functions_own_and_nothing_else() {
    let function = Function::start(echo_config().with("OWN", "value")).unwrap();
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", json!("echo")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", json!("128")),
        ("AWS_LAMBDA_FUNCTION_VERSION", json!("$LATEST")),
        ("AWS_REGION", json!("us-east-1")),
        ("TZ", json!(":UTC")),
        ("OWN", json!("value")),
        ("HOME", Value::Null),
        ("CARGO", Value::Null),
    ] {
        let result = function.invoke(json!({"do": "environment", "name": name})).await;
        assert_eq!(result.ok(), Some(&value), "{name}");
    }
}

#[tokio::test]
async fn what_a_function_writes_belongs_to_the_invocation_that_wrote_it() {
    let function = echo();
    let one = function.invoke(json!({"do": "log", "line": "written by one"})).await;
    let two = function.invoke(json!({"do": "log", "line": "written by two"})).await;
    assert!(one.logs.iter().any(|line| line == "written by one"), "{:?}", one.logs);
    assert!(two.logs.iter().all(|line| line != "written by one"), "{:?}", two.logs);
    assert!(two.logs.iter().any(|line| line == "written by two"), "{:?}", two.logs);
}

#[tokio::test]
async fn a_functions_error_is_the_invokers_and_its_process_lives_on() {
    let function = echo();
    let before = function.invoke(json!({"do": "invocation"})).await;
    let failed = function.invoke(json!({"do": "fail"})).await;
    assert_eq!(error_of(&failed.answer), ("Retryable", "As it was told."));
    let after = function.invoke(json!({"do": "invocation"})).await;
    assert_eq!(before.ok().unwrap()["pid"], after.ok().unwrap()["pid"]);
}

#[tokio::test]
async fn a_time_out_kills_the_process_and_the_next_invocation_has_a_new_one() {
    let function =
        Function::start(FunctionConfig { timeout: Duration::from_millis(1500), ..echo_config() }).unwrap();
    let before = function.invoke(json!({"do": "invocation"})).await;
    let pid = before.ok().unwrap()["pid"].as_u64().unwrap();
    let started = Instant::now();
    let result = function.invoke(json!({"do": "sleep", "ms": 60_000})).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(result.answer, Answer::TimedOut { limit: Duration::from_millis(1500) });
    let error = result.error().unwrap();
    assert!(error.ends_with("Task timed out after 1.50 seconds"), "{error}");
    if cfg!(target_os = "linux") {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "the process is still there");
    }
    let after = function.invoke(json!({"do": "invocation"})).await;
    assert_ne!(after.ok().unwrap()["pid"].as_u64().unwrap(), pid);
    assert!(after.init_ms.is_some());
}

#[tokio::test]
async fn a_crash_fails_its_invocation_and_the_next_one_has_a_new_process() {
    let function = echo();
    let exited = function.invoke(json!({"do": "exit", "status": 3})).await;
    assert_eq!(exited.answer, Answer::Exited { how: Some("exit status 3".into()) });
    assert_eq!(exited.payload()["errorType"], "Runtime.ExitError");
    let aborted = function.invoke(json!({"do": "abort"})).await;
    assert_eq!(aborted.answer, Answer::Exited { how: Some("signal: aborted".into()) });
    let left = function.invoke(json!({"do": "exit", "status": 0})).await;
    assert_eq!(left.answer, Answer::Exited { how: None });
    assert_eq!(function.invoke(json!({"a": 1})).await.ok(), Some(&json!({"a": 1})));
}

#[tokio::test]
async fn a_start_that_fails_is_tried_twice_and_told_to_the_invoker() {
    let function = Function::start(echo_config().with("ECHO_CONFIG", "wrong")).unwrap();
    let result = function.invoke(json!({})).await;
    let (error_type, message) = error_of(&result.answer);
    assert_eq!(error_type, "Configuration");
    assert!(message.contains("ECHO_CONFIG=\"wrong\": expected anything else"), "{message}");
    assert_eq!(
        result.logs.iter().filter(|line| line.contains("cannot start")).count(),
        2,
        "{:?}",
        result.logs
    );

    let function = Function::start(echo_config().with("ECHO_CONFIG", "exit")).unwrap();
    let result = function.invoke(json!({})).await;
    assert_eq!(result.answer, Answer::Exited { how: Some("exit status 7".into()) });
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_told_with_what_builds_it() {
    let error = Function::start(FunctionConfig::new("f", "/nowhere/f")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/f is not there; build it by: cargo build");
}

#[tokio::test]
async fn a_binary_is_found_by_a_path_that_is_relative_to_here() {
    let here = std::env::current_dir().unwrap();
    let way_up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let config = echo_config();
    let binary = way_up.join(config.binary.strip_prefix("/").unwrap());
    let function = Function::start(FunctionConfig { binary, ..config }).unwrap();
    assert!(function.invoke(json!({"do": "answer", "bytes": 2})).await.ok().is_some());
}

#[tokio::test]
async fn an_answer_beyond_lambdas_limit_fails_the_invocation() {
    let function = echo();
    let fits = function.invoke(json!({"do": "answer", "bytes": 6 << 20})).await;
    assert!(fits.ok().is_some());
    let result = function.invoke(json!({"do": "answer", "bytes": MAX_PAYLOAD_BYTES})).await;
    assert_eq!(error_of(&result.answer).0, "Function.ResponseSizeTooLarge");
}

#[tokio::test]
async fn an_asynchronous_invocation_is_tried_three_times_and_goes_to_the_failure_destination() {
    let directory = std::env::temp_dir().join(format!("failures-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("failures.jsonl");
    let function =
        Function::start(FunctionConfig { failure_file: Some(file.clone()), ..echo_config() }).unwrap();
    let mut reports = function.reports();
    let event = json!({"do": "fail"});
    let id = function.send(event.clone());
    function.idle().await;
    let failures = function.failures();
    assert_eq!(failures.len(), 1);
    let context = &failures[0]["requestContext"];
    assert_eq!(context["requestId"], json!(id));
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(context["approximateInvokeCount"], 3);
    assert_eq!(failures[0]["requestPayload"], event);
    assert_eq!(failures[0]["responseContext"]["functionError"], "Unhandled");
    assert_eq!(failures[0]["responsePayload"]["errorType"], "Retryable");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), failures[0]);

    let attempts: Vec<_> = std::iter::from_fn(|| reports.try_recv().ok()).collect();
    assert_eq!(
        attempts.iter().map(|r| (r.attempt, r.last)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, true)]
    );
    assert!(attempts.iter().all(|report| report.result.request_id == id));
}

#[tokio::test]
async fn an_asynchronous_invocation_that_succeeds_is_not_repeated() {
    let function = echo();
    function.send(json!({"a": 1}));
    function.idle().await;
    assert!(function.failures().is_empty());
    let successes = function.successes();
    assert_eq!(successes.len(), 1);
    assert_eq!(successes[0]["requestContext"]["condition"], "Success");
    assert_eq!(successes[0]["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(successes[0]["responsePayload"], json!({"a": 1}));
    assert_eq!(successes[0]["responseContext"], json!({"statusCode": 200, "executedVersion": "$LATEST"}));
}

#[tokio::test]
async fn a_crash_is_retried_too_and_the_pauses_are_kept() {
    let retry = Retry { backoff: vec![Duration::from_millis(300)] };
    let function = Function::start(FunctionConfig { retry, ..echo_config() }).unwrap();
    let started = Instant::now();
    function.send(json!({"do": "exit", "status": 1}));
    function.idle().await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(function.failures()[0]["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(function.failures()[0]["responsePayload"]["errorType"], "Runtime.ExitError");
}

#[tokio::test]
async fn one_instance_works_on_one_event_at_a_time_and_two_on_two() {
    let nap = json!({"do": "sleep", "ms": 400});
    let pids = async |instances| {
        let function = Function::start(FunctionConfig { instances, ..echo_config() }).unwrap();
        let (one, two) = tokio::join!(function.invoke(nap.clone()), function.invoke(nap.clone()));
        [one, two].map(|result| result.ok().unwrap()["pid"].as_u64().unwrap())
    };
    let [one, two] = pids(1).await;
    assert_eq!(one, two);
    let [one, two] = pids(2).await;
    assert_ne!(one, two);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_peak_of_memory_is_that_of_the_invocation() {
    let function = echo();
    let small = function.invoke(json!({})).await.peak_rss_bytes.unwrap();
    let large = function.invoke(json!({"do": "allocate", "bytes": 64 << 20})).await.peak_rss_bytes.unwrap();
    let after = function.invoke(json!({})).await.peak_rss_bytes.unwrap();
    assert!(large >= small + (60 << 20), "{small} then {large}");
    assert!(after < small + (30 << 20), "{small} then {after}");
}

#[tokio::test]
async fn a_shut_down_ends_the_idle_process() {
    let function = echo();
    let before = function.invoke(json!({"do": "invocation"})).await;
    function.shut_down().await;
    let after = function.invoke(json!({"do": "invocation"})).await;
    assert_ne!(before.ok().unwrap()["pid"], after.ok().unwrap()["pid"]);
}
