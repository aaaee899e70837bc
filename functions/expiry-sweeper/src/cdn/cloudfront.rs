//! CloudFront, through its SDK.

use std::error::Error;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudfront::Client;
use aws_sdk_cloudfront::config::http::HttpResponse;
use aws_sdk_cloudfront::config::{Builder, Region};
use aws_sdk_cloudfront::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudfront::types::{InvalidationBatch, Paths};
use shared::env::Environment;
use shared::transport;

use super::{Cdn, CdnError, CdnErrorKind};

/// The permission that a check needs.
pub(super) const READ: &str = "cloudfront:GetDistribution";
/// The permission that an invalidation needs.
pub(super) const INVALIDATE: &str = "cloudfront:CreateInvalidation";

/// How CloudFront is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudFrontConfig {
    /// The endpoint, where it is not Amazon's own.
    pub endpoint: Option<String>,
    /// Whether the environment holds credentials, as on Lambda it always does.
    pub credentials_in_environment: bool,
}

impl CloudFrontConfig {
    /// Reads `AWS_ENDPOINT_URL_CLOUDFRONT` (or `AWS_ENDPOINT_URL`), and whether there are credentials.
    pub fn read(env: &mut Environment) -> Self {
        let variable = "AWS_ENDPOINT_URL_CLOUDFRONT";
        let expected = "a URL that begins with http:// or https://";
        let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let own = env.optional(variable, expected, |url| is_url(url).then(|| url.to_owned()));
        // A mistake in the general one is told by whoever reads it first, the store.
        let endpoint =
            own.or_else(|| env.get("AWS_ENDPOINT_URL").filter(|url| is_url(url)).map(str::to_owned));
        let credentials_in_environment =
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().all(|variable| env.get(variable).is_some());
        Self { endpoint, credentials_in_environment }
    }
}

/// CloudFront.
#[derive(Debug, Clone)]
pub struct CloudFront {
    client: Client,
}

impl CloudFront {
    /// Sets the client up; nothing is sent yet.
    pub async fn connect(config: &CloudFrontConfig) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(15))
            .operation_timeout(Duration::from_secs(40))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(transport::http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            // A global service; its requests are signed for this region.
            .region(Region::from_static("us-east-1"));
        if config.credentials_in_environment {
            loader = loader.credentials_provider(EnvironmentVariableCredentialsProvider::new());
        }
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(Builder::from(&loader.load().await).build()) }
    }
}

impl Cdn for CloudFront {
    async fn check(&self, distribution_id: &str) -> Result<(), CdnError> {
        let answer = self.client.get_distribution().id(distribution_id).send().await;
        answer.map(drop).map_err(|error| failure(distribution_id, READ, error))
    }

    async fn invalidate(
        &self,
        distribution_id: &str,
        caller_reference: &str,
        paths: &[String],
    ) -> Result<String, CdnError> {
        let invalid = |error: &dyn Error| {
            CdnError::new(CdnErrorKind::Invalid, distribution_id, INVALIDATE, error.to_string())
        };
        let quantity = i32::try_from(paths.len()).map_err(|error| invalid(&error))?;
        let paths = Paths::builder().quantity(quantity).set_items(Some(paths.to_vec())).build();
        let batch = InvalidationBatch::builder()
            .paths(paths.map_err(|error| invalid(&error))?)
            .caller_reference(caller_reference)
            .build()
            .map_err(|error| invalid(&error))?;
        let request = self.client.create_invalidation().distribution_id(distribution_id);
        let answer = request.invalidation_batch(batch).send().await;
        let created = answer.map_err(|error| failure(distribution_id, INVALIDATE, error))?;
        Ok(created.invalidation.map(|invalidation| invalidation.id).unwrap_or_default())
    }
}

fn is_servers_fault(answer: &HttpResponse) -> bool {
    answer.status().is_server_error() || answer.status().as_u16() == 429
}

