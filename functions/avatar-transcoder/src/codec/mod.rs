//! The C codecs, each behind one small module, which are the only unsafe code of this project; and a JPEG decoder
//! of its own, for what the C one is slower at.

pub(crate) mod scaled_jpeg;
pub(crate) mod turbojpeg;
pub(crate) mod webp;
