//! Which names go with which content: extensions and declared media types.

use shared::media_type::MediaType;

/// One kind of content, and every name under which it goes.
#[derive(Debug)]
pub(super) struct Kind {
    /// The name that people use.
    pub(super) name: &'static str,
    extensions: &'static [&'static str],
    essences: &'static [&'static str],
    /// Whether everything of this kind is recognised by its leading bytes.
    certain: bool,
}

const fn kind(
    name: &'static str,
    extensions: &'static [&'static str],
    essences: &'static [&'static str],
) -> Kind {
    Kind { name, extensions, essences, certain: true }
}

const fn vague(
    name: &'static str,
    extensions: &'static [&'static str],
    essences: &'static [&'static str],
) -> Kind {
    Kind { name, extensions, essences, certain: false }
}

/// The kinds. Containers whose content is told apart by nothing but their name are one kind: what
/// calls itself a document and is a ZIP archive may well be that document.
static KINDS: &[Kind] = &[
    kind("JPEG", &["jpg", "jpeg", "jpe", "jfif"], &["image/jpeg", "image/jpg", "image/pjpeg"]),
    kind("PNG", &["png", "apng"], &["image/png", "image/x-png", "image/apng"]),
    kind("GIF", &["gif"], &["image/gif"]),
    kind("WebP", &["webp"], &["image/webp"]),
    kind("SVG", &["svg"], &["image/svg+xml"]),
    kind(
        "HEIC",
        &["heic", "heif", "hif"],
        &["image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"],
    ),
    kind("AVIF", &["avif"], &["image/avif", "image/avif-sequence"]),
    kind("TIFF", &["tif", "tiff"], &["image/tiff"]),
    kind("BMP", &["bmp", "dib"], &["image/bmp", "image/x-bmp", "image/x-ms-bmp"]),
    kind("ICO", &["ico"], &["image/vnd.microsoft.icon", "image/x-icon"]),
    kind("PSD", &["psd"], &["image/vnd.adobe.photoshop", "application/x-photoshop", "image/x-psd"]),
    kind("JPEG XL", &["jxl"], &["image/jxl"]),
    kind("PDF", &["pdf"], &["application/pdf", "application/x-pdf"]),
    kind(
        "ZIP",
        &[
            "zip", "jar", "war", "ear", "apk", "aar", "ipa", "xpi", "whl", "nupkg", "vsix", "docx", "docm",
            "dotx", "xlsx", "xlsm", "xltx", "pptx", "pptm", "potx", "odt", "ods", "odp", "odg", "epub",
            "kmz", "cbz", "3mf", "usdz", "sketch", "ora",
        ],
        &[
            "application/zip",
            "application/x-zip-compressed",
            "application/x-zip",
            "application/java-archive",
            "application/vnd.android.package-archive",
            "image/openraster",
        ],
    ),
    vague(
        "MP4",
        &["mp4", "m4v", "m4a", "m4b", "mov", "qt", "3gp", "3g2"],
        &[
            "video/mp4",
            "application/mp4",
            "video/x-m4v",
            "video/quicktime",
            "audio/mp4",
            "audio/m4a",
            "audio/x-m4a",
            "video/3gpp",
            "audio/3gpp",
            "video/3gpp2",
        ],
    ),
    kind(
        "Matroska",
        &["mkv", "mka", "webm", "weba"],
        &["video/x-matroska", "video/matroska", "audio/x-matroska", "video/webm", "audio/webm"],
    ),
    kind("AVI", &["avi"], &["video/x-msvideo", "video/avi", "video/msvideo"]),
    kind("ASF", &["wmv", "wma", "asf"], &["video/x-ms-wmv", "audio/x-ms-wma", "video/x-ms-asf"]),
    vague("MPEG", &["mpg", "mpeg", "mpe"], &["video/mpeg"]),
    kind("FLV", &["flv"], &["video/x-flv"]),
    vague("MP3", &["mp3"], &["audio/mpeg", "audio/mp3"]),
    kind(
        "Ogg",
        &["ogg", "oga", "ogv", "opus", "spx"],
        &["audio/ogg", "video/ogg", "application/ogg", "audio/opus"],
    ),
    kind("FLAC", &["flac"], &["audio/x-flac", "audio/flac"]),
    kind("WAV", &["wav"], &["audio/x-wav", "audio/wav", "audio/wave", "audio/vnd.wave"]),
    vague("MIDI", &["mid", "midi"], &["audio/midi", "audio/x-midi"]),
    vague("AAC", &["aac"], &["audio/aac", "audio/x-aac", "audio/aacp"]),
    kind("WOFF", &["woff", "woff2"], &["application/font-woff", "font/woff", "font/woff2"]),
    vague(
        "OpenType",
        &["ttf", "otf", "ttc"],
        &["application/font-sfnt", "font/ttf", "font/otf", "font/sfnt", "font/collection"],
    ),
    kind("gzip", &["gz", "tgz", "svgz"], &["application/gzip", "application/x-gzip"]),
    vague("tar", &["tar"], &["application/x-tar"]),
    kind("RAR", &["rar"], &["application/vnd.rar", "application/x-rar-compressed"]),
    kind("7z", &["7z"], &["application/x-7z-compressed"]),
    kind("bzip2", &["bz2"], &["application/x-bzip2"]),
    kind("xz", &["xz"], &["application/x-xz"]),
    kind("Zstandard", &["zst"], &["application/zstd"]),
    kind(
        "OLE",
        &["doc", "xls", "ppt", "msg", "msi"],
        &[
            "application/msword",
            "application/vnd.ms-excel",
            "application/vnd.ms-powerpoint",
            "application/vnd.ms-outlook",
            INSTALLER,
            OLE,
        ],
    ),
    kind("RTF", &["rtf"], &["application/rtf", "text/rtf"]),
    vague("PostScript", &["ps", "eps"], &["application/postscript", "application/eps"]),
    kind("SQLite", &["sqlite", "sqlite3"], &["application/vnd.sqlite3", "application/x-sqlite3"]),
    kind(
        "program",
        &["exe", "dll", "scr", "com", "elf", "class", "dex"],
        &[
            "application/vnd.microsoft.portable-executable",
            "application/x-msdownload",
            "application/x-msdos-program",
            "application/x-executable",
            "application/x-mach-binary",
            "application/java",
            "application/java-vm",
            "application/vnd.android.dex",
            "application/wasm",
            "application/x-shockwave-flash",
        ],
    ),
    kind("HTML", &["html", "htm", "xhtml"], &["text/html", "application/xhtml+xml"]),
    kind("XML", &["xml"], &["text/xml", "application/xml", "text/xsl"]),
];