/// What an error of the SDK means.
fn failure<E>(distribution_id: &str, action: &'static str, error: SdkError<E, HttpResponse>) -> CdnError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let kind = match (&error, error.code()) {
        (_, Some("NoSuchDistribution" | "NoSuchResource")) => CdnErrorKind::NoSuchDistribution,
        (_, Some("AccessDenied" | "AccessDeniedException")) => CdnErrorKind::AccessDenied,
        (_, Some("TooManyInvalidationsInProgress")) => CdnErrorKind::TooManyInProgress,
        (
            _,
            Some(
                "Throttling"
                | "ThrottlingException"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
                | "SlowDown",
            ),
        ) => CdnErrorKind::Throttled,
        (
            _,
            Some(
                "InternalError"
                | "InternalFailure"
                | "ServiceUnavailable"
                | "ServiceUnavailableException"
                | "RequestTimeout"
                // New ones come with the next invocation.
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired",
            ),
        ) => CdnErrorKind::Unavailable,
        (SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_), _) => {
            CdnErrorKind::Unavailable
        }
        // A server error without a body that the SDK understands, or under a name of its own.
        (SdkError::ServiceError(_), None) => CdnErrorKind::Unavailable,
        (SdkError::ServiceError(context), _) if is_servers_fault(context.raw()) => CdnErrorKind::Unavailable,
        _ => CdnErrorKind::Invalid,
    };
    let detail = [error.code(), error.message()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    CdnError { source: Some(Box::new(error)), ..CdnError::new(kind, distribution_id, action, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// Answers each request with the next of `answers` (status and body), and passes on what it was asked.
    fn stand_in(answers: Vec<(u16, String)>) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (asked, questions) = channel();
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
                if asked.send(request).is_err() {
                    return;
                }
            }
        });
        (endpoint, questions)
    }

    fn read_request(stream: &mut impl Read) -> String {
        let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                    .unwrap_or(0_usize);
                if body.len() >= length {
                    return text;
                }
            }
            let length = stream.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return text;
            }
        }
    }

    async fn cloudfront(endpoint: String) -> CloudFront {
        let config = CloudFrontConfig { endpoint: Some(endpoint), credentials_in_environment: false };
        let mut cdn = CloudFront::connect(&config).await;
        // The test's own environment has no credentials, and shall need none.
        let credentials = aws_sdk_cloudfront::config::Credentials::new("id", "secret", None, None, "test");
        let builder = cdn.client.config().to_builder().credentials_provider(credentials);
        cdn.client = Client::from_conf(builder.build());
        cdn
    }

    fn error(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><Error>\
             <Type>Sender</Type><Code>{code}</Code><Message>told so</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        )
    }

    const CREATED: &str = "<?xml version=\"1.0\"?><Invalidation xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\">\
        <Id>I1</Id><Status>InProgress</Status><CreateTime>2026-11-21T07:00:00Z</CreateTime><InvalidationBatch><Paths>\
        <Quantity>1</Quantity><Items><Path>/u/a</Path></Items></Paths><CallerReference>s1/1</CallerReference>\
        </InvalidationBatch></Invalidation>";

    #[tokio::test]
    async fn an_invalidation_goes_over_the_wire_as_cloudfront_documents_it() {
        let (endpoint, questions) = stand_in(vec![(201, CREATED.to_owned())]);
        let cdn = cloudfront(endpoint).await;
        let paths = ["/u/a%20b".to_owned(), "/u/x/*".to_owned()];
        assert_eq!(cdn.invalidate("E1", "s1/1", &paths).await.unwrap(), "I1");
        let question = questions.recv().unwrap();
        assert!(
            question.starts_with("POST /2020-05-31/distribution/E1/invalidation HTTP/1.1\r\n"),
            "{question}"
        );
        for part in [
            "<Quantity>2</Quantity>",
            "<Path>/u/a%20b</Path><Path>/u/x/*</Path>",
            "<CallerReference>s1/1</CallerReference>",
            "/us-east-1/cloudfront/aws4_request",
        ] {
            assert!(question.contains(part), "{part} in {question}");
        }
    }

    #[tokio::test]
    async fn errors_are_told_apart() {
        for (status, code, kind) in [
            (404, "NoSuchDistribution", CdnErrorKind::NoSuchDistribution),
            (403, "AccessDenied", CdnErrorKind::AccessDenied),
            (400, "TooManyInvalidationsInProgress", CdnErrorKind::TooManyInProgress),
            (400, "InvalidArgument", CdnErrorKind::Invalid),
        ] {
            let (endpoint, _questions) = stand_in(vec![(status, error(code))]);
            let failed = cloudfront(endpoint).await.invalidate("E1", "s1/1", &["/u/a".to_owned()]).await;
            let failed = failed.unwrap_err();
            assert_eq!(failed.kind, kind, "{failed}");
            assert!(failed.to_string().contains("told so"), "{failed}");
        }
        let (endpoint, questions) = stand_in(vec![(404, error("NoSuchDistribution"))]);
        let missing = cloudfront(endpoint).await.check("E404").await.unwrap_err();
        assert_eq!(missing.reason().code, "no-such-distribution");
        assert!(questions.recv().unwrap().starts_with("GET /2020-05-31/distribution/E404 "));
    }

    #[tokio::test]
    async fn what_the_sdk_itself_retries_ends_as_retryable() {
        let throttled = (429, error("Throttling"));
        let (endpoint, _questions) = stand_in(vec![throttled; 3]);
        let failed = cloudfront(endpoint).await.invalidate("E1", "s1/1", &["/u/a".to_owned()]).await;
        assert_eq!(failed.unwrap_err().kind, CdnErrorKind::Throttled);
        let (endpoint, _questions) = stand_in(vec![(503, String::new()); 3]);
        let failed = cloudfront(endpoint).await.check("E1").await;
        assert_eq!(failed.unwrap_err().kind, CdnErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn nobody_there_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let failed = cloudfront(endpoint).await.check("E1").await.unwrap_err();
        assert_eq!(failed.kind, CdnErrorKind::Unavailable);
    }

    #[test]
    fn the_endpoint_is_read_from_its_own_variable_first() {
        let mut env = Environment::from_iter([
            ("AWS_ENDPOINT_URL_CLOUDFRONT", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:2"),
        ]);
        assert_eq!(CloudFrontConfig::read(&mut env).endpoint.as_deref(), Some("http://127.0.0.1:1"));
        let mut env = Environment::from_iter([("AWS_ENDPOINT_URL", "http://127.0.0.1:2")]);
        assert_eq!(CloudFrontConfig::read(&mut env).endpoint.as_deref(), Some("http://127.0.0.1:2"));
        let mut env = Environment::from_iter([("AWS_ENDPOINT_URL_CLOUDFRONT", "localhost")]);
        CloudFrontConfig::read(&mut env);
        assert!(
            env.finish(()).unwrap_err().to_string().contains("AWS_ENDPOINT_URL_CLOUDFRONT=\"localhost\"")
        );
    }
}
