//! OSS's ways, strictly: what its S3 dialect refuses is refused here, and what is missing there is answered
//! in its own dialect only.
//!
//! Where no document says what OSS does, this does what hurts a client more.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use ring::{digest, hmac};

use super::server::{Dialect, Shared};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// Where OSS speaks S3's dialect, and where its own.
const S3: &str = ".s3.localhost";
const NATIVE: &str = ".localhost";

/// A call in OSS's own dialect, with the access key that signed it.
#[derive(Debug, Clone)]
pub(super) struct Native(pub(super) Arc<str>);

/// A call that OSS does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message }
    }

    pub(super) fn response(&self, is_head: bool) -> Response<s3s::Body> {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>",
            self.code, self.message
        );
        let body = if is_head { s3s::Body::empty() } else { s3s::Body::from(text) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
        response
    }
}

const PATH_STYLE: Refusal = Refusal::new(
    StatusCode::FORBIDDEN,
    "SecondLevelDomainForbidden",
    "The bucket you are attempting to access must be addressed using OSS third level domain.",
);
const CHUNKED: Refusal = Refusal::new(
    StatusCode::BAD_REQUEST,
    "InvalidArgument",
    "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value.",
);
const CHECKSUM: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", "A checksum header is not supported.");
const CONDITION: Refusal = Refusal::new(
    StatusCode::NOT_IMPLEMENTED,
    "NotImplemented",
    "A header you provided implies functionality that is not implemented.",
);
const UNKNOWN_CALL: Refusal = Refusal::new(
    StatusCode::NOT_IMPLEMENTED,
    "NotImplemented",
    "The S3 compatible interface does not implement this operation.",
);
const NO_DIGEST: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "MissingArgument", "Missing Some Required Arguments.");
const UNDERSCORE: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", "A metadata name must not have underscores.");
const FOREIGN_HEADER: Refusal =
    Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", "The header is unknown in this dialect.");
const SIGNATURE: Refusal = Refusal::new(
    StatusCode::FORBIDDEN,
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
);
const UNKNOWN_KEY: Refusal = Refusal::new(
    StatusCode::FORBIDDEN,
    "InvalidAccessKeyId",
    "The OSS Access Key Id you provided does not exist in our records.",
);

/// Looks at a call before anything is done. One in OSS's own dialect becomes what the service understands.
pub(super) fn admit(shared: &Shared, parts: &mut Parts) -> Result<(), Refusal> {
    let host = text(&parts.headers, HOST);
    let host = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).to_owned();
    let authorization = text(&parts.headers, AUTHORIZATION);
    if let Some(signed) = authorization.strip_prefix(ALGORITHM) {
        let bucket = host.strip_suffix(NATIVE).filter(|_| !host.ends_with(S3)).ok_or(PATH_STYLE)?;
        let key_id = verify(shared, parts, bucket, signed)?;
        return translate(parts, key_id);
    }
    if !host.ends_with(S3) && parts.uri.path() != "/" {
        return Err(PATH_STYLE);
    }
    of_s3(parts, &authorization)
}

