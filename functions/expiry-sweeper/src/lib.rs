//! The expiry sweeper: deletes what its retention policy says has expired, and proves it in a report.
//!
//! A schedule or a batch comes in; the [`policy`] says what expires; the [`decision`] about each object is
//! a function of values; a [`sweep`] lists, deletes and reports, and can be stopped at any moment.

pub mod cdn;
pub mod config;
pub mod decision;
pub mod handler;
pub mod lease;
pub mod policy;
mod ranges;
pub mod references;
pub mod report;
pub mod restore;
pub mod retry;
pub mod sweep;
