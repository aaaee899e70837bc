//! What the bucket functions have in common.
//!
//! An event comes in ([`event`]), is held against an object [`store`], and goes out as an [`outcome`].
//! A module stands here once two functions need it.

pub mod clock;
pub mod credentials;
pub mod dispatch;
pub mod env;
pub mod event;
pub mod media_type;
pub mod object_ref;
pub mod outcome;
pub mod runtime;
pub mod short_code;
pub mod store;
pub mod telemetry;
pub mod ticket;
pub mod transport;
