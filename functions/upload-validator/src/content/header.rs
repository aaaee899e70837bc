//! How many pixels a picture says it has, and whether its header makes sense.

use shared::media_type::MediaType;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It makes sense.
    Sane(Dimensions),
    /// It stands further on: a JPEG's frame header behind its metadata, at this offset or later.
    Beyond(u64),
    /// This kind of file has none that is read here.
    None,
    /// It makes no sense.
    Broken(&'static str),
}

/// Reads the header of a file of type `media` whose first bytes are `leading`; it has `size` in all.
pub(super) fn read(media: MediaType, leading: &[u8], size: u64) -> Header {
    let header = match media {
        MediaType::Png => png(leading),
        MediaType::Gif => gif(leading),
        MediaType::Webp => webp(leading, size),
        MediaType::Jpeg => jpeg(leading.get(2..).unwrap_or_default(), 2),
        MediaType::Other("image/bmp", _) => bmp(leading),
        MediaType::Other("image/heic" | "image/heif" | "image/avif", _) => heif(leading),
        _ => Header::None,
    };
    match header {
        Header::Sane(Dimensions { width: 0, .. } | Dimensions { height: 0, .. }) => {
            Header::Broken("it has no pixels")
        }
        Header::Beyond(offset) if offset >= size => Header::Broken("it ends before its first frame"),
        header => header,
    }
}

const CUT: Header = Header::Broken("it ends within its header");

fn sane(width: u32, height: u32) -> Header {
    Header::Sane(Dimensions { width, height })
}

/// PNG (ISO 15948): the first chunk is IHDR, of 13 bytes, with a checksum.
fn png(bytes: &[u8]) -> Header {
    let Some(chunk) = bytes.get(8..33) else { return CUT };
    if chunk[..8] != *b"\0\0\0\x0dIHDR" {
        return Header::Broken("its first chunk is not its header");
    }
    let word = |at: usize| u32::from_be_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]);
    if crc32(&chunk[4..21]) != word(21) {
        return Header::Broken("the checksum of its header does not fit");
    }
    let (depth, colour) = (chunk[16], chunk[17]);
    let depth_fits = match colour {
        0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
        3 => matches!(depth, 1 | 2 | 4 | 8),
        2 | 4 | 6 => matches!(depth, 8 | 16),
        _ => false,
    };
    if !depth_fits || chunk[18] != 0 || chunk[19] != 0 || chunk[20] > 1 {
        return Header::Broken("its header has values that do not exist");
    }
    let (width, height) = (word(8), word(12));
    if width > i32::MAX as u32 || height > i32::MAX as u32 {
        return Header::Broken("its header has values that do not exist");
    }
    sane(width, height)
}

/// How many frames a picture has, as far as its first bytes show; more may follow.
pub(super) fn frames(media: MediaType, leading: &[u8]) -> u32 {
    match media {
        MediaType::Png => png_frames(leading).unwrap_or(1),
        MediaType::Gif => gif_frames(leading).max(1),
        MediaType::Webp => webp_frames(leading).max(1),
        _ => 1,
    }
}

/// What the animation control chunk says, which stands before the picture's data.
fn png_frames(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (length, name) = (rest.get(..4)?, rest.get(4..8)?);
        match name {
            b"acTL" => return Some(u32::from_be_bytes(rest.get(8..12)?.try_into().ok()?)),
            b"IDAT" => return None,
            _ => {}
        }
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        rest = rest.get(length.checked_add(12)?..)?;
    }
}

/// Image descriptors, from block to block.
fn gif_frames(bytes: &[u8]) -> u32 {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut frames = 0;
    let mut at = 13 + bytes.get(10).map_or(0, |flags| table(*flags));
    loop {
        at += match bytes.get(at) {
            Some(0x2c) => {
                frames += 1;
                // Descriptor, colour table, and the code size before the data.
                11 + bytes.get(at + 9).map_or(0, |flags| table(*flags))
            }
            Some(0x21) => 2,
            _ => return frames,
        };
        while let Some(length @ 1..) = bytes.get(at) {
            at += 1 + usize::from(*length);
        }
        at += 1;
    }
}

