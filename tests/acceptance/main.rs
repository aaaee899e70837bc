//! Acceptance tests.

mod store_contract;
