//! Counts requests between a tool and the server, for every tool alike.
//!
//! Each connection from a tool has one of its own to the server, and bodies pass through as they come. The
//! `Host` header stays as the tool signed it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// What was asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Listings of a bucket, pages each.
    pub(super) list: usize,
    /// Deletes of one object, and of many at once.
    pub(super) delete: usize,
    /// Questions about one object.
    pub(super) head: usize,
    /// All else: a sweep's report and lease.
    pub(super) other: usize,
}

impl Counts {
    pub(super) fn total(self) -> usize {
        self.list + self.delete + self.head + self.other
    }
}

#[derive(Debug, Default)]
struct Counters {
    list: AtomicUsize,
    delete: AtomicUsize,
    head: AtomicUsize,
    other: AtomicUsize,
}

impl Counters {
    fn of(&self, method: &Method, path: &str, query: &str) -> &AtomicUsize {
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        match (method, key.is_empty()) {
            (&Method::GET, true) if ["list-type", "prefix", "max-keys"].into_iter().any(asks) => &self.list,
            (&Method::POST, true) if asks("delete") => &self.delete,
            (&Method::DELETE, false) if !asks("uploadId") => &self.delete,
            (&Method::HEAD, false) => &self.head,
            _ => &self.other,
        }
    }
}

/// A running proxy. It ends when it is dropped.
pub(super) struct Proxy {
    port: u16,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1, for the server at `url`.
    pub(super) async fn start(url: &str) -> io::Result<Self> {
        let no_server = || io::Error::other(format!("{url:?} is no server; expected http://host:port"));
        let server = url.strip_prefix("http://").ok_or_else(no_server)?.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(connection(stream, server.clone(), counted.clone()));
            }
        });
        Ok(Self { port, counters, task })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since this was last called.
    pub(super) fn take(&self) -> Counts {
        let take = |counter: &AtomicUsize| counter.swap(0, Ordering::Relaxed);
        let Counters { list, delete, head, other } = &*self.counters;
        Counts { list: take(list), delete: take(delete), head: take(head), other: take(other) }
    }
}

/// Serves one connection. Where either side ends it, so does the other, and the tool tries again as it would
/// without a proxy.
async fn connection(stream: TcpStream, server: String, counters: Arc<Counters>) {
    let Ok(upstream) = TcpStream::connect(&server).await else { return };
    let _ = (stream.set_nodelay(true), upstream.set_nodelay(true));
    let Ok((sender, driver)) = handshake(TokioIo::new(upstream)).await else { return };
    let driver = tokio::spawn(driver);
    let sender = Mutex::new(sender);
    let service = service_fn(async |request: Request<Incoming>| {
        let uri = request.uri();
        counters.of(request.method(), uri.path(), uri.query().unwrap_or("")).fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(pass(&sender, request).await)
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    driver.abort();
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn pass(sender: &Mutex<SendRequest<Incoming>>, request: Request<Incoming>) -> Answer {
    let mut sender = sender.lock().await;
    let answer = match sender.ready().await {
        Ok(()) => sender.send_request(request).await,
        Err(error) => Err(error),
    };
    answer.map(|answer| answer.map(BodyExt::boxed)).unwrap_or_else(|_| {
        let nothing = http_body_util::Empty::new().map_err(|never| match never {}).boxed();
        let mut answer = Response::new(nothing);
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer.headers_mut().insert("connection", hyper::header::HeaderValue::from_static("close"));
        answer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_method_and_query() {
        let counters = Counters::default();
        for (method, path, query) in [
            (Method::GET, "/b/", "list-type=2&prefix=u%2F"),
            (Method::GET, "/b", "delimiter=&prefix="),
            (Method::POST, "/b/", "delete"),
            (Method::DELETE, "/b/u/1", "x-id=DeleteObject"),
            (Method::HEAD, "/b/u/1", ""),
            (Method::HEAD, "/b", ""),
            (Method::PUT, "/audit/sweeps/1", "partNumber=1&uploadId=x"),
            (Method::POST, "/audit/sweeps/1", "uploads"),
            (Method::DELETE, "/audit/sweeps/1", "uploadId=x"),
            (Method::GET, "/audit/sweeps/1", ""),
        ] {
            counters.of(&method, path, query).fetch_add(1, Ordering::Relaxed);
        }
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let Counters { list, delete, head, other } = &counters;
        assert_eq!([list, delete, head, other].map(read), [2, 2, 1, 5]);
    }
}