fn text(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn query_names(parts: &Parts) -> impl Iterator<Item = &str> {
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// What OSS takes of S3's dialect.
fn of_s3(parts: &Parts, authorization: &str) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let streams = text(headers, "x-amz-content-sha256").starts_with("STREAMING-");
    if streams
        || text(headers, "content-encoding").contains("aws-chunked")
        || headers.contains_key("x-amz-trailer")
    {
        return Err(CHUNKED);
    }
    let is = |pattern: &[&str], name: &HeaderName| pattern.iter().any(|p| name.as_str().starts_with(p));
    if headers.keys().any(|name| is(&["x-amz-checksum-", "x-amz-sdk-checksum-"], name)) {
        return Err(CHECKSUM);
    }
    let writes = parts.method != Method::GET && parts.method != Method::HEAD;
    if writes && (headers.contains_key("if-none-match") || headers.contains_key("if-match")) {
        return Err(CONDITION);
    }
    if headers.keys().any(|name| is(&["x-amz-tagging"], name)) {
        return Err(CONDITION);
    }
    let unknown = ["tagging", "versions", "versioning", "versionId", "attributes"];
    if query_names(parts).any(|name| unknown.contains(&name))
        || text(headers, "x-amz-copy-source").contains("?versionId=")
    {
        return Err(UNKNOWN_CALL);
    }
    let is_batch = parts.method == Method::POST && query_names(parts).any(|name| name == "delete");
    if is_batch && !headers.contains_key("content-md5") {
        return Err(NO_DIGEST);
    }
    check_metadata(headers, "x-amz-meta-")?;
    // What is not signed could have been put in by anybody.
    let signed = authorization.split_once("SignedHeaders=").map_or("", |(_, rest)| rest);
    let signed: Vec<_> = signed.split(',').next().unwrap_or_default().split(';').collect();
    let is_unsigned =
        |name: &HeaderName| is(&["x-oss-", "content-md5"], name) && !signed.contains(&name.as_str());
    if headers.keys().any(is_unsigned) { Err(SIGNATURE) } else { Ok(()) }
}

fn check_metadata(headers: &HeaderMap, prefix: &str) -> Result<(), Refusal> {
    let mut names = headers.keys().filter_map(|name| name.as_str().strip_prefix(prefix));
    if names.any(|name| name.contains('_')) { Err(UNDERSCORE) } else { Ok(()) }
}

/// OSS's own signature, version 4: answers the access key's id.
fn verify(shared: &Shared, parts: &Parts, bucket: &str, signed: &str) -> Result<Arc<str>, Refusal> {
    let fields: BTreeMap<&str, &str> =
        signed.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let (Some(credential), Some(signature)) = (fields.get("Credential"), fields.get("Signature")) else {
        return Err(SIGNATURE);
    };
    let scope: Vec<_> = credential.split('/').collect();
    let [id, date, region, "oss", "aliyun_v4_request"] = scope.as_slice() else { return Err(SIGNATURE) };
    let known = shared.options.credentials.iter().find(|key| key.access_key_id == *id).ok_or(UNKNOWN_KEY)?;
    let date_time = text(&parts.headers, "x-oss-date");
    if *region != shared.options.region || !date_time.starts_with(date) {
        return Err(SIGNATURE);
    }
    let is_signed = |name: &str| name.starts_with("x-oss-") || matches!(name, "content-type" | "content-md5");
    let headers: BTreeMap<_, _> = parts
        .headers
        .iter()
        .filter(|(name, _)| is_signed(name.as_str()))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default().trim()))
        .collect();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let query: BTreeMap<_, _> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let query: Vec<_> = query
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name.to_owned() } else { format!("{name}={value}") })
        .collect();
    let canonical = format!(
        "{}\n/{bucket}{}\n{}\n{headers}\n\n{}",
        parts.method,
        parts.uri.path(),
        query.join("&"),
        text(&parts.headers, "x-oss-content-sha256"),
    );
    let hashed = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
    let to_sign = format!("{ALGORITHM}\n{date_time}\n{date}/{region}/oss/aliyun_v4_request\n{hashed}");
    let mut key = format!("aliyun_v4{}", known.secret_access_key).into_bytes();
    for part in [*date, *region, "oss", "aliyun_v4_request"] {
        key = mac(&key, part);
    }
    if hex::encode(mac(&key, &to_sign)) == *signature { Ok((*id).into()) } else { Err(SIGNATURE) }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// From OSS's own dialect to what the service understands, which takes the signature as checked.
