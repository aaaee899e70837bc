//! The avatar function end to end: real uploads, the real binary, the store's own events.

mod avatar;
