//! The suite's ground at an endpoint: the adapter for S3, and two buckets made for the run.

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use shared::store::{S3Config, S3Store};

use super::Subject;

/// A server that speaks S3.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://127.0.0.1:9000`
    pub url: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
}

/// A bucket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the bucket {bucket} cannot be made at {url}")]
pub struct NoGround {
    url: String,
    bucket: String,
    source: aws_sdk_s3::Error,
}

/// Makes the buckets `{run}-plain` and `{run}-versioned`, unless they are there, and answers the
/// subject that the suite is run on. The adapter is reached in path style.
///
/// # Errors
/// Where a bucket cannot be made.
pub async fn subject_at(endpoint: &Endpoint, run: &str) -> Result<Subject<S3Store>, NoGround> {
    let config = S3Config {
        path_style: true,
        endpoint: Some(endpoint.url.clone()),
        region: Some("us-east-1".to_owned()),
        ..S3Config::default()
    };
    let credentials =
        Credentials::new(&endpoint.access_key_id, &endpoint.secret_access_key, None, None, "contract");
    let store = S3Store::with_credentials(config, credentials.clone());
    let client = Client::from_conf(
        aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(&endpoint.url)
            .force_path_style(true)
            .http_client(shared::transport::http_client())
            .build(),
    );
    let (plain, versioned) = (format!("{run}-plain"), format!("{run}-versioned"));
    let failed =
        |bucket: &str, source| NoGround { url: endpoint.url.clone(), bucket: bucket.to_owned(), source };
    for bucket in [&plain, &versioned] {
        match client.create_bucket().bucket(bucket).send().await {
            Err(error) if error.code() != Some("BucketAlreadyOwnedByYou") => {
                return Err(failed(bucket, error.into()));
            }
            _ => {}
        }
    }
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let versioning = client.put_bucket_versioning().bucket(&versioned).versioning_configuration(enabled);
    versioning.send().await.map_err(|error| failed(&versioned, error.into()))?;
    Ok(Subject { store, plain, versioned, run: format!("{run}/") })
}
