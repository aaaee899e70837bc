//! What an upload really is, by what is seen of its bytes: type, active content, and the picture's header.

use bytes::Bytes;
use shared::media_type::{self, MediaType};
use shared::outcome::Reason;

mod active;
mod header;
mod types;

pub use header::{Dimensions, Header};
pub use types::Content;

use types::Promise;

/// How many bytes of an object are read at most, however large it is.
pub const BUDGET: u64 = 64 << 10;

/// How many of them are its first ones.
pub const LEADING: u64 = 48 << 10;

/// How many bytes are read at a time to find a frame header that stands further on.
pub const HOP: u64 = 512;

/// How often that is tried: colour profiles come in segments of 64 KiB.
pub const MAX_HOPS: u64 = 16;

/// What was read of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Its first bytes.
    pub leading: Bytes,
    /// Its last bytes, where `leading` is not all and they matter.
    pub tail: Bytes,
    /// Its size.
    pub size: u64,
    /// The header of a picture that was found outside of `leading`.
    pub further: Option<Header>,
}

impl Seen {
    /// Content by its leading bytes.
    pub fn content(&self) -> Content {
        content(&self.leading)
    }

    /// Whether `leading` is the whole object.
    pub fn is_whole(&self) -> bool {
        self.leading.len() as u64 >= self.size
    }

    /// The picture's header, as far as it was found.
    pub fn header(&self) -> Header {
        match (self.content(), self.further) {
            (Content::Known(media), None) => header::read(media, &self.leading, self.size),
            (Content::Known(_), Some(further)) => further,
            _ => Header::None,
        }
    }

    /// How many frames the picture has, as far as they are seen.
    pub fn frames(&self) -> u32 {
        match self.content() {
            Content::Known(media) => header::frames(media, &self.leading),
            _ => 1,
        }
    }

    /// Whether the last bytes should be read: only a picture must not have an archive behind it.
    pub fn needs_tail(&self) -> bool {
        !self.is_whole() && self.content().is_picture()
    }
}

/// Goes on reading segments of a JPEG at `offset`, where `window` begins.
pub fn further_header(window: &[u8], offset: u64, size: u64) -> Header {
    match header::jpeg(window, offset) {
        Header::Beyond(next) if next >= size || next == offset => {
            Header::Broken("it ends before its first frame")
        }
        Header::Sane(Dimensions { width: 0, .. } | Dimensions { height: 0, .. }) => {
            Header::Broken("it has no pixels")
        }
        header => header,
    }
}

fn content(leading: &[u8]) -> Content {
    match media_type::sniff(leading) {
        Some(media) => Content::Known(refined(media, leading)),
        None if media_type::is_text(leading) => Content::Text,
        None => Content::Binary,
    }
}