fn translate(parts: &mut Parts, key_id: Arc<str>) -> Result<(), Refusal> {
    if parts.headers.keys().any(|name| name.as_str().starts_with("x-amz-")) {
        return Err(FOREIGN_HEADER);
    }
    check_metadata(&parts.headers, "x-oss-meta-")?;
    parts.headers.remove(AUTHORIZATION);
    for name in ["x-oss-date", "x-oss-content-sha256", "x-oss-security-token"] {
        parts.headers.remove(name);
    }
    rename(&mut parts.headers, "x-oss-", "x-amz-", |name| name != "x-oss-forbid-overwrite");
    if let Some(source) = parts.headers.remove("x-amz-copy-source") {
        let source =
            source.to_str().ok().and_then(|source| source.strip_prefix('/')).ok_or(FOREIGN_HEADER)?;
        let source = HeaderValue::try_from(source).map_err(|_| FOREIGN_HEADER)?;
        parts.headers.insert("x-amz-copy-source", source);
    }
    parts.extensions.insert(Native(key_id));
    Ok(())
}

/// An answer in OSS's own dialect.
pub(super) fn translate_back(headers: &mut HeaderMap) {
    rename(headers, "x-amz-", "x-oss-", |_| true);
}

fn rename(headers: &mut HeaderMap, from: &str, to: &str, which: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(from) && which(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        let bare = name.as_str().strip_prefix(from).unwrap_or_default();
        if let (Ok(renamed), Some(value)) =
            (HeaderName::try_from(format!("{to}{bare}")), headers.remove(&name))
        {
            headers.insert(renamed, value);
        }
    }
}

/// Whether a write has to leave what stands there, as OSS is told by a header of its own.
pub(super) fn forbids_overwriting(dialect: Dialect, headers: &HeaderMap) -> bool {
    dialect == Dialect::Oss && text(headers, "x-oss-forbid-overwrite").eq_ignore_ascii_case("true")
}

/// The tags of a write, in whichever header the dialect has for them.
pub(super) fn tagging(dialect: Dialect, headers: &HeaderMap, input: Option<String>) -> Option<String> {
    let own = headers.get("x-oss-tagging").filter(|_| dialect == Dialect::Oss);
    own.and_then(|value| value.to_str().ok()).map(str::to_owned).or(input)
}

/// Whether a copy takes tags of its own instead of its source's.
pub(super) fn replaces_tags(dialect: Dialect, headers: &HeaderMap) -> bool {
    dialect == Dialect::Oss && text(headers, "x-oss-tagging-directive") == "Replace"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(method: Method, uri: &str, headers: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        of_s3(
            &parts,
            "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=content-md5;host;x-oss-tagging, Signature=y",
        )
    }

    #[test]
    fn what_oss_does_not_take_is_refused() {
        for (expected, method, uri, headers) in [
            (CHUNKED, Method::PUT, "/a", &[("content-encoding", "aws-chunked")][..]),
            (CHUNKED, Method::PUT, "/a", &[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")]),
            (CHECKSUM, Method::PUT, "/a", &[("x-amz-checksum-crc32", "AAAAAA==")]),
            (CONDITION, Method::PUT, "/a", &[("if-none-match", "*")]),
            (CONDITION, Method::DELETE, "/a", &[("if-match", "\"1\"")]),
            (CONDITION, Method::PUT, "/a", &[("x-amz-tagging", "a=b")]),
            (UNKNOWN_CALL, Method::GET, "/a?tagging", &[]),
            (UNKNOWN_CALL, Method::GET, "/?prefix=a&versions", &[]),
            (NO_DIGEST, Method::POST, "/?delete", &[]),
            (UNDERSCORE, Method::PUT, "/a", &[("x-amz-meta-a_b", "1")]),
            (SIGNATURE, Method::PUT, "/a", &[("x-oss-forbid-overwrite", "true")]),
        ] {
            assert_eq!(s3(method, uri, headers), Err(expected));
        }
    }

    #[test]
    fn what_oss_takes_passes() {
        assert_eq!(s3(Method::GET, "/a", &[("if-match", "\"1\"")]), Ok(()));
        assert_eq!(s3(Method::PUT, "/a", &[("x-oss-tagging", "a=b")]), Ok(()));
        assert_eq!(s3(Method::POST, "/?delete", &[("content-md5", "x")]), Ok(()));
    }
}
