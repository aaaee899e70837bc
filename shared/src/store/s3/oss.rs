//! What Alibaba Cloud OSS wants otherwise than S3, put in at the last step of a request and taken out at
//! the first step of an answer, so that the rest of the adapter speaks S3.
//!
//! OSS answers S3's calls at `s3.oss-{region}…` with S3's signature. What is missing there (tags, versions,
//! a bucket's versioning) it answers at `oss-{region}…` in its own dialect, whose XML is the same, whose
//! headers begin with `x-oss-`, and whose signature is [`signature`]'s.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use crate::clock::{Clock, SystemClock};
use crate::credentials::{KeySlot, Keys};

pub(super) mod hint;
mod signature;

const S3: &str = "x-amz-";
const NATIVE: &str = "x-oss-";

/// Headers of S3's signature and of the SDK, which mean nothing to OSS's own dialect.
const OF_S3_ONLY: [&str; 5] =
    ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent", "x-amz-checksum-mode"];

/// Turns S3's requests into such as OSS takes.
#[derive(Debug, Clone)]
pub(super) struct Translator {
    keys: KeySlot,
    region: String,
    /// The endpoint's authority: `s3.oss-cn-hangzhou.aliyuncs.com`, with a port if it has one.
    authority: String,
}

impl Translator {
    pub(super) fn new(keys: KeySlot, region: &str, endpoint: &str) -> Self {
        let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/');
        Self { keys, region: region.to_owned(), authority: authority.to_owned() }
    }

    /// The bucket in the host's name, and where OSS's own dialect is spoken.
    fn native_host<'a>(&self, host: &'a str) -> Option<(&'a str, String)> {
        let bucket = host.strip_suffix(&self.authority)?.strip_suffix('.')?;
        let native = self.authority.strip_prefix("s3.").unwrap_or(&self.authority);
        Some((bucket, format!("{bucket}.{native}")))
    }

    /// Signs again, for OSS's own dialect.
    fn make_native(&self, request: &mut HttpRequest) -> Result<(), BoxError> {
        let keys = self.keys.current().ok_or("there are no keys to sign with")?;
        let uri: http::Uri = request.uri().parse()?;
        let host = uri.authority().ok_or("the request names no host")?.as_str();
        let (bucket, host) = self.native_host(host).ok_or("the bucket does not stand in the host's name")?;
        let names: Vec<String> = request.headers().iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let Some(bare) = name.strip_prefix(S3) else { continue };
            let value = request.headers_mut().remove(&name).unwrap_or_default();
            let is_of_s3_only = OF_S3_ONLY.contains(&name.as_str())
                || bare.starts_with("sdk-")
                || bare.starts_with("checksum-");
            if !is_of_s3_only {
                // A source stands without its slash in S3's dialect.
                let value = if bare == "copy-source" { format!("/{value}") } else { value };
                request.headers_mut().insert(format!("{NATIVE}{bare}"), value);
            }
        }
        let query = signature::without_operation(uri.query().unwrap_or_default());
        let path = format!("/{bucket}{}", uri.path());
        let scheme = uri.scheme_str().unwrap_or("https");
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{scheme}://{host}{}{mark}{query}", uri.path());
        let now = SystemClock.now();
        let headers = request.headers_mut();
        headers.insert("x-oss-date", signature::date_time(now));
        headers.insert("x-oss-content-sha256", signature::UNSIGNED);
        if let Some(token) = &keys.token {
            headers.insert("x-oss-security-token", token.clone());
        }
        let method = request.method().to_owned();
        let signed = signature::Signed { method: &method, path: &path, query: &query };
        let authorization = signed.authorization(&keys, &self.region, now, request.headers().iter());
        request.headers_mut().insert("authorization", authorization);
        request.set_uri(url)?;
        Ok(())
    }
}

