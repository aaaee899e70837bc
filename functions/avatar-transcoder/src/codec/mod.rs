//! The C codecs, each behind one small module, which are the only unsafe code of this project; and decoders of its
//! own, for what others are slower at: shrunk JPEGs, and GIF's LZW.

pub(crate) mod lzw;
pub(crate) mod scaled_jpeg;
pub(crate) mod turbojpeg;
pub(crate) mod webp;
