//! Acceptance tests.

#[cfg(test)]
mod cloud;
#[cfg(test)]
mod fc;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod oss;
#[cfg(test)]
mod runtime_api;
#[cfg(test)]
mod serverless_devs;
#[cfg(test)]
mod store_contract;
#[cfg(test)]
mod store_failures;
#[cfg(test)]
mod template;