/// Frame chunks of an animation.
fn webp_frames(bytes: &[u8]) -> u32 {
    let mut frames = 0;
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let [a, b, c, d, l0, l1, l2, l3, ..] = *rest {
        frames += u32::from([a, b, c, d] == *b"ANMF");
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let next = length.checked_next_multiple_of(2).and_then(|length| length.checked_add(8));
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    frames
}

/// The checksum of PNG chunks. Seventeen bytes of it are not worth a table.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

/// GIF: the logical screen.
fn gif(bytes: &[u8]) -> Header {
    let Some(&[w0, w1, h0, h1, _, _, _]) = bytes.get(6..13) else { return CUT };
    sane(u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into())
}

/// WebP: the first chunk says how the picture is coded and how large it is.
fn webp(bytes: &[u8], size: u64) -> Header {
    let (Some(riff), Some(chunk), Some(body)) = (bytes.get(4..8), bytes.get(12..16), bytes.get(20..30))
    else {
        return CUT;
    };
    let length = u64::from(u32::from_le_bytes([riff[0], riff[1], riff[2], riff[3]])) + 8;
    if length > size.next_multiple_of(2) {
        return Header::Broken("it is shorter than it says");
    }
    let three = |at: usize| u32::from_le_bytes([body[at], body[at + 1], body[at + 2], 0]);
    let two = |at: usize| u32::from(u16::from_le_bytes([body[at], body[at + 1]]));
    match chunk {
        b"VP8 " if body[3..6] == [0x9d, 0x01, 0x2a] => sane(two(6) & 0x3fff, two(8) & 0x3fff),
        b"VP8L" if body[0] == 0x2f => {
            let bits = u32::from_le_bytes([body[1], body[2], body[3], body[4]]);
            sane((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)
        }
        b"VP8X" => sane(three(4) + 1, three(7) + 1),
        _ => Header::Broken("its first chunk is no picture"),
    }
}

/// BMP: an information header of 40 bytes or more, or the old one of 12. Rows may run either way.
fn bmp(bytes: &[u8]) -> Header {
    let Some(header) = bytes.get(14..26) else { return CUT };
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    match u32::from_le_bytes(word(0)) {
        12 => sane(
            u16::from_le_bytes([header[4], header[5]]).into(),
            u16::from_le_bytes([header[6], header[7]]).into(),
        ),
        40..=256 => {
            let (width, height) = (i32::from_le_bytes(word(4)), i32::from_le_bytes(word(8)));
            match u32::try_from(width) {
                Ok(width) => sane(width, height.unsigned_abs()),
                Err(_) => Header::Broken("its header has values that do not exist"),
            }
        }
        _ => Header::Broken("its header has values that do not exist"),
    }
}

/// HEIF (ISO 23008-12), which HEIC and AVIF are: the largest of the extents (`ispe`) that its items have, as tiles are
/// items beside the picture that they make up. They stand in boxes that are known by their length, name and version, so
/// that nothing around them needs to be read; a sequence need not have any.
fn heif(bytes: &[u8]) -> Header {
    const BOX: &[u8] = b"\0\0\0\x14ispe\0\0\0\0";
    let extents = memchr::memmem::find_iter(bytes, BOX).filter_map(|at| {
        let &[w0, w1, w2, w3, h0, h1, h2, h3] = bytes.get(at + BOX.len()..at + BOX.len() + 8)? else {
            return None;
        };
        Some((u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3])))
    });
    let largest = extents.max_by_key(|(width, height)| u64::from(*width) * u64::from(*height));
    largest.map_or(Header::None, |(width, height)| sane(width, height))
}

