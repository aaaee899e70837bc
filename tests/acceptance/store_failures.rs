//! What the adapter for S3 makes of answers that go wrong, told byte by byte.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::RetryClass;
use shared::store::{
    CopyOptions, DeleteItem, GetOptions, ListOptions, ObjectStore, Outgoing, OutgoingFile, Precondition,
    PutOptions, S3Config, S3Store, StoreErrorKind, Timeouts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers what it was told to, each answer once and the last one for ever.
struct Scripted {
    store: S3Store,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What is sent back.
#[derive(Clone)]
enum Answer {
    /// These bytes, then the connection ends.
    Bytes(String),
    /// These bytes, and then nothing more for a long time.
    Stall(String),
}

impl Scripted {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        let config = S3Config {
            path_style: true,
            endpoint: Some(url),
            region: Some("us-east-1".to_owned()),
            timeouts: Timeouts {
                connect: Duration::from_millis(500),
                read: Duration::from_millis(300),
                attempt: Duration::from_millis(400),
                operation: Duration::from_secs(8),
                long_operation: Duration::from_secs(8),
                stall: Duration::from_millis(300),
            },
            ..S3Config::default()
        };
        let store = S3Store::with_credentials(config, Credentials::new("id", "secret", None, None, "test"));
        Self { store, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request per connection, so that an answer can end where it likes.
async fn serve(
    mut connection: TcpStream,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut request = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        let n = connection.read(&mut chunk).await.unwrap_or_default();
        request.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if n == 0 || whole {
            break;
        }
    }
    if request.is_empty() {
        return;
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    let answer = {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers.front().unwrap().clone() }
    };
    let (Answer::Bytes(bytes) | Answer::Stall(bytes)) = &answer;
    connection.write_all(bytes.as_bytes()).await.ok();
    if matches!(answer, Answer::Stall(_)) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    connection.shutdown().await.ok();
}

fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Answer::Bytes(format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

fn xml_error(status: &str, code: &str, message: &str) -> Answer {
    answer(status, &[], &error_body(code, message))
}

fn error_body(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

const E_TAG: &str = "\"5d41402abc4b2a76b9719d911017c592\"";
const DATE: &str = "Sat, 21 Nov 2026 06:00:00 GMT";

fn object_answer(status: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("etag", E_TAG), ("last-modified", DATE)];
    all.extend_from_slice(headers);
    answer(status, &all, body)
}

fn object() -> ObjectRef {
    ObjectRef::new("uploads", "u/a.png")
}

fn e_tag() -> ETag {
    ETag::parse(E_TAG).unwrap()
}

#[tokio::test]
async fn every_refusal_is_sorted_by_what_can_be_done_about_it() {
    use StoreErrorKind as Kind;
    for (status, code, message, kind) in [
        ("403 Forbidden", "AccessDenied", "Access Denied", Kind::AccessDenied),
        (
            "403 Forbidden",
            "AccessDenied",
            "Access Denied because object protected by object lock.",
            Kind::Locked,
        ),
        ("403 Forbidden", "SignatureDoesNotMatch", "…", Kind::Invalid),
        ("403 Forbidden", "InvalidObjectState", "…", Kind::Invalid),
        ("400 Bad Request", "ExpiredToken", "The provided token has expired.", Kind::ExpiredCredentials),
        ("400 Bad Request", "InvalidTag", "…", Kind::Invalid),
        ("404 Not Found", "NoSuchBucket", "…", Kind::NoSuchBucket),
        ("404 Not Found", "NoSuchKey", "…", Kind::NotFound),
        ("409 Conflict", "ConditionalRequestConflict", "…", Kind::Conflict),
        ("412 Precondition Failed", "PreconditionFailed", "…", Kind::PreconditionFailed),
        ("301 Moved Permanently", "PermanentRedirect", "…", Kind::Invalid),
        ("501 Not Implemented", "NotImplemented", "…", Kind::Unsupported),
    ] {
        let server = Scripted::start([xml_error(status, code, message)]).await;
        let error = server.store.put(&object(), Bytes::new(), PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status} {code}: {error}");
        assert_eq!(error.action, "s3:PutObject");
        assert_eq!(error.resource, "arn:aws:s3:::uploads/u/a.png");
        assert!(error.detail.contains(code), "{error}");
    }
}

#[tokio::test]
async fn throttling_is_waited_out_and_then_told() {
    let throttled = || xml_error("503 Slow Down", "SlowDown", "Please reduce your request rate.");
    let passing = Scripted::start([throttled(), object_answer("200 OK", &[], "")]).await;
    let lasting = Scripted::start([throttled()]).await;
    let (object, options) = (object(), PutOptions::default);
    let (written, refused) = tokio::join!(
        passing.store.put(&object, Bytes::new(), options()),
        lasting.store.put(&object, Bytes::new(), options()),
    );
    written.unwrap();
    assert_eq!(passing.requests().len(), 2);
    let error = refused.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Throttled, "{error}");
    assert_eq!(error.retry_class(), RetryClass::Retryable);
    assert_eq!(lasting.requests().len(), 4);
}

#[tokio::test]
async fn a_store_that_says_nothing_is_a_time_out() {
    let server = Scripted::start([Answer::Stall(String::new())]).await;
    let error = server.store.head(&object()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Timeout, "{error}");
    assert_eq!(error.retry_class(), RetryClass::Retryable);
    assert!(server.requests().len() > 1, "a HEAD is tried again");
}

#[tokio::test]
async fn a_store_that_is_not_there_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let config = S3Config { endpoint, path_style: true, region: Some("r".to_owned()), ..S3Config::default() };
    let store = S3Store::with_credentials(config, Credentials::new("id", "secret", None, None, "test"));
    let error = store.head(&object()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    assert_eq!(error.retry_class(), RetryClass::Retryable);
}

#[tokio::test]
async fn a_store_that_hangs_up_or_babbles_may_have_done_what_was_asked() {
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 900\r\n\r\n<Delete";
    for said in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ndate: ",
        begun,
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let server = Scripted::start([Answer::Bytes(said.to_owned())]).await;
        let item = DeleteItem::any("u/a.png");
        let error = server.store.delete_batch("uploads", [item].into_iter()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{said:?}: {error}");
        let error = server.store.put(&object(), Bytes::from_static(b"x"), PutOptions::default()).await;
        if said != begun {
            assert_eq!(error.unwrap_err().kind, StoreErrorKind::Unavailable, "{said:?}");
        }
        // Each was tried again.
        assert!(server.requests().len() >= 4, "{said:?}: {} requests", server.requests().len());
    }
}

#[tokio::test]
async fn a_create_only_write_whose_answer_was_lost_meets_itself() {
    let lost = Answer::Stall(String::new());
    let refused = xml_error("412 Precondition Failed", "PreconditionFailed", "…");
    let server = Scripted::start([lost, refused]).await;
    let options = PutOptions { precondition: Precondition::IfAbsent, ..PutOptions::default() };
    let error = server.store.put(&object(), Bytes::from_static(b"hello"), options).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::PreconditionFailed);
    assert!(error.detail.contains("earlier attempt"), "the error says so: {error}");
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests().iter().all(|request| request.contains("if-none-match: *")));
}

#[tokio::test]
async fn success_with_an_error_in_its_body_is_an_error() {
    let broken = || answer("200 OK", &[], &error_body("InternalError", "We encountered an internal error."));
    let server = Scripted::start([broken()]).await;
    let store = &server.store;
    let destination = ObjectRef::new("quarantine", "u/a.png");
    let copied = store.copy(&object(), &destination, CopyOptions::default()).await.unwrap_err();
    assert_eq!(copied.kind, StoreErrorKind::Unavailable, "{copied}");
    let deleted = store.delete_batch("uploads", [DeleteItem::any("a")].into_iter()).await.unwrap_err();
    assert_eq!(deleted.kind, StoreErrorKind::Unavailable, "{deleted}");
    let completed =
        store.complete_upload(&object(), "id", &[(1, e_tag())], Precondition::None).await.unwrap_err();
    assert_eq!(completed.kind, StoreErrorKind::Unavailable, "{completed}");

    let throttled = answer("200 OK", &[], &error_body("SlowDown", "Please reduce your request rate."));
    let server = Scripted::start([throttled]).await;
    let deleted = server.store.delete_batch("uploads", [DeleteItem::any("a")].into_iter()).await.unwrap_err();
    assert_eq!(deleted.kind, StoreErrorKind::Throttled, "{deleted}");
}

#[tokio::test]
async fn success_without_what_it_should_tell_is_an_error() {
    let server = Scripted::start([answer("200 OK", &[], "<CopyObjectResult></CopyObjectResult>")]).await;
    let destination = ObjectRef::new("quarantine", "u/a.png");
    let copied = server.store.copy(&object(), &destination, CopyOptions::default()).await.unwrap_err();
    assert_eq!(copied.kind, StoreErrorKind::Unavailable, "{copied}");
    let body = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let server = Scripted::start([answer("200 OK", &[], body)]).await;
    let listed = server.store.list("uploads", ListOptions::default()).await.unwrap_err();
    assert_eq!(listed.kind, StoreErrorKind::Unavailable, "{listed}");
    let server = Scripted::start([answer("200 OK", &[], "<ListBucketResult><Contents><Key>a</Ke")]).await;
    let listed = server.store.list("uploads", ListOptions::default()).await.unwrap_err();
    assert_eq!(listed.kind, StoreErrorKind::Unavailable, "{listed}");
}

#[tokio::test]
async fn a_batch_answers_for_each_object_and_guesses_for_none() {
    let body = "<DeleteResult><Deleted><Key>a</Key></Deleted>\
        <Error><Key>b</Key><Code>SlowDown</Code><Message>Slow down</Message></Error>\
        <Error><Key>c</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\
        <Error><Key>d</Key><Code>InternalError</Code></Error>\
        <Error><Key>e</Key><Code>PreconditionFailed</Code></Error>\
        <Error><Key>f</Key><Code>AccessDenied</Code><Message>protected by Object Lock</Message></Error>\
        <Error><Key>g</Key><Code>Unheard-of</Code></Error></DeleteResult>";
    let server = Scripted::start([answer("200 OK", &[], body)]).await;
    let items = ["a", "b", "c", "d", "e", "f", "g", "not-named"].map(DeleteItem::any);
    let results = server.store.delete_batch("uploads", items.into_iter()).await.unwrap();
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect();
    assert_eq!(
        kinds,
        [
            None,
            Some(StoreErrorKind::Throttled),
            Some(StoreErrorKind::AccessDenied),
            Some(StoreErrorKind::Unavailable),
            Some(StoreErrorKind::PreconditionFailed),
            Some(StoreErrorKind::Locked),
            Some(StoreErrorKind::Unavailable),
            Some(StoreErrorKind::Unavailable),
        ]
    );
    let denied = results[2].as_ref().unwrap_err();
    assert_eq!((denied.action, denied.resource.as_str()), ("s3:DeleteObject", "arn:aws:s3:::uploads/c"));
    assert_eq!(server.requests().len(), 1);
    assert!(!server.requests()[0].contains("<Quiet>true"), "a quiet answer would name failures only");
}

#[tokio::test]
async fn a_failure_without_a_version_is_that_of_what_nothing_else_is_said_of() {
    let body = "<DeleteResult><Deleted><Key>a</Key><VersionId>1</VersionId></Deleted>\
        <Error><Key>a</Key><Code>AccessDenied</Code><Message>protected by object lock</Message></Error>\
        <Deleted><Key>b</Key></Deleted></DeleteResult>";
    let server = Scripted::start([answer("200 OK", &[], body)]).await;
    let items = [("a", "1"), ("a", "2"), ("b", "1")];
    let items = items.map(|(key, version)| DeleteItem { version_id: Some(version), ..DeleteItem::any(key) });
    let results = server.store.delete_batch("uploads", items.into_iter()).await.unwrap();
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect();
    // A success without its version is nobody's.
    assert_eq!(kinds, [None, Some(StoreErrorKind::Locked), Some(StoreErrorKind::Unavailable)]);
}

#[tokio::test]
async fn what_is_locked_says_until_when() {
    let until = ("x-amz-object-lock-retain-until-date", "2031-02-03T04:05:06Z");
    let hold = ("x-amz-object-lock-legal-hold", "ON");
    let off = ("x-amz-object-lock-legal-hold", "OFF");
    for (headers, expected) in [
        (vec![], None),
        (vec![off], None),
        (vec![off, until], Some("2031-02-03T04:05:06Z".parse().unwrap())),
        (vec![until, hold], Some(jiff::Timestamp::MAX)),
    ] {
        let mut headers = headers;
        headers.extend([("etag", E_TAG), ("last-modified", DATE)]);
        let server = Scripted::start([answer("200 OK", &headers, "")]).await;
        assert_eq!(server.store.head(&object()).await.unwrap().locked_until, expected);
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_never_a_short_success() {
    let head =
        format!("HTTP/1.1 200 OK\r\netag: {E_TAG}\r\nlast-modified: {DATE}\r\ncontent-length: 10\r\n\r\n");
    let server = Scripted::start([Answer::Bytes(format!("{head}01234"))]).await;
    let result = server.store.get(&object(), GetOptions::default()).await.unwrap();
    assert_eq!(result.meta.size, 10);
    let error = result.bytes(100).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Truncated, "{error}");
    assert_eq!(error.retry_class(), RetryClass::Retryable);
}

#[tokio::test]
async fn a_body_that_stands_still_is_a_time_out() {
    let head =
        format!("HTTP/1.1 200 OK\r\netag: {E_TAG}\r\nlast-modified: {DATE}\r\ncontent-length: 10\r\n\r\n");
    let server = Scripted::start([Answer::Stall(format!("{head}01234"))]).await;
    let result = server.store.get(&object(), GetOptions::default()).await.unwrap();
    let error = result.bytes(100).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_range_that_is_not_answered_is_no_range() {
    let read = |range| GetOptions { range: Some(range), if_match: None };
    let server = Scripted::start([object_answer("200 OK", &[], "0123456789")]).await;
    let error = server.store.get(&object(), read(2..4)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unsupported, "{error}");
    let whole = server.store.get(&object(), read(0..64)).await.unwrap();
    assert_eq!(whole.bytes(100).await.unwrap(), "0123456789");

    let server =
        Scripted::start([object_answer("206 Partial Content", &[("content-range", "bytes 2-3/10")], "23")])
            .await;
    let part = server.store.get(&object(), read(2..4)).await.unwrap();
    assert_eq!((part.meta.size, part.length), (10, 2));
    assert!(server.requests()[0].contains("range: bytes=2-3"));
}

#[tokio::test]
async fn a_head_that_is_refused_without_a_word_is_asked_about() {
    let silent = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_owned();
    let told = xml_error("400 Bad Request", "ExpiredToken", "The provided token has expired.");
    let server = Scripted::start([Answer::Bytes(silent), told]).await;
    let error = server.store.head(&object()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::ExpiredCredentials, "{error}");
    assert_eq!(server.requests().len(), 2);

    let server =
        Scripted::start([Answer::Bytes("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n".to_owned())])
            .await;
    let error = server.store.head(&object()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::AccessDenied);
    let message = error.to_string();
    assert!(message.contains("s3:GetObject on arn:aws:s3:::uploads/u/a.png"), "{message}");
    assert!(message.contains("s3:ListBucket"), "a missing object reads so too: {message}");
}

#[tokio::test]
async fn what_is_sent_is_what_compatible_stores_take() {
    let server = Scripted::start([object_answer("200 OK", &[], "")]).await;
    let key = "/a//../b c+d\u{1}?#头.png";
    let options = PutOptions { content_type: Some("image/png".to_owned()), ..PutOptions::default() };
    server.store.put(&ObjectRef::new("uploads", key), Bytes::from_static(b"hello"), options).await.unwrap();
    let request = server.requests().remove(0);
    assert!(
        request
            .starts_with("PUT /uploads//a//../b%20c%2Bd%01%3F%23%E5%A4%B4.png?x-id=PutObject HTTP/1.1\r\n"),
        "{request}"
    );
    for absent in ["checksum", "aws-chunked", "x-amz-trailer", "expect:"] {
        assert!(!request.to_ascii_lowercase().contains(absent), "{absent} in {request}");
    }
    assert!(request.ends_with("\r\n\r\nhello"), "{request}");
}

#[tokio::test]
async fn what_waits_in_a_file_is_sent_whole_at_every_attempt_and_signed_by_its_digest() {
    let content: String = (0..20_000).map(|n| format!("{n:06}\r\n")).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let waiting = OutgoingFile::new(Arc::new(file), content.len() as u64, digest);
    let answers = [xml_error("503 Slow Down", "SlowDown", ""), object_answer("200 OK", &[], "")];
    let scripted = Scripted::start(answers).await;
    let sent = scripted.store.upload_part(&object(), "id", 1, Outgoing::File(waiting)).await;
    assert_eq!(sent.unwrap(), e_tag());
    let requests = scripted.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(body == content, "{} bytes", body.len());
        assert!(head.contains(&format!("x-amz-content-sha256: {}", hex::encode(digest))), "{head}");
        assert!(head.contains(&format!("content-length: {}", content.len())), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
}

#[tokio::test]
async fn a_file_that_is_shorter_than_it_was_is_an_error_and_no_shorter_part() {
    let file = tempfile::tempfile().unwrap();
    let waiting = OutgoingFile::new(Arc::new(file), 10, [0; 32]);
    let scripted = Scripted::start([object_answer("200 OK", &[], "")]).await;
    let sent = scripted.store.upload_part(&object(), "id", 1, Outgoing::File(waiting)).await;
    assert_eq!(sent.unwrap_err().retry_class(), RetryClass::Retryable);
}

#[tokio::test]
async fn a_server_that_reads_over_conditions_is_found_out_once() {
    let written = || answer("200 OK", &[("etag", "\"9e0b5fe5a0b1ae5fd4ad5ff6e4a2ab3c\"")], "");
    let of_batch = |inner: &str| {
        let body =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult>{inner}</DeleteResult>");
        answer("200 OK", &[], &body)
    };
    let refused = "<Error><Key>p</Key><Code>PreconditionFailed</Code><Message>no</Message></Error>";
    for (inner, holds) in [("<Deleted><Key>p</Key></Deleted>", false), (refused, true)] {
        let deleted = answer("204 No Content", &[], "");
        let server = Scripted::start([written(), of_batch(inner), deleted]).await;
        assert!(server.store.capabilities().conditional_delete);
        for _ in 0..2 {
            server.store.probe("audit", "p").await.unwrap();
            assert_eq!(server.store.capabilities().conditional_delete, holds, "{inner}");
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert!(requests[1].contains("<ETag>"), "{}", requests[1]);
        assert!(requests[2].starts_with("DELETE /audit/p"), "{}", requests[2]);
    }
}

#[tokio::test]
async fn what_a_busy_server_says_of_conditions_is_asked_again() {
    let busy = xml_error("503 Slow Down", "SlowDown", "busy");
    let server = Scripted::start([busy]).await;
    let error = server.store.probe("audit", "p").await.unwrap_err();
    assert_eq!(error.retry_class(), RetryClass::Retryable);
    assert!(server.store.capabilities().conditional_delete);
}
