//! The C codecs, each behind one small module: the only unsafe code of this project.

pub(crate) mod turbojpeg;
pub(crate) mod webp;
