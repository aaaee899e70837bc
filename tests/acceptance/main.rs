//! Acceptance tests.

mod runtime_api;
mod store_contract;
mod store_failures;
mod template;
