//! The contract suite on every store there is.

use harness::contract::{Endpoint, Subject, subject_at};
use harness::s3::{BucketOptions, Dialect, Options, Server};
use harness::store_contract;
use shared::store::{self, FaultStore, MemoryStore, RecordingStore, S3Config, S3Store};

const PLAIN: &str = "plain-bucket";
const VERSIONED: &str = "versioned-bucket";

fn subject<S>(store: S) -> Subject<S> {
    Subject { store, plain: PLAIN.to_owned(), versioned: VERSIONED.to_owned(), run: "run/".to_owned() }
}

fn memory() -> MemoryStore {
    MemoryStore::new().with_bucket(PLAIN).with_versioned_bucket(VERSIONED)
}

/// The adapter for S3, against a server of its own for each property.
async fn embedded() -> Subject<S3Store> {
    let server = Server::start(Options::default()).await.unwrap();
    let credentials = server.credentials();
    let endpoint = Endpoint {
        url: server.endpoint(),
        access_key_id: credentials.access_key_id,
        secret_access_key: credentials.secret_access_key,
    };
    let subject = subject_at(&endpoint, "run").await.unwrap();
    // The server ends with the test's own runtime, not before.
    std::mem::forget(server);
    subject
}

/// The adapter for OSS, against a stand-in that refuses what OSS refuses.
async fn oss() -> Subject<S3Store> {
    let server = Server::start(Options {
        dialect: Dialect::Oss,
        region: "cn-hangzhou".to_owned(),
        ..Options::default()
    })
    .await
    .unwrap();
    server.create_bucket(PLAIN, BucketOptions::default());
    server.create_bucket(VERSIONED, BucketOptions { versioned: true, ..BucketOptions::default() });
    let credentials = server.credentials();
    let credentials = aws_credential_types::Credentials::new(
        credentials.access_key_id,
        credentials.secret_access_key,
        None,
        None,
        "contract",
    );
    let config = S3Config {
        dialect: store::Dialect::Oss,
        endpoint: Some(server.endpoint()),
        region: Some(server.region().to_owned()),
        ..S3Config::default()
    };
    std::mem::forget(server);
    subject(S3Store::with_credentials(config, credentials))
}

store_contract!(memory_store, async { subject(memory()) });
store_contract!(memory_store_in_small_pages, async { subject(memory().with_page_size(2)) });
store_contract!(recording_store, async { subject(RecordingStore::new(memory())) });
store_contract!(fault_store_without_faults, async { subject(FaultStore::new(memory())) });
store_contract!(s3_store_at_the_embedded_s3, embedded());
store_contract!(s3_store_at_the_strict_oss, oss());

/// A client that waits to be asked for its body sends none where it is refused, and its next request is no body.
#[tokio::test]
async fn a_refused_upload_takes_nothing_of_the_request_behind_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = Server::start(Options::default()).await.unwrap();
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let put = "PUT /files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    connection.write_all(put.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let read = connection.read(&mut answer).await.unwrap();
    let first = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(first.starts_with("HTTP/1.1 403"), "{first}");
    connection.write_all(b"GET /files/a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ok();
    let mut rest = Vec::new();
    let reading = connection.read_to_end(&mut rest);
    tokio::time::timeout(std::time::Duration::from_secs(2), reading).await.ok();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("HTTP/1.1 400"), "{rest}");
}
