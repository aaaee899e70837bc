//! The HTTP client beneath the SDKs: hyper's, with read buffers that stay small.
//!
//! hyper doubles what a connection reads into for as long as answers fill it, up to 400 KiB, and keeps it while the
//! connection lives. A dozen connections on which listings came then hold several megabytes, the more of them the longer
//! they live, and the SDK's own client has no setting to bound that by.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter;
use std::sync::{Arc, OnceLock};

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::retries::ErrorKind;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connect, HttpConnector as TcpConnector, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;

/// The most that is read at once, and that a connection holds on to, in bytes. An answer's head has to fit, too.
const READ_BYTES: usize = 16 << 10;

/// A client with connections of its own, in HTTP/1.1, by TLS where an address says `https`. Clones share the connections.
///
/// It keeps to the connect timeout and the read timeout that the SDK is configured with; the latter is about the time
/// until an answer begins. The authorities that it trusts are read at the first request that needs them, which takes a
/// few milliseconds: the system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    SharedHttpClient::new(Transport::default())
}

type PlainClient = Client<TcpConnector, SdkBody>;
type EncryptedClient = Client<HttpsConnector<TcpConnector>, SdkBody>;

/// The connections, none of which are made before they are needed.
#[derive(Clone, Default)]
struct Transport {
    plain: Arc<OnceLock<PlainClient>>,
    encrypted: Arc<OnceLock<Result<EncryptedClient, NoAuthorities>>>,
}

/// No server can be trusted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no certificate authorities can be read, by which a server would be trusted: {0}")]
struct NoAuthorities(Arc<io::Error>);

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Caller { transport: self.clone(), settings: settings.clone() })
    }
}

/// Makes the requests of one operation.
#[derive(Debug)]
struct Caller {
    transport: Transport,
    settings: HttpConnectorSettings,
}

impl Caller {
    fn request(&self, request: http::Request<SdkBody>) -> Result<legacy::ResponseFuture, NoAuthorities> {
        let Transport { plain, encrypted } = &self.transport;
        if request.uri().scheme() != Some(&Scheme::HTTPS) {
            return Ok(plain.get_or_init(|| client(self.tcp())).request(request));
        }
        let made = encrypted.get_or_init(|| {
            let mut tcp = self.tcp();
            tcp.enforce_http(false);
            HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(ring::default_provider())
                .map(|tls| client(tls.https_only().enable_http1().wrap_connector(tcp)))
                .map_err(|error| NoAuthorities(Arc::new(error)))
        });
        made.as_ref().map(|client| client.request(request)).map_err(Clone::clone)
    }

    fn tcp(&self) -> TcpConnector {
        let mut tcp = TcpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(self.settings.connect_timeout());
        tcp
    }
}

fn client<C: Connect + Clone>(connector: C) -> Client<C, SdkBody> {
    Client::builder(TokioExecutor::new())
        // Without it nothing looks at how long a connection has been idle.
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(READ_BYTES)
        .build(connector)
}

