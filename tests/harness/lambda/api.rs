//! The Lambda Runtime API of one execution environment, over HTTP on 127.0.0.1.
//!
//! Paths, statuses and bodies are those of Lambda's own (Lambda Developer Guide, "Using the Lambda runtime
//! API"; where it is silent, AWS's open-source Runtime Interface Emulator).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::extension::{ExtensionRefusal, Extensions};
use super::phase::{Phase, Refusal, Said, Work};
use super::{locked, new_id};

/// The largest answer that Lambda takes from a function.
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 100;

type Answer = Response<Full<Bytes>>;

/// A running Runtime API. Dropping it closes every connection.
#[derive(Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    offered: Notify,
    said: mpsc::UnboundedSender<Said>,
    function: String,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    work: Option<Work>,
    extensions: Extensions,
}

impl RuntimeApi {
    /// Listens on a free port of 127.0.0.1 for the runtime of `function`. What the runtime says comes out of
    /// the receiver, in order.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(function: &str) -> io::Result<(Self, mpsc::UnboundedReceiver<Said>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (said, hears) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            offered: Notify::new(),
            said,
            function: function.to_owned(),
        });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok((Self { address, shared, server }, hears))
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Hands `work` to the runtime as soon as it asks.
    pub fn offer(&self, work: Work) {
        let mut state = locked(&self.shared.state);
        let event = json!({
            "eventType": "INVOKE",
            "deadlineMs": work.deadline_ms,
            "requestId": work.request_id,
            "invokedFunctionArn": work.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": work.trace_id},
        });
        state.extensions.tell("INVOKE", &event);
        state.work = Some(work);
        self.shared.offered.notify_one();
    }

    /// Tells the extensions that the end has come, and why; answers whether there is any.
    pub(super) fn announce_shutdown(&self, reason: &str, deadline_ms: i64) -> bool {
        let state = locked(&self.shared.state);
        let event = json!({"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms});
        state.extensions.tell("SHUTDOWN", &event);
        state.extensions.any()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // The runtime speaks in small messages, one after the other.
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(shared.route(request).await) }
                    });
                    // A connection ends in an error whenever a process is killed.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    async fn route(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let headers = &parts.headers;
        match (&parts.method, segments.as_slice()) {
            (&Method::GET, ["2018-06-01", "ping"]) => plain(StatusCode::OK, "pong"),
            (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => self.next().await,
            (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "response"]) => {
                self.end(id, body, |request_id, body| Said::Response { request_id, body }).await
            }
            (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "error"]) => {
                let header = error_header(headers);
                self.end(id, body, |request_id, body| {
                    let (error_type, message) = Said::error_in(&body, header.as_deref());
                    Said::Error { request_id, error_type, message }
                })
                .await
            }
            (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => {
                self.init_error(error_header(headers), body).await
            }
            (&Method::POST, ["2020-01-01", "extension", "register"]) => self.register(headers, body).await,
            (&Method::GET, ["2020-01-01", "extension", "event", "next"]) => {
                self.extension_event(headers).await
            }
            (&Method::POST, ["2020-01-01", "extension", "init" | "exit", "error"]) => accepted(),
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn next(&self) -> Answer {
        {
            let mut state = locked(&self.state);
            match state.phase.ask() {
                Ok(true) => self.tell(Said::Ready),
                Ok(false) => {}
                Err(refusal) => return refused(&refusal),
            }
        }
        loop {
            if let Some(work) = self.take_work() {
                return hand_over(work);
            }
            self.offered.notified().await;
        }
    }

    fn take_work(&self) -> Option<Work> {
        let mut state = locked(&self.state);
        let work = state.work.take()?;
        state.phase.give(&work.request_id);
        Some(work)
    }

    async fn end(&self, id: &str, body: Incoming, said: impl FnOnce(String, Bytes) -> Said) -> Answer {
        let body = match Limited::new(body, MAX_PAYLOAD_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(()),
            // The process went away in the middle of its answer; what follows is its exit.
            Err(_) => return plain(StatusCode::BAD_REQUEST, "the body ends early\n"),
        };
        let mut state = locked(&self.state);
        if let Err(refusal) = state.phase.end(id) {
            return refused(&refusal);
        }
        match body {
            Ok(body) => {
                self.tell(said(id.to_owned(), body));
                accepted()
            }
            Err(()) => {
                self.tell(Said::Error {
                    request_id: id.to_owned(),
                    error_type: "Function.ResponseSizeTooLarge".to_owned(),
                    message: format!(
                        "Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."
                    ),
                });
                refused(&Refusal::TooLarge { limit: MAX_PAYLOAD_BYTES })
            }
        }
    }

    async fn init_error(&self, header: Option<String>, body: Incoming) -> Answer {
        let body = read(body).await;
        let mut state = locked(&self.state);
        if let Err(refusal) = state.phase.fail_init() {
            return refused(&refusal);
        }
        let (error_type, message) = Said::error_in(&body, header.as_deref());
        self.tell(Said::InitError { error_type, message });
        accepted()
    }

    async fn register(&self, headers: &HeaderMap, body: Incoming) -> Answer {
        let name = text(headers, "lambda-extension-name").unwrap_or_default();
        let body: Value = serde_json::from_slice(&read(body).await).unwrap_or_default();
        let events = body.get("events").and_then(Value::as_array).into_iter().flatten();
        let events = events.filter_map(Value::as_str).map(str::to_owned).collect();
        let id = new_id().to_string();
        if let Err(refusal) = locked(&self.state).extensions.register(&id, &name, events) {
            return extension_refused(refusal);
        }
        let about =
            json!({"functionName": self.function, "functionVersion": "$LATEST", "handler": "bootstrap"});
        with_header(json_answer(StatusCode::OK, &about), "lambda-extension-identifier", &id)
    }

    async fn extension_event(&self, headers: &HeaderMap) -> Answer {
        let id = text(headers, "lambda-extension-identifier");
        let events = match locked(&self.state).extensions.events(id.as_deref()) {
            Ok(events) => events,
            Err(refusal) => return extension_refused(refusal),
        };
        match events.lock().await.recv().await {
            Some(event) => {
                let answer = json_answer(StatusCode::OK, &event);
                with_header(answer, "lambda-extension-event-identifier", &new_id().to_string())
            }
            None => extension_refused(ExtensionRefusal::UnknownIdentifier),
        }
    }

    fn tell(&self, said: Said) {
        // Nobody listens once the instance is being taken down.
        let _ = self.said.send(said);
    }
}

async fn read(body: Incoming) -> Bytes {
    Limited::new(body, MAX_PAYLOAD_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn error_header(headers: &HeaderMap) -> Option<String> {
    text(headers, "lambda-runtime-function-error-type")
}

fn hand_over(work: Work) -> Answer {
    let mut answer = Response::new(Full::new(work.payload));
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", &work.request_id),
        ("lambda-runtime-deadline-ms", &work.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", &work.arn),
        ("lambda-runtime-trace-id", &work.trace_id),
    ] {
        answer = with_header(answer, name, value);
    }
    answer
}

fn accepted() -> Answer {
    json_answer(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}

fn refused(refusal: &Refusal) -> Answer {
    let (status, body) = refusal.answer();
    json_answer(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), &body)
}

fn extension_refused(refusal: ExtensionRefusal) -> Answer {
    let (status, body) = refusal.answer();
    json_answer(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), &body)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    with_header(answer, CONTENT_TYPE.as_str(), "application/json")
}

fn plain(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    answer
}

fn with_header(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
    answer
}
