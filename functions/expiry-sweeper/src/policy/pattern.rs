//! Patterns of keys, as the glob library has to be told them.
//!
//! To it `**` crosses a `/` only where it is all that stands between two of them, and means `*` elsewhere: `keep**`
//! would leave `keep/x` to be deleted. Here `**` crosses everywhere, so that it is spelled out where the library
//! would not do so.

/// Any text, with `/` or without.
const ANYTHING: &str = "{*,*/**/*}";

/// `pattern` in the words of the library.
///
/// # Errors
/// What it would take byte by byte, and so not as it is meant.
pub(super) fn spelled_out(pattern: &str) -> Result<String, &'static str> {
    let mut spelled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut depth = 0_u32;
    while let Some(sign) = rest.chars().next() {
        let length = match sign {
            '*' => rest.len() - rest.trim_start_matches('*').len(),
            '\\' => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            '[' => class_length(rest)?,
            sign => sign.len_utf8(),
        };
        let (piece, behind) = rest.split_at(length);
        match sign {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let (before, after) = (spelled.chars().next_back(), behind.chars().next());
        let is_end = |at: Option<char>| at.is_none_or(|at| at == '/');
        let is_alternative = |at: Option<char>| depth > 0 && at.is_some_and(|at| "{,}".contains(at));
        let is_component = (is_end(before) && (is_end(after) || is_alternative(after)))
            || (is_alternative(before) && after == Some('/'));
        if sign == '*' && length > 1 && !is_component {
            spelled.push_str(ANYTHING);
        } else {
            // More of them mean no more than two.
            spelled.push_str(if sign == '*' && length > 2 { "**" } else { piece });
        }
        rest = behind;
    }
    Ok(spelled)
}

/// How long the class of characters is that `text` begins with. One that does not end is the library's to refuse.
fn class_length(text: &str) -> Result<usize, &'static str> {
    // A bracket at the beginning of a class belongs to it.
    let negated = text.len() - text.get(1..).unwrap_or_default().trim_start_matches(['!', '^']).len();
    let first = text.get(negated..).unwrap_or_default();
    let skipped = negated + usize::from(first.starts_with(']'));
    let end = text.get(skipped..).and_then(|inner| inner.find(']')).map(|at| skipped + at + 1);
    let length = end.unwrap_or(1);
    if text.get(..length).is_some_and(str::is_ascii) {
        Ok(length)
    } else {
        Err("a class in brackets takes single bytes; write letters beyond ASCII as {ä,ö}")
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, key: &str) -> bool {
        let spelled = spelled_out(pattern).unwrap();
        GlobBuilder::new(&spelled).literal_separator(true).build().unwrap().compile_matcher().is_match(key)
    }

    #[test]
    fn two_stars_cross_slashes_wherever_they_stand_and_one_does_not() {
        for (pattern, key, expected) in [
            ("keep**", "keep/x/y", true),
            ("keep**", "keeper", true),
            ("keep**", "keep", true),
            ("keep**", "kee/p", false),
            ("keep*", "keep/x", false),
            ("**.pdf", "a.pdf", true),
            ("**.pdf", "a/b/c.pdf", true),
            ("**.pdf", "a/b/c.png", false),
            ("x/**.pdf", "x/y/z.pdf", true),
            ("x/**.pdf", "y/z.pdf", false),
            ("x**y**z", "x/1/y/2/z", true),
            ("x***y", "x/1/y", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("**/c", "c", true),
            ("**", "a/b", true),
            ("{a**,b/**}", "a/x/y", true),
            ("{a**,b/**}", "b/x/y", true),
            ("{a**,b/**}", "c/x", false),
            ("{**,b}", "a/x", true),
            ("x{**}", "x/y/z", true),
            ("x/{y/**,**/z}", "x/y/1/2", true),
            ("x/{y/**,**/z}", "x/1/2/z", true),
            (r"a\**", "a*b", true),
            (r"a\**", "ab", false),
            ("[*]**x", "*/x", true),
            ("[]**]x", "*x", true),
            ("[]**]x", "a/x", false),
            ("Verträge**", "Verträge/ä", true),
        ] {
            assert_eq!(fits(pattern, key), expected, "{pattern} on {key}");
        }
    }

    #[test]
    fn a_class_of_letters_that_are_several_bytes_is_refused() {
        assert!(spelled_out("[äö]*").is_err());
        assert!(spelled_out("[!ä]").is_err());
        assert!(spelled_out("ä[a]ö").is_ok());
        assert!(spelled_out(r"\[ä]").is_ok());
    }

    proptest! {
        #[test]
        fn what_stands_around_two_stars_is_all_that_a_key_needs(
            before in "[a-c/]{0,4}",
            behind in "[a-c/]{0,4}",
            key in "[a-c/]{0,10}",
        ) {
            // Between two slashes they stand for whole folders, which is another matter.
            prop_assume!(!(before.is_empty() || before.ends_with('/')) || !(behind.is_empty() || behind.starts_with('/')));
            let expected = key.len() >= before.len() + behind.len()
                && key.starts_with(&before)
                && key.ends_with(&behind);
            prop_assert_eq!(fits(&format!("{before}**{behind}"), &key), expected);
        }

        #[test]
        fn whatever_a_person_writes_is_spelled_out_or_refused(pattern in r"[a\[\]{},*?!\\/ä-]{0,12}") {
            let _ = spelled_out(&pattern).map(|spelled| GlobBuilder::new(&spelled).literal_separator(true).build());
        }
    }
}