/// The type of an OLE file of which nobody says what it is.
const OLE: &str = "application/x-ole-storage";

/// The type of installers, which are OLE files too.
const INSTALLER: &str = "application/x-msi";

/// Extensions of plain text in which markup does not belong.
const PLAIN: [&str; 6] = ["txt", "csv", "tsv", "json", "log", "ndjson"];

/// Extensions of text in which anything may stand.
const WRITTEN: [&str; 25] = [
    "md", "markdown", "js", "mjs", "ts", "css", "yaml", "yml", "toml", "ini", "ics", "vcf", "srt", "vtt",
    "sql", "sh", "py", "rb", "php", "java", "c", "h", "rs", "go", "tex",
];

/// What the bytes of an upload turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A type that is recognised.
    Known(MediaType),
    /// Text of no type that is recognised.
    Text,
    /// Bytes that nobody knows.
    Binary,
}

impl Content {
    fn kind(self) -> Option<&'static Kind> {
        match self {
            Self::Known(found) => of_essence(found.essence()),
            Self::Text | Self::Binary => None,
        }
    }

    /// The name that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Known(found) => found.name(),
            Self::Text => "plain text",
            Self::Binary => "of no known type",
        }
    }

    /// Whether this is a picture.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Known(found) if found.essence().starts_with("image/"))
    }
}