/// A ZIP archive that says by the names of its entries what it is, however these are ordered.
fn refined(media: MediaType, leading: &[u8]) -> MediaType {
    const OFFICE: &str = "application/vnd.openxmlformats-officedocument.";
    const MARKS: [(&[u8], &str, &str); 5] = [
        (b"META-INF/MANIFEST.MF", "application/java-archive", "JAR"),
        (b"AndroidManifest.xml", "application/vnd.android.package-archive", "APK"),
        (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
        (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
        (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ];
    if media != MediaType::Other("application/zip", "ZIP") {
        return media;
    }
    // The list of types may come last, behind all that is read; the relations of the package come first then.
    let document =
        active::entry_names(leading).any(|name| name == b"[Content_Types].xml" || name == b"_rels/.rels");
    let found = MARKS.iter().find(|(mark, essence, _)| {
        (document || !essence.starts_with(OFFICE))
            && active::entry_names(leading).any(|name| name.starts_with(mark))
    });
    found.map_or(media, |(_, essence, name)| MediaType::Other(essence, name))
}

/// What was promised about an upload's content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names<'a> {
    /// The key's extension, in lower case.
    pub extension: Option<&'a str>,
    /// The declared `Content-Type`.
    pub declared: Option<&'a str>,
    /// The type that the ticket names.
    pub ticket: Option<&'a str>,
}

impl Names<'_> {
    fn promises(&self) -> (Promise, Promise) {
        (
            self.extension.map_or(Promise::Nothing, types::of_extension),
            self.declared.map_or(Promise::Nothing, types::of_declared),
        )
    }

    /// Whether any of them says that it is a picture.
    fn say_picture(&self) -> bool {
        let (extension, declared) = self.promises();
        let ticket =
            self.ticket.is_some_and(|promised| promised.trim().to_ascii_lowercase().starts_with("image/"));
        extension.is_picture() || declared.is_picture() || ticket
    }
}

/// The media type by which an upload is held against its ticket and its catalog; `None` if nobody knows it.
pub fn effective_type(content: Content, names: &Names<'_>) -> Option<String> {
    types::effective(content, names.extension, names.declared)
}

/// `type-mismatch`, once for the extension and once for the declared type, where they promise something else.
pub fn mismatches(content: Content, names: &Names<'_>) -> Vec<Reason> {
    let (extension, declared) = names.promises();
    let mut reasons = Vec::new();
    let mut mismatch = |message: String| reasons.push(Reason::new("type-mismatch", message));
    let found = content.name();
    if !extension.is_kept_by(content) {
        let shown = names.extension.unwrap_or_default();
        let promised = extension.name();
        mismatch(format!("The extension .{shown} says {promised}, but the content is {found}."));
    }
    if matches!(declared, Promise::Unreadable) {
        mismatch("The declared Content-Type is not one media type; browsers would guess.".to_owned());
    } else if !declared.is_kept_by(content) {
        let shown = types::essence_of(names.declared.unwrap_or_default());
        mismatch(format!("The declared Content-Type is {shown:.60}, but the content is {found}."));
    }
    reasons
}

/// `active-content`, once for everything in an upload that does something when it is opened as the picture
/// that it seems to be.
pub fn active(seen: &Seen, names: &Names<'_>) -> Vec<Reason> {
    let reason = |what: String| Reason::new("active-content", format!("The picture {what}."));
    let content = seen.content();
    let disguised = |what: &str| {
        Reason::new("active-content", format!("The upload calls itself a picture and is {what}."))
    };
    match content {
        Content::Known(MediaType::Svg) => {
            active::in_svg(&seen.leading, seen.is_whole()).into_iter().map(reason).collect()
        }
        Content::Known(media) if content.is_picture() => {
            active::in_raster(media, &seen.leading, &seen.tail, seen.size).into_iter().map(reason).collect()
        }
        Content::Known(media) if names.say_picture() => {
            active::runs(media).map(disguised).into_iter().collect()
        }
        Content::Text if names.say_picture() && active::is_script_text(&seen.leading) => {
            vec![disguised("a script")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(bytes: &[u8]) -> Seen {
        Seen { leading: Bytes::copy_from_slice(bytes), size: bytes.len() as u64, ..Seen::default() }
    }

    fn names<'a>(extension: &'a str, declared: &'a str) -> Names<'a> {
        Names { extension: Some(extension), declared: Some(declared), ticket: None }
    }

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

    #[test]
    fn bytes_are_a_known_type_text_or_nothing() {
        assert_eq!(seen(PNG).content(), Content::Known(MediaType::Png));
        assert_eq!(seen("a,b\r\nä,ö\n".as_bytes()).content(), Content::Text);
        assert_eq!(seen(b"caf\xe9 in Latin-1").content(), Content::Text);
        assert_eq!(seen(b"\0\x01\x02").content(), Content::Binary);
    }

    #[test]
    fn an_archive_is_told_by_its_entries_in_any_order() {
        let archive = |names: &[&str]| {
            let zip: Vec<u8> = names.iter().flat_map(|name| active::tests::zip(name)).collect();
            seen(&zip).content().name()
        };
        assert_eq!(archive(&["docProps/core.xml", "word/document.xml", "[Content_Types].xml"]), "docx");
        assert_eq!(
            archive(&["_rels/.rels", "docProps/app.xml", "docProps/core.xml", "xl/workbook.xml"]),
            "xlsx"
        );
        assert_eq!(archive(&["a.txt", "ppt/slides/slide1.xml"]), "ZIP");
        assert_eq!(archive(&["a.txt", "META-INF/MANIFEST.MF"]), "JAR");
        assert_eq!(archive(&["a.txt", "b.txt"]), "ZIP");
    }

    #[test]
    fn each_name_that_is_wrong_has_its_own_reason() {
        let content = seen(PNG).content();
        assert!(mismatches(content, &names("png", "image/png")).is_empty());
        let both = mismatches(content, &names("jpg", "application/pdf"));
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|reason| reason.code == "type-mismatch"));
        assert!(both[0].message.contains(".jpg says JPEG, but the content is PNG"), "{}", both[0].message);
        assert!(both[1].message.contains("application/pdf"), "{}", both[1].message);
    }

    #[test]
    fn what_calls_itself_a_picture_and_runs_is_active() {
        for (bytes, extension, declared, what) in [
            (&b"<html><script>1</script>"[..], "png", "", "HTML"),
            (b"<html>", "x", "image/gif", "HTML"),
            (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff", "jpg", "", "a program"),
            (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "gif", "", "a program"),
            (b"#!/bin/sh\nrm -r /\n", "png", "", "a script"),
            (b"%PDF-1.7\n", "png", "", "a PDF"),
        ] {
            let found = active(&seen(bytes), &names(extension, declared));
            assert!(found.iter().any(|reason| reason.message.contains(what)), "{what}: {found:?}");
        }
        assert!(active(&seen(b"<html>"), &names("html", "text/html")).is_empty());
        let ticket = Names { ticket: Some("image/*"), ..Names::default() };
        assert_eq!(active(&seen(b"<html>"), &ticket).len(), 1);
    }

    #[test]
    fn only_a_large_picture_needs_its_last_bytes() {
        assert!(!seen(PNG).needs_tail());
        assert!(Seen { size: 1 << 20, ..seen(PNG) }.needs_tail());
        assert!(!Seen { size: 1 << 20, ..seen(b"%PDF-1.7\n") }.needs_tail());
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_names_make_it_panic(leading: Vec<u8>, extension in ".{0,5}", declared in ".{0,20}") {
            let seen = seen(&leading);
            let names = names(&extension, &declared);
            let _ = (seen.header(), seen.frames(), active(&seen, &names), mismatches(seen.content(), &names));
            let _ = effective_type(seen.content(), &names);
        }
    }
}
