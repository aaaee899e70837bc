//! Acceptance tests.

mod store_contract;
mod store_failures;
mod template;
