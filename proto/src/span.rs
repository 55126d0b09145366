//! A span of time, as a person writes it.

use std::time::Duration;

/// Reads `300ms`, `1.5s`, `250us`, `2m`, `1h` or `0`. What is sensible is for whoever asked to say.
///
/// **Errors:** `None` where it is no number with a unit; a number too large for any span is [`Duration::MAX`].
pub fn span_from_text(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    // Divided rather than multiplied by a fraction, and rounded to the nanosecond, so that 300ms is 300 million of them
    // and compares equal to itself after a restart.
    let seconds = match unit {
        "ns" => number / 1e9,
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    // What does not fit is too long: a number without a sign, as was just read, can't be too small.
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("7ns", 7),
            ("300ms", 300_000_000),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("250us", 250_000),
            ("2m", 120_000_000_000),
            ("0.5h", 1_800_000_000_000),
            ("0.1ms", 100_000),
        ] {
            assert_eq!(span_from_text(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(span_from_text("99999999999999999999s"), Some(Duration::MAX));
    }

    #[test]
    fn what_is_no_number_with_a_unit_is_no_span() {
        for text in ["", "300", "ms", ".s", "1d", "-1s", "1.2.3s", "1e400s", "1 s"] {
            assert_eq!(span_from_text(text), None, "{text}");
        }
    }
}
