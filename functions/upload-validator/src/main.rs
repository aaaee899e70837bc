//! Wiring: configuration, store and clock, behind the platform's runtime.

use std::process::ExitCode;

use shared::clock::SystemClock;
use shared::store::{S3Config, S3Store};
use upload_validator::config::Config;
use upload_validator::handler::{Deps, FUNCTION, handle};

fn main() -> ExitCode {
    shared::runtime::start(
        FUNCTION,
        async |mut environment| {
            let config = Config::read(&mut environment);
            let store = S3Store::new(S3Config::read(&mut environment));
            for (variable, bucket) in
                [("QUARANTINE_BUCKET", &config.quarantine_bucket), ("AUDIT_BUCKET", &config.audit_bucket)]
            {
                store
                    .check_create_only(&mut environment, variable, bucket.as_deref().unwrap_or_default())
                    .await;
            }
            environment.finish(Deps::new(store, SystemClock, config))
        },
        async |deps, event, invocation| handle(&deps, &event, &invocation).await,
    )
}
