//! Takes a body in and holds it against the digests that came with it.

use std::error::Error;

use futures::StreamExt;
use hyper::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};

use super::blob::{Blob, BlobWriter};

/// A body that came in whole.
pub(super) struct Received {
    pub(super) body: Blob,
    pub(super) md5: [u8; 16],
    /// The digests that the client sent, which are right.
    pub(super) checksum: Option<Box<Checksum>>,
}

/// The headers that carry digests, and where the digest stands.
type Field = fn(&Checksum) -> Option<&String>;
const DIGESTS: [(&str, Field); 5] = [
    ("x-amz-checksum-crc32", |sum| sum.checksum_crc32.as_ref()),
    ("x-amz-checksum-crc32c", |sum| sum.checksum_crc32c.as_ref()),
    ("x-amz-checksum-crc64nvme", |sum| sum.checksum_crc64nvme.as_ref()),
    ("x-amz-checksum-sha1", |sum| sum.checksum_sha1.as_ref()),
    ("x-amz-checksum-sha256", |sum| sum.checksum_sha256.as_ref()),
];

fn hasher(headers: &HeaderMap) -> ChecksumHasher {
    let trailers = headers.get_all("x-amz-trailer");
    let trailers: Vec<_> = trailers.iter().filter_map(|value| value.to_str().ok()).collect();
    let wanted = |name: &str| {
        let announced = trailers.iter().flat_map(|names| names.split(','));
        headers.contains_key(name) || announced.map(str::trim).any(|other| other.eq_ignore_ascii_case(name))
    };
    ChecksumHasher {
        crc32: wanted("x-amz-checksum-crc32").then(Crc32::new),
        crc32c: wanted("x-amz-checksum-crc32c").then(Crc32c::new),
        sha1: wanted("x-amz-checksum-sha1").then(Sha1::new),
        sha256: wanted("x-amz-checksum-sha256").then(Sha256::new),
        crc64nvme: wanted("x-amz-checksum-crc64nvme").then(Crc64Nvme::new),
    }
}

/// Reads `body` to its end.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    content_md5: Option<&str>,
    content_length: Option<i64>,
    headers: &HeaderMap,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Received> {
    let (mut writer, mut md5, mut hasher) = (BlobWriter::default(), Md5::new(), hasher(headers));
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| broken(error.as_ref()))?;
            md5.update(&piece);
            hasher.update(&piece);
            writer.push(&piece);
        }
    }
    let body = writer.finish();
    if content_length.and_then(|len| u64::try_from(len).ok()).is_some_and(|len| len != body.len()) {
        return Err(incomplete());
    }
    let md5: [u8; 16] = md5.finalize().into();
    if content_md5.is_some_and(|expected| base64_of(&md5) != expected) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    let sums = hasher.finalize();
    let trailers = trailers.and_then(TrailingHeaders::take).unwrap_or_default();
    let mut any = false;
    for (name, field) in DIGESTS {
        let sent = trailers.get(name).or_else(|| headers.get(name));
        let Some(sent) = sent.and_then(|value| value.to_str().ok()) else { continue };
        any = true;
        if field(&sums).is_some_and(|sum| sum != sent) {
            let algorithm = name.trim_start_matches("x-amz-checksum-").to_uppercase();
            return Err(s3_error!(
                BadDigest,
                "The {algorithm} you specified did not match the calculated checksum."
            ));
        }
    }
    Ok(Received { body, md5, checksum: any.then(|| Box::new(sums)) })
}

/// As `Content-MD5` is written.
fn base64_of(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

/// What the stream's error means to the client.
fn broken(error: &(dyn Error + 'static)) -> S3Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    match text.to_ascii_lowercase() {
        text if text.contains("signature") => s3_error!(
            SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided."
        ),
        text if text.contains("sha256") || text.contains("checksum") => s3_error!(
            BadDigest,
            "The provided 'x-amz-content-sha256' header does not match what was computed."
        ),
        _ => incomplete(),
    }
}
