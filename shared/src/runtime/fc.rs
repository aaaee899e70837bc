//! Function Compute's custom runtime: an HTTP server that FC calls, as its manual describes it
//! ("Web server mode" and "event functions" of the custom runtime, FC 3.0).
//!
//! FC opens connections and keeps them; a request on one that was closed meanwhile is lost with a 502. So
//! no connection is ever closed for being idle. Several requests may come at once; they share one thread,
//! as what they wait for is the store.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::Instrument;

use super::{Invocation, InvocationError, REQUEST_ID, built, log_failure};
use crate::clock::{Clock, SystemClock};
use crate::credentials::{KeySlot, Keys};
use crate::env::{self, ConfigError, Environment};

mod message;
#[cfg(test)]
mod tests;

use message::Context;

/// Bytes of the largest event, which FC sends synchronously.
const MAX_EVENT_BYTES: usize = 32 << 20;

/// The wait after a connection could not be accepted, which means that the process lacks something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the environment says about the server.
struct Settings {
    port: u16,
    /// How long an invocation may take, where a request does not say so.
    timeout: Duration,
}

impl Settings {
    fn read(environment: &mut Environment) -> Self {
        // Serverless Devs' local start only sets FC_SERVER_PORT.
        let variable = match environment.get("FC_CUSTOM_LISTEN_PORT") {
            Some(_) => "FC_CUSTOM_LISTEN_PORT",
            None => "FC_SERVER_PORT",
        };
        let port = environment.or(variable, 9000, "a port from 1 to 65535", |v| env::number(v, 1..=65535));
        // 60 s is what FC takes where a function's definition does not say.
        let expected = "the seconds of the function's time-out, from 1 to 86400";
        let seconds =
            environment.or("FUNCTION_TIMEOUT_SECONDS", 60, expected, |v| env::number(v, 1..=86_400));
        Self { port, timeout: Duration::from_secs(seconds) }
    }
}

/// Answers FC's requests until FC ends the process, or the keys have expired and FC should start another.
pub(super) async fn run<D, B, BF, H, HF>(mut environment: Environment, build: B, handle: H) -> ExitCode
where
    D: Debug,
    B: FnOnce(Environment) -> BF,
    BF: Future<Output = Result<D, ConfigError>>,
    H: Fn(Arc<D>, Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
{
    let settings = Settings::read(&mut environment);
    let keys = KeySlot::new(Keys::of_alibaba_cloud(&environment));
    let Ok(dependencies) = built(build(environment.with_keys(keys.clone()))).await else {
        return ExitCode::FAILURE;
    };
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, settings.port)).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(port = settings.port, %error, "cannot listen; is the port taken?");
            return ExitCode::FAILURE;
        }
    };
    let mut terminated = match signal(SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(error) => {
            tracing::error!(%error, "cannot wait for SIGTERM");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(port = settings.port, "listening");
    let handle = |event, invocation| handle(dependencies.clone(), event, invocation);
    let server = Server { handle, keys, timeout: settings.timeout, expired: Notify::new() };
    let stop = async { terminated.recv().await };
    server.serve(listener, stop.map(drop)).await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// What answers the requests.
struct Server<H> {
    handle: H,
    keys: KeySlot,
    timeout: Duration,
    /// Told once the store no longer takes the keys.
    expired: Notify,
}

impl<H, HF> Server<H>
where
    H: Fn(Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
{
    /// Serves whoever connects until `stop`; requests that run then are answered first.
    async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut connections = FuturesUnordered::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.expired.notified() => break,
                Some(()) = connections.next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        let service = service_fn(async |request| {
                            Ok::<_, std::convert::Infallible>(self.answer(request).await)
                        });
                        let connection = http1::Builder::new()
                            .header_read_timeout(None)
                            .serve_connection(TokioIo::new(stream), service);
                        // One that ends badly is the client's to report.
                        connections.push(graceful.watch(connection).map(drop));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let drained = async { while connections.next().await.is_some() {} };
        tokio::join!(graceful.shutdown(), drained);
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let context = Context::of(request.headers());
        let span = tracing::info_span!("invocation", request_id = %context.request_id);
        async {
            match (request.method(), request.uri().path()) {
                (&Method::POST, "/invoke") => self.invoke(context, request.into_body()).await,
                (&Method::POST, "/initialize") => {
                    self.take_keys(context.keys);
                    message::log_line("Initialize Start", &context.request_id);
                    message::log_line("Initialize End", &context.request_id);
                    message::done()
                }
                (&Method::GET, "/pre-stop") => {
                    message::log_line("PreStop Start", &context.request_id);
                    message::log_line("PreStop End", &context.request_id);
                    message::done()
                }
                (method, path) => {
                    tracing::warn!(%method, path, "nothing is answered at this path");
                    message::failure(&InvocationError {
                        error_type: "UnknownPath",
                        message: format!(
                            "{method} {path} is not answered here; an event is sent by POST /invoke"
                        ),
                    })
                }
            }
        }
        .instrument(span)
        .await
    }

    async fn invoke(&self, context: Context, body: Incoming) -> Response<Full<Bytes>> {
        message::log_line("Invoke Start", &context.request_id);
        self.take_keys(context.keys);
        let timeout = context.timeout.unwrap_or(self.timeout);
        let invocation = Invocation {
            deadline: SystemClock.now().checked_add(timeout).unwrap_or(jiff::Timestamp::MAX),
            request_id: context.request_id.clone(),
        };
        let result = self.result(body, invocation).await.inspect_err(log_failure);
        if self.keys.is_expired() {
            // Those in the environment are never renewed: a new instance gets new ones.
            tracing::warn!("the keys have expired; this instance ends so that the next one has new ones");
            self.expired.notify_one();
        }
        message::log_line("Invoke End", &context.request_id);
        match result {
            Ok(answer) => message::success(&answer),
            Err(error) => message::failure(&error),
        }
    }

    async fn result(&self, body: Incoming, invocation: Invocation) -> Result<Value, InvocationError> {
        let malformed = |message| InvocationError { error_type: "MalformedEvent", message };
        let body = Limited::new(body, MAX_EVENT_BYTES).collect().await;
        let body = body.map_err(|error| malformed(format!("the event did not come whole: {error}")))?;
        let event = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| malformed(format!("the event is no JSON: {error}")))?;
        let id = invocation.request_id.clone();
        let answer = REQUEST_ID.scope(id, async { (self.handle)(event, invocation).await });
        // The other requests of this instance must not end with the one that found a defect.
        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
            let message = "the function panicked; the log says where".to_owned();
            Err(InvocationError { error_type: "Panic", message })
        })
    }

    fn take_keys(&self, keys: Option<Keys>) {
        if let Some(keys) = keys {
            self.keys.replace(keys);
        }
    }
}
