//! The SDK's client, set up for S3 and what speaks like it.

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryPartition;
use aws_sdk_s3::config::{Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation};

use super::config::{Dialect, S3Config, Timeouts};
use super::oss;
use crate::transport;

/// Attempts of a call, the first one included.
const MAX_ATTEMPTS: u32 = 4;
/// The first wait between attempts; it doubles, with jitter.
const INITIAL_BACKOFF: std::time::Duration = std::time::Duration::from_millis(100);
/// The longest wait between attempts. The adaptive mode would have a throttled retry wait for ten tokens
/// that come at half a token a second, which is longer than most functions run.
const MAX_BACKOFF: std::time::Duration = std::time::Duration::from_secs(2);

/// Makes the client. What is not in `config`, and `credentials` unless they are given, comes from the
/// SDK's own variables.
pub(super) async fn connect(config: &S3Config, credentials: Option<Credentials>) -> Client {
    // Adaptive: what is throttled slows the calls that follow, too.
    let retries = RetryConfig::adaptive()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(INITIAL_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(transport::http_client())
        .retry_config(retries)
        .timeout_config(calls(&config.timeouts))
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().grace_period(config.timeouts.stall).build(),
        );
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(keys) = &config.keys {
        // They may be others at the next request.
        let keys = oss::OfTheMoment(keys.clone());
        loader = loader.credentials_provider(keys).identity_cache(IdentityCache::no_cache());
    } else if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    } else if config.credentials_in_environment {
        loader = loader.credentials_provider(EnvironmentVariableCredentialsProvider::new());
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let mut builder = Builder::from(&loader.load().await)
        .force_path_style(config.path_style)
        // Many a compatible store refuses the checksums and trailers that the SDK adds by default.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // By default all clients of a process share what they have learnt about throttling.
        .retry_partition(RetryPartition::custom("store").build());
    if let (Dialect::Oss, Some(keys), Some(region), Some(endpoint)) =
        (config.dialect, &config.keys, &config.region, &config.endpoint)
    {
        builder = builder.interceptor(oss::Translator::new(keys.clone(), region, endpoint));
    }
    Client::from_conf(builder.build())
}

fn calls(timeouts: &Timeouts) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .operation_attempt_timeout(timeouts.attempt)
        .operation_timeout(timeouts.operation)
        .build()
}

/// What a call overrides in which the store itself moves bytes, so that size decides how long it takes.
pub(super) fn long_calls(timeouts: &Timeouts) -> Builder {
    Builder::new().timeout_config(
        TimeoutConfig::builder()
            .connect_timeout(timeouts.connect)
            .read_timeout(timeouts.long_operation)
            .operation_attempt_timeout(timeouts.long_operation)
            .operation_timeout(timeouts.long_operation)
            .build(),
    )
}
