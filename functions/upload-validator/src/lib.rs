//! The upload validator: from an upload in the files bucket to a verdict, and to what follows from it.
//!
//! An event names an upload; [`key`] says to which catalog it belongs and [`catalog`] what is accepted there;
//! [`content`] says what the bytes are; [`verdict`] holds all of it against the ticket and lists every
//! failure; [`handler`] reads what that takes and carries the verdict out, by way of the [`quarantine`] and
//! the [`record`].

pub mod catalog;
pub mod config;
pub mod content;
pub mod handler;
pub mod key;
pub mod quarantine;
pub mod record;
pub mod verdict;
