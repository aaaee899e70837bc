//! Wiring: configuration, store, CDN and clock, behind the platform's runtime.

use std::process::ExitCode;

use expiry_sweeper::cdn::{CloudFront, CloudFrontConfig};
use expiry_sweeper::config::Config;
use expiry_sweeper::handler::{Deps, FUNCTION, handle};
use shared::clock::SystemClock;
use shared::store::{S3Config, S3Store};

fn main() -> ExitCode {
    shared::runtime::start(
        FUNCTION,
        async |mut environment| {
            let config = Config::read(&mut environment);
            let store = S3Store::new(S3Config::read(&mut environment));
            store.check_create_only(&mut environment, "AUDIT_BUCKET", &config.audit_bucket).await;
            let cdn = CloudFront::connect(&CloudFrontConfig::read(&mut environment)).await;
            environment.finish(Deps::new(store, SystemClock, cdn, config))
        },
        async |deps, event, invocation| handle(&deps, &event, &invocation).await,
    )
}
