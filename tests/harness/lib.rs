//! The local cloud.

pub mod contract;
pub mod lambda;
pub mod s3;