impl HttpConnector for Caller {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let connection = capture_connection(&mut request);
        if let Some(captured) = request.extensions().get::<CaptureSmithyConnection>() {
            captured.set_connection_retriever(move || metadata(connection.clone()));
        }
        let answer = match self.request(request) {
            Ok(answer) => answer,
            // As with a server that is not trusted, which somebody may put right.
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::io(error.into()))),
        };
        let read_timeout = self.settings.read_timeout();
        HttpConnectorFuture::new(async move {
            let answer = match read_timeout {
                Some(longest) => tokio::time::timeout(longest, answer)
                    .await
                    .map_err(|elapsed| ConnectorError::timeout(elapsed.into()))?,
                None => answer.await,
            };
            let answer = answer.map_err(failure)?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// By what the SDK has a connection closed on which something went wrong.
fn metadata(connection: CaptureConnection) -> Option<ConnectionMetadata> {
    connection.connection_metadata().as_ref()?;
    let poison = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
}

/// What the SDK decides by whether it tries again.
fn failure(error: legacy::Error) -> ConnectorError {
    let io = cause::<io::Error>(&error).map(io::Error::kind);
    if error.is_connect() {
        let make =
            if io == Some(io::ErrorKind::TimedOut) { ConnectorError::timeout } else { ConnectorError::io };
        return make(error.into());
    }
    match cause::<hyper::Error>(&error) {
        // The request's body could not be had.
        Some(hyper) if hyper.is_user() => ConnectorError::user(error.into()),
        Some(hyper) if hyper.is_closed() || hyper.is_canceled() => ConnectorError::io(error.into()),
        _ if io.is_some() => ConnectorError::io(error.into()),
        // The server hung up before it answered, or what it said was no answer.
        Some(_) => ConnectorError::other(error.into(), Some(ErrorKind::TransientError)),
        _ => ConnectorError::other(error.into(), None),
    }
}

/// The first error of a kind among `error` and its causes.
fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
    use http_body_util::BodyExt;
    use hyper::rt::{Read, ReadBufCursor, Write};
    use hyper_util::client::legacy::connect::{Connected, Connection};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: ";

    /// A connection that notes the most that it was asked to read at once.
    struct Watched {
        io: TokioIo<DuplexStream>,
        most: Arc<AtomicUsize>,
    }

    impl Read for Watched {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            self.most.fetch_max(buffer.remaining(), Ordering::Relaxed);
            Pin::new(&mut self.io).poll_read(context, buffer)
        }
    }

    impl Write for Watched {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(context)
        }
    }

    impl Connection for Watched {
        fn connected(&self) -> Connected {
            Connected::new()
        }
    }

    /// Hands out one connection.
    #[derive(Clone)]
    struct One(Arc<Mutex<Option<Watched>>>);

    impl tower_service::Service<http::Uri> for One {
        type Response = Watched;
        type Error = io::Error;
        type Future = Ready<io::Result<Watched>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Uri) -> Self::Future {
            ready(self.0.lock().unwrap().take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
        }
    }

    #[tokio::test]
    async fn large_answers_are_read_into_small_buffers() {
        let (ours, mut theirs) = tokio::io::duplex(4 << 20);
        let most = Arc::new(AtomicUsize::new(0));
        let connection = Watched { io: TokioIo::new(ours), most: Arc::clone(&most) };
        let client = client(One(Arc::new(Mutex::new(Some(connection)))));
        let body = vec![7; 3 << 20];
        let served = async {
            // Several answers on one connection, each of which is there at once.
            for _ in 0..3 {
                let mut request = [0; 1024];
                assert_ne!(theirs.read(&mut request).await.unwrap(), 0);
                theirs.write_all(format!("{HEAD}{}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
                theirs.write_all(&body).await.unwrap();
            }
        };
        let asked = async {
            for _ in 0..3 {
                let request = http::Request::get("http://localhost/").body(SdkBody::empty()).unwrap();
                let answer = client.request(request).await.unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), body.len());
            }
        };
        tokio::join!(served, asked);
        let most = most.load(Ordering::Relaxed);
        assert!((1..=READ_BYTES).contains(&most), "{most}");
    }

    #[tokio::test]
    async fn a_connection_that_the_sdk_gives_up_is_not_used_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while connection.read(&mut request).await.is_ok_and(|length| length > 0) {
                        drop(connection.write_all(format!("{HEAD}2\r\n\r\nok").as_bytes()).await);
                    }
                });
            }
        });
        let components = RuntimeComponentsBuilder::for_tests().build().unwrap();
        let connector = http_client().http_connector(&HttpConnectorSettings::default(), &components);
        for (gives_up, expected) in [(false, 1), (false, 1), (true, 1), (false, 2), (true, 2), (true, 3)] {
            let captured = CaptureSmithyConnection::new();
            let mut request = HttpRequest::get(&*uri).unwrap();
            request.add_extension(captured.clone());
            let answer = connector.call(request).await.unwrap();
            if gives_up {
                captured.get().expect("a connection that is known").poison();
            }
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
            // The connection is put back, or not, by a task of its own.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(connections.load(Ordering::Relaxed), expected);
        }
        server.abort();
    }

    /// What comes of a request to a server that does `serve` with each connection.
    async fn outcome<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
        body: SdkBody,
    ) -> Result<HttpResponse, ConnectorError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                serve(connection).await;
            }
        });
        let outcome = ask(&format!("http://{address}/"), body).await;
        server.abort();
        outcome
    }

    async fn ask(uri: &str, body: SdkBody) -> Result<HttpResponse, ConnectorError> {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_millis(300))
            .build();
        let components = RuntimeComponentsBuilder::for_tests().build().unwrap();
        let request = http::Request::put(uri).body(body).unwrap();
        let connector = http_client().http_connector(&settings, &components);
        connector.call(HttpRequest::try_from(request).unwrap()).await
    }

    #[tokio::test]
    async fn failures_are_what_the_sdk_takes_them_for() {
        let closes = async |mut connection: TcpStream| {
            let mut request = [0; 1024];
            drop(connection.read(&mut request).await);
        };
        let hung_up = outcome(closes, SdkBody::from("x")).await.unwrap_err();
        assert_eq!(hung_up.as_other(), Some(ErrorKind::TransientError), "{hung_up:?}");

        let never = async |connection: TcpStream| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(connection);
        };
        let late = outcome(never, SdkBody::empty()).await.unwrap_err();
        assert!(late.is_timeout(), "{late:?}");

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nobody: SocketAddr = listener.local_addr().unwrap();
        drop(listener);
        let unreachable = ask(&format!("http://{nobody}/"), SdkBody::empty()).await.unwrap_err();
        assert!(unreachable.is_io(), "{unreachable:?}");

        let answers = async |mut connection: TcpStream| {
            let mut request = [0; 1024];
            drop(connection.read(&mut request).await);
            drop(connection.write_all(format!("{HEAD}2\r\n\r\nok").as_bytes()).await);
        };
        let answer = outcome(answers, SdkBody::empty()).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);

        let broken = SdkBody::from_body_1_x(http_body_util::StreamBody::new(futures::stream::once(async {
            Err::<hyper::body::Frame<bytes::Bytes>, _>(io::Error::other("the file is gone"))
        })));
        let unreadable = outcome(never, broken).await.unwrap_err();
        assert!(unreadable.is_user(), "{unreadable:?}");
    }
}
