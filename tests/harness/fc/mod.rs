//! Function Compute on this machine: the real binaries as its custom runtime, called as FC calls them.
//!
//! An [`FcFunction`] starts its binary when it is first invoked: with FC's environment, waiting for its port,
//! and with the calls of the life cycle around the events. Results are those of [`crate::lambda`], so that
//! one event can be compared on both.

mod cloud;
mod config;
mod function;
mod instance;

pub use cloud::{FcCloud, FcError, REGION};
pub use config::FcConfig;
pub use function::FcFunction;
pub use instance::{Instance, KeysBy};