/// What a name promises.
#[derive(Debug, Clone, Copy)]
pub(super) enum Promise {
    /// Content of one kind.
    Kind(&'static Kind),
    /// Text; the flag says that markup may stand in it.
    Text(bool),
    /// A picture, a sound or a film of a kind that is not known here.
    Family(&'static str),
    /// A type that is not known here, and is no text.
    Unlisted,
    /// What cannot be told: no media type, or several.
    Unreadable,
    /// Nothing.
    Nothing,
}

/// What an extension promises.
pub(super) fn of_extension(extension: &str) -> Promise {
    if let Some(kind) = KINDS.iter().find(|kind| kind.extensions.contains(&extension)) {
        return Promise::Kind(kind);
    }
    if PLAIN.contains(&extension) {
        return Promise::Text(false);
    }
    if WRITTEN.contains(&extension) { Promise::Text(true) } else { Promise::Nothing }
}

/// What a declared `Content-Type` promises. The types that tools send when nobody chose one promise nothing.
///
/// It has to be exactly one media type. Of a list, browsers take the last type that they can read, and in place of
/// what they cannot read they guess, so that neither tells what they would make of the content.
pub(super) fn of_declared(declared: &str) -> Promise {
    let essence = essence_of(declared);
    match essence.as_str() {
        "" if declared.trim().is_empty() => return Promise::Nothing,
        _ if declared.contains(',') || !is_media_type(&essence) => return Promise::Unreadable,
        "binary/octet-stream" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            return Promise::Nothing;
        }
        _ => {}
    }
    if let Some(kind) = of_essence(&essence) {
        return Promise::Kind(kind);
    }
    match essence.split_once('/') {
        // Its parts have types of their own, wherever they stand in the content.
        Some(("multipart", _)) => Promise::Unreadable,
        Some(("text", _))
        | Some((
            "application",
            "json" | "javascript" | "ecmascript" | "x-javascript" | "x-ndjson" | "ndjson" | "x-yaml" | "yaml"
            | "toml" | "sql" | "x-sh" | "x-tex" | "x-subrip" | "x-pem-file",
        )) => Promise::Text(true),
        Some(("application", subtype)) if subtype.ends_with("+json") || subtype.ends_with("+yaml") => {
            Promise::Text(true)
        }
        Some(("image", _)) => Promise::Family("image/"),
        Some(("audio", _)) => Promise::Family("audio/"),
        Some(("video", _)) => Promise::Family("video/"),
        _ => Promise::Unlisted,
    }
}

/// Type and subtype of a `Content-Type`, in lower case, without its parameters.
pub(super) fn essence_of(declared: &str) -> String {
    let essence = declared.split(';').next().unwrap_or_default();
    essence.trim_matches([' ', '\t', '\r', '\n']).to_ascii_lowercase()
}

/// Whether this is a type and a subtype, each a token (RFC 9110, 5.6.2).
fn is_media_type(essence: &str) -> bool {
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    essence.split_once('/').is_some_and(|(family, subtype)| is_token(family) && is_token(subtype))
}

fn of_essence(essence: &str) -> Option<&'static Kind> {
    let known = KINDS.iter().find(|kind| kind.essences.contains(&essence));
    known.or_else(|| {
        let zipped = essence.ends_with("+zip")
            || essence.starts_with("application/vnd.openxmlformats-officedocument.")
            || essence.starts_with("application/vnd.oasis.opendocument.");
        // Whatever ends in this is XML to a browser, scripts and all.
        let xml = essence.ends_with("+xml");
        KINDS.iter().find(|kind| zipped && kind.name == "ZIP" || xml && kind.name == "XML")
    })
}

impl Promise {
    /// The name of what is promised.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name,
            Self::Text(_) => "text",
            Self::Family("image/") => "a picture",
            Self::Family("audio/") => "a sound",
            Self::Family(_) => "a film",
            Self::Unlisted => "another type",
            Self::Unreadable => "no type",
            Self::Nothing => "anything",
        }
    }

    /// Whether a picture is promised.
    pub(super) fn is_picture(self) -> bool {
        match self {
            Self::Kind(kind) => {
                kind.essences.iter().any(|essence| essence.starts_with("image/")) && kind.name != "ZIP"
            }
            Self::Family(family) => family == "image/",
            Self::Text(_) | Self::Unlisted | Self::Unreadable | Self::Nothing => false,
        }
    }

    /// Whether `content` is what was promised, as far as its leading bytes can tell.
    pub(super) fn is_kept_by(self, content: Content) -> bool {
        match (self, content) {
            (Self::Unreadable, _) => false,
            (Self::Nothing, _) | (Self::Text(_), Content::Text) => true,
            // Text is recognised by nothing, so that only a name which means text says what it is.
            (Self::Unlisted, content) => content != Content::Text,
            (Self::Kind(promised), Content::Known(_)) => {
                content.kind().is_some_and(|found| std::ptr::eq(found, promised))
            }
            // Markup that begins with words, or without a declaration, is not recognised.
            (Self::Kind(promised), Content::Text) => matches!(promised.name, "HTML" | "XML"),
            (Self::Kind(promised), Content::Binary) => !promised.certain,
            (Self::Text(markup), Content::Known(found)) => {
                markup && matches!(found, MediaType::Html | MediaType::Xml)
            }
            (Self::Text(_), Content::Binary) => false,
            (Self::Family(family), Content::Known(found)) => {
                let kinds = content.kind().map_or(&[][..], |kind| kind.essences);
                found.essence().starts_with(family) || kinds.iter().any(|essence| essence.starts_with(family))
            }
            (Self::Family(_), Content::Text) => false,
            (Self::Family(family), Content::Binary) => family != "image/",
        }
    }
}

