//! What bytes are, by their content: never by a name or a declared type.

use std::fmt;

/// A type of file that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `image/jpeg`
    Jpeg,
    /// `image/png`, also where it is animated.
    Png,
    /// `image/gif`
    Gif,
    /// `image/webp`
    Webp,
    /// `image/svg+xml`: a picture that can hold scripts.
    Svg,
    /// `text/html`, recognised by its first tag.
    Html,
    /// `text/xml` of another kind.
    Xml,
    /// Anything else that is known, by its media type and the name that people use.
    Other(&'static str, &'static str),
}

impl MediaType {
    /// The media type (RFC 6838): `image/png`.
    pub fn essence(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Svg => "image/svg+xml",
            Self::Html => "text/html",
            Self::Xml => "text/xml",
            Self::Other(essence, _) => essence,
        }
    }

    /// The name that people use: `PNG`, `HEIC`, `PDF`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Webp => "WebP",
            Self::Svg => "SVG",
            Self::Html => "HTML",
            Self::Xml => "XML",
            Self::Other(_, name) => name,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.essence())
    }
}

/// Recognises a file by its leading bytes; 4 KiB are enough for every type that is known. `None` for plain
/// text and for whatever nobody knows.
pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Some(MediaType::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(MediaType::Png);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(MediaType::Gif);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(MediaType::Webp);
    }
    if is_text(bytes) && is_utf8(bytes) {
        return written(bytes);
    }
    // ISO media files name their brand; the library knows some of them only.
    if bytes.get(4..8) == Some(b"ftyp") {
        match bytes.get(8..12) {
            Some(b"avif" | b"avis") => return Some(MediaType::Other("image/avif", "AVIF")),
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
                return Some(MediaType::Other("image/heic", "HEIC"));
            }
            _ => {}
        }
    }
    let known = infer::get(bytes)
        .filter(|known| known.matcher_type() != infer::MatcherType::Text && !is_decided(known.mime_type()));
    if let Some(known) = known {
        return Some(named(known.mime_type(), known.extension()));
    }
    markup(bytes)
}

/// Whether bytes are text in an encoding that extends ASCII, or in UTF-16 that says so: no control characters
/// but those that lay text out or change its alphabet.
pub fn is_text(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || bytes.iter().all(|b| *b >= 0x20 && *b != 0x7f || matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

/// Whether bytes are UTF-8, of which the last character may be cut.
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// What text is. Binary files are known by as little as two letters, with which honest text may begin (`BM`, `MZ`,
/// `ID3`), but each of them has control characters in its header; so text can only be of a type that is text itself.
fn written(bytes: &[u8]) -> Option<MediaType> {
    // Readers of PDF look for its beginning; what is no more than blanks away from it is no other text.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let known: [(&[u8], &str, &str); 4] = [
        (b"%PDF-", "application/pdf", "pdf"),
        (b"{\\rtf", "application/rtf", "rtf"),
        (b"%!PS", "application/postscript", "ps"),
        (b"-----BEGIN ", "application/x-x509-ca-cert", "pem"),
    ];
    let known = known.iter().find(|(magic, ..)| text.starts_with(magic));
    known.map(|(_, essence, extension)| named(essence, extension)).or_else(|| markup(bytes))
}

/// Whether a type was decided before the library is asked. It takes three letters for a GIF, four bytes for a PNG,
/// and `WEBP` behind anything for a WebP: a script can begin with each of them, and no browser shows that as a
/// picture.
fn is_decided(essence: &str) -> bool {
    matches!(essence, "image/jpeg" | "image/png" | "image/gif" | "image/webp")
}

/// The name for what the library knows.
fn named(essence: &'static str, extension: &'static str) -> MediaType {
    let name = match essence {
        "image/tiff" => "TIFF",
        "image/bmp" => "BMP",
        "image/vnd.adobe.photoshop" => "PSD",
        "image/vnd.microsoft.icon" => "ICO",
        "image/jxl" => "JPEG XL",
        "image/jxr" => "JPEG XR",
        "image/heif" => "HEIC",
        "image/avif" => "AVIF",
        "application/pdf" => "PDF",
        "application/zip" => "ZIP",
        "application/vnd.microsoft.portable-executable" => "a Windows program",
        "application/x-executable" => "a program",
        _ => extension,
    };
    MediaType::Other(essence, name)
}

/// Markup, told by its first tag as browsers do (WHATWG MIME Sniffing): after a byte order mark, white space,
/// comments and declarations.
fn markup(bytes: &[u8]) -> Option<MediaType> {
    let text = decoded(&bytes[..bytes.len().min(4096)]);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    let mut is_xml = false;
    loop {
        if let Some(after) = rest.strip_prefix("<!--") {
            rest = after.split_once("-->").map_or("", |(_, after)| after).trim_start();
        } else if let Some(after) = rest.strip_prefix("<?") {
            is_xml |= after.get(..3).is_some_and(|target| target.eq_ignore_ascii_case("xml"));
            rest = after.split_once("?>").map_or("", |(_, after)| after).trim_start();
        } else if rest.get(..9).is_some_and(|tag| tag.eq_ignore_ascii_case("<!doctype")) {
            let name = rest[9..].trim_start();
            if name.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html")) {
                return Some(MediaType::Html);
            }
            if name.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("svg")) {
                return Some(MediaType::Svg);
            }
            is_xml = true;
            // An internal subset has brackets around further declarations.
            let end = match (rest.find('['), rest.find('>')) {
                (Some(open), Some(close)) if open < close => rest.find("]").map(|i| i + 1),
                (_, close) => close.map(|i| i + 1),
            };
            rest = end
                .and_then(|end| rest.get(end..))
                .unwrap_or("")
                .trim_start_matches(['>', ' ', '\n', '\r', '\t']);
        } else {
            break;
        }
    }
    let Some(tag) = rest.strip_prefix('<') else { return is_xml.then_some(MediaType::Xml) };
    let name: String = tag
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_'))
        .collect::<String>()
        .to_ascii_lowercase();
    const HTML: [&str; 18] = [
        "html", "head", "body", "script", "iframe", "h1", "div", "font", "table", "a", "style", "title", "b",
        "br", "p", "img", "form", "meta",
    ];
    // A prefix may hold other characters than the names of HTML.
    let whole = tag.split(|c: char| c.is_whitespace() || "/>".contains(c)).next().unwrap_or_default();
    if whole.rsplit(':').next().is_some_and(|name| name.eq_ignore_ascii_case("svg")) {
        Some(MediaType::Svg)
    } else if HTML.contains(&name.as_str()) {
        Some(MediaType::Html)
    } else {
        is_xml.then_some(MediaType::Xml)
    }
}

