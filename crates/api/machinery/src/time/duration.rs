//! Durations as `kubectl get` prints ages (`5d3h`) and as Go writes them (`1m30s`).

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// An age in seconds with two or three significant figures, as `kubectl get` prints it.
pub fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / MINUTE, seconds / HOUR);
    let two = |large: i64, unit: &str, small: i64, rest: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{rest}")
        }
    };
    if seconds < -1 {
        "<invalid>".to_owned()
    } else if seconds < 0 {
        "0s".to_owned()
    } else if seconds < 2 * MINUTE {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        two(hours / 24, "d", hours % 24, "h")
    } else if hours < 24 * 365 * 2 {
        format!("{}d", hours / 24)
    } else if hours < 24 * 365 * 8 {
        two(hours / 24 / 365, "y", hours / 24 % 365, "d")
    } else {
        format!("{}y", hours / 24 / 365)
    }
}

/// An age in seconds with one unit, as printed where space is short.
pub fn short_human(seconds: i64) -> String {
    let hours = seconds / HOUR;
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / MINUTE),
        _ if hours < 24 => format!("{hours}h"),
        _ if hours < 24 * 365 => format!("{}d", hours / 24),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// Why a text is not a duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("μs", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads Go's form, `1h15m30.918s`, into nanoseconds.
pub fn parse_go(text: &str) -> Result<i64, ParseDurationError> {
    let invalid = || ParseDurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(ParseDurationError::MissingUnit(text.to_owned()));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(ParseDurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            });
        };
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<i64>().map_err(|_| invalid())?
        };
        total += i128::from(whole) * size + fraction_of(fraction, *size);
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn fraction_of(digits: &str, size: i128) -> i128 {
    // Beyond fifteen digits nothing reaches a nanosecond of an hour.
    let digits = &digits[..digits.len().min(15)];
    let value: i128 = digits.parse().unwrap_or(0);
    value * size / 10_i128.pow(digits.len() as u32)
}

/// Go's form of nanoseconds: `1m0s`, `1.5s`, `100ms`, `0s`.
pub fn format_go(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let with_fraction = |unit: u64, name: &str| {
        let fraction = format!("{:09}", size % unit * (1_000_000_000 / unit));
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", size / unit)
    };
    match size {
        0 => "0s".to_owned(),
        1..1000 => format!("{sign}{size}ns"),
        1000..1_000_000 => format!("{sign}{}", with_fraction(1000, "µs")),
        1_000_000..1_000_000_000 => format!("{sign}{}", with_fraction(1_000_000, "ms")),
        _ => {
            let seconds = size / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let fraction = format!("{:09}", size % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let rest = format!("{}{point}{fraction}s", seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{rest}"),
                (0, _) => format!("{sign}{minutes}m{rest}"),
                _ => format!("{sign}{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ages_are_printed_like_kubectl_does() {
        for (seconds, printed) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (130, "2m10s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600 + 60, "8h"),
            (47 * 3600, "47h"),
            (123 * 3600, "5d3h"),
            (8 * 86_400, "8d"),
            (800 * 86_400, "2y70d"),
            (9 * 365 * 86_400, "9y"),
        ] {
            assert_eq!(human(seconds), printed, "{seconds}");
        }
        assert_eq!(
            [59, 60, 7200, 90_000, 40_000_000].map(short_human),
            ["59s", "1m", "2h", "1d", "1y"]
        );
    }

    #[test]
    fn go_durations_are_read_and_printed() {
        for (text, nanos, printed) in [
            ("1h15m30.918s", 4_530_918_000_000, "1h15m30.918s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5us", 1500, "1.5µs"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_go(text), Ok(nanos));
            assert_eq!(format_go(nanos), printed);
        }
        assert_eq!(
            parse_go("3").unwrap_err().to_string(),
            r#"time: missing unit in duration "3""#
        );
        assert_eq!(
            parse_go("3d").unwrap_err().to_string(),
            r#"time: unknown unit "d" in duration "3d""#
        );
        assert_eq!(
            parse_go("").unwrap_err().to_string(),
            r#"time: invalid duration """#
        );
    }

    proptest! {
        #[test]
        fn printed_go_durations_read_back(nanos in any::<i64>().prop_filter("Go's own exception", |n| *n != i64::MIN)) {
            prop_assert_eq!(parse_go(&format_go(nanos)), Ok(nanos));
        }
    }
}