/// JPEG: segments up to the frame header. `bytes` begin at the file's `offset`, where a marker stands. A
/// segment that ends outside of them leads [`Header::Beyond`].
pub(super) fn jpeg(bytes: &[u8], mut offset: u64) -> Header {
    let mut rest = bytes;
    loop {
        // Any number of fill bytes may stand before a marker.
        while let [0xff, 0xff, ..] = rest {
            rest = &rest[1..];
            offset += 1;
        }
        let [0xff, marker, high, low, ..] = *rest else {
            return match rest.first() {
                Some(0xff) | None => Header::Beyond(offset),
                Some(_) => Header::Broken("something else stands where a segment should"),
            };
        };
        let length = u16::from_be_bytes([high, low]);
        match marker {
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let Some(&[_, h1, h0, w1, w0, components]) = rest.get(4..10) else {
                    return Header::Beyond(offset);
                };
                if components == 0 || length < 8 + 3 * u16::from(components) {
                    return Header::Broken("its frame header has values that do not exist");
                }
                return sane(u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
            }
            0xda | 0xd9 => return Header::Broken("it has no frame header"),
            0x00 => return Header::Broken("something else stands where a segment should"),
            _ if length < 2 => return Header::Broken("a segment has an impossible length"),
            _ => {}
        }
        let next = 2 + usize::from(length);
        offset += next as u64;
        match rest.get(next..) {
            Some(after) => rest = after,
            None => return Header::Beyond(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> Header {
        let media = shared::media_type::sniff(bytes).unwrap();
        read(media, bytes, bytes.len() as u64)
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../tests/fixtures/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0]);
        let crc = crc32(&bytes[12..]);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    #[test]
    fn real_pictures_say_how_large_they_are() {
        for (name, width, height) in [
            ("astronaut.png", 512, 512),
            ("chelsea.png", 451, 300),
            ("rocket.jpg", 640, 427),
            ("made/progressive.jpg", 0, 0),
            ("made/cmyk-adobe.jpg", 0, 0),
            ("made/orientation-6.webp", 0, 0),
            ("made/bomb-50000.png", 50_000, 50_000),
        ] {
            let Header::Sane(found) = of(&fixture(name)) else { panic!("{name}") };
            assert!(width == 0 || found == Dimensions { width, height }, "{name}: {found:?}");
        }
    }

    #[test]
    fn a_header_that_makes_no_sense_is_broken() {
        let mut flipped = png_header(10, 10);
        flipped[19] ^= 1;
        let wrong_chunk = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDATxxxxxxxxxxxxxxxxxxxx".to_vec();
        for broken in [
            png_header(10, 10)[..20].to_vec(),
            png_header(0, 10),
            png_header(10, u32::MAX),
            flipped,
            wrong_chunk,
            b"GIF89a\x01\0".to_vec(),
            b"GIF89a\0\0\x01\0\0\0\0".to_vec(),
            b"\xff\xd8\xff\xd9\0\0".to_vec(),
            b"\xff\xd8\xff\xe0\0\x01JFIF".to_vec(),
            b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec(),
            b"\xff\xd8\xff\xe0\0\x04abgarbage".to_vec(),
            b"\xff\xd8\xff\xc0\0\x08\x08\0\x01\0\x01\x03".to_vec(),
            b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x01\x01\x01\x11\0".to_vec(),
            b"RIFF\xff\0\0\0WEBPVP8L\x05\0\0\0\x2f\0\0\0\0\0\0\0\0\0".to_vec(),
            b"RIFF\x16\0\0\0WEBPABCD\x05\0\0\0\x2f\0\0\0\0\0\0\0\0\0".to_vec(),
        ] {
            assert!(matches!(of(&broken), Header::Broken(_)), "{:?} of {broken:?}", of(&broken));
        }
        assert_eq!(of(&png_header(7, 9)), Header::Sane(Dimensions { width: 7, height: 9 }));
        assert_eq!(
            of(b"RIFF\x16\0\0\0WEBPVP8L\x05\0\0\0\x2f\x02\x40\0\0\0\0\0\0\0"),
            Header::Sane(Dimensions { width: 3, height: 2 })
        );
    }

    #[test]
    fn the_largest_extent_of_a_heif_is_the_pictures() {
        let heif = |brand: &[u8], extents: &[(u32, u32)]| {
            let mut bytes = [b"\0\0\0\x18ftyp", brand, b"\0\0\0\0mif1heic"].concat();
            for (width, height) in extents {
                bytes.extend(b"\0\0\0\x14ispe\0\0\0\0");
                bytes.extend(width.to_be_bytes());
                bytes.extend(height.to_be_bytes());
            }
            bytes
        };
        for brand in [b"heic", b"avif", b"mif1"] {
            let tiled = heif(brand, &[(512, 512), (4032, 3024), (320, 240)]);
            assert_eq!(of(&tiled), Header::Sane(Dimensions { width: 4032, height: 3024 }));
            assert_eq!(of(&tiled[..tiled.len() - 21]), Header::Sane(Dimensions { width: 512, height: 512 }));
            assert!(matches!(of(&heif(brand, &[(0, 7)])), Header::Broken(_)));
            assert_eq!(of(&heif(brand, &[])), Header::None);
        }
    }

    #[test]
    fn frames_are_counted_as_far_as_they_are_seen() {
        let frame = b"\x21\xf9\x04\0\x05\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
        let gif = [&b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff"[..], &frame.repeat(7), b";"].concat();
        assert_eq!(frames(MediaType::Gif, &gif), 7);
        assert_eq!(frames(MediaType::Gif, &gif[..19 + frame.len() * 3]), 3);
        let animated = [&png_header(1, 1)[..], b"\0\0\0\x08acTL\0\0\0\x09\0\0\0\0\0\0\0\0"].concat();
        assert_eq!(frames(MediaType::Png, &animated), 9);
        assert_eq!(frames(MediaType::Png, &fixture("astronaut.png")), 1);
        let webp =
            [&b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0"[..], &b"ANMF\x01\0\0\0x\0".repeat(4)]
                .concat();
        assert_eq!(frames(MediaType::Webp, &webp), 4);
    }

    #[test]
    fn a_frame_header_behind_long_metadata_is_found_from_segment_to_segment() {
        let mut jpeg_file = vec![0xff, 0xd8];
        for _ in 0..3 {
            jpeg_file.extend([0xff, 0xe2, 0xff, 0xff]);
            jpeg_file.resize(jpeg_file.len() + 65_533, 7);
        }
        let frame = jpeg_file.len() as u64;
        jpeg_file.extend(b"\xff\xc2\0\x0b\x08\x01\0\x02\0\x01\x01\x11\0");
        jpeg_file.resize(jpeg_file.len() + 1000, 0);
        let size = jpeg_file.len() as u64;
        let mut at = match read(MediaType::Jpeg, &jpeg_file[..48 << 10], size) {
            Header::Beyond(at) => at,
            other => panic!("{other:?}"),
        };
        for _ in 0..2 {
            let from = usize::try_from(at).unwrap();
            let Header::Beyond(next) = jpeg(&jpeg_file[from..from + 512], at) else { panic!("beyond {at}") };
            at = next;
        }
        assert_eq!(at, frame);
        let from = usize::try_from(at).unwrap();
        assert_eq!(
            jpeg(&jpeg_file[from..from + 512], at),
            Header::Sane(Dimensions { width: 512, height: 256 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0_usize..6, rest: Vec<u8>) {
            let (media, magic): (_, &[u8]) = [
                (MediaType::Png, b"\x89PNG\r\n\x1a\n".as_slice()),
                (MediaType::Gif, b"GIF89a"),
                (MediaType::Jpeg, b"\xff\xd8"),
                (MediaType::Webp, b"RIFF\0\0\0\0WEBPVP8X"),
                (MediaType::Other("image/bmp", "BMP"), b"BM"),
                (MediaType::Other("image/avif", "AVIF"), b"\0\0\0\x14ispe\0\0\0\0"),
            ][kind];
            let bytes = [magic, &rest].concat();
            let _ = (read(media, &bytes, bytes.len() as u64), frames(media, &bytes));
        }
    }
}
