//! Wiring: configuration, store and clock, behind the platform's runtime.

use std::process::ExitCode;

use avatar_transcoder::config::Config;
use avatar_transcoder::handler::{Deps, FUNCTION, handle};
use shared::clock::SystemClock;
use shared::store::{S3Config, S3Store};

fn main() -> ExitCode {
    shared::runtime::start(
        FUNCTION,
        async |mut environment| {
            let config = Config::read(&mut environment);
            let store = S3Store::new(S3Config::read(&mut environment));
            store.check_create_only(&mut environment, "AVATAR_BUCKET", &config.avatar_bucket).await;
            environment.finish(Deps::new(store, SystemClock, config))
        },
        async |deps, event, invocation| handle(&deps, &event, &invocation).await,
    )
}
