//! Durations as people write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// The longest duration of a policy: a hundred years. Longer ones are slips.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Reads `24h`, `30d`, `1w 2d`, `90 minutes` or ISO 8601's `P30D`; a day has 24 hours.
///
/// # Errors
/// What is wrong, to follow the name of the field: zero, negative, too long, months or years (whose
/// length depends on the calendar), or no duration at all.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unreadable = || format!("{text:?} is no duration; write one such as \"24h\", \"30d\" or \"2w\"");
    let span: Span = text.trim().parse().map_err(|_| unreadable())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(format!("{text:?} has no fixed length; write days, such as \"30d\""));
    }
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| unreadable())?;
    if duration.is_zero() {
        return Err(format!("{text:?} is zero; everything would expire at once"));
    }
    let duration = Duration::try_from(duration)
        .map_err(|_| format!("{text:?} is negative; everything would have expired"))?;
    if duration > MAX_DURATION { Err(format!("{text:?} is longer than 100 years")) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        for (text, expected) in [
            ("24h", hours(24)),
            ("30d", hours(720)),
            ("1d", hours(24)),
            ("2w", hours(336)),
            ("1d 12h", hours(36)),
            ("90 minutes", Duration::from_secs(5400)),
            ("7 days", hours(168)),
            ("P30D", hours(720)),
            ("PT1H30M", Duration::from_secs(5400)),
            ("500ms", Duration::from_millis(500)),
            ("1s", Duration::from_secs(1)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn zero_negative_and_shapeless_durations_are_refused() {
        for text in
            ["0s", "0d", "-1h", "1h ago", "-30d", "", "soon", "24", "1mo", "1y", "P1Y", "9999999w", "1e9d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
