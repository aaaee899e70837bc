//! The local cloud.

pub mod contract;
