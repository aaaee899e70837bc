//! HTTP around the service: connections, the request log, and the faults that are none of S3's answers.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::access::{Access, Host};
use super::backend::Backend;
use super::events::extended_id;
use super::faults::Fault;
use super::form::FileName;
use super::oss;
use super::requests::{Call, Request};
use super::server::{Dialect, Shared};

/// Long enough for the first half of a body to leave before the connection is closed.
const FLUSH: Duration = Duration::from_millis(30);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves whoever connects. The connections end with the returned future.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let service = service(&shared);
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let (service, shared) = (service.clone(), shared.clone());
        connections.spawn(async move {
            let handle = service_fn(move |request| answer(service.clone(), shared.clone(), request));
            // A connection that ends badly is the client's to report.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await;
        });
    }
}

fn service(shared: &Arc<Shared>) -> S3Service {
    let mut auth = SimpleAuth::new();
    for key in &shared.options.credentials {
        auth.register(key.access_key_id.clone(), key.secret_access_key.clone().into());
    }
    let mut builder = S3ServiceBuilder::new(Backend { shared: shared.clone() });
    builder.set_auth(auth);
    builder.set_access(Access { shared: shared.clone() });
    builder.set_host(Host);
    builder.build()
}

fn header(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Makes one header of metadata that was sent twice, as S3 does before it checks the signature (RFC 9110, 5.2); s3s
/// would refuse it.
fn join_metadata(headers: &mut HeaderMap) {
    let twice: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-meta-") && headers.get_all(*name).iter().count() > 1)
        .cloned()
        .collect();
    for name in twice {
        let values: Vec<_> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b","[..])) {
            headers.insert(name, joined);
        }
    }
}

/// A call that runs. If it is dropped before its answer, its connection was cut, and the log says 0.
async fn answer(
    service: S3Service,
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Outgoing>, Error> {
    let request_id = shared.world().ids.opaque("request").get(..16).unwrap_or_default().to_uppercase();
    let call = Call::new(Request {
        operation: "Unknown".to_owned(),
        bucket: String::new(),
        key: String::new(),
        status: 0,
        bytes_in: 0,
        bytes_out: 0,
        principal: String::new(),
        user_agent: header(request.headers(), USER_AGENT),
        trace_id: header(request.headers(), "x-amzn-trace-id"),
        request_id: request_id.clone(),
        fault: None,
    });
    shared.log.push(call.clone());
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(call.clone());
    join_metadata(&mut parts.headers);
    let is_form = header(&parts.headers, CONTENT_TYPE).starts_with("multipart/form-data");
    let file_name = is_form.then(FileName::default);
    if let Some(file_name) = file_name.clone() {
        parts.extensions.insert(file_name);
    }
    let is_waiting = parts.headers.contains_key(hyper::header::EXPECT);
    let body = Drained { inner: Some(body), call: call.clone(), file_name, is_waiting };
    let body = s3s::Body::http_body_unsync(body);
    let is_oss = shared.options.dialect == Dialect::Oss;
    let admitted = if is_oss { oss::admit(&shared, &mut parts) } else { Ok(()) };
    let is_native = parts.extensions.get::<oss::Native>().is_some();
    let mut response = match admitted {
        Ok(()) => {
            let result = service.call(hyper::Request::from_parts(parts, body)).await;
            result.map_err(Error::from)?
        }
        Err(refusal) => refusal.response(parts.method == Method::HEAD),
    };
    if is_native {
        oss::translate_back(response.headers_mut());
    }
    let fault = call.lock().fault;
    match fault {
        Some(Fault::CloseBeforeEffect | Fault::CloseAfterEffect) => {
            return Err(Box::new(io::Error::other("closed by an injected fault")));
        }
        Some(Fault::HangAfterEffect) => pending().await,
        Some(Fault::ErrorInside200) if response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            *response.status_mut() = StatusCode::OK;
        }
        _ => {}
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        *response.body_mut() = s3s::Body::empty();
    }
    escape_control_characters(&mut response);
    let id = HeaderValue::try_from(&request_id);
    let id_2 = HeaderValue::try_from(extended_id(&request_id));
    let named = |name: &'static str, value: Result<HeaderValue, _>| {
        value.ok().map(|value| (HeaderName::from_static(name), value))
    };
    let headers = response.headers_mut();
    if is_oss {
        headers.extend(named("x-oss-request-id", id));
        headers.insert("server", HeaderValue::from_static("AliyunOSS"));
    } else {
        headers.extend(named("x-amz-request-id", id));
        headers.extend(named("x-amz-id-2", id_2));
        headers.insert("server", HeaderValue::from_static("AmazonS3"));
    }
    call.lock().status = response.status().as_u16();
    let declared = header(response.headers(), CONTENT_LENGTH).parse().ok();
    let cut_at = (fault == Some(Fault::TruncatedBody))
        .then(|| declared.or(response.body().size_hint().exact()).unwrap_or_default() / 2);
    Ok(response.map(|inner| Outgoing { inner, call, cut_at, sent: 0, closing: None }))
}

/// Writes characters that XML 1.0 cannot carry as S3 does: as references, which lenient parsers read.
fn escape_control_characters(response: &mut s3s::HttpResponse) {
    let is_plain = |byte: u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n');
    if !header(response.headers(), CONTENT_TYPE).ends_with("xml") {
        return;
    }
    let Some(body) = response.body().bytes().filter(|body| !body.iter().copied().all(is_plain)) else {
        return;
    };
    let mut escaped = Vec::with_capacity(body.len() + 64);
    for byte in body {
        match is_plain(byte) {
            true => escaped.push(byte),
            false => escaped.extend_from_slice(format!("&#x{byte:X};").as_bytes()),
        }
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = s3s::Body::from(escaped);
}

/// A request's body. What is left of it when the answer is ready is read and thrown away, because a
/// client that is still sending would see a reset connection instead of the answer.
struct Drained {
    inner: Option<Incoming>,
    call: Call,
    file_name: Option<FileName>,
    /// Whether the client sends nothing of it before it is asked to.
    is_waiting: bool,
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_waiting = false;
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.call.lock().bytes_in += data.len() as u64;
            if let Some(name) = &self.file_name {
                name.watch(data);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        // Who waits to be asked hears the answer, and sends nothing: what came next would be another request. The
        // connection ends with it.
        if self.is_waiting {
            return;
        }
        let Some(mut rest) = self.inner.take().filter(|body| !body.is_end_stream()) else { return };
        tokio::spawn(async move { while let Some(Ok(_)) = rest.frame().await {} });
    }
}

/// A response's body, counted, and cut if it is to be.
struct Outgoing {
    inner: s3s::Body,
    call: Call,
    cut_at: Option<u64>,
    sent: u64,
    closing: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(closing) = &mut self.closing {
            std::task::ready!(closing.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Box::new(io::Error::other("cut by an injected fault")))));
        }
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some(Ok(frame)) = polled else { return Poll::Ready(polled) };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => return Poll::Ready(Some(Ok(other))),
        };
        if let Some(cut_at) = self.cut_at
            && self.sent + data.len() as u64 >= cut_at
        {
            data.truncate(usize::try_from(cut_at - self.sent).unwrap_or(usize::MAX));
            self.closing = Some(Box::pin(tokio::time::sleep(FLUSH)));
        }
        self.sent += data.len() as u64;
        self.call.lock().bytes_out += data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.cut_at.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
