//! Acceptance tests.

#[cfg(test)]
mod cloud;
#[cfg(test)]
mod runtime_api;
#[cfg(test)]
mod store_contract;
#[cfg(test)]
mod store_failures;
#[cfg(test)]
mod template;
