//! Makes cells harmless that a spreadsheet would execute, in a way that can be undone.
//!
//! A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-` or `@` (also in their full-width
//! forms), if need be after blanks or control characters. Such a cell gets an apostrophe in front, which
//! spreadsheets read as "this is text". A cell that begins with an apostrophe gets one, too, so that
//! taking one away restores every cell.
//!
//! Where a spreadsheet's own separator is the semicolon or the tab, it splits at these and a formula may
//! hide behind one. Our quotes are then no longer at the start of its cells, where alone they would hold a row
//! together, so that a line end inside them ends its row. The same rule therefore holds at the start of a cell and
//! behind every `;`, tab, carriage return and line feed.

use std::borrow::Cow;

/// The cell as it is written.
pub fn neutralise(text: &str) -> Cow<'_, str> {
    if !starts(text).any(|at| is_risky(rest(text, at))) {
        return Cow::Borrowed(text);
    }
    let mut harmless = String::with_capacity(text.len() + 2);
    let mut written = 0;
    for at in starts(text).filter(|at| is_risky(rest(text, *at))) {
        harmless.push_str(text.get(written..at).unwrap_or_default());
        harmless.push('\'');
        written = at;
    }
    harmless.push_str(rest(text, written));
    Cow::Owned(harmless)
}

/// The cell that was written as `text`.
pub fn restore(text: &str) -> Cow<'_, str> {
    if !starts(text).any(|at| rest(text, at).starts_with('\'')) {
        return Cow::Borrowed(text);
    }
    let mut original = String::with_capacity(text.len());
    let mut at_start = true;
    for character in text.chars() {
        if at_start && character == '\'' {
            at_start = false;
            continue;
        }
        original.push(character);
        at_start = is_separator(character);
    }
    Cow::Owned(original)
}

/// Where a cell may start for a spreadsheet: at the start, and behind what it may take for a separator.
fn starts(text: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(text.match_indices(is_separator).map(|(at, separator)| at + separator.len()))
}

fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

fn is_separator(character: char) -> bool {
    matches!(character, ';' | '\t' | '\r' | '\n')
}

fn is_risky(cell: &str) -> bool {
    let visible = cell.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    cell.starts_with(['\'', '\t', '\r', '\n'])
        || visible.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_spreadsheet_would_execute_is_text_afterwards() {
        for (cell, written) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("  =1", "'  =1"),
            ("\u{1}=1", "'\u{1}=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("'quoted", "''quoted"),
            ("a;=1", "a;'=1"),
            ("a\t-1", "a\t'-1"),
            ("\t=1", "'\t'=1"),
            ("a\n=1", "a\n'=1"),
            ("a\r@SUM(A1)", "a\r'@SUM(A1)"),
            ("a\r\n+1", "a\r'\n'+1"),
            ("a\n'b", "a\n''b"),
        ] {
            assert_eq!(neutralise(cell), written);
            assert_eq!(restore(written), cell);
        }
    }

    #[test]
    fn what_is_harmless_stays_as_it_is() {
        for cell in ["", "u/a-b=c+d@e.png", "2026-11-21T06:00:00Z", "a;b", "a\nb", "it's", "ü"] {
            assert!(matches!(neutralise(cell), Cow::Borrowed(written) if written == cell));
            assert_eq!(restore(cell), cell);
        }
    }

    #[test]
    fn a_cell_of_a_report_from_before_reads_as_it_did() {
        // Nothing was done behind line ends then.
        for (written, cell) in
            [("a\n=1", "a\n=1"), ("'=a\nb", "=a\nb"), ("a;'=1\n+1", "a;=1\n+1"), ("'\n=1", "\n=1")]
        {
            assert_eq!(restore(written), cell);
        }
    }

    proptest! {
        #[test]
        fn every_cell_reads_back(cell in any::<String>()) {
            let written = neutralise(&cell);
            prop_assert_eq!(restore(&written), &*cell);
        }

        #[test]
        fn every_nasty_cell_reads_back_and_starts_harmlessly(cell in "[=+@'; \t\r\na-]{0,12}") {
            let written = neutralise(&cell);
            prop_assert_eq!(restore(&written), &*cell);
            for part in written.split([';', '\t', '\r', '\n']) {
                let visible = part.trim_start();
                prop_assert!(!visible.starts_with(['=', '+', '-', '@']), "{written:?}");
            }
        }
    }
}
