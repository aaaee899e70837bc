//! The buckets that are swept: made, filled and counted past the proxy, so that none of it is measured.

use std::error::Error;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use futures::{TryStreamExt, stream};
use harness::contract::Endpoint;

/// What every key starts with.
pub(super) const PREFIX: &str = "u/";
/// How many objects are put at the same time.
const PUTS: usize = 48;

type Failure = Box<dyn Error + Send + Sync>;

/// The server's buckets.
pub(super) struct Buckets(Client);

impl Buckets {
    pub(super) fn at(endpoint: &Endpoint) -> Self {
        let credentials =
            Credentials::new(&endpoint.access_key_id, &endpoint.secret_access_key, None, None, "bench-sweep");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(&endpoint.url)
            .force_path_style(true)
            .http_client(shared::transport::http_client());
        Self(Client::from_conf(config.build()))
    }

    /// Makes a bucket, unless it is there.
    pub(super) async fn make(&self, bucket: &str) -> Result<(), Failure> {
        match self.0.create_bucket().bucket(bucket).send().await {
            Err(error)
                if !matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) =>
            {
                Err(format!("the bucket {bucket} cannot be made: {}", aws_sdk_s3::Error::from(error)).into())
            }
            _ => Ok(()),
        }
    }

    /// Makes a bucket that is in use: a server may take a while for the first object of a bucket, for which it makes room.
    pub(super) async fn make_used(&self, bucket: &str) -> Result<(), Failure> {
        self.make(bucket).await?;
        let body = ByteStream::from_static(b"in use\n");
        let put = self.0.put_object().bucket(bucket).key("in-use").body(body);
        put.send().await.map_err(aws_sdk_s3::Error::from)?;
        Ok(())
    }

    /// Makes a bucket of exactly `objects` small objects, unless it is one already.
    pub(super) async fn fill(&self, bucket: &str, objects: usize) -> Result<(), Failure> {
        self.make(bucket).await?;
        match self.count(bucket).await? {
            count if count == objects => return Ok(()),
            count if count > objects => return Err(format!("{bucket} holds {count} objects already").into()),
            _ => {}
        }
        stream::iter((0..objects).map(Ok::<_, Failure>))
            .try_for_each_concurrent(PUTS, async |n| {
                let body = ByteStream::from_static(b"an old object\n");
                let put = self.0.put_object().bucket(bucket).key(format!("{PREFIX}{n:07}")).body(body);
                put.send().await.map_err(aws_sdk_s3::Error::from)?;
                Ok(())
            })
            .await?;
        let count = self.count(bucket).await?;
        if count == objects { Ok(()) } else { Err(format!("{bucket} holds {count} objects").into()) }
    }

    /// How many objects are there.
    pub(super) async fn count(&self, bucket: &str) -> Result<usize, Failure> {
        let mut pages = self.0.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            count += page.map_err(aws_sdk_s3::Error::from)?.contents().len();
        }
        Ok(count)
    }
}
