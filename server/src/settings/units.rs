//! Quantities as a person writes them.

use std::time::Duration;

use heirloom_proto::span_from_text;
use heirloom_proto::time::Drift;

/// The longest duration that may be set. Nothing here is sensible for longer, and sums of a few never overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(60 * 60);

/// Reads `300ms`, `1s`, `1.5s`, `250us`, `2m` or `0`; at most [`DURATION_MAX`].
///
/// **Errors:** one sentence with examples.
pub fn duration(text: &str) -> Result<Duration, String> {
    match span_from_text(text) {
        Some(span) if span <= DURATION_MAX => Ok(span),
        Some(_) => Err(format!("{text} is too long: use at most 60m")),
        None => Err(format!("{text:?} is no duration: write a number and a unit, such as 300ms, 1.5s or 0")),
    }
}

/// A duration as [`duration`] reads it.
pub fn duration_text(span: Duration) -> String {
    if span.is_zero() { "0".to_owned() } else { format!("{span:?}").replace('µ', "u") }
}

/// Reads `0.01` or `1%`.
///
/// **Errors:** one sentence with examples.
pub fn drift(text: &str) -> Result<Drift, String> {
    let bad = || format!("{text:?} is no bound on the drift of clocks: write a share such as 0.01 or 1%");
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 1e4),
        None => (text, 1e6),
    };
    let number: f64 = number.trim().parse().map_err(|_| bad())?;
    let ppm = (number * scale).round();
    if !(0.0..=1e6).contains(&ppm) {
        return Err(bad());
    }
    // In range, as just checked, and whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ppm = ppm as u32;
    Ok(Drift(ppm))
}

/// A drift as [`drift`] reads it.
pub fn drift_text(drift: Drift) -> String {
    format!("{}", f64::from(drift.0) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        let cases = [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("250us", 250_000),
            ("2m", 120_000_000_000),
            ("0.1ms", 100_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
            let again = duration_text(Duration::from_nanos(nanos));
            assert_eq!(duration(&again), Ok(Duration::from_nanos(nanos)), "{again}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["", "300", "ms", "1d", "-1s", "1.2.3s", "1e400s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_of_more_than_an_hour_is_refused() {
        assert_eq!(duration("60m"), Ok(DURATION_MAX));
        for text in ["61m", "3600.1s", "10000000000000000000s", "99999999999999999999s"] {
            assert!(duration(text).expect_err(text).contains("at most 60m"), "{text}");
        }
    }

    #[test]
    fn a_drift_is_a_share_or_a_percentage() {
        assert_eq!(drift("0.01"), Ok(Drift(10_000)));
        assert_eq!(drift("1%"), Ok(Drift(10_000)));
        assert_eq!(drift("0"), Ok(Drift(0)));
        assert_eq!(drift(&drift_text(Drift(12_345))), Ok(Drift(12_345)));
        for text in ["", "x", "-0.1", "200%", "NaN"] {
            assert!(drift(text).is_err(), "{text}");
        }
    }
}
