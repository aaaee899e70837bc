//! The embedded S3: a server in memory that speaks to any client.
//!
//! ```no_run
//! # async fn example() -> Result<(), harness::s3::StartError> {
//! use harness::s3::{BucketOptions, Filter, Options, Server};
//!
//! let server = Server::start(Options::default()).await?;
//! server.create_bucket("uploads", BucketOptions::default());
//! let mut events = server.subscribe("uploads", Filter::created("to-avatars").prefix("users/"));
//! println!("{}", server.endpoint());
//! while let Some(notification) = events.recv().await {
//!     println!("{notification}");
//! }
//! # Ok(())
//! # }
//! ```

mod access;
mod backend;
mod blob;
mod buckets;
mod events;
mod faults;
mod form;
mod listing;
mod lists;
mod model;
mod multipart;
mod notify;
mod oss;
mod read;
mod receive;
mod requests;
mod serve;
mod server;
mod wire;
mod write;

pub use blob::Blob;
pub use events::{Cause, Event, form_encode};
pub use faults::{Fault, FaultId, FaultRule, When};
pub use model::{Attributes, StoredObject, Tags, Versioning};
pub use notify::Filter;
pub use requests::Request;
pub use server::{BucketOptions, Credentials, Dialect, Options, PutOptions, Server, StartError};