impl Intercept for Translator {
    fn name(&self) -> &'static str {
        "oss"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let writes = matches!(request.method(), "PUT" | "POST");
        let headers = request.headers_mut();
        if writes && headers.remove("if-none-match").is_some() {
            headers.insert("x-oss-forbid-overwrite", "true");
        }
        if let Some(tags) = headers.remove("x-amz-tagging") {
            headers.insert("x-oss-tagging", tags);
        }
        if headers.remove("x-amz-tagging-directive").is_some_and(|directive| directive == "REPLACE") {
            headers.insert("x-oss-tagging-directive", "Replace");
        }
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if is_native_only(request) {
            self.make_native(request)?;
        }
        reach_local_names(request)
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        take_back(context.response_mut());
        Ok(())
    }
}

/// What a batch delete needs besides: OSS wants the body's MD5 and none of S3's newer digests. This has to
/// come behind the SDK's own digests, and so belongs to the call and not to the client.
pub(super) fn digest_by_md5(request: &mut HttpRequest) {
    let digest = request.body().bytes().map(|body| BASE64.encode(Md5::digest(body)));
    let names: Vec<String> = request.headers().iter().map(|(name, _)| name.to_owned()).collect();
    let headers = request.headers_mut();
    for name in names {
        if name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm" {
            headers.remove(name);
        }
    }
    if let Some(digest) = digest {
        headers.insert("content-md5", digest);
    }
}

/// Whether OSS answers this call in its own dialect only: what concerns tags, versions and versioning.
fn is_native_only(request: &HttpRequest) -> bool {
    let query = request.uri().split_once('?').map_or("", |(_, query)| query);
    let names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    let mut names = names.filter(|name| matches!(*name, "tagging" | "versions" | "versioning" | "versionId"));
    let source = request.headers().get("x-amz-copy-source");
    names.next().is_some()
        || source.is_some_and(|source| source.contains("?versionId="))
        || is_batch_with_versions(request)
}

/// A batch delete names versions in its body, where a key would have the sign escaped.
fn is_batch_with_versions(request: &HttpRequest) -> bool {
    const VERSION: &[u8] = b"<VersionId>";
    let body = request.body().bytes().unwrap_or_default();
    request.method() == "POST"
        && body.starts_with(b"<Delete")
        && body.windows(VERSION.len()).any(|part| part == VERSION)
}

/// Names below `localhost` are this machine (RFC 6761, 6.3), which not every resolver knows.
fn reach_local_names(request: &mut HttpRequest) -> Result<(), BoxError> {
    let uri: http::Uri = request.uri().parse()?;
    let Some(authority) = uri.authority() else { return Ok(()) };
    if !authority.host().ends_with(".localhost") {
        return Ok(());
    }
    let port = authority.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("http://127.0.0.1:{port}{path}");
    let host = authority.to_string();
    request.headers_mut().insert("host", host);
    request.set_uri(url)?;
    Ok(())
}