/// The media type by which content is held against tickets and catalogs: the recognised one; for text and OLE files,
/// which nothing tells apart but their names, the declared one or that of the extension. `None` if nobody knows.
pub(super) fn effective(content: Content, extension: Option<&str>, declared: Option<&str>) -> Option<String> {
    match content {
        Content::Known(_) if content.kind().is_some_and(|kind| kind.essences.contains(&OLE)) => {
            let declared = declared.map(essence_of);
            Some(effective_ole(extension, declared.as_deref()).to_owned())
        }
        Content::Known(found) => Some(found.essence().to_owned()),
        Content::Binary => None,
        Content::Text => {
            let declared = declared.map(essence_of).filter(|essence| {
                let promise = of_declared(essence);
                !matches!(promise, Promise::Nothing) && promise.is_kept_by(Content::Text)
            });
            declared
                .filter(|essence| essence != "text/plain")
                .or_else(|| {
                    let named = match extension? {
                        "csv" => "text/csv",
                        "tsv" => "text/tab-separated-values",
                        "json" => "application/json",
                        "md" | "markdown" => "text/markdown",
                        "css" => "text/css",
                        "js" | "mjs" => "text/javascript",
                        "html" | "htm" => "text/html",
                        "xml" => "text/xml",
                        "ics" => "text/calendar",
                        "vcf" => "text/vcard",
                        "vtt" => "text/vtt",
                        _ => return None,
                    };
                    Some(named.to_owned())
                })
                .or_else(|| Some("text/plain".to_owned()))
        }
    }
}

