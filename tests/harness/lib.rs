//! The local cloud.

pub mod contract;
pub mod s3;
