//! Content that does something when it is opened, and looks like a picture.
//!
//! A file can be two things at once: readers of pictures look at its beginning and stop at the picture's
//! end, readers of archives begin at its end, browsers take the first tag wherever it stands, and a script
//! engine reads a header as a variable's name. So all that is seen of a picture is searched for the others.

use shared::media_type::MediaType;

/// What is hidden in a picture, as one sentence's end: "The picture …".
pub(super) type Finding = String;

/// Everything active that the windows of a raster picture show. `size` is the whole file's.
pub(super) fn in_raster(media: MediaType, leading: &[u8], tail: &[u8], size: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_script(media, leading, tail) {
        findings.push(format!("is a {} that is also a script", media.name()));
    }
    let windows = [leading, tail];
    if let Some(tag) = windows.iter().find_map(|window| markup(window)) {
        findings.push(format!("holds HTML or script ({tag})"));
    }
    let tail_ends = if tail.is_empty() { leading } else { tail };
    if let Some(archive) = archive(&windows, tail_ends, size) {
        findings.push(format!("has {archive} behind or inside it"));
    }
    if windows.iter().any(|window| pdf_header(window)) || pdf_trailer(tail_ends) {
        findings.push("has a PDF behind or inside it".to_owned());
    }
    findings
}

/// Whether the file reads as a script: its magic bytes as a name, and what follows as an assignment or as a
/// comment behind which one stands.
fn is_script(media: MediaType, leading: &[u8], tail: &[u8]) -> bool {
    let behind = match media {
        MediaType::Gif => return begins_script(leading.get(6..).unwrap_or_default()),
        // What follows is a length: printable bytes alone mean hundreds of megabytes, but the two that open a
        // comment may stand there by chance.
        MediaType::Other("image/bmp", _) => leading.get(2..).unwrap_or_default(),
        MediaType::Webp => leading.get(4..8).unwrap_or_default(),
        // Four bytes that are a name in Latin-1, and the length of the first segment.
        MediaType::Jpeg => leading.get(4..6).filter(|length| *length == b"/*").unwrap_or_default(),
        _ => return false,
    };
    if behind.starts_with(b"/*") { goes_on(leading) || goes_on(tail) } else { begins_script(behind) }
}

/// Whether a comment ends somewhere and script goes on behind it.
fn goes_on(window: &[u8]) -> bool {
    every(window, b"*/").any(|at| {
        let next = window[at + 2..].iter().find(|b| !b.is_ascii_whitespace());
        next.is_some_and(|b| b"=;(,.".contains(b))
    })
}

/// Whether script goes on here behind a name. A GIF whose screen has these bytes as its width and height would be
/// at least 8,224 pixels wide, and so would be every one with two printable bytes there.
fn begins_script(bytes: &[u8]) -> bool {
    let readable = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    if bytes.starts_with(b"/*") || bytes.starts_with(b"=/*") {
        return true;
    }
    let first = bytes.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
    bytes.len() >= 4
        && bytes[..4].iter().all(readable)
        && first.and_then(|at| bytes.get(at)).is_some_and(|b| b"=/;(,.+-*?&|".contains(b))
}