/// The type of an OLE file. Its directory, which would tell a document from an installer, stands anywhere in it, often
/// beyond what is read; so no name makes a document of what another name calls an installer.
fn effective_ole(extension: Option<&str>, declared: Option<&str>) -> &'static str {
    let named = match extension {
        Some("doc") => Some("application/msword"),
        Some("xls") => Some("application/vnd.ms-excel"),
        Some("ppt") => Some("application/vnd.ms-powerpoint"),
        Some("msg") => Some("application/vnd.ms-outlook"),
        Some("msi") => Some(INSTALLER),
        _ => None,
    };
    if declared == Some(INSTALLER) {
        return INSTALLER;
    }
    let declared = || {
        let kind = of_essence(OLE)?;
        kind.essences.iter().copied().find(|essence| declared == Some(*essence))
    };
    named.or_else(declared).unwrap_or(OLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(extension: &str, content: Content) -> bool {
        of_extension(extension).is_kept_by(content)
    }

    #[test]
    fn every_name_belongs_to_one_kind() {
        let mut extensions: Vec<_> = KINDS.iter().flat_map(|kind| kind.extensions).collect();
        let mut essences: Vec<_> = KINDS.iter().flat_map(|kind| kind.essences).collect();
        for names in [&mut extensions, &mut essences] {
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn an_extension_promises_its_kind_and_nothing_else() {
        let png = Content::Known(MediaType::Png);
        assert!(keeps("png", png));
        for wrong in ["jpg", "pdf", "zip", "mp3", "html", "txt", "md", "svg"] {
            assert!(!keeps(wrong, png), "{wrong}");
        }
        for nothing in ["bin", "photo", "x"] {
            assert!(keeps(nothing, png), "{nothing}");
        }
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        assert!(keeps("docx", Content::Known(MediaType::Other(docx, "docx"))));
        assert!(keeps("docx", Content::Known(MediaType::Other("application/zip", "ZIP"))));
    }

    #[test]
    fn text_is_told_from_markup_and_from_bytes() {
        assert!(keeps("txt", Content::Text) && keeps("csv", Content::Text) && keeps("html", Content::Text));
        assert!(!keeps("txt", Content::Known(MediaType::Html)));
        assert!(keeps("md", Content::Known(MediaType::Html)));
        assert!(
            !keeps("txt", Content::Binary) && !keeps("png", Content::Binary) && !keeps("png", Content::Text)
        );
        // Not every MP3 begins in a way that is recognised.
        assert!(keeps("mp3", Content::Binary) && !keeps("mp3", Content::Text));
    }

    #[test]
    fn a_declared_type_is_read_without_its_parameters_and_aliases() {
        let jpeg = Content::Known(MediaType::Jpeg);
        for declared in
            ["image/jpeg", "IMAGE/JPG; q=1", "image/pjpeg", "application/octet-stream", "", "image/unheard"]
        {
            assert!(of_declared(declared).is_kept_by(jpeg), "{declared}");
        }
        for declared in
            ["image/png", "text/html", "text/plain", "application/pdf", "video/mp4", "application/json"]
        {
            assert!(!of_declared(declared).is_kept_by(jpeg), "{declared}");
        }
    }

    #[test]
    fn a_declared_type_that_browsers_read_otherwise_is_kept_by_nothing() {
        let contents =
            [Content::Known(MediaType::Png), Content::Known(MediaType::Html), Content::Text, Content::Binary];
        for declared in [
            "image/png;, text/html",
            "image/png, text/html",
            "image/png,",
            ",image/png",
            "image",
            "image/",
            "/png",
            "image/png/x",
            "image /png",
            "image/p(ng)",
            "\u{a0}image/png",
            "; charset=utf-8",
            "multipart/x-mixed-replace; boundary=x",
        ] {
            for content in contents {
                assert!(!of_declared(declared).is_kept_by(content), "{declared} {content:?}");
            }
            assert_eq!(effective(Content::Text, None, Some(declared)).as_deref(), Some("text/plain"));
        }
    }

    #[test]
    fn every_type_that_ends_in_xml_is_xml() {
        for declared in ["application/mathml+xml", "application/rss+xml", "image/unheard+xml", "text/xsl"] {
            let promise = of_declared(declared);
            assert_eq!(promise.name(), "XML", "{declared}");
            assert!(promise.is_kept_by(Content::Known(MediaType::Xml)), "{declared}");
            assert!(!promise.is_kept_by(Content::Known(MediaType::Jpeg)), "{declared}");
            assert!(!promise.is_kept_by(Content::Binary), "{declared}");
        }
        assert_eq!(of_declared("image/svg+xml").name(), "SVG");
        assert_eq!(of_declared("application/xhtml+xml").name(), "HTML");
    }

    #[test]
    fn text_is_declared_as_text_or_not_at_all() {
        for declared in [
            "",
            "binary/octet-stream",
            "application/octet-stream",
            "text/x-anything",
            "application/json",
            "application/geo+json",
            "application/javascript",
            "application/xml",
        ] {
            assert!(of_declared(declared).is_kept_by(Content::Text), "{declared}");
        }
        for declared in
            ["application/x-unheard", "application/vnd.unheard", "chemical/x-pdb", "image/unheard"]
        {
            assert!(!of_declared(declared).is_kept_by(Content::Text), "{declared}");
        }
        assert!(of_declared("application/x-unheard").is_kept_by(Content::Binary));
    }

    #[test]
    fn an_ole_file_has_the_type_that_its_name_says_and_is_no_document_without_one() {
        let ole = Content::Known(MediaType::Other("application/msword", "doc"));
        let of = |extension, declared| effective(ole, extension, declared).unwrap();
        assert_eq!(of(Some("doc"), None), "application/msword");
        assert_eq!(of(Some("xls"), Some("application/octet-stream")), "application/vnd.ms-excel");
        assert_eq!(of(Some("ppt"), Some("application/vnd.ms-powerpoint")), "application/vnd.ms-powerpoint");
        assert_eq!(of(None, Some("Application/VND.ms-excel; x=y")), "application/vnd.ms-excel");
        for (extension, declared) in [
            (Some("msi"), None),
            (Some("msi"), Some("application/msword")),
            (Some("doc"), Some("application/x-msi")),
        ] {
            assert_eq!(of(extension, declared), "application/x-msi", "{extension:?} {declared:?}");
        }
        for (extension, declared) in
            [(None, None), (Some("bin"), Some("text/plain")), (Some("bin"), Some(""))]
        {
            assert_eq!(of(extension, declared), "application/x-ole-storage", "{extension:?} {declared:?}");
        }
        let installer = Content::Known(MediaType::Other("application/x-ole-storage", "msi"));
        assert_eq!(effective(installer, Some("xls"), None).as_deref(), Some("application/vnd.ms-excel"));
    }

    #[test]
    fn text_has_the_type_that_its_name_says() {
        let of = |extension, declared| effective(Content::Text, extension, declared).unwrap();
        assert_eq!(of(None, None), "text/plain");
        assert_eq!(of(Some("csv"), None), "text/csv");
        assert_eq!(of(Some("csv"), Some("text/plain; charset=utf-8")), "text/csv");
        assert_eq!(of(Some("txt"), Some("Text/Html")), "text/html");
        assert_eq!(of(Some("txt"), Some("image/png")), "text/plain");
        assert_eq!(effective(Content::Binary, Some("csv"), None), None);
        assert_eq!(
            effective(Content::Known(MediaType::Png), Some("csv"), None).as_deref(),
            Some("image/png")
        );
    }
}
