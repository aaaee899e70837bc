//! The functions end to end: real uploads, the real binaries, the store's own events.

mod avatar;
mod events;
mod sweeper;
mod validator;
