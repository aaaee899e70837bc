//! The local cloud: what the functions run in on a person's machine, and what they are tested in.

pub mod cloud;
pub mod contract;
pub mod fc;
pub mod forgeries;
pub mod lambda;
pub mod pictures;
pub mod presign;
pub mod replay;
pub mod s3;
pub mod ticket;
pub mod tls;