/// Gives an answer the names that the SDK looks for.
fn take_back(response: &mut HttpResponse) {
    let native: Vec<(String, String)> = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(NATIVE)?.to_owned(), value.to_owned())))
        .collect();
    for (bare, value) in native {
        // The answer to a HEAD has no body; there OSS says in a header what went wrong.
        if bare == "err" {
            let told = BASE64.decode(&value).unwrap_or_default();
            if !told.is_empty() && !response.status().is_success() {
                *response.body_mut() = SdkBody::from(told);
            }
            continue;
        }
        let name = format!("{S3}{bare}");
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Hands the SDK the keys of the moment.
#[derive(Debug)]
pub(super) struct OfTheMoment(pub(super) KeySlot);

impl ProvideCredentials for OfTheMoment {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(match self.0.current() {
            Some(Keys { id, secret, token }) => {
                Ok(Credentials::new(id, secret, token, None, "function-compute"))
            }
            None => Err(CredentialsError::not_loaded(
                "no keys came with the request and none stand in the environment; give the function a role",
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translator(endpoint: &str) -> Translator {
        Translator::new(KeySlot::default(), "cn-hangzhou", endpoint)
    }

    #[test]
    fn the_own_dialect_is_spoken_beside_that_of_s3() {
        let public = translator("https://s3.oss-cn-hangzhou.aliyuncs.com");
        assert_eq!(
            public.native_host("my.s3.bucket.s3.oss-cn-hangzhou.aliyuncs.com"),
            Some(("my.s3.bucket", "my.s3.bucket.oss-cn-hangzhou.aliyuncs.com".to_owned()))
        );
        let either = translator("https://oss-cn-hangzhou-internal.aliyuncs.com/");
        assert_eq!(
            either.native_host("b.oss-cn-hangzhou-internal.aliyuncs.com"),
            Some(("b", "b.oss-cn-hangzhou-internal.aliyuncs.com".to_owned()))
        );
        assert_eq!(either.native_host("elsewhere.example.com"), None);
    }

    fn request(method: &str, uri: &str, body: &'static str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method(method).unwrap();
        request.set_uri(uri).unwrap();
        request
    }

    #[test]
    fn only_what_s3s_dialect_lacks_is_asked_in_the_own_one() {
        let native = |method, uri, body| is_native_only(&request(method, uri, body));
        assert!(native("PUT", "https://b.s3.oss.com/a?tagging", ""));
        assert!(native("GET", "https://b.s3.oss.com/?prefix=a&versions", ""));
        assert!(native("HEAD", "https://b.s3.oss.com/a?versionId=1", ""));
        assert!(!native("GET", "https://b.s3.oss.com/tagging?list-type=2&prefix=versions", ""));
        assert!(!native(
            "POST",
            "https://b.s3.oss.com/?delete",
            "<Delete><Key>a&lt;VersionId></Key></Delete>"
        ));
        assert!(native("POST", "https://b.s3.oss.com/?delete", "<Delete><VersionId>1</VersionId></Delete>"));
    }

    #[test]
    fn a_batch_carries_the_md5_of_its_body_and_no_newer_digest() {
        let mut batch = request("POST", "https://b.s3.oss.com/?delete", "<Delete></Delete>");
        batch.headers_mut().insert("x-amz-checksum-crc32", "AAAAAA==");
        batch.headers_mut().insert("x-amz-sdk-checksum-algorithm", "CRC32");
        digest_by_md5(&mut batch);
        let headers: Vec<_> = batch.headers().iter().collect();
        assert_eq!(headers, [("content-md5", "R2cEG0GhQVRNiyXR3QnSyw==")]);
    }

    #[test]
    fn local_names_are_this_machine() {
        let mut local = request("GET", "http://bucket.s3.localhost:9000/a%20b?x-id=GetObject", "");
        reach_local_names(&mut local).unwrap();
        assert_eq!(local.uri(), "http://127.0.0.1:9000/a%20b?x-id=GetObject");
        assert_eq!(local.headers().get("host"), Some("bucket.s3.localhost:9000"));
        let mut far = request("GET", "https://bucket.s3.oss-cn-hangzhou.aliyuncs.com/a", "");
        reach_local_names(&mut far).unwrap();
        assert_eq!(far.uri(), "https://bucket.s3.oss-cn-hangzhou.aliyuncs.com/a");
    }

    #[test]
    fn a_head_tells_in_a_header_what_went_wrong() {
        let status = http::StatusCode::FORBIDDEN.into();
        let mut response = HttpResponse::new(status, SdkBody::empty());
        let told = "<Error><Code>SecurityTokenExpired</Code></Error>";
        response.headers_mut().insert("x-oss-err", BASE64.encode(told));
        response.headers_mut().insert("x-oss-meta-a", "1");
        take_back(&mut response);
        assert_eq!(response.body().bytes(), Some(told.as_bytes()));
        assert_eq!(response.headers().get("x-amz-meta-a"), Some("1"));
    }
}