/// The first tag or instruction that a browser or server would act on.
fn markup(window: &[u8]) -> Option<&'static str> {
    const TAGS: [(&[u8], &str); 8] = [
        (b"<script", "<script>"),
        (b"<html", "<html>"),
        (b"<iframe", "<iframe>"),
        (b"<!doctype", "<!doctype>"),
        (b"<?php", "<?php"),
        (b"<object", "<object>"),
        (b"<embed", "<embed>"),
        (b"<base", "<base>"),
    ];
    const WITH_HANDLER: [(&[u8], &str); 6] = [
        (b"<svg", "<svg on…>"),
        (b"<img", "<img on…>"),
        (b"<body", "<body on…>"),
        (b"<video", "<video on…>"),
        (b"<details", "<details on…>"),
        (b"<input", "<input on…>"),
    ];
    for at in memchr::memchr_iter(b'<', window) {
        let rest = &window[at..];
        let opens = |tag: &[u8]| {
            let named = rest.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
            named
                && rest
                    .get(tag.len())
                    .is_none_or(|b| matches!(b, b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n' | 0x0c))
        };
        if let Some((_, name)) = TAGS.iter().find(|(tag, _)| opens(tag)) {
            return Some(name);
        }
        if let Some((_, name)) = WITH_HANDLER.iter().find(|(tag, _)| opens(tag)) {
            let inside = &rest[..rest.len().min(512)];
            let inside = inside.iter().position(|b| *b == b'>').map_or(inside, |end| &inside[..end]);
            if handler(&String::from_utf8_lossy(inside).to_ascii_lowercase()).is_some() {
                return Some(name);
            }
        }
    }
    None
}

/// The first event handler among attributes, in lower case: `onload=`.
fn handler(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = text[from..].find("on").map(|at| at + from) {
        let letters = bytes[at..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let name = &text[at..at + letters];
        let bounded = at > 0 && (bytes[at - 1].is_ascii_whitespace() || b"\"'/".contains(&bytes[at - 1]));
        let assigned = text[at + letters..].trim_start().starts_with('=');
        if bounded && assigned && letters > 3 {
            return Some(name);
        }
        from = at + 2;
    }
    None
}

/// An archive that its readers would find: by the directory at the end, or by what stands at its beginning.
fn archive(windows: &[&[u8]; 2], end: &[u8], size: u64) -> Option<&'static str> {
    if zip_directory(end, size) || windows.iter().any(|window| zip_entry(window)) {
        let java = windows
            .iter()
            .any(|window| find(window, b"META-INF/").is_some() || find(window, b".class").is_some());
        return Some(if java { "a Java archive (JAR)" } else { "a ZIP archive" });
    }
    let holds = |magic: &[u8]| windows.iter().any(|window| find(window, magic).is_some());
    if holds(b"Rar!\x1a\x07") {
        return Some("a RAR archive");
    }
    holds(b"7z\xbc\xaf\x27\x1c").then_some("a 7z archive")
}

/// Whether the end of a file holds a ZIP's end of central directory: on one disk, with a directory that fits
/// into the file, and a comment that fits behind it.
fn zip_directory(end: &[u8], size: u64) -> bool {
    every(end, b"PK\x05\x06").any(|at| {
        let Some(record) = end.get(at..at + 22) else { return false };
        let two = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let four =
            |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let behind = end.len() - at - 22;
        two(4) == two(6) && two(8) == two(10) && u64::from(four(12)) < size && usize::from(two(20)) <= behind
    })
}

/// Whether an entry of a ZIP begins somewhere: a version and method that exist, a name of sensible length.
fn zip_entry(window: &[u8]) -> bool {
    every(window, b"PK\x03\x04").any(|at| {
        let Some(entry) = window.get(at..at + 30) else { return false };
        let two = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        two(4) <= 0x03ff
            && matches!(two(8), 0..=20 | 93 | 95 | 96 | 97 | 98 | 99)
            && (1..=1024).contains(&two(26))
            && entry[4] <= 63
    })
}

/// The names of the entries of a ZIP that begin in `window`.
pub(super) fn entry_names(window: &[u8]) -> impl Iterator<Item = &[u8]> {
    every(window, b"PK\x03\x04").filter_map(|at| {
        let length = window.get(at + 26..at + 28)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        window.get(at + 30..at + 30 + length)
    })
}

/// Whether a PDF begins somewhere: its readers accept anything before it.
fn pdf_header(window: &[u8]) -> bool {
    every(window, b"%PDF-").any(|at| {
        matches!(window.get(at + 5..at + 8), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
    })
}

/// Whether a PDF ends here: its readers begin with this.
fn pdf_trailer(end: &[u8]) -> bool {
    let last = &end[end.len().saturating_sub(2048)..];
    find(last, b"startxref").is_some_and(|at| find(&last[at..], b"%%EOF").is_some())
}

/// Everything in an SVG that runs, or loads what runs. `whole` says whether all of it was seen.
pub(super) fn in_svg(bytes: &[u8], whole: bool) -> Vec<Finding> {
    if !whole {
        return vec!["is an SVG too large to be searched for scripts".to_owned()];
    }
    let source = decoded(bytes).to_ascii_lowercase();
    let text = resolved(&source);
    let mut findings = prologue(&source);
    const ELEMENTS: [&str; 7] =
        ["script", "foreignobject", "iframe", "object", "embed", "handler", "listener"];
    for element in ELEMENTS {
        let named = |tag: &str| {
            // A prefix may be written with more characters than are worth a list.
            let name: &str = tag.split(|c: char| c.is_whitespace() || "/>".contains(c)).next().unwrap_or("");
            name.rsplit(':').next() == Some(element)
        };
        if text.split('<').skip(1).any(named) {
            findings.push(format!("is an SVG with active content (<{element}>)"));
        }
    }
    if let Some(name) = handler(&text) {
        findings.push(format!("is an SVG with an event handler ({name})"));
    }
    let squeezed: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    for scheme in ["javascript:", "vbscript:", "data:text/html", "data:application/", "data:text/xml"] {
        if squeezed.contains(scheme) {
            findings.push(format!("is an SVG with a link that runs ({scheme})"));
        }
    }
    if ["attributename=\"on", "attributename='on"].iter().any(|attribute| squeezed.contains(attribute)) {
        findings.push("is an SVG with an animation of an event handler".to_owned());
    }
    if text.contains("<!entity") {
        findings.push("is an SVG with entities of its own (<!ENTITY>)".to_owned());
    }
    if text.contains("<?xml-stylesheet") {
        findings.push("is an SVG with a style sheet from elsewhere (<?xml-stylesheet>)".to_owned());
    }
    findings
}

/// What makes the text of an SVG, in lower case, another one than it reads as: an encoding that hides its letters,
/// and declarations that put text, attributes or entities into it.
fn prologue(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let declaration = text.trim_start_matches('\u{feff}').trim_start().strip_prefix("<?xml");
    let declaration = declaration.and_then(|rest| rest.split("?>").next()).unwrap_or_default();
    if let Some((_, rest)) = declaration.split_once("encoding") {
        let name = rest.trim_start().trim_start_matches('=').trim_start();
        let name = name.split(|c: char| c.is_whitespace() || "\"'".contains(c)).nth(1).unwrap_or_default();
        if !["utf-8", "utf8", "utf-16", "us-ascii", "ascii"].contains(&name) {
            findings.push(format!("is an SVG in an encoding that can hide scripts ({name:.40})"));
        }
    }
    // ISO-2022-JP, which a browser may also guess: what stands between two escapes is no part of a word.
    if text.contains('\u{1b}') {
        findings.push("is an SVG with escape characters that can hide scripts".to_owned());
    }
    for rest in text.split("<!doctype").skip(1) {
        let declared = document_type(rest);
        if declared.ends_with('[') {
            findings.push("is an SVG with declarations of its own (<!DOCTYPE […]>)".to_owned());
        } else if declared.contains("xhtml") || declared.contains("mathml") {
            // By these public names browsers know all entities of HTML, &colon; and &Tab; among them.
            findings.push("is an SVG with the entities of HTML (<!DOCTYPE>)".to_owned());
        }
    }
    findings
}

/// A document type declaration from behind its first word to its end, or to the bracket that opens its internal
/// subset; in quotes both are letters like others.
fn document_type(rest: &str) -> &str {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '>') => return &rest[..=at],
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    rest
}

/// The text of an SVG, in whatever encoding a browser would guess.
fn decoded(bytes: &[u8]) -> String {
    let wide = |pair: fn([u8; 2]) -> u16, from: usize| {
        let units = bytes[from..].chunks_exact(2).map(|c| pair([c[0], c[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect::<String>()
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes, 2),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes, 2),
        [b'<', 0, ..] => wide(u16::from_le_bytes, 0),
        [0, b'<', ..] => wide(u16::from_be_bytes, 0),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Text with its numeric references resolved, in lower case.
fn resolved(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("&#") {
        resolved.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let number = match after[..end].strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => after[..end].parse(),
        };
        match number.ok().and_then(char::from_u32) {
            Some(c) => {
                resolved.push(c);
                rest = after[end..].strip_prefix(';').unwrap_or(&after[end..]);
            }
            None => {
                resolved.push_str("&#");
                rest = after;
            }
        }
    }
    resolved.push_str(rest);
    resolved.to_ascii_lowercase()
}

/// What a file is that does something when it is opened, whatever it is called.
pub(super) fn runs(media: MediaType) -> Option<&'static str> {
    match media {
        MediaType::Html => Some("HTML"),
        MediaType::Xml => Some("XML"),
        MediaType::Other(essence, _) => match essence {
            "application/vnd.microsoft.portable-executable"
            | "application/x-executable"
            | "application/x-mach-binary"
            | "application/java"
            | "application/vnd.android.dex"
            | "application/wasm" => Some("a program"),
            "application/x-shockwave-flash" => Some("Flash"),
            "application/pdf" => Some("a PDF"),
            _ => None,
        },
        _ => None,
    }
}

/// Whether text begins like a script: an interpreter's line, or PHP.
pub(super) fn is_script_text(leading: &[u8]) -> bool {
    leading.starts_with(b"#!") || find(leading, b"<?php").is_some() || markup(leading).is_some()
}

fn find(window: &[u8], what: &[u8]) -> Option<usize> {
    every(window, what).next()
}

/// Every place in `window` at which `what` stands.
fn every<'a>(window: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(window, what)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raster(bytes: &[u8]) -> String {
        let media = shared::media_type::sniff(bytes).unwrap();
        in_raster(media, bytes, b"", bytes.len() as u64).join("; ")
    }

    /// A ZIP of one stored file, as small as it gets.
    pub(in super::super) fn zip(name: &str) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let mut zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        zip.extend(length);
        zip.extend([0, 0]);
        zip.extend(name.as_bytes());
        let directory = u32::try_from(zip.len()).unwrap();
        zip.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        zip.extend(length);
        zip.extend([0; 16]);
        zip.extend(name.as_bytes());
        let size = u32::try_from(zip.len()).unwrap() - directory;
        zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        zip.extend(size.to_le_bytes());
        zip.extend(directory.to_le_bytes());
        zip.extend([0, 0]);
        zip
    }

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9";
    const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

    #[test]
    fn honest_pictures_are_left_alone() {
        assert_eq!(raster(JPEG), "");
        assert_eq!(raster(GIF), "");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/images");
        let mut seen = 0;
        for folder in [folder.to_owned(), format!("{folder}/made")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap_or_default();
                if let Some(media) =
                    shared::media_type::sniff(&bytes).filter(|m| m.essence().starts_with("image/"))
                {
                    assert_eq!(
                        in_raster(media, &bytes, b"", bytes.len() as u64),
                        Vec::<String>::new(),
                        "{path:?}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen > 10);
    }

    #[test]
    fn a_picture_that_is_also_a_script_is_called_so() {
        for polyglot in [
            &b"GIF89a=/*\x01\0 ... */1;alert(1)"[..],
            b"GIF89a/*...*/=1;alert(1)//",
            b"GIF89a='';alert(1)",
            b"GIF87a =1;alert(1);",
            b"BM=1;alert(1);/*....................................\0*/",
            b"BM/*...\0*/=1;alert(1)",
            b"RIFF/*..WEBP.*/=1;alert(1)",
            b"RIFF=1//WEBP\nalert(1)",
            b"\xff\xd8\xff\xe0/*JFIF..*/=alert(1)/*\xff\xd9",
        ] {
            assert!(raster(polyglot).contains("also a script"), "{:?}", String::from_utf8_lossy(polyglot));
        }
        // 61 pixels wide: the same first byte.
        let narrow = [&GIF[..6], &[0x3d, 0, 1, 0], &GIF[10..]].concat();
        assert_eq!(raster(&narrow), "");
    }

    #[test]
    fn html_in_a_picture_is_called_so() {
        for hidden in [
            "<script>alert(1)</script>",
            "<SCRIPT src=x>",
            "<html>",
            "<iframe/src=x>",
            "<?php system($_GET[0]); ?>",
            "<img src=x onerror=alert(1)>",
            "<svg/onload=alert(1)>",
            "<body bgcolor=red onload = 'x'>",
        ] {
            for picture in [JPEG, GIF] {
                let polyglot = [picture, hidden.as_bytes()].concat();
                assert!(raster(&polyglot).contains("HTML or script"), "{hidden}");
            }
        }
        for harmless in
            ["<x:xmpmeta xmlns:x='adobe:ns:meta/'>", "<img src=x>", "<?xpacket begin='' ?>", "<scripture>"]
        {
            assert_eq!(raster(&[JPEG, harmless.as_bytes()].concat()), "", "{harmless}");
        }
    }

    #[test]
    fn an_archive_or_a_pdf_behind_a_picture_is_called_by_name() {
        let names = [("a.txt", "ZIP"), ("META-INF/MANIFEST.MF", "JAR"), ("A.class", "JAR")];
        for (entry, name) in names {
            assert!(raster(&[JPEG, &zip(entry)].concat()).contains(name), "{entry}");
        }
        // Only the end is seen, as of a large file.
        let archive = zip("META-INF/MANIFEST.MF");
        let found = in_raster(MediaType::Jpeg, JPEG, &archive[archive.len() - 22..], 1 << 20);
        assert!(found[0].contains("ZIP"), "{found:?}");
        assert!(raster(&[JPEG, b"Rar!\x1a\x07\x01\0"].concat()).contains("RAR"));
        assert!(raster(&[JPEG, b"7z\xbc\xaf\x27\x1c\0\x04"].concat()).contains("7z"));
        assert!(raster(&[JPEG, b"%PDF-1.7\n..."].concat()).contains("PDF"));
        assert!(raster(&[JPEG, b"trailer<<>>\nstartxref\n17\n%%EOF\n"].concat()).contains("PDF"));
        assert_eq!(
            raster(&[JPEG, b"PK\x05\x06 is no directory, PK\x03\x04 no entry, %PDF-x no PDF"].concat()),
            ""
        );
    }

    #[test]
    fn whatever_runs_in_an_svg_is_called_by_name() {
        for (svg, name) in [
            ("<svg><script>1</script></svg>", "<script>"),
            ("<svg xmlns:s='http://www.w3.org/2000/svg'><s:script/></svg>", "<script>"),
            ("<svg onload='alert(1)'/>", "onload"),
            ("<svg><rect\nonClick = \"x\"/></svg>", "onclick"),
            ("<svg><a href='java&#x73;cript:alert(1)'/></svg>", "javascript:"),
            ("<svg><a href='java\tscript:alert(1)'/></svg>", "javascript:"),
            ("<svg><foreignObject><p/></foreignObject></svg>", "<foreignobject>"),
            ("<svg><use href='data:text/html,x'/></svg>", "data:text/html"),
            ("<svg><set attributeName=\"onmouseover\" to='x'/></svg>", "animation"),
            ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>&a;</svg>", "<!ENTITY>"),
            ("<?xml-stylesheet href='x'?><svg/>", "<?xml-stylesheet>"),
            ("<svg xmlns:p.q='http://www.w3.org/2000/svg'><p.q:script/></svg>", "<script>"),
            ("<svg xmlns:\u{b7}='http://www.w3.org/2000/svg'><a\u{b7}b:script\n/></svg>", "<script>"),
            ("<!DOCTYPE svg [<!ATTLIST svg onload CDATA 'x'>]><svg/>", "<!DOCTYPE […]>"),
            ("<!DOCTYPE svg SYSTEM 'a>' \n[ ]><svg/>", "<!DOCTYPE […]>"),
            ("<!DOCTYPE svg SYSTEM \"a&#34;b\" [ ]><svg c='\"'/>", "<!DOCTYPE […]>"),
            (
                "<!DOCTYPE svg PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' ''><svg><a href='javascript&colon;x'/></svg>",
                "entities of HTML",
            ),
            (
                "<?xml version='1.0' encoding='ISO-2022-JP'?><svg/>",
                "encoding that can hide scripts (iso-2022-jp)",
            ),
            ("<?xml version='1.0' encoding = \"utf-7\"?><svg/>", "encoding that can hide scripts (utf-7)"),
            ("<?xml version='1.0' encoding='IBM037'?><svg/>", "encoding that can hide scripts"),
            ("<svg><\u{1b}(Bscript/></svg>", "escape characters"),
        ] {
            let found = in_svg(svg.as_bytes(), true).join("; ");
            assert!(found.contains(name), "{svg}: {found}");
        }
        let wide: Vec<u8> =
            "\u{feff}<svg><script/></svg>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!in_svg(&wide, true).is_empty());
        let honest = "<svg xmlns='http://www.w3.org/2000/svg'><title>on = off &#38; on</title><path d='M0 0'/>\
                      <text font-family='x'>description=1</text></svg>";
        assert_eq!(in_svg(honest.as_bytes(), true), Vec::<String>::new());
        assert!(in_svg(honest.as_bytes(), false)[0].contains("too large"));
        for declared in [
            "<?xml version='1.0' encoding='UTF-8' standalone='no'?>",
            "\u{feff}<?xml version=\"1.0\" encoding=\"us-ascii\"?>\n",
            "<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd'>",
            "<?xml version='1.0'?><!DOCTYPE svg><!-- [ -->",
        ] {
            let text = format!("{declared}<svg encoding='none'/>");
            assert_eq!(in_svg(text.as_bytes(), true), Vec::<String>::new(), "{declared}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(leading: Vec<u8>, tail: Vec<u8>) {
            for media in [MediaType::Gif, MediaType::Jpeg, MediaType::Webp, MediaType::Other("image/bmp", "BMP")] {
                let _ = in_raster(media, &leading, &tail, 1000);
            }
            let _ = in_svg(&leading, true);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[<a-zA-Z&#x0-9;=/ on'\":é]{0,60}") {
            for before in ["", "<?xml encoding", "<!DOCTYPE "] {
                let _ = in_svg(format!("{before}{text}").as_bytes(), true);
            }
            let _ = markup(text.as_bytes());
            let _ = handler(&text.to_ascii_lowercase());
        }
    }
}
