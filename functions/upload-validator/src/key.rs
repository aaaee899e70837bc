//! The grammar of keys in the files bucket: `{catalog}/{name}`.

use shared::outcome::Reason;

use crate::catalog::{Catalogs, Limits};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The catalog that `key` belongs to, by its one spelling, and what is accepted there.
///
/// # Errors
/// `bad-key` or `unknown-catalog`.
pub fn catalog_of<'a>(key: &str, catalogs: &'a Catalogs) -> Result<(String, &'a Limits), Reason> {
    let (segment, name) = split(key)?;
    debug_assert!(!name.is_empty(), "the grammar was checked");
    catalogs.find(segment).ok_or_else(|| {
        Reason::new(
            "unknown-catalog",
            format!(
                "{} is no catalog: neither an 8-character short code, in digits and lower-case letters without i, l, o and u, nor a configured name.",
                shown(segment)
            ),
        )
    })
}

/// Catalog and name of a key within the grammar.
fn split(key: &str) -> Result<(&str, &str), Reason> {
    let bad =
        |what: &str| Err(Reason::new("bad-key", format!("The key {what}; upload to {{catalog}}/{{name}}.")));
    if key.len() > MAX_KEY_BYTES {
        return bad(&format!("has {} bytes, more than {MAX_KEY_BYTES}", key.len()));
    }
    if let Some(c) = key.chars().find(|c| c.is_control()) {
        return bad(&format!("has a control character (U+{:04X})", u32::from(c)));
    }
    // These make a name look like another one: "fdp.exe" as "exe.pdf".
    if let Some(c) = key.chars().find(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return bad(&format!("has a character that turns the direction of text (U+{:04X})", u32::from(c)));
    }
    if key.starts_with('/') {
        return bad("begins with a slash");
    }
    let Some((catalog, name)) = key.split_once('/') else {
        return bad("names no catalog");
    };
    if name.is_empty() {
        return bad("names no file");
    }
    // A slash at the very end is part of a name, as S3 sees it; elsewhere two of them enclose nothing.
    if key.trim_end_matches('/').contains("//") || key.ends_with("//") {
        return bad("has an empty segment");
    }
    if key.split(['/', '\\']).any(leads_elsewhere) {
        return bad("has a segment that leads elsewhere (. or ..)");
    }
    Ok((catalog, name))
}

/// Whether a file system, or a server that decodes once more, reads `segment` as `.` or `..`.
fn leads_elsewhere(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The extension of the key's last segment, in lower case; `None` without one.
pub fn extension(key: &str) -> Option<String> {
    let name = key.trim_end_matches('/').rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

fn shown(text: &str) -> String {
    let abridged: String = text.chars().take(40).collect();
    format!("{abridged:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn catalogs() -> Catalogs {
        Catalogs::any(Limits {
            min_size: 1,
            max_size: 1,
            max_pixels: 1,
            max_frames: 1,
            content_types: Vec::new(),
            ticket_required: true,
            retention: None,
        })
    }

    fn answer(key: &str) -> Result<String, &'static str> {
        catalog_of(key, &catalogs()).map(|(catalog, _)| catalog).map_err(|reason| reason.code)
    }

    #[test]
    fn a_short_code_and_a_name_make_a_key() {
        for key in [
            "bn0m0anw/cv.pdf",
            "bn0m0anw/2026/11/cv.pdf",
            "bn0m0anw/cv.pdf/",
            "bn0m0anw/…/ä b+c.pdf",
            "bn0m0anw/..a/b..",
        ] {
            assert_eq!(answer(key).as_deref(), Ok("bn0m0anw"), "{key}");
        }
    }

    #[test]
    fn what_is_outside_the_grammar_is_refused() {
        let long = format!("bn0m0anw/{}", "é".repeat(508));
        assert_eq!(long.len(), 1025);
        for key in [
            "",
            "cv.pdf",
            "/bn0m0anw/cv.pdf",
            "bn0m0anw/",
            "bn0m0anw//cv.pdf",
            "bn0m0anw/a//cv.pdf",
            "bn0m0anw/cv.pdf//",
            "../cv.pdf",
            "bn0m0anw/../other/cv.pdf",
            "bn0m0anw/..",
            "bn0m0anw/./cv.pdf",
            "bn0m0anw/%2e%2E/cv.pdf",
            "bn0m0anw/..\\cv.pdf",
            "bn0m0anw/cv\0.pdf",
            "bn0m0anw/cv\n.pdf",
            "bn0m0anw/cv\u{7f}.pdf",
            "bn0m0anw/cv\u{85}.pdf",
            "bn0m0anw/cv\u{202e}fdp.exe",
            &long,
        ] {
            assert_eq!(answer(key), Err("bad-key"), "{key:?}");
        }
        assert!(answer(&long[..1023]).is_ok());
    }

    #[test]
    fn a_catalog_that_is_no_short_code_is_unknown() {
        for key in [
            "u/cv.pdf",
            "bn0m0anu/cv.pdf",
            "bn0m0anw1/cv.pdf",
            "bn0m0anw /cv.pdf",
            "…/cv.pdf",
            "BN0M0ANW/cv.pdf",
            "holidays/cv.pdf",
        ] {
            assert_eq!(answer(key), Err("unknown-catalog"), "{key:?}");
        }
    }

    #[test]
    fn an_extension_is_what_stands_behind_the_last_dot_of_the_name() {
        assert_eq!(extension("bn0m0anw/a.b/CV.PDF").as_deref(), Some("pdf"));
        assert_eq!(extension("bn0m0anw/a.b/CV.PDF/").as_deref(), Some("pdf"));
        for none in ["bn0m0anw/a.b/cv", "bn0m0anw/.hidden", "bn0m0anw/cv."] {
            assert_eq!(extension(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_key_makes_it_panic(key in ".{0,80}") {
            let _ = answer(&key);
            let _ = extension(&key);
        }
    }
}