/// Text in the encodings that browsers guess by a byte order mark; anything else reads as Latin-1 would.
fn decoded(bytes: &[u8]) -> String {
    let wide = |pair: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|c| pair([c[0], c[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        sniff(bytes).map(MediaType::name)
    }

    #[test]
    fn pictures_are_told_by_their_magic_bytes() {
        assert_eq!(sniff(b"\xff\xd8\xff\xe0rest"), Some(MediaType::Jpeg));
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\nrest"), Some(MediaType::Png));
        assert_eq!(sniff(b"GIF89arest"), Some(MediaType::Gif));
        assert_eq!(sniff(b"RIFF\x10\0\0\0WEBPVP8 "), Some(MediaType::Webp));
    }

    #[test]
    fn a_picture_needs_all_of_its_magic_bytes() {
        assert_eq!(sniff(b"GIF=1;alert(1)//"), None);
        assert_eq!(sniff(b"\x89PNG=1;alert(1)//"), None);
        assert_eq!(sniff(b"alert(1)WEBP;"), None);
        // What it really is comes to light.
        assert_eq!(sniff(b"<html>  WEBP<script>"), Some(MediaType::Html));
    }

    #[test]
    fn what_is_not_supported_is_called_by_name() {
        assert_eq!(name(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Some("HEIC"));
        assert_eq!(name(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif"), Some("AVIF"));
        assert_eq!(name(b"II*\0\x08\0\0\0rest of it"), Some("TIFF"));
        assert_eq!(name(b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"), Some("BMP"));
        assert_eq!(name(b"8BPS\0\x01\0\0\0\0\0\0\0\x03"), Some("PSD"));
        assert_eq!(name(b"%PDF-1.7\n"), Some("PDF"));
        assert_eq!(name(b"PK\x03\x04\x14\0\0\0"), Some("ZIP"));
    }

    #[test]
    fn text_is_of_no_type_that_has_other_bytes_in_its_header() {
        for text in [
            "BM is short for Bachelor of Medicine.",
            "BC Ferries",
            "MZ;name;1\n",
            "MAC address,host\n",
            "ID3 tags, explained",
            "CWS holds the record",
            "FWS",
            "BZh...",
            "070701 was a Sunday",
            "A PDF begins with %PDF-1.7.",
            "SQLite, a love story",
            "8BPS",
            "OggS",
            "<-- ftypheic",
            "%!TEX root = thesis.tex",
            "BM caf\u{e9}",
        ] {
            assert_eq!(name(text.as_bytes()), None, "{text}");
        }
        // The last character may be cut, as everything is read to a length.
        assert_eq!(name(&"ID3 caf\u{e9}".as_bytes()[..8]), None);
        assert_eq!(name(b"<!--ftypheic--><script>"), Some("HTML"));
        assert_eq!(name(b"ID3\x03\0\0\0\0"), Some("mp3"));
        for (text, expected) in [
            ("%PDF-1.4\n%ASCII only", "PDF"),
            ("\u{feff}\n%PDF-1.4\n", "PDF"),
            ("{\\rtf1 text}", "rtf"),
            ("%!PS-Adobe-3.0\n", "ps"),
            ("-----BEGIN CERTIFICATE-----\n", "pem"),
            ("<?xml version='1.0'?><note/>", "XML"),
        ] {
            assert_eq!(name(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn markup_is_told_by_its_first_tag_behind_whatever_stands_before() {
        for svg in [
            "<svg xmlns='http://www.w3.org/2000/svg'/>",
            "\u{feff}  <?xml version='1.0'?><!-- hi --><svg/>",
            "<!DOCTYPE svg PUBLIC 'x'><svg/>",
            "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><s:svg/>",
            "<p.q:svg xmlns:p.q='http://www.w3.org/2000/svg'/>",
        ] {
            assert_eq!(sniff(svg.as_bytes()), Some(MediaType::Svg), "{svg}");
        }
        for html in ["<!doctype HTML><p>", "<!-- x --><script>1</script>", "\n<HTML>", "<iframe src=x>"] {
            assert_eq!(sniff(html.as_bytes()), Some(MediaType::Html), "{html}");
        }
        let wide: Vec<u8> =
            [0xff, 0xfe].into_iter().chain("<html>".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(sniff(&wide), Some(MediaType::Html));
        assert_eq!(sniff(b"<?xml version='1.0'?><note/>"), Some(MediaType::Xml));
        assert_eq!(sniff(b"hello"), None);
        assert_eq!(sniff(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = sniff(&bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[<!?a-z\\[\\]> -]{0,60}") {
            let _ = sniff(text.as_bytes());
        }
    }
}
