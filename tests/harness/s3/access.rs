//! Who may call, and whether the call is one of those that go wrong.

use std::future::pending;
use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::faults::{Fault, Target};
use super::oss;
use super::requests::Call;
use super::server::{Dialect, Shared};

/// Runs after the signature was checked and before anything is done.
pub(super) struct Access {
    pub(super) shared: Arc<Shared>,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name().to_owned();
        let bucket = cx.s3_path().get_bucket_name().unwrap_or_default().to_owned();
        let key = cx.s3_path().get_object_key().map(str::to_owned);
        let principal = cx.credentials().map(|credentials| credentials.access_key.clone());
        let call = cx.extensions_mut().get::<Call>().cloned();
        // OSS's own signature was checked before.
        let native = cx.extensions_mut().get::<oss::Native>().map(|native| native.0.to_string());
        let principal = principal.or(native);
        let is_anonymous = principal.is_none();
        let principal = principal.unwrap_or_default();
        if let Some(call) = &call {
            let mut call = call.lock();
            call.operation.clone_from(&operation);
            call.bucket.clone_from(&bucket);
            call.key = key.clone().unwrap_or_default();
            call.principal.clone_from(&principal);
        }
        let is_read = matches!(operation.as_str(), "GetObject" | "HeadObject");
        let is_public =
            || self.shared.world().bucket(&bucket).map(|bucket| bucket.public_read).unwrap_or_default();
        if is_anonymous && !(is_read && is_public()) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        let target =
            Target { operation: &operation, bucket: &bucket, key: key.as_deref(), principal: &principal };
        let fault = self.shared.faults.strike(&target);
        if let Some(call) = &call {
            call.lock().fault = fault;
        }
        match fault {
            Some(Fault::Throttle) => Err(s3_error!(SlowDown, "Please reduce your request rate.")),
            Some(Fault::AccessDenied) => Err(s3_error!(AccessDenied, "Access Denied")),
            Some(Fault::ExpiredToken) => Err(expired(self.shared.options.dialect)),
            Some(Fault::Conflict) => Err(s3_error!(
                ConditionalRequestConflict,
                "The conditional request cannot succeed due to a conflicting operation against this resource."
            )),
            // The last two are made what they are around the service.
            Some(Fault::ServerError | Fault::ErrorInside200 | Fault::CloseBeforeEffect) => {
                Err(s3_error!(InternalError, "We encountered an internal error. Please try again."))
            }
            Some(Fault::HangBeforeEffect) => pending().await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Some(Fault::CloseAfterEffect | Fault::HangAfterEffect | Fault::TruncatedBody) | None => Ok(()),
        }
    }
}

/// What temporary credentials hear that have had their time.
fn expired(dialect: Dialect) -> S3Error {
    match dialect {
        Dialect::S3 => s3_error!(ExpiredToken, "The provided token has expired."),
        Dialect::Oss => {
            let code = S3ErrorCode::Custom("SecurityTokenExpired".into());
            let mut error = S3Error::with_message(code, "The security token you provided has expired.");
            error.set_status_code(hyper::StatusCode::FORBIDDEN);
            error
        }
    }
}

/// Takes the bucket from `bucket.localhost`, `bucket.s3.localhost` and the like; any other host is in
/// path style.
pub(super) struct Host;

const DOMAINS: [&str; 3] = [".s3.localhost", ".localhost", ".s3.amazonaws.com"];

impl S3Host for Host {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let bucket = DOMAINS.iter().find_map(|domain| name.strip_suffix(domain)).filter(|name| *name != "s3");
        Ok(match bucket {
            Some(bucket) => VirtualHost::new(host).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_stand_in_the_host() {
        let bucket = |host| Host.parse_host_header(host).unwrap().bucket().map(str::to_owned);
        assert_eq!(bucket("uploads.localhost:9000").as_deref(), Some("uploads"));
        assert_eq!(bucket("my.uploads.s3.localhost").as_deref(), Some("my.uploads"));
        assert_eq!(bucket("localhost:9000"), None);
        assert_eq!(bucket("s3.localhost:9000"), None);
        assert_eq!(bucket("some.host.internal"), None);
    }
}
