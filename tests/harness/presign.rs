//! Uploads that a browser makes by itself: a presigned PUT, and a form with a policy.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::json;
use shared::object_ref::ObjectRef;

/// Where and as whom the upload is signed.
#[derive(Debug, Clone)]
pub struct Signer {
    /// `https://s3.eu-central-1.amazonaws.com`, or a store of one's own.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// The region.
    pub region: String,
    /// The access key of the backend that signs.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Its session, if it is a temporary one.
    pub session_token: Option<String>,
}

/// What is uploaded.
#[derive(Debug, Clone)]
pub struct Upload {
    /// To where.
    pub object: ObjectRef,
    /// Under which ticket.
    pub ticket: String,
    /// As which type.
    pub content_type: Option<String>,
    /// From how many bytes on.
    pub min_size: u64,
    /// Up to how many bytes.
    pub max_size: u64,
    /// For how long the signature holds.
    pub expires_in: Duration,
}

/// A request as a client has to make it.
#[derive(Debug, Clone)]
pub struct Presigned {
    /// Where to.
    pub url: String,
    /// The headers of a PUT, or the fields of a form, in their order.
    pub fields: Vec<(String, String)>,
}

/// The upload could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the upload cannot be signed: {0}")]
pub struct SignError(String);

impl Signer {
    /// A PUT, with the ticket among the headers that are signed. The size is the ticket's to limit: a signed
    /// URL knows none.
    ///
    /// # Errors
    /// The duration is none that S3 accepts (up to seven days).
    pub async fn put(&self, upload: &Upload) -> Result<Presigned, SignError> {
        let failed = |error: &dyn std::fmt::Display| SignError(error.to_string());
        let credentials = Credentials::new(
            &self.access_key_id,
            &self.secret_access_key,
            self.session_token.clone(),
            None,
            "presign",
        );
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
            .force_path_style(self.path_style);
        config.set_endpoint_url(self.endpoint.clone());
        let times = PresigningConfig::expires_in(upload.expires_in).map_err(|error| failed(&error))?;
        let request = Client::from_conf(config.build())
            .put_object()
            .bucket(&upload.object.bucket)
            .key(&upload.object.key)
            .metadata(shared::ticket::METADATA, &upload.ticket)
            .set_content_type(upload.content_type.clone())
            .presigned(times)
            .await
            .map_err(|error| failed(&aws_sdk_s3::error::DisplayErrorContext(error)))?;
        let fields = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Presigned { url: request.uri().to_owned(), fields })
    }

    /// A form for a browser, in which S3 itself holds the file to a range of sizes.
    pub fn post(&self, upload: &Upload, now: Timestamp) -> Presigned {
        let date = now.strftime("%Y%m%d").to_string();
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let expiration = now + upload.expires_in;
        let credential = format!("{}/{date}/{}/s3/aws4_request", self.access_key_id, self.region);
        let mut fields = vec![
            ("key".to_owned(), upload.object.key.clone()),
            (format!("x-amz-meta-{}", shared::ticket::METADATA), upload.ticket.clone()),
            ("x-amz-algorithm".to_owned(), "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential".to_owned(), credential),
            ("x-amz-date".to_owned(), time),
        ];
        if let Some(content_type) = &upload.content_type {
            fields.push(("Content-Type".to_owned(), content_type.clone()));
        }
        if let Some(token) = &self.session_token {
            fields.push(("x-amz-security-token".to_owned(), token.clone()));
        }
        let mut conditions = vec![
            json!({"bucket": upload.object.bucket}),
            json!(["content-length-range", upload.min_size, upload.max_size]),
        ];
        conditions.extend(fields.iter().map(|(name, value)| json!(["eq", format!("${name}"), value])));
        let policy = json!({"expiration": format!("{expiration:.3}"), "conditions": conditions});
        let policy = BASE64.encode(policy.to_string());
        let key = generate_signing_key(&self.secret_access_key, SystemTime::from(now), &self.region, "s3");
        let signature = calculate_signature(key, policy.as_bytes());
        fields.push(("policy".to_owned(), policy));
        fields.push(("x-amz-signature".to_owned(), signature));
        Presigned { url: self.bucket_url(&upload.object.bucket), fields }
    }

    fn bucket_url(&self, bucket: &str) -> String {
        match (&self.endpoint, self.path_style) {
            (Some(endpoint), true) => format!("{endpoint}/{bucket}"),
            (Some(endpoint), false) => endpoint.replacen("://", &format!("://{bucket}."), 1),
            (None, _) => format!("https://{bucket}.s3.{}.amazonaws.com", self.region),
        }
    }
}

impl Presigned {
    /// The PUT as a command for a shell.
    pub fn curl_put(&self, file: &str) -> String {
        let headers: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {value}"))))
            .collect();
        format!("curl --fail-with-body -T {} {} {}", quoted(file), headers.join(" "), quoted(&self.url))
    }

    /// The form as a command for a shell.
    pub fn curl_post(&self, file: &str) -> String {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| format!("--form-string {}", quoted(&format!("{name}={value}"))))
            .collect();
        format!(
            "curl --fail-with-body {} -F {} {}",
            fields.join(" "),
            quoted(&format!("file=@{file}")),
            quoted(&self.url)
        )
    }
}

/// A word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_does_not_end_a_word() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
